//! One open connection: what comes from the server, the user and the clock, in one loop.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant as Deadline, Interval, interval_at, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use crate::connect::compression::Deflater;
use crate::connect::dial::Socket;
use crate::connect::editor::Typed;
use crate::connect::exit;
use crate::connect::inflating::Violation;
use crate::connect::options::Wait;
use crate::connect::resume::Received;
use crate::connect::session::{End, HURRY, Session};
use crate::connect::signals::Signals;
use crate::connect::writer::{Counts, Writer, add};
use crate::text::escape::escape;

/// How long the server may take to answer our Close.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// Echoes that may wait for the server, in messages and bytes; past either the server is not read.
const ECHOES: (u64, u64) = (1024, 64 << 20);

/// How often it is looked whether the server has taken echoes.
const LOOK: Duration = Duration::from_millis(1);

/// The state of one connection.
pub(super) struct Link<'c> {
    /// What the writer sends first.
    urgent: mpsc::UnboundedSender<Message>,
    pub(super) counts: &'c Counts,
    /// The headers of the server's handshake, as they are shown.
    pub(super) headers: &'c str,
    pub(super) opened: Instant,
    /// Echoes that an earlier connection took with it, in messages and bytes; `None` without `--echo`.
    lost_echoes: Option<(u64, u64)>,
    ping: Option<Interval>,
    /// When the silence after the end of the input has lasted long enough.
    silence: Option<Deadline>,
    input_ended: bool,
    /// Set once we have sent Close: the exit code, and until when the server may answer.
    leaving: Option<(u8, Deadline)>,
    /// A file that is being read.
    pub(super) loading: Option<oneshot::Receiver<Result<Message, String>>>,
}

/// What happens next on a connection.
enum Event {
    Received(Option<Result<Message, Error>>),
    InputEnded,
    Deadline,
    StdoutBroke,
    Ping,
    Typed(Option<Typed>),
    Loaded(Result<Message, String>),
    /// Some time went by.
    Look,
}

impl Link<'_> {
    /// Sends a message before anything that is piped.
    pub(super) fn send(&self, message: Message) {
        // A writer that is gone has said Close already.
        let _ = self.urgent.send(message);
    }

    /// Sends our Close; the server has some time to answer.
    pub(super) fn close(&mut self, exit: u8, code: u16, reason: &str) {
        self.send(close_message(code, reason));
        self.leaving = Some((exit, Deadline::now() + CLOSE_WAIT));
    }

    /// Whether so many echoes wait that the server is not read.
    fn echoes_wait(&self) -> bool {
        let Some(lost) = self.lost_echoes else { return false };
        let (messages, bytes) = echoes(self.counts);
        self.leaving.is_none() && (messages > lost.0 + ECHOES.0 || bytes > lost.1 + ECHOES.1)
    }
}

/// Messages that were received and not yet sent back, and their bytes, as far as the counts show.
fn echoes(counts: &Counts) -> (u64, u64) {
    (
        counts.received.get().saturating_sub(counts.sent.get()),
        counts.received_bytes.get().saturating_sub(counts.sent_bytes.get()),
    )
}

fn close_message(code: u16, reason: &str) -> Message {
    Message::Close(Some(CloseFrame { code: code.into(), reason: reason.into() }))
}

impl Session<'_> {
    /// One connection from its opening to its end.
    pub(super) async fn connection(
        &mut self,
        socket: Socket,
        deflater: Option<Deflater>,
        headers: &str,
        signals: &mut Signals,
    ) -> End {
        self.pings.clear();
        let (sink, stream) = socket.split();
        let (urgent, urgent_in) = mpsc::unbounded_channel();
        let drained = Notify::new();
        // The server has forgotten the connection before: `-x SUBSCRIBE` is needed on each.
        for text in &self.options.execute {
            // The receiver is right here.
            let _ = urgent.send(self.outgoing(text.clone()));
        }
        let mut bulk = self.bulk.take();
        let mut rest = std::mem::take(&mut self.rest);
        let counts = std::mem::take(&mut self.counts);
        let writer = Writer {
            sink,
            deflater,
            urgent: urgent_in,
            bulk: &mut bulk,
            rest: &mut rest,
            counts: &counts,
            drained: &drained,
        };
        let end = {
            let writing = writer.run();
            tokio::pin!(writing);
            let reading = self.read(stream, urgent.clone(), &counts, &drained, headers);
            tokio::pin!(reading);
            tokio::select! {
                end = &mut reading => end,
                failed = &mut writing => {
                    // What the server said last explains a failed write better than its error.
                    tokio::select! {
                        end = &mut reading => end,
                        () = sleep(CLOSE_WAIT) => {
                            End::Lost(failed.unwrap_or_else(|| "no answer to our Close".to_owned()))
                        }
                        code = signals.next() => End::Leave(code),
                    }
                }
                code = signals.next() => {
                    let _ = urgent.send(close_message(1000, ""));
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
        (self.counts, self.bulk, self.rest) = (counts, bulk, rest);
        if let Some(repl) = &self.repl {
            repl.cancels.store(false, Ordering::SeqCst);
        }
        end
    }

    /// A text as the flags want it sent.
    pub(super) fn outgoing(&self, text: String) -> Message {
        if self.options.binary {
            Message::Binary(text.into_bytes().into())
        } else {
            Message::Text(text.into())
        }
    }

    async fn read(
        &mut self,
        mut stream: SplitStream<Socket>,
        urgent: mpsc::UnboundedSender<Message>,
        counts: &Counts,
        drained: &Notify,
        headers: &str,
    ) -> End {
        let mut link = Link {
            urgent,
            counts,
            headers,
            opened: Instant::now(),
            lost_echoes: self.options.echo.then(|| echoes(counts)),
            ping: self.options.ping.map(|every| interval_at(Deadline::now() + every, every)),
            silence: None,
            input_ended: false,
            leaving: None,
            loading: None,
        };
        let stdout_breaks = self.output.breaks();
        tokio::pin!(stdout_breaks);
        if let Some(end) = self.early_lines(&mut link).await {
            return end;
        }
        loop {
            let event = tokio::select! {
                () = &mut stdout_breaks, if link.leaving.is_none() => Event::StdoutBroke,
                event = self.next(&mut link, &mut stream, drained) => event,
            };
            if let Some(end) = self.handle(event, &mut link, &mut stream).await {
                return end;
            }
        }
    }

    /// Waits for what happens next.
    async fn next(
        &mut self,
        link: &mut Link<'_>,
        stream: &mut SplitStream<Socket>,
        drained: &Notify,
    ) -> Event {
        let deadline = link.leaving.map(|(_, at)| at).or(link.silence);
        let echoes_wait = link.echoes_wait();
        let Link { ping, loading, .. } = link;
        let ping = async {
            match ping {
                Some(ping) => drop(ping.tick().await),
                None => std::future::pending().await,
            }
        };
        let loaded = async {
            match loading {
                // A thread that is gone without a word has panicked.
                Some(loading) => loading.await.unwrap_or_else(|_| Err("cannot be read".to_owned())),
                None => std::future::pending().await,
            }
        };
        let typed = async {
            match &mut self.repl {
                Some(repl) => repl.typed.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = stream.next(), if !echoes_wait => Event::Received(message),
            () = sleep(LOOK), if echoes_wait => Event::Look,
            () = drained.notified(), if !link.input_ended => Event::InputEnded,
            () = sleep_until(deadline.unwrap_or_else(Deadline::now)), if deadline.is_some() => Event::Deadline,
            () = ping => Event::Ping,
            typed = typed, if link.leaving.is_none() => Event::Typed(typed),
            loaded = loaded => Event::Loaded(loaded),
        }
    }

    async fn handle(
        &mut self,
        event: Event,
        link: &mut Link<'_>,
        stream: &mut SplitStream<Socket>,
    ) -> Option<End> {
        match event {
            Event::Received(message) => return self.received(message, link, stream).await,
            Event::InputEnded => {
                link.input_ended = true;
                if self.repl.is_none()
                    && let Wait::Silence(wait) = self.options.wait
                {
                    link.silence = Some(Deadline::now() + wait);
                }
            }
            Event::Deadline => match link.leaving {
                // It does not answer our Close.
                Some((code, _)) => return Some(End::Leave(code)),
                None => {
                    link.silence = None;
                    link.close(exit::OK, 1000, "");
                }
            },
            Event::StdoutBroke => link.close(exit::OK, 1000, ""),
            Event::Ping => self.ping(link, ""),
            Event::Typed(typed) => return self.typed(typed, link).await,
            Event::Loaded(loaded) => {
                self.loaded(loaded, link).await;
                return self.early_lines(link).await;
            }
            Event::Look => {}
        }
        None
    }

    /// Something from the server, or its end.
    async fn received(
        &mut self,
        message: Option<Result<Message, Error>>,
        link: &mut Link<'_>,
        stream: &mut SplitStream<Socket>,
    ) -> Option<End> {
        let message = match (message, link.leaving) {
            (Some(Ok(message)), _) => message,
            // We have said Close: how the server takes it is its own affair.
            (_, Some((code, _))) => return Some(End::Leave(code)),
            (None, None) => return Some(closed_without_close()),
            (Some(Err(error)), None) => return Some(failed(error, link, stream).await),
        };
        match message {
            Message::Close(frame) => {
                // The answer to it is sent by reading on.
                let rest = async { while let Some(Ok(_)) = stream.next().await {} };
                let _ = timeout(CLOSE_WAIT, rest).await;
                return Some(match link.leaving {
                    Some((code, _)) => End::Leave(code),
                    None => end_of(frame),
                });
            }
            Message::Pong(payload) => self.pong(&payload).await,
            Message::Ping(_) | Message::Frame(_) => {}
            // What is more than -n asked for.
            _ if self.options.count.is_some_and(|n| link.counts.received.get() >= n) => {}
            message if self.resume.is_some() => return self.frame(message, link, stream).await,
            message => return self.body(message, link).await,
        }
        None
    }

    /// A message.
    async fn body(&mut self, message: Message, link: &mut Link<'_>) -> Option<End> {
        add(&link.counts.received, 1);
        add(&link.counts.received_bytes, message.len());
        self.output.message(&message).await;
        if self.output.is_closed() {
            return Some(End::Leave(exit::OK));
        }
        if self.options.echo {
            link.send(message);
        }
        if let (Some(at), Wait::Silence(wait)) = (&mut link.silence, self.options.wait) {
            *at = Deadline::now() + wait;
        }
        if self.options.count == Some(link.counts.received.get()) && link.leaving.is_none() {
            link.close(exit::OK, 1000, "");
        }
        None
    }

    /// A frame of `wsgw.v1`.
    async fn frame(
        &mut self,
        message: Message,
        link: &mut Link<'_>,
        stream: &mut SplitStream<Socket>,
    ) -> Option<End> {
        match self.resume.as_mut()?.read(&message) {
            Ok(Received::Body(body, at)) => {
                // Read in full, so that it takes no memory beside its body.
                drop(message);
                let end = self.body(body, link).await;
                // Behind the output, which may be given up while it waits.
                self.resume.as_mut()?.passed(at);
                end
            }
            Ok(Received::Notices(notices)) => {
                for notice in notices {
                    self.output.info(&escape(&notice)).await;
                }
                None
            }
            // We have said Close: what comes now is the server's own affair.
            Err(_) if link.leaving.is_some() => None,
            Err(why) => Some(End::BadFrame(broken(CloseCode::Protocol, &why, link, stream).await)),
        }
    }

    /// Something from the line editor.
    async fn typed(&mut self, typed: Option<Typed>, link: &mut Link<'_>) -> Option<End> {
        match typed {
            Some(Typed::Line(line)) => {
                self.early.push_back(line);
                return self.early_lines(link).await;
            }
            Some(Typed::Cancel) => {
                if link.loading.take().is_some() {
                    self.output.info("given up: nothing was sent").await;
                }
                return self.early_lines(link).await;
            }
            Some(Typed::Notice(text)) => self.output.info(&escape(&text)).await,
            Some(Typed::Interrupt) => link.close(exit::INTERRUPTED, 1000, ""),
            Some(Typed::End) | None => link.close(exit::OK, 1000, ""),
        }
        None
    }

    /// The lines that were typed so far, in their order; they wait while a file is read.
    async fn early_lines(&mut self, link: &mut Link<'_>) -> Option<End> {
        while link.loading.is_none()
            && link.leaving.is_none()
            && let Some(line) = self.early.pop_front()
        {
            let end = self.typed_line(&line, link).await;
            if end.is_some() {
                return end;
            }
        }
        None
    }
}

fn closed_without_close() -> End {
    End::Lost("the server closed the socket without a Close".to_owned())
}

/// What a server's Close means.
fn end_of(frame: Option<CloseFrame>) -> End {
    match frame {
        // The library's name for a code that may not be sent; it has answered.
        Some(CloseFrame { code: CloseCode::Protocol, reason })
            if reason == "Protocol violation" =>
        {
            End::Broken("a close code that may not be sent".to_owned())
        }
        Some(frame) => End::Closed(frame.code.into(), frame.reason.to_string()),
        None => End::Closed(1005, String::new()),
    }
}

/// The connection failed while it was read.
async fn failed(error: Error, link: &Link<'_>, stream: &mut SplitStream<Socket>) -> End {
    let (code, why) = match error {
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            return closed_without_close();
        }
        Error::ConnectionClosed | Error::AlreadyClosed => return End::Closed(1005, String::new()),
        Error::Io(e) => match e.downcast::<Violation>() {
            Ok(Violation { code, why }) => (code.into(), why),
            Err(e) => return End::Lost(e.to_string()),
        },
        Error::Utf8(e) => (CloseCode::Invalid, format!("text that is not UTF-8 ({e})")),
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            (CloseCode::Size, format!("a message of {size} bytes, over {max_size}"))
        }
        other => (CloseCode::Protocol, other.to_string()),
    };
    End::Broken(broken(code, &why, link, stream).await)
}

/// Answers a violation with its close code (RFC 6455, section 7.1.7); what it is, for a terminal.
async fn broken(
    code: CloseCode,
    why: &str,
    link: &Link<'_>,
    stream: &mut SplitStream<Socket>,
) -> String {
    link.send(Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::default() })));
    let _ = timeout(Duration::from_millis(200), async {
        while let Some(Ok(_)) = stream.next().await {}
        std::future::pending::<()>().await;
    })
    .await;
    escape(why).into_owned()
}
