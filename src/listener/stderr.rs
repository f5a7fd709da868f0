//! What the listener writes to stderr: always drained, each line into the log, a flood cut.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::listener::metrics::ListenerMetrics;
use crate::text::escape::escape;

/// Bytes of a line that the log shows.
const MAX_LINE: usize = 8 * 1024;

/// Lines that the log shows in a second; the others are counted.
const PER_SECOND: u32 = 200;

/// Lines kept for the message of a failure.
const KEPT: usize = 10;

/// The last lines of one incarnation.
#[derive(Debug, Default)]
pub struct Tail {
    lines: VecDeque<String>,
    ended: bool,
}

impl Tail {
    /// The lines, oldest first.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// Whether stderr has come to its end.
    pub fn ended(&self) -> bool {
        self.ended
    }
}

/// Lines out of bytes, cut at [`MAX_LINE`]; a flood is counted instead of shown.
struct Log {
    gateway: Arc<str>,
    tail: Arc<Mutex<Tail>>,
    metrics: Arc<ListenerMetrics>,
    line: Vec<u8>,
    cut: bool,
    second: Instant,
    shown: u32,
    hidden: u64,
}

impl Log {
    fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            self.push(&rest[..end]);
            self.flush();
            rest = &rest[end + 1..];
        }
        self.push(rest);
    }

    fn push(&mut self, bytes: &[u8]) {
        let room = MAX_LINE - self.line.len();
        self.cut |= bytes.len() > room;
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn flush(&mut self) {
        self.metrics.stderr_lines.inc();
        if self.second.elapsed() >= Duration::from_secs(1) {
            self.second = Instant::now();
            self.shown = 0;
            self.say_hidden();
        }
        let text = String::from_utf8_lossy(&self.line);
        let text = escape(text.trim_end_matches('\r'));
        let mark = if self.cut { " … (cut at 8 KiB)" } else { "" };
        let mut tail = self.tail.lock().unwrap_or_else(|e| e.into_inner());
        if tail.lines.len() == KEPT {
            tail.lines.pop_front();
        }
        tail.lines.push_back(format!("{text}{mark}"));
        drop(tail);
        if self.shown < PER_SECOND {
            self.shown += 1;
            tracing::info!(target: "listener", gateway = %self.gateway, "{text}{mark}");
        } else {
            self.hidden += 1;
        }
        self.line.clear();
        self.cut = false;
    }

    fn say_hidden(&mut self) {
        if self.hidden > 0 {
            tracing::warn!(
                target: "listener", gateway = %self.gateway,
                "{} more lines of stderr were not shown: a flood", self.hidden
            );
            self.hidden = 0;
        }
    }
}

/// Drains a listener's stderr to its end.
pub async fn drain(
    stderr: OwnedFd,
    gateway: Arc<str>,
    tail: Arc<Mutex<Tail>>,
    metrics: Arc<ListenerMetrics>,
) {
    let mut log = Log {
        gateway,
        tail: Arc::clone(&tail),
        metrics,
        line: Vec::new(),
        cut: false,
        second: Instant::now(),
        shown: 0,
        hidden: 0,
    };
    if let Ok(mut pipe) = pipe::Receiver::from_owned_fd(stderr) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = match log.hidden {
                0 => pipe.read(&mut buffer).await,
                // When the flood is over, its lines are counted without waiting for another one.
                _ => match timeout(Duration::from_secs(1), pipe.read(&mut buffer)).await {
                    Ok(read) => read,
                    Err(_) => {
                        log.say_hidden();
                        continue;
                    }
                },
            };
            let Ok(n @ 1..) = read else { break };
            log.feed(&buffer[..n]);
            // A flood must not keep the control port from its turn.
            tokio::task::yield_now().await;
        }
    }
    if !log.line.is_empty() {
        log.flush();
    }
    log.say_hidden();
    tail.lock().unwrap_or_else(|e| e.into_inner()).ended = true;
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
        let tail = tail.lock().unwrap();
        let lines: Vec<&str> = tail.lines().collect();
        assert_eq!(lines.len(), KEPT);
        assert_eq!(lines[KEPT - 1], "last \\x1b[2J");
        assert!(lines[KEPT - 2].ends_with("(cut at 8 KiB)") && lines[KEPT - 2].len() < 8_300);
        assert!(tail.ended());
        assert_eq!(metrics.stderr_lines.get(), 20_002);
    }
}
