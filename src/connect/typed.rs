//! What a typed line does.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;

use crate::connect::command;
use crate::connect::command::{COMMANDS, Line};
use crate::connect::connection::Link;
use crate::connect::exit;
use crate::connect::session::{End, Session};
use crate::text::escape::escape;
use crate::{files, paths};

/// Pings whose answers are awaited.
const PINGS: usize = 1000;

/// The largest file that is sent as a message, in bytes.
const LARGEST_FILE: usize = 64 << 20;

impl Session<'_> {
    /// Sends a ping and remembers when.
    pub(super) fn ping(&mut self, link: &Link<'_>, text: &str) {
        // A server that answers none must not fill the memory.
        if self.pings.len() < PINGS {
            self.pings.push_back(Instant::now());
        }
        link.send(Message::Ping(text.to_owned().into_bytes().into()));
    }

    /// Shows the answer to a ping.
    pub(super) async fn pong(&mut self, payload: &[u8]) {
        if let Some(sent) = self.pings.pop_front() {
            self.round_trip = Some(sent.elapsed());
            let text = String::from_utf8_lossy(payload);
            let ms = sent.elapsed().as_secs_f64() * 1_000.0;
            self.output.chat(format!("pong {} ({ms:.1} ms)", escape(&text)).trim_end()).await;
        }
    }

    /// A line that was typed.
    pub(super) async fn typed_line(&mut self, line: &str, link: &mut Link<'_>) -> Option<End> {
        match command::parse(line) {
            Line::Send(text) if text.is_empty() => {}
            Line::Send(text) => link.send(self.outgoing(text)),
            Line::Ping(text) => self.ping(link, &text),
            Line::Close(code, reason) => link.close(exit::OK, code, &reason),
            Line::Binary(bytes) => link.send(Message::Binary(bytes.into())),
            Line::File(path, binary) => self.load(path, binary, link),
            Line::Headers => self.output.info(link.headers.trim_end()).await,
            Line::Stats => self.output.info(&self.stats(link)).await,
            Line::Pretty => {
                self.output.pretty = !self.output.pretty;
                let text =
                    if self.output.pretty { "JSON is indented" } else { "JSON is left as it is" };
                self.output.info(text).await;
            }
            Line::Reconnect => {
                link.close(exit::OK, 1000, "");
                // Its Close goes out, nobody waits for the answer.
                sleep(Duration::from_millis(20)).await;
                return Some(End::Again);
            }
            Line::Help => self.output.info(&help()).await,
            Line::Quit => link.close(exit::OK, 1000, ""),
            Line::Wrong(why) => self.output.info(&escape(&why)).await,
        }
        None
    }

    fn stats(&self, link: &Link<'_>) -> String {
        let counts = link.counts;
        let round_trip = self.round_trip.map_or(String::new(), |time| {
            format!(", last ping {:.1} ms", time.as_secs_f64() * 1_000.0)
        });
        format!(
            "open {} s, sent {} messages ({} bytes), received {} ({} bytes){round_trip}",
            link.opened.elapsed().as_secs(),
            counts.sent.get(),
            counts.sent_bytes.get(),
            counts.received.get(),
            counts.received_bytes.get(),
        )
    }

    /// Reads a file on a thread of its own: a file system that hangs must not keep the session.
    fn load(&self, path: String, binary: bool, link: &mut Link<'_>) {
        let (tell, loaded) = oneshot::channel();
        link.loading = Some(loaded);
        if let Some(repl) = &self.repl {
            repl.cancels.store(true, Ordering::SeqCst);
        }
        std::thread::spawn(move || tell.send(read(&path, binary)));
    }

    /// A file was read, or cannot be.
    pub(super) async fn loaded(&mut self, loaded: Result<Message, String>, link: &mut Link<'_>) {
        link.loading = None;
        if let Some(repl) = &self.repl {
            repl.cancels.store(false, Ordering::SeqCst);
        }
        match loaded {
            Ok(message) => link.send(message),
            Err(why) => self.output.info(&escape(&why)).await,
        }
    }
}

/// A regular file as a message.
fn read(path: &str, binary: bool) -> Result<Message, String> {
    let bytes = paths::expand_home(Path::new(path)).and_then(|path| {
        files::open_regular(&path)
            .and_then(|file| files::read_from(file, LARGEST_FILE))
            .map_err(|e| e.to_string())
    });
    let bytes = bytes.map_err(|why| format!("{path}: {why}; nothing was sent"))?;
    if binary {
        return Ok(Message::Binary(bytes.into()));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| format!("{path} is not UTF-8 text: send its bytes with /binary @{path}"))?;
    Ok(Message::Text(text.into()))
}

fn help() -> String {
    let lines: Vec<String> = COMMANDS
        .iter()
        .map(|(name, more, what)| format!("{:<24}{what}", format!("{name} {more}")))
        .collect();
    format!("{}\n{:<24}sends /x", lines.join("\n"), "//x")
}
