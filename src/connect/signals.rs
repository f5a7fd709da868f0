//! The signals that end a session.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::connect::exit;
use crate::error::Failure;

/// SIGINT and SIGTERM.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Watches them from now on.
    pub fn watch() -> Result<Signals, Failure> {
        let watch = |kind| {
            signal(kind).map_err(|e| Failure::other(format!("signals cannot be watched: {e}")))
        };
        Ok(Signals {
            interrupt: watch(SignalKind::interrupt())?,
            terminate: watch(SignalKind::terminate())?,
        })
    }

    /// The next one, as an exit code.
    pub async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => exit::INTERRUPTED,
            _ = self.terminate.recv() => exit::TERMINATED,
        }
    }
}
