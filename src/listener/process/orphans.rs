//! Orphans of listeners, where they become ours: as process 1 of a container, or as a subreaper.
//! Nobody else would wait for them, and each would stay a zombie.
//!
//! One task, on the runtime that also starts the listeners and waits for them, and that has one
//! thread: a listener is entered into [`OWN`] before this can see it.

use std::collections::HashSet;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::listener::process::wait;
use crate::listener::process::wait::Which;

/// Children that somebody else waits for.
static OWN: Mutex<Option<HashSet<u32>>> = Mutex::new(None);

/// How long a child of our own may stay at the front of those that have exited before it is looked
/// again; who waits for it takes it within this time nearly always.
const PAUSE: Duration = Duration::from_millis(10);

/// A child that somebody else waits for.
pub(super) fn enter_own(pid: u32) {
    OWN.lock().get_or_insert_default().insert(pid);
}

/// It has been waited for, or nobody will any more.
pub(super) fn leave_own(pid: u32) {
    OWN.lock().get_or_insert_default().remove(&pid);
}

fn is_own(pid: u32) -> bool {
    OWN.lock().as_ref().is_some_and(|own| own.contains(&pid))
}

/// Waits for orphans, if any become ours; else returns at once. To be spawned on the runtime that
/// starts the listeners.
pub(crate) async fn reap() {
    if !wait::inherits_orphans() {
        return;
    }
    let Ok(mut child_signals) = signal(SignalKind::child()) else { return };
    loop {
        match wait::exited(Which::Any) {
            // The kernel shows the same one until it is taken.
            Ok(Some(pid)) if is_own(pid) => sleep(PAUSE).await,
            Ok(Some(pid)) => {
                // Nobody else waits for it, so it is still there.
                let _ = wait::reap(pid);
                tokio::task::consume_budget().await;
            }
            Ok(None) | Err(_) => {
                child_signals.recv().await;
            }
        }
    }
}
