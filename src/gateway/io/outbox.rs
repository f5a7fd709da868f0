//! The frames that a connection's socket has not taken yet. The socket may have taken a part of the
//! first frame.
//!
//! The queue is bounded in bytes by `max-queue`, but an empty queue takes every message. Senders do not
//! wait: if a message does not fit, the connection is closed as a slow consumer.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use bytes::{Buf, Bytes};

/// The most slices in one `writev`.
const SLICES: usize = 64;

/// The memory of a waiting frame beside its bytes. It is counted because thousands of tiny frames would
/// otherwise take many times the memory that `max-queue` allows.
const FRAME_COST: usize = size_of::<Bytes>();

/// Frames that wait for one socket.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// Whether the socket has taken a part of the first frame, which must then be sent to its end.
    begun: bool,
}

/// The result of a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    /// The socket took everything.
    Empty,
    /// The socket takes no more for now; the value says whether it took anything.
    Full(bool),
}

impl Outbox {
    /// Bytes of the waiting frames.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of the waiting frames and of the memory beside them. This is what `max-queue` bounds.
    pub(crate) fn cost(&self) -> usize {
        self.bytes + self.frames.len() * FRAME_COST
    }

    /// Adds a frame of which the socket has already taken `sent` bytes. Returns false if the frame does
    /// not fit in `max` bytes.
    pub(crate) fn push(&mut self, frame: Bytes, sent: usize, max: usize) -> bool {
        let rest = frame.len() - sent;
        if !self.frames.is_empty() && self.cost() + rest > max {
            return false;
        }
        self.push_always(frame, sent);
        true
    }

    /// Adds a frame whatever the bound: control frames and responses are small.
    pub(crate) fn push_always(&mut self, mut frame: Bytes, sent: usize) {
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

    /// Empties the queue for another connection and gives back the memory of a large one.
    pub(crate) fn reset(&mut self) {
        self.frames.clear();
        self.frames.shrink_to(SLICES);
        self.bytes = 0;
        self.begun = false;
    }

    /// Drops the waiting frames, except one of which the socket has taken a part.
    pub(crate) fn discard_waiting(&mut self) {
        self.frames.truncate(usize::from(self.begun));
        self.bytes = self.frames.iter().map(Bytes::len).sum();
    }

    /// Writes as much as the socket takes.
    ///
    /// # Errors
    /// Those of the socket, except `WouldBlock` and `Interrupted`.
    pub(crate) fn flush(&mut self, socket: &mut impl Write) -> io::Result<Flush> {
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

    /// A socket that takes `room` bytes and then blocks.
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
        /// However few bytes the socket takes at a time, it gets whole frames in their order, and
        /// nothing of a frame that was dropped.
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
        /// A frame of this length. If true, a write past the empty queue has sent half of it.
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
        /// Compares it with a plain list of frames: which are refused, which wait, what is written.
        #[test]
        fn it_is_a_bounded_list_of_frames(
            ops in prop::collection::vec(op(), 0..60),
            max in 0usize..400,
        ) {
            let mut outbox = Outbox::default();
            let mut socket = Narrow { room: 0, got: Vec::new() };
            // For each frame: its byte, the rest of its length, and whether it was begun.
            let mut model: VecDeque<(u8, usize, bool)> = VecDeque::new();
            let mut expected = Vec::new();
            for (i, op) in ops.into_iter().enumerate() {
                let byte = i as u8;
                match op {
                    Op::Push(length, begun) => {
                        // Only an empty queue allows a write past it.
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
