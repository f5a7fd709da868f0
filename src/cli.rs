//! The command line: clap types only, no behaviour.
//!
//! Completions (`wsgw completions SHELL`, `shell-completions/`) are generated from these types.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

mod operating;

pub(crate) use crate::cli::operating::{
    BenchArgs, BenchMode, CheckArgs, ManArgs, OpenArgs, ServeCommandArgs, TopArgs,
};
use crate::paths;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "wsgw",
    version,
    about = "A WebSocket gateway for programs that read and write lines",
    long_about = "A WebSocket gateway. It holds the client connections, and a program that reads and \
                  writes JSON lines decides what happens to each message.\n\nTry:\n  wsgw serve -- cat\n  \
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
    Serve(Box<ServeCommandArgs>),
    /// Send a message to the connected clients
    Send(Box<SendArgs>),
    /// Connect to a WebSocket server, at a terminal or in a pipe
    Connect(Box<ConnectArgs>),
    /// Show state, address, connections, listener and messages of all gateways, or of one
    Status(StatusArgs),
    /// Start a gateway
    Start(VerbArgs),
    /// Stop a gateway and close its connections with code 1001
    Stop(VerbArgs),
    /// Restart a gateway, or only its listener
    Restart(RestartArgs),
    /// Read the config file again; an invalid file changes nothing
    Reload(ReloadArgs),
    /// List the open connections of all gateways, or of one
    Connections(ConnectionsArgs),
    /// List the channels of all gateways, or of one, or show one channel
    Channels(ChannelsArgs),
    /// Print the messages that a gateway keeps, one per line
    History(HistoryArgs),
    /// Close one connection
    Close(CloseArgs),
    /// Open the operators' page in a browser: print a link that is good once, for a minute
    Open(OpenArgs),
    /// Watch gateways in the terminal
    Top(TopArgs),
    /// Try a listener: start it, send it what a gateway sends, and say what is wrong with it
    Check(Box<CheckArgs>),
    /// Load a gateway, or another WebSocket server, and report rates, latencies and losses
    Bench(BenchArgs),
    /// Print the completion script for a shell
    Completions(CompletionsArgs),
    /// Write the man pages
    Man(ManArgs),
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
    /// The message; without one, or with -, it is read from stdin
    #[arg(value_name = "MESSAGE", allow_negative_numbers = true, conflicts_with = "data")]
    pub message: Option<String>,
    /// Send only to this connection (repeatable)
    #[arg(long, value_name = "CONN")]
    pub to: Vec<String>,
    /// Do not send to this connection (repeatable)
    #[arg(long, value_name = "CONN")]
    pub except: Vec<String>,
    /// Send only to the members of this channel (repeatable)
    #[arg(long, value_name = "CHANNEL", conflicts_with = "to")]
    pub channel: Vec<String>,
    /// Send this JSON object, which has the key message or base64
    #[arg(long, value_name = "JSON", conflicts_with_all = ["base64", "binary", "lines"])]
    pub data: Option<String>,
    /// Read the message as base64 and send it as binary
    #[arg(long, conflicts_with = "binary")]
    pub base64: bool,
    /// Send stdin as one binary message
    #[arg(long, conflicts_with = "lines")]
    pub binary: bool,
    /// Send each line of stdin as one message, as soon as it arrives
    #[arg(long)]
    pub lines: bool,
    /// Do not pass the message through the listener
    #[arg(long)]
    pub no_hook: bool,
    /// Fail (exit code 4) if no client got the message
    #[arg(long)]
    pub require_one: bool,
    /// Fail (exit code 4) if a node of the cluster did not say in time what came of it
    #[arg(long)]
    pub require_all_nodes: bool,
    /// Keep trying for this time if the control port cannot be reached: seconds, or 1m30s
    #[arg(long, value_name = "SECONDS")]
    pub retry: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Print only errors
    #[arg(short, long)]
    pub quiet: bool,
    /// Where the control port is.
    #[command(flatten)]
    pub control: ControlArgs,
}

/// `wsgw connect`.
#[derive(Debug, Clone, Default, Args)]
pub struct ConnectArgs {
    /// The server; a URL without a scheme gets ws://, a unix socket is ws+unix://SOCKET:/PATH
    #[arg(value_name = "URL", default_value = "ws://127.0.0.1:10125/")]
    pub url: String,
    /// Add a request header, or all headers in a file, one per line (repeatable)
    #[arg(short = 'H', long, value_name = "K: V|@FILE")]
    pub header: Vec<String>,
    /// Offer a subprotocol (repeatable)
    #[arg(short, long, value_name = "NAME")]
    pub subprotocol: Vec<String>,
    /// Send this Origin header
    #[arg(short, long, value_name = "ORIGIN")]
    pub origin: Option<String>,
    /// Use basic authentication; with NAME alone, ask for the password at the terminal
    #[arg(short, long, value_name = "NAME[:PASSWORD]")]
    pub user: Option<String>,
    /// Use basic authentication with the NAME:PASSWORD in this file
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    pub user_file: Option<PathBuf>,
    /// Send this message after connecting (repeatable); stdin is not read, except with -w -1 at a terminal
    #[arg(short = 'x', long, value_name = "MSG", allow_hyphen_values = true)]
    pub execute: Vec<String>,
    /// Leave after N received messages
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
    /// After the end of stdin, leave if no message arrives for this time; -1 stays [default: 1; with -n or --echo: -1]
    #[arg(short, long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub wait: Option<String>,
    /// Send lines as binary messages, and write received messages raw, without a newline
    #[arg(short, long)]
    pub binary: bool,
    /// Follow up to five redirects; -H, user and password and --cert go to the same host only
    #[arg(short = 'L', long)]
    pub location: bool,
    /// Connect through this proxy: http://, https:// or socks5h://, with USER:PASSWORD@ before the host; '' uses none; loopback needs none [env: https_proxy, http_proxy, all_proxy, no_proxy]
    #[arg(long, value_name = "URL")]
    pub proxy: Option<String>,
    /// Offer compression (permessage-deflate)
    #[arg(long)]
    pub compress: bool,
    /// Send a ping at this interval
    #[arg(long, value_name = "SECONDS")]
    pub ping: Option<String>,
    /// Time for the whole handshake
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    pub timeout: String,
    /// Reconnect, with growing delays, after a failure, a lost connection or a close code other than 1000
    #[arg(long)]
    pub reconnect: bool,
    /// Reconnect in the same way, and get the messages that were missed; the server must speak wsgw.v1
    #[arg(long)]
    pub resume: bool,
    /// Send each received message back
    #[arg(long)]
    pub echo: bool,
    /// Indent JSON messages
    #[arg(long)]
    pub pretty: bool,
    /// Print the time before each message
    #[arg(long)]
    pub timestamps: bool,
    /// Colours: auto (on a terminal, unless NO_COLOR is set), always or never
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = ColorWhen::Auto, hide_possible_values = true)]
    pub color: ColorWhen,
    /// Do not check the server's certificate
    #[arg(long)]
    pub insecure: bool,
    /// Trust the certificates in this file (PEM)
    #[arg(long, value_name = "FILE", value_parser = paths::parser())]
    pub cacert: Option<PathBuf>,
    /// Use this client certificate (PEM)
    #[arg(long, value_name = "FILE", value_parser = paths::parser())]
    pub cert: Option<PathBuf>,
    /// Use this key for the client certificate (PEM)
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

/// `wsgw status`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct StatusArgs {
    /// Show only this gateway
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// Show the nodes of the gateway's cluster
    #[arg(long)]
    pub nodes: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the control port is.
    #[command(flatten)]
    pub control: ControlArgs,
}

/// `wsgw connections`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ConnectionsArgs {
    /// Show only this gateway
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// Show only the members of this channel
    #[arg(long, value_name = "CHANNEL")]
    pub channel: Option<String>,
    /// Show at most N connections of each gateway
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Show only those that connected after this connection, which may be closed
    #[arg(long, value_name = "CONN")]
    pub after: Option<String>,
    /// Of a cluster's nodes, ask only this one
    #[arg(long)]
    pub local: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the control port is.
    #[command(flatten)]
    pub control: ControlArgs,
}

/// `wsgw channels`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ChannelsArgs {
    /// Show only this gateway
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// Show the members and the history of this channel
    #[arg(value_name = "CHANNEL")]
    pub channel: Option<String>,
    /// Count only the members on this node of a cluster
    #[arg(long)]
    pub local: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the control port is.
    #[command(flatten)]
    pub control: ControlArgs,
}

/// `wsgw history`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct HistoryArgs {
    /// The gateway; may be left out when only one runs
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// Print only the messages of this channel (repeatable)
    #[arg(long, value_name = "CHANNEL")]
    pub channel: Vec<String>,
    /// Print only what came since: last, a number of messages of each channel, a duration such as 5m, or a position
    #[arg(long, value_name = "SINCE")]
    pub since: Option<String>,
    /// Print at most N messages: the oldest after a position, else the newest
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Print JSON frames, which have the positions
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
    /// Restart only the listener; the clients stay connected
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
    /// Send this close code
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub code: u16,
    /// Send this close reason
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
