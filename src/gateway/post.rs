//! A request by which a stream's client sends messages, once its body is there: which messages those
//! are, and what becomes of them. Pure.
//!
//! The connection that such a request comes on and the stream may be on different shards. The body
//! goes to the stream's shard ([`Post`]), which takes the messages one after the other; what came of
//! it goes back ([`Outcome`]).

use crate::gateway::posts::UnderWay;
use crate::listener::protocol::connid::ConnId;
use crate::ws::payload::Payload;

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// One text message.
    Text,
    /// One binary message.
    Binary,
    /// Each line that is not empty is one text message.
    Lines,
}

impl Content {
    /// What a `Content-Type` says.
    pub(crate) fn of(kind: &str) -> Content {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("application/x-ndjson") {
            Content::Lines
        } else if kind.eq_ignore_ascii_case("application/octet-stream") {
            Content::Binary
        } else {
            Content::Text
        }
    }
}

/// A body on its way to its stream.
#[derive(Debug)]
pub struct Post {
    /// The connection that its request came on.
    pub(crate) from: ConnId,
    under_way: UnderWay,
    content: Content,
    body: Vec<u8>,
    /// Where the next message begins.
    at: usize,
    /// Lines in front of that.
    lines: u64,
    /// Whether the only message was taken out.
    over: bool,
    /// Messages that were taken.
    taken: u64,
}

impl Post {
    /// A whole body.
    pub(crate) fn new(from: ConnId, under_way: UnderWay, content: Content, body: Vec<u8>) -> Post {
        Post { from, under_way, content, body, at: 0, lines: 0, over: false, taken: 0 }
    }

    /// The stream that it is for.
    pub(crate) fn conn(&self) -> ConnId {
        self.under_way.conn()
    }

    /// Whether no message is left in it.
    pub(crate) fn is_over(&mut self) -> bool {
        if self.content != Content::Lines {
            return self.over;
        }
        while self.body.get(self.at) == Some(&b'\n') {
            self.at += 1;
            self.lines += 1;
        }
        self.at == self.body.len()
    }

    /// Takes the next message out, of at most `max` bytes.
    ///
    /// # Errors
    /// It cannot be taken, and nothing behind it is.
    pub(crate) fn next(&mut self, max: usize) -> Result<Payload, Verdict> {
        let bytes = match self.content {
            Content::Text | Content::Binary => {
                self.over = true;
                &self.body[..]
            }
            Content::Lines => {
                let rest = &self.body[self.at..];
                let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
                self.at = (self.at + length + 1).min(self.body.len());
                self.lines += 1;
                &rest[..length]
            }
        };
        if bytes.len() > max {
            return Err(Verdict::TooLarge);
        }
        if self.content == Content::Binary {
            return Ok(Payload::binary(bytes));
        }
        std::str::from_utf8(bytes).map(Payload::text).map_err(|_| Verdict::NotUtf8)
    }

    /// The message was taken.
    pub(crate) fn took(&mut self) {
        self.taken += 1;
    }

    /// The end: nothing more of it is taken.
    pub(crate) fn ends(self, verdict: Verdict) -> Outcome {
        let lines = self.content == Content::Lines;
        Outcome { verdict, taken: self.taken, line: lines.then_some(self.lines) }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All its messages were taken.
    Taken,
    /// A text message is not UTF-8.
    NotUtf8,
    /// A message is over `max-message`.
    TooLarge,
    /// The stream has ended.
    Ended,
    /// Over `max-rate`.
    TooFast,
    /// The gateway stops.
    Stopping,
    /// The stream's messages waited too long.
    Behind,
}

/// What became of its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub(crate) verdict: Verdict,
    /// Messages that were taken.
    taken: u64,
    /// The line that it ended at, where lines are messages.
    line: Option<u64>,
}

impl Outcome {
    /// The status of the answer.
    pub(crate) fn status(&self) -> u16 {
        match self.verdict {
            Verdict::Taken => 204,
            Verdict::NotUtf8 => 400,
            Verdict::Ended => 404,
            Verdict::TooLarge => 413,
            Verdict::TooFast => 429,
            Verdict::Stopping | Verdict::Behind => 503,
        }
    }

    /// What the answer says.
    pub(crate) fn text(&self) -> String {
        let why = match self.verdict {
            Verdict::Taken => "All was taken.",
            Verdict::NotUtf8 => {
                "A text message must be UTF-8. Send binary data as application/octet-stream."
            }
            Verdict::Ended => "No open stream has this token.",
            Verdict::TooLarge => "The message is too large (max-message).",
            Verdict::TooFast => "Too many messages (max-rate).",
            Verdict::Stopping => "The gateway is stopping.",
            Verdict::Behind => {
                "Earlier messages of this stream still wait for the listener. Try again later."
            }
        };
        let at = match (self.verdict, self.line) {
            (Verdict::NotUtf8 | Verdict::TooLarge, Some(line)) => format!("Line {line}: "),
            _ => String::new(),
        };
        format!("{at}{why} Messages taken: {}.\n", self.taken)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::gateway::posts::Posts;

    fn post(content: Content, body: &[u8]) -> Post {
        let posts = Arc::new(Posts::default());
        let token = posts.issue(ConnId(1)).unwrap();
        Post::new(ConnId(2), posts.begin(token).unwrap(), content, body.to_vec())
    }

    /// The messages that are taken, and how it ends.
    fn taken(content: Content, body: &[u8], max: usize) -> (Vec<Payload>, Outcome) {
        let mut post = post(content, body);
        let mut messages = Vec::new();
        while !post.is_over() {
            match post.next(max) {
                Ok(message) => messages.push(message),
                Err(verdict) => return (messages, post.ends(verdict)),
            }
            post.took();
        }
        (messages, post.ends(Verdict::Taken))
    }

    #[test]
    fn the_type_says_what_a_body_is() {
        for (kind, content) in [
            ("", Content::Text),
            ("text/plain; charset=utf-8", Content::Text),
            ("application/json", Content::Text),
            ("application/x-www-form-urlencoded", Content::Text),
            ("Application/Octet-Stream", Content::Binary),
            ("application/x-ndjson ; charset=utf-8", Content::Lines),
        ] {
            assert_eq!(Content::of(kind), content, "{kind}");
        }
    }

    #[test]
    fn a_body_is_one_message_and_may_be_empty() {
        for (content, body, message) in [
            (Content::Text, &b"a\nb\n"[..], Payload::text("a\nb\n")),
            (Content::Text, b"", Payload::text("")),
            (Content::Binary, b"\xff", Payload::binary(b"\xff")),
        ] {
            let (messages, outcome) = taken(content, body, 4);
            assert_eq!((messages, outcome.status()), (vec![message], 204));
        }
        assert_eq!(taken(Content::Text, b"\xff", 4).1.status(), 400);
        assert_eq!(taken(Content::Text, b"12345", 4).1.status(), 413);
    }

    #[test]
    fn an_error_names_the_line_and_how_many_were_taken() {
        let (messages, outcome) = taken(Content::Lines, b"a\n\n\r\n12345\nb\n", 4);
        assert_eq!(messages, [Payload::text("a"), Payload::text("\r")]);
        assert_eq!(outcome.status(), 413);
        assert_eq!(
            outcome.text(),
            "Line 4: The message is too large (max-message). Messages taken: 2.\n"
        );
        let (_, outcome) = taken(Content::Lines, b"\n\xff", 4);
        assert!(outcome.text().starts_with("Line 2: ") && outcome.text().ends_with(": 0.\n"));
    }

    proptest! {
        #[test]
        fn lines_are_those_that_a_split_finds(body in "[ab\r\n]{0,40}") {
            let (messages, outcome) = taken(Content::Lines, body.as_bytes(), 100);
            let lines: Vec<Payload> =
                body.split('\n').filter(|line| !line.is_empty()).map(Payload::text).collect();
            prop_assert_eq!(outcome.status(), 204);
            prop_assert_eq!(outcome.taken, lines.len() as u64);
            prop_assert_eq!(messages, lines);
        }
    }
}
