//! The bytes on their way into the listener's stdin, and what each line was, so that the exchange
//! knows when a line is fully written.

use std::collections::VecDeque;

use crate::listener::protocol::connid::ConnId;

/// What a line was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// `onClientOpen` of this connection.
    Open(ConnId),
    /// `onClientClose` of this connection.
    Close(ConnId),
    /// An asked event, by its id.
    Asked(u64),
    /// A result line.
    Result,
}

/// Bytes between the exchange and the pipe.
#[derive(Debug, Default)]
pub struct Wire {
    buffer: Vec<u8>,
    taken: usize,
    /// Offset, since the incarnation began, of the first byte of `buffer`.
    base: u64,
    marks: VecDeque<(u64, Mark)>,
}

impl Wire {
    /// Appends a line that `write` makes; returns the offset of its first byte.
    pub fn line(&mut self, mark: Mark, write: impl FnOnce(&mut Vec<u8>)) -> u64 {
        let start = self.base + self.buffer.len() as u64;
        write(&mut self.buffer);
        self.marks.push_back((self.base + self.buffer.len() as u64, mark));
        start
    }

    /// The line that was appended last, from the offset that [`Wire::line`] returned.
    pub fn last_line(&self, start: u64) -> &[u8] {
        let at = usize::try_from(start - self.base).unwrap_or(self.buffer.len());
        self.buffer.get(at..).unwrap_or_default()
    }

    /// Leaves room for so many lines at most, where there are fewer.
    pub fn shrink(&mut self, room: usize) {
        self.marks.shrink_to(room);
        if self.unwritten().is_empty() {
            self.buffer.shrink_to(room);
        }
    }

    /// The bytes to write.
    pub fn unwritten(&self) -> &[u8] {
        &self.buffer[self.taken..]
    }

    /// Offset up to which the pipe has taken bytes.
    pub fn written_to(&self) -> u64 {
        self.base + self.taken as u64
    }

    /// Notes that the pipe took `n` bytes.
    pub fn advance(&mut self, n: usize) {
        self.taken = (self.taken + n).min(self.buffer.len());
        if self.taken == self.buffer.len() {
            self.base += self.taken as u64;
            self.taken = 0;
            self.buffer.clear();
            // One huge line must not leave its buffer behind.
            self.buffer.shrink_to(256 * 1024);
        }
    }

    /// The next line that is fully written.
    pub fn pop_written(&mut self) -> Option<Mark> {
        let (end, mark) = *self.marks.front()?;
        if end > self.written_to() {
            return None;
        }
        self.marks.pop_front();
        Some(mark)
    }

    /// Takes the line that begins at `start` back, if the pipe has no byte of it yet; returns its
    /// length.
    pub fn take_back(&mut self, start: u64, mark: Mark) -> Option<usize> {
        if start < self.written_to() {
            return None;
        }
        let index = self.marks.iter().position(|(_, m)| *m == mark)?;
        let (end, _) = self.marks.remove(index)?;
        // Both lie in the buffer, which holds whatever is unwritten.
        let from = usize::try_from(start - self.base).ok()?;
        let to = usize::try_from(end - self.base).ok()?;
        self.buffer.drain(from..to);
        for (end, _) in self.marks.iter_mut().skip(index) {
            *end -= (to - from) as u64;
        }
        Some(to - from)
    }

    /// Throws everything away: the incarnation is gone.
    pub fn reset(&mut self) {
        *self = Wire::default();
    }
}
