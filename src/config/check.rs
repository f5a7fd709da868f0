//! What no single key shows: settings that contradict each other are errors, settings without an
//! effect are warnings.

use std::time::Duration;

use crate::config::hooks::Hook;
use crate::config::settings::{ControlListen, ControlSettings, GatewaySettings, Startup};
use crate::config::tables::{ControlOptions, GatewayOptions};

/// Settings of a gateway that cannot go together.
pub(super) fn contradictions(settings: &GatewaySettings) -> Vec<String> {
    let mut found = Vec::new();
    let least = settings.max_message.saturating_mul(6).saturating_add(64 * 1024);
    if settings.max_line < least {
        found.push(format!(
            "max-line ({} bytes) is too small for max-message ({} bytes): a message of escaped \
             characters is six times as long in JSON; set max-line to {least} or more",
            settings.max_line, settings.max_message
        ));
    }
    found.extend(half_of_tls(settings.tls_cert.is_some(), settings.tls_key.is_some()));
    found
}

/// Settings of the control port that cannot go together.
pub(super) fn control_contradictions(settings: &ControlSettings) -> Vec<String> {
    half_of_tls(settings.tls_cert.is_some(), settings.tls_key.is_some()).into_iter().collect()
}

fn half_of_tls(cert: bool, key: bool) -> Option<String> {
    let (given, missing) = match (cert, key) {
        (true, false) => ("tls-cert", "tls-key"),
        (false, true) => ("tls-key", "tls-cert"),
        _ => return None,
    };
    Some(format!("tls-cert and tls-key go together: {given} is there, {missing} is missing"))
}

/// Settings of a gateway that have no effect; `own` are those that it was given itself, for what
/// `[defaults]` says is meant for some gateways and not for others.
pub(super) fn without_effect(own: &GatewayOptions, settings: &GatewaySettings) -> Vec<String> {
    let mut found = Vec::new();
    let mut warn = |text: String| found.push(format!("gateway {}: {text}", settings.id));
    if settings.listener.is_none() {
        let of_listeners = [
            ("hooks", own.hooks.is_some()),
            ("headers", own.headers.is_some()),
            ("window", own.window.is_some()),
            ("listener-timeout", own.listener_timeout.is_some()),
            ("on-timeout", own.on_timeout.is_some()),
            ("hang-timeout", own.hang_timeout.is_some()),
            ("restart-delay-max", own.restart_delay_max.is_some()),
        ];
        let idle = of_listeners.iter().filter(|(_, given)| *given).map(|(name, _)| *name);
        let idle: Vec<&str> = idle.collect();
        if !idle.is_empty() {
            let verb = if idle.len() == 1 { "has" } else { "have" };
            warn(format!("{} {verb} no effect without a listener", idle.join(", ")));
        }
    } else {
        if own.on_timeout.is_some() && !settings.hooks.has(Hook::OnMessage) {
            warn("on-timeout has no effect, for onMessage is not among the hooks".to_owned());
        }
        if own.hang_timeout.is_some_and(|time| time < settings.effective_hang_timeout()) {
            warn(format!(
                "hang-timeout counts as {:?}, for it is never less than twice listener-timeout",
                settings.effective_hang_timeout()
            ));
        }
    }
    if own.pong_timeout.is_some() && settings.ping_interval == Duration::ZERO {
        warn("pong-timeout has no effect, for ping-interval is 0".to_owned());
    }
    if settings.max_connections_per_ip > settings.max_connections {
        warn("max-connections-per-ip has no effect, for max-connections is smaller".to_owned());
    }
    if settings.allow_origin.as_ref().is_some_and(|list| list.len() > 1 && has_star(list)) {
        warn("allow-origin admits everybody, for * is in the list".to_owned());
    }
    if settings.allow_origin.as_ref().is_some_and(Vec::is_empty) {
        warn("allow-origin is empty: no web page may connect".to_owned());
    }
    for network in settings.trusted_proxies.iter().filter(|net| net.addr() != net.network()) {
        warn(format!(
            "trusted-proxies: {network} stands for all of {}; write {}/{} if one address is meant",
            network.trunc(),
            network.addr(),
            network.max_prefix_len()
        ));
    }
    found
}

fn has_star(list: &[String]) -> bool {
    list.iter().any(|entry| entry == "*")
}

/// Settings of the control port that have no effect.
pub(super) fn control_without_effect(own: &ControlOptions) -> Vec<String> {
    let (of_unix, of_tcp) = match own.listen {
        Some(ControlListen::Off) => return Vec::new(),
        Some(ControlListen::Unix(_)) => (true, false),
        Some(ControlListen::Tcp(..)) | None => (false, true),
    };
    let keys = [
        ("mode", own.mode.is_some() && of_tcp),
        ("group", own.group.is_some() && of_tcp),
        ("tls-cert", own.tls_cert.is_some() && of_unix),
        ("hosts", own.hosts.is_some() && of_unix),
        ("insecure", own.insecure == Some(true) && of_unix),
    ];
    let here = if of_tcp { "but on a unix socket" } else { "on a unix socket" };
    let idle = keys.iter().filter(|(_, idle)| *idle);
    idle.map(|(name, _)| format!("[control] {name} has no effect {here}")).collect()
}

/// Gateways that are started together and want one address: all but the first will fail.
pub(super) fn same_address(gateways: &[GatewaySettings]) -> Vec<String> {
    let starts = |g: &&GatewaySettings| g.startup == Startup::Automatic && g.port != 0;
    let mut found = Vec::new();
    let automatic: Vec<&GatewaySettings> = gateways.iter().filter(starts).collect();
    for (index, gateway) in automatic.iter().enumerate() {
        let same = |other: &&&GatewaySettings| {
            other.port == gateway.port && other.host.eq_ignore_ascii_case(&gateway.host)
        };
        if let Some(other) = automatic[..index].iter().find(same) {
            found.push(format!(
                "gateways {} and {} have the same host and port: only one of them can start",
                other.id, gateway.id
            ));
        }
    }
    found
}
