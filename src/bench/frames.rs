//! Frames in both directions, as a load test needs them: what is sent is written where it is sent
//! from, and of what comes only the mark is looked at. Messages are neither kept nor copied.

use std::mem;

use crate::bench::mark::{LOOK, Mark};
use crate::ws::frame::{BadLength, FIN, Header, MAX_CONTROL, OpCode, unmask};

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// A whole message, with its mark if it has one.
    Message(Option<Mark>),
    /// A ping with this payload.
    Ping(Vec<u8>),
    /// A Close, with its code (1005 where it has none) and reason.
    Close(u16, String),
}

/// The frames that come over one connection.
#[derive(Debug, Default)]
pub struct Frames {
    /// The front of a frame, until there is enough of it.
    carry: Vec<u8>,
    /// Bytes of the payload under way that are still to come.
    skip: u64,
    /// Whether the frame under way is the last one of its message.
    is_last: bool,
    /// Whether a fragmented message is under way.
    is_fragmented: bool,
    /// The front of a fragmented message.
    front: Vec<u8>,
    /// The mark of the message under way, unless it is fragmented.
    mark: Option<Mark>,
}

impl Frames {
    /// Takes in what came, in pieces of any size.
    ///
    /// # Errors
    /// What the server did wrong.
    pub fn feed(&mut self, bytes: &[u8], found: &mut Vec<Item>) -> Result<(), String> {
        if self.carry.is_empty() {
            return self.take(bytes, found);
        }
        let mut all = mem::take(&mut self.carry);
        all.extend_from_slice(bytes);
        self.take(&all, found)
    }

    fn take(&mut self, mut bytes: &[u8], found: &mut Vec<Item>) -> Result<(), String> {
        loop {
            if self.skip > 0 {
                let skipped = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                self.skip -= skipped as u64;
                bytes = &bytes[skipped..];
                if self.skip > 0 {
                    return Ok(());
                }
                self.finish(found);
            }
            if bytes.is_empty() {
                return Ok(());
            }
            let Some(used) = self.frame(bytes, found)? else {
                self.carry = bytes.to_vec();
                return Ok(());
            };
            bytes = &bytes[used..];
        }
    }

    /// Takes a frame's header, and what is looked at of its payload; `None` if it is not all there.
    fn frame(&mut self, bytes: &[u8], found: &mut Vec<Item>) -> Result<Option<usize>, String> {
        let Some(header) = Header::read(bytes) else { return Ok(None) };
        let opcode = header.opcode().ok_or("a frame has a reserved opcode")?;
        if header.is_masked() || header.reserved_bits() != 0 {
            return Err("a frame is masked, or has a reserved bit".to_owned());
        }
        let length = match header.payload_length(bytes) {
            Ok(Some(length)) => length,
            Ok(None) => return Ok(None),
            Err(BadLength) => return Err("the length of a frame is invalid".to_owned()),
        };
        if opcode.is_control() && (length > MAX_CONTROL as u64 || !header.is_last()) {
            return Err("a control frame is too long or fragmented".to_owned());
        }
        let most = if opcode.is_control() { MAX_CONTROL } else { LOOK };
        let shown = most.min(usize::try_from(length).unwrap_or(usize::MAX));
        let Some(front) = bytes.get(header.size()..header.size() + shown) else { return Ok(None) };
        match opcode {
            OpCode::Ping => found.push(Item::Ping(front.to_vec())),
            OpCode::Pong => {}
            OpCode::Close => {
                let code = front.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                let reason = String::from_utf8_lossy(front.get(2..).unwrap_or_default());
                found.push(Item::Close(code, reason.into_owned()));
            }
            OpCode::Text | OpCode::Binary | OpCode::Continuation => {
                if (opcode == OpCode::Continuation) != self.is_fragmented {
                    return Err("a fragment stands in the wrong place".to_owned());
                }
                self.begin(header.is_last(), front);
                self.skip = length;
                if length == 0 {
                    self.finish(found);
                }
                return Ok(Some(header.size()));
            }
        }
        Ok(Some(header.size() + shown))
    }

    fn begin(&mut self, is_last: bool, front: &[u8]) {
        self.is_last = is_last;
        if is_last && !self.is_fragmented {
            self.mark = Mark::find(front);
            return;
        }
        self.is_fragmented = true;
        let room = LOOK.saturating_sub(self.front.len());
        self.front.extend_from_slice(&front[..front.len().min(room)]);
    }

    /// The payload of a frame is all there.
    fn finish(&mut self, found: &mut Vec<Item>) {
        if !self.is_last {
            return;
        }
        if mem::take(&mut self.is_fragmented) {
            self.mark = Mark::find(&mem::take(&mut self.front));
        }
        found.push(Item::Message(self.mark.take()));
    }
}

/// Appends a client's frame, which is masked (RFC 6455, section 5.3).
pub(super) fn push(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    out.push(FIN | opcode as u8);
    match payload.len() {
        short @ 0..126 => out.push(0x80 | short as u8),
        middle @ 126..65_536 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    let mask = fastrand::u32(..).to_ne_bytes();
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    // Masking twice is none: it is the same operation.
    unmask(&mut out[start..], mask);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::frame;

    fn marked(number: u64, size: usize) -> (Vec<u8>, Item) {
        let mark = Mark { run: 1, sender: 2, number, due: 3 };
        let mut message = vec![b'x'; size];
        mark.write(&mut message);
        (message, Item::Message(Some(mark)))
    }

    #[test]
    fn messages_come_in_pieces_of_any_size() {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (number, size) in [32, 33, 125, 126, 200, 70_000, 32].into_iter().enumerate() {
            let (message, item) = marked(number as u64, size);
            frame::push_frame(&mut bytes, FIN | 1, &message);
            frame::push_frame(&mut bytes, FIN | 9, b"ping");
            expected.extend([item, Item::Ping(b"ping".to_vec())]);
        }
        // A fragmented one, with a ping between, and one without a mark, and an empty one.
        let (message, item) = marked(9, 100);
        frame::push_frame(&mut bytes, 1, &message[..10]);
        frame::push_frame(&mut bytes, FIN | 9, b"");
        frame::push_frame(&mut bytes, 0, b"");
        frame::push_frame(&mut bytes, FIN, &message[10..]);
        frame::push_frame(&mut bytes, FIN | 2, b"hello");
        frame::push_frame(&mut bytes, FIN | 1, b"");
        frame::push_frame(&mut bytes, FIN | 8, b"\x03\xf0slow");
        expected.extend([Item::Ping(Vec::new()), item, Item::Message(None), Item::Message(None)]);
        expected.push(Item::Close(1008, "slow".to_owned()));
        for step in [1, 2, 3, 7, 31, 193, 1000, bytes.len()] {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for piece in bytes.chunks(step) {
                frames.feed(piece, &mut found).unwrap();
            }
            assert!(found == expected, "{step}: {found:?}");
        }
    }

    #[test]
    fn what_a_server_must_not_do() {
        for bad in [
            &b"\x81\x80\0\0\0\0"[..],
            b"\xc1\0",
            b"\x83\0",
            b"\x80\0",
            b"\x09\0",
            b"\x89\x7e\0\x7e",
        ] {
            let mut found = Vec::new();
            assert!(Frames::default().feed(bad, &mut found).is_err(), "{bad:?} {found:?}");
        }
    }

    #[test]
    fn a_client_masks() {
        for size in [0, 125, 126, 65_535, 65_536] {
            let payload = vec![b'y'; size];
            let mut out = Vec::new();
            push(&mut out, OpCode::Text, &payload);
            let header = Header::read(&out).unwrap();
            assert!(header.is_masked() && header.is_last());
            assert_eq!(header.payload_length(&out), Ok(Some(size as u64)));
            let mask = header.mask(&out).unwrap();
            let mut got = out.split_off(header.size());
            unmask(&mut got, mask);
            assert_eq!(got, payload);
        }
    }
}
