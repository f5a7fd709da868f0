//! How connections end: the client closes, the gateway does, or the socket fails.
//!
//! Our Close is an operation in the order of deliveries: what a connection was owed is in front of
//! it. The listener, the log and the counters hear of the end once
//! ([`Connection::announce_close`]); after that, nothing but the socket is left.

use std::sync::Arc;

use crate::config::hooks::Hook;
use crate::gateway::context::Context;
use crate::gateway::hub::connection::{Closing as ClosingState, Connection, Leaving, State};
use crate::gateway::hub::flow::{Flow, Removal, remove, stay};
use crate::gateway::hub::{Hub, Lent};
use crate::gateway::msg::PrimaryMsg;
use crate::listener::connection::Closed;
use crate::listener::exchange::incoming::closed_result;
use crate::listener::op::CloseReply;
use crate::listener::protocol::connid::ConnId;
use crate::text::escape::escape;
use crate::ws::close::Closing;
use crate::ws::reason::Reason;
use crate::ws::response::Response;
use crate::ws::{close, frame};

/// How long unanswered messages hold up a close that the client began, in milliseconds.
const ANSWERS_WAIT: u64 = 1_000;

/// How long the client's Close is awaited once ours is out.
pub(super) const CLOSE_WAIT: u64 = 2_000;

/// The same where the gateway stops or the client is a slow consumer.
pub(super) const SHORT_WAIT: u64 = 1_000;

/// How long the client may take to close its socket when all is said, or to take some more of what
/// still waits for it.
pub(super) const LINGER: u64 = 1_000;

/// How we close a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    /// How long the client's Close is awaited, in milliseconds.
    pub wait: u64,
    /// Reset the socket when the time is up.
    pub reset: bool,
}

impl Ending {
    /// The client has its time.
    pub(super) const ORDERLY: Ending = Ending { wait: CLOSE_WAIT, reset: false };
    /// The gateway stops, or the client is a slow consumer.
    pub(super) const SHORT: Ending = Ending { wait: SHORT_WAIT, reset: true };
}

impl Connection {
    /// The client's Close came, or it broke a rule: nothing more is handled from it.
    pub(super) fn client_ends(
        &mut self,
        client: Option<(u16, String)>,
        ours: (Option<u16>, String),
        lent: &mut Lent<'_>,
    ) -> Flow {
        self.partial = Vec::new();
        self.fragments = None;
        match &self.state {
            State::Open(info) => {
                let info = Arc::clone(info);
                self.state = State::Closing(Box::new(ClosingState { info, client, ours }));
                self.state_deadline = Some(lent.ctx.now.after(ANSWERS_WAIT));
                self.pong_deadline = None;
                self.ping_at = None;
                if self.unanswered == 0 {
                    lent.finish_later(self.id);
                }
                self.arm(lent);
                stay()
            }
            // Both Closes are there.
            State::Leaving(leaving) => {
                let reset = leaving.reset;
                self.announce_close_by(client, true, lent);
                self.linger(reset, lent)
            }
            State::Handshake(_)
            | State::Asking(_)
            | State::Posting(_)
            | State::Posted(_)
            | State::Polling(_)
            | State::Closing(_)
            | State::Lingering { .. } => stay(),
        }
    }

    /// Sends our Close to a connection that its client ended: all that it was owed is in front of it.
    pub(super) fn finish(&mut self, lent: &mut Lent<'_>) -> Flow {
        let State::Closing(closing) = &self.state else { return stay() };
        let clean = closing.client.is_some();
        let (code, reason) = &closing.ours;
        let frame = frame::close(*code, reason);
        self.announce_close(clean, lent);
        self.send_always(frame, lent)?;
        self.linger(false, lent)
    }

    /// Closes a connection from our side, now.
    pub(super) fn close_now(
        &mut self,
        (code, reason): (u16, &str),
        ending: Ending,
        lent: &mut Lent<'_>,
    ) -> Flow {
        let info = match &self.state {
            State::Open(_) if self.wire.form.is_stream() => {
                return self.end_stream((code, reason), true, ending.reset, lent);
            }
            State::Open(info) => Arc::clone(info),
            _ if self.is_between_requests() && self.all_out() => return remove(Removal::Close),
            // The answer to its last request is still on its way.
            _ if self.is_between_requests() => return self.linger(false, lent),
            State::Polling(_) => return self.end_poll(lent),
            // The shard of the stream answers.
            State::Posted(_) => return stay(),
            State::Posting(_) => return self.end_body(lent),
            State::Handshake(_) => {
                let response = Response::text(503, format!("{reason}\n"));
                return self.refuse(response, Some(Reason::Stopping), lent);
            }
            State::Asking(asking) => {
                let response = Response::text(503, format!("{reason}\n"));
                return self.refuse(asking.admitted.answer(response), Some(Reason::Stopping), lent);
            }
            // Its end is under way with its own code.
            State::Closing(_) => return self.finish(lent),
            State::Leaving(_) | State::Lingering { .. } => return stay(),
        };
        tracing::debug!(gateway = %lent.shared.id, conn = %self.id, code, reason, "closing");
        self.leave_all(lent);
        let Ending { wait, reset } = ending;
        self.state = State::Leaving(Box::new(Leaving { info, code, reset }));
        self.state_deadline = Some(lent.ctx.now.after(wait));
        self.pong_deadline = None;
        self.ping_at = None;
        self.last_message = lent.ctx.now;
        if self.reading.paused.take().is_some() {
            // What it says from now on is thrown away, so it is read whatever the pressure.
            self.enter_read_queue(lent);
        }
        self.send_always(frame::close(Some(code), reason), lent)?;
        self.arm(lent);
        stay()
    }

    /// Ends a stream from our side. Its client has nothing to say to that, so this is the end that
    /// the listener is told of.
    fn end_stream(
        &mut self,
        (code, reason): (u16, &str),
        clean: bool,
        reset: bool,
        lent: &mut Lent<'_>,
    ) -> Flow {
        let closed = Closed { code, reason: close::cut_reason(reason).to_owned(), clean };
        self.told_end(closed, code, lent);
        self.pong_deadline = None;
        self.ping_at = None;
        let bytes = self.wire.form.close(code, reason);
        if !bytes.is_empty() {
            self.send_always(bytes, lent)?;
        }
        self.linger(reset, lent)
    }

    /// Its queue is full: what waits is thrown away.
    pub(super) fn slow_consumer(&mut self, lent: &mut Lent<'_>) -> Flow {
        if let Some(outbox) = &mut self.outbox {
            outbox.discard_waiting();
            if outbox.bytes() == 0 {
                lent.ctx.give_back(self.outbox.take());
            }
        }
        lent.shared.metrics.slow_consumers.inc();
        tracing::warn!(
            gateway = %lent.shared.id, conn = %self.id,
            "slow consumer: more than max-queue ({} bytes) waited for it, closed with 1008",
            lent.settings.max_queue
        );
        if matches!(self.state, State::Closing(_)) {
            // Its end is under way: cut it short.
            self.announce_close(false, lent);
            return remove(Removal::Reset);
        }
        if self.wire.form.is_stream() && self.is_open() {
            self.end_stream(close::SLOW_CONSUMER, false, true, lent)?;
        } else {
            self.close_now(close::SLOW_CONSUMER, Ending::SHORT, lent)?;
        }
        self.flushed(lent)
    }

    /// The socket takes nothing more. A client that resets the connection may have said something
    /// before, which still lies in our kernel: that is read and handled, then it is lost.
    pub(super) fn write_failed(&mut self, lent: &mut Lent<'_>) -> Flow {
        if !self.is_open() {
            return self.lost(lent);
        }
        if std::mem::replace(&mut self.broken, true) {
            return stay();
        }
        lent.ctx.give_back(self.outbox.take());
        self.reading.readable = true;
        self.enter_read_queue(lent);
        // Its own queue does not keep it from being read any more.
        self.flushed(lent)
    }

    /// The socket failed or the client closed it without a Close.
    pub(super) fn lost(&mut self, lent: &mut Lent<'_>) -> Flow {
        self.announce_close(false, lent);
        remove(Removal::Close)
    }

    /// Says that a connection is gone: to the listener, the log and the counters. Once. `both` says
    /// whether both sides sent a Close.
    pub(super) fn announce_close(&mut self, both: bool, lent: &mut Lent<'_>) {
        let client = match &mut self.state {
            State::Closing(closing) => closing.client.take(),
            _ => None,
        };
        self.announce_close_by(client, both, lent);
    }

    fn announce_close_by(
        &mut self,
        client: Option<(u16, String)>,
        both: bool,
        lent: &mut Lent<'_>,
    ) {
        // What ended it: our code where we began or it broke a rule, else the client's.
        let ours = match &self.state {
            State::Open(_) => None,
            State::Closing(closing) if client.is_none() => closing.ours.0,
            State::Closing(_) => None,
            State::Leaving(leaving) => Some(leaving.code),
            State::Handshake(_)
            | State::Asking(_)
            | State::Posting(_)
            | State::Posted(_)
            | State::Polling(_)
            | State::Lingering { .. } => return,
        };
        let clean = both && client.is_some();
        let (code, reason) = client.unwrap_or((close::ABNORMAL, String::new()));
        self.told_end(Closed { code, reason, clean }, ours.unwrap_or(code), lent);
    }

    /// Carries out what an end is beside the socket. `counted` is the code that the metrics show.
    fn told_end(&mut self, closed: Closed, counted: u16, lent: &mut Lent<'_>) {
        self.end_posts(lent);
        self.leave_all(lent);
        // From here on it has no request any more, so this happens once.
        self.state = State::Lingering { reset: false };
        self.over_half_since = None;
        lent.shared.occupancy.closed();
        let metrics = &lent.shared.metrics;
        metrics.connections.sub(1);
        metrics.closed.add(counted);
        tracing::info!(
            gateway = %lent.shared.id, conn = %self.id, code = closed.code,
            reason = %escape(&closed.reason), clean = closed.clean, "closed"
        );
        if lent.settings.tells() {
            let msg = PrimaryMsg::Closed(self.id, closed);
            // Behind its leaves.
            match lent.settings.asks(Hook::OnLeave) || lent.settings.asks(Hook::OnJoin) {
                true => lent.tell_primary_in_turn(msg),
                false => lent.tell_primary(msg),
            }
        }
    }

    /// Nothing more is said: waits for the client to close its socket.
    pub(super) fn linger(&mut self, reset: bool, lent: &mut Lent<'_>) -> Flow {
        self.state = State::Lingering { reset };
        self.state_deadline = Some(lent.ctx.now.after(LINGER));
        self.last_message = lent.ctx.now;
        self.arm(lent);
        if self.outbox.is_none() {
            self.half_close(lent);
        }
        stay()
    }

    /// Half-closes a lingering connection whose bytes are all out.
    fn half_close(&mut self, lent: &mut Lent<'_>) {
        // It fails only where the client has closed already; reading finds that.
        let _ = self.stream.finish();
        let paused = self.reading.paused.take().is_some();
        if paused || self.reading.readable || self.reading.peer_closed {
            self.enter_read_queue(lent);
        }
    }

    /// After bytes left its outbox.
    pub(super) fn flushed(&mut self, lent: &mut Lent<'_>) -> Flow {
        if self.queue_cost() <= lent.settings.max_queue / 2 {
            self.over_half_since = None;
            if let Some(paused) = self.reading.paused.as_mut().filter(|paused| paused.by_own_queue)
            {
                // What keeps it from being read from now on is not its own doing.
                paused.by_own_queue = false;
                paused.since = lent.ctx.now;
            }
        }
        if self.all_out() && !self.cuts() && !lent.shared.is_stopping() {
            // All is on its way: what the client has to do about it takes its time from now on.
            match &self.state {
                State::Leaving(_) => self.state_deadline = Some(lent.ctx.now.after(CLOSE_WAIT)),
                State::Lingering { .. } => self.state_deadline = Some(lent.ctx.now.after(LINGER)),
                _ => {}
            }
        }
        if matches!(self.state, State::Lingering { .. }) && self.outbox.is_none() {
            self.half_close(lent);
        } else if matches!(self.state, State::Handshake(_)) && self.outbox.is_none() {
            self.answered(lent);
        } else {
            self.enter_resume_queue(lent);
        }
        stay()
    }

    /// A message of it is settled: answered, dropped, or sent.
    pub(super) fn settled(&mut self, bytes: usize, lent: &mut Lent<'_>) -> Flow {
        self.unanswered = self.unanswered.saturating_sub(1);
        self.unanswered_bytes = self.unanswered_bytes.saturating_sub(bytes);
        if matches!(self.state, State::Closing(_)) && self.unanswered == 0 {
            lent.finish_later(self.id);
        } else {
            self.enter_resume_queue(lent);
        }
        stay()
    }

    /// Cut at once: the listener is told, the socket is reset.
    pub(super) fn cut(&mut self, lent: &mut Lent<'_>) -> Flow {
        self.announce_close(false, lent);
        remove(Removal::Reset)
    }

    /// Whether it is reset when its time is up.
    pub(super) fn cuts(&self) -> bool {
        match &self.state {
            State::Leaving(leaving) => leaving.reset,
            State::Lingering { reset } => *reset,
            _ => false,
        }
    }
}

impl Hub {
    /// Carries out a close that was asked for, in its place in the order.
    pub(super) fn close_asked(
        &mut self,
        conn: ConnId,
        closing: (u16, &str),
        reply: CloseReply,
        ctx: &mut Context,
    ) {
        let slot = self.conns.slot(conn);
        let slot = slot.filter(|slot| self.conns.get(*slot).is_some_and(Connection::receives));
        if slot.is_none() {
            self.shared.metrics.listener.gone.inc();
        }
        match reply {
            CloseReply::None => {}
            CloseReply::Listener(reference) => {
                let closed = slot.map(|_| ()).ok_or("no such connection");
                self.tell_primary(PrimaryMsg::Result(closed_result(&reference, closed)), ctx);
            }
            CloseReply::Node(tell) => tell(slot.is_some()),
            CloseReply::Control(sender) => {
                let row = slot.and_then(|slot| self.row(slot));
                // The requester may have gone.
                let _ = sender.send(row);
            }
        }
        if let Some(slot) = slot {
            self.with(slot, ctx, |conn, lent| conn.close_now(closing, Ending::ORDERLY, lent));
        }
    }

    /// Closes one part in `parts` of the open connections; those that are owed answers come later.
    pub(super) fn close_share(&mut self, closing: Closing, parts: u32, ctx: &mut Context) {
        let open = self.conns.iter().filter(|(_, conn)| conn.is_open() && conn.unanswered == 0);
        // Rounded at random: a few connections are spread over many steps, too.
        let due = open.clone().count() as f64 / f64::from(parts.max(1)) + fastrand::f64();
        let chosen = fastrand::choose_multiple(open.map(|(slot, _)| slot), due as usize);
        for slot in chosen {
            self.with(slot, ctx, |conn, lent| conn.close_now(closing, Ending::SHORT, lent));
        }
    }
}
