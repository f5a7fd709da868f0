//! Gateways and connections as the control port shows them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The state of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GatewayState {
    /// Nothing is bound.
    Stopped,
    /// It is being started.
    Starting,
    /// Its port is bound and its listener lives.
    Running,
    /// It is being stopped.
    Stopping,
    /// It could not be started, or its listener failed for good.
    Failed,
}

impl GatewayState {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            GatewayState::Stopped => "stopped",
            GatewayState::Starting => "starting",
            GatewayState::Running => "running",
            GatewayState::Stopping => "stopping",
            GatewayState::Failed => "failed",
        }
    }
}

/// The state of a gateway's listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerState {
    /// It runs.
    Up,
    /// It ended and is started again.
    Restarting,
    /// The gateway has none, or does not run.
    None,
}

impl ListenerState {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            ListenerState::Up => "up",
            ListenerState::Restarting => "restarting",
            ListenerState::None => "none",
        }
    }
}

/// `GET /v1/gateways/ID`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GatewayStatus {
    /// The gateway's id.
    pub id: String,
    /// Its state.
    pub state: GatewayState,
    /// The state of its listener.
    pub listener: ListenerState,
    /// `automatic`, `manual` or `disabled`.
    #[serde(default)]
    pub startup: Cow<'static, str>,
    /// `ws://ADDR:PORT` as bound, while it is bound.
    pub address: Option<String>,
    /// Open connections.
    pub connections: u64,
    /// Messages from clients.
    pub messages_in: u64,
    /// Messages to clients, counted once for each recipient.
    pub messages_out: u64,
    /// Restarts of the listener.
    pub restarts: u64,
    /// The listener's process id.
    pub listener_pid: Option<u32>,
    /// Why it failed.
    pub error: Option<String>,
}

/// A node in `GET /v1/gateways/ID/nodes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name, which its connections' names begin with.
    pub node: String,
    /// What its config calls it.
    pub name: String,
    /// Whether it is the one that was asked.
    pub this: bool,
    /// Its open connections.
    pub connections: u64,
    /// Milliseconds since it was last heard.
    pub silent_ms: u64,
}

/// One connection in `GET /v1/gateways/ID/connections`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConnectionInfo {
    /// The connection's name.
    pub conn: String,
    /// `ADDR:PORT`; behind a trusted proxy the address alone.
    pub remote: String,
    /// The path of the request, a JSON string.
    pub path: Box<RawValue>,
    /// How it is connected: `websocket`, `sse`, `lines` or `raw`.
    #[serde(default = "websocket")]
    pub transport: Cow<'static, str>,
    /// RFC 3339.
    pub opened_at: String,
    /// Bytes that wait for its socket.
    pub queued_bytes: u64,
    /// The channels that it is in, sorted.
    #[serde(default)]
    pub channels: Vec<String>,
}

/// The transport of a `serve` that knew no other one.
fn websocket() -> Cow<'static, str> {
    "websocket".into()
}

impl ConnectionInfo {
    /// The path of the request as text.
    pub fn path_text(&self) -> String {
        serde_json::from_str(self.path.get()).unwrap_or_else(|_| self.path.get().to_owned())
    }
}

/// A reload that was carried out.
#[derive(Debug)]
pub struct Reloaded {
    /// Every gateway.
    pub gateways: Vec<GatewayStatus>,
    /// What could not be applied, and what to do about it; sent as the header [`super::NOTICE`].
    pub notice: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_one_name_each() {
        use GatewayState::*;
        for state in [Stopped, Starting, Running, Stopping, Failed] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
        for state in [ListenerState::Up, ListenerState::Restarting, ListenerState::None] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
    }

    #[test]
    fn a_status_comes_back_as_it_was_sent() {
        let status = GatewayStatus {
            id: "chat".to_owned(),
            state: GatewayState::Running,
            listener: ListenerState::Up,
            startup: "automatic".into(),
            address: Some("ws://127.0.0.1:1".to_owned()),
            connections: 1,
            messages_in: 2,
            messages_out: 3,
            restarts: 4,
            listener_pid: Some(5),
            error: None,
        };
        let json = serde_json::to_vec(&status).unwrap();
        assert_eq!(serde_json::from_slice::<GatewayStatus>(&json).unwrap(), status);
    }
}
