//! Connections whose handshakes were accepted and that were not reported as open yet.
//!
//! The listener knows such a connection and may change its channels. The shard carries the change out
//! behind the opening, and the exchange takes the channels over when the connection is reported.

use std::collections::{BTreeMap, HashMap};

use crate::listener::protocol::channel::ChannelSet;
use crate::listener::protocol::connid::ConnId;

/// How many are kept. A connection that was accepted may never open: its client has gone, or a limit
/// was reached. Nobody reports that, so the oldest are forgotten.
const ACCEPTED_MAX: usize = 4096;

struct Entry {
    /// Its key in [`Accepted::by_age`].
    age: u64,
    /// The channels that it will be in when it is reported as open.
    channels: ChannelSet,
    /// Whether a line may have changed them since the acceptance.
    changed: bool,
}

#[derive(Default)]
pub(super) struct Accepted {
    by_conn: HashMap<ConnId, Entry>,
    by_age: BTreeMap<u64, ConnId>,
    next_age: u64,
}

impl Accepted {
    /// Adds a connection with its first channels.
    pub(super) fn add(&mut self, conn: ConnId, channels: ChannelSet) {
        let age = self.next_age;
        self.next_age += 1;
        let entry = Entry { age, channels, changed: false };
        if let Some(old) = self.by_conn.insert(conn, entry) {
            self.by_age.remove(&old.age);
        }
        self.by_age.insert(age, conn);
        if self.by_age.len() > ACCEPTED_MAX
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.by_conn.remove(&oldest);
        }
    }

    /// The channels of a connection, for a change.
    pub(super) fn channels(&mut self, conn: ConnId) -> Option<&mut ChannelSet> {
        let entry = self.by_conn.get_mut(&conn)?;
        entry.changed = true;
        Some(&mut entry.channels)
    }

    /// Removes a connection that was reported as open. Returns its channels if they may have changed
    /// since the acceptance.
    pub(super) fn opened(&mut self, conn: ConnId) -> Option<ChannelSet> {
        let entry = self.by_conn.remove(&conn)?;
        self.by_age.remove(&entry.age);
        entry.changed.then_some(entry.channels)
    }

    pub(super) fn clear(&mut self) {
        self.by_conn.clear();
        self.by_age.clear();
    }

    /// Gives back memory that more than `room` connections would need.
    pub(super) fn shrink(&mut self, room: usize) {
        self.by_conn.shrink_to(room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_never_open_are_bounded() {
        let mut accepted = Accepted::default();
        let last = 2 * ACCEPTED_MAX as u64;
        // The first one has the highest number: the time of the acceptance counts.
        for conn in (0..=last).rev() {
            accepted.add(ConnId(conn), ChannelSet::default());
        }
        assert_eq!((accepted.by_conn.len(), accepted.by_age.len()), (ACCEPTED_MAX, ACCEPTED_MAX));
        assert!(accepted.channels(ConnId(last)).is_none());
        assert!(accepted.channels(ConnId(0)).is_some());
        for conn in 0..=last {
            accepted.opened(ConnId(conn));
        }
        assert!(accepted.by_conn.is_empty() && accepted.by_age.is_empty());
    }
}
