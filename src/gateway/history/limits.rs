//! How many messages are kept for which channels, and since when.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::listener::protocol::channel::Channel;
use crate::text::glob::glob;

/// So many changes of the limits are remembered one by one.
const CHANGES: usize = 32;

/// How much a history keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Patterns of channels, in which `*` spans any characters, and how many messages each channel
    /// keeps that one matches. The longest pattern that matches counts, the first of two of one
    /// length. Zero, or no pattern: the channel is not kept.
    pub channels: Vec<(String, usize)>,
    /// How many messages to all are kept. Zero: none.
    pub broadcast: usize,
    /// How long a message is kept, in milliseconds. Zero: as long as there is room.
    pub age_ms: u64,
    /// How many bytes all messages may take; see [`Kept::cost`](super::Kept::cost).
    pub bytes: usize,
}

/// A pattern of channels, ready to be matched.
#[derive(Debug)]
enum Pattern {
    Any,
    Exact(Box<str>),
    Prefix(Box<str>),
    Other(Box<str>),
}

impl Pattern {
    fn new(text: &str) -> Pattern {
        match text.split_once('*') {
            None => Pattern::Exact(text.into()),
            Some(("", "")) => Pattern::Any,
            Some((prefix, "")) => Pattern::Prefix(prefix.into()),
            Some(_) => Pattern::Other(text.into()),
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Pattern::Any => true,
            Pattern::Exact(text) => **text == *name,
            Pattern::Prefix(prefix) => name.starts_with(&**prefix),
            Pattern::Other(text) => glob(text, name),
        }
    }
}

/// Limits with their patterns ready to be matched, the longest first.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) limits: Limits,
    patterns: Vec<(Pattern, usize)>,
}

impl Compiled {
    pub(super) fn new(limits: Limits) -> Arc<Compiled> {
        let patterns = sorted(&limits).into_iter().map(|(text, n)| (Pattern::new(text), n));
        let patterns = patterns.collect();
        Arc::new(Compiled { limits, patterns })
    }

    /// How many messages the channel keeps.
    pub(super) fn channel(&self, name: &Channel) -> usize {
        let matches = |(pattern, _): &&(Pattern, usize)| pattern.matches(name.as_str());
        self.patterns.iter().find(matches).map_or(0, |(_, limit)| *limit)
    }

    /// Whether the other limits keep messages of just the same channels, as far as that can be told
    /// from the patterns.
    pub(super) fn keeps_the_same_as(&self, other: &Limits) -> bool {
        let kept = |limits: &Limits| {
            let patterns = sorted(limits).into_iter().map(|(text, n)| (text.to_owned(), n > 0));
            (limits.broadcast > 0, patterns.collect::<Vec<_>>())
        };
        kept(&self.limits) == kept(other)
    }
}

/// The patterns, the longest first.
fn sorted(limits: &Limits) -> Vec<(&str, usize)> {
    let mut patterns: Vec<(&str, usize)> =
        limits.channels.iter().map(|(text, n)| (text.as_str(), *n)).collect();
    patterns.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    patterns
}

/// The limits that were in force before, for as far as it matters which channels they kept.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The number that each change took, and the limits before it; the oldest first.
    list: VecDeque<(u64, Arc<Compiled>)>,
    /// What was kept before this number is unknown.
    unknown: u64,
}

impl Changes {
    pub(super) fn push(&mut self, number: u64, before: Arc<Compiled>) {
        self.list.push_back((number, before));
        if self.list.len() > CHANGES
            && let Some((number, _)) = self.list.pop_front()
        {
            self.unknown = number;
        }
    }

    /// Nothing is known of what was kept up to this number.
    pub(super) fn begin_behind(number: u64) -> Changes {
        Changes { unknown: number, ..Changes::default() }
    }

    /// From which number on everything was kept whose limit `limit` looks up.
    pub(super) fn kept_since(&self, limit: impl Fn(&Compiled) -> usize) -> u64 {
        let gap = self.list.iter().rev().find(|(_, before)| limit(before) == 0);
        gap.map_or(self.unknown, |(number, _)| *number)
    }

    /// The number of the newest change; zero if there was none.
    pub(super) fn newest(&self) -> u64 {
        self.list.back().map_or(self.unknown, |(number, _)| *number)
    }

    /// As it is stored in a file.
    pub(super) fn save(&self, current: &Limits) -> SavedLimits {
        let changes = self.list.iter().map(|(n, before)| (*n, before.limits.clone())).collect();
        SavedLimits { current: current.clone(), changes, unknown: self.unknown }
    }

    /// The limits that were stored, and what was before them.
    pub(super) fn restore(saved: SavedLimits) -> (Limits, Changes) {
        let list = saved.changes.into_iter().map(|(n, before)| (n, Compiled::new(before)));
        (saved.current, Changes { list: list.collect(), unknown: saved.unknown })
    }
}

/// Limits and their changes, as they are stored in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedLimits {
    current: Limits,
    changes: Vec<(u64, Limits)>,
    unknown: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(patterns: &[(&str, usize)], name: &str) -> usize {
        let channels = patterns.iter().map(|(text, n)| ((*text).to_owned(), *n)).collect();
        let limits = Limits { channels, broadcast: 0, age_ms: 0, bytes: 0 };
        Compiled::new(limits).channel(&Channel::parse(name).unwrap())
    }

    #[test]
    fn the_longest_pattern_counts_and_the_first_of_one_length() {
        let patterns = [("*", 1), ("room.*", 2), ("room.aa", 3), ("*.x*b", 4), ("room.bb", 0)];
        for (name, n) in
            [("a", 1), ("room.c", 2), ("room.aa", 3), ("room.bb", 0), ("room.xab", 2), ("r.xab", 4)]
        {
            assert_eq!(limit(&patterns, name), n, "{name}");
        }
        assert_eq!(limit(&[("a*", 5), ("*a", 6)], "aa"), 5);
        assert_eq!(limit(&[("*a", 6), ("a*", 5)], "aa"), 6);
        assert_eq!(limit(&[("a*", 5)], "b"), 0);
    }
}
