//! `wsgw open`.

use crate::cli::OpenArgs;
use crate::error::Failure;

/// Not built yet.
pub(super) fn run(_args: &OpenArgs) -> Result<u8, Failure> {
    Err(Failure::other("wsgw open is not built yet"))
}
