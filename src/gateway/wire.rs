//! The bytes that a connection gets of a message: a WebSocket frame, or what a stream over plain HTTP
//! is made of. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::gateway::frames;
use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::frame::push_position;
use crate::listener::protocol::json::{push_str, push_u64};
use crate::text::position::Position;
use crate::ws::close;
use crate::ws::deflate::compress::Compressors;
use crate::ws::payload::Payload;

/// How a connection is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub(crate) enum Form {
    /// WebSocket frames with bare bodies.
    #[default]
    Bare,
    /// WebSocket frames with the JSON of the subprotocol `wsgw.v1`.
    Framed,
    /// Server-sent events (HTML Living Standard, section 9.2), each with such a JSON.
    Sse,
    /// Such a JSON in each line.
    Lines,
    /// A body in each line.
    Raw,
}

/// The bytes that a connection gets of a message: all with the same get the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Wire {
    /// How it is spoken to.
    pub(crate) form: Form,
    /// The window of its compression in bits (RFC 7692), 9 to 15; 0 without compression.
    pub(crate) deflate: u8,
}

impl Wire {
    /// The same without compression.
    pub(crate) fn plain(self) -> Wire {
        Wire { deflate: 0, ..self }
    }
}

impl Form {
    /// Whether it is a stream over plain HTTP.
    pub(crate) fn is_stream(self) -> bool {
        matches!(self, Form::Sse | Form::Lines | Form::Raw)
    }

    /// Whether messages come with their channel and position, beside frames that are no messages.
    pub(crate) fn has_frames(self) -> bool {
        matches!(self, Form::Framed | Form::Sse | Form::Lines)
    }

    /// The name of the transport.
    pub(crate) fn transport(self) -> &'static str {
        match self {
            Form::Bare | Form::Framed => "websocket",
            Form::Sse => "sse",
            Form::Lines => "lines",
            Form::Raw => "raw",
        }
    }

    /// A message. `channel` and `at` are for the forms that have frames.
    pub(crate) fn message(
        self,
        payload: &Payload,
        channel: Option<&Channel>,
        at: Option<Position>,
    ) -> Bytes {
        match self {
            Form::Bare => payload.websocket().clone(),
            Form::Framed => frames::text(frames::message(payload, channel, at)),
            Form::Sse => event("", at, &frames::message(payload, channel, at)).into(),
            Form::Lines => line(frames::message(payload, channel, at)),
            Form::Raw => {
                let mut out = Vec::with_capacity(payload.bytes().len() + 1);
                push_raw(&mut out, payload);
                line(out)
            }
        }
    }

    /// A frame that is no message and not the hello; `None` where there are no frames.
    pub(crate) fn frame(self, json: &[u8]) -> Option<Bytes> {
        match self {
            Form::Framed => Some(frames::text(json.to_vec())),
            Form::Sse => Some(event("", None, json).into()),
            Form::Lines => Some(line(json.to_vec())),
            Form::Bare | Form::Raw => None,
        }
    }

    /// The hello; `None` where there are no frames.
    pub(crate) fn hello(self, json: &[u8], at: Option<Position>) -> Option<Bytes> {
        match self {
            Form::Sse => {
                let mut out = b"retry: 2000\n".to_vec();
                out.extend_from_slice(&event("hello", at, json));
                Some(out.into())
            }
            form => form.frame(json),
        }
    }

    /// What a stream is sent while nothing else is.
    pub(crate) fn keepalive(self) -> Bytes {
        Bytes::from_static(match self {
            Form::Sse => b":\n\n",
            Form::Lines => b"{}\n",
            Form::Raw => b"\n",
            Form::Bare | Form::Framed => b"",
        })
    }

    /// The last thing that a stream is sent; empty for bodies alone, which would be taken for one.
    pub(crate) fn close(self, code: u16, reason: &str) -> Bytes {
        let json = |key: &str| {
            let mut json = Vec::new();
            json.extend_from_slice(key.as_bytes());
            push_u64(&mut json, u64::from(code));
            json.extend_from_slice(b",\"reason\":");
            push_str(&mut json, close::cut_reason(reason));
            json.push(b'}');
            json
        };
        match self {
            Form::Sse => event("close", None, &json("{\"code\":")).into(),
            Form::Lines => line(json("{\"close\":")),
            Form::Bare | Form::Framed | Form::Raw => Bytes::new(),
        }
    }
}

/// An event of a stream of them. `json` has no newline.
fn event(name: &str, at: Option<Position>, json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() + 48);
    if !name.is_empty() {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
    }
    if let Some(at) = at {
        out.extend_from_slice(b"id: ");
        push_position(&mut out, at);
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(json);
    out.extend_from_slice(b"\n\n");
    out
}

fn line(mut text: Vec<u8>) -> Bytes {
    text.push(b'\n');
    text.into()
}

/// Appends a body that shall be one line: a newline becomes `\n`, a backslash is doubled, binary is
/// base64.
fn push_raw(out: &mut Vec<u8>, payload: &Payload) {
    if payload.is_binary() {
        return out.extend_from_slice(STANDARD.encode(payload.bytes()).as_bytes());
    }
    let bytes = payload.bytes();
    let mut from = 0;
    for at in memchr::memchr2_iter(b'\n', b'\\', bytes) {
        out.extend_from_slice(&bytes[from..at]);
        out.extend_from_slice(if bytes[at] == b'\n' { b"\\n" } else { b"\\\\" });
        from = at + 1;
    }
    out.extend_from_slice(&bytes[from..]);
}

/// What some recipients get of one message, each kind made once.
#[derive(Debug)]
pub(crate) struct Made<K>(Vec<(K, Bytes)>);

impl<K> Default for Made<K> {
    fn default() -> Made<K> {
        Made(Vec::new())
    }
}

impl<K: PartialEq> Made<K> {
    /// What recipients of this kind get.
    pub(crate) fn get(&mut self, kind: K, make: impl FnOnce() -> Bytes) -> &Bytes {
        let place = self.0.iter().position(|(known, _)| *known == kind);
        let place = place.unwrap_or_else(|| {
            self.0.push((kind, make()));
            self.0.len() - 1
        });
        &self.0[place].1
    }
}

impl Made<Wire> {
    /// What recipients of this wire get, where those without compression get what `make` makes.
    pub(crate) fn compressed(
        &mut self,
        wire: Wire,
        make: impl FnOnce() -> Bytes,
        compressors: &mut Compressors,
    ) -> &Bytes {
        let plain = self.get(wire.plain(), make).clone();
        self.get(wire, || compressors.frame(wire.deflate, &plain).unwrap_or(plain))
    }
}

/// How many open connections get other bytes than bare bodies, by what they get, sorted.
#[derive(Debug, Default)]
pub(crate) struct Wires(Vec<(Wire, usize)>);

impl Wires {
    /// A connection opens.
    pub(crate) fn add(&mut self, wire: Wire) {
        if wire == Wire::default() {
            return;
        }
        match self.0.binary_search_by_key(&wire, |(known, _)| *known) {
            Ok(place) => self.0[place].1 += 1,
            Err(place) => self.0.insert(place, (wire, 1)),
        }
    }

    /// It is gone.
    pub(crate) fn remove(&mut self, wire: Wire) {
        if let Some(place) = self.0.iter().position(|(known, _)| *known == wire) {
            self.0[place].1 -= 1;
            if self.0[place].1 == 0 {
                self.0.remove(place);
            }
        }
    }

    /// What some connection gets, bare bodies aside; sorted.
    pub(crate) fn in_use(&self) -> impl Iterator<Item = Wire> {
        self.0.iter().map(|(wire, _)| *wire)
    }

    /// How many connections these are.
    pub(crate) fn connections(&self) -> usize {
        self.0.iter().map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn string(bytes: &Bytes) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn each_form_of_a_message() {
        let at = Position::parse("q7Zk2pYa-1041");
        let room = Channel::parse("room1");
        let text = Payload::text("a\\b\n\"c\"\n");
        let message = |form: Form, payload: &Payload| form.message(payload, room.as_ref(), at);
        assert_eq!(
            string(&message(Form::Sse, &text)),
            "id: q7Zk2pYa-1041\ndata: {\"message\":\"a\\\\b\\n\\\"c\\\"\\n\",\"channel\":\"room1\",\
             \"at\":\"q7Zk2pYa-1041\"}\n\n"
        );
        assert_eq!(
            string(&message(Form::Lines, &text)),
            "{\"message\":\"a\\\\b\\n\\\"c\\\"\\n\",\"channel\":\"room1\",\"at\":\"q7Zk2pYa-1041\"}\n"
        );
        assert_eq!(string(&message(Form::Raw, &text)), "a\\\\b\\n\"c\"\\n\n");
        let raw = |payload: Payload| message(Form::Raw, &payload);
        assert_eq!(string(&raw(Payload::binary(&[0, 1, 2]))), "AAEC\n");
        assert_eq!(string(&raw(Payload::text(""))), "\n");
        assert_eq!(message(Form::Bare, &text), *text.websocket());
    }

    #[test]
    fn the_end_of_a_stream() {
        assert_eq!(
            string(&Form::Sse.close(4001, "kicked")),
            "event: close\ndata: {\"code\":4001,\"reason\":\"kicked\"}\n\n"
        );
        assert_eq!(
            string(&Form::Lines.close(4001, "a\"b")),
            "{\"close\":4001,\"reason\":\"a\\\"b\"}\n"
        );
        assert!(Form::Raw.close(4001, "kicked").is_empty());
    }

    #[test]
    fn wires_are_counted() {
        let mut wires = Wires::default();
        let sse = Wire { form: Form::Sse, deflate: 0 };
        wires.add(Wire::default());
        assert_eq!(wires.in_use().count(), 0);
        wires.add(sse);
        wires.add(sse);
        wires.remove(sse);
        wires.remove(Wire::default());
        assert_eq!(wires.in_use().collect::<Vec<_>>(), [sse]);
        wires.remove(sse);
        assert_eq!(wires.in_use().count(), 0);
    }

    /// A body as the reader of a raw stream has it back.
    fn unescaped(line: &str) -> String {
        let mut out = String::new();
        let mut chars = line.chars();
        while let Some(c) = chars.next() {
            match (c, c == '\\') {
                (_, true) => out.push(if chars.next() == Some('n') { '\n' } else { '\\' }),
                (c, false) => out.push(c),
            }
        }
        out
    }

    proptest! {
        /// Whatever is in a message, its reader sees where it ends and what it was.
        #[test]
        fn a_message_is_one_event_or_line(body in "[ -~\\n\\r\\\\\u{0}äß\u{2028}]{0,40}", named: bool) {
            let payload = Payload::text(&body);
            let room = Channel::parse("room1").filter(|_| named);
            let at = Position::parse("q7Zk2pYa-1041").filter(|_| named);
            let made = |form: Form| string(&form.message(&payload, room.as_ref(), at)).to_owned();

            let raw = made(Form::Raw);
            let line = raw.strip_suffix('\n').unwrap();
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(unescaped(line), body.clone());

            let lines = made(Form::Lines);
            let json = lines.strip_suffix('\n').unwrap();
            prop_assert!(!json.contains(['\n', '\r']));
            let frame: serde_json::Value = serde_json::from_str(json).unwrap();
            prop_assert_eq!(frame["message"].as_str(), Some(&body[..]));

            let id = if named { "id: q7Zk2pYa-1041\n" } else { "" };
            prop_assert_eq!(made(Form::Sse), format!("{id}data: {json}\n\n"));
        }
    }
}
