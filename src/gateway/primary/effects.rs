//! Carries out what the exchange decided: deliveries, closes, verdicts on handshakes, and what
//! connections are no longer owed.
//!
//! Runs on the home's shard. What concerns a connection goes to its own shard as a message, in the
//! order of the decisions; with one shard it is done here.

use crate::gateway::engine::{CloseReply, Delivery, Msg};
use crate::gateway::hub::{Job, Slice};
use crate::gateway::shard::Ctx;
use crate::listener::exchange::Effect;

impl Slice {
    /// Carries out what the exchange decided.
    pub(super) fn effects(&mut self, ctx: &mut Ctx) {
        let Some(exchange) = self.home.as_mut().and_then(|h| h.exchange.as_mut()) else { return };
        let mut effects = std::mem::take(&mut exchange.effects);
        self.carry_out(&mut effects, ctx);
        // The vector goes back for its capacity, unless something came meanwhile.
        if let Some(exchange) = self.home.as_mut().and_then(|h| h.exchange.as_mut())
            && exchange.effects.is_empty()
        {
            effects.shrink_to(4096);
            exchange.effects = effects;
        }
    }

    pub(super) fn carry_out(&mut self, effects: &mut Vec<Effect>, ctx: &mut Ctx) {
        let slot = self.shared.slot;
        let alone = ctx.core.shards() == 1;
        for effect in effects.drain(..) {
            match effect {
                Effect::Deliver { frame, to, tally } => {
                    self.deliver(Delivery { frame, to, from: None, tally }, ctx);
                }
                Effect::Close { conn, code, reason, reference } => {
                    let reply = reference.map_or(CloseReply::None, CloseReply::Listener);
                    if alone {
                        self.fanout.jobs.push_back(Job::Close(conn, code, reason, reply));
                    } else {
                        let msg = Msg::Close(slot, conn, code, reason, reply);
                        ctx.core.post(ctx.core.shard_of(conn), msg);
                    }
                }
                Effect::Handshake { conn, verdict } => {
                    if alone {
                        self.verdict(conn, verdict, ctx);
                    } else {
                        ctx.core.post(ctx.core.shard_of(conn), Msg::Verdict(slot, conn, verdict));
                    }
                }
                Effect::Done { conn, bytes } => {
                    if let Some(home) = &mut self.home {
                        home.done[ctx.core.shard_of(conn)].push((conn, bytes));
                    }
                }
            }
        }
        // Behind the deliveries: a connection that waits for its last answer ends after it.
        for shard in 0..ctx.core.shards() {
            let Some(home) = &mut self.home else { return };
            if home.done[shard].is_empty() {
                continue;
            }
            let mut done = std::mem::take(&mut home.done[shard]);
            if alone {
                for (conn, bytes) in done.drain(..) {
                    self.done(conn, bytes, ctx);
                }
                if let Some(home) = &mut self.home {
                    home.done[shard] = done;
                }
            } else {
                ctx.core.post(shard, Msg::Done(slot, done));
            }
        }
    }
}
