//! `wsgw bench`.

use crate::cli::BenchArgs;
use crate::error::Failure;

/// Not built yet.
pub(super) fn run(_args: &BenchArgs) -> Result<u8, Failure> {
    Err(Failure::other("wsgw bench is not built yet"))
}
