//! `wsgw connect`.
use crate::cli::ConnectArgs;
use crate::error::Failure;
/// Runs it.
pub fn run(_: ConnectArgs) -> Result<u8, Failure> { Err(Failure::other("not yet")) }
