//! The mark in a message: which run, who sent it, its number, and when it was due. Plain characters,
//! so that a listener may pass it on in JSON, put something around it, or turn it into capitals.

use memchr::memmem;

/// Bytes of a mark, and so of the smallest message.
pub(super) const SIZE: usize = 32;

/// How far into a message a mark is looked for.
pub(super) const LOOK: usize = 192;

/// What a mark begins with.
const START: &[u8; 2] = b"@@";

/// The largest number of a connection, and of a run.
pub(super) const MOST: u32 = (1 << 20) - 1;

/// What a mark says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// A random number for each phase: what is left of an earlier one, or of another program, is told
    /// from what belongs to this one.
    pub run: u32,
    /// The connection that sent it.
    pub sender: u32,
    /// The messages that this connection sent before it in this run.
    pub number: u64,
    /// Nanoseconds from the start of the program's clock to when the message was due.
    pub due: u64,
}

impl Mark {
    /// Writes the mark to the front of a message.
    pub(super) fn write(&self, message: &mut [u8]) {
        message[..2].copy_from_slice(START);
        hex(&mut message[2..7], u64::from(self.run));
        hex(&mut message[7..12], u64::from(self.sender));
        hex(&mut message[12..20], self.number);
        hex(&mut message[20..32], self.due);
    }

    /// The first mark in the front of a message.
    pub(super) fn find(front: &[u8]) -> Option<Mark> {
        Mark::read(front)
            .or_else(|| memmem::find_iter(front, START).find_map(|at| Mark::read(&front[at..])))
    }

    fn read(bytes: &[u8]) -> Option<Mark> {
        let mark = bytes.get(..SIZE)?;
        if !mark.starts_with(START) {
            return None;
        }
        Some(Mark {
            run: u32::try_from(number(&mark[2..7])?).ok()?,
            sender: u32::try_from(number(&mark[7..12])?).ok()?,
            number: number(&mark[12..20])?,
            due: number(&mark[20..32])?,
        })
    }
}

fn hex(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        Some(number << 4 | u64::from(char::from(*digit).to_digit(16)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_where_a_listener_left_it() {
        let mark = Mark { run: MOST, sender: 7, number: 0xffff_fffe, due: 0x1234_5678_9abc };
        let mut message = [b'a'; 40];
        mark.write(&mut message);
        assert_eq!(Mark::find(&message), Some(mark));
        assert_eq!(Mark::find(&message.to_ascii_uppercase()), Some(mark));
        let wrapped = [br#"{"from":"@@me","text":""#.as_slice(), &message, br#""}"#].concat();
        assert_eq!(Mark::find(&wrapped), Some(mark));
        for other in [&b""[..], b"@@", b"hello", &message[..31], &message[1..]] {
            assert_eq!(Mark::find(other), None, "{other:?}");
        }
    }
}
