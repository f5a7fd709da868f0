//! What a node does: as the cluster's task does it, without its sockets and clocks.

use bytes::Bytes;

use super::{Body, Opening, Said, Stream, World, mark_of};
use crate::listener::protocol::node::Node;
use crate::server::cluster::opening;
use crate::server::cluster::opening::{Found, Plan, Seen, Write};
use crate::server::cluster::order::Arrival;
use crate::server::cluster::replica::{Comes, EpochComes, Link, Opened};

impl World {
    pub(super) fn say(&mut self, at: usize) {
        let said = self.next_said;
        self.next_said += 1;
        self.members[at].said.push(said);
        self.route(at, said);
    }

    pub(super) fn route(&mut self, at: usize, said: Said) {
        let local = self.local_epoch();
        let goes_alone = self.rng.u8(..4) == 0;
        let member = &mut self.members[at];
        match member.replica.link {
            Link::Up => member.replica.order.sent(Bytes::new(), vec![said]),
            Link::Down if !member.holds && (member.is_alone || goes_alone) => {
                member.is_alone = true;
                if member.replica.go_alone() || member.replica.is_restoring() {
                    member.log = local;
                }
                let held = std::mem::take(&mut member.held);
                let goes = held.into_iter().chain([said]);
                member.got.extend(goes.map(|said| (member.log, 0, said)));
            }
            _ => member.held.push(said),
        }
        self.flush(at);
    }

    pub(super) fn flush(&mut self, at: usize) {
        let member = &mut self.members[at];
        let way = member.ways.last_mut().unwrap();
        if let Some(marker) = member.replica.take_marker() {
            way.push_back(Body::Marker(member.name, marker));
        }
        if member.replica.link != Link::Up {
            return;
        }
        for (number, attempt, items) in member.replica.order.unpublished_items() {
            way.push_back(Body::Message(member.name, number, attempt, items[0]));
        }
    }

    pub(super) fn beat(&mut self, at: usize) {
        let member = &mut self.members[at];
        if member.replica.link != Link::Down {
            let beat =
                Body::Beat(member.name, member.replica.order.seen(), member.replica.marked_epoch());
            member.ways.last_mut().unwrap().push_back(beat);
        }
    }

    pub(super) fn lose(&mut self, at: usize) {
        let member = &mut self.members[at];
        if member.replica.link == Link::Down {
            return;
        }
        member.replica.lost();
        member.reads = None;
    }

    pub(super) fn alone(&mut self, at: usize) {
        self.members[at].log = self.local_epoch();
        self.members[at].history.clear();
    }

    pub(super) fn wrong(&mut self, at: usize, of: Node) {
        let (seed, name) = (self.seed, self.members[at].name);
        let handled = self.members[at].replica.handled();
        if self.members[at].may_miss.is_some() || self.has_lost_its_end {
            if self.members[at].replica.stray() {
                self.alone(at);
            }
            return self.lose(at);
        }
        panic!(
            "seed {seed}: at {handled}, {name} misses messages of {of} that stand in the stream"
        );
    }

    pub(super) fn open(&mut self, at: usize) {
        if self.members[at].replica.link != Link::Down {
            return;
        }
        let opening = self.members[at].opening.take();
        match opening {
            None => {
                self.members[at].opening = Some(Opening::Looks(self.members[at].replica.seen()));
            }
            Some(Opening::Looks(seen)) => {
                if self.stream.is_none() {
                    self.made += 1;
                    self.stream = Some(Stream { made: self.made, ..Stream::default() });
                }
                let stream = self.stream.as_ref().unwrap();
                let mark = seen.as_ref().and_then(|seen| stream.messages.get(&seen.handled));
                let mark = mark.map(mark_of);
                let (first, last) = (stream.first(), stream.last);
                let repeats = stream.epoch_there().is_some_and(|there| there.1);
                let (made, epoch) = (stream.made, stream.epoch());
                let found = Found { made, first, last, epoch, repeats, mark };
                let plan = opening::plan(seen.as_ref(), &found);
                self.members[at].opening = Some(Opening::Writes(seen, found, plan));
            }
            Some(Opening::Writes(seen, found, plan)) => self.end_open(at, seen, found, plan),
        }
    }

    pub(super) fn end_open(&mut self, at: usize, seen: Option<Seen>, found: Found, plan: Plan) {
        let random = self.random_epoch();
        let Some(stream) = self.stream.as_mut().filter(|stream| stream.made == found.made) else {
            return;
        };
        let before = found.epoch;
        let is_moved = stream.epoch() != before;
        let epoch = match (plan.write, before) {
            (Write::Nothing, Some(epoch)) => epoch,
            // Another node was quicker; it may have repeated one.
            (write, _) if is_moved => match stream.epoch_there() {
                Some((now, repeats)) if write != Write::Another || !repeats => now,
                _ => return,
            },
            (Write::Again(epoch), _) => (epoch, stream.take(Body::Epoch(epoch, true)).unwrap()),
            _ => (random, stream.take(Body::Epoch(random, false)).unwrap()),
        };
        let reads = (seen.as_ref(), plan);
        let from = opening::reads_from(reads, (found.first, stream.last, epoch.1), true);
        let opened = Opened {
            made: found.made,
            epoch,
            from,
            begins: plan.begins,
            is_other: plan.is_other,
            has_hole: plan.has_hole,
            strayed: seen.is_some_and(|seen| seen.strayed),
        };
        let member = &mut self.members[at];
        if member.replica.is_outdated(&opened) {
            return;
        }
        member.reads = Some((found.made, from));
        member.is_alone = false;
        if plan.begins {
            member.history.clear();
            // Those that are heard too seldom here may have counted before.
            member.may_miss = (from > 1).then_some(0);
        }
        if self.trace {
            eprintln!("  {} opens: {opened:?}", member.name);
        }
        if member.replica.opened(&opened) {
            self.alone(at);
        }
        self.flush(at);
    }

    pub(super) fn read(&mut self, at: usize) -> bool {
        let Some((made, next)) = self.members[at].reads else { return false };
        let Some(stream) = self.stream.as_ref().filter(|stream| stream.made == made) else {
            return false;
        };
        let Some((sequence, body)) = stream.messages.range(next..).next() else { return false };
        let (sequence, body, stream_first) = (*sequence, body.clone(), stream.first());
        self.members[at].reads = Some((made, sequence + 1));
        if self.trace {
            eprintln!("  {} reads {sequence}: {body:?}", self.members[at].name);
        }
        let first = stream_first;
        let member = &mut self.members[at];
        let nothing_evicted = first <= member.replica.handled() + 1;
        if !nothing_evicted && member.replica.is_restoring() {
            member.may_miss = Some(member.log);
        }
        let mut comes = member.replica.comes(sequence, mark_of(&body), false);
        if comes == Comes::Jump && nothing_evicted {
            comes = member.replica.comes(sequence, mark_of(&body), true);
        }
        match comes {
            Comes::Next => self.handle(at, sequence, body),
            Comes::Before => self.lose(at),
            Comes::Jump => self.lose(at),
            Comes::TooLate => self.lose(at),
        }
        if self.trace {
            let member = &self.members[at];
            let (name, link, epoch) = (member.name, member.replica.link, member.log);
            eprintln!("    {name}: {link:?}, epoch {epoch}, may miss {:?}", member.may_miss);
        }
        self.flush(at);
        true
    }

    // Long because it is one match over what may come.
    pub(super) fn handle(&mut self, at: usize, sequence: u64, body: Body) {
        let epoch = match &body {
            Body::Epoch(epoch, _) => self.epoch_number(*epoch),
            Body::Marker(_, marker) => self.epoch_number(marker.epoch),
            _ => 0,
        };
        let member = &mut self.members[at];
        match body {
            Body::Epoch(new, repeats) => match member.replica.epoch_comes(new, repeats) {
                EpochComes::Begins(lost) => {
                    assert!(lost.is_empty() || !member.holds, "a holding node gives up");
                    member.lost.extend(lost);
                    match member.replica.is_restoring() {
                        true => member.may_miss = None,
                        false => member.log = epoch,
                    }
                    member.history.clear();
                }
                EpochComes::Again => {}
                EpochComes::BeganUnread => {
                    if member.replica.stray() {
                        self.alone(at);
                    }
                    self.lose(at);
                }
            },
            Body::Marker(node, marker) => {
                let marked = member.replica.marker_comes(node, &marker);
                if marked.is_wrong {
                    return self.wrong(at, node);
                }
                if marked.is_up {
                    if member.replica.is_restoring() {
                        member.log = epoch;
                        member.may_miss = member.may_miss.map(|_| epoch);
                    }
                    let (_, unsure) = member.replica.caught_up();
                    if let Some(unsure) = unsure {
                        member.history.retain(|(at, _)| *at > unsure);
                    }
                    for said in std::mem::take(&mut member.held) {
                        self.route(at, said);
                    }
                }
            }
            Body::Beat(node, seen, epoch) => {
                if !member.replica.is_restoring() && member.replica.beat_comes(node, seen, epoch) {
                    self.wrong(at, node);
                }
            }
            Body::Message(node, number, _, said) => {
                let (restoring, name) = (member.replica.is_restoring(), member.name);
                match member.replica.message_comes(node, number) {
                    Arrival::Ignored => return,
                    Arrival::Kept if node != name && !restoring && member.replica.stray() => {
                        self.alone(at);
                        return self.lose(at);
                    }
                    Arrival::Kept => {}
                    Arrival::Unclear if restoring => {
                        member.history.clear();
                        member.restored.clear();
                        return;
                    }
                    Arrival::Unclear => return self.wrong(at, node),
                    Arrival::Ours(items) => {
                        assert_eq!(items, [said]);
                        member.got.push((member.log, sequence, said));
                    }
                    // Its clients have it from the history, or come after it.
                    Arrival::Theirs if restoring => member.restored.push(said),
                    Arrival::Theirs => member.got.push((member.log, sequence, said)),
                }
                member.history.push((sequence, said));
            }
        }
    }
}
