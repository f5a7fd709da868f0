//! `wsgw connect`.

use crate::cli::ConnectArgs;
use crate::commands::control;
use crate::connect;
use crate::error::Failure;

/// Runs the test client.
pub(super) fn run(args: &ConnectArgs) -> Result<u8, Failure> {
    connect::run(args).map_err(|failure| control::with_running(failure, "connect"))
}
