//! One gateway's connections on one shard: where they are kept, and what is written to them.
//!
//! Owned by its shard's thread; nothing here is shared. Its other parts: `opening` (handshakes),
//! `reading` (frames from clients), `fanout` (frames to clients), `clocks` (time-outs and pings),
//! `closing` (how connections end), `home` (acceptor and listener, on one shard of each gateway).

pub mod admission;
pub mod burst;
pub mod closing;
pub mod connection;
pub mod deadlines;
pub mod fanout;
pub mod opening;
pub mod read;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use slab::Slab;
use tokio::sync::oneshot;

use crate::config::settings::GatewaySettings;
use crate::gateway::engine::{CloseReply, ConnRow, Delivery, HomeMsg, Msg, Shared};
use crate::gateway::hub::closing::{CLOSE_WAIT, LINGER};
use crate::gateway::hub::connection::{Conn, State};
use crate::gateway::hub::fanout::Fanout;
use crate::gateway::io::outbox::{Flush, Outbox};
use crate::gateway::primary::Home;
use crate::gateway::shard::{Ctx, Kind, token};
use crate::listener::connection::ConnInfo;
use crate::listener::protocol::connid::ConnId;
use crate::ws::close::Closing;

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
            self.shared.pressure.frames_added(1);
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
        if conn.broken {
            return;
        }
        let sent = match &conn.out {
            Some(_) => 0,
            None => match ctx.write(&mut conn.stream, &bytes) {
                Ok(n) => n,
                Err(_) => return self.write_failed(slot, ctx),
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
        let held = conn.stream.holds();
        if conn.stream.push().is_err() {
            return self.write_failed(slot, ctx);
        }
        if held {
            conn.took_at = ctx.now;
        }
        if conn.out.is_none() {
            // What the record layer held may be all that an end waited for.
            if held {
                self.flushed(slot, ctx);
            }
            return;
        }
        if flush(conn, ctx).is_err() {
            return self.write_failed(slot, ctx);
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
        if conn.all_out() && !cut && !self.shared.stopping.load(Ordering::Relaxed) {
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

    // ---- forgetting ----------------------------------------------------------------------

    /// Closes the socket and forgets the connection.
    pub fn drop_conn(&mut self, slot: u32, reset: bool, ctx: &mut Ctx) {
        let Some(mut conn) = self.conns.try_remove(slot as usize) else { return };
        self.by_id.remove(&conn.id);
        if let Some(ip) = conn.counted_ip.take() {
            self.shared.occupancy.uncount(*ip);
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

    /// A connection as it is listed; none before its 101, nor after its end.
    pub(super) fn row(&self, slot: u32) -> Option<ConnRow> {
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
        let told = old.tells();
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
