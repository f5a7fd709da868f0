//! The steps of a check.

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Start,
    Handshake,
    Open,
    Text,
    Unicode,
    Empty,
    Binary,
    Push,
    Burst,
    Close,
    EndOfStdin,
    Sigterm,
}

/// A text with which programs that know ASCII alone have trouble: letters, other scripts, a character
/// beyond U+FFFF, what JSON escapes, and what some languages take for the end of a line.
pub(super) const UNICODE: &str =
    "Grüße, 世界 🎉 \"quoted\" \\ tab\tnewline\n\u{1} \u{85}\u{2028}end";

impl Step {
    /// The name in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Step::Start => "start",
            Step::Handshake => "handshake",
            Step::Open => "open",
            Step::Text => "text",
            Step::Unicode => "unicode",
            Step::Empty => "empty",
            Step::Binary => "binary",
            Step::Push => "push",
            Step::Burst => "burst",
            Step::Close => "close",
            Step::EndOfStdin => "eof",
            Step::Sigterm => "sigterm",
        }
    }

    /// What the listener is sent, with an article.
    pub(super) fn what(self) -> &'static str {
        match self {
            Step::Start => "nothing yet",
            Step::Handshake => "an onHandshake",
            Step::Open => "an onClientOpen",
            Step::Text => "a text message",
            Step::Unicode => "a text message with characters beyond ASCII",
            Step::Empty => "an empty message",
            Step::Binary => "a binary message",
            Step::Push => "a push (a message from wsgw send, with conn null)",
            Step::Burst => "300 messages at once",
            Step::Close => "an onClientClose",
            Step::EndOfStdin => "the end of stdin",
            Step::Sigterm => "SIGTERM",
        }
    }
}
