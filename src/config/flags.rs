//! The command line of `wsgw serve`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::config::file::Entry;
use crate::config::id::gateway_id;
use crate::config::kinds;
use crate::config::settings::Format;
use crate::config::tables::{ControlOptions, GatewayOptions, LogOptions};
use crate::error::Failure;
use crate::paths;

/// `wsgw serve`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServeArgs {
    /// Config file (TOML) [default: wsgw/wsgw.toml in the user's config directory, then /etc/wsgw/wsgw.toml]
    #[arg(long, value_name = "FILE", value_parser = paths::parser())]
    pub(super) config: Option<PathBuf>,
    /// Id of the gateway that the flags apply to [default: default]
    #[arg(long, value_name = "ID")]
    pub(super) id: Option<String>,
    /// The control port.
    #[command(flatten)]
    pub(super) control: ControlOptions,
    /// The log.
    #[command(flatten)]
    pub(super) log: LogOptions,
    /// Do not log to stderr
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// The gateway's settings.
    #[command(flatten)]
    pub(super) gateway: GatewayOptions,
    /// The listener reads and writes bare messages, a line each: the same as --format lines
    #[arg(long, conflicts_with = "format")]
    pub(super) plain: bool,
    /// The listener: a program that reads events and writes answers, one JSON object per line
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

impl ServeArgs {
    /// The id that `--id` gives.
    pub(crate) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether any of it is about a gateway: an implicit config file is set aside then.
    pub(super) fn name_a_gateway(&self) -> bool {
        self.gateway != GatewayOptions::default()
            || !self.command.is_empty()
            || self.id.is_some()
            || self.plain
    }

    /// The flags of the gateway, with the command behind `--`.
    ///
    /// # Errors
    /// The listener is given twice, or is empty.
    pub(super) fn gateway_options(&self) -> Result<GatewayOptions, Failure> {
        let mut options = self.gateway.clone();
        if self.plain {
            options.format = Some(Format::Lines);
        }
        if self.command.is_empty() {
            return Ok(options);
        }
        if options.listener.is_some() {
            return Err(Failure::usage(
                "--listener and -- give the listener twice: leave one of them out",
            ));
        }
        let command = kinds::program(self.command.clone());
        let command =
            command.map_err(|why| Failure::usage(format!("the command behind --: {why}")));
        options.listener = Some(command?);
        Ok(options)
    }

    /// The gateway that the flags are about; `named` says that the file names its gateways.
    ///
    /// # Errors
    /// There is no such gateway, or it is not clear which one is meant.
    pub(super) fn choose<'g>(
        &self,
        gateways: &'g mut [Entry],
        named: bool,
    ) -> Result<&'g mut Entry, Failure> {
        let id = self.id.as_deref().map(gateway_id).transpose();
        let id = id.map_err(|why| Failure::usage(format!("--id: {why}")))?;
        let known: Vec<&str> = gateways.iter().map(|gateway| gateway.id.as_str()).collect();
        let known = known.join(", ");
        let several = gateways.len() > 1;
        let chosen = match &id {
            Some(_) if !named => gateways.first_mut(),
            Some(id) => gateways.iter_mut().find(|gateway| gateway.id == *id),
            None if several => None,
            None => gateways.first_mut(),
        };
        match (chosen, id) {
            (Some(gateway), id) => {
                if let Some(id) = id {
                    gateway.id = id;
                }
                Ok(gateway)
            }
            (None, Some(id)) => Err(Failure::usage(format!(
                "--id {id}: the config file has no such gateway; it has: {known}"
            ))),
            (None, None) if several => Err(Failure::usage(format!(
                "the config file has several gateways ({known}): --id says which one the flags are \
                 about"
            ))),
            (None, None) => Err(Failure::usage(
                "the config file has no gateway that the flags could be about: add [gateways.ID]",
            )),
        }
    }
}
