//! Clients that have more than half of `max-queue` waiting and still take bytes: producers are not
//! read meanwhile, so that whoever goes on reading loses nothing of a long stream.
//!
//! A client holds producers up for `producer-wait` in all, until it is back under half; and only
//! while its kernel acknowledges bytes, so that one that has stopped reading holds nobody up for
//! long.

use std::time::Duration;

use crate::gateway::context::Context;
use crate::gateway::hub::Hub;
use crate::gateway::hub::connection::Connection;
use crate::gateway::io::send_queue;
use crate::gateway::time::Millis;
use crate::listener::protocol::connid::ConnId;

/// How long a client that acknowledges no byte still counts as taking, in milliseconds. A client
/// with a large receive buffer opens its window again only when a good part of it is free: one that
/// takes 200 KiB/s is silent for a second at times.
const TAKING: u64 = 2_000;

/// How often a slow reader is looked at: one that takes nothing more makes no event.
const LOOK: Duration = Duration::from_millis(25);

/// The slow readers of one gateway on one shard.
#[derive(Default)]
pub(crate) struct SlowReaders {
    all: Vec<SlowReader>,
    next_look: Option<Millis>,
    /// Whether one of them was found to hold producers up.
    holds: bool,
}

struct SlowReader {
    slot: u32,
    id: ConnId,
    /// Since when: one that was back under half meanwhile has another entry.
    since: Millis,
    /// Bytes that its kernel had not acknowledged at the last look.
    unacknowledged: usize,
    /// When that became less.
    progress_at: Millis,
}

impl SlowReaders {
    /// A client has more than half of its queue waiting from now on.
    pub(super) fn add(&mut self, slot: u32, id: ConnId, now: Millis) {
        self.all.push(SlowReader {
            slot,
            id,
            since: now,
            unacknowledged: usize::MAX,
            progress_at: now,
        });
        self.holds = true;
    }

    /// How long the shard may sleep before they are looked at again.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.holds.then_some(LOOK)
    }
}

impl SlowReader {
    /// Whether it holds producers up.
    fn holds(&mut self, conn: &Connection, producer_wait: u64, now: Millis) -> bool {
        if now >= self.since.after(producer_wait) {
            return false;
        }
        let waiting = send_queue::unacknowledged(conn.stream.socket());
        if waiting < self.unacknowledged {
            self.progress_at = now;
        }
        self.unacknowledged = waiting;
        if let Some(drained) = conn.last_drained_at {
            self.progress_at = self.progress_at.max(drained);
        }
        now < self.progress_at.after(TAKING)
    }
}

impl Hub {
    /// Publishes whether a slow reader holds producers up.
    pub(super) fn note_slow_readers(&mut self, ctx: &Context) {
        let now = ctx.now;
        let Hub { slow_readers, conns, settings, .. } = self;
        if slow_readers.all.is_empty() && !slow_readers.holds {
            return;
        }
        // Those that are back under half, or gone, hold nobody up any more.
        slow_readers.all.retain(|slow| {
            let conn = conns.get(slow.slot).filter(|conn| conn.id == slow.id);
            conn.is_some_and(|conn| conn.over_half_since == Some(slow.since))
        });
        let due = slow_readers.next_look.is_none_or(|at| at <= now);
        if !due && !slow_readers.all.is_empty() {
            return;
        }
        let wait = settings.producer_wait.as_millis() as u64;
        let mut holds = false;
        for slow in &mut slow_readers.all {
            if let Some(conn) = conns.get(slow.slot) {
                holds |= slow.holds(conn, wait, now);
            }
        }
        slow_readers.holds = holds;
        slow_readers.next_look = Some(now.after(LOOK.as_millis() as u64));
        self.shared.pressure.set_slow_reader(ctx.index, holds);
    }
}
