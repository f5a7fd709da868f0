//! The report on a delivery that somebody asked for: a push, or a command with a `ref`.
//!
//! The shards that deliver share it; the one that finishes last sends the outcome.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::api::{ApiError, PushOutcome};
use crate::listener::protocol::connid::ConnId;

/// Who is told.
pub enum Reply {
    /// The requester of a push.
    Push(PushReply),
    /// The listener, by a result line with this `ref`.
    Command(Box<dyn FnOnce(PushOutcome) + Send>),
}

/// Where a push's outcome goes.
pub type PushReply = oneshot::Sender<Result<PushOutcome, ApiError>>;

/// The counts of one delivery, as the shards add to them.
pub struct DeliveryReport {
    shards: AtomicUsize,
    delivered: AtomicU64,
    dropped: AtomicU64,
    rest: Mutex<(Vec<String>, Option<Reply>)>,
}

impl DeliveryReport {
    /// A report that is complete when `shards` have reported; `gone` holds the names that cannot be
    /// those of a connection.
    pub fn new(shards: usize, gone: Vec<String>, reply: Reply) -> DeliveryReport {
        DeliveryReport {
            shards: AtomicUsize::new(shards),
            delivered: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            rest: Mutex::new((gone, Some(reply))),
        }
    }

    /// Adds what one shard did so far.
    pub fn add(&self, delivered: u64, dropped: u64) {
        self.delivered.fetch_add(delivered, Ordering::Relaxed);
        self.dropped.fetch_add(dropped, Ordering::Relaxed);
    }

    /// Notes a recipient that is closed or unknown.
    pub fn gone(&self, conn: ConnId) {
        self.rest.lock().0.push(conn.to_string());
    }

    /// One shard is done; the last one sends the outcome.
    pub fn finish(&self) {
        // AcqRel: the last shard sees what the others added before they finished.
        if self.shards.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let (gone, reply) = {
            let mut rest = self.rest.lock();
            (std::mem::take(&mut rest.0), rest.1.take())
        };
        let delivered = self.delivered.load(Ordering::Relaxed);
        let dropped = self.dropped.load(Ordering::Relaxed);
        let outcome = PushOutcome { matched: delivered + dropped, delivered, dropped, gone };
        match reply {
            // The requester may have gone; then nobody is left to tell.
            Some(Reply::Push(sender)) => drop(sender.send(Ok(outcome))),
            Some(Reply::Command(tell)) => tell(outcome),
            None => {}
        }
    }
}
