//! The signals that end a session.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::connect::exit;
use crate::error::Failure;

/// SIGINT and SIGTERM; on a terminal also SIGHUP, which `nohup` ignores elsewhere.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    /// Watches them from now on.
    pub(super) fn watch(interactive: bool) -> Result<Signals, Failure> {
        let watch = |kind| {
            signal(kind).map_err(|e| Failure::other(format!("signals cannot be watched: {e}")))
        };
        Ok(Signals {
            interrupt: watch(SignalKind::interrupt())?,
            terminate: watch(SignalKind::terminate())?,
            hangup: if interactive { Some(watch(SignalKind::hangup())?) } else { None },
        })
    }

    /// The next one, as an exit code.
    pub(super) async fn next(&mut self) -> u8 {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => exit::INTERRUPTED,
            _ = self.terminate.recv() => exit::TERMINATED,
            _ = hangup => exit::HUNG_UP,
        }
    }
}
