//! `wsgw completions SHELL`.

use std::io::Write;

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs};
use crate::error::Failure;

/// Prints the completion script of a shell.
pub fn run(args: &CompletionsArgs) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "wsgw", &mut script);
    // `| head` closing the pipe is no failure.
    let _ = std::io::stdout().write_all(&script);
    Ok(0)
}
