//! `wsgw check`.

use crate::cli::CheckArgs;
use crate::error::Failure;

/// Not built yet.
pub(super) fn run(_args: &CheckArgs) -> Result<u8, Failure> {
    Err(Failure::other("wsgw check is not built yet"))
}
