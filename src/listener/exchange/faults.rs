//! Lines of the listener that are at fault: they are counted, logged and skipped.

use std::fmt;
use std::time::{Duration, Instant};

use crate::listener::exchange::Exchange;
use crate::text::escape::escape;
use crate::text::excerpt::excerpt;
use crate::text::throttle::Throttle;

/// Bytes of a faulty line that the log shows.
const SHOWN: usize = 200;

/// Faulty lines that the log shows in a second.
const SHOWN_PER_SECOND: u32 = 5;

/// Limits how many faulty lines the log shows.
pub(super) struct FaultLog(Throttle);

impl Default for FaultLog {
    fn default() -> FaultLog {
        FaultLog(Throttle::new(SHOWN_PER_SECOND, Duration::from_secs(1)))
    }
}

impl FaultLog {
    /// `None` if the log must not show the line now; else the number of lines that it did not show
    /// since the last one.
    pub(super) fn may_show(&mut self, now: Instant) -> Option<u64> {
        self.0.admit(now)
    }
}

pub(super) fn not_shown(hidden: u64) -> String {
    if hidden > 0 { format!(" ({hidden} more were not shown)") } else { String::new() }
}

/// Whether a line seems to be a part of JSON that goes over several lines.
pub(crate) fn is_piece_of_json(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    let key = line.starts_with(b"\"") && memchr::memmem::find(line, b"\":").is_some();
    key || matches!(line, b"{" | b"}" | b"}," | b"[" | b"]" | b"],")
}

/// A hint for the author of a listener that writes a line which is neither an answer nor a command.
fn hint(line: &[u8]) -> &'static str {
    if is_piece_of_json(line) {
        "; is it JSON over several lines? Each answer is one line (jq -c)"
    } else {
        "; did you mean to print to stderr?"
    }
}

impl Exchange {
    /// Notes a line that was longer than `max-line` and was thrown away.
    pub(crate) fn over_long(&mut self, max: usize, now: Instant) {
        self.metrics.faults.add("over_long", 1);
        if self.tap.is_on() {
            let why = format!("a line of more than {max} bytes (max-line) was thrown away");
            self.tap.line("line", b"", Some(why), now);
        }
        if let Some(hidden) = self.fault_log.may_show(now) {
            let more = not_shown(hidden);
            tracing::warn!(gateway = %self.gateway, "the listener wrote a line of more than {max} bytes (max-line): line thrown away{more}");
        }
    }

    /// Counts a faulty line under `kind` and logs it.
    pub(super) fn log_fault(
        &mut self,
        line: &[u8],
        kind: &'static str,
        why: impl fmt::Display,
        now: Instant,
    ) {
        self.metrics.faults.add(kind, 1);
        if self.tap.is_on() {
            let name = match kind {
                "command" => "command",
                "unknown_id" => "answer",
                _ => "line",
            };
            self.tap.line(name, line, Some(why.to_string()), now);
        }
        if let Some(hidden) = self.fault_log.may_show(now) {
            // One byte more than is shown, so that the excerpt is marked as cut.
            let text = String::from_utf8_lossy(&line[..line.len().min(SHOWN + 1)]);
            let more = not_shown(hidden);
            // A faulty command was meant for the gateway, so it gets no hint.
            let hint = if kind == "command" { "" } else { hint(line) };
            tracing::warn!(
                gateway = %self.gateway,
                "the listener wrote a line that is skipped: {why}{hint}{more} line={}",
                escape(&excerpt(&text, SHOWN))
            );
        }
    }
}
