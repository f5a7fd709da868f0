//! Handshakes and origins.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::SystemTime;

use wsgw::config::settings::{Compression, GatewaySettings};
use wsgw::gateway::admission::{Decision, decide};
use wsgw::listener::protocol::connid::ConnId;
use wsgw::listener::protocol::event;
use wsgw::net::address::Peer;
use wsgw::net::host::{is_loopback, split_host};
use wsgw::net::proxy_protocol::{MAX_HEADER, parse};
use wsgw::text::glob::glob;
use wsgw::ws::body::{Body, BodyError, Framing};
use wsgw::ws::deflate::offer::agreed;
use wsgw::ws::origin::{Origin, may_connect};
use wsgw::ws::request::MAX_HEAD;

use super::{gateway_with, members_of_line, pieces, quoted};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Settings by a number: each bit is one that differs from the defaults.
fn settings(bits: u8) -> GatewaySettings {
    let all = [
        ("trusted-proxies", r#""127.0.0.0/8""#),
        ("allow-origin", r#"["https://*.a.example", "null"]"#),
        ("protocols", r#"["json", "xml"]"#),
        ("path", r#"["/a*", "/"]"#),
        ("headers", r#""*""#),
        ("static", r#""/www""#),
        ("streams", "true"),
        ("compression", r#""shared""#),
    ];
    let chosen = all.iter().enumerate().filter(|(i, _)| bits & (1 << i) != 0);
    let chosen: Vec<(&str, &str)> = chosen.map(|(_, setting)| *setting).collect();
    gateway_with(&chosen).expect("good settings")
}

/// What is decided about a request, which is the same however it is cut.
fn decided(data: &[u8], settings: &GatewaySettings, salt: u8) -> Decision {
    let peer = Peer::Ip(SocketAddr::new(LOOPBACK, 5151));
    let decision = decide(data, 0, settings, peer, LOOPBACK);
    let (mut seen, mut so_far) = (0, Vec::new());
    for piece in pieces(data, salt) {
        so_far.extend_from_slice(piece);
        let step = decide(&so_far, seen, settings, peer, LOOPBACK);
        seen = so_far.len();
        if !matches!(step, Decision::Incomplete) {
            assert_eq!(kind(&step), kind(&decision));
            break;
        }
    }
    decision
}

/// A request's head: one decision however it is cut; a whole HTTP answer, a good upgrade or stream.
pub fn handshake(data: &[u8]) {
    let Some((bits, data)) = data.split_first() else { return };
    let settings = settings(*bits);
    match decided(data, &settings, 9) {
        Decision::Incomplete => assert!(data.len() < MAX_HEAD),
        Decision::Answer { response, .. } => {
            let (status, names, body) = response_of(&response.encode(SystemTime::UNIX_EPOCH));
            assert!((200..=599).contains(&status) && status == response.status());
            let plain = [
                "date",
                "content-type",
                "content-length",
                "connection",
                "allow",
                "etag",
                "cache-control",
                "content-security-policy",
                "referrer-policy",
                "x-content-type-options",
                "upgrade",
                "sec-websocket-version",
            ];
            let with_streams =
                ["vary", "cache-control", "x-accel-buffering", "x-content-type-options"];
            let allowed = |name: &str| {
                plain.contains(&name)
                    || settings.streams
                        && (with_streams.contains(&name) || name.starts_with("access-control-"))
            };
            assert!(names.iter().all(|(name, _)| allowed(name)), "{names:?}");
            let length = names.iter().find(|(name, _)| name == "content-length");
            if names.iter().any(|(name, _)| name == "x-accel-buffering") {
                // HEAD of a stream, which has no length.
                assert_eq!((status, body, length), (200, 0, None));
                return;
            }
            // In answer to HEAD the body is left out.
            assert!(
                body == response.body().len()
                    || body == 0 && data.trim_ascii_start().starts_with(b"HEAD ")
            );
            assert_eq!(
                length.map(|(_, value)| value.clone()),
                (status != 304).then(|| response.body().len().to_string())
            );
        }
        Decision::File(file) => {
            assert!(file.head_len <= data.len().min(MAX_HEAD));
            let path = file.request.uri().path();
            assert!(path.starts_with('/') && !path.starts_with("//"), "{path}");
        }
        Decision::Post(head) => assert!(head.head_len <= data.len().min(MAX_HEAD)),
        Decision::Poll(_) => panic!("there is no history"),
        Decision::Admit(upgrade) => {
            assert!(upgrade.head_len <= data.len().min(MAX_HEAD));
            if upgrade.transport() != "websocket" {
                assert!(settings.streams && upgrade.offers.is_empty());
                return;
            }
            let chosen = upgrade.chosen.as_deref();
            assert!(chosen.is_none_or(|name| upgrade.offers.iter().any(|offer| offer == name)));
            for protocol in upgrade.offers.iter().map(|o| Some(o.as_str())).chain([chosen]) {
                let (status, names, body) = response_of(&upgrade.opening(protocol));
                assert_eq!((status, body), (101, 0));
                let said = names.iter().find(|(name, _)| name == "sec-websocket-protocol");
                assert_eq!(said.map(|(_, value)| value.as_str()), protocol);
                let extensions =
                    names.iter().filter(|(name, _)| name == "sec-websocket-extensions");
                let extensions: Vec<&str> = extensions.map(|(_, value)| value.as_str()).collect();
                let compresses = settings.compression == Compression::Shared;
                assert!(extensions.is_empty() || compresses && agreed(&extensions).is_ok());
                assert_eq!(names.len(), 3 + usize::from(protocol.is_some()) + extensions.len());
            }

            let mut line = Vec::new();
            event::handshake(&mut line, 1, ConnId(3), &upgrade.asked_members());
            let asked = members_of_line(&line);
            line.clear();
            let (members, path_len) = upgrade.open_members(chosen);
            event::open(&mut line, 1, ConnId(3), &[], &members, Some(7));
            let opened = members_of_line(&line);
            let path = &members[b"\"path\":".len()..][..path_len];
            assert_eq!(serde_json::from_slice::<String>(path).expect("a string"), upgrade.path());
            let transport = if settings.streams { " transport" } else { "" };
            for (members, keys) in
                [(&asked, "protocols headers"), (&opened, "protocol headers resumed left")]
            {
                let names: Vec<&str> = members.iter().map(|(key, _)| key.as_str()).collect();
                let first = "id event conn message path query remote";
                assert_eq!(names.join(" "), format!("{first}{transport} {keys}"));
                let at = names.iter().position(|name| *name == "headers").expect("headers");
                let headers = members_of_line(format!("{}\n", members[at].1).as_bytes());
                let mut names: Vec<&str> = headers.iter().map(|(key, _)| key.as_str()).collect();
                names.sort_unstable();
                assert!(names.is_sorted_by(|a, b| a < b), "a name comes twice: {names:?}");
                assert!(names.iter().all(|name| *name == name.to_ascii_lowercase()));
            }
            let remote: String = serde_json::from_str(&asked[6].1).expect("a string");
            assert!(remote.parse::<SocketAddr>().is_ok() || remote.parse::<IpAddr>().is_ok());
        }
    }
}

/// A request for what is served beside the upgrade: a post, whose body is the same however it is
/// cut, a poll, or a stream.
pub fn post(data: &[u8]) {
    let settings = gateway_with(&[
        ("streams", "true"),
        ("history", "{ broadcast = 5 }"),
        ("channels", r#""query""#),
        ("allow-channels", r#"["r*"]"#),
    ])
    .expect("good settings");
    match decided(data, &settings, 3) {
        Decision::Incomplete => assert!(data.len() < MAX_HEAD),
        Decision::Answer { response, next, .. } => {
            assert!(next.is_none_or(|length| length <= data.len()));
            response_of(&response.encode(SystemTime::UNIX_EPOCH));
        }
        Decision::Admit(admitted) => assert!(admitted.head_len <= data.len()),
        Decision::File(file) => assert!(file.head_len <= data.len()),
        Decision::Poll(ask) => {
            assert!(ask.head_len <= data.len() && ask.channels.is_sorted_by(|a, b| a < b));
        }
        Decision::Post(head) => body(head.framing, &data[head.head_len..]),
    }
}

/// A body: the same in one piece and in many, under its bound, and with nothing behind it.
fn body(framing: Framing, wire: &[u8]) {
    const MAX: usize = 64;
    let read = |pieces: Vec<&[u8]>| {
        let mut body = Body::new(framing, MAX)?;
        let mut taken = 0;
        for piece in pieces {
            let some = body.take(piece)?;
            assert!(some == piece.len() || body.is_whole());
            taken += some;
            if body.is_whole() {
                break;
            }
        }
        assert!(body.len() <= MAX);
        let whole = body.is_whole();
        Ok::<_, BodyError>((whole, taken, body.into_bytes()))
    };
    let whole = read(vec![wire]);
    assert_eq!(read(pieces(wire, 5)), whole);
    assert_eq!(read(wire.chunks(1).collect()), whole);
    if let (Framing::Length(length), Ok((is_whole, taken, bytes))) = (framing, whole) {
        assert_eq!(taken, wire.len().min(length as usize));
        assert_eq!((is_whole, &bytes[..]), (taken as u64 == length, &wire[..taken]));
    }
}

fn kind(decision: &Decision) -> String {
    match decision {
        Decision::Incomplete => "incomplete".to_owned(),
        Decision::Answer { response, reason, next } => format!("{reason:?} {next:?} {response:?}"),
        Decision::File(file) => format!("{file:?}"),
        Decision::Admit(upgrade) => format!("{upgrade:?}"),
        Decision::Post(head) => format!("{head:?}"),
        Decision::Poll(ask) => format!("{ask:?}"),
    }
}

/// Status, headers (names in lower case) and the length of the body of a response.
pub(super) fn response_of(bytes: &[u8]) -> (u16, Vec<(String, String)>, usize) {
    let mut headers = [httparse::EMPTY_HEADER; 24];
    let mut response = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(head)) = response.parse(bytes) else {
        panic!("no HTTP: {}", String::from_utf8_lossy(bytes));
    };
    let headers = response.headers.iter();
    let headers = headers
        .map(|h| (h.name.to_ascii_lowercase(), String::from_utf8_lossy(h.value).into_owned()));
    (response.code.unwrap_or(0), headers.collect(), bytes.len() - head)
}

/// An origin, a request's Host, an entry of `allow-origin`, and a pattern, a line each.
pub fn origin(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (origin, host, entry, pattern) = (next(), next(), next(), next());

    assert!(may_connect(None, host, LOOPBACK, None));
    if may_connect(Some(origin), host, LOOPBACK, None) {
        // By another way: nothing stands around the loopback name but a scheme and a port.
        let (_, rest) = origin.split_once("://").expect("a scheme");
        let bare = rest.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches(':');
        let bare = if rest.ends_with(bare) { rest } else { bare };
        let bare = bare.to_ascii_lowercase();
        assert!(is_loopback(&bare) || bare.starts_with("127.") || bare.contains("::1"), "{origin}");
    }
    let outside = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    if may_connect(Some(origin), host, outside, None) {
        let page = Origin::parse(origin).expect("an origin");
        let (name, _) = split_host(host).expect("a host");
        assert!(format!("{page:?}").contains(&format!("{name:?}")));
    }

    // An entry that the settings take matches what it says.
    if let Some(settings) = gateway_with(&[("allow-origin", &quoted(entry))]) {
        let list = settings.allow_origin.as_deref().unwrap_or_default();
        for entry in list {
            let like = entry.replace('*', if *entry == "*" { "null" } else { "x" });
            assert!(may_connect(Some(&like), host, LOOPBACK, Some(list)), "{entry:?}");
            assert!(
                *entry == "*"
                    || !may_connect(Some("https://[::9]:7"), host, LOOPBACK, Some(list))
                    || glob(entry, "https://[::9]:7")
            );
        }
    }
    if pattern.len() < 200 && origin.len() < 200 {
        assert_eq!(glob(pattern, origin), slow_glob(pattern.as_bytes(), origin.as_bytes()));
    }
}

/// `*` by the definition, place by place.
fn slow_glob(pattern: &[u8], text: &[u8]) -> bool {
    let mut row = vec![false; text.len() + 1];
    row[0] = true;
    for byte in pattern {
        if *byte == b'*' {
            for i in 1..row.len() {
                row[i] |= row[i - 1];
            }
        } else {
            for i in (1..row.len()).rev() {
                row[i] = row[i - 1] && text[i - 1] == *byte;
            }
            row[0] = false;
        }
    }
    row[text.len()]
}

/// The PROXY protocol's header: what is there of one says nothing until all of it is there, and what
/// follows it does not matter.
pub fn proxy_header(data: &[u8]) {
    let Ok(Some(header)) = parse(data) else { return };
    assert!(header.size <= data.len() && header.size <= MAX_HEADER);
    assert_eq!(parse(&data[..header.size]), Ok(Some(header)));
    for end in 0..header.size {
        assert_eq!(parse(&data[..end]), Ok(None), "{end} of {}", header.size);
    }
}
