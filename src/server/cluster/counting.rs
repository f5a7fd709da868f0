//! Which messages of the stream count.
//!
//! All nodes have to agree on that. So it follows from the stream alone: not from a clock, nor from
//! what a node has read before.
//!
//! A node numbers its messages. A message counts if its number follows the last one that counted of
//! that node. So one that comes twice counts once. If one was lost on its way to the stream, those
//! behind it do not count, and their node sends all of them again, in order. A node that gives messages
//! up begins a new *run* of numbers, and what still comes of the old run does not count.
//!
//! A message of a new epoch starts all of that again. Behind it nothing of a node counts until that
//! node's *marker* for this epoch stands there, with the number that the node goes on from.
//!
//! This is plain data without I/O and without a clock.

use std::collections::HashMap;

use crate::listener::protocol::node::Node;

/// A number has the number of its run in its upper bits.
const RUN: u32 = 36;

/// The first number of a run.
pub(super) fn first_of(run: u64) -> u64 {
    run << RUN | 1
}

/// The run of a number.
pub(super) fn run_of(number: u64) -> u64 {
    number >> RUN
}

/// Whether a number is accepted behind `last`.
fn follows(last: u64, number: u64) -> bool {
    last.checked_add(1) == Some(number)
        || run_of(number) > run_of(last) && number == first_of(run_of(number))
}

/// Whether a message counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counts {
    /// It does.
    Yes,
    /// It is taken to count, as the first one that is read of its node.
    Perhaps,
    /// It does not.
    No,
    /// Something in front of it is missing, or what was taken to count did not.
    Unclear,
}

/// The last number of a node that counted.
#[derive(Debug, Clone, Copy)]
struct Last {
    number: u64,
    /// The first number that was read of it, until that is known to count.
    first: Option<u64>,
    /// Where its last message stands in the stream.
    at: u64,
    /// Whether something that stood behind it in the stream was removed.
    jumped: bool,
}

impl Last {
    /// What is known to count.
    fn known(number: u64) -> Last {
        Last { number, first: None, at: 0, jumped: false }
    }

    fn is_sure(&self) -> bool {
        self.first.is_none()
    }

    /// Its node says that this number has counted: if the first one that was read is not behind that, all
    /// that was read has.
    fn confirm(&mut self, number: u64) {
        self.first = self.first.filter(|first| *first > number);
        self.number = self.number.max(number);
    }
}

/// What of the stream has counted so far.
#[derive(Debug, Default)]
pub(super) struct Counting {
    last: HashMap<Node, Last>,
    /// Whether the epoch's beginning was not read, so markers may stand in front of what was.
    in_middle: bool,
    /// Whether a node of which nothing is known counts from the first message of it that is read. Nothing is
    /// carried out then.
    guesses: bool,
}

impl Counting {
    /// A new epoch begins, or the stream itself.
    pub(super) fn epoch_begins(&mut self) {
        *self = Counting::default();
    }

    /// What comes now is from the middle of an epoch, and of nobody it is known what has counted. A node
    /// counts from the first message of it that is read, until its signs of life say what has counted.
    pub(super) fn begins_in_the_middle(&mut self) {
        *self = Counting { in_middle: true, guesses: true, ..Counting::default() };
    }

    /// What comes now is carried out. Nodes of which it is not known what has counted are unknown again; those
    /// that are there have said so by now. Returns where the last message of those stands, which may not
    /// have counted.
    pub(super) fn is_carried_out(&mut self) -> Option<u64> {
        let unsure = self.last.extract_if(|_, last| !last.is_sure());
        let last = unsure.map(|(_, last)| last.at).max();
        self.guesses = false;
        last
    }

    /// Whether nodes may be unknown that are there.
    pub(super) fn guesses(&self) -> bool {
        self.guesses
    }

    /// Something that stood in front of what comes now was removed: signs of life, as a rule.
    pub(super) fn jumps(&mut self) {
        self.last.values_mut().for_each(|last| last.jumped = true);
    }

    /// A message has come, which stands `at` this place of the stream.
    pub(super) fn comes(&mut self, node: Node, number: u64, at: u64) -> Counts {
        match self.last.get_mut(&node) {
            Some(last) if follows(last.number, number) => {
                (last.number, last.at, last.jumped) = (number, at, false);
                if last.is_sure() { Counts::Yes } else { Counts::Perhaps }
            }
            Some(last) if !last.is_sure() || last.jumped && number > last.number => {
                self.last.remove(&node);
                Counts::Unclear
            }
            Some(_) => Counts::No,
            None if self.guesses => {
                self.last.insert(node, Last { first: Some(number), at, ..Last::known(number) });
                Counts::Perhaps
            }
            // Its marker was not read.
            None if self.in_middle => Counts::Unclear,
            None => Counts::No,
        }
    }

    /// A node's marker for the epoch: it goes on from the number `first`. True if it is its first marker
    /// that is read there.
    pub(super) fn marked(&mut self, node: Node, first: u64) -> bool {
        let number = first.saturating_sub(1);
        let is_first = self.last.get(&node).is_none_or(|last| !last.is_sure());
        self.last.entry(node).or_insert(Last::known(number)).confirm(number);
        is_first
    }

    /// A node whose marker for this epoch stands there has said that its message with this number has
    /// counted, in front of what comes now. False if it may not have counted here.
    pub(super) fn has_counted(&mut self, node: Node, number: u64) -> bool {
        match self.last.get_mut(&node) {
            Some(last) => {
                let is_missing = last.is_sure() && last.number < number;
                last.confirm(number);
                !is_missing
            }
            None => {
                self.last.insert(node, Last::known(number));
                self.in_middle
            }
        }
    }
}
