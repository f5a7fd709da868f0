//! What threads tell a shard.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::gateway::io::socket::ClientSocket;
use crate::gateway::io::transport::Transport;
use crate::gateway::post::{Outcome, Post};
use crate::gateway::shared::{GatewaySlot, Shared};
use crate::listener::connection::{Closed, ConnInfo, ConnectionRow};
use crate::listener::exchange::{HandshakeDecision, PushAsk};
use crate::listener::membership::LeaveReason;
use crate::listener::op::Op;
use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;
use crate::net::address::Peer;
use crate::net::bind::BoundSocket;
use crate::text::position::Position;
use crate::ws::payload::Payload;

/// A message to a shard.
pub enum Msg {
    /// A gateway appears.
    Add(Arc<Shared>),
    /// For one gateway; thrown away if it is gone.
    Gateway(GatewaySlot, HubMsg),
    /// End the thread.
    Quit,
}

/// A message to one gateway's part of a shard.
pub enum HubMsg {
    /// Carry out this shard's part of an operation, in the order of arrival.
    Op(Op),
    /// The same, without a place in the order yet: the only shard gives it one.
    Unordered(Op),
    /// The position of the newest message that was kept so far; `None` without a history.
    History(Option<Position>),
    /// The gateway is gone.
    Remove,
    /// Its settings changed.
    Settings,
    /// Tell when all that was posted before this has been handled.
    Sync(oneshot::Sender<()>),
    /// Accept on this socket (primary only); `None` stops accepting.
    Accept(Option<BoundSocket>),
    /// A new client.
    Socket(ClientSocket, Peer, ConnId),
    /// A client that was served files, and asks for something else now.
    Returned(Box<Returned>),
    /// The answer to a handshake that was asked about.
    Handshake(ConnId, HandshakeDecision),
    /// A message that the listener was to be asked about, and is not because it was taken away: it
    /// goes out by the route.
    Unasked(ConnId, Payload),
    /// Messages of these connections are settled, and the bytes of each.
    Settled(Vec<(ConnId, usize)>),
    /// Messages for a stream, which came in a request of their own.
    Post(Box<Post>),
    /// What became of those that this connection's request sent.
    Posted(ConnId, Outcome),
    /// The gate may be open: look at the connections that wait. Being awake is enough.
    GateOpen,
    /// For the primary.
    Primary(PrimaryMsg),
    /// List connections.
    List(Listing, oneshot::Sender<Listed>),
    /// Cut every connection now.
    CutAll,
    /// Tell when no connection is left.
    WhenEmpty(oneshot::Sender<()>),
}

/// A client that comes back to its shard.
pub struct Returned {
    /// Its socket.
    pub(crate) stream: Transport,
    /// The socket's other end.
    pub(crate) peer: Peer,
    /// Its name.
    pub(crate) id: ConnId,
    /// What it has said, and nobody has answered.
    pub(crate) bytes: Vec<u8>,
}

/// Which connections are listed.
#[derive(Debug, Clone)]
pub enum Listing {
    /// One.
    One(ConnId),
    /// Some of them.
    Page {
        /// The members of this channel; `None`: all.
        channel: Option<Channel>,
        /// Those behind this one, which may be gone.
        after: Option<ConnId>,
        /// So many of each shard at most.
        limit: usize,
    },
    /// Those in these slots, in their order: all of them a part at a time, so that the shard is not
    /// kept from its clients.
    Slots(Range<u32>),
}

/// Connections of one shard.
#[derive(Debug, Default)]
pub struct Listed {
    /// The connections; those of a page in the order of their names.
    pub rows: Vec<ConnectionRow>,
    /// How many there are of which this is a page.
    pub total: u64,
    /// Whether there are slots behind those that were asked for.
    pub more: bool,
}

/// A message to the primary of a gateway.
pub enum PrimaryMsg {
    /// A connection on another shard was opened, with these first channels.
    Opened(Arc<ConnInfo>, Box<[Channel]>),
    /// It joined a channel, which has so many members now.
    Joined(ConnId, Channel, u64),
    /// It left a channel, which has so many members now.
    Left(ConnId, Channel, u64, LeaveReason),
    /// A connection on another node of the cluster joined a channel, or left it.
    Elsewhere(ConnId, Channel, u64, Option<LeaveReason>),
    /// It sent a message.
    Message(ConnId, Payload),
    /// It is gone.
    Closed(ConnId, Closed),
    /// A handshake that the listener is asked about: the event's members and the subprotocols that
    /// the client offers.
    Ask(ConnId, Vec<u8>, Vec<String>),
    /// A result line for the listener.
    Result(String),
    /// A push through the listener.
    Push(Box<PushAsk>),
    /// The requester of a push has gone.
    Withdrawn,
    /// A new incarnation of the listener: its stdin (none for a producer) and its stdout.
    Attach(Option<OwnedFd>, OwnedFd),
    /// The incarnation's process has exited.
    Exited {
        /// Whether we ended it.
        wanted: bool,
    },
    /// Close the listener's stdin.
    CloseStdin,
    /// Tell when no event is owed or waits.
    WhenIdle(oneshot::Sender<()>),
    /// Drop whatever is owed or waits; tells how many.
    DropAll(oneshot::Sender<usize>),
    /// Tell when every line is in the listener's stdin.
    WhenFlushed(oneshot::Sender<()>),
}
