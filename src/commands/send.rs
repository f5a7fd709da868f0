//! `wsgw send`.
use crate::cli::SendArgs;
use crate::error::Failure;
/// Runs it.
pub fn run(_: SendArgs) -> Result<u8, Failure> { Err(Failure::other("not yet")) }
