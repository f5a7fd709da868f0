//! A run: consecutive frames for everybody on their way through the connections of a shard, with one
//! `send` for each, or one system call for many.

use std::sync::Arc;

use bytes::Bytes;

use crate::gateway::engine::Delivery;
use crate::gateway::hub::fanout::batched;
use crate::gateway::hub::{Job, Slice};
use crate::gateway::io::uring::BATCH;
use crate::gateway::shard::Ctx;
use crate::listener::protocol::connid::ConnId;
use crate::listener::recipients::Recipients;
use crate::listener::report::DeliveryReport;

/// Bytes that a run joins at most; a larger single frame is a run of its own.
const RUN_BYTES: usize = 256 * 1024;

/// Frames that a run joins at most.
const RUN_FRAMES: usize = 256;

/// One frame of a run.
struct Part {
    frame: Bytes,
    seq: u64,
    from: Option<ConnId>,
    /// Who does not get it, sorted.
    but: Option<Arc<[ConnId]>>,
    tally: Option<Arc<DeliveryReport>>,
    /// Deliveries beside those of the whole run.
    delivered: u64,
    dropped: u64,
}

/// Frames for everybody, on their way through the connections.
pub struct Run {
    /// All frames, back to back.
    bytes: Bytes,
    parts: Vec<Part>,
    /// Those who do not get some frame, sorted.
    special: Vec<ConnId>,
    /// The next slot.
    cursor: usize,
    /// Connections that took the run whole.
    whole: u64,
}

impl Slice {
    /// Joins a frame for everybody with those behind it.
    pub(super) fn form_run(&mut self, seq: u64, delivery: Delivery) -> Run {
        let mut parts = Vec::new();
        let mut special: Vec<ConnId> = Vec::new();
        let mut size = 0;
        let mut add = |seq, delivery: Delivery| {
            let but = match delivery.to {
                Recipients::AllBut(but) => {
                    special.extend_from_slice(&but);
                    Some(but)
                }
                _ => None,
            };
            let Delivery { frame, tally, from, .. } = delivery;
            parts.push(Part { frame, seq, from, but, tally, delivered: 0, dropped: 0 });
        };
        size += delivery.frame.len();
        add(seq, delivery);
        let mut count = 1;
        while count < RUN_FRAMES
            && let Some(Job::Frame(_, next)) = self.fanout.jobs.front()
            && !matches!(next.to, Recipients::Only(_))
            && size + next.frame.len() <= RUN_BYTES
        {
            if let Some(Job::Frame(seq, next)) = self.fanout.jobs.pop_front() {
                size += next.frame.len();
                add(seq, next);
                count += 1;
            }
        }
        let bytes = match &parts[..] {
            [part] => part.frame.clone(),
            parts => {
                let mut all = Vec::with_capacity(size);
                parts.iter().for_each(|part| all.extend_from_slice(&part.frame));
                Bytes::from(all)
            }
        };
        special.sort_unstable();
        special.dedup();
        self.fanout.last_run = parts.len();
        Run { bytes, parts, special, cursor: 0, whole: 0 }
    }

    /// Takes a run on through the connections.
    pub(super) fn run(&mut self, mut run: Run, budget: &mut usize, ctx: &mut Ctx) {
        let first = run.parts.first().map_or(0, |p| p.seq);
        let slots = self.conns.capacity();
        let batched = batched(self.conns.len(), &run.bytes, ctx);
        while run.cursor < slots {
            if *budget == 0 {
                self.run_batch(&mut run, ctx);
                self.fanout.run = Some(run);
                return;
            }
            let slot = run.cursor;
            run.cursor += 1;
            let Some(conn) = self.conns.get_mut(slot) else { continue };
            if !conn.receives() {
                continue;
            }
            *budget -= 1;
            let plain = conn.out.is_none()
                && conn.joined <= first
                && (run.special.is_empty() || run.special.binary_search(&conn.id).is_err());
            let slot = slot as u32;
            if !plain {
                self.run_by_parts(slot, &mut run, 0, 0, ctx);
                continue;
            }
            if batched && conn.stream.plain().is_some() {
                self.fanout.batch.push(slot);
                if self.fanout.batch.len() == BATCH {
                    self.run_batch(&mut run, ctx);
                }
                continue;
            }
            match ctx.write(&mut conn.stream, &run.bytes) {
                Ok(n) if n == run.bytes.len() => {
                    conn.last_message = ctx.now;
                    run.whole += 1;
                }
                Ok(n) => self.run_partly(slot, &mut run, n, ctx),
                Err(_) => self.write_failed(slot, ctx),
            }
        }
        self.run_batch(&mut run, ctx);
        let count = run.parts.len();
        let (mut deliveries, mut bytes, mut drops) = (0, 0, 0);
        for part in &run.parts {
            self.through(part.from, part.frame.len(), ctx);
            let delivered = run.whole + part.delivered;
            deliveries += delivered;
            drops += part.dropped;
            bytes += delivered * part.frame.len() as u64;
        }
        let metrics = &self.shared.metrics;
        metrics.messages_out.add(deliveries);
        metrics.bytes_out.add(bytes);
        metrics.deliveries_dropped.add(drops);
        // Whoever is told what became of a push finds it in the counters.
        for part in run.parts {
            if let Some(tally) = part.tally {
                tally.add(run.whole + part.delivered, part.dropped);
                tally.finish();
            }
        }
        self.sent(count, ctx);
    }

    /// Sends a run to the connections of the batch.
    fn run_batch(&mut self, run: &mut Run, ctx: &mut Ctx) {
        for (slot, took) in self.send_batch(&run.bytes, ctx) {
            match took {
                Ok(n) if n == run.bytes.len() => {
                    run.whole += 1;
                    if let Some(conn) = self.conn(slot) {
                        conn.last_message = ctx.now;
                    }
                }
                Ok(n) => self.run_partly(slot, run, n, ctx),
                Err(_) => self.write_failed(slot, ctx),
            }
        }
    }

    /// The socket took `n` bytes of a run: the rest goes to the outbox.
    fn run_partly(&mut self, slot: u32, run: &mut Run, mut n: usize, ctx: &mut Ctx) {
        let mut index = 0;
        while let Some(part) = run.parts.get_mut(index) {
            if n < part.frame.len() {
                break;
            }
            n -= part.frame.len();
            part.delivered += 1;
            index += 1;
        }
        self.run_by_parts(slot, run, index, n, ctx);
    }

    /// Queues the frames of a run from `from` on that are for this connection, `sent` bytes of the
    /// first of them being out already; then writes what the socket takes.
    fn run_by_parts(&mut self, slot: u32, run: &mut Run, from: usize, sent: usize, ctx: &mut Ctx) {
        let was_empty = self.conns.get(slot as usize).is_some_and(|c| c.out.is_none());
        let mut sent = sent;
        for index in from..run.parts.len() {
            let Some(conn) = self.conns.get_mut(slot as usize) else { return };
            let part = &mut run.parts[index];
            let excluded = part.but.as_ref().is_some_and(|b| b.binary_search(&conn.id).is_ok());
            if !conn.receives() || part.seq < conn.joined || excluded {
                // Nothing of it was sent either.
                continue;
            }
            let (id, joined) = (conn.id, conn.joined);
            if self.queue(slot, part.frame.clone(), std::mem::take(&mut sent), ctx) {
                part.delivered += 1;
            } else {
                for rest in &mut run.parts[index..] {
                    let excluded = rest.but.as_ref().is_some_and(|b| b.binary_search(&id).is_ok());
                    rest.dropped += u64::from(rest.seq >= joined && !excluded);
                }
                self.slow_consumer(slot, ctx);
                return;
            }
        }
        if was_empty && from == 0 {
            self.flush_now(slot, ctx);
        }
    }
}
