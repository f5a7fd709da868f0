//! The newest lines of the log, and the newest warning or error of each gateway, for those who look at
//! them while `serve` runs.
//!
//! The log's thread puts lines in, a batch at a time; the threads where the lines are made have no
//! part in it, but for the text of a warning or an error.

use std::collections::{HashMap, VecDeque};
use std::time::SystemTime;

use parking_lot::Mutex;

/// Lines that are kept.
const LINES: usize = 200;

/// Bytes of lines that are kept.
const BYTES: usize = 256 * 1024;

/// Gateways whose newest warning is kept; a reload may bring others again and again.
const GATEWAYS: usize = 4096;

/// The newest lines, shared by the log's thread and those who read them.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    lines: Mutex<Lines>,
    wrong: Mutex<HashMap<String, (SystemTime, String)>>,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<String>,
    bytes: usize,
    /// Lines that came so far.
    end: u64,
}

/// Some of the lines.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The lines, the oldest first.
    pub(crate) lines: Vec<String>,
    /// Lines before these that are not kept any more.
    pub(crate) skipped: u64,
    /// Lines that came so far.
    pub(crate) end: u64,
}

impl Recent {
    /// Takes whole lines in, each with its newline; `count` says how many they are.
    pub(super) fn extend(&self, batch: &[u8], count: u64) {
        let batch = batch.strip_suffix(b"\n").unwrap_or(batch);
        // Where the last lines begin: no more of them are looked at than are kept.
        let start = memchr::memrchr_iter(b'\n', batch).nth(LINES - 1).map_or(0, |at| at + 1);
        let mut lines = self.lines.lock();
        lines.end += count;
        for line in batch[start..].split(|byte| *byte == b'\n') {
            lines.push(line);
        }
    }

    /// The lines behind this many; with `None` all that are kept.
    pub(crate) fn after(&self, seen: Option<u64>) -> Part {
        let lines = self.lines.lock();
        let kept = lines.kept.len() as u64;
        let new = seen.map_or(kept, |seen| lines.end.saturating_sub(seen));
        let shown = new.min(kept);
        let start = (kept - shown) as usize;
        Part {
            lines: lines.kept.range(start..).cloned().collect(),
            skipped: new - shown,
            end: lines.end,
        }
    }

    /// Keeps the text of a gateway's warning or error.
    pub(super) fn went_wrong(&self, gateway: &str, text: impl FnOnce() -> String) {
        // Many at once are as good as the first of them.
        let Some(mut wrong) = self.wrong.try_lock() else { return };
        if wrong.len() >= GATEWAYS && !wrong.contains_key(gateway) {
            wrong.clear();
        }
        wrong.insert(gateway.to_owned(), (SystemTime::now(), text()));
    }

    /// The newest warning or error of a gateway, and when that was.
    pub(crate) fn wrong(&self, gateway: &str) -> Option<(SystemTime, String)> {
        self.wrong.lock().get(gateway).cloned()
    }
}

impl Lines {
    fn push(&mut self, line: &[u8]) {
        let mut room = String::new();
        while self.kept.len() == LINES || self.bytes + line.len() > BYTES {
            // The memory of one that goes is used again.
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.len();
            room = oldest;
        }
        room.clear();
        room.push_str(&String::from_utf8_lossy(line));
        self.bytes += room.len();
        self.kept.push_back(room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_once_and_what_was_missed_is_counted() {
        let recent = Recent::default();
        assert_eq!(recent.after(None), Part { lines: vec![], skipped: 0, end: 0 });
        recent.extend(b"one\ntwo\n", 2);
        let first = recent.after(None);
        assert_eq!((first.lines.as_slice(), first.end), (&["one".into(), "two".into()][..], 2));
        assert_eq!(recent.after(Some(2)), Part { lines: vec![], skipped: 0, end: 2 });
        recent.extend(b"three\n", 1);
        assert_eq!(recent.after(Some(2)).lines, ["three"]);
        for n in 0..500 {
            recent.extend(format!("{n}\n").as_bytes(), 1);
        }
        let late = recent.after(Some(2));
        assert_eq!((late.lines.len(), late.skipped, late.end), (LINES, 301, 503));
        assert_eq!((late.lines[0].as_str(), late.lines[LINES - 1].as_str()), ("300", "499"));
        let newest = recent.after(None);
        assert_eq!((newest.lines, newest.skipped), (late.lines, 0));
    }

    #[test]
    fn a_large_batch_leaves_its_last_lines() {
        let recent = Recent::default();
        let batch: String = (0..1000).map(|n| format!("{n}\n")).collect();
        recent.extend(batch.as_bytes(), 1000);
        let part = recent.after(Some(990));
        assert_eq!((part.lines.first().map(String::as_str), part.lines.len()), (Some("990"), 10));
        assert_eq!(recent.after(None).lines.len(), LINES);
    }

    #[test]
    fn bytes_are_bounded() {
        let recent = Recent::default();
        let long = format!("{}\n", "x".repeat(9_000));
        for _ in 0..100 {
            recent.extend(long.as_bytes(), 1);
        }
        let lines = recent.after(None).lines;
        let bytes: usize = lines.iter().map(String::len).sum();
        assert!(bytes <= BYTES && lines.len() == BYTES / 9_000, "{bytes}");
    }
}
