//! What has to be true in the end.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{LOCAL, Member, Said, World};
use crate::listener::protocol::node::Node;

impl World {
    pub(super) fn check(&self, seed: u64) {
        self.check_senders(seed);
        let places = self.places(seed);
        self.check_epochs(seed, &places);
        self.check_members(seed);
    }

    /// Everybody gets what one node has said in the order in which it was said.
    fn check_senders(&self, seed: u64) {
        let mut author: HashMap<Said, Node> = HashMap::new();
        for member in self.members.iter().chain(&self.gone) {
            author.extend(member.said.iter().map(|said| (*said, member.name)));
        }
        for member in self.members.iter().chain(&self.gone) {
            let mut last: HashMap<Node, Said> = HashMap::new();
            // What went to its own clients alone comes in front of what was on its way.
            for (_, place, said) in member.got.iter().filter(|(_, place, _)| *place > 0) {
                let before = last.insert(author[said], *said).unwrap_or(0);
                let name = member.name;
                assert!(before < *said, "seed {seed}: {name} got {before} before {said} ({place})");
            }
        }
    }

    /// What stands at each place of an epoch, by whoever got it there: one message, and nobody gets one twice.
    fn places(&self, seed: u64) -> BTreeMap<(u64, u64), Said> {
        let mut places: BTreeMap<(u64, u64), Said> = BTreeMap::new();
        for member in self.members.iter().chain(&self.gone) {
            let mut once = HashSet::new();
            for (epoch, place, said) in &member.got {
                assert!(once.insert(*said), "seed {seed}: {} got {said} twice", member.name);
                if *epoch < LOCAL && *place > 0 && Some(*epoch) != member.may_miss {
                    let there = *places.entry((*epoch, *place)).or_insert(*said);
                    assert_eq!(there, *said, "seed {seed}: two messages at {epoch}-{place}");
                }
            }
            for pair in member.got.windows(2) {
                let (before, then) = (&pair[0], &pair[1]);
                assert!(
                    before.0 != then.0 || then.1 == 0 || before.1 < then.1,
                    "seed {seed}: {} got {before:?} before {then:?}",
                    member.name
                );
            }
        }
        places
    }

    /// Within an epoch nobody misses what another one gets.
    fn check_epochs(&self, seed: u64, places: &BTreeMap<(u64, u64), Said>) {
        for member in self.members.iter().chain(&self.gone) {
            // What was carried out in another epoch, clients that came later have not got.
            let got: HashSet<_> =
                member.got.iter().map(|(epoch, _, said)| (*epoch, *said)).collect();
            let mut since: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
            for (epoch, place, _) in member.got.iter().filter(|(epoch, _, _)| *epoch < LOCAL) {
                let range = since.entry(*epoch).or_insert((*place, *place));
                range.1 = *place;
            }
            since.retain(|epoch, _| Some(*epoch) != member.may_miss);
            for (epoch, (from, to)) in since {
                for ((_, place), said) in places.range((epoch, from)..=(epoch, to)) {
                    assert!(
                        got.contains(&(epoch, *said)),
                        "seed {seed}: {} misses {said} at {epoch}-{place}, {from} to {to}",
                        member.name
                    );
                }
            }
        }
    }

    /// What a node has said is there or lost, and all have one epoch and one history.
    fn check_members(&self, seed: u64) {
        for member in &self.members {
            let got: HashSet<Said> = member.got.iter().map(|(_, _, said)| *said).collect();
            let lost: HashSet<Said> = member.lost.iter().copied().collect();
            for said in &member.said {
                assert!(
                    got.contains(said) != lost.contains(said),
                    "seed {seed}: {} said {said}: got {}, lost {}",
                    member.name,
                    got.contains(said),
                    lost.contains(said)
                );
            }
            let other = &self.members[0];
            assert_eq!(member.log, other.log, "seed {seed}: {} is in another epoch", member.name);
            // Who began in the middle of the epoch may keep copies there that count for nobody else.
            if [member, other].iter().any(|of| of.may_miss == Some(of.log)) {
                continue;
            }
            let from = |member: &Member| member.history.first().map_or(0, |(at, _)| *at);
            let from = from(member).max(from(other));
            let kept = |member: &Member| {
                let kept = member.history.iter().filter(|(at, _)| *at >= from);
                kept.copied().collect::<Vec<_>>()
            };
            assert_eq!(
                kept(member),
                kept(other),
                "seed {seed}: the histories of {} and {}",
                member.name,
                other.name
            );
        }
    }
}
