//! Operations on the connections of a shard, in order; above all messages to clients: encoded once,
//! sent to each socket directly. What a socket does not take goes to its connection's outbox.
//! Nobody waits for anybody.
//!
//! Consecutive messages for everybody become one [burst](super::burst), which costs each connection
//! one `send`: that is what makes them cheap. Whatever is long yields to the event loop now and
//! then, and goes on in the next turn.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::gateway::context::Context;
use crate::gateway::hub::burst::Burst;
use crate::gateway::hub::closing::Ending;
use crate::gateway::hub::connection::Connection;
use crate::gateway::hub::flow::{Removal, stay};
use crate::gateway::hub::polls::Wakes;
use crate::gateway::hub::{Hub, Lent};
use crate::gateway::io::uring::{BATCH, Target};
use crate::gateway::shared::Shared;
use crate::gateway::time::Millis;
use crate::listener::op::{Delivery, Op};
use crate::listener::protocol::connid::ConnId;
use crate::listener::recipients::Recipients;
use crate::text::position::Position;
use crate::ws::close::Closing;

/// Connections from which on a burst is worth waiting for: it takes a millisecond and more.
const WORTH_LINGERING: usize = 256;

/// How long a burst is put off for messages that are nearly there, for each connection that it goes
/// to: a fiftieth of what it takes.
const LINGER: Duration = Duration::from_nanos(60);

/// The same, at most.
const LINGER_MAX: Duration = Duration::from_millis(1);

/// What a shard still has to do for a gateway's connections, in order.
#[derive(Default)]
pub(crate) struct Fanout {
    /// Each with the number of the first message that is not in front of it.
    ops: VecDeque<(u64, Op)>,
    next_frame: u64,
    /// What was begun.
    work: Option<Work>,
    /// Connections that are cut, whatever else is to be done.
    cutting: VecDeque<(u32, ConnId)>,
    /// Connections whose outbox has to be flushed at the end of the turn.
    pub(super) dirty: Vec<(u32, ConnId)>,
    /// Until when a burst is put off.
    linger_until: Option<Instant>,
    /// Messages of the last burst.
    last_burst: usize,
    /// Sockets that the bytes at hand go to with one system call, and what came of it.
    batch: Vec<Target>,
    results: Vec<(u32, i32)>,
    last_broadcast: Millis,
    /// The position of the newest kept message among the operations that came so far.
    newest: Option<Position>,
    /// Whom kept messages went to, for polls.
    wakes: Wakes,
}

/// What was begun and goes on in the next turn.
enum Work {
    Burst(Burst),
    CloseAll(Closing, VecDeque<(u32, ConnId)>),
}

impl Fanout {
    /// Appends an operation, which has its place in the gateway's order.
    pub(super) fn push(&mut self, mut op: Op) {
        let number = self.next_frame;
        match &mut op {
            Op::Deliver(Delivery { at: Some(at), to, .. }) => {
                self.newest = Some(*at);
                self.wakes.note(to);
            }
            Op::Membership(change) => change.newest = self.newest,
            _ => {}
        }
        self.next_frame += u64::from(matches!(op, Op::Deliver(_)));
        self.ops.push_back((number, op));
    }

    /// Hands an operation to all shards concerned; with one shard there is no way round through
    /// inboxes.
    pub(super) fn submit(&mut self, op: Op, shared: &Arc<Shared>, ctx: &Context) {
        if ctx.core.shards() > 1 {
            return ctx.core.submit(shared, op);
        }
        if let Op::Deliver(delivery) = &op {
            if ctx.core.shards_of(delivery).is_empty() {
                return;
            }
            shared.pressure.frames_added(1);
        }
        if let Some(op) = ctx.core.put_in_order(shared, op) {
            self.push(op);
        }
    }

    /// The position of the newest kept message in front of what is pushed from now on.
    pub(super) fn newest(&self) -> Option<Position> {
        self.newest
    }

    /// The gateway's history begins, or ends.
    pub(super) fn set_newest(&mut self, newest: Option<Position>) {
        // With one shard this may come behind messages that were numbered after it.
        self.newest = match (self.newest, newest) {
            (Some(old), Some(new)) if old.epoch == new.epoch => Some(old.max(new)),
            _ => newest,
        };
        self.wakes.note_all();
    }

    /// Whom kept messages went to.
    pub(super) fn wakes(&mut self) -> &mut Wakes {
        &mut self.wakes
    }

    /// Cuts these connections, in front of everything else.
    pub(super) fn cut(&mut self, conns: Vec<(u32, ConnId)>) {
        self.cutting.extend(conns);
    }

    /// The number of the next message: a connection that joins now gets it and those after it.
    pub(super) fn next_frame(&self) -> u64 {
        self.next_frame
    }

    /// Whether nothing is to be done.
    pub(super) fn is_idle(&self) -> bool {
        self.ops.is_empty() && self.work.is_none() && self.cutting.is_empty()
    }

    /// When a message last went to all connections alike.
    pub(super) fn last_broadcast(&self) -> Millis {
        self.last_broadcast
    }

    /// The same, now.
    pub(super) fn note_broadcast(&mut self, now: Millis) {
        self.last_broadcast = now;
    }

    /// The next operation, if it is a message that joins a burst for these recipients.
    pub(super) fn next_alike(&mut self, to: &Recipients, room: usize) -> Option<(u64, Delivery)> {
        let Some((_, Op::Deliver(next))) = self.ops.front() else { return None };
        let alike = match (&next.to, to) {
            (Recipients::Members(next), Recipients::Members(to)) => next == to,
            (Recipients::Members(_) | Recipients::Only(_), _) | (_, Recipients::Members(_)) => {
                false
            }
            _ => true,
        };
        if !alike || next.payload.cost() > room {
            return None;
        }
        match self.ops.pop_front() {
            Some((number, Op::Deliver(delivery))) => Some((number, delivery)),
            _ => None,
        }
    }

    /// Whether the next operation is a message for exactly these: both go with one write then.
    pub(super) fn more_for(&self, to: &[ConnId]) -> bool {
        matches!(
            self.ops.front(),
            Some((_, Op::Deliver(Delivery { to: Recipients::Only(next), .. }))) if **next == *to
        )
    }

    /// A socket gets the bytes at hand with the others of the batch; true if the batch is full.
    pub(super) fn batch(&mut self, target: Target) -> bool {
        self.batch.push(target);
        self.batch.len() == BATCH
    }

    /// Puts a burst aside that goes on in the next turn.
    pub(super) fn put_off(&mut self, burst: Burst) {
        self.last_burst = burst.messages();
        self.work = Some(Work::Burst(burst));
    }
}

impl Hub {
    /// Does what is to be done in order; `budget` bounds the sends of this turn. True if more
    /// remains.
    pub(super) fn fan_out(&mut self, budget: &mut usize, ctx: &mut Context) -> bool {
        while *budget > 0 {
            if let Some(conn) = self.fanout.cutting.pop_front() {
                *budget -= 1;
                self.with_conn(conn, ctx, Connection::cut);
                continue;
            }
            match self.fanout.work.take() {
                Some(Work::Burst(burst)) => {
                    self.run_burst(burst, budget, ctx);
                    continue;
                }
                Some(Work::CloseAll(closing, mut left)) => {
                    if let Some(conn) = left.pop_front() {
                        *budget -= 1;
                        self.fanout.work = Some(Work::CloseAll(closing, left));
                        self.with_conn(conn, ctx, |conn, lent| {
                            conn.close_now(closing, Ending::SHORT, lent)
                        });
                    }
                    continue;
                }
                None => {}
            }
            let Some((number, op)) = self.fanout.ops.pop_front() else { break };
            *budget -= 1;
            match op {
                Op::Deliver(delivery) => match &delivery.to {
                    Recipients::Only(to) => {
                        *budget = budget.saturating_sub(to.len());
                        self.send_to(to, &delivery, ctx);
                        self.release_sender(&delivery, ctx);
                        self.frames_sent(1, ctx);
                    }
                    Recipients::All | Recipients::AllBut(_) | Recipients::Members(_) => {
                        self.flush_dirty(ctx);
                        let burst = self.form_burst(number, delivery, ctx);
                        self.fanout.put_off(burst);
                    }
                },
                Op::Close { conn, code, reason, reply } => {
                    self.close_asked(conn, (code, &reason), reply, ctx);
                }
                Op::Finish { conn } => self.with_id(conn, ctx, Connection::finish),
                Op::Membership(change) => self.change_membership(*change, ctx),
                Op::Presence(presence) => {
                    *budget = budget.saturating_sub(self.rooms.members(&presence.channel).len());
                    self.tell_presence(&presence, ctx);
                }
                Op::Members(report) => self.add_members(&report),
                Op::CloseAll { closing } => {
                    let all = self.conns.all().into();
                    self.fanout.work = Some(Work::CloseAll(closing, all));
                }
                Op::CloseShare { closing, parts } => self.close_share(closing, parts, ctx),
            }
        }
        self.flush_dirty(ctx);
        !self.fanout.is_idle()
    }

    /// Whether a long burst is better put off: messages that are nearly there would join it, and
    /// cost next to nothing then. So it is where messages come in bursts, or the listener owes
    /// answers.
    pub(super) fn lingers(&mut self, ctx: &Context) -> bool {
        let (conns, rooms) = (&self.conns, &self.rooms);
        let recipients = |op: &(u64, Op)| match op {
            (_, Op::Deliver(delivery)) => match &delivery.to {
                Recipients::All | Recipients::AllBut(_) => conns.len(),
                Recipients::Members(target) => {
                    target.channels.iter().map(|channel| rooms.members(channel).len()).sum()
                }
                Recipients::Only(_) => 0,
            },
            _ => 0,
        };
        let fanout = &mut self.fanout;
        let recipients = match conns.len() >= WORTH_LINGERING && fanout.work.is_none() {
            true => fanout.ops.front().map_or(0, recipients),
            false => 0,
        };
        let starts = recipients >= WORTH_LINGERING;
        let asked = starts && self.primary.as_ref().is_some_and(|primary| primary.is_owed());
        let burst = fanout.ops.len() > 1 || fanout.last_burst > 1;
        if !starts || !(asked || burst) {
            fanout.linger_until = None;
            return false;
        }
        // A connection's share times their number is far below the overflow, and bounded besides.
        let wait = (LINGER * recipients as u32).min(LINGER_MAX);
        let until = *fanout.linger_until.get_or_insert(ctx.instant + wait);
        if ctx.instant >= until {
            fanout.linger_until = None;
            return false;
        }
        if asked {
            // On a single CPU the listener runs only when we do not.
            std::thread::yield_now();
        }
        true
    }

    /// Sends `bytes` to each socket of the batch with one system call, and has each connection see
    /// what its socket took, which may be nothing, or its end.
    pub(super) fn send_batch(
        &mut self,
        bytes: &[u8],
        ctx: &mut Context,
        mut each: impl FnMut(&mut Hub, u32, Result<usize, ()>, &mut Context),
    ) {
        let mut batch = std::mem::take(&mut self.fanout.batch);
        let mut results = std::mem::take(&mut self.fanout.results);
        if let Some(ring) = ctx.ring.as_mut().filter(|_| !batch.is_empty()) {
            ring.send(bytes, &batch, &mut results);
        }
        for (slot, result) in results.drain(..) {
            let took = match usize::try_from(result) {
                Ok(n) => Ok(n),
                Err(_) if result == -libc::EAGAIN => Ok(0),
                Err(_) => Err(()),
            };
            each(self, slot, took, ctx);
        }
        batch.clear();
        self.fanout.batch = batch;
        self.fanout.results = results;
    }

    fn flush_dirty(&mut self, ctx: &mut Context) {
        let mut dirty = std::mem::take(&mut self.fanout.dirty);
        for conn in dirty.drain(..) {
            self.with_conn(conn, ctx, Connection::flush);
        }
        self.fanout.dirty = dirty;
    }

    /// A message that no listener was asked about is sent: its sender may be read on.
    pub(super) fn release_sender(&mut self, delivery: &Delivery, ctx: &mut Context) {
        self.release(delivery.from, delivery.payload.cost(), ctx);
    }

    /// The same, for a message that is known by its sender and size.
    pub(super) fn release(&mut self, from: Option<ConnId>, bytes: usize, ctx: &mut Context) {
        let Some(from) = from.filter(|from| ctx.core.shard_of(*from) == ctx.index) else { return };
        self.with_id(from, ctx, |conn, lent| {
            conn.unanswered_bytes = conn.unanswered_bytes.saturating_sub(bytes);
            conn.enter_resume_queue(lent);
            stay()
        });
    }

    /// Messages are out: clients that wait for that may be read again.
    pub(super) fn frames_sent(&self, frames: usize, ctx: &Context) {
        self.shared.pressure.frames_done(frames);
        self.open_gate(ctx);
    }
}

impl Connection {
    /// Puts a frame into the outbox, `sent` bytes of which are out; false if there is no room.
    pub(super) fn queue(
        &mut self,
        frame: &Bytes,
        sent: usize,
        lent: &mut Lent<'_>,
    ) -> ControlFlow<Removal, bool> {
        let max = lent.settings.max_queue;
        self.last_message = lent.ctx.now;
        let outbox = self.outbox.get_or_insert_with(|| lent.ctx.spare());
        if sent > 0 {
            outbox.push_always(frame.clone(), sent);
        } else if !outbox.push(frame.clone(), 0, max) {
            // The socket may have room by now.
            if self.drain_outbox(lent.ctx).is_err() {
                self.write_failed(lent)?;
                return ControlFlow::Continue(true);
            }
            let outbox = self.outbox.get_or_insert_with(|| lent.ctx.spare());
            if !outbox.push(frame.clone(), 0, max) {
                return ControlFlow::Continue(false);
            }
        }
        if self.over_half_since.is_none() && self.queue_cost() > max / 2 {
            self.over_half_since = Some(lent.ctx.now);
            lent.slow_readers.add(lent.slot, self.id, lent.ctx.now);
            // A producer has to see it before it sees that this frame is through.
            lent.shared.pressure.set_slow_reader(lent.ctx.index, true);
        }
        ControlFlow::Continue(true)
    }
}
