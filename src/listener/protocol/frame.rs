//! A message as a JSON frame: what clients of the subprotocol `wsgw.v1` get, and what a history is
//! read as. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::json::{push_str, push_u64};
use crate::text::position::Position;
use crate::ws::payload::Payload;

/// Appends a message.
pub(crate) fn push_message(
    out: &mut Vec<u8>,
    payload: &Payload,
    channel: Option<&Channel>,
    at: Option<Position>,
) {
    match payload.as_text() {
        Some(text) => {
            out.extend_from_slice(b"{\"message\":");
            push_str(out, text);
        }
        None => {
            out.extend_from_slice(b"{\"base64\":\"");
            out.extend_from_slice(STANDARD.encode(payload.bytes()).as_bytes());
            out.push(b'"');
        }
    }
    if let Some(channel) = channel {
        out.extend_from_slice(b",\"channel\":\"");
        out.extend_from_slice(channel.as_str().as_bytes());
        out.push(b'"');
    }
    push_at(out, at);
    out.push(b'}');
}

/// Appends a position as a member behind others.
pub(crate) fn push_at(out: &mut Vec<u8>, at: Option<Position>) {
    if let Some(at) = at {
        out.extend_from_slice(b",\"at\":\"");
        push_position(out, at);
        out.push(b'"');
    }
}

/// Appends a position.
pub(crate) fn push_position(out: &mut Vec<u8>, at: Position) {
    out.extend_from_slice(at.epoch.as_str().as_bytes());
    out.push(b'-');
    let (number, index) = at.numbers();
    push_u64(out, number);
    if let Some(index) = index {
        out.push(b'.');
        push_u64(out, index);
    }
}
