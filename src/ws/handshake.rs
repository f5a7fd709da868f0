//! The opening handshake (RFC 6455 section 4): what a request must have to be upgraded, the accept
//! key, and the 101.
//!
//! Who is admitted beyond that (paths, origins, limits, the listener's word) is the gateway's
//! affair, not the protocol's: `gateway::hub::admission`.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use sha1::{Digest, Sha1};

use crate::ws::deflate::offer::Answer;
use crate::ws::reason::Reason;
use crate::ws::request::Request;
pub(crate) use crate::ws::request::is_token;
use crate::ws::response::{Refusal, Response, bad_request};

/// The subprotocol in which clients get JSON frames with channel and position instead of bare bodies.
pub const FRAMES: &str = "wsgw.v1";

/// What the accept key's hash has behind the client's key (RFC 6455 section 1.3).
const ACCEPT_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Base64 whose last digit may have bits that do not belong to the bytes: some clients draw their
/// key as text, and so does the example of RFC 6455 section 4.1.
const KEY: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455 section 4.2.2).
pub(crate) fn accept_key(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(ACCEPT_SUFFIX).finalize())
}

/// Whether the request asks for an upgrade, be it a good one or a bad one.
pub(crate) fn is_attempted(request: &Request<'_>) -> bool {
    request.has("upgrade") || request.has("sec-websocket-key")
}

/// Checks what every GET must have (RFC 9112 section 3.2), and that it has no body.
///
/// # Errors
/// 400.
pub(crate) fn check_request(request: &Request<'_>) -> Result<(), Refusal> {
    check_host(request)?;
    if request.has("transfer-encoding") || request.values("content-length").any(|n| n != "0") {
        return Err(bad_request("a request has no body here"));
    }
    Ok(())
}

/// Checks what every request must have (RFC 9112 section 3.2).
///
/// # Errors
/// 400.
pub(crate) fn check_host(request: &Request<'_>) -> Result<(), Refusal> {
    let hosts = request.values("host").count();
    if hosts > 1 || hosts == 0 && request.http_1_1 {
        return Err(bad_request("exactly one Host header is needed"));
    }
    Ok(())
}

/// The key of a good upgrade (RFC 6455 section 4.2.1).
///
/// # Errors
/// 400 for a bad one, 426 for another version of the protocol.
pub(crate) fn check_upgrade(request: &Request<'_>) -> Result<String, Refusal> {
    if !request.http_1_1 {
        return Err(bad_request("an upgrade needs HTTP/1.1"));
    }
    if !request.has("upgrade") {
        return Err(bad_request("the Upgrade header is missing (a proxy has to pass it on)"));
    }
    if !request.has_token("upgrade", "websocket") || !request.has_token("connection", "upgrade") {
        return Err(bad_request("it is not a WebSocket upgrade"));
    }
    match request.one("sec-websocket-version").as_deref() {
        None => return Err(bad_request("one Sec-WebSocket-Version is needed")),
        Some("13") => {}
        Some(_) => {
            let text = "Only WebSocket version 13 is spoken here.\n";
            return Err(Refusal { response: Response::text(426, text), reason: Reason::Version });
        }
    }
    let key = request.one("sec-websocket-key");
    let key = key.filter(|key| KEY.decode(&**key).is_ok_and(|bytes| bytes.len() == 16));
    let missing = || bad_request("one Sec-WebSocket-Key of 16 bytes in base64 is needed");
    key.map(|key| key.into_owned()).ok_or_else(missing)
}

/// The 101 for a client's key, with the subprotocol that was chosen, and what is said to an offer of
/// compression.
pub(crate) fn switching_protocols(
    key: &str,
    protocol: Option<&str>,
    deflate: Option<Answer>,
) -> Vec<u8> {
    let mut out = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n",
        accept_key(key.as_bytes())
    );
    if let Some(protocol) = protocol {
        out.push_str("Sec-WebSocket-Protocol: ");
        out.push_str(protocol);
        out.push_str("\r\n");
    }
    if let Some(answer) = deflate {
        out.push_str("Sec-WebSocket-Extensions: ");
        out.push_str(&answer.header());
        out.push_str("\r\n");
    }
    out.push_str("\r\n");
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [&str; 6] = [
        "GET / HTTP/1.1",
        "Host: x",
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];

    fn status(lines: &[&str]) -> u16 {
        let text = format!("{}\r\n\r\n", lines.join("\r\n"));
        let request = Request::read(text.as_bytes(), 0).unwrap().unwrap();
        match check_request(&request).and_then(|()| check_upgrade(&request)) {
            Ok(key) => {
                assert_eq!(key, "dGhlIHNhbXBsZSBub25jZQ==");
                101
            }
            Err(refusal) => refusal.response.status(),
        }
    }

    #[test]
    fn the_key_of_the_rfc_has_the_answer_of_the_rfc() {
        assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn every_header_of_an_upgrade_is_needed_once() {
        assert_eq!(status(&GOOD), 101);
        for i in 1..GOOD.len() {
            let mut without = GOOD.to_vec();
            let line = without.remove(i);
            assert_eq!(status(&without), 400, "without {line}");
            // Of a list there may be several lines.
            let twice = [&GOOD[..], &[line]].concat();
            let expected = if matches!(i, 2 | 3) { 101 } else { 400 };
            assert_eq!(status(&twice), expected, "{line} twice");
        }
        assert_eq!(status(&[&GOOD[..4], &["Sec-WebSocket-Version: 8", GOOD[5]]].concat()), 426);
        assert_eq!(status(&[&["GET / HTTP/1.0"], &GOOD[1..]].concat()), 400);
        assert_eq!(status(&[&GOOD[..], &["Content-Length: 1"]].concat()), 400);
        assert_eq!(status(&[&GOOD[..], &["Content-Length: 0"]].concat()), 101);
    }
}
