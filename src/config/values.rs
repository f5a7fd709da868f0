//! Values that settings have: plain data, and the names of choices.

use std::path::PathBuf;

/// A type with a few values that have names.
pub(crate) trait NamedValues: Copy + 'static {
    const NAMES: &'static [(&'static str, Self)];
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

/// Where a gateway listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenHost {
    /// A name or an address, with the port of the settings.
    Name(String),
    /// `unix:PATH`.
    Unix(PathBuf),
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
    /// The members of all the sender's channels, the sender too.
    Channels,
    /// Nobody.
    None,
}

/// Where the first channels of a connection come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelSource {
    /// The listener alone.
    Off,
    /// The path of the URL.
    Path,
    /// The `channel` parameters of its query.
    Query,
}

/// What the listener reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Events and answers, a JSON object each.
    Json,
    /// Bare messages, a line each.
    Lines,
}

/// Whether messages are compressed for clients that can read it (RFC 7692).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Never.
    Off,
    /// Once for all clients with the same window.
    Shared,
}

/// How a gateway shares what it sends with other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cluster {
    /// It does not.
    Off,
    /// All nodes send everything in the one order of a stream.
    Ordered,
    /// Each node sends what the others have sent, in the order of each of them.
    Core,
}

/// What happens while no NATS server can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEngineLoss {
    /// The node sends to its own clients.
    Local,
    /// Messages wait.
    Hold,
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

impl NamedValues for Startup {
    const NAMES: &'static [(&'static str, Startup)] = &[
        ("automatic", Startup::Automatic),
        ("manual", Startup::Manual),
        ("disabled", Startup::Disabled),
    ];
}

impl NamedValues for Route {
    const NAMES: &'static [(&'static str, Route)] = &[
        ("all", Route::All),
        ("others", Route::Others),
        ("sender", Route::Sender),
        ("channels", Route::Channels),
        ("none", Route::None),
    ];
}

impl NamedValues for ChannelSource {
    const NAMES: &'static [(&'static str, ChannelSource)] = &[
        ("off", ChannelSource::Off),
        ("path", ChannelSource::Path),
        ("query", ChannelSource::Query),
    ];
}

impl NamedValues for Format {
    const NAMES: &'static [(&'static str, Format)] =
        &[("json", Format::Json), ("lines", Format::Lines)];
}

impl NamedValues for Compression {
    const NAMES: &'static [(&'static str, Compression)] =
        &[("off", Compression::Off), ("shared", Compression::Shared)];
}

impl NamedValues for Cluster {
    const NAMES: &'static [(&'static str, Cluster)] =
        &[("off", Cluster::Off), ("ordered", Cluster::Ordered), ("core", Cluster::Core)];
}

impl NamedValues for OnEngineLoss {
    const NAMES: &'static [(&'static str, OnEngineLoss)] =
        &[("local", OnEngineLoss::Local), ("hold", OnEngineLoss::Hold)];
}

impl NamedValues for OnTimeout {
    const NAMES: &'static [(&'static str, OnTimeout)] = &[
        ("drop", OnTimeout::Drop),
        ("broadcast", OnTimeout::Broadcast),
        ("close", OnTimeout::Close),
    ];
}
