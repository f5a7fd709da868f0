//! The times at which a shard has to look at its connections again. Times are rounded up, so that
//! thousands of pings share a few buckets. The connection's own deadlines decide what is done then.

use std::collections::BTreeMap;

use crate::gateway::time::Millis;
use crate::listener::protocol::connid::ConnId;

/// Which connection a timer is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    /// The gateway's slot. It is a small number because there may be many timers.
    pub(crate) gateway: u32,
    /// The connection's slot.
    pub(crate) slot: u32,
    /// The connection, because another one may have taken its slot meanwhile.
    pub(crate) conn: ConnId,
}

/// The farthest time ahead for which a timer is set, in milliseconds. A later deadline needs several
/// timers one after the other. So the timer of a connection that has gone is soon gone too, however
/// long that connection's time-outs are.
const FARTHEST: u64 = 30_000;

/// The timers of one shard.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    buckets: BTreeMap<Millis, Vec<Due>>,
}

impl Timers {
    /// Sets a timer. Returns the time at which it will go off, which may be earlier than `at`. A timer
    /// cannot be removed: when it goes off, its owner ignores it unless the connection waits for exactly
    /// that time.
    pub(crate) fn set(&mut self, at: Millis, now: Millis, due: Due) -> Millis {
        let at = at.min(now.after(FARTHEST));
        let grain = if at.since(now) > 2_000 { 100 } else { 10 };
        let at = Millis::new(at.get().div_ceil(grain) * grain);
        self.buckets.entry(at).or_default().push(due);
        at
    }

    /// The time of the next timer.
    pub(crate) fn next(&self) -> Option<Millis> {
        self.buckets.first_key_value().map(|(at, _)| *at)
    }

    /// Takes out the next bucket that is due: its time and its timers.
    pub(crate) fn pop(&mut self, now: Millis) -> Option<(Millis, Vec<Due>)> {
        if self.next()? > now {
            return None;
        }
        self.buckets.pop_first()
    }
}
