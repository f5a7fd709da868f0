//! The facts about a connection that events and lists show.

use std::sync::Arc;
use std::time::SystemTime;

use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;

/// What is kept of a connection's request. Its shard and the exchange share it.
#[derive(Debug)]
pub struct ConnInfo {
    /// The connection.
    pub id: ConnId,
    /// When its 101 was sent.
    pub opened_at: SystemTime,
    /// The client's `ADDR:PORT`, or only its address if a trusted proxy named it.
    pub remote: Box<str>,
    /// The members of `onClientOpen` that describe the request; the first is the path.
    pub members: Box<[u8]>,
    /// The length of the path as a JSON string, in bytes.
    pub path_len: usize,
}

impl ConnInfo {
    /// The path as a JSON string.
    pub(crate) fn path_json(&self) -> &str {
        let start = b"\"path\":".len();
        let bytes = self.members.get(start..start + self.path_len).unwrap_or(b"\"\"");
        std::str::from_utf8(bytes).unwrap_or("\"\"")
    }
}

/// How a connection ended, for `onClientClose`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The code of the client's Close: 1005 if it had none, 1006 if no Close came.
    pub code: u16,
    /// The reason of the client's Close.
    pub reason: String,
    /// Whether both sides sent a Close.
    pub clean: bool,
}

/// A connection as `wsgw connections` lists it.
#[derive(Debug, Clone)]
pub struct ConnectionRow {
    /// The connection and its request.
    pub info: Arc<ConnInfo>,
    /// How it is connected.
    pub transport: &'static str,
    /// Bytes that wait for its socket.
    pub queued: usize,
    /// Its channels, sorted.
    pub channels: Vec<Channel>,
}
