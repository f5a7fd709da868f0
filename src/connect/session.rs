//! A session: connect, pass messages both ways, leave for the right reason.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant as Deadline, interval_at, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use crate::connect::command;
use crate::connect::command::Line;
use crate::connect::dial::{Socket, dial};
use crate::connect::exit;
use crate::connect::handshake::header_lines;
use crate::connect::input;
use crate::connect::input::Input;
use crate::connect::options::{Options, Wait};
use crate::connect::output::Output;
use crate::connect::repl;
use crate::connect::repl::Typed;
use crate::connect::signals::Signals;
use crate::connect::writer::{Counts, Writer, add};
use crate::error::{Failure, complain};
use crate::text::escape::escape;

/// How long the server may take to answer our Close.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// How long it may take after a signal.
const HURRY: Duration = Duration::from_millis(500);

/// How long stdout may take what is left at the end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A connection that lived so long was a good one: the pauses start anew.
const GOOD: Duration = Duration::from_secs(10);

/// The first pause before `--reconnect` tries again, and the longest.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// Echoes that may wait for the server, in messages; past it the server is not read.
const ECHOES: u64 = 1024;

/// Why a connection's time is over.
pub(super) enum End {
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

/// What outlives a connection.
pub(super) struct Session<'a> {
    pub(super) options: &'a Options,
    pub(super) output: Output,
    /// Piped input; gone at its end.
    bulk: Option<mpsc::Receiver<Input>>,
    /// A batch that was not sent whole.
    rest: VecDeque<Message>,
    pub(super) typed: Option<mpsc::UnboundedReceiver<Typed>>,
    /// Lines that were typed while there was no connection.
    early: VecDeque<String>,
    counts: Counts,
    pub(super) pings: VecDeque<Instant>,
    pub(super) round_trip: Option<Duration>,
}

/// Runs the client to its end.
pub async fn run(options: &Options, interactive: bool) -> Result<u8, Failure> {
    let mut signals = Signals::watch()?;
    let mut session: Option<Session<'_>> = None;
    let result = connections(options, interactive, &mut signals, &mut session).await;
    if let Some(session) = &mut session {
        let hurry = matches!(result, Ok(exit::INTERRUPTED | exit::TERMINATED));
        tokio::select! {
            () = session.output.finish(if hurry { HURRY } else { LAST_WORDS }) => {}
            // One more signal means at once.
            _ = signals.next() => {}
        }
        if let (Ok(exit::OK), Some(failure)) = (&result, session.output.failure()) {
            return Err(failure);
        }
    }
    result
}

async fn connections<'a>(
    options: &'a Options,
    interactive: bool,
    signals: &mut Signals,
    session: &mut Option<Session<'a>>,
) -> Result<u8, Failure> {
    let mut pause = RECONNECT.0;
    loop {
        // It connects first: what is typed or piped early waits in the terminal, or the pipe.
        let breaks = session.as_ref().map(|session| session.output.breaks());
        let (output, typed) = match session {
            Some(session) => {
                (Some(&session.output), Some((&mut session.typed, &mut session.early)))
            }
            None => (None, None),
        };
        let dialed = tokio::select! {
            dialed = dial(options, output) => dialed,
            code = left(signals, typed, breaks) => return Ok(code),
        };
        let end = match dialed {
            Ok((socket, answer)) => {
                let session = match session {
                    Some(session) => session,
                    None => session.insert(Session::start(options, interactive)?),
                };
                let protocol = answer.headers.get("sec-websocket-protocol");
                let protocol = protocol
                    .and_then(|p| p.to_str().ok())
                    .map_or(String::new(), |p| format!(" (subprotocol {})", escape(p)));
                let url = escape(&options.target.url).into_owned();
                session.output.chat(&format!("connected to {url}{protocol}")).await;
                let opened = Instant::now();
                let headers = header_lines(&answer.headers, "");
                let end = session.connection(socket, &headers, signals).await;
                if opened.elapsed() > GOOD {
                    pause = RECONNECT.0;
                }
                session.finish(end).await
            }
            Err(failure) => Err(failure),
        };
        let failure = match end {
            Ok(Some(code)) => return Ok(code),
            Ok(None) => continue,
            Err(failure) if options.reconnect && failure.exit != crate::error::exit::USAGE => {
                failure
            }
            Err(failure) => return Err(failure),
        };
        let text = format!("{}; trying again in {:.1} s", failure.message, pause.as_secs_f64());
        match session {
            Some(session) => session.output.info(&text).await,
            None => complain(&format!("* {text}")),
        }
        let breaks = session.as_ref().map(|session| session.output.breaks());
        let typed = session.as_mut().map(|session| (&mut session.typed, &mut session.early));
        tokio::select! {
            () = sleep(pause) => {}
            code = left(signals, typed, breaks) => return Ok(code),
        }
        // Up to a tenth more, so that many clients do not come back at once.
        pause = (pause * 2).min(RECONNECT.1).mul_f64(1.0 + fastrand::f64() / 10.0);
    }
}

/// Without a connection one can leave, too; other lines that one types wait for it.
async fn left(
    signals: &mut Signals,
    typed: Option<(&mut Option<mpsc::UnboundedReceiver<Typed>>, &mut VecDeque<String>)>,
    stdout_breaks: Option<impl Future<Output = ()>>,
) -> u8 {
    let breaks = async {
        match stdout_breaks {
            Some(breaks) => breaks.await,
            None => std::future::pending().await,
        }
    };
    let leaves = async {
        let Some((Some(typed), early)) = typed else { return std::future::pending().await };
        loop {
            match typed.recv().await {
                Some(Typed::Interrupt) => return exit::INTERRUPTED,
                Some(Typed::End) | None => return exit::OK,
                Some(Typed::Line(line)) => match command::parse(&line) {
                    Line::Quit | Line::Close(..) => return exit::OK,
                    _ => early.push_back(line),
                },
            }
        }
    };
    tokio::select! {
        code = leaves => code,
        () = breaks => exit::OK,
        code = signals.next() => code,
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
            early: VecDeque::new(),
            counts: Counts::default(),
            pings: VecDeque::new(),
            round_trip: None,
        })
    }

    /// What an end means: an exit code, nothing (connect again), or a failure.
    async fn finish(&mut self, end: End) -> Result<Option<u8>, Failure> {
        let received = self.counts.received.get();
        // Ctrl-D, /quit and a signal are the user's own wish.
        let wish = match end {
            End::Leave(exit::INTERRUPTED | exit::TERMINATED) => true,
            End::Leave(_) => self.typed.is_some(),
            _ => false,
        };
        let missing = self.options.count.filter(|n| received < *n && !wish);
        let missing = missing.map(|n| format!("{received} of {n} messages came (-n)"));
        let again = self.options.reconnect;
        let (code, text) = match end {
            End::Again => return Ok(None),
            End::Leave(code) => (code, None),
            End::Closed(code, reason) => {
                let text = format!("the server closed the connection: {code} {}", escape(&reason));
                let text = text.trim_end().to_owned();
                if again && code != 1000 {
                    return Err(Failure::new(exit::CLOSED, text));
                }
                let fine = matches!(code, 1000 | 1001 | 1005);
                if fine {
                    self.output.chat(&text).await;
                }
                if fine { (exit::OK, None) } else { (exit::CLOSED, Some(text)) }
            }
            End::Lost(why) => (exit::CLOSED, Some(format!("the connection was lost: {why}"))),
            End::Broken(why) => {
                let text = format!("the server broke the protocol: {why}");
                return Err(Failure::new(exit::FAILURE, text));
            }
        };
        match (missing, text) {
            (_, Some(text)) if again => Err(Failure::new(code, text)),
            (Some(missing), None) => Err(Failure::new(exit::TIMEOUT, missing)),
            (Some(missing), Some(text)) => {
                Err(Failure::new(exit::TIMEOUT, format!("{text}; {missing}")))
            }
            (None, Some(text)) => Err(Failure::new(code, text)),
            (None, None) if code == exit::OK && self.counts.unsent.get() > 0 => {
                Err(Failure::new(exit::FAILURE, "not all of stdin was sent"))
            }
            (None, None) => Ok(Some(code)),
        }
    }

    /// One connection from its opening to its end.
    async fn connection(&mut self, socket: Socket, headers: &str, signals: &mut Signals) -> End {
        self.pings.clear();
        let (sink, stream) = socket.split();
        let (urgent, urgent_in) = mpsc::unbounded_channel();
        let drained = Notify::new();
        // A server knows nothing of the connection before: `-x SUBSCRIBE` is needed on each.
        for text in &self.options.execute {
            let message = if self.options.binary {
                Message::Binary(text.clone().into_bytes().into())
            } else {
                Message::Text(text.into())
            };
            // The receiver is right here.
            let _ = urgent.send(message);
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
                    tokio::select! {
                        end = &mut reading => end,
                        () = sleep(CLOSE_WAIT) => End::Lost(failed.unwrap_or_else(|| "no answer to our Close".to_owned())),
                        code = signals.next() => End::Leave(code),
                    }
                }
                code = signals.next() => {
                    say_close(&urgent, code, 1000, "");
                    // Whatever comes of it; a second signal means at once.
                    tokio::select! {
                        _ = &mut reading => {}
                        _ = &mut writing => {}
                        () = sleep(HURRY) => {}
                        _ = signals.next() => {}
                    }
                    End::Leave(code)
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
        // Echoes that an earlier connection took with it are waited for no more.
        let behind = echoes(counts);
        while let Some(line) = self.early.pop_front() {
            let mut leaving = None;
            let end = self.typed_line(&line, urgent, counts, opened, headers, &mut leaving).await;
            if end.is_some() {
                break;
            }
        }
        let mut ping = self.options.ping.map(|every| interval_at(Deadline::now() + every, every));
        // Set once the input is at its end.
        let mut silence: Option<Deadline> = None;
        // Set once we say Close.
        let mut leaving: Option<(u8, Deadline)> = None;
        let mut input_ended = false;
        let stdout_breaks = self.output.breaks();
        tokio::pin!(stdout_breaks);
        loop {
            let deadline = leaving.map(|(_, at)| at).or(silence);
            tokio::select! {
                message = stream.next() => {
                    let message = match (message, leaving) {
                        (Some(Ok(message)), _) => message,
                        // We have said Close: how the server takes it is its own affair.
                        (_, Some((code, _))) => return End::Leave(code),
                        (None, None) => return End::Lost("the server closed the socket without a Close".to_owned()),
                        (Some(Err(error)), None) => return self.failed(error, urgent, &mut stream).await,
                    };
                    match message {
                        Message::Close(frame) => {
                            // The answer to it is sent by reading on.
                            let _ = timeout(CLOSE_WAIT, async { while let Some(Ok(_)) = stream.next().await {} }).await;
                            if let Some((code, _)) = leaving {
                                return End::Leave(code);
                            }
                            return match frame {
                                // The library's name for a code that may not be sent; it has answered.
                                Some(CloseFrame { code: CloseCode::Protocol, reason }) if reason == "Protocol violation" => {
                                    End::Broken("a close code that may not be sent".to_owned())
                                }
                                Some(frame) => End::Closed(frame.code.into(), frame.reason.to_string()),
                                None => End::Closed(1005, String::new()),
                            };
                        }
                        Message::Ping(_) => {}
                        Message::Pong(payload) => self.pong(&payload).await,
                        Message::Frame(_) => {}
                        // What is more than -n asked for.
                        _ if self.options.count.is_some_and(|n| counts.received.get() >= n) => {}
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
                                while echoes(counts) > behind + ECHOES && leaving.is_none() {
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
                () = &mut stdout_breaks, if leaving.is_none() => {
                    leaving = Some(say_close(urgent, exit::OK, 1000, ""));
                }
                _ = async { match &mut ping { Some(ping) => ping.tick().await, None => std::future::pending().await } } => {
                    self.ping(urgent, "");
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
}

/// Messages that were received and not yet echoed, as far as the counts show.
fn echoes(counts: &Counts) -> u64 {
    counts.received.get().saturating_sub(counts.sent.get())
}

/// Sends our Close; the server has some time to answer.
pub(super) fn say_close(
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
