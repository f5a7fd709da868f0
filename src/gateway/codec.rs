//! permessage-deflate on a shard: the state that all its connections use in turn, so that none has
//! any of its own.
//!
//! Owned by the shard's thread, and lent with its [`Context`](crate::gateway::context::Context).

use crate::ws::deflate::compress::Compressors;
use crate::ws::deflate::inflate::Inflater;

/// Bytes that a shard inflates in a turn: what is longer waits, and others get their turns. A frame
/// of 1 KiB can be a message of 1 MiB, and a read can be 64 of these.
const TURN: usize = 2 * 1024 * 1024;

/// The state of compression on a shard. Nothing is allocated before it is used.
#[derive(Debug, Default)]
pub(crate) struct Codec {
    /// What compresses.
    pub(crate) compressors: Compressors,
    inflater: Inflater,
    inflated: usize,
}

impl Codec {
    /// A turn begins.
    pub(crate) fn begin_turn(&mut self) {
        self.inflated = 0;
    }

    /// What inflates the messages of a connection; `None` where compression was not agreed.
    pub(crate) fn inflater(&mut self, agreed: bool) -> Option<&mut Inflater> {
        agreed.then_some(&mut self.inflater)
    }

    /// A message came out of the inflater.
    pub(crate) fn inflated(&mut self, bytes: usize) {
        self.inflated += bytes;
    }

    /// Whether enough was inflated in this turn.
    pub(crate) fn is_spent(&self) -> bool {
        self.inflated >= TURN
    }
}
