//! What a node has told the stream and not seen there yet, and what waits behind it.
//!
//! The stream is the order of all nodes. A node puts its own operations there, and carries them out
//! when they come back; what concerns its own connections alone waits for what it has put there
//! before, so that the order of the listener's lines holds.
//!
//! Which messages count, [`counting`](super::counting) says. What counts in a new epoch may have been
//! carried out in the one before; then it is kept, and not carried out again.
//!
//! This is plain data without I/O and without a clock.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use crate::listener::protocol::node::Node;
use crate::server::cluster::counting::{Counting, Counts, first_of, run_of};

/// What waits for its turn.
enum Waiting<T> {
    /// A message to the stream, with what is to be done when it comes back.
    Sent { number: u64, bytes: Bytes, items: Vec<T>, published: bool, attempt: u32 },
    /// What is to be done then.
    Own(T),
}

/// What a message from the stream is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival<T> {
    /// Our own: these are to be carried out.
    Ours(Vec<T>),
    /// Another node's: its entries are to be carried out.
    Theirs,
    /// It counts, and was carried out before: it is only to be kept.
    Kept,
    /// It counts for nobody.
    Ignored,
    /// Something in front of it is missing, or should not have counted.
    Unclear,
}

/// The order of one gateway on one node.
pub(super) struct Order<T> {
    me: Node,
    /// The number of the next message.
    next: u64,
    waiting: VecDeque<Waiting<T>>,
    /// What of the stream counts.
    pub(super) counting: Counting,
    /// The last number of each other node that was carried out. It outlives the epochs.
    done: HashMap<Node, u64>,
    /// The number of this node's last message that came back.
    seen: u64,
}

impl<T> Order<T> {
    /// Nothing was told yet. No two orders of one node have the same run.
    pub(super) fn new(me: Node, run: u64) -> Order<T> {
        Order {
            me,
            next: first_of(run),
            waiting: VecDeque::new(),
            counting: Counting::default(),
            done: HashMap::new(),
            seen: 0,
        }
    }

    /// The number of the next message to the stream.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// A message goes to the stream; it has the number [`Order::next`].
    pub(super) fn sent(&mut self, bytes: Bytes, items: Vec<T>) {
        self.waiting.push_back(Waiting::Sent {
            number: self.next,
            bytes,
            items,
            published: false,
            attempt: 0,
        });
        self.next += 1;
    }

    /// Something that is to be done behind all that was sent; it comes back if it may be done now.
    pub(super) fn own(&mut self, item: T) -> Option<T> {
        if self.waiting.is_empty() {
            return Some(item);
        }
        self.waiting.push_back(Waiting::Own(item));
        None
    }

    /// A message stands `at` this place of the stream. It is carried out, unless the node is `restoring`.
    pub(super) fn arrived(
        &mut self,
        (node, number): (Node, u64),
        at: u64,
        restoring: bool,
    ) -> Arrival<T> {
        let counts = self.counting.comes(node, number, at);
        match counts {
            Counts::No => return Arrival::Ignored,
            Counts::Unclear => return Arrival::Unclear,
            Counts::Yes | Counts::Perhaps => {}
        }
        if node != self.me {
            let last = self.done.get(&node).copied().unwrap_or(0);
            if number <= last {
                return Arrival::Kept;
            }
            if counts == Counts::Yes || !restoring {
                self.done.insert(node, number);
            }
            return Arrival::Theirs;
        }
        let is_first = matches!(self.waiting.front(), Some(Waiting::Sent { number: first, .. }) if *first == number);
        if !is_first {
            return Arrival::Kept;
        }
        match self.waiting.pop_front() {
            Some(Waiting::Sent { items, .. }) => {
                self.seen = number;
                Arrival::Ours(items)
            }
            _ => Arrival::Kept,
        }
    }

    /// The number from which this node goes on.
    pub(super) fn first_unseen(&self) -> u64 {
        let sent = self.waiting.iter().find_map(|waiting| match waiting {
            Waiting::Sent { number, .. } => Some(*number),
            Waiting::Own(_) => None,
        });
        sent.unwrap_or(self.next)
    }

    /// Of a node, messages up to this number were carried out by itself. True if they were not all
    /// carried out here; they never will be.
    pub(super) fn is_missing(&mut self, node: Node, seen: u64) -> bool {
        if node == self.me {
            return false;
        }
        let Some(last) = self.done.get_mut(&node) else { return false };
        let is_missing = *last < seen;
        *last = seen.max(*last);
        is_missing
    }

    /// What may be done now, one after the other.
    pub(super) fn take_own(&mut self) -> Option<T> {
        if !matches!(self.waiting.front(), Some(Waiting::Own(_))) {
            return None;
        }
        match self.waiting.pop_front() {
            Some(Waiting::Own(item)) => Some(item),
            _ => None,
        }
    }

    /// What is to be published now, in order: its number, the attempt, and itself.
    pub(super) fn take_unpublished(&mut self) -> Vec<(u64, u32, Bytes)> {
        let mut found = Vec::new();
        for waiting in &mut self.waiting {
            if let Waiting::Sent { number, bytes, published, attempt, .. } = waiting
                && !std::mem::replace(published, true)
            {
                found.push((*number, *attempt, bytes.clone()));
            }
        }
        found
    }

    /// The same, with what is to be done with each.
    #[cfg(test)]
    pub(super) fn unpublished_items(&mut self) -> Vec<(u64, u32, Vec<T>)>
    where
        T: Clone,
    {
        let found = self.take_unpublished();
        let items = |of: u64| {
            self.waiting.iter().find_map(|waiting| match waiting {
                Waiting::Sent { number, items, .. } if *number == of => Some(items.clone()),
                _ => None,
            })
        };
        found.into_iter().map(|(n, attempt, _)| (n, attempt, items(n).unwrap())).collect()
    }

    /// All that was sent and not seen is to be published again. Returns how much that is.
    ///
    /// If the first message stands in the stream already, it counts there, so it keeps its attempt, and
    /// the stream drops the second one. With `anew` it may stand there and count for nobody, as those behind
    /// it do; then it is a new one for the stream.
    pub(super) fn again(&mut self, anew: bool) -> usize {
        let mut count = 0;
        for waiting in &mut self.waiting {
            if let Waiting::Sent { published, attempt, .. } = waiting {
                if (anew || count > 0) && *published {
                    *attempt += 1;
                }
                *published = false;
                count += 1;
            }
        }
        count
    }

    /// The stream refuses a message: another one takes its number. Returns what was to be done with it.
    pub(super) fn replace(&mut self, refused: u64, with: Bytes) -> Vec<T> {
        for waiting in &mut self.waiting {
            match waiting {
                Waiting::Sent { number, bytes, items, .. } if *number == refused => {
                    *bytes = with;
                    return std::mem::take(items);
                }
                _ => {}
            }
        }
        Vec::new()
    }

    /// How many messages were sent and not seen yet.
    pub(super) fn unseen(&self) -> usize {
        let is_sent = |waiting: &&Waiting<T>| matches!(waiting, Waiting::Sent { .. });
        self.waiting.iter().filter(is_sent).count()
    }

    /// Whether something was sent and not seen yet.
    pub(super) fn is_sent(&self) -> bool {
        // Nothing waits but behind something that was sent.
        !self.waiting.is_empty()
    }

    /// Takes what does not depend on the stream out of its turn: nobody knows when that comes back.
    pub(super) fn take_all_own(&mut self, goes: impl Fn(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        let waiting = std::mem::take(&mut self.waiting);
        for item in waiting {
            match item {
                Waiting::Own(item) if goes(&item) => taken.push(item),
                stays => self.waiting.push_back(stays),
            }
        }
        taken
    }

    /// All that waits.
    pub(super) fn items(&mut self) -> impl Iterator<Item = &mut T> {
        self.waiting.iter_mut().flat_map(|waiting| match waiting {
            Waiting::Sent { items, .. } => items.iter_mut(),
            Waiting::Own(item) => std::slice::from_mut(item).iter_mut(),
        })
    }

    /// Gives up what was sent and not seen: a new run of numbers begins.
    pub(super) fn give_up(&mut self) -> Vec<T> {
        let mut lost = Vec::new();
        if self.unseen() > 0 {
            self.next = first_of(run_of(self.next) + 1);
        }
        let waiting = std::mem::take(&mut self.waiting);
        for item in waiting {
            match item {
                Waiting::Sent { items, .. } => lost.extend(items),
                Waiting::Own(item) => self.waiting.push_back(Waiting::Own(item)),
            }
        }
        lost
    }

    /// The number of this node's last message that came back.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u32) -> Node {
        Node::from_number(number).unwrap()
    }

    #[test]
    fn what_is_a_nodes_own_waits_for_what_it_sent_before() {
        let mut order: Order<&str> = Order::new(node(1), 0);
        order.counting.marked(node(1), 1);
        assert_eq!(order.own("at once"), Some("at once"));
        order.sent(Bytes::new(), vec!["first"]);
        assert_eq!(order.own("behind the first"), None);
        order.sent(Bytes::new(), vec!["second", "third"]);
        assert_eq!(order.own("last"), None);
        assert_eq!(order.take_own(), None);
        assert_eq!(order.arrived((node(1), 1), 3, false), Arrival::Ours(vec!["first"]));
        assert_eq!(order.take_own(), Some("behind the first"));
        assert_eq!(order.take_own(), None);
        assert_eq!(order.arrived((node(1), 1), 3, false), Arrival::Ignored, "it came twice");
        assert_eq!(order.arrived((node(1), 2), 4, false), Arrival::Ours(vec!["second", "third"]));
        assert_eq!(order.take_own(), Some("last"));
        assert!(!order.is_sent());
    }
}
