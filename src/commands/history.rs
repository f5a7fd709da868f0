//! `wsgw history`: the messages that a gateway keeps, printed while they come.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::cli::HistoryArgs;
use crate::commands::control;
use crate::commands::control::{channel, only_gateway, segment, with_question_mark};
use crate::commands::output;
use crate::control_client::StreamReader;
use crate::error::{Failure, exit};
use crate::text::escape;
use crate::text::lines::Lines;
use crate::text::position::Since;

/// Bytes of one frame at most: far above what a message can have.
const MAX_FRAME: usize = 1 << 30;

/// Runs the command.
pub(super) fn run(args: &HistoryArgs) -> Result<u8, Failure> {
    let mut query = Vec::new();
    for name in &args.channel {
        query.push(format!("channel={}", segment(channel(name)?)));
    }
    if let Some(since) = &args.since {
        Since::parse(since).map_err(|why| Failure::usage(format!("--since: {why}")))?;
        query.push(format!("since={}", segment(since)));
    }
    if let Some(limit) = args.limit {
        query.push(format!("limit={limit}"));
    }
    let mut client = control::open(&args.control, Duration::ZERO)?;
    let id = match &args.id {
        Some(id) => id.clone(),
        None => only_gateway(&mut client, "name one (`wsgw history ID`)")?,
    };
    let path = format!("/v1/gateways/{}/history{}", segment(&id), with_question_mark(&query));
    let reader = client.download(&path)?;
    let stdout = io::stdout();
    let mut printer = Printer {
        json: args.json,
        terminal: stdout.is_terminal(),
        out: BufWriter::with_capacity(64 << 10, stdout.lock()),
        written: Ok(()),
    };
    let printed = printer.print(reader);
    let written = printer.written.and_then(|()| printer.out.flush());
    output::finish(written)?;
    printed?;
    Ok(exit::OK)
}

/// Prints frames to stdout until it cannot be written.
struct Printer<W: Write> {
    json: bool,
    terminal: bool,
    out: W,
    written: io::Result<()>,
}

impl<W: Write> Printer<W> {
    fn print(&mut self, mut reader: StreamReader) -> Result<(), Failure> {
        let timeout = reader.client().timeout();
        let mut lines = Lines::default();
        let mut buffer = Vec::new();
        let mut last = Instant::now();
        loop {
            buffer.clear();
            let more = reader.read(&mut buffer, timeout)?;
            let mut printed = Ok(());
            lines.feed(&buffer, MAX_FRAME, |line| {
                if printed.is_ok() {
                    printed = self.line(line.unwrap_or_default());
                }
            });
            printed?;
            if !more || self.written.is_err() {
                return Ok(());
            }
            if !buffer.is_empty() {
                last = Instant::now();
            } else if last.elapsed() >= timeout {
                return Err(reader.client().timed_out());
            }
        }
    }

    fn line(&mut self, frame: &[u8]) -> Result<(), Failure> {
        if self.written.is_err() {
            return Ok(());
        }
        let line = if self.json {
            let text = String::from_utf8_lossy(frame);
            escape::json(&text).into_owned()
        } else {
            let frame = serde_json::from_slice(frame).map_err(|e| control::not_understood(&e))?;
            body_line(&frame, self.terminal)
        };
        self.written = self.out.write_all(line.as_bytes()).and_then(|()| self.out.write_all(b"\n"));
        Ok(())
    }
}

/// What is read of a frame.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
    #[serde(borrow)]
    base64: Option<Cow<'a, str>>,
}

/// A message's body on one line: a newline as `\n`, a backslash twice, a binary one as base64.
fn body_line(frame: &Frame<'_>, terminal: bool) -> String {
    let text = frame.base64.as_ref().or(frame.message.as_ref()).map_or("", |text| text);
    let line = escape::one_line(text);
    if terminal { escape::escape(&line).into_owned() } else { line.into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(frame: &str, json: bool, terminal: bool) -> String {
        let mut printer = Printer { json, terminal, out: Vec::new(), written: Ok(()) };
        printer.line(frame.as_bytes()).unwrap();
        String::from_utf8(printer.out).unwrap()
    }

    #[test]
    fn bodies_are_a_line_each() {
        let frame = r#"{"message":"a\nb\\\u001b","channel":"c","at":"q7Zk2pYa-1"}"#;
        assert_eq!(printed(frame, false, false), "a\\nb\\\\\u{1b}\n");
        assert_eq!(printed(frame, false, true), "a\\nb\\\\\\x1b\n");
        assert_eq!(printed(frame, true, false), format!("{frame}\n"));
        assert_eq!(printed(r#"{"base64":"AP8=","at":"q7Zk2pYa-1"}"#, false, true), "AP8=\n");
        assert_eq!(printed(r#"{"message":""}"#, false, false), "\n");
    }
}
