//! The keys of a gateway: one table for the file, the flags and the documentation.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::settings::{
    GatewaySettings, HeaderRule, ListenerCommand, OnTimeout, Route, Startup,
};
use crate::config::units::{count, duration, size};
use crate::listener::protocol::hooks::{Hook, Hooks};
use crate::ws::origin::Origin;

/// A value as it was written, in the file or as a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raw {
    /// A string or a number.
    One(String),
    /// An array, or a flag that was repeated.
    Many(Vec<String>),
}

impl Raw {
    fn one(&self) -> Result<&str, String> {
        match self {
            Raw::One(text) => Ok(text),
            Raw::Many(_) => Err("takes one value, not a list".to_owned()),
        }
    }

    /// A single string counts as a list of one.
    fn many(&self) -> Vec<String> {
        let all = match self {
            Raw::One(text) => vec![text.clone()],
            Raw::Many(all) => all.clone(),
        };
        all.into_iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect()
    }
}

/// Sets one key; the path is that from which relative ones count.
type Set = fn(&mut GatewaySettings, &Raw, &Path) -> Result<(), String>;

/// Every key of a gateway, in the order of the documentation.
pub const KEYS: [(&str, Set); 31] = [
    ("host", |g, raw, _| put(&mut g.host, raw, text)),
    ("port", |g, raw, _| put(&mut g.port, raw, |t| Ok(count(t, 0, 65_535)? as u16))),
    ("startup", |g, raw, _| {
        put(&mut g.startup, raw, |t| {
            choice(
                t,
                &[
                    ("automatic", Startup::Automatic),
                    ("manual", Startup::Manual),
                    ("disabled", Startup::Disabled),
                ],
            )
        })
    }),
    ("listener", |g, raw, base| {
        g.listener = Some(command(raw, base)?);
        Ok(())
    }),
    ("hooks", |g, raw, _| {
        g.hooks = Hooks::parse(&raw.many())?;
        Ok(())
    }),
    ("route", |g, raw, _| {
        put(&mut g.route, raw, |t| {
            choice(
                t,
                &[
                    ("all", Route::All),
                    ("others", Route::Others),
                    ("sender", Route::Sender),
                    ("none", Route::None),
                ],
            )
        })
    }),
    ("headers", |g, raw, _| {
        g.headers = raw.many().iter().map(|name| header(name)).collect::<Result<_, _>>()?;
        Ok(())
    }),
    ("protocols", |g, raw, _| {
        let names = raw.many();
        if let Some(bad) = names.iter().find(|n| !crate::ws::handshake::is_token(n)) {
            return Err(format!("{bad:?} is no subprotocol name"));
        }
        g.protocols = (!names.iter().any(|n| n == "*")).then_some(names);
        Ok(())
    }),
    ("path", |g, raw, _| {
        let paths = raw.many();
        if let Some(bad) = paths.iter().find(|p| !p.starts_with(['/', '*'])) {
            return Err(format!("{bad:?} does not begin with /"));
        }
        g.path = paths;
        Ok(())
    }),
    ("window", |g, raw, _| put(&mut g.window, raw, |t| Ok(count(t, 1, 1 << 20)? as usize))),
    ("listener-timeout", |g, raw, _| put(&mut g.listener_timeout, raw, positive)),
    ("on-timeout", |g, raw, _| {
        put(&mut g.on_timeout, raw, |t| {
            choice(
                t,
                &[
                    ("drop", OnTimeout::Drop),
                    ("broadcast", OnTimeout::Broadcast),
                    ("close", OnTimeout::Close),
                ],
            )
        })
    }),
    ("hang-timeout", |g, raw, _| put(&mut g.hang_timeout, raw, positive)),
    ("restart-delay-max", |g, raw, _| put(&mut g.restart_delay_max, raw, duration)),
    ("drain", |g, raw, _| put(&mut g.drain, raw, duration)),
    ("close-spread", |g, raw, _| put(&mut g.close_spread, raw, duration)),
    ("producer-wait", |g, raw, _| put(&mut g.producer_wait, raw, duration)),
    ("max-connections", |g, raw, _| {
        put(&mut g.max_connections, raw, |t| Ok(count(t, 1, u64::from(u32::MAX))? as usize))
    }),
    ("max-connections-per-ip", |g, raw, _| {
        put(&mut g.max_connections_per_ip, raw, |t| Ok(count(t, 0, u64::from(u32::MAX))? as usize))
    }),
    ("handshake-timeout", |g, raw, _| put(&mut g.handshake_timeout, raw, positive)),
    ("max-message", |g, raw, _| put(&mut g.max_message, raw, |t| at_least_one(size(t)?))),
    ("max-queue", |g, raw, _| put(&mut g.max_queue, raw, |t| at_least_one(size(t)?))),
    ("ping-interval", |g, raw, _| put(&mut g.ping_interval, raw, duration)),
    ("pong-timeout", |g, raw, _| put(&mut g.pong_timeout, raw, positive)),
    ("idle-timeout", |g, raw, _| put(&mut g.idle_timeout, raw, duration)),
    ("allow-origin", |g, raw, _| {
        let origins = raw.many();
        if let Some(bad) = origins.iter().find(|o| !is_origin(o)) {
            return Err(format!(
                "{bad:?} is no origin: write scheme://host or scheme://host:port (* in the host \
                 spans any characters), null, or * for all"
            ));
        }
        g.allow_origin = Some(origins);
        Ok(())
    }),
    ("trusted-proxies", |g, raw, _| {
        g.trusted_proxies = raw.many().iter().map(|n| network(n)).collect::<Result<_, _>>()?;
        Ok(())
    }),
    ("max-rate", |g, raw, _| put(&mut g.max_rate, raw, |t| Ok(count(t, 0, 1_000_000)? as u32))),
    ("max-line", |g, raw, _| put(&mut g.max_line, raw, size)),
    ("tls-cert", |g, raw, base| {
        g.tls_cert = Some(base.join(raw.one()?));
        Ok(())
    }),
    ("tls-key", |g, raw, base| {
        g.tls_key = Some(base.join(raw.one()?));
        Ok(())
    }),
];

/// Every key that may be set.
pub fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(name, _)| *name)
}

/// Sets one key.
///
/// # Errors
/// What is wrong, beginning with the key's name in the words of the caller.
pub fn set(
    settings: &mut GatewaySettings,
    key: &str,
    raw: &Raw,
    base: &Path,
) -> Result<(), String> {
    match KEYS.iter().find(|(name, _)| *name == key) {
        Some((_, set)) => set(settings, raw, base),
        None => Err("is unknown".to_owned()),
    }
}

/// A gateway as it is without any setting.
pub fn defaults(id: &str) -> GatewaySettings {
    let hooks =
        Hooks::NONE.with(Hook::OnClientOpen).with(Hook::OnClientClose).with(Hook::OnMessage);
    let name = |name: &str| HeaderRule::Name(name.to_owned());
    GatewaySettings {
        id: id.to_owned(),
        host: "127.0.0.1".to_owned(),
        port: 10125,
        startup: Startup::Automatic,
        listener: None,
        hooks,
        route: Route::All,
        headers: vec![
            name("origin"),
            name("cookie"),
            name("authorization"),
            name("user-agent"),
            name("x-forwarded-for"),
            HeaderRule::Prefix("x-".to_owned()),
        ],
        protocols: None,
        path: Vec::new(),
        window: 256,
        listener_timeout: Duration::from_secs(10),
        on_timeout: OnTimeout::Drop,
        hang_timeout: Duration::from_secs(30),
        restart_delay_max: Duration::from_secs(30),
        drain: Duration::from_secs(1),
        close_spread: Duration::ZERO,
        producer_wait: Duration::from_secs(10),
        max_connections: 1_000_000,
        max_connections_per_ip: 0,
        handshake_timeout: Duration::from_secs(10),
        max_message: 1 << 20,
        max_queue: 4 << 20,
        ping_interval: Duration::from_secs(30),
        pong_timeout: Duration::from_secs(30),
        idle_timeout: Duration::ZERO,
        allow_origin: None,
        trusted_proxies: Vec::new(),
        max_rate: 0,
        max_line: 16 << 20,
        tls_cert: None,
        tls_key: None,
    }
}

/// What no single key shows.
///
/// # Errors
/// What does not fit together.
pub fn check(settings: &GatewaySettings) -> Result<(), String> {
    let least = settings.max_message.saturating_mul(6).saturating_add(64 * 1024);
    if settings.max_line < least {
        return Err(format!(
            "max-line ({} bytes) is too small for max-message ({} bytes): a message of escaped \
             characters is six times as long in JSON; set max-line to {least} or more",
            settings.max_line, settings.max_message
        ));
    }
    if settings.tls_cert.is_some() != settings.tls_key.is_some() {
        return Err("tls-cert and tls-key go together: one of them is missing".to_owned());
    }
    Ok(())
}

/// An id as somebody writes it in the form that it is kept in.
pub fn normal_id(id: &str) -> String {
    id.trim().to_ascii_lowercase()
}

/// A gateway's id as it is meant: without the white space around it, in lower case.
///
/// # Errors
/// What an id is.
pub fn gateway_id(id: &str) -> Result<String, String> {
    let id = normal_id(id);
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if (1..=64).contains(&id.len()) && id.chars().all(fits) {
        return Ok(id);
    }
    Err(format!("{id:?} is no gateway id: up to 64 of a-z, 0-9, dot, underscore and hyphen"))
}

/// `sh -c` for one string.
pub fn shell(line: &str) -> Vec<OsString> {
    vec!["sh".into(), "-c".into(), line.into()]
}

fn put<T>(
    slot: &mut T,
    raw: &Raw,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<(), String> {
    *slot = parse(raw.one()?)?;
    Ok(())
}

fn text(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("is empty".to_owned()) } else { Ok(text.trim().to_owned()) }
}

fn positive(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time.is_zero() { Err("must be more than zero".to_owned()) } else { Ok(time) }
}

fn at_least_one(size: usize) -> Result<usize, String> {
    if size == 0 { Err("must be at least 1 byte".to_owned()) } else { Ok(size) }
}

fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        format!("{text:?} is none of {}", names.join(", "))
    })
}

fn command(raw: &Raw, base: &Path) -> Result<ListenerCommand, String> {
    let argv = match raw {
        Raw::One(line) if line.trim().is_empty() => return Err("is empty".to_owned()),
        Raw::One(line) => shell(line),
        Raw::Many(argv) if argv.first().is_none_or(|program| program.is_empty()) => {
            return Err("is empty".to_owned());
        }
        Raw::Many(argv) => argv.iter().map(OsString::from).collect(),
    };
    Ok(ListenerCommand { argv, directory: PathBuf::from(base) })
}

fn header(name: &str) -> Result<HeaderRule, String> {
    let lower = name.to_ascii_lowercase();
    let token = crate::ws::handshake::is_token;
    match lower.strip_suffix('*') {
        Some("") => Ok(HeaderRule::All),
        Some(prefix) if token(prefix) => Ok(HeaderRule::Prefix(prefix.to_owned())),
        None if token(&lower) => Ok(HeaderRule::Name(lower)),
        _ => Err(format!("{name:?} is no header name")),
    }
}

fn is_origin(text: &str) -> bool {
    if text == "*" || text == "null" {
        return true;
    }
    let Some((scheme, _)) = text.split_once("://") else { return false };
    // What no origin can match would be a setting without effect.
    scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        && Origin::parse(text).is_some()
}

fn network(text: &str) -> Result<ipnet::IpNet, String> {
    let one = || text.parse::<std::net::IpAddr>().ok().map(ipnet::IpNet::from);
    text.parse::<ipnet::IpNet>()
        .ok()
        .or_else(one)
        .ok_or_else(|| format!("{text:?} is no network: write 10.0.0.0/8 or an address"))
}
