//! Takes a burst through the connections of a shard: with one system call for many sockets where the
//! kernel allows it, else with one `send` for each.

use std::collections::HashSet;

use crate::gateway::context::Context;
use crate::gateway::hub::Hub;
use crate::gateway::hub::burst::{Burst, Encoding, Outcome, Pass, Targets};
use crate::gateway::hub::connection::Connection;
use crate::gateway::hub::hot::Takes;
use crate::gateway::io::uring::Target;
use crate::gateway::wire::Wire;
use crate::listener::op::Delivery;
use crate::listener::protocol::connid::ConnId;
use crate::listener::recipients::Recipients;

impl Hub {
    /// A message for several connections, with those behind it that go to the same.
    pub(super) fn form_burst(
        &mut self,
        number: u64,
        delivery: Delivery,
        ctx: &mut Context,
    ) -> Burst {
        let passes = self.passes(&delivery.to);
        let for_members = matches!(delivery.to, Recipients::Members(_));
        let alike = delivery.to.clone();
        let fanout = &mut self.fanout;
        let mut burst =
            Burst::form(number, delivery, passes, |room| fanout.next_alike(&alike, room));
        self.next_pass(&mut burst, ctx);
        // Without an idle time-out nobody asks when a member got its last message.
        let no_clock = for_members && self.settings.idle_timeout.is_zero();
        burst.skips_clock = no_clock || !for_members && burst.is_for_all();
        burst
    }

    /// The passes that a message takes, the last one first. Those that differ in compression alone
    /// stand together, so that what they share is made once.
    fn passes(&self, to: &Recipients) -> Vec<Pass> {
        let Recipients::Members(target) = to else {
            // Without a connection that gets bare bodies there is no pass for them.
            let bare = self.conns.len() > self.wires.connections();
            let bare = bare.then(Wire::default);
            let wires = bare.into_iter().chain(self.wires.in_use());
            let pass = |wire| {
                let encoding = Encoding { wire, channel: None };
                Pass { encoding, targets: Targets::All { wire } }
            };
            return wires.map(pass).collect();
        };
        let hot = self.conns.hot();
        let mut seen = HashSet::new();
        let mut bare = Vec::new();
        // Without frames, the channel makes no difference.
        let mut passes: Vec<(Encoding, Vec<u32>)> = Vec::new();
        for channel in &target.channels {
            for &slot in self.rooms.members(channel) {
                let is_new = target.channels.len() == 1 || seen.insert(slot);
                if !is_new || self.is_among(slot, &target.except) {
                    continue;
                }
                let wire = hot.get(slot as usize).map_or(Wire::default(), |hot| hot.wire);
                if wire == Wire::default() {
                    bare.push(slot);
                    continue;
                }
                let channel = wire.form.has_frames().then_some(channel);
                let alike = |(encoding, _): &&mut (Encoding, Vec<u32>)| {
                    encoding.wire == wire && encoding.channel.as_ref() == channel
                };
                match passes.iter_mut().rev().find(alike) {
                    Some((_, slots)) => slots.push(slot),
                    None => {
                        let encoding = Encoding { wire, channel: channel.cloned() };
                        passes.push((encoding, vec![slot]));
                    }
                }
            }
        }
        if !bare.is_empty() || passes.is_empty() {
            passes.push((Encoding { wire: Wire::default(), channel: None }, bare));
        }
        if passes.iter().any(|(encoding, _)| encoding.wire.deflate > 0) {
            passes.sort_by(|(a, _), (b, _)| a.cmp(b));
        }
        let pass = |(encoding, slots)| Pass { encoding, targets: Targets::Slots(slots) };
        passes.into_iter().map(pass).collect()
    }

    fn is_among(&self, slot: u32, conns: &[ConnId]) -> bool {
        !conns.is_empty()
            && self.conns.get(slot).is_some_and(|conn| conns.binary_search(&conn.id).is_ok())
    }

    /// Begins the next pass of a burst; false if there is none.
    fn next_pass(&self, burst: &mut Burst, ctx: &mut Context) -> bool {
        let more = burst.next_pass(&mut ctx.codec.compressors);
        self.count_compression(ctx);
        more
    }

    /// Takes a burst on through the connections.
    pub(super) fn run_burst(&mut self, mut burst: Burst, budget: &mut usize, ctx: &mut Context) {
        if burst.is_for_all() && matches!(burst.targets, Targets::All { .. }) {
            // In each of its turns: a timer may go off between two of them.
            self.fanout.note_broadcast(ctx.now);
        }
        loop {
            let done = self.run_pass(&mut burst, budget, ctx);
            self.send_burst_batch(&mut burst, ctx);
            if !done {
                return self.fanout.put_off(burst);
            }
            if !self.next_pass(&mut burst, ctx) {
                return self.burst_sent(burst, ctx);
            }
        }
    }

    /// Takes a pass on through its connections; false if the turn is over first.
    fn run_pass(&mut self, burst: &mut Burst, budget: &mut usize, ctx: &mut Context) -> bool {
        let first = burst.first();
        let targets = match &burst.targets {
            Targets::All { .. } => self.conns.len(),
            Targets::Slots(slots) => slots.len(),
        };
        let batched = ctx.batches(targets, &burst.bytes);
        loop {
            let (slot, wire) = match &burst.targets {
                Targets::All { wire } if burst.cursor < self.conns.hot().len() => {
                    (burst.cursor as u32, Some(*wire))
                }
                Targets::All { .. } => return true,
                Targets::Slots(slots) => match slots.get(burst.cursor) {
                    Some(slot) => (*slot, None),
                    None => return true,
                },
            };
            if *budget == 0 {
                return false;
            }
            burst.cursor += 1;
            let Some(&hot) = self.conns.hot().get(slot as usize) else { continue };
            if hot.takes == Takes::Nothing || wire.is_some_and(|wire| hot.wire != wire) {
                continue;
            }
            *budget -= 1;
            let whole = hot.takes != Takes::Queue
                && hot.first_frame <= first
                && (burst.is_for_all() || !self.is_special(slot, burst));
            if !whole {
                self.with(slot, ctx, |conn, lent| conn.queue_entries(burst, 0, 0, lent));
            } else if batched && hot.takes == Takes::Socket {
                if self.fanout.batch(Target { slot, fd: hot.fd }) {
                    self.send_burst_batch(burst, ctx);
                }
            } else {
                self.with(slot, ctx, |conn, lent| {
                    match lent.ctx.write(&mut conn.stream, &burst.bytes) {
                        Ok(n) => conn.took_of_burst(burst, n, lent),
                        Err(_) => conn.write_failed(lent),
                    }
                });
            }
        }
    }

    /// Whether some message of the burst is not for this connection.
    fn is_special(&self, slot: u32, burst: &Burst) -> bool {
        self.conns.get(slot).is_none_or(|conn| burst.excepts(conn.id))
    }

    /// Sends a burst to the connections of the batch.
    fn send_burst_batch(&mut self, burst: &mut Burst, ctx: &mut Context) {
        let bytes = burst.bytes.clone();
        self.send_batch(&bytes, ctx, |hub, slot, took, ctx| match took {
            // What took all of it needs no look at the connection, which is four cache lines.
            Ok(n) if n == bytes.len() && burst.skips_clock => burst.took_whole(None, ctx),
            Ok(n) => hub.with(slot, ctx, |conn, lent| conn.took_of_burst(burst, n, lent)),
            Err(()) => hub.with(slot, ctx, Connection::write_failed),
        });
    }

    /// A burst went to all connections: it is counted, and whoever waits for that is told.
    fn burst_sent(&mut self, burst: Burst, ctx: &mut Context) {
        let messages = burst.messages();
        let mut reports = Vec::new();
        let bytes = burst.bytes_out();
        let (mut deliveries, mut drops) = (0, 0);
        for outcome in burst.outcomes() {
            let Outcome { from, bytes: size, delivered, dropped, report } = outcome;
            self.release(from, size, ctx);
            deliveries += delivered;
            drops += dropped;
            reports.extend(report.map(|report| (report, delivered, dropped)));
        }
        let metrics = &self.shared.metrics;
        metrics.messages_out.add(deliveries);
        metrics.bytes_out.add(bytes);
        metrics.deliveries_dropped.add(drops);
        // Whoever is told what became of a push finds it in the counters.
        for (report, delivered, dropped) in reports {
            report.add(delivered, dropped);
            report.finish();
        }
        self.frames_sent(messages, ctx);
    }
}
