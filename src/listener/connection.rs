//! What the listener is told of a connection.

use std::sync::Arc;
use std::time::SystemTime;

use crate::listener::protocol::connid::ConnId;

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

/// One connection, as it is listed.
#[derive(Debug, Clone)]
pub struct ConnectionRow {
    /// Its request.
    pub info: Arc<ConnInfo>,
    /// Bytes that wait for its socket.
    pub queued: usize,
}
