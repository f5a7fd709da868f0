//! `wsgw send --lines`: each line of stdin is one message, over one connection, in order.
//!
//! A thread reads stdin and writes structs: what one `read` brought goes out in one piece, so a
//! slow producer's line goes at once and a fast one's go by the thousand. The main thread reads the
//! results, which come in the same order; a channel tells it the numbers of the lines behind them.

use std::io::{self, IsTerminal, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::api::{MAX_STRUCT, PushOutcome, Totals};
use crate::cli::SendArgs;
use crate::commands::control;
use crate::commands::output::{print, print_json};
use crate::commands::send::input::write_start;
use crate::commands::send::{messages_path, nobody, read_outcome, targets};
use crate::control_client::{StreamReader, StreamWriter};
use crate::error::{Failure, complain, exit};
use crate::text::escape;
use crate::text::lines::Lines;

/// What is read of stdin at a time.
const PIECE: usize = 64 << 10;

/// Bytes of one result at most. The names in it (`gone`) are those of one struct or answer.
const MAX_RESULT: usize = 64 << 20;

/// Runs the stream to its end.
pub(super) fn run(args: &SendArgs, retry: Duration) -> Result<u8, Failure> {
    if args.message.is_none() && io::stdin().is_terminal() {
        return Err(Failure::usage(
            "--lines reads stdin, which is a terminal: pipe lines in, or type them (`--lines -`)",
        ));
    }
    let mut client = control::open(&args.control, retry)?;
    let path = messages_path(&mut client, args, true)?;
    let (writer, mut reader) = client.stream(&path)?;
    let sent = Arc::new(Sent::default());
    let (note, notes) = channel();
    let mut feeder = Feeder {
        writer,
        notes: note,
        sent: Arc::clone(&sent),
        key: if args.base64 { "base64" } else { "message" },
        end: targets(args),
        out: Vec::new(),
        run: (1, 0),
        line: 0,
    };
    // Not joined: where the results end early it may sit in a read of stdin, and goes with the
    // process.
    std::thread::spawn(move || feeder.run(io::stdin().lock()));

    let mut summary = Summary { args, notes, lines: (0, 0), total: Totals::default(), exit: None };
    let ended = follow(&mut reader, &sent, &mut summary);
    summary.local_failures();
    if !args.quiet {
        if args.json {
            let json = serde_json::to_string(&summary.total).unwrap_or_default();
            print_json(json.as_bytes())?;
        } else {
            print(&format!("delivered {}\n", summary.total.delivered))?;
        }
    }
    ended?;
    Ok(summary.exit.unwrap_or(exit::OK))
}

/// Reads results until their end, which must be that of the lines, too.
fn follow(
    reader: &mut StreamReader,
    sent: &Sent,
    summary: &mut Summary<'_>,
) -> Result<(), Failure> {
    let timeout = reader.client().timeout();
    let tick = (timeout / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
    let mut buffer = Vec::new();
    let mut lines = Lines::default();
    let mut received = 0u64;
    let mut owed_since: Option<Instant> = None;
    loop {
        buffer.clear();
        let more = reader.read(&mut buffer, tick).map_err(|failure| summary.unanswered(failure))?;
        let progress = !buffer.is_empty();
        let mut read = Ok(());
        lines.feed(&buffer, MAX_RESULT, |line| {
            if read.is_ok() {
                read = summary.result(line);
                received += 1;
            }
        });
        read?;
        let done = sent.ended.load(Ordering::Acquire);
        let owed = received < sent.structs.load(Ordering::Acquire) || done;
        if !more {
            if done && received == sent.structs.load(Ordering::Acquire) {
                return Ok(());
            }
            return Err(summary.unanswered(Failure::new(
                exit::UNREACHABLE,
                "the control port ended the stream before its end",
            )));
        }
        if !progress {
            summary.local_failures();
        }
        owed_since = match owed_since {
            _ if !owed => None,
            Some(since) if !progress => Some(since),
            _ => Some(Instant::now()),
        };
        if owed_since.is_some_and(|since| since.elapsed() >= timeout) {
            return Err(summary.unanswered(reader.client().timed_out()));
        }
    }
}

/// How far the feeder is.
#[derive(Default)]
struct Sent {
    structs: AtomicU64,
    ended: AtomicBool,
}

/// What the feeder tells of its lines, in their order.
enum Note {
    /// So many lines from this one on were sent.
    Lines(u64, u64),
    /// This one was not.
    Failed(u64, Failure),
    /// Stdin cannot be read.
    Input(Failure),
}

struct Feeder {
    writer: StreamWriter,
    notes: Sender<Note>,
    sent: Arc<Sent>,
    key: &'static str,
    end: Vec<u8>,
    out: Vec<u8>,
    /// The first of the lines in `out`, and how many they are.
    run: (u64, u64),
    line: u64,
}

impl Feeder {
    fn run(&mut self, mut stdin: impl Read) {
        let mut piece = vec![0; PIECE];
        let mut lines = Lines::default();
        loop {
            let n = match stdin.read(&mut piece) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    self.flush_run();
                    let failure = Failure::other(format!("cannot read stdin: {e}"));
                    let _ = self.notes.send(Note::Input(failure));
                    break;
                }
            };
            lines.feed(&piece[..n], MAX_STRUCT, |line| match line {
                Some(line) => self.take(line),
                None => self.refuse_long(),
            });
            if self.send().is_err() {
                // The reader of the results sees why.
                return;
            }
        }
        lines.end(|line| self.take(line));
        if self.send().is_ok() {
            self.sent.ended.store(true, Ordering::Release);
            let _ = self.writer.end();
        }
    }

    fn take(&mut self, line: &[u8]) {
        self.line += 1;
        if line.is_empty() {
            return;
        }
        let Ok(text) = std::str::from_utf8(line) else {
            self.refuse("it is not UTF-8 (--base64 takes lines of base64)");
            return;
        };
        if self.run.0 + self.run.1 != self.line {
            self.flush_run();
        }
        if self.run.1 == 0 {
            self.run.0 = self.line;
        }
        self.run.1 += 1;
        write_start(&mut self.out, self.key, text);
        self.out.extend_from_slice(&self.end);
        self.out.push(b'\n');
    }

    fn refuse_long(&mut self) {
        self.line += 1;
        self.refuse(&format!("it is longer than {} MiB", MAX_STRUCT >> 20));
    }

    fn refuse(&mut self, why: &str) {
        self.flush_run();
        let _ = self.notes.send(Note::Failed(self.line, Failure::other(why)));
    }

    /// Tells of the lines in `out`, before their results can come.
    fn flush_run(&mut self) {
        let (first, count) = std::mem::replace(&mut self.run, (self.line + 1, 0));
        if count > 0 {
            let _ = self.notes.send(Note::Lines(first, count));
            self.sent.structs.fetch_add(count, Ordering::AcqRel);
        }
    }

    fn send(&mut self) -> io::Result<()> {
        self.flush_run();
        let sent = self.writer.send(&self.out);
        self.out.clear();
        // One huge line must not be held for good.
        self.out.shrink_to(4 * PIECE);
        sent
    }
}

struct Summary<'a> {
    args: &'a SendArgs,
    notes: Receiver<Note>,
    /// The line of the next result, and how many lines follow on each other from there.
    lines: (u64, u64),
    total: Totals,
    /// The first failure's exit code.
    exit: Option<u8>,
}

impl Summary<'_> {
    /// Adds one result, a line of the response; none if it was longer than any can be.
    fn result(&mut self, json: Option<&[u8]>) -> Result<(), Failure> {
        let json = json.ok_or_else(|| Failure::other("a line of the answer is too long"))?;
        let result = read_outcome(json)?;
        let line = self.next_line();
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(error) => {
                self.fail(line, error.code.name(), error.code.exit(), &error.text());
                return Ok(());
            }
        };
        if let Some(why) = nobody(self.args, &outcome) {
            self.fail(line, "nobody", exit::NO_GATEWAY, &why);
        }
        let PushOutcome { matched, delivered, dropped, gone, .. } = outcome;
        self.total.add(matched, delivered, dropped, gone);
        Ok(())
    }

    /// The line behind the next result. Its number was told before it was sent.
    fn next_line(&mut self) -> u64 {
        while self.lines.1 == 0 {
            match self.notes.recv() {
                Ok(note) => self.hear(note),
                // More results than lines; the control port miscounts.
                Err(_) => return self.lines.0,
            }
        }
        let line = self.lines.0;
        self.lines = (line + 1, self.lines.1 - 1);
        line
    }

    fn hear(&mut self, note: Note) {
        match note {
            Note::Lines(first, count) => self.lines = (first, count),
            Note::Failed(line, failure) => {
                self.fail(line, "bad_request", failure.exit, &failure.message);
            }
            Note::Input(failure) => {
                complain(&format!("wsgw: {failure}"));
                self.exit.get_or_insert(failure.exit);
            }
        }
    }

    /// Tells of lines that were not sent, as far as they are next.
    fn local_failures(&mut self) {
        while self.lines.1 == 0 {
            match self.notes.try_recv() {
                Ok(note) => self.hear(note),
                Err(_) => return,
            }
        }
    }

    fn fail(&mut self, line: u64, code: &str, exit: u8, why: &str) {
        complain(&format!("wsgw: line {line}: {}", escape::lines(why)));
        self.exit.get_or_insert(exit);
        self.total.fail(line, code);
    }

    /// A failure that ends the stream, with the first line that it concerns.
    fn unanswered(&mut self, failure: Failure) -> Failure {
        self.local_failures();
        match self.lines {
            (line, 1..) => Failure::new(
                self.exit.unwrap_or(failure.exit),
                format!("from line {line} on: {}", failure.message),
            ),
            _ => Failure::new(self.exit.unwrap_or(failure.exit), failure.message),
        }
    }
}
