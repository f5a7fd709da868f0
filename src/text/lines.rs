//! Bytes from a pipe into lines, each bounded. Pure.
//!
//! A line that is too long is either thrown away ([`Lines::feed`]) or cut ([`Lines::feed_cut`]); one
//! stream of bytes uses one of the two.

/// What is left of a line whose end has not come.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
    /// Whether the line at hand was too long and its rest is thrown away up to its newline.
    discarding: bool,
}

impl Lines {
    /// Takes bytes in; hands out every whole line without its newline, `None` for one that is over
    /// `max` bytes.
    pub fn feed(&mut self, mut bytes: &[u8], max: usize, mut line: impl FnMut(Option<&[u8]>)) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (head, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            if self.discarding {
                self.discarding = false;
            } else if self.partial.len() + head.len() > max {
                self.partial = Vec::new();
                line(None);
            } else if self.partial.is_empty() {
                line(Some(head));
            } else {
                self.partial.extend_from_slice(head);
                line(Some(&self.partial));
                self.partial.clear();
                // One huge line must not leave its buffer behind.
                self.partial.shrink_to(64 * 1024);
            }
        }
        if self.discarding {
            return;
        }
        if self.partial.len() + bytes.len() > max {
            self.partial = Vec::new();
            self.discarding = true;
            line(None);
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }

    /// Takes bytes in; hands out every whole line without its newline, the first `max` bytes of one
    /// that is longer, and whether it was cut.
    pub fn feed_cut(&mut self, mut bytes: &[u8], max: usize, mut line: impl FnMut(&[u8], bool)) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.keep_up_to(&bytes[..end], max);
            line(&self.partial, std::mem::take(&mut self.discarding));
            self.partial.clear();
            bytes = &bytes[end + 1..];
        }
        self.keep_up_to(bytes, max);
    }

    fn keep_up_to(&mut self, bytes: &[u8], max: usize) {
        let room = max.saturating_sub(self.partial.len());
        self.discarding |= bytes.len() > room;
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// The end, after [`feed_cut`](Lines::feed_cut): hands out a last line without a newline.
    pub fn end_cut(&mut self, line: impl FnOnce(&[u8], bool)) {
        let last = std::mem::take(&mut self.partial);
        if !last.is_empty() || self.discarding {
            line(&last, self.discarding);
        }
        self.discarding = false;
    }

    /// The end, after [`feed`](Lines::feed): hands out a last line without a newline.
    pub fn end(&mut self, line: impl FnOnce(&[u8])) {
        let last = std::mem::take(&mut self.partial);
        if !last.is_empty() && !self.discarding {
            line(&last);
        }
        self.discarding = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(chunks: &[&[u8]], max: usize) -> Vec<Option<Vec<u8>>> {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        for chunk in chunks {
            lines.feed(chunk, max, |line| out.push(line.map(<[u8]>::to_vec)));
        }
        lines.end(|line| out.push(Some(line.to_vec())));
        out
    }

    proptest! {
        /// However the bytes are cut, the lines are the same.
        #[test]
        fn chunks_do_not_matter(
            lines in proptest::collection::vec("[a-z]{0,12}", 0..8),
            cut in 1usize..9,
            ended: bool,
        ) {
            let mut bytes = lines.join("\n").into_bytes();
            if ended {
                bytes.push(b'\n');
            }
            let whole = all(&[&bytes], 8);
            let chunks: Vec<&[u8]> = bytes.chunks(cut).collect();
            prop_assert_eq!(all(&chunks, 8), whole);
        }
    }

    #[test]
    fn a_long_line_is_cut_where_that_is_wanted() {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        for chunk in [&b"ab\ntoo lo"[..], b"ng\n\nfour\nlast o", b"ne"] {
            lines.feed_cut(chunk, 4, |line, cut| out.push((line.to_vec(), cut)));
        }
        lines.end_cut(|line, cut| out.push((line.to_vec(), cut)));
        let expected: [(&[u8], bool); 5] =
            [(b"ab", false), (b"too ", true), (b"", false), (b"four", false), (b"last", true)];
        assert_eq!(out, expected.map(|(line, cut)| (line.to_vec(), cut)));
    }

    #[test]
    fn a_long_line_is_thrown_away_up_to_its_newline_and_the_last_needs_none() {
        let got = all(&[b"ab\ntoo lo", b"ng\nok\nlast"], 4);
        let expected: [Option<&[u8]>; 4] = [Some(b"ab"), None, Some(b"ok"), Some(b"last")];
        assert_eq!(got, expected.map(|line| line.map(<[u8]>::to_vec)));
    }
}
