//! How connections end: the client closes, the gateway does, or the socket fails.
//!
//! Part of a slice, on its shard's thread. An end has its place in the order of deliveries: what a
//! connection was owed is in front of our Close. The listener, the log and the counters hear of it
//! once (`announce_close`); after that, nothing but the socket is left.

use crate::gateway::engine::{CloseReply, HomeMsg};
use crate::gateway::hub::Slice;
use crate::gateway::hub::connection::{Ending, State};
use crate::gateway::shard::Ctx;
use crate::listener::exchange::incoming::closed_result;
use crate::listener::protocol::connid::ConnId;
use crate::ws::close;
use crate::ws::close::Closing;
use crate::ws::frame;
use crate::ws::response::Response;

/// How long unanswered messages hold up a close that the client began.
const ANSWERS_WAIT: u64 = 1_000;

/// How long the client's Close is awaited once ours is out.
pub const CLOSE_WAIT: u64 = 2_000;

/// The same where the gateway stops or the client is a slow consumer.
const SHORT_WAIT: u64 = 1_000;

/// How long the client may take to close its socket when all is said, or to take some more of what
/// still waits for it.
pub const LINGER: u64 = 1_000;

impl Slice {
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
                let response = Response::text(503, format!("{reason}\n"));
                return self.refuse(slot, response, "stopping", ctx);
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

    /// The socket takes nothing more. A client that resets the connection may have said something
    /// before, which still lies in our kernel: that is read and handled, then it is lost.
    pub fn write_failed(&mut self, slot: u32, ctx: &mut Ctx) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        if conn.state != State::Open {
            return self.lost(slot, ctx);
        }
        if std::mem::replace(&mut conn.broken, true) {
            return;
        }
        ctx.give_back(conn.out.take());
        conn.readable = true;
        if !std::mem::replace(&mut conn.hungry, true) {
            self.hungry.push_back((slot, conn.id));
        }
        // Its own queue does not keep it from being read any more.
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
        self.shared.occupancy.closed();
        metrics.connections.sub(1);
        let ours = conn.ending.as_ref().and_then(|e| e.ours.as_ref()).and_then(|(code, _)| *code);
        // What ended it: our code where we began, else the client's.
        let label = match (conn.state, ours) {
            (State::Leaving, Some(code)) => code,
            (_, Some(code)) if closed.code == close::ABNORMAL => code,
            _ => closed.code,
        };
        metrics.closed.add(label);
        tracing::info!(
            gateway = %self.shared.id, conn = %id, code = closed.code,
            reason = %crate::text::escape::escape(&closed.reason), clean = closed.clean, "closed"
        );
        if self.settings.tells() {
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
    pub(super) fn shut(&mut self, slot: u32, ctx: &mut Ctx) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        // It fails only where the client has closed already; reading finds that.
        let _ = conn.stream.finish();
        if conn.blocked || conn.readable || conn.eof {
            conn.blocked = false;
            self.readable(slot, ctx);
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
            None => self.shared.metrics.listener.gone.inc(),
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
}
