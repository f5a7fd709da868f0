//! Piped stdin: lines to messages, in batches, with backpressure.

use std::io::{self, BufRead, BufReader};

use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

/// Batches that may wait.
const WAITING: usize = 4;

/// Bytes of lines in a batch.
const BATCH: usize = 64 * 1024;

/// What comes from stdin.
pub enum Input {
    /// Messages to send.
    Messages(Vec<Message>),
    /// A line that cannot be sent as text.
    Bad(String),
}

/// Reads stdin to its end on a thread of its own.
pub fn read(binary: bool) -> mpsc::Receiver<Input> {
    let (batches, receiver) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        let mut stdin = BufReader::with_capacity(BATCH, io::stdin());
        let mut number = 0u64;
        let mut batch = Vec::new();
        let mut size = 0;
        loop {
            let mut line = Vec::new();
            let end = !matches!(stdin.read_until(b'\n', &mut line), Ok(1..));
            let mut bad = None;
            if !end {
                number += 1;
                if line.last() == Some(&b'\n') {
                    line.pop();
                }
                size += line.len() + 1;
                if binary {
                    batch.push(Message::Binary(line.into()));
                } else {
                    match String::from_utf8(line) {
                        Ok(text) => batch.push(Message::Text(text.into())),
                        Err(_) => {
                            bad = Some(format!(
                                "line {number} is not UTF-8 and was not sent (-b sends bytes)"
                            ));
                        }
                    }
                }
            }
            // A line goes at once unless the next one is there already.
            let more = !end
                && bad.is_none()
                && size < BATCH
                && memchr::memchr(b'\n', stdin.buffer()).is_some();
            if more {
                continue;
            }
            size = 0;
            let whole = std::mem::take(&mut batch);
            let sent = whole.is_empty() || batches.blocking_send(Input::Messages(whole)).is_ok();
            let said = bad.is_none_or(|text| batches.blocking_send(Input::Bad(text)).is_ok());
            if end || !sent || !said {
                return;
            }
        }
    });
    receiver
}
