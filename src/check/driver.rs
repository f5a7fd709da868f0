//! One process of the listener with its pipes, and the exchange that speaks with it.
//!
//! It does what the primary of a gateway and its supervisor do, for clients that are only played.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::net::unix::pipe;
use tokio::time::{sleep, sleep_until};

use crate::check::clients::{Clients, Deed, Results};
use crate::check::ledger::Ledger;
use crate::config::settings::GatewaySettings;
use crate::listener::exchange::Exchange;
use crate::listener::metrics::ListenerMetrics;
use crate::listener::process;
use crate::listener::process::Process;
use crate::listener::stderr;
use crate::listener::stderr::Tail;
use crate::text::lines::Lines;

/// How often what no event tells is looked at.
const TICK: Duration = Duration::from_millis(5);

/// How long the stdout of a listener that exited is read.
const LEFTOVER: Duration = Duration::from_secs(1);

/// How long a listener that closed its stdout may take to exit.
const EXIT_GRACE: Duration = Duration::from_millis(200);

/// Reads of its stdout in one turn, so that a flood does not keep deadlines from being seen.
const READS: usize = 16;

/// Deeds that no answer asked for and that are kept.
const UNASKED: usize = 16;

/// Why waiting was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// What was waited for has come.
    Done,
    /// The time is up.
    Deadline,
    /// The listener has exited, or closed its stdout.
    Gone,
}

/// A listener that runs, or has run.
pub(super) struct Driver {
    pub(super) process: Process,
    pub(super) exchange: Exchange,
    pub(super) clients: Clients,
    stdin: Option<pipe::Sender>,
    stdout: Option<pipe::Receiver>,
    lines: Lines,
    results: Results,
    result_lines: Arc<Mutex<Vec<String>>>,
    tail: Arc<Mutex<Tail>>,
    max_line: usize,
    pub(super) started: Instant,
    /// Whether it wrote anything to its stdout.
    pub(super) wrote: bool,
    exited: bool,
    stdout_closed: Option<Instant>,
    /// Whether it closed its stdin.
    pub(super) stdin_broke: bool,
    /// Whether it was sent a signal that ends it.
    was_ended: bool,
    /// What the gateway would have done that no answer asked for: the first of it, and how much.
    pub(super) unasked: Vec<Deed>,
    pub(super) unasked_count: usize,
}

impl Driver {
    /// Starts a process; its events have ids from `first_id` on.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub(super) fn start(
        settings: &Arc<GatewaySettings>,
        control_url: Option<&str>,
        first_id: u64,
    ) -> Result<Driver, String> {
        let Some(command) = &settings.listener else { return Err("no listener is set".to_owned()) };
        let fed = settings.feeds_listener();
        let mut spawned = process::spawn(command, &settings.id, control_url, fed, None)
            .map_err(|error| process::explain(&error, command))?;
        let metrics = Arc::new(ListenerMetrics::default());
        let gateway: Arc<str> = Arc::from(settings.id.as_str());
        let tail = Arc::new(Mutex::new(Tail::default()));
        if let Some(stderr) = spawned.stderr.take() {
            let (gateway, tail) = (Arc::clone(&gateway), Arc::clone(&tail));
            tokio::spawn(stderr::drain(stderr, gateway, tail, Arc::clone(&metrics)));
        }
        let pipes = |error: io::Error| format!("its pipes cannot be read: {error}");
        let stdin = spawned.stdin.map(pipe::Sender::from_owned_fd).transpose().map_err(pipes)?;
        let stdout =
            spawned.stdout.map(pipe::Receiver::from_owned_fd).transpose().map_err(pipes)?;
        let now = Instant::now();
        let mut exchange = Exchange::new(gateway, Arc::clone(settings), metrics, 1, now);
        exchange.issue_from(first_id);
        exchange.attach(now);
        let result_lines = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&result_lines);
        Ok(Driver {
            process: spawned.process,
            exchange,
            clients: Clients::default(),
            stdin,
            stdout,
            lines: Lines::default(),
            results: Arc::new(move |line| into.lock().push(line)),
            result_lines,
            tail,
            max_line: settings.max_line,
            started: now,
            wrote: false,
            exited: false,
            stdout_closed: None,
            stdin_broke: false,
            was_ended: false,
            unasked: Vec::new(),
            unasked_count: 0,
        })
    }

    /// Goes on until `done` holds, the time is up, or the listener has gone.
    pub(super) async fn until(
        &mut self,
        deadline: Instant,
        ledger: &mut Ledger,
        done: impl Fn(&Driver, &Ledger) -> bool,
    ) -> Until {
        loop {
            self.turn(ledger);
            if done(self, ledger) {
                return Until::Done;
            }
            if self.is_gone() {
                return Until::Gone;
            }
            let now = Instant::now();
            if now >= deadline {
                return Until::Deadline;
            }
            self.wait(deadline.min(now + TICK), ledger).await;
        }
    }

    /// Does what is due: time-outs, lines for the listener.
    fn turn(&mut self, ledger: &mut Ledger) {
        let now = Instant::now();
        // Whether it hangs is the caller's to see: nothing here waits so long.
        let _ = self.exchange.check(now);
        ledger.note_timeouts(&self.exchange, now);
        let deeds = self.carry_out();
        self.note_unasked(deeds);
        for line in std::mem::take(&mut *self.result_lines.lock()) {
            self.exchange.result(line);
        }
        loop {
            self.exchange.pump(now);
            let bytes = self.exchange.unwritten();
            let Some(stdin) = self.stdin.as_ref().filter(|_| !bytes.is_empty()) else { break };
            match stdin.try_write(bytes) {
                Ok(written) => {
                    ledger.written(&bytes[..written], now);
                    self.exchange.written(written, now);
                }
                Err(error) => {
                    // Else it is full.
                    self.stdin_broke |= error.kind() == io::ErrorKind::BrokenPipe;
                    break;
                }
            }
        }
        let deeds = self.carry_out();
        self.note_unasked(deeds);
    }

    /// Waits for the next thing to happen.
    async fn wait(&mut self, until: Instant, ledger: &mut Ledger) {
        let stdout = self.stdout.as_ref();
        let readable = async {
            match stdout {
                Some(stdout) => drop(stdout.readable().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = readable => {}
            () = self.process.exited(), if !self.exited => self.exited = true,
            () = sleep_until(until.into()) => {}
        }
        self.read(ledger);
    }

    /// Reads what the listener wrote.
    fn read(&mut self, ledger: &mut Ledger) {
        let mut buffer = [0; 16 * 1024];
        for _ in 0..READS {
            let Some(stdout) = &self.stdout else { return };
            match stdout.try_read(&mut buffer) {
                Ok(0) => {
                    let mut last = None;
                    std::mem::take(&mut self.lines).end(|line| last = Some(line.to_vec()));
                    self.stdout = None;
                    self.stdout_closed = Some(Instant::now());
                    // Where it was ended, the line may have been cut by that.
                    if let Some(last) = last.filter(|_| !self.was_ended) {
                        self.line(Some(&last), ledger);
                    }
                }
                Ok(read) => {
                    let now = Instant::now();
                    self.wrote = true;
                    self.exchange.output(now);
                    ledger.read(&buffer[..read], read == buffer.len());
                    let mut lines = Vec::new();
                    self.lines.feed(&buffer[..read], self.max_line, |line| {
                        lines.push(line.map(<[u8]>::to_vec));
                    });
                    lines.iter().for_each(|line| self.line(line.as_deref(), ledger));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.stdout = None,
            }
        }
    }

    /// Handles a line of the listener, `None` for one that is too long.
    fn line(&mut self, line: Option<&[u8]>, ledger: &mut Ledger) {
        let now = Instant::now();
        let Some(line) = line else {
            ledger.too_long(self.max_line);
            return self.exchange.over_long(self.max_line, now);
        };
        let answered = ledger.line(line, now);
        // What was due before belongs to no line.
        let due = self.carry_out();
        self.note_unasked(due);
        self.exchange.line(line, &self.results, now);
        let deeds = self.carry_out();
        match answered {
            Some(id) => ledger.add_deeds(id, deeds),
            None => self.note_unasked(deeds),
        }
    }

    fn carry_out(&mut self) -> Vec<Deed> {
        let mut deeds = Vec::new();
        while !self.exchange.effects.is_empty() {
            for effect in std::mem::take(&mut self.exchange.effects) {
                deeds.extend(self.clients.carry_out(effect, &mut self.exchange, &self.results));
            }
        }
        deeds
    }

    fn note_unasked(&mut self, deeds: Vec<Deed>) {
        self.unasked_count += deeds.len();
        let room = UNASKED.saturating_sub(self.unasked.len());
        self.unasked.extend(deeds.into_iter().take(room));
    }

    /// Forgets what no answer has asked for so far.
    pub(super) fn begin_step(&mut self) {
        self.unasked.clear();
        self.unasked_count = 0;
    }

    /// Whether it has exited, or has closed its stdout and does not exit.
    pub(super) fn is_gone(&self) -> bool {
        self.exited || self.stdout_closed.is_some_and(|at| at.elapsed() >= EXIT_GRACE)
    }

    /// Whether it has closed its stdout.
    pub(super) fn has_closed_stdout(&self) -> bool {
        self.stdout_closed.is_some()
    }

    /// Whether it has read everything that it was sent.
    pub(super) fn has_read_all(&self) -> bool {
        self.exchange.flushed() && self.unread() == 0
    }

    /// Bytes in the pipe to it; 0 where that is not known.
    pub(super) fn unread(&self) -> u64 {
        let unread = self.stdin.as_ref().and_then(|stdin| rustix::io::ioctl_fionread(stdin).ok());
        unread.unwrap_or(0)
    }

    /// Closes its stdin.
    pub(super) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Signals its process group.
    pub(super) fn signal(&mut self, signal: Signal) {
        self.was_ended = true;
        self.process.signal_group(signal);
    }

    /// Reads what is left in its stdout.
    pub(super) async fn read_rest(&mut self, ledger: &mut Ledger) {
        let deadline = Instant::now() + LEFTOVER;
        while self.stdout.is_some() && Instant::now() < deadline {
            self.wait(deadline, ledger).await;
        }
    }

    /// Ends what is left of it; how it ended, in words, and whether that was without an error.
    pub(super) async fn bury(&mut self, ledger: &mut Ledger) -> (String, bool) {
        let exited = self.exited;
        self.was_ended |= !exited;
        let status = self.process.kill().await;
        self.exited = true;
        self.read_rest(ledger).await;
        match status {
            _ if !exited => ("it closed its stdout".to_owned(), true),
            Ok(status) => (status.to_string(), status.success()),
            Err(error) => (format!("how it ended is not known: {error}"), false),
        }
    }

    /// Goes on until its process exits; false if that takes longer.
    pub(super) async fn until_exit(&mut self, deadline: Instant, ledger: &mut Ledger) -> bool {
        while !self.exited && Instant::now() < deadline {
            self.turn(ledger);
            self.wait(deadline.min(Instant::now() + TICK), ledger).await;
        }
        self.exited
    }

    /// What it wrote to stderr last. Waits a moment for what is under way.
    pub(super) async fn stderr(&self) -> Vec<String> {
        for _ in 0..20 {
            if self.tail.lock().ended() {
                break;
            }
            sleep(TICK).await;
        }
        self.tail.lock().lines().map(str::to_owned).collect()
    }
}
