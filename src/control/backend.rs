//! What the control port needs of the server, as a trait: the real one delegates to
//! [`Server`], tests put a fake in its place.

use std::future::Future;
use std::sync::Arc;

use crate::api::{ApiError, ConnectionInfo, GatewayStatus, PushOutcome};
use crate::listener::protocol::push::Push;
use crate::server::{PushReceipt, Reloaded, Server};

/// The gateways behind a control port. The methods are those of [`Server`], and mean the same.
pub trait Backend: Send + Sync + 'static {
    /// What becomes of a push. Dropped before it is there, it withdraws the push if its line was not
    /// begun.
    type Receipt: Future<Output = Result<PushOutcome, ApiError>> + Send + Unpin;

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
    /// The open connections of a gateway.
    fn connections(
        &self,
        id: &str,
    ) -> impl Future<Output = Result<Vec<ConnectionInfo>, ApiError>> + Send;
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
    /// `Ok`, or why `/healthz` says no.
    fn health(&self) -> Result<(), String>;
    /// The Prometheus text.
    fn metrics(&self) -> String;
}

impl Backend for Server {
    type Receipt = PushReceipt;

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

    async fn connections(&self, id: &str) -> Result<Vec<ConnectionInfo>, ApiError> {
        Server::connections(self, id).await
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

    fn health(&self) -> Result<(), String> {
        Server::health(self)
    }

    fn metrics(&self) -> String {
        Server::metrics(self)
    }
}
