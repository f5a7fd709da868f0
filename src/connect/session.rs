//! A session: it connects, perhaps again and again, and ends with the right exit code.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::connect::command;
use crate::connect::command::Line;
use crate::connect::dial::{Opened, dial};
use crate::connect::editor;
use crate::connect::editor::{Repl, Typed};
use crate::connect::exit;
use crate::connect::handshake::{Answer, header_lines};
use crate::connect::input;
use crate::connect::input::Input;
use crate::connect::options::Options;
use crate::connect::output::Output;
use crate::connect::resume::Resume;
use crate::connect::signals::Signals;
use crate::connect::target::Target;
use crate::connect::writer::Counts;
use crate::error::{Failure, complain};
use crate::text::escape::escape;
use crate::ws::handshake::FRAMES;

/// How long stdout may take what is left after a signal.
pub(super) const HURRY: Duration = Duration::from_millis(500);

/// How long stdout may take what is left at the end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A connection that lived so long was a good one: the pauses start anew.
const GOOD: Duration = Duration::from_secs(10);

/// The first pause before `--reconnect` tries again, and the longest.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

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
    /// It broke that of the frames, and would do so again.
    BadFrame(String),
    /// `/reconnect`.
    Again,
}

/// What ends a connection, or keeps one from being made.
enum Failed {
    /// `--reconnect` tries again.
    ForNow(Failure),
    /// To try again would be in vain.
    ForGood(Failure),
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Failed {
        Failed::ForNow(failure)
    }
}

/// What outlives a connection.
pub(super) struct Session<'a> {
    pub(super) options: &'a Options,
    pub(super) output: Output,
    /// Piped input; gone at its end.
    pub(super) bulk: Option<mpsc::Receiver<Input>>,
    /// A batch that was not sent whole.
    pub(super) rest: VecDeque<Message>,
    /// The line editor, if the session is interactive.
    pub(super) repl: Option<Repl>,
    /// Lines that were typed while there was no connection, or while a file was read.
    pub(super) early: VecDeque<String>,
    pub(super) counts: Counts,
    pub(super) pings: VecDeque<Instant>,
    pub(super) round_trip: Option<Duration>,
    /// With `--resume`.
    pub(super) resume: Option<Resume>,
}

/// What is of use without a connection.
type Idle<'s> = (&'s Output, Option<&'s mut Repl>, &'s mut VecDeque<String>);

/// Runs the client to its end.
pub(super) async fn run(options: &Options, interactive: bool) -> Result<u8, Failure> {
    let mut signals = Signals::watch(interactive)?;
    let mut session: Option<Session<'_>> = None;
    let result = connections(options, interactive, &mut signals, &mut session).await;
    if let Some(session) = &mut session {
        let hurry = matches!(result, Ok(exit::INTERRUPTED | exit::TERMINATED | exit::HUNG_UP));
        tokio::select! {
            () = session.output.finish(if hurry { HURRY } else { LAST_WORDS }) => {}
            // One more signal means at once.
            _ = signals.next() => {}
        }
        if let (Ok(exit::OK), Some(failure)) = (&result, session.output.failure()) {
            return Err(failure);
        }
        // Each gap was told of when it was found. Every other code says something worse.
        if let (Ok(exit::OK), Some(Resume { has_gaps: true, .. })) = (&result, &session.resume) {
            return Ok(exit::CLOSED);
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
        let failure = match connection(options, interactive, signals, session, &mut pause).await {
            Ok(Some(code)) => return Ok(code),
            Ok(None) => continue,
            Err(Failed::ForNow(failure))
                if options.reconnect && failure.exit != crate::error::exit::USAGE =>
            {
                failure
            }
            Err(Failed::ForNow(failure) | Failed::ForGood(failure)) => return Err(failure),
        };
        let text = format!("{}; trying again in {:.1} s", failure.message, pause.as_secs_f64());
        match session {
            Some(session) => session.output.info(&text).await,
            None => complain(&format!("* {text}")),
        }
        tokio::select! {
            () = sleep(pause) => {}
            code = leaves(signals, session.as_mut().map(Session::idle)) => return Ok(code),
        }
        // Up to a tenth more, so that many clients do not come back at once.
        pause = (pause * 2).min(RECONNECT.1).mul_f64(1.0 + fastrand::f64() / 10.0);
    }
}

/// One connection, from the name to its end: an exit code, or nothing if it is to connect again.
/// One that lasted takes the `pause` before the next try back to the shortest.
async fn connection<'a>(
    options: &'a Options,
    interactive: bool,
    signals: &mut Signals,
    session: &mut Option<Session<'a>>,
    pause: &mut Duration,
) -> Result<Option<u8>, Failed> {
    let resume = session.as_ref().and_then(|session| session.resume.as_ref());
    let position = resume.and_then(Resume::position).map(str::to_owned);
    // It connects first: what is typed or piped early waits in the terminal, or the pipe.
    let idle = session.as_mut().map(Session::idle);
    let output = idle.as_ref().map(|(output, ..)| *output);
    let dialed = async {
        // What is not written yet would come again.
        if let (Some(output), true) = (output, options.resume) {
            output.written().await;
        }
        dial(options, position.as_deref(), output).await
    };
    let dialed = tokio::select! {
        dialed = dialed => dialed,
        code = leaves(signals, idle) => return Ok(Some(code)),
    };
    let Opened { mut socket, answer, deflater, target } = dialed?;
    if options.resume && !agrees(&answer) {
        // Only said for courtesy.
        let _ = timeout(HURRY, socket.close(None)).await;
        return Err(Failed::ForGood(does_not_agree(&target)));
    }
    let session = match session {
        Some(session) => session,
        None => session.insert(Session::start(options, interactive)?),
    };
    if let Some(resume) = &mut session.resume {
        // What the URL asks for is only asked until there is a position.
        resume.opened(position.or_else(|| target.since()));
    }
    let protocol = answer.headers.get("sec-websocket-protocol");
    let protocol = protocol
        .and_then(|p| p.to_str().ok())
        .map_or(String::new(), |p| format!(" (subprotocol {})", escape(p)));
    let url = escape(&target.url).into_owned();
    let compression = match (&deflater, options.compress) {
        (Some(_), _) => " (compressed)",
        (None, true) => " (not compressed: the server does not offer it)",
        (None, false) => "",
    };
    session.output.chat(&format!("connected to {url}{protocol}{compression}")).await;
    let headers = header_lines(&answer.headers, "");
    let opened = Instant::now();
    let end = session.connection(socket, deflater, &headers, signals).await;
    if opened.elapsed() > GOOD {
        *pause = RECONNECT.0;
    }
    session.finish(end).await
}

/// Whether the server speaks in frames.
fn agrees(answer: &Answer) -> bool {
    let protocol = answer.headers.get("sec-websocket-protocol");
    protocol.is_some_and(|chosen| chosen.as_bytes() == FRAMES.as_bytes())
}

fn does_not_agree(target: &Target) -> Failure {
    let text = format!(
        "{} does not agree to the subprotocol {}, so --resume cannot work; check the `protocols` of \
         the gateway, or connect with --reconnect instead",
        escape(&target.url),
        FRAMES
    );
    Failure::new(exit::HANDSHAKE, text)
}

/// Without a connection one can leave, too; other lines that one types wait for it.
async fn leaves(signals: &mut Signals, idle: Option<Idle<'_>>) -> u8 {
    let Some((output, repl, early)) = idle else { return signals.next().await };
    let typed = async {
        let Some(repl) = repl else { return std::future::pending().await };
        loop {
            match repl.typed.recv().await {
                Some(Typed::Interrupt) => return exit::INTERRUPTED,
                Some(Typed::End) | None => return exit::OK,
                Some(Typed::Cancel) => {}
                Some(Typed::Notice(text)) => output.info(&escape(&text)).await,
                Some(Typed::Line(line)) => match command::parse(&line) {
                    Line::Quit | Line::Close(..) => return exit::OK,
                    _ => early.push_back(line),
                },
            }
        }
    };
    tokio::select! {
        code = typed => code,
        code = signals.next() => code,
        () = output.breaks() => exit::OK,
    }
}

impl<'a> Session<'a> {
    fn start(options: &'a Options, interactive: bool) -> Result<Session<'a>, Failure> {
        let (repl, printer) =
            if interactive { Some(editor::start(!options.no_history)?) } else { None }.unzip();
        let reads = !interactive && options.execute.is_empty();
        Ok(Session {
            options,
            output: Output::new(options, printer),
            bulk: reads.then(|| input::read(options.binary)),
            rest: VecDeque::new(),
            repl,
            early: VecDeque::new(),
            counts: Counts::default(),
            pings: VecDeque::new(),
            round_trip: None,
            resume: options.resume.then(Resume::default),
        })
    }

    fn idle(&mut self) -> Idle<'_> {
        (&self.output, self.repl.as_mut(), &mut self.early)
    }

    /// What an end means: an exit code, nothing (connect again), or a failure.
    async fn finish(&mut self, end: End) -> Result<Option<u8>, Failed> {
        let received = self.counts.received.get();
        // Ctrl-D, /quit and a signal are the user's own wish.
        let wish = match end {
            End::Leave(exit::INTERRUPTED | exit::TERMINATED | exit::HUNG_UP) => true,
            End::Leave(_) => self.repl.is_some(),
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
                    return Err(Failure::new(exit::CLOSED, text).into());
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
                return Err(Failure::new(exit::FAILURE, text).into());
            }
            End::BadFrame(why) => {
                let text = format!("the server broke the subprotocol {}: {why}", FRAMES);
                return Err(Failed::ForGood(Failure::new(exit::FAILURE, text)));
            }
        };
        let failure = match (missing, text) {
            (_, Some(text)) if again => return Err(Failure::new(code, text).into()),
            (Some(missing), None) => Failure::new(exit::TIMEOUT, missing),
            (Some(missing), Some(text)) => {
                Failure::new(exit::TIMEOUT, format!("{text}; {missing}"))
            }
            (None, Some(text)) => Failure::new(code, text),
            (None, None) if code == exit::OK && self.counts.unsent.get() > 0 => {
                Failure::new(exit::FAILURE, "not all of stdin was sent")
            }
            (None, None) => return Ok(Some(code)),
        };
        Err(Failed::ForGood(failure))
    }
}
