//! The newest evicted number of each channel that holds nothing any more.

use std::collections::{BTreeSet, HashMap};

use crate::listener::protocol::channel::Channel;

/// So many channels are remembered one by one.
pub(super) const CHANNELS: usize = 65_536;

/// The newest evicted number of each channel that holds nothing any more. Past [`CHANNELS`], those
/// whose numbers are the lowest are forgotten; what is known of them is one bound for all.
#[derive(Debug, Default)]
pub(super) struct Floors {
    by_channel: HashMap<Channel, u64>,
    by_number: BTreeSet<(u64, Channel)>,
    /// No channel that is not in the table has lost a message with a greater number.
    rest: u64,
}

impl Floors {
    /// Notes a channel that holds nothing any more. Returns one that was forgotten for it.
    pub(super) fn insert(&mut self, channel: Channel, number: u64) -> Option<Channel> {
        self.by_number.insert((number, channel.clone()));
        if let Some(before) = self.by_channel.insert(channel.clone(), number)
            && before != number
        {
            self.by_number.remove(&(before, channel));
        }
        if self.by_channel.len() <= CHANNELS {
            return None;
        }
        let (number, channel) = self.by_number.pop_first()?;
        self.by_channel.remove(&channel);
        self.rest = self.rest.max(number);
        Some(channel)
    }

    /// The newest number that the channel may have lost; zero if it has lost nothing.
    pub(super) fn get(&self, channel: &Channel) -> u64 {
        self.by_channel.get(channel).copied().unwrap_or(self.rest)
    }

    /// The same, for a channel that holds messages again.
    pub(super) fn take(&mut self, channel: &Channel) -> u64 {
        match self.by_channel.remove_entry(channel) {
            Some((channel, number)) => {
                self.by_number.remove(&(number, channel));
                number
            }
            None => self.rest,
        }
    }

    /// The bound for channels that are not in the table.
    pub(super) fn rest(&self) -> u64 {
        self.rest
    }

    pub(super) fn set_rest(&mut self, rest: u64) {
        self.rest = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_the_bound_the_lowest_numbers_are_one_bound_for_all() {
        let name = |n: usize| Channel::parse(&format!("c{n}")).unwrap();
        let mut floors = Floors::default();
        for n in 0..CHANNELS {
            assert!(floors.insert(name(n), n as u64 + 10).is_none());
        }
        assert_eq!((floors.get(&name(0)), floors.get(&Channel::parse("x").unwrap())), (10, 0));
        assert!(floors.insert(name(0), 100_000).is_none(), "it is in the table already");
        assert_eq!(floors.insert(name(CHANNELS), 100_001), Some(name(1)));
        assert_eq!((floors.get(&name(0)), floors.get(&name(1)), floors.rest()), (100_000, 11, 11));
        assert_eq!((floors.take(&name(2)), floors.get(&name(2))), (12, 11));
        assert_eq!(floors.by_number.len(), floors.by_channel.len());
    }
}
