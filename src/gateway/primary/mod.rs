//! A gateway's home: the shard that accepts its clients and speaks to its listener.
//!
//! The exchange decides, this module does. What a home has is here, and its turns: what the shards
//! and the control runtime tell it, and when it acts. How is in its parts: `accepting` (clients
//! come in), `pipes` (the listener's stdin and stdout), `effects` (what the exchange decided). All
//! of it is owned by one shard's thread; everybody else sends a [`HomeMsg`].

mod accepting;
mod effects;
mod pipes;

use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpListener;
use mio::unix::pipe;
use tokio::sync::oneshot;

use crate::api::{ApiError, ErrorCode};
use crate::gateway::engine::{HomeMsg, Msg, Shared};
use crate::gateway::hub::Slice;
use crate::gateway::shard::{Ctx, Kind};
use crate::listener::exchange::{Effect, Exchange, Verdict, route_recipients};
use crate::listener::protocol::connid::ConnId;
use crate::listener::supervisor::Report;
use crate::text::lines::Lines;

/// How long what is left in the stdout of a listener that exited is read.
const LEFTOVER: u64 = 1_000;

/// Entries that tables keep room for when a crowd has left.
const ROOM: usize = 64;

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
                    Arc::clone(&shared.metrics.listener),
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
                shared.pressure.publish(false, 0, 0);
                shared.metrics.queued.set(0);
                shared.metrics.listener.unanswered.set(0);
                return effects;
            }
            (None, false) => {}
        }
        Vec::new()
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

    /// Gives back the room that a crowd of connections took.
    pub fn home_shrink(&mut self) {
        let Some(home) = &mut self.home else { return };
        home.done.iter_mut().for_each(|done| done.shrink_to(ROOM));
        if let Some(exchange) = &mut home.exchange {
            exchange.shrink(ROOM);
        }
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

    /// The settings changed; `told` says whether the exchange knew of connections before.
    pub fn home_settings(&mut self, told: bool, ctx: &mut Ctx) {
        if let Some(home) = &mut self.home {
            home.dirty = true;
            let mut left = home.ensure_exchange(&self.shared, ctx);
            self.carry_out(&mut left, ctx);
        }
        // In front of the first message that the listener is asked about.
        if self.settings.tells() && !told {
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
                    self.shared.pressure.set_notice_bytes(exchange.notice_bytes());
                }
            }
            (HomeMsg::Message(conn, message), exchange) => {
                match exchange {
                    Some(exchange) => {
                        exchange.message(conn, message);
                        self.shared.pressure.message_taken(exchange.queued());
                    }
                    // The listener was taken away a moment ago.
                    None => {
                        self.shared.pressure.message_taken(0);
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
        let shared = &self.shared;
        let (busy, flushed) = match &home.exchange {
            Some(e) => {
                shared.pressure.publish(e.window_full(), e.queued(), e.notice_bytes());
                shared.metrics.queued.set(e.queued() as u64);
                (e.busy(), e.flushed())
            }
            None => (false, true),
        };
        if !busy && shared.pressure.nothing_under_way() {
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
}
