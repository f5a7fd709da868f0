//! What comes from the server, from compressed messages to uncompressed ones (RFC 7692).
//!
//! It lies below tungstenite, which sees a compressed message as an uncompressed one in fragments:
//! its bounds and its checks hold as ever. A message may have a gigabyte; it is inflated piece by
//! piece, so that it is never there twice. Pure: bytes in, bytes out.

use std::fmt;

use flate2::{Decompress, FlushDecompress, Status};
use tokio::io::ReadBuf;

use crate::ws::frame::{FIN, Header, MAX_HEADER, OpCode, RSV1, push_frame};

/// What each message ends with (section 7.2.1), and a last block that is empty. The stream ends there
/// exactly if the message was whole.
const END: [u8; 6] = [0, 0, 0xff, 0xff, 3, 0];

/// How much of [`END`] the messages of a stream that goes on have.
const TAIL: usize = 4;

/// The largest part of a message that is inflated at a time, in bytes.
const PIECE: usize = 64 * 1024;

/// What the server did wrong, and the close code that says so.
#[derive(Debug)]
pub(super) struct Violation {
    /// The close code.
    pub(super) code: u16,
    /// What was wrong.
    pub(super) why: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Violation {}

fn violation(code: u16, why: impl Into<String>) -> Violation {
    Violation { code, why: why.into() }
}

/// Where in the server's bytes we are.
enum State {
    /// A frame's header comes next.
    Header,
    /// So many bytes are passed on as they are.
    Plain(u64),
    /// So many bytes are inflated; whether the message ends behind them.
    Packed(u64, bool),
    /// So many bytes of [`END`] were inflated.
    End(usize),
}

/// A compressed message that is under way.
struct Packed {
    opcode: u8,
    /// Whether a fragment of it is out.
    has_begun: bool,
    /// Whether its frames hold anything at all.
    has_body: bool,
    /// What was inflated and is not out.
    piece: Vec<u8>,
}

impl Packed {
    fn new(opcode: u8) -> Packed {
        Packed { opcode, has_begun: false, has_body: false, piece: Vec::new() }
    }
}

/// The server's frames, from compressed to uncompressed ones; no I/O.
pub(super) struct Frames {
    inflate: Decompress,
    takeover: bool,
    largest: u64,
    /// What came and was not taken apart.
    raw: Vec<u8>,
    /// The start of what is left of `raw`.
    at: usize,
    /// What is to be read.
    out: Vec<u8>,
    /// How much of `out` was read.
    out_at: usize,
    state: State,
    message: Option<Packed>,
    /// The deflate stream said that it is at its end; what follows begins another one.
    is_over: bool,
}

impl Frames {
    /// `raw` is what came already; no frame may be larger than `largest` bytes.
    pub(super) fn new(raw: Vec<u8>, takeover: bool, largest: u64) -> Frames {
        Frames {
            inflate: Decompress::new(false),
            takeover,
            largest,
            raw,
            at: 0,
            out: Vec::new(),
            out_at: 0,
            state: State::Header,
            message: None,
            is_over: false,
        }
    }

    /// More bytes of the server.
    pub(super) fn came(&mut self, bytes: &[u8]) {
        self.raw.drain(..self.at);
        self.at = 0;
        self.raw.extend_from_slice(bytes);
    }

    /// Hands out what is ready; whether there was anything.
    pub(super) fn take(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let ready = &self.out[self.out_at..];
        if ready.is_empty() {
            return false;
        }
        let n = ready.len().min(buf.remaining());
        buf.put_slice(&ready[..n]);
        self.out_at += n;
        if self.out_at == self.out.len() {
            self.out.clear();
            self.out_at = 0;
        }
        true
    }

    /// One step; false if it needs more bytes.
    pub(super) fn step(&mut self) -> Result<bool, Violation> {
        let rest = (self.raw.len() - self.at) as u64;
        match self.state {
            State::Header => return self.header(),
            State::Plain(0) => self.state = State::Header,
            State::Plain(left) => {
                let n = left.min(rest) as usize;
                self.out.extend_from_slice(&self.raw[self.at..self.at + n]);
                self.at += n;
                self.state = State::Plain(left - n as u64);
                return Ok(n > 0);
            }
            State::Packed(0, true) => self.state = State::End(0),
            State::Packed(0, false) => self.state = State::Header,
            State::Packed(left, last) => {
                let n = left.min(rest) as usize;
                let raw = std::mem::take(&mut self.raw);
                let inflated = self.inflate(&raw[self.at..self.at + n]);
                self.raw = raw;
                let (used, _) = inflated?;
                if let Some(message) = &mut self.message {
                    message.has_body |= used > 0;
                }
                self.at += used;
                self.state = State::Packed(left - used as u64, last);
                return Ok(used > 0 || !self.out.is_empty());
            }
            State::End(done) => return self.finish(done).map(|()| true),
        }
        Ok(true)
    }

    /// Inflates what a message ends with, and what is left of it.
    fn finish(&mut self, done: usize) -> Result<(), Violation> {
        let end = if self.takeover { &END[..TAIL] } else { &END[..] };
        // Some compressors have nothing to say of an empty message, or nothing after a last block.
        let has_body = self.message.as_ref().is_some_and(|message| message.has_body);
        if has_body && !(done == 0 && self.is_over) {
            let (used, is_full) = self.inflate(&end[done..])?;
            if is_full || used > 0 && done + used < end.len() {
                self.state = State::End(done + used);
                return Ok(());
            }
            if !self.takeover && !self.is_over {
                return Err(violation(1007, "a compressed message that is cut short"));
            }
        }
        if let Some(message) = self.message.take() {
            let opcode = if message.has_begun { 0 } else { message.opcode };
            push_frame(&mut self.out, FIN | opcode, &message.piece);
        }
        if !self.takeover {
            self.inflate.reset(false);
        }
        self.is_over = false;
        self.state = State::Header;
        Ok(())
    }

    /// Reads a header, once all of it is there.
    fn header(&mut self) -> Result<bool, Violation> {
        let bytes = &self.raw[self.at..];
        let bytes = &bytes[..bytes.len().min(MAX_HEADER)];
        let Some(header) = Header::read(bytes).filter(|header| bytes.len() >= header.size()) else {
            return Ok(false);
        };
        let length = header
            .payload_length(bytes)
            .map_err(|_| violation(1002, "a length of a frame that is not in its shortest form"))?
            .unwrap_or_default();
        let bits = if header.is_masked() { 0 } else { header.reserved_bits() };
        match (header.opcode(), &self.message, bits) {
            (Some(OpCode::Text | OpCode::Binary), Some(_), _) => {
                return Err(violation(1002, "a message that begins within another one"));
            }
            (Some(opcode @ (OpCode::Text | OpCode::Binary)), None, RSV1) => {
                let opcode = opcode as u8;
                self.message = Some(Packed::new(opcode));
                self.state = State::Packed(length, header.is_last());
            }
            (Some(OpCode::Continuation), Some(_), 0) if !header.is_masked() => {
                self.state = State::Packed(length, header.is_last());
            }
            // Among them what may not be, which tungstenite refuses.
            _ => {
                self.out.extend_from_slice(&bytes[..header.size()]);
                self.state = State::Plain(length);
            }
        }
        if let State::Packed(..) = self.state
            && length > self.largest
        {
            return Err(violation(
                1009,
                format!("a frame of {length} bytes, over {}", self.largest),
            ));
        }
        self.at += header.size();
        Ok(true)
    }

    /// Inflates until the input is used up, or a piece is full: how much was used, and whether more
    /// may be ready without any input.
    fn inflate(&mut self, input: &[u8]) -> Result<(usize, bool), Violation> {
        let Some(message) = &mut self.message else { return Ok((input.len(), false)) };
        let mut used = 0;
        loop {
            let room = PIECE - message.piece.len();
            message.piece.reserve_exact(if message.has_begun { room } else { room.min(4096) });
            let (before, had) = (self.inflate.total_in(), message.piece.len());
            let status = self
                .inflate
                .decompress_vec(&input[used..], &mut message.piece, FlushDecompress::None)
                .map_err(|e| violation(1007, format!("a message that cannot be inflated ({e})")))?;
            // It took no more than the slice has.
            let took = (self.inflate.total_in() - before) as usize;
            used += took;
            if took > 0 {
                self.is_over = false;
            }
            if status == Status::StreamEnd {
                // A last block may end a message, but not the connection (section 7.2.3.4).
                self.inflate.reset(false);
                self.is_over = true;
            }
            if message.piece.len() >= PIECE {
                let first = if message.has_begun { 0 } else { message.opcode };
                message.has_begun = true;
                push_frame(&mut self.out, first, &message.piece);
                message.piece.clear();
                return Ok((used, true));
            }
            // With room to spare it has said all that it can say.
            let is_full = message.piece.len() == message.piece.capacity();
            if used == input.len() && !is_full || took == 0 && message.piece.len() == had {
                return Ok((used, false));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};
    use proptest::prelude::*;

    use super::*;

    /// What a server sends for a message.
    fn packed(state: &mut Compress, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(payload.len() * 2 + 100);
        state.compress_vec(payload, &mut out, FlushCompress::Sync).unwrap();
        out.strip_suffix(&END[..TAIL]).unwrap_or(&out).to_vec()
    }

    fn deflate() -> Compress {
        Compress::new(Compression::default(), false)
    }

    /// The frames that come out, in these pieces: first byte and payload.
    fn through(takeover: bool, bytes: &[u8], size: usize) -> Result<Vec<(u8, Vec<u8>)>, u16> {
        let mut frames = Frames::new(Vec::new(), takeover, 1 << 20);
        let mut out = Vec::new();
        for piece in bytes.chunks(size) {
            frames.came(piece);
            loop {
                let mut room = vec![0; 1000];
                let mut buf = ReadBuf::new(&mut room);
                if frames.take(&mut buf) {
                    out.extend_from_slice(buf.filled());
                } else if !frames.step().map_err(|e| e.code)? {
                    break;
                }
            }
        }
        let (mut found, mut rest) = (Vec::new(), &out[..]);
        while let Some(header) = Header::read(rest) {
            let length = header.payload_length(rest).unwrap().unwrap() as usize;
            // The last one may have come in part.
            let end = rest.len().min(header.size().saturating_add(length));
            found.push((rest[0], rest[header.size()..end].to_vec()));
            rest = &rest[end..];
        }
        Ok(found)
    }

    /// One frame with this first byte.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        push_frame(&mut out, first, payload);
        out
    }

    /// The message that fragments make.
    fn joined(frames: &[(u8, Vec<u8>)]) -> (u8, Vec<u8>) {
        for (n, (first, payload)) in frames.iter().enumerate() {
            assert_eq!(first & 0x0f == 0, n > 0, "{frames:?}");
            assert_eq!(first & 0xf0, if n + 1 == frames.len() { FIN } else { 0 });
            assert!(payload.len() <= PIECE);
        }
        (frames[0].0 & 0x0f, frames.iter().flat_map(|(_, payload)| payload.clone()).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// Whatever is sent comes out, in whatever pieces it came.
        #[test]
        fn messages_come_out_as_they_went_in(
            words in prop::collection::vec(any::<u8>(), 0..2000),
            repeat in 1usize..200,
            cut in 0.0f64..1.0,
            size in prop_oneof![Just(1usize), 2usize..5000],
            takeover: bool,
        ) {
            let message = words.repeat(if size < 100 { 1 } else { repeat });
            // In two frames, with another one between them.
            let body = packed(&mut deflate(), &message);
            let (start, end) = body.split_at((body.len() as f64 * cut) as usize);
            let bytes = [frame(RSV1 | 2, start), frame(FIN | 9, b"p"), frame(FIN, end)].concat();
            let mut out = through(takeover, &bytes, size).unwrap();
            let ping = out.iter().position(|(first, _)| *first == FIN | 9).unwrap();
            prop_assert_eq!(out.remove(ping).1, b"p");
            prop_assert_eq!(joined(&out), (2, message.clone()));
            // And in a row, with the window that is left.
            let mut state = deflate();
            let bytes: Vec<u8> = (0..3)
                .flat_map(|_| frame(FIN | RSV1 | 1, &packed(&mut state, &message)))
                .collect();
            let out = through(true, &bytes, size).unwrap();
            let ends = out.iter().filter(|(first, _)| first & FIN != 0).count();
            prop_assert_eq!(ends, 3);
            let all: Vec<u8> = out.into_iter().flat_map(|(_, payload)| payload).collect();
            prop_assert_eq!(all, message.repeat(3));
        }

        /// Nothing that comes makes it panic, or spin.
        #[test]
        fn any_bytes(bytes: Vec<u8>, first: u8, takeover: bool) {
            let _ = through(takeover, &bytes, 7);
            let _ = through(takeover, &frame(FIN | RSV1 | first & 0x0f, &bytes), 3);
        }
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // Sections 7.2.3.1, 7.2.3.3 to 7.2.3.5; one without the octet after its last block.
        for body in [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
        ] {
            for (takeover, size) in [(true, 1), (false, 1), (true, 100), (false, 100)] {
                let bytes = [frame(FIN | RSV1 | 1, body), frame(FIN | 1, b"plain")].concat();
                let out = through(takeover, &bytes, size).unwrap();
                let expected = [(FIN | 1, b"Hello".to_vec()), (FIN | 1, b"plain".to_vec())];
                assert_eq!(out, expected, "{body:x?}");
            }
        }
        // Section 7.2.3.6, and what some send instead.
        for body in [&[0][..], &[]] {
            let out = through(true, &frame(FIN | RSV1 | 2, body), 1);
            assert_eq!(out, Ok(vec![(FIN | 2, Vec::new())]));
        }
    }

    #[test]
    fn a_message_of_whole_pieces_leaves_nothing_behind() {
        for length in [PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
            let message = vec![b'x'; length];
            let mut state = deflate();
            let one = frame(FIN | RSV1 | 2, &packed(&mut state, &message));
            let two = frame(FIN | RSV1 | 2, &packed(&mut state, b"two"));
            let mut out = through(true, &[one, two].concat(), 10_000).unwrap();
            assert_eq!(out.pop(), Some((FIN | 2, b"two".to_vec())), "{length}");
            assert_eq!(joined(&out), (2, message));
        }
    }

    #[test]
    fn violations_have_their_codes() {
        let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        let begun = frame(RSV1 | 1, &hello[..3]);
        for (bytes, takeover, code) in [
            (frame(FIN | RSV1 | 1, &[0xff; 10]), true, 1007),
            (frame(FIN | RSV1 | 1, &hello[..4]), false, 1007),
            // It refers to a message before, and there is none.
            (frame(FIN | RSV1 | 1, &[0xf2, 0x00, 0x11, 0x00, 0x00]), false, 1007),
            ([begun.clone(), frame(FIN | 1, b"x")].concat(), true, 1002),
            ([begun, frame(FIN | RSV1 | 1, &hello)].concat(), true, 1002),
            (vec![0xc1, 126, 0, 3], true, 1002),
            (vec![0xc1, 127, 0, 0, 0, 0, 0, 0x20, 0, 0], true, 1009),
        ] {
            assert_eq!(through(takeover, &bytes, 1000), Err(code), "{bytes:x?}");
        }
        // What else may not be is left to tungstenite, which sees it as it came.
        for first in [FIN | RSV1 | 9, FIN | RSV1, FIN | RSV1 | 0x20 | 1, FIN | RSV1 | 3] {
            assert_eq!(through(true, &frame(first, b"x"), 1), Ok(vec![(first, b"x".to_vec())]));
        }
    }
}
