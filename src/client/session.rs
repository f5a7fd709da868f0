//! A session: connect, pass messages both ways, leave for the right reason.

use std::cell::Cell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant as Deadline, interval_at, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::command::{self, COMMANDS, Line};
use super::dial::{Socket, dial, header_lines};
use super::exit;
use super::input::{self, Input};
use super::options::{Options, Wait};
use super::output::Output;
use super::repl::{self, Typed};
use crate::error::{Failure, complain};
use crate::escape::escape;

/// How long the server may take to answer our Close.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// The first pause before `--reconnect` tries again, and the longest.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// Echoes that may wait for the server, in messages; past it the server is not read.
const ECHOES: u64 = 1024;

/// Why a connection's time is over.
enum End {
    /// Leave, with this exit code.
    Leave(u8),
    /// The server closed, with this code and reason.
    Closed(u16, String),
    /// The connection broke.
    Lost(String),
    /// The server broke the protocol.
    Broken(String),
    /// `/reconnect`.
    Again,
}

#[derive(Default)]
struct Counts {
    sent: Cell<u64>,
    sent_bytes: Cell<u64>,
    received: Cell<u64>,
    received_bytes: Cell<u64>,
}

fn add(cell: &Cell<u64>, n: usize) {
    cell.set(cell.get() + n as u64);
}

/// What outlives a connection.
struct Session<'a> {
    options: &'a Options,
    output: Output,
    /// Piped input; gone at its end.
    bulk: Option<mpsc::Receiver<Input>>,
    /// A batch that was not sent whole.
    rest: VecDeque<Message>,
    typed: Option<mpsc::UnboundedReceiver<Typed>>,
    counts: Counts,
    executed: bool,
    pings: VecDeque<Instant>,
    round_trip: Option<Duration>,
}

/// Runs the client to its end.
pub async fn run(options: &Options, interactive: bool) -> Result<u8, Failure> {
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
        .map_err(|e| Failure::other(format!("signals cannot be watched: {e}")))?;
    // It connects first: what is typed or piped early waits in the terminal, or the pipe.
    let mut pause = RECONNECT.0;
    let mut session: Option<Session<'_>> = None;
    loop {
        let dialed = tokio::select! {
            dialed = dial(options) => dialed,
            _ = interrupt.recv() => return Ok(exit::INTERRUPTED),
        };
        let end = match dialed {
            Ok((socket, response)) => {
                pause = RECONNECT.0;
                let session = match &mut session {
                    Some(session) => session,
                    none => none.insert(Session::start(options, interactive)?),
                };
                let protocol = response.headers().get("sec-websocket-protocol");
                let protocol = protocol
                    .and_then(|p| p.to_str().ok())
                    .map_or(String::new(), |p| format!(" (subprotocol {})", escape(p)));
                let url = escape(&options.target.url).into_owned();
                session.output.chat(&format!("connected to {url}{protocol}")).await;
                let headers = header_lines(response.headers(), "");
                let end = tokio::select! {
                    end = session.connection(socket, &headers) => end,
                    _ = interrupt.recv() => End::Leave(exit::INTERRUPTED),
                };
                session.finish(end).await
            }
            Err(failure) if options.reconnect && failure.exit != exit_usage() => Err(failure),
            Err(failure) => {
                if let Some(mut session) = session {
                    session.output.finish().await;
                }
                return Err(failure);
            }
        };
        let failure = match end {
            Ok(Some(code)) => {
                if let Some(mut session) = session {
                    session.output.finish().await;
                }
                return Ok(code);
            }
            Ok(None) => continue,
            Err(failure) => failure,
        };
        if !options.reconnect {
            if let Some(mut session) = session {
                session.output.finish().await;
            }
            return Err(failure);
        }
        let text = format!("{}; trying again in {:.1} s", failure.message, pause.as_secs_f64());
        match &session {
            Some(session) => session.output.info(&text).await,
            None => complain(&format!("* {text}")),
        }
        tokio::select! {
            () = sleep(pause) => {}
            _ = interrupt.recv() => return Ok(exit::INTERRUPTED),
            typed = quit_typed(session.as_mut()) => return Ok(typed),
        }
        // Up to a tenth more, so that many clients do not come back at once.
        pause = (pause * 2).min(RECONNECT.1).mul_f64(1.0 + fastrand::f64() / 10.0);
    }
}

fn exit_usage() -> u8 {
    crate::error::exit::USAGE
}

/// Between two connections one can leave, too.
async fn quit_typed(session: Option<&mut Session<'_>>) -> u8 {
    let typed = session.and_then(|s| s.typed.as_mut());
    let Some(typed) = typed else { return std::future::pending().await };
    loop {
        match typed.recv().await {
            Some(Typed::Interrupt) => return exit::INTERRUPTED,
            Some(Typed::End) | None => return exit::OK,
            Some(Typed::Line(line)) if command::parse(&line) == Line::Quit => return exit::OK,
            Some(Typed::Line(_)) => {}
        }
    }
}

impl<'a> Session<'a> {
    fn start(options: &'a Options, interactive: bool) -> Result<Session<'a>, Failure> {
        let (typed, printer) = if interactive {
            let (typed, printer) = repl::start(!options.no_history)?;
            (Some(typed), Some(printer))
        } else {
            (None, None)
        };
        let reads = !interactive && options.execute.is_empty();
        Ok(Session {
            options,
            output: Output::new(options, printer),
            bulk: reads.then(|| input::read(options.binary)),
            rest: VecDeque::new(),
            typed,
            counts: Counts::default(),
            executed: false,
            pings: VecDeque::new(),
            round_trip: None,
        })
    }

    /// What an end means: an exit code, nothing (connect again), or a failure.
    async fn finish(&mut self, end: End) -> Result<Option<u8>, Failure> {
        let short = |code: u8| match self.options.count {
            Some(n) if self.counts.received.get() < n && code != exit::INTERRUPTED => {
                let text = format!("{} of {n} messages came (-n)", self.counts.received.get());
                Err(Failure::new(exit::TIMEOUT, text))
            }
            _ => Ok(Some(code)),
        };
        match end {
            End::Again => Ok(None),
            // Ctrl-D and /quit are the user's own wish.
            End::Leave(code) if self.typed.is_some() => Ok(Some(code)),
            End::Leave(code) => short(code),
            End::Closed(code, reason) => {
                let reason = if reason.is_empty() {
                    String::new()
                } else {
                    format!(" {:?}", escape(&reason))
                };
                let text = format!("the server closed the connection: {code}{reason}");
                let fine = matches!(code, 1000 | 1001 | 1005);
                if self.options.reconnect && code != 1000 {
                    return Err(Failure::new(exit::CLOSED, text));
                }
                if fine {
                    self.output.chat(&text).await;
                    return short(exit::OK);
                }
                short(exit::CLOSED)?;
                Err(Failure::new(exit::CLOSED, text))
            }
            End::Lost(why) => {
                if !self.options.reconnect {
                    short(exit::CLOSED)?;
                }
                Err(Failure::new(exit::CLOSED, format!("the connection was lost: {why}")))
            }
            End::Broken(why) => {
                Err(Failure::new(exit::FAILURE, format!("the server broke the protocol: {why}")))
            }
        }
    }

    /// One connection from its opening to its end.
    async fn connection(&mut self, socket: Socket, headers: &str) -> End {
        let (sink, stream) = socket.split();
        let (urgent, urgent_in) = mpsc::unbounded_channel();
        let drained = Notify::new();
        if !self.executed {
            self.executed = true;
            for text in &self.options.execute {
                let message = if self.options.binary {
                    Message::Binary(text.clone().into_bytes().into())
                } else {
                    Message::Text(text.into())
                };
                // The receiver is right here.
                let _ = urgent.send(message);
            }
        }
        let mut bulk = self.bulk.take();
        let mut rest = std::mem::take(&mut self.rest);
        let counts = std::mem::take(&mut self.counts);
        let writer = Writer {
            sink,
            urgent: urgent_in,
            bulk: &mut bulk,
            rest: &mut rest,
            counts: &counts,
            drained: &drained,
        };
        let end = {
            let writing = writer.run();
            tokio::pin!(writing);
            let reading = self.read(stream, &urgent, &counts, &drained, headers);
            tokio::pin!(reading);
            tokio::select! {
                end = &mut reading => end,
                failed = &mut writing => {
                    // What the server said last explains a failed write better than its error.
                    match timeout(CLOSE_WAIT, &mut reading).await {
                        Ok(end) => end,
                        Err(_) => End::Lost(failed.unwrap_or_else(|| "no answer to our Close".to_owned())),
                    }
                }
            }
        };
        self.counts = counts;
        self.bulk = bulk;
        self.rest = rest;
        end
    }

    async fn read(
        &mut self,
        mut stream: SplitStream<Socket>,
        urgent: &mpsc::UnboundedSender<Message>,
        counts: &Counts,
        drained: &Notify,
        headers: &str,
    ) -> End {
        let opened = Instant::now();
        let mut ping = self.options.ping.map(|every| interval_at(Deadline::now() + every, every));
        // Set once the input is at its end.
        let mut silence: Option<Deadline> = None;
        // Set once we say Close.
        let mut leaving: Option<(u8, Deadline)> = None;
        let mut input_ended = false;
        loop {
            let deadline = leaving.map(|(_, at)| at).or(silence);
            tokio::select! {
                message = stream.next() => {
                    let message = match message {
                        None => return End::Lost("the server closed the socket without a Close".to_owned()),
                        Some(Err(error)) => return self.failed(error, urgent, &mut stream).await,
                        Some(Ok(message)) => message,
                    };
                    match message {
                        Message::Close(frame) => {
                            // The answer to it is sent by reading on.
                            let _ = timeout(CLOSE_WAIT, async { while let Some(Ok(_)) = stream.next().await {} }).await;
                            if let Some((code, _)) = leaving {
                                return End::Leave(code);
                            }
                            return match frame {
                                Some(frame) => End::Closed(frame.code.into(), frame.reason.to_string()),
                                None => End::Closed(1005, String::new()),
                            };
                        }
                        Message::Ping(_) => {}
                        Message::Pong(payload) => self.pong(&payload).await,
                        Message::Frame(_) => {}
                        message => {
                            add(&counts.received, 1);
                            add(&counts.received_bytes, message.len());
                            self.output.message(&message).await;
                            if self.output.is_closed() {
                                return End::Leave(exit::OK);
                            }
                            if self.options.echo {
                                let _ = urgent.send(message);
                                // A peer that writes and does not read is not read for ever.
                                while urgent_waits(counts) > ECHOES && leaving.is_none() {
                                    sleep(Duration::from_millis(1)).await;
                                }
                            }
                            if let (Some(at), Wait::Silence(wait)) = (&mut silence, self.options.wait) {
                                *at = Deadline::now() + wait;
                            }
                            if self.options.count == Some(counts.received.get()) && leaving.is_none() {
                                leaving = Some(say_close(urgent, exit::OK, 1000, ""));
                            }
                        }
                    }
                }
                () = drained.notified(), if !input_ended => {
                    input_ended = true;
                    if self.typed.is_none() && let Wait::Silence(wait) = self.options.wait {
                        silence = Some(Deadline::now() + wait);
                    }
                }
                () = sleep_until(deadline.unwrap_or_else(Deadline::now)), if deadline.is_some() => {
                    match leaving {
                        // It does not answer our Close.
                        Some((code, _)) => return End::Leave(code),
                        None => {
                            silence = None;
                            leaving = Some(say_close(urgent, exit::OK, 1000, ""));
                        }
                    }
                }
                _ = async { match &mut ping { Some(ping) => ping.tick().await, None => std::future::pending().await } } => {
                    self.pings.push_back(Instant::now());
                    let _ = urgent.send(Message::Ping(Vec::new().into()));
                }
                typed = async { match &mut self.typed { Some(typed) => typed.recv().await, None => std::future::pending().await } },
                    if leaving.is_none() =>
                {
                    match typed {
                        Some(Typed::Line(line)) => {
                            if let Some(end) = self.typed_line(&line, urgent, counts, opened, headers, &mut leaving).await {
                                return end;
                            }
                        }
                        Some(Typed::Interrupt) => {
                            leaving = Some(say_close(urgent, exit::INTERRUPTED, 1000, ""));
                        }
                        Some(Typed::End) | None => {
                            leaving = Some(say_close(urgent, exit::OK, 1000, ""));
                        }
                    }
                }
            }
        }
    }

    /// The connection failed while reading.
    async fn failed(
        &mut self,
        error: Error,
        urgent: &mpsc::UnboundedSender<Message>,
        stream: &mut SplitStream<Socket>,
    ) -> End {
        let (code, why) = match error {
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                return End::Lost("the server closed the socket without a Close".to_owned());
            }
            Error::ConnectionClosed | Error::AlreadyClosed => {
                return End::Closed(1005, String::new());
            }
            Error::Io(e) => return End::Lost(e.to_string()),
            Error::Utf8(e) => (CloseCode::Invalid, format!("text that is not UTF-8 ({e})")),
            Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
                (CloseCode::Size, format!("a message of {size} bytes, over {max_size}"))
            }
            other => (CloseCode::Protocol, other.to_string()),
        };
        // The violation is answered with its close code (RFC 6455 section 7.1.7).
        let frame = CloseFrame { code, reason: Utf8Bytes::default() };
        let _ = urgent.send(Message::Close(Some(frame)));
        let _ = timeout(Duration::from_millis(200), async {
            while let Some(Ok(_)) = stream.next().await {}
            std::future::pending::<()>().await;
        })
        .await;
        End::Broken(escape(&why).into_owned())
    }

    async fn pong(&mut self, payload: &[u8]) {
        if let Some(sent) = self.pings.pop_front() {
            self.round_trip = Some(sent.elapsed());
            let text = String::from_utf8_lossy(payload);
            let ms = sent.elapsed().as_secs_f64() * 1_000.0;
            self.output.chat(format!("pong {} ({ms:.1} ms)", escape(&text)).trim_end()).await;
        }
    }

    /// A line that was typed.
    async fn typed_line(
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
            Line::Ping(text) => {
                self.pings.push_back(Instant::now());
                send(Message::Ping(text.into_bytes().into()));
            }
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

/// Messages that were received and not yet echoed, as far as the counts show.
fn urgent_waits(counts: &Counts) -> u64 {
    counts.received.get().saturating_sub(counts.sent.get())
}

/// Sends our Close; the server has some time to answer.
fn say_close(
    urgent: &mpsc::UnboundedSender<Message>,
    exit: u8,
    code: u16,
    reason: &str,
) -> (u8, Deadline) {
    let frame = CloseFrame { code: code.into(), reason: reason.into() };
    // A writer that is gone has said Close already.
    let _ = urgent.send(Message::Close(Some(frame)));
    (exit, Deadline::now() + CLOSE_WAIT)
}

/// The sending half: what was asked for goes first, piped input as the server takes it.
struct Writer<'a> {
    sink: SplitSink<Socket, Message>,
    urgent: mpsc::UnboundedReceiver<Message>,
    bulk: &'a mut Option<mpsc::Receiver<Input>>,
    rest: &'a mut VecDeque<Message>,
    counts: &'a Counts,
    drained: &'a Notify,
}

impl Writer<'_> {
    /// Ends with our Close, or with what failed.
    async fn run(mut self) -> Option<String> {
        match self.write().await {
            // A Close is out: the reader decides when it is over.
            Ok(()) => std::future::pending().await,
            Err(error) => Some(error.to_string()),
        }
    }

    async fn feed(&mut self, message: Message) -> Result<(), Error> {
        if message.is_text() || message.is_binary() {
            add(&self.counts.sent, 1);
            add(&self.counts.sent_bytes, message.len());
        }
        self.sink.feed(message).await
    }

    async fn write(&mut self) -> Result<(), Error> {
        while let Some(message) = self.rest.pop_front() {
            self.feed(message).await?;
        }
        // What -x wants sent counts as input.
        while let Ok(message) = self.urgent.try_recv() {
            self.feed(message).await?;
        }
        self.sink.flush().await?;
        if self.bulk.is_none() {
            self.drained.notify_one();
        }
        loop {
            tokio::select! {
                biased;
                message = self.urgent.recv() => {
                    let Some(message) = message else { return Ok(()) };
                    let last = message.is_close();
                    self.feed(message).await?;
                    if self.urgent.is_empty() || last {
                        self.sink.flush().await?;
                    }
                    if last {
                        return Ok(());
                    }
                }
                input = async { match self.bulk.as_mut() { Some(bulk) => bulk.recv().await, None => std::future::pending().await } } => {
                    match input {
                        Some(Input::Messages(messages)) => {
                            self.rest.extend(messages);
                            while let Some(message) = self.rest.pop_front() {
                                self.feed(message).await?;
                            }
                            self.sink.flush().await?;
                        }
                        Some(Input::Bad(text)) => complain(&format!("wsgw: {text}")),
                        None => {
                            *self.bulk = None;
                            self.drained.notify_one();
                        }
                    }
                }
            }
        }
    }
}
