//! The messages that are kept, each once, in their order.

use std::sync::Arc;

use slab::Slab;

use crate::listener::recipients::ChannelTarget;
use crate::ws::payload::Payload;

/// Bytes that a message is counted with besides its own.
const MESSAGE: usize = 128;
/// Bytes that each of a message's channels is counted with besides its name.
const CHANNEL: usize = 32;

/// A kept message. Cloning it copies no bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its number in the history.
    pub number: u64,
    /// When it was kept, in milliseconds of Unix time.
    pub at: u64,
    /// The message.
    pub payload: Payload,
    /// Whom it went to.
    pub to: Target,
}

/// Whom a kept message went to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// All.
    All,
    /// The members of these channels. Its `except` is empty.
    Channels(Arc<ChannelTarget>),
}

impl Kept {
    /// The bytes that it counts against the limit: the message as a WebSocket frame and 128 bytes,
    /// and for each of its channels the name and 32 bytes. This is about what it takes in memory.
    pub fn cost(&self) -> usize {
        let names = match &self.to {
            Target::All => 0,
            Target::Channels(target) => {
                target.channels.iter().map(|name| CHANNEL + name.as_str().len()).sum()
            }
        };
        self.payload.cost() + MESSAGE + names
    }
}

/// No slot.
const NONE: u32 = u32::MAX;

struct Slot {
    kept: Kept,
    cost: usize,
    /// The neighbours in the order of numbers.
    older: u32,
    newer: u32,
    /// How many channels hold it.
    holders: u32,
}

/// The kept messages in the order of their numbers. A message stays while a channel holds it.
pub(super) struct Messages {
    slots: Slab<Slot>,
    oldest: u32,
    newest: u32,
    bytes: usize,
}

impl Messages {
    pub(super) fn new() -> Messages {
        Messages { slots: Slab::new(), oldest: NONE, newest: NONE, bytes: 0 }
    }

    /// The most bytes that may be a limit: their messages fit in as many slots as can be numbered.
    pub(super) const MOST_BYTES: usize = MESSAGE.saturating_mul(NONE as usize);

    /// Adds a message that is newer than all others, and that nothing holds yet.
    pub(super) fn push(&mut self, kept: Kept) -> u32 {
        let cost = kept.cost();
        self.bytes += cost;
        let slot = Slot { kept, cost, older: self.newest, newer: NONE, holders: 0 };
        // Limits are at most `MOST_BYTES`.
        let at = self.slots.insert(slot) as u32;
        match self.slots.get_mut(self.newest as usize) {
            Some(before) => before.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
        at
    }

    /// Notes that one channel more holds it. Returns its cost.
    pub(super) fn hold(&mut self, at: u32) -> usize {
        let slot = &mut self.slots[at as usize];
        slot.holders += 1;
        slot.cost
    }

    /// Notes that one channel less holds it; nobody may use `at` any more if it was the last.
    /// Returns its number, its cost, and whether it has gone.
    pub(super) fn release(&mut self, at: u32) -> (u64, usize, bool) {
        let slot = &mut self.slots[at as usize];
        slot.holders -= 1;
        let (number, cost) = (slot.kept.number, slot.cost);
        if slot.holders > 0 {
            return (number, cost, false);
        }
        let slot = self.slots.remove(at as usize);
        match self.slots.get_mut(slot.older as usize) {
            Some(older) => older.newer = slot.newer,
            None => self.oldest = slot.newer,
        }
        match self.slots.get_mut(slot.newer as usize) {
            Some(newer) => newer.older = slot.older,
            None => self.newest = slot.older,
        }
        self.bytes -= cost;
        (number, cost, true)
    }

    pub(super) fn get(&self, at: u32) -> &Kept {
        &self.slots[at as usize].kept
    }

    /// The oldest message and where it is.
    pub(super) fn oldest(&self) -> Option<(u32, &Kept)> {
        self.slots.get(self.oldest as usize).map(|slot| (self.oldest, &slot.kept))
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// What all of them cost.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
