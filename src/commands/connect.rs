//! `wsgw connect`.

use crate::cli::ConnectArgs;
use crate::client;
use crate::error::Failure;

/// Runs the test client.
pub fn run(args: &ConnectArgs) -> Result<u8, Failure> {
    client::run(args)
}
