//! The operations on a gateway's connections. All shards carry them out in one order.
//!
//! Operations come from the exchange, from the control port, and from connections that end. They are
//! handed to `gateway::core::Core::submit`, and each shard carries out its part in
//! `gateway::hub::fanout`. A new operation needs a variant here and an arm there.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::listener::connection::ConnectionRow;
use crate::listener::membership::{MembersReport, MembershipReply};
use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;
use crate::listener::recipients::Recipients;
use crate::listener::report::DeliveryReport;
use crate::text::position::{Position, Since};
use crate::ws::close::Closing;
use crate::ws::payload::Payload;

/// An operation on a gateway's connections.
pub enum Op {
    /// Send a message.
    Deliver(Delivery),
    /// Close a connection after the messages that were delivered to it so far.
    Close {
        /// The connection.
        conn: ConnId,
        /// The close code that the client gets.
        code: u16,
        /// The reason that the client gets.
        reason: String,
        /// Who is told whether the connection was there.
        reply: CloseReply,
    },
    /// Answer a client's Close after the messages that were delivered to the client so far.
    Finish {
        /// The connection.
        conn: ConnId,
    },
    /// Change the channels of a connection.
    Membership(Box<Membership>),
    /// Tell a channel's members that another one came or went.
    Presence(Box<Presence>),
    /// Collect the members of a channel.
    Members(Arc<MembersReport>),
    /// Close every connection that is open now.
    CloseAll {
        /// The close code and reason that the clients get.
        closing: Closing,
    },
    /// Close one in `parts` of the connections, chosen at random.
    CloseShare {
        /// The close code and reason that the clients get.
        closing: Closing,
        /// The connections are divided into so many shares, one of which is closed.
        parts: u32,
    },
}

/// A change of a connection's channels. It leaves first, then it joins.
pub struct Membership {
    /// The connection.
    pub conn: ConnId,
    /// The channels that it leaves.
    pub leave: Vec<Channel>,
    /// The channels that it joins.
    pub join: Vec<Channel>,
    /// What it is sent of the history of those that it joins.
    pub since: Option<Since>,
    /// The position of the newest kept message in front of this operation.
    pub newest: Option<Position>,
    /// Who is told what came of it.
    pub reply: Option<MembershipReply>,
}

/// A frame for those members of a channel that get frames.
#[derive(Clone)]
pub struct Presence {
    /// The channel.
    pub channel: Channel,
    /// The number of the change that it tells of. Who became a member later does not get it.
    pub change: u64,
    /// The frame, a JSON object.
    pub frame: Bytes,
}

/// A message and its recipients.
pub struct Delivery {
    /// The message.
    pub payload: Payload,
    /// Who gets it.
    pub to: Recipients,
    /// The sender, if the listener was not asked. Until the message is sent, it counts against the
    /// sender's limits.
    pub from: Option<ConnId>,
    /// Counts the outcome, if somebody waits for it.
    pub report: Option<Arc<DeliveryReport>>,
    /// Its position in the history, once it was kept.
    pub at: Option<Position>,
}

impl Delivery {
    /// A delivery that does not count against its sender.
    pub(crate) fn new(
        payload: Payload,
        to: Recipients,
        report: Option<Arc<DeliveryReport>>,
    ) -> Delivery {
        Delivery { payload, to, from: None, report, at: None }
    }

    /// The same delivery for another shard. The message is not copied.
    #[must_use]
    pub(crate) fn share(&self) -> Delivery {
        Delivery {
            payload: self.payload.clone(),
            to: self.to.clone(),
            from: self.from,
            report: self.report.clone(),
            at: self.at,
        }
    }
}

/// Who is told that a close was carried out.
pub enum CloseReply {
    /// Nobody.
    None,
    /// The listener, by a result line with this `ref`.
    Listener(String),
    /// Another node of a cluster, by this function: whether the connection was there.
    Node(Box<dyn FnOnce(bool) + Send>),
    /// The control port. It gets the connection as it was, or `None` if there was none.
    Control(oneshot::Sender<Option<ConnectionRow>>),
}
