//! Who gets a message.

use std::sync::Arc;

use crate::config::settings::Route;
use crate::listener::protocol::connid::{ConnId, resolve};

/// Who gets a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipients {
    /// Every open connection.
    All,
    /// Every open connection except these, which are sorted.
    AllBut(Arc<[ConnId]>),
    /// These connections, sorted, each listed once.
    Only(Arc<[ConnId]>),
}

/// The recipients that `route` chooses for a message from `sender`, without those in `except`. A
/// push or a command has no sender and goes to all.
pub(crate) fn route_recipients(
    route: Route,
    sender: Option<ConnId>,
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
        (Route::Sender | Route::None, Some(_)) => Recipients::Only(Arc::from([])),
    }
}

/// The recipients named in `listed`, or those that `route` chooses if there is no list, without
/// those in `except`. The second value holds the listed names that are not names of connections.
pub fn resolve_recipients(
    listed: Option<&[String]>,
    except: &[String],
    route: impl FnOnce(&[ConnId]) -> Recipients,
) -> (Recipients, Vec<String>) {
    let (except, excepted) = resolve(except);
    match listed {
        None => (route(&except), Vec::new()),
        Some(names) => {
            let (mut ids, mut unknown) = resolve(names);
            ids.retain(|id| except.binary_search(id).is_err());
            unknown.retain(|name| excepted.binary_search(name).is_err());
            (Recipients::Only(ids.into()), unknown)
        }
    }
}
