//! What the operators' page and `wsgw top` are sent: `GET /v1/watch`, and the live tail of a
//! gateway's events.

use serde::{Deserialize, Serialize};

use crate::api::GatewayStatus;

/// One event of `GET /v1/watch`: how everything stands, and what changed since the event before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// When it was made, in RFC 3339.
    pub time: String,
    /// The version of `serve`.
    pub version: String,
    /// The process id of `serve`.
    pub pid: u32,
    /// When `serve` was started, in RFC 3339.
    pub since: String,
    /// `ok`, `degraded` or `failed`.
    pub health: String,
    /// Why it is not `ok`, a sentence each.
    pub reasons: Vec<String>,
    /// All gateways, sorted as in `GET /v1/gateways`.
    pub gateways: Vec<WatchedGateway>,
    /// Lines of the log, the oldest first: in the first event the newest that are kept, later
    /// those that came since.
    pub log: Vec<String>,
    /// Lines of the log that came since the event before and are not among `log`.
    pub log_skipped: u64,
    /// The nodes of a cluster; none without one.
    pub nodes: Vec<String>,
}

/// A gateway in [`Watch`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WatchedGateway {
    /// What `GET /v1/gateways/ID` shows.
    #[serde(flatten)]
    pub status: GatewayStatus,
    /// Messages and bytes a second, over the last second or so; zero in the first event.
    pub rates: Rates,
    /// Its listener; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_detail: Option<WatchedListener>,
    /// What was refused so far, the most frequent first.
    pub refused: Vec<Refusals>,
    /// Events that wait for the listener.
    pub queued: u64,
    /// Deliveries that full queues refused.
    pub dropped: u64,
    /// Connections closed as slow consumers.
    pub slow_consumers: u64,
    /// Channels that have members.
    pub channels: u64,
    /// Kept messages; absent where the gateway keeps no history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_messages: Option<u64>,
    /// The last thing that went wrong; absent where nothing has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// What the page may do: whether it has the console at its address.
    pub console: bool,
}

/// Rates, per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Messages from clients.
    pub messages_in: f64,
    /// Messages to clients, one for each recipient.
    pub messages_out: f64,
    /// Payload bytes from clients.
    pub bytes_in: f64,
    /// Frame bytes to clients.
    pub bytes_out: f64,
    /// Connections opened.
    pub opened: f64,
}

/// A listener in [`WatchedGateway`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WatchedListener {
    /// Its command as a person would write it.
    pub command: String,
    /// When this process was started, in RFC 3339; `None` while it does not run.
    pub since: Option<String>,
    /// How many events may be unanswered.
    pub window: u64,
    /// How many are.
    pub unanswered: u64,
    /// The median of the time to an answer, in milliseconds, over the last ten seconds in which
    /// somebody looked; `None` where no answer came.
    pub p50_ms: Option<f64>,
    /// The same, of 99 in 100 answers.
    pub p99_ms: Option<f64>,
    /// Answers that these times are of.
    pub answers: u64,
    /// Events that were not answered in time.
    pub timeouts: u64,
    /// Lines that could not be used.
    pub faults: u64,
    /// The last lines that it wrote to stderr, the oldest first.
    pub stderr: Vec<String>,
}

/// Refusals for one reason in [`WatchedGateway`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refusals {
    /// The reason, as in the metric `wsgw_connections_refused_total`.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// The key of the config that would change it; `None` where none would.
    pub key: Option<String>,
    /// The reason in words, and what to do.
    pub text: String,
}

/// What went wrong last in [`WatchedGateway`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastError {
    /// When, in RFC 3339.
    pub at: String,
    /// What.
    pub message: String,
    /// The last lines that the listener wrote to stderr before it, the oldest first.
    pub stderr: Vec<String>,
}

/// One event of `GET /v1/gateways/ID/tail`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Tail {
    /// An event and what became of it.
    Entry(TailEntry),
    /// So many events were not shown, for there were too many.
    Skipped {
        /// How many since the last such line.
        skipped: u64,
    },
}

/// An event of a listener, with its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TailEntry {
    /// When the event was written, or the listener's line came, in RFC 3339 with milliseconds.
    pub at: String,
    /// The event's id; `None` for a command, a result and a plain line.
    pub id: Option<u64>,
    /// The event's name, such as `onMessage`. `command` is a command, `answer` an answer to no event
    /// that is known, and `line` any other line: of a listener of plain lines, or one at fault.
    pub event: String,
    /// The connection; `None` where it has none.
    pub conn: Option<String>,
    /// The event's line, cut at 2 KiB with a mark; empty for a line that
    /// answers no event.
    pub line: String,
    /// The listener's line, cut in the same way; `None` where none came.
    pub answer: Option<String>,
    /// Milliseconds from the event to its answer; `None` where none came.
    pub ms: Option<f64>,
    /// `answered`, `told` (needs no answer; one that comes all the same is an entry of its own),
    /// `command`, `timeout`, `fault`, `late` (an answer that nothing waited for any more), or `lost`
    /// (the listener ended before it).
    pub outcome: String,
    /// What is at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The answer of `POST /v1/open`: a link to the operators' page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The URL, with the code. It is good once.
    pub url: String,
    /// Seconds for which it is good.
    pub expires_in: u64,
}
