//! The control port: HTTP/1.1 with JSON, where the host's own programs talk to `wsgw serve`; and
//! its client, which `wsgw send` and the verbs use.
//!
//! The server's side: [`bind`] takes the address and writes the file in which clients find URL and
//! token (`file`); [`Bound::run`] accepts connections, bounded in number and time; [`guard`] says
//! who may ask; `routes` turns requests into calls of a [`backend::Backend`]; `stream` and
//! `results` do NDJSON. Nothing here knows how gateways work.
//!
//! The client's side: [`discovery`] finds the URL and the token, [`client`] is a small blocking
//! HTTP/1.1 client (a `wsgw send` in a loop starts a thousand times: it must not build a runtime),
//! [`failure`] is the one table from the API's errors to exit codes. Both sides add a stream's
//! results up in [`totals`].

pub mod backend;
mod bind;
mod body;
pub mod client;
pub mod discovery;
pub mod endpoint;
pub mod failure;
pub mod file;
pub mod guard;
mod results;
mod routes;
mod serve;
mod stream;
mod tls;
pub mod totals;
pub mod wire;

pub use bind::{Bound, bind};
#[doc(hidden)]
pub use {body::Budget, routes::Query, stream::Lines};

/// The default control port.
pub const DEFAULT_PORT: u16 = 10124;

/// Bytes of a struct at most, on the wire.
pub const MAX_STRUCT: usize = 16 << 20;

/// The header in which a success says what else one should know.
pub const NOTICE: &str = "wsgw-notice";
