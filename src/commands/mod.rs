//! One file per subcommand, thin.

mod completions;
mod connect;
mod control;
mod send;
mod serve;
mod status;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::error::{Failure, complain};
use crate::escape;

/// Parses the command line, runs the command, and turns its result into the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result: Result<u8, Failure> = match cli.command {
        Command::Send(args) => send::run(&args),
        Command::Status(args) => status::status(&args),
        Command::Connections(args) => status::connections(&args),
        Command::Start(args) => verbs::start(&args),
        Command::Stop(args) => verbs::stop(&args),
        Command::Restart(args) => verbs::restart(&args),
        Command::Reload(args) => verbs::reload(&args),
        Command::Close(args) => verbs::close(&args),
        Command::Serve(args) => serve::run(*args),
        Command::Connect(args) => connect::run(&args),
        Command::Completions(args) => completions::run(&args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            complain(&format!("wsgw: {}", escape::lines(&failure.message)));
            ExitCode::from(failure.exit)
        }
    }
}
