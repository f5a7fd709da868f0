//! The primary of a gateway: what is on one of its shards alone. It accepts clients and speaks to
//! the listener.
//!
//! The exchange decides what becomes of messages; the primary moves bytes between it and the
//! listener's pipes, and collects its effects, which the hub carries out. Its parts: `accepting`
//! (clients come in) and `pipes` (the listener's stdin and stdout). All of it is owned by one
//! shard's thread; everybody else sends a [`PrimaryMsg`].

mod accepting;
mod pipes;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::api::{ApiError, ErrorCode};
use crate::config::settings::Route;
use crate::gateway::context::{Context, Kind};
use crate::gateway::io::socket::ClientSocket;
use crate::gateway::msg::{HubMsg, Msg, PrimaryMsg};
use crate::gateway::primary::accepting::Accepting;
use crate::gateway::primary::pipes::Pipes;
use crate::gateway::shared::Shared;
use crate::gateway::time::Millis;
use crate::listener::exchange::{Effect, Exchange, HandshakeDecision};
use crate::listener::op::{Delivery, Op};
use crate::listener::protocol::connid::ConnId;
use crate::listener::recipients::route_recipients;
use crate::listener::supervisor::Report;
use crate::net::address::Peer;
use crate::net::bind::BoundSocket;
use crate::ws::close;

/// Entries that tables keep room for when a crowd has left.
const ROOM: usize = 64;

/// Effects that the vector for them keeps room for.
const EFFECTS_ROOM: usize = 4096;

/// The primary of one gateway.
pub(crate) struct Primary {
    accepting: Accepting,
    pipes: Pipes,
    exchange: Option<Exchange>,
    /// The first id of the next exchange: ids are never used again, whatever a reload changes.
    next_id: u64,
    /// What is to be carried out beside the exchange's own effects, in front of them.
    effects: Vec<Effect>,
    /// Hands in result lines of commands that finish later, on another shard perhaps.
    results: Arc<dyn Fn(String) + Send + Sync>,
    /// Whether something came that the next step has to look at.
    news: bool,
    when_idle: Vec<oneshot::Sender<()>>,
    when_flushed: Vec<oneshot::Sender<()>>,
}

impl Primary {
    /// Neither acceptor nor listener yet.
    pub(super) fn new(shared: &Arc<Shared>, ctx: &Context) -> Primary {
        let core = Arc::clone(&ctx.core);
        let (slot, shard) = (shared.slot, shared.primary);
        // The engine outlives its shards; a line for a gateway that is gone is thrown away there.
        let results = move |line| {
            let msg = HubMsg::Primary(PrimaryMsg::Result(line));
            core.post(shard, Msg::Gateway(slot, msg));
        };
        let mut this = Primary {
            accepting: Accepting::default(),
            pipes: Pipes::default(),
            exchange: None,
            next_id: 1,
            effects: Vec::new(),
            results: Arc::new(results),
            news: false,
            when_idle: Vec::new(),
            when_flushed: Vec::new(),
        };
        this.ensure_exchange(shared, ctx);
        this
    }

    /// An exchange with the settings as they are now, if there is a listener; else what the last
    /// one leaves to be done.
    fn ensure_exchange(&mut self, shared: &Arc<Shared>, ctx: &Context) {
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
                exchange.set_tap(Arc::clone(&shared.tap));
                self.exchange = Some(exchange);
            }
            // The listener's last incarnation is on its way out and is let finish.
            (Some(exchange), false) if self.pipes.is_attached() => exchange.set_settings(settings),
            (Some(exchange), false) => {
                exchange.set_settings(settings);
                exchange.listener_removed();
                self.next_id = exchange.next_free_id();
                self.effects.append(&mut exchange.effects);
                self.exchange = None;
                shared.pressure.publish(false, 0, 0);
                shared.metrics.queued.set(0);
                shared.metrics.listener.unanswered.set(0);
            }
            (None, false) => {}
        }
    }

    // ---- what the hub asks ---------------------------------------------------------------

    /// Whether there is something to do now. Readiness is told once: what one turn left has to be
    /// remembered here.
    pub(super) fn wants_turn(&self) -> bool {
        self.news || self.pipes.wants_turn() || self.accepting.wants_turn()
    }

    /// The same, or something has become due.
    pub(super) fn is_due(&self, ctx: &Context) -> bool {
        self.wants_turn() || self.deadline(ctx).is_some_and(|at| at <= ctx.instant)
    }

    /// Whether something came since the last step began.
    pub(super) fn has_news(&self) -> bool {
        self.news
    }

    /// When there is something to do without an event.
    pub(super) fn deadline(&self, ctx: &Context) -> Option<Instant> {
        let at = |at: Millis| ctx.core.start + Duration::from_millis(at.get());
        let accept = self.accepting.deadline().map(at);
        let pipes = self.pipes.deadline().map(at);
        let check = self.exchange.as_ref().and_then(Exchange::next_check);
        [accept, pipes, check].into_iter().flatten().min()
    }

    /// Whether answers of the listener are on their way.
    pub(super) fn is_owed(&self) -> bool {
        self.exchange.as_ref().is_some_and(Exchange::owes)
    }

    /// Gives back the room that a crowd of connections took.
    pub(super) fn shrink(&mut self) {
        if let Some(exchange) = &mut self.exchange {
            exchange.shrink(ROOM);
        }
    }

    // ---- what it is told -----------------------------------------------------------------

    /// The kernel says something about the acceptor or the listener's pipes.
    pub(super) fn event(&mut self, kind: Kind, closed: bool) {
        self.news = true;
        match kind {
            Kind::Acceptor => self.accepting.ready(),
            Kind::Stdin => self.pipes.stdin_ready(),
            Kind::Stdout => self.pipes.stdout_ready(closed),
            Kind::Connection => {}
        }
    }

    /// Starts or stops accepting.
    pub(super) fn accept_on(
        &mut self,
        acceptor: Option<BoundSocket>,
        shared: &Shared,
        ctx: &Context,
    ) {
        self.accepting.accept_on(acceptor, shared, ctx);
        self.news = true;
    }

    /// The settings changed.
    pub(super) fn settings_changed(&mut self, shared: &Arc<Shared>, ctx: &Context) {
        self.news = true;
        self.ensure_exchange(shared, ctx);
    }

    /// A message from a shard, this one perhaps, or from the control runtime.
    pub(super) fn msg(&mut self, msg: PrimaryMsg, shared: &Arc<Shared>, ctx: &Context) {
        self.news = true;
        if self.exchange.is_none() {
            // Another shard may have heard of a new listener before this one; nothing is left over
            // of an exchange that is not there.
            self.ensure_exchange(shared, ctx);
        }
        let Some(exchange) = &mut self.exchange else { return self.msg_alone(msg, shared, ctx) };
        match msg {
            PrimaryMsg::Opened(info, channels) => {
                if !exchange.knows(info.id) {
                    exchange.opened(info, &channels);
                    shared.pressure.set_notice_bytes(exchange.notice_bytes());
                }
            }
            PrimaryMsg::Message(conn, message) => {
                exchange.message(conn, message);
                shared.pressure.message_taken(exchange.queued());
            }
            PrimaryMsg::Closed(conn, closed) => exchange.closed(conn, closed),
            PrimaryMsg::Joined(conn, channel, members) => exchange.joined(conn, channel, members),
            PrimaryMsg::Left(conn, channel, members, reason) => {
                exchange.left(conn, channel, members, reason);
            }
            PrimaryMsg::Elsewhere(conn, channel, members, left) => {
                exchange.changed_elsewhere(conn, channel, members, left);
            }
            PrimaryMsg::Ask(conn, members, offers) => {
                exchange.handshake(conn, members, offers, ctx.instant);
            }
            PrimaryMsg::Result(line) => exchange.result(line),
            PrimaryMsg::Push(ask) => exchange.push(*ask, ctx.instant),
            PrimaryMsg::Withdrawn => exchange.withdraw(),
            PrimaryMsg::DropAll(sender) => {
                let why = "the gateway is stopping";
                // Whoever asked may have gone.
                let _ = sender.send(exchange.drop_all("stop", ErrorCode::Stopping, why));
            }
            PrimaryMsg::Attach(stdin, stdout) => {
                self.pipes.attach(stdin, stdout, shared, ctx);
                exchange.attach(ctx.instant);
            }
            PrimaryMsg::Exited { wanted } => self.pipes.exited(wanted, shared, ctx),
            PrimaryMsg::CloseStdin => self.pipes.close_stdin(),
            PrimaryMsg::WhenIdle(sender) => self.when_idle.push(sender),
            PrimaryMsg::WhenFlushed(sender) => self.when_flushed.push(sender),
        }
    }

    /// The same where there is no exchange: the listener was taken away a moment ago, or there
    /// never was one.
    fn msg_alone(&mut self, msg: PrimaryMsg, shared: &Arc<Shared>, ctx: &Context) {
        match msg {
            PrimaryMsg::Message(conn, message) => {
                shared.pressure.message_taken(0);
                let route = shared.settings().route;
                if route == Route::Channels {
                    // Its shard knows the channels that it is in.
                    let msg = HubMsg::Unasked(conn, message);
                    return ctx.core.post_hub(ctx.core.shard_of(conn), shared, msg);
                }
                let bytes = message.cost();
                let to = route_recipients(route, Some(conn), &[], &[]);
                self.effects.push(Effect::Op(Op::Deliver(Delivery::new(message, to, None))));
                self.effects.push(Effect::Settled { conn, bytes });
            }
            PrimaryMsg::Ask(conn, ..) => {
                let decision = HandshakeDecision::UNCHANGED;
                self.effects.push(Effect::Handshake { conn, decision });
            }
            PrimaryMsg::Push(ask) => {
                let error = ApiError::new(ErrorCode::ListenerDown, "the gateway has no listener");
                // The requester may have gone.
                let _ = ask.reply.send(Err(error));
            }
            // The same.
            PrimaryMsg::DropAll(sender) => drop(sender.send(0)),
            PrimaryMsg::Attach(stdin, stdout) => self.pipes.attach(stdin, stdout, shared, ctx),
            PrimaryMsg::Exited { wanted } => self.pipes.exited(wanted, shared, ctx),
            PrimaryMsg::CloseStdin => self.pipes.close_stdin(),
            PrimaryMsg::WhenIdle(sender) => self.when_idle.push(sender),
            PrimaryMsg::WhenFlushed(sender) => self.when_flushed.push(sender),
            PrimaryMsg::Opened(..)
            | PrimaryMsg::Joined(..)
            | PrimaryMsg::Left(..)
            | PrimaryMsg::Elsewhere(..)
            | PrimaryMsg::Closed(..)
            | PrimaryMsg::Result(_)
            | PrimaryMsg::Withdrawn => {}
        }
    }

    // ---- its step ------------------------------------------------------------------------

    /// Reads what the listener wrote, writes what it is to be told, takes clients in. What comes of
    /// it is in [`Primary::take_effects`] and [`Primary::take_accepted`].
    pub(super) fn step(&mut self, shared: &Arc<Shared>, ctx: &mut Context) {
        self.news = false;
        if let Some(exchange) = &mut self.exchange {
            self.pipes.read_stdout(exchange, &self.results, shared, ctx);
        }
        if self.pipes.is_finished(ctx) {
            self.detach(shared, ctx);
        }
        if let Some(exchange) = &mut self.exchange {
            if exchange.check(ctx.instant) {
                shared.report(Report::Hang);
            }
            self.pipes.write_stdin(exchange, ctx);
        }
        self.accepting.accept(shared, ctx);
    }

    /// The incarnation is gone and its output handled.
    fn detach(&mut self, shared: &Arc<Shared>, ctx: &Context) {
        let wanted = self.pipes.detach();
        let Some(exchange) = &mut self.exchange else { return };
        let exit = exchange.detach(wanted, ctx.instant);
        if exit.start_clean {
            tracing::error!(
                gateway = %shared.id,
                "the listener exited again and again without a line while answers were owed: the \
                 clients are closed with 1011, it starts clean"
            );
            exchange.start_clean();
        }
        self.effects.append(&mut exchange.effects);
        if exit.start_clean {
            self.effects.push(Effect::Op(Op::CloseAll { closing: close::LISTENER_FAILED }));
        }
        // A listener that was taken away by a reload leaves no exchange behind.
        self.ensure_exchange(shared, ctx);
        // The next incarnation attaches by a message, which this shard handles after this turn: the
        // effects of this one's end are out by then.
        shared.report(Report::Drained(exit));
    }

    /// What is to be carried out, in order. The vector is to be given back for its capacity.
    pub(super) fn take_effects(&mut self) -> Vec<Effect> {
        let own = std::mem::take(&mut self.effects);
        let Some(exchange) = &mut self.exchange else { return own };
        if own.is_empty() {
            return std::mem::take(&mut exchange.effects);
        }
        let mut all = own;
        all.append(&mut exchange.effects);
        all
    }

    /// Takes the empty vector back, unless something came meanwhile.
    pub(super) fn give_back_effects(&mut self, mut effects: Vec<Effect>) {
        if let Some(exchange) = &mut self.exchange
            && exchange.effects.is_empty()
        {
            effects.shrink_to(EFFECTS_ROOM);
            exchange.effects = effects;
        }
    }

    /// Clients that came in, for this shard.
    pub(super) fn take_accepted(&mut self) -> Vec<(ClientSocket, Peer, ConnId)> {
        self.accepting.take()
    }

    /// Publishes the pressure and tells those who wait.
    pub(super) fn publish(&mut self, shared: &Shared) {
        let (busy, flushed) = match &self.exchange {
            Some(exchange) => {
                let queued = exchange.queued();
                let notice_bytes = exchange.notice_bytes();
                shared.pressure.publish(exchange.window_full(), queued, notice_bytes);
                shared.metrics.queued.set(queued as u64);
                (exchange.busy(), exchange.flushed())
            }
            None => (false, true),
        };
        if !busy && shared.pressure.nothing_under_way() {
            for sender in self.when_idle.drain(..) {
                // Whoever asked may have gone.
                let _ = sender.send(());
            }
        }
        if flushed || !self.pipes.has_stdin() {
            for sender in self.when_flushed.drain(..) {
                // The same.
                let _ = sender.send(());
            }
        }
    }
}
