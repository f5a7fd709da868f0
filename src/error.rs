//! The one error type of the commands: what a person is told, and the exit code.

use std::fmt;

/// Exit codes of `send` and of the verbs.
pub mod exit {
    /// Done.
    pub const OK: u8 = 0;
    /// Any other failure.
    pub const FAILURE: u8 = 1;
    /// Usage, or several `serve`s to choose from.
    pub const USAGE: u8 = 2;
    /// Control port not reached, no `serve` found, or time-out.
    pub const UNREACHABLE: u8 = 3;
    /// No such gateway, gateway not running, or nobody got it.
    pub const NO_GATEWAY: u8 = 4;
    /// The listener is down, at fault, or timed out.
    pub const LISTENER: u8 = 5;
    /// Unauthorized or forbidden.
    pub const UNAUTHORIZED: u8 = 6;
}

/// A command's failure: `message` says what happened, to what, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The process's exit code.
    pub exit: u8,
    /// What a person reads, without the `wsgw: ` in front.
    pub message: String,
}

impl Failure {
    /// A failure with this exit code.
    pub fn new(exit: u8, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into() }
    }

    /// Exit code 1.
    pub fn other(message: impl Into<String>) -> Failure {
        Failure::new(exit::FAILURE, message)
    }

    /// Exit code 2.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(exit::USAGE, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Writes a line on stderr; one that cannot be written is dropped.
pub fn complain(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}
