//! `wsgw completions SHELL`.

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs};
use crate::commands::output;
use crate::error::{Failure, exit};

/// Prints the completion script of a shell.
pub(super) fn run(args: &CompletionsArgs) -> Result<u8, Failure> {
    // Into memory first: the generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "wsgw", &mut script);
    output::write(&script)?;
    Ok(exit::OK)
}
