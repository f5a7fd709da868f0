//! A burst: consecutive messages for everybody on their way through the connections of a shard, with
//! one `send` for each, or one system call for many.

use std::sync::Arc;

use bytes::Bytes;

use crate::gateway::context::Context;
use crate::gateway::hub::connection::Connection;
use crate::gateway::hub::connections::Takes;
use crate::gateway::hub::fanout::{Fanout, batched};
use crate::gateway::hub::flow::{Flow, stay};
use crate::gateway::hub::{Hub, Lent};
use crate::gateway::io::uring::Target;
use crate::listener::op::Delivery;
use crate::listener::protocol::connid::ConnId;
use crate::listener::recipients::Recipients;
use crate::listener::report::DeliveryReport;

/// Bytes that a burst joins at most; a larger single message is a burst of its own.
const BURST_BYTES: usize = 256 * 1024;

/// Messages that a burst joins at most.
const BURST_MESSAGES: usize = 256;

/// One message of a burst.
struct Entry {
    frame: Bytes,
    number: u64,
    from: Option<ConnId>,
    /// Who does not get it, sorted.
    except: Option<Arc<[ConnId]>>,
    report: Option<Arc<DeliveryReport>>,
    /// Deliveries beside those of the whole burst.
    delivered: u64,
    dropped: u64,
}

impl Entry {
    fn new(number: u64, delivery: Delivery) -> Entry {
        let except = match delivery.to {
            Recipients::AllBut(except) => Some(except),
            Recipients::All | Recipients::Only(_) => None,
        };
        Entry {
            frame: delivery.payload.websocket().clone(),
            number,
            from: delivery.from,
            except,
            report: delivery.report,
            delivered: 0,
            dropped: 0,
        }
    }

    /// Whether a connection gets it that is there from `first_frame` on.
    fn is_for(&self, conn: ConnId, first_frame: u64) -> bool {
        let excepted = self.except.as_ref().is_some_and(|all| all.binary_search(&conn).is_ok());
        self.number >= first_frame && !excepted
    }
}

/// Messages for everybody, on their way through the connections.
pub(crate) struct Burst {
    /// All frames, back to back.
    bytes: Bytes,
    entries: Vec<Entry>,
    /// Those who do not get some message, sorted.
    special: Vec<ConnId>,
    /// The next slot.
    cursor: usize,
    /// Connections that took the burst whole.
    whole: u64,
}

impl Burst {
    /// Joins a message for everybody with those behind it.
    pub(super) fn form(number: u64, delivery: Delivery, fanout: &mut Fanout) -> Burst {
        let mut size = delivery.payload.cost();
        let mut entries = vec![Entry::new(number, delivery)];
        while entries.len() < BURST_MESSAGES
            && let Some((number, next)) = fanout.next_for_all(BURST_BYTES.saturating_sub(size))
        {
            size += next.payload.cost();
            entries.push(Entry::new(number, next));
        }
        fanout.note_burst(entries.len());
        let bytes = match &entries[..] {
            [entry] => entry.frame.clone(),
            entries => {
                let mut all = Vec::with_capacity(size);
                entries.iter().for_each(|entry| all.extend_from_slice(&entry.frame));
                Bytes::from(all)
            }
        };
        let excepted = entries.iter().filter_map(|entry| entry.except.as_deref());
        let mut special: Vec<ConnId> = excepted.flatten().copied().collect();
        special.sort_unstable();
        special.dedup();
        Burst { bytes, entries, special, cursor: 0, whole: 0 }
    }

    /// A connection took all of it.
    fn took_whole(&mut self, conn: Option<&mut Connection>, ctx: &Context) {
        self.whole += 1;
        // Where all get the same, one time for all of them is enough.
        if let Some(conn) = conn.filter(|_| !self.special.is_empty()) {
            conn.last_message = ctx.now;
        }
    }
}

impl Hub {
    /// Takes a burst on through the connections.
    pub(super) fn run_burst(&mut self, mut burst: Burst, budget: &mut usize, ctx: &mut Context) {
        let first = burst.entries.first().map_or(0, |entry| entry.number);
        let batched = batched(self.conns.len(), &burst.bytes, ctx);
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
                && (burst.special.is_empty() || !self.is_special(slot, &burst));
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
        self.conns.get(slot).is_none_or(|conn| burst.special.binary_search(&conn.id).is_ok())
    }

    /// Sends a burst to the connections of the batch.
    fn send_burst_batch(&mut self, burst: &mut Burst, ctx: &mut Context) {
        let bytes = burst.bytes.clone();
        self.send_batch(&bytes, ctx, |hub, slot, took, ctx| match took {
            // What took all of it needs no look at the connection, which is four cache lines.
            Ok(n) if n == bytes.len() && burst.special.is_empty() => burst.took_whole(None, ctx),
            Ok(n) => hub.with(slot, ctx, |conn, lent| conn.took_of_burst(burst, n, lent)),
            Err(()) => hub.with(slot, ctx, Connection::write_failed),
        });
    }

    /// A burst went to all connections: it is counted, and whoever waits for that is told.
    fn burst_sent(&mut self, burst: Burst, ctx: &mut Context) {
        if burst.special.is_empty() {
            self.fanout.note_broadcast(ctx.now);
        }
        let (mut deliveries, mut bytes, mut drops) = (0, 0, 0);
        for entry in &burst.entries {
            self.release(entry.from, entry.frame.len(), ctx);
            let delivered = burst.whole + entry.delivered;
            deliveries += delivered;
            drops += entry.dropped;
            bytes += delivered * entry.frame.len() as u64;
        }
        let metrics = &self.shared.metrics;
        metrics.messages_out.add(deliveries);
        metrics.bytes_out.add(bytes);
        metrics.deliveries_dropped.add(drops);
        let messages = burst.entries.len();
        // Whoever is told what became of a push finds it in the counters.
        for entry in burst.entries {
            if let Some(report) = entry.report {
                report.add(burst.whole + entry.delivered, entry.dropped);
                report.finish();
            }
        }
        self.frames_sent(messages, ctx);
    }
}

impl Connection {
    /// The socket took `n` bytes of a burst: the rest goes to the outbox.
    fn took_of_burst(&mut self, burst: &mut Burst, mut n: usize, lent: &mut Lent<'_>) -> Flow {
        if n == burst.bytes.len() {
            burst.took_whole(Some(self), lent.ctx);
            return stay();
        }
        let mut index = 0;
        while let Some(entry) = burst.entries.get_mut(index) {
            if n < entry.frame.len() {
                break;
            }
            n -= entry.frame.len();
            entry.delivered += 1;
            index += 1;
        }
        self.queue_entries(burst, index, n, lent)
    }

    /// Queues the messages of a burst from `from` on that are for this connection, `sent` bytes of
    /// the first of them being out already; then writes what the socket takes.
    fn queue_entries(
        &mut self,
        burst: &mut Burst,
        from: usize,
        mut sent: usize,
        lent: &mut Lent<'_>,
    ) -> Flow {
        let was_empty = self.outbox.is_none();
        for index in from..burst.entries.len() {
            let entry = &mut burst.entries[index];
            if !self.receives() || !entry.is_for(self.id, self.first_frame) {
                // Nothing of it was sent either.
                continue;
            }
            let frame = entry.frame.clone();
            if self.queue(&frame, std::mem::take(&mut sent), lent)? {
                burst.entries[index].delivered += 1;
                continue;
            }
            for rest in &mut burst.entries[index..] {
                rest.dropped += u64::from(rest.is_for(self.id, self.first_frame));
            }
            return self.slow_consumer(lent);
        }
        if was_empty && from == 0 { self.flush(lent) } else { stay() }
    }
}
