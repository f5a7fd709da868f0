//! The control port: HTTP/1.1 with JSON, where the host's own programs talk to `wsgw serve`.
//!
//! [`bind`] takes the address and writes the file in which clients find URL and
//! token (`file`); [`Bound::run`] accepts connections, bounded in number and time; [`guard`] says
//! who may ask; `routes` turns requests into calls of a [`backend::Backend`]; `stream` and
//! `results` do NDJSON. Nothing here knows how gateways work.

pub mod backend;
mod bind;
mod body;
pub mod guard;
mod ndjson;
mod results;
mod routes;
mod serve;

pub use bind::{Bound, bind};
#[doc(hidden)]
pub use {body::Budget, ndjson::Lines, routes::Query};

/// The default control port.
pub const DEFAULT_PORT: u16 = 10124;

/// Bytes of a struct at most, on the wire.
pub const MAX_STRUCT: usize = 16 << 20;

/// The header in which a success says what else one should know.
pub const NOTICE: &str = "wsgw-notice";
