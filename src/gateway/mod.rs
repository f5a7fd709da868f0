//! One gateway: its acceptor, connections, fan-out and listener.
//!
//! The work is done by *shards*, threads of their own with one event loop each (`shard`). A
//! connection belongs to one shard for its life and is touched by no other. One of the shards is a
//! gateway's *home*: it accepts, and it talks to the listener through the [`exchange`], a plain
//! state machine. Shards speak to each other and to the control runtime by messages alone
//! (`engine`); what they share is atomic ([`metrics`], `Shared`).

pub mod bind;
pub mod clocks;
pub mod closing;
pub mod conn;
pub mod engine;
pub mod exchange;
pub mod fanout;
pub mod handshake;
pub mod home;
pub mod lines;
pub mod memory;
pub mod metrics;
pub mod opening;
pub mod origin;
pub mod outbox;
pub mod process;
pub mod reader;
pub mod reading;
pub mod run;
pub mod shard;
pub mod slice;
pub mod stderr;
pub mod supervisor;
pub mod tally;
pub mod timers;
pub mod transport;
#[cfg_attr(not(target_os = "linux"), path = "no_uring.rs")]
pub mod uring;

use std::time::SystemTime;

use bytes::Bytes;

use crate::protocol::connid::ConnId;

/// What is kept of a connection's request, shared by its shard and the exchange.
#[derive(Debug)]
pub struct ConnInfo {
    /// Its name.
    pub id: ConnId,
    /// When its 101 was sent.
    pub opened_at: SystemTime,
    /// `ADDR:PORT`; behind a trusted proxy the address alone.
    pub remote: Box<str>,
    /// The members that `onClientOpen` says of it; they begin with the path.
    pub members: Box<[u8]>,
    /// Bytes of the path as a JSON string.
    pub path_len: usize,
}

impl ConnInfo {
    /// The path as a JSON string.
    pub fn path_json(&self) -> &str {
        let start = b"\"path\":".len();
        let bytes = self.members.get(start..start + self.path_len).unwrap_or(b"\"\"");
        std::str::from_utf8(bytes).unwrap_or("\"\"")
    }
}

/// How a connection ended, for `onClientClose`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The code of the client's Close; 1005 for an empty one, 1006 for none.
    pub code: u16,
    /// Its reason.
    pub reason: String,
    /// Whether both sides sent a Close.
    pub clean: bool,
}

/// A client's message, its frame encoded once for all recipients.
#[derive(Debug, Clone)]
pub struct Message {
    /// Header and payload.
    pub frame: Bytes,
    /// Whether it is binary.
    pub binary: bool,
}

/// Who gets a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipients {
    /// Every open connection.
    All,
    /// Every open connection but these, sorted.
    AllBut(std::sync::Arc<[ConnId]>),
    /// These, sorted, each once.
    Only(std::sync::Arc<[ConnId]>),
}
