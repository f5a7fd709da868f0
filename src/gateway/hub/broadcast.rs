//! Takes a burst through the connections of a shard: with one system call for many sockets where the
//! kernel allows it, else with one `send` for each.

use crate::gateway::context::Context;
use crate::gateway::hub::Hub;
use crate::gateway::hub::burst::{Burst, Outcome};
use crate::gateway::hub::connection::Connection;
use crate::gateway::hub::hot::Takes;
use crate::gateway::io::uring::Target;

impl Hub {
    /// Takes a burst on through the connections.
    pub(super) fn run_burst(&mut self, mut burst: Burst, budget: &mut usize, ctx: &mut Context) {
        let first = burst.first();
        if burst.is_for_all() {
            // In each of its turns: a timer may go off between two of them.
            self.fanout.note_broadcast(ctx.now);
        }
        let batched = ctx.batches(self.conns.len(), &burst.bytes);
        while burst.cursor < self.conns.hot().len() {
            if *budget == 0 {
                self.send_burst_batch(&mut burst, ctx);
                return self.fanout.put_off(burst);
            }
            let slot = burst.cursor as u32;
            let hot = self.conns.hot()[burst.cursor];
            burst.cursor += 1;
            if hot.takes == Takes::Nothing {
                continue;
            }
            *budget -= 1;
            let whole = hot.takes != Takes::Queue
                && hot.first_frame <= first
                && (burst.is_for_all() || !self.is_special(slot, &burst));
            if !whole {
                self.with(slot, ctx, |conn, lent| conn.queue_entries(&mut burst, 0, 0, lent));
            } else if batched && hot.takes == Takes::Socket {
                if self.fanout.batch(Target { slot, fd: hot.fd }) {
                    self.send_burst_batch(&mut burst, ctx);
                }
            } else {
                self.with(slot, ctx, |conn, lent| {
                    match lent.ctx.write(&mut conn.stream, &burst.bytes) {
                        Ok(n) => conn.took_of_burst(&mut burst, n, lent),
                        Err(_) => conn.write_failed(lent),
                    }
                });
            }
        }
        self.send_burst_batch(&mut burst, ctx);
        self.burst_sent(burst, ctx);
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
            Ok(n) if n == bytes.len() && burst.is_for_all() => burst.took_whole(None, ctx),
            Ok(n) => hub.with(slot, ctx, |conn, lent| conn.took_of_burst(burst, n, lent)),
            Err(()) => hub.with(slot, ctx, Connection::write_failed),
        });
    }

    /// A burst went to all connections: it is counted, and whoever waits for that is told.
    fn burst_sent(&mut self, burst: Burst, ctx: &mut Context) {
        let messages = burst.messages();
        let mut reports = Vec::new();
        let (mut deliveries, mut bytes, mut drops) = (0, 0, 0);
        for outcome in burst.outcomes() {
            let Outcome { from, bytes: size, delivered, dropped, report } = outcome;
            self.release(from, size, ctx);
            deliveries += delivered;
            drops += dropped;
            bytes += delivered * size as u64;
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
