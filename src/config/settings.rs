//! Typed settings with units: what the config file and the flags come to.
//!
//! `config` makes these values, everything else only reads them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::listener::protocol::hooks::{Hook, Hooks};

/// Everything `wsgw serve` was told.
#[derive(Debug, Clone, PartialEq)]
pub struct ServeSettings {
    /// The control port.
    pub control: ControlSettings,
    /// The log.
    pub log: LogSettings,
    /// The gateways, by id in the order of the config file.
    pub gateways: Vec<GatewaySettings>,
    /// The file all this came from, for `reload`; `None` where only flags spoke.
    pub config_file: Option<PathBuf>,
    /// Directory in which listeners run: that of the config file, else the current one.
    pub directory: PathBuf,
    /// Things to say once logging runs (an implicit file that was set aside, say).
    pub notices: Vec<String>,
}

/// Where the control port listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlListen {
    /// Switched off.
    Off,
    /// `ADDR:PORT`; port 0 takes a free one.
    Tcp(String, u16),
    /// `unix:PATH`.
    Unix(PathBuf),
}

/// `[control]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlSettings {
    /// Default `127.0.0.1:10124`.
    pub listen: ControlListen,
    /// Directory of `control-PORT.json`; default: the state directory.
    pub directory: Option<PathBuf>,
    /// File that holds the token; default: a token is made at each start.
    pub token_file: Option<PathBuf>,
    /// Further names that a request's `Host` may have.
    pub hosts: Vec<String>,
    /// Lets an address that is not loopback go without TLS. Default false.
    pub insecure: bool,
    /// Mode of the unix socket. Default 0600.
    pub mode: u32,
    /// Group of the unix socket.
    pub group: Option<String>,
    /// Certificate chain (PEM).
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM).
    pub tls_key: Option<PathBuf>,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Default: `logs` in the user's state directory. A given one that cannot be written is fatal.
    pub directory: Option<PathBuf>,
    /// A level or a filter as in `RUST_LOG`. `None`: `RUST_LOG`, else `info`.
    pub level: Option<String>,
    /// Nothing to stderr.
    pub quiet: bool,
}

/// Whether a gateway is started with `serve`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Startup {
    /// Started with `serve`.
    Automatic,
    /// Started by `wsgw start`.
    Manual,
    /// Never started.
    Disabled,
}

/// Who gets a message when the answer names no `connections`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Every open connection, the sender too.
    All,
    /// Every open connection but the sender.
    Others,
    /// The sender alone.
    Sender,
    /// Nobody.
    None,
}

/// What becomes of a message whose answer did not come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTimeout {
    /// It is dropped.
    Drop,
    /// It goes out unchanged, by `route`.
    Broadcast,
    /// Its sender is closed with 1011.
    Close,
}

/// The listener's command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerCommand {
    /// Program and arguments; `sh -c STRING` where one string was given.
    pub argv: Vec<std::ffi::OsString>,
    /// Directory in which it runs.
    pub directory: PathBuf,
}

/// One entry of `headers`, lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderRule {
    /// `*`.
    All,
    /// `x-*`.
    Prefix(String),
    /// A name.
    Name(String),
}

/// The settings of one gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewaySettings {
    /// `[a-z0-9._-]{1,64}`.
    pub id: String,
    /// Address to bind, a name or a literal. Default `127.0.0.1`.
    pub host: String,
    /// Default 10125; 0 takes a free one.
    pub port: u16,
    /// Default automatic.
    pub startup: Startup,
    /// `None`: no subprocess, the gateway behaves as with `cat`.
    pub listener: Option<ListenerCommand>,
    /// The events this listener is sent.
    pub hooks: Hooks,
    /// Default all.
    pub route: Route,
    /// Request headers that are sent and kept.
    pub headers: Vec<HeaderRule>,
    /// Subprotocols; `None` is `*`, the client's first offer.
    pub protocols: Option<Vec<String>>,
    /// Path patterns; empty: any path.
    pub path: Vec<String>,
    /// Unanswered events at a time, at least 1. Default 256.
    pub window: usize,
    /// Default 10 s, never zero.
    pub listener_timeout: Duration,
    /// Default drop.
    pub on_timeout: OnTimeout,
    /// As configured; default 30 s. What counts is [`GatewaySettings::effective_hang_timeout`].
    pub hang_timeout: Duration,
    /// Default 30 s.
    pub restart_delay_max: Duration,
    /// Default 1 s.
    pub drain: Duration,
    /// Zero (the default): at a stop all clients are closed at once.
    pub close_spread: Duration,
    /// How long in all an NDJSON stream or a `--hooks none` listener pauses for one recipient that
    /// still takes bytes and is over half of its `max_queue`, until it is back under half. Zero:
    /// never. Default 10 s.
    pub producer_wait: Duration,
    /// Default 1,000,000.
    pub max_connections: usize,
    /// 0: no limit.
    pub max_connections_per_ip: usize,
    /// Default 10 s.
    pub handshake_timeout: Duration,
    /// Bytes; default 1 MiB.
    pub max_message: usize,
    /// Bytes; default 4 MiB.
    pub max_queue: usize,
    /// Zero: no pings. Default 30 s.
    pub ping_interval: Duration,
    /// Default 30 s.
    pub pong_timeout: Duration,
    /// Zero: none.
    pub idle_timeout: Duration,
    /// `None`: the default rule (same host; any loopback name on a loopback address).
    pub allow_origin: Option<Vec<String>>,
    /// Empty: none is trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Messages per second; 0: no limit.
    pub max_rate: u32,
    /// Bytes; default 16 MiB, at least 6 × `max_message` + 64 KiB.
    pub max_line: usize,
    /// Certificate chain (PEM).
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM).
    pub tls_key: Option<PathBuf>,
}

impl GatewaySettings {
    /// The hang time-out that counts: never less than twice `listener_timeout`.
    pub fn effective_hang_timeout(&self) -> Duration {
        self.hang_timeout.max(self.listener_timeout * 2)
    }

    /// Whether there is a listener that answers for this hook.
    pub fn asks(&self, hook: Hook) -> bool {
        self.listener.is_some() && self.hooks.has(hook)
    }

    /// Whether there is a listener that is told of connections.
    pub fn tells(&self) -> bool {
        self.listener.is_some() && !self.hooks.is_none()
    }

    /// Whether `address` is a proxy whose `X-Forwarded-For` is believed.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted_proxies.iter().any(|net| net.contains(&address))
    }

    /// What differs only in things that apply live is the same gateway: true if the two need a
    /// restart of the gateway (address or TLS switch).
    pub fn needs_restart(&self, new: &GatewaySettings) -> bool {
        self.host != new.host
            || self.port != new.port
            || self.tls_cert.is_some() != new.tls_cert.is_some()
    }

    /// True if the two need another listener subprocess, the clients staying.
    pub fn needs_new_listener(&self, new: &GatewaySettings) -> bool {
        self.listener != new.listener || self.hooks != new.hooks
    }
}
