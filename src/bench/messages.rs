//! Messages that are sent and come back: one connection sends and all receive, or each gets its own.
//!
//! In the closed loop the next message follows the answers to the last. With a rate (the open loop) a
//! message is due at its time, whatever the server does, and its latency counts from that time on.

use std::mem;
use std::time::Duration;

use crate::bench::engine::{Engine, Event, Load};
use crate::bench::link::State;
use crate::bench::mark::{MOST, Mark};
use crate::bench::numbers::Numbers;
use crate::bench::progress::Progress;
use crate::bench::times::{Times, nanoseconds};

/// After so long without an answer, the closed loop goes on, and what is still to come is lost.
const SILENCE: u64 = 5_000_000_000;

/// The same after Ctrl-C, and after a warm-up in which something came.
const SHORT_SILENCE: u64 = 500_000_000;

/// What is under way after the sending is waited for as long as was sent, and so long at least.
const LEAST_WAIT: u64 = 10_000_000_000;

/// Bytes that may wait for a socket before nothing more is put behind them.
const BACKLOG: usize = 1 << 20;

/// So often, what has no event is looked at.
const LOOK: u64 = 50_000_000;

/// A load of messages.
pub(super) struct Messages {
    is_echo: bool,
    rate: Option<f64>,
    message: Vec<u8>,
    /// Which connections get what is sent.
    receives: Vec<bool>,
    /// The number of this phase.
    run: u32,
    /// What came of the sender's messages, by receiver.
    numbers: Vec<Numbers>,
    /// What was sent, by sender, and when the last of it was.
    sent: Vec<u64>,
    sent_at: Vec<u64>,
    is_sending: bool,
    /// Whether messages still came when they were not waited for any more.
    pub(super) gave_up: bool,
    /// Receivers, and those of them that are still connected.
    all: usize,
    here: usize,
    /// Receivers that do not have the newest message yet.
    left: usize,
    /// Whose turn it is, in an open loop of echoes.
    turn: usize,
    /// The counts of this phase.
    pub(super) counts: Counts,
    /// What was sent, for each of its receivers.
    expected: u64,
    /// What will never come, because its receiver is gone.
    hopeless: u64,
    pub(super) times: Times,
    pub(super) start: u64,
    sending_end: u64,
    /// When something came last.
    last: u64,
    /// Connections that the server ended, and why the first one was.
    pub(super) closed: u64,
    pub(super) why: Option<String>,
}

/// What is counted.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) duplicates: u64,
    /// Messages that were meant for others.
    pub(super) strays: u64,
    /// Messages that were due and not sent.
    pub(super) unsent: u64,
}

impl Messages {
    /// A load of messages of this size over all connections of the engine.
    pub(super) fn new(
        engine: &Engine<'_>,
        is_echo: bool,
        rate: Option<f64>,
        payload: usize,
    ) -> Messages {
        let connections = engine.links.len();
        Messages {
            is_echo,
            rate,
            message: (0..payload).map(|at| b'a' + (at % 26) as u8).collect(),
            receives: vec![true; connections],
            run: 0,
            numbers: Vec::new(),
            sent: Vec::new(),
            sent_at: Vec::new(),
            is_sending: false,
            gave_up: false,
            all: 0,
            here: 0,
            left: 0,
            turn: 0,
            counts: Counts::default(),
            expected: 0,
            hopeless: 0,
            times: Times::new(0, Duration::ZERO),
            start: 0,
            sending_end: 0,
            last: 0,
            closed: 0,
            why: None,
        }
    }

    /// Sends one message to see who gets it: the sender, and how many others.
    pub(super) fn probe(&mut self, engine: &mut Engine<'_>) -> (bool, usize) {
        let start = engine.now();
        self.begin(engine, start, Duration::from_secs(1));
        self.send(engine, 0, start);
        let end = start + SILENCE / 2;
        while self.outstanding() > 0 && !self.is_ended(engine) && !engine.is_stopped() {
            let now = engine.now();
            // The sender's own comes with the others' or not at all.
            let lacks_own = self.outstanding() == 1 && self.numbers[0].came() == 0 && self.all > 1;
            if now >= end || lacks_own && now > self.last + SHORT_SILENCE {
                break;
            }
            engine.turn(self, now + LOOK, true);
        }
        let others = self.numbers.iter().skip(1).filter(|numbers| numbers.came() > 0).count();
        (self.numbers[0].came() > 0, others)
    }

    /// What is sent does not come back to its sender.
    pub(super) fn leave_out_sender(&mut self) {
        self.receives[0] = false;
    }

    /// Sends for so long, and waits for what is under way; after a warm-up not for long. `tell` is
    /// called now and then.
    pub(super) fn phase(
        &mut self,
        engine: &mut Engine<'_>,
        duration: Duration,
        is_warm_up: bool,
        mut tell: impl FnMut(&Messages, u64),
    ) {
        let start = engine.now();
        let end = start + nanoseconds(duration);
        self.begin(engine, start, duration);
        self.is_sending = true;
        if self.rate.is_none() {
            self.send_first(engine, start);
        }
        let mut next_look = start;
        loop {
            let now = engine.now();
            if self.is_sending {
                self.send_due(engine, now.min(end.saturating_sub(1)));
            }
            if self.is_sending && (now >= end || engine.is_stopped()) {
                self.stop_sending(now.min(end));
            }
            let outstanding = self.outstanding();
            let silence = now.saturating_sub(self.last.max(self.sending_end));
            let is_short = engine.is_stopped() || is_warm_up && self.counts.received > 0;
            let patience = if is_short { SHORT_SILENCE } else { SILENCE };
            let waited = now.saturating_sub(self.sending_end);
            let is_late = waited > LEAST_WAIT.max(nanoseconds(duration));
            let is_done = outstanding == 0 || silence > patience || is_late;
            self.gave_up = !self.is_sending && outstanding > 0 && is_late;
            let open = engine.links.iter().any(|link| link.state == State::Open);
            if !self.is_sending && is_done || !open {
                self.stop_sending(now.min(end));
                return;
            }
            if now >= next_look {
                next_look = now + LOOK;
                self.look(engine, now);
                tell(self, now);
            }
            let mut until = next_look;
            if self.is_sending {
                until = self.next_due().map_or(until, |due| due.min(until)).min(end);
            }
            engine.turn(self, until, outstanding > 0);
        }
    }

    /// From the start of the phase to its end, as far as something happened.
    pub(super) fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.last.max(self.sending_end).saturating_sub(self.start))
    }

    /// From the start of the phase to where nothing more was sent.
    pub(super) fn sending(&self) -> Duration {
        Duration::from_nanos(self.sending_end.saturating_sub(self.start))
    }

    /// What did not come, after the phase.
    pub(super) fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.counts.received)
    }

    /// Whether the load cannot go on, since the server ended the connections that it needs.
    pub(super) fn is_ended(&self, engine: &Engine<'_>) -> bool {
        let is_open = |link: usize| engine.links[link].state == State::Open;
        if self.is_echo { !(0..engine.links.len()).any(is_open) } else { !is_open(0) }
    }

    fn begin(&mut self, engine: &Engine<'_>, start: u64, duration: Duration) {
        let connections = self.receives.len();
        let is_open = |link: usize| engine.links[link].state == State::Open;
        let receivers = (0..connections).filter(|link| self.receives[*link]);
        self.all = receivers.clone().count();
        self.here = receivers.filter(|link| is_open(*link)).count();
        self.run = fastrand::u32(..=MOST);
        self.numbers.clear();
        self.numbers.resize_with(connections, Numbers::default);
        self.sent = vec![0; connections];
        self.sent_at = vec![0; connections];
        self.is_sending = false;
        self.left = 0;
        self.turn = 0;
        self.counts = Counts::default();
        self.expected = 0;
        self.hopeless = 0;
        self.times = Times::new(start, duration);
        self.start = start;
        self.sending_end = start;
        self.last = start;
    }

    fn stop_sending(&mut self, now: u64) {
        if !mem::take(&mut self.is_sending) {
            return;
        }
        self.sending_end = now;
        if let Some(rate) = self.rate {
            let due = ((now - self.start) as f64 * rate / 1e9).ceil() as u64;
            self.counts.unsent = due.saturating_sub(self.counts.sent);
        }
    }

    /// What is still to come.
    fn outstanding(&self) -> u64 {
        self.expected.saturating_sub(self.counts.received).saturating_sub(self.hopeless)
    }

    fn send_first(&mut self, engine: &mut Engine<'_>, now: u64) {
        let senders = if self.is_echo { engine.links.len() } else { 1 };
        for sender in 0..senders {
            if engine.links[sender].state == State::Open {
                self.send(engine, sender, now);
            }
        }
    }

    fn next_due(&self) -> Option<u64> {
        // A rate far below one message an hour is due beyond the end of the clock.
        let due =
            |rate: f64| self.start.saturating_add((self.counts.sent as f64 * 1e9 / rate) as u64);
        self.rate.map(due)
    }

    /// Sends what is due, as far as the sockets take it.
    fn send_due(&mut self, engine: &mut Engine<'_>, now: u64) {
        while let Some(due) = self.next_due().filter(|due| *due <= now) {
            let Some(sender) = self.sender(engine) else { return };
            self.send(engine, sender, due);
        }
    }

    /// Who sends the next message; `None` if nobody can.
    fn sender(&mut self, engine: &Engine<'_>) -> Option<usize> {
        let can = |link: usize| {
            let link = &engine.links[link];
            link.state == State::Open && link.backlog() < BACKLOG
        };
        if !self.is_echo {
            return can(0).then_some(0);
        }
        let connections = engine.links.len();
        let found = (0..connections).map(|n| (self.turn + n) % connections).find(|n| can(*n))?;
        self.turn = found + 1;
        Some(found)
    }

    fn send(&mut self, engine: &mut Engine<'_>, sender: usize, due: u64) {
        let mark = Mark { run: self.run, sender: sender as u32, number: self.sent[sender], due };
        mark.write(&mut self.message);
        self.sent[sender] += 1;
        self.sent_at[sender] = due;
        self.counts.sent += 1;
        if self.is_echo {
            self.expected += 1;
        } else {
            self.left = self.here;
            self.expected += self.all as u64;
            self.hopeless += (self.all - self.here) as u64;
        }
        if let Err(e) = engine.send(sender, &self.message) {
            engine.lost(self, sender, &e.to_string());
        }
    }

    /// In the closed loop, what was lost is not waited for without end.
    fn look(&mut self, engine: &mut Engine<'_>, now: u64) {
        if !self.is_sending || self.rate.is_some() {
            return;
        }
        let senders = if self.is_echo { engine.links.len() } else { 1 };
        for sender in 0..senders {
            let is_open = engine.links[sender].state == State::Open;
            if is_open && now.saturating_sub(self.sent_at[sender]) > SILENCE {
                self.send(engine, sender, now);
            }
        }
    }

    /// A message came to this connection.
    fn message(&mut self, engine: &mut Engine<'_>, link: usize, mark: Mark, now: u64) {
        if mark.run != self.run {
            return;
        }
        let sender = mark.sender as usize;
        let own = if self.is_echo { sender == link } else { sender == 0 };
        if !own || self.sent.get(sender).is_none_or(|sent| mark.number >= *sent) {
            self.counts.strays += 1;
            return;
        }
        if !self.numbers[link].take(mark.number) {
            self.counts.duplicates += 1;
            return;
        }
        if !self.receives[link] {
            self.counts.strays += 1;
            return;
        }
        self.counts.received += 1;
        self.last = now;
        self.times.record(now, now.saturating_sub(mark.due));
        let is_newest = mark.number + 1 == self.sent[sender];
        if is_newest && self.is_echo {
            self.left = 0;
            self.next(engine, link, now);
        } else if is_newest {
            self.left = self.left.saturating_sub(1);
            self.next(engine, 0, now);
        }
    }

    /// In the closed loop, the next message follows when all have the last.
    fn next(&mut self, engine: &mut Engine<'_>, sender: usize, now: u64) {
        if self.left == 0 && self.is_sending && self.rate.is_none() {
            // The clock goes on while a batch is read.
            let now = engine.now().max(now);
            self.send(engine, sender, now);
        }
    }

    fn gone(&mut self, engine: &mut Engine<'_>, link: usize, why: String, now: u64) {
        self.closed += 1;
        self.why.get_or_insert(why);
        let Some(numbers) = self.numbers.get(link) else { return };
        if self.is_echo {
            self.hopeless += self.sent[link] - numbers.came();
            return;
        }
        let sent = self.sent[0];
        let waited = self.receives[link] && sent > 0 && !numbers.has(sent - 1);
        if self.receives[link] {
            self.hopeless += sent - numbers.came();
            self.here = self.here.saturating_sub(1);
        }
        if link == 0 {
            self.stop_sending(now);
        }
        if waited {
            self.left = self.left.saturating_sub(1);
            self.next(engine, 0, now);
        }
    }
}

impl Load for Messages {
    fn happened(&mut self, engine: &mut Engine<'_>, link: usize, event: Event, now: u64) {
        match event {
            Event::Message(Some(mark)) => self.message(engine, link, mark, now),
            Event::Message(None) | Event::Opened => {}
            Event::Gone(gone) => self.gone(engine, link, gone.why, now),
        }
    }
}

/// What the progress bar says.
pub(super) fn shown(messages: &Messages, now: u64, duration: Duration, progress: &Progress) {
    let elapsed = now.saturating_sub(messages.start);
    let done = elapsed as f64 / nanoseconds(duration).max(1) as f64;
    progress.show(done, || {
        let rate = messages.counts.received as f64 * 1e9 / elapsed.max(1) as f64;
        format!("{} received, {rate:.0}/s", messages.counts.received)
    });
}
