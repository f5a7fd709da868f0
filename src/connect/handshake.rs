//! The opening handshake, the client's side (RFC 6455, section 4.1).

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::connect::exit;
use crate::error::Failure;
use crate::text::escape::escape;
use crate::ws::deflate::offer;
use crate::ws::deflate::offer::{Agreed, BadAnswer, NAME};
use crate::ws::handshake::accept_key;

/// The largest head of an answer, and the most headers in it.
const HEAD: (usize, usize) = (64 * 1024, 256);

/// Bytes of a refusal's headers that are shown.
const HEADERS_SHOWN: usize = 8 * 1024;

/// Bytes of a refusal's body that are shown.
const BODY_SHOWN: usize = 1000;

/// How long a refusal's body is waited for.
const BODY_WAIT: Duration = Duration::from_millis(500);

/// Statuses of a redirect whose target may be asked in the same way.
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

/// A request with a key of its own.
pub(super) struct Request {
    path: String,
    headers: HeaderMap,
}

/// What the server answered.
pub(super) struct Answer {
    /// `HTTP/1.1 101 Switching Protocols`, escaped.
    pub(super) status: String,
    /// Its headers.
    pub(super) headers: HeaderMap,
}

/// How a handshake ended.
pub(super) enum Outcome {
    /// With an open WebSocket.
    Open {
        /// The 101.
        answer: Answer,
        /// What was agreed about compression.
        compression: Option<Agreed>,
        /// What the server sent behind its answer.
        early: Vec<u8>,
    },
    /// The server names another place.
    Redirect(Answer, String),
}

impl Request {
    /// A request for this path; `headers` holds all but the key.
    pub(super) fn new(path: &str, headers: &HeaderMap) -> Request {
        let mut headers = headers.clone();
        if !headers.contains_key("sec-websocket-key") {
            // Base64 is always a header's value.
            let key = HeaderValue::try_from(generate_key());
            headers.extend(key.ok().map(|key| (HeaderName::from_static("sec-websocket-key"), key)));
        }
        Request { path: path.to_owned(), headers }
    }

    /// The headers as `-v` shows them.
    pub(super) fn shown(&self, prefix: &str) -> String {
        header_lines(&self.headers, prefix)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = format!("GET {} HTTP/1.1\r\n", self.path).into_bytes();
        for (name, value) in &self.headers {
            out.extend_from_slice(usual_case(name).as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out
    }

    fn list(&self, name: &str) -> Vec<String> {
        list(&self.headers, name)
    }
}

/// The value of `Authorization` for `NAME:PASSWORD` (RFC 7617).
pub(super) fn basic(user: &[u8]) -> HeaderValue {
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(user)))
        .expect("base64 is printable ASCII");
    value.set_sensitive(true);
    value
}

/// `sec-websocket-key` as `Sec-WebSocket-Key`: some servers compare with it letter by letter.
fn usual_case(name: &HeaderName) -> String {
    let words = name.as_str().split('-').map(|word| match word {
        "websocket" => "WebSocket".to_owned(),
        _ => word[..word.len().min(1)].to_ascii_uppercase() + word.get(1..).unwrap_or(""),
    });
    words.collect::<Vec<_>>().join("-")
}

/// The elements of a header that is a list, whatever lines it came in.
fn list(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    let items = values.flat_map(|value| value.split(',')).map(|item| item.trim().to_owned());
    items.filter(|item| !item.is_empty()).collect()
}

/// Header lines, escaped, each with this in front.
pub(super) fn header_lines(headers: &HeaderMap, prefix: &str) -> String {
    let lines = headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        format!("{prefix}{name}: {}", escape(&value))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Shakes hands; without `follows` a redirect is a refusal.
///
/// # Errors
/// 3 when the connection breaks, 4 when the answer is a refusal or wrong.
pub(super) async fn shake(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin + ?Sized),
    url: &str,
    request: &Request,
    follows: bool,
) -> Result<Outcome, Failure> {
    let hint =
        if url.starts_with("ws://") { " (does it speak TLS? Then write wss://)" } else { "" };
    let broke = |e: std::io::Error| {
        let text = format!("the connection to {url} broke in the handshake: {e}{hint}");
        Failure::new(exit::NETWORK, text)
    };
    let wrong = |why: &str| {
        let text = format!(
            "{url} answered the handshake in a wrong way: {why}; is it a WebSocket server?"
        );
        Failure::new(exit::HANDSHAKE, text)
    };
    stream.write_all(&request.bytes()).await.map_err(broke)?;
    stream.flush().await.map_err(broke)?;
    let mut read = Vec::with_capacity(1024);
    loop {
        // The start of a TLS alert or handshake (RFC 8446, section 5.1).
        if let [21 | 22, 3, ..] = read[..] {
            let text = format!("{url} speaks TLS: write wss:// instead of ws://");
            return Err(Failure::new(exit::HANDSHAKE, text));
        }
        if let Some(head) = head(&read).map_err(|why| wrong(&why))? {
            let rest = read.split_off(head.size);
            match head.code {
                101 => {
                    let compression = check(request, &head).map_err(|why| wrong(&why))?;
                    return Ok(Outcome::Open { answer: head.answer, compression, early: rest });
                }
                // A word in between (RFC 9110 section 15.2): the answer follows.
                100..200 => {
                    read = rest;
                    continue;
                }
                _ => {}
            }
            match redirect(&head) {
                Some(location) if follows => return Ok(Outcome::Redirect(head.answer, location)),
                _ => return Err(refused(stream, url, head, rest).await),
            }
        }
        if read.len() >= HEAD.0 {
            return Err(wrong("its head does not end"));
        }
        if stream.read_buf(&mut read).await.map_err(broke)? == 0 {
            return Err(if read.is_empty() {
                let text = format!("{url} closed the connection in the handshake{hint}");
                Failure::new(exit::HANDSHAKE, text)
            } else {
                wrong(&format!(
                    "it closed the connection in the midst of it, after {:?}",
                    first_line(&read)
                ))
            });
        }
    }
}

/// The head of an answer.
pub(super) struct Head {
    /// Its bytes.
    pub(super) size: usize,
    version: u8,
    /// The status.
    pub(super) code: u16,
    /// What it says.
    pub(super) answer: Answer,
}

/// Where the answer leads, if it is a redirect.
fn redirect(head: &Head) -> Option<String> {
    let location = head.answer.headers.get("location").filter(|_| REDIRECTS.contains(&head.code));
    location.map(|location| String::from_utf8_lossy(location.as_bytes()).into_owned())
}

/// The start of an answer, for an error.
pub(super) fn first_line(bytes: &[u8]) -> String {
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    String::from_utf8_lossy(&line[..line.len().min(80)]).trim_end().to_owned()
}

/// The answer's head, once it is there.
///
/// # Errors
/// It is not one.
pub(super) fn head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let mut room = [httparse::EMPTY_HEADER; HEAD.1];
    let mut parsed = httparse::Response::new(&mut room);
    let size = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(e) => return Err(format!("{e} ({:?})", first_line(bytes))),
    };
    let mut headers = HeaderMap::new();
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_bytes(header.value);
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let (version, code) = (parsed.version.unwrap_or(0), parsed.code.unwrap_or(0));
    let reason = escape(parsed.reason.unwrap_or(""));
    let status = format!("HTTP/1.{version} {code} {reason}").trim_end().to_owned();
    Ok(Some(Head { size, version, code, answer: Answer { status, headers } }))
}

/// Whether a 101 opens the WebSocket that was asked for, and with which compression.
fn check(request: &Request, head: &Head) -> Result<Option<Agreed>, String> {
    let headers = &head.answer.headers;
    let has = |name: &str, token: &str| {
        list(headers, name).iter().any(|item| item.eq_ignore_ascii_case(token))
    };
    if head.version == 0 {
        return Err("HTTP/1.0 has no 101".to_owned());
    }
    if !has("upgrade", "websocket") {
        return Err("its 101 has no \"Upgrade: websocket\"".to_owned());
    }
    if !has("connection", "upgrade") {
        return Err("its 101 has no \"Connection: Upgrade\"".to_owned());
    }
    let key = request.headers.get("sec-websocket-key").map_or(&b""[..], HeaderValue::as_bytes);
    let expected = accept_key(key);
    match headers.get("sec-websocket-accept") {
        None => return Err("its 101 has no Sec-WebSocket-Accept".to_owned()),
        Some(value) if value.as_bytes() != expected.as_bytes() => {
            let value = String::from_utf8_lossy(value.as_bytes());
            return Err(format!(
                "its Sec-WebSocket-Accept is {:?}, not {expected:?}",
                cut(&value, 100)
            ));
        }
        Some(_) => {}
    }
    // A server that chose none of the subprotocols is not wrong; one that made its own up is.
    let offered = request.list("sec-websocket-protocol");
    let mut chosen = list(headers, "sec-websocket-protocol");
    if chosen.len() > 1 {
        return Err("it chose several subprotocols".to_owned());
    }
    if let Some(name) = chosen.pop().filter(|name| !offered.contains(name)) {
        return Err(format!(
            "it chose the subprotocol {:?}, which was not offered",
            cut(&name, 100)
        ));
    }
    compression(
        &request.list("sec-websocket-extensions"),
        &list(headers, "sec-websocket-extensions"),
    )
}

/// What the server chose of the extensions that were offered: compression, or none.
fn compression(offered: &[String], chosen: &[String]) -> Result<Option<Agreed>, String> {
    let name = |item: &str| item.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let offered: Vec<String> = offered.iter().map(|item| name(item)).collect();
    if let Some(other) = chosen.iter().find(|item| !offered.contains(&name(item))) {
        let other = other.split(';').next().unwrap_or("").trim();
        return Err(format!("it uses the extension {:?}, which was not offered", cut(other, 100)));
    }
    // What else the user offered with -H is the user's own affair.
    let chosen: Vec<&String> = chosen.iter().filter(|item| name(item) == NAME).collect();
    offer::agreed(&chosen).map_err(|BadAnswer| {
        let chosen: Vec<&str> = chosen.into_iter().map(String::as_str).collect();
        format!("its answer to permessage-deflate is {:?}", cut(&chosen.join(", "), 200))
    })
}

/// A refusal: its status, its headers and the start of its body.
async fn refused(
    stream: &mut (impl AsyncRead + Unpin + ?Sized),
    url: &str,
    head: Head,
    mut body: Vec<u8>,
) -> Failure {
    let headers = &head.answer.headers;
    let chunked =
        list(headers, "transfer-encoding").iter().any(|t| t.eq_ignore_ascii_case("chunked"));
    let length = headers.get("content-length").and_then(|n| n.to_str().ok()?.trim().parse().ok());
    let length = length.filter(|_| !chunked).unwrap_or(usize::MAX);
    let deadline = Instant::now() + BODY_WAIT;
    // Chunk heads take room, too.
    while body.len() < length.min(2 * BODY_SHOWN)
        && !(chunked && body.ends_with(b"0\r\n\r\n"))
        && let Ok(Ok(1..)) = timeout_at(deadline, stream.read_buf(&mut body)).await
    {}
    body.truncate(length);
    if chunked {
        body = dechunked(&body);
    }
    body.truncate(BODY_SHOWN);
    let body = String::from_utf8_lossy(&body);
    let body: Vec<String> = body.lines().map(|line| format!("  {}", escape(line))).collect();
    let hint = if redirect(&head).is_some() { " (-L follows redirects)" } else { "" };
    let text = format!(
        "{url} refused the handshake: {}{hint}\n{}\n{}",
        cut(&head.answer.status, BODY_SHOWN),
        cut(&header_lines(headers, "  "), HEADERS_SHOWN),
        body.join("\n")
    );
    Failure::new(exit::HANDSHAKE, text.trim_end())
}

/// The text, up to so many bytes, with a mark if it is longer.
pub(super) fn cut(text: &str, longest: usize) -> Cow<'_, str> {
    if text.len() <= longest {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(longest);
    Cow::Owned(format!("{} …", &text[..end]))
}

/// What the chunks hold, as far as they came.
fn dechunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Ok(httparse::Status::Complete((head, size))) = httparse::parse_chunk_size(bytes) {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let data = &bytes[head..];
        out.extend_from_slice(&data[..size.min(data.len())]);
        // Behind the data comes a line's end.
        match data.get(size.saturating_add(2)..) {
            Some(rest) if size > 0 => bytes = rest,
            _ => break,
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(offer: &[(&'static str, &'static str)], lines: &str) -> Result<(), String> {
        let mut headers = HeaderMap::new();
        for (name, value) in offer {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers.append("sec-websocket-key", HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        let request = Request::new("/", &headers);
        let text = format!("HTTP/1.1 101 X\r\n{}\r\n\r\n", lines.replace('\n', "\r\n"));
        check(&request, &head(text.as_bytes()).unwrap().unwrap()).map(|_| ())
    }

    const GOOD: &str = "UPGRADE: WebSocket\nConnection: keep-alive, upgrade\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    #[test]
    fn what_a_101_must_have() {
        assert_eq!(answered(&[], GOOD), Ok(()));
        for part in GOOD.lines() {
            assert!(answered(&[], &GOOD.replace(part, "x: y")).is_err(), "{part}");
        }
        assert!(answered(&[], &GOOD.replace("s3", "S3")).is_err());
    }

    #[test]
    fn a_subprotocol_or_an_extension_must_have_been_offered() {
        let offer = [("sec-websocket-protocol", "a, b"), ("sec-websocket-protocol", "c")];
        assert_eq!(answered(&offer, GOOD), Ok(()));
        for (name, good) in [("a", true), ("c", true), ("d", false), ("a, b", false)] {
            let answer = format!("{GOOD}\nSec-WebSocket-Protocol: {name}");
            assert_eq!(answered(&offer, &answer).is_ok(), good, "{name}");
            assert!(answered(&[], &answer).is_err(), "{name}");
        }
        let answer = format!("{GOOD}\nSec-WebSocket-Extensions: x; y=1");
        assert!(answered(&[], &answer).is_err());
        assert_eq!(answered(&[("sec-websocket-extensions", "x")], &answer), Ok(()));
    }

    #[test]
    fn chunks() {
        assert_eq!(dechunked(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"), b"abcde");
        assert_eq!(dechunked(b"a\r\nabc"), b"abc");
        assert_eq!(dechunked(b"ffffffffffffffff\r\nabc"), b"abc");
        assert_eq!(dechunked(b"zz"), b"");
    }

    #[test]
    fn names_are_written_as_most_write_them() {
        for (name, written) in
            [("host", "Host"), ("sec-websocket-key", "Sec-WebSocket-Key"), ("x-a--b", "X-A--B")]
        {
            assert_eq!(usual_case(&HeaderName::from_static(name)), written);
        }
    }
}
