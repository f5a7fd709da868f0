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

/// Bytes that the names of recipients may have besides a message that is shared with other nodes of a
/// cluster.
pub(crate) const NAMES_MOST: usize = (15 << 10) - 64;

/// Bytes that recipients take there.
pub(crate) fn names_size(target: Option<&Target>, except: Option<&[String]>) -> usize {
    let named = match target {
        None => 0,
        Some(Target::Connections(names)) => names.len() * 8,
        Some(Target::Channels(channels)) => {
            channels.iter().map(|channel| 4 + channel.as_str().len()).sum()
        }
    };
    named + except.map_or(0, <[_]>::len) * 8
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
