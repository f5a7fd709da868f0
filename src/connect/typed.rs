//! What a typed line does.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{Instant as Deadline, sleep};
use tokio_tungstenite::tungstenite::Message;

use crate::connect::command;
use crate::connect::command::{COMMANDS, Line};
use crate::connect::exit;
use crate::connect::session::{End, Session, say_close};
use crate::connect::writer::Counts;
use crate::text::escape::escape;

/// Pings whose answers are awaited.
const PINGS: usize = 1000;

impl Session<'_> {
    /// Sends a ping and remembers when.
    pub(super) fn ping(&mut self, urgent: &mpsc::UnboundedSender<Message>, text: &str) {
        // A server that answers none is not to fill the memory.
        if self.pings.len() < PINGS {
            self.pings.push_back(Instant::now());
        }
        let _ = urgent.send(Message::Ping(text.to_owned().into_bytes().into()));
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
    pub(super) async fn typed_line(
        &mut self,
        line: &str,
        urgent: &mpsc::UnboundedSender<Message>,
        counts: &Counts,
        opened: Instant,
        headers: &str,
        leaving: &mut Option<(u8, Deadline)>,
    ) -> Option<End> {
        let send = |message| drop(urgent.send(message));
        match command::parse(line) {
            Line::Send(text) if text.is_empty() => {}
            Line::Send(text) if self.options.binary => {
                send(Message::Binary(text.into_bytes().into()))
            }
            Line::Send(text) => send(Message::Text(text.into())),
            Line::Ping(text) => self.ping(urgent, &text),
            Line::Close(code, reason) => {
                *leaving = Some(say_close(urgent, exit::OK, code, &reason))
            }
            Line::Binary(bytes) => send(Message::Binary(bytes.into())),
            Line::File(path, binary) => match tokio::fs::read(&path).await {
                Err(e) => {
                    self.output.info(&format!("{}: {e}; nothing was sent", escape(&path))).await
                }
                Ok(bytes) if binary => send(Message::Binary(bytes.into())),
                Ok(bytes) => match String::from_utf8(bytes) {
                    Ok(text) => send(Message::Text(text.into())),
                    Err(_) => {
                        let text =
                            format!("{} is not UTF-8: /binary @FILE sends bytes", escape(&path));
                        self.output.info(&text).await;
                    }
                },
            },
            Line::Headers => self.output.info(headers.trim_end()).await,
            Line::Stats => {
                let round_trip = self.round_trip.map_or(String::new(), |time| {
                    format!(", last ping {:.1} ms", time.as_secs_f64() * 1_000.0)
                });
                let text = format!(
                    "open {} s, sent {} messages ({} bytes), received {} ({} bytes){round_trip}",
                    opened.elapsed().as_secs(),
                    counts.sent.get(),
                    counts.sent_bytes.get(),
                    counts.received.get(),
                    counts.received_bytes.get(),
                );
                self.output.info(&text).await;
            }
            Line::Pretty => {
                self.output.pretty = !self.output.pretty;
                let text =
                    if self.output.pretty { "JSON is indented" } else { "JSON is left as it is" };
                self.output.info(text).await;
            }
            Line::Reconnect => {
                say_close(urgent, exit::OK, 1000, "");
                // Its Close goes out, nobody waits for the answer.
                sleep(Duration::from_millis(20)).await;
                return Some(End::Again);
            }
            Line::Help => {
                let lines: Vec<String> = COMMANDS
                    .iter()
                    .map(|(name, more, what)| format!("{:<24}{what}", format!("{name} {more}")))
                    .collect();
                let text = format!("{}\n{:<24}sends /x", lines.join("\n"), "//x");
                self.output.info(&text).await;
            }
            Line::Quit => *leaving = Some(say_close(urgent, exit::OK, 1000, "")),
            Line::Wrong(why) => self.output.info(&escape(&why)).await,
        }
        None
    }
}
