//! The opening handshake (RFC 6455 section 4.2): a request's bytes in, a decision out. Pure; the
//! HTTP syntax is `httparse`'s.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::http::StatusCode;

use crate::config::settings::{GatewaySettings, HeaderRule};
use crate::listener::protocol::event;
use crate::listener::protocol::event::{Request, Subprotocol};
use crate::net::host::split_host;
use crate::text::glob::glob;
use crate::ws::origin::may_connect;

/// Bytes of the request's head at most; past it 431.
pub const MAX_HEAD: usize = 32 * 1024;

/// Headers of a request at most; past it 431.
const MAX_HEADERS: usize = 100;

/// Base64 whose last digit may have bits that are no part of the bytes: some clients draw their key
/// as text, and so does the example of RFC 6455 section 4.1.
const KEY: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// What to do with the bytes so far.
#[derive(Debug)]
pub enum Decision {
    /// The head is not all there.
    Incomplete,
    /// A good upgrade.
    Upgrade(Box<Upgrade>),
    /// An HTTP answer, then close; `reason` is the label of the refusal in the metrics, empty
    /// where nothing was refused.
    Answer {
        /// The whole response.
        response: Vec<u8>,
        /// Why.
        reason: &'static str,
    },
}

/// A good upgrade, before the listener or the limits had their say.
#[derive(Debug)]
pub struct Upgrade {
    /// Bytes of the head.
    pub head_len: usize,
    /// The client's address: its socket's, or what a trusted proxy says.
    pub ip: IpAddr,
    /// The same as text; with the port where it is the socket's.
    pub remote: String,
    /// Subprotocols, as offered.
    pub offers: Vec<String>,
    /// The one that the settings choose.
    pub chosen: Option<String>,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    accept: String,
}

impl Upgrade {
    /// What `onHandshake` says of it.
    pub fn asked_members(&self) -> Vec<u8> {
        event::request_members(self.request(), Subprotocol::Offered(&self.offers))
    }

    /// What `onClientOpen` says of it, and where the path stands in it.
    pub fn open_members(&self, protocol: Option<&str>) -> (Vec<u8>, usize) {
        let members = event::request_members(self.request(), Subprotocol::Chosen(protocol));
        let mut path = Vec::new();
        crate::listener::protocol::json::push_str(&mut path, &self.path);
        (members, path.len())
    }

    /// The path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The 101 with this subprotocol.
    pub fn switching_protocols(&self, protocol: Option<&str>) -> Vec<u8> {
        let mut out = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n",
            self.accept
        );
        if let Some(protocol) = protocol {
            out.push_str("Sec-WebSocket-Protocol: ");
            out.push_str(protocol);
            out.push_str("\r\n");
        }
        out.push_str("\r\n");
        out.into_bytes()
    }

    fn request(&self) -> Request<'_> {
        Request {
            path: &self.path,
            query: &self.query,
            remote: &self.remote,
            headers: &self.headers,
        }
    }
}

/// A whole HTTP answer after which the connection is closed. `extra` are header lines, each with
/// its `\r\n`.
pub fn answer(status: u16, extra: &str, body: &str) -> Vec<u8> {
    typed(status, "text/plain", extra, body)
}

fn typed(status: u16, kind: &str, extra: &str, body: &str) -> Vec<u8> {
    let phrase = StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason());
    format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n{extra}\r\n{body}",
        phrase.unwrap_or("Refused"),
        body.len()
    )
    .into_bytes()
}

/// The body of such an answer.
pub fn body(answer: &[u8]) -> Cow<'_, str> {
    let head = memchr::memmem::find(answer, b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    String::from_utf8_lossy(&answer[head..])
}

/// 503 with `Retry-After`.
pub fn unavailable(body: &str) -> Vec<u8> {
    answer(503, "Retry-After: 1\r\n", body)
}

fn refuse(status: u16, reason: &'static str, extra: &str, body: &str) -> Decision {
    Decision::Answer { response: answer(status, extra, body), reason }
}

const PAGE: &str = "<!doctype html>\n<title>wsgw</title>\n<p>This is a WebSocket server (wsgw). \
                    Connect with a WebSocket client, for example <code>wsgw connect</code>.</p>\n";

/// Where the head ends in `bytes`, looking only at what came after `seen` bytes. A lone `\n` ends a
/// line too (RFC 9112 section 2.2).
pub fn head_end(bytes: &[u8], seen: usize) -> Option<usize> {
    // Empty lines in front of the request are no end of it.
    let first = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n'))?;
    let from = seen.saturating_sub(2).max(first);
    memchr::memchr_iter(b'\n', &bytes[from..]).find_map(|at| match bytes[from + at + 1..] {
        [b'\n', ..] => Some(from + at + 2),
        [b'\r', b'\n', ..] => Some(from + at + 3),
        _ => None,
    })
}

/// Decides on a request; `seen` bytes of it were looked at before.
pub fn decide(
    bytes: &[u8],
    seen: usize,
    settings: &GatewaySettings,
    peer: SocketAddr,
    bound: IpAddr,
) -> Decision {
    let too_large = || {
        refuse(
            431,
            "head_too_large",
            "",
            "The request's head is too large (32 KiB, 100 headers).\n",
        )
    };
    // Waiting for the end of it would help nobody: a client that speaks TLS, most likely.
    if bytes.first().is_some_and(|b| !matches!(b, b'\r' | b'\n') && !is_token_byte(*b)) {
        return bad("this is no HTTP (a wss:// client on a port without TLS?)");
    }
    match head_end(bytes, seen) {
        None if bytes.len() >= MAX_HEAD => return too_large(),
        None => return Decision::Incomplete,
        Some(end) if end > MAX_HEAD => return too_large(),
        Some(_) => {}
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let head_len = match request.parse(bytes) {
        Ok(httparse::Status::Complete(size)) => size,
        // The head's end is there, so what is not complete by now never will be.
        Ok(httparse::Status::Partial) => return bad("the request cannot be read"),
        Err(httparse::Error::TooManyHeaders) => return too_large(),
        Err(e) => return bad(&format!("the request cannot be read: {e}")),
    };
    match read(&request, head_len, settings, peer, bound) {
        Ok(upgrade) => Decision::Upgrade(Box::new(upgrade)),
        Err(decision) => decision,
    }
}

fn bad(why: &str) -> Decision {
    refuse(400, "bad_request", "", &format!("Bad request: {why}.\n"))
}

fn read(
    request: &httparse::Request<'_, '_>,
    head_len: usize,
    settings: &GatewaySettings,
    peer: SocketAddr,
    bound: IpAddr,
) -> Result<Upgrade, Decision> {
    if request.method != Some("GET") {
        let text = "Only GET is answered here.\n";
        let mut response = answer(405, "Allow: GET\r\n", text);
        if request.method == Some("HEAD") {
            response.truncate(response.len() - text.len());
        }
        return Err(Decision::Answer { response, reason: "method" });
    }
    let header = |name: &str| Values { headers: request.headers, name: name.to_owned() };
    let old = request.version != Some(1);
    let host = match header("host").one() {
        Some(host) => host,
        None if old && !header("host").any() => String::new(),
        None => return Err(bad("exactly one Host header is needed")),
    };
    if header("transfer-encoding").any() || header("content-length").any_but("0") {
        return Err(bad("an upgrade has no body"));
    }
    let target = request.path.unwrap_or("/");
    let (path, query) = split_target(target).ok_or_else(|| bad("the target is no path"))?;

    let path_fits = settings.path.is_empty() || settings.path.iter().any(|p| glob(p, path));
    let upgrade = header("upgrade");
    if !upgrade.any() && !header("sec-websocket-key").any() {
        if path == "/" {
            let response = typed(200, "text/html", "", PAGE);
            return Err(Decision::Answer { response, reason: "" });
        }
        if !path_fits {
            return Err(refuse(404, "path", "", "No WebSocket here.\n"));
        }
        let extra = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";
        return Err(refuse(426, "no_upgrade", extra, "This is a WebSocket server (wsgw).\n"));
    }
    if !path_fits {
        return Err(refuse(404, "path", "", "No WebSocket here.\n"));
    }
    if old {
        return Err(bad("an upgrade needs HTTP/1.1"));
    }
    if !upgrade.any() {
        return Err(bad("the Upgrade header is missing (a proxy has to pass it on)"));
    }
    if !upgrade.has_token("websocket") || !header("connection").has_token("upgrade") {
        return Err(bad("it is no WebSocket upgrade"));
    }
    let key = header("sec-websocket-key").one();
    let key = key.filter(|k| KEY.decode(k).is_ok_and(|bytes| bytes.len() == 16));
    let version = header("sec-websocket-version").one();
    match version.as_deref() {
        None => return Err(bad("one Sec-WebSocket-Version is needed")),
        Some("13") => {}
        Some(_) => {
            let text = "Only WebSocket version 13 is spoken here.\n";
            return Err(refuse(426, "version", "Sec-WebSocket-Version: 13\r\n", text));
        }
    }
    let key = key.ok_or_else(|| bad("one Sec-WebSocket-Key of 16 bytes in base64 is needed"))?;

    let origin = header("origin").joined(", ");
    if !may_connect(origin.as_deref(), &host, bound, settings.allow_origin.as_deref()) {
        let text = format!(
            "The origin {:?} may not connect. The gateway's setting allow-origin says which may.\n",
            origin.unwrap_or_default()
        );
        return Err(refuse(403, "origin", "", &text));
    }
    let forwarded = settings
        .trusts(peer.ip())
        .then(|| header("x-forwarded-for").joined(", "))
        .flatten()
        .and_then(|list| last_untrusted(&list, settings));
    let (ip, remote) = match forwarded {
        Some(ip) => (ip, ip.to_string()),
        None => (peer.ip().to_canonical(), canonical(peer).to_string()),
    };
    let offers = header("sec-websocket-protocol").tokens();
    let chosen = match &settings.protocols {
        None => offers.first().cloned(),
        Some(list) => offers.iter().find(|offer| list.contains(offer)).cloned(),
    };
    Ok(Upgrade {
        head_len,
        ip,
        remote,
        chosen,
        path: path.to_owned(),
        query: query.to_owned(),
        headers: kept_headers(request.headers, &settings.headers),
        accept: derive_accept_key(key.as_bytes()),
        offers,
    })
}

/// An IPv4 client of an IPv6 socket is shown as what it is.
fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// The path and the query of a request target in origin form or absolute form.
fn split_target(target: &str) -> Option<(&str, &str)> {
    let local = if target.starts_with('/') {
        target
    } else {
        let (_, rest) = target.split_once("://")?;
        let slash = rest.find(['/', '?']).unwrap_or(rest.len());
        split_host(&rest[..slash])?;
        &rest[slash..]
    };
    let local = local.split('#').next().unwrap_or(local);
    if !local.starts_with('/') {
        // An absolute form may leave the path out.
        return Some(("/", local.strip_prefix('?').unwrap_or("")));
    }
    Some(local.split_once('?').unwrap_or((local, "")))
}

/// The last address of an `X-Forwarded-For` that no trusted proxy has. A malformed header counts
/// as absent.
fn last_untrusted(list: &str, settings: &GatewaySettings) -> Option<IpAddr> {
    let mut addresses: Vec<IpAddr> =
        list.split(',').map(|a| forwarded_address(a.trim())).collect::<Option<_>>()?;
    while let Some(address) = addresses.pop() {
        if !settings.trusts(address) {
            return Some(address.to_canonical());
        }
    }
    None
}

/// One address of an `X-Forwarded-For`: some proxies add the port, and brackets to IPv6.
fn forwarded_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    match bare {
        Some(v6) => v6.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => {
            let with_port = || text.parse::<SocketAddr>().ok().map(|a| a.ip());
            text.parse().ok().or_else(with_port)
        }
    }
}

/// The headers that are told, each name once, in the order of the request.
fn kept_headers(headers: &[httparse::Header<'_>], rules: &[HeaderRule]) -> Vec<(String, String)> {
    let mut kept: Vec<(String, String)> = Vec::new();
    for header in headers {
        let name = header.name.to_ascii_lowercase();
        let wanted = rules.iter().any(|rule| match rule {
            HeaderRule::All => true,
            HeaderRule::Prefix(prefix) => name.starts_with(prefix.as_str()),
            HeaderRule::Name(rule) => *rule == name,
        });
        if !wanted {
            continue;
        }
        let value = String::from_utf8_lossy(header.value);
        match kept.iter_mut().find(|(n, _)| *n == name) {
            Some((_, before)) => {
                before.push_str(if name == "cookie" { "; " } else { ", " });
                before.push_str(&value);
            }
            None => kept.push((name, value.into_owned())),
        }
    }
    kept
}

/// The values of one header.
struct Values<'a, 'h> {
    headers: &'a [httparse::Header<'h>],
    name: String,
}

impl Values<'_, '_> {
    fn each(&self) -> impl Iterator<Item = String> + '_ {
        self.headers
            .iter()
            .filter(|h| h.name.eq_ignore_ascii_case(&self.name))
            .map(|h| String::from_utf8_lossy(h.value).trim().to_owned())
    }

    fn any(&self) -> bool {
        self.each().next().is_some()
    }

    fn any_but(&self, harmless: &str) -> bool {
        self.each().any(|v| v != harmless)
    }

    fn one(&self) -> Option<String> {
        let mut each = self.each();
        let first = each.next()?;
        each.next().is_none().then_some(first)
    }

    fn joined(&self, separator: &str) -> Option<String> {
        let values: Vec<String> = self.each().collect();
        (!values.is_empty()).then(|| values.join(separator))
    }

    fn tokens(&self) -> Vec<String> {
        let tokens = |v: String| {
            v.split(',').map(|t| t.trim().to_owned()).filter(|t| is_token(t)).collect::<Vec<_>>()
        };
        self.each().flat_map(tokens).collect()
    }

    fn has_token(&self, token: &str) -> bool {
        self.tokens().iter().any(|t| t.eq_ignore_ascii_case(token))
    }
}

/// A token (RFC 9110 section 5.6.2).
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

fn is_token_byte(byte: u8) -> bool {
    const OTHERS: &[u8] = b"!#$%&'*+-.^_`|~";
    byte.is_ascii_alphanumeric() || OTHERS.contains(&byte)
}
