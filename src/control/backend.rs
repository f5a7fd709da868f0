//! What the control port needs of the gateways behind it. `serve` puts its server there, tests put
//! a fake.

use std::future::Future;
use std::sync::Arc;

use crate::api::{
    ApiError, ChannelInfo, ChannelSummary, ConnectionInfo, GatewayStatus, NodeStatus, PushOutcome,
    Reloaded, Watch,
};
use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;
use crate::listener::protocol::push::Push;
use crate::listener::tap::Subscription;
use crate::text::position::{Position, Since};
use crate::ws::payload::Payload;

/// Which channels are listed.
#[derive(Debug)]
pub struct ChannelsAsk<'a> {
    /// Those whose names start with this.
    pub prefix: &'a str,
    /// Those behind this name, whether it is a channel or not.
    pub after: Option<&'a str>,
    /// At most so many.
    pub limit: usize,
    /// On a gateway with a cluster: the members on this node alone count.
    pub local: bool,
}

/// Which connections are listed, and in which order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ConnectionsAsk {
    /// The members of this channel; `None`: all.
    pub channel: Option<Channel>,
    /// Those that have this text in their name, their address, their path or the name of a channel;
    /// upper and lower case are the same.
    pub filter: Option<String>,
    /// Those that connected after this connection, whether it is still open or not.
    pub after: Option<ConnId>,
    /// What they are ordered by; those that are equal by their names.
    pub sort: ConnectionOrder,
    /// The other way round.
    pub descending: bool,
    /// So many of them are left out first.
    pub offset: usize,
    /// At most so many; `None`: all.
    pub limit: Option<usize>,
    /// On a gateway with a cluster: those of this node alone.
    pub local: bool,
}

/// What connections are ordered by.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionOrder {
    /// When they connected.
    #[default]
    Opened,
    /// The client's address.
    Remote,
    /// The bytes that wait for their sockets.
    Queued,
    /// The path of their requests.
    Path,
}

/// A page of a list of connections.
#[derive(Debug, Default)]
pub struct ConnectionsPage {
    /// The connections.
    pub rows: Vec<ConnectionInfo>,
    /// How many match channel and filter, on this page or not.
    pub total: u64,
    /// Nodes of the cluster that did not answer in time: their connections are not here.
    pub silent: Vec<String>,
}

/// Which kept messages are read.
#[derive(Debug)]
pub struct HistoryAsk {
    /// Those of these channels; none: everything that is kept.
    pub channels: Vec<Channel>,
    /// From where on; `None`: all of them.
    pub since: Option<Since>,
    /// At most so many: the oldest behind a position, else the newest.
    pub limit: Option<usize>,
}

/// A kept message.
#[derive(Debug, Clone)]
pub struct HistoryMessage {
    /// The message.
    pub payload: Payload,
    /// The first of its channels that was asked for; `None` where it went to all.
    pub channel: Option<Channel>,
    /// Its position.
    pub at: Position,
}

/// Lines of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPart {
    /// The lines, the oldest first.
    pub lines: Vec<String>,
    /// Lines before these that are not kept any more.
    pub skipped: u64,
    /// Where they end: what comes later is behind it.
    pub end: u64,
}

/// Looks at all gateways, again and again, for those who watch. What it keeps between two looks goes
/// with it.
pub trait Sampler: Send + 'static {
    /// How everything stands; without lines of the log.
    fn sample(&mut self) -> Watch;
}

/// The gateways behind a control port.
pub trait Backend: Send + Sync + 'static {
    /// What becomes of a push. Dropped before it is there, it withdraws the push if its line was not
    /// begun.
    type Receipt: Future<Output = Result<PushOutcome, ApiError>> + Send + Unpin;

    /// Looks at all gateways.
    type Sampler: Sampler;

    /// Every gateway.
    fn gateways(&self) -> Vec<GatewayStatus>;
    /// One gateway.
    fn gateway(&self, id: &str) -> Result<GatewayStatus, ApiError>;
    /// Takes a push in, in the order of the calls. `Err` is an immediate refusal.
    fn push(&self, id: &str, push: &Push, hook: bool) -> Result<Self::Receipt, ApiError>;
    /// Waits while a recipient is far behind.
    fn stream_pause(&self, id: &str) -> impl Future<Output = ()> + Send;
    /// Starts a gateway.
    fn start(&self, id: &str) -> impl Future<Output = Result<GatewayStatus, ApiError>> + Send;
    /// Stops a gateway.
    fn stop(&self, id: &str) -> impl Future<Output = Result<GatewayStatus, ApiError>> + Send;
    /// Stops and starts a gateway.
    fn restart(&self, id: &str) -> impl Future<Output = Result<GatewayStatus, ApiError>> + Send;
    /// Replaces the listener alone.
    fn restart_listener(
        &self,
        id: &str,
    ) -> impl Future<Output = Result<GatewayStatus, ApiError>> + Send;
    /// Re-reads the config.
    fn reload(self: &Arc<Self>) -> impl Future<Output = Result<Reloaded, ApiError>> + Send;
    /// The channels of a gateway that have members, sorted by name.
    fn channels(&self, id: &str, ask: &ChannelsAsk<'_>) -> Result<Vec<ChannelSummary>, ApiError>;
    /// One channel, with so many members behind this connection.
    fn channel(
        &self,
        id: &str,
        channel: Channel,
        limit: usize,
        after: Option<ConnId>,
        local: bool,
    ) -> impl Future<Output = Result<ChannelInfo, ApiError>> + Send;
    /// Kept messages, the oldest first. They are what they were at the time of the call.
    fn history(
        &self,
        id: &str,
        ask: &HistoryAsk,
    ) -> impl Future<Output = Result<Vec<HistoryMessage>, ApiError>> + Send;
    /// The open connections of a gateway.
    fn connections(
        &self,
        id: &str,
        ask: ConnectionsAsk,
    ) -> impl Future<Output = Result<ConnectionsPage, ApiError>> + Send;
    /// One connection.
    fn connection(
        &self,
        id: &str,
        conn: &str,
    ) -> impl Future<Output = Result<ConnectionInfo, ApiError>> + Send;
    /// Closes one connection; code and reason may be sent as they are.
    fn close_connection(
        &self,
        id: &str,
        conn: &str,
        code: u16,
        reason: &str,
    ) -> impl Future<Output = Result<ConnectionInfo, ApiError>> + Send;
    /// The events of a gateway from now on, over its restarts.
    fn tail(&self, id: &str) -> Result<Subscription, ApiError>;
    /// `Ok`, or why `/healthz` says no.
    fn health(&self) -> Result<(), String>;
    /// What is not as it should be although `/healthz` says yes.
    fn degraded(&self) -> Option<String> {
        None
    }
    /// The nodes of a gateway's cluster.
    fn nodes(&self, id: &str) -> Result<Vec<NodeStatus>, ApiError>;
    /// The Prometheus text.
    fn metrics(&self) -> String;
    /// For those who watch from now on.
    fn sampler(self: &Arc<Self>) -> Self::Sampler;
    /// Lines of the log that came after this; with `None` the newest that are kept.
    fn log_after(&self, seen: Option<u64>) -> LogPart;
}
