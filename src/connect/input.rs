//! Piped stdin: lines to messages, in batches, with backpressure.

use std::io::{self, BufRead, BufReader, Read};

use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

/// Batches that may wait.
const WAITING: usize = 4;

/// Bytes of lines in a batch.
const BATCH: usize = 64 * 1024;

/// The longest line: what has no newline (`/dev/zero`) must not fill the memory.
const LONGEST: usize = 1 << 30;

/// What comes from stdin.
pub(super) enum Input {
    /// Messages to send.
    Messages(Vec<Message>),
    /// A line that cannot be sent, or the end of what can be read.
    Bad(String),
}

/// Reads stdin to its end on a thread of its own.
pub(super) fn read(binary: bool) -> mpsc::Receiver<Input> {
    let (batches, receiver) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        let mut stdin = BufReader::with_capacity(BATCH, io::stdin());
        let mut number = 0u64;
        let mut batch = Vec::new();
        let mut size = 0;
        loop {
            let mut line = Vec::new();
            let read = stdin.by_ref().take(LONGEST as u64 + 1).read_until(b'\n', &mut line);
            let end = !matches!(read, Ok(1..));
            let mut bad = read.err().map(|e| format!("stdin cannot be read: {e}"));
            number += 1;
            if line.len() > LONGEST && line.last() != Some(&b'\n') {
                bad = Some(format!("line {number} is over 1 GiB and was not sent"));
                // The next read tells what is wrong here.
                let _ = stdin.skip_until(b'\n');
            } else if !end {
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
