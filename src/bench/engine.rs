//! The connections of a load test, in one thread: it waits for the sockets, and tells the load (what
//! is to be done and measured) what happened, at once. Where the machine has several CPUs it does not
//! sleep while an answer is on its way, so that no server pays for waking it and no latency holds the
//! time that it takes to wake up.

use std::io::{self, ErrorKind};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::bench::frames::{self, Item};
use crate::bench::link::{Link, State};
use crate::bench::mark::Mark;
use crate::bench::target::Target;
use crate::bench::times::nanoseconds;
use crate::error::Failure;
use crate::text::escape::escape;
use crate::ws::close;
use crate::ws::frame::OpCode;

/// Bytes that are read at a time.
const BUFFER: usize = 256 * 1024;

/// Sockets that are looked at in a turn.
const TURN: usize = 256;

/// Reads of one socket in a turn, so that a server that sends without end does not keep the others
/// waiting, nor the clock and Ctrl-C.
const READS: usize = 4;

/// The longest sleep: so often, what has no event is looked at.
pub(super) const LONGEST_SLEEP: Duration = Duration::from_millis(50);

/// Why a connection is gone whose end came without a Close.
const ENDED: &str = "the server closed the connection without a Close";

/// A millisecond: `epoll_wait` sleeps for whole ones, and wakes up after them.
const MILLISECOND: u64 = 1_000_000;

/// What happened on a connection.
#[derive(Debug)]
pub(super) enum Event {
    /// It is open.
    Opened,
    /// A message came, with its mark if it has one.
    Message(Option<Mark>),
    /// It is gone.
    Gone(Gone),
}

/// Why a connection is gone.
#[derive(Debug, Clone)]
pub(super) struct Gone {
    /// How far it had come.
    pub(super) state: State,
    /// What happened, for a person.
    pub(super) why: String,
}

/// What is done with the connections, and measured of them.
pub(super) trait Load {
    /// Something happened on this connection, at this time.
    fn happened(&mut self, engine: &mut Engine<'_>, link: usize, event: Event, now: u64);
}

/// The connections.
pub(super) struct Engine<'a> {
    target: &'a Target,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    items: Vec<Item>,
    pub(super) links: Vec<Link>,
    /// Sockets with more to read, which no event tells of again: the link, its generation, and whether
    /// its other end is closed.
    unread: Vec<(usize, u32, bool)>,
    start: Instant,
    stop: Arc<AtomicBool>,
    /// Whether it may keep a CPU to itself.
    spins: bool,
    /// Nanoseconds that were spent on what happened.
    pub(super) busy: u64,
}

impl<'a> Engine<'a> {
    /// An engine with places for so many connections; it ends when `stop` is set.
    ///
    /// # Errors
    /// The system has no epoll left.
    pub(super) fn new(
        target: &'a Target,
        links: usize,
        stop: Arc<AtomicBool>,
    ) -> Result<Engine<'a>, Failure> {
        let poll = Poll::new()
            .map_err(|e| Failure::other(format!("sockets cannot be waited for: {e}")))?;
        Ok(Engine {
            target,
            poll,
            events: Events::with_capacity(TURN),
            buffer: vec![0; BUFFER],
            items: Vec::new(),
            links: (0..links).map(|_| Link::new()).collect(),
            unread: Vec::new(),
            start: Instant::now(),
            stop,
            spins: cpus() > 1,
            busy: 0,
        })
    }

    /// The server.
    pub(super) fn target(&self) -> &Target {
        self.target
    }

    /// Nanoseconds since the engine was made.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whether the user wants an end.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Begins to open a connection that was due at this time.
    ///
    /// # Errors
    /// `WouldBlock` if it should be tried again, or why it cannot be opened.
    pub(super) fn open(&mut self, link: usize, due: u64) -> io::Result<()> {
        let token = Token(link);
        self.links[link].open(self.target, self.poll.registry(), token)?;
        self.links[link].began = due;
        Ok(())
    }

    /// Sends a text message, at once or as soon as the socket takes it.
    ///
    /// # Errors
    /// The connection is broken, and the caller drops it with [`Engine::lost`].
    pub(super) fn send(&mut self, link: usize, message: &[u8]) -> io::Result<()> {
        self.links[link].send(|out| frames::push(out, OpCode::Text, message))
    }

    /// Sends a Close; the server ends the connection then.
    pub(super) fn close(&mut self, load: &mut impl Load, link: usize) {
        self.links[link].state = State::Closing;
        let payload = close::NORMAL.to_be_bytes();
        if let Err(e) = self.links[link].send(|out| frames::push(out, OpCode::Close, &payload)) {
            self.lost(load, link, &e.to_string());
        }
    }

    /// Drops a connection and tells the load.
    pub(super) fn lost(&mut self, load: &mut impl Load, link: usize, why: &str) {
        let state = self.links[link].state;
        if state == State::Free {
            return;
        }
        self.links[link].drop_now(self.poll.registry());
        let now = self.now();
        let gone = Gone { state, why: escape(why).into_owned() };
        load.happened(self, link, Event::Gone(gone), now);
    }

    /// Waits for something to happen until this time at most, and deals with it. `expects` says
    /// that an answer is on its way.
    pub(super) fn turn(&mut self, load: &mut impl Load, until: u64, expects: bool) {
        let before = self.now();
        let gap = until.saturating_sub(before);
        let sleep = match self.spins {
            _ if !self.unread.is_empty() => 0,
            true if expects || gap < 2 * MILLISECOND => 0,
            true => gap - MILLISECOND,
            false => gap,
        };
        let sleep = Duration::from_nanos(sleep).min(LONGEST_SLEEP);
        // A signal ends the wait early, and nothing else can go wrong with it.
        let _ = self.poll.poll(&mut self.events, Some(sleep));
        let unread = mem::take(&mut self.unread);
        if self.events.is_empty() && unread.is_empty() {
            std::thread::yield_now();
            return;
        }
        let before = if sleep.is_zero() { before } else { self.now() };
        let events = mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            let link = event.token().0;
            let is_closed = event.is_read_closed() || event.is_error();
            self.ready(load, link, event.is_writable() || event.is_error());
            self.read(load, link, is_closed);
        }
        self.events = events;
        for (link, generation, is_closed) in unread {
            if self.links[link].generation == generation {
                self.read(load, link, is_closed);
            }
        }
        self.busy += self.now() - before;
    }

    /// A socket may be written to, or has failed.
    fn ready(&mut self, load: &mut impl Load, link: usize, is_writable: bool) {
        if !is_writable {
            return;
        }
        let place = &mut self.links[link];
        let done = match place.state {
            State::Free => Ok(()),
            State::Connecting => match place.is_connected() {
                Ok(true) => place.shake(self.target),
                Ok(false) => Ok(()),
                Err(e) => Err(e),
            },
            _ => place.go_on(),
        };
        if let Err(e) = done {
            self.lost(load, link, &e.to_string());
        }
    }

    fn read(&mut self, load: &mut impl Load, link: usize, is_closed: bool) {
        let mut buffer = mem::take(&mut self.buffer);
        let generation = self.links[link].generation;
        let mut reads = 0;
        while !matches!(self.links[link].state, State::Free | State::Connecting)
            && self.links[link].generation == generation
        {
            match self.links[link].read(&mut buffer) {
                Ok(0) => self.lost(load, link, ENDED),
                Ok(n) => {
                    reads += 1;
                    self.came(load, link, &buffer[..n]);
                    // Events come when the state changes: what was not filled is all there was.
                    if n < buffer.len() && !is_closed {
                        break;
                    }
                    if reads == READS {
                        self.unread.push((link, generation, is_closed));
                        break;
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => self.lost(load, link, &e.to_string()),
            }
        }
        self.buffer = buffer;
    }

    fn came(&mut self, load: &mut impl Load, link: usize, bytes: &[u8]) {
        if !self.links[link].is_encrypted() {
            return self.plain(load, link, bytes);
        }
        let mut plain = Vec::new();
        let decrypted = self.links[link].decrypt(bytes, &mut plain);
        if !plain.is_empty() {
            self.plain(load, link, &plain);
        }
        match decrypted {
            Ok(false) => {}
            Ok(true) => self.lost(load, link, ENDED),
            Err(e) => self.lost(load, link, &format!("TLS: {e}")),
        }
    }

    fn plain(&mut self, load: &mut impl Load, link: usize, bytes: &[u8]) {
        let now = self.now();
        if self.links[link].state != State::Shaking {
            return self.frames(load, link, bytes, now);
        }
        match self.links[link].answer(bytes) {
            Ok(None) => {}
            Ok(Some(rest)) => {
                let generation = self.links[link].generation;
                load.happened(self, link, Event::Opened, now);
                if self.links[link].generation == generation {
                    self.frames(load, link, &rest, now);
                }
            }
            Err(why) => self.lost(load, link, &why),
        }
    }

    fn frames(&mut self, load: &mut impl Load, link: usize, bytes: &[u8], now: u64) {
        let generation = self.links[link].generation;
        let mut items = mem::take(&mut self.items);
        let fed = self.links[link].frames.feed(bytes, &mut items);
        for item in items.drain(..) {
            let place = &self.links[link];
            if place.generation != generation || place.state == State::Free {
                break;
            }
            match item {
                Item::Message(mark) => load.happened(self, link, Event::Message(mark), now),
                Item::Ping(payload) => {
                    if let Err(e) = self.links[link].pong(payload) {
                        self.lost(load, link, &e.to_string());
                    }
                }
                // The answer to ours: the end of the connection follows.
                Item::Close(..) if place.state == State::Closing => {}
                Item::Close(code, reason) => {
                    // It is polite to answer; the server has ended the connection already.
                    let payload = code.to_be_bytes();
                    let answer = |out: &mut Vec<u8>| frames::push(out, OpCode::Close, &payload);
                    let _ = self.links[link].send(answer);
                    let why = format!("the server closed the connection: {code} {reason}");
                    self.lost(load, link, why.trim_end());
                }
            }
        }
        self.items = items;
        if let Err(why) = fed {
            self.lost(load, link, &format!("the server broke the protocol: {why}"));
        }
    }

    /// Closes all connections, and waits for the server to end them, for so long at most.
    pub(super) fn close_all(&mut self, patience: Duration) {
        struct Nothing;
        impl Load for Nothing {
            fn happened(&mut self, _: &mut Engine<'_>, _: usize, _: Event, _: u64) {}
        }
        let end = self.now() + nanoseconds(patience);
        for link in 0..self.links.len() {
            match self.links[link].state {
                State::Open => self.close(&mut Nothing, link),
                State::Connecting | State::Shaking => {
                    self.links[link].drop_now(self.poll.registry());
                }
                State::Free | State::Closing => {}
            }
        }
        while self.now() < end && self.links.iter().any(|link| link.state != State::Free) {
            self.turn(&mut Nothing, end, false);
        }
        for link in &mut self.links {
            link.drop_now(self.poll.registry());
        }
    }
}

/// How many CPUs the machine has, whatever this process may use of them: a server that shares the
/// only one with us must not wait for us.
fn cpus() -> usize {
    let counted = || {
        let text = std::fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
        let ranges = text.trim().split(',').map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)? + 1)
        });
        ranges.sum::<Option<usize>>()
    };
    let allowed = || std::thread::available_parallelism().map_or(1, usize::from);
    counted().unwrap_or_else(allowed)
}
