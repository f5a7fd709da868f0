//! The frames of the subprotocol `wsgw.v1`: what a web client gets instead of bare bodies. Pure.
//!
//! Each is one JSON object. [`text`] makes a WebSocket frame of it.

use bytes::Bytes;

use crate::gateway::posts::PostToken;
use crate::listener::protocol::channel::{Channel, push_names};
use crate::listener::protocol::connid::ConnId;
use crate::listener::protocol::frame::{push_at, push_message};
use crate::listener::protocol::json::push_u64;
use crate::text::position::Position;
use crate::ws::frame;
use crate::ws::payload::Payload;

/// What begins every connection.
pub(crate) struct Hello<'a> {
    /// The connection; `None` for a poll, which is none.
    pub(crate) conn: Option<ConnId>,
    /// Where the client is before what follows; `None` without a history.
    pub(crate) at: Option<Position>,
    /// Its channels.
    pub(crate) channels: &'a [Channel],
    /// Whether all behind the position that it gave follows; `None` if it gave none.
    pub(crate) recovered: Option<bool>,
    /// What the client of a stream proves with that it is the one who posts.
    pub(crate) post: Option<PostToken>,
}

fn push_recovered(out: &mut Vec<u8>, recovered: Option<bool>) {
    out.extend_from_slice(match recovered {
        Some(true) => b",\"recovered\":true",
        Some(false) => b",\"recovered\":false",
        None => b"",
    });
}

/// The first frame.
pub(crate) fn hello(hello: &Hello<'_>) -> Vec<u8> {
    let mut out = b"{\"hello\":1".to_vec();
    if let Some(conn) = hello.conn {
        out.extend_from_slice(b",\"conn\":\"");
        conn.write(&mut out);
        out.push(b'"');
    }
    push_at(&mut out, hello.at);
    out.extend_from_slice(b",\"channels\":");
    push_names(&mut out, hello.channels);
    push_recovered(&mut out, hello.recovered);
    if let Some(post) = hello.post {
        out.extend_from_slice(b",\"post\":\"");
        out.extend_from_slice(post.to_string().as_bytes());
        out.push(b'"');
    }
    out.push(b'}');
    out
}

/// A message.
pub(crate) fn message(
    payload: &Payload,
    channel: Option<&Channel>,
    at: Option<Position>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.bytes().len() + 64);
    push_message(&mut out, payload, channel, at);
    out
}

/// Says that the listener has put the client into channels.
pub(crate) fn joined(
    channels: &[Channel],
    at: Option<Position>,
    recovered: Option<bool>,
) -> Vec<u8> {
    let mut out = b"{\"joined\":".to_vec();
    push_names(&mut out, channels);
    push_at(&mut out, at);
    push_recovered(&mut out, recovered);
    out.push(b'}');
    out
}

/// Says to a channel's members that another one came, or went.
pub(crate) fn presence(joins: bool, channel: &Channel, conn: ConnId, members: u64) -> Vec<u8> {
    let mut out = if joins { b"{\"join\":\"".to_vec() } else { b"{\"leave\":\"".to_vec() };
    out.extend_from_slice(channel.as_str().as_bytes());
    out.extend_from_slice(b"\",\"conn\":\"");
    conn.write(&mut out);
    out.extend_from_slice(b"\",\"members\":");
    push_u64(&mut out, members);
    out.push(b'}');
    out
}

/// A WebSocket frame with one of these.
pub(crate) fn text(json: Vec<u8>) -> Bytes {
    // All of it is text by construction.
    frame::text(&String::from_utf8(json).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_documented_form() {
        let at = Position::parse("q7Zk2pYa-1040");
        let room = Channel::parse("room1").unwrap();
        let string = |json: Vec<u8>| String::from_utf8(json).unwrap();
        let first = Hello {
            conn: Some(ConnId(3)),
            at,
            channels: std::slice::from_ref(&room),
            recovered: Some(true),
            post: None,
        };
        assert_eq!(
            string(hello(&first)),
            r#"{"hello":1,"conn":"k3","at":"q7Zk2pYa-1040","channels":["room1"],"recovered":true}"#
        );
        let first = Hello { conn: None, at: None, channels: &[], recovered: None, post: None };
        assert_eq!(string(hello(&first)), r#"{"hello":1,"channels":[]}"#);
        assert_eq!(
            string(message(&Payload::text("h\"i\n"), Some(&room), at)),
            r#"{"message":"h\"i\n","channel":"room1","at":"q7Zk2pYa-1040"}"#
        );
        assert_eq!(
            string(message(&Payload::binary(&[0, 1, 2]), None, None)),
            r#"{"base64":"AAEC"}"#
        );
        assert_eq!(
            string(joined(std::slice::from_ref(&room), at, Some(false))),
            r#"{"joined":["room1"],"at":"q7Zk2pYa-1040","recovered":false}"#
        );
        assert_eq!(
            string(presence(true, &room, ConnId(9), 3)),
            r#"{"join":"room1","conn":"k9","members":3}"#
        );
    }
}
