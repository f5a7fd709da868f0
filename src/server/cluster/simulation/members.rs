//! Fifty nodes whose clients join and leave, while nodes are paused, lost and started: in the end all nodes
//! agree on who is in which channel, and whoever is told of changes has come to the same. And what comes of
//! a delivery adds up, whoever answers.
//!
//! All nodes read one list of entries in its order, each at its own pace; that this order is one is
//! simulated elsewhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fastrand::Rng;

use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;
use crate::listener::protocol::node::Node;
use crate::server::cluster::counts::{Answer, Asker, Counts};
use crate::server::cluster::nodes::{Change, Memberships, Nodes, SILENCE};
use crate::server::cluster::wire::Entry;

/// Milliseconds between signs of life.
const BEAT: u64 = 500;

struct Member {
    name: Node,
    nodes: Nodes,
    own: Memberships,
    /// What somebody who is told of changes takes for the members on other nodes.
    told: BTreeSet<(ConnId, String)>,
    /// The entries that it has read.
    read: usize,
    next_beat: u64,
    /// Until when it does not run.
    paused: u64,
}

struct World {
    rng: Rng,
    seed: u64,
    now: u64,
    entries: Vec<(Node, Entry)>,
    members: Vec<Member>,
    names: u32,
    conns: u64,
}

impl World {
    fn new(seed: u64, nodes: usize) -> World {
        let (rng, members) = (Rng::with_seed(seed), Vec::new());
        let mut world =
            World { rng, seed, now: 1, entries: Vec::new(), members, names: 0, conns: 0 };
        (0..nodes).for_each(|_| world.start());
        world
    }

    fn start(&mut self) {
        self.names += 1;
        self.members.push(Member {
            name: Node::from_number(self.names).unwrap(),
            nodes: Nodes::default(),
            own: Memberships::default(),
            told: BTreeSet::new(),
            read: self.entries.len(),
            next_beat: self.now,
            paused: 0,
        });
    }

    fn step(&mut self) {
        let at = self.rng.usize(..self.members.len());
        match self.rng.u8(..100) {
            0..=14 => self.join(at),
            15..=24 => self.leave(at),
            25 => self.members[at].paused = self.now + self.rng.u64(..3 * SILENCE),
            26 if self.rng.u8(..4) == 0 => {
                let gone = self.members.swap_remove(at);
                if self.rng.bool() {
                    self.entries.push((gone.name, Entry::Bye));
                }
                self.start();
            }
            // It begins to tell its members, and does not come to the end.
            27 => self.tell(at, false),
            28..=30 => self.members[at].nodes.doubt_all(),
            _ => {}
        }
        self.now += self.rng.u64(..20);
        for at in 0..self.members.len() {
            if self.members[at].paused <= self.now && self.rng.bool() {
                let most = self.rng.usize(..200);
                self.run(at, most);
            }
        }
    }

    fn join(&mut self, at: usize) {
        self.conns += 1;
        let conn = ConnId(self.conns);
        let channel = Channel::parse(["a", "b", "c"][self.rng.usize(..3)]).unwrap();
        let member = &mut self.members[at];
        member.own.entry(channel.clone()).or_default().insert(conn);
        self.entries.push((member.name, Entry::Joined(conn, channel)));
    }

    fn leave(&mut self, at: usize) {
        let member = &mut self.members[at];
        let found = member.own.iter().next().map(|(channel, _)| channel.clone());
        let Some(channel) = found else { return };
        let Some(of) = member.own.get_mut(&channel) else { return };
        let Some(conn) = of.pop_first() else { return };
        if of.is_empty() {
            member.own.remove(&channel);
        }
        let ended = self.rng.bool();
        // A node that cannot reach the stream tells nobody, and tells all its members later.
        match self.rng.u8(..5) {
            0 => self.tell(at, true),
            _ => self.entries.push((self.members[at].name, Entry::Left(conn, channel, ended))),
        }
    }

    fn tell(&mut self, at: usize, whole: bool) {
        let member = &self.members[at];
        self.entries.push((member.name, Entry::Tells));
        for (channel, conns) in &member.own {
            let conns = conns.iter().copied().collect();
            self.entries.push((member.name, Entry::Members(channel.clone(), conns)));
        }
        if whole {
            self.entries.push((member.name, Entry::AllTold));
        }
    }

    /// A node reads so much at most, and looks at its clocks.
    fn run(&mut self, at: usize, most: usize) {
        let until = (self.members[at].read + most).min(self.entries.len());
        let mut is_asked = false;
        while self.members[at].read < until {
            let (node, entry) = self.entries[self.members[at].read].clone();
            self.members[at].read += 1;
            is_asked |= self.members[at].reads(node, entry, self.now);
        }
        if is_asked {
            self.tell(at, true);
        }
        let caught_up = self.members[at].read == self.entries.len();
        let member = &mut self.members[at];
        if !caught_up {
            member.nodes.excuse(self.now);
        }
        for (_, changes) in member.nodes.expire(self.now) {
            member.changed(changes);
        }
        if member.next_beat <= self.now {
            member.next_beat = self.now + BEAT;
            let untold = member.nodes.all().filter(|(_, known)| !known.told());
            let asks = untold.map(|(node, _)| node).collect();
            let (connections, name) = (0, String::new());
            let beat = Entry::Beat { connections, since: 1, seen: 0, epoch: None, asks, name };
            self.entries.push((member.name, beat));
        }
    }

    fn settle(&mut self) {
        self.members.iter_mut().for_each(|member| member.paused = 0);
        for _ in 0..40 {
            self.now += BEAT / 2;
            for at in 0..self.members.len() {
                self.run(at, usize::MAX / 2);
            }
        }
    }

    fn check(&self) {
        let seed = self.seed;
        for member in &self.members {
            assert_eq!(member.nodes.count() + 1, self.members.len(), "seed {seed}: nodes");
            let mut others: BTreeMap<&str, BTreeSet<ConnId>> = BTreeMap::new();
            for other in self.members.iter().filter(|other| other.name != member.name) {
                for (channel, conns) in &other.own {
                    others.entry(channel.as_str()).or_default().extend(conns);
                }
            }
            for channel in ["a", "b", "c"] {
                let parsed = Channel::parse(channel).unwrap();
                let known: BTreeSet<ConnId> = member.nodes.members(&parsed).collect();
                let name = member.name;
                let there = others.get(channel).cloned().unwrap_or_default();
                assert_eq!(known, there, "seed {seed}: {channel} at {name}");
                let told = member.told.iter().filter(|(_, of)| of == channel);
                let told: BTreeSet<ConnId> = told.map(|(conn, _)| *conn).collect();
                assert_eq!(told, there, "seed {seed}: what is told of {channel} at {name}");
            }
        }
    }
}

impl Member {
    /// True if it is asked who its members are.
    fn reads(&mut self, node: Node, entry: Entry, now: u64) -> bool {
        if node == self.name {
            return false;
        }
        if entry != Entry::Bye {
            self.nodes.heard(node, now);
        }
        let changes = match entry {
            Entry::Beat { asks, .. } => return asks.contains(&self.name),
            Entry::Joined(conn, channel) => {
                self.nodes.joined(node, conn, channel).into_iter().collect()
            }
            Entry::Left(conn, channel, ended) => {
                self.nodes.left(node, conn, &channel, ended).into_iter().collect()
            }
            Entry::Tells => {
                self.nodes.begins_to_tell(node);
                Vec::new()
            }
            Entry::Members(channel, conns) => {
                self.nodes.members_told(node, Some((channel, conns)), false)
            }
            Entry::AllTold => self.nodes.members_told(node, None, true),
            Entry::Bye => self.nodes.ended(node),
            Entry::Deliver { .. } | Entry::Close { .. } | Entry::Marker(_) => Vec::new(),
        };
        self.changed(changes);
        false
    }

    fn changed(&mut self, changes: Vec<Change>) {
        for change in changes {
            let (joined, conn, channel) = match change {
                Change::Joined(conn, channel) => (true, conn, channel),
                Change::Left(conn, channel)
                | Change::Ended(conn, channel)
                | Change::Lost(conn, channel) => (false, conn, channel),
            };
            let key = (conn, channel.as_str().to_owned());
            let is_new = if joined { self.told.insert(key) } else { self.told.remove(&key) };
            assert!(is_new, "nobody is told twice that {conn} joined or left");
        }
    }
}

#[test]
fn fifty_nodes_agree_on_the_members_of_channels() {
    for seed in super::seeds(4) {
        let mut world = World::new(seed, 50);
        (0..1_500).for_each(|_| world.step());
        world.settle();
        world.check();
    }
}

#[test]
fn what_fifty_nodes_say_of_deliveries_adds_up() {
    for seed in super::seeds(20) {
        let mut rng = Rng::with_seed(seed);
        let nodes: Vec<Node> = (1..=50).map(|name| Node::from_number(name).unwrap()).collect();
        let mut counts = Counts::default();
        let mut expected = HashMap::new();
        let mut answers = Vec::new();
        for delivery in 0..200 {
            let place = (delivery / 3, (delivery % 3) as u16);
            let asker = Asker::Close(format!("{delivery}"));
            let asked: BTreeSet<Node> =
                rng.choose_multiple(nodes.iter().copied(), 20).into_iter().collect();
            let (mut sum, mut silent) = (0, Vec::new());
            for node in &asked {
                let delivered = rng.u64(..1_000);
                match rng.u8(..10) {
                    0 => silent.push(node.to_string()),
                    _ => {
                        sum += delivered;
                        let answer = Answer { delivered, ..Answer::nothing(*node, place) };
                        // Some come twice, and some of nodes that were not asked.
                        answers.extend(vec![answer.clone(); 1 + rng.usize(..2)]);
                        let stranger = Node::from_number(99).unwrap();
                        answers.push(Answer { node: stranger.to_string(), ..answer });
                    }
                }
            }
            counts.ask(place, asker, (asked, 50), Vec::new(), 0);
            expected.insert(format!("{delivery}"), (sum, silent));
        }
        rng.shuffle(&mut answers);
        answers.into_iter().for_each(|answer| counts.answered(answer));
        let early = counts.take_done(0);
        let late = counts.take_done(500);
        assert!(counts.is_empty() && !early.is_empty() && !late.is_empty());
        for (told, is_late) in early
            .into_iter()
            .map(|told| (told, false))
            .chain(late.into_iter().map(|told| (told, true)))
        {
            let Asker::Close(delivery) = told.asker else { panic!("somebody else is told") };
            let (sum, silent) = expected.remove(&delivery).unwrap();
            assert_eq!(told.outcome.delivered, sum, "seed {seed}: delivery {delivery}");
            assert_eq!(!silent.is_empty(), is_late, "who is complete does not wait");
            assert_eq!(told.outcome.silent, Some(silent));
        }
        assert!(expected.is_empty());
    }
}
