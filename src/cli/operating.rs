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
#[command(after_help = format!("{PROTOCOL}\n\n{SERVE_EXAMPLES}"))]
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
#[command(after_help = format!("{CHECK_EXAMPLES}\n\n{PROTOCOL}"))]
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

/// What a listener reads and writes.
const PROTOCOL: &str = r#"The listener reads an event from each line of its stdin, and answers with the same id:
  {"id":3,"event":"onMessage","conn":"k1","message":"hello"}    an event (with more keys)
  {"id":3}                                   send the message on unchanged
  {"id":3,"message":"HELLO"}                 send another text
  {"id":3,"connections":["k2"]}              send it to these alone; [] is nobody
  {"command":"send","message":"good day"}    send something unasked
A whole listener in Python (each line is flushed, and stdout is for answers alone):
  import json, sys
  for line in sys.stdin:
      event = json.loads(line)
      if event["event"] == "onMessage":
          print(json.dumps({"id": event["id"], "message": event["message"].upper()}), flush=True)"#;

/// What stands below the flags of `wsgw serve`.
const SERVE_EXAMPLES: &str = "Examples:
  wsgw serve -- cat                              each message goes to all clients
  wsgw serve -- python3 upper.py                 http://127.0.0.1:10125/ is a page for trying it
  wsgw check -- python3 upper.py                 what is wrong with a listener
  wsgw connect                                   a client; send, status, top and open show and do more";

/// What stands below the flags of `wsgw check`.
const CHECK_EXAMPLES: &str = "Examples:
  wsgw check -- python3 upper.py
  wsgw check --plain -- ./each_line.sh
  wsgw check --config wsgw.toml --id chat        the listener of a config file
The flags are those of serve; few of them concern a listener (--hooks, --listener-timeout, --route,
--channels, --plain).

Exit codes: 0 clean, 1 there are findings, 2 usage, 5 the listener cannot be started.";

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
