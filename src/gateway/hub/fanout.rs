//! Frames to clients: encoded once, sent to each socket directly; what a socket does not take goes
//! to its connection's outbox. Nobody waits for anybody.
//!
//! Consecutive frames for everybody become one [run](crate::gateway::hub::burst), which costs each connection one
//! `send`: that is what makes a burst cheap. A long run yields to the event loop now and then.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::gateway::engine::{Delivery, Msg};
use crate::gateway::hub::burst::Run;
use crate::gateway::hub::{Job, Slice};
use crate::gateway::io::uring::{BATCH, LARGEST};
use crate::gateway::shard::Ctx;
use crate::listener::protocol::connid::ConnId;
use crate::listener::recipients::Recipients;
use crate::listener::report::DeliveryReport;

/// What a shard still has to send for a gateway, in order.
#[derive(Default)]
pub struct Fanout {
    /// Frames and closes.
    pub jobs: VecDeque<Job>,
    seq: u64,
    pub(super) run: Option<Run>,
    /// Connections whose outbox has to be flushed at the end of the turn.
    dirty: Vec<u32>,
    /// Until when a run is put off.
    linger_until: Option<Instant>,
    /// Frames of the last run.
    pub(super) last_run: usize,
    /// Connections that the frame at hand goes to with one system call.
    pub(super) batch: Vec<u32>,
}

impl Fanout {
    /// Appends a frame.
    pub fn push_frame(&mut self, delivery: Delivery) {
        self.jobs.push_back(Job::Frame(self.seq, delivery));
        self.seq += 1;
    }

    /// The number of the next frame: a connection that joins now gets it and those after it.
    pub fn next_seq(&self) -> u64 {
        self.seq
    }

    /// Whether nothing is to be sent.
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.run.is_none()
    }
}

/// Connections from which on a run is worth waiting for: it takes a millisecond and more.
const WORTH_LINGERING: usize = 256;

/// How long a run is put off for frames that are nearly there, for each connection that it goes
/// to: a fiftieth of what it takes.
const LINGER: Duration = Duration::from_nanos(60);

/// The same, at most.
const LINGER_MAX: Duration = Duration::from_millis(1);

/// Recipients from which on one system call for all of them is worth it.
const WORTH_A_RING: usize = 8;

/// What became of a frame for some connections.
#[derive(Default)]
struct Counts {
    delivered: u64,
    dropped: u64,
}

impl Slice {
    /// Sends what is to be sent; `budget` bounds the sends of this turn. True if more remains.
    pub fn fan_out(&mut self, budget: &mut usize, ctx: &mut Ctx) -> bool {
        while *budget > 0 {
            if let Some(run) = self.fanout.run.take() {
                self.run(run, budget, ctx);
                continue;
            }
            let Some(job) = self.fanout.jobs.pop_front() else { break };
            match job {
                Job::Frame(seq, delivery) => match delivery.to {
                    Recipients::Only(to) => {
                        *budget = budget.saturating_sub(to.len());
                        self.only(&to, &delivery.frame, delivery.tally, ctx);
                        self.through(delivery.from, delivery.frame.len(), ctx);
                        self.sent(1, ctx);
                    }
                    _ => {
                        self.flush_dirty(ctx);
                        let run = self.form_run(seq, delivery);
                        self.fanout.run = Some(run);
                    }
                },
                Job::Close(conn, code, reason, reply) => {
                    self.close_asked(conn, (code, &reason), reply, ctx);
                }
                Job::Finish(conn) => self.finish(conn, ctx),
                Job::CloseAll(code, reason) => self.close_all((code, reason), ctx),
                Job::CloseShare(closing, parts) => self.close_share(closing, parts, ctx),
            }
        }
        self.flush_dirty(ctx);
        !self.fanout.is_idle()
    }

    /// Whether something is to be sent.
    pub fn fans_out(&self) -> bool {
        !self.fanout.is_idle()
    }

    /// Whether a long run is better put off: frames that are nearly there would join it, and cost
    /// next to nothing then. So it is where frames come in bursts, or the listener owes answers.
    pub fn lingers(&mut self, ctx: &Ctx) -> bool {
        let starts = self.fanout.run.is_none()
            && self.conns.len() >= WORTH_LINGERING
            && matches!(
                self.fanout.jobs.front(),
                Some(Job::Frame(_, Delivery { to: Recipients::All | Recipients::AllBut(_), .. }))
            );
        let asked = starts && self.listener_owes();
        let burst = self.fanout.jobs.len() > 1 || self.fanout.last_run > 1;
        if !starts || !(asked || burst) {
            self.fanout.linger_until = None;
            return false;
        }
        // A connection's share times their number is far below the overflow, and bounded besides.
        let wait = (LINGER * self.conns.len() as u32).min(LINGER_MAX);
        let until = *self.fanout.linger_until.get_or_insert(ctx.instant + wait);
        if ctx.instant >= until {
            self.fanout.linger_until = None;
            return false;
        }
        if asked {
            // On a single CPU the listener runs only when we do not.
            std::thread::yield_now();
        }
        true
    }

    /// Sends `bytes` to each connection of the batch, and empties it: what each socket took, which
    /// may be nothing, or the connection's end.
    pub(super) fn send_batch(
        &mut self,
        bytes: &[u8],
        ctx: &mut Ctx,
    ) -> Vec<(u32, io::Result<usize>)> {
        if self.fanout.batch.is_empty() {
            return Vec::new();
        }
        let mut batch = std::mem::take(&mut self.fanout.batch);
        let Some(ring) = &mut ctx.ring else { return Vec::new() };
        let sockets: Vec<_> = batch
            .iter()
            .filter_map(|slot| self.conns.get(*slot as usize)?.stream.plain())
            .collect();
        debug_assert_eq!(sockets.len(), batch.len(), "nothing leaves between the choice and here");
        let results = batch
            .drain(..)
            .zip(ring.send(bytes, &sockets))
            .map(|(slot, result)| match usize::try_from(*result) {
                Ok(n) => (slot, Ok(n)),
                Err(_) if *result == -libc::EAGAIN => (slot, Ok(0)),
                Err(_) => (slot, Err(io::Error::from_raw_os_error(-result))),
            })
            .collect();
        self.fanout.batch = batch;
        results
    }

    /// Puts a frame into a connection's outbox; false if there is no room.
    pub(super) fn queue(&mut self, slot: u32, frame: Bytes, sent: usize, ctx: &mut Ctx) -> bool {
        let max = self.settings.max_queue;
        let Some(conn) = self.conns.get_mut(slot as usize) else { return true };
        conn.last_message = ctx.now;
        if conn.out.is_none() {
            conn.out = Some(ctx.spare());
        }
        let Some(out) = &mut conn.out else { return true };
        if sent > 0 {
            out.push_always(frame, sent);
        } else if !out.push(frame.clone(), 0, max) {
            // The socket may have room by now.
            if crate::gateway::hub::flush(conn, ctx).is_err() {
                self.write_failed(slot, ctx);
                return true;
            }
            let out = conn.out.get_or_insert_with(|| ctx.spare());
            if !out.push(frame, 0, max) {
                return false;
            }
        }
        if conn.over_since == 0 && conn.queue_cost() > max / 2 {
            conn.over_since = ctx.now.max(1);
            let entry = (slot, conn.id);
            self.over.push(entry);
            // A producer has to see it before it sees that this frame is through.
            self.shared.pressure.set_slow_reader(ctx.index, true);
        }
        true
    }

    pub(super) fn flush_now(&mut self, slot: u32, ctx: &mut Ctx) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        match crate::gateway::hub::flush(conn, ctx) {
            Ok(()) => self.flushed(slot, ctx),
            Err(_) => self.write_failed(slot, ctx),
        }
    }

    fn flush_dirty(&mut self, ctx: &mut Ctx) {
        if self.fanout.dirty.is_empty() {
            return;
        }
        let mut dirty = std::mem::take(&mut self.fanout.dirty);
        for slot in dirty.drain(..) {
            self.flush_now(slot, ctx);
        }
        self.fanout.dirty = dirty;
    }

    /// A frame for some connections.
    fn only(
        &mut self,
        to: &[ConnId],
        frame: &Bytes,
        tally: Option<Arc<DeliveryReport>>,
        ctx: &mut Ctx,
    ) {
        // More for the same one at once: both go with one write.
        let more = matches!(
            self.fanout.jobs.front(),
            Some(Job::Frame(_, Delivery { to: Recipients::Only(next), .. })) if **next == *to
        );
        let mut counts = Counts::default();
        let batched = !more && batched(to.len(), frame, ctx);
        for &id in to {
            if ctx.core.shard_of(id) != ctx.index {
                continue;
            }
            let slot = self.slot(id);
            let conn = slot.and_then(|slot| self.conns.get_mut(slot as usize));
            let (Some(slot), Some(conn)) = (slot, conn.filter(|c| c.receives())) else {
                self.shared.metrics.listener.gone.inc();
                if let Some(tally) = &tally {
                    tally.gone(id);
                }
                continue;
            };
            let mut sent = 0;
            if !more && conn.out.is_none() {
                if batched && conn.stream.plain().is_some() {
                    self.fanout.batch.push(slot);
                    if self.fanout.batch.len() == BATCH {
                        self.only_batch(frame, &mut counts, ctx);
                    }
                    continue;
                }
                match ctx.write(&mut conn.stream, frame) {
                    Ok(n) => sent = n,
                    Err(_) => {
                        self.write_failed(slot, ctx);
                        continue;
                    }
                }
            }
            let dirty = more && conn.out.is_none();
            self.only_rest(slot, frame, sent, &mut counts, ctx);
            if dirty {
                self.fanout.dirty.push(slot);
            }
        }
        self.only_batch(frame, &mut counts, ctx);
        let Counts { delivered, dropped } = counts;
        let metrics = &self.shared.metrics;
        metrics.messages_out.add(delivered);
        metrics.bytes_out.add(delivered * frame.len() as u64);
        metrics.deliveries_dropped.add(dropped);
        if let Some(tally) = tally {
            tally.add(delivered, dropped);
            tally.finish();
        }
    }

    /// Sends a frame for some connections to those of the batch.
    fn only_batch(&mut self, frame: &Bytes, counts: &mut Counts, ctx: &mut Ctx) {
        for (slot, took) in self.send_batch(frame, ctx) {
            match took {
                Ok(n) => self.only_rest(slot, frame, n, counts, ctx),
                Err(_) => self.write_failed(slot, ctx),
            }
        }
    }

    /// A socket took `sent` bytes of a frame: the rest, if any, goes to the outbox.
    fn only_rest(
        &mut self,
        slot: u32,
        frame: &Bytes,
        sent: usize,
        counts: &mut Counts,
        ctx: &mut Ctx,
    ) {
        if sent == frame.len() {
            if let Some(conn) = self.conn(slot) {
                conn.last_message = ctx.now;
            }
            counts.delivered += 1;
        } else if self.queue(slot, frame.clone(), sent, ctx) {
            counts.delivered += 1;
        } else {
            counts.dropped += 1;
            self.slow_consumer(slot, ctx);
        }
    }

    /// A message that no listener was asked about is sent: its sender may be read on.
    pub(super) fn through(&mut self, from: Option<ConnId>, bytes: usize, ctx: &Ctx) {
        let Some(from) = from.filter(|from| ctx.core.shard_of(*from) == ctx.index) else { return };
        let Some(slot) = self.slot(from) else { return };
        if let Some(conn) = self.conn(slot) {
            conn.unanswered_bytes = conn.unanswered_bytes.saturating_sub(bytes);
        }
        self.wake_reader(slot);
    }

    /// Frames are out: clients that wait for that may be read again.
    pub(super) fn sent(&self, frames: usize, ctx: &Ctx) {
        self.shared.pressure.frames_done(frames);
        self.open_gate(ctx);
    }

    /// Wakes the shards whose clients wait for pressure to fall, if it did.
    pub fn open_gate(&self, ctx: &Ctx) {
        let shared = &self.shared;
        if shared.pressure.wake_waiters(self.gate()) {
            for shard in (0..ctx.core.shards()).filter(|s| *s != ctx.index) {
                ctx.core.post(shard, Msg::Resume(shared.slot));
            }
        }
    }
}

/// Whether so many bytes go to so many connections with one system call for many.
pub(super) fn batched(connections: usize, bytes: &[u8], ctx: &Ctx) -> bool {
    connections >= WORTH_A_RING && bytes.len() <= LARGEST && ctx.ring.is_some()
}
