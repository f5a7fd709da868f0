//! Typed settings with units: what the config file and the flags come to.
//!
//! `config` makes these values, everything else only reads them.

use std::path::PathBuf;

pub use crate::config::cluster::{ClusterSettings, StreamRule};
pub use crate::config::history::HistorySettings;
pub use crate::config::tables::{ControlSettings, GatewaySettings, LogSettings};
pub use crate::config::values::{
    ChannelSource, Cluster, Compression, ControlListen, Format, HeaderRule, ListenHost,
    ListenerCommand, OnEngineLoss, OnTimeout, Route, Startup,
};

/// Everything that the file and the flags of `wsgw serve` say.
#[derive(Debug, Clone, PartialEq)]
pub struct ServeSettings {
    /// The control port.
    pub control: ControlSettings,
    /// The log.
    pub log: LogSettings,
    /// The NATS servers of the cluster; `None` without one.
    pub cluster: Option<ClusterSettings>,
    /// The gateways, by id in the order of the config file.
    pub gateways: Vec<GatewaySettings>,
    /// The file all this came from, for `reload`; `None` where only flags spoke.
    pub config_file: Option<PathBuf>,
    /// Directory in which listeners run: that of the config file, else the current one.
    pub directory: PathBuf,
    /// Warnings for the log, once it is there.
    pub notices: Vec<String>,
}
