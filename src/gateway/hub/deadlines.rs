//! The deadlines of connections: time-outs, pings, and what happens when one has passed.

use crate::gateway::hub::Lent;
use crate::gateway::hub::closing::{Ending, LINGER};
use crate::gateway::hub::connection::{Connection, State};
use crate::gateway::hub::flow::{Flow, Removal, remove, stay};
use crate::gateway::hub::proxied::TOO_LATE;
use crate::gateway::io::timers::Due;
use crate::gateway::post::Verdict;
use crate::gateway::time::Millis;
use crate::ws::reason::Reason;
use crate::ws::response::Response;
use crate::ws::{close, frame};

/// How long a client that takes what waits for it, little by little, may be at it after a close, in
/// milliseconds.
const LINGER_MOST: u64 = 30_000;

/// A client that took something within this time is still at it: the kernel asks for more only when
/// a third of its own buffer has been taken.
const TOOK_LATELY: u64 = 10_000;

/// The longest time for which a stream is sent nothing, in milliseconds.
const KEEPALIVE: u64 = 15_000;

/// How often a connection that is not read is looked at at most.
const PAUSED_LOOK: u64 = 250;

/// Spreads pings, so that connections which came together are not pinged together for ever.
pub(crate) struct PingSpread(u64);

impl Default for PingSpread {
    fn default() -> PingSpread {
        PingSpread(0x9e37_79b9_7f4a_7c15)
    }
}

impl PingSpread {
    /// When the ping after this moment is due: the interval less up to a tenth of it.
    fn next(&mut self, now: Millis, interval: u64) -> Millis {
        // xorshift: any spread will do.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        now.after(interval - self.0 % (interval / 10 + 1))
    }
}

impl Connection {
    /// The earliest of its deadlines.
    fn next_deadline(&self, lent: &Lent<'_>) -> Option<Millis> {
        let idle = lent.settings.idle_timeout.as_millis() as u64;
        let idle_at = (idle > 0 && self.is_open()).then(|| self.idle_since(lent).after(idle));
        let all = [self.ping_at, self.pong_deadline, self.state_deadline, idle_at];
        all.into_iter().flatten().min()
    }

    /// The last message either way.
    pub(super) fn idle_since(&self, lent: &Lent<'_>) -> Millis {
        self.last_message.max(lent.last_broadcast())
    }

    /// Sets its timer to its next deadline, if none is set that comes before.
    pub(super) fn arm(&mut self, lent: &mut Lent<'_>) {
        let Some(mut at) = self.next_deadline(lent) else { return };
        let now = lent.ctx.now;
        if self.reading.paused.is_some() {
            at = at.max(now.after(PAUSED_LOOK));
        }
        if self.timer.is_none_or(|timer| at < timer) {
            let due = Due { gateway: lent.shared.slot.index, slot: lent.slot, conn: self.id };
            self.timer = Some(lent.ctx.timers.set(at, now, due));
        }
    }

    /// A timer that was set to `at` went off.
    pub(super) fn timer_fired(&mut self, at: Millis, lent: &mut Lent<'_>) -> Flow {
        if self.timer != Some(at) {
            return stay();
        }
        self.timer = None;
        let now = lent.ctx.now;
        if self.state_deadline.is_some_and(|deadline| deadline <= now) {
            self.state_deadline = None;
            self.state_lasted_too_long(lent)?;
        } else if self.is_open() {
            self.look_at_clocks(lent)?;
        }
        self.arm(lent);
        stay()
    }

    fn state_lasted_too_long(&mut self, lent: &mut Lent<'_>) -> Flow {
        let now = lent.ctx.now;
        // It takes what waits for it: that is not to be destroyed.
        let taking = !self.all_out()
            && self.last_drained_at.is_some_and(|drained| now < drained.after(TOOK_LATELY))
            && now < self.last_message.after(LINGER_MOST);
        let cut = self.cuts() || lent.shared.is_stopping();
        match &self.state {
            State::Handshake(_) if self.awaits_header() => {
                return self.refuse_header(TOO_LATE, lent);
            }
            // The answer to its last request is not out yet.
            State::Handshake(_) if taking && !cut => {
                self.state_deadline = Some(now.after(LINGER));
            }
            State::Handshake(_) if !self.all_out() => return remove(Removal::Reset),
            State::Handshake(_) if self.is_between_requests() => return remove(Removal::Close),
            State::Posting(_) => return self.body_is_late(lent),
            State::Polling(_) => return self.look_again(true, lent),
            State::Handshake(_) => {
                let response = Response::text(408, "The request did not arrive in time.\n");
                return self.refuse(response, Some(Reason::Timeout), lent);
            }
            State::Closing(_) => lent.finish_later(self.id),
            State::Leaving(_) | State::Lingering { .. } if taking && !cut => {
                self.state_deadline = Some(now.after(LINGER));
            }
            State::Leaving(leaving) => {
                let removal = if leaving.reset { Removal::Reset } else { Removal::Close };
                self.announce_close(false, lent);
                return remove(removal);
            }
            State::Lingering { .. } => {
                let removal = if self.all_out() { Removal::Close } else { Removal::Reset };
                return remove(removal);
            }
            State::Open(_) => self.refuse_posts(Verdict::Behind, lent),
            State::Asking(_) | State::Posted(_) => {}
        }
        stay()
    }

    /// The clocks of an open connection: pong, idle, ping.
    fn look_at_clocks(&mut self, lent: &mut Lent<'_>) -> Flow {
        let now = lent.ctx.now;
        // While backpressure keeps it from being read, its clocks stand still; not so when it is its
        // own queue that does.
        self.account_for_pause(lent);
        let over_half = self.queue_cost() > lent.settings.max_queue / 2;
        if let Some(paused) = &mut self.reading.paused {
            paused.by_own_queue = over_half;
        }
        let stands = self.reading.paused.is_some() && !over_half;
        let pong_timeout = lent.settings.pong_timeout.as_millis() as u64;
        if let (Some(deadline), Some(drained)) = (&mut self.pong_deadline, self.last_drained_at) {
            // The ping may have waited behind what the client has only just taken.
            *deadline = (*deadline).max(drained.after(pong_timeout));
        }
        if !stands && self.pong_deadline.is_some_and(|deadline| deadline <= now) {
            tracing::info!(
                gateway = %lent.shared.id, conn = %self.id,
                "no pong within pong-timeout: closed"
            );
            return self.lost(lent);
        }
        let idle = lent.settings.idle_timeout.as_millis() as u64;
        if !stands && idle > 0 && self.idle_since(lent).after(idle) <= now {
            return self.close_now(close::IDLE, Ending::ORDERLY, lent);
        }
        if self.ping_at.is_some_and(|at| at <= now) && self.wire.form.is_stream() {
            self.set_ping(lent);
            // What waits for it will do.
            let idle = self.outbox.is_none();
            return if idle { self.send_always(self.wire.form.keepalive(), lent) } else { stay() };
        }
        if self.ping_at.is_some_and(|at| at <= now) {
            if self.pong_deadline.is_none() && pong_timeout > 0 {
                self.pong_deadline = Some(now.after(pong_timeout));
            }
            self.set_ping(lent);
            return self.send_always(frame::ping(b""), lent);
        }
        stay()
    }

    /// The client of a stream answers nothing. In place of a pong its system has to take what is sent,
    /// within the same time; else the socket fails.
    #[cfg(target_os = "linux")]
    pub(super) fn await_acknowledgements(&self, lent: &Lent<'_>) {
        let time = lent.settings.pong_timeout;
        if self.wire.form.is_stream() && !time.is_zero() {
            // It fails where there is no TCP: a lost client of such a socket is always noticed.
            let _ = socket2::SockRef::from(&self.stream.socket()).set_tcp_user_timeout(Some(time));
        }
    }

    /// Elsewhere TCP itself gives up at some time.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn await_acknowledgements(&self, _: &Lent<'_>) {}

    /// Sets when the next ping is due.
    pub(super) fn set_ping(&mut self, lent: &mut Lent<'_>) {
        let mut interval = lent.settings.ping_interval.as_millis() as u64;
        if self.wire.form.is_stream() {
            interval = if interval == 0 { KEEPALIVE } else { interval.min(KEEPALIVE) };
        }
        self.ping_at = (interval > 0).then(|| lent.pings.next(lent.ctx.now, interval));
    }
}
