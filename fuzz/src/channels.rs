//! Names and patterns of channels, positions, and what a URL asks for.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use wsgw::config::settings::GatewaySettings;
use wsgw::gateway::admission::{Decision, decide};
use wsgw::listener::protocol::channel::{Channel, push_names};
use wsgw::listener::protocol::connid::ConnId;
use wsgw::listener::protocol::event;
use wsgw::net::address::Peer;
use wsgw::text::channel::check_pattern;
use wsgw::text::glob::glob;
use wsgw::text::position::{Position, Since};

use super::{gateway_with, members_of_line};

/// By the definition.
fn is_name(name: &str) -> bool {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:/@+-";
    !name.is_empty() && name.len() <= 200 && name.chars().all(|c| alphabet.contains(c))
}

/// By the definition.
fn is_position(text: &str) -> bool {
    let Some((epoch, number)) = text.split_once('-') else { return false };
    let alphanumeric = epoch.len() == 8 && epoch.chars().all(|c| c.is_ascii_alphanumeric());
    alphanumeric && !number.is_empty() && number.chars().all(|c| c.is_ascii_digit())
}

/// What is asked for with `since`, the name of a channel, and a pattern of names, a line each.
pub fn since(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (since, name, pattern) = (next(), next(), next());

    let position = Position::parse(since);
    assert_eq!(position.is_some(), is_position(since), "{since:?}");
    if let Some(position) = position {
        assert_eq!(Position::parse(&position.to_string()), Some(position));
        assert_eq!(position.epoch.as_str(), &since[..8]);
    }
    match Since::parse(since) {
        Ok(Since::Newest(1)) if since == "last" => {}
        Ok(Since::Newest(n)) => {
            let digits = since.trim_start_matches('0');
            let same = digits == n.to_string() || n == 0 && digits.is_empty();
            assert!(same || n == u64::MAX && digits.len() >= 20, "{since:?} is {n}");
        }
        Ok(Since::After(after)) => assert_eq!(Some(after), position),
        Ok(Since::Span(span)) => {
            assert!(
                since.contains(|c: char| c.is_ascii_digit()) && position.is_none(),
                "{since:?}"
            );
            assert!(span.as_secs() <= 10 * 366 * 86_400);
        }
        Err(why) => assert!(position.is_none() && !why.contains('\n'), "{why:?}"),
    }

    let channel = Channel::parse(name);
    assert_eq!(channel.is_some(), is_name(name), "{name:?}");
    if let Some(channel) = channel {
        assert_eq!(channel.as_str(), name);
        let mut json = Vec::new();
        push_names(&mut json, &[channel.clone(), channel]);
        assert_eq!(serde_json::from_slice::<[String; 2]>(&json).expect("JSON"), [name, name]);
    }
    match check_pattern(pattern) {
        // Some name matches it.
        Ok(()) => {
            let like = pattern.replace('*', "");
            let like = if like.is_empty() { "x" } else { &like };
            assert!(is_name(like) && glob(pattern, like), "{pattern:?}");
        }
        Err(why) => {
            assert!(!why.contains('\n'));
            assert!(!is_name(name) || !glob(pattern, name), "{pattern:?} matches {name:?}");
        }
    }
}

/// Settings by a number. The most channels are three.
fn settings(bits: u8) -> GatewaySettings {
    let mut chosen = vec![("max-channels", "3")];
    chosen.push(("channels", [r#""off""#, r#""path""#, r#""query""#][usize::from(bits % 3)]));
    if bits & 4 == 0 {
        chosen.push(("allow-channels", r#"["r*", "a+b", "*.x"]"#));
    } else {
        chosen.push(("listener", r#"["cat"]"#));
        chosen.push(("hooks", r#"["onHandshake", "onMessage"]"#));
    }
    if bits & 8 != 0 {
        chosen.push(("history", r#"{ channels = { "*" = 10 } }"#));
    }
    gateway_with(&chosen).expect("good settings")
}

/// What a URL asks for: as the definition says it, or refused with the right status.
pub fn wishes(data: &[u8]) {
    let Some((bits, target)) = data.split_first() else { return };
    // Whatever else is in a request's line is another target's.
    let printable = |byte: &u8| byte.is_ascii_graphic() && *byte != b'#';
    if target.len() > 8_000 || !target.iter().all(printable) {
        return;
    }
    let settings = settings(*bits);
    let target = format!("/{}", String::from_utf8_lossy(target));
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let peer = Peer::Ip(SocketAddr::new(address, 5151));
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let expected = model(bits % 3, path, query, &settings);
    match decide(request.as_bytes(), 0, &settings, peer, address) {
        Decision::Incomplete => panic!("the head is whole"),
        Decision::Post(_) | Decision::Poll(_) => panic!("there are no streams"),
        Decision::Answer { response, reason, .. } => {
            assert_eq!(expected, Err(response.status()), "{reason:?}: {target}");
        }
        Decision::File(_) => panic!("an upgrade asks for no file"),
        Decision::Admit(upgrade) => {
            let names = upgrade.channels.iter().map(ToString::to_string).collect();
            assert_eq!(Ok((names, upgrade.since)), expected, "{target}");
            assert_eq!(upgrade.path(), path);
            let mut line = Vec::new();
            event::handshake(&mut line, 1, ConnId(3), &upgrade.asked_members());
            let members = members_of_line(&line);
            let join = members.iter().find(|(key, _)| key == "join");
            let mut expected = Vec::new();
            push_names(&mut expected, &upgrade.channels);
            let expected = (!upgrade.channels.is_empty()).then_some(&expected[..]);
            assert_eq!(join.map(|(_, names)| names.as_bytes()), expected);
        }
    }
}

/// Channels, sorted, and messages of the history; or the status of a refusal.
type Asked = Result<(Vec<String>, Option<Since>), u16>;

fn model(source: u8, path: &str, query: &str, settings: &GatewaySettings) -> Asked {
    let names = match source {
        0 => Vec::new(),
        1 if path == "/" => Vec::new(),
        1 => vec![decoded(&path[1..]).ok_or(400_u16)?],
        _ => values(query, "channel").ok_or(400_u16)?,
    };
    for name in &names {
        if !is_name(name) {
            return Err(400);
        }
        let admitted = name.starts_with('r') || name == "a+b" || name.ends_with(".x");
        if settings.allow_channels.is_some() && !admitted {
            return Err(403);
        }
    }
    let names: Vec<String> =
        names.into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    if names.len() > 3 {
        return Err(403);
    }
    let since = values(query, "since").ok_or(400_u16)?;
    let since = match (&since[..], settings.history.is_some()) {
        ([], _) => None,
        ([first, ..], false) => Position::parse(first).map(Since::After),
        ([text], true) => Some(Since::parse(text).map_err(|_| 400_u16)?),
        (_, true) => return Err(400),
    };
    Ok((names, since))
}

/// The values of a parameter; `None` where one is not UTF-8.
fn values(query: &str, name: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decoded(key).as_deref() == Some(name) {
            found.push(decoded(value)?);
        }
    }
    Some(found)
}

/// Percent-decoded, byte by byte; `None` where that is not UTF-8.
fn decoded(text: &str) -> Option<String> {
    let (mut rest, mut out) = (text.as_bytes(), Vec::new());
    while let Some((first, more)) = rest.split_first() {
        let digit = |at: usize| more.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                rest = &more[2..];
            }
            _ => {
                out.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8(out).ok()
}
