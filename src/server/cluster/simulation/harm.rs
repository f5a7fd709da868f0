//! What happens to the stream and to the nodes, and how all of it heals.

use std::collections::VecDeque;

use super::{Body, World};
use crate::server::cluster::replica::Link;

impl World {
    /// The stream takes something that is on its way.
    pub(super) fn flow(&mut self, at: usize, is_oldest: bool) -> bool {
        let member = &mut self.members[at];
        let way = match is_oldest {
            true => 0,
            false => self.rng.usize(..member.ways.len()),
        };
        let body = member.ways[way].pop_front();
        if member.ways[way].is_empty() && way + 1 < member.ways.len() {
            member.ways.remove(way);
        }
        let Some(body) = body else { return member.ways.len() > 1 };
        if let Some(stream) = &mut self.stream {
            stream.take(body);
        }
        true
    }

    /// A connection breaks: of what is on its way, the beginning may come later.
    pub(super) fn break_way(&mut self, at: usize) {
        let member = &mut self.members[at];
        let way = member.ways.last_mut().unwrap();
        way.truncate(self.rng.usize(..=way.len()));
        member.ways.push(VecDeque::new());
    }

    pub(super) fn harm(&mut self) {
        let what = self.rng.u8(..5);
        if self.trace {
            eprintln!("harm {what}");
        }
        match what {
            0 => {
                // The stream is deleted.
                self.stream = None;
            }
            1 => {
                // A server that was killed has lost the end.
                let count = self.rng.u64(1..12);
                let Some(stream) = &mut self.stream else { return };
                self.has_lost_its_end = true;
                stream.last = stream.last.saturating_sub(count);
                let gone = stream.messages.split_off(&(stream.last + 1));
                for body in gone.into_values() {
                    if let Body::Message(node, number, attempt, _) = body {
                        stream.taken.remove(&(node, number, attempt));
                    }
                }
                let last = stream.last;
                let epoch = stream.epoch().map(|(epoch, _)| epoch);
                let epoch = epoch.map(|epoch| self.epoch_number(epoch));
                for gone in &mut self.gone {
                    // Nobody is left who knows that there was more.
                    gone.got.retain(|(of, at, _)| Some(*of) != epoch || *at <= last);
                }
                for at in 0..self.members.len() {
                    self.break_way(at);
                    // Its consumers are gone.
                    self.members[at].reads = None;
                    self.members[at].opening = None;
                    self.lose(at);
                    // What a node puts there before one is back that has read more is in the same epoch. That
                    // cannot be helped.
                    if self.members[at].replica.handled() > last {
                        (0..3).for_each(|_| self.open(at));
                    }
                }
            }
            2 => {
                // The oldest messages are evicted; the epoch's is written again in time.
                let count = self.rng.u64(1..20);
                let Some(stream) = &mut self.stream else { return };
                let until = (stream.first() + count).min(stream.last);
                let epoch = stream.epoch();
                stream.messages = stream.messages.split_off(&until);
                if let Some((epoch, at)) = epoch
                    && at < until
                    && self.rng.u8(..4) > 0
                {
                    stream.take(Body::Epoch(epoch, true));
                }
            }
            3 => {
                // A node is killed, and another one begins.
                let at = self.rng.usize(..self.members.len());
                let new = self.member();
                let gone = std::mem::replace(&mut self.members[at], new);
                self.gone.push(gone);
            }
            _ => {
                let at = self.rng.usize(..self.members.len());
                self.break_way(at);
                self.lose(at);
            }
        }
    }

    pub(super) fn step(&mut self, harm: u32) {
        let at = self.rng.usize(..self.members.len());
        match self.rng.u8(..20) {
            0..=3 => self.say(at),
            4..=8 => {
                self.flow(at, false);
            }
            9..=15 => {
                self.read(at);
            }
            16 => self.beat(at),
            17 => self.open(at),
            18 => {
                // Its clocks.
                let lost = self.members[at].reads.is_none_or(|(made, _)| {
                    self.stream.as_ref().is_none_or(|stream| stream.made != made)
                });
                if lost {
                    self.lose(at);
                } else {
                    self.members[at].replica.again();
                    self.flush(at);
                }
            }
            _ if self.rng.u32(..harm) == 0 => self.harm(),
            _ => {}
        }
    }

    /// Everything heals.
    pub(super) fn settle(&mut self, seed: u64) {
        for _ in 0..200 {
            let mut moves = false;
            for at in 0..self.members.len() {
                self.beat(at);
                while self.flow(at, true) {}
            }
            for at in 0..self.members.len() {
                for _ in 0..4 {
                    self.open(at);
                }
                while self.read(at) {}
                let stream = self.stream.as_ref().map(|stream| stream.made);
                let member = &mut self.members[at];
                if member.reads.is_none_or(|(made, _)| Some(made) != stream) {
                    self.lose(at);
                } else {
                    member.replica.again();
                    self.flush(at);
                }
                let member = &self.members[at];
                moves |= member.replica.link != Link::Up || member.replica.is_waiting();
                moves |= !member.held.is_empty();
            }
            if !moves {
                for at in 0..self.members.len() {
                    while self.flow(at, true) {}
                }
                for at in 0..self.members.len() {
                    while self.read(at) {}
                }
                return;
            }
        }
        for member in &self.members {
            eprintln!(
                "{}: {:?}, waits {}, marked {}, unseen {}, held {}, reads {:?}, ways {}",
                member.name,
                member.replica.link,
                member.replica.is_waiting(),
                member.replica.order.is_sent(),
                member.replica.order.unseen(),
                member.held.len(),
                member.reads,
                member.ways.len(),
            );
        }
        panic!("seed {seed}: some node never comes back");
    }
}
