//! What a connection holds while a request of it is under way that is no handshake: messages for a
//! stream, or a poll.

use std::fmt;
use std::sync::Arc;

use crate::gateway::occupancy::AddressBlock;
use crate::gateway::post::Content;
use crate::gateway::posts::UnderWay;
use crate::gateway::shared::Shared;
use crate::listener::protocol::channel::Channel;
use crate::net::address::Peer;
use crate::text::position::Position;
use crate::ws::body::Body;
use crate::ws::response::Headers;

/// Messages for a stream are coming in.
#[derive(Debug)]
pub(crate) struct Posting {
    /// The socket's address.
    pub(super) peer: Peer,
    /// The stream.
    pub(super) under_way: UnderWay,
    /// What the body is.
    pub(super) content: Content,
    /// What came of it.
    pub(super) body: Body,
    /// Bytes that were there when its time began anew.
    pub(super) seen: usize,
    /// Whether the connection stays open.
    pub(super) keep: bool,
    /// What the answer tells browsers.
    pub(super) cors: Headers,
}

/// The stream's shard has the messages.
#[derive(Debug)]
pub(crate) struct Posted {
    /// The socket's address.
    pub(super) peer: Peer,
    /// Whether the connection stays open.
    pub(super) keep: bool,
    /// What the answer tells browsers.
    pub(super) cors: Headers,
}

/// A poll that waits.
#[derive(Debug)]
pub(crate) struct Polling {
    /// The socket's address.
    pub(super) peer: Peer,
    /// The channels that it asks for, sorted.
    pub(super) channels: Box<[Channel]>,
    /// What its client has.
    pub(super) since: Position,
    /// Whether the connection stays open.
    pub(super) keep: bool,
    /// What the answer tells browsers.
    pub(super) cors: Headers,
    /// Held while it waits.
    pub(super) _seat: Seat,
}

/// A place among the connections that `max-connections` and `max-connections-per-ip` allow.
pub(crate) struct Seat {
    shared: Arc<Shared>,
    block: Option<AddressBlock>,
}

impl Seat {
    /// A place that was counted, under the address too if there is one.
    pub(super) fn new(shared: &Arc<Shared>, block: Option<AddressBlock>) -> Seat {
        shared.metrics.polls_waiting.add(1);
        Seat { shared: Arc::clone(shared), block }
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("block", &self.block).finish_non_exhaustive()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(block) = self.block {
            self.shared.occupancy.uncount(block);
        }
        self.shared.occupancy.closed();
        self.shared.metrics.polls_waiting.sub(1);
    }
}
