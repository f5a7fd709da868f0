//! `wsgw top`.

use crate::cli::TopArgs;
use crate::error::Failure;

/// Not built yet.
pub(super) fn run(_args: &TopArgs) -> Result<u8, Failure> {
    Err(Failure::other("wsgw top is not built yet"))
}
