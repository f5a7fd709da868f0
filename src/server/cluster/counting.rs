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

use std::collections::{HashMap, HashSet};

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
    /// Whether it is known. Otherwise it is the first one that was read.
    sure: bool,
    /// Whether something that stood behind it in the stream was removed.
    jumped: bool,
}

impl Last {
    fn new(number: u64, sure: bool) -> Last {
        Last { number, sure, jumped: false }
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
    /// Nodes whose messages did not count since, though they may count for others.
    ignored: HashSet<Node>,
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

    /// What comes now is carried out. So nothing counts of nodes of which it is not known what has counted;
    /// those that are there have said so by now.
    pub(super) fn is_carried_out(&mut self) {
        self.last.retain(|_, last| last.sure);
        self.guesses = false;
    }

    /// Whether nodes may be unknown that are there.
    pub(super) fn guesses(&self) -> bool {
        self.guesses
    }

    /// Something that stood in front of what comes now was removed: signs of life, as a rule.
    pub(super) fn jumps(&mut self) {
        self.last.values_mut().for_each(|last| last.jumped = true);
    }

    /// A message has come.
    pub(super) fn comes(&mut self, node: Node, number: u64) -> Counts {
        match self.last.get_mut(&node) {
            Some(last) if follows(last.number, number) => {
                (last.number, last.jumped) = (number, false);
                if last.sure { Counts::Yes } else { Counts::Perhaps }
            }
            Some(last) if !last.sure || last.jumped && number > last.number => {
                self.last.remove(&node);
                Counts::Unclear
            }
            Some(_) => Counts::No,
            None if self.guesses => {
                self.last.insert(node, Last::new(number, false));
                Counts::Perhaps
            }
            None => {
                if self.in_middle {
                    self.ignored.insert(node);
                }
                Counts::No
            }
        }
    }

    /// A node's marker for the epoch: it goes on from the number `first`. True if it is its first marker
    /// that is read there.
    pub(super) fn marked(&mut self, node: Node, first: u64) -> bool {
        let number = first.saturating_sub(1);
        let last = self.last.entry(node).or_insert(Last::new(number, false));
        let is_first = !last.sure;
        // What was read behind `first` may have counted for nobody else.
        last.sure |= last.number <= number;
        last.number = last.number.max(number);
        is_first
    }

    /// A node whose marker for this epoch stands there has said that its message with this number has
    /// counted, in front of what comes now. False if it may not have counted here.
    pub(super) fn has_counted(&mut self, node: Node, number: u64) -> bool {
        let was_ignored = self.ignored.remove(&node);
        match self.last.get_mut(&node) {
            Some(last) => {
                let is_missing = last.sure && last.number < number;
                last.sure |= last.number <= number;
                last.number = last.number.max(number);
                !is_missing && !was_ignored
            }
            None => {
                self.last.insert(node, Last::new(number, true));
                self.in_middle && !was_ignored
            }
        }
    }
}
