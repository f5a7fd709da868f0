//! Many nodes at one stream that is harmed at random: what every one of them carries out is one order.
//!
//! No sockets and no clock: a schedule of small steps follows from a seed. The stream loses its end, is
//! deleted, and forgets its beginning. What nodes publish is lost, comes late or twice. Nodes lose the
//! stream, come back, end, and begin.

mod check;
mod harm;
mod members;
mod node;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use fastrand::Rng;

use crate::listener::protocol::node::Node;
use crate::server::cluster::opening::{Found, Plan, Seen};
use crate::server::cluster::replica::Replica;
use crate::server::cluster::wire::Marker;
use crate::text::position::Epoch;

/// What stands in the stream.
#[derive(Debug, Clone, PartialEq)]
enum Body {
    Epoch(Epoch, bool),
    Marker(Node, Marker),
    Beat(Node, u64, Option<Epoch>),
    /// A message with its number, its attempt, and what it says.
    Message(Node, u64, u32, Said),
}

/// A message that somebody said; none is said twice. `None` is a message without content.
type Said = u64;

#[derive(Debug, Default)]
struct Stream {
    made: i128,
    messages: BTreeMap<u64, Body>,
    last: u64,
    /// Message ids.
    taken: HashSet<(Node, u64, u32)>,
}

impl Stream {
    fn take(&mut self, body: Body) -> Option<u64> {
        if let Body::Message(node, number, attempt, _) = body
            && !self.taken.insert((node, number, attempt))
        {
            return None;
        }
        self.last += 1;
        self.messages.insert(self.last, body);
        Some(self.last)
    }

    fn epoch(&self) -> Option<(Epoch, u64)> {
        self.epoch_there().map(|there| there.0)
    }

    fn epoch_there(&self) -> Option<((Epoch, u64), bool)> {
        self.messages.iter().rev().find_map(|(at, body)| match body {
            Body::Epoch(epoch, repeats) => Some(((*epoch, *at), *repeats)),
            _ => None,
        })
    }

    fn first(&self) -> u64 {
        self.messages.first_key_value().map_or(self.last + 1, |(at, _)| *at)
    }
}

/// Where a node is that comes to the stream.
enum Opening {
    Looks(Option<Seen>),
    Writes(Option<Seen>, Found, Plan),
}

struct Member {
    name: Node,
    holds: bool,
    replica: Replica<Said>,
    opening: Option<Opening>,
    /// What is on its way, by connection; those before the last one are dead.
    ways: Vec<VecDeque<Body>>,
    /// The stream that its consumer reads, and the next number.
    reads: Option<(i128, u64)>,
    held: Vec<Said>,
    /// Whether its clients go on without the stream.
    is_alone: bool,
    /// The epoch that its clients are in.
    log: u64,
    /// What its clients got: the epoch, the place, and what it says.
    got: Vec<(u64, u64, Said)>,
    /// Since which place of which stream epoch its clients are in it.
    history: Vec<(u64, Said)>,
    said: Vec<Said>,
    /// What was there before it began.
    restored: Vec<Said>,
    /// The epoch in which it may miss messages until the next sign of life of each node: they were evicted
    /// before it read them, or it has read no sign of life yet. The program waits for those; here is no clock.
    may_miss: Option<u64>,
    lost: Vec<Said>,
}

struct World {
    seed: u64,
    rng: Rng,
    stream: Option<Stream>,
    made: i128,
    members: Vec<Member>,
    gone: Vec<Member>,
    names: u32,
    next_said: Said,
    next_local: u64,
    /// Epochs by number; local ones have none.
    epochs: HashMap<Epoch, u64>,
    /// Whether the stream has lost its end at some time: a node that has not noticed yet speaks of it.
    has_lost_its_end: bool,
    trace: bool,
}

/// Local epochs are numbered from here on.
const LOCAL: u64 = 1 << 32;

impl World {
    fn new(seed: u64, nodes: usize) -> World {
        let mut world = World {
            seed,
            rng: Rng::with_seed(seed),
            stream: None,
            made: 0,
            members: Vec::new(),
            gone: Vec::new(),
            names: 0,
            next_said: 1,
            next_local: LOCAL,
            epochs: HashMap::new(),
            has_lost_its_end: false,
            trace: std::env::var_os("TRACE").is_some(),
        };
        for _ in 0..nodes {
            let member = world.member();
            world.members.push(member);
        }
        world
    }

    fn member(&mut self) -> Member {
        self.names += 1;
        let name = Node::from_number(self.names).unwrap();
        Member {
            name,
            holds: self.rng.bool(),
            replica: Replica::new(name, 0),
            opening: None,
            ways: vec![VecDeque::new()],
            reads: None,
            held: Vec::new(),
            is_alone: false,
            log: 0,
            got: Vec::new(),
            history: Vec::new(),
            said: Vec::new(),
            restored: Vec::new(),
            may_miss: None,
            lost: Vec::new(),
        }
    }

    fn local_epoch(&mut self) -> u64 {
        self.next_local += 1;
        self.next_local
    }

    fn epoch_number(&mut self, epoch: Epoch) -> u64 {
        let next = self.epochs.len() as u64 + 1;
        *self.epochs.entry(epoch).or_insert(next)
    }

    fn random_epoch(&mut self) -> Epoch {
        let text: String = (0..8).map(|_| self.rng.alphanumeric()).collect();
        Epoch::parse(&text).unwrap()
    }
}

fn mark_of(body: &Body) -> u64 {
    crate::server::cluster::opening::mark_of(format!("{body:?}").as_bytes())
}

fn run(seed: u64, nodes: usize, steps: usize) {
    let mut world = World::new(seed, nodes);
    let harm = [2, 5, 20, 100][seed as usize % 4];
    for _ in 0..steps {
        world.step(harm);
    }
    world.settle(seed);
    world.check(seed);
}

/// The seeds to run: SEED alone, or so many from 0 on, or SEEDS of them.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    match (number("SEED"), number("SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count_given) => 0..count_given.unwrap_or(count),
    }
}

#[test]
fn three_nodes_carry_out_one_order_whatever_happens_to_the_stream() {
    for seed in seeds(400) {
        run(seed, 3, 600);
    }
}

#[test]
fn fifty_nodes_carry_out_one_order_whatever_happens_to_the_stream() {
    for seed in seeds(6) {
        run(seed, 50, 6_000);
    }
}
