//! Events made into lines, in their turns, and what becomes of a line on its way into the pipe.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::listener::exchange::peers::Notice;
use crate::listener::exchange::pipe_buffer::Mark;
use crate::listener::exchange::{Asked, Effect, Exchange, OWED_MAX, Party, Requester, WIRE_HIGH};
use crate::listener::protocol::connid::ConnId;
use crate::listener::protocol::event;
use crate::listener::protocol::event::Body;

impl Exchange {
    /// Makes lines until the wire is full or nothing may go; then [`Exchange::unwritten`] is what
    /// the pipe gets.
    pub fn pump(&mut self, now: Instant) {
        if !self.restart.up {
            return;
        }
        while self.wire.unwritten().len() < WIRE_HIGH {
            let went = self.resume_one()
                || self.redeliver_one(now)
                || self.tell_one()
                || self.ask_one(now);
            if !went {
                break;
            }
        }
        self.metrics.unanswered.set(self.asked.len() as u64);
    }

    /// The bytes for the listener's stdin.
    pub fn unwritten(&self) -> &[u8] {
        self.wire.unwritten()
    }

    /// The pipe took `n` bytes.
    pub fn written(&mut self, n: usize, now: Instant) {
        if n > 0 {
            self.stuck_since = None;
        }
        self.wire.advance(n);
        while let Some(mark) = self.wire.pop_written() {
            match mark {
                Mark::Open(conn) => self.peers.open_told(conn),
                Mark::Close(conn) => self.peers.remove(conn),
                Mark::Result => {}
                Mark::Asked(id) => {
                    if let Some(asked) = self.asked.get_mut(&id) {
                        asked.written = Some(now);
                        self.owed_since.get_or_insert(now);
                        let deadline = now + self.settings.listener_timeout;
                        self.check_at(deadline);
                    }
                }
            }
        }
    }

    /// The pipe would not take a byte though lines wait.
    pub fn stuck(&mut self, now: Instant) {
        if self.stuck_since.is_none() {
            self.stuck_since = Some(now);
            self.check_at(now + self.settings.effective_hang_timeout());
        }
    }

    fn next_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn tell_one(&mut self) -> bool {
        let Some(told) = self.fifo.pop_front() else { return false };
        match told {
            Notice::Open(conn) => self.write_open(conn, None),
            Notice::Close(conn) => {
                let id = self.next_id();
                let Some((code, reason, clean)) = self.peers.closing(conn) else { return true };
                self.wire.line(Mark::Close(conn), |out| {
                    event::close(out, id, conn, code, &reason, clean);
                });
            }
            Notice::Result(line) => {
                self.results -= line.len();
                self.wire.line(Mark::Result, |out| {
                    out.extend_from_slice(line.as_bytes());
                    out.push(b'\n');
                });
            }
        }
        true
    }

    pub(super) fn write_open(&mut self, conn: ConnId, resumed: Option<u64>) {
        let id = self.next_id();
        if let Some(peer) = self.peers.get(conn) {
            let info = Arc::clone(&peer.info);
            self.wire.line(Mark::Open(conn), |out| {
                event::open(out, id, conn, &info.members, resumed);
            });
        }
    }

    fn ask_one(&mut self, now: Instant) -> bool {
        if !self.restart.may_ask_new(self.asked.is_empty()) {
            return false;
        }
        let room = self.asked.len() < self.settings.window
            && (self.asked_bytes < OWED_MAX || self.asked.is_empty());
        if !room {
            return false;
        }
        let Some(party) = self.ring.pop_front() else { return false };
        match party {
            Party::Conn(conn) => {
                let quarter = self.quarter();
                let Some(peer) = self.peers.get(conn) else { return true };
                peer.in_ring = false;
                let Some(message) = peer.waiting.pop_front() else { return true };
                if peer.waiting.is_empty() && peer.waiting.capacity() > 16 {
                    peer.waiting = VecDeque::new();
                }
                peer.owed += 1;
                if !peer.waiting.is_empty() && (peer.owed as usize) < quarter {
                    peer.in_ring = true;
                    self.ring.push_back(party);
                }
                self.peers.one_waits_less();
                let id = self.next_id();
                let start = self.wire.line(Mark::Asked(id), |out| {
                    let body = match message.as_text() {
                        Some(text) => Body::Text(text),
                        None => Body::Binary(message.bytes()),
                    };
                    event::message(out, id, conn, body);
                });
                self.note_asked(id, Requester::Conn(conn, message), start, now);
                self.settle(conn);
            }
            Party::Handshakes => {
                self.handshakes_in_ring = false;
                let Some(waiting) = self.handshakes.pop_front() else { return true };
                self.handshakes_owed += 1;
                self.enter_handshakes();
                let id = self.next_id();
                let start = self.wire.line(Mark::Asked(id), |out| {
                    event::handshake(out, id, waiting.conn, &waiting.members);
                });
                let requester = Requester::Handshake(waiting.conn, waiting.offers);
                self.note_asked(id, requester, start, waiting.since);
            }
            Party::Pushes => {
                self.pushes_in_ring = false;
                let Some(waiting) = self.pushes.pop_front() else { return true };
                if !self.pushes.is_empty() {
                    self.pushes_in_ring = true;
                    self.ring.push_back(party);
                }
                // Its requester has gone before its line was begun: withdrawn.
                if waiting.ask.reply.is_closed() {
                    return true;
                }
                let id = self.next_id();
                let members = waiting.ask.push.members();
                let start = self.wire.line(Mark::Asked(id), |out| event::push(out, id, members));
                self.note_asked(id, Requester::Push(waiting.ask), start, waiting.since);
            }
        }
        true
    }

    fn note_asked(&mut self, id: u64, requester: Requester, start: u64, since: Instant) {
        let line = Bytes::copy_from_slice(self.wire.last_line(start));
        self.asked_bytes += line.len();
        let position = Some(self.next_position);
        self.next_position += 1;
        let sent = false;
        let asked = Asked { requester, line, position, start, written: None, sent, since };
        self.asked.insert(id, asked);
    }

    /// Takes an event out of what is owed; its party may have its turn again.
    pub(super) fn take_asked(&mut self, id: u64) -> Option<Asked> {
        let asked = self.asked.remove(&id)?;
        self.asked_bytes -= asked.line.len();
        match &asked.requester {
            Requester::Conn(conn, message) => {
                let (conn, bytes) = (*conn, message.cost());
                let unsent = self.restart.up && asked.position.is_none();
                if let Some(peer) = self.peers.get(conn) {
                    peer.owed = peer.owed.saturating_sub(1);
                    peer.redeliver = peer.redeliver.saturating_sub(u32::from(unsent));
                }
                self.effects.push(Effect::Settled { conn, bytes });
                self.enter_ring(conn);
                if unsent {
                    self.settle(conn);
                }
            }
            Requester::Handshake(..) => {
                self.handshakes_owed = self.handshakes_owed.saturating_sub(1);
                self.enter_handshakes();
            }
            Requester::Push(_) => {}
        }
        if self.asked.is_empty() && self.forgotten.is_empty() {
            self.owed_since = None;
        }
        Some(asked)
    }

    /// Takes an event's line back, if no incarnation was sent a byte of it.
    pub(super) fn take_back(&mut self, id: u64) -> bool {
        let Some(asked) = self.asked.get(&id) else { return false };
        if asked.sent || asked.written.is_some() {
            return false;
        }
        if asked.position.is_none() {
            return true;
        }
        let start = asked.start;
        let Some(length) = self.wire.take_back(start, Mark::Asked(id)) else { return false };
        for other in self.asked.values_mut() {
            if other.position.is_some() && other.start > start {
                other.start -= length as u64;
            }
        }
        if self.wire.unwritten().is_empty() {
            self.stuck_since = None;
        }
        true
    }
}
