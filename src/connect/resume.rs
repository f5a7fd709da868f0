//! `--resume`: where the session is in the server's history, across its connections.
//!
//! Owned by the session's task. A position moves on only when the body that it belongs to was handed
//! to the output, and a new connection waits until the output has written all of it.

use tokio_tungstenite::tungstenite::Message;

use crate::connect::frame;
use crate::connect::frame::{Body, Frame};
use crate::ws::handshake::FRAMES;

/// The largest frame, in bytes: while it is read it takes about three times as much memory.
pub(super) const LARGEST_FRAME: usize = 256 << 20;

/// What a message of the server means.
pub(super) enum Received {
    /// A message, and the position that holds once it is written.
    Body(Message, Option<String>),
    /// Something to tell the user.
    Notices(Vec<String>),
}

/// Where a session is in the server's history.
#[derive(Default)]
pub(super) struct Resume {
    /// The last message that was written, or where the server said that we are.
    position: Option<String>,
    /// What this connection asked for in its URL.
    asked: Option<String>,
    /// Whether this connection's hello has come.
    greeted: bool,
    /// Whether the user knows that there is no history.
    told_of_no_history: bool,
    /// Whether messages may be missing.
    pub(super) has_gaps: bool,
}

impl Resume {
    /// The position to go on from; `None` before the first hello, and where there is no history.
    pub(super) fn position(&self) -> Option<&str> {
        self.position.as_deref()
    }

    /// A connection was opened with this `since` in its URL.
    pub(super) fn opened(&mut self, asked: Option<String>) {
        self.asked = asked;
        self.greeted = false;
    }

    /// A body was handed to the output.
    pub(super) fn passed(&mut self, at: Option<String>) {
        if at.is_some() {
            self.position = at;
        }
    }

    /// Reads a message of the server.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(&mut self, message: &Message) -> Result<Received, String> {
        let Message::Text(text) = message else {
            return Err(format!("a binary message; {} has text frames alone", FRAMES));
        };
        match frame::parse(text)? {
            Frame::Hello { .. } if self.greeted => Err("a second hello".to_owned()),
            Frame::Hello { at, recovered } => Ok(Received::Notices(self.hello(at, recovered))),
            Frame::Message { .. } if !self.greeted => Err("a message before the hello".to_owned()),
            Frame::Message { body, at } => {
                let body = match body {
                    Body::Text(text) => Message::Text(text.into()),
                    Body::Binary(bytes) => Message::Binary(bytes.into()),
                };
                Ok(Received::Body(body, at))
            }
            Frame::Other => Ok(Received::Notices(Vec::new())),
        }
    }

    fn hello(&mut self, at: Option<String>, recovered: Option<bool>) -> Vec<String> {
        self.greeted = true;
        let mut notices = Vec::new();
        let asked = self.asked.take();
        // A server that says nothing about a position of its own has not gone on from it.
        let own = asked.is_some() && asked == self.position;
        if let Some(since) =
            asked.filter(|_| recovered == Some(false) || own && recovered.is_none())
        {
            self.has_gaps = true;
            notices.push(format!(
                "messages since {since} could not be recovered: some of them may be missing"
            ));
        }
        if at.is_none() && !self.told_of_no_history {
            self.told_of_no_history = true;
            notices.push(
                "the server keeps no history: messages that are sent while the connection is away \
                 cannot be recovered"
                    .to_owned(),
            );
        }
        self.passed(at);
        notices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notices(resume: &mut Resume, text: &str) -> Vec<String> {
        match resume.read(&Message::Text(text.into())) {
            Ok(Received::Notices(notices)) => notices,
            Ok(Received::Body(..)) => panic!("a body"),
            Err(why) => panic!("{why}"),
        }
    }

    #[test]
    fn a_position_follows_the_bodies() {
        let mut resume = Resume::default();
        resume.opened(None);
        assert!(resume.read(&Message::Text(r#"{"message":"x"}"#.into())).is_err());
        assert!(notices(&mut resume, r#"{"hello":1,"at":"e-7"}"#).is_empty());
        assert_eq!(resume.position(), Some("e-7"));
        let read = resume.read(&Message::Text(r#"{"message":"x","at":"e-8"}"#.into()));
        let Ok(Received::Body(_, at)) = read else { panic!("no body") };
        // Not before it is handed over.
        assert_eq!(resume.position(), Some("e-7"));
        resume.passed(at);
        resume.passed(None);
        assert_eq!(resume.position(), Some("e-8"));
        assert!(notices(&mut resume, r#"{"joined":["a"],"at":"e-2"}"#).is_empty());
        assert_eq!(resume.position(), Some("e-8"));
        assert!(resume.read(&Message::Text(r#"{"hello":1}"#.into())).is_err());
        assert!(resume.read(&Message::Binary(b"x".to_vec().into())).is_err());
        assert!(!resume.has_gaps);
    }

    #[test]
    fn each_gap_is_told_once() {
        let mut resume = Resume::default();
        resume.opened(Some("e-1".to_owned()));
        let [gap] = &notices(&mut resume, r#"{"hello":1,"at":"f-3","recovered":false}"#)[..] else {
            panic!("one notice")
        };
        assert!(gap.contains("since e-1 ") && resume.has_gaps);
        resume.opened(resume.position().map(str::to_owned));
        assert!(notices(&mut resume, r#"{"hello":1,"at":"f-3","recovered":true}"#).is_empty());
        // Not a word about the position is not a yes.
        resume.opened(resume.position().map(str::to_owned));
        assert_eq!(notices(&mut resume, r#"{"hello":1}"#).len(), 2);
        resume.opened(resume.position().map(str::to_owned));
        assert_eq!(notices(&mut resume, r#"{"hello":1,"recovered":false}"#).len(), 1);
        assert_eq!(resume.position(), Some("f-3"));
        // Nobody asked.
        let mut resume = Resume::default();
        resume.opened(None);
        assert!(notices(&mut resume, r#"{"hello":1,"at":"f-3","recovered":false}"#).is_empty());
        // What is no position recovers nothing.
        resume = Resume::default();
        resume.opened(Some("last".to_owned()));
        assert!(notices(&mut resume, r#"{"hello":1,"at":"f-3"}"#).is_empty());
        assert!(!resume.has_gaps);
    }
}
