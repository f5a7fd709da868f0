//! A log against a list of all messages that ever were, which is searched from end to end.

mod run;

use std::collections::HashSet;

use super::super::*;
use super::{channel, limits};
use crate::listener::protocol::channel::Channel;
use crate::text::glob::glob;
use crate::text::position::{Epoch, Position, Since};
use crate::ws::payload::Payload;

const NAMES: [&str; 6] = ["a", "a.1", "a.2", "b", "b.1", "c"];

/// A message, and what has become of it.
#[derive(Debug, Clone)]
struct Sent {
    number: u64,
    at: u64,
    payload: Payload,
    channels: Vec<Channel>,
    cost: usize,
    /// The channels (`None`: all) that keep it, and those that have lost it.
    holders: Vec<Option<Channel>>,
    lost: Vec<Option<Channel>>,
}

struct Model {
    epoch: Epoch,
    newest: u64,
    limits: Limits,
    changes: Vec<(u64, Limits)>,
    sent: Vec<Sent>,
    /// What was not kept of a channel (`None`: all), with the newest number at that time.
    unkept: Vec<(u64, Option<Channel>)>,
    evictions: u64,
}

fn limit(limits: &Limits, channel: &Option<Channel>) -> usize {
    let Some(name) = channel else { return limits.broadcast };
    let matching = limits.channels.iter().filter(|(pattern, _)| glob(pattern, name.as_str()));
    let longest = matching.clone().map(|(pattern, _)| pattern.len()).max();
    let mut longest = matching.filter(|(pattern, _)| Some(pattern.len()) == longest);
    longest.next().map_or(0, |(_, n)| *n)
}

fn keep_set(limits: &Limits) -> (bool, Vec<(usize, String, bool)>) {
    let mut patterns: Vec<(usize, String, bool)> =
        limits.channels.iter().map(|(p, n)| (usize::MAX - p.len(), p.clone(), *n > 0)).collect();
    patterns.sort_by_key(|(length, _, _)| *length);
    (limits.broadcast > 0, patterns)
}

impl Model {
    fn new(limits: Limits, epoch: Epoch) -> Model {
        let (changes, sent, unkept) = Default::default();
        Model { epoch, newest: 0, limits, changes, sent, unkept, evictions: 0 }
    }

    fn held(&self) -> impl Iterator<Item = &Sent> {
        self.sent.iter().filter(|sent| !sent.holders.is_empty())
    }

    fn evict(&mut self, at: usize, which: impl Fn(&Option<Channel>) -> bool) {
        let sent = &mut self.sent[at];
        let before = sent.holders.len();
        let (lost, holders) = std::mem::take(&mut sent.holders).into_iter().partition(which);
        sent.holders = holders;
        sent.lost.extend::<Vec<_>>(lost);
        self.evictions += u64::from(before > 0 && sent.holders.is_empty());
    }

    fn enforce(&mut self, now: Option<u64>) {
        let mut keys: HashSet<Option<Channel>> = NAMES.map(|name| Some(channel(name))).into();
        keys.insert(None);
        for key in keys {
            let held = |sent: &Sent| sent.holders.contains(&key);
            let count = self.sent.iter().filter(|sent| held(sent)).count();
            let excess = count.saturating_sub(limit(&self.limits, &key));
            let places = (0..self.sent.len()).filter(|at| held(&self.sent[*at]));
            for at in places.take(excess).collect::<Vec<_>>() {
                self.evict(at, |holder| *holder == key);
            }
        }
        for at in 0..self.sent.len() {
            let bytes: usize = self.held().map(|sent| sent.cost).sum();
            let age = self.limits.age_ms;
            let old = age > 0 && now.is_some_and(|now| self.sent[at].at + age <= now);
            if bytes > self.limits.bytes || old {
                self.evict(at, |_| true);
            }
        }
    }

    fn set_limits(&mut self, limits: Limits) {
        if keep_set(&self.limits) != keep_set(&limits) {
            self.newest += 1;
            self.changes.push((self.newest, self.limits.clone()));
        }
        self.limits = limits;
        self.enforce(None);
    }

    fn publish(&mut self, channels: &[Channel], payload: &Payload, now: u64) -> Option<u64> {
        let keys: Vec<Option<Channel>> = match channels {
            [] => vec![None],
            channels => channels.iter().cloned().map(Some).collect(),
        };
        let (holders, unkept): (Vec<_>, Vec<_>) =
            keys.into_iter().partition(|key| limit(&self.limits, key) > 0);
        let number = (!holders.is_empty()).then_some(self.newest + 1);
        self.newest += u64::from(number.is_some());
        self.unkept.extend(unkept.into_iter().map(|key| (self.newest, key)));
        let names: usize = channels.iter().map(|name| 32 + name.as_str().len()).sum();
        self.sent.extend(number.map(|number| Sent {
            number,
            at: now,
            payload: payload.clone(),
            channels: channels.to_vec(),
            cost: payload.cost() + 128 + names,
            holders,
            lost: Vec::new(),
        }));
        self.enforce(None);
        number
    }

    /// Whether everything of a channel behind a number is here, as far as that can be known.
    fn is_complete(&self, key: &Option<Channel>, number: u64) -> bool {
        let lost = self.sent.iter().any(|sent| sent.number > number && sent.lost.contains(key));
        let mut changes = self.changes.iter();
        !lost && !changes.any(|(at, before)| *at > number && limit(before, key) == 0)
    }

    /// The numbers that are asked for, of channels that are kept.
    fn wanted(&self, keys: &[Option<Channel>], since: Since, newest: u64, now: u64) -> Vec<u64> {
        let mut found = Vec::new();
        for key in keys {
            let of_key = |sent: &&Sent| sent.holders.contains(key) && sent.number <= newest;
            let held: Vec<&Sent> = self.sent.iter().filter(of_key).collect();
            let part = held.iter().enumerate().filter(|(i, sent)| match since {
                Since::After(position) => sent.number > position.number,
                Since::Newest(n) => (held.len() - i) as u64 <= n,
                Since::Span(span) => sent.at + span.as_millis() as u64 > now,
            });
            found.extend(part.map(|(_, sent)| sent.number));
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn get(&self, number: u64) -> &Sent {
        self.sent.iter().find(|sent| sent.number == number).unwrap()
    }

    /// How many of the numbers fit, from the front of the list.
    fn fit(&self, numbers: impl Iterator<Item = u64>, (messages, bytes): (usize, usize)) -> usize {
        let mut sum = 0;
        let cost = |number| self.get(number).payload.cost();
        numbers
            .take(messages)
            .take_while(|n| {
                sum += cost(*n);
                sum <= bytes
            })
            .count()
    }

    /// A file knows of the channels that hold a message, and of no others.
    fn restart(&mut self) {
        self.evictions = 0;
        for sent in &mut self.sent {
            let names: usize =
                sent.holders.iter().flatten().map(|name| 32 + name.as_str().len()).sum();
            sent.cost = sent.payload.cost() + 128 + names;
        }
    }

    fn check_replay(&self, ask: &Ask<'_>, replay: &Replay, now: u64) {
        let newest = ask.newest;
        let mut asked: Vec<Option<Channel>> = ask.channels.iter().cloned().map(Some).collect();
        asked.extend(ask.all.then_some(None));
        let keys: Vec<_> =
            asked.iter().filter(|key| limit(&self.limits, key) > 0).cloned().collect();
        let most = (ask.max_messages, ask.max_bytes);
        let numbers: Vec<u64> = replay.messages.iter().map(|kept| kept.number).collect();
        for kept in &replay.messages {
            let sent = self.get(kept.number);
            assert_eq!((&kept.payload, kept.at), (&sent.payload, sent.at));
        }
        let mut since = ask.since;
        let mut recovered = None;
        if let Some(Since::After(position)) = since {
            let wanted = self.wanted(&keys, Since::After(position), newest, now);
            let good = position.epoch == self.epoch
                && position.number <= newest
                && keys.iter().all(|key| self.is_complete(key, position.number))
                && self.fit(wanted.iter().rev().copied(), most) == wanted.len();
            recovered = Some(good);
            since = if good { since } else { ask.fallback.filter(|s| s.position().is_none()) };
        }
        assert_eq!(replay.recovered, recovered, "{ask:?}");
        let wanted = since.map(|since| self.wanted(&keys, since, newest, now)).unwrap_or_default();
        let fit = self.fit(wanted.iter().rev().copied(), most);
        assert_eq!(numbers, wanted[wanted.len() - fit..], "{ask:?}");
        match (recovered, ask.since) {
            (Some(true), Some(Since::After(position))) => {
                assert_eq!(replay.before, position.number);
                let missed = |(at, key): &(u64, _)| *at >= position.number && keys.contains(key);
                // At `position.number` itself, what was not kept may have come before or behind.
                let mut unkept = self.unkept.iter().filter(|entry| missed(entry));
                assert!(unkept.all(|(at, _)| *at > newest), "a lie: {ask:?}");
            }
            _ => assert_eq!(replay.before, numbers.first().map_or(newest, |first| first - 1)),
        }
        // Behind `from` it has everything, whatever has become of that.
        let from = replay.from.iter().chain(ask.all.then_some(&replay.from_all));
        for (key, from) in asked.iter().zip(from) {
            let of_key = |sent: &&Sent| match key {
                None => sent.channels.is_empty(),
                Some(name) => sent.channels.contains(name),
            };
            for sent in self.sent.iter().filter(of_key) {
                let must = sent.number > *from && sent.number <= newest;
                assert!(!must || numbers.contains(&sent.number), "{key:?} from {from}: {ask:?}");
            }
            assert!(*from <= newest.max(self.newest));
        }
    }

    /// Whoever goes on from the number that it was given misses nothing and gets nothing twice.
    fn check_after(
        &self,
        ask: &Ask<'_>,
        position: Position,
        found: Option<(Vec<Kept>, u64)>,
        now: u64,
    ) {
        let mut keys: Vec<Option<Channel>> = ask.channels.iter().cloned().map(Some).collect();
        keys.extend(ask.all.then_some(None));
        keys.retain(|key| limit(&self.limits, key) > 0);
        let good = position.epoch == self.epoch
            && position.number <= ask.newest
            && keys.iter().all(|key| self.is_complete(key, position.number));
        assert_eq!(found.is_some(), good, "{ask:?}");
        let Some((found, to)) = found else { return };
        let wanted = self.wanted(&keys, Since::After(position), ask.newest, now);
        let most = (ask.max_messages, ask.max_bytes);
        let fit = self.fit(wanted.iter().copied(), most).max(wanted.len().min(1));
        let found: Vec<u64> = found.iter().map(|kept| kept.number).collect();
        assert_eq!(found, wanted[..fit], "{ask:?}");
        assert_eq!(to, if fit < wanted.len() { found[fit - 1] } else { ask.newest });
    }

    fn check_query(&self, query: &Query<'_>, found: Option<Vec<Kept>>, now: u64) {
        let keys: Vec<Option<Channel>> = match query.channels {
            Some(channels) => channels.iter().cloned().map(Some).collect(),
            None => NAMES.iter().map(|name| Some(channel(name))).chain([None]).collect(),
        };
        let most = (query.max_messages, query.max_bytes);
        let since = query.since.unwrap_or(Since::Newest(u64::MAX));
        let wanted = self.wanted(&keys, since, self.newest, now);
        let Since::After(position) = since else {
            let fit = self.fit(wanted.iter().rev().copied(), most);
            let found: Vec<u64> = found.unwrap().iter().map(|kept| kept.number).collect();
            assert_eq!(found, wanted[wanted.len() - fit..]);
            return;
        };
        let mut good = position.epoch == self.epoch && position.number <= self.newest;
        if query.channels.is_some() {
            let mut kept = keys.iter().filter(|key| limit(&self.limits, key) > 0);
            good = good && kept.all(|key| self.is_complete(key, position.number));
        } else {
            let mut lost = self.sent.iter().filter(|sent| !sent.lost.is_empty());
            good = good && lost.all(|sent| sent.number <= position.number);
            good = good && self.changes.iter().all(|(at, _)| *at <= position.number);
        }
        assert_eq!(found.is_some(), good);
        let Some(found) = found else { return };
        let fit = self.fit(wanted.iter().copied(), most);
        let found: Vec<u64> = found.iter().map(|kept| kept.number).collect();
        assert_eq!(found, wanted[..fit]);
    }

    fn check_stats(&self, log: &mut Log, now: u64) {
        let stats = log.stats(now);
        let mut names: HashSet<&Channel> = HashSet::new();
        names.extend(self.held().flat_map(|sent| sent.holders.iter().flatten()));
        assert_eq!(
            stats,
            Stats {
                messages: self.held().count(),
                bytes: self.held().map(|sent| sent.cost).sum(),
                oldest_at: self.held().next().map(|sent| sent.at),
                channels: names.len(),
                evictions: self.evictions,
            }
        );
        assert_eq!(log.channels_with_messages().collect::<HashSet<_>>(), names);
        for name in NAMES.map(channel) {
            let key = Some(name.clone());
            let held: Vec<&Sent> = self.held().filter(|sent| sent.holders.contains(&key)).collect();
            let expected = held.first().map(|first| ChannelStats {
                messages: held.len(),
                bytes: held.iter().map(|sent| sent.cost).sum(),
                oldest_at: first.at,
                newest: held[held.len() - 1].number,
            });
            assert_eq!(log.channel(name.as_str(), now), expected);
        }
    }
}
