//! One file per subcommand, thin.

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::error::Failure;

/// Parses the command line, runs the command, and turns its result into the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result: Result<u8, Failure> = match cli.command {
        Command::Completions(_)
        | Command::Serve(_)
        | Command::Send(_)
        | Command::Connect(_)
        | Command::Status(_)
        | Command::Start(_)
        | Command::Stop(_)
        | Command::Restart(_)
        | Command::Reload(_)
        | Command::Connections(_)
        | Command::Close(_) => Err(Failure::other("not there yet")),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("wsgw: {failure}");
            ExitCode::from(failure.exit)
        }
    }
}
