//! The HTTP answers of a gateway's port other than 101, with the headers that HTTP asks of each
//! status. A refusal ends the connection.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::SystemTime;

use http::StatusCode;

use crate::ws::reason::Reason;

/// The methods that a gateway's port answers, as an `Allow` header has them.
const ALLOW: &str = "GET, HEAD, OPTIONS";

/// The same where streams are served.
const ALLOW_POST: &str = "GET, HEAD, OPTIONS, POST";

/// Further headers of an answer.
pub(crate) type Headers = Vec<(&'static str, Cow<'static, str>)>;

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    status: u16,
    /// The type of the body; `None` for the answer to OPTIONS, which has none.
    kind: Option<&'static str>,
    body: Cow<'static, str>,
    /// Whether the body is left out, its length stated all the same.
    headers_only: bool,
    /// Whether GET's body would have no known length.
    endless: bool,
    /// Whether POST is among the methods that are answered.
    posts: bool,
    /// Whether the connection stays open for the next request.
    keeps_alive: bool,
    more: Headers,
}

impl Response {
    /// A text, as all refusals have it.
    pub(crate) fn text(status: u16, body: impl Into<Cow<'static, str>>) -> Response {
        Response {
            status,
            kind: Some("text/plain; charset=utf-8"),
            body: body.into(),
            headers_only: false,
            endless: false,
            posts: false,
            keeps_alive: false,
            more: Headers::new(),
        }
    }

    /// A page, with 200.
    pub(crate) fn page(body: &'static str) -> Response {
        Response { kind: Some("text/html; charset=utf-8"), ..Response::text(200, body) }
    }

    /// A file that is part of the program; the connection may stay open.
    pub(crate) fn asset(kind: &'static str, text: &'static str) -> Response {
        Response { kind: Some(kind), keeps_alive: true, ..Response::text(200, text) }
    }

    /// 304: the client has the file already.
    pub(crate) fn not_modified() -> Response {
        Response { kind: None, keeps_alive: true, endless: true, ..Response::text(304, "") }
    }

    /// Frames, a line each, with 200.
    pub(crate) fn ndjson(body: String) -> Response {
        Response { kind: Some("application/x-ndjson"), ..Response::text(200, body) }
    }

    /// 204: it is done, and there is nothing to say.
    pub(crate) fn no_content() -> Response {
        Response { kind: None, endless: true, ..Response::text(204, "") }
    }

    /// The head of an answer that ends with the connection, with 200; for HEAD.
    pub(crate) fn endless(kind: &'static str) -> Response {
        Response { kind: Some(kind), endless: true, ..Response::text(200, "") }
    }

    /// The answer to OPTIONS: the methods, and no body (RFC 9110 section 9.3.7).
    pub(crate) fn options() -> Response {
        Response { kind: None, ..Response::text(200, "") }
    }

    /// The same in answer to HEAD: all headers, no body (RFC 9110 section 9.3.2).
    #[must_use]
    pub(crate) fn without_body(mut self) -> Response {
        self.headers_only = true;
        self
    }

    /// The same with further headers.
    #[must_use]
    pub(crate) fn with(mut self, headers: &Headers) -> Response {
        self.more.extend(headers.iter().cloned());
        self
    }

    /// The same where POST is answered as well.
    #[must_use]
    pub(crate) fn with_post(mut self, posts: bool) -> Response {
        self.posts = posts;
        self
    }

    /// The same after which the connection stays open for the next request, or not.
    #[must_use]
    pub(crate) fn keep_alive(mut self, keeps_alive: bool) -> Response {
        self.keeps_alive = keeps_alive;
        self
    }

    /// Whether the connection stays open for the next request.
    pub(crate) fn keeps_alive(&self) -> bool {
        self.keeps_alive
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body, whether it is sent or not.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// The bytes to send at this time.
    pub fn encode(&self, now: SystemTime) -> Vec<u8> {
        let Response { status, kind, body, headers_only, endless, posts, keeps_alive, more } = self;
        let phrase = StatusCode::from_u16(*status).ok().and_then(|s| s.canonical_reason());
        let mut out = String::with_capacity(320 + body.len());
        // Writing to a String cannot fail.
        let _ = write!(out, "HTTP/1.1 {status} {}\r\n", phrase.unwrap_or("Refused"));
        let _ = write!(out, "Date: {}\r\n", httpdate::fmt_http_date(now));
        if let Some(kind) = kind {
            let _ = write!(out, "Content-Type: {kind}\r\n");
        }
        if !endless {
            let _ = write!(out, "Content-Length: {}\r\n", body.len());
        }
        if kind.is_none() && *status == 200 || *status == 405 {
            let _ = write!(out, "Allow: {}\r\n", if *posts { ALLOW_POST } else { ALLOW });
        }
        for (name, value) in required_headers(*status) {
            let _ = write!(out, "{name}: {value}\r\n");
        }
        for (name, value) in more {
            let _ = write!(out, "{name}: {value}\r\n");
        }
        // 426 is about an upgrade, which has to be named here as well (RFC 9110 section 7.8).
        out.push_str(match status {
            426 => "Connection: Upgrade, close\r\n\r\n",
            _ if *keeps_alive => "\r\n",
            _ => "Connection: close\r\n\r\n",
        });
        if !headers_only {
            out.push_str(body);
        }
        out.into_bytes()
    }
}

/// What an answer with this status has to say beside its body. The listener's refusals have any
/// status from 400 to 599, so the table is longer than what the gateway itself answers.
fn required_headers(status: u16) -> &'static [(&'static str, &'static str)] {
    match status {
        // RFC 9110 section 15.5.2. A scheme for which no browser asks its user for a password.
        401 => &[("WWW-Authenticate", "Bearer realm=\"wsgw\"")],
        // Section 15.5.8.
        407 => &[("Proxy-Authenticate", "Bearer realm=\"wsgw\"")],
        // Section 15.5.22, and RFC 6455 section 4.2.2 for the version.
        426 => &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")],
        // RFC 6585 section 4 and RFC 9110 section 15.6.4: what is full or down now may soon not be.
        429 | 503 => &[("Retry-After", "1")],
        _ => &[],
    }
}

/// A request that is answered instead of being upgraded.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The whole answer.
    pub(crate) response: Response,
    /// Why, for the metrics.
    pub(crate) reason: Reason,
}

/// 400, with what is wrong.
pub(crate) fn bad_request(why: &str) -> Refusal {
    Refusal {
        response: Response::text(400, format!("Bad request: {why}.\n")),
        reason: Reason::BadRequest,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn encoded(response: &Response) -> String {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        String::from_utf8(response.encode(now)).unwrap()
    }

    #[test]
    fn every_status_has_the_headers_that_http_asks_for() {
        for status in 400..600 {
            let text = encoded(&Response::text(status, "why\n"));
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")));
            assert!(head.contains("\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"));
            assert!(head.contains("\r\nContent-Type: text/plain; charset=utf-8\r\n"));
            assert!(head.contains("\r\nContent-Length: 4\r\n"));
            assert_eq!(body, "why\n");
            let has = |line: &str| head.lines().any(|l| l == line);
            assert_eq!(has("Connection: close"), status != 426);
            assert_eq!(has("Connection: Upgrade, close"), status == 426);
            assert_eq!(has("Upgrade: websocket"), status == 426);
            assert_eq!(has("Sec-WebSocket-Version: 13"), status == 426);
            assert_eq!(has("Allow: GET, HEAD, OPTIONS"), status == 405);
            assert_eq!(has("Retry-After: 1"), matches!(status, 429 | 503));
            assert_eq!(head.contains("\r\nWWW-Authenticate: "), status == 401);
        }
    }

    #[test]
    fn head_has_the_length_but_not_the_body() {
        let get = encoded(&Response::page("<p>ä</p>"));
        let head = encoded(&Response::page("<p>ä</p>").without_body());
        assert!(head.contains("\r\nContent-Length: 9\r\n"));
        assert_eq!(format!("{head}<p>ä</p>"), get);
    }

    #[test]
    fn options_names_the_methods() {
        let text = encoded(&Response::options());
        assert!(text.contains("\r\nAllow: GET, HEAD, OPTIONS\r\n"));
        assert!(text.contains("\r\nContent-Length: 0\r\n") && !text.contains("Content-Type"));
    }
}
