//! The listener protocol, frames, and what is shown of both.

use std::io::{self, Read, Write};

use bytes::Bytes;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use wsgw::api::PushOutcome;
use wsgw::listener::exchange::incoming::{closed_result, members_result, sent_result};
use wsgw::listener::membership::Members;
use wsgw::listener::protocol::answer;
use wsgw::listener::protocol::answer::{HandshakeAnswer, Line, NewBody};
use wsgw::listener::protocol::channel::{Channel, ChannelSet};
use wsgw::listener::protocol::command::Command;
use wsgw::listener::protocol::connid::{ConnId, resolve};
use wsgw::listener::protocol::event;
use wsgw::listener::protocol::push::Push;
use wsgw::listener::protocol::target::Target;
use wsgw::text::lines::Lines;
use wsgw::ws::decoder;
use wsgw::ws::decoder::{Item, Step};
use wsgw::ws::deflate::inflate::Inflater;
use wsgw::ws::frame::{Header, OpCode, RSV1};
use wsgw::ws::{close, frame};

use super::members_of_line;

/// A line of the listener: sorted as JSON says, its parts within their bounds.
pub fn listener_line(data: &[u8]) {
    let line = data.split(|b| *b == b'\n').next().unwrap_or_default();
    let parsed = answer::parse(line);

    // The short way and the long one agree.
    if let Some((id, b"}")) = answer::leading_id(line) {
        assert!(matches!(parsed, Line::Answer(same, _) if same == id), "{parsed:?}");
    }
    // serde_json's own reading agrees, where it can read the line at all (it bounds the depth).
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(line) {
        let command = value.get("command").is_some_and(|c| !c.is_null());
        let id = value.get("id").and_then(serde_json::Value::as_u64);
        match &parsed {
            Line::Fault(_) => assert!(!command && id.is_none(), "{value}"),
            Line::Command(_) => assert!(command),
            Line::Ignored => assert!(!command && value["event"] == "onResult"),
            Line::Answer(ours, _) => {
                assert!(!command && id.is_none_or(|id| id == *ours), "{value}");
            }
        }
    }

    let (Line::Answer(_, fields) | Line::Command(fields)) = parsed else { return };
    for binary in [false, true] {
        let Ok(answer) = fields.message(binary) else { continue };
        if let Some(body) = answer.body {
            whole_frame(&body);
        }
        sorted_set(&answer.change.join);
        sorted_set(&answer.change.leave);
        let connections = match answer.lists.target {
            Some(Target::Connections(names)) => Some(names),
            Some(Target::Channels(channels)) => {
                let names: Vec<&str> = channels.iter().map(Channel::as_str).collect();
                assert!(names.iter().all(|name| Channel::parse(name).is_some()));
                None
            }
            None => None,
        };
        for list in [connections, answer.lists.except].into_iter().flatten() {
            let (ids, unknown) = resolve(&list);
            assert!(ids.is_sorted_by(|a, b| a < b) && unknown.is_sorted_by(|a, b| a < b));
            assert!(list.iter().all(|name| {
                unknown.contains(name) || ids.iter().any(|id| id.to_string() == *name)
            }));
        }
    }
    match fields.handshake() {
        Ok(HandshakeAnswer::Reject(status, _)) => assert!((400..=599).contains(&status)),
        Ok(HandshakeAnswer::Accept { join: Some(join), .. }) => sorted_set(&join),
        Ok(HandshakeAnswer::Accept { join: None, .. }) | Err(_) => {}
    }
    match fields.command() {
        Ok(Command::Close { code, .. }) => assert!(close::may_be_sent(code)),
        Ok(Command::Send { body, .. }) => whole_frame(&body),
        Ok(Command::Membership { channels, .. }) => {
            assert_eq!(ChannelSet::new(channels.clone()).as_slice().len(), channels.len());
        }
        Ok(Command::Members { .. }) => assert!(fields.reference().is_some()),
        Err(_) => {}
    }
    if let Some(reference) = fields.reference() {
        let room = Channel::parse("room1").expect("a name");
        let members = Members { count: 3, conns: vec![ConnId(3), ConnId(9)] };
        let outcome = PushOutcome { gone: vec!["\n\"".to_owned()], ..PushOutcome::default() };
        for result in [
            sent_result(&reference, &outcome),
            closed_result(&reference, Ok(())),
            closed_result(&reference, Err("no\nsuch")),
            members_result(&reference, &room, &members),
        ] {
            let members = members_of_line(format!("{result}\n").as_bytes());
            assert_eq!(members[0], ("event".to_owned(), "\"onResult\"".to_owned()));
            assert_eq!(members[1].0, "ref");
            assert!(members.iter().all(|(key, _)| key != "id"));
            // An echo of it does nothing.
            assert!(matches!(answer::parse(result.as_bytes()), Line::Ignored));
        }
    }
}

fn sorted_set(channels: &ChannelSet) {
    assert!(channels.as_slice().is_sorted_by(|a, b| a < b));
}

fn whole_frame(body: &NewBody<'_>) {
    let (frame, payload) = match body {
        NewBody::Text(text) => (frame::text(text), text.as_bytes()),
        NewBody::Binary(bytes) => (frame::binary(bytes), &bytes[..]),
    };
    let header = Header::read(&frame).expect("two bytes");
    assert!(header.is_last() && !header.is_masked() && header.reserved_bits() == 0);
    assert!(matches!(header.opcode(), Some(OpCode::Text | OpCode::Binary)));
    assert_eq!(header.payload_length(&frame), Ok(Some(payload.len() as u64)));
    assert_eq!(header.size() + payload.len(), frame.len());
    assert_eq!(&frame[frame::header_len(&frame)..], payload);
}

/// The listener's stdout in lines: the same however it is cut, none over the bound.
pub fn lines(data: &[u8]) {
    let Some((max, data)) = data.split_first() else { return };
    let max = usize::from(*max);
    let cut = |pieces: &[&[u8]]| {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.feed(piece, max, |line| out.push(line.map(<[u8]>::to_vec)));
        }
        lines.end(|line| out.push(Some(line.to_vec())));
        out
    };
    let whole = cut(&[data]);
    assert_eq!(cut(&super::pieces(data, 3)), whole);
    let mut model: Vec<Option<Vec<u8>>> = data
        .split(|b| *b == b'\n')
        .map(|line| (line.len() <= max).then(|| line.to_vec()))
        .collect();
    // What is behind the last newline is a line only where there is something.
    if model.last().is_some_and(|last| last.as_ref().is_some_and(Vec::is_empty)) {
        model.pop();
    }
    assert_eq!(whole, model);
    // The same where long lines are cut.
    let cut = |pieces: &[&[u8]]| {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.feed_cut(piece, max, |line, cut| out.push((line.to_vec(), cut)));
        }
        lines.end_cut(|line, cut| out.push((line.to_vec(), cut)));
        out
    };
    let mut model: Vec<(Vec<u8>, bool)> = data
        .split(|b| *b == b'\n')
        .map(|line| (line[..line.len().min(max)].to_vec(), line.len() > max))
        .collect();
    if model.last().is_some_and(|(last, cut)| last.is_empty() && !cut) {
        model.pop();
    }
    assert_eq!(cut(&[data]), model);
    assert_eq!(cut(&super::pieces(data, 3)), model);
}

/// A push: its event's line forges nothing, and its echo means "unchanged".
pub fn push(data: &[u8]) {
    let Ok(push) = Push::parse(data) else { return };
    let id = (1 << 53) - 1;
    let mut line = Vec::new();
    event::push(&mut line, id, push.members());
    assert!(line.len() <= push.line_size());
    let again = event::redelivered(&line);
    assert_eq!(event::redelivered(&again), again);
    for line in [line, again] {
        let members = members_of_line(&line);
        let heads = members.iter().map(|(key, value)| (key.as_str(), value.as_str())).take(3);
        let id_text = id.to_string();
        let expected = [("id", id_text.as_str()), ("event", "\"onMessage\""), ("conn", "null")];
        assert!(heads.eq(expected), "{members:?}");
        let mut keys: Vec<&str> = members.iter().map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        assert!(keys.is_sorted_by(|a, b| a < b), "a key comes twice: {keys:?}");
        assert!(!keys.contains(&"command") && !keys.contains(&"ref"));
        let source = members.iter().find(|(key, _)| key == "source");
        assert_eq!(source.map(|(_, value)| value.as_str()), Some("\"send\""));

        let echo = &line[..line.len() - 1];
        let Line::Answer(same, fields) = answer::parse(echo) else { panic!("no answer") };
        assert_eq!(same, id);
        let answer = fields.message(push.payload().is_binary()).expect("an echo is no fault");
        assert_eq!(answer.lists.target.as_ref(), push.target());
        assert_eq!(answer.lists.except.as_deref(), push.except());
        let frame = match answer.body {
            None => push.payload().websocket().clone(),
            Some(NewBody::Text(text)) => frame::text(&text),
            Some(NewBody::Binary(bytes)) => frame::binary(&bytes),
        };
        assert_eq!(&frame, push.payload().websocket());
    }
}

/// Bytes that a client's message may have here.
const MAX: usize = 300;

#[derive(Debug, PartialEq)]
enum Got {
    Message(bool, Bytes),
    Ping(Bytes),
}

/// Frames from a client: the same messages however they are cut, and as tungstenite reads them.
pub fn frames(data: &[u8]) {
    let (got, end) = ours(&[data], None);
    let (cut, cut_end) = ours(&super::pieces(data, 5), None);
    // A violation may be seen in pieces before its frame is whole, with another reason.
    assert_eq!((&cut, kind(&cut_end)), (&got, kind(&end)));
    let theirs = theirs(data);
    match end {
        // They take lengths that are not in their shortest form (RFC 6455 section 5.2).
        End::Violation(at, _) if is_long(&data[at..]) => assert!(theirs.starts_with(&got)),
        _ => assert_eq!(theirs, got),
    }
}

/// Frames from a client with which compression was agreed: the same messages however they are cut;
/// those without RSV1 are as ever.
pub fn compressed_frames(data: &[u8]) {
    let (got, end) = ours(&[data], Some(&mut Inflater::default()));
    let (cut, cut_end) = ours(&super::pieces(data, 5), Some(&mut Inflater::default()));
    assert_eq!((&cut, kind(&cut_end)), (&got, kind(&end)));
    let (plain, plain_end) = ours(&[data], None);
    assert!(got.starts_with(&plain));
    match plain_end {
        // What is read on without compression is not compressed.
        End::Violation(at, 1002) if data[at] & RSV1 != 0 => {}
        _ => assert_eq!((kind(&end), got), (kind(&plain_end), plain)),
    }
}

/// How the reading ended.
#[derive(Debug)]
enum End {
    Open,
    Close,
    /// Where, and the code.
    Violation(usize, u16),
}

fn kind(end: &End) -> (u8, usize) {
    match end {
        End::Open => (0, 0),
        End::Close => (1, 0),
        End::Violation(at, code) => {
            assert!(matches!(code, 1002 | 1007 | 1009));
            (2, *at)
        }
    }
}

/// A frame's length in a form that is longer than it needs.
fn is_long(frame: &[u8]) -> bool {
    match *frame {
        [_, second, high, low, ..] if second & 0x7f == 126 => u16::from_be_bytes([high, low]) < 126,
        [_, second, a, b, c, d, e, f, g, h, ..] if second & 0x7f == 127 => {
            u64::from_be_bytes([a, b, c, d, e, f, g, h]) < 1 << 16
        }
        _ => false,
    }
}

/// What our reader makes of it.
fn ours(pieces: &[&[u8]], mut inflater: Option<&mut Inflater>) -> (Vec<Got>, End) {
    let (mut got, mut fragments, mut partial) = (Vec::new(), None, Vec::new());
    let mut before = 0;
    // Compressed, a message may be longer than it is.
    let bound = if inflater.is_some() { 2 * MAX } else { MAX };
    for piece in pieces {
        partial.extend_from_slice(piece);
        let mut at = 0;
        while at < partial.len() {
            match decoder::next(&mut partial[at..], &mut fragments, MAX, inflater.as_deref_mut()) {
                Step::Need(n) => {
                    assert!(n > partial.len() - at && n <= bound + frame::MAX_HEADER);
                    break;
                }
                Step::Violation((code, _)) => return (got, End::Violation(before + at, code)),
                Step::Frame(n, item) => {
                    at += n;
                    match item {
                        Item::Nothing => {}
                        Item::Ping(payload) => got.push(Got::Ping(payload)),
                        Item::Close(said) => {
                            assert!(said.is_none_or(|(code, _)| close::may_be_sent(code)));
                            return (got, End::Close);
                        }
                        Item::Message(message, length) => {
                            let payload = Bytes::copy_from_slice(message.bytes());
                            assert!(payload.len() <= MAX && length <= bound);
                            assert!(payload.len() == length || inflater.is_some());
                            assert!(message.is_binary() || std::str::from_utf8(&payload).is_ok());
                            got.push(Got::Message(message.is_binary(), payload));
                        }
                    }
                }
            }
            let held = fragments.as_ref().map_or(0, |f| f.payload.len());
            assert!(held <= bound);
        }
        partial.drain(..at);
        before += at;
    }
    (got, End::Open)
}

struct Pipe<'a>(&'a [u8]);

impl Read for Pipe<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn theirs(data: &[u8]) -> Vec<Got> {
    use tokio_tungstenite::tungstenite::Message;
    let config = WebSocketConfig::default().max_message_size(Some(MAX)).max_frame_size(Some(MAX));
    let mut socket = WebSocket::from_raw_socket(Pipe(data), Role::Server, Some(config));
    let mut got = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => got.push(Got::Message(false, text.into())),
            Ok(Message::Binary(bytes)) => got.push(Got::Message(true, bytes)),
            Ok(Message::Ping(payload)) => got.push(Got::Ping(payload)),
            Ok(Message::Pong(_) | Message::Frame(_)) => {}
            Ok(Message::Close(_)) | Err(_) => return got,
        }
    }
}

/// What goes to a terminal or the log: nothing in it acts.
pub fn escape(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let shown = wsgw::text::escape::escape(&text);
    let acts = |c: char| {
        let bidi =
            matches!(u32::from(c), 0x061c | 0x200e | 0x200f | 0x202a..=0x202e | 0x2066..=0x2069);
        c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') || bidi
    };
    assert!(!shown.contains(acts), "{shown:?}");
    assert_eq!(shown == text, !text.contains(acts));
    assert_eq!(wsgw::text::escape::escape(&shown), shown);
}
