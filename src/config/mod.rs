//! The config file and the flags, read once into typed settings.
//!
//! Each key is defined in `tables`, how it is written in its kind; `file` reads the file and finds
//! all that is wrong with it. The rest of the program sees [`settings`] alone.

mod addresses;
mod check;
mod cluster;
mod file;
pub(crate) mod filter;
mod flags;
mod history;
pub mod hooks;
pub mod id;
mod kinds;
mod lists;
mod options;
mod place;
pub mod settings;
mod tables;
mod values;

use std::path::{Path, PathBuf};

use crate::config::file::{Entry, FileOptions};
use crate::config::options::Options as _;
use crate::config::place::Errors;
use crate::config::settings::{
    Cluster, ClusterSettings, ControlSettings, GatewaySettings, LogSettings, ServeSettings,
};
use crate::config::tables::GatewayOptions;
use crate::error::Failure;
use crate::paths;

pub(crate) use crate::config::flags::ServeArgs;

/// The id of a gateway that flags alone make.
const DEFAULT_ID: &str = "default";

/// Reads everything that `wsgw serve` was told: the config file, the flags, `RUST_LOG`.
///
/// # Errors
/// What is wrong, where, and what would be right: exit code 2 for flags, 1 for the file, of which
/// all errors are named.
pub(crate) fn load(args: &ServeArgs) -> Result<ServeSettings, Failure> {
    load_with(args, None)
}

/// Functions that look at what settings name outside of the file, and return what is wrong with it.
pub(crate) struct Probes {
    /// What a gateway needs: a program, a certificate, directories.
    pub gateway: fn(&GatewaySettings) -> Vec<String>,
    /// What the control port needs.
    pub control: fn(&ControlSettings) -> Vec<String>,
    /// What the log needs.
    pub log: fn(&LogSettings) -> Vec<String>,
    /// What the cluster needs.
    pub cluster: fn(&ClusterSettings) -> Option<String>,
}

/// Reads the same as [`load`], and has everything looked at that the settings name.
///
/// # Errors
/// Those of `load`, with what the probes found among them.
pub(crate) fn examine(args: &ServeArgs, probes: &Probes) -> Result<ServeSettings, Failure> {
    load_with(args, Some(probes))
}

fn load_with(args: &ServeArgs, probes: Option<&Probes>) -> Result<ServeSettings, Failure> {
    let here = kinds::current_dir();
    let by_flags = args.name_a_gateway();
    let mut notices = Vec::new();
    let file = match &args.config {
        Some(path) => {
            let path = here.join(path);
            let text = file::read_given(&path)?;
            Some((path, text))
        }
        None if by_flags => {
            let there = |path: &PathBuf| file::is_there(path).unwrap_or(false);
            notices.extend(paths::config_files().into_iter().find(there).map(|path| {
                format!(
                    "the config file {} is set aside, for flags name a gateway (--config {0} \
                     combines both)",
                    path.display()
                )
            }));
            None
        }
        None => file::find_default(paths::config_files())?,
    };
    // Listeners run where the config file is, or where we are.
    let base = file.as_ref().and_then(|(path, _)| path.parent()).unwrap_or(&here);
    let options = match &file {
        Some((_, text)) => file::parse(base, text),
        None => FileOptions::default(),
    };
    let path = file.as_ref().map(|(path, _)| path.as_path());
    let mut settings = settle(options, args, path, base, probes)?;
    if args.log.level.is_none() {
        settings.notices.extend(heed_rust_log(&mut settings.log.level));
    }
    settings.notices.splice(0..0, notices);
    Ok(settings)
}

/// Reads the text of a config file, without flags; `path` is what errors call it, and where
/// relative paths in it start.
///
/// # Errors
/// All that is wrong, a line of text for each error: the file, its line, and why.
pub fn from_text(path: &Path, text: &str) -> Result<ServeSettings, Failure> {
    let base = path.parent().unwrap_or(Path::new("."));
    settle(file::parse(base, text), &ServeArgs::default(), Some(path), base, None)
}

/// Puts the flags over the file and fills in the defaults.
fn settle(
    file: FileOptions,
    args: &ServeArgs,
    path: Option<&Path>,
    base: &Path,
    probes: Option<&Probes>,
) -> Result<ServeSettings, Failure> {
    let (control_line, log_line) = (file.control_line, file.log_line);
    let FileOptions { control, log, cluster, defaults, gateways, mut errors, .. } = file;
    let failed = |errors: Errors| match path {
        None if probes.is_none() => Ok(()),
        path => errors.result(path),
    };
    let named = gateways.is_some();
    let mut own = gateways.unwrap_or_else(|| vec![Entry::unnamed(DEFAULT_ID)]);
    let mut flags_are_about = None;
    if args.name_a_gateway() {
        // The gateway that is meant may be among what is wrong.
        failed(std::mem::take(&mut errors))?;
        flags_are_about = Some(put_flags(args, &mut own, named)?);
    }
    let (cluster_line, cluster) = cluster.map(|(line, it)| (line, it.settings())).unzip();
    let mut gateways = Vec::new();
    let mut notices = Vec::new();
    let mut places = Vec::new();
    for Entry { id, name, options, line } in own {
        let gateway = gateway_of(id, defaults.clone().merge(options.clone()), base);
        let wrong = check::contradictions(&gateway);
        for why in wrong.into_iter().chain(check::not_in_a_cluster(&gateway, cluster.as_ref())) {
            if probes.is_none() && flags_are_about.as_ref() == Some(&gateway.id) {
                return Err(Failure::usage(format!("gateway {}: {why}", gateway.id)));
            }
            errors.add(line, format!("{name}: {why}"));
        }
        for why in probes.map_or_else(Vec::new, |probes| (probes.gateway)(&gateway)) {
            errors.add(line, format!("{name}: {why}"));
        }
        notices.extend(check::without_effect(&options, &gateway));
        gateways.push(gateway);
        places.push((line, name));
    }
    notices.extend(check::same_address(&gateways));
    let control = control.merge(args.control.clone());
    notices.extend(check::control_without_effect(&control));
    let control = control.settings();
    add_shared(&gateways, &control, &places, &mut errors);
    let mut of_control = check::control_contradictions(&control);
    let mut log = log.merge(args.log.clone()).settings();
    log.quiet = args.quiet;
    if let Some(probes) = probes {
        of_control.extend((probes.control)(&control));
        let of_cluster = cluster.as_ref().and_then(probes.cluster);
        of_cluster
            .into_iter()
            .for_each(|why| errors.add(cluster_line.unwrap_or(1), format!("cluster: {why}")));
        let of_log = (probes.log)(&log);
        of_log.into_iter().for_each(|why| errors.add(log_line, format!("log: {why}")));
    }
    of_control.into_iter().for_each(|why| errors.add(control_line, format!("control: {why}")));
    failed(errors)?;
    Ok(ServeSettings {
        control,
        log,
        cluster,
        gateways,
        config_file: path.map(Path::to_path_buf),
        directory: base.to_path_buf(),
        notices,
    })
}

/// What several gateways, or one and the control port, cannot share.
fn add_shared(
    gateways: &[GatewaySettings],
    control: &ControlSettings,
    places: &[(usize, String)],
    errors: &mut Errors,
) {
    let shared = check::shared_history_files(gateways).into_iter();
    for (index, why) in shared.chain(check::shared_sockets(gateways, control)) {
        let (line, name) = &places[index];
        errors.add(*line, format!("{name}: {why}"));
    }
}

/// The settings of a gateway.
fn gateway_of(id: String, options: GatewayOptions, base: &Path) -> GatewaySettings {
    let sets_max_message = options.max_message.is_some();
    let mut gateway = options.settings();
    gateway.id = id;
    if let Some(listener) = &mut gateway.listener {
        listener.directory = base.to_path_buf();
    }
    gateway.max_message_is_set = sets_max_message && gateway.cluster != Cluster::Off;
    gateway
}

/// Puts the flags over the options of the gateway that they are about, and returns its id.
fn put_flags(args: &ServeArgs, own: &mut [Entry], named: bool) -> Result<String, Failure> {
    let flags = args.gateway_options()?;
    let gateway = args.choose(own, named)?;
    gateway.options = std::mem::take(&mut gateway.options).merge(flags);
    Ok(gateway.id.clone())
}

/// Puts `RUST_LOG` over the file's level, where it is set; what is wrong with it is a warning.
fn heed_rust_log(level: &mut Option<String>) -> Option<String> {
    let variable = std::env::var("RUST_LOG").ok().filter(|level| !level.trim().is_empty())?;
    match filter::log_filter(&variable) {
        Ok(_) => {
            *level = Some(variable);
            None
        }
        Err(why) => Some(format!("RUST_LOG is ignored: {why}")),
    }
}

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod channel_tests;
#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod reason_tests;
#[cfg(test)]
mod tests;
