//! Requests for what is served over plain HTTP beside the upgrade: streams, and who may ask for them.
//! Pure.
//!
//! A browser sends no `Origin` with an `<img>` or a `<script>` of another site, but it sends cookies.
//! So a request without one has to show in another way that no foreign page made it
//! ([`check_site`]).

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::SystemTime;

use crate::config::settings::GatewaySettings;
use crate::gateway::hub::wishes;
use crate::gateway::wire::Form;
use crate::net::host::{is_loopback, split_host};
use crate::text::excerpt::excerpt;
use crate::text::position::{Position, Since};
use crate::ws::origin::{Admission, Origin, admission, origin_of};
use crate::ws::reason::Reason;
use crate::ws::request::Request;
use crate::ws::response::{Headers, Refusal, Response, bad_request};

/// The most bytes of comment that `pad` asks for.
const PAD_MAX: usize = 8192;

/// What a poll is told where nothing is kept.
pub(super) const NO_HISTORY: &str =
    "no_history: this gateway keeps no messages (its table history says which are kept).\n";

/// What a client is told whose position cannot be served, where that is an answer of its own.
pub(super) const GONE: &str = "The history does not hold everything since this position. Ask without \
                               since, or with since=last.\n";

/// Bytes of a value that a refusal shows.
const SHOWN: usize = 64;

/// Seconds for which a browser remembers what it may send.
const MAX_AGE: &str = "3600";

/// What a request that is no upgrade asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A stream.
    Stream(Form),
    /// What came since a position, once.
    Poll,
}

/// What a request's `stream` or its `Accept` asks for; `None` for neither.
///
/// # Errors
/// 400 for an unknown stream.
pub(super) fn asked(request: &Request<'_>, query: &str) -> Result<Option<Asked>, Refusal> {
    let given = wishes::values(query, "stream")?;
    let Some(name) = given.first() else {
        let events = request.media_types("accept").any(|kind| kind == "text/event-stream");
        return Ok(events.then_some(Asked::Stream(Form::Sse)));
    };
    let known = match name.as_str() {
        "sse" => Some(Asked::Stream(Form::Sse)),
        "lines" => Some(Asked::Stream(Form::Lines)),
        "raw" => Some(Asked::Stream(Form::Raw)),
        "poll" => Some(Asked::Poll),
        _ => None,
    };
    match known {
        Some(asked) if given.len() == 1 => Ok(Some(asked)),
        Some(_) => Err(bad_request("the URL has more than one stream")),
        None => Err(bad_request(&format!(
            "unknown stream {:?}: sse, lines, raw and poll are known",
            excerpt(name, SHOWN)
        ))),
    }
}

/// The bytes of comment that a stream of events begins with.
///
/// # Errors
/// 400 for what is not a number up to 8192.
pub(super) fn pad(query: &str) -> Result<usize, Refusal> {
    let given = wishes::values(query, "pad")?;
    let Some(text) = given.first() else { return Ok(0) };
    let digits = Some(text).filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let pad = digits.and_then(|text| text.parse().ok()).filter(|pad| *pad <= PAD_MAX);
    pad.ok_or_else(|| bad_request("pad is a number of bytes, at most 8192"))
}

/// Where the client of a stream of events goes on, if it says so by the header that browsers send. An
/// id that no gateway gave counts as a position that cannot be served.
pub(super) fn last_event_id(request: &Request<'_>) -> Option<Since> {
    let id = request.one("last-event-id").filter(|id| !id.is_empty())?;
    Some(Since::After(Position::parse(&id).unwrap_or(Position::UNKNOWN)))
}

/// Refuses what a foreign page has a browser fetch without an `Origin`: an image, say.
///
/// # Errors
/// 403.
pub(super) fn check_site(
    request: &Request<'_>,
    settings: &GatewaySettings,
    bound: IpAddr,
) -> Result<(), Refusal> {
    if request.has("origin") {
        return Ok(());
    }
    let own = match request.joined("sec-fetch-site") {
        Some(site) => matches!(site.as_str(), "same-origin" | "none"),
        None => {
            let host = request.one("host").unwrap_or_default();
            let allow = settings.allow_origin.as_deref();
            let foreign = match request.joined("referer").map(|url| origin_of(&url)) {
                Some(page) => admission(Some(&page), &host, bound, allow).is_none(),
                None => is_renamed(request, &host, bound, allow),
            };
            let accept = request.joined("accept").unwrap_or_default().to_ascii_lowercase();
            let embeds = ["image/", "video/", "audio/"].iter().any(|kind| accept.starts_with(kind));
            !foreign && !embeds
        }
    };
    if own {
        return Ok(());
    }
    let text = "A page of another site may not fetch this without an Origin header. \
                The gateway's setting allow-origin says which pages may.\n";
    Err(Refusal { response: Response::text(403, text), reason: Reason::Origin })
}

/// Whether a browser asks a loopback address under a name of somebody else's. The owner of a name can
/// make it lead to 127.0.0.1 (DNS rebinding): then a page from there is of the gateway's own origin,
/// and sends no `Origin`. Programs that are no browsers have no need to send `Accept-Encoding`; a page
/// cannot leave it out.
fn is_renamed(request: &Request<'_>, host: &str, bound: IpAddr, allow: Option<&[String]>) -> bool {
    if !bound.to_canonical().is_loopback() || !request.has("accept-encoding") {
        return false;
    }
    let Some((name, _)) = split_host(host) else { return false };
    let admits = |scheme| admission(Some(&format!("{scheme}://{host}")), host, bound, allow);
    !is_loopback(&name) && admits("http").or_else(|| admits("https")).is_none()
}

/// What an answer tells a browser about who may read it (the Fetch Standard, section 3.3), where there
/// are streams.
pub(super) fn cors(request: &Request<'_>, settings: &GatewaySettings, bound: IpAddr) -> Headers {
    let mut headers: Headers = vec![("Vary", "Origin".into())];
    let Some(origin) = request.joined("origin") else { return headers };
    let host = request.one("host").unwrap_or_default();
    let admitted = admission(Some(&origin), &host, bound, settings.allow_origin.as_deref());
    let Some(Admission { credentials }) = admitted else { return headers };
    if origin != "null" && Origin::parse(&origin).is_none() {
        return headers;
    }
    headers.push(("Access-Control-Allow-Origin", origin.into()));
    if credentials {
        headers.push(("Access-Control-Allow-Credentials", "true".into()));
    }
    headers.push(("Access-Control-Expose-Headers", "X-Wsgw-At".into()));
    if request.method == "OPTIONS" {
        headers.push(("Access-Control-Allow-Methods", "GET, HEAD, POST".into()));
        let names = "X-Wsgw-Post, Content-Type, Last-Event-ID";
        headers.push(("Access-Control-Allow-Headers", names.into()));
        headers.push(("Access-Control-Max-Age", MAX_AGE.into()));
    }
    headers
}

/// The type of a stream's body.
fn content_type(form: Form) -> &'static str {
    match form {
        Form::Sse => "text/event-stream",
        Form::Lines => "application/x-ndjson",
        Form::Raw | Form::Bare | Form::Framed => "text/plain; charset=utf-8",
    }
}

/// The head of a stream's answer. Its body ends with the connection.
pub(super) fn head(form: Form, cors: &Headers) -> Vec<u8> {
    let mut out = String::with_capacity(320);
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "HTTP/1.1 200 OK\r\nDate: {}\r\nContent-Type: {}\r\n\
         Cache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n",
        httpdate::fmt_http_date(SystemTime::now()),
        content_type(form)
    );
    for (name, value) in cors {
        let _ = write!(out, "{name}: {value}\r\n");
    }
    out.push_str("\r\n");
    out.into_bytes()
}

/// The answer to HEAD.
pub(super) fn head_alone(form: Form) -> Response {
    let headers = vec![
        ("Cache-Control", "no-cache, no-transform".into()),
        ("X-Accel-Buffering", "no".into()),
        ("X-Content-Type-Options", "nosniff".into()),
    ];
    Response::endless(content_type(form)).with(&headers)
}

/// So many bytes of comment.
pub(super) fn comment(bytes: usize) -> Vec<u8> {
    if bytes == 0 {
        return Vec::new();
    }
    let mut out = vec![b' '; bytes];
    out[0] = b':';
    out.extend_from_slice(b"\n\n");
    out
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use proptest::prelude::*;

    use super::*;
    use crate::gateway::hub::admission::{Decision, decide};
    use crate::net::address::Peer;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const OWN: &str = "http://localhost:3000";

    fn settings(allow: Option<&[&str]>) -> GatewaySettings {
        let mut settings = GatewaySettings::new("g");
        settings.streams = true;
        settings.path = vec!["/c*".to_owned()];
        let list = allow.map(|list| list.iter().map(|entry| (*entry).to_owned()).collect());
        settings.allow_origin = list;
        settings
    }

    /// What becomes of a request: a form, with the comment and the position where there are any, or a
    /// status.
    fn decided(method: &str, target: &str, headers: &[(&str, &str)]) -> String {
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        let peer = Peer::Ip(SocketAddr::new(LOOPBACK, 5151));
        match decide(text.as_bytes(), 0, &settings(None), peer, LOOPBACK) {
            Decision::Admit(admitted) => {
                let since = match admitted.since {
                    Some(Since::After(Position::UNKNOWN)) => " lost".to_owned(),
                    Some(since) => format!(" {since:?}"),
                    None => String::new(),
                };
                let opening = String::from_utf8(admitted.opening(None)).unwrap();
                let comment = opening.split_once("\r\n\r\n").map_or(0, |(_, rest)| rest.len());
                let pad = if comment == 0 { String::new() } else { format!(" {comment}") };
                format!("{}{pad}{since}", admitted.transport())
            }
            Decision::Answer { response, .. } => response.status().to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn requests_and_what_becomes_of_them() {
        let events = ("Accept", "text/event-stream");
        let id = ("Last-Event-ID", "x");
        for (method, target, headers, expected) in [
            ("GET", "/c", &[][..], "426"),
            ("GET", "/", &[], "200"),
            ("GET", "/c?stream=sse", &[], "sse"),
            ("GET", "/c?stream=lines", &[], "lines"),
            ("GET", "/c?stream=raw", &[], "raw"),
            ("GET", "/c", &[events], "sse"),
            ("GET", "/", &[events], "404"),
            ("GET", "/c?stream=raw", &[events], "raw"),
            ("GET", "/c?stream=", &[events], "400"),
            ("GET", "/c?stream=ws", &[], "400"),
            ("GET", "/c?stream=sse&stream=raw", &[], "400"),
            ("GET", "/d?stream=sse", &[], "404"),
            ("GET", "/c?stream=sse&pad=8192", &[], "sse 8194"),
            ("GET", "/c?stream=sse&pad=8193", &[], "400"),
            ("GET", "/c?stream=sse&pad=+1", &[], "400"),
            ("GET", "/c?stream=sse&pad=", &[], "400"),
            ("GET", "/c?stream=lines&pad=9", &[], "lines"),
            ("GET", "/c?stream=sse", &[id], "sse lost"),
            ("GET", "/c?stream=sse&since=aaaaaaaa-1", &[id], "sse lost"),
            ("GET", "/c?stream=sse", &[("Last-Event-ID", "")], "sse"),
            ("GET", "/c?stream=lines", &[id], "lines"),
            ("HEAD", "/c?stream=sse", &[], "200"),
            ("HEAD", "/c?stream=sse&pad=x", &[], "400"),
            ("HEAD", "/d?stream=sse", &[], "404"),
            ("OPTIONS", "/c?stream=sse", &[], "200"),
            ("OPTIONS", "/d?stream=sse", &[], "404"),
            ("PUT", "/c?stream=sse", &[], "405"),
            ("GET", "/c?stream=sse", &[("Origin", OWN)], "sse"),
            ("GET", "/c?stream=sse", &[("Origin", "http://evil.example")], "403"),
            ("GET", "/c?stream=sse", &[("Content-Length", "1")], "400"),
            // An upgrade is one whatever else it asks for, be it a bad one.
            ("GET", "/c?stream=sse", &[("Upgrade", "h2c"), events], "400"),
        ] {
            assert_eq!(decided(method, target, headers), expected, "{method} {target} {headers:?}");
        }
    }

    /// The rule for requests without an `Origin`, once more and in other words.
    fn is_own(site: Option<&str>, referer: Option<&str>, accept: &str) -> bool {
        match (site, referer) {
            (Some(site), _) => site == "same-origin" || site == "none",
            (None, Some(referer)) if !referer.starts_with(OWN) => false,
            _ => !["image/", "video/", "audio/"].iter().any(|kind| accept.starts_with(kind)),
        }
    }

    proptest! {
        #[test]
        fn a_foreign_page_has_nothing_without_an_origin(
            origin: bool,
            site in proptest::option::of(proptest::sample::select(
                vec!["same-origin", "none", "same-site", "cross-site", "x", ""])),
            referer in proptest::option::of(proptest::sample::select(
                vec![OWN, "http://localhost:3000/x", "http://evil.example/", "x", ""])),
            accept in proptest::sample::select(
                vec!["*/*", "text/event-stream", "image/*", "video/a", "audio/b,*/*", "text/a,image/b"]),
            form in proptest::sample::select(vec!["sse", "lines", "raw"]),
        ) {
            let mut headers = vec![("Accept", accept)];
            headers.extend(site.map(|site| ("Sec-Fetch-Site", site)));
            headers.extend(referer.map(|referer| ("Referer", referer)));
            headers.extend(origin.then_some(("Origin", OWN)));
            let may = origin || is_own(site, referer, accept);
            let target = format!("/c?stream={form}");
            let expected = if may { (form, "200") } else { ("403", "403") };
            prop_assert_eq!(decided("GET", &target, &headers), expected.0);
            prop_assert_eq!(decided("HEAD", &target, &headers), expected.1);
        }

        /// Who is told that it may read is who asked, and may connect; with cookies only by an entry.
        #[test]
        fn an_origin_is_echoed_only_to_itself(
            origin in "null|https?://(a|b|x\\.a|evil)\\.example(:[0-9]{1,5})?|[ -~]{0,12}",
            list in proptest::option::of(proptest::collection::vec(proptest::sample::select(
                vec!["*", "null", "https://a.example", "https://*.a.example", "http://b.example:8"]), 0..4)),
        ) {
            let text = format!("GET /c HTTP/1.1\r\nHost: h\r\nOrigin: {origin}\r\n\r\n");
            let request = Request::read(text.as_bytes(), 0).unwrap().unwrap();
            let headers = cors(&request, &settings(list.as_deref()), LOOPBACK);
            prop_assert_eq!(&headers[0], &("Vary", "Origin".into()));
            let of = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string());
            let Some(echoed) = of("Access-Control-Allow-Origin") else {
                prop_assert_eq!(headers.len(), 1);
                return Ok(());
            };
            prop_assert_eq!(&echoed, origin.trim());
            let admits = |list: Option<&[String]>| {
                crate::ws::origin::may_connect(Some(&echoed), "h", LOOPBACK, list)
            };
            let all = settings(list.as_deref()).allow_origin;
            prop_assert!(admits(all.as_deref()));
            let named = all.map(|all| all.into_iter().filter(|entry| entry != "*").collect::<Vec<_>>());
            prop_assert_eq!(of("Access-Control-Allow-Credentials").is_some(), admits(named.as_deref()));
        }

        #[test]
        fn a_comment_is_one_line(bytes in 0..=PAD_MAX) {
            let comment = comment(bytes);
            let end = if bytes == 0 { &b""[..] } else { b"\n\n" };
            prop_assert_eq!(comment.len(), bytes + end.len());
            prop_assert!(comment.ends_with(end) && comment[..bytes].iter().all(|b| b" :".contains(b)));
            prop_assert!(bytes == 0 || comment[0] == b':');
        }
    }
}
