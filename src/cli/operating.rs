//! The command lines of those who operate gateways and of those who write listeners.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::ControlArgs;
use crate::config::ServeArgs;
use crate::paths;

/// `wsgw open`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct OpenArgs {
    /// Print the link, and open no browser
    #[arg(long)]
    pub print: bool,
    /// Where the control port is.
    #[command(flatten)]
    pub control: ControlArgs,
}

/// `wsgw top`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TopArgs {
    /// Show only this gateway
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// Where the control port is.
    #[command(flatten)]
    pub control: ControlArgs,
}

/// `wsgw serve`, and the question whether it could.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServeCommandArgs {
    /// Say whether the config file and the flags are good, with all that is wrong; bind and start nothing
    #[arg(long)]
    pub check_config: bool,
    /// What is served.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// `wsgw check`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CheckArgs {
    /// Print the findings and the steps as JSON
    #[arg(long)]
    pub json: bool,
    /// Path and query of the clients that are played [default: the first path of the gateway, or /]
    #[arg(long, value_name = "PATH?QUERY")]
    pub url: Option<String>,
    /// A request header of the clients that are played (repeatable)
    #[arg(short = 'H', long, value_name = "K: V")]
    pub header: Vec<String>,
    /// What `serve` would be given: of it, what concerns the listener is heeded.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// What `wsgw bench` measures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchMode {
    /// One connection sends, all receive.
    #[default]
    Fanout,
    /// Each connection sends, and gets its own messages back.
    Echo,
    /// Connections are opened and do nothing.
    Idle,
    /// Connections are opened and closed, over and over.
    Connect,
}

/// `wsgw bench`.
#[derive(Debug, Clone, Args)]
#[command(after_help = BENCH_HELP)]
pub(crate) struct BenchArgs {
    /// The server; a URL without a scheme gets ws://, a unix socket is ws+unix://SOCKET:/PATH
    #[arg(value_name = "URL", default_value = "ws://127.0.0.1:10125/")]
    pub url: String,
    /// How many connections
    #[arg(short, long, value_name = "N", default_value_t = 100)]
    pub connections: u32,
    /// How long to measure: seconds, or 250ms, 1m30s
    #[arg(short, long, value_name = "TIME", default_value = "10s")]
    pub duration: String,
    /// What to measure
    #[arg(long, value_name = "MODE", value_enum, default_value_t = BenchMode::Fanout)]
    pub mode: BenchMode,
    /// Send so many messages a second, whether the answers come or not; without it, the next message follows the answer to the last
    #[arg(long, value_name = "N")]
    pub rate: Option<f64>,
    /// Bytes in a message
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    pub payload: usize,
    /// Join this channel by the URL; a gateway with the route "channels" sends what its members send to all of them
    #[arg(long, value_name = "CHANNEL")]
    pub channel: Option<String>,
    /// Add a request header (repeatable)
    #[arg(short = 'H', long, value_name = "K: V")]
    pub header: Vec<String>,
    /// Do not check the server's certificate
    #[arg(long)]
    pub insecure: bool,
    /// Trust the certificates in this file (PEM)
    #[arg(long, value_name = "FILE", value_parser = paths::parser())]
    pub cacert: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// Write the report with its plots to this file, too
    #[arg(long, value_name = "FILE", value_parser = paths::parser())]
    pub html: Option<PathBuf>,
    /// Fail (exit code 1) where the report breaks one of these, such as p99<20ms,lost=0
    #[arg(long, value_name = "LIST")]
    pub assert: Option<String>,
    /// Load a server on another machine: ask its owner before
    #[arg(long)]
    pub remote: bool,
}

/// What stands below the flags of `wsgw bench`.
const BENCH_HELP: &str = "The report's rate is what all connections received in a second. In the modes \
    idle and connect it is how many were opened, and sent, received and lost count openings. With --rate, \
    a latency counts from when the message was due, so a server that falls behind cannot hide it. What has not come 10 s after the end (or the duration, if \
    that is longer) counts as lost.\n\nIn the mode fanout the messages reach every client of the gateway, not only those of the test: try \
    a gateway that nobody uses. Times and numbers come back in the messages, and a server that changes \
    those falsifies the report.\n\nExamples:\n  \
    wsgw bench -c 100 -d 5 --html report.html\n  \
    wsgw bench wss://localhost:8443 --insecure --mode echo --rate 1000 --assert 'p99<20ms,lost=0'\n\n\
    Exit codes: 0 done, 1 an assertion failed or the server ended the test, 2 usage, 3 the server cannot \
    be reached, 4 it refuses the handshake, 130 ended by Ctrl-C (the report shows what was measured).";

#[cfg(test)]
impl Default for BenchArgs {
    fn default() -> BenchArgs {
        BenchArgs {
            url: String::new(),
            connections: 100,
            duration: "10s".to_owned(),
            mode: BenchMode::Fanout,
            rate: None,
            payload: 128,
            channel: None,
            header: Vec::new(),
            insecure: false,
            cacert: None,
            json: false,
            html: None,
            assert: None,
            remote: false,
        }
    }
}

/// `wsgw man`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ManArgs {
    /// Write the pages of all commands into this directory; without it, print that of wsgw
    #[arg(value_name = "DIR", value_parser = paths::parser())]
    pub directory: Option<PathBuf>,
}
