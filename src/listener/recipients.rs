//! Who gets a message.

use std::sync::Arc;

use crate::config::settings::Route;
use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::{ConnId, resolve};
use crate::listener::protocol::target::Target;

/// Who gets a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipients {
    /// Every open connection.
    All,
    /// Every open connection except these, which are sorted.
    AllBut(Arc<[ConnId]>),
    /// These connections, sorted, each listed once.
    Only(Arc<[ConnId]>),
    /// The members of channels.
    Members(Arc<ChannelTarget>),
}

/// The members of channels, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelTarget {
    /// The channels, each listed once, in the order of the one who named them.
    pub channels: Box<[Channel]>,
    /// Members that do not get it, sorted.
    pub except: Box<[ConnId]>,
}

impl ChannelTarget {
    /// The recipients: the members of `channels`, which may be listed twice, without `except`. No
    /// channel is nobody.
    pub fn recipients(channels: Vec<Channel>, mut except: Vec<ConnId>) -> Recipients {
        let mut seen = std::collections::HashSet::with_capacity(channels.len());
        let channels: Box<[Channel]> =
            channels.into_iter().filter(|channel| seen.insert(channel.clone())).collect();
        if channels.is_empty() {
            return Recipients::Only(Arc::from([]));
        }
        except.sort_unstable();
        except.dedup();
        Recipients::Members(Arc::new(ChannelTarget { channels, except: except.into() }))
    }
}

/// The recipients that `route` chooses for a message from `sender`, without those in `except`. A
/// push or a command has no sender and goes to all. `channels` are the sender's.
pub(crate) fn route_recipients(
    route: Route,
    sender: Option<ConnId>,
    channels: &[Channel],
    except: &[ConnId],
) -> Recipients {
    let all_but = |mut but: Vec<ConnId>| {
        but.sort_unstable();
        but.dedup();
        if but.is_empty() { Recipients::All } else { Recipients::AllBut(but.into()) }
    };
    match (route, sender) {
        (_, None) | (Route::All, _) => all_but(except.to_vec()),
        (Route::Others, Some(sender)) => {
            let mut but = except.to_vec();
            but.push(sender);
            all_but(but)
        }
        (Route::Sender, Some(sender)) if !except.contains(&sender) => {
            Recipients::Only(Arc::from([sender]))
        }
        (Route::Channels, Some(_)) => ChannelTarget::recipients(channels.to_vec(), except.to_vec()),
        (Route::Sender | Route::None, Some(_)) => Recipients::Only(Arc::from([])),
    }
}

/// The recipients that `target` names, or those that `route` chooses if there is none, without those
/// in `except`. The second value holds the listed names that are not names of connections.
pub fn resolve_recipients(
    target: Option<&Target>,
    except: &[String],
    route: impl FnOnce(&[ConnId]) -> Recipients,
) -> (Recipients, Vec<String>) {
    let (except, excepted) = resolve(except);
    match target {
        None => (route(&except), Vec::new()),
        Some(Target::Channels(channels)) => {
            (ChannelTarget::recipients(channels.clone(), except), Vec::new())
        }
        Some(Target::Connections(names)) => {
            let (mut ids, mut unknown) = resolve(names);
            ids.retain(|id| except.binary_search(id).is_err());
            unknown.retain(|name| excepted.binary_search(name).is_err());
            (Recipients::Only(ids.into()), unknown)
        }
    }
}
