//! What a file has to be told of a log.

use std::collections::HashMap;

use super::limits::SavedLimits;
use crate::listener::protocol::channel::Channel;
use crate::text::position::Epoch;
use crate::ws::payload::Payload;

/// Bits of a row's id that say which of a message's channels it is for.
pub(super) const INDEX_BITS: u32 = 16;
/// A message is kept for so many of its channels, the first ones.
pub(super) const MOST_CHANNELS: usize = 1 << INDEX_BITS;

/// The id of the row of a message for one of its channels.
pub(super) fn row_id(number: u64, index: u32) -> u64 {
    number << INDEX_BITS | u64::from(index)
}

/// The number of a row's message.
pub(super) fn number_of(id: u64) -> u64 {
    id >> INDEX_BITS
}

/// Which of its message's channels a row is for.
pub(super) fn index_of(id: u64) -> u32 {
    // The mask leaves 16 bits.
    (id & (MOST_CHANNELS as u64 - 1)) as u32
}

/// A message as one of its channels keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// The number of the message, and which of its channels this is.
    pub(super) id: u64,
    /// When it was kept, in milliseconds of Unix time.
    pub(super) at: u64,
    /// The channel; `None` for all.
    pub(super) channel: Option<Channel>,
    pub(super) payload: Payload,
}

/// What has changed in a log since the last batch. Batches must be written in their order.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    /// The log's epoch.
    pub(super) epoch: Epoch,
    /// The log's newest number.
    pub(super) newest: u64,
    /// What was kept, in order.
    pub(super) rows: Vec<Row>,
    /// The ids of rows that were evicted; some may be among `rows`.
    pub(super) evicted: Vec<u64>,
    /// The newest number that each of these channels (`None`: all) has lost. Without a number: the
    /// channel is not in the table any more.
    pub(super) floors: HashMap<Option<Channel>, Option<u64>>,
    /// The same for channels that are not in the table.
    pub(super) rest: Option<u64>,
    /// The limits, if they have changed.
    pub(super) limits: Option<SavedLimits>,
}

impl Batch {
    pub(super) fn new(epoch: Epoch, newest: u64) -> Batch {
        Batch {
            epoch,
            newest,
            rows: Vec::new(),
            evicted: Vec::new(),
            floors: HashMap::new(),
            rest: None,
            limits: None,
        }
    }

    /// The epoch of its messages.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The number of the newest message that is on disk once the batch is written.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// How many rows it adds.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.evicted.is_empty()
            && self.floors.is_empty()
            && self.rest.is_none()
            && self.limits.is_none()
    }

    pub(super) fn evict(&mut self, channel: Option<&Channel>, number: u64, index: u32) {
        self.evicted.push(row_id(number, index));
        self.floors.insert(channel.cloned(), Some(number));
    }
}
