//! A writer that counts the lines it could not write, and reports them once it can again.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use tracing_appender::non_blocking::ErrorCounter;

use crate::logging::recent::Recent;

/// Bytes of lines that are written with one call when many wait.
const BATCH: usize = 32 * 1024;

/// The pause behind a write. Lines that come meanwhile share the next one, and wake nobody: to wake
/// a thread for each line would cost more than all else about it.
const PAUSE: Duration = Duration::from_millis(1);

/// Writes whole lines, and counts those that are lost.
pub(super) struct LossReporting<W> {
    to: W,
    /// Lines that came since the last flush, and how many.
    batch: (Vec<u8>, u64),
    /// Lines that could not be written.
    lost: u64,
    /// Whether the last one was written in part.
    torn: bool,
    /// Lines that found the queue full, of those that were reported.
    reported: usize,
    counter: Arc<OnceLock<ErrorCounter>>,
    /// Where the newest lines are kept, if this writer does that.
    recent: Option<Arc<Recent>>,
}

impl<W: Write> LossReporting<W> {
    /// Writes to `to`; `counter` knows of lines that found the queue full.
    pub(super) fn new(
        to: W,
        counter: Arc<OnceLock<ErrorCounter>>,
        recent: Option<Arc<Recent>>,
    ) -> LossReporting<W> {
        let batch = (Vec::new(), 0);
        LossReporting { to, batch, lost: 0, torn: false, reported: 0, counter, recent }
    }

    /// Writes whole lines in one call, so that those of two processes do not mix.
    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        let mut rest = line;
        while !rest.is_empty() {
            match self.to.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    rest = &rest[n..];
                    self.torn = !rest.is_empty();
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn report_lost(&mut self) -> io::Result<()> {
        let overrun = self.counter.get().map_or(0, ErrorCounter::dropped_lines);
        let lost = self.lost + (overrun - self.reported) as u64;
        if lost == 0 {
            return Ok(());
        }
        let time = humantime::format_rfc3339_millis(SystemTime::now());
        let start = if self.torn { "\n" } else { "" };
        self.line(format!("{start}{time}  WARN {lost} lines of the log were lost\n").as_bytes())?;
        self.lost = 0;
        self.reported = overrun;
        Ok(())
    }
}

impl<W: Write> Write for LossReporting<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.batch.0.extend_from_slice(line);
        self.batch.1 += 1;
        if self.batch.0.len() >= BATCH { self.flush().map(|()| line.len()) } else { Ok(line.len()) }
    }

    /// Called by the log's thread whenever no line waits.
    fn flush(&mut self) -> io::Result<()> {
        let (lines, count) = std::mem::take(&mut self.batch);
        if let Some(recent) = &self.recent
            && !lines.is_empty()
        {
            recent.extend(&lines, count);
        }
        // An error would only be thrown away by the thread that calls this.
        if !lines.is_empty() && self.report_lost().and_then(|()| self.line(&lines)).is_err() {
            self.lost += count;
        }
        if !lines.is_empty() {
            std::thread::sleep(PAUSE);
        }
        self.batch.0 = lines;
        self.batch.0.clear();
        self.to.flush()
    }
}
