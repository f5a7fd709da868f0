//! Plain lines (`format = "lines"`): the listener reads bodies and writes bodies, a line each.
//!
//! A text message of a client becomes a line for the listener. Nothing is owed for it: the message is
//! settled when the pipe has taken its whole line. Messages wait in one queue, in the order in which
//! they came; those whose lines were made and not taken stay at its front, so that the next
//! incarnation gets them if this one ends. What the pipe took is the listener's.
//!
//! No time-out applies, because there are no answers. But a listener that reads nothing for
//! `hang-timeout` while lines wait, as `tail -f` does, must not keep the gateway from reading its
//! clients for ever. From then on messages are dropped and counted, until it reads again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::config::hooks::Hook;
use crate::listener::exchange::faults::not_shown;
use crate::listener::exchange::pipe_buffer::Mark;
use crate::listener::exchange::{Effect, Exchange, PIPE_BUFFER_HIGH, Requester};
use crate::listener::protocol::connid::ConnId;
use crate::listener::recipients::Recipients;
use crate::ws::payload::Payload;

/// How long messages of connections that are not announced wait, after a change to JSON: far longer
/// than a shard takes to apply new settings.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(10);

/// The messages for a listener of plain lines.
#[derive(Default)]
pub(super) struct Plain {
    queue: VecDeque<(ConnId, Payload)>,
    /// How many at the front of `queue` are lines in the pipe's buffer.
    made: usize,
    /// Whether the listener reads nothing, so that messages are dropped.
    unread: bool,
    /// Bytes in the kernel's pipe when they were looked at last.
    in_pipe: Option<usize>,
}

/// Messages that a listener of plain lines was not sent before its gateway changed to JSON, and whose
/// connections the exchange has not been told of yet.
#[derive(Default)]
pub(super) struct Unannounced {
    messages: VecDeque<(ConnId, Payload)>,
    /// Whether messages of connections that are not announced are to wait.
    expected: bool,
    /// Until when, once a check has set it.
    until: Option<Instant>,
}

impl Plain {
    /// The number of messages that wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Prepares for the end of an incarnation. Lines that its pipe did not take are made again.
    pub(super) fn detach(&mut self) {
        self.made = 0;
        self.unread = false;
        self.in_pipe = None;
    }
}

impl Unannounced {
    /// The number of messages that wait.
    pub(super) fn waiting(&self) -> usize {
        self.messages.len()
    }

    /// Takes the message of a connection that is not announced. It comes back if none may wait.
    pub(super) fn take_in(&mut self, conn: ConnId, message: Payload) -> Option<Payload> {
        if !self.expected {
            return Some(message);
        }
        self.messages.push_back((conn, message));
        None
    }

    /// Takes the messages of a connection out.
    fn of(&mut self, conn: ConnId) -> Vec<Payload> {
        let mut found = Vec::new();
        for (sender, message) in std::mem::take(&mut self.messages) {
            if sender == conn {
                found.push(message);
            } else {
                self.messages.push_back((sender, message));
            }
        }
        found
    }

    /// When to check again; `None` if the time is up or nothing was expected.
    fn check(&mut self, now: Instant) -> Option<Instant> {
        if !self.expected {
            return None;
        }
        let until = *self.until.get_or_insert(now + ANNOUNCED_WITHIN);
        (now < until).then_some(until)
    }
}

/// Appends a message's line. A line break within the message becomes a space, for it would end the
/// line.
fn write_line(out: &mut Vec<u8>, body: &[u8]) {
    let start = out.len();
    out.extend_from_slice(body);
    for byte in &mut out[start..] {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    out.push(b'\n');
}

impl Exchange {
    /// Queues a client's message as a line. A binary message has none and is dropped.
    pub(super) fn queue_line(&mut self, conn: ConnId, message: Payload) {
        if message.is_binary() {
            self.settle_dropped(conn, &message, "binary");
            if let Some(hidden) = self.fault_log.may_show(self.last_output) {
                let more = not_shown(hidden);
                tracing::info!(gateway = %self.gateway, %conn, "a binary message is dropped: with format \"lines\" a listener gets text only{more}");
            }
        } else if self.plain.unread {
            self.settle_dropped(conn, &message, "unread");
        } else {
            self.plain.queue.push_back((conn, message));
        }
    }

    /// Makes lines until enough bytes are ready for the pipe.
    pub(super) fn make_lines(&mut self, now: Instant) {
        if let Some(at) = self.restart.lines_from(now) {
            return self.check_at(at);
        }
        while self.pipe.unwritten().len() < PIPE_BUFFER_HIGH
            && let Some((conn, message)) = self.plain.queue.get(self.plain.made)
        {
            let conn = *conn;
            let start = self.pipe.line(Mark::Plain, |out| write_line(out, message.bytes()));
            self.tap.told(None, "line", Some(conn), self.pipe.last_line(start), now);
            self.plain.made += 1;
        }
    }

    /// The pipe took the line of the oldest message.
    pub(super) fn line_taken(&mut self) {
        self.plain.made = self.plain.made.saturating_sub(1);
        if let Some((conn, message)) = self.plain.queue.pop_front() {
            self.effects.push(Effect::Settled { conn, bytes: message.cost() });
        }
        if self.plain.queue.is_empty() {
            self.plain.queue.shrink_to(64);
        }
    }

    /// The pipe took bytes, so the listener reads.
    pub(super) fn plain_progress(&mut self) {
        self.plain.unread = false;
        self.plain.in_pipe = None;
    }

    /// Handles a line of the listener: it goes to all.
    pub(super) fn send_line(&mut self, line: &[u8], now: Instant) {
        self.restart.answered();
        self.tap.line("line", line, None, now);
        let payload = Payload::text(&String::from_utf8_lossy(line));
        self.effects.push(Effect::deliver(payload, Recipients::All, None));
    }

    /// Notes that the pipe takes no byte although lines wait, and that so many bytes are in it, if the
    /// system tells. Fewer than before means that the listener reads.
    pub(crate) fn stuck_lines(&mut self, in_pipe: Option<usize>, now: Instant) {
        let before = std::mem::replace(&mut self.plain.in_pipe, in_pipe);
        if let (Some(before), Some(in_pipe)) = (before, in_pipe)
            && in_pipe < before
        {
            self.plain.unread = false;
            self.stuck_since = None;
        }
        if self.plain.unread || !self.restart.up {
            return;
        }
        let due = *self.stuck_since.get_or_insert(now) + self.settings.effective_hang_timeout();
        if now < due {
            return self.check_at(due);
        }
        self.plain.unread = true;
        // One line stays: when the pipe takes it, the listener reads again.
        let kept = self.plain.made.min(1);
        self.pipe.keep_lines(kept);
        let dropped = self.drop_behind(kept);
        self.metrics.messages_dropped.add("unread", dropped as u64);
        tracing::warn!(
            gateway = %self.gateway,
            "the listener has not read its stdin for {} s (hang-timeout): {dropped} messages of clients \
             are dropped, and so are all that follow, until it reads again",
            self.settings.effective_hang_timeout().as_secs_f64()
        );
    }

    /// Drops all messages that wait. A line of which the pipe has taken a part is finished. Returns how
    /// many were dropped, which the caller counts.
    pub(super) fn drop_lines(&mut self) -> usize {
        if self.plain.made > 0 {
            self.pipe.keep_lines(usize::from(self.pipe.is_within_line()));
        }
        self.drop_behind(0) + self.drop_unannounced()
    }

    /// Drops the messages behind the first `kept`, whose lines stay in the pipe's buffer.
    fn drop_behind(&mut self, kept: usize) -> usize {
        self.plain.made = kept;
        let dropped: Vec<_> = self.plain.queue.drain(kept..).collect();
        self.settle_all(dropped)
    }

    fn drop_unannounced(&mut self) -> usize {
        let dropped = std::mem::take(&mut self.unannounced).messages;
        self.settle_all(dropped.into())
    }

    fn settle_all(&mut self, dropped: Vec<(ConnId, Payload)>) -> usize {
        for (conn, message) in &dropped {
            self.effects.push(Effect::Settled { conn: *conn, bytes: message.cost() });
        }
        dropped.len()
    }

    fn settle_dropped(&mut self, conn: ConnId, message: &Payload, label: &'static str) {
        self.metrics.messages_dropped.add(label, 1);
        self.effects.push(Effect::Settled { conn, bytes: message.cost() });
    }

    /// The listener reads lines from now on. Messages that wait or are owed become lines, oldest first;
    /// what else is asked goes on without the listener.
    pub(super) fn begin_plain(&mut self) {
        for (conn, message) in std::mem::take(&mut self.unannounced).messages {
            self.queue_line(conn, message);
        }
        for id in self.asked_ids(|requester| matches!(requester, Requester::Conn(..))) {
            if let Some(asked) = self.asked.remove(&id)
                && let Requester::Conn(conn, message, _) = asked.requester
            {
                self.asked_bytes -= asked.line.len();
                self.queue_line(conn, message);
            }
        }
        for (conn, messages) in self.peers.drop_waiting() {
            for message in messages {
                self.queue_line(conn, message);
            }
        }
        self.turns.clear();
        self.push_turn_queued = false;
        self.handshake_turn_queued = false;
        self.forgotten.clear();
        self.overdue.clear();
        self.owed_since = None;
    }

    /// The listener reads JSON from now on, and is told of all connections in a moment. Messages that
    /// wait are asked behind the opens of their connections.
    pub(super) fn end_plain(&mut self) {
        let messages = std::mem::take(&mut self.plain).queue;
        if !self.hook(Hook::OnMessage) {
            return messages
                .into_iter()
                .for_each(|(conn, message)| self.send_unasked(conn, message));
        }
        self.unannounced = Unannounced { messages, expected: true, until: None };
        // The check that is due at once sets the time to forget them.
        self.check_at(self.last_output);
    }

    /// Sends everything that waits for a listener of plain lines on without it.
    pub(super) fn release_lines(&mut self) {
        let lines = std::mem::take(&mut self.plain).queue;
        let unannounced = std::mem::take(&mut self.unannounced).messages;
        for (conn, message) in lines.into_iter().chain(unannounced) {
            self.send_unasked(conn, message);
        }
    }

    /// A connection was announced: its messages that waited for that can be asked.
    pub(super) fn adopt_unannounced(&mut self, conn: ConnId) {
        if self.unannounced.messages.is_empty() {
            return;
        }
        for message in self.unannounced.of(conn) {
            self.message(conn, message);
        }
    }

    /// Gives up the messages of connections that are never announced, because they have ended.
    pub(super) fn check_unannounced(&mut self, now: Instant) {
        match self.unannounced.check(now) {
            Some(at) => self.check_at(at),
            None => {
                let dropped = self.drop_unannounced();
                if dropped > 0 {
                    self.metrics.messages_dropped.add("reload", dropped as u64);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        let mut out = b"before".to_vec();
        write_line(&mut out, "a\r\nb\rc\nÄ\u{2028}d".as_bytes());
        write_line(&mut out, b"");
        assert_eq!(String::from_utf8(out).unwrap(), "beforea  b c Ä\u{2028}d\n\n");
    }
}
