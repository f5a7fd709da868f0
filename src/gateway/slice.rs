//! One gateway's connections on one shard: where they are kept, and how their lives end.
//!
//! Owned by its shard's thread; nothing here is shared. Its other parts: `opening` (handshakes),
//! `reading` (frames from clients), `fanout` (frames to clients), `clocks` (time-outs and pings),
//! `home` (acceptor and listener, on one shard of each gateway).

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use slab::Slab;
use tokio::sync::oneshot;

use super::ConnInfo;
use super::conn::{Conn, Ending, State};
use super::engine::{CloseReply, ConnRow, Delivery, HomeMsg, Msg, Shared};
use super::exchange::lines::closed_result;
use super::fanout::Fanout;
use super::home::Home;
use super::outbox::{Flush, Outbox};
use super::shard::{Ctx, Kind, token};
use crate::protocol::close::{self, Closing};
use crate::protocol::connid::ConnId;
use crate::protocol::frame;
use crate::protocol::hooks::Hook;
use crate::settings::GatewaySettings;

/// How long unanswered messages hold up a close that the client began.
const ANSWERS_WAIT: u64 = 1_000;

/// How long the client's Close is awaited once ours is out.
pub const CLOSE_WAIT: u64 = 2_000;

/// The same where the gateway stops or the client is a slow consumer.
const SHORT_WAIT: u64 = 1_000;

/// How long the client may take to close its socket when all is said, or to take some more of what
/// still waits for it.
pub const LINGER: u64 = 1_000;

/// What happens to connections in the order of deliveries.
pub enum Job {
    /// A frame goes out; the number is its place in the order.
    Frame(u64, Delivery),
    /// A connection is closed by us.
    Close(ConnId, u16, String, CloseReply),
    /// A connection's end: our part of it.
    Finish(ConnId),
    /// All are closed.
    CloseAll(u16, &'static str),
    /// One part in so many is closed.
    CloseShare(Closing, u32),
}

/// One gateway on one shard.
pub struct Slice {
    /// What is shared with the other shards.
    pub shared: Arc<Shared>,
    /// The settings as they apply now.
    pub settings: Arc<GatewaySettings>,
    /// Connections by slot.
    pub conns: Slab<Conn>,
    /// Slots by connection.
    pub by_id: HashMap<ConnId, u32>,
    /// Connections that are not read, in the order of their turns.
    pub blocked: VecDeque<(u32, ConnId)>,
    /// Connections that had more to be read than one turn reads.
    pub hungry: VecDeque<(u32, ConnId)>,
    /// What is to be sent.
    pub fanout: Fanout,
    /// Connections over half of `max-queue`.
    pub over: Vec<(u32, ConnId)>,
    /// Acceptor and listener, on the gateway's home.
    pub home: Option<Box<Home>>,
    when_empty: Vec<oneshot::Sender<()>>,
    /// Spreads the pings.
    pub jitter: u64,
}

impl Slice {
    /// A gateway without connections.
    pub fn new(shared: Arc<Shared>, ctx: &Ctx) -> Slice {
        let settings = shared.settings();
        let home = (shared.home == ctx.index).then(|| Box::new(Home::new(&shared, ctx)));
        Slice {
            shared,
            settings,
            conns: Slab::new(),
            by_id: HashMap::new(),
            blocked: VecDeque::new(),
            hungry: VecDeque::new(),
            fanout: Fanout::default(),
            over: Vec::new(),
            home,
            when_empty: Vec::new(),
            jitter: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// Whether messages go through the listener.
    pub fn asks(&self) -> bool {
        self.settings.listener.is_some() && self.settings.hooks.has(Hook::OnMessage)
    }

    /// Whether the exchange is to know of connections.
    pub fn tells(&self) -> bool {
        self.settings.listener.is_some() && !self.settings.hooks.is_none()
    }

    /// The slot of a connection.
    pub fn slot(&self, conn: ConnId) -> Option<u32> {
        self.by_id.get(&conn).copied()
    }

    /// The connection in a slot.
    pub fn conn(&mut self, slot: u32) -> Option<&mut Conn> {
        self.conns.get_mut(slot as usize)
    }

    /// Something for the home, in the order of the calls.
    pub fn tell_home(&mut self, msg: HomeMsg, ctx: &mut Ctx) {
        if self.home.is_some() {
            self.home_msg(msg, ctx);
        } else {
            ctx.core.post_home(&self.shared, msg);
        }
    }

    /// A frame for recipients, in one order on all shards.
    pub fn deliver(&mut self, delivery: Delivery, ctx: &mut Ctx) {
        if ctx.core.shards() == 1 {
            self.shared.backlog.fetch_add(1, Ordering::Relaxed);
            self.fanout.push_frame(delivery);
        } else {
            ctx.core.deliver(&self.shared, delivery);
        }
    }

    /// A connection's end, behind everything that was delivered before.
    pub fn finish_later(&mut self, conn: ConnId, ctx: &mut Ctx) {
        if ctx.core.shards() == 1 {
            self.fanout.jobs.push_back(Job::Finish(conn));
        } else {
            ctx.core.post(ctx.index, Msg::Finish(self.shared.slot, conn));
        }
    }

    // ---- reading and writing -------------------------------------------------------------

    /// Sends a control frame or a response: behind what waits already, never refused.
    pub fn send_always(&mut self, slot: u32, bytes: Bytes, ctx: &mut Ctx) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        let sent = match &conn.out {
            Some(_) => 0,
            None => match ctx.write(&mut conn.stream, &bytes) {
                Ok(n) => n,
                Err(_) => return self.lost(slot, ctx),
            },
        };
        if sent < bytes.len() {
            let out = conn.out.get_or_insert_with(|| ctx.spare());
            out.push_always(bytes, sent);
        }
    }

    /// The socket may take bytes again.
    pub fn writable(&mut self, slot: u32, ctx: &mut Ctx) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        if conn.stream.push().is_err() {
            return self.lost(slot, ctx);
        }
        if conn.out.is_none() {
            return;
        }
        if flush(conn, ctx).is_err() {
            return self.lost(slot, ctx);
        }
        self.flushed(slot, ctx);
    }

    /// After bytes left a connection's outbox.
    pub fn flushed(&mut self, slot: u32, ctx: &mut Ctx) {
        let half = self.settings.max_queue / 2;
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        if conn.over_since > 0 && conn.queue_cost() <= half {
            conn.over_since = 0;
            let id = conn.id;
            self.over.retain(|(_, over)| *over != id);
        }
        let cut = conn.ending.as_ref().is_some_and(|e| e.reset);
        if conn.out.is_none() && !cut && !self.shared.stopping.load(Ordering::Relaxed) {
            // All is on its way: what the client has to do about it takes its time from now on.
            match conn.state {
                State::Leaving => conn.state_by = ctx.now + CLOSE_WAIT,
                State::Lingering => conn.state_by = ctx.now + LINGER,
                _ => {}
            }
        }
        if conn.state == State::Lingering && conn.out.is_none() {
            self.shut(slot, ctx);
        } else {
            self.wake_reader(slot);
        }
    }

    /// A blocked connection's own limits may allow it to be read again.
    pub fn wake_reader(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        if conn.blocked && !conn.queued_up {
            conn.queued_up = true;
            let entry = (slot, conn.id);
            self.blocked.push_back(entry);
        }
    }

    // ---- ends ----------------------------------------------------------------------------

    /// The client's Close came, or it broke a rule: nothing more is handled from it.
    pub fn client_ends(
        &mut self,
        slot: u32,
        client: Option<(u16, String)>,
        ours: (Option<u16>, String),
        ctx: &mut Ctx,
    ) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        conn.partial = Vec::new();
        conn.fragments = None;
        let ending = conn.ending.get_or_insert_default();
        if client.is_some() {
            ending.client = client;
        }
        match conn.state {
            State::Open => {
                ending.ours = Some(ours);
                conn.state = State::Closing;
                conn.state_by = ctx.now + ANSWERS_WAIT;
                conn.pong_by = 0;
                conn.ping_at = 0;
                let (id, answered) = (conn.id, conn.unanswered == 0);
                if answered {
                    self.finish_later(id, ctx);
                }
                self.arm(slot, ctx);
            }
            // Both Closes are there.
            State::Leaving => {
                self.announce_close(slot, true, ctx);
                self.linger(slot, ctx);
            }
            State::Handshake | State::Asking | State::Closing | State::Lingering => {}
        }
    }

    /// Sends our Close to a connection in `Closing`: all that it was owed is in front of it.
    pub fn finish(&mut self, conn: ConnId, ctx: &mut Ctx) {
        let Some(slot) = self.slot(conn) else { return };
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        if conn.state != State::Closing {
            return;
        }
        let ending = conn.ending.get_or_insert_default();
        let (code, reason) = ending.ours.clone().unwrap_or((Some(close::NORMAL), String::new()));
        let clean = ending.client.is_some();
        let frame = frame::close(code, &reason);
        self.announce_close(slot, clean, ctx);
        self.send_always(slot, frame, ctx);
        self.linger(slot, ctx);
    }

    /// Closes a connection from our side, now.
    pub fn close_now(
        &mut self,
        slot: u32,
        (code, reason): (u16, &str),
        wait: u64,
        reset: bool,
        ctx: &mut Ctx,
    ) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        match conn.state {
            State::Open => {}
            State::Handshake | State::Asking => {
                let body = format!("{reason}\n");
                return self.refuse(slot, super::handshake::unavailable(&body), "stopping", ctx);
            }
            // Its end is under way with its own code.
            State::Closing => {
                let id = conn.id;
                return self.finish(id, ctx);
            }
            State::Leaving | State::Lingering => return,
        }
        tracing::debug!(gateway = %self.shared.id, conn = %conn.id, code, reason, "closing");
        conn.state = State::Leaving;
        conn.pong_by = 0;
        conn.ping_at = 0;
        conn.state_by = ctx.now + wait;
        conn.last_message = ctx.now;
        let unblocked = std::mem::take(&mut conn.blocked);
        conn.ending = Some(Box::new(Ending {
            client: None,
            ours: Some((Some(code), reason.to_owned())),
            reset,
        }));
        self.send_always(slot, frame::close(Some(code), reason), ctx);
        self.arm(slot, ctx);
        if unblocked {
            self.readable(slot, ctx);
        }
    }

    /// Its queue is full: what waits is thrown away.
    pub fn slow_consumer(&mut self, slot: u32, ctx: &mut Ctx) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        if let Some(out) = &mut conn.out {
            out.discard_waiting();
            if out.bytes() == 0 {
                ctx.give_back(conn.out.take());
            }
        }
        let id = conn.id;
        self.shared.metrics.slow_consumers.inc();
        tracing::warn!(
            gateway = %self.shared.id, conn = %id,
            "slow consumer: more than max-queue ({} bytes) waited for it, closed with 1008",
            self.settings.max_queue
        );
        if conn.state == State::Closing {
            // Its end is under way: cut it short.
            self.announce_close(slot, false, ctx);
            return self.drop_conn(slot, true, ctx);
        }
        self.close_now(slot, close::SLOW_CONSUMER, SHORT_WAIT, true, ctx);
        self.flushed(slot, ctx);
    }

    /// The socket failed or the client closed it without a Close.
    pub fn lost(&mut self, slot: u32, ctx: &mut Ctx) {
        self.announce_close(slot, false, ctx);
        self.drop_conn(slot, false, ctx);
    }

    /// Says that a connection is gone: to the listener, the log and the counters. Once.
    pub fn announce_close(&mut self, slot: u32, both: bool, ctx: &mut Ctx) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        if conn.info.take().is_none() {
            return;
        }
        let id = conn.id;
        let closed = conn.closed(both);
        if conn.over_since > 0 {
            conn.over_since = 0;
            self.over.retain(|(_, over)| *over != id);
        }
        let metrics = &self.shared.metrics;
        metrics.connections.sub(1);
        let ours = conn.ending.as_ref().and_then(|e| e.ours.as_ref()).and_then(|(code, _)| *code);
        // What ended it: our code where we began, else the client's.
        let label = match (conn.state, ours) {
            (State::Leaving, Some(code)) => code,
            (_, Some(code)) if closed.code == close::ABNORMAL => code,
            _ => closed.code,
        };
        metrics.closed.add(&label.to_string(), 1);
        tracing::info!(
            gateway = %self.shared.id, conn = %id, code = closed.code,
            reason = %crate::escape::escape(&closed.reason), clean = closed.clean, "closed"
        );
        if self.tells() {
            self.tell_home(HomeMsg::Closed(id, closed), ctx);
        }
    }

    /// Nothing more is said: waits for the client to close its socket.
    pub fn linger(&mut self, slot: u32, ctx: &mut Ctx) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        conn.state = State::Lingering;
        conn.state_by = ctx.now + LINGER;
        conn.last_message = ctx.now;
        let flushed = conn.out.is_none();
        self.arm(slot, ctx);
        if flushed {
            self.shut(slot, ctx);
        }
    }

    /// Half-closes a lingering connection whose bytes are all out.
    fn shut(&mut self, slot: u32, ctx: &mut Ctx) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        // It fails only where the client has closed already; reading finds that.
        let _ = conn.stream.finish();
        if conn.blocked || conn.readable || conn.eof {
            conn.blocked = false;
            self.readable(slot, ctx);
        }
    }

    /// Closes the socket and forgets the connection.
    pub fn drop_conn(&mut self, slot: u32, reset: bool, ctx: &mut Ctx) {
        let Some(mut conn) = self.conns.try_remove(slot as usize) else { return };
        self.by_id.remove(&conn.id);
        if let Some(ip) = conn.counted_ip.take() {
            self.uncount_ip(*ip);
        }
        if conn.over_since > 0 {
            self.over.retain(|(_, over)| *over != conn.id);
        }
        ctx.give_back(conn.out.take());
        if reset {
            // SO_LINGER 0: the close sends RST, and the kernel's buffer is free at once.
            let _ = socket2::SockRef::from(&*conn.stream.tcp())
                .set_linger(Some(std::time::Duration::ZERO));
        } else {
            conn.stream.farewell();
        }
        // Closing the socket takes it out of epoll.
        drop(conn);
        ctx.core.give_socket();
        if self.conns.is_empty() {
            // A crowd that left gives its memory back.
            ctx.crowd_left(self.conns.capacity());
            self.conns = Slab::new();
            self.by_id = HashMap::new();
            self.blocked = VecDeque::new();
            self.hungry = VecDeque::new();
            for waiting in self.when_empty.drain(..) {
                let _ = waiting.send(());
            }
        }
    }

    // ---- from the control runtime and the other shards -----------------------------------

    /// Messages of a connection are through.
    pub fn done(&mut self, conn: ConnId, bytes: usize, ctx: &mut Ctx) {
        let Some(slot) = self.slot(conn) else { return };
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        conn.unanswered = conn.unanswered.saturating_sub(1);
        conn.unanswered_bytes = conn.unanswered_bytes.saturating_sub(bytes);
        if conn.state == State::Closing && conn.unanswered == 0 {
            let id = conn.id;
            self.finish_later(id, ctx);
        } else {
            self.wake_reader(slot);
        }
    }

    /// Carries out a close that was asked for, in its place in the order.
    pub fn close_asked(
        &mut self,
        conn: ConnId,
        (code, reason): (u16, &str),
        reply: CloseReply,
        ctx: &mut Ctx,
    ) {
        let slot = self.slot(conn);
        let slot = slot.filter(|slot| {
            self.conns.get(*slot as usize).is_some_and(|c| c.receives() && c.info.is_some())
        });
        match reply {
            CloseReply::None => {}
            CloseReply::Listener(reference) => {
                let closed = slot.map(|_| ()).ok_or("no such connection");
                let line = closed_result(&reference, closed);
                self.tell_home(HomeMsg::Result(line), ctx);
            }
            CloseReply::Control(sender) => {
                let row = slot.and_then(|slot| self.row(slot));
                // The requester may have gone.
                let _ = sender.send(row);
            }
        }
        match slot {
            Some(slot) => self.close_now(slot, (code, reason), CLOSE_WAIT, false, ctx),
            None => self.shared.metrics.gone.inc(),
        }
    }

    /// Closes every connection; each has a second.
    pub fn close_all(&mut self, closing: Closing, ctx: &mut Ctx) {
        let slots: Vec<u32> = self.conns.iter().map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            self.close_now(slot, closing, SHORT_WAIT, true, ctx);
        }
    }

    /// Closes one part in `parts` of the open connections; those that are owed answers come later.
    pub fn close_share(&mut self, closing: Closing, parts: u32, ctx: &mut Ctx) {
        let open = self.conns.iter().filter(|(_, c)| c.state == State::Open && c.unanswered == 0);
        // Rounded at random: a few connections are spread over many steps, too.
        let due = open.clone().count() as f64 / f64::from(parts.max(1)) + fastrand::f64();
        for slot in fastrand::choose_multiple(open.map(|(slot, _)| slot as u32), due as usize) {
            self.close_now(slot, closing, SHORT_WAIT, true, ctx);
        }
    }

    /// Cuts every connection.
    pub fn cut_all(&mut self, ctx: &mut Ctx) {
        let slots: Vec<u32> = self.conns.iter().map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            self.announce_close(slot, false, ctx);
            self.drop_conn(slot, true, ctx);
        }
    }

    fn row(&self, slot: u32) -> Option<ConnRow> {
        let conn = self.conns.get(slot as usize)?;
        Some(ConnRow { info: Arc::clone(conn.info.as_ref()?), queued: conn.queued() })
    }

    /// Open connections: all, or one.
    pub fn list(&self, one: Option<ConnId>) -> Vec<ConnRow> {
        match one {
            Some(conn) => self.slot(conn).and_then(|slot| self.row(slot)).into_iter().collect(),
            None => self.conns.iter().filter_map(|(slot, _)| self.row(slot as u32)).collect(),
        }
    }

    /// Tells when no connection is left.
    pub fn when_empty(&mut self, sender: oneshot::Sender<()>) {
        if self.conns.is_empty() {
            let _ = sender.send(());
        } else {
            self.when_empty.push(sender);
        }
    }

    /// Tells the home of every open connection: its listener begins to be told of them.
    pub fn announce(&mut self, ctx: &mut Ctx) {
        let mut infos: Vec<Arc<ConnInfo>> =
            self.conns.iter().filter_map(|(_, c)| c.info.clone()).collect();
        infos.sort_unstable_by_key(|info| info.id);
        for info in infos {
            self.tell_home(HomeMsg::Opened(info), ctx);
        }
    }

    // ---- settings -------------------------------------------------------------------------

    /// The settings changed.
    pub fn set_settings(&mut self, ctx: &mut Ctx) {
        let old = std::mem::replace(&mut self.settings, self.shared.settings());
        let told = old.listener.is_some() && !old.hooks.is_none();
        if old.max_connections_per_ip == 0 && self.settings.max_connections_per_ip > 0 {
            self.count_open_ips();
        }
        if old.ping_interval != self.settings.ping_interval
            || old.idle_timeout != self.settings.idle_timeout
        {
            let slots: Vec<u32> = self.conns.iter().map(|(slot, _)| slot as u32).collect();
            for slot in slots {
                if self.conns.get(slot as usize).is_some_and(|c| c.state == State::Open) {
                    self.set_ping(slot, ctx.now);
                    self.arm(slot, ctx);
                }
            }
        }
        self.home_settings(told, ctx);
    }

    /// The token of a connection's events.
    pub fn conn_token(&self, slot: u32) -> mio::Token {
        token(self.shared.slot, Kind::Conn, slot)
    }
}

/// Writes what the socket takes of a connection's outbox; an empty one goes back to the spares.
///
/// # Errors
/// The connection's end.
pub fn flush(conn: &mut Conn, ctx: &mut Ctx) -> io::Result<()> {
    let Some(out) = &mut conn.out else { return Ok(()) };
    match out.flush(&mut conn.stream) {
        Ok(Flush::Empty) => {
            conn.took_at = ctx.now;
            ctx.give_back(conn.out.take());
            Ok(())
        }
        Ok(Flush::Full(took)) => {
            if took {
                conn.took_at = ctx.now;
            }
            Ok(())
        }
        Err(e) => Err(e),
    }
}

/// An empty outbox.
pub fn empty_outbox() -> Box<Outbox> {
    Box::new(Outbox::default())
}
