//! The lines that the gateway writes to its listener.
//!
//! The key `id` is always the first and `event` the second. Every line ends with `\n` and contains no
//! other newline. Each function appends one line to `out`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::hooks::Hook;
use crate::listener::protocol::channel::{Channel, ChannelSet, push_names};
use crate::listener::protocol::connid::ConnId;
use crate::listener::protocol::json::{push_str, push_u64};

/// The body of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

fn start(out: &mut Vec<u8>, id: u64, hook: Hook, conn: Option<ConnId>) {
    out.extend_from_slice(b"{\"id\":");
    push_u64(out, id);
    out.extend_from_slice(b",\"event\":\"");
    out.extend_from_slice(hook.name().as_bytes());
    match conn {
        Some(conn) => {
            out.extend_from_slice(b"\",\"conn\":\"");
            conn.write(out);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"\",\"conn\":null"),
    }
}

/// The channels of the connection, if it is in any.
fn push_channels(out: &mut Vec<u8>, channels: &[Channel]) {
    if !channels.is_empty() {
        out.extend_from_slice(b",\"channels\":");
        push_names(out, channels);
    }
}

/// `onMessage` for a message of a client, which is in these channels.
pub fn message(out: &mut Vec<u8>, id: u64, conn: ConnId, body: Body<'_>, channels: &[Channel]) {
    start(out, id, Hook::OnMessage, Some(conn));
    out.extend_from_slice(b",\"message\":");
    match body {
        Body::Text(text) => push_str(out, text),
        Body::Binary(bytes) => {
            out.extend_from_slice(b"\"\",\"base64\":\"");
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            out.push(b'"');
        }
    }
    push_channels(out, channels);
    out.extend_from_slice(b"}\n");
}

/// `onMessage` for a push; `members` come from [`Push::members`](super::push::Push::members).
pub fn push(out: &mut Vec<u8>, id: u64, members: &[u8]) {
    start(out, id, Hook::OnMessage, None);
    out.extend_from_slice(members);
    out.extend_from_slice(b"}\n");
}

/// `onHandshake`; `members` come from [`request_members`].
pub fn handshake(out: &mut Vec<u8>, id: u64, conn: ConnId, members: &[u8]) {
    start(out, id, Hook::OnHandshake, Some(conn));
    out.extend_from_slice(b",\"message\":\"\",");
    out.extend_from_slice(members);
    out.extend_from_slice(b"}\n");
}

/// The channels that the URL of an asked connection names: the `join` that is the last of the `members`
/// of its `onHandshake`, or of that line.
pub(crate) fn asked_channels(members: &[u8]) -> ChannelSet {
    let members = members.strip_suffix(b"}\n").unwrap_or(members);
    if !members.ends_with(b"]") {
        return ChannelSet::default();
    }
    // No name contains a `[`, and within a JSON string the quotes of the key would be escaped.
    let start = members.iter().rposition(|byte| *byte == b'[');
    let names = start.filter(|at| members[..*at].ends_with(b",\"join\":"));
    let names: Vec<&str> =
        names.and_then(|at| serde_json::from_slice(&members[at..]).ok()).unwrap_or_default();
    ChannelSet::new(names.into_iter().filter_map(Channel::parse).collect())
}

/// `onClientOpen` of a connection that is in these channels; `members` come from [`request_members`].
/// If an earlier incarnation was told of the connection, `resumed` is the `left` of the line.
pub fn open(
    out: &mut Vec<u8>,
    id: u64,
    conn: ConnId,
    channels: &[Channel],
    members: &[u8],
    resumed: Option<u64>,
) {
    start(out, id, Hook::OnClientOpen, Some(conn));
    out.extend_from_slice(b",\"message\":\"\"");
    push_channels(out, channels);
    out.push(b',');
    out.extend_from_slice(members);
    if let Some(left) = resumed {
        out.extend_from_slice(b",\"resumed\":true,\"left\":");
        push_u64(out, left);
    }
    out.extend_from_slice(b"}\n");
}

/// `onJoin`: the connection has joined a channel, which has so many members now.
pub(crate) fn joined(out: &mut Vec<u8>, id: u64, conn: ConnId, channel: &Channel, members: u64) {
    start(out, id, Hook::OnJoin, Some(conn));
    push_member_count(out, channel, members);
    out.extend_from_slice(b"}\n");
}

/// `onLeave`: the connection has left a channel, which has so many members now. `reason` needs no
/// escaping.
pub(crate) fn left(
    out: &mut Vec<u8>,
    id: u64,
    conn: ConnId,
    channel: &Channel,
    members: u64,
    reason: &str,
) {
    start(out, id, Hook::OnLeave, Some(conn));
    push_member_count(out, channel, members);
    out.extend_from_slice(b",\"reason\":\"");
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\"}\n");
}

fn push_member_count(out: &mut Vec<u8>, channel: &Channel, members: u64) {
    out.extend_from_slice(b",\"message\":\"\",\"channel\":\"");
    out.extend_from_slice(channel.as_str().as_bytes());
    out.extend_from_slice(b"\",\"members\":");
    push_u64(out, members);
}

/// `onClientClose` of a connection that was in these channels: the code, the reason, and whether both
/// sides sent a Close.
pub(crate) fn close(
    out: &mut Vec<u8>,
    id: u64,
    conn: ConnId,
    channels: &[Channel],
    (code, reason, clean): (u16, &str, bool),
) {
    start(out, id, Hook::OnClientClose, Some(conn));
    out.extend_from_slice(b",\"message\":\"\"");
    push_channels(out, channels);
    out.extend_from_slice(b",\"code\":");
    push_u64(out, u64::from(code));
    out.extend_from_slice(b",\"reason\":");
    push_str(out, reason);
    out.extend_from_slice(if clean { b",\"clean\":true}\n" } else { b",\"clean\":false}\n" });
}

/// The line of an event that the next incarnation is sent again, marked with `"redelivered":true`.
pub fn redelivered(line: &[u8]) -> Vec<u8> {
    let mut again = Vec::with_capacity(line.len() + 20);
    again.extend_from_slice(line.strip_suffix(b"}\n").unwrap_or(line));
    if !again.ends_with(b",\"redelivered\":true") {
        again.extend_from_slice(b",\"redelivered\":true");
    }
    again.extend_from_slice(b"}\n");
    again
}

/// The parts of an upgrade request that `onHandshake` and `onClientOpen` contain.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The path, without the query.
    pub path: &'a str,
    /// The query, without its `?`.
    pub query: &'a str,
    /// The client's `ADDR:PORT`, or only its address if a trusted proxy named it.
    pub remote: &'a str,
    /// Lower-case names with their values, each name once, in the order of the request.
    pub headers: &'a [(String, String)],
    /// How the client is connected, where that is told.
    pub transport: Option<&'a str>,
}

/// The subprotocols that the two events contain.
#[derive(Debug, Clone, Copy)]
pub enum Subprotocol<'a> {
    /// For `onHandshake`: those that the client offers.
    Offered(&'a [String]),
    /// For `onClientOpen`: the one that was chosen, if any.
    Chosen(Option<&'a str>),
}

/// The members of `onHandshake` or `onClientOpen` that describe the request, without the braces of an
/// object.
pub fn request_members(request: Request<'_>, subprotocol: Subprotocol<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    out.extend_from_slice(b"\"path\":");
    push_str(&mut out, request.path);
    out.extend_from_slice(b",\"query\":");
    push_str(&mut out, request.query);
    out.extend_from_slice(b",\"remote\":");
    push_str(&mut out, request.remote);
    if let Some(transport) = request.transport {
        out.extend_from_slice(b",\"transport\":\"");
        out.extend_from_slice(transport.as_bytes());
        out.push(b'"');
    }
    match subprotocol {
        Subprotocol::Offered(offers) => {
            out.extend_from_slice(b",\"protocols\":[");
            for (i, offer) in offers.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                push_str(&mut out, offer);
            }
            out.push(b']');
        }
        Subprotocol::Chosen(chosen) => {
            out.extend_from_slice(b",\"protocol\":");
            // As in the browser's API, an empty string means that there is none.
            push_str(&mut out, chosen.unwrap_or(""));
        }
    }
    out.extend_from_slice(b",\"headers\":{");
    for (i, (name, value)) in request.headers.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push_str(&mut out, name);
        out.push(b':');
        push_str(&mut out, value);
    }
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_lines_have_the_documented_form() {
        let headers = [("origin".to_owned(), "https://x".to_owned())];
        let request = Request {
            path: "/chat",
            query: "room=1",
            remote: "203.0.113.9:5151",
            headers: &headers,
            transport: None,
        };
        let offers = ["json".to_owned()];
        let k3 = ConnId(3);
        assert_eq!(
            line(|o| handshake(o, 1, k3, &request_members(request, Subprotocol::Offered(&offers)))),
            concat!(
                r#"{"id":1,"event":"onHandshake","conn":"k3","message":"","path":"/chat","#,
                r#""query":"room=1","remote":"203.0.113.9:5151","protocols":["json"],"#,
                r#""headers":{"origin":"https://x"}}"#,
                "\n"
            )
        );
        let members = request_members(request, Subprotocol::Chosen(Some("json")));
        assert_eq!(
            line(|o| open(o, 2, k3, &[], &members, Some(0))),
            concat!(
                r#"{"id":2,"event":"onClientOpen","conn":"k3","message":"","path":"/chat","#,
                r#""query":"room=1","remote":"203.0.113.9:5151","protocol":"json","#,
                r#""headers":{"origin":"https://x"},"resumed":true,"left":0}"#,
                "\n"
            )
        );
        assert_eq!(
            line(|o| message(o, 3, k3, Body::Text("hi\n"), &[])),
            "{\"id\":3,\"event\":\"onMessage\",\"conn\":\"k3\",\"message\":\"hi\\n\"}\n"
        );
        assert_eq!(
            line(|o| message(o, 4, k3, Body::Binary(&[0, 1, 2, 255]), &[])),
            "{\"id\":4,\"event\":\"onMessage\",\"conn\":\"k3\",\"message\":\"\",\"base64\":\"AAEC/w==\"}\n"
        );
        assert_eq!(
            line(|o| close(o, 6, k3, &[], (1001, "", true))),
            "{\"id\":6,\"event\":\"onClientClose\",\"conn\":\"k3\",\"message\":\"\",\"code\":1001,\"reason\":\"\",\"clean\":true}\n"
        );
    }

    #[test]
    fn the_channels_of_a_url_are_read_back() {
        let headers = |value: &str| [("join".to_owned(), value.to_owned())];
        for (value, names) in [
            ("x", Vec::new()),
            (r#","join":["fake"]"#, Vec::new()),
            (r#","join":["fake"]"#, vec!["a", "b:1"]),
            ("", vec!["a"]),
        ] {
            let headers = headers(value);
            let request =
                Request { path: "/[", query: "[", remote: "", headers: &headers, transport: None };
            let mut members = request_members(request, Subprotocol::Offered(&[]));
            let names: Vec<Channel> = names.iter().map(|n| Channel::parse(n).unwrap()).collect();
            if !names.is_empty() {
                members.extend_from_slice(b",\"join\":");
                push_names(&mut members, &names);
            }
            let expected = ChannelSet::new(names);
            assert_eq!(asked_channels(&members), expected);
            assert_eq!(
                asked_channels(line(|o| handshake(o, 1, ConnId(3), &members)).as_bytes()),
                expected
            );
        }
        assert_eq!(asked_channels(b""), ChannelSet::default());
        assert_eq!(asked_channels(b",\"protocols\":[\"a\"]"), ChannelSet::default());
    }

    #[test]
    fn channels_stand_behind_the_message() {
        let channels = ["lobby", "room1"].map(|name| Channel::parse(name).unwrap());
        let (k3, room1) = (ConnId(3), &channels[1]);
        assert_eq!(
            line(|o| open(o, 2, k3, &channels, b"\"path\":\"/\"", None)),
            concat!(
                r#"{"id":2,"event":"onClientOpen","conn":"k3","message":"","#,
                r#""channels":["lobby","room1"],"path":"/"}"#,
                "\n"
            )
        );
        assert_eq!(
            line(|o| message(o, 3, k3, Body::Binary(b"x"), &channels[1..])),
            concat!(
                r#"{"id":3,"event":"onMessage","conn":"k3","message":"","base64":"eA==","#,
                r#""channels":["room1"]}"#,
                "\n"
            )
        );
        assert_eq!(
            line(|o| close(o, 6, k3, &channels[1..], (1006, "", false))),
            concat!(
                r#"{"id":6,"event":"onClientClose","conn":"k3","message":"","channels":["room1"],"#,
                r#""code":1006,"reason":"","clean":false}"#,
                "\n"
            )
        );
        assert_eq!(
            line(|o| joined(o, 7, k3, room1, 3)),
            concat!(
                r#"{"id":7,"event":"onJoin","conn":"k3","message":"","channel":"room1","#,
                r#""members":3}"#,
                "\n"
            )
        );
        assert_eq!(
            line(|o| left(o, 8, k3, room1, 2, "closed")),
            concat!(
                r#"{"id":8,"event":"onLeave","conn":"k3","message":"","channel":"room1","#,
                r#""members":2,"reason":"closed"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_line_that_is_redelivered_twice_is_marked_once() {
        let first = line(|o| message(o, 3, ConnId(3), Body::Text("hi"), &[]));
        let again = redelivered(first.as_bytes());
        assert!(again.ends_with(b",\"message\":\"hi\",\"redelivered\":true}\n"));
        assert_eq!(redelivered(&again), again);
    }
}
