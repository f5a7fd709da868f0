//! The command line: clap types only, no behaviour.
//!
//! Completions (`wsgw completions SHELL`, `shell-completions/`) are generated from these types.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

pub(crate) use crate::config::ServeArgs;
use crate::paths;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "wsgw",
    version,
    about = "A WebSocket gateway for people who live in the shell",
    long_about = "A WebSocket gateway for people who live in the shell: any program that reads and \
                  writes lines becomes the brain of a WebSocket server.\n\nTry:\n  wsgw serve -- cat\n  \
                  wsgw connect\n  wsgw send 'hello, all'",
    propagate_version = true
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run gateways until SIGINT or SIGTERM
    Serve(Box<ServeArgs>),
    /// Push a message to the connected clients
    Send(Box<SendArgs>),
    /// Connect to a WebSocket server, by hand or from a pipe
    Connect(Box<ConnectArgs>),
    /// Show every gateway, or one: state, address, connections, listener, messages
    Status(StatusArgs),
    /// Start a gateway
    Start(VerbArgs),
    /// Stop a gateway; its connections are closed with 1001
    Stop(VerbArgs),
    /// Stop and start a gateway, or replace its listener alone
    Restart(RestartArgs),
    /// Re-read the config file; an invalid one changes nothing
    Reload(ReloadArgs),
    /// List the open connections, of all gateways or of one
    Connections(StatusArgs),
    /// Close one connection
    Close(CloseArgs),
    /// Print the completion script of a shell
    Completions(CompletionsArgs),
}

/// How the client commands find and reach the control port.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ControlArgs {
    /// URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]
    #[arg(long, value_name = "URL")]
    pub control: Option<String>,
    /// File that holds the control token [env: WSGW_TOKEN holds the token itself]
    #[arg(long, value_name = "FILE", value_parser = paths::parser())]
    pub token_file: Option<PathBuf>,
    /// How long to wait for the answer: seconds, or 250ms, 1m30s
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    pub timeout: String,
}

/// `wsgw send`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SendArgs {
    /// The gateway; may be left out when only one runs
    #[arg(short, long, value_name = "ID")]
    pub gateway: Option<String>,
    /// The message; - or nothing for stdin
    #[arg(value_name = "MESSAGE", allow_negative_numbers = true, conflicts_with = "data")]
    pub message: Option<String>,
    /// Only to this connection (repeatable)
    #[arg(long, value_name = "CONN")]
    pub to: Vec<String>,
    /// To all but this connection (repeatable)
    #[arg(long, value_name = "CONN")]
    pub except: Vec<String>,
    /// The whole struct as JSON; holds message or base64
    #[arg(long, value_name = "JSON", conflicts_with_all = ["base64", "binary", "lines"])]
    pub data: Option<String>,
    /// The message is base64 of a binary one
    #[arg(long, conflicts_with = "binary")]
    pub base64: bool,
    /// Stdin is one binary message
    #[arg(long, conflicts_with = "lines")]
    pub binary: bool,
    /// Each line of stdin is one message, sent as it comes
    #[arg(long)]
    pub lines: bool,
    /// Skip the listener
    #[arg(long)]
    pub no_hook: bool,
    /// Fail (exit 4) if nobody got it
    #[arg(long)]
    pub require_one: bool,
    /// How long to keep trying while the control port cannot be reached: seconds, or 1m30s
    #[arg(long, value_name = "SECONDS")]
    pub retry: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Print nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
    /// Where the control port is.
    #[command(flatten)]
    pub control: ControlArgs,
}

/// `wsgw connect`.
#[derive(Debug, Clone, Default, Args)]
pub struct ConnectArgs {
    /// The server; without a scheme it is ws://
    #[arg(value_name = "URL", default_value = "ws://127.0.0.1:10125/")]
    pub url: String,
    /// Add a request header, or those of a file, one a line (repeatable)
    #[arg(short = 'H', long, value_name = "K: V|@FILE")]
    pub header: Vec<String>,
    /// Offer a subprotocol (repeatable)
    #[arg(short, long, value_name = "NAME")]
    pub subprotocol: Vec<String>,
    /// Origin of the request
    #[arg(short, long, value_name = "ORIGIN")]
    pub origin: Option<String>,
    /// Basic authentication; NAME alone asks for the password at the terminal
    #[arg(short, long, value_name = "NAME[:PASSWORD]")]
    pub user: Option<String>,
    /// Basic authentication with the NAME:PASSWORD in this file
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    pub user_file: Option<PathBuf>,
    /// Send this message after connecting (repeatable); stdin is not read, but with -w -1 on a terminal
    #[arg(short = 'x', long, value_name = "MSG", allow_hyphen_values = true)]
    pub execute: Vec<String>,
    /// Leave after N messages
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
    /// At the end of stdin, leave after so many seconds of silence; -1 stays [default: 1, with -n or --echo none]
    #[arg(short, long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub wait: Option<String>,
    /// Send lines as binary messages, write received ones raw
    #[arg(short, long)]
    pub binary: bool,
    /// Send a ping every so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub ping: Option<String>,
    /// Seconds for the whole handshake
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    pub timeout: String,
    /// Connect again when the connection is lost or refused, with growing delays
    #[arg(long)]
    pub reconnect: bool,
    /// Send each message back
    #[arg(long)]
    pub echo: bool,
    /// Indent JSON messages
    #[arg(long)]
    pub pretty: bool,
    /// Put the time before each message
    #[arg(long)]
    pub timestamps: bool,
    /// Colours: auto (on a terminal, unless NO_COLOR is set), always or never
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = ColorWhen::Auto, hide_possible_values = true)]
    pub color: ColorWhen,
    /// Do not check the server's certificate
    #[arg(long)]
    pub insecure: bool,
    /// Trust the certificates of this file (PEM)
    #[arg(long, value_name = "FILE", value_parser = paths::parser())]
    pub cacert: Option<PathBuf>,
    /// Client certificate (PEM)
    #[arg(long, value_name = "FILE", value_parser = paths::parser())]
    pub cert: Option<PathBuf>,
    /// Key of the client certificate (PEM)
    #[arg(long, value_name = "FILE", value_parser = paths::parser())]
    pub key: Option<PathBuf>,
    /// Show the handshake
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub verbose: bool,
    /// Neither read nor write the history file
    #[arg(long)]
    pub no_history: bool,
}

/// When to colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// `wsgw status`, `wsgw connections`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct StatusArgs {
    /// One gateway alone
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the control port is.
    #[command(flatten)]
    pub control: ControlArgs,
}

/// `wsgw start`, `wsgw stop`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct VerbArgs {
    /// The gateway
    #[arg(value_name = "ID")]
    pub id: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the control port is.
    #[command(flatten)]
    pub control: ControlArgs,
}

/// `wsgw restart`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RestartArgs {
    /// The gateway
    #[arg(value_name = "ID")]
    pub id: String,
    /// Replace the listener alone; the clients stay
    #[arg(long)]
    pub listener: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the control port is.
    #[command(flatten)]
    pub control: ControlArgs,
}

/// `wsgw reload`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ReloadArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the control port is.
    #[command(flatten)]
    pub control: ControlArgs,
}

/// `wsgw close`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct CloseArgs {
    /// The gateway
    #[arg(value_name = "ID")]
    pub id: String,
    /// The connection
    #[arg(value_name = "CONN")]
    pub conn: String,
    /// Close code
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub code: u16,
    /// Close reason
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Where the control port is.
    #[command(flatten)]
    pub control: ControlArgs,
}

/// `wsgw completions`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}
