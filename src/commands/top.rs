//! `wsgw top`.

use crate::cli::TopArgs;
use crate::commands::control;
use crate::control_client::discovery::Wanted;
use crate::error::Failure;
use crate::top::{Options, watch};

/// Watches gateways until `q`.
pub(super) fn run(args: &TopArgs) -> Result<u8, Failure> {
    let timeout = control::timeout(&args.control)?;
    let wanted = Wanted::from_env(args.control.control.clone(), args.control.token_file.clone())?;
    watch(&Options { wanted, timeout, id: args.id.clone() })
}
