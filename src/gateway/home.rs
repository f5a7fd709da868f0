//! A gateway's home: the shard that accepts its clients and speaks to its listener.
//!
//! The exchange decides, this module does: it writes the listener's stdin, reads its stdout, and
//! carries out the effects. Reading never waits for writing.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::Interest;
use mio::net::TcpListener;
use mio::unix::pipe;
use tokio::sync::oneshot;

use super::engine::{CloseReply, Delivery, HomeMsg, Msg, Report, Shared};
use super::exchange::{Effect, Exchange, Verdict, route_recipients};
use super::lines::Lines;
use super::shard::{Ctx, Kind, token};
use super::slice::{Job, Slice};
use crate::protocol::close;
use crate::protocol::connid::ConnId;
use crate::server::api::{ApiError, ErrorCode};

/// Clients accepted in one turn.
const ACCEPTS: usize = 64;

/// Reads of the listener's stdout in one turn.
const READS: usize = 4;

/// Frames a shard that may wait to be sent before the listener is not read on: this waits for our
/// own CPU, never for a client.
const BACKLOG: usize = 1024;

/// Milliseconds that the acceptor rests when descriptors are short.
const ACCEPT_REST: u64 = 50;

/// Milliseconds between two looks at whether a producer may go on.
const PAUSE: u64 = 2;

/// How long what is left in the stdout of a listener that exited is read.
const LEFTOVER: u64 = 1_000;

/// Milliseconds between two complaints about the acceptor.
const COMPLAIN: u64 = 10_000;

/// The home's part of a gateway.
pub struct Home {
    acceptor: Option<TcpListener>,
    accept_ready: bool,
    /// Not before then.
    accept_after: u64,
    complained: u64,
    exchange: Option<Exchange>,
    /// The first id of the next exchange: ids are never used again, whatever a reload changes.
    next_id: u64,
    stdin: Option<pipe::Sender>,
    stdin_ready: bool,
    stdout: Option<pipe::Receiver>,
    stdout_ready: bool,
    /// Whether epoll has said that its other side is closed: a short read is not the end then.
    stdout_closed: bool,
    /// Whether an incarnation is attached.
    attached: bool,
    wrote: bool,
    /// Until when the stdout of an incarnation that exited is read.
    exited: Option<u64>,
    /// Whether we ended it.
    wanted: bool,
    /// When a pause of reading the stdout is over.
    paused: u64,
    /// Bytes read since nothing waited to be sent.
    ahead: usize,
    lines: Lines,
    results: Arc<dyn Fn(String) + Send + Sync>,
    dirty: bool,
    done: Vec<Vec<(ConnId, usize)>>,
    when_idle: Vec<oneshot::Sender<()>>,
    when_flushed: Vec<oneshot::Sender<()>>,
}

impl Home {
    /// Neither acceptor nor listener yet.
    pub fn new(shared: &Arc<Shared>, ctx: &Ctx) -> Home {
        let core = Arc::clone(&ctx.core);
        let (slot, home) = (shared.slot, shared.home);
        // The engine outlives its shards; a line for a gateway that is gone is thrown away there.
        let results = move |line| core.post(home, Msg::Home(slot, HomeMsg::Result(line)));
        let mut this = Home {
            acceptor: None,
            accept_ready: false,
            accept_after: 0,
            complained: 0,
            exchange: None,
            next_id: 1,
            stdin: None,
            stdin_ready: false,
            stdout: None,
            stdout_ready: false,
            stdout_closed: false,
            attached: false,
            wrote: false,
            exited: None,
            wanted: false,
            paused: 0,
            ahead: 0,
            lines: Lines::default(),
            results: Arc::new(results),
            dirty: false,
            done: (0..ctx.core.shards()).map(|_| Vec::new()).collect(),
            when_idle: Vec::new(),
            when_flushed: Vec::new(),
        };
        this.ensure_exchange(shared, ctx);
        this
    }

    /// An exchange with the settings as they are now, if there is a listener; else what the last
    /// one leaves to be done.
    fn ensure_exchange(&mut self, shared: &Arc<Shared>, ctx: &Ctx) -> Vec<Effect> {
        let settings = shared.settings();
        match (&mut self.exchange, settings.listener.is_some()) {
            (Some(exchange), true) => exchange.set_settings(settings),
            (None, true) => {
                let mut exchange = Exchange::new(
                    Arc::clone(&shared.id),
                    settings,
                    Arc::clone(&shared.metrics),
                    Arc::clone(&shared.told_bytes),
                    ctx.core.shards(),
                    ctx.instant,
                );
                exchange.issue_from(self.next_id);
                self.exchange = Some(exchange);
            }
            // The listener's last incarnation is on its way out and is let finish.
            (Some(exchange), false) if self.attached => exchange.set_settings(settings),
            (Some(exchange), false) => {
                exchange.set_settings(settings);
                exchange.give_up();
                self.next_id = exchange.next_free_id();
                let effects = std::mem::take(&mut exchange.effects);
                self.exchange = None;
                shared.told_bytes.store(0, Ordering::Relaxed);
                shared.pressed.store(false, Ordering::SeqCst);
                shared.metrics.queued.set(0);
                shared.metrics.unanswered.set(0);
                return effects;
            }
            (None, false) => {}
        }
        Vec::new()
    }

    fn attach(&mut self, stdin: Option<OwnedFd>, stdout: OwnedFd, slot: usize, ctx: &mut Ctx) {
        let mut stdout = pipe::Receiver::from(stdout);
        let mut stdin = stdin.map(pipe::Sender::from);
        let registered = ctx
            .registry
            .register(&mut stdout, token(slot, Kind::Stdout, 0), Interest::READABLE)
            .and_then(|()| match &mut stdin {
                Some(stdin) => {
                    ctx.registry.register(stdin, token(slot, Kind::Stdin, 0), Interest::WRITABLE)
                }
                None => Ok(()),
            });
        if let Err(error) = registered {
            tracing::error!(%error, "the listener's pipes cannot be watched");
        }
        self.stdin = stdin;
        self.stdin_ready = true;
        self.stdout = Some(stdout);
        self.stdout_ready = true;
        self.stdout_closed = false;
        self.attached = true;
        self.wrote = false;
        self.exited = None;
        self.paused = 0;
        self.lines = Lines::default();
        if let Some(exchange) = &mut self.exchange {
            exchange.attach(ctx.instant);
        }
    }

    /// Reads what the listener wrote.
    fn read_stdout(&mut self, shared: &Shared, ctx: &mut Ctx) {
        let (Some(stdout), Some(exchange)) = (&mut self.stdout, &mut self.exchange) else { return };
        let settings = shared.settings();
        let backlog = shared.backlog.load(Ordering::SeqCst);
        if backlog == 0 {
            self.ahead = 0;
        }
        // What a producer adds before a slow recipient is looked at again leaves that one below its
        // `max-queue`.
        let producer = settings.hooks.is_none();
        let step = (settings.max_queue / 4).max(1024);
        if backlog > BACKLOG * ctx.core.shards()
            || producer && (self.ahead >= step || shared.any_over_half())
        {
            self.paused = ctx.now + PAUSE;
            return;
        }
        self.paused = 0;
        let now = ctx.instant;
        let max = settings.max_line;
        let (reads, room) = match producer {
            true => (1, ctx.buffer.len().min(step)),
            false => (READS, ctx.buffer.len()),
        };
        for _ in 0..reads {
            match stdout.read(&mut ctx.buffer[..room]) {
                Ok(0) => {
                    self.lines.end(|line| exchange.line(line, &self.results, now));
                    self.stdout = None;
                    self.stdout_ready = false;
                    if self.exited.is_none() {
                        shared.report(Report::StdoutClosed);
                    }
                    return;
                }
                Ok(n) => {
                    if !self.wrote {
                        self.wrote = true;
                        shared.report(Report::FirstOutput);
                    }
                    self.ahead += n;
                    exchange.output(now);
                    let results = &self.results;
                    self.lines.feed(&ctx.buffer[..n], max, |line| match line {
                        Some(line) => exchange.line(line, results, now),
                        None => exchange.over_long(max, now),
                    });
                    if n < room && !self.stdout_closed {
                        self.stdout_ready = false;
                        return;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.stdout_ready = false;
                    return;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::error!(gateway = %shared.id, %error, "the listener's stdout failed");
                    self.stdout = None;
                    self.stdout_ready = false;
                    shared.report(Report::StdoutClosed);
                    return;
                }
            }
        }
    }

    /// Writes events as long as the listener takes them.
    fn write_stdin(&mut self, ctx: &Ctx) {
        let Some(exchange) = &mut self.exchange else { return };
        let now = ctx.instant;
        loop {
            exchange.pump(now);
            let bytes = exchange.unwritten();
            if bytes.is_empty() {
                return;
            }
            let Some(stdin) = self.stdin.as_mut().filter(|_| self.stdin_ready) else {
                exchange.stuck(now);
                return;
            };
            match stdin.write(bytes) {
                Ok(n) => exchange.written(n, now),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Full; or closed by a listener that lives on, which then counts as hanging.
                Err(_) => self.stdin_ready = false,
            }
        }
    }

    /// Whether there is something to do now. Readiness is told once: what one turn left has to be
    /// remembered here.
    fn wants_turn(&self) -> bool {
        self.dirty
            || self.stdout_ready && self.stdout.is_some() && self.paused == 0
            || self.accept_ready && self.acceptor.is_some() && self.accept_after == 0
    }

    /// When there is something to do without an event.
    fn deadline(&self, ctx: &Ctx) -> Option<Instant> {
        let at = |ms: u64| ctx.core.start + Duration::from_millis(ms);
        let accept = (self.accept_ready && self.accept_after > 0).then(|| at(self.accept_after));
        let paused = (self.paused > 0).then(|| at(self.paused));
        let exited = self.exited.map(at);
        let check = self.exchange.as_ref().and_then(Exchange::next_check);
        [accept, paused, exited, check].into_iter().flatten().min()
    }
}

impl Slice {
    /// When the home has something to do without an event.
    pub fn home_deadline(&self, ctx: &Ctx) -> Option<Instant> {
        self.home.as_ref()?.deadline(ctx)
    }

    /// Whether the home has something to do now.
    pub fn home_wants_turn(&self) -> bool {
        self.home.as_ref().is_some_and(|home| home.wants_turn())
    }

    /// Whether answers of the listener are on their way.
    pub fn listener_owes(&self) -> bool {
        self.home.as_ref().and_then(|home| home.exchange.as_ref()).is_some_and(Exchange::owes)
    }

    /// The kernel says something about the acceptor or the listener's pipes.
    pub fn home_event(&mut self, kind: Kind, closed: bool) {
        let Some(home) = &mut self.home else { return };
        home.dirty = true;
        match kind {
            Kind::Acceptor => home.accept_ready = true,
            Kind::Stdin => home.stdin_ready = true,
            Kind::Stdout => {
                home.stdout_ready = true;
                home.stdout_closed |= closed;
            }
            Kind::Conn => {}
        }
    }

    /// Starts or stops accepting.
    pub fn accept_on(&mut self, acceptor: Option<std::net::TcpListener>, ctx: &mut Ctx) {
        let Some(home) = &mut self.home else { return };
        if let Some(mut old) = home.acceptor.take() {
            // Its descriptor may have copies, for which closing this one would not end the watch.
            let _ = ctx.registry.deregister(&mut old);
        }
        home.acceptor = acceptor.and_then(|acceptor| {
            let mut acceptor = TcpListener::from_std(acceptor);
            let token = token(self.shared.slot, Kind::Acceptor, 0);
            match ctx.registry.register(&mut acceptor, token, Interest::READABLE) {
                Ok(()) => Some(acceptor),
                Err(error) => {
                    tracing::error!(gateway = %self.shared.id, %error, "the acceptor cannot be watched");
                    None
                }
            }
        });
        home.accept_ready = home.acceptor.is_some();
        home.accept_after = 0;
        home.dirty = true;
    }

    /// The settings changed; `told` says whether the exchange knew of connections before.
    pub fn home_settings(&mut self, told: bool, ctx: &mut Ctx) {
        if let Some(home) = &mut self.home {
            home.dirty = true;
            let mut left = home.ensure_exchange(&self.shared, ctx);
            self.carry_out(&mut left, ctx);
        }
        // In front of the first message that the listener is asked about.
        if self.tells() && !told {
            self.announce(ctx);
        }
    }

    /// A message for the home.
    pub fn home_msg(&mut self, msg: HomeMsg, ctx: &mut Ctx) {
        let Some(home) = &mut self.home else { return };
        home.dirty = true;
        let slot = self.shared.slot;
        if home.exchange.is_none() {
            // Another shard may have heard of a new listener before this one; nothing is left over
            // of an exchange that is not there.
            home.ensure_exchange(&self.shared, ctx);
        }
        match (msg, &mut home.exchange) {
            (HomeMsg::Opened(info), Some(exchange)) => {
                if !exchange.knows(info.id) {
                    exchange.opened(info);
                }
            }
            (HomeMsg::Message(conn, message), exchange) => {
                self.shared.in_flight.fetch_sub(1, Ordering::SeqCst);
                match exchange {
                    Some(exchange) => exchange.message(conn, message),
                    // The listener was taken away a moment ago.
                    None => {
                        let bytes = message.frame.len();
                        let to = route_recipients(self.settings.route, Some(conn), &[]);
                        let sent = Effect::Deliver { frame: message.frame, to, tally: None };
                        self.carry_out(&mut vec![sent, Effect::Done { conn, bytes }], ctx);
                    }
                }
            }
            (HomeMsg::Closed(conn, closed), Some(exchange)) => exchange.closed(conn, closed),
            (HomeMsg::Ask(conn, members, offers), Some(exchange)) => {
                exchange.handshake(conn, members, offers, ctx.instant);
            }
            (HomeMsg::Ask(conn, ..), None) => {
                let msg = Msg::Verdict(slot, conn, Verdict::Accept(None));
                ctx.core.post(ctx.core.shard_of(conn), msg);
            }
            (HomeMsg::Result(line), Some(exchange)) => exchange.result(line),
            (HomeMsg::Push(ask), Some(exchange)) => exchange.push(*ask, ctx.instant),
            (HomeMsg::Withdrawn, exchange) => {
                if let Some(exchange) = exchange {
                    exchange.withdraw();
                }
            }
            (HomeMsg::Push(ask), None) => {
                let error = ApiError::new(ErrorCode::ListenerDown, "the gateway has no listener");
                // The requester may have gone.
                let _ = ask.reply.send(Err(error));
            }
            (HomeMsg::Attach(stdin, stdout), _) => home.attach(stdin, stdout, slot, ctx),
            (HomeMsg::Exited { wanted }, _) => {
                if home.attached {
                    home.exited = Some(ctx.now + LEFTOVER);
                    home.wanted = wanted;
                    home.stdout_ready = home.stdout.is_some();
                }
            }
            (HomeMsg::CloseStdin, _) => home.stdin = None,
            (HomeMsg::WhenIdle(sender), _) => home.when_idle.push(sender),
            (HomeMsg::WhenFlushed(sender), _) => home.when_flushed.push(sender),
            (HomeMsg::DropAll(sender), exchange) => {
                let dropped = exchange.as_mut().map_or(0, |e| {
                    e.drop_all("stop", ErrorCode::Stopping, "the gateway is stopping")
                });
                let _ = sender.send(dropped);
            }
            (HomeMsg::Opened(_) | HomeMsg::Closed(..) | HomeMsg::Result(_), None) => {}
        }
    }

    /// Does what the home has to do; true if it has to come back at once.
    pub fn home_turn(&mut self, ctx: &mut Ctx) -> bool {
        let due = self.home_deadline(ctx).is_some_and(|at| at <= ctx.instant);
        let Some(home) = &mut self.home else { return false };
        if !due && !home.wants_turn() {
            return false;
        }
        // Effects may bring more; a listener and its clients must not keep the shard for good.
        for _ in 0..4 {
            let Some(home) = &mut self.home else { return false };
            home.dirty = false;
            if home.stdout_ready {
                home.read_stdout(&self.shared, ctx);
            }
            if home.attached
                && let Some(until) = home.exited
                && (home.stdout.is_none() || until <= ctx.now)
            {
                self.detach(ctx);
            }
            let Some(home) = &mut self.home else { return false };
            if let Some(exchange) = &mut home.exchange
                && exchange.check(ctx.instant).is_some()
            {
                self.shared.report(Report::Hang);
            }
            home.write_stdin(ctx);
            if home.accept_ready && home.accept_after <= ctx.now {
                self.accept(ctx);
            }
            self.effects(ctx);
            if !self.home.as_ref().is_some_and(|home| home.dirty) {
                break;
            }
        }
        self.after_home(ctx);
        self.home.as_ref().is_some_and(|home| home.wants_turn())
    }

    /// Publishes the pressure and tells those who wait.
    fn after_home(&mut self, ctx: &mut Ctx) {
        let Some(home) = &mut self.home else { return };
        let (pressed, busy, flushed) = match &home.exchange {
            Some(e) => (e.pressed(), e.busy(), e.flushed()),
            None => (false, false, true),
        };
        let shared = &self.shared;
        if shared.pressed.load(Ordering::Relaxed) != pressed {
            shared.pressed.store(pressed, Ordering::SeqCst);
        }
        if !busy && shared.in_flight.load(Ordering::SeqCst) == 0 {
            for sender in home.when_idle.drain(..) {
                let _ = sender.send(());
            }
        }
        if flushed || home.stdin.is_none() {
            for sender in home.when_flushed.drain(..) {
                let _ = sender.send(());
            }
        }
        self.open_gate(ctx);
    }

    /// Carries out what the exchange decided.
    fn effects(&mut self, ctx: &mut Ctx) {
        let Some(exchange) = self.home.as_mut().and_then(|h| h.exchange.as_mut()) else { return };
        let mut effects = std::mem::take(&mut exchange.effects);
        self.carry_out(&mut effects, ctx);
        // The vector goes back for its capacity, unless something came meanwhile.
        if let Some(exchange) = self.home.as_mut().and_then(|h| h.exchange.as_mut())
            && exchange.effects.is_empty()
        {
            effects.shrink_to(4096);
            exchange.effects = effects;
        }
    }

    fn carry_out(&mut self, effects: &mut Vec<Effect>, ctx: &mut Ctx) {
        let slot = self.shared.slot;
        let alone = ctx.core.shards() == 1;
        for effect in effects.drain(..) {
            match effect {
                Effect::Deliver { frame, to, tally } => {
                    self.deliver(Delivery { frame, to, from: None, tally }, ctx);
                }
                Effect::Close { conn, code, reason, reference } => {
                    let reply = reference.map_or(CloseReply::None, CloseReply::Listener);
                    if alone {
                        self.fanout.jobs.push_back(Job::Close(conn, code, reason, reply));
                    } else {
                        let msg = Msg::Close(slot, conn, code, reason, reply);
                        ctx.core.post(ctx.core.shard_of(conn), msg);
                    }
                }
                Effect::Handshake { conn, verdict } => {
                    if alone {
                        self.verdict(conn, verdict, ctx);
                    } else {
                        ctx.core.post(ctx.core.shard_of(conn), Msg::Verdict(slot, conn, verdict));
                    }
                }
                Effect::Done { conn, bytes } => {
                    if let Some(home) = &mut self.home {
                        home.done[ctx.core.shard_of(conn)].push((conn, bytes));
                    }
                }
            }
        }
        // Behind the deliveries: a connection that waits for its last answer ends after it.
        for shard in 0..ctx.core.shards() {
            let Some(home) = &mut self.home else { return };
            if home.done[shard].is_empty() {
                continue;
            }
            let mut done = std::mem::take(&mut home.done[shard]);
            if alone {
                for (conn, bytes) in done.drain(..) {
                    self.done(conn, bytes, ctx);
                }
                if let Some(home) = &mut self.home {
                    home.done[shard] = done;
                }
            } else {
                ctx.core.post(shard, Msg::Done(slot, done));
            }
        }
    }

    /// The incarnation is gone and its output handled.
    fn detach(&mut self, ctx: &mut Ctx) {
        let Some(home) = &mut self.home else { return };
        home.attached = false;
        home.exited = None;
        home.stdin = None;
        home.stdout = None;
        home.stdout_ready = false;
        home.paused = 0;
        let Some(exchange) = &mut home.exchange else { return };
        let exit = exchange.detach(home.wanted, ctx.instant);
        if exit.give_up {
            tracing::error!(
                gateway = %self.shared.id,
                "the listener exited again and again without a line while answers were owed: the \
                 clients are closed with 1011, it starts clean"
            );
            exchange.start_clean();
        }
        // Before the next incarnation attaches, the effects of this one's end are out.
        self.effects(ctx);
        if exit.give_up {
            let (code, reason) = close::LISTENER_FAILED;
            ctx.core.post_all(|| Msg::CloseAll(self.shared.slot, Some((code, reason))));
        }
        // A listener that was taken away by a reload leaves no exchange behind.
        if let Some(home) = &mut self.home {
            let mut left = home.ensure_exchange(&self.shared, ctx);
            self.carry_out(&mut left, ctx);
        }
        self.shared.report(Report::Drained(exit));
    }

    /// Takes clients in.
    fn accept(&mut self, ctx: &mut Ctx) {
        for _ in 0..ACCEPTS {
            let Some(home) = &mut self.home else { return };
            let Some(acceptor) = &home.acceptor else {
                home.accept_ready = false;
                return;
            };
            let complain = ctx.now >= home.complained + COMPLAIN || home.complained == 0;
            if !ctx.core.take_socket() {
                home.accept_after = ctx.now + ACCEPT_REST;
                if complain {
                    home.complained = ctx.now;
                    tracing::warn!(
                        gateway = %self.shared.id,
                        "out of file descriptors: new clients wait in the backlog until one is free \
                         (raise the hard limit, ulimit -n)"
                    );
                }
                return;
            }
            match acceptor.accept() {
                Ok((stream, peer)) => {
                    home.accept_after = 0;
                    let id = ctx.core.next_conn();
                    let shard = ctx.core.shard_of(id);
                    if shard == ctx.index {
                        self.socket(stream, peer, id, ctx);
                    } else {
                        ctx.core.post(shard, Msg::Socket(self.shared.slot, stream, peer, id));
                    }
                }
                Err(e) => {
                    ctx.core.give_socket();
                    match e.kind() {
                        io::ErrorKind::WouldBlock => {
                            home.accept_ready = false;
                            return;
                        }
                        // The client has gone already, or a signal came.
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                        _ => {
                            home.accept_after = ctx.now + ACCEPT_REST;
                            if complain {
                                home.complained = ctx.now;
                                tracing::error!(
                                    gateway = %self.shared.id, error = %e,
                                    "a client cannot be accepted for now"
                                );
                            }
                            return;
                        }
                    }
                }
            }
        }
    }
}
