//! The log: `WebSocket.log` for all gateways of a `serve`, and stderr.
//!
//! Lines are made where the event happens and written by a thread of their own, through a bounded
//! queue: neither a full disk nor a stuck terminal holds a gateway up. What was lost is counted,
//! and said when writing works again. The newest lines are kept for those who watch ([`Recent`]).

mod daily;
mod line;
mod loss;
mod recent;

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::SystemTime;

use parking_lot::Mutex;
use tracing::Subscriber;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::filter::log_filter;
use crate::config::settings::LogSettings;
use crate::error::Failure;
use crate::logging::daily::{Complain, Daily};
use crate::logging::line::Line;
use crate::logging::loss::LossReporting;
pub(crate) use crate::logging::recent::Recent;
use crate::paths;

/// Lines that may wait for the disk, or for stderr; further ones are lost and counted.
const QUEUE: usize = 65_536;

/// Keeps the log's threads; its drop writes what waits.
pub(crate) struct Guard {
    _workers: Vec<WorkerGuard>,
    controls: Controls,
    recent: Arc<Recent>,
}

/// What can be changed while the log is written.
#[derive(Clone)]
pub(crate) struct Controls {
    level: reload::Handle<EnvFilter, Registry>,
    /// Where there is a file.
    watcher: Option<Watcher>,
}

/// The thread that looks after the log's file.
#[derive(Clone)]
struct Watcher {
    look_now: Arc<AtomicBool>,
    thread: Thread,
}

/// Sets the log up for the whole process.
///
/// # Errors
/// A filter that cannot be read (2), or a given directory that cannot be written (1).
pub(crate) fn init(settings: &LogSettings) -> Result<Guard, Failure> {
    let filter = filter(settings)?;
    let (filter, level) = reload::Layer::new(filter);
    let mut workers = Vec::new();
    let mut complaint = None;
    let mut plain = Tee::default();
    let mut watcher = None;
    let recent = Arc::new(Recent::default());
    // What is wrong with the log itself is said on stderr in any case.
    let (stderr, guard) = queue(io::stderr(), "wsgw-stderr", None);
    workers.push(guard);
    match open(settings, complain_to(stderr.clone())) {
        Ok((file, watching)) => {
            let (writer, guard) = queue(file, "wsgw-log", Some(&recent));
            workers.push(guard);
            plain.0.push(writer);
            watcher = Some(watching);
        }
        Err(failure) if settings.directory.is_some() => return Err(failure),
        Err(failure) => {
            complaint = Some(failure.message);
            // The lines are kept all the same.
            let (writer, guard) = queue(io::sink(), "wsgw-log", Some(&recent));
            workers.push(guard);
            plain.0.push(writer);
        }
    }
    let mut coloured = Tee::default();
    if !settings.quiet {
        // The same line for both is made once.
        if stderr_has_colour() { coloured.0.push(stderr) } else { plain.0.push(stderr) }
    }
    tracing_subscriber::registry()
        .with(filter)
        .with((!plain.0.is_empty()).then(|| layer(plain, false, Some(Arc::clone(&recent)))))
        .with((!coloured.0.is_empty()).then(|| layer(coloured, true, None)))
        .try_init()
        .map_err(|e| Failure::other(format!("the log cannot be set up: {e}")))?;
    if let Some(complaint) = complaint {
        tracing::warn!("{complaint}; the log goes to stderr alone");
    }
    Ok(Guard { _workers: workers, controls: Controls { level, watcher }, recent })
}

impl Guard {
    /// For changes while the log is written.
    pub(crate) fn controls(&self) -> Controls {
        self.controls.clone()
    }

    /// The newest lines.
    pub(crate) fn recent(&self) -> Arc<Recent> {
        Arc::clone(&self.recent)
    }
}

impl Controls {
    /// Shows what these settings ask for from now on.
    ///
    /// # Errors
    /// A filter that cannot be read.
    pub(crate) fn set_level(&self, settings: &LogSettings) -> Result<(), Failure> {
        let filter = filter(settings)?;
        self.level.reload(filter).map_err(|e| Failure::other(format!("the log's level: {e}")))
    }

    /// Makes the log's file anew at once if it was moved or removed. Returns at once.
    pub(crate) fn reopen(&self) {
        if let Some(watcher) = &self.watcher {
            watcher.look_now.store(true, Ordering::Release);
            watcher.thread.unpark();
        }
    }
}

/// Whether stderr is a terminal that knows colours, and its user wants them.
fn stderr_has_colour() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none()
        && set("TERM").is_some_and(|term| term != "dumb")
}

/// Complaints about the log itself, as lines of `stderr`.
fn complain_to(mut stderr: NonBlocking) -> Complain {
    Box::new(move |text| {
        let time = humantime::format_rfc3339_millis(SystemTime::now());
        // A full queue counts what it loses.
        let _ = stderr.write(format!("{time} ERROR {text}\n").as_bytes());
    })
}

fn filter(settings: &LogSettings) -> Result<EnvFilter, Failure> {
    let level = settings.level.as_deref().unwrap_or("info");
    log_filter(level).map_err(Failure::usage)
}

/// The log's file, and the thread that looks after it.
fn open(settings: &LogSettings, complain: Complain) -> Result<(LogFile, Watcher), Failure> {
    let directory = settings
        .directory
        .clone()
        .or_else(|| Some(paths::user_state_dir()?.join("logs")))
        .ok_or_else(|| {
            Failure::other("there is no home directory for the log; --log-dir names one")
        })?;
    let look_now = Arc::new(AtomicBool::new(false));
    let opened = Daily::open(&directory, Arc::clone(&look_now), complain);
    let file = opened.map(|daily| Arc::new(Mutex::new(daily)));
    let watcher = file.and_then(|file| {
        let thread = daily::watch(&file)?;
        Ok((LogFile(file), Watcher { look_now, thread }))
    });
    watcher.map_err(|e| {
        Failure::other(format!(
            "the log cannot be written in {}: {e}; --log-dir names another directory",
            directory.display()
        ))
    })
}

/// The log's file, shared with the thread that looks after it.
struct LogFile(Arc<Mutex<Daily>>);

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().flush()
    }
}

fn queue<W: Write + Send + 'static>(
    to: W,
    name: &str,
    recent: Option<&Arc<Recent>>,
) -> (NonBlocking, WorkerGuard) {
    let counter = Arc::new(OnceLock::new());
    let writer = LossReporting::new(to, Arc::clone(&counter), recent.cloned());
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE)
        .thread_name(name)
        .finish(writer);
    let _ = counter.set(writer.error_counter());
    (writer, guard)
}

/// Writes a line to all of them.
#[derive(Clone, Default)]
struct Tee(Vec<NonBlocking>);

impl Write for Tee {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        for writer in &mut self.0 {
            // A full queue counts what it loses.
            let _ = writer.write(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Tee {
    type Writer = Tee;

    fn make_writer(&'a self) -> Tee {
        self.clone()
    }
}

fn layer<S>(
    writer: Tee,
    colour: bool,
    recent: Option<Arc<Recent>>,
) -> impl tracing_subscriber::Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_subscriber::fmt::layer().event_format(Line { colour, recent }).with_writer(writer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that is full for a while.
    struct Disk {
        full: Arc<std::sync::atomic::AtomicBool>,
        got: Arc<std::sync::Mutex<Vec<u8>>>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.full.load(std::sync::atomic::Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.got.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_full_disk_cost_is_said_when_it_recovers() {
        let full = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let got = Arc::new(std::sync::Mutex::new(Vec::new()));
        let disk = Disk { full: Arc::clone(&full), got: Arc::clone(&got) };
        let counter = Arc::new(OnceLock::new());
        let mut log = LossReporting::new(disk, counter, None);
        for line in ["one\n", "two\n"] {
            log.write_all(line.as_bytes()).unwrap();
            log.flush().unwrap();
        }
        full.store(false, std::sync::atomic::Ordering::SeqCst);
        log.write_all(b"three\n").unwrap();
        log.flush().unwrap();
        let text = String::from_utf8(got.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("WARN 2 lines of the log were lost"), "{text}");
        assert_eq!(lines[1..], ["three"]);
    }

    #[test]
    fn nothing_from_outside_makes_a_second_line() {
        let got = Arc::new(std::sync::Mutex::new(Vec::new()));
        let full = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (writer, guard) = queue(Disk { full, got: Arc::clone(&got) }, "test", None);
        let subscriber = tracing_subscriber::registry().with(layer(Tee(vec![writer]), false, None));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(gateway = "chat", conn = "k3", path = "/\n2026 ERROR forged", "a\nb");
        });
        drop(guard);
        let text = String::from_utf8(got.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(" INFO chat k3 a\\nb path=/\\n2026 ERROR forged"), "{text}");
    }

    #[test]
    fn what_a_client_sent_is_cut_with_a_mark() {
        let got = Arc::new(std::sync::Mutex::new(Vec::new()));
        let full = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (writer, guard) = queue(Disk { full, got: Arc::clone(&got) }, "test", None);
        let subscriber = tracing_subscriber::registry().with(layer(Tee(vec![writer]), false, None));
        let long = "ä".repeat(20_000);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(path = long, code = 7, "opened");
            tracing::warn!("refused: {long}");
        });
        drop(guard);
        let text = String::from_utf8(got.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("ä … (cut at 1 KiB) code=7") && lines[0].len() < 1200);
        assert!(lines[1].ends_with("ä … (cut at 9 KiB)") && lines[1].len() < 9400);
    }
}
