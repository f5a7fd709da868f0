//! Positions in a gateway's history, and what a client asks for with `since`.

use std::fmt;
use std::time::Duration;

use crate::text::units;

/// Characters of an epoch.
const EPOCH: usize = 8;

/// A name for one run of a history's numbers: eight letters and digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch([u8; EPOCH]);

impl Epoch {
    /// A new one, at random.
    pub fn random() -> Epoch {
        Epoch(std::array::from_fn(|_| fastrand::alphanumeric() as u8))
    }

    /// Reads one; `None` if it is not eight letters and digits.
    pub fn parse(text: &str) -> Option<Epoch> {
        let bytes: [u8; EPOCH] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(u8::is_ascii_alphanumeric).then_some(Epoch(bytes))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        // ASCII letters and digits by construction.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a client is in all channels of a gateway: `EPOCH-NUMBER`. The order of two positions means
/// something within one epoch alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The history that the number belongs to.
    pub epoch: Epoch,
    /// The number of the last message that the client has.
    pub number: u64,
}

impl Position {
    /// Bit of the numbers of a history that is a stream of a cluster.
    const STREAM: u64 = 1 << 63;

    /// Bits of the number within a message of the stream.
    const INDEX_BITS: u32 = 16;

    /// Messages that one message of a stream can hold.
    pub(crate) const MOST_IN_ONE: usize = 1 << Position::INDEX_BITS;

    /// The number of the message with this index in the message `sequence` of a cluster's stream.
    /// It is displayed as `SEQUENCE.INDEX`.
    pub(crate) fn stream_number(sequence: u64, index: u16) -> u64 {
        let most = (Position::STREAM >> Position::INDEX_BITS) - 1;
        Position::STREAM | sequence.min(most) << Position::INDEX_BITS | u64::from(index)
    }

    /// What is displayed of the number: itself, or the message of the stream and the index there.
    pub(crate) fn numbers(self) -> (u64, Option<u64>) {
        if self.number & Position::STREAM == 0 {
            return (self.number, None);
        }
        let sequence = (self.number & !Position::STREAM) >> Position::INDEX_BITS;
        (sequence, Some(self.number & (Position::MOST_IN_ONE as u64 - 1)))
    }

    /// A position that no history ever gives.
    pub(crate) const UNKNOWN: Position = Position { epoch: Epoch(*b"--------"), number: 0 };

    /// Reads a position; `None` if the text is something else.
    pub fn parse(text: &str) -> Option<Position> {
        let (epoch, number) = text.split_once('-')?;
        let epoch = Epoch::parse(epoch)?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // A number that is out of range is ahead of every message.
        let number = match number.split_once('.') {
            Some((sequence, index)) if digits(sequence) && digits(index) => {
                let index = index.parse().unwrap_or(u16::MAX);
                Position::stream_number(sequence.parse().unwrap_or(u64::MAX), index)
            }
            None if digits(number) => number.parse().unwrap_or(u64::MAX).min(Position::STREAM - 1),
            _ => return None,
        };
        Some(Position { epoch, number })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let epoch = self.epoch.as_str();
        match self.numbers() {
            (number, None) => write!(f, "{epoch}-{number}"),
            (sequence, Some(index)) => write!(f, "{epoch}-{sequence}.{index}"),
        }
    }
}

/// What of the kept messages somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// The newest so many of each channel; `last` is one.
    Newest(u64),
    /// Those of the last so long.
    Span(Duration),
    /// Those behind a position.
    After(Position),
}

impl Since {
    /// Reads `last`, a number, a duration with its unit (`5m`), or a position.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Since, String> {
        if text == "last" {
            return Ok(Since::Newest(1));
        }
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(Since::Newest(text.parse().unwrap_or(u64::MAX)));
        }
        if let Some(position) = Position::parse(text) {
            return Ok(Since::After(position));
        }
        match units::duration(text) {
            Ok(span) if text.ends_with(|c: char| c.is_ascii_alphabetic()) => Ok(Since::Span(span)),
            _ => Err(format!(
                "invalid since {text:?}: write last, a number of messages, a duration such as 5m, or \
                 a position such as q7Zk2pYa-1040"
            )),
        }
    }

    /// The position, if it is one.
    pub fn position(self) -> Option<Position> {
        match self {
            Since::After(position) => Some(position),
            Since::Newest(_) | Since::Span(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_in_a_stream_have_two_numbers() {
        let parse = |text: &str| Position::parse(text).map(|position| position.to_string());
        for text in ["q7Zk2pYa-0", "q7Zk2pYa-0.0", "q7Zk2pYa-1040.7", "q7Zk2pYa-1.65535"] {
            assert_eq!(parse(text).as_deref(), Some(text));
        }
        let number = |text: &str| Position::parse(text).unwrap().number;
        assert!(number("q7Zk2pYa-9.65535") < number("q7Zk2pYa-10.0"));
        assert!(number("q7Zk2pYa-9.1") < number("q7Zk2pYa-9.2"));
        assert!(number("q7Zk2pYa-99999999999999999999") < number("q7Zk2pYa-0.0"));
        for text in ["q7Zk2pYa-1.", "q7Zk2pYa-.1", "q7Zk2pYa-1.2.3", "q7Zk2pYa-1.x"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_since_may_be() {
        let position = Position { epoch: Epoch::parse("q7Zk2pYa").unwrap(), number: 1040 };
        for (text, since) in [
            ("last", Since::Newest(1)),
            ("0", Since::Newest(0)),
            ("25", Since::Newest(25)),
            ("99999999999999999999999", Since::Newest(u64::MAX)),
            ("5m", Since::Span(Duration::from_secs(300))),
            ("250ms", Since::Span(Duration::from_millis(250))),
            ("q7Zk2pYa-1040", Since::After(position)),
        ] {
            assert_eq!(Since::parse(text), Ok(since), "{text}");
        }
        assert_eq!(position.to_string(), "q7Zk2pYa-1040");
        for text in [
            "",
            "Last",
            "-1",
            "1.5",
            "q7Zk2pYa",
            "q7Zk2pYa-",
            "q7Zk2pY-1",
            "q7Zk2pY_-1",
            "a b",
            "11y",
        ] {
            assert!(Since::parse(text).is_err(), "{text}");
        }
    }
}
