//! Kept messages on their way to a client: JSON frames, one a line, made while the client reads.

use std::io;
use std::task::Poll;
use std::vec::IntoIter;

use bytes::Bytes;
use hyper::body::Frame;

use crate::control::backend::HistoryMessage;
use crate::listener::protocol::frame::push_message;

/// Bytes of frames that are made at a time; one message is never divided.
const PIECE: usize = 64 << 10;

/// The body of a response with a frame for each message.
pub(super) struct FramesBody {
    messages: IntoIter<HistoryMessage>,
    /// Marks the connection as busy while the response is under way.
    _busy: Box<dyn Send + Sync>,
}

impl FramesBody {
    /// The frames of these messages; `busy` is dropped with the body.
    pub(super) fn new(messages: Vec<HistoryMessage>, busy: impl Send + Sync + 'static) -> Self {
        FramesBody { messages: messages.into_iter(), _busy: Box::new(busy) }
    }

    /// Whether all were read.
    pub(super) fn is_at_end(&self) -> bool {
        self.messages.as_slice().is_empty()
    }

    /// The next piece: always ready.
    pub(super) fn next_piece(&mut self) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let mut out = Vec::new();
        while out.len() < PIECE {
            let Some(message) = self.messages.next() else { break };
            write_frame(&mut out, &message);
        }
        Poll::Ready((!out.is_empty()).then(|| Ok(Frame::data(Bytes::from(out)))))
    }
}

/// Appends a message as a frame and a newline.
fn write_frame(out: &mut Vec<u8>, message: &HistoryMessage) {
    push_message(out, &message.payload, message.channel.as_ref(), Some(message.at));
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::protocol::channel::Channel;
    use crate::text::position::Position;
    use crate::ws::payload::Payload;

    fn message(payload: Payload, channel: Option<&str>, number: u64) -> HistoryMessage {
        let mut at = Position::parse("q7Zk2pYa-0").unwrap();
        at.number = number;
        HistoryMessage { payload, channel: channel.and_then(Channel::parse), at }
    }

    #[test]
    fn each_message_is_one_line_of_json() {
        let mut out = Vec::new();
        write_frame(&mut out, &message(Payload::text("a\n\"b\"\u{2028}"), Some("room1"), 7));
        write_frame(&mut out, &message(Payload::binary(&[0, 255]), None, 8));
        let want = concat!(
            r#"{"message":"a\n\"b\"\u2028","channel":"room1","at":"q7Zk2pYa-7"}"#,
            "\n",
            r#"{"base64":"AP8=","at":"q7Zk2pYa-8"}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }

    #[test]
    fn a_long_history_comes_in_pieces() {
        let text = Payload::text(&"x".repeat(40_000));
        let messages = (0..5).map(|number| message(text.clone(), None, number)).collect();
        let mut body = FramesBody::new(messages, ());
        let mut pieces = Vec::new();
        while let Poll::Ready(Some(Ok(frame))) = body.next_piece() {
            pieces.push(frame.into_data().unwrap());
        }
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces.concat().iter().filter(|b| **b == b'\n').count(), 5);
        assert!(body.is_at_end());
    }
}
