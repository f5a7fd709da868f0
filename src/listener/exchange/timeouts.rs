//! Time-outs: events without an answer, events that wait too long for their turn, and a listener that
//! hangs. Also [`Exchange::drop_all`], which ends the drain at a stop.

use std::time::Instant;

use crate::api::{ApiError, ErrorCode};
use crate::config::settings::OnTimeout;
use crate::listener::exchange::{Asked, Effect, Exchange, OVERDUE_MAX, PushAsk, Requester};
use crate::listener::op::{CloseReply, Op};
use crate::listener::tap::Outcome;
use crate::ws::close;

impl Exchange {
    /// Schedules a check at `at` at the latest.
    pub(super) fn check_at(&mut self, at: Instant) {
        if self.next_check.is_none_or(|next| at < next) {
            self.next_check = Some(at);
        }
    }

    /// When the caller has to call [`Exchange::check`] next, if ever.
    pub(crate) fn next_check(&self) -> Option<Instant> {
        self.next_check
    }

    /// Handles all time-outs that are due. Returns true if the listener hangs and has to be killed.
    #[must_use]
    pub fn check(&mut self, now: Instant) -> bool {
        if self.next_check.is_none_or(|at| now < at) {
            return false;
        }
        self.next_check = None;
        self.check_waiting(now);
        self.check_asked(now);
        self.released.check(now).into_iter().for_each(|at| self.check_at(at));
        self.check_unannounced(now);
        self.restart.check_at(now).into_iter().for_each(|at| self.check_at(at));

        // There are no answers to plain lines; see `stuck_lines` for a listener that does not read.
        if self.is_plain() {
            return false;
        }
        let hang = self.settings.effective_hang_timeout();
        let since = match (self.owed_since, self.stuck_since) {
            (Some(owed), Some(stuck)) => Some(owed.min(stuck)),
            (owed, stuck) => owed.or(stuck),
        };
        let Some(since) = since.filter(|_| self.restart.up) else { return false };
        let silent_since = since.max(self.last_output);
        if now >= silent_since + hang {
            self.metrics.faults.add("hang", 1);
            return true;
        }
        self.check_at(silent_since + hang);
        false
    }

    /// Refuses the handshakes and pushes that have waited for their turn for `listener-timeout`.
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
            self.effects.push(Effect::unavailable(conn));
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

    /// Handles the owed events whose answer did not come in time.
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
                // A line that is not fully written. The time-out of a message has not begun. That
                // of a handshake or a push has, because somebody waits for the outcome; but
                // across a restart it stands still until the event is written again.
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
            self.timed_out(id, written, now);
        }
        if let Some(at) = next {
            self.check_at(at);
        }
    }

    fn timed_out(&mut self, id: u64, written: bool, now: Instant) {
        if written {
            self.forgotten.insert(id);
        } else {
            // A refused event is not sent, unless its line was begun: such a line is finished.
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
        self.show_unanswered(id, &asked, Outcome::Timeout, now);
        let seconds = self.settings.listener_timeout.as_secs_f64();
        match asked.requester {
            Requester::Handshake(conn, _) => {
                tracing::warn!(gateway = %self.gateway, %conn, id, "no answer to onHandshake in {seconds} s: refused with 503");
                self.effects.push(Effect::unavailable(conn));
            }
            Requester::Push(ask) => {
                self.metrics.messages_dropped.add("timeout", 1);
                tracing::warn!(gateway = %self.gateway, id, "no answer to a push in {seconds} s: push dropped");
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
            Requester::Conn(conn, payload, channels) => match self.settings.on_timeout {
                OnTimeout::Broadcast => {
                    tracing::warn!(gateway = %self.gateway, %conn, id, "no answer in {seconds} s: sent on unchanged");
                    let to = self.routed(Some((conn, &channels)), &[]);
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

    /// Shows those who watch an event that is not answered.
    pub(super) fn show_unanswered(&self, id: u64, asked: &Asked, outcome: Outcome, now: Instant) {
        if self.tap.is_on() {
            self.tap.unanswered(asked.event(id), outcome, now);
        }
    }

    /// Reports a failed push to its requester.
    pub(super) fn fail_push(&mut self, ask: PushAsk, code: ErrorCode, message: &str) {
        // An error means that the requester has gone, so nobody waits for the outcome.
        let _ = ask.reply.send(Err(ApiError::new(code, message)));
    }

    /// Drops all events that wait or are owed, and returns how many messages and pushes were dropped
    /// and how many owed handshakes refused. `label` is the reason under which they are counted;
    /// `code` and `why` are the error that the requesters of pushes get.
    pub(crate) fn drop_all(&mut self, label: &'static str, code: ErrorCode, why: &str) -> usize {
        let mut ids: Vec<u64> = self.asked.keys().copied().collect();
        ids.sort_unstable();
        let mut dropped = 0;
        for id in ids {
            if let Some(asked) = self.take_asked(id) {
                dropped += 1;
                self.show_unanswered(id, &asked, Outcome::Lost, self.last_output);
                match asked.requester {
                    Requester::Conn(..) => {}
                    Requester::Handshake(conn, _) => {
                        self.effects.push(Effect::unavailable(conn));
                    }
                    Requester::Push(ask) => self.fail_push(*ask, code, why),
                }
            }
        }
        for waiting in std::mem::take(&mut self.handshakes) {
            self.effects.push(Effect::unavailable(waiting.conn));
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
            self.queue_close_if_ready(conn);
        }
        dropped += self.drop_lines();
        self.turns.clear();
        self.handshake_turn_queued = false;
        self.push_turn_queued = false;
        self.metrics.unanswered.set(0);
        self.metrics.messages_dropped.add(label, dropped as u64);
        dropped
    }
}
