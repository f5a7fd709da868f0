//! What a node has told the stream and not seen there yet, and what waits behind it.
//!
//! The stream is the order of all nodes. A node puts its own operations there, and carries them out
//! when they come back; what concerns its own connections alone waits for what it has put there
//! before, so that the order of the listener's lines holds.
//!
//! A node numbers its messages. In the stream a message counts only if its number follows the last one
//! that counted of that node; so all nodes agree on what counts. A message that comes twice counts
//! once. If one was lost on the way, those behind it do not count, and the node sends all of them
//! again, in order. A node that gives messages up begins a new *run* of numbers, and what still comes
//! of the old one does not count.
//!
//! A node that comes to the stream puts a *marker* there, with the number that it goes on from. Where
//! the stream is another one than before, only what stands behind a node's marker counts. What counts
//! there may have been carried out already; then it is kept, and not carried out again.
//!
//! This is plain data without I/O and without a clock.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;

use crate::listener::protocol::node::Node;

/// A number has the number of its run in its upper bits.
const RUN: u32 = 36;

/// Whether a number is accepted behind `last`.
fn follows(last: u64, number: u64) -> bool {
    number == last + 1 || (number >> RUN > last >> RUN && number & ((1 << RUN) - 1) == 1)
}

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
}

/// The order of one gateway on one node.
pub(super) struct Order<T> {
    me: Node,
    /// The number of the next message.
    next: u64,
    waiting: VecDeque<Waiting<T>>,
    /// The last number of each node that counted in this stream.
    counted: HashMap<Node, u64>,
    /// The last number of each other node that was carried out.
    done: HashMap<Node, u64>,
    /// Nodes whose messages do not count before their marker.
    unmarked: HashSet<Node>,
    /// Whether nobody's messages count before a marker: the stream is another one than before.
    strict: bool,
    /// The number that a marker has said to go on from.
    promised: Option<u64>,
    /// The number of this node's last message that came back.
    seen: u64,
}

impl<T> Order<T> {
    /// Nothing was told yet. No two orders of one node have the same run.
    pub(super) fn new(me: Node, run: u64) -> Order<T> {
        Order {
            me,
            next: run << RUN | 1,
            waiting: VecDeque::new(),
            counted: HashMap::new(),
            done: HashMap::new(),
            unmarked: HashSet::new(),
            strict: false,
            promised: None,
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

    /// A message has come from the stream.
    pub(super) fn arrived(&mut self, node: Node, number: u64) -> Arrival<T> {
        // Of a node that was never heard of, the first message that is heard counts.
        let counts = match self.counted.get(&node) {
            Some(last) => follows(*last, number),
            None => !self.strict && !self.unmarked.contains(&node),
        };
        if !counts {
            return Arrival::Ignored;
        }
        self.counted.insert(node, number);
        if node != self.me {
            let last = self.done.entry(node).or_default();
            if number <= *last {
                return Arrival::Kept;
            }
            *last = number;
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

    fn next_run(&self) -> u64 {
        ((self.next >> RUN) + 1) << RUN | 1
    }

    /// The number from which this node goes on if it gives up what it has not seen by then. What
    /// comes later of that counts for nobody.
    pub(super) fn promise(&mut self) -> u64 {
        let first = if self.unseen() > 0 { self.next_run() } else { self.next };
        self.promised = Some(first);
        first
    }

    /// The stream is another one: of the nodes that are known, nothing counts before their markers.
    pub(super) fn other_stream(&mut self) {
        self.unmarked.extend(self.counted.drain().map(|(node, _)| node));
        self.unmarked.insert(self.me);
        self.strict = true;
    }

    /// Messages are missing in front of what comes: of each node the next one counts, whatever its number.
    pub(super) fn gap(&mut self) {
        self.counted.clear();
    }

    /// A node's marker: it goes on from the number `first`. With `anew` it knows that the stream is
    /// another one. True if messages of it will never be carried out here.
    pub(super) fn marked(&mut self, node: Node, first: u64, anew: bool) -> bool {
        let before = first.saturating_sub(1);
        let was_unmarked = self.unmarked.remove(&node);
        let new_run = self.counted.get(&node).is_none_or(|last| first >> RUN > *last >> RUN);
        if was_unmarked || anew || new_run {
            self.counted.insert(node, before);
        }
        if node == self.me {
            return false;
        }
        match self.done.get_mut(&node) {
            Some(last) if *last < before && (was_unmarked || anew) => {
                *last = before;
                true
            }
            _ => false,
        }
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

    /// All that was sent and not seen is to be published again. Returns how much that is.
    ///
    /// The first message keeps its attempt: if it is in the stream, it counts there. Those behind it may
    /// be there and count for nobody, so they are new ones for the stream.
    pub(super) fn again(&mut self) -> usize {
        let mut count = 0;
        for waiting in &mut self.waiting {
            if let Waiting::Sent { published, attempt, .. } = waiting {
                if count > 0 && *published {
                    *attempt += 1;
                }
                *published = false;
                count += 1;
            }
        }
        count
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

    /// Gives up what was sent and not seen: a new run of numbers begins.
    pub(super) fn give_up(&mut self) -> Vec<T> {
        let mut lost = Vec::new();
        let has_sent = self.unseen() > 0;
        let waiting = std::mem::take(&mut self.waiting);
        for item in waiting {
            match item {
                Waiting::Sent { items, .. } => lost.extend(items),
                Waiting::Own(item) => self.waiting.push_back(Waiting::Own(item)),
            }
        }
        match self.promised.take() {
            Some(first) => self.next = first,
            None if has_sent => self.next = self.next_run(),
            None => {}
        }
        lost
    }

    /// A node has seen all its messages up to this number in front of what comes now. True if they were
    /// not all accepted here; they are not waited for any longer.
    /// `knows` says that it knows this stream, so that it needs no marker.
    pub(super) fn has_gap(&mut self, node: Node, seen: u64, knows: bool) -> bool {
        if node == self.me || self.unmarked.contains(&node) && !knows {
            return false;
        }
        self.unmarked.remove(&node);
        let last = self.counted.entry(node).or_insert(seen);
        if seen < *last {
            return false;
        }
        *last = seen;
        let done = self.done.entry(node).or_default();
        let gap = seen > *done;
        *done = seen.max(*done);
        gap
    }

    /// The number of this node's last message that came back.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// A node has ended.
    pub(super) fn forget(&mut self, node: Node) {
        // What was carried out stays known: copies of its messages may come for a long time.
        self.counted.remove(&node);
        self.unmarked.remove(&node);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(number: u32) -> Node {
        Node::from_number(number).unwrap()
    }

    /// A stream that loses, repeats and delays what it is sent, and nodes that read it all.
    #[derive(Debug, Clone)]
    enum Step {
        /// A node sends its next message.
        Send(usize),
        /// A node's connection breaks: so many of its messages in flight are lost.
        Lose(usize, usize),
        /// The stream takes the next message in flight of a node.
        Take(usize),
        /// A node sends again what it has not seen.
        Again(usize),
        /// A node gives up what it has not seen. Some of it may still come.
        GiveUp(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..3usize).prop_map(Step::Send),
            1 => (0..3usize, 0..4usize).prop_map(|(node, count)| Step::Lose(node, count)),
            6 => (0..3usize).prop_map(Step::Take),
            1 => (0..3usize).prop_map(Step::Again),
            1 => (0..3usize).prop_map(Step::GiveUp),
        ];
        prop::collection::vec(step, 0..200)
    }

    struct World {
        orders: Vec<Order<u64>>,
        in_flight: Vec<VecDeque<(u64, u32)>>,
        /// What the stream has taken, by its message id.
        taken: HashSet<(usize, u64, u32)>,
        /// What each node has carried out.
        done: Vec<Vec<(usize, u64)>>,
        /// How many messages each node has made.
        made: Vec<usize>,
        /// What each node gave up.
        lost: Vec<Vec<u64>>,
    }

    impl World {
        fn new() -> World {
            World {
                orders: (1..=3).map(|number| Order::new(node(number), 0)).collect(),
                in_flight: vec![VecDeque::new(); 3],
                taken: HashSet::new(),
                done: vec![Vec::new(); 3],
                made: vec![0; 3],
                lost: vec![Vec::new(); 3],
            }
        }

        fn publish(&mut self, from: usize) {
            let found = self.orders[from].take_unpublished();
            self.in_flight[from]
                .extend(found.into_iter().map(|(number, attempt, _)| (number, attempt)));
        }

        fn step(&mut self, step: &Step) {
            match *step {
                Step::Send(from) => {
                    let number = self.orders[from].next();
                    self.orders[from].sent(Bytes::new(), vec![number]);
                    self.publish(from);
                    self.made[from] += 1;
                }
                Step::Lose(from, count) => {
                    for _ in 0..count {
                        self.in_flight[from].pop_front();
                    }
                }
                Step::Take(from) => {
                    let Some((number, attempt)) = self.in_flight[from].pop_front() else { return };
                    if !self.taken.insert((from, number, attempt)) {
                        // The stream has a message with this id.
                        return;
                    }
                    for (at, order) in self.orders.iter_mut().enumerate() {
                        match order.arrived(node(from as u32 + 1), number) {
                            Arrival::Ours(items) => {
                                assert_eq!(items, [number]);
                                self.done[at].push((from, number));
                            }
                            Arrival::Theirs => self.done[at].push((from, number)),
                            Arrival::Kept | Arrival::Ignored => {}
                        }
                    }
                }
                Step::Again(from) => {
                    self.orders[from].again();
                    self.publish(from);
                }
                Step::GiveUp(from) => self.lost[from].extend(self.orders[from].give_up()),
            }
        }
    }

    proptest! {
        #[test]
        fn all_nodes_carry_out_one_order_and_nothing_twice(steps in steps()) {
            let mut world = World::new();
            // Every node is heard of first.
            for from in 0..3 {
                world.step(&Step::Send(from));
                world.step(&Step::Take(from));
            }
            steps.iter().for_each(|step| world.step(step));
            // In the end all that was not given up is there.
            for from in 0..3 {
                // Each time the first message that was not seen is seen at least.
                while world.orders[from].is_sent() {
                    world.step(&Step::Again(from));
                    while !world.in_flight[from].is_empty() {
                        world.step(&Step::Take(from));
                    }
                }
            }
            for from in 0..3 {
                let by = |at: usize| {
                    let of = world.done[at].iter().filter(|(by, _)| *by == from);
                    of.map(|(_, number)| *number).collect::<Vec<u64>>()
                };
                prop_assert!(by(from).is_sorted_by(|a, b| a < b), "each once, in its maker's order");
                let mut sent: Vec<u64> = by(from).into_iter().chain(world.lost[from].clone()).collect();
                sent.sort_unstable();
                prop_assert_eq!(sent.len(), world.made[from], "done once or given up");
                for at in 0..3 {
                    let known = |number: &u64| by(from).contains(number);
                    let given_up = |number: &u64| world.lost[from].contains(number);
                    prop_assert!(by(at).iter().all(|number| known(number) || given_up(number)));
                    prop_assert!(by(from).iter().all(|number| by(at).contains(number)));
                }
            }
            let common = |at: usize| {
                let ours = |(by, number): &&(usize, u64)| !world.lost[*by].contains(number);
                world.done[at].iter().filter(ours).collect::<Vec<_>>()
            };
            prop_assert_eq!(common(0), common(1));
            prop_assert_eq!(common(0), common(2));
        }
    }

    #[test]
    fn what_is_a_nodes_own_waits_for_what_it_sent_before() {
        let mut order: Order<&str> = Order::new(node(1), 0);
        assert_eq!(order.own("at once"), Some("at once"));
        order.sent(Bytes::new(), vec!["first"]);
        assert_eq!(order.own("behind the first"), None);
        order.sent(Bytes::new(), vec!["second", "third"]);
        assert_eq!(order.own("last"), None);
        assert_eq!(order.take_own(), None);
        assert_eq!(order.arrived(node(1), 1), Arrival::Ours(vec!["first"]));
        assert_eq!(order.take_own(), Some("behind the first"));
        assert_eq!(order.take_own(), None);
        assert_eq!(order.arrived(node(1), 1), Arrival::Ignored, "it came twice");
        assert_eq!(order.arrived(node(1), 2), Arrival::Ours(vec!["second", "third"]));
        assert_eq!(order.take_own(), Some("last"));
        assert!(!order.is_sent());
    }
}
