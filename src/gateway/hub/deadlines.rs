//! The clocks of connections: time-outs, pings, and what happens when one has run out.

use std::sync::atomic::Ordering;

use crate::gateway::hub::Slice;
use crate::gateway::hub::closing::{CLOSE_WAIT, LINGER};
use crate::gateway::hub::connection::State;
use crate::gateway::io::timers::Due;
use crate::gateway::shard::Ctx;
use crate::ws::response::Response;
use crate::ws::{close, frame};

/// How long a client that takes what waits for it, little by little, may be at it after a close.
const LINGER_MOST: u64 = 30_000;

/// A client that took something within this time is still at it: the kernel asks for more only when a
/// third of its own buffer has been taken.
const TOOK_LATELY: u64 = 10_000;

/// How often a connection that is not read is looked at at most.
const BLOCKED_CHECK: u64 = 250;

impl Slice {
    /// Sets a connection's timer to its next deadline, if none is set that comes before.
    pub fn arm(&mut self, slot: u32, ctx: &mut Ctx) {
        let idle = self.settings.idle_timeout.as_millis() as u64;
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        let mut at = conn.next_deadline(idle);
        if at > 0 && conn.blocked {
            at = at.max(ctx.now + BLOCKED_CHECK);
        }
        if at > 0 && (conn.timer == 0 || at < conn.timer) {
            let due = Due { gateway: self.shared.slot as u32, slot, conn: conn.id };
            conn.timer = ctx.timers.set(at, ctx.now, due);
        }
    }

    /// A timer went off.
    pub fn timer(&mut self, due: Due, at: u64, ctx: &mut Ctx) {
        let now = ctx.now;
        let idle = self.settings.idle_timeout.as_millis() as u64;
        let pong_timeout = self.settings.pong_timeout.as_millis() as u64;
        let half = self.settings.max_queue / 2;
        let Some(conn) = self.conns.get_mut(due.slot as usize) else { return };
        if conn.id != due.conn || conn.timer != at {
            return;
        }
        conn.timer = 0;
        if conn.state_by > 0 && conn.state_by <= now {
            conn.state_by = 0;
            let cut = conn.ending.as_ref().is_some_and(|e| e.reset)
                || self.shared.stopping.load(Ordering::Relaxed);
            // It takes what waits for it: that is not to be destroyed.
            let taking = !conn.all_out()
                && now < conn.took_at + TOOK_LATELY
                && now < conn.last_message + LINGER_MOST;
            match conn.state {
                State::Handshake => {
                    let text = "The request did not arrive in time.\n";
                    let response = Response::text(408, text);
                    return self.refuse(due.slot, response, "timeout", ctx);
                }
                State::Closing => {
                    let id = conn.id;
                    self.finish_later(id, ctx);
                }
                State::Leaving | State::Lingering if taking && !cut => {
                    conn.state_by = now + LINGER;
                }
                State::Leaving => {
                    let reset = conn.ending.as_ref().is_some_and(|e| e.reset);
                    self.announce_close(due.slot, false, ctx);
                    return self.drop_conn(due.slot, reset, ctx);
                }
                State::Lingering => {
                    let reset = !conn.all_out();
                    return self.drop_conn(due.slot, reset, ctx);
                }
                State::Asking | State::Open => {}
            }
        } else if conn.state == State::Open {
            // While pressure keeps it from being read, its clocks stand still; not so when it is its
            // own queue that does.
            let stands = conn.blocked && conn.queue_cost() <= half;
            if stands {
                conn.stood_still(now, self.settings.max_rate);
            }
            if conn.pong_by > 0 {
                // The ping may have waited behind what the client has only just taken.
                conn.pong_by = conn.pong_by.max(conn.took_at + pong_timeout);
            }
            if !stands && conn.pong_by > 0 && conn.pong_by <= now {
                tracing::info!(
                    gateway = %self.shared.id, conn = %conn.id,
                    "no pong within pong-timeout: closed"
                );
                self.announce_close(due.slot, false, ctx);
                return self.drop_conn(due.slot, false, ctx);
            }
            if !stands && idle > 0 && conn.last_message + idle <= now {
                return self.close_now(due.slot, close::IDLE, CLOSE_WAIT, false, ctx);
            }
            if conn.ping_at > 0 && conn.ping_at <= now {
                if conn.pong_by == 0 && pong_timeout > 0 {
                    conn.pong_by = now + pong_timeout;
                }
                self.set_ping(due.slot, now);
                self.send_always(due.slot, frame::ping(b""), ctx);
            }
        }
        self.arm(due.slot, ctx);
    }

    /// When the next ping goes: the interval, less up to a tenth, so that connections which came
    /// together are not pinged together for ever.
    pub fn set_ping(&mut self, slot: u32, now: u64) {
        let interval = self.settings.ping_interval.as_millis() as u64;
        // xorshift: any spread will do.
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        let less = self.jitter % (interval / 10 + 1);
        if let Some(conn) = self.conns.get_mut(slot as usize) {
            conn.ping_at = if interval == 0 { 0 } else { now + interval - less };
        }
    }
}
