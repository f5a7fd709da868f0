//! What no single key shows: settings that contradict each other are errors, settings without an
//! effect are warnings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::hooks::{Hook, Hooks};
use crate::config::settings::{
    ChannelSource, Cluster, ClusterSettings, ControlListen, ControlSettings, GatewaySettings,
    ListenHost, Route, Startup,
};
use crate::config::tables::{ControlOptions, GatewayOptions};
use crate::config::values::NamedValues;
use crate::ws::handshake::FRAMES;

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
    found.extend(not_for_lines(settings));
    found.extend(half_of_tls(settings.tls_cert.is_some(), settings.tls_key.is_some()));
    if settings.proxy_protocol && settings.trusted_proxies.is_empty() {
        found.push(
            "proxy-protocol accepts connections from trusted-proxies only, and none are given: set \
             trusted-proxies to the addresses of the proxies (127.0.0.1 for those that come by a \
             unix socket)"
                .to_owned(),
        );
    }
    if settings.channels != ChannelSource::Off
        && settings.allow_channels.is_none()
        && !settings.asks(Hook::OnHandshake)
    {
        found.push(
            "channels lets a URL ask for any channel, and nothing says which are admitted: set \
             allow-channels (\"*\" admits all), or use a listener with onHandshake among its hooks"
                .to_owned(),
        );
    }
    found
}

/// What a gateway of a cluster cannot be without, or beside.
pub(super) fn not_in_a_cluster(
    settings: &GatewaySettings,
    cluster: Option<&ClusterSettings>,
) -> Vec<String> {
    let mut found = Vec::new();
    if settings.cluster == Cluster::Off {
        return found;
    }
    if cluster.is_none_or(|cluster| cluster.url.is_empty()) {
        found.push(
            "cluster needs to know where the NATS servers are: add a table [cluster] with \
             url = \"nats://127.0.0.1:4222\" to the config file"
                .to_owned(),
        );
    }
    let history = settings.history.as_ref();
    if settings.cluster == Cluster::Core && history.is_some() {
        found.push(
            "history needs one order on all nodes, and cluster \"core\" has none: set cluster to \
             \"ordered\", or leave history out"
                .to_owned(),
        );
    }
    if history.is_some_and(|history| history.file.is_some()) {
        found.push(
            "history.file has no place beside cluster \"ordered\": there the stream of the NATS \
             servers is the history; leave history.file out"
                .to_owned(),
        );
    }
    found
}

/// What a listener of plain lines cannot do.
fn not_for_lines(settings: &GatewaySettings) -> Vec<String> {
    let mut found = Vec::new();
    if settings.listener.is_none() || !settings.is_plain() {
        return found;
    }
    let other = Route::NAMES.iter().find(|(_, route)| *route == settings.route);
    if let Some((name, _)) = other.filter(|(_, r)| !matches!(r, Route::All | Route::None)) {
        found.push(format!(
            "route {name:?} needs to know whose message a line answers, and format \"lines\" does not \
             tell: its lines go to all; set route to all or none, or format to json"
        ));
    }
    for hook in [Hook::OnHandshake, Hook::OnJoin, Hook::OnLeave] {
        if settings.hooks.has(hook) {
            found.push(format!(
                "hooks has {}, but a listener with format \"lines\" is sent messages and no events: \
                 set hooks to onMessage or none, or format to json",
                hook.name()
            ));
        }
    }
    found
}

/// Gateways whose history is in the file of another one before them, by their index.
pub(super) fn shared_history_files(gateways: &[GatewaySettings]) -> Vec<(usize, String)> {
    let mut files: Vec<(PathBuf, &GatewaySettings)> = Vec::new();
    let mut found = Vec::new();
    for (index, gateway) in gateways.iter().enumerate() {
        let Some(file) = gateway.history.as_ref().and_then(|history| history.file.as_ref()) else {
            continue;
        };
        let resolved = resolved(file);
        if let Some((_, other)) = files.iter().find(|(path, _)| *path == resolved) {
            found.push((
                index,
                format!(
                    "history.file is {file:?}, as that of gateway {}: each gateway needs a file of \
                     its own",
                    other.id
                ),
            ));
        } else {
            files.push((resolved, gateway));
        }
    }
    found
}

/// Gateways whose unix socket is that of another one before them, or of the control port, by their
/// index.
pub(super) fn shared_sockets(
    gateways: &[GatewaySettings],
    control: &ControlSettings,
) -> Vec<(usize, String)> {
    let mut sockets: Vec<(PathBuf, String)> = Vec::new();
    if let ControlListen::Unix(path) = &control.listen {
        sockets.push((resolved(path), "the control port".to_owned()));
    }
    let mut found = Vec::new();
    for (index, gateway) in gateways.iter().enumerate() {
        let Some(path) = gateway.unix_path() else { continue };
        let resolved = resolved(path);
        if let Some((_, other)) = sockets.iter().find(|(path, _)| *path == resolved) {
            let shown = path.display();
            found.push((index, format!("host is unix:{shown}, which is the socket of {other}")));
        } else {
            sockets.push((resolved, format!("gateway {}", gateway.id)));
        }
    }
    found
}

/// A path without links and dots, as far as it is there.
fn resolved(path: &Path) -> PathBuf {
    let by_directory = || {
        let directory = path.parent()?.canonicalize().ok()?;
        Some(directory.join(path.file_name()?))
    };
    path.canonicalize().ok().or_else(by_directory).unwrap_or_else(|| path.to_path_buf())
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
            ("format", own.format.is_some()),
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
    } else if settings.is_plain() {
        lines_without_effect(own).into_iter().for_each(&mut warn);
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
    channels_without_effect(own, settings).into_iter().for_each(&mut warn);
    address_without_effect(own, settings).into_iter().for_each(&mut warn);
    if own.on_engine_loss.is_some() && settings.cluster == Cluster::Off {
        warn("on-engine-loss has no effect, for cluster is off".to_owned());
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

/// Settings of a gateway whose listener reads and writes plain lines that have no effect.
fn lines_without_effect(own: &GatewayOptions) -> Vec<String> {
    let mut found = Vec::new();
    let of_events = [
        ("headers", own.headers.is_some()),
        ("listener-timeout", own.listener_timeout.is_some()),
        ("on-timeout", own.on_timeout.is_some()),
    ];
    let idle = of_events.iter().filter(|(_, given)| *given).map(|(name, _)| *name);
    let idle: Vec<&str> = idle.collect();
    if !idle.is_empty() {
        let verb = if idle.len() == 1 { "has" } else { "have" };
        found.push(format!(
            "{} {verb} no effect with format \"lines\": the listener is sent no events and owes no \
             answers",
            idle.join(", ")
        ));
    }
    let told = |hooks: Hooks| hooks.has(Hook::OnClientOpen) || hooks.has(Hook::OnClientClose);
    if own.hooks.is_some_and(told) {
        found.push(
            "hooks: a listener with format \"lines\" is not told of opens and closes; only onMessage \
             and none have an effect"
                .to_owned(),
        );
    }
    found
}

/// Settings of the address that have no effect.
fn address_without_effect(own: &GatewayOptions, settings: &GatewaySettings) -> Vec<String> {
    let unix = settings.unix_path().is_some();
    let keys = [
        ("port", own.port.is_some() && unix),
        ("mode", own.mode.is_some() && !unix),
        ("group", own.group.is_some() && !unix),
    ];
    let here = if unix { "on a unix socket" } else { "but on a unix socket" };
    let idle = keys.iter().filter(|(_, idle)| *idle);
    idle.map(|(name, _)| format!("{name} has no effect {here}")).collect()
}

/// Settings of channels and of the history that have no effect.
fn channels_without_effect(own: &GatewayOptions, settings: &GatewaySettings) -> Vec<String> {
    let mut found = Vec::new();
    let mut warn = |text: &str| found.push(text.to_owned());
    let by_url = settings.channels != ChannelSource::Off;
    if own.allow_channels.is_some() && !by_url {
        warn("allow-channels has no effect, for channels is off: no URL asks for a channel");
    }
    if by_url && settings.allow_channels.as_ref().is_some_and(Vec::is_empty) {
        warn("allow-channels is empty: no URL may ask for a channel");
    }
    let admits_frames =
        settings.protocols.as_ref().is_none_or(|list| list.iter().any(|name| name == FRAMES));
    let presence = own.presence.as_ref().is_some_and(|patterns| !patterns.is_empty());
    // Plain lines say nothing of channels.
    let changes_channels = settings.listener.is_some() && !settings.is_plain();
    if !by_url && !changes_channels {
        const NO_WAY: &str = "for no client can join a channel: set channels, or use a listener";
        if settings.route == Route::Channels {
            warn(&format!("route \"channels\" sends every message to nobody, {NO_WAY}"));
        }
        if presence {
            warn(&format!("presence has no effect, {NO_WAY}"));
        }
        if own.max_channels.is_some() {
            warn(&format!("max-channels has no effect, {NO_WAY}"));
        }
    } else if presence && !admits_frames && !settings.asks(Hook::OnHandshake) {
        warn(&format!("presence has no effect, for protocols does not admit {FRAMES}"));
    }
    let limits = own.history.as_ref().map(|own| own.names_limits());
    if settings.history.as_ref().is_some_and(|history| !history.keeps()) && limits != Some(true) {
        warn("history keeps no message: set its channels, its broadcast, or both");
    }
    found
}

fn same_name(one: &ListenHost, other: &ListenHost) -> bool {
    match (one, other) {
        (ListenHost::Name(one), ListenHost::Name(other)) => one.eq_ignore_ascii_case(other),
        _ => false,
    }
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
    // Unix sockets are compared by `shared_sockets`.
    let starts = |g: &&GatewaySettings| g.startup == Startup::Automatic && g.port != 0;
    let mut found = Vec::new();
    let automatic: Vec<&GatewaySettings> = gateways.iter().filter(starts).collect();
    for (index, gateway) in automatic.iter().enumerate() {
        let same = |other: &&&GatewaySettings| {
            other.port == gateway.port && same_name(&other.host, &gateway.host)
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
