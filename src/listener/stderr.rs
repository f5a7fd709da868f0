//! What the listener writes to stderr. It is always drained; each line goes into the log, and a flood
//! is cut. Each incarnation has a task for this, which shares the last lines ([`Tail`]) alone.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::listener::metrics::ListenerMetrics;
use crate::text::escape::escape;
use crate::text::excerpt;
use crate::text::lines::Lines;
use crate::text::throttle::Throttle;

/// Bytes of a line that the log shows.
const MAX_LINE: usize = 8 * 1024;

/// Lines that the log shows in a second; the others are counted.
const PER_SECOND: u32 = 200;

/// The time in which [`PER_SECOND`] lines are shown.
const SECOND: Duration = Duration::from_secs(1);

/// Lines kept for the message of a failure.
const KEPT: usize = 10;

/// The last lines of one incarnation.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    lines: VecDeque<String>,
    ended: bool,
}

impl Tail {
    fn push(&mut self, line: String) {
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The lines, oldest first.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// Whether stderr has come to its end.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }
}

/// The lines of one incarnation on their way to the log and into the tail.
struct Shown {
    gateway: Arc<str>,
    tail: Arc<Mutex<Tail>>,
    metrics: Arc<ListenerMetrics>,
    flood: Throttle,
}

impl Shown {
    fn line(&mut self, line: &[u8], cut: bool) {
        self.metrics.stderr_lines.inc();
        let now = Instant::now();
        self.tell_hidden(now);
        let text = String::from_utf8_lossy(line);
        let text = escape(text.trim_end_matches('\r'));
        let mark = if cut { excerpt::mark(MAX_LINE) } else { String::new() };
        self.metrics.notes.wrote(&format!("{text}{mark}"));
        self.tail.lock().push(format!("{text}{mark}"));
        if self.flood.admit(now).is_some() {
            tracing::info!(target: "listener", gateway = %self.gateway, "{text}{mark}");
        }
    }

    /// Says how many lines were not shown, once the second in which that was is over.
    fn tell_hidden(&mut self, now: Instant) {
        if let Some(hidden) = self.flood.take_held_back(now) {
            tracing::warn!(
                target: "listener", gateway = %self.gateway,
                "{hidden} more lines of stderr were not shown: there were more than {PER_SECOND} in \
                 a second"
            );
        }
    }
}

/// Drains a listener's stderr to its end.
pub(crate) async fn drain(
    stderr: OwnedFd,
    gateway: Arc<str>,
    tail: Arc<Mutex<Tail>>,
    metrics: Arc<ListenerMetrics>,
) {
    let flood = Throttle::new(PER_SECOND, SECOND);
    let mut shown = Shown { gateway, tail: Arc::clone(&tail), metrics, flood };
    let mut lines = Lines::default();
    if let Ok(mut pipe) = pipe::Receiver::from_owned_fd(stderr) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = match shown.flood.held_back() {
                0 => pipe.read(&mut buffer).await,
                // When the flood is over, its lines are counted without waiting for another one.
                _ => match timeout(SECOND, pipe.read(&mut buffer)).await {
                    Ok(read) => read,
                    Err(_) => {
                        shown.tell_hidden(Instant::now());
                        continue;
                    }
                },
            };
            let Ok(n @ 1..) = read else { break };
            lines.feed_cut(&buffer[..n], MAX_LINE, |line, cut| shown.line(line, cut));
            // A flood must not keep the control port from its turn.
            tokio::task::yield_now().await;
        }
    }
    lines.end_cut(|line, cut| shown.line(line, cut));
    // Those of the last second, too.
    shown.tell_hidden(Instant::now() + SECOND);
    tail.lock().ended = true;
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn a_flood_is_drained_and_its_last_lines_kept() {
        let (reader, writer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        let tail = Arc::new(Mutex::new(Tail::default()));
        let metrics = Arc::new(ListenerMetrics::default());
        let write = std::thread::spawn(move || {
            let mut writer = writer;
            for i in 0..20_000 {
                writeln!(writer, "line {i} {}", "x".repeat(50)).unwrap();
            }
            write!(writer, "{}\nlast \x1b[2J", "y".repeat(9_000)).unwrap();
        });
        drain(reader.into(), "g".into(), Arc::clone(&tail), Arc::clone(&metrics)).await;
        write.join().unwrap();
        let tail = tail.lock();
        let lines: Vec<&str> = tail.lines().collect();
        assert_eq!(lines.len(), KEPT);
        assert_eq!(lines[KEPT - 1], "last \\x1b[2J");
        assert!(lines[KEPT - 2].ends_with("(cut at 8 KiB)") && lines[KEPT - 2].len() < 8_300);
        assert!(tail.ended());
        assert_eq!(metrics.stderr_lines.get(), 20_002);
    }
}
