//! What time does to the exchange: events without an answer, listeners that hang, and the end of
//! the drain at a stop.

use std::time::Instant;

use crate::api::{ApiError, ErrorCode};
use crate::config::settings::OnTimeout;
use crate::listener::exchange::{
    Effect, Exchange, HANG, HandshakeDecision, OVERDUE_MAX, PushAsk, Requester, route_recipients,
};
use crate::listener::op::{CloseReply, Op};
use crate::listener::protocol::connid::ConnId;
use crate::listener::recipients::Recipients;
use crate::ws::close;

impl Exchange {
    pub(super) fn check_at(&mut self, at: Instant) {
        if self.next_check.is_none_or(|next| at < next) {
            self.next_check = Some(at);
        }
    }

    /// When [`Exchange::check`] has something to do, at the earliest.
    pub fn next_check(&self) -> Option<Instant> {
        self.next_check
    }

    /// Looks for time-outs. Returns [`HANG`] if the listener has to be killed.
    pub fn check(&mut self, now: Instant) -> Option<&'static str> {
        if self.next_check.is_none_or(|at| now < at) {
            return None;
        }
        self.next_check = None;
        self.check_waiting(now);
        self.check_asked(now);
        self.restart.check_at(now).into_iter().for_each(|at| self.check_at(at));

        let hang = self.settings.effective_hang_timeout();
        let since = match (self.owed_since, self.stuck_since) {
            (Some(owed), Some(stuck)) => owed.min(stuck),
            (owed, stuck) => owed.or(stuck)?,
        };
        if !self.restart.up {
            return None;
        }
        let silent_since = since.max(self.last_output);
        if now >= silent_since + hang {
            self.metrics.faults.add("hang", 1);
            return Some(HANG);
        }
        self.check_at(silent_since + hang);
        None
    }

    /// Handshakes and pushes that were not made into a line within `listener-timeout`.
    fn check_waiting(&mut self, now: Instant) {
        let timeout = self.settings.listener_timeout;
        while let Some(waiting) = self.handshakes.front() {
            if now < waiting.since + timeout {
                let at = waiting.since + timeout;
                self.check_at(at);
                break;
            }
            let conn = waiting.conn;
            self.handshakes.pop_front();
            self.effects.push(Effect::Handshake { conn, decision: HandshakeDecision::Unavailable });
        }
        while let Some(waiting) = self.pushes.front() {
            if now < waiting.since + timeout {
                let at = waiting.since + timeout;
                self.check_at(at);
                break;
            }
            if let Some(waiting) = self.pushes.pop_front() {
                self.fail_push(
                    *waiting.ask,
                    ErrorCode::ListenerDown,
                    "the listener took no event in time; the push was not sent",
                );
            }
        }
    }

    /// Events whose answer did not come in time.
    fn check_asked(&mut self, now: Instant) {
        let timeout = self.settings.listener_timeout;
        let mut late: Vec<(u64, bool)> = Vec::new();
        let mut next: Option<Instant> = None;
        let mut oldest = self.next_position;
        for (id, asked) in &self.asked {
            let (since, written) = match (asked.written, asked.position) {
                (Some(written), Some(position)) => {
                    oldest = oldest.min(position);
                    let before = self.answer_times.before(position);
                    (before.map_or(written, |b| b.max(written)), true)
                }
                // A message waits for its listener; the others have somebody who waits for them.
                // Across a restart the clock stands still until the event is written again.
                _ if asked.sent || matches!(asked.requester, Requester::Conn(..)) => continue,
                _ => (asked.since, false),
            };
            let deadline = since + timeout;
            if now >= deadline {
                late.push((*id, written));
            } else if next.is_none_or(|n| deadline < n) {
                next = Some(deadline);
            }
        }
        self.answer_times.trim(oldest);
        late.sort_unstable();
        for (id, written) in late {
            self.timed_out(id, written);
        }
        if let Some(at) = next {
            self.check_at(at);
        }
    }

    fn timed_out(&mut self, id: u64, written: bool) {
        if written {
            self.forgotten.insert(id);
        } else {
            // What is refused is not sent; a line that was begun is finished.
            self.take_back(id);
        }
        let Some(asked) = self.take_asked(id) else { return };
        if let (true, Some(position)) = (written, asked.position) {
            self.overdue.insert(id, position);
            if self.overdue.len() > OVERDUE_MAX {
                self.overdue.pop_first();
            }
        }
        self.metrics.faults.add("timeout", 1);
        let seconds = self.settings.listener_timeout.as_secs_f64();
        match asked.requester {
            Requester::Handshake(conn, _) => {
                tracing::warn!(gateway = %self.gateway, %conn, id, "no answer to onHandshake in {seconds} s: refused with 503");
                self.effects
                    .push(Effect::Handshake { conn, decision: HandshakeDecision::Unavailable });
            }
            Requester::Push(ask) => {
                self.metrics.messages_dropped.add("timeout", 1);
                tracing::warn!(gateway = %self.gateway, id, "no answer to a push in {seconds} s: dropped");
                let (code, text) = if written {
                    (
                        ErrorCode::ListenerTimeout,
                        "the listener did not answer in time; the push was dropped",
                    )
                } else {
                    (
                        ErrorCode::ListenerDown,
                        "the listener took no event in time; the push was not sent",
                    )
                };
                self.fail_push(*ask, code, text);
            }
            Requester::Conn(conn, payload) => match self.settings.on_timeout {
                OnTimeout::Broadcast => {
                    tracing::warn!(gateway = %self.gateway, %conn, id, "no answer in {seconds} s: sent on unchanged");
                    let to = self.routed(Some(conn), &[]);
                    self.effects.push(Effect::deliver(payload, to, None));
                }
                OnTimeout::Drop => {
                    self.metrics.messages_dropped.add("timeout", 1);
                    tracing::warn!(gateway = %self.gateway, %conn, id, "no answer in {seconds} s: message dropped");
                }
                OnTimeout::Close => {
                    self.metrics.messages_dropped.add("timeout", 1);
                    tracing::warn!(gateway = %self.gateway, %conn, id, "no answer in {seconds} s: message dropped, its sender closed");
                    let (code, reason) = close::LISTENER_TIMEOUT;
                    let (reason, reply) = (reason.to_owned(), CloseReply::None);
                    self.effects.push(Effect::Op(Op::Close { conn, code, reason, reply }));
                }
            },
        }
        if !self.restart.wrote_byte && !self.hinted {
            self.hinted = true;
            tracing::warn!(
                gateway = %self.gateway,
                "the listener has not written a byte yet: is its stdout buffered? Try python3 -u, \
                 jq --unbuffered, stdbuf -oL, or fflush() after each line"
            );
        }
    }

    pub(super) fn fail_push(&mut self, ask: PushAsk, code: ErrorCode, message: &str) {
        // The requester may have gone; then nobody is left to tell.
        let _ = ask.reply.send(Err(ApiError::new(code, message)));
    }

    /// The recipients that `route` chooses for a message of `sender`, less `except` (sorted).
    pub(super) fn routed(&self, sender: Option<ConnId>, except: &[ConnId]) -> Recipients {
        route_recipients(self.settings.route, sender, except)
    }

    /// Drops everything that waits or is owed; `label` counts it, `code` and `why` go to those who
    /// pushed.
    pub fn drop_all(&mut self, label: &'static str, code: ErrorCode, why: &str) -> usize {
        let mut ids: Vec<u64> = self.asked.keys().copied().collect();
        ids.sort_unstable();
        let mut dropped = 0;
        for id in ids {
            if let Some(asked) = self.take_asked(id) {
                dropped += 1;
                match asked.requester {
                    Requester::Conn(..) => {}
                    Requester::Handshake(conn, _) => {
                        self.effects.push(Effect::Handshake {
                            conn,
                            decision: HandshakeDecision::Unavailable,
                        });
                    }
                    Requester::Push(ask) => self.fail_push(*ask, code, why),
                }
            }
        }
        for waiting in std::mem::take(&mut self.handshakes) {
            self.effects.push(Effect::Handshake {
                conn: waiting.conn,
                decision: HandshakeDecision::Unavailable,
            });
        }
        for waiting in std::mem::take(&mut self.pushes) {
            dropped += 1;
            self.fail_push(*waiting.ask, code, why);
        }
        for (conn, messages) in self.peers.drop_waiting() {
            for message in messages {
                dropped += 1;
                self.effects.push(Effect::Settled { conn, bytes: message.cost() });
            }
            self.settle(conn);
        }
        self.ring.clear();
        self.handshakes_in_ring = false;
        self.pushes_in_ring = false;
        self.metrics.unanswered.set(0);
        self.metrics.messages_dropped.add(label, dropped as u64);
        dropped
    }
}
