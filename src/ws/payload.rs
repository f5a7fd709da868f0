//! A message on its way through the gateway.

use bytes::Bytes;

/// A client's message, its frame encoded once for all recipients.
#[derive(Debug, Clone)]
pub struct Message {
    /// Header and payload.
    pub frame: Bytes,
    /// Whether it is binary.
    pub binary: bool,
}
