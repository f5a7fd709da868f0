//! `wsgw send`: one push, or a stream of them.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::verbs::{encode, print, timeout};
use crate::cli::SendArgs;
use crate::config::units;
use crate::control::client::{Chunks, Client, Socket, failure_of, read_head};
use crate::control::discovery::{Environment, find};
use crate::error::{Failure, complain, exit};
use crate::escape::escape;
use crate::protocol::json;
use crate::server::api::PushOutcome;

/// Bytes of a chunk of the stream.
const CHUNK: usize = 64 * 1024;

/// Names in the total's `gone`.
const GONE_LISTED: usize = 1000;

/// Sends.
pub fn run(args: SendArgs) -> Result<u8, Failure> {
    let time = timeout(&args.control.timeout)?;
    if args.lines {
        if args.message.as_deref().is_some_and(|m| m != "-") {
            return Err(Failure::usage("--lines reads stdin: leave MESSAGE out"));
        }
        if io::stdin().is_terminal() && args.message.is_none() {
            return Err(Failure::usage("--lines reads stdin, which is a terminal: pipe lines in"));
        }
        return lines(&args, time);
    }
    let body = body(&args)?;
    let (client, connection) = reach(&args, time)?;
    let answer = client.exchange(connection, "POST", &path(&args, ""), &body)?;
    let text = answer.ok()?;
    let outcome: Value = serde_json::from_slice(&text)
        .map_err(|_| Failure::other("the control port's answer is no JSON: is it wsgw?"))?;
    let mut total = Total::default();
    total.add(&outcome);
    total.finish(&args)
}

/// What the path and the query of the request say.
fn path(args: &SendArgs, more: &str) -> String {
    // A listener that pushes to its own gateway could not answer its own question.
    let own = std::env::var("WSGW_GATEWAY").ok().filter(|id| !id.is_empty());
    let id = args.gateway.as_ref().or(own.as_ref());
    let skip = args.no_hook || own.is_some() && id == own.as_ref();
    let mut path = match id {
        Some(id) => format!("/v1/gateways/{}/messages", encode(id)),
        None => "/v1/messages".to_owned(),
    };
    let hook = if skip { "hook=none" } else { "" };
    let query: Vec<&str> = [hook, more].into_iter().filter(|part| !part.is_empty()).collect();
    if !query.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(path, "?{}", query.join("&"));
    }
    path
}

/// Finds the control port and connects; `--retry` tries again while there is none.
fn reach(args: &SendArgs, time: Duration) -> Result<(Client, (Socket, String)), Failure> {
    let retry = args.retry.as_deref().map(units::duration).transpose();
    let retry = retry.map_err(|why| Failure::usage(format!("--retry: {why}")))?;
    let until = Instant::now() + retry.unwrap_or_default();
    let mut pause = Duration::from_millis(50);
    loop {
        let tried = find(&args.control, &Environment::of_process()).and_then(|target| {
            let client = Client::new(target, time);
            let connection = client.connect()?;
            Ok((client, connection))
        });
        match tried {
            Err(failure) if failure.exit == exit::UNREACHABLE => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(failure);
                }
                std::thread::sleep(pause.min(left));
                pause = (pause * 2).min(Duration::from_secs(1));
            }
            done => return done,
        }
    }
}

/// The struct of a single push.
fn body(args: &SendArgs) -> Result<Vec<u8>, Failure> {
    if let Some(data) = &args.data {
        return data_body(args, data);
    }
    if args.binary && args.message.as_deref().is_some_and(|m| m != "-") {
        return Err(Failure::usage("--binary reads the message from stdin: leave MESSAGE out"));
    }
    let bytes = match args.message.as_deref() {
        Some(message) if message != "-" => message.as_bytes().to_vec(),
        dash => {
            if dash.is_none() && io::stdin().is_terminal() {
                return Err(Failure::usage(
                    "nothing to send: give a MESSAGE, or pipe one into stdin (`-` reads the \
                     terminal, too)",
                ));
            }
            let mut bytes = Vec::new();
            io::stdin()
                .lock()
                .read_to_end(&mut bytes)
                .map_err(|e| Failure::other(format!("stdin cannot be read: {e}")))?;
            if bytes.is_empty() && dash.is_none() {
                return Err(Failure::usage(
                    "nothing to send: stdin is empty (`-` sends an empty message)",
                ));
            }
            if !args.binary && bytes.last() == Some(&b'\n') {
                bytes.pop();
            }
            bytes
        }
    };
    let mut body = Vec::with_capacity(bytes.len() + 64);
    if args.binary {
        body.extend_from_slice(b"{\"base64\":\"");
        body.extend_from_slice(STANDARD.encode(&bytes).as_bytes());
        body.push(b'"');
    } else {
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::usage("the message is not UTF-8: send it with --binary"))?;
        body.extend_from_slice(if args.base64 { b"{\"base64\":" } else { b"{\"message\":" });
        json::push_str(&mut body, &text);
    }
    body.extend_from_slice(&recipients(args));
    body.push(b'}');
    Ok(body)
}

/// `--data`: the struct as it is, with `--to` and `--except` added.
fn data_body(args: &SendArgs, data: &str) -> Result<Vec<u8>, Failure> {
    let value: Value = serde_json::from_str(data)
        .map_err(|e| Failure::usage(format!("--data is no JSON: {e}")))?;
    let Some(object) = value.as_object() else {
        return Err(Failure::usage("--data has to be a JSON object"));
    };
    if !object.contains_key("message") && !object.contains_key("base64") {
        return Err(Failure::usage("--data has to hold \"message\" or \"base64\""));
    }
    for (flag, key, given) in [
        ("--to", "connections", !args.to.is_empty()),
        ("--except", "except", !args.except.is_empty()),
    ] {
        if given && object.contains_key(key) {
            return Err(Failure::usage(format!(
                "{flag} and the {key:?} of --data say the same twice"
            )));
        }
    }
    let mut body = data.trim().as_bytes().to_vec();
    // It is an object: its last byte is the brace.
    body.pop();
    body.extend_from_slice(&recipients(args));
    body.push(b'}');
    Ok(body)
}

/// `,"connections":[…],"except":[…]`, as far as they were given.
fn recipients(args: &SendArgs) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, names) in [("connections", &args.to), ("except", &args.except)] {
        if names.is_empty() {
            continue;
        }
        // A list of strings always serializes.
        let names = serde_json::to_string(names).unwrap_or_default();
        out.extend_from_slice(format!(",\"{key}\":{names}").as_bytes());
    }
    out
}

/// The sum of all outcomes.
#[derive(Default)]
struct Total {
    matched: u64,
    delivered: u64,
    dropped: u64,
    gone: Vec<String>,
}

impl Total {
    fn add(&mut self, outcome: &Value) {
        let count = |key: &str| outcome[key].as_u64().unwrap_or(0);
        self.matched += count("matched");
        self.delivered += count("delivered");
        self.dropped += count("dropped");
        if let Some(gone) = outcome["gone"].as_array() {
            let room = GONE_LISTED.saturating_sub(self.gone.len());
            let names = gone.iter().filter_map(|name| Some(name.as_str()?.to_owned()));
            self.gone.extend(names.take(room));
        }
    }

    /// Prints it, and decides on the exit code of what went well.
    fn finish(&self, args: &SendArgs) -> Result<u8, Failure> {
        if args.json {
            let outcome = PushOutcome {
                matched: self.matched,
                delivered: self.delivered,
                dropped: self.dropped,
                gone: self.gone.clone(),
            };
            if !args.quiet {
                // Plain data always serializes.
                print(&(serde_json::to_string(&outcome).unwrap_or_default() + "\n"));
            }
        } else if !args.quiet {
            print(&format!("delivered {}\n", self.delivered));
            if self.dropped > 0 {
                let text = "dropped: the queues of slow clients are full";
                complain(&format!("wsgw: {} {text}", self.dropped));
            }
            if !self.gone.is_empty() {
                let names: Vec<_> = self.gone.iter().map(|name| escape(name)).collect();
                complain(&format!("wsgw: gone: {}", names.join(", ")));
            }
        }
        if self.delivered == 0 && (args.require_one || !args.to.is_empty()) {
            return Err(Failure::new(exit::NO_GATEWAY, "nobody got it"));
        }
        Ok(exit::OK)
    }
}

/// What the thread that reads stdin tells the one that reads the results.
enum Sent {
    /// A line is on its way; its number.
    Line(u64),
    /// A line that could not be sent.
    Bad(u64, Failure),
    /// Stdin has ended or the connection broke: no more lines.
    End,
}

/// `--lines`: a stream over one connection.
fn lines(args: &SendArgs, time: Duration) -> Result<u8, Failure> {
    // An empty input is done, whether a server runs or not.
    let mut stdin = BufReader::with_capacity(CHUNK, io::stdin());
    if stdin.fill_buf().is_ok_and(<[u8]>::is_empty) {
        return Total::default().finish(args).or(Ok(exit::OK));
    }
    let (client, (mut socket, host)) = reach(args, time)?;
    client.limit(&socket)?;
    let more =
        "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n";
    let head = client.head("POST", &path(args, "results=each"), &host, more);
    socket.write_all(head.as_bytes()).map_err(|e| client.broken(&e))?;
    let mut reader =
        BufReader::with_capacity(CHUNK, socket.try_clone().map_err(|e| client.broken(&e))?);
    let (sent, sent_in) = mpsc::channel();
    let suffix = recipients(args);
    let key = if args.base64 { &b"{\"base64\":"[..] } else { b"{\"message\":" };
    // It may sit in a read of stdin for ever; the process ends with the results, not with it.
    std::thread::spawn(move || write_lines(stdin, socket, key, &suffix, &sent));

    let mut results =
        Results { total: Total::default(), first: None, sent: sent_in, waiting: None };
    let ended = results.read(&mut reader, &client);
    if let Err(failure) = ended {
        // What was delivered so far is said, too.
        if results.total.matched > 0 {
            let _ = results.total.finish(args);
        }
        return Err(failure);
    }
    let done = results.total.finish(args);
    match results.first {
        Some(code) => Ok(code),
        None => done,
    }
}

fn write_lines(
    mut stdin: BufReader<io::Stdin>,
    mut socket: Socket,
    key: &[u8],
    suffix: &[u8],
    sent: &mpsc::Sender<Sent>,
) {
    let mut number = 0;
    let mut line = Vec::new();
    let mut chunk: Vec<u8> = Vec::new();
    let mut numbers: Vec<u64> = Vec::new();
    loop {
        line.clear();
        let read = stdin.read_until(b'\n', &mut line);
        let end = !matches!(read, Ok(1..));
        if !end {
            number += 1;
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            match std::str::from_utf8(&line) {
                Ok("") => {}
                Ok(text) => {
                    chunk.extend_from_slice(key);
                    json::push_str(&mut chunk, text);
                    chunk.extend_from_slice(suffix);
                    chunk.extend_from_slice(b"}\n");
                    numbers.push(number);
                }
                Err(_) => {
                    // The receiver lives as long as the process.
                    let _ = sent.send(Sent::Bad(number, Failure::other("it is not UTF-8")));
                }
            }
        }
        // A line goes at once unless the next one is there already.
        let more = !end && chunk.len() < CHUNK && memchr::memchr(b'\n', stdin.buffer()).is_some();
        if more {
            continue;
        }
        for number in numbers.drain(..) {
            let _ = sent.send(Sent::Line(number));
        }
        let mut framed = Vec::with_capacity(chunk.len() + 32);
        if !chunk.is_empty() {
            framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            framed.extend_from_slice(&chunk);
            framed.extend_from_slice(b"\r\n");
            chunk.clear();
        }
        if end {
            framed.extend_from_slice(b"0\r\n\r\n");
        }
        // The other thread finds out why when it breaks.
        let broken = socket.write_all(&framed).is_err();
        if end || broken {
            let _ = sent.send(Sent::End);
            return;
        }
    }
}

struct Results {
    total: Total,
    /// The exit code of the first line that failed.
    first: Option<u8>,
    sent: mpsc::Receiver<Sent>,
    /// The number of the line whose result comes next, once it is known.
    waiting: Option<u64>,
}

impl Results {
    fn failed(&mut self, number: u64, failure: &Failure) {
        complain(&format!("wsgw: line {number}: {failure}"));
        self.first.get_or_insert(failure.exit);
    }

    /// Takes what was said of lines; true while a result is awaited.
    fn awaited(&mut self) -> bool {
        while self.waiting.is_none() {
            match self.sent.try_recv() {
                Ok(Sent::Line(number)) => self.waiting = Some(number),
                Ok(Sent::Bad(number, failure)) => self.failed(number, &failure),
                // Results may still be on their way; the end of the answer tells.
                Ok(Sent::End) | Err(_) => return false,
            }
        }
        true
    }

    fn read(&mut self, reader: &mut BufReader<Socket>, client: &Client) -> Result<(), Failure> {
        self.wait(reader, client)?;
        let head = read_head(reader).map_err(|e| client.broken(&e))?;
        if head.status != 200 {
            let mut body = Vec::new();
            let length = head.length.unwrap_or(64 * 1024);
            reader.take(length).read_to_end(&mut body).map_err(|e| client.broken(&e))?;
            return Err(failure_of(
                head.status,
                &serde_json::from_slice(&body).unwrap_or(Value::Null),
            ));
        }
        let mut body = Vec::new();
        loop {
            self.wait(reader, client)?;
            let more = Chunks::new(reader).next(&mut body).map_err(|e| client.broken(&e))?;
            let mut at = 0;
            while let Some(end) = memchr::memchr(b'\n', &body[at..]) {
                self.result(&body[at..at + end]);
                at += end + 1;
            }
            body.drain(..at);
            if !more {
                // What was said of lines that were never sent.
                self.awaited();
                return Ok(());
            }
        }
    }

    /// Waits for bytes: as long as it takes while nothing is owed, else `--timeout`.
    fn wait(&mut self, reader: &mut BufReader<Socket>, client: &Client) -> Result<(), Failure> {
        loop {
            match reader.fill_buf() {
                Ok([]) => return Err(client.broken(&io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e)
                    if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
                {
                    if self.awaited() {
                        return Err(client.broken(&e));
                    }
                }
                Err(e) => return Err(client.broken(&e)),
            }
        }
    }

    fn result(&mut self, line: &[u8]) {
        let value: Value = serde_json::from_slice(line).unwrap_or(Value::Null);
        // Its number was sent before the line was.
        while self.waiting.is_none() {
            match self.sent.recv() {
                Ok(Sent::Line(number)) => self.waiting = Some(number),
                Ok(Sent::Bad(number, failure)) => self.failed(number, &failure),
                Ok(Sent::End) | Err(_) => break,
            }
        }
        let number = self.waiting.take().unwrap_or(0);
        if value["error"].is_object() {
            self.failed(number, &failure_of(0, &value));
        } else {
            self.total.add(&value);
        }
    }
}
