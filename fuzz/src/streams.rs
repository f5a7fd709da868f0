//! Requests for streams over plain HTTP.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use wsgw::config::settings::GatewaySettings;
use wsgw::gateway::admission::{Admitted, Decision, decide};
use wsgw::net::address::Peer;
use wsgw::text::position::Since;
use wsgw::ws::origin::may_connect;

use super::gateway::response_of;
use super::gateway_with;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Settings by a number.
fn settings(bits: u8) -> GatewaySettings {
    let all = [
        ("allow-origin", r#"["https://*.a.example", "null"]"#),
        ("allow-origin", r#"["https://a.example", "*"]"#),
        ("history", "{ broadcast = 9 }"),
        ("path", r#"["/a*", "/"]"#),
    ];
    let chosen = all.iter().enumerate().filter(|(i, _)| bits & (1 << i) != 0);
    // Of two lists of origins the first one.
    let chosen = chosen.filter(|(i, _)| *i != 1 || bits & 1 == 0);
    let mut chosen: Vec<(&str, &str)> = chosen.map(|(_, setting)| *setting).collect();
    chosen.push(("streams", "true"));
    gateway_with(&chosen).expect("good settings")
}

/// What a request says, read in the simplest way.
struct Asked<'a> {
    headers: Vec<(String, &'a str)>,
}

impl Asked<'_> {
    /// All values of a header as one.
    fn value(&self, name: &str) -> Option<String> {
        let values =
            self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| *value);
        let values: Vec<&str> = values.collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// Whether a page of another site may have made it without telling.
    fn may_be_foreign(&self, settings: &GatewaySettings) -> bool {
        if self.value("origin").is_some() {
            return false;
        }
        if let Some(site) = self.value("sec-fetch-site") {
            return site != "same-origin" && site != "none";
        }
        let accept = self.value("accept").unwrap_or_default().to_lowercase();
        if ["image/", "video/", "audio/"].iter().any(|kind| accept.starts_with(kind)) {
            return true;
        }
        let Some(referer) = self.value("referer") else { return false };
        // What a URL's origin is, by the library that is known for it.
        let page = url::Url::parse(&referer).map(|url| url.origin().ascii_serialization());
        let page = page.unwrap_or_else(|_| "null".to_owned());
        let allow = settings.allow_origin.as_deref();
        !may_connect(Some(&page), "localhost", LOOPBACK, allow)
    }
}

/// Settings, the rest of the target, and headers, a line each.
pub fn stream(data: &[u8]) {
    let Some((bits, data)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.len() > 8_000 || text.contains(|c: char| c.is_ascii_control() && c != '\n') {
        return;
    }
    let mut lines = text.split('\n');
    let query = lines.next().unwrap_or_default();
    if query.contains([' ', '#']) || !query.is_ascii() {
        return;
    }
    let headers: Vec<(String, &str)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
        .filter(|(name, _)| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
        .filter(|(name, _)| {
            !matches!(name.as_str(), "host" | "content-length" | "transfer-encoding")
        })
        .take(90)
        .collect();
    let settings = settings(*bits);
    let said: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = |method: &str| {
        let text = format!("{method} /{query} HTTP/1.1\r\nHost: localhost\r\n{said}\r\n");
        let peer = Peer::Ip(SocketAddr::new(LOOPBACK, 5151));
        decide(text.as_bytes(), 0, &settings, peer, LOOPBACK)
    };
    let asked = Asked { headers };
    match request("GET") {
        Decision::Incomplete | Decision::File(_) | Decision::Post(_) => {
            panic!("the head is whole, and there are no files")
        }
        Decision::Poll(ask) => {
            assert!(!asked.may_be_foreign(&settings) && settings.history.is_some());
            assert!(ask.channels.is_empty());
            let Decision::Answer { response, .. } = request("HEAD") else { panic!("HEAD") };
            assert_eq!(response.status(), 200);
        }
        Decision::Admit(admitted) if admitted.transport() == "websocket" => {}
        Decision::Admit(admitted) => {
            admits(&admitted, &asked, &settings);
            let Decision::Answer { response, .. } = request("HEAD") else { panic!("HEAD") };
            assert_eq!(response.status(), 200);
        }
        Decision::Answer { response, .. } => {
            let (status, names, _) = response_of(&response.encode(std::time::UNIX_EPOCH));
            assert!(matches!(status, 200 | 304 | 400 | 403 | 404 | 426 | 431), "{status}");
            told(&names, &asked, &settings);
            if let Decision::Answer { response, .. } = request("HEAD")
                && !asked
                    .headers
                    .iter()
                    .any(|(name, _)| name == "upgrade" || name == "sec-websocket-key")
            {
                assert_eq!(response.status(), status);
            }
        }
    }
}

/// A stream is opened: its site is known to be right, and its head says all that it has to.
fn admits(admitted: &Admitted, asked: &Asked<'_>, settings: &GatewaySettings) {
    assert!(!asked.may_be_foreign(settings));
    let allow = settings.allow_origin.as_deref();
    assert!(may_connect(asked.value("origin").as_deref(), "localhost", LOOPBACK, allow));
    assert!(admitted.offers.is_empty());
    let opening = admitted.opening(None);
    let (status, names, body) = response_of(&opening);
    assert_eq!(status, 200);
    let of = |name: &str| names.iter().find(|(known, _)| known == name).map(|(_, v)| v.as_str());
    let kind = match admitted.transport() {
        "sse" => "text/event-stream",
        "lines" => "application/x-ndjson",
        "raw" => "text/plain; charset=utf-8",
        other => panic!("{other}"),
    };
    assert_eq!(of("content-type"), Some(kind));
    assert_eq!(of("cache-control"), Some("no-cache, no-transform"));
    assert_eq!((of("content-length"), of("connection")), (None, Some("close")));
    told(&names, asked, settings);

    let comment = &opening[opening.len() - body..];
    assert!(body <= 8192 + 2 && (kind == "text/event-stream" || body == 0));
    if body > 0 {
        let text = comment.strip_suffix(b"\n\n").expect("a whole comment");
        assert!(text.starts_with(b":") && !text.contains(&b'\n') && !text.contains(&b'\r'));
    }
    // What a browser sends again is a position, good or bad.
    let ids: Vec<_> = asked.headers.iter().filter(|(name, _)| name == "last-event-id").collect();
    if let [(_, id)] = ids[..]
        && !id.is_empty()
        && kind == "text/event-stream"
    {
        assert!(matches!(admitted.since, Some(Since::After(_))), "{id:?}");
    }
}

/// What an answer tells browsers about who may read it.
fn told(names: &[(String, String)], asked: &Asked<'_>, settings: &GatewaySettings) {
    let of = |name: &str| {
        let mut found = names.iter().filter(|(known, _)| known == name).map(|(_, v)| v.as_str());
        let first = found.next();
        assert!(found.next().is_none(), "{name} twice");
        first
    };
    assert_eq!(of("vary"), Some("Origin"));
    let origin = asked.value("origin");
    let echoed = of("access-control-allow-origin");
    let credentials = of("access-control-allow-credentials").is_some();
    if let Some(echoed) = echoed {
        assert_eq!(origin.as_deref(), Some(echoed));
        assert!(may_connect(Some(echoed), "localhost", LOOPBACK, settings.allow_origin.as_deref()));
        let named = settings.allow_origin.as_ref().map(|list| {
            list.iter().filter(|entry| *entry != "*").cloned().collect::<Vec<String>>()
        });
        let named = may_connect(Some(echoed), "localhost", LOOPBACK, named.as_deref());
        assert_eq!(credentials, named, "{echoed}");
    } else {
        assert!(!credentials && of("access-control-expose-headers").is_none());
    }
}
