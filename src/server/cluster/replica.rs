//! How far a node has read the stream, and whether what it reads is still the order of all.
//!
//! The node's clients are in the stream's epoch as long as they get what stands there. When they got
//! something else, or will never get something, the node has *strayed*: until it reads another epoch in the
//! stream, its clients are in one of its own.
//!
//! A node that comes to the stream puts a marker there. Behind its own marker it is where the stream is.
//! When it reads another epoch it puts a marker there for that one, and sends again what it has not seen;
//! [`counting`](super::counting) says why.
//!
//! This is plain data without I/O and without a clock.

use std::collections::VecDeque;

use crate::listener::protocol::node::Node;
use crate::server::cluster::opening::Seen;
use crate::server::cluster::order::{Arrival, Order};
use crate::server::cluster::wire::Marker;
use crate::text::position::Epoch;

/// Epochs that are kept in mind.
const EPOCHS: usize = 256;

/// How the node stands to the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// It cannot reach the stream.
    Down,
    /// It reads what it has missed, up to its own marker.
    Behind,
    /// It is where the stream is.
    Up,
}

/// What a node has found that has come to the stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opened {
    /// When the stream was made, in nanoseconds of Unix time.
    pub(super) made: i128,
    /// The epoch, and the number of its message.
    pub(super) epoch: (Epoch, u64),
    /// The number from which it is read.
    pub(super) from: u64,
    /// Whether the node begins to read.
    pub(super) begins: bool,
    /// Whether it is another stream than before, or an older state of it.
    pub(super) is_other: bool,
    /// Whether messages that were not read are not there any more.
    pub(super) has_hole: bool,
    /// Whether it is known there that this node has strayed.
    pub(super) strayed: bool,
}

/// What a message is to this node by its number in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comes {
    /// It is the next one.
    Next,
    /// It was read before: the stream is in an older state.
    Before,
    /// Something between the last one and this one is not there: it was removed, or evicted before it was
    /// read.
    Jump,
    /// The message of the epoch was to come in front of it.
    TooLate,
}

/// What the message of an epoch is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EpochComes<T> {
    /// An epoch begins. These are given up for it.
    Begins(Vec<T>),
    /// It goes on.
    Again,
    /// It has begun where this node has not read: all need another one.
    BeganUnread,
}

/// What a marker changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Marked {
    /// Messages of its node are missing here.
    pub(super) is_missing: bool,
    /// They are missing in an epoch in which they stand.
    pub(super) is_wrong: bool,
    /// This node is where the stream is, from now on.
    pub(super) is_up: bool,
}

/// A node's copy of the order of all.
pub(super) struct Replica<T> {
    me: Node,
    pub(super) order: Order<T>,
    pub(super) link: Link,
    /// The number of the last message that was read, and what it is known by.
    handled: Option<(u64, Option<u64>)>,
    made: i128,
    /// The stream's epoch there.
    epoch: Option<Epoch>,
    epochs: VecDeque<Epoch>,
    /// Whether messages of the stream go to the history alone, because they are from before.
    restoring: bool,
    strayed: bool,
    /// Whether clients got messages that are not in the stream.
    went_alone: bool,
    /// The number of the epoch's message, until that is read.
    expected: Option<u64>,
    /// The markers that were made.
    markers: u64,
    /// The first marker of this coming to the stream.
    first_marker: u64,
    /// Whether a marker is to be published.
    is_due: bool,
    /// Whether the marker for the epoch has come back.
    is_marked: bool,
}

impl<T> Replica<T> {
    /// Nothing was read yet. No two of one node have the same run.
    pub(super) fn new(me: Node, run: u64) -> Replica<T> {
        Replica {
            me,
            order: Order::new(me, run),
            link: Link::Down,
            handled: None,
            made: 0,
            epoch: None,
            epochs: VecDeque::new(),
            restoring: true,
            strayed: false,
            went_alone: false,
            expected: None,
            // Markers of an earlier run have smaller numbers.
            markers: run,
            first_marker: run,
            is_due: false,
            is_marked: false,
        }
    }

    /// How far the stream was read; `None` if it is to be read from its beginning.
    pub(super) fn seen(&self) -> Option<Seen> {
        self.handled.map(|(handled, mark)| Seen {
            handled,
            mark,
            made: self.made,
            epoch: self.epoch,
            epochs: self.epochs.iter().copied().collect(),
            strayed: self.strayed,
            restoring: self.restoring,
        })
    }

    /// The number of the last message that was read.
    pub(super) fn handled(&self) -> u64 {
        self.handled.map_or(0, |(handled, _)| handled)
    }

    /// The stream's epoch at the last message that was read.
    pub(super) fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// The same, if this node's marker for it stands there.
    pub(super) fn marked_epoch(&self) -> Option<Epoch> {
        self.epoch.filter(|_| self.is_marked)
    }

    /// Whether messages of the stream are from before.
    pub(super) fn is_restoring(&self) -> bool {
        self.restoring
    }

    /// Whether the node has strayed since it went for the stream: it has to do so again.
    pub(super) fn is_outdated(&self, opened: &Opened) -> bool {
        self.strayed && !opened.strayed
    }

    /// The node has come to the stream. True if it strays by that.
    pub(super) fn opened(&mut self, opened: &Opened) -> bool {
        let (epoch, epoch_at) = opened.epoch;
        self.link = Link::Behind;
        self.made = opened.made;
        let begins = opened.begins || opened.is_other;
        if begins || opened.has_hole {
            self.handled = Some((opened.from.saturating_sub(1), None));
        }
        if begins {
            self.epoch = None;
        }
        if begins && self.restoring && opened.from > 1 {
            self.order.counting.begins_in_the_middle();
        } else if begins {
            self.order.counting.epoch_begins();
        }
        self.expected = (self.handled() < epoch_at).then_some(epoch_at);
        if self.expected.is_none() && self.epoch.is_none() {
            self.enter(epoch);
        }
        self.first_marker = self.markers + 1;
        self.is_marked = false;
        self.is_due = self.expected.is_none();
        (opened.is_other || opened.has_hole) && self.stray()
    }

    fn enter(&mut self, epoch: Epoch) {
        self.epoch = Some(epoch);
        self.know(epoch);
    }

    fn know(&mut self, epoch: Epoch) {
        if self.epochs.len() == EPOCHS {
            self.epochs.pop_front();
        }
        self.epochs.push_back(epoch);
    }

    /// The stream is lost.
    pub(super) fn lost(&mut self) {
        self.link = Link::Down;
        self.is_due = false;
        self.order.take_unpublished();
    }

    /// Clients got what is not in the stream, or will not get what is there. True if they did so far. A
    /// node that has not read the stream yet has no client that could resume from there.
    pub(super) fn stray(&mut self) -> bool {
        !self.restoring && !std::mem::replace(&mut self.strayed, true)
    }

    /// Clients get a message that is not in the stream. True if the node strays by that.
    pub(super) fn go_alone(&mut self) -> bool {
        self.went_alone |= !self.restoring;
        self.stray()
    }

    /// A message of the stream comes. `nothing_evicted` says that what is between the last one and this one
    /// was removed.
    pub(super) fn comes(&mut self, sequence: u64, mark: u64, nothing_evicted: bool) -> Comes {
        if sequence <= self.handled() {
            return Comes::Before;
        }
        // What is read from before begins and ends where it may.
        if sequence > self.handled() + 1 && !nothing_evicted && !self.restoring {
            return Comes::Jump;
        }
        match self.expected {
            Some(epoch_at) if sequence > epoch_at => return Comes::TooLate,
            Some(epoch_at) if sequence == epoch_at => self.expected = None,
            _ => {}
        }
        if sequence > self.handled() + 1 {
            self.order.counting.jumps();
        }
        self.handled = Some((sequence, Some(mark)));
        Comes::Next
    }

    /// It is that of an epoch, or `repeats` it.
    pub(super) fn epoch_comes(&mut self, epoch: Epoch, repeats: bool) -> EpochComes<T> {
        if self.epoch == Some(epoch) {
            // Nodes that begin to read there later find this node's marker.
            self.is_due |= self.expected.is_none();
            return EpochComes::Again;
        }
        if repeats && !self.restoring {
            // From now on it is one of those that were there, so another one has to be written.
            self.know(epoch);
            return EpochComes::BeganUnread;
        }
        self.enter(epoch);
        self.is_marked = false;
        self.is_due = true;
        if repeats {
            return EpochComes::Again;
        }
        self.order.counting.epoch_begins();
        self.strayed = false;
        // What clients sent later has reached some already.
        let lost = match std::mem::take(&mut self.went_alone) {
            true => self.order.give_up(),
            false => Vec::new(),
        };
        self.order.again(true);
        EpochComes::Begins(lost)
    }

    /// It is a message with this number.
    pub(super) fn message_comes(&mut self, node: Node, number: u64) -> Arrival<T> {
        match self.order.arrived((node, number), self.handled(), self.restoring) {
            Arrival::Unclear if self.strayed => Arrival::Ignored,
            arrival => arrival,
        }
    }

    /// It is a marker.
    pub(super) fn marker_comes(&mut self, node: Node, marker: &Marker) -> Marked {
        if self.epoch != Some(marker.epoch) {
            return Marked::default();
        }
        let is_first = self.order.counting.marked(node, marker.first);
        let is_missing = self.order.is_missing(node, marker.seen);
        let is_ours = node == self.me && marker.count >= self.first_marker;
        self.is_marked |= is_ours;
        Marked {
            is_missing,
            // Of a node that has strayed nobody can resume anyway.
            is_wrong: is_missing && !is_first && !self.strayed,
            is_up: is_ours && self.link == Link::Behind,
        }
    }

    /// A node whose marker for this epoch stands there says that it has seen its messages up to this one. True if they are not
    /// all here.
    pub(super) fn beat_comes(&mut self, node: Node, seen: u64, epoch: Option<Epoch>) -> bool {
        if node == self.me || epoch.is_none() || epoch != self.epoch {
            return false;
        }
        let is_wrong = !self.order.counting.has_counted(node, seen);
        self.order.is_missing(node, seen);
        is_wrong && !self.strayed
    }

    /// The node is where the stream is. Returns how many messages are sent again, and behind which place the
    /// history is known for sure, if it was read and is not known from its beginning.
    pub(super) fn caught_up(&mut self) -> (usize, Option<u64>) {
        self.link = Link::Up;
        let unsure = match std::mem::take(&mut self.restoring) {
            true => self.order.counting.is_carried_out(),
            false => None,
        };
        (self.order.again(true), unsure)
    }

    /// Something may have been lost on the way to the stream. Returns how many messages are sent again.
    pub(super) fn again(&mut self) -> usize {
        self.is_due |= !self.is_marked && self.expected.is_none();
        match self.link {
            Link::Up => self.order.again(!self.is_marked),
            _ => 0,
        }
    }

    /// Whether this node waits for something that it has put into the stream.
    pub(super) fn is_waiting(&self) -> bool {
        self.link != Link::Down && !self.is_marked || self.order.is_sent()
    }

    /// The marker that is to be published now, in front of what else is.
    pub(super) fn take_marker(&mut self) -> Option<Marker> {
        let epoch = self.epoch.filter(|_| self.is_due)?;
        self.is_due = false;
        self.markers += 1;
        let (first, seen) = (self.order.first_unseen(), self.order.seen());
        Some(Marker { epoch, first, seen, count: self.markers })
    }
}
