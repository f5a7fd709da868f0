//! `wsgw connect`: the test client.
//!
//! One task runs the session; threads of their own read stdin (or edit lines) and write stdout, so
//! that neither a slow pipe nor a stopped terminal keeps pings from being answered.

pub mod command;
mod compression;
mod connection;
mod credentials;
mod dial;
mod editor;
pub mod frame;
mod handshake;
mod history;
mod inflating;
mod input;
pub mod options;
mod output;
mod pretty;
mod proxy;
mod resume;
mod screen;
mod session;
mod signals;
mod socks;
mod stream;
pub mod target;
mod tls;
mod tunnel;
mod typed;
mod writer;

use std::io::IsTerminal;

use crate::cli::ConnectArgs;
use crate::error::Failure;

/// Exit codes of `connect`.
pub(crate) mod exit {
    /// Left by itself, or closed with 1000, 1001 or 1005.
    pub(crate) const OK: u8 = 0;
    /// The server broke the protocol, or something else went wrong.
    pub(crate) const FAILURE: u8 = 1;
    /// DNS, TCP or TLS.
    pub(crate) const NETWORK: u8 = 3;
    /// The handshake was refused or wrong.
    pub(crate) const HANDSHAKE: u8 = 4;
    /// Another close code, or a lost connection.
    pub(crate) const CLOSED: u8 = 5;
    /// A time-out, or `-n` not reached.
    pub(crate) const TIMEOUT: u8 = 6;
    /// The terminal is gone (SIGHUP), as a shell tells it.
    pub(crate) const HUNG_UP: u8 = 129;
    /// Ctrl-C.
    pub(crate) const INTERRUPTED: u8 = 130;
    /// SIGTERM, as a shell tells it.
    pub(crate) const TERMINATED: u8 = 143;
}

/// Runs the client.
///
/// # Errors
/// What ended it, with its exit code.
pub(crate) fn run(args: &ConnectArgs) -> Result<u8, Failure> {
    let options = options::Options::parse(&credentials::complete(args)?)?;
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    // With -x it is not interactive, except with `-x … -w -1` at a terminal.
    let interactive = terminal && (options.execute.is_empty() || options.stays);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::other(format!("the runtime cannot be started: {e}")))?;
    let result = runtime.block_on(session::run(&options, interactive));
    // A thread may still sit in a read of stdin; the process ends without it.
    runtime.shutdown_background();
    result
}
