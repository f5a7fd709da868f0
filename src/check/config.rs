//! `wsgw serve --check-config`: whether a `serve` with these settings could start, as far as that can
//! be told without binding or starting anything.

use std::io::Read;
use std::net::ToSocketAddrs;
use std::path::Path;

use crate::config;
use crate::config::settings::{
    ClusterSettings, GatewaySettings, HistorySettings, ListenHost, LogSettings,
};
use crate::config::{Probes, ServeArgs};
use crate::control;
use crate::error::{Failure, exit};
use crate::files;
use crate::listener::process::program;
use crate::net::host;
use crate::net::tls::server_config;
use crate::net::unix::Place;
use crate::server::starting::check_static;

/// Bytes of a file with credentials at most.
const CREDENTIALS: usize = 64 << 10;

/// A config without errors.
#[derive(Debug)]
pub(crate) struct Good {
    /// `FILE: good, N gateways`.
    pub summary: String,
    /// What has no effect, and other warnings.
    pub notices: Vec<String>,
}

/// Looks at the settings and at everything that they name.
///
/// # Errors
/// All that is wrong, a line each: exit code 1.
pub(crate) fn check_config(args: &ServeArgs) -> Result<Good, Failure> {
    let probes = Probes {
        gateway: of_gateway,
        control: control::what_is_wrong,
        log: of_log,
        cluster: of_cluster,
    };
    let settings = config::examine(args, &probes)
        .map_err(|failure| Failure::new(exit::FAILURE, failure.message))?;
    let what = match &settings.config_file {
        Some(path) => path.display().to_string(),
        None => "no config file".to_owned(),
    };
    let summary = match settings.gateways.len() {
        1 => format!("{what}: good, 1 gateway"),
        count => format!("{what}: good, {count} gateways"),
    };
    Ok(Good { summary, notices: settings.notices })
}

/// What a gateway needs and does not find.
fn of_gateway(settings: &GatewaySettings) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(listener) = &settings.listener {
        found.extend(program::what_is_missing(listener).map(|why| format!("listener: {why}")));
    }
    if let (Some(chain), Some(key)) = (&settings.tls_cert, &settings.tls_key) {
        found.extend(server_config(chain, key).err());
    }
    found.extend(check_static(settings).err());
    match &settings.host {
        ListenHost::Unix(path) => {
            let place = Place::new(path, settings.mode, settings.group.as_deref());
            let usable = place.and_then(|place| place.ensure_usable());
            found.extend(usable.err().map(|why| format!("host unix:{}: {why}", path.display())));
        }
        ListenHost::Name(name) => {
            let why = unknown_host(name, settings.port);
            found.extend(why.map(|why| format!("host {name}: {why}")));
        }
    }
    found.extend(settings.history.as_ref().and_then(of_history));
    found
}

/// What a cluster needs and does not find.
fn of_cluster(settings: &ClusterSettings) -> Option<String> {
    let path = settings.credentials.as_ref()?;
    let read = files::read_text(path, CREDENTIALS);
    read.err().map(|why| format!("credentials {} cannot be read: {why}", path.display()))
}

/// Why a name leads to no address. Literal addresses are not looked up.
fn unknown_host(name: &str, port: u16) -> Option<String> {
    let ascii = host::to_ascii(host::unbracketed(name)).unwrap_or_default();
    if host::literal(&ascii).is_some() {
        return None;
    }
    let found = (&*ascii, port).to_socket_addrs();
    found.err().map(|error| format!("the name cannot be resolved ({error})"))
}

/// Why the file of a history cannot be used.
fn of_history(settings: &HistorySettings) -> Option<String> {
    let path = settings.file.as_deref()?;
    let wrong = |why: String| Some(format!("history.file {}: {why}", path.display()));
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => wrong("it is not a regular file".to_owned()),
        Ok(_) => not_a_database(path).and_then(wrong),
        Err(_) => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = parent.unwrap_or(Path::new("."));
            if parent.is_dir() {
                files::ensure_writable(parent).err().and_then(wrong)
            } else {
                wrong(format!("its directory {} does not exist: create it", parent.display()))
            }
        }
    }
}

fn not_a_database(path: &Path) -> Option<String> {
    let mut start = Vec::new();
    let read = files::open_regular(path).and_then(|file| file.take(16).read_to_end(&mut start));
    match read {
        // SQLite takes an empty file for a new database.
        Ok(0) => None,
        Ok(_) if start == b"SQLite format 3\0" => None,
        Ok(_) => {
            Some("it is not an SQLite database: name another file, or move it away".to_owned())
        }
        Err(error) => Some(error.to_string()),
    }
}

/// Why the log cannot be written where it was asked for. The default directory is not looked at: where
/// it cannot be written, the log goes to stderr alone.
fn of_log(settings: &LogSettings) -> Vec<String> {
    let Some(directory) = &settings.directory else { return Vec::new() };
    let usable = files::ensure_can_be_directory(directory).err();
    usable.map(|why| format!("directory {}: {why}", directory.display())).into_iter().collect()
}
