//! The bytes on their way into the listener's stdin. Each line has a mark, so that the exchange learns
//! when that line is fully written.

use std::collections::VecDeque;

use crate::listener::protocol::connid::ConnId;

/// The kind of a line and what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// The `onClientOpen` of a connection.
    Open(ConnId),
    /// The `onClientClose` of a connection.
    Close(ConnId),
    /// An `onJoin` or `onLeave`.
    Membership,
    /// The asked event with this id.
    Asked(u64),
    /// A result line.
    Result,
    /// A message of a client, as a plain line.
    Plain,
}

/// The lines that were made and that the pipe has not taken yet.
#[derive(Debug, Default)]
pub(super) struct PipeBuffer {
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that the pipe has taken.
    taken: usize,
    /// Offset of the first byte of `buffer`. All offsets count from the incarnation's first byte.
    base: u64,
    /// For each line that is not fully written, the offset of its end and its mark.
    marks: VecDeque<(u64, Mark)>,
}

impl PipeBuffer {
    /// Appends the line that `write` makes. Returns the offset of its first byte.
    pub(super) fn line(&mut self, mark: Mark, write: impl FnOnce(&mut Vec<u8>)) -> u64 {
        let start = self.base + self.buffer.len() as u64;
        write(&mut self.buffer);
        self.marks.push_back((self.base + self.buffer.len() as u64, mark));
        start
    }

    /// The line that was appended last; `start` is the offset that [`PipeBuffer::line`] returned.
    pub(super) fn last_line(&self, start: u64) -> &[u8] {
        let at = usize::try_from(start - self.base).unwrap_or(self.buffer.len());
        self.buffer.get(at..).unwrap_or_default()
    }

    /// Gives back memory that more than `room` lines would need.
    pub(super) fn shrink(&mut self, room: usize) {
        self.marks.shrink_to(room);
        if self.unwritten().is_empty() {
            self.buffer.shrink_to(room);
        }
    }

    /// The bytes to write next.
    pub(super) fn unwritten(&self) -> &[u8] {
        &self.buffer[self.taken..]
    }

    /// The offset up to which the pipe has taken bytes.
    pub(super) fn written_to(&self) -> u64 {
        self.base + self.taken as u64
    }

    /// Notes that the pipe took `n` bytes.
    pub(super) fn advance(&mut self, n: usize) {
        self.taken = (self.taken + n).min(self.buffer.len());
        if self.taken == self.buffer.len() {
            self.base += self.taken as u64;
            self.taken = 0;
            self.buffer.clear();
            // A huge line must not leave a huge buffer behind.
            self.buffer.shrink_to(256 * 1024);
        }
    }

    /// Takes out the mark of the next line that is fully written.
    pub(super) fn pop_written(&mut self) -> Option<Mark> {
        let (end, mark) = *self.marks.front()?;
        if end > self.written_to() {
            return None;
        }
        self.marks.pop_front();
        Some(mark)
    }

    /// Removes the line that begins at `start`, unless the pipe has taken a byte of it. Returns the
    /// line's length.
    pub(super) fn take_back(&mut self, start: u64, mark: Mark) -> Option<usize> {
        if start < self.written_to() {
            return None;
        }
        let index = self.marks.iter().position(|(_, m)| *m == mark)?;
        let (end, _) = self.marks.remove(index)?;
        // Both offsets lie in the buffer, because it holds all that is unwritten.
        let from = usize::try_from(start - self.base).ok()?;
        let to = usize::try_from(end - self.base).ok()?;
        self.buffer.drain(from..to);
        for (end, _) in self.marks.iter_mut().skip(index) {
            *end -= (to - from) as u64;
        }
        Some(to - from)
    }

    /// Whether the pipe has taken the beginning of a line and not its end.
    pub(super) fn is_within_line(&self) -> bool {
        self.taken > 0 && self.buffer[self.taken - 1] != b'\n'
    }

    /// Drops all but the first `count` lines. A line that was begun has to be among those.
    pub(super) fn keep_lines(&mut self, count: usize) {
        self.marks.truncate(count);
        // The offset lies in the buffer, because it holds all that is unwritten.
        let end = self.marks.back().and_then(|(end, _)| usize::try_from(end - self.base).ok());
        self.buffer.truncate(end.unwrap_or(self.taken));
        self.advance(0);
    }

    /// Drops everything, because the incarnation has ended.
    pub(super) fn reset(&mut self) {
        *self = PipeBuffer::default();
    }
}
