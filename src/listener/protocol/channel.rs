//! Names of channels, and sorted sets of them.

use std::fmt;
use std::sync::Arc;

use crate::text::channel::{LONGEST, may_hold};

/// The name of a channel: 1 to 200 bytes of `A-Za-z0-9._:/@+-`. Cloning it copies no bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel(Arc<str>);

impl Channel {
    /// Reads a name; `None` if it may not be one.
    pub fn parse(name: &str) -> Option<Channel> {
        let good = (1..=LONGEST).contains(&name.len()) && name.bytes().all(may_hold);
        good.then(|| Channel(Arc::from(name)))
    }

    /// The name. It needs no escaping in JSON.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Channel {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// A set of channels, sorted. Cloning it copies no names, and an empty one takes no memory.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ChannelSet(Option<Arc<[Channel]>>);

impl ChannelSet {
    /// The set of these channels, which may be listed twice.
    pub fn new(mut channels: Vec<Channel>) -> ChannelSet {
        channels.sort_unstable();
        channels.dedup();
        ChannelSet((!channels.is_empty()).then(|| channels.into()))
    }

    /// The channels, sorted.
    pub fn as_slice(&self) -> &[Channel] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Whether a channel is in it.
    pub(crate) fn has(&self, channel: &Channel) -> bool {
        self.as_slice().binary_search(channel).is_ok()
    }

    /// The bytes that its names take in a line, at most.
    pub(crate) fn line_size(&self) -> usize {
        // A name stands between quotes, with a comma.
        self.as_slice().iter().map(|channel| channel.as_str().len() + 3).sum()
    }
}

/// Appends names as a JSON array.
pub fn push_names(out: &mut Vec<u8>, names: &[Channel]) {
    out.push(b'[');
    for (i, name) in names.iter().enumerate() {
        out.extend_from_slice(if i > 0 { b",\"" } else { b"\"" });
        out.extend_from_slice(name.as_str().as_bytes());
        out.push(b'"');
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_alphabet_and_length() {
        for good in ["a", "room1", "A-Z.a_z:0/9@+-", &"x".repeat(200)] {
            assert_eq!(Channel::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", " ", "a b", "a*", "\u{e4}", "a\n", "\"", "a,b", "#", &"x".repeat(201)] {
            assert!(Channel::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_set_is_sorted_and_has_each_channel_once() {
        let names = |names: &[&str]| -> Vec<Channel> {
            names.iter().map(|name| Channel::parse(name).unwrap()).collect()
        };
        let set = ChannelSet::new(names(&["b", "a", "b"]));
        assert_eq!(set.as_slice(), names(&["a", "b"]));
        assert!(set.has(&names(&["b"])[0]) && !set.has(&names(&["c"])[0]));
        assert_eq!(ChannelSet::new(Vec::new()), ChannelSet::default());
    }

    #[test]
    fn names_are_listed_as_json() {
        let mut out = Vec::new();
        push_names(&mut out, &["b", "a"].map(|name| Channel::parse(name).unwrap()));
        push_names(&mut out, &[]);
        assert_eq!(out, b"[\"b\",\"a\"][]");
    }
}
