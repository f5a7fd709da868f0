//! `wsgw bench`: the load test.
//!
//! One thread owns all connections and measures; another one waits for the signals that end the test.
//! Nothing else is shared.

mod assertion;
mod engine;
pub mod frames;
mod link;
pub mod mark;
mod messages;
mod numbers;
mod openings;
pub(crate) mod options;
pub(crate) mod page;
mod plot;
mod progress;
pub(crate) mod report;
mod target;
mod times;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::bench::engine::Engine;
use crate::bench::messages::Messages;
use crate::bench::openings::Openings;
use crate::bench::options::Options;
use crate::bench::progress::Progress;
use crate::bench::report::{Report, counted};
use crate::bench::times::{Times, nanoseconds};
use crate::cli::BenchMode;
use crate::error::{Failure, complain};

/// The exit code after Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// The longest warm-up, whose messages are not counted.
const WARM_UP: Duration = Duration::from_secs(1);

/// How long servers may take to end connections in the end.
const LEAVE: Duration = Duration::from_secs(1);

/// From this share of the time on, this program may be what limits the figures.
const BUSY: f64 = 0.9;

/// Runs a load test.
///
/// # Errors
/// Why nothing was measured, with its exit code.
pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    watch_signals(&stop)?;
    let mut engine = Engine::new(&options.target, options.connections, Arc::clone(&stop))?;
    let progress = Progress::new();
    let report = match options.mode {
        BenchMode::Fanout => exchange(&mut engine, options, &progress, false),
        BenchMode::Echo => exchange(&mut engine, options, &progress, true),
        BenchMode::Idle => idle(&mut engine, options, &progress),
        BenchMode::Connect => connect(&mut engine, options, &progress),
    };
    engine.close_all(LEAVE);
    let mut report = report?;
    if report.busy > BUSY {
        report.notes.push(format!(
            "this program was at work {:.0} % of the time: the server may be able to do more",
            report.busy * 100.0
        ));
    }
    if stop.load(Ordering::Relaxed) {
        report.was_interrupted = true;
        report.notes.push("it was ended early by a signal".to_owned());
    }
    Ok(report)
}

/// Sets `stop` at the first SIGINT or SIGTERM, and ends the process at the second.
fn watch_signals(stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    let failed = |e| Failure::other(format!("signals cannot be watched: {e}"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    drop(entered);
    let stop = Arc::clone(stop);
    let watch = move || {
        runtime.block_on(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if stop.swap(true, Ordering::Relaxed) {
                    std::process::exit(i32::from(INTERRUPTED));
                }
            }
        });
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(watch).map_err(failed)?;
    Ok(())
}

/// Opens all connections, or fails.
fn open_all(engine: &mut Engine<'_>, progress: &Progress) -> Result<(), Failure> {
    progress.begin("opening");
    let times = Times::new(engine.now(), WARM_UP);
    let mut openings = Openings::all(engine, None, times);
    openings.run(engine, u64::MAX / 2, progress)?;
    ended(engine)?;
    match &openings.first {
        Some(gone) => {
            let why = openings::failure(engine, gone);
            let text = format!(
                "only {} of {} connections opened: {}",
                openings.opened - openings.closed,
                engine.links.len(),
                why.message
            );
            Err(Failure::new(why.exit, text))
        }
        None => Ok(()),
    }
}

/// Fails if the user has ended it before anything was measured.
fn ended(engine: &Engine<'_>) -> Result<(), Failure> {
    if engine.is_stopped() {
        return Err(Failure::new(INTERRUPTED, "ended before anything was measured"));
    }
    Ok(())
}

/// Fan-out and echo.
fn exchange(
    engine: &mut Engine<'_>,
    options: &Options,
    progress: &Progress,
    is_echo: bool,
) -> Result<Report, Failure> {
    open_all(engine, progress)?;
    let mut notes = Vec::new();
    let mut messages = Messages::new(engine, is_echo, options.rate, options.payload);
    if !is_echo && !reaches_all(engine, &mut messages)? {
        messages.leave_out_sender();
        notes.push("the sender does not get its own messages, and is not counted".to_owned());
    }
    progress.begin("warm-up");
    let warm_up = WARM_UP.min(options.duration / 5);
    messages.phase(engine, warm_up, true, |m, now| messages::shown(m, now, warm_up, progress));
    ended(engine)?;
    if messages.counts.received == 0 && messages.counts.sent > 0 {
        return Err(silent(engine, &messages, is_echo));
    }
    progress.begin("measuring");
    let busy = engine.busy;
    let duration = options.duration;
    messages.phase(engine, duration, false, |m, now| messages::shown(m, now, duration, progress));
    let spent = engine.now() - messages.start;
    let busy = (engine.busy - busy) as f64 / spent.max(1) as f64;
    let was_cut_short = !engine.is_stopped() && messages.is_ended(engine);
    let counts = messages.counts;
    let seconds = messages.elapsed().as_secs_f64().max(1e-9);
    let lost = messages.lost();
    notes_of(&messages, is_echo, &mut notes);
    let report = Report {
        sent: counts.sent,
        received: counts.received,
        lost,
        duplicates: counts.duplicates,
        rate: rounded(counts.received as f64 / seconds),
        url: options.target.url.clone(),
        mode: if is_echo { "echo" } else { "fanout" },
        connections: options.connections,
        payload: options.payload,
        target_rate: options.rate,
        seconds,
        sent_rate: rounded(counts.sent as f64 / messages.sending().as_secs_f64().max(1e-9)),
        unsent: counts.unsent,
        closed: messages.closed,
        busy,
        notes,
        was_cut_short,
        ..Report::default()
    };
    let end = messages.start + nanoseconds(messages.elapsed());
    let (all, parts) = messages.times.finish(end);
    Ok(report.with_latencies(&all, parts))
}

fn rounded(rate: f64) -> f64 {
    (rate * 1000.0).round() / 1000.0
}

/// Finds out whether a message reaches all connections (true), or all but its sender.
fn reaches_all(engine: &mut Engine<'_>, messages: &mut Messages) -> Result<bool, Failure> {
    // A listener may have lost the first one.
    const TRIES: usize = 2;
    let (mut sender, mut others) = (false, 0);
    for _ in 0..TRIES {
        let (own, more) = messages.probe(engine);
        ended(engine)?;
        if messages.is_ended(engine) {
            return Err(silent(engine, messages, false));
        }
        sender |= own;
        others = others.max(more);
        if others > 0 && others + 1 == engine.links.len() {
            break;
        }
    }
    match (sender, others) {
        (true, 0) if engine.links.len() > 1 => Err(Failure::other(format!(
            "{} sends a message to nobody but its sender, so there is no fan-out to measure: start \
             the gateway with --route all, or use --mode echo",
            engine.target().url
        ))),
        (false, 0) => Err(silent(engine, messages, false)),
        (sender, _) => Ok(sender),
    }
}

/// Nobody got a message.
fn silent(engine: &Engine<'_>, messages: &Messages, is_echo: bool) -> Failure {
    let url = &engine.target().url;
    let why = match &messages.why {
        Some(why) => why.as_str(),
        None if is_echo => {
            "no message came back to its sender: is it an echo server (`wsgw serve --route sender`, or \
             a listener that answers)?"
        }
        None => {
            "a message reached nobody: a gateway passes messages on with the route all, or with the \
             route channels to those who joined one (--channel, or the URL's path)"
        }
    };
    Failure::other(format!("{url}: {why}"))
}

/// What a reader should know of the messages.
fn notes_of(messages: &Messages, is_echo: bool, notes: &mut Vec<String>) {
    let counts = &messages.counts;
    if let Some(why) = &messages.why {
        let gone = counted(messages.closed, "connection");
        notes.push(format!("{gone} ended early; the first: {why}"));
    }
    if counts.unsent > 0 {
        notes.push(format!(
            "{} could not be sent when due, because the server did not take what came before",
            counted(counts.unsent, "message")
        ));
    }
    if messages.gave_up {
        notes.push(
            "the server is behind: what had not come when the wait was over counts as lost"
                .to_owned(),
        );
    }
    if counts.strays > 0 && is_echo {
        notes.push(format!(
            "{} came to connections that had not sent them: for an echo alone, start the gateway with \
             --route sender",
            counted(counts.strays, "message")
        ));
    }
}

/// Connections that are opened, and then do nothing.
fn idle(
    engine: &mut Engine<'_>,
    options: &Options,
    progress: &Progress,
) -> Result<Report, Failure> {
    progress.begin("opening");
    // The plots show the opening, however long that takes.
    let times = Times::new(engine.now(), Duration::ZERO);
    let mut openings = Openings::all(engine, options.rate, times);
    let busy = engine.busy;
    openings.run(engine, u64::MAX / 2, progress)?;
    let busy = (engine.busy - busy) as f64 / (engine.now() - openings.start).max(1) as f64;
    ended(engine)?;
    progress.begin("idle");
    let start = engine.now();
    let end = start + nanoseconds(options.duration);
    while !engine.is_stopped() && engine.now() < end {
        let done = (engine.now() - start) as f64 / (end - start) as f64;
        let open = openings.opened - openings.closed;
        progress.show(done, || format!("{open} connections are open"));
        engine.turn(&mut openings, end, false);
    }
    Ok(of_openings(engine, openings, options, busy))
}

/// Connections that are opened and closed again.
fn connect(
    engine: &mut Engine<'_>,
    options: &Options,
    progress: &Progress,
) -> Result<Report, Failure> {
    progress.begin("opening");
    let times = Times::new(engine.now(), options.duration);
    let mut openings = Openings::over_and_over(engine, options.rate, times);
    let end = openings.start + nanoseconds(options.duration);
    openings.run(engine, end, progress)?;
    let spent = (engine.now() - openings.start).max(1);
    let busy = engine.busy as f64 / spent as f64;
    Ok(of_openings(engine, openings, options, busy))
}

fn of_openings(engine: &Engine<'_>, openings: Openings, options: &Options, busy: f64) -> Report {
    let opening = (openings.last - openings.start).max(1) as f64 / 1e9;
    let is_idle = options.mode == BenchMode::Idle;
    let mut notes = Vec::new();
    if let Some(gone) = &openings.first {
        let failed = counted(openings.failed, "opening");
        let closed = counted(openings.closed, "connection");
        notes.push(format!("{failed} failed, {closed} ended early; the first: {}", gone.why));
    }
    let report = Report {
        sent: openings.begun,
        received: openings.opened,
        lost: openings.failed + openings.closed,
        rate: rounded(openings.opened as f64 / opening),
        url: options.target.url.clone(),
        mode: if is_idle { "idle" } else { "connect" },
        connections: options.connections,
        target_rate: options.rate,
        seconds: if is_idle { (engine.now() - openings.start) as f64 / 1e9 } else { opening },
        sent_rate: rounded(openings.begun as f64 / opening),
        closed: openings.closed,
        busy,
        notes,
        ..Report::default()
    };
    let (all, parts) = openings.times.finish(openings.last);
    // What follows the opening has no rate.
    report.with_latencies(&all, parts)
}

/// Says which assertions do not hold; true if all do.
pub(crate) fn holds(options: &Options, report: &Report) -> bool {
    let broken: Vec<String> =
        options.assertions.iter().filter_map(|assertion| assertion.broken_by(report)).collect();
    for text in &broken {
        complain(&format!("wsgw: the assertion failed: {text}"));
    }
    broken.is_empty()
}
