//! What the control port may ask of the server, and the answers as plain data.

pub mod endpoint;
pub mod failure;
pub mod file;
pub mod totals;

use serde::Serialize;
use serde_json::value::RawValue;

/// The codes of the control port's errors; each has its HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// 400.
    BadRequest,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404: no such path of the API.
    NotFound,
    /// 404.
    UnknownGateway,
    /// 404.
    UnknownConnection,
    /// 405.
    MethodNotAllowed,
    /// 409.
    NotRunning,
    /// 413.
    TooLarge,
    /// 429.
    Busy,
    /// 500: a verb that failed, with its reason.
    Failed,
    /// 502.
    ListenerFault,
    /// 503.
    ListenerDown,
    /// 503.
    Stopping,
    /// 504.
    ListenerTimeout,
}

impl ErrorCode {
    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            ErrorCode::BadRequest => 400,
            ErrorCode::Unauthorized => 401,
            ErrorCode::Forbidden => 403,
            ErrorCode::NotFound | ErrorCode::UnknownGateway | ErrorCode::UnknownConnection => 404,
            ErrorCode::MethodNotAllowed => 405,
            ErrorCode::NotRunning => 409,
            ErrorCode::TooLarge => 413,
            ErrorCode::Busy => 429,
            ErrorCode::Failed => 500,
            ErrorCode::ListenerFault => 502,
            ErrorCode::ListenerDown | ErrorCode::Stopping => 503,
            ErrorCode::ListenerTimeout => 504,
        }
    }

    /// The name in `{"error":{"code":…}}`.
    pub fn name(self) -> &'static str {
        match self {
            ErrorCode::BadRequest => "bad_request",
            ErrorCode::Unauthorized => "unauthorized",
            ErrorCode::Forbidden => "forbidden",
            ErrorCode::NotFound => "not_found",
            ErrorCode::UnknownGateway => "unknown_gateway",
            ErrorCode::UnknownConnection => "unknown_connection",
            ErrorCode::MethodNotAllowed => "method_not_allowed",
            ErrorCode::NotRunning => "not_running",
            ErrorCode::TooLarge => "too_large",
            ErrorCode::Busy => "busy",
            ErrorCode::Failed => "failed",
            ErrorCode::ListenerFault => "listener_fault",
            ErrorCode::ListenerDown => "listener_down",
            ErrorCode::Stopping => "stopping",
            ErrorCode::ListenerTimeout => "listener_timeout",
        }
    }
}

/// An error of the control port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// Which.
    pub code: ErrorCode,
    /// What a person reads.
    pub message: String,
    /// With [`ErrorCode::UnknownGateway`]: the ids there are.
    pub known: Option<Vec<String>>,
}

impl ApiError {
    /// An error without a list of known ids.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> ApiError {
        ApiError { code, message: message.into(), known: None }
    }
}

/// What became of a push or of a `send` command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PushOutcome {
    /// `delivered` and `dropped` together.
    pub matched: u64,
    /// Connections to whose sockets or queues it was handed.
    pub delivered: u64,
    /// Connections whose full queue refused it.
    pub dropped: u64,
    /// Connections that were named and are closed or unknown.
    pub gone: Vec<String>,
}

/// `GET /v1/gateways/ID`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GatewayStatus {
    /// The gateway's id.
    pub id: String,
    /// `stopped`, `starting`, `running`, `stopping` or `failed`.
    pub state: &'static str,
    /// The listener's own: `up`, `restarting` or `none`.
    pub listener: &'static str,
    /// `automatic`, `manual` or `disabled`.
    pub startup: &'static str,
    /// `ws://ADDR:PORT` as bound, while bound.
    pub address: Option<String>,
    /// Open connections.
    pub connections: u64,
    /// Messages from clients.
    pub messages_in: u64,
    /// Messages to clients: one for each delivery.
    pub messages_out: u64,
    /// Restarts of the listener.
    pub restarts: u64,
    /// The listener's process id.
    pub listener_pid: Option<u32>,
    /// Why it failed.
    pub error: Option<String>,
}

/// One connection in `GET /v1/gateways/ID/connections`.
#[derive(Debug, Clone, Serialize)]
pub struct ConnectionInfo {
    /// The connection's name.
    pub conn: String,
    /// `ADDR:PORT`; behind a trusted proxy the address alone.
    pub remote: String,
    /// The path of the request, a JSON string.
    pub path: Box<RawValue>,
    /// RFC 3339.
    pub opened_at: String,
    /// Bytes that wait for its socket.
    pub queued_bytes: u64,
}
