//! What of a log somebody is sent who asks for it.

use std::collections::BinaryHeap;

use super::log::Log;
use super::messages::Kept;
use super::ring::Ring;
use crate::listener::protocol::channel::Channel;
use crate::text::position::{Position, Since};

/// What a client asks for.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The channels that it is in.
    pub channels: &'a [Channel],
    /// Whether it asks for what went to all, too. That counts as one more channel.
    pub all: bool,
    /// From where on.
    pub since: Option<Since>,
    /// It gets nothing behind this number, because it gets that live.
    pub newest: u64,
    /// From where on if `since` is a position that cannot be served. A position counts as `None`.
    pub fallback: Option<Since>,
    /// The most bytes that it is sent, counted as frames.
    pub max_bytes: usize,
    /// The most messages that it is sent.
    pub max_messages: usize,
}

impl Ask<'_> {
    /// The replay of somebody who is sent nothing.
    pub(crate) fn nothing(&self) -> Replay {
        Replay {
            recovered: None,
            before: self.newest,
            messages: Vec::new(),
            from: vec![self.newest; self.channels.len()],
            from_all: self.newest,
        }
    }
}

/// What a client is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Whether it gets everything behind the position that it gave; `None` if it gave none.
    pub recovered: Option<bool>,
    /// The number of the last message in front of what it is sent: the one of its position if that
    /// was recovered, else the one before the first message that it is sent, else `newest`.
    pub before: u64,
    /// What it is sent, in order.
    pub messages: Vec<Kept>,
    /// For each of its channels: it has all messages behind this number.
    pub from: Vec<u64>,
    /// The same for what goes to all.
    pub from_all: u64,
}

/// What somebody asks for who looks at the history.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// The channels; `None` for everything, with what went to all.
    pub channels: Option<&'a [Channel]>,
    /// From where on.
    pub since: Option<Since>,
    /// The most messages: the oldest behind a position, else the newest.
    pub max_messages: usize,
    /// The most bytes, in the same way, counted as frames.
    pub max_bytes: usize,
}

/// A part of a ring.
struct Part<'a> {
    ring: &'a Ring,
    from: usize,
    to: usize,
}

/// What is behind a position.
struct Behind<'a> {
    parts: Vec<Part<'a>>,
    /// As [`Replay::from`].
    from: Vec<u64>,
    /// As [`Replay::from_all`].
    from_all: u64,
}

/// The most of what may be sent.
#[derive(Clone, Copy)]
struct Bounds {
    messages: usize,
    bytes: usize,
}

impl Log {
    /// What a client is sent that asks for kept messages.
    pub fn replay(&mut self, ask: &Ask<'_>, now: u64) -> Replay {
        self.expire(now);
        let given = ask.since.and_then(Since::position);
        if let Some(position) = given {
            if let Some(replay) = self.resume(ask, position, now) {
                return replay;
            }
            let mut replay = self.recent(ask, ask.fallback, now);
            replay.recovered = Some(false);
            return replay;
        }
        self.recent(ask, ask.since, now)
    }

    /// Everything behind a position; `None` if something is missing or it is too much.
    fn resume(&self, ask: &Ask<'_>, position: Position, now: u64) -> Option<Replay> {
        let Behind { parts, from, from_all } = self.behind(ask, position, now)?;
        let (messages, rest) = self.newest_of(&parts, bounds(ask));
        rest.is_none().then_some(Replay {
            recovered: Some(true),
            before: position.number,
            messages,
            from,
            from_all,
        })
    }

    /// What is behind a position, for somebody who comes again: the oldest of it that fits, one message
    /// at least, and the number up to which that is everything. `None` if something is missing.
    pub fn after(
        &mut self,
        ask: &Ask<'_>,
        position: Position,
        now: u64,
    ) -> Option<(Vec<Kept>, u64)> {
        self.expire(now);
        let Behind { parts, .. } = self.behind(ask, position, now)?;
        let (mut messages, mut is_all) = self.oldest_of(&parts, bounds(ask));
        if messages.is_empty() && !is_all {
            (messages, is_all) = self.oldest_of(&parts, Bounds { messages: 1, bytes: usize::MAX });
        }
        let to = messages.last().filter(|_| !is_all).map_or(ask.newest, |last| last.number);
        Some((messages, to))
    }

    /// The parts that are behind a position; `None` if something is missing.
    fn behind(&self, ask: &Ask<'_>, position: Position, now: u64) -> Option<Behind<'_>> {
        let number = position.number;
        if position.epoch != self.epoch || number > ask.newest.min(self.newest) {
            return None;
        }
        let since = Since::After(position);
        let mut parts = Vec::with_capacity(ask.channels.len() + 1);
        let mut from = Vec::with_capacity(ask.channels.len());
        for channel in ask.channels {
            if self.limit(channel) == 0 {
                from.push(ask.newest);
                continue;
            }
            if self.complete_from(channel) > number {
                return None;
            }
            from.push(number);
            parts.extend(self.rings.get(channel).map(|ring| self.part(ring, since, ask, now)));
        }
        let mut from_all = ask.newest;
        if ask.all && self.all.limit > 0 {
            if self.all_complete_from() > number {
                return None;
            }
            from_all = number;
            parts.push(self.part(&self.all, since, ask, now));
        }
        Some(Behind { parts, from, from_all })
    }

    /// What is asked for without a position: the newest of it that fits.
    fn recent<'a>(&'a self, ask: &Ask<'_>, since: Option<Since>, now: u64) -> Replay {
        let since = since.filter(|since| since.position().is_none());
        let Some(since) = since else {
            return ask.nothing();
        };
        let mut parts = Vec::with_capacity(ask.channels.len() + 1);
        let mut add = |ring: Option<&'a Ring>, complete_from: u64| {
            let Some(ring) = ring else { return complete_from };
            let part = self.part(ring, since, ask, now);
            let before = part.from.checked_sub(1).map(|at| self.messages.get(ring.get(at)).number);
            parts.push(part);
            before.unwrap_or(complete_from)
        };
        let mut from: Vec<u64> = Vec::with_capacity(ask.channels.len());
        for channel in ask.channels {
            let kept = self.limit(channel) > 0;
            from.push(match kept {
                true => add(self.rings.get(channel), self.complete_from(channel)),
                false => ask.newest,
            });
        }
        let mut from_all = match ask.all && self.all.limit > 0 {
            true => add(Some(&self.all), self.all_complete_from()),
            false => ask.newest,
        };
        let (messages, rest) = self.newest_of(&parts, bounds(ask));
        if let Some(rest) = rest {
            from.iter_mut().for_each(|from| *from = rest.max(*from));
            from_all = from_all.max(rest);
        }
        let before = messages.first().map_or(ask.newest, |first| first.number - 1);
        Replay { recovered: None, before, messages, from, from_all }
    }

    /// What somebody is shown who looks at the history, in order; `None` if it asks for what is
    /// behind a position and something of that is missing.
    pub fn query(&mut self, query: &Query<'_>, now: u64) -> Option<Vec<Kept>> {
        self.query_up_to(query, u64::MAX, now)
    }

    /// The same without what is behind the number `newest`, for somebody who looks piece by piece.
    pub fn query_up_to(&mut self, query: &Query<'_>, newest: u64, now: u64) -> Option<Vec<Kept>> {
        self.expire(now);
        let position = query.since.and_then(Since::position);
        if let Some(position) = position {
            let complete_from = match query.channels {
                None => self.lost.max(self.changes.newest()),
                Some(channels) => {
                    let kept = channels.iter().filter(|channel| self.limit(channel) > 0);
                    kept.map(|channel| self.complete_from(channel)).max().unwrap_or(0)
                }
            };
            let number = position.number;
            if position.epoch != self.epoch || number > self.newest || number < complete_from {
                return None;
            }
        }
        let ask = Ask {
            channels: &[],
            all: false,
            since: None,
            newest: self.newest.min(newest),
            fallback: None,
            max_bytes: query.max_bytes,
            max_messages: query.max_messages,
        };
        let since = query.since.unwrap_or(Since::Newest(u64::MAX));
        let part = |ring| self.part(ring, since, &ask, now);
        let parts: Vec<Part<'_>> = match query.channels {
            None => self.rings.values().chain([&self.all]).map(part).collect(),
            Some(channels) => {
                channels.iter().filter_map(|name| self.rings.get(name)).map(part).collect()
            }
        };
        Some(match position {
            Some(_) => self.oldest_of(&parts, bounds(&ask)).0,
            None => self.newest_of(&parts, bounds(&ask)).0,
        })
    }

    /// The part of a ring that is asked for.
    fn part<'a>(&self, ring: &'a Ring, since: Since, ask: &Ask<'_>, now: u64) -> Part<'a> {
        let number = |at: u32| self.messages.get(at).number;
        let to = match ring.back() {
            Some(newest) if number(newest) > ask.newest => {
                ring.count(|at| number(at) <= ask.newest)
            }
            _ => ring.len(),
        };
        let from = match since {
            Since::After(position) => ring.count(|at| number(at) <= position.number),
            Since::Newest(count) => to.saturating_sub(usize::try_from(count).unwrap_or(usize::MAX)),
            Since::Span(span) => {
                let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
                ring.count(|at| self.messages.get(at).at.saturating_add(span) <= now)
            }
        };
        Part { ring, from: from.min(to), to }
    }

    /// How many messages a channel keeps.
    fn limit(&self, channel: &Channel) -> usize {
        self.rings.get(channel).map_or_else(|| self.limits.channel(channel), |ring| ring.limit)
    }

    /// The number behind which all messages of a channel are here.
    fn complete_from(&self, channel: &Channel) -> u64 {
        let floor =
            self.rings.get(channel).map_or_else(|| self.floors.get(channel), |ring| ring.floor);
        floor.max(self.changes.kept_since(|limits| limits.channel(channel)))
    }

    /// The same for what goes to all.
    fn all_complete_from(&self) -> u64 {
        self.all.floor.max(self.changes.kept_since(|limits| limits.limits.broadcast))
    }

    /// The newest messages of all parts that fit, in order, and the number of the newest that does
    /// not fit.
    fn newest_of(&self, parts: &[Part<'_>], bounds: Bounds) -> (Vec<Kept>, Option<u64>) {
        let number = |part: &Part<'_>| self.messages.get(part.ring.get(part.to - 1)).number;
        let mut left: Vec<usize> = parts.iter().map(|part| part.to - part.from).collect();
        let mut heap: BinaryHeap<(u64, usize)> = BinaryHeap::with_capacity(parts.len());
        heap.extend(
            parts.iter().enumerate().filter(|(i, _)| left[*i] > 0).map(|(i, p)| (number(p), i)),
        );
        let mut found: Vec<Kept> = Vec::new();
        let mut bytes = 0;
        let mut rest = None;
        while let Some(mut top) = heap.peek_mut() {
            let (number, i) = *top;
            let part = &parts[i];
            let kept = self.messages.get(part.ring.get(part.from + left[i] - 1));
            if found.last().is_none_or(|last| last.number != number) {
                bytes += kept.payload.cost();
                if found.len() == bounds.messages || bytes > bounds.bytes {
                    rest = Some(number);
                    break;
                }
                found.push(kept.clone());
            }
            left[i] -= 1;
            if left[i] > 0 {
                top.0 = self.messages.get(part.ring.get(part.from + left[i] - 1)).number;
            } else {
                std::collections::binary_heap::PeekMut::pop(top);
            }
        }
        found.reverse();
        (found, rest)
    }

    /// The oldest messages of all parts that fit, in order, and whether that is all.
    fn oldest_of(&self, parts: &[Part<'_>], bounds: Bounds) -> (Vec<Kept>, bool) {
        let kept = |part: &Part<'_>, at: usize| self.messages.get(part.ring.get(at));
        let mut next: Vec<usize> = parts.iter().map(|part| part.from).collect();
        let heads = parts.iter().enumerate().filter(|(_, part)| part.from < part.to);
        let mut heap: BinaryHeap<(std::cmp::Reverse<u64>, usize)> =
            heads.map(|(i, part)| (std::cmp::Reverse(kept(part, part.from).number), i)).collect();
        let mut found: Vec<Kept> = Vec::new();
        let mut bytes = 0;
        while let Some(mut top) = heap.peek_mut() {
            let i = top.1;
            let message = kept(&parts[i], next[i]);
            if found.last().is_none_or(|last| last.number != message.number) {
                bytes += message.payload.cost();
                if found.len() == bounds.messages || bytes > bounds.bytes {
                    return (found, false);
                }
                found.push(message.clone());
            }
            next[i] += 1;
            if next[i] < parts[i].to {
                top.0 = std::cmp::Reverse(kept(&parts[i], next[i]).number);
            } else {
                std::collections::binary_heap::PeekMut::pop(top);
            }
        }
        (found, true)
    }
}

fn bounds(ask: &Ask<'_>) -> Bounds {
    Bounds { messages: ask.max_messages, bytes: ask.max_bytes }
}
