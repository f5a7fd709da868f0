//! A turn of the primary, and what its exchange decided: carried out here, or on the shard of the
//! connection that it is about.

use crate::gateway::context::Context;
use crate::gateway::hub::{Hub, gate};
use crate::gateway::msg::HubMsg;
use crate::listener::exchange::Effect;
use crate::listener::protocol::connid::ConnId;

impl Hub {
    /// Lets the primary act and carries out what it decided; true if it has to come back at once.
    pub(super) fn primary_turn(&mut self, ctx: &mut Context) -> bool {
        let Some(primary) = &mut self.primary else { return false };
        if !primary.is_due(ctx) {
            return false;
        }
        // Effects may bring more; a listener and its clients must not keep the shard for good.
        for _ in 0..4 {
            let Some(primary) = &mut self.primary else { return false };
            primary.step(&self.shared, ctx);
            for (stream, peer, id) in primary.take_accepted() {
                self.socket(stream, peer, id, ctx);
            }
            self.carry_out(ctx);
            if !self.primary.as_ref().is_some_and(|primary| primary.has_news()) {
                break;
            }
        }
        let Some(primary) = &mut self.primary else { return false };
        primary.publish(&self.shared);
        let again = primary.wants_turn();
        self.open_gate(ctx);
        again
    }

    /// Carries out what the exchange decided: what concerns a connection on another shard goes
    /// there, in the order of the decisions.
    pub(super) fn carry_out(&mut self, ctx: &mut Context) {
        let Some(primary) = &mut self.primary else { return };
        let mut effects = primary.take_effects();
        let shards = ctx.core.shards();
        let mut settled: Vec<Vec<(ConnId, usize)>> = Vec::new();
        for effect in effects.drain(..) {
            match effect {
                Effect::Op(op) => self.fanout.submit(op, &self.shared, ctx),
                Effect::Handshake { conn, decision } => {
                    // With several shards through the inbox, behind the messages decided before:
                    // a connection that comes in now must not get those.
                    let msg = HubMsg::Handshake(conn, decision);
                    let shard = ctx.core.shard_of(conn);
                    let Some(msg) = ctx.core.put_behind_writes(&self.shared, shard, msg) else {
                        continue;
                    };
                    if shards == 1 {
                        self.msg(msg, ctx);
                    } else {
                        ctx.core.post_hub(shard, &self.shared, msg);
                    }
                }
                Effect::Settled { conn, bytes } => {
                    if settled.is_empty() {
                        settled.resize_with(shards, Vec::new);
                    }
                    settled[ctx.core.shard_of(conn)].push((conn, bytes));
                }
            }
        }
        // Behind the deliveries: a connection that waits for its last answer ends after it.
        for (shard, settled) in settled.into_iter().enumerate() {
            if settled.is_empty() {
                continue;
            }
            if shards == 1 {
                self.msg(HubMsg::Settled(settled), ctx);
            } else {
                ctx.core.post_hub(shard, &self.shared, HubMsg::Settled(settled));
            }
        }
        if let Some(primary) = &mut self.primary {
            primary.give_back_effects(effects);
        }
    }

    /// Wakes the shards whose clients wait for the gate, if it is open.
    pub(super) fn open_gate(&self, ctx: &Context) {
        let shared = &self.shared;
        if shared.pressure.wake_waiters(gate(&self.settings)) {
            for shard in (0..ctx.core.shards()).filter(|shard| *shard != ctx.index) {
                ctx.core.post_hub(shard, shared, HubMsg::GateOpen);
            }
        }
    }
}
