//! What the control port needs of the gateways behind it. `serve` puts its server there, tests put
//! a fake.

use std::future::Future;
use std::sync::Arc;

use crate::api::{ApiError, ConnectionInfo, GatewayStatus, PushOutcome, Reloaded};
use crate::listener::protocol::push::Push;

/// The gateways behind a control port.
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
