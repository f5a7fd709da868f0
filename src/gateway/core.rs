//! What all threads of an engine share: the shards' inboxes, the numbers of connections, and the
//! budget of descriptors.
//!
//! An inbox is a vector under a lock that is held for a push or a swap alone; a wake-up is sent only
//! when the shard has not been woken already.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use mio::Waker;
use parking_lot::Mutex;

use crate::gateway::kept::History;
use crate::gateway::msg::{HubMsg, Msg, PrimaryMsg};
use crate::gateway::relay::{Passing, Relay};
use crate::gateway::shared::{Order, Shared};
use crate::gateway::writer::{Passes, Writer};

use crate::listener::membership::LeaveReason;
use crate::listener::op::{Delivery, Op};
use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;
use crate::listener::protocol::node::Node;
use crate::listener::recipients::Recipients;
use crate::text::position::Position;

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

    /// A name that no connection ever had, on this node of a cluster, if there is one.
    pub(crate) fn next_conn(&self, node: Option<Node>) -> ConnId {
        ConnId::on(node, self.next_conn.fetch_add(1, Ordering::Relaxed))
    }

    // ---- descriptors ---------------------------------------------------------------------

    /// Takes a descriptor for a client, if one may be taken.
    pub fn take_socket(&self) -> bool {
        let max = self.sockets_max();
        let next = |n: usize| (n < max).then_some(n + 1);
        self.sockets.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// How many clients may have one at a time.
    pub fn sockets_max(&self) -> usize {
        let kept_back = self.kept_back.load(Ordering::Relaxed);
        self.descriptors.saturating_sub(kept_back).max(16)
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

    /// Puts wake-ups of the shards off until what this returns is dropped, so that a shard gets what is
    /// posted meanwhile at one go. Whoever has it must not wait for anything.
    pub(crate) fn hold_wakes(&self) -> HeldWakes<'_> {
        // A shard that looks into its inbox meanwhile takes what is there, and is woken once more.
        self.inboxes.iter().for_each(|inbox| inbox.woken.store(true, Ordering::Release));
        HeldWakes(self)
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
    pub fn submit(self: &Arc<Self>, gateway: &Arc<Shared>, op: Op) {
        if let Op::Deliver(delivery) = &op {
            let shards = self.shards_of(delivery);
            if shards.is_empty() {
                return;
            }
            gateway.pressure.frames_added(shards.len());
        }
        let order = gateway.order();
        // An only shard keeps messages when it takes them in, between its own.
        let alone = self.shards() == 1;
        let Some(op) = self.put(&order, gateway, op, !alone) else { return };
        self.hand_to_shards(gateway, op, if alone { HubMsg::Unordered } else { HubMsg::Op });
    }

    /// Gives an operation of the only shard its place in the order. `None`: it comes back by the
    /// inbox, once it is written.
    pub(super) fn put_in_order(self: &Arc<Self>, gateway: &Arc<Shared>, op: Op) -> Option<Op> {
        if !gateway.orders() {
            return Some(op);
        }
        self.put(&gateway.order(), gateway, op, true)
    }

    /// Keeps a message, if `keeps` says that this is the moment. `None`: the history has a file, and
    /// the operation is handed out once all in front of it is written.
    fn put(
        self: &Arc<Self>,
        order: &Order,
        gateway: &Arc<Shared>,
        mut op: Op,
        keeps: bool,
    ) -> Option<Op> {
        if let Some(relay) = &order.relay {
            self.relay(relay, gateway, Passing::Op(op));
            return None;
        }
        let Some(history) = &order.history else { return Some(op) };
        if let Some(writer) = history.writer() {
            pass(writer, Box::new(HandOut::new(self, gateway, Goes::Op(op))));
            return None;
        }
        if let Op::Deliver(delivery) = &mut op
            && keeps
        {
            history.keep(delivery);
        }
        Some(op)
    }

    /// Keeps a message to a shard behind the operations that are being written; it comes back if
    /// none are.
    pub(super) fn put_behind_writes(
        self: &Arc<Self>,
        gateway: &Arc<Shared>,
        shard: usize,
        msg: HubMsg,
    ) -> Option<HubMsg> {
        if !gateway.orders() {
            return Some(msg);
        }
        let order = gateway.order();
        if let Some(relay) = &order.relay {
            self.relay(relay, gateway, Passing::Then(self.posting(gateway, shard, msg)));
            return None;
        }
        let Some(writer) = order.history.as_deref().and_then(History::writer) else {
            return Some(msg);
        };
        pass(writer, Box::new(HandOut::new(self, gateway, Goes::Msg(shard, msg))));
        None
    }

    /// Hands something to a relay; it goes on at once if that has ended. The caller holds the
    /// gateway's order.
    fn relay(&self, relay: &Arc<dyn Relay>, gateway: &Shared, passing: Passing) {
        match relay.pass(passing) {
            None => {}
            Some(Passing::Op(op)) => self.hand_to_shards(gateway, op, HubMsg::Op),
            Some(Passing::Then(then) | Passing::From { then, .. }) => then(),
            Some(Passing::Member { .. }) => {}
        }
    }

    /// Posts a message to a shard once this node of a cluster has handed out the message with this
    /// number, or has waited for it for a moment.
    pub(super) fn post_from(
        self: &Arc<Self>,
        number: u64,
        shard: usize,
        gateway: &Arc<Shared>,
        msg: HubMsg,
    ) {
        self.then_from(number, gateway, self.posting(gateway, shard, msg));
    }

    /// Does something once this node of a cluster has handed out the message with this number, or has waited
    /// for it for a moment.
    pub(crate) fn then_from(&self, number: u64, gateway: &Shared, then: Box<dyn FnOnce() + Send>) {
        let order = gateway.order();
        match &order.relay {
            Some(relay) => self.relay(relay, gateway, Passing::From { number, then }),
            None => then(),
        }
    }

    /// Posts a message to a shard, later.
    fn posting(
        self: &Arc<Self>,
        gateway: &Arc<Shared>,
        shard: usize,
        msg: HubMsg,
    ) -> Box<dyn FnOnce() + Send> {
        let (core, gateway) = (Arc::clone(self), Arc::clone(gateway));
        Box::new(move || core.post_hub(shard, &gateway, msg))
    }

    /// Tells the other nodes, if there are any, that a connection has joined or left a channel.
    pub(super) fn tell_nodes(
        &self,
        gateway: &Shared,
        left: Option<LeaveReason>,
        conn: ConnId,
        channel: &Channel,
    ) {
        if gateway.node.is_none() {
            return;
        }
        if let Some(relay) = &gateway.order().relay {
            self.relay(relay, gateway, Passing::Member { left, conn, channel: channel.clone() });
        }
    }

    /// All operations of a gateway go through this relay from now on; `None`: through none.
    pub(crate) fn set_relay(&self, gateway: &Shared, relay: Option<Arc<dyn Relay>>) {
        let mut order = gateway.order();
        order.relay = relay;
        gateway.set_orders(order.relay.is_some() || order.history.is_some());
    }

    /// The shards that have part in a delivery.
    pub(super) fn shards_of(&self, delivery: &Delivery) -> Range<usize> {
        // With a report every shard has to say what came of it.
        match (&delivery.to, &delivery.report) {
            (Recipients::Only(conns), None) if conns.is_empty() => 0..0,
            (Recipients::Only(conns), None) if conns.len() == 1 => {
                let shard = self.shard_of(conns[0]);
                shard..shard + 1
            }
            _ => 0..self.shards(),
        }
    }

    /// The caller holds the gateway's order.
    pub(super) fn hand_to_shards(&self, gateway: &Shared, op: Op, wrap: fn(Op) -> HubMsg) {
        match op {
            Op::Deliver(delivery) => {
                let mut shards = self.shards_of(&delivery);
                let Some(last) = shards.next_back() else { return };
                for shard in shards {
                    self.post_hub(shard, gateway, wrap(Op::Deliver(delivery.share())));
                }
                self.post_hub(last, gateway, wrap(Op::Deliver(delivery)));
            }
            Op::Close { conn, .. } | Op::Finish { conn } => {
                self.post_hub(self.shard_of(conn), gateway, wrap(op));
            }
            Op::Membership(change) => {
                let shard = self.shard_of(change.conn);
                self.post_hub(shard, gateway, wrap(Op::Membership(change)));
            }
            Op::Presence(presence) => {
                self.post_all(gateway, || wrap(Op::Presence(presence.clone())));
            }
            Op::Members(report) => {
                self.post_all(gateway, || wrap(Op::Members(Arc::clone(&report))));
            }
            Op::CloseAll { closing } => self.post_all(gateway, || wrap(Op::CloseAll { closing })),
            Op::CloseShare { closing, parts } => {
                self.post_all(gateway, || wrap(Op::CloseShare { closing, parts }));
            }
        }
    }

    /// The history that messages are kept in from now on; `None` for none. Clients that connect after
    /// this returns are told where it stands.
    pub fn set_history(self: &Arc<Self>, gateway: &Arc<Shared>, history: Option<Arc<History>>) {
        self.begin_history(gateway, history.clone());
        // The writer hands the position to the shards.
        if let Some(history) = history {
            history.flush();
        }
    }

    fn begin_history(self: &Arc<Self>, gateway: &Arc<Shared>, history: Option<Arc<History>>) {
        let mut order = gateway.order();
        order.history = history;
        gateway.set_orders(order.relay.is_some() || order.history.is_some());
        // What is numbered after this comes behind it on every shard.
        match &order.history {
            None => self.post_all(gateway, || HubMsg::History(None)),
            Some(history) => match history.writer() {
                Some(writer) => pass(writer, Box::new(HandOut::new(self, gateway, Goes::Begin))),
                None => {
                    let newest = history.position();
                    self.post_all(gateway, || HubMsg::History(Some(newest)));
                }
            },
        }
    }
}

/// Wake-ups are put off while this is there.
pub(crate) struct HeldWakes<'a>(&'a Core);

impl Drop for HeldWakes<'_> {
    fn drop(&mut self) {
        for inbox in &self.0.inboxes {
            let queue = inbox.queue.lock();
            // Whoever pushes later finds the flag as it is set under the lock, and wakes the shard.
            inbox.woken.store(!queue.is_empty(), Ordering::Release);
            if !queue.is_empty() {
                drop(queue);
                let _ = inbox.waker.wake();
            }
        }
    }
}

/// Hands something to a history's writer. The caller holds the gateway's order.
fn pass(writer: &Writer, item: Box<HandOut>) {
    if let Err(item) = writer.pass(item) {
        item.hand_out_unwritten();
    }
}

/// Something that passes through the writer of a history on its way to the shards.
struct HandOut {
    core: Arc<Core>,
    gateway: Arc<Shared>,
    goes: Goes,
}

enum Goes {
    Op(Op),
    Msg(usize, HubMsg),
    /// The history begins for the gateway's shards.
    Begin,
}

impl HandOut {
    fn new(core: &Arc<Core>, gateway: &Arc<Shared>, goes: Goes) -> HandOut {
        HandOut { core: Arc::clone(core), gateway: Arc::clone(gateway), goes }
    }
}

impl Passes for HandOut {
    fn delivery(&mut self) -> Option<&mut Delivery> {
        match &mut self.goes {
            Goes::Op(Op::Deliver(delivery)) => Some(delivery),
            _ => None,
        }
    }

    fn unwritten(&self) {
        self.gateway.metrics.history_unwritten.inc();
    }

    fn hand_out(self: Box<Self>, newest: Position) {
        let HandOut { core, gateway, goes } = *self;
        let _order = gateway.order();
        match goes {
            Goes::Op(op) => core.hand_to_shards(&gateway, op, HubMsg::Op),
            Goes::Msg(shard, msg) => core.post_hub(shard, &gateway, msg),
            Goes::Begin => core.post_all(&gateway, || HubMsg::History(Some(newest))),
        }
    }

    fn hand_out_unwritten(self: Box<Self>) {
        let HandOut { core, gateway, goes } = *self;
        match goes {
            Goes::Op(op) => core.hand_to_shards(&gateway, op, HubMsg::Op),
            Goes::Msg(shard, msg) => core.post_hub(shard, &gateway, msg),
            Goes::Begin => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use mio::{Events, Poll, Token};

    use super::*;

    #[test]
    fn a_shard_gets_at_one_go_what_is_posted_while_wakes_are_held() {
        let mut poll = Poll::new().unwrap();
        let core = Core::new(vec![Waker::new(poll.registry(), Token(0)).unwrap()], 100);
        let mut events = Events::with_capacity(4);
        let mut is_woken = move || {
            poll.poll(&mut events, Some(std::time::Duration::ZERO)).unwrap();
            !events.is_empty()
        };
        let held = core.hold_wakes();
        core.post(0, Msg::Quit);
        core.post(0, Msg::Quit);
        assert!(!is_woken());
        drop(held);
        assert!(is_woken());
        let mut inbox = Vec::new();
        core.take_inbox(0, &mut inbox);
        assert_eq!(inbox.len(), 2);
        // Nothing was posted: nobody is woken, and what comes next wakes again.
        drop(core.hold_wakes());
        assert!(!is_woken());
        core.post(0, Msg::Quit);
        assert!(is_woken());
    }
}
