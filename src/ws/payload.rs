//! One message on its way through the gateway, with what it is sent as.
//!
//! A payload is encoded when it is made: header and bytes lie in one buffer, which all recipients
//! share. So the WebSocket encoding of a message costs nothing when it goes out, and the bytes
//! themselves are a slice of it. Other encodings of the same message are made from
//! [`Payload::bytes`] when the first recipient wants them.

use bytes::Bytes;

use crate::ws::frame;

/// What a message is made of (RFC 6455 section 5.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

/// A whole message. Cloning it copies no bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// Header and bytes of an unmasked frame.
    frame: Bytes,
    kind: Kind,
}

impl Payload {
    /// A text message.
    pub fn text(text: &str) -> Payload {
        Payload { frame: frame::text(text), kind: Kind::Text }
    }

    /// A binary message.
    pub fn binary(bytes: &[u8]) -> Payload {
        Payload { frame: frame::binary(bytes), kind: Kind::Binary }
    }

    /// Text or binary.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it is binary.
    pub fn is_binary(&self) -> bool {
        self.kind == Kind::Binary
    }

    /// What the message says, without any encoding.
    pub fn bytes(&self) -> &[u8] {
        &self.frame[frame::header_len(&self.frame)..]
    }

    /// The same as text; `None` for a binary message.
    pub fn as_text(&self) -> Option<&str> {
        match self.kind {
            // A text message was checked when it was made.
            Kind::Text => std::str::from_utf8(self.bytes()).ok(),
            Kind::Binary => None,
        }
    }

    /// The message as one WebSocket frame from the server.
    pub fn websocket(&self) -> &Bytes {
        &self.frame
    }

    /// Bytes of memory that it holds, for accounting.
    pub fn cost(&self) -> usize {
        self.frame.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_a_slice_of_the_frame() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let text = "x".repeat(length);
            let payload = Payload::text(&text);
            assert_eq!(payload.as_text(), Some(text.as_str()));
            assert!(payload.websocket().ends_with(text.as_bytes()));
            let binary = Payload::binary(text.as_bytes());
            assert_eq!((binary.bytes(), binary.as_text()), (text.as_bytes(), None));
        }
    }
}
