//! A request's head: its bytes in, its parts out. Pure; the syntax of HTTP is `httparse`'s.

use std::borrow::Cow;

use httparse::Header;

use crate::net::host::split_host;
use crate::ws::reason::Reason;
use crate::ws::response::Response;
use crate::ws::response::{Refusal, bad_request};

/// The largest head of a request in bytes; a larger one is refused with 431.
pub const MAX_HEAD: usize = 32 * 1024;

/// The most headers of a request; more are refused with 431.
const MAX_HEADERS: usize = 100;

/// A request's head.
#[derive(Debug)]
pub(crate) struct Request<'b> {
    /// As it was written; methods are case-sensitive.
    pub(crate) method: &'b str,
    /// The request target as it was written.
    pub(crate) target: &'b str,
    /// Whether it is HTTP/1.1, not 1.0.
    pub(crate) http_1_1: bool,
    /// The headers in their order.
    pub(crate) headers: Vec<Header<'b>>,
    /// The size of the head in bytes, the empty line at its end included.
    pub(crate) size: usize,
}

/// Where the head ends in `bytes`, looking only at what came after `seen` bytes. A lone `\n` ends a
/// line too (RFC 9112 section 2.2).
fn head_end(bytes: &[u8], seen: usize) -> Option<usize> {
    // Empty lines in front of the request do not end it.
    let first = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n'))?;
    let from = seen.saturating_sub(2).max(first);
    memchr::memchr_iter(b'\n', &bytes[from..]).find_map(|at| match bytes[from + at + 1..] {
        [b'\n', ..] => Some(from + at + 2),
        [b'\r', b'\n', ..] => Some(from + at + 3),
        _ => None,
    })
}

impl<'b> Request<'b> {
    /// Reads a request's head from the front of `bytes`, of which `seen` were looked at before;
    /// `None` while its end is not there.
    ///
    /// # Errors
    /// 400 for what is not HTTP, 431 for a head over the bounds.
    pub(crate) fn read(bytes: &'b [u8], seen: usize) -> Result<Option<Request<'b>>, Refusal> {
        // Waiting for the end of it would help nobody: a client that speaks TLS, most likely.
        if bytes.first().is_some_and(|b| !matches!(b, b'\r' | b'\n') && !is_token_byte(*b)) {
            return Err(bad_request("this is not HTTP (a wss:// client on a port without TLS?)"));
        }
        match head_end(bytes, seen) {
            None if bytes.len() >= MAX_HEAD => return Err(too_large()),
            None => return Ok(None),
            Some(end) if end > MAX_HEAD => return Err(too_large()),
            Some(_) => {}
        }
        let mut room = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut room);
        let size = match request.parse(bytes) {
            Ok(httparse::Status::Complete(size)) => size,
            // The head's end is there, so what is not complete by now never will be.
            Ok(httparse::Status::Partial) => {
                return Err(bad_request("the request cannot be read"));
            }
            Err(httparse::Error::TooManyHeaders) => return Err(too_large()),
            Err(e) => return Err(bad_request(&format!("the request cannot be read: {e}"))),
        };
        Ok(Some(Request {
            method: request.method.unwrap_or_default(),
            target: request.path.unwrap_or("/"),
            http_1_1: request.version == Some(1),
            headers: request.headers.to_vec(),
            size,
        }))
    }

    /// The path and the query of the target, which is in origin form or in absolute form (RFC 9112
    /// section 3.2); `None` for another one.
    pub(crate) fn path_and_query(&self) -> Option<(&'b str, &'b str)> {
        let local = if self.target.starts_with('/') {
            self.target
        } else {
            let (_, rest) = self.target.split_once("://")?;
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

    /// Whether its client may send another one on the same connection (RFC 9112 section 9.3).
    pub(crate) fn keeps_alive(&self) -> bool {
        self.http_1_1 && !self.has_token("connection", "close")
    }

    /// The values of a header, one for each line it came in.
    pub(crate) fn values<'s>(&'s self, name: &'s str) -> impl Iterator<Item = Cow<'b, str>> + 's {
        let of_name = self.headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name));
        of_name.map(|header| match String::from_utf8_lossy(header.value) {
            Cow::Borrowed(value) => Cow::Borrowed(value.trim()),
            Cow::Owned(value) => Cow::Owned(value.trim().to_owned()),
        })
    }

    /// Whether the header is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    /// The value of a header that came once.
    pub(crate) fn one(&self, name: &str) -> Option<Cow<'b, str>> {
        let mut values = self.values(name);
        let first = values.next()?;
        values.next().is_none().then_some(first)
    }

    /// All values of a header as one (RFC 9110 section 5.3).
    pub(crate) fn joined(&self, name: &str) -> Option<String> {
        let values: Vec<_> = self.values(name).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The tokens of a header that is a list; what is not a token is left out.
    pub(crate) fn tokens(&self, name: &str) -> Vec<String> {
        let tokens = |value: Cow<'b, str>| {
            let items = value.split(',').map(|item| item.trim().to_owned());
            items.filter(|item| is_token(item)).collect::<Vec<_>>()
        };
        self.values(name).flat_map(tokens).collect()
    }

    /// The media types of a header like `Accept`, in lower case and without their parameters.
    pub(crate) fn media_types(&self, name: &str) -> impl Iterator<Item = String> {
        let list = self.joined(name).unwrap_or_default().to_ascii_lowercase();
        let kinds: Vec<String> = list
            .split(',')
            .map(|kind| kind.split(';').next().unwrap_or_default().trim().to_owned())
            .collect();
        kinds.into_iter()
    }

    /// Whether such a list has a token, in upper or lower case.
    pub(crate) fn has_token(&self, name: &str, token: &str) -> bool {
        self.tokens(name).iter().any(|t| t.eq_ignore_ascii_case(token))
    }
}

fn too_large() -> Refusal {
    let text = "The request's head is too large (32 KiB, 100 headers).\n";
    Refusal { response: Response::text(431, text), reason: Reason::HeadTooLarge }
}

/// Whether this is a token (RFC 9110 section 5.6.2): the name of a header, of a subprotocol, of an
/// extension.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

fn is_token_byte(byte: u8) -> bool {
    const OTHERS: &[u8] = b"!#$%&'*+-.^_`|~";
    byte.is_ascii_alphanumeric() || OTHERS.contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_head_is_found_wherever_the_pieces_end() {
        let head = b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\nrest";
        let end = head.len() - 4;
        for seen in 0..end {
            assert_eq!(head_end(head, seen), Some(end), "{seen}");
        }
        assert_eq!(head_end(b"GET / HTTP/1.1\nHost: x\n\n", 0), Some(24));
        assert_eq!(head_end(b"\r\n\r\n", 0), None, "nothing but empty lines");
        assert_eq!(head_end(b"GET / HTTP/1.1\r\n", 0), None);
    }

    #[test]
    fn lists_may_come_in_several_lines() {
        let bytes = b"GET /a?b#c HTTP/1.1\r\nX: a, b\r\nx:C ,,d e\r\nY: \r\n\r\n";
        let request = Request::read(bytes, 0).unwrap().unwrap();
        assert_eq!(request.tokens("x"), ["a", "b", "C"]);
        assert!(request.has_token("X", "c") && !request.has_token("X", "d"));
        assert_eq!(request.joined("x").as_deref(), Some("a, b, C ,,d e"));
        assert_eq!((request.one("x"), request.one("y").as_deref()), (None, Some("")));
        assert_eq!((request.has("y"), request.has("z")), (true, false));
        assert_eq!(request.path_and_query(), Some(("/a", "b")));
    }
}
