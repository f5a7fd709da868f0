//! When a shard has to look at which connection again: one deadline a connection, rounded up, so
//! that thousands of pings fall into few buckets.

use std::collections::BTreeMap;

use crate::gateway::time::Millis;
use crate::listener::protocol::connid::ConnId;

/// Which connection a timer is about.
#[derive(Debug, Clone, Copy)]
pub struct Due {
    /// The gateway's place; there may be many timers, so they are kept small.
    pub gateway: u32,
    /// The connection's slot.
    pub slot: u32,
    /// The connection; another one in that slot has nothing to do with this timer.
    pub conn: ConnId,
}

/// Timers are set at most so far ahead, and then again: what a connection that has gone leaves
/// behind is gone soon too, however long its time-outs are.
const FARTHEST: u64 = 30_000;

/// The timers of one shard.
#[derive(Debug, Default)]
pub struct Timers {
    buckets: BTreeMap<Millis, Vec<Due>>,
}

impl Timers {
    /// Sets a timer; returns the time at which it will go off, which may be too early. Nothing is ever taken out: a timer
    /// whose connection no longer waits for that very time is ignored by its owner.
    pub fn set(&mut self, at: Millis, now: Millis, due: Due) -> Millis {
        let at = at.min(now.after(FARTHEST));
        let grain = if at.since(now) > 2_000 { 100 } else { 10 };
        let at = Millis::new(at.get().div_ceil(grain) * grain);
        self.buckets.entry(at).or_default().push(due);
        at
    }

    /// The time of the next one.
    pub fn next(&self) -> Option<Millis> {
        self.buckets.first_key_value().map(|(at, _)| *at)
    }

    /// The next bucket that is due.
    pub fn pop(&mut self, now: Millis) -> Option<(Millis, Vec<Due>)> {
        if self.next()? > now {
            return None;
        }
        self.buckets.pop_first()
    }
}
