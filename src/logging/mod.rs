//! The log: `WebSocket.log` for all gateways of a `serve`, and stderr.
//!
//! Lines are made where the event happens and written by a thread of their own, through a bounded
//! queue: neither a full disk nor a stuck terminal holds a gateway up. What was lost is counted,
//! and said when writing works again.

mod daily;

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::filter::log_filter;
use crate::config::settings::LogSettings;
use crate::error::Failure;
use crate::logging::daily::Daily;
use crate::paths;
use crate::text::escape::escape;

/// Lines that may wait for the disk, or for stderr; further ones are lost and counted.
const QUEUE: usize = 65_536;

/// Keeps the log's threads; its drop writes what waits.
pub struct Guard {
    _workers: Vec<WorkerGuard>,
    level: Levels,
}

/// Sets the level of the log, now and later.
#[derive(Clone)]
pub struct Levels(reload::Handle<EnvFilter, Registry>);

/// Sets the log up for the whole process.
///
/// # Errors
/// A filter that cannot be read (2), or a given directory that cannot be written (1).
pub fn init(settings: &LogSettings) -> Result<Guard, Failure> {
    let filter = filter(settings)?;
    let (filter, level) = reload::Layer::new(filter);
    let mut workers = Vec::new();
    let mut complaint = None;
    let mut plain = Tee::default();
    match open(settings) {
        Ok(appender) => {
            let (writer, guard) = queue(appender, "wsgw-log");
            workers.push(guard);
            plain.0.push(writer);
        }
        Err(failure) if settings.directory.is_some() => return Err(failure),
        Err(failure) => complaint = Some(failure.message),
    }
    let mut coloured = Tee::default();
    if !settings.quiet {
        let (writer, guard) = queue(io::stderr(), "wsgw-stderr");
        workers.push(guard);
        let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        // The same line for both is made once.
        if colour { coloured.0.push(writer) } else { plain.0.push(writer) }
    }
    tracing_subscriber::registry()
        .with(filter)
        .with((!plain.0.is_empty()).then(|| layer(plain, false)))
        .with((!coloured.0.is_empty()).then(|| layer(coloured, true)))
        .try_init()
        .map_err(|e| Failure::other(format!("the log cannot be set up: {e}")))?;
    if let Some(complaint) = complaint {
        tracing::warn!("{complaint}; the log goes to stderr alone");
    }
    Ok(Guard { _workers: workers, level: Levels(level) })
}

impl Guard {
    /// For a change of the level while the log is written.
    pub fn levels(&self) -> Levels {
        self.level.clone()
    }
}

impl Levels {
    /// Shows what these settings ask for from now on.
    ///
    /// # Errors
    /// A filter that cannot be read.
    pub fn set(&self, settings: &LogSettings) -> Result<(), Failure> {
        let filter = filter(settings)?;
        self.0.reload(filter).map_err(|e| Failure::other(format!("the log's level: {e}")))
    }
}

fn filter(settings: &LogSettings) -> Result<EnvFilter, Failure> {
    let level = settings.level.as_deref().unwrap_or("info");
    log_filter(level).map_err(Failure::usage)
}

fn open(settings: &LogSettings) -> Result<Daily, Failure> {
    let directory = settings
        .directory
        .clone()
        .or_else(|| Some(paths::user_state_dir()?.join("logs")))
        .ok_or_else(|| {
            Failure::other("there is no home directory for the log; --log-dir names one")
        })?;
    Daily::open(&directory).map_err(|e| {
        Failure::other(format!(
            "the log cannot be written in {}: {e}; --log-dir names another directory",
            directory.display()
        ))
    })
}

fn queue<W: Write + Send + 'static>(to: W, name: &str) -> (NonBlocking, WorkerGuard) {
    let counter = Arc::new(OnceLock::new());
    let careful = Careful::new(to, Arc::clone(&counter));
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE)
        .thread_name(name)
        .finish(careful);
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

/// Bytes of lines that are written with one call when many wait.
const BATCH: usize = 32 * 1024;

/// The pause behind a write. Lines that come meanwhile share the next one, and wake nobody: to wake
/// a thread for each line would cost more than all else about it.
const PAUSE: Duration = Duration::from_millis(1);

/// Writes whole lines, and counts those that are lost.
struct Careful<W> {
    to: W,
    /// Lines that came since the last flush, and how many.
    batch: (Vec<u8>, u64),
    /// Lines that could not be written.
    lost: u64,
    /// Whether the last one was written in part.
    torn: bool,
    /// Lines that found the queue full and were spoken of.
    said: usize,
    counter: Arc<OnceLock<ErrorCounter>>,
}

impl<W: Write> Careful<W> {
    fn new(to: W, counter: Arc<OnceLock<ErrorCounter>>) -> Careful<W> {
        Careful { to, batch: (Vec::new(), 0), lost: 0, torn: false, said: 0, counter }
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

    fn say_lost(&mut self) -> io::Result<()> {
        let overrun = self.counter.get().map_or(0, ErrorCounter::dropped_lines);
        let lost = self.lost + (overrun - self.said) as u64;
        if lost == 0 {
            return Ok(());
        }
        let time = humantime::format_rfc3339_millis(SystemTime::now());
        let start = if self.torn { "\n" } else { "" };
        self.line(format!("{start}{time}  WARN {lost} lines of the log were lost\n").as_bytes())?;
        self.lost = 0;
        self.said = overrun;
        Ok(())
    }
}

impl<W: Write> Write for Careful<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.batch.0.extend_from_slice(line);
        self.batch.1 += 1;
        if self.batch.0.len() >= BATCH { self.flush().map(|()| line.len()) } else { Ok(line.len()) }
    }

    /// Called by the log's thread whenever no line waits.
    fn flush(&mut self) -> io::Result<()> {
        let (lines, count) = std::mem::take(&mut self.batch);
        // An error would only be thrown away by the thread that calls this.
        if !lines.is_empty() && self.say_lost().and_then(|()| self.line(&lines)).is_err() {
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

fn layer<S>(writer: Tee, colour: bool) -> impl tracing_subscriber::Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_subscriber::fmt::layer().event_format(Line { colour }).with_writer(writer)
}

/// One line an event: time, level, gateway, connection, message, and the other fields.
struct Line {
    colour: bool,
}

#[derive(Default)]
struct Fields {
    gateway: String,
    conn: String,
    message: String,
    rest: String,
}

impl Fields {
    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "gateway" => write!(self.gateway, "{value}"),
            "conn" => write!(self.conn, "{value}"),
            "message" => write!(self.message, "{value}"),
            name => write!(self.rest, " {name}={value}"),
        };
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let level = *metadata.level();
        write!(out, "{} ", humantime::format_rfc3339_millis(SystemTime::now()))?;
        if self.colour {
            let colour = match level {
                Level::ERROR => 31,
                Level::WARN => 33,
                Level::INFO => 32,
                _ => 36,
            };
            write!(out, "\x1b[{colour}m{level:>5}\x1b[0m")?;
        } else {
            write!(out, "{level:>5}")?;
        }
        for name in [&fields.gateway, &fields.conn] {
            if !name.is_empty() {
                write!(out, " {}", escape(name))?;
            }
        }
        // What the listener said is told from what is said of it.
        if metadata.target() == "listener" {
            write!(out, " listener:")?;
        }
        // The last gate: whatever came from outside, a line is one line.
        writeln!(out, " {}{}", escape(&fields.message), escape(&fields.rest))
    }
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
        let mut log = Careful::new(disk, counter);
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
        let (writer, guard) = queue(Disk { full, got: Arc::clone(&got) }, "test");
        let subscriber = tracing_subscriber::registry().with(layer(Tee(vec![writer]), false));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(gateway = "chat", conn = "k3", path = "/\n2026 ERROR forged", "a\nb");
        });
        drop(guard);
        let text = String::from_utf8(got.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(" INFO chat k3 a\\nb path=/\\n2026 ERROR forged"), "{text}");
    }
}
