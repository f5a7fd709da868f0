//! All gateways of one `serve`: lifecycle verbs, reload, shutdown.

pub mod api;

use api::{ApiError, ConnectionInfo, ErrorCode, GatewayStatus, PushOutcome};

use crate::protocol::push::Push;

/// The gateways of one `serve`. Shared by reference counting; every method may be called from any
/// task of the control runtime.
pub struct Server {}

/// The answer to a push that was taken in; it arrives once, later.
pub type PushReceipt = tokio::sync::oneshot::Receiver<Result<PushOutcome, ApiError>>;

impl Server {
    /// Every gateway, in the order of the config file.
    pub fn gateways(&self) -> Vec<GatewayStatus> {
        Vec::new()
    }

    /// One gateway.
    pub fn gateway(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        Err(self.unknown(id))
    }

    fn unknown(&self, id: &str) -> ApiError {
        let mut e = ApiError::new(ErrorCode::UnknownGateway, format!("no gateway {id:?}"));
        e.known = Some(Vec::new());
        e
    }

    /// Takes a push in, in the order of the calls. `Err` is an immediate refusal (unknown gateway,
    /// not running, stopping, busy, too large). Dropping the receipt withdraws the push if its line
    /// was not begun yet. `hook` false skips the listener.
    pub fn push(&self, id: &str, push: Push, hook: bool) -> Result<PushReceipt, ApiError> {
        let _ = (push, hook);
        Err(self.unknown(id))
    }

    /// Whether a recipient of this gateway that is still taking bytes has more than half of
    /// `max-queue` waiting: NDJSON streams pause then. Resolves when that is over, or after 1 s.
    pub async fn stream_pause(&self, id: &str) {
        let _ = id;
    }

    /// Starts a gateway; done when it runs (already so: fine).
    pub async fn start(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        Err(self.unknown(id))
    }

    /// Stops a gateway; done when it is stopped (already so: fine).
    pub async fn stop(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        Err(self.unknown(id))
    }

    /// Stops and starts a gateway.
    pub async fn restart(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        Err(self.unknown(id))
    }

    /// Replaces the listener alone; the clients stay.
    pub async fn restart_listener(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        Err(self.unknown(id))
    }

    /// Re-reads the config.
    pub async fn reload(&self) -> Result<Vec<GatewayStatus>, ApiError> {
        Ok(Vec::new())
    }

    /// The open connections of a gateway.
    pub async fn connections(&self, id: &str) -> Result<Vec<ConnectionInfo>, ApiError> {
        Err(self.unknown(id))
    }

    /// One connection.
    pub async fn connection(&self, id: &str, conn: &str) -> Result<ConnectionInfo, ApiError> {
        let _ = conn;
        Err(self.unknown(id))
    }

    /// Closes one connection. The caller has checked neither code nor reason.
    pub async fn close_connection(
        &self,
        id: &str,
        conn: &str,
        code: u16,
        reason: &str,
    ) -> Result<ConnectionInfo, ApiError> {
        let _ = (conn, code, reason);
        Err(self.unknown(id))
    }

    /// `Ok` for `/healthz` 200, else why not.
    pub fn health(&self) -> Result<(), String> {
        Ok(())
    }

    /// The Prometheus text of all gateways.
    pub fn metrics(&self) -> String {
        String::new()
    }
}
