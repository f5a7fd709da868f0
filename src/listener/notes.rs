//! What is kept of a gateway's listener for those who watch: since when its process runs, the lines
//! that it wrote last to stderr, and how it ended or failed last.
//!
//! The supervisor and the task that drains stderr write here, both on the control runtime. The lock is
//! held for a moment.

use std::collections::VecDeque;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::text::excerpt::excerpt;

/// Lines of stderr that are kept, over all incarnations.
const KEPT: usize = 10;

/// Bytes of a line that are kept.
const MAX_LINE: usize = 1024;

/// What stands between the reason of a failure and each line of stderr in its text.
pub(crate) const STDERR: &str = "\n  stderr: ";

/// The notes on one gateway's listener.
#[derive(Debug, Default)]
pub struct Notes(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    since: Option<SystemTime>,
    stderr: VecDeque<(SystemTime, String)>,
    failure: Option<Failed>,
}

/// How a listener ended, or why it could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    /// When.
    pub(crate) at: SystemTime,
    /// What happened.
    pub(crate) message: String,
    /// The lines that it wrote last to stderr, the oldest first.
    pub(crate) stderr: Vec<String>,
}

impl Notes {
    /// A process was started.
    pub(crate) fn started(&self) {
        self.0.lock().since = Some(SystemTime::now());
    }

    /// It has ended.
    pub(crate) fn ended(&self) {
        self.0.lock().since = None;
    }

    /// It wrote a line to stderr.
    pub(crate) fn wrote(&self, line: &str) {
        let line = excerpt(line, MAX_LINE).into_owned();
        let mut kept = self.0.lock();
        if kept.stderr.len() == KEPT {
            kept.stderr.pop_front();
        }
        kept.stderr.push_back((SystemTime::now(), line));
    }

    /// Something failed, for this reason; lines of stderr may stand behind it, each after [`STDERR`].
    pub(crate) fn failed(&self, why: &str) {
        let mut parts = why.split(STDERR);
        let message = parts.next().unwrap_or_default().to_owned();
        let stderr = parts.map(|line| excerpt(line, MAX_LINE).into_owned()).collect();
        self.0.lock().failure = Some(Failed { at: SystemTime::now(), message, stderr });
    }

    /// Since when the process runs; `None` while none does.
    pub(crate) fn since(&self) -> Option<SystemTime> {
        self.0.lock().since
    }

    /// The last lines of stderr, the oldest first, or those of them that came until `at`.
    pub(crate) fn stderr(&self, until: Option<SystemTime>) -> Vec<String> {
        let kept = self.0.lock();
        let lines = kept.stderr.iter().filter(|(at, _)| until.is_none_or(|until| *at <= until));
        lines.map(|(_, line)| line.clone()).collect()
    }

    /// What failed last.
    pub(crate) fn failure(&self) -> Option<Failed> {
        self.0.lock().failure.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_told_apart_by_time() {
        let notes = Notes::default();
        for n in 0..12 {
            notes.wrote(&n.to_string());
        }
        let until = SystemTime::now();
        notes.0.lock().stderr.push_back((until + std::time::Duration::from_secs(1), "x".repeat(9)));
        assert_eq!(notes.stderr(Some(until)).len(), KEPT);
        assert_eq!(notes.stderr(None).len(), KEPT + 1);
        assert_eq!(notes.stderr(None)[0], "2");
        notes.wrote(&"y".repeat(5000));
        assert!(notes.stderr(None).last().unwrap().ends_with("(cut at 1 KiB)"));
    }

    #[test]
    fn a_failure_is_taken_apart() {
        let notes = Notes::default();
        notes.failed("exit status: 1\n  stderr: no such\n  stderr: file");
        let failed = notes.failure().unwrap();
        assert_eq!(failed.message, "exit status: 1");
        assert_eq!(failed.stderr, ["no such", "file"]);
        notes.failed("the port is taken");
        assert!(notes.failure().unwrap().stderr.is_empty());
    }
}
