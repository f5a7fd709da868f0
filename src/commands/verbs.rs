//! The verbs.
use crate::cli::*;
use crate::error::Failure;
/// x
pub fn status(_: &StatusArgs) -> Result<u8, Failure> { Err(Failure::other("not yet")) }
/// x
pub fn start(_: &VerbArgs) -> Result<u8, Failure> { Err(Failure::other("not yet")) }
/// x
pub fn stop(_: &VerbArgs) -> Result<u8, Failure> { Err(Failure::other("not yet")) }
/// x
pub fn restart(_: &RestartArgs) -> Result<u8, Failure> { Err(Failure::other("not yet")) }
/// x
pub fn reload(_: &ReloadArgs) -> Result<u8, Failure> { Err(Failure::other("not yet")) }
/// x
pub fn connections(_: &StatusArgs) -> Result<u8, Failure> { Err(Failure::other("not yet")) }
/// x
pub fn close(_: &CloseArgs) -> Result<u8, Failure> { Err(Failure::other("not yet")) }
