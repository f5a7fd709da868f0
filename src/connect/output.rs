//! What the user sees: payloads on stdout, everything else on stderr, or all of it above the line
//! that is being typed.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;

use crate::connect::options::Options;
use crate::connect::pretty::indented;
use crate::error::{Failure, complain};
use crate::text::escape::escape;

/// Chunks that wait for stdout; past it the server's messages wait.
const WAITING: usize = 256;

/// Their bytes; a longer chunk waits alone.
const WAITING_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of a binary message that are shown on a terminal.
const PREVIEW: usize = 32;

/// Bytes that are shown above the line in one go.
const BATCH: usize = 64 * 1024;

/// Prints whole lines above the line that is being typed. With an empty text it returns when all
/// that it got before is on the terminal.
pub(super) type Printer = Box<dyn FnMut(&str) + Send>;

/// Bytes on their way to stdout.
struct Chunk {
    bytes: Vec<u8>,
    room: OwnedSemaphorePermit,
    /// Told once it is written, and all before it.
    written: Option<oneshot::Sender<()>>,
}

/// Where things are shown.
pub(super) struct Output {
    chunks: Option<mpsc::Sender<Chunk>>,
    room: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
    broken: Arc<OnceLock<io::Error>>,
    breaks: Arc<Notify>,
    interactive: bool,
    terminal: bool,
    color: bool,
    timestamps: bool,
    binary: bool,
    /// Whether JSON is indented.
    pub(super) pretty: bool,
}

/// Where `-v` shows what is said to the server and what it answers: nowhere without the flag, and on
/// stderr while there is no output yet.
#[derive(Clone, Copy)]
pub(super) struct Verbose<'a> {
    pub(super) is_on: bool,
    pub(super) output: Option<&'a Output>,
}

impl Verbose<'_> {
    /// Shows something.
    pub(super) async fn say(self, text: String) {
        match self.output {
            _ if !self.is_on => {}
            Some(output) => output.trace(&text).await,
            None => complain(&text),
        }
    }
}

impl Output {
    /// Writes to stdout, or through the line editor's printer.
    pub(super) fn new(options: &Options, printer: Option<Printer>) -> Output {
        let (chunks, mut waiting) = mpsc::channel::<Chunk>(WAITING);
        let broken = Arc::new(OnceLock::new());
        let told = Arc::clone(&broken);
        let breaks = Arc::new(Notify::new());
        let tell = Arc::clone(&breaks);
        let interactive = printer.is_some();
        let thread = std::thread::spawn(move || {
            let mut printer = printer;
            let mut stdout = io::BufWriter::with_capacity(64 * 1024, io::stdout());
            while let Some(mut chunk) = waiting.blocking_recv() {
                let written = match &mut printer {
                    Some(print) => {
                        while chunk.bytes.len() < BATCH
                            && chunk.written.is_none()
                            && let Ok(more) = waiting.try_recv()
                        {
                            chunk.bytes.extend_from_slice(&more.bytes);
                            chunk.room.merge(more.room);
                            chunk.written = more.written;
                        }
                        print(&String::from_utf8_lossy(&chunk.bytes));
                        if chunk.written.is_some() {
                            print("");
                        }
                        Ok(())
                    }
                    None => stdout.write_all(&chunk.bytes).and_then(|()| {
                        let flush = waiting.is_empty() || chunk.written.is_some();
                        if flush { stdout.flush() } else { Ok(()) }
                    }),
                };
                if let Err(e) = written {
                    let _ = told.set(e);
                    tell.notify_one();
                    // What is still buffered has nowhere to go.
                    let _ = stdout.into_parts();
                    return;
                }
                if let Some(written) = chunk.written {
                    // Whoever waited may have left.
                    let _ = written.send(());
                }
            }
            if let Some(print) = &mut printer {
                print("");
            }
            if let Err(e) = stdout.flush() {
                let _ = told.set(e);
            }
        });
        if !interactive {
            watch_reader(Arc::clone(&broken), Arc::clone(&breaks));
        }
        Output {
            chunks: Some(chunks),
            room: Arc::new(Semaphore::new(WAITING_BYTES)),
            thread: Some(thread),
            broken,
            breaks,
            interactive,
            terminal: io::stdout().is_terminal(),
            color: options.color,
            timestamps: options.timestamps,
            binary: options.binary,
            pretty: options.pretty,
        }
    }

    /// Whether stdout takes nothing any more.
    pub(super) fn is_closed(&self) -> bool {
        self.broken.get().is_some()
    }

    /// Ends when stdout takes nothing any more.
    pub(super) fn breaks(&self) -> impl Future<Output = ()> + use<> {
        let (broken, breaks) = (Arc::clone(&self.broken), Arc::clone(&self.breaks));
        async move {
            while broken.get().is_none() {
                breaks.notified().await;
            }
        }
    }

    /// Why stdout did not take all of it. A reader that has left (`| head`) is not a failure.
    pub(super) fn failure(&self) -> Option<Failure> {
        let error = self.broken.get().filter(|e| e.kind() != io::ErrorKind::BrokenPipe)?;
        Some(Failure::other(format!("stdout cannot be written: {error}")))
    }

    async fn put(&self, bytes: Vec<u8>) {
        self.put_chunk(bytes, None).await;
    }

    async fn put_chunk(&self, bytes: Vec<u8>, written: Option<oneshot::Sender<()>>) {
        let size = u32::try_from(bytes.len().min(WAITING_BYTES)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(size).await;
        if let (Some(chunks), Ok(room)) = (&self.chunks, room) {
            // The thread ends early only when stdout is closed, which `is_closed` tells.
            let _ = chunks.send(Chunk { bytes, room, written }).await;
        }
    }

    /// Returns when all that was put before is written. Never returns once stdout is closed.
    pub(super) async fn written(&self) {
        let (tell, told) = oneshot::channel();
        self.put_chunk(Vec::new(), Some(tell)).await;
        if told.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// A message of the server.
    pub(super) async fn message(&self, message: &Message) {
        if self.interactive {
            let text = self.shown(message);
            return self.put(self.line('<', 32, &text).into_bytes()).await;
        }
        if self.binary {
            let data = message.clone().into_data();
            let safe = self.terminal.then(|| escape_bytes(&data).into_bytes());
            return self.put(safe.unwrap_or_else(|| data.to_vec())).await;
        }
        let mut chunk = self.time().into_bytes();
        match message {
            Message::Text(text) => {
                let pretty = self.pretty.then(|| indented(text)).flatten();
                let text = pretty.as_deref().unwrap_or(text);
                if self.terminal {
                    for (i, line) in text.split('\n').enumerate() {
                        if i > 0 {
                            // Only lines that we made ourselves stay lines.
                            chunk.extend_from_slice(if pretty.is_some() { b"\n" } else { b"\\n" });
                        }
                        chunk.extend_from_slice(escape(line).as_bytes());
                    }
                } else {
                    chunk.extend_from_slice(text.as_bytes());
                }
            }
            other => chunk.extend_from_slice(STANDARD.encode(other.clone().into_data()).as_bytes()),
        }
        chunk.push(b'\n');
        self.put(chunk).await;
    }

    /// Something that we say.
    pub(super) async fn info(&self, text: &str) {
        if self.interactive {
            self.put(self.line('*', 36, text).into_bytes()).await;
        } else {
            complain(&format!("* {}", text.replace('\n', "\n  ")));
        }
    }

    /// What `-v` shows; the lines have prefixes of their own.
    pub(super) async fn trace(&self, text: &str) {
        if self.interactive {
            self.info(text).await;
        } else {
            complain(text);
        }
    }

    /// Something that we say at a terminal alone.
    pub(super) async fn chat(&self, text: &str) {
        if self.interactive {
            self.info(text).await;
        }
    }

    fn time(&self) -> String {
        if self.timestamps {
            format!("{} ", humantime::format_rfc3339_millis(SystemTime::now()))
        } else {
            String::new()
        }
    }

    /// A line with its prefix; the lines below it are indented, so that none can forge one.
    fn line(&self, prefix: char, colour: u8, text: &str) -> String {
        let time = self.time();
        let text = text.replace('\n', "\n  ");
        if self.color {
            format!("\x1b[{colour}m{prefix}\x1b[0m {time}{text}\n")
        } else {
            format!("{prefix} {time}{text}\n")
        }
    }

    /// A message as a terminal shows it.
    fn shown(&self, message: &Message) -> String {
        match message {
            Message::Text(text) => match self.pretty.then(|| indented(text)).flatten() {
                Some(pretty) => pretty.split('\n').map(escape).collect::<Vec<_>>().join("\n"),
                None => escape(text).into_owned(),
            },
            other => hex_preview(&other.clone().into_data()),
        }
    }

    /// Writes what waits, for so long at most: a terminal that is stopped (Ctrl-S) must not keep us.
    pub(super) async fn finish(&mut self, longest: Duration) {
        self.chunks = None;
        if let Some(thread) = self.thread.take() {
            let joined = tokio::task::spawn_blocking(move || thread.join());
            let _ = tokio::time::timeout(longest, joined).await;
        }
    }
}

/// Notices when the reader of stdout has gone (`| head -1`), though nothing is written just then.
fn watch_reader(broken: Arc<OnceLock<io::Error>>, breaks: Arc<Notify>) {
    std::thread::spawn(move || {
        let stdout = rustix::stdio::stdout();
        // Errors and hang-ups are always reported; nothing else is asked for.
        let mut poll = [PollFd::new(&stdout, PollFlags::empty())];
        while let Ok(0) | Err(Errno::INTR) = rustix::event::poll(&mut poll, None) {}
        if poll[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) {
            let _ = broken.set(io::ErrorKind::BrokenPipe.into());
            breaks.notify_one();
        }
    });
}

/// Bytes as a terminal may get them: what is not text is written as `\xNN`.
fn escape_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(&escape(chunk.valid()));
        out.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    out
}

/// `binary, 4 bytes: 00 01 02 ff`.
fn hex_preview(bytes: &[u8]) -> String {
    let hex: Vec<String> = bytes.iter().take(PREVIEW).map(|b| format!("{b:02x}")).collect();
    let more = if bytes.len() > PREVIEW { " …" } else { "" };
    let unit = if bytes.len() == 1 { "byte" } else { "bytes" };
    format!("binary, {} {unit}: {}{more}", bytes.len(), hex.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_is_shown_as_hex_with_its_length() {
        assert_eq!(hex_preview(&[0, 255]), "binary, 2 bytes: 00 ff");
        assert!(hex_preview(&[7; 40]).starts_with("binary, 40 bytes: 07 07"));
        assert!(hex_preview(&[7; 40]).ends_with('…'));
    }

    #[test]
    fn bytes_at_a_terminal_do_nothing_to_it() {
        assert_eq!(escape_bytes(b"a\x1b[2J\xff\xc3\xbc\n"), "a\\x1b[2J\\xff\u{fc}\\n");
    }
}
