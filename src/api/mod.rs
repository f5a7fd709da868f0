//! The control port's API as data: what is asked, what is answered, in both directions of serde.
//!
//! The server ([`crate::control`], [`crate::server`]) and the commands that talk to it
//! ([`crate::control_client`], [`crate::commands`]) share these types, so neither can drift from the
//! other. Nothing here does I/O, but [`mod@file`], which reads and writes `control-PORT.json`.

mod channels;
pub mod endpoint;
mod error;
pub mod file;
mod push;
mod status;
mod totals;
mod watch;

pub use channels::{CHANNELS_LISTED, ChannelHistory, ChannelInfo, ChannelSummary};
pub use error::{ApiError, ErrorBody, ErrorCode};
pub use push::{PushOutcome, read_result, write_result};
pub use status::{
    ConnectionInfo, GatewayState, GatewayStatus, ListenerState, NodeStatus, Reloaded,
};
pub use totals::Totals;
pub use watch::{
    LastError, Opened, Rates, Refusals, Tail, TailEntry, Watch, WatchedGateway, WatchedListener,
};

/// The default control port.
pub const DEFAULT_PORT: u16 = 10124;

/// The largest struct of a push, in bytes on the wire.
pub const MAX_STRUCT: usize = 16 << 20;

/// The header of a page of connections with the number of all that match.
pub const TOTAL: &str = "wsgw-total";

/// The header of a page of connections with the nodes of the cluster that are not in it, for they did not
/// answer; absent if all did.
pub const SILENT: &str = "wsgw-silent";

/// The header in which a success carries a remark for the person who asked.
pub const NOTICE: &str = "wsgw-notice";
