//! The history of a gateway: messages that are kept for clients that come later or come back.
//!
//! [`Log`] is what is kept, in memory: plain data without a clock, a lock or I/O. Each message that it
//! keeps gets the next number; the number and the history's epoch are the message's position.
//! [`Limits`] say how much is kept. A log that is backed by a file collects what changes as a
//! [`Batch`], which a [`Store`] writes.
//!
//! # Concurrency
//!
//! A `Log` belongs to one gateway and lives behind one lock, which is taken where the gateway's order
//! is made (to number a message) and where a client is sent what it missed. Nothing here blocks, so
//! the lock is held for a moment: about a microsecond to keep a message, and up to about a
//! millisecond for the longest replay.

mod batch;
mod file;
mod floors;
mod limits;
mod log;
mod messages;
mod replay;
mod restore;
mod ring;

#[cfg(test)]
mod tests;

pub use batch::Batch;
pub use file::Store;
pub use limits::Limits;
pub use log::{ChannelStats, Log, Stats};
pub use messages::{Kept, Target};
pub use replay::{Ask, Query, Replay};
