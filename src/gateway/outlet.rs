//! The way of a gateway's operations from a [relay](super::relay) to the shards, and what other nodes
//! of a cluster change here.
//!
//! Used by the relay's task alone; what it does here is done under the lock of the gateway's order, as
//! everywhere.

use std::sync::Arc;

use crate::config::hooks::Hook;
use crate::gateway::core::Core;
use crate::gateway::frames;
use crate::gateway::history::Log;
use crate::gateway::kept::{History, now};
use crate::gateway::msg::{HubMsg, PrimaryMsg};
use crate::gateway::relay::Passing;
use crate::gateway::shared::Shared;
use crate::listener::membership::LeaveReason;
use crate::listener::op::{Delivery, Op, Presence};
use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;
use crate::listener::recipients::Recipients;
use crate::text::glob::glob;
use crate::text::position::{Epoch, Position};
use crate::ws::payload::Payload;

/// Hands on what comes out of a relay.
pub(crate) struct Outlet {
    core: Arc<Core>,
    gateway: Arc<Shared>,
}

impl Outlet {
    /// The way to the shards of a gateway.
    pub(crate) fn new(core: Arc<Core>, gateway: Arc<Shared>) -> Outlet {
        Outlet { core, gateway }
    }

    /// The gateway.
    pub(crate) fn gateway(&self) -> &Arc<Shared> {
        &self.gateway
    }

    /// The shards.
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Hands on what this gateway's own shards passed in. A message is kept under `number`; without
    /// one it is not kept.
    pub(crate) fn hand_out(&self, passing: Passing, number: Option<u64>) {
        match passing {
            Passing::Op(op) => self.hand_out_op(op, number),
            Passing::Then(then) | Passing::From { then, .. } => then(),
            Passing::Member { .. } => {}
        }
    }

    /// Gives a delivery that was passed in other recipients.
    pub(crate) fn retarget(&self, delivery: &mut Delivery, to: Recipients) {
        let before = self.core.shards_of(delivery).len();
        delivery.to = to;
        let after = self.core.shards_of(delivery).len();
        self.gateway.pressure.frames_added(after);
        self.gateway.pressure.frames_done(before);
    }

    /// Takes all recipients off a delivery that was passed in. Its sender's shard hears of it.
    pub(crate) fn to_nobody(&self, delivery: &mut Delivery) {
        // No connection has such a name.
        let nobody = delivery.from.map(|from| ConnId(self.core.shard_of(from) as u64));
        self.retarget(delivery, Recipients::Only(nobody.into_iter().collect()));
    }

    /// A delivery that was passed in holds up its sender and others no longer. From now on it is one that
    /// came from elsewhere.
    pub(crate) fn let_go(&self, delivery: &mut Delivery) {
        let mut copy = delivery.share();
        delivery.from = None;
        self.to_nobody(&mut copy);
        // Nobody is told what came of the copy.
        let frames = self.core.shards_of(&copy).len();
        copy.report = None;
        let shards = self.core.shards_of(&copy).len();
        self.gateway.pressure.frames_done(frames - shards);
        self.hand_out(Passing::Op(Op::Deliver(copy)), None);
    }

    /// The same for an operation that came from elsewhere.
    pub(crate) fn hand_in(&self, op: Op, number: Option<u64>) {
        if let Op::Deliver(delivery) = &op {
            let shards = self.core.shards_of(delivery);
            if shards.is_empty() {
                return;
            }
            self.gateway.pressure.frames_added(shards.len());
        }
        self.hand_out_op(op, number);
    }

    fn hand_out_op(&self, mut op: Op, number: Option<u64>) {
        let order = self.gateway.order();
        if let (Op::Deliver(delivery), Some(number), Some(history)) =
            (&mut op, number, &order.history)
        {
            history.keep_as(delivery, number);
        }
        self.core.hand_to_shards(&self.gateway, op, HubMsg::Op);
    }

    /// A connection on another node of a cluster has joined a channel, or left it: the channel's
    /// members here are told, and the listener.
    pub(crate) fn changed_elsewhere(
        &self,
        conn: ConnId,
        channel: &Channel,
        left: Option<LeaveReason>,
    ) {
        let (gateway, settings) = (&self.gateway, self.gateway.settings());
        let is_told = |pattern: &String| glob(pattern, channel.as_str());
        let joined = left.is_none();
        gateway.channels.changed_elsewhere(channel, joined, |change| {
            if gateway.is_stopping() {
                return;
            }
            if settings.presence.iter().any(is_told) {
                let frame = frames::presence(joined, channel, conn, change.members).into();
                let presence = Presence { channel: channel.clone(), change: change.number, frame };
                self.hand_out(Passing::Op(Op::Presence(Box::new(presence))), None);
            }
            if settings.asks(if joined { Hook::OnJoin } else { Hook::OnLeave }) {
                let msg = PrimaryMsg::Elsewhere(conn, channel.clone(), change.members, left);
                self.core.post_primary(gateway, msg);
            }
        });
    }

    /// The history is another from here on: it begins behind `newest`.
    pub(crate) fn begin_epoch(&self, epoch: Epoch, newest: u64) {
        let order = self.gateway.order();
        if let Some(history) = &order.history {
            history.begin_epoch(epoch, newest);
        }
        drop(order);
        self.announce_position();
    }

    /// Tells the shards the position of the newest message.
    pub(crate) fn announce_position(&self) {
        let order = self.gateway.order();
        if let Some(history) = &order.history {
            let newest = history.position();
            self.core.post_all(&self.gateway, || HubMsg::History(Some(newest)));
        }
    }

    /// A history that was read takes the place of the one that is there.
    pub(crate) fn adopt(&self, log: Log) {
        if let Some(history) = self.history() {
            *history.log().lock() = log;
        }
        self.announce_position();
    }

    /// The history, if there is one.
    pub(crate) fn history(&self) -> Option<Arc<History>> {
        self.gateway.order().history.clone()
    }
}

impl History {
    /// Keeps a message under a number that is larger than all before.
    fn keep_as(&self, delivery: &mut crate::listener::op::Delivery, number: u64) {
        delivery.at = self.log().lock().keep_as(&delivery.to, &delivery.payload, now(), number);
    }

    /// An empty history with the same limits, which begins behind this position.
    pub(crate) fn draft(&self, position: Position) -> Log {
        self.log().lock().draft(position)
    }

    /// Keeps a message of earlier, which nobody is sent.
    pub(crate) fn restore(&self, to: &Recipients, payload: &Payload, at: u64, number: u64) {
        self.log().lock().keep_as(to, payload, at, number);
    }

    /// Forgets everything; the numbers go on behind `newest`, in this epoch.
    pub(crate) fn begin_epoch(&self, epoch: Epoch, newest: u64) {
        self.log().lock().begin_epoch(Position { epoch, number: newest });
    }
}
