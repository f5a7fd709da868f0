//! The server as the control port sees it. Each method is the one of [`Server`] with its name.

use std::sync::Arc;

use crate::api::{
    ApiError, ChannelInfo, ChannelSummary, ConnectionInfo, GatewayStatus, NodeStatus, Reloaded,
};
use crate::control::backend::{
    Backend, ChannelsAsk, ConnectionsAsk, ConnectionsPage, HistoryAsk, HistoryMessage, LogPart,
};
use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;
use crate::listener::protocol::push::Push;
use crate::listener::tap::Subscription;
use crate::server::watch::Looks;
use crate::server::{PushReceipt, Server};

impl Backend for Server {
    type Receipt = PushReceipt;
    type Sampler = Looks;

    fn gateways(&self) -> Vec<GatewayStatus> {
        Server::gateways(self)
    }

    fn gateway(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        Server::gateway(self, id)
    }

    fn push(&self, id: &str, push: &Push, hook: bool) -> Result<PushReceipt, ApiError> {
        Server::push(self, id, push, hook)
    }

    async fn stream_pause(&self, id: &str) {
        Server::stream_pause(self, id).await;
    }

    async fn start(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        Server::start(self, id).await
    }

    async fn stop(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        Server::stop(self, id).await
    }

    async fn restart(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        Server::restart(self, id).await
    }

    async fn restart_listener(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        Server::restart_listener(self, id).await
    }

    async fn reload(self: &Arc<Self>) -> Result<Reloaded, ApiError> {
        Server::reload(self).await
    }

    fn channels(&self, id: &str, ask: &ChannelsAsk<'_>) -> Result<Vec<ChannelSummary>, ApiError> {
        Server::channels(self, id, ask)
    }

    async fn channel(
        &self,
        id: &str,
        channel: Channel,
        limit: usize,
        after: Option<ConnId>,
        local: bool,
    ) -> Result<ChannelInfo, ApiError> {
        Server::channel(self, id, channel, (limit, after), local).await
    }

    async fn history(&self, id: &str, ask: &HistoryAsk) -> Result<Vec<HistoryMessage>, ApiError> {
        Server::history(self, id, ask).await
    }

    async fn connections(
        &self,
        id: &str,
        ask: ConnectionsAsk,
    ) -> Result<ConnectionsPage, ApiError> {
        Server::connections(self, id, ask).await
    }

    async fn connection(&self, id: &str, conn: &str) -> Result<ConnectionInfo, ApiError> {
        Server::connection(self, id, conn).await
    }

    async fn close_connection(
        &self,
        id: &str,
        conn: &str,
        code: u16,
        reason: &str,
    ) -> Result<ConnectionInfo, ApiError> {
        Server::close_connection(self, id, conn, code, reason).await
    }

    fn tail(&self, id: &str) -> Result<Subscription, ApiError> {
        Server::tail(self, id)
    }

    fn health(&self) -> Result<(), String> {
        Server::health(self)
    }

    fn degraded(&self) -> Option<String> {
        Server::degraded(self)
    }

    fn nodes(&self, id: &str) -> Result<Vec<NodeStatus>, ApiError> {
        Server::nodes(self, id)
    }

    fn metrics(&self) -> String {
        Server::metrics(self)
    }

    fn sampler(self: &Arc<Self>) -> Looks {
        Looks::new(Arc::clone(self))
    }

    fn log_after(&self, seen: Option<u64>) -> LogPart {
        Server::log_after(self, seen)
    }
}
