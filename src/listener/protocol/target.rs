//! Whom an answer, a command or a push names as recipients.

use serde_json::value::RawValue;

use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::fields::{channels, names};

/// Whom a line names as recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The names in `connections`.
    Connections(Vec<String>),
    /// The members of the channels in `channel`.
    Channels(Vec<Channel>),
}

impl Target {
    /// Reads the two keys, of which a line may have one.
    pub(super) fn read(
        connections: Option<&RawValue>,
        channel: Option<&RawValue>,
    ) -> Result<Option<Target>, String> {
        match (connections, channel) {
            (None, None) => Ok(None),
            (Some(raw), None) => Ok(Some(Target::Connections(names(raw, "connections")?))),
            (None, Some(raw)) => Ok(Some(Target::Channels(channels(raw, "channel")?))),
            (Some(_), Some(_)) => {
                Err("it has both \"connections\" and \"channel\"; name one of them".to_owned())
            }
        }
    }
}
