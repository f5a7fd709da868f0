//! What a fan-out has to know of a connection, apart from the rest of it.

use std::os::fd::RawFd;

use crate::gateway::wire::{Form, Wire};

/// What a fan-out has to know of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hot {
    /// Frames with a lower number in the shard's order are not for it.
    pub first_frame: u64,
    /// Its socket.
    pub fd: RawFd,
    /// How a frame reaches it.
    pub takes: Takes,
    /// The bytes that it gets of a message.
    pub wire: Wire,
}

/// How a frame reaches a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// It gets none.
    Nothing,
    /// Behind what waits in its outbox.
    Queue,
    /// Through the record layer.
    Stream,
    /// Straight into the socket.
    Socket,
}

/// Bare bodies.
const BARE: Wire = Wire { form: Form::Bare, deflate: 0 };

impl Hot {
    /// What a vacant slot holds.
    pub(super) const VACANT: Hot =
        Hot { first_frame: u64::MAX, fd: -1, takes: Takes::Nothing, wire: BARE };
}
