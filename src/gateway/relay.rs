//! Where the operations of a gateway are put into an order that is not of this process alone.
//!
//! A gateway with a relay hands every operation to it, under the lock of its order. The relay gives
//! each back, once, when its turn has come (`outlet`), and may add operations of others in between. So
//! it alone decides about the order, and it must not wait for the shards.

use std::sync::Arc;

use crate::listener::membership::LeaveReason;
use crate::listener::op::Op;
use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;

/// What puts a gateway's operations into an order.
pub(crate) trait Relay: Send + Sync {
    /// Takes one in; it comes back at once if the relay has ended.
    fn pass(&self, passing: Passing) -> Option<Passing>;

    /// Several things are handed in from now on: it need not begin with them before [`Relay::let_go`].
    fn hold(&self);

    /// All of them are there.
    fn let_go(&self);
}

/// A relay that is held.
pub(crate) struct Held(Arc<dyn Relay>);

impl Held {
    /// Until this is dropped.
    pub(crate) fn new(relay: Arc<dyn Relay>) -> Held {
        relay.hold();
        Held(relay)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.let_go();
    }
}

/// An operation, or something else, on its way through a relay.
pub(crate) enum Passing {
    /// An operation.
    Op(Op),
    /// Something that has its place behind the operations in front of it.
    Then(Box<dyn FnOnce() + Send>),
    /// Something that is to come behind the message with this number in the history, if that comes
    /// soon.
    From {
        /// The number.
        number: u64,
        /// What is to be done.
        then: Box<dyn FnOnce() + Send>,
    },
    /// A connection has joined a channel, or left it. Nothing is to be handed on.
    Member {
        /// Why it left; `None` if it joined.
        left: Option<LeaveReason>,
        /// The connection.
        conn: ConnId,
        /// The channel.
        channel: Channel,
    },
}
