//! One file per subcommand, thin.

mod bench;
mod channels;
mod check;
mod completions;
mod connect;
mod connections;
mod control;
mod history;
mod lists;
mod man;
mod open;
mod output;
mod send;
mod serve;
mod status;
mod top;
mod verbs;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::{Cli, Command};
use crate::error::{Failure, complain, exit};
use crate::text::escape;

/// Parses the command line, runs the command, and turns its result into the exit code.
pub fn main() -> ExitCode {
    match Cli::try_parse().map_or_else(show, run) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            complain(&format!("wsgw: {}", escape::lines(&failure.message)));
            ExitCode::from(failure.exit)
        }
    }
}

fn run(cli: Cli) -> Result<u8, Failure> {
    match cli.command {
        Command::Send(args) => send::run(&args),
        Command::Status(args) => status::status(&args),
        Command::Connections(args) => connections::run(&args),
        Command::Channels(args) => channels::run(&args),
        Command::History(args) => history::run(&args),
        Command::Start(args) => verbs::start(&args),
        Command::Stop(args) => verbs::stop(&args),
        Command::Restart(args) => verbs::restart(&args),
        Command::Reload(args) => verbs::reload(&args),
        Command::Close(args) => verbs::close(&args),
        Command::Serve(args) => serve::run(*args),
        Command::Connect(args) => connect::run(&args),
        Command::Open(args) => open::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

/// Shows what the parser has to say in place of a command: help, the version, or a usage error.
fn show(error: clap::Error) -> Result<u8, Failure> {
    let error = with_hint(error);
    let written = error.print().and_then(|()| std::io::stdout().flush());
    if error.use_stderr() {
        // A stderr that nobody reads changes nothing about the mistake.
        return Ok(exit::USAGE);
    }
    output::finish(written)?;
    Ok(exit::OK)
}

/// `wsgw serve cat` lacks `--`: says so.
fn with_hint(mut error: clap::Error) -> clap::Error {
    let command = std::env::args_os().nth(1).unwrap_or_default();
    if (command == "serve" || command == "check")
        && error.kind() == ErrorKind::UnknownArgument
        && let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg)
        && !word.starts_with('-')
    {
        let command = command.display();
        let tip = format!("the listener's command stands behind --: wsgw {command} -- {word}");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}
