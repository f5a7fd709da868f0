//! The config file and the flags, parsed once into typed settings.
//!
//! Both come to the same: pairs of a key and a [`Raw`] value, which [`keys`] knows how to set.

pub mod keys;
pub mod settings;
pub mod units;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::cli::{GatewayArgs, ServeArgs};
use crate::config::keys::Raw;
use crate::config::settings::{
    ControlListen, ControlSettings, GatewaySettings, ListenerCommand, LogSettings, ServeSettings,
};
use crate::error::Failure;
use crate::logging;
use crate::paths;

/// The control port's default.
pub const CONTROL_PORT: u16 = 10124;

/// The id of a gateway that flags alone make.
const DEFAULT_ID: &str = "default";

/// Everything that `wsgw serve` was told.
///
/// # Errors
/// What is wrong, where, and what would be right: exit code 2 for flags, 1 for the file.
pub fn load(args: &ServeArgs) -> Result<ServeSettings, Failure> {
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    let flags = flag_pairs(&args.gateway);
    let by_flags = !flags.is_empty() || !args.command.is_empty() || args.id.is_some();
    if args.gateway.listener.is_some() && !args.command.is_empty() {
        return Err(Failure::usage(
            "--listener and -- give the listener twice: leave one of them out",
        ));
    }
    let mut notices = Vec::new();
    let file = match &args.config {
        Some(path) => Some(here.join(path)),
        None => paths::config_files().into_iter().find(|path| path.is_file()).filter(|path| {
            if by_flags {
                notices.push(format!(
                    "the config file {} is set aside, for flags name a gateway (--config {0} \
                     combines both)",
                    path.display()
                ));
            }
            !by_flags
        }),
    };
    // Listeners run where the config file is, or where we are.
    let base = file.as_deref().and_then(Path::parent).map_or(here.clone(), Path::to_path_buf);
    let mut settings = match &file {
        Some(path) => from_file(path)?,
        None => Parsed::default(),
    };
    apply_flags(&mut settings, args, &flags, (&here, &base))?;
    for gateway in &settings.gateways {
        keys::check(gateway).map_err(|why| {
            let text = format!("gateway {}: {why}", gateway.id);
            if by_flags { Failure::usage(text) } else { Failure::other(text) }
        })?;
    }
    let mut control = settings.control;
    if let Some(listen) = &args.control {
        control.listen = control_listen(listen, &here)
            .map_err(|why| Failure::usage(format!("--control: {why}")))?;
    }
    if let Some(token_file) = &args.control_token_file {
        control.token_file = Some(here.join(token_file));
    }
    let mut log = settings.log;
    if let Some(directory) = &args.log_dir {
        log.directory = Some(here.join(directory));
    }
    match &args.log_level {
        Some(level) => {
            logging::parse_filter(level).map_err(Failure::usage)?;
            log.level = Some(level.clone());
        }
        None => {
            if let Some(level) = std::env::var("RUST_LOG").ok().filter(|l| !l.trim().is_empty()) {
                match logging::parse_filter(&level) {
                    Ok(_) => log.level = Some(level),
                    Err(why) => notices.push(format!("RUST_LOG is not heeded: {why}")),
                }
            }
        }
    }
    log.quiet = args.quiet;
    Ok(ServeSettings {
        control,
        log,
        gateways: settings.gateways,
        config_file: file,
        directory: base,
        notices,
    })
}

/// What the file says.
#[derive(Debug)]
pub struct Parsed {
    /// Whether it names gateways; else flags may name the only one.
    pub named: bool,
    /// `[control]`.
    pub control: ControlSettings,
    /// `[log]`.
    pub log: LogSettings,
    /// `[gateways]`, each over `[defaults]`.
    pub gateways: Vec<GatewaySettings>,
}

impl Default for Parsed {
    fn default() -> Parsed {
        Parsed {
            named: false,
            control: ControlSettings {
                listen: ControlListen::Tcp("127.0.0.1".to_owned(), CONTROL_PORT),
                directory: None,
                token_file: None,
                hosts: Vec::new(),
                insecure: false,
                mode: 0o600,
                group: None,
                tls_cert: None,
                tls_key: None,
            },
            log: LogSettings { directory: None, level: None, quiet: false },
            gateways: vec![keys::defaults(DEFAULT_ID)],
        }
    }
}

/// The gateway's flags that were given, as keys and values.
fn flag_pairs(args: &GatewayArgs) -> Vec<(&'static str, Raw)> {
    let one = |value: &Option<String>| value.clone().map(Raw::One);
    let many = |value: &Option<Vec<String>>| value.clone().map(Raw::Many);
    let all = [
        ("host", one(&args.host)),
        ("port", args.port.map(|p| Raw::One(p.to_string()))),
        ("startup", one(&args.startup)),
        ("listener", one(&args.listener)),
        ("hooks", many(&args.hooks)),
        ("route", one(&args.route)),
        ("headers", many(&args.headers)),
        ("protocols", many(&args.protocols)),
        ("path", many(&args.path)),
        ("window", one(&args.window)),
        ("listener-timeout", one(&args.listener_timeout)),
        ("on-timeout", one(&args.on_timeout)),
        ("hang-timeout", one(&args.hang_timeout)),
        ("restart-delay-max", one(&args.restart_delay_max)),
        ("drain", one(&args.drain)),
        ("close-spread", one(&args.close_spread)),
        ("producer-wait", one(&args.producer_wait)),
        ("max-connections", one(&args.max_connections)),
        ("max-connections-per-ip", one(&args.max_connections_per_ip)),
        ("handshake-timeout", one(&args.handshake_timeout)),
        ("max-message", one(&args.max_message)),
        ("max-queue", one(&args.max_queue)),
        ("ping-interval", one(&args.ping_interval)),
        ("pong-timeout", one(&args.pong_timeout)),
        ("idle-timeout", one(&args.idle_timeout)),
        ("allow-origin", many(&args.allow_origin)),
        ("trusted-proxies", many(&args.trusted_proxies)),
        ("max-rate", one(&args.max_rate)),
        ("max-line", one(&args.max_line)),
        ("tls-cert", one(&args.tls_cert)),
        ("tls-key", one(&args.tls_key)),
    ];
    all.into_iter().filter_map(|(key, raw)| Some((key, raw?))).collect()
}

/// The flag of a key.
fn flag_of(key: &str) -> String {
    format!("--{}", if key == "protocols" { "protocol" } else { key })
}

fn apply_flags(
    settings: &mut Parsed,
    args: &ServeArgs,
    flags: &[(&'static str, Raw)],
    (here, base): (&Path, &Path),
) -> Result<(), Failure> {
    let id = args.id.as_deref().map(keys::gateway_id).transpose();
    let id = id.map_err(|why| Failure::usage(format!("--id: {why}")))?;
    if flags.is_empty() && args.command.is_empty() && id.is_none() {
        return Ok(());
    }
    let known: Vec<String> = settings.gateways.iter().map(|g| g.id.clone()).collect();
    let gateway = match (&id, &mut settings.gateways[..]) {
        (Some(id), [gateway]) if !settings.named => {
            gateway.id.clone_from(id);
            gateway
        }
        (Some(id), all) => match all.iter_mut().find(|g| g.id == *id) {
            Some(gateway) => gateway,
            None => {
                return Err(Failure::usage(format!(
                    "--id {id}: the config file has no such gateway; it has: {}",
                    known.join(", ")
                )));
            }
        },
        (None, [gateway]) => gateway,
        (None, _) => {
            return Err(Failure::usage(format!(
                "the config file has several gateways ({}): --id says which one the flags are about",
                known.join(", ")
            )));
        }
    };
    for (key, raw) in flags {
        // A file that a flag names is meant from here; a command runs where listeners run.
        let from = if *key == "listener" { base } else { here };
        keys::set(gateway, key, raw, from)
            .map_err(|why| Failure::usage(format!("{}: {why}", flag_of(key))))?;
    }
    if !args.command.is_empty() {
        let argv: Vec<OsString> = args.command.clone();
        gateway.listener = Some(ListenerCommand { argv, directory: base.to_path_buf() });
    }
    Ok(())
}

/// Where in the file an error is.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn error(&self, at: usize, why: &str) -> Failure {
        let line = self.text[..at.min(self.text.len())].matches('\n').count() + 1;
        Failure::other(format!("{}:{line}: {why}", self.path.display()))
    }
}

type Table<'a> = DeTable<'a>;

/// The entries of a table in the order of the file.
fn entries<'a, 't>(
    table: &'t Table<'a>,
) -> Vec<(&'t Spanned<std::borrow::Cow<'a, str>>, &'t Spanned<DeValue<'a>>)> {
    let mut all: Vec<_> = table.iter().collect();
    all.sort_by_key(|(key, _)| key.span().start);
    all
}

fn from_file(path: &Path) -> Result<Parsed, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::other(format!("{} cannot be read: {e}", path.display())))?;
    from_text(path, &text)
}

/// Reads the text of a config file; `path` is what errors call it and what relative paths in it
/// start from.
///
/// # Errors
/// What is wrong, and in which line.
pub fn from_text(path: &Path, text: &str) -> Result<Parsed, Failure> {
    let file = File { path, text };
    let table = DeTable::parse(text).map_err(|e| {
        file.error(e.span().map_or(0, |s| s.start), &e.message().replace('\n', " "))
    })?;
    let base = path.parent().unwrap_or(Path::new("."));
    let mut parsed = Parsed::default();
    let mut defaults = keys::defaults(DEFAULT_ID);
    for (key, value) in entries(table.get_ref()) {
        match key.get_ref().as_ref() {
            "control" => control(&file, sub(&file, key, value)?, base, &mut parsed.control)?,
            "log" => log(&file, sub(&file, key, value)?, base, &mut parsed.log)?,
            "defaults" => gateway(&file, "defaults", sub(&file, key, value)?, base, &mut defaults)?,
            "gateways" => {}
            unknown => {
                let known = ["control", "log", "defaults", "gateways"];
                let hint = close_to(unknown, known.into_iter().chain(keys::names()));
                let text =
                    format!("unknown key {unknown:?}{hint}; tables are: {}", known.join(", "));
                return Err(file.error(key.span().start, &text));
            }
        }
    }
    let gateways = table.get_ref().iter().find(|(key, _)| key.get_ref() == "gateways");
    match gateways {
        None => {
            DEFAULT_ID.clone_into(&mut defaults.id);
            parsed.gateways = vec![defaults];
        }
        Some((key, value)) => {
            parsed.named = true;
            parsed.gateways.clear();
            for (id, value) in entries(sub(&file, key, value)?) {
                let wrong =
                    |why: String| file.error(id.span().start, &format!("[gateways]: {why}"));
                let mut settings = defaults.clone();
                settings.id = keys::gateway_id(id.get_ref()).map_err(wrong)?;
                if parsed.gateways.iter().any(|other| other.id == settings.id) {
                    return Err(wrong(format!("{:?} is there twice", settings.id)));
                }
                let name = format!("gateways.{}", id.get_ref());
                gateway(&file, &name, sub(&file, id, value)?, base, &mut settings)?;
                keys::check(&settings)
                    .map_err(|why| file.error(id.span().start, &format!("{name}: {why}")))?;
                parsed.gateways.push(settings);
            }
        }
    }
    Ok(parsed)
}

fn sub<'a, 't>(
    file: &File<'_>,
    key: &Spanned<std::borrow::Cow<'a, str>>,
    value: &'t Spanned<DeValue<'a>>,
) -> Result<&'t Table<'a>, Failure> {
    value.get_ref().as_table().ok_or_else(|| {
        file.error(key.span().start, &format!("{:?} has to be a table", key.get_ref()))
    })
}

fn raw(value: &DeValue<'_>) -> Result<Raw, String> {
    if let Some(items) = value.as_array() {
        let all = items.iter().map(|item| match raw(item.get_ref())? {
            Raw::One(text) => Ok(text),
            Raw::Many(_) => Err("a list in a list".to_owned()),
        });
        return Ok(Raw::Many(all.collect::<Result<_, _>>()?));
    }
    match value {
        DeValue::String(text) => Ok(Raw::One(text.to_string())),
        DeValue::Integer(n) if n.radix() == 10 => Ok(Raw::One(n.as_str().to_owned())),
        DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix())
            .map(|n| Raw::One(n.to_string()))
            .map_err(|_| "the number is too large".to_owned()),
        DeValue::Float(n) => Ok(Raw::One(n.as_str().to_owned())),
        other => Err(format!("a {} does not fit here", other.type_str())),
    }
}

fn gateway(
    file: &File<'_>,
    name: &str,
    table: &Table<'_>,
    base: &Path,
    settings: &mut GatewaySettings,
) -> Result<(), Failure> {
    for (key, value) in entries(table) {
        let at = key.span().start;
        let key = key.get_ref().as_ref();
        if !keys::names().any(|known| known == key) {
            let hint = close_to(key, keys::names());
            return Err(file.error(at, &format!("{name}: unknown key {key:?}{hint}")));
        }
        raw(value.get_ref())
            .and_then(|raw| keys::set(settings, key, &raw, base))
            .map_err(|why| file.error(at, &format!("{name}.{key}: {why}")))?;
    }
    Ok(())
}

fn control(
    file: &File<'_>,
    table: &Table<'_>,
    base: &Path,
    settings: &mut ControlSettings,
) -> Result<(), Failure> {
    const KNOWN: [&str; 9] = [
        "listen",
        "directory",
        "token-file",
        "hosts",
        "insecure",
        "mode",
        "group",
        "tls-cert",
        "tls-key",
    ];
    for (key, value) in entries(table) {
        let at = key.span().start;
        let key = key.get_ref().as_ref();
        let wrong = |why: String| file.error(at, &format!("control.{key}: {why}"));
        if key == "insecure" {
            settings.insecure =
                value.get_ref().as_bool().ok_or_else(|| wrong("true or false".to_owned()))?;
            continue;
        }
        if !KNOWN.contains(&key) {
            let hint = close_to(key, KNOWN.into_iter());
            return Err(file.error(at, &format!("control: unknown key {key:?}{hint}")));
        }
        let many = match raw(value.get_ref()).map_err(wrong)? {
            Raw::One(text) => vec![text],
            Raw::Many(all) => all,
        };
        if key == "hosts" {
            settings.hosts = many;
            continue;
        }
        let [text] = &many[..] else { return Err(wrong("takes one value, not a list".to_owned())) };
        match key {
            "listen" => settings.listen = control_listen(text, base).map_err(wrong)?,
            "directory" => settings.directory = Some(base.join(text)),
            "token-file" => settings.token_file = Some(base.join(text)),
            "group" => settings.group = Some(text.clone()),
            "mode" => {
                let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
                settings.mode =
                    mode.ok_or_else(|| wrong(format!("{text:?} is no mode: write \"0660\"")))?;
            }
            "tls-cert" => settings.tls_cert = Some(base.join(text)),
            _ => settings.tls_key = Some(base.join(text)),
        }
    }
    Ok(())
}

fn log(
    file: &File<'_>,
    table: &Table<'_>,
    base: &Path,
    settings: &mut LogSettings,
) -> Result<(), Failure> {
    for (key, value) in entries(table) {
        let at = key.span().start;
        let key = key.get_ref().as_ref();
        let text = value.get_ref().as_str();
        match (key, text) {
            ("directory", Some(text)) => settings.directory = Some(base.join(text)),
            ("level", Some(text)) => {
                logging::parse_filter(text)
                    .map_err(|why| file.error(at, &format!("log.level: {why}")))?;
                settings.level = Some(text.to_owned());
            }
            ("directory" | "level", None) => {
                return Err(file.error(at, &format!("log.{key}: a string is needed")));
            }
            _ => {
                let hint = close_to(key, ["directory", "level"].into_iter());
                return Err(file.error(at, &format!("log: unknown key {key:?}{hint}")));
            }
        }
    }
    Ok(())
}

/// `off`, `unix:PATH` or `ADDR:PORT`.
fn control_listen(text: &str, base: &Path) -> Result<ControlListen, String> {
    if text == "off" {
        return Ok(ControlListen::Off);
    }
    if let Some(path) = text.strip_prefix("unix:") {
        if path.is_empty() {
            return Err("unix: needs a path".to_owned());
        }
        return Ok(ControlListen::Unix(base.join(path)));
    }
    let text = text.strip_prefix("http://").unwrap_or(text);
    let wrong = || format!("{text:?} is none of ADDR:PORT, unix:PATH, off");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() {
        return Err(wrong());
    }
    Ok(ControlListen::Tcp(host.to_owned(), port))
}

/// ` (did you mean …?)` for a name that is nearly one of these.
fn close_to<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let flat = name.replace('_', "-").to_ascii_lowercase();
    known
        .map(|other| (distance(&flat, other), other))
        .filter(|(distance, other)| *distance <= 2.min(other.len() / 2))
        .min()
        .map_or(String::new(), |(_, other)| format!(" (did you mean {other:?}?)"))
}

/// Levenshtein's.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let cost = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
