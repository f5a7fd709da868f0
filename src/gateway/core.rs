//! What all threads of an engine share: the shards' inboxes, the numbers of connections, and the
//! budget of descriptors.
//!
//! An inbox is a vector under a lock that is held for a push or a swap alone; a wake-up is sent only
//! when the shard has not been woken already.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use mio::Waker;
use parking_lot::Mutex;

use crate::gateway::msg::{HubMsg, Msg, PrimaryMsg};
use crate::gateway::shared::Shared;
use crate::listener::op::{Delivery, Op};
use crate::listener::protocol::connid::ConnId;
use crate::listener::recipients::Recipients;

/// Descriptors that clients never get: for the control port and the log.
const KEPT_BACK: usize = 48;

/// The same for each gateway: its acceptor, its listener's pipes, and those of a restart.
const KEPT_BACK_EACH: usize = 16;

struct Inbox {
    queue: Mutex<Vec<Msg>>,
    waker: Waker,
    woken: AtomicBool,
}

/// What all threads share.
pub struct Core {
    inboxes: Vec<Inbox>,
    /// When the engine began; the shards' milliseconds count from here.
    pub start: Instant,
    next_conn: AtomicU64,
    sockets: AtomicUsize,
    descriptors: usize,
    kept_back: AtomicUsize,
}

impl Core {
    pub(super) fn new(wakers: Vec<Waker>, descriptors: usize) -> Core {
        let inbox = |waker| Inbox { queue: Mutex::default(), waker, woken: AtomicBool::new(false) };
        Core {
            inboxes: wakers.into_iter().map(inbox).collect(),
            start: Instant::now(),
            next_conn: AtomicU64::new(1),
            sockets: AtomicUsize::new(0),
            descriptors,
            kept_back: AtomicUsize::new(KEPT_BACK),
        }
    }

    /// Shards.
    pub fn shards(&self) -> usize {
        self.inboxes.len()
    }

    /// The shard of a connection.
    pub fn shard_of(&self, conn: ConnId) -> usize {
        // The remainder is below the number of shards.
        (conn.0 % self.inboxes.len() as u64) as usize
    }

    /// A name that no connection ever had.
    pub fn next_conn(&self) -> ConnId {
        ConnId(self.next_conn.fetch_add(1, Ordering::Relaxed))
    }

    // ---- descriptors ---------------------------------------------------------------------

    /// Takes a descriptor for a client, if one may be taken.
    pub fn take_socket(&self) -> bool {
        let kept_back = self.kept_back.load(Ordering::Relaxed);
        let max = self.descriptors.saturating_sub(kept_back).max(16);
        let next = |n: usize| (n < max).then_some(n + 1);
        self.sockets.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// Gives it back.
    pub fn give_socket(&self) {
        self.sockets.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn keep_back_for_gateway(&self) {
        self.kept_back.fetch_add(KEPT_BACK_EACH, Ordering::Relaxed);
    }

    pub(super) fn give_back_of_gateway(&self) {
        self.kept_back.fetch_sub(KEPT_BACK_EACH, Ordering::Relaxed);
    }

    // ---- inboxes -------------------------------------------------------------------------

    /// Puts a message into a shard's inbox and wakes the shard.
    pub fn post(&self, shard: usize, msg: Msg) {
        let Some(inbox) = self.inboxes.get(shard) else { return };
        inbox.queue.lock().push(msg);
        // Release: whoever sees the flag sees the message.
        if !inbox.woken.swap(true, Ordering::AcqRel) {
            // It fails only when the shard's poll is gone, and its thread with it.
            let _ = inbox.waker.wake();
        }
    }

    /// The same for one gateway's part of the shard.
    pub fn post_hub(&self, shard: usize, gateway: &Shared, msg: HubMsg) {
        self.post(shard, Msg::Gateway(gateway.slot, msg));
    }

    /// For a gateway's primary.
    pub fn post_primary(&self, gateway: &Shared, msg: PrimaryMsg) {
        self.post_hub(gateway.primary, gateway, HubMsg::Primary(msg));
    }

    /// For one gateway's part of every shard.
    pub fn post_all(&self, gateway: &Shared, mut msg: impl FnMut() -> HubMsg) {
        for shard in 0..self.shards() {
            self.post_hub(shard, gateway, msg());
        }
    }

    /// Takes what is in a shard's inbox.
    pub(super) fn take_inbox(&self, shard: usize, into: &mut Vec<Msg>) {
        let Some(inbox) = self.inboxes.get(shard) else { return };
        if inbox.woken.swap(false, Ordering::AcqRel) {
            into.append(&mut inbox.queue.lock());
        }
    }

    /// Leaves a shard's inbox room for so many messages at most, where it has fewer.
    pub(super) fn shrink_inbox(&self, shard: usize, room: usize) {
        if let Some(inbox) = self.inboxes.get(shard) {
            inbox.queue.lock().shrink_to(room);
        }
    }

    // ---- operations ----------------------------------------------------------------------

    /// Hands an operation to every shard concerned, in one order for all of them.
    pub fn submit(&self, gateway: &Shared, op: Op) {
        match op {
            Op::Deliver(delivery) => self.deliver(gateway, delivery),
            Op::Close { conn, .. } | Op::Finish { conn } => {
                self.post_hub(self.shard_of(conn), gateway, HubMsg::Op(op));
            }
            Op::Enter(ref entry) => {
                self.post_hub(self.shard_of(entry.conn), gateway, HubMsg::Op(op));
            }
            Op::Membership(ref change) => {
                self.post_hub(self.shard_of(change.conn), gateway, HubMsg::Op(op));
            }
            Op::Members(report) => {
                let _order = gateway.order();
                self.post_all(gateway, || HubMsg::Op(Op::Members(Arc::clone(&report))));
            }
            Op::CloseAll { closing } => {
                let _order = gateway.order();
                self.post_all(gateway, || HubMsg::Op(Op::CloseAll { closing }));
            }
            Op::CloseShare { closing, parts } => {
                self.post_all(gateway, || HubMsg::Op(Op::CloseShare { closing, parts }));
            }
        }
    }

    fn deliver(&self, gateway: &Shared, delivery: Delivery) {
        // With a report every shard has to say what came of it.
        if let (Recipients::Only(conns), None) = (&delivery.to, &delivery.report) {
            match conns[..] {
                [] => return,
                [conn] => {
                    gateway.pressure.frames_added(1);
                    let _order = gateway.order();
                    let shard = self.shard_of(conn);
                    return self.post_hub(shard, gateway, HubMsg::Op(Op::Deliver(delivery)));
                }
                _ => {}
            }
        }
        gateway.pressure.frames_added(self.shards());
        let _order = gateway.order();
        for shard in 1..self.shards() {
            self.post_hub(shard, gateway, HubMsg::Op(Op::Deliver(delivery.share())));
        }
        self.post_hub(0, gateway, HubMsg::Op(Op::Deliver(delivery)));
    }
}
