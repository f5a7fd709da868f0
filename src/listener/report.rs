//! Counts the outcome of a delivery for a requester that waits for it: for a push, or for a command
//! with a `ref`.
//!
//! The shards that deliver the message share one report. The shard that finishes last hands the outcome
//! to the requester.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::api::{ApiError, PushOutcome};
use crate::listener::protocol::connid::ConnId;

/// Who gets the outcome.
pub enum Reply {
    /// The requester of a push.
    Push(PushReply),
    /// A function that is called with the outcome, for example to write a result line.
    Command(Box<dyn FnOnce(PushOutcome) + Send>),
}

/// Where a push's outcome goes.
pub type PushReply = oneshot::Sender<Result<PushOutcome, ApiError>>;

/// The outcome of one delivery so far.
pub struct DeliveryReport {
    shards: AtomicUsize,
    delivered: AtomicU64,
    dropped: AtomicU64,
    rest: Mutex<Rest>,
}

struct Rest {
    gone: Vec<String>,
    nodes: Option<u64>,
    silent: Option<Vec<String>>,
    reply: Option<Reply>,
}

impl DeliveryReport {
    /// A report that is complete when `shards` shards have finished. `gone` holds the listed names that
    /// are not names of connections.
    pub(crate) fn new(shards: usize, gone: Vec<String>, reply: Reply) -> DeliveryReport {
        DeliveryReport {
            shards: AtomicUsize::new(shards),
            delivered: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            rest: Mutex::new(Rest { gone, nodes: None, silent: None, reply: Some(reply) }),
        }
    }

    /// One more has to finish: what other nodes of a cluster say. Before the delivery is handed out.
    pub(crate) fn expect_others(&self) {
        self.shards.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds what other nodes of a cluster have said, and how many nodes there are; these were silent.
    pub(crate) fn add_others(&self, outcome: PushOutcome) {
        self.add(outcome.delivered, outcome.dropped);
        let mut rest = self.rest.lock();
        rest.gone.extend(outcome.gone);
        rest.nodes = outcome.nodes;
        rest.silent = outcome.silent;
    }

    /// Adds the recipients that a shard has delivered to, and those for which it dropped the message.
    pub(crate) fn add(&self, delivered: u64, dropped: u64) {
        self.delivered.fetch_add(delivered, Ordering::Relaxed);
        self.dropped.fetch_add(dropped, Ordering::Relaxed);
    }

    /// Adds a recipient that is closed or unknown.
    pub(crate) fn gone(&self, conn: ConnId) {
        self.rest.lock().gone.push(conn.to_string());
    }

    /// The requester of a push is told at once that it failed. Others wait on.
    pub(crate) fn fail(&self, why: ApiError) {
        let mut rest = self.rest.lock();
        match rest.reply.take() {
            // Whoever has gone waits for nothing.
            Some(Reply::Push(sender)) => drop(sender.send(Err(why))),
            other => rest.reply = other,
        }
    }

    /// Notes that a shard has finished. The last one hands the outcome to the requester.
    pub fn finish(&self) {
        // AcqRel, so that the last shard sees what the others added before they finished.
        if self.shards.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let (gone, nodes, silent, reply) = {
            let mut rest = self.rest.lock();
            let gone = std::mem::take(&mut rest.gone);
            (gone, rest.nodes, rest.silent.take(), rest.reply.take())
        };
        let delivered = self.delivered.load(Ordering::Relaxed);
        let dropped = self.dropped.load(Ordering::Relaxed);
        let matched = delivered.saturating_add(dropped);
        let outcome = PushOutcome { matched, delivered, dropped, gone, nodes, silent };
        match reply {
            // An error means that the requester has gone, so nobody waits for the outcome.
            Some(Reply::Push(sender)) => drop(sender.send(Ok(outcome))),
            Some(Reply::Command(tell)) => tell(outcome),
            None => {}
        }
    }
}
