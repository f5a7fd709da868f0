//! One gateway's connections on one shard: where they are kept, and what happens to them.
//!
//! Owned by its shard's thread; nothing here is shared. The parts, each with its own data:
//! `connections` (all of them, by slot), `fanout` and `burst` (frames to clients), `slow_readers`
//! (who holds producers up), and the primary, which is on one shard of each gateway. What one
//! connection does is in `opening` (handshakes), `read` (frames from clients), `closing` (how it
//! ends) and `deadlines` (time-outs and pings).
//!
//! A connection is changed in one place alone, [`Hub::with`]: it is lent the rest of the hub, and
//! says whether it stays.

pub mod admission;
mod answering;
mod broadcast;
mod burst;
mod closing;
mod connection;
mod connections;
mod deadlines;
mod effects;
mod fanout;
mod flow;
mod headers;
mod hot;
mod http;
mod joining;
mod listing;
mod opening;
mod polling;
mod polls;
mod post_head;
mod posting;
mod proxied;
mod read;
mod requests;
mod rooms;
mod sending;
mod settings;
mod slow_readers;
mod streams;
mod taking;
mod wishes;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use mio::event::Event;
use tokio::sync::oneshot;

use crate::config::settings::GatewaySettings;
use crate::gateway::context::{Context, Kind};
use crate::gateway::hub::connection::Connection;
use crate::gateway::hub::connections::Connections;
use crate::gateway::hub::deadlines::PingSpread;
use crate::gateway::hub::fanout::Fanout;
use crate::gateway::hub::flow::{Flow, Removal, stay};
use crate::gateway::hub::polls::Polls;
use crate::gateway::hub::rooms::Rooms;
use crate::gateway::hub::slow_readers::SlowReaders;
use crate::gateway::hub::taking::Taking;
use crate::gateway::io::timers::Due;
use crate::gateway::msg::{HubMsg, PrimaryMsg};
use crate::gateway::pressure::Gate;
use crate::gateway::primary::Primary;
use crate::gateway::relay::Held;
use crate::gateway::shared::{GatewaySlot, Shared};
use crate::gateway::time::Millis;
use crate::gateway::wire::Wires;
use crate::listener::op::{Delivery, Op};
use crate::listener::protocol::connid::ConnId;

/// Sends of one gateway before the event loop has its turn.
const SENDS: usize = 1024;

/// The same while somebody is on the way in, who waits half as long then. Not always: bursts would
/// cost a tenth more.
const SENDS_IN_A_HURRY: usize = 256;

/// One gateway on one shard.
pub(crate) struct Hub {
    shared: Arc<Shared>,
    settings: Arc<GatewaySettings>,
    conns: Connections,
    queues: ReadQueues,
    fanout: Fanout,
    slow_readers: SlowReaders,
    rooms: Rooms,
    /// Polls that wait.
    polls: Polls,
    /// Bodies for streams that may not be read.
    taking: Taking,
    /// What open connections get, bare bodies aside.
    wires: Wires,
    /// Acceptor and listener, on the gateway's primary.
    primary: Option<Box<Primary>>,
    pings: PingSpread,
    when_empty: Vec<oneshot::Sender<()>>,
}

/// Connections that wait to be read, in the order of their turns.
#[derive(Default)]
pub(crate) struct ReadQueues {
    /// Not read because of backpressure.
    resume: VecDeque<(u32, ConnId)>,
    /// Had more to be read than one turn reads.
    read: VecDeque<(u32, ConnId)>,
}

/// What a connection is lent while it acts: the rest of its hub and of its shard.
pub(crate) struct Lent<'a> {
    slot: u32,
    ctx: &'a mut Context,
    shared: &'a Arc<Shared>,
    settings: &'a GatewaySettings,
    queues: &'a mut ReadQueues,
    fanout: &'a mut Fanout,
    slow_readers: &'a mut SlowReaders,
    rooms: &'a mut Rooms,
    polls: &'a mut Polls,
    taking: &'a mut Taking,
    wires: &'a mut Wires,
    primary: Option<&'a mut Primary>,
    pings: &'a mut PingSpread,
}

impl Lent<'_> {
    /// Something for the primary, in the order of the calls.
    fn tell_primary(&mut self, msg: PrimaryMsg) {
        match &mut self.primary {
            Some(primary) => primary.msg(msg, self.shared, self.ctx),
            None => self.ctx.core.post_primary(self.shared, msg),
        }
    }

    /// The same, behind what other shards have told before: also from the primary's own shard it goes
    /// through the inbox.
    fn tell_primary_in_turn(&mut self, msg: PrimaryMsg) {
        self.ctx.core.post_primary(self.shared, msg);
    }

    /// A message for recipients, in one order on all shards.
    fn deliver(&mut self, delivery: Delivery) {
        self.fanout.submit(Op::Deliver(delivery), self.shared, self.ctx);
    }

    /// A connection's end, behind everything that was delivered before.
    fn finish_later(&mut self, conn: ConnId) {
        self.fanout.submit(Op::Finish { conn }, self.shared, self.ctx);
    }

    /// The last broadcast that went to all alike.
    fn last_broadcast(&self) -> Millis {
        self.fanout.last_broadcast()
    }
}

/// What the settings say about the gate that clients are read through.
fn gate(settings: &GatewaySettings) -> Gate {
    Gate { window: settings.hands_over_messages().then_some(settings.window) }
}

/// Whether backpressure allows clients to be read at all.
fn may_read(shared: &Shared, settings: &GatewaySettings) -> bool {
    shared.is_stopping() || shared.pressure.may_read(gate(settings))
}

impl Hub {
    /// A gateway without connections.
    pub(super) fn new(shared: Arc<Shared>, ctx: &Context) -> Hub {
        let settings = shared.settings();
        let primary = (shared.primary == ctx.index).then(|| Box::new(Primary::new(&shared, ctx)));
        Hub {
            shared,
            settings,
            conns: Connections::default(),
            queues: ReadQueues::default(),
            fanout: Fanout::default(),
            slow_readers: SlowReaders::default(),
            rooms: Rooms::default(),
            polls: Polls::default(),
            taking: Taking::default(),
            wires: Wires::default(),
            primary,
            pings: PingSpread::default(),
            when_empty: Vec::new(),
        }
    }

    /// Whether this is the gateway of that place and generation.
    pub(super) fn is(&self, slot: GatewaySlot) -> bool {
        self.shared.slot == slot
    }

    /// Lets the connection in a slot act, and carries out its end if that is what comes of it.
    fn with(
        &mut self,
        slot: u32,
        ctx: &mut Context,
        act: impl FnOnce(&mut Connection, &mut Lent<'_>) -> Flow,
    ) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let mut lent = Lent {
            slot,
            ctx,
            shared: &self.shared,
            settings: &self.settings,
            queues: &mut self.queues,
            fanout: &mut self.fanout,
            slow_readers: &mut self.slow_readers,
            rooms: &mut self.rooms,
            polls: &mut self.polls,
            taking: &mut self.taking,
            wires: &mut self.wires,
            primary: self.primary.as_deref_mut(),
            pings: &mut self.pings,
        };
        match act(conn, &mut lent) {
            Flow::Continue(()) => self.conns.refresh(slot),
            Flow::Break(removal) => self.remove(slot, removal, ctx),
        }
    }

    /// The same, if the slot still holds that connection.
    fn with_conn(
        &mut self,
        (slot, id): (u32, ConnId),
        ctx: &mut Context,
        act: impl FnOnce(&mut Connection, &mut Lent<'_>) -> Flow,
    ) {
        if self.conns.get(slot).is_some_and(|conn| conn.id == id) {
            self.with(slot, ctx, act);
        }
    }

    /// Closes the socket and forgets the connection.
    fn remove(&mut self, slot: u32, removal: Removal, ctx: &mut Context) {
        let Some(mut conn) = self.conns.remove(slot) else { return };
        self.polls.remove(slot, self.fanout.wakes());
        self.end_posts(slot, ctx);
        if let Some(rare) = conn.rare.take() {
            if let Some(block) = rare.counted_ip {
                self.shared.occupancy.uncount(block);
            }
            if let Some(token) = rare.post {
                self.shared.posts.remove(token);
            }
        }
        self.wires.remove(conn.wire);
        ctx.give_back(conn.outbox.take());
        match removal {
            // SO_LINGER 0: the close sends RST, and the kernel's buffer is free at once.
            Removal::Reset => {
                let socket = socket2::SockRef::from(&*conn.stream.socket_mut());
                // It fails only where the client has reset the connection already.
                let _ = socket.set_linger(Some(Duration::ZERO));
            }
            Removal::Close => conn.stream.close_notify(),
            Removal::Away => {}
        }
        match removal {
            Removal::Away => self.send_away(conn, ctx),
            Removal::Close | Removal::Reset => {
                // Closing the socket takes it out of epoll.
                drop(conn);
                ctx.core.give_socket();
            }
        }
        if self.conns.is_empty() {
            // A crowd that left gives its memory back.
            ctx.crowd_left(self.conns.forget_crowd());
            self.queues = ReadQueues::default();
            self.rooms = Rooms::default();
            for waiting in self.when_empty.drain(..) {
                // Whoever asked may have gone.
                let _ = waiting.send(());
            }
        }
    }

    // ---- events and messages -------------------------------------------------------------

    /// The kernel says something about a connection.
    pub(super) fn connection_event(&mut self, slot: u32, event: &Event, ctx: &mut Context) {
        let closed = event.is_read_closed() || event.is_error();
        let (readable, writable) = (event.is_readable() || closed, event.is_writable());
        self.with(slot, ctx, |conn, lent| {
            conn.reading.peer_closed |= closed;
            conn.reading.readable |= readable;
            if writable {
                conn.writable(lent)?;
            }
            if conn.reading.readable { conn.readable(lent) } else { stay() }
        });
    }

    /// The kernel says something about the acceptor or the listener's pipes.
    pub(super) fn primary_event(&mut self, kind: Kind, closed: bool) {
        if let Some(primary) = &mut self.primary {
            primary.event(kind, closed);
        }
    }

    /// A timer of a connection went off.
    pub(super) fn timer(&mut self, due: Due, at: Millis, ctx: &mut Context) {
        self.with_conn((due.slot, due.conn), ctx, |conn, lent| conn.timer_fired(at, lent));
    }

    /// Something from another thread.
    pub(super) fn msg(&mut self, msg: HubMsg, ctx: &mut Context) {
        match msg {
            HubMsg::Op(op) => self.fanout.push(op),
            HubMsg::Unordered(op) => {
                if let Some(op) = ctx.core.put_in_order(&self.shared, op) {
                    self.fanout.push(op);
                }
            }
            HubMsg::History(newest) => self.fanout.set_newest(newest),
            HubMsg::Remove => self.cut_all(ctx),
            HubMsg::Settings => self.set_settings(ctx),
            // Whoever asked may have gone.
            HubMsg::Sync(reply) => drop(reply.send(())),
            HubMsg::Accept(acceptor) => {
                if let Some(primary) = &mut self.primary {
                    primary.accept_on(acceptor, &self.shared, ctx);
                }
            }
            HubMsg::Socket(stream, peer, id) => self.socket(stream, peer, id, ctx),
            HubMsg::Returned(returned) => self.returned(*returned, ctx),
            HubMsg::Handshake(conn, decision) => {
                self.with_id(conn, ctx, |conn, lent| conn.decided(decision, lent));
            }
            HubMsg::Unasked(conn, message) => {
                self.with_id(conn, ctx, |conn, lent| {
                    let bytes = message.cost();
                    conn.send_unasked(message, lent);
                    conn.settled(bytes, lent)
                });
            }
            HubMsg::Settled(settled) => {
                for (conn, bytes) in settled {
                    self.with_id(conn, ctx, |conn, lent| conn.settled(bytes, lent));
                }
            }
            HubMsg::Post(post) => self.take_post(post, ctx),
            HubMsg::Posted(conn, outcome) => {
                self.with_id(conn, ctx, |conn, lent| conn.posted(outcome, lent));
            }
            // Being awake is enough: the turn looks at what waits.
            HubMsg::GateOpen => {}
            HubMsg::Primary(msg) => {
                if let Some(primary) = &mut self.primary {
                    primary.msg(msg, &self.shared, ctx);
                }
            }
            HubMsg::List(which, reply) => drop(reply.send(self.list(&which))),
            HubMsg::CutAll => self.fanout.cut(self.conns.all()),
            HubMsg::WhenEmpty(sender) if self.conns.is_empty() => drop(sender.send(())),
            HubMsg::WhenEmpty(sender) => self.when_empty.push(sender),
        }
    }

    /// Lets a connection act that is known by name.
    fn with_id(
        &mut self,
        conn: ConnId,
        ctx: &mut Context,
        act: impl FnOnce(&mut Connection, &mut Lent<'_>) -> Flow,
    ) {
        if let Some(slot) = self.conns.slot(conn) {
            self.with(slot, ctx, act);
        }
    }

    /// Something for the primary, on this shard or another.
    fn tell_primary(&mut self, msg: PrimaryMsg, ctx: &mut Context) {
        match &mut self.primary {
            Some(primary) => primary.msg(msg, &self.shared, ctx),
            None => ctx.core.post_primary(&self.shared, msg),
        }
    }

    /// Cuts every connection, for the gateway is gone.
    fn cut_all(&mut self, ctx: &mut Context) {
        for conn in self.conns.all() {
            self.with_conn(conn, ctx, Connection::cut);
        }
    }

    // ---- the turn ------------------------------------------------------------------------

    /// Does what is to be done; true if something is left to do at once.
    pub(super) fn turn(&mut self, ctx: &mut Context) -> bool {
        let held = self.hold_relay();
        let mut more = self.primary_turn(ctx);
        drop(held);
        let mut budget = if ctx.hurries() { SENDS_IN_A_HURRY } else { SENDS };
        if self.lingers(ctx) {
            budget = 0;
            more = true;
        }
        more |= self.fan_out(&mut budget, ctx);
        if self.wants_resume() {
            let held = self.hold_relay();
            self.resume(ctx);
            more |= self.primary_turn(ctx);
            drop(held);
            more |= self.fan_out(&mut budget, ctx);
        }
        more |= self.wake_polls(ctx);
        let held = self.hold_relay();
        more |= self.read_on(ctx);
        drop(held);
        // Last of all: reading on may have parked a connection, and a shard that sleeps with one has
        // to have asked to be woken.
        more |= self.wants_resume();
        // What was carried out and read has told the primary something, or gave more to send.
        more |= self.primary.as_ref().is_some_and(|p| p.wants_turn()) || !self.fanout.is_idle();
        self.note_slow_readers(ctx);
        more
    }

    /// What is handed in until this is dropped comes to other nodes together.
    pub(super) fn hold_relay(&self) -> Option<Held> {
        self.shared.hold_relay()
    }

    /// How long the shard may sleep as far as this gateway goes; `None` for ever.
    pub(super) fn timeout(&self, ctx: &Context) -> Option<Duration> {
        let primary = self.primary.as_ref().and_then(|primary| primary.deadline(ctx));
        let primary = primary.map(|at| at.saturating_duration_since(ctx.instant));
        [primary, self.slow_readers.timeout()].into_iter().flatten().min()
    }

    /// Gives back the room that a crowd of connections took.
    pub(super) fn shrink(&mut self) {
        if let Some(primary) = &mut self.primary {
            primary.shrink();
        }
    }
}
