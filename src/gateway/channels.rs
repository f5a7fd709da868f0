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
    members: Mutex<BTreeMap<Channel, u64>>,
}

impl Channels {
    /// Counts a member; `then` gets how many there are now.
    pub(crate) fn joined(&self, channel: &Channel, then: impl FnOnce(u64)) -> u64 {
        let mut all = self.members.lock();
        let count = match all.get_mut(channel) {
            Some(count) => {
                *count += 1;
                *count
            }
            None => {
                all.insert(channel.clone(), 1);
                1
            }
        };
        then(count);
        count
    }

    /// Counts a member that left; `then` gets how many there are now.
    pub(crate) fn left(&self, channel: &Channel, then: impl FnOnce(u64)) -> u64 {
        let mut all = self.members.lock();
        let count = all.get_mut(channel).map_or(0, |count| {
            *count = count.saturating_sub(1);
            *count
        });
        if count == 0 {
            all.remove(channel);
        }
        then(count);
        count
    }

    /// How many channels have members.
    pub fn count(&self) -> usize {
        self.members.lock().len()
    }

    /// How many members a channel has.
    pub fn members(&self, channel: &str) -> u64 {
        self.members.lock().get(channel).copied().unwrap_or(0)
    }

    /// The channels whose names begin with `prefix`, sorted by name, behind `after`, so many at most.
    pub fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(Channel, u64)> {
        let all = self.members.lock();
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        all.range::<str, _>((from, Bound::Unbounded))
            .take_while(|(name, _)| name.as_str().starts_with(prefix))
            .take(limit)
            .map(|(name, count)| (name.clone(), *count))
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
            channels.list(prefix, after, limit).iter().map(|(name, _)| name.to_string()).collect()
        };
        assert_eq!(names("", None, 9), ["a", "a.1", "a.2", "a.3", "b", "c"]);
        assert_eq!(names("a.", None, 2), ["a.1", "a.2"]);
        assert_eq!(names("a.", Some("a.2"), 9), ["a.3"]);
        // A name to go on behind may be gone, or lie before the prefix.
        assert_eq!(names("a.", Some("a.10"), 9), ["a.2", "a.3"]);
        assert_eq!(names("a.", Some("A"), 1), ["a.1"]);
        assert_eq!(names("a.", Some("z"), 9), [""; 0]);
        let a = Channel::parse("a").unwrap();
        assert_eq!(channels.joined(&a, |_| {}), 2);
        assert_eq!((channels.left(&a, |_| {}), channels.left(&a, |_| {})), (1, 0));
        assert_eq!((channels.members("a"), channels.count()), (0, 5));
    }
}
