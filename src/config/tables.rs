//! Every key of `wsgw serve`, defined once: a key that is added here has its flag, its place in the
//! file, its help, and its field in the settings. What is checked across keys stands in `check`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::config::addresses::{ControlAddress, Group, Host, HostNames, Networks, Origins};
use crate::config::filter::Filter;
use crate::config::history::{HistorySettings, HistoryTable};
use crate::config::hooks::{Hook, Hooks};
use crate::config::kinds::{
    AnyPath, At, Choice, CommandLine, List, Maybe, Mode, PositiveTime, Size, Switch, Time, Whole,
};
use crate::config::lists::{Channels, Headers, HookNames, Paths, Protocols};
use crate::config::options::Flag::{self, Named};
use crate::config::options::Unset::{Called, Is, Nothing};
use crate::config::options::options;
use crate::config::values::{
    ChannelSource, Cluster, Compression, ControlListen, Format, HeaderRule, ListenHost,
    ListenerCommand, OnEngineLoss, OnTimeout, Route, Startup,
};

options! {
    /// The settings of one gateway, `[gateways.ID]`; sizes are in bytes. The first sentence of each
    /// is its `--help`, the defaults stand beside the keys in `config::tables`.
    pub struct GatewaySettings from GatewayOptions under Some("Gateway settings");
    also {
        /// The gateway's id, lower case.
        pub id: String,
        /// Bytes of the largest message that can be shared with other nodes of a cluster, which its
        /// servers say; `None` without a cluster.
        pub max_shared: Option<usize>,
        /// Whether `max-message` was set on a gateway with a cluster, whose servers may need a smaller one.
        pub max_message_is_set: bool,
    }

    /// Address or name to bind (if a name has several addresses, one is bound, IPv4 first), or unix:PATH
    #[key("host": At<Host> = Is("127.0.0.1"), Named("host", "ADDR|unix:PATH"))]
    pub host: ListenHost,

    /// Port to bind; 0 takes a free one
    #[key("port": Whole<u16, 0, 65_535> = Is("10125"), Named("port", "PORT"))]
    pub port: u16,

    /// When the gateway starts: automatic (with serve), manual (by wsgw start) or disabled
    #[key("startup": Choice<Startup> = Is("automatic"), Named("startup", "MODE"))]
    pub startup: Startup,

    /// Command line of the listener, run by `sh -c`
    #[key("listener": Maybe<CommandLine> = Nothing, Named("listener", "CMD LINE"))]
    pub listener: Option<ListenerCommand>,

    /// Events that the listener is sent: onHandshake, onClientOpen, onJoin, onMessage, onLeave, onClientClose, or none
    #[key("hooks": List<HookNames> = Is("onClientOpen,onClientClose,onMessage"), Named("hooks", "LIST"))]
    pub hooks: Hooks,

    /// Recipients of a message if the answer names none: all, others, sender, channels (the members of the sender's) or none
    #[key("route": Choice<Route> = Is("all"), Named("route", "ROUTE"))]
    pub route: Route,

    /// Request headers that the listener sees; * for all
    #[key("headers": List<Headers> = Is("origin, cookie, authorization, user-agent, x-forwarded-for, x-*"), Named("headers", "NAME"))]
    pub headers: Vec<HeaderRule>,

    /// Subprotocol to accept (repeatable); * accepts the client's first offer
    #[key("protocols": List<Protocols> = Is("*"), Named("protocol", "NAME"))]
    pub protocols: Option<Vec<String>>,

    /// Path that accepts connections (repeatable); * spans any characters
    #[key("path": List<Paths> = Called("any"), Named("path", "PATH"))]
    pub path: Vec<String>,

    /// Also serve streams over plain HTTP: server-sent events, lines, raw bodies, polls, and POST
    #[key("streams": Switch = Is("false"), Named("streams", "BOOL"))]
    pub streams: bool,

    /// Directory of static files to serve
    #[key("static": Maybe<At<AnyPath>> = Nothing, Named("static", "DIR"))]
    pub static_files: Option<PathBuf>,

    /// Serve a page at / to try the gateway with
    #[key("console": Maybe<Switch> = Called("true on a loopback address or a unix socket"), Named("console", "BOOL"))]
    pub console: Option<bool>,

    /// Form of what the listener reads and writes: json (events and answers) or lines (bare messages)
    #[key("format": Choice<Format> = Is("json"), Named("format", "FORMAT"))]
    pub format: Format,

    /// Compression of messages (permessage-deflate): off or shared (once for all clients)
    #[key("compression": Choice<Compression> = Is("off"), Named("compression", "MODE"))]
    pub compression: Compression,

    /// Where a client's first channels come from: off (the listener alone), path or query (of the URL)
    #[key("channels": Choice<ChannelSource> = Is("off"), Named("channels", "SOURCE"))]
    pub channels: ChannelSource,

    /// Channels that a URL may ask for (repeatable); * spans any characters
    #[key("allow-channels": Maybe<List<Channels>> = Nothing, Named("allow-channels", "PATTERN"))]
    pub allow_channels: Option<Vec<String>>,

    /// Channels whose members are told who joins and leaves (repeatable); * spans any characters
    #[key("presence": List<Channels> = Nothing, Named("presence", "PATTERN"))]
    pub presence: Vec<String>,

    /// Number of messages to keep of each channel, and of what goes to all clients
    #[key("history": HistoryTable = Nothing, Named("history", "N"))]
    pub history: Option<HistorySettings>,

    /// How messages are shared with other nodes: off, ordered (one order on all nodes) or core
    #[key("cluster": Choice<Cluster> = Is("off"), Named("cluster", "MODE"))]
    pub cluster: Cluster,

    /// What happens while no NATS server can be reached: local (own clients get their messages) or hold
    #[key("on-engine-loss": Choice<OnEngineLoss> = Is("local"), Named("on-engine-loss", "WHAT"))]
    pub on_engine_loss: OnEngineLoss,

    /// Maximum number of unanswered events
    #[key("window": Whole<usize, 1, 1_048_576> = Is("256"), Named("window", "N"))]
    pub window: usize,

    /// How long an answer may take
    #[key("listener-timeout": PositiveTime = Is("10s"), Named("listener-timeout", "DURATION"))]
    pub listener_timeout: Duration,

    /// What happens to a message without an answer: drop, broadcast or close
    #[key("on-timeout": Choice<OnTimeout> = Is("drop"), Named("on-timeout", "WHAT"))]
    pub on_timeout: OnTimeout,

    /// Time without output after which a listener that owes an answer is killed; at least twice listener-timeout
    #[key("hang-timeout": PositiveTime = Is("30s"), Named("hang-timeout", "DURATION"))]
    pub hang_timeout: Duration,

    /// Longest delay before a listener is restarted
    #[key("restart-delay-max": Time = Is("30s"), Named("restart-delay-max", "DURATION"))]
    pub restart_delay_max: Duration,

    /// How long a stop waits for unanswered events
    #[key("drain": Time = Is("1s"), Named("drain", "DURATION"))]
    pub drain: Duration,

    /// Time over which a stop closes the clients, so that they do not all reconnect at once
    #[key("close-spread": Time = Is("0"), Named("close-spread", "DURATION"))]
    pub close_spread: Duration,

    /// How long a stream of messages waits in total for one client that is slow but still reading
    #[key("producer-wait": Time = Is("10s"), Named("producer-wait", "DURATION"))]
    pub producer_wait: Duration,

    /// Maximum number of connections
    #[key("max-connections": Whole<usize, 1, 4_294_967_295> = Is("1000000"), Named("max-connections", "N"))]
    pub max_connections: usize,

    /// Maximum number of connections from one address (IPv6: one /64); 0 means no limit
    #[key("max-connections-per-ip": Whole<usize, 0, 4_294_967_295> = Is("0"), Named("max-connections-per-ip", "N"))]
    pub max_connections_per_ip: usize,

    /// Maximum number of channels that one connection is in
    #[key("max-channels": Whole<usize, 1, 65_536> = Is("64"), Named("max-channels", "N"))]
    pub max_channels: usize,

    /// Time to receive the request of a handshake
    #[key("handshake-timeout": PositiveTime = Is("10s"), Named("handshake-timeout", "DURATION"))]
    pub handshake_timeout: Duration,

    /// Largest message from a client
    #[key("max-message": Size<1> = Is("1MiB"), Named("max-message", "SIZE"))]
    pub max_message: usize,

    /// Maximum number of bytes that wait for one slow client
    #[key("max-queue": Size<1> = Is("4MiB"), Named("max-queue", "SIZE"))]
    pub max_queue: usize,

    /// Time between pings; 0 means no pings
    #[key("ping-interval": Time = Is("30s"), Named("ping-interval", "DURATION"))]
    pub ping_interval: Duration,

    /// Time to answer a ping
    #[key("pong-timeout": PositiveTime = Is("30s"), Named("pong-timeout", "DURATION"))]
    pub pong_timeout: Duration,

    /// Time without a message in either direction after which a connection is closed; 0 means never
    #[key("idle-timeout": Time = Is("0"), Named("idle-timeout", "DURATION"))]
    pub idle_timeout: Duration,

    /// Origin that may connect (repeatable): scheme://host or scheme://host:port, with * as a wildcard
    #[key("allow-origin": Maybe<List<Origins>> = Called("localhost on a loopback address, else the same host"), Named("allow-origin", "ORIGIN"))]
    pub allow_origin: Option<Vec<String>>,

    /// Proxy (address or CIDR) whose X-Forwarded-For is trusted (repeatable)
    #[key("trusted-proxies": List<Networks> = Nothing, Named("trusted-proxies", "CIDR"))]
    pub trusted_proxies: Vec<IpNet>,

    /// Expect the PROXY protocol (v1 or v2) on each connection, from trusted-proxies alone
    #[key("proxy-protocol": Switch = Is("false"), Named("proxy-protocol", "BOOL"))]
    pub proxy_protocol: bool,

    /// Mode of the unix socket
    #[key("mode": Mode = Is("0600"), Named("mode", "MODE"))]
    pub mode: u32,

    /// Group of the unix socket
    #[key("group": Maybe<Group> = Nothing, Named("group", "GROUP"))]
    pub group: Option<String>,

    /// Maximum number of messages per second from one connection; 0 means no limit
    #[key("max-rate": Whole<u32, 0, 1_000_000> = Is("0"), Named("max-rate", "N"))]
    pub max_rate: u32,

    /// Longest line from the listener; at least six times max-message plus 64KiB
    #[key("max-line": Size<1> = Is("16MiB"), Named("max-line", "SIZE"))]
    pub max_line: usize,

    /// Certificate chain (PEM) for wss
    #[key("tls-cert": Maybe<At<AnyPath>> = Nothing, Named("tls-cert", "FILE"))]
    pub tls_cert: Option<PathBuf>,

    /// Private key (PEM) for wss
    #[key("tls-key": Maybe<At<AnyPath>> = Nothing, Named("tls-key", "FILE"))]
    pub tls_key: Option<PathBuf>,
}

options! {
    /// The settings of the control port, `[control]`.
    pub struct ControlSettings from ControlOptions under None;

    /// Control port: ADDR:PORT, unix:PATH or off
    #[key("listen": At<ControlAddress> = Is("127.0.0.1:10124"), Named("control", "ADDR:PORT|unix:PATH|off"))]
    pub listen: ControlListen,

    /// Directory of control-PORT.json; by default the state directory
    #[key("directory": Maybe<At<AnyPath>> = Nothing, Flag::None)]
    pub directory: Option<PathBuf>,

    /// Read the control token from this file instead of making a new one
    #[key("token-file": Maybe<At<AnyPath>> = Nothing, Named("control-token-file", "FILE"))]
    pub token_file: Option<PathBuf>,

    /// Additional names that the Host of a request may have
    #[key("hosts": List<HostNames> = Nothing, Flag::None)]
    pub hosts: Vec<String>,

    /// Allows an address that is not loopback without TLS
    #[key("insecure": Switch = Is("false"), Flag::None)]
    pub insecure: bool,

    /// Mode of the unix socket
    #[key("mode": Mode = Is("0600"), Flag::None)]
    pub mode: u32,

    /// Group of the unix socket
    #[key("group": Maybe<Group> = Nothing, Flag::None)]
    pub group: Option<String>,

    /// Certificate chain (PEM)
    #[key("tls-cert": Maybe<At<AnyPath>> = Nothing, Flag::None)]
    pub tls_cert: Option<PathBuf>,

    /// Private key (PEM)
    #[key("tls-key": Maybe<At<AnyPath>> = Nothing, Flag::None)]
    pub tls_key: Option<PathBuf>,
}

options! {
    /// The settings of the log, `[log]`.
    pub struct LogSettings from LogOptions under None;
    also {
        /// Nothing to stderr.
        pub quiet: bool,
    }

    /// Directory of WebSocket.log; it must be writable
    #[key("directory": Maybe<At<AnyPath>> = Called("logs in the user's state directory"), Named("log-dir", "DIR"))]
    pub directory: Option<PathBuf>,

    /// Log level: error, warn, info, debug, trace, or a filter as in RUST_LOG
    #[key("level": Maybe<Filter> = Called("info"), Named("log-level", "LEVEL"))]
    pub level: Option<String>,
}

impl GatewaySettings {
    /// A gateway as it is without any setting.
    pub fn new(id: &str) -> GatewaySettings {
        GatewaySettings { id: id.to_owned(), ..GatewaySettings::default() }
    }

    /// The hang time-out that counts: never less than twice `listener_timeout`, where there are
    /// answers.
    pub fn effective_hang_timeout(&self) -> Duration {
        if self.is_plain() {
            return self.hang_timeout;
        }
        self.hang_timeout.max(self.listener_timeout * 2)
    }

    /// Whether the listener reads and writes plain lines, if there is one.
    pub fn is_plain(&self) -> bool {
        self.format == Format::Lines
    }

    /// The events that the listener is sent as JSON.
    pub(crate) fn events(&self) -> Hooks {
        if self.is_plain() { Hooks::NONE } else { self.hooks }
    }

    /// Whether there is a listener that answers for this hook.
    pub fn asks(&self, hook: Hook) -> bool {
        self.listener.is_some() && self.events().has(hook)
    }

    /// Whether clients' messages go to a listener, be it as events or as plain lines.
    pub(crate) fn hands_over_messages(&self) -> bool {
        self.listener.is_some() && self.hooks.has(Hook::OnMessage)
    }

    /// Whether the listener is written to; else its stdin is /dev/null.
    pub(crate) fn feeds_listener(&self) -> bool {
        if self.is_plain() { self.hooks.has(Hook::OnMessage) } else { !self.hooks.is_none() }
    }

    /// Whether the listener is read like a producer: its lines wait for clients that are slow but
    /// still read.
    pub(crate) fn is_producer(&self) -> bool {
        self.is_plain() || self.hooks.is_none()
    }

    /// Whether there is a listener that is told of connections.
    pub fn tells(&self) -> bool {
        self.listener.is_some() && !self.events().is_none()
    }

    /// Whether `address` is a proxy whose `X-Forwarded-For` is believed.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted_proxies.iter().any(|net| net.contains(&address))
    }

    /// Where the unix socket is, if the gateway listens on one.
    pub fn unix_path(&self) -> Option<&Path> {
        match &self.host {
            ListenHost::Unix(path) => Some(path),
            ListenHost::Name(_) => None,
        }
    }

    /// Whether `other` is bound to the same address, as it is written.
    pub fn has_address_of(&self, other: &GatewaySettings) -> bool {
        self.host == other.host && (self.port == other.port || self.unix_path().is_some())
    }

    /// Whether the change to `new` needs a restart of the gateway: another address, or TLS on or
    /// off. Everything else applies live.
    pub fn needs_restart(&self, new: &GatewaySettings) -> bool {
        !self.has_address_of(new)
            || self.tls_cert.is_some() != new.tls_cert.is_some()
            || (self.cluster, self.on_engine_loss) != (new.cluster, new.on_engine_loss)
    }

    /// Whether the change to `new` needs another listener subprocess, the clients staying.
    pub fn needs_new_listener(&self, new: &GatewaySettings) -> bool {
        self.listener != new.listener || self.hooks != new.hooks || self.format != new.format
    }
}
