//! The channels of connections that the exchange has let go because its listener has no hooks any
//! more.
//!
//! A shard that has not heard of the new settings yet still hands in messages. With
//! `route = "channels"` they go to the channels of their senders.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::listener::protocol::channel::ChannelSet;
use crate::listener::protocol::connid::ConnId;

/// How long they are kept: far longer than a shard takes to apply new settings.
const KEPT_FOR: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Released {
    channels: HashMap<ConnId, ChannelSet>,
    /// Until when they are kept, once a check has set it.
    until: Option<Instant>,
}

impl Released {
    /// Adds connections with their channels.
    pub(super) fn add(&mut self, all: impl Iterator<Item = (ConnId, ChannelSet)>) {
        self.channels.extend(all);
        self.until = None;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// The channels that a connection was in.
    pub(super) fn channels(&self, conn: ConnId) -> Option<&ChannelSet> {
        self.channels.get(&conn)
    }

    /// Forgets them if it is time. Returns when to check again.
    pub(super) fn check(&mut self, now: Instant) -> Option<Instant> {
        if self.channels.is_empty() {
            return None;
        }
        let until = *self.until.get_or_insert(now + KEPT_FOR);
        if now < until {
            return Some(until);
        }
        self.clear();
        None
    }

    pub(super) fn clear(&mut self) {
        *self = Released::default();
    }
}
