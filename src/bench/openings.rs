//! Connections that are opened: all that a load needs, those that are then idle, and those that are
//! opened and closed again.

use std::io::ErrorKind;

use crate::bench::engine::{Engine, Event, Gone, Load};
use crate::bench::link::State;
use crate::bench::progress::Progress;
use crate::bench::times::Times;
use crate::error::{Failure, exit};

/// Handshakes at a time, where a number of connections is to be opened.
const AT_A_TIME: usize = 128;

/// How long a handshake may take, in nanoseconds.
const PATIENCE: u64 = 10_000_000_000;

/// How long the server has to end a connection after the Close.
const CLOSE_PATIENCE: u64 = 2_000_000_000;

/// How long openings under way are waited for after Ctrl-C.
const STOP_PATIENCE: u64 = 500_000_000;

/// The pause after an opening that failed.
const PAUSE: u64 = 10_000_000;

/// So often, connections without events are looked at.
const LOOK: u64 = 50_000_000;

/// What was opened, and how long it took.
pub(super) struct Openings {
    /// Openings to begin; without a number, until the end.
    wanted: Option<u64>,
    /// Whether what is open is closed at once.
    closes: bool,
    /// Openings a second.
    rate: Option<f64>,
    /// Places for connections that are free.
    free: Vec<usize>,
    /// Openings under way at most.
    at_a_time: usize,
    shaking: usize,
    pub(super) begun: u64,
    pub(super) opened: u64,
    pub(super) failed: u64,
    /// Connections that the server ended after they were open.
    pub(super) closed: u64,
    /// The first that failed, or that was ended.
    pub(super) first: Option<Gone>,
    pub(super) times: Times,
    pub(super) start: u64,
    /// When the last opening was done.
    pub(super) last: u64,
    pause_until: u64,
}

impl Openings {
    /// To open each place of the engine once.
    pub(super) fn all(engine: &Engine<'_>, rate: Option<f64>, times: Times) -> Openings {
        let places = engine.links.len();
        let now = engine.now();
        Openings {
            wanted: Some(places as u64),
            closes: false,
            rate,
            free: (0..places).rev().collect(),
            at_a_time: AT_A_TIME,
            shaking: 0,
            begun: 0,
            opened: 0,
            failed: 0,
            closed: 0,
            first: None,
            times,
            start: now,
            last: now,
            pause_until: 0,
        }
    }

    /// To open and close connections until the end, one at a time in each place of the engine.
    pub(super) fn over_and_over(engine: &Engine<'_>, rate: Option<f64>, times: Times) -> Openings {
        let at_a_time = engine.links.len();
        Openings { wanted: None, closes: true, at_a_time, ..Openings::all(engine, rate, times) }
    }

    /// Opens connections until all were tried, or until this time.
    ///
    /// # Errors
    /// When nothing opens: 3 or 4.
    pub(super) fn run(
        &mut self,
        engine: &mut Engine<'_>,
        end: u64,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let mut next_look = 0;
        let mut end = end;
        loop {
            let now = engine.now();
            if engine.is_stopped() {
                end = end.min(now);
            }
            // Of several that are under way, another one may succeed.
            if self.opened == 0
                && self.shaking == 0
                && let Some(gone) = &self.first
            {
                return Err(failure(engine, gone));
            }
            if now < end {
                self.begin(engine, now);
            }
            let all = self.wanted.is_some_and(|n| self.begun == n) || now >= end;
            let is_urgent = engine.is_stopped() && now > end + STOP_PATIENCE;
            if all && self.shaking == 0 || is_urgent {
                return Ok(());
            }
            if now >= next_look {
                next_look = now + LOOK;
                self.look(engine, now);
                let done = match self.wanted {
                    Some(wanted) => self.opened as f64 / wanted as f64,
                    None => (now - self.start) as f64 / (end - self.start).max(1) as f64,
                };
                progress.show(done, || format!("{} opened", self.opened));
            }
            let until = self.next_due().map_or(next_look, |due| due.min(next_look));
            engine.turn(self, until, self.shaking > 0);
        }
    }

    /// When the next opening is due.
    fn next_due(&self) -> Option<u64> {
        let due = |rate: f64| self.start.saturating_add((self.begun as f64 * 1e9 / rate) as u64);
        self.rate.map(due)
    }

    /// Begins what is due.
    fn begin(&mut self, engine: &mut Engine<'_>, now: u64) {
        while self.wanted.is_none_or(|n| self.begun < n)
            && self.shaking < self.at_a_time
            && now >= self.pause_until
        {
            let due = self.next_due().unwrap_or(now);
            if due > now {
                return;
            }
            let Some(link) = self.free.pop() else { return };
            match engine.open(link, due) {
                Ok(()) => {
                    self.begun += 1;
                    self.shaking += 1;
                }
                // The queue of a unix socket is full: the server will take connections out of it.
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    self.free.push(link);
                    return;
                }
                Err(e) => {
                    self.begun += 1;
                    let gone = Gone { state: State::Connecting, why: e.to_string() };
                    self.fail(link, gone, now);
                    return;
                }
            }
        }
    }

    fn fail(&mut self, link: usize, gone: Gone, now: u64) {
        self.failed += 1;
        self.first.get_or_insert(gone);
        if self.closes {
            self.free.push(link);
            self.pause_until = if self.rate.is_none() { now + PAUSE } else { 0 };
        }
    }

    /// Ends what takes too long.
    fn look(&mut self, engine: &mut Engine<'_>, now: u64) {
        for link in 0..engine.links.len() {
            let place = &engine.links[link];
            let age = now.saturating_sub(place.began);
            match place.state {
                State::Connecting | State::Shaking if age > PATIENCE => {
                    engine.lost(self, link, "there was no answer to the handshake within 10 s");
                }
                State::Closing if age > CLOSE_PATIENCE => {
                    engine.lost(self, link, "there was no answer to the Close");
                }
                _ => {}
            }
        }
    }
}

impl Load for Openings {
    fn happened(&mut self, engine: &mut Engine<'_>, link: usize, event: Event, now: u64) {
        match event {
            Event::Message(_) => {}
            Event::Opened => {
                self.opened += 1;
                self.shaking -= 1;
                self.last = now;
                self.times.record(now, now.saturating_sub(engine.links[link].began));
                if self.closes {
                    engine.links[link].began = now;
                    engine.close(self, link);
                }
            }
            Event::Gone(gone) => match gone.state {
                State::Connecting | State::Shaking => {
                    self.shaking -= 1;
                    self.fail(link, gone, now);
                }
                State::Open => {
                    self.closed += 1;
                    self.first.get_or_insert(gone);
                }
                State::Closing => self.free.push(link),
                State::Free => {}
            },
        }
    }
}

/// Why nothing could be measured.
pub(super) fn failure(engine: &Engine<'_>, gone: &Gone) -> Failure {
    let (url, why) = (&engine.target().url, &gone.why);
    if gone.state == State::Connecting || why.starts_with("TLS: ") {
        let hint = engine.target().hint();
        return Failure::new(exit::UNREACHABLE, format!("{url} cannot be reached: {why}; {hint}"));
    }
    Failure::new(exit::NO_GATEWAY, format!("{url} cannot be loaded: {why}"))
}
