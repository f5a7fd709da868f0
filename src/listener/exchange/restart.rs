//! What one incarnation of the listener leaves to the next, and how carefully the next is treated.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::api::ErrorCode;
use crate::listener::exchange::pipe_buffer::Mark;
use crate::listener::exchange::{Effect, Exchange, HandshakeDecision, Requester, SIGN_OF_LIFE};
use crate::listener::protocol::connid::ConnId;
use crate::listener::protocol::event;
use crate::listener::protocol::hooks::Hook;

/// Exits in a row without an answer after which events come one at a time.
const CAREFUL_AFTER: u32 = 2;

/// Exits with a message alone in flight after which it is dropped.
const POISONOUS_AFTER: u32 = 3;

/// Exits in a row without one line, while an answer was owed, after which the gateway gives up.
const BARREN_MAX: u32 = 5;

/// The least time from the first to the last of those.
const BARREN_TIME: Duration = Duration::from_secs(30);

pub(super) struct Restart {
    /// Whether an incarnation is attached.
    pub(super) up: bool,
    /// Whether this incarnation wrote anything.
    pub(super) wrote_byte: bool,
    wrote_line: bool,
    attached: Instant,
    /// Exits since the last answer.
    exits: u32,
    /// The message that was alone in flight, and at how many exits.
    alone: Option<(u64, u32)>,
    careful: bool,
    resume: VecDeque<ConnId>,
    resumed_left: u64,
    redeliver: VecDeque<u64>,
    barren: Option<(u32, Instant)>,
}

/// What an exit means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Whether the incarnation wrote a line.
    pub wrote_line: bool,
    /// Close all clients with 1011 and start the listener clean.
    pub give_up: bool,
}

impl Restart {
    pub(super) fn new(now: Instant) -> Restart {
        Restart {
            up: false,
            wrote_byte: false,
            wrote_line: false,
            attached: now,
            exits: 0,
            alone: None,
            careful: false,
            resume: VecDeque::new(),
            resumed_left: 0,
            redeliver: VecDeque::new(),
            barren: None,
        }
    }

    /// Whether events that were never written may go: not before those that were.
    pub(super) fn may_ask_new(&mut self, nothing_owed: bool) -> bool {
        if self.careful && self.redeliver.is_empty() && nothing_owed {
            self.careful = false;
        }
        self.redeliver.is_empty() && !self.careful
    }

    pub(super) fn answered(&mut self) {
        self.exits = 0;
        self.alone = None;
    }

    pub(super) fn line(&mut self) {
        self.wrote_line = true;
        self.barren = None;
    }

    /// Whether this incarnation is still to be told that the connection is open.
    pub(super) fn will_resume(&self, conn: ConnId) -> bool {
        self.resume.binary_search(&conn).is_ok()
    }

    /// When a careful incarnation that has shown no sign of life may have its first event.
    pub(super) fn check_at(&self, now: Instant) -> Option<Instant> {
        let at = self.attached + SIGN_OF_LIFE;
        (self.up && self.careful && !self.wrote_line && now < at).then_some(at)
    }
}

impl Exchange {
    /// A new incarnation is there.
    pub fn attach(&mut self, now: Instant) {
        self.wire.reset();
        self.answer_times.clear();
        self.forgotten.clear();
        self.overdue.clear();
        self.owed_since = None;
        self.stuck_since = None;
        self.last_output = now;
        self.next_position = 0;
        let mut owed: Vec<u64> = self.asked.keys().copied().collect();
        owed.sort_unstable();
        let (conns, told) = self.peers.census();
        let restart = &mut self.restart;
        restart.up = true;
        restart.wrote_byte = false;
        restart.wrote_line = false;
        restart.attached = now;
        restart.careful = !owed.is_empty() && (restart.careful || restart.exits >= CAREFUL_AFTER);
        restart.redeliver = owed.iter().copied().collect();
        for id in owed {
            if let Some(Requester::Conn(conn, _)) = self.asked.get(&id).map(|a| &a.requester)
                && let Some(peer) = self.peers.get(*conn)
            {
                peer.redeliver += 1;
            }
        }
        if self.settings.hooks.has(Hook::OnClientOpen) {
            self.restart.resume = conns.iter().copied().collect();
            self.restart.resumed_left = told;
        }
        for conn in conns {
            self.settle(conn);
        }
        let hang = now + self.settings.effective_hang_timeout();
        self.check_at(hang);
        if let Some(at) = self.restart.check_at(now) {
            self.check_at(at);
        }
    }

    /// The incarnation is gone; nothing more of it will be handled. `wanted` says that we ended it:
    /// then no event is to blame.
    pub fn detach(&mut self, wanted: bool, now: Instant) -> Exit {
        let written_to = self.wire.written_to();
        let mut begun: Vec<u64> = Vec::new();
        let mut handshakes: Vec<u64> = Vec::new();
        for (id, asked) in &mut self.asked {
            match asked.requester {
                Requester::Handshake(..) => handshakes.push(*id),
                _ if asked.position.is_some() && asked.start < written_to => {
                    asked.sent = true;
                    begun.push(*id);
                }
                _ => {}
            }
            asked.position = None;
            asked.written = None;
        }
        self.wire.reset();
        self.fifo.clear();
        self.results = 0;
        for id in handshakes {
            if let Some(asked) = self.take_asked(id)
                && let Requester::Handshake(conn, _) = asked.requester
            {
                self.effects
                    .push(Effect::Handshake { conn, decision: HandshakeDecision::Unavailable });
            }
        }
        for waiting in std::mem::take(&mut self.handshakes) {
            self.effects.push(Effect::Handshake {
                conn: waiting.conn,
                decision: HandshakeDecision::Unavailable,
            });
        }
        // Those that this incarnation was never sent are counted anew when the next one attaches.
        for id in std::mem::take(&mut self.restart.redeliver) {
            if let Some(Requester::Conn(conn, _)) = self.asked.get(&id).map(|a| &a.requester)
                && let Some(peer) = self.peers.get(*conn)
            {
                peer.redeliver = peer.redeliver.saturating_sub(1);
            }
        }
        let owed = !self.asked.is_empty();
        let restart = &mut self.restart;
        restart.up = false;
        restart.resume.clear();
        if wanted {
            return Exit { wrote_line: restart.wrote_line, give_up: false };
        }
        restart.exits += 1;
        if let [id] = begun[..] {
            let before = restart.alone.filter(|(last, _)| *last == id).map_or(0, |(_, n)| n);
            restart.alone = Some((id, before + 1));
            if before + 1 >= POISONOUS_AFTER {
                restart.alone = None;
                self.drop_poisonous(id);
            }
        }
        let restart = &mut self.restart;
        let mut give_up = false;
        if owed && !restart.wrote_line {
            let (n, first) = restart.barren.unwrap_or((0, now));
            restart.barren = Some((n + 1, first));
            if n + 1 >= BARREN_MAX && now.duration_since(first) >= BARREN_TIME {
                give_up = true;
            }
        }
        Exit { wrote_line: restart.wrote_line, give_up }
    }

    fn drop_poisonous(&mut self, id: u64) {
        let Some(asked) = self.take_asked(id) else { return };
        self.metrics.messages_dropped.add("poisonous", 1);
        match asked.requester {
            Requester::Push(ask) => {
                tracing::error!(gateway = %self.gateway, id, "the listener exited {POISONOUS_AFTER} times with this push alone in flight: dropped");
                self.fail_push(
                    *ask,
                    ErrorCode::ListenerFault,
                    "the listener exited each time it was sent this push; the push was dropped",
                );
            }
            Requester::Conn(conn, _) => {
                tracing::error!(gateway = %self.gateway, %conn, id, "the listener exited {POISONOUS_AFTER} times with this message alone in flight: message dropped");
            }
            Requester::Handshake(..) => {}
        }
    }

    /// After the gateway gave up: nothing is owed, nobody is known, the next incarnation starts
    /// clean. The shard closes the clients.
    pub fn start_clean(&mut self) {
        let now = self.last_output;
        self.drop_all("listener_failed", ErrorCode::ListenerDown, "the listener failed");
        self.peers.clear();
        self.restart = Restart::new(now);
    }

    pub(super) fn resume_one(&mut self) -> bool {
        let Some(conn) = self.restart.resume.pop_front() else { return false };
        let Some(told) = self.peers.get(conn).map(|peer| peer.told) else { return true };
        let resumed = told.then(|| {
            self.restart.resumed_left = self.restart.resumed_left.saturating_sub(1);
            self.restart.resumed_left
        });
        self.write_open(conn, resumed);
        self.settle(conn);
        true
    }

    pub(super) fn redeliver_one(&mut self, now: Instant) -> bool {
        let restart = &self.restart;
        let Some(&id) = restart.redeliver.front() else { return false };
        if restart.careful {
            let signs = restart.wrote_line || now >= restart.attached + SIGN_OF_LIFE;
            let in_flight = self.asked.values().any(|asked| asked.position.is_some());
            if in_flight || !signs {
                return false;
            }
        }
        self.restart.redeliver.pop_front();
        let Some(asked) = self.asked.get_mut(&id) else { return true };
        // Also where the pipe had not taken it yet: its old id is below those of this incarnation.
        let line = Bytes::from(event::redelivered(&asked.line));
        self.asked_bytes = self.asked_bytes + line.len() - asked.line.len();
        asked.line = line.clone();
        asked.position = Some(self.next_position);
        self.next_position += 1;
        asked.start = self.wire.line(Mark::Asked(id), |out| out.extend_from_slice(&line));
        if let Requester::Conn(conn, _) = asked.requester {
            if let Some(peer) = self.peers.get(conn) {
                peer.redeliver = peer.redeliver.saturating_sub(1);
            }
            self.settle(conn);
        }
        true
    }
}
