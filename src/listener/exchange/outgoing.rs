//! From events to lines: which event is written next, and what happens when the pipe has taken its
//! line.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use crate::config::hooks::Hook;
use crate::listener::exchange::peers::{Notice, told_size};
use crate::listener::exchange::pipe_buffer::Mark;
use crate::listener::exchange::waiting::Party;
use crate::listener::exchange::{Asked, Effect, Exchange, OWED_MAX, PIPE_BUFFER_HIGH, Requester};
use crate::listener::protocol::connid::ConnId;
use crate::listener::protocol::event;
use crate::listener::protocol::event::Body;

impl Exchange {
    /// Makes lines until enough bytes are ready for the pipe or no event may be sent. The caller then
    /// writes [`Exchange::unwritten`].
    pub fn pump(&mut self, now: Instant) {
        if !self.restart.up {
            return;
        }
        if self.is_plain() {
            return self.make_lines(now);
        }
        while self.pipe.unwritten().len() < PIPE_BUFFER_HIGH {
            let went = self.resume_one(now)
                || self.redeliver_one(now)
                || self.announce_one(now)
                || self.ask_one(now);
            if !went {
                break;
            }
        }
        self.metrics.unanswered.set(self.asked.len() as u64);
    }

    /// The bytes for the listener's stdin.
    pub fn unwritten(&self) -> &[u8] {
        self.pipe.unwritten()
    }

    /// Notes that the pipe took `n` bytes of [`Exchange::unwritten`].
    pub fn written(&mut self, n: usize, now: Instant) {
        if n > 0 {
            self.stuck_since = None;
            self.plain_progress();
        }
        self.pipe.advance(n);
        while let Some(mark) = self.pipe.pop_written() {
            match mark {
                Mark::Open(conn) => self.peers.open_announced(conn),
                Mark::Close(conn) => self.peers.remove(conn),
                Mark::Membership | Mark::Result => {}
                Mark::Plain => self.line_taken(),
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

    /// Notes that the pipe took no byte although lines wait.
    pub(crate) fn stuck(&mut self, now: Instant) {
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

    /// Writes the next notice; false if none waits.
    fn announce_one(&mut self, now: Instant) -> bool {
        let Some(notice) = self.notices.pop_front() else { return false };
        match notice {
            Notice::Open(conn) => self.write_open(conn, None, now),
            Notice::Close(conn) if !self.hook(Hook::OnClientClose) => self.peers.remove(conn),
            Notice::Close(conn) => {
                let id = self.next_id();
                let Some((code, reason, clean)) = self.peers.closing(conn) else { return true };
                let channels = self.peers.channels(conn).cloned().unwrap_or_default();
                let start = self.pipe.line(Mark::Close(conn), |out| {
                    let how = (code, reason.as_str(), clean);
                    event::close(out, id, conn, channels.as_slice(), how);
                });
                self.show_told(Some(id), Hook::OnClientClose.name(), Some(conn), start, now);
            }
            Notice::Membership { conn, channel, members, left } => {
                self.told_bytes -= told_size(&channel);
                let id = self.next_id();
                let start = self.pipe.line(Mark::Membership, |out| match left {
                    None => event::joined(out, id, conn, &channel, members),
                    Some(why) => event::left(out, id, conn, &channel, members, why.name()),
                });
                let hook = if left.is_none() { Hook::OnJoin } else { Hook::OnLeave };
                self.show_told(Some(id), hook.name(), Some(conn), start, now);
            }
            Notice::Result(line) => {
                self.results -= line.len();
                let start = self.pipe.line(Mark::Result, |out| {
                    out.extend_from_slice(line.as_bytes());
                    out.push(b'\n');
                });
                self.show_told(None, "onResult", None, start, now);
            }
        }
        true
    }

    /// Shows those who watch the line that was appended last and begins at `start`.
    fn show_told(
        &self,
        id: Option<u64>,
        name: &'static str,
        conn: Option<ConnId>,
        start: u64,
        now: Instant,
    ) {
        self.tap.told(id, name, conn, self.pipe.last_line(start), now);
    }

    /// Writes an `onClientOpen`; `resumed` is its `left` if an earlier incarnation was told of the
    /// connection.
    pub(super) fn write_open(&mut self, conn: ConnId, resumed: Option<u64>, now: Instant) {
        let id = self.next_id();
        if let Some(peer) = self.peers.get(conn) {
            let info = &peer.info;
            let start = self.pipe.line(Mark::Open(conn), |out| {
                event::open(out, id, conn, peer.channels.as_slice(), &info.members, resumed);
            });
            if !peer.has_ended() {
                peer.open_id = id;
                self.opens.insert(id, conn);
            }
            self.show_told(Some(id), Hook::OnClientOpen.name(), Some(conn), start, now);
        }
    }

    /// Gives the next party its turn; false if the window is full or nothing new may be asked.
    fn ask_one(&mut self, now: Instant) -> bool {
        if !self.restart.may_ask_new(self.asked.is_empty()) {
            return false;
        }
        let has_room = self.asked.len() < self.settings.window
            && (self.asked_bytes < OWED_MAX || self.asked.is_empty());
        if !has_room {
            return false;
        }
        let Some(party) = self.turns.pop_front() else { return false };
        match party {
            Party::Conn(conn) => {
                let quarter = self.quarter();
                let Some(peer) = self.peers.get(conn) else { return true };
                peer.turn_queued = false;
                let Some(message) = peer.waiting.pop_front() else { return true };
                if peer.waiting.is_empty() && peer.waiting.capacity() > 16 {
                    peer.waiting = VecDeque::new();
                }
                peer.owed += 1;
                if !peer.waiting.is_empty() && (peer.owed as usize) < quarter {
                    peer.turn_queued = true;
                    self.turns.push_back(party);
                }
                let channels = peer.channels.clone();
                self.peers.message_dequeued();
                let id = self.next_id();
                let start = self.pipe.line(Mark::Asked(id), |out| {
                    let body = match message.as_text() {
                        Some(text) => Body::Text(text),
                        None => Body::Binary(message.bytes()),
                    };
                    event::message(out, id, conn, body, channels.as_slice());
                });
                self.note_asked(id, Requester::Conn(conn, message, channels), start, now);
                self.queue_close_if_ready(conn);
            }
            Party::Handshakes => {
                self.handshake_turn_queued = false;
                let Some(waiting) = self.handshakes.pop_front() else { return true };
                self.handshakes_owed += 1;
                self.queue_handshake_turn();
                let id = self.next_id();
                let start = self.pipe.line(Mark::Asked(id), |out| {
                    event::handshake(out, id, waiting.conn, &waiting.members);
                });
                let requester = Requester::Handshake(waiting.conn, waiting.offers);
                self.note_asked(id, requester, start, waiting.since);
            }
            Party::Pushes => {
                self.push_turn_queued = false;
                let Some(waiting) = self.pushes.pop_front() else { return true };
                self.queue_push_turn();
                // The requester has gone before the line was begun, so the push is withdrawn.
                if waiting.ask.reply.is_closed() {
                    return true;
                }
                let id = self.next_id();
                let members = waiting.ask.push.members();
                let start = self.pipe.line(Mark::Asked(id), |out| event::push(out, id, members));
                self.note_asked(id, Requester::Push(waiting.ask), start, waiting.since);
            }
        }
        true
    }

    /// Notes an event as owed; its line begins at `start` and was appended last.
    fn note_asked(&mut self, id: u64, requester: Requester, start: u64, since: Instant) {
        let line = Bytes::copy_from_slice(self.pipe.last_line(start));
        self.asked_bytes += line.len();
        let position = Some(self.next_position);
        self.next_position += 1;
        let sent = false;
        let asked = Asked { requester, line, position, start, written: None, sent, since };
        self.asked.insert(id, asked);
    }

    /// Removes an owed event. Its party may now have another turn.
    pub(super) fn take_asked(&mut self, id: u64) -> Option<Asked> {
        let asked = self.asked.remove(&id)?;
        self.asked_bytes -= asked.line.len();
        match &asked.requester {
            Requester::Conn(conn, message, _) => {
                let (conn, bytes) = (*conn, message.cost());
                let unsent = self.restart.up && asked.position.is_none();
                if let Some(peer) = self.peers.get(conn) {
                    peer.owed = peer.owed.saturating_sub(1);
                    peer.redeliver = peer.redeliver.saturating_sub(u32::from(unsent));
                }
                self.effects.push(Effect::Settled { conn, bytes });
                self.queue_turn(conn);
                if unsent {
                    self.queue_close_if_ready(conn);
                }
            }
            Requester::Handshake(..) => {
                self.handshakes_owed = self.handshakes_owed.saturating_sub(1);
                self.queue_handshake_turn();
            }
            Requester::Push(_) => {}
        }
        if self.asked.is_empty() && self.forgotten.is_empty() {
            self.owed_since = None;
        }
        Some(asked)
    }

    /// Takes an event's line out of the pipe's buffer; false if an incarnation was sent a byte of it.
    pub(super) fn take_back(&mut self, id: u64) -> bool {
        let Some(asked) = self.asked.get(&id) else { return false };
        if asked.sent || asked.written.is_some() {
            return false;
        }
        if asked.position.is_none() {
            return true;
        }
        let start = asked.start;
        let Some(length) = self.pipe.take_back(start, Mark::Asked(id)) else { return false };
        for other in self.asked.values_mut() {
            if other.position.is_some() && other.start > start {
                other.start -= length as u64;
            }
        }
        if self.pipe.unwritten().is_empty() {
            self.stuck_since = None;
        }
        true
    }
}
