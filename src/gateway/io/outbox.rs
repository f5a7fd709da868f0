//! What a connection's socket has not taken yet: whole frames, the first of them perhaps in part.
//!
//! Bounded in bytes by `max-queue`; a message always enters an empty queue. Nobody waits here: what
//! does not fit makes the connection a slow consumer.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use bytes::{Buf, Bytes};

/// Slices that one `writev` takes at most.
const SLICES: usize = 64;

/// What a waiting frame costs beside its bytes. It is counted, for thousands of the smallest frames
/// would otherwise take many times the memory that `max-queue` promises.
const FRAME_COST: usize = size_of::<Bytes>();

/// Frames that wait for one socket.
#[derive(Debug, Default)]
pub struct Outbox {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// Whether the first frame was begun: then it has to be finished before anything else goes.
    begun: bool,
}

/// What a flush came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// All is out.
    Empty,
    /// The socket takes no more for now; whether it took anything.
    Full(bool),
}

impl Outbox {
    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that wait and the memory that holds them: what is bounded.
    pub fn cost(&self) -> usize {
        self.bytes + self.frames.len() * FRAME_COST
    }

    /// Adds a frame, `sent` bytes of which are out already; false if it does not fit in `max`.
    pub fn push(&mut self, frame: Bytes, sent: usize, max: usize) -> bool {
        let rest = frame.len() - sent;
        if !self.frames.is_empty() && self.cost() + rest > max {
            return false;
        }
        self.push_always(frame, sent);
        true
    }

    /// Adds a control frame or a response, which is small and never refused.
    pub fn push_always(&mut self, mut frame: Bytes, sent: usize) {
        frame.advance(sent);
        if frame.is_empty() {
            return;
        }
        if sent > 0 {
            self.begun = true;
        }
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// Empties it for another connection; a large one gives its memory back.
    pub fn reset(&mut self) {
        self.frames.clear();
        self.frames.shrink_to(SLICES);
        self.bytes = 0;
        self.begun = false;
    }

    /// Throws the waiting frames away, but for one that was begun.
    pub fn discard_waiting(&mut self) {
        self.frames.truncate(usize::from(self.begun));
        self.bytes = self.frames.iter().map(Bytes::len).sum();
    }

    /// Writes what the socket takes.
    ///
    /// # Errors
    /// The socket's, but for `WouldBlock` and `Interrupted`.
    pub fn flush(&mut self, socket: &mut impl Write) -> io::Result<Flush> {
        let mut took = false;
        while !self.frames.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut count = 0;
            for (slot, frame) in slices.iter_mut().zip(&self.frames) {
                *slot = IoSlice::new(frame);
                count += 1;
            }
            match socket.write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    took = true;
                    self.advance(n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Flush::Full(took)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Flush::Empty)
    }

    fn advance(&mut self, mut n: usize) {
        self.bytes -= n;
        while let Some(first) = self.frames.front_mut() {
            if n < first.len() {
                first.advance(n);
                self.begun |= n > 0;
                return;
            }
            n -= first.len();
            self.frames.pop_front();
            self.begun = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A socket that takes what it is told, then blocks.
    struct Narrow {
        room: usize,
        got: Vec<u8>,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = bytes.len().min(self.room);
            if n == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.room -= n;
            self.got.extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    proptest! {
        /// Whatever the socket takes when, the bytes are those of the frames, in their order, each
        /// frame whole or not at all.
        #[test]
        fn frames_are_never_torn(
            lengths in proptest::collection::vec(1usize..40, 1..20),
            rooms in proptest::collection::vec(0usize..60, 0..20),
            discard_at in 0usize..20,
        ) {
            let mut outbox = Outbox::default();
            let mut socket = Narrow { room: 0, got: Vec::new() };
            for (i, length) in lengths.iter().enumerate() {
                outbox.push_always(Bytes::from(vec![i as u8; *length]), 0);
            }
            let total: usize = lengths.iter().sum();
            for (i, room) in rooms.iter().enumerate() {
                if i == discard_at {
                    outbox.discard_waiting();
                }
                socket.room = *room;
                outbox.flush(&mut socket).unwrap();
            }
            outbox.discard_waiting();
            socket.room = usize::MAX;
            prop_assert_eq!(outbox.flush(&mut socket).unwrap(), Flush::Empty);
            prop_assert_eq!(outbox.bytes(), 0);
            prop_assert!(socket.got.len() <= total);
            let mut at = 0;
            for (i, length) in lengths.iter().enumerate() {
                let run = socket.got[at..].iter().take_while(|b| **b == i as u8).count();
                prop_assert!(run == 0 || run == *length, "frame {} torn", i);
                at += run;
            }
            prop_assert_eq!(at, socket.got.len());
        }
    }

    #[derive(Debug, Clone)]
    enum Op {
        /// A frame so long, perhaps begun by a write that went past the queue.
        Push(usize, bool),
        Control(usize),
        Flush(usize),
        Discard,
        Reset,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (1usize..40, any::<bool>()).prop_map(|(n, begun)| Op::Push(n, begun)),
            1 => (1usize..10).prop_map(Op::Control),
            3 => (0usize..80).prop_map(Op::Flush),
            1 => Just(Op::Discard),
            1 => Just(Op::Reset),
        ]
    }

    proptest! {
        /// Against a plain list of frames: what is refused, what waits, what comes out.
        #[test]
        fn it_is_a_bounded_list_of_frames(
            ops in prop::collection::vec(op(), 0..60),
            max in 0usize..400,
        ) {
            let mut outbox = Outbox::default();
            let mut socket = Narrow { room: 0, got: Vec::new() };
            // Each frame: its byte, what is left of it, whether it was begun.
            let mut model: VecDeque<(u8, usize, bool)> = VecDeque::new();
            let mut expected = Vec::new();
            for (i, op) in ops.into_iter().enumerate() {
                let byte = i as u8;
                match op {
                    Op::Push(length, begun) => {
                        // Only an empty queue is written past.
                        let sent = if begun && model.is_empty() { length / 2 } else { 0 };
                        let frame = Bytes::from(vec![byte; length]);
                        let held: usize = model.iter().map(|(_, n, _)| n + FRAME_COST).sum();
                        let fits = model.is_empty() || held + length - sent <= max;
                        prop_assert_eq!(outbox.push(frame, sent, max), fits);
                        if fits {
                            model.push_back((byte, length - sent, sent > 0));
                        }
                    }
                    Op::Control(length) => {
                        outbox.push_always(Bytes::from(vec![byte; length]), 0);
                        model.push_back((byte, length, false));
                    }
                    Op::Flush(room) => {
                        socket.room = room;
                        let flushed = outbox.flush(&mut socket).unwrap();
                        let mut left = room;
                        while let Some((byte, length, begun)) = model.front_mut() {
                            let n = left.min(*length);
                            expected.extend(std::iter::repeat_n(*byte, n));
                            left -= n;
                            *length -= n;
                            *begun |= n > 0;
                            if *length > 0 {
                                break;
                            }
                            model.pop_front();
                        }
                        let full = Flush::Full(left < room);
                        prop_assert_eq!(flushed, if model.is_empty() { Flush::Empty } else { full });
                    }
                    Op::Discard => {
                        outbox.discard_waiting();
                        model.retain(|(_, _, begun)| *begun);
                    }
                    Op::Reset => {
                        outbox.reset();
                        model.clear();
                    }
                }
                prop_assert_eq!(outbox.bytes(), model.iter().map(|(_, n, _)| n).sum::<usize>());
                prop_assert_eq!(outbox.cost(), outbox.bytes() + model.len() * FRAME_COST);
                prop_assert_eq!(&socket.got, &expected);
            }
        }
    }

    #[test]
    fn a_message_always_enters_an_empty_queue() {
        let mut outbox = Outbox::default();
        assert!(outbox.push(Bytes::from_static(b"longer than the bound"), 0, 4));
        assert!(!outbox.push(Bytes::from_static(b"x"), 0, 4));
    }

    #[test]
    fn the_smallest_frames_are_bounded_too() {
        let mut outbox = Outbox::default();
        let frame = Bytes::from_static(b"\x81\0");
        while outbox.push(frame.clone(), 0, 1_000_000) {}
        assert!(outbox.frames.len() * size_of::<Bytes>() <= 1_000_000);
    }
}
