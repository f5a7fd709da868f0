//! The channels of one gateway over all its shards, and how many members each has.
//!
//! One lock, held for a count. Who puts something into the order of operations because of a count
//! does so while it is held, so that the counts that members see rise and fall one by one. It is
//! taken before the lock on that order, never after.

use std::collections::BTreeMap;
use std::ops::Bound;

use parking_lot::Mutex;

use crate::listener::protocol::channel::Channel;

/// The channels that have members.
#[derive(Debug, Default)]
pub struct Channels {
    all: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    members: BTreeMap<Channel, u64>,
    /// Those among them that are on other nodes of a cluster.
    elsewhere: BTreeMap<Channel, u64>,
    /// Changes so far: each has a number of its own.
    changes: u64,
}

/// A change of a channel's members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    /// Its number among all changes of the gateway.
    pub(crate) number: u64,
    /// How many members there are now.
    pub(crate) members: u64,
}

impl Channels {
    /// Counts a member.
    pub(crate) fn joined(&self, channel: &Channel, then: impl FnOnce(Change)) {
        let mut all = self.all.lock();
        all.changes += 1;
        let number = all.changes;
        let members = match all.members.get_mut(channel) {
            Some(count) => {
                *count += 1;
                *count
            }
            None => {
                all.members.insert(channel.clone(), 1);
                1
            }
        };
        then(Change { number, members });
    }

    /// Counts a member that left.
    pub(crate) fn left(&self, channel: &Channel, then: impl FnOnce(Change)) {
        let mut all = self.all.lock();
        all.changes += 1;
        let number = all.changes;
        let members = all.members.get_mut(channel).map_or(0, |count| {
            *count = count.saturating_sub(1);
            *count
        });
        if members == 0 {
            all.members.remove(channel);
        }
        then(Change { number, members });
    }

    /// Counts a member on another node, or one less.
    pub(crate) fn changed_elsewhere(
        &self,
        channel: &Channel,
        joined: bool,
        then: impl FnOnce(Change),
    ) {
        {
            let elsewhere = &mut self.all.lock().elsewhere;
            let count = elsewhere.entry(channel.clone()).or_default();
            *count = if joined { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                elsewhere.remove(channel);
            }
        }
        if joined { self.joined(channel, then) } else { self.left(channel, then) }
    }

    /// How many channels have members.
    pub fn count(&self) -> usize {
        self.all.lock().members.len()
    }

    /// How many members a channel has.
    pub fn members(&self, channel: &str) -> u64 {
        self.all.lock().members.get(channel).copied().unwrap_or(0)
    }

    /// The channels whose names begin with `prefix`, sorted by name, behind `after`, so many at most.
    /// With `local`, members on other nodes of a cluster do not count.
    pub fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        local: bool,
    ) -> Vec<(Channel, u64)> {
        let counts = self.all.lock();
        let all = &counts.members;
        let counted = |(name, count): (&Channel, &u64)| {
            let elsewhere = match local {
                true => counts.elsewhere.get(name).copied().unwrap_or(0),
                false => 0,
            };
            (name.clone(), count.saturating_sub(elsewhere))
        };
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        all.range::<str, _>((from, Bound::Unbounded))
            .take_while(|(name, _)| name.as_str().starts_with(prefix))
            .map(counted)
            .filter(|(_, count)| *count > 0)
            .take(limit)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_paged_by_name() {
        let channels = Channels::default();
        for name in ["b", "a.1", "a.2", "a.3", "a", "c"] {
            channels.joined(&Channel::parse(name).unwrap(), |_| {});
        }
        let names = |prefix: &str, after: Option<&str>, limit| -> Vec<String> {
            channels
                .list(prefix, after, limit, false)
                .iter()
                .map(|(name, _)| name.to_string())
                .collect()
        };
        assert_eq!(names("", None, 9), ["a", "a.1", "a.2", "a.3", "b", "c"]);
        assert_eq!(names("a.", None, 2), ["a.1", "a.2"]);
        assert_eq!(names("a.", Some("a.2"), 9), ["a.3"]);
        // A name to go on behind may be gone, or lie before the prefix.
        assert_eq!(names("a.", Some("a.10"), 9), ["a.2", "a.3"]);
        assert_eq!(names("a.", Some("A"), 1), ["a.1"]);
        assert_eq!(names("a.", Some("z"), 9), [""; 0]);
        let a = Channel::parse("a").unwrap();
        channels.joined(&a, |change| assert_eq!(change, Change { number: 7, members: 2 }));
        channels.left(&a, |change| assert_eq!(change, Change { number: 8, members: 1 }));
        channels.left(&a, |change| assert_eq!(change, Change { number: 9, members: 0 }));
        assert_eq!((channels.members("a"), channels.count()), (0, 5));
    }
}
