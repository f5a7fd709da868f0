//! Who gets a message.

use crate::listener::protocol::connid::ConnId;

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
