//! The nodes of a gateway's cluster, and who is in which channel on the others.
//!
//! Each node says every half second that it lives. One that was silent for three seconds is out: its
//! connections are gone, and its members have left. When it is heard again it tells who its members
//! are. This is plain data; time comes in as milliseconds.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;
use crate::listener::protocol::node::Node;

/// How long a node may be silent, in milliseconds.
pub(super) const SILENCE: u64 = 3_000;

/// Who is in which channel.
pub(super) type Memberships = HashMap<Channel, BTreeSet<ConnId>>;

/// Another node.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// When it was last heard.
    heard: u64,
    /// Its open connections.
    pub(super) connections: u64,
    /// Since when it runs, in Unix milliseconds.
    pub(super) since: u64,
    /// What its config calls it.
    pub(super) name: String,
    members: Memberships,
    /// What it has told so far of its members.
    telling: Memberships,
    /// Whether its members are known.
    told: bool,
    /// Since when it has said that it is in another epoch than this node, and when it said so last.
    elsewhere: Option<(u64, u64)>,
}

/// A change of the members on other nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// A connection is a member.
    Joined(ConnId, Channel),
    /// It is none any more.
    Left(ConnId, Channel),
    /// It is none any more, for it has ended.
    Ended(ConnId, Channel),
    /// It is none any more, for its node was lost.
    Lost(ConnId, Channel),
}

/// All other nodes.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    known: BTreeMap<Node, Known>,
}

impl Nodes {
    /// A node was heard. True if it was not known.
    pub(super) fn heard(&mut self, node: Node, now: u64) -> bool {
        let is_new = !self.known.contains_key(&node);
        self.known.entry(node).or_default().heard = now;
        is_new
    }

    /// What a node says about itself.
    pub(super) fn describe(&mut self, node: Node, connections: u64, since: u64, name: &str) {
        let Some(known) = self.known.get_mut(&node) else { return };
        known.connections = connections;
        known.since = since;
        if known.name != name {
            name.clone_into(&mut known.name);
        }
    }

    /// A node says whether it is in the same epoch. True if it has not been for longer than an epoch takes to
    /// come to all.
    pub(super) fn is_elsewhere(&mut self, node: Node, is_here: bool, now: u64) -> bool {
        let Some(known) = self.known.get_mut(&node) else { return false };
        if is_here {
            known.elsewhere = None;
            return false;
        }
        // One that has not said so for a while may have been stopped.
        let before = known.elsewhere.filter(|(_, last)| now.saturating_sub(*last) < SILENCE / 2);
        let since = before.map_or(now, |(since, _)| since);
        let is_long = now.saturating_sub(since) >= SILENCE;
        known.elsewhere = (!is_long).then_some((since, now));
        is_long
    }

    /// A connection of another node joined.
    pub(super) fn joined(&mut self, node: Node, conn: ConnId, channel: Channel) -> Option<Change> {
        let known = self.known.get_mut(&node)?;
        let is_new = known.members.entry(channel.clone()).or_default().insert(conn);
        is_new.then_some(Change::Joined(conn, channel))
    }

    /// A connection of another node left.
    pub(super) fn left(
        &mut self,
        node: Node,
        conn: ConnId,
        channel: &Channel,
        ended: bool,
    ) -> Option<Change> {
        let members = &mut self.known.get_mut(&node)?.members;
        let of = members.get_mut(channel)?;
        let was = of.remove(&conn);
        if of.is_empty() {
            members.remove(channel);
        }
        let (change, channel): (fn(_, _) -> Change, _) = match ended {
            true => (Change::Ended, channel.clone()),
            false => (Change::Left, channel.clone()),
        };
        was.then(|| change(conn, channel))
    }

    /// A node begins to tell all its members. It may have begun before, and not come to the end.
    pub(super) fn begins_to_tell(&mut self, node: Node) {
        if let Some(known) = self.known.get_mut(&node) {
            known.telling.clear();
        }
    }

    /// A node tells all its members, those of one channel at a time; with `last`, these are all.
    pub(super) fn members_told(
        &mut self,
        node: Node,
        members: Option<(Channel, Vec<ConnId>)>,
        last: bool,
    ) -> Vec<Change> {
        let Some(known) = self.known.get_mut(&node) else { return Vec::new() };
        if let Some((channel, conns)) = members {
            known.telling.entry(channel).or_default().extend(conns);
        }
        if !last {
            return Vec::new();
        }
        let new = std::mem::take(&mut known.telling);
        let old = std::mem::replace(&mut known.members, new);
        known.told = true;
        let missing = |here: &Memberships, there: &Memberships| {
            let mut found = Vec::new();
            for (channel, conns) in here {
                let others = there.get(channel);
                let is_missing =
                    |conn: &&ConnId| others.is_none_or(|others| !others.contains(conn));
                found.extend(conns.iter().filter(is_missing).map(|conn| (*conn, channel.clone())));
            }
            found
        };
        let left = missing(&old, &known.members).into_iter();
        let joined = missing(&known.members, &old).into_iter();
        left.map(|(conn, channel)| Change::Left(conn, channel))
            .chain(joined.map(|(conn, channel)| Change::Joined(conn, channel)))
            .collect()
    }

    /// The nodes that were silent for too long are out.
    pub(super) fn expire(&mut self, now: u64) -> Vec<(Node, Vec<Change>)> {
        let is_silent = |_: &Node, known: &mut Known| now.saturating_sub(known.heard) >= SILENCE;
        let out: Vec<(Node, Known)> = self.known.extract_if(.., is_silent).collect();
        out.into_iter().map(|(node, known)| (node, lost(known))).collect()
    }

    /// A node has said that it ends.
    pub(super) fn ended(&mut self, node: Node) -> Vec<Change> {
        self.known.remove(&node).map(lost).unwrap_or_default()
    }

    /// What is known of a node's members may be wrong.
    pub(super) fn doubt(&mut self, node: Node) {
        if let Some(known) = self.known.get_mut(&node) {
            known.told = false;
        }
    }

    /// What is known of all nodes' members may be wrong.
    pub(super) fn doubt_all(&mut self) {
        self.known.values_mut().for_each(|known| known.told = false);
    }

    /// All of them were heard now: we were not able to hear them.
    pub(super) fn excuse(&mut self, now: u64) {
        self.known.values_mut().for_each(|known| known.heard = now);
    }

    /// For so long we were not able to hear them.
    pub(super) fn excuse_for(&mut self, time: u64, now: u64) {
        let excuse = |known: &mut Known| known.heard = known.heard.saturating_add(time).min(now);
        self.known.values_mut().for_each(excuse);
    }

    /// Whether a node is one of them.
    pub(super) fn knows(&self, node: Node) -> bool {
        self.known.contains_key(&node)
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = (Node, &Known)> {
        self.known.iter().map(|(node, known)| (*node, known))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.known.len()
    }

    /// The members of a channel on other nodes.
    pub(super) fn members<'a>(&'a self, channel: &'a Channel) -> impl Iterator<Item = ConnId> + 'a {
        self.known
            .values()
            .flat_map(move |known| known.members.get(channel).into_iter().flatten())
            .copied()
    }
}

impl Known {
    /// Milliseconds since it was heard.
    pub(super) fn silent_for(&self, now: u64) -> u64 {
        now.saturating_sub(self.heard)
    }

    /// Whether its members are known.
    pub(super) fn told(&self) -> bool {
        self.told
    }
}

fn lost(known: Known) -> Vec<Change> {
    let of = |(channel, conns): (Channel, BTreeSet<ConnId>)| {
        conns.into_iter().map(move |conn| Change::Lost(conn, channel.clone()))
    };
    known.members.into_iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_stays_in_another_epoch_is_noticed() {
        let node = Node::from_number(1).unwrap();
        let said = |at: &[(u64, bool)]| {
            let mut nodes = Nodes::default();
            nodes.heard(node, 0);
            at.iter()
                .map(|(now, is_here)| nodes.is_elsewhere(node, *is_here, *now))
                .collect::<Vec<_>>()
        };
        let often = |from: u64| (0..7).map(move |beat| (from + beat * 500, false));
        assert!(said(&often(0).collect::<Vec<_>>()).ends_with(&[false, true]));
        let back: Vec<_> =
            often(0).take(5).chain([(2_500, true)]).chain(often(3_000).take(5)).collect();
        assert!(!said(&back).contains(&true), "it came to ours in between");
        assert!(
            !said(&[(0, false), (20_000, false), (20_500, false)]).contains(&true),
            "it was stopped"
        );
    }

    #[test]
    fn a_dead_node_is_out_soon_however_often_this_one_stands_still() {
        let mut nodes = Nodes::default();
        let node = |number| Node::from_number(number).unwrap();
        nodes.heard(node(1), 0);
        nodes.heard(node(2), 0);
        let (mut now, mut ran) = (0, 0);
        // It runs for 100 ms, then stands still for 600 ms; one of the two says something each time.
        while nodes.count() == 2 {
            now += 700;
            ran += 100;
            nodes.excuse_for(600, now);
            nodes.heard(node(1), now);
            nodes.expire(now);
            assert!(ran <= SILENCE);
        }
        assert!(ran == SILENCE && nodes.knows(node(1)));
        // A long pause alone makes nobody silent.
        nodes.excuse_for(20_000, now + 20_000);
        assert!(nodes.expire(now + 20_000).is_empty());
    }
}
