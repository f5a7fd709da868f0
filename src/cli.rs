//! The command line: clap types only, no behaviour.
//!
//! Completions (`wsgw completions SHELL`, `shell-completions/`) are generated from these types.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

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
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
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

/// `wsgw serve`.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeArgs {
    /// Config file (TOML) [default: wsgw/wsgw.toml in the user's config directory, then /etc/wsgw/wsgw.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The gateway that the flags are about [default: default]
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Control port: ADDR:PORT, unix:PATH or off [default: 127.0.0.1:10124]
    #[arg(long, value_name = "ADDR:PORT|unix:PATH|off")]
    pub control: Option<String>,
    /// Take the control token from this file instead of making one
    #[arg(long, value_name = "FILE")]
    pub control_token_file: Option<PathBuf>,
    /// Directory of WebSocket.log [default: logs in the user's state directory]
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// error, warn, info, debug, trace, or a filter as in RUST_LOG [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Do not log to stderr
    #[arg(short, long)]
    pub quiet: bool,
    /// The gateway's settings.
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// The listener: a program that reads events and writes answers, a JSON line each
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// The settings of one gateway as flags; each is `--` and the key of the config file
/// (`--protocol` for `protocols`). Values are checked by `config`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Gateway settings")]
pub struct GatewayArgs {
    /// Address to bind [default: 127.0.0.1]
    #[arg(long, value_name = "ADDR")]
    pub host: Option<String>,
    /// Port to bind, 0 for a free one [default: 10125]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// automatic, manual or disabled [default: automatic]
    #[arg(long, value_name = "MODE")]
    pub startup: Option<String>,
    /// The listener as one string for `sh -c`
    #[arg(long, value_name = "CMD LINE")]
    pub listener: Option<String>,
    /// Events the listener is sent: onHandshake, onClientOpen, onMessage, onClientClose, or none
    /// [default: onClientOpen,onClientClose,onMessage]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub hooks: Option<Vec<String>>,
    /// Who gets a message when the answer names nobody: all, others, sender or none [default: all]
    #[arg(long, value_name = "ROUTE")]
    pub route: Option<String>,
    /// Request headers that the listener sees, * for all [default: origin, cookie, authorization,
    /// user-agent, x-forwarded-for, x-*]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub headers: Option<Vec<String>>,
    /// Subprotocol to accept (repeatable), * for the client's first offer [default: *]
    #[arg(long = "protocol", value_name = "NAME", value_delimiter = ',')]
    pub protocols: Option<Vec<String>>,
    /// Path that takes connections, * spans any characters (repeatable) [default: any]
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    pub path: Option<Vec<String>>,
    /// Unanswered events at a time [default: 256]
    #[arg(long, value_name = "N")]
    pub window: Option<String>,
    /// How long an answer may take [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub listener_timeout: Option<String>,
    /// What happens to a message that got no answer: drop, broadcast or close [default: drop]
    #[arg(long, value_name = "WHAT")]
    pub on_timeout: Option<String>,
    /// Silence after which a listener that owes an answer is killed [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub hang_timeout: Option<String>,
    /// Longest pause before a listener is started again [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub restart_delay_max: Option<String>,
    /// How long a stop waits for unanswered events [default: 1s]
    #[arg(long, value_name = "DURATION")]
    pub drain: Option<String>,
    /// Time over which a stop spreads the closes, so that the clients do not all come back at once
    /// [default: 0]
    #[arg(long, value_name = "DURATION")]
    pub close_spread: Option<String>,
    /// How long a stream of messages waits in all for one client that is slow but still reading
    /// [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub producer_wait: Option<String>,
    /// Connections at most [default: 1000000]
    #[arg(long, value_name = "N")]
    pub max_connections: Option<String>,
    /// Connections at most from one address (IPv6: one /64), 0 for no limit [default: 0]
    #[arg(long, value_name = "N")]
    pub max_connections_per_ip: Option<String>,
    /// Time to receive the handshake's request [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub handshake_timeout: Option<String>,
    /// Largest message from a client [default: 1MiB]
    #[arg(long, value_name = "SIZE")]
    pub max_message: Option<String>,
    /// Bytes that may wait for one slow client [default: 4MiB]
    #[arg(long, value_name = "SIZE")]
    pub max_queue: Option<String>,
    /// Time between pings, 0 for none [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub ping_interval: Option<String>,
    /// Time to answer a ping [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub pong_timeout: Option<String>,
    /// Close a connection after so long without a message either way, 0 for never [default: 0]
    #[arg(long, value_name = "DURATION")]
    pub idle_timeout: Option<String>,
    /// Origin that may connect, scheme://host or scheme://host:port, * as a wildcard (repeatable)
    /// [default: localhost on a loopback address, else the same host]
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',')]
    pub allow_origin: Option<Vec<String>>,
    /// Proxy (address or CIDR) whose X-Forwarded-For is believed (repeatable)
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub trusted_proxies: Option<Vec<String>>,
    /// Messages per second from one connection, 0 for no limit [default: 0]
    #[arg(long, value_name = "N")]
    pub max_rate: Option<String>,
    /// Longest line from the listener [default: 16MiB]
    #[arg(long, value_name = "SIZE")]
    pub max_line: Option<String>,
    /// Certificate chain (PEM) for wss
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<String>,
    /// Private key (PEM) for wss
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<String>,
}

/// How the client commands find and reach the control port.
#[derive(Debug, Clone, Default, Args)]
pub struct ControlArgs {
    /// URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]
    #[arg(long, value_name = "URL")]
    pub control: Option<String>,
    /// File that holds the control token [env: WSGW_TOKEN holds the token itself]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Seconds to wait for the answer
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    pub timeout: String,
}

/// `wsgw send`.
#[derive(Debug, Clone, Default, Args)]
pub struct SendArgs {
    /// The gateway (needless when one gateway runs)
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
    /// Keep trying so many seconds while the control port cannot be reached
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
    /// The server; ws:// is added where there is no scheme
    #[arg(value_name = "URL", default_value = "ws://127.0.0.1:10125/")]
    pub url: String,
    /// Add a request header (repeatable)
    #[arg(short = 'H', long, value_name = "K: V")]
    pub header: Vec<String>,
    /// Offer a subprotocol (repeatable)
    #[arg(short, long, value_name = "NAME")]
    pub subprotocol: Vec<String>,
    /// Origin of the request
    #[arg(short, long, value_name = "ORIGIN")]
    pub origin: Option<String>,
    /// Basic authentication
    #[arg(short, long, value_name = "NAME:PASSWORD")]
    pub user: Option<String>,
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
    #[arg(long, value_name = "FILE")]
    pub cacert: Option<PathBuf>,
    /// Client certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// Key of the client certificate (PEM)
    #[arg(long, value_name = "FILE")]
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
pub struct StatusArgs {
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
pub struct VerbArgs {
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
pub struct RestartArgs {
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
pub struct ReloadArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the control port is.
    #[command(flatten)]
    pub control: ControlArgs,
}

/// `wsgw close`.
#[derive(Debug, Clone, Default, Args)]
pub struct CloseArgs {
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
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}
