//! The messages of one channel.

use std::collections::VecDeque;

use super::messages::Messages;

/// A message of a channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Where the message is.
    pub(super) at: u32,
    /// Which one of the message's channels this is.
    pub(super) index: u32,
}

/// What was taken out of a ring.
pub(super) struct Evicted {
    pub(super) number: u64,
    pub(super) index: u32,
    /// Whether no channel holds the message any more.
    pub(super) gone: bool,
}

/// The messages of one channel, the oldest first.
#[derive(Debug)]
pub(super) struct Ring {
    entries: VecDeque<Entry>,
    /// How many there may be.
    pub(super) limit: usize,
    /// The newest number that the channel has lost; zero for none.
    pub(super) floor: u64,
    /// What the messages cost.
    pub(super) bytes: usize,
}

impl Ring {
    pub(super) fn new(limit: usize, floor: u64) -> Ring {
        Ring { entries: VecDeque::new(), limit, floor, bytes: 0 }
    }

    pub(super) fn push(&mut self, messages: &mut Messages, at: u32, index: u32) {
        self.bytes += messages.hold(at);
        self.entries.push_back(Entry { at, index });
    }

    /// Takes the oldest message out.
    pub(super) fn pop(&mut self, messages: &mut Messages) -> Option<Evicted> {
        let entry = self.entries.pop_front()?;
        let (number, cost, gone) = messages.release(entry.at);
        self.bytes -= cost;
        self.floor = number;
        Some(Evicted { number, index: entry.index, gone })
    }

    /// Takes the oldest message out if there are more than the limit allows.
    pub(super) fn pop_excess(&mut self, messages: &mut Messages) -> Option<Evicted> {
        if self.entries.len() > self.limit { self.pop(messages) } else { None }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn front(&self) -> Option<u32> {
        self.entries.front().map(|entry| entry.at)
    }

    pub(super) fn back(&self) -> Option<u32> {
        self.entries.back().map(|entry| entry.at)
    }

    pub(super) fn get(&self, index: usize) -> u32 {
        self.entries[index].at
    }

    /// How many of the oldest messages `is_before` holds for. It must hold for none behind one that
    /// it does not hold for.
    pub(super) fn count(&self, is_before: impl Fn(u32) -> bool) -> usize {
        self.entries.partition_point(|entry| is_before(entry.at))
    }

    pub(super) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
    }
}
