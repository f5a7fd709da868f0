//! A shard: one thread, one epoll, its part of every gateway's connections.
//!
//! The loop: what the kernel says, what others sent, then a *turn* of each gateway — its listener
//! (on the gateway's home), its frames to send, its connections that waited — and the timers.
//! Readiness is edge-triggered and registered once: a socket that is written in full costs no
//! system call beside the write.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Registry, Token};

use crate::gateway::engine::{Core, Msg};
use crate::gateway::hub::{Job, Slice, empty_outbox};
use crate::gateway::io::memory;
use crate::gateway::io::outbox::Outbox;
use crate::gateway::io::timers::Timers;
use crate::gateway::io::transport::Transport;
use crate::gateway::io::uring::Ring;

/// The waker's token.
pub const WAKER: Token = Token(usize::MAX);

/// Bytes of the buffer that all connections of a shard are read into.
const READ_BUFFER: usize = 64 * 1024;

/// Sends of one gateway before the event loop has its turn.
const SENDS: usize = 1024;

/// The same while somebody is on the way in, who waits half as long then. Not always: bursts would
/// cost a tenth more.
const SENDS_IN_A_HURRY: usize = 256;

/// Milliseconds for which a newcomer makes turns short: its request follows at once.
const HURRY: u64 = 10;

/// Empty outboxes that are kept for the next socket that is full.
const SPARES: usize = 64;

/// Connections whose memory is worth giving back.
const CROWD: usize = 512;

/// Milliseconds after which it is.
const TRIM_AFTER: u64 = 2_000;

/// Messages that an inbox keeps room for.
const INBOX: usize = 1024;

/// How long a recipient that takes no byte still counts as taking.
const TAKING: u64 = 250;

/// How long a recipient over half holds producers up.
const HOLD_UP: u64 = 1_000;

/// How often a shard looks whether a recipient still holds producers up.
const HELD_LOOK: Duration = Duration::from_millis(25);

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A connection.
    Conn,
    /// The acceptor.
    Acceptor,
    /// The listener's stdin.
    Stdin,
    /// The listener's stdout.
    Stdout,
}

/// The token of something of a gateway.
pub fn token(gateway: usize, kind: Kind, slot: u32) -> Token {
    Token(gateway << 40 | (kind as usize) << 36 | slot as usize)
}

fn untoken(token: Token) -> (usize, Kind, u32) {
    let kind = match (token.0 >> 36) & 0xf {
        0 => Kind::Conn,
        1 => Kind::Acceptor,
        2 => Kind::Stdin,
        _ => Kind::Stdout,
    };
    // The lower 32 bits are the slot.
    (token.0 >> 40, kind, token.0 as u32)
}

/// What the gateways of a shard have in common.
pub struct Ctx {
    /// Which shard this is.
    pub index: usize,
    /// What all shards share.
    pub core: Arc<Core>,
    /// Where sockets are registered.
    pub registry: Registry,
    /// What sockets are read into; empty while it is in use.
    pub buffer: Vec<u8>,
    /// Deadlines of connections.
    pub timers: Timers,
    /// Milliseconds since the engine began, at least 1.
    pub now: u64,
    /// The same as an instant.
    pub instant: Instant,
    #[allow(clippy::vec_box)] // the boxes themselves are what is kept
    spares: Vec<Box<Outbox>>,
    /// What sends one frame to many sockets at once; `None` where the kernel has no such thing for
    /// us.
    pub ring: Option<Ring>,
    /// When the allocator is to give back what a crowd left behind; 0 for never.
    trim_at: u64,
    /// Until when turns are short.
    hurry_until: u64,
}

impl Ctx {
    fn tick(&mut self) {
        self.instant = Instant::now();
        let since = self.instant.duration_since(self.core.start);
        self.now = u64::try_from(since.as_millis()).unwrap_or(u64::MAX).max(1);
    }

    /// Writes what the socket takes, which may be nothing. Less than all means that it is full, and
    /// makes an event once it is not: a record layer takes what it is given in parts.
    ///
    /// # Errors
    /// The connection's end.
    pub fn write(&self, socket: &mut Transport, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while taken < bytes.len() {
            match socket.write(&bytes[taken..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => taken += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(taken)
    }

    /// So many connections have left a gateway: what they used is given back to the system a little
    /// later, when the listener has been told of them too.
    pub fn crowd_left(&mut self, connections: usize) {
        if connections >= CROWD {
            self.trim_at = self.now + TRIM_AFTER;
        }
    }

    /// Somebody is on the way in, and ought not to wait for long turns.
    pub fn hurry(&mut self) {
        self.hurry_until = self.now + HURRY;
    }

    /// An empty outbox.
    pub fn spare(&mut self) -> Box<Outbox> {
        self.spares.pop().unwrap_or_else(empty_outbox)
    }

    /// An outbox that is needed no more.
    pub fn give_back(&mut self, outbox: Option<Box<Outbox>>) {
        if let Some(mut outbox) = outbox
            && self.spares.len() < SPARES
        {
            outbox.reset();
            self.spares.push(outbox);
        }
    }
}

/// One thread's work.
pub struct Shard {
    poll: Poll,
    slices: Vec<Option<Box<Slice>>>,
    ctx: Ctx,
}

impl Shard {
    /// A shard without gateways.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(index: usize, poll: Poll, core: Arc<Core>) -> io::Result<Shard> {
        let registry = poll.registry().try_clone()?;
        let mut ctx = Ctx {
            index,
            core,
            registry,
            buffer: vec![0; READ_BUFFER],
            timers: Timers::default(),
            now: 1,
            instant: Instant::now(),
            spares: Vec::new(),
            ring: None,
            trim_at: 0,
            hurry_until: 0,
        };
        ctx.tick();
        Ok(Shard { poll, slices: Vec::new(), ctx })
    }

    /// Works until it is told to quit.
    pub fn run(mut self) {
        // Made here, for it belongs to the thread that makes it.
        let ring = Ring::new().inspect_err(|error| tracing::debug!(%error, "no io_uring"));
        self.ctx.ring = ring.ok();
        let mut events = Events::with_capacity(1024);
        let mut inbox = Vec::new();
        loop {
            self.ctx.tick();
            if self.ctx.trim_at > 0 && self.ctx.trim_at <= self.ctx.now {
                self.ctx.trim_at = 0;
                inbox.shrink_to(INBOX);
                self.ctx.core.shrink_inbox(self.ctx.index, INBOX);
                self.slices.iter_mut().flatten().for_each(|slice| slice.home_shrink());
                memory::trim();
            }
            let more = self.turn();
            let timeout = if more { Some(Duration::ZERO) } else { self.timeout() };
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "epoll failed");
                    std::process::abort();
                }
            }
            self.ctx.tick();
            // Before anything that could give a slot to another connection.
            for event in &events {
                self.event(event);
            }
            self.ctx.core.take_inbox(self.ctx.index, &mut inbox);
            for msg in inbox.drain(..) {
                if matches!(msg, Msg::Quit) {
                    return;
                }
                self.msg(msg);
            }
        }
    }

    fn slice(&mut self, gateway: usize) -> Option<(&mut Slice, &mut Ctx)> {
        let slice = self.slices.get_mut(gateway)?.as_deref_mut()?;
        Some((slice, &mut self.ctx))
    }

    fn event(&mut self, event: &Event) {
        if event.token() == WAKER {
            return;
        }
        let (gateway, kind, slot) = untoken(event.token());
        let Some((slice, ctx)) = self.slice(gateway) else { return };
        match kind {
            Kind::Conn => {
                let Some(conn) = slice.conn(slot) else { return };
                let closed = event.is_read_closed() || event.is_error();
                conn.eof |= closed;
                conn.readable |= event.is_readable() || closed;
                let readable = conn.readable;
                if event.is_writable() {
                    slice.writable(slot, ctx);
                }
                if readable {
                    slice.readable(slot, ctx);
                }
            }
            Kind::Acceptor | Kind::Stdin | Kind::Stdout => {
                slice.home_event(kind, event.is_read_closed());
            }
        }
    }

    fn msg(&mut self, msg: Msg) {
        let ctx = &mut self.ctx;
        if let Msg::Add(shared) = &msg {
            let slot = shared.slot;
            if self.slices.len() <= slot {
                self.slices.resize_with(slot + 1, || None);
            }
            self.slices[slot] = Some(Box::new(Slice::new(Arc::clone(shared), ctx)));
            return;
        }
        let Some(gateway) = gateway_of(&msg) else { return };
        let slice = self.slices.get_mut(gateway).and_then(Option::as_deref_mut);
        let Some(slice) = slice else { return late(msg, ctx) };
        match msg {
            Msg::Add(_) | Msg::Quit => {}
            Msg::Remove(_) => {
                slice.cut_all(ctx);
                self.slices[gateway] = None;
            }
            Msg::Settings(_) => slice.set_settings(ctx),
            Msg::Sync(_, reply) => {
                // The requester may have gone.
                let _ = reply.send(());
            }
            Msg::Accept(_, acceptor) => slice.accept_on(acceptor, ctx),
            Msg::Socket(_, stream, peer, id) => slice.socket(stream, peer, id, ctx),
            Msg::Deliver(_, delivery) => slice.fanout.push_frame(delivery),
            Msg::Close(_, conn, code, reason, reply) => {
                slice.fanout.jobs.push_back(Job::Close(conn, code, reason, reply));
            }
            Msg::Finish(_, conn) => slice.fanout.jobs.push_back(Job::Finish(conn)),
            Msg::Verdict(_, conn, verdict) => slice.verdict(conn, verdict, ctx),
            Msg::Done(_, done) => {
                for (conn, bytes) in done {
                    slice.done(conn, bytes, ctx);
                }
            }
            // Being awake is enough: the turn looks at what waits.
            Msg::Resume(_) => {}
            Msg::Home(_, msg) => slice.home_msg(msg, ctx),
            Msg::List(_, one, reply) => {
                // The requester may have gone.
                let _ = reply.send(slice.list(one));
            }
            Msg::CloseAll(_, Some((code, reason))) => {
                slice.fanout.jobs.push_back(Job::CloseAll(code, reason));
            }
            Msg::CloseAll(_, None) => slice.cut_all(ctx),
            Msg::CloseShare(_, closing, parts) => {
                slice.fanout.jobs.push_back(Job::CloseShare(closing, parts));
            }
            Msg::WhenEmpty(_, sender) => slice.when_empty(sender),
        }
    }

    /// One turn of everything; true if something is left to do at once.
    fn turn(&mut self) -> bool {
        let ctx = &mut self.ctx;
        let mut more = false;
        for slice in self.slices.iter_mut().filter_map(Option::as_deref_mut) {
            more |= slice.home_turn(ctx);
            let mut budget = if ctx.now < ctx.hurry_until { SENDS_IN_A_HURRY } else { SENDS };
            if slice.lingers(ctx) {
                budget = 0;
                more = true;
            }
            more |= slice.fan_out(&mut budget, ctx);
            if slice.wants_resume() {
                slice.resume(ctx);
                more |= slice.home_turn(ctx);
                more |= slice.fan_out(&mut budget, ctx);
            }
            more |= slice.read_on(ctx);
            // Last of all: reading on may have parked a connection, and a shard that sleeps with
            // one has to have asked to be woken.
            more |= slice.wants_resume();
            // What was carried out and read has told the home something, or gave more to send.
            more |= slice.home_wants_turn() || slice.fans_out();
            note_over_half(slice, ctx);
        }
        while let Some((at, due)) = ctx.timers.pop(ctx.now) {
            for due in due {
                let slice = self.slices.get_mut(due.gateway as usize);
                if let Some(slice) = slice.and_then(Option::as_deref_mut) {
                    slice.timer(due, at, ctx);
                    more = true;
                }
            }
        }
        more
    }

    fn timeout(&self) -> Option<Duration> {
        let ctx = &self.ctx;
        let trim = (ctx.trim_at > 0).then_some(ctx.trim_at);
        let timer = [ctx.timers.next(), trim].into_iter().flatten().min();
        let timer = timer.map(|at| Duration::from_millis(at.saturating_sub(ctx.now)));
        let home = self
            .slices
            .iter()
            .filter_map(|s| s.as_deref()?.home_deadline(ctx))
            .min()
            .map(|at| at.saturating_duration_since(ctx.instant));
        // A recipient that takes nothing more makes no event: it has to be looked at again.
        let held = self
            .slices
            .iter()
            .flatten()
            .any(|slice| slice.shared.pressure.has_slow_reader(ctx.index))
            .then_some(HELD_LOOK);
        [timer, home, held].into_iter().flatten().min()
    }
}

/// Publishes whether a recipient that still takes bytes is over half of `max-queue`: producers
/// wait for it, a second at most.
fn note_over_half(slice: &Slice, ctx: &Ctx) {
    let now = ctx.now;
    let taking = slice.over.iter().any(|(slot, id)| {
        slice.conns.get(*slot as usize).is_some_and(|conn| {
            conn.id == *id
                && conn.over_since > 0
                && now < conn.over_since + HOLD_UP
                && now < conn.took_at.max(conn.over_since) + TAKING
        })
    });
    slice.shared.pressure.set_slow_reader(ctx.index, taking);
}

fn gateway_of(msg: &Msg) -> Option<usize> {
    match msg {
        Msg::Add(shared) => Some(shared.slot),
        Msg::Quit => None,
        Msg::Remove(g)
        | Msg::Settings(g)
        | Msg::Sync(g, _)
        | Msg::Accept(g, _)
        | Msg::Socket(g, ..)
        | Msg::Deliver(g, _)
        | Msg::Close(g, ..)
        | Msg::Verdict(g, ..)
        | Msg::Done(g, _)
        | Msg::Finish(g, _)
        | Msg::Resume(g)
        | Msg::Home(g, _)
        | Msg::List(g, ..)
        | Msg::CloseAll(g, _)
        | Msg::CloseShare(g, ..)
        | Msg::WhenEmpty(g, _) => Some(*g),
    }
}

/// A message for a gateway that is gone. What waits for an answer sees its channel close.
fn late(msg: Msg, ctx: &Ctx) {
    match msg {
        Msg::Socket(..) => ctx.core.give_socket(),
        Msg::Deliver(_, delivery) => {
            if let Some(tally) = delivery.tally {
                tally.finish();
            }
        }
        _ => {}
    }
}
