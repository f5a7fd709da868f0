//! wsgw

pub mod cli;
pub mod client;
pub mod commands;
pub mod config;
pub mod control;
pub mod error;
pub mod escape;
pub mod gateway;
pub mod logging;
pub mod paths;
pub mod protocol;
pub mod server;
pub mod settings;
pub mod systemd;
