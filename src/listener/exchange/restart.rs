//! Restarts of the listener: what the next incarnation is told of and sent again, and how the exchange
//! handles a listener that exits again and again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::api::ErrorCode;
use crate::config::hooks::Hook;
use crate::listener::exchange::peers::Notice;
use crate::listener::exchange::pipe_buffer::Mark;
use crate::listener::exchange::{Effect, Exchange, Requester};
use crate::listener::protocol::connid::ConnId;
use crate::listener::protocol::event;
use crate::listener::tap::Outcome;

/// Exits in a row without an answer after which events are sent one at a time.
const ONE_AT_A_TIME_AFTER: u32 = 2;

/// Exits with the same message alone in flight after which that message is dropped.
const POISONOUS_AFTER: u32 = 3;

/// Exits in a row without one line, while an answer was owed, after which the listener is started
/// clean.
const SILENT_EXITS_MAX: u32 = 5;

/// The least time from the first to the last of those exits.
const SILENT_EXITS_SPAN: Duration = Duration::from_secs(30);

/// How long the first event waits for a line from the listener while events are sent one at a time.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// How long an incarnation that follows an unwanted exit has to live before it is written plain lines,
/// if it writes nothing itself: one that exits at once must not take messages with it.
const STEADY: Duration = Duration::from_millis(200);

pub(super) struct Restart {
    /// Whether an incarnation is attached.
    pub(super) up: bool,
    /// Whether this incarnation wrote a byte to its stdout.
    pub(super) wrote_byte: bool,
    wrote_line: bool,
    attached: Instant,
    /// Unwanted exits since the last answer.
    exits: u32,
    /// The message or push that was alone in flight at the last exit, and at how many exits.
    alone: Option<(u64, u32)>,
    /// Whether the owed events are sent again one at a time.
    one_at_a_time: bool,
    /// Connections that this incarnation is still to be told of.
    resume: VecDeque<ConnId>,
    /// How many of those in `resume` an earlier incarnation was told of.
    resumed_left: u64,
    /// Owed events that this incarnation is still to be sent again.
    redeliver: VecDeque<u64>,
    /// Exits since the last line while an answer was owed, and the time of the first.
    silent_exits: Option<(u32, Instant)>,
}

/// What the exchange found when an incarnation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Whether the incarnation wrote a line.
    pub wrote_line: bool,
    /// Whether all clients are to be closed with 1011 and the listener started clean.
    pub start_clean: bool,
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
            one_at_a_time: false,
            resume: VecDeque::new(),
            resumed_left: 0,
            redeliver: VecDeque::new(),
            silent_exits: None,
        }
    }

    /// Whether new events may be written. They wait until all owed events were sent again.
    pub(super) fn may_ask_new(&mut self, nothing_owed: bool) -> bool {
        if self.one_at_a_time && self.redeliver.is_empty() && nothing_owed {
            self.one_at_a_time = false;
        }
        self.redeliver.is_empty() && !self.one_at_a_time
    }

    pub(super) fn answered(&mut self) {
        self.exits = 0;
        self.alone = None;
    }

    pub(super) fn line(&mut self) {
        self.wrote_line = true;
        self.silent_exits = None;
    }

    /// Whether this incarnation is still to be told of a connection.
    pub(super) fn will_resume(&self, conn: ConnId) -> bool {
        self.resume.binary_search(&conn).is_ok()
    }

    /// When plain lines may be written, if that is later than `now`.
    pub(super) fn lines_from(&self, now: Instant) -> Option<Instant> {
        let at = self.attached + STEADY;
        (self.exits > 0 && !self.wrote_line && now < at).then_some(at)
    }

    /// When the first event may be sent to an incarnation that has written no line, if events are sent
    /// one at a time.
    pub(super) fn check_at(&self, now: Instant) -> Option<Instant> {
        let at = self.attached + SIGN_OF_LIFE;
        (self.up && self.one_at_a_time && !self.wrote_line && now < at).then_some(at)
    }
}

impl Exchange {
    /// A new incarnation was started and its pipes are ready.
    pub fn attach(&mut self, now: Instant) {
        self.pipe.reset();
        self.answer_times.clear();
        self.forgotten.clear();
        self.overdue.clear();
        self.owed_since = None;
        self.stuck_since = None;
        self.last_output = now;
        self.next_position = 0;
        let mut owed: Vec<u64> = self.asked.keys().copied().collect();
        owed.sort_unstable();
        let (conns, announced) = self.peers.census();
        let restart = &mut self.restart;
        restart.up = true;
        restart.wrote_byte = false;
        restart.wrote_line = false;
        restart.attached = now;
        restart.one_at_a_time =
            !owed.is_empty() && (restart.one_at_a_time || restart.exits >= ONE_AT_A_TIME_AFTER);
        restart.redeliver = owed.iter().copied().collect();
        for id in owed {
            if let Some(Requester::Conn(conn, ..)) = self.asked.get(&id).map(|a| &a.requester)
                && let Some(peer) = self.peers.get(*conn)
            {
                peer.redeliver += 1;
            }
        }
        if self.hook(Hook::OnClientOpen) {
            self.restart.resume = conns.iter().copied().collect();
            self.restart.resumed_left = announced;
        }
        for conn in conns {
            self.queue_close_if_ready(conn);
        }
        let hang = now + self.settings.effective_hang_timeout();
        self.check_at(hang);
        if let Some(at) = self.restart.check_at(now) {
            self.check_at(at);
        }
    }

    /// The incarnation has ended and all its output was handled. `wanted` says that the gateway ended
    /// it; then no event is blamed for the exit.
    pub fn detach(&mut self, wanted: bool, now: Instant) -> Exit {
        let written_to = self.pipe.written_to();
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
        self.pipe.reset();
        self.plain.detach();
        self.forget_notices();
        for id in handshakes {
            if let Some(asked) = self.take_asked(id)
                && let Requester::Handshake(conn, _) = asked.requester
            {
                self.show_unanswered(id, &asked, Outcome::Lost, now);
                self.effects.push(Effect::unavailable(conn));
            }
        }
        for waiting in std::mem::take(&mut self.handshakes) {
            self.effects.push(Effect::unavailable(waiting.conn));
        }
        // Events that this incarnation was not sent again are counted anew when the next one attaches.
        for id in std::mem::take(&mut self.restart.redeliver) {
            if let Some(Requester::Conn(conn, ..)) = self.asked.get(&id).map(|a| &a.requester)
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
            return Exit { wrote_line: restart.wrote_line, start_clean: false };
        }
        restart.exits += 1;
        if let [id] = begun[..] {
            let before = restart.alone.filter(|(last, _)| *last == id).map_or(0, |(_, n)| n);
            restart.alone = Some((id, before + 1));
            if before + 1 >= POISONOUS_AFTER {
                restart.alone = None;
                self.drop_poisonous(id, now);
            }
        }
        let restart = &mut self.restart;
        let mut start_clean = false;
        if owed && !restart.wrote_line {
            let (n, first) = restart.silent_exits.unwrap_or((0, now));
            restart.silent_exits = Some((n + 1, first));
            if n + 1 >= SILENT_EXITS_MAX && now.duration_since(first) >= SILENT_EXITS_SPAN {
                start_clean = true;
            }
        }
        Exit { wrote_line: restart.wrote_line, start_clean }
    }

    /// Drops what the incarnation that has ended was still to be told.
    fn forget_notices(&mut self) {
        if !self.hook(Hook::OnClientClose) {
            // These connections have ended, and the next incarnation is told of no close.
            for notice in std::mem::take(&mut self.notices) {
                if let Notice::Close(conn) = notice {
                    self.peers.remove(conn);
                }
            }
        }
        self.clear_notices();
        self.opens.clear();
    }

    fn drop_poisonous(&mut self, id: u64, now: Instant) {
        let Some(asked) = self.take_asked(id) else { return };
        self.show_unanswered(id, &asked, Outcome::Lost, now);
        self.metrics.messages_dropped.add("poisonous", 1);
        match asked.requester {
            Requester::Push(ask) => {
                tracing::error!(gateway = %self.gateway, id, "the listener exited {POISONOUS_AFTER} times with this push alone in flight: push dropped");
                self.fail_push(
                    *ask,
                    ErrorCode::ListenerFault,
                    "the listener exited each time it was sent this push; the push was dropped",
                );
            }
            Requester::Conn(conn, ..) => {
                tracing::error!(gateway = %self.gateway, %conn, id, "the listener exited {POISONOUS_AFTER} times with this message alone in flight: message dropped");
            }
            Requester::Handshake(..) => {}
        }
    }

    /// Forgets all events and connections, so that the next incarnation starts clean. The caller closes
    /// the clients.
    pub fn start_clean(&mut self) {
        let now = self.last_output;
        self.drop_all("listener_failed", ErrorCode::ListenerDown, "the listener failed");
        self.peers.clear();
        self.accepted.clear();
        self.restart = Restart::new(now);
    }

    /// Tells the incarnation of the next connection; false if none is left.
    pub(super) fn resume_one(&mut self, now: Instant) -> bool {
        let Some(conn) = self.restart.resume.pop_front() else { return false };
        let Some(announced) = self.peers.get(conn).map(|peer| peer.announced) else { return true };
        let resumed = announced.then(|| {
            self.restart.resumed_left = self.restart.resumed_left.saturating_sub(1);
            self.restart.resumed_left
        });
        self.write_open(conn, resumed, now);
        self.queue_close_if_ready(conn);
        true
    }

    /// Writes the next owed event again; false if none is left or it has to wait.
    pub(super) fn redeliver_one(&mut self, now: Instant) -> bool {
        let restart = &self.restart;
        let Some(&id) = restart.redeliver.front() else { return false };
        if restart.one_at_a_time {
            let alive = restart.wrote_line || now >= restart.attached + SIGN_OF_LIFE;
            let in_flight = self.asked.values().any(|asked| asked.position.is_some());
            if in_flight || !alive {
                return false;
            }
        }
        self.restart.redeliver.pop_front();
        let Some(asked) = self.asked.get_mut(&id) else { return true };
        // An event of which the pipe had taken nothing is marked as redelivered too, because its id is
        // below those that this incarnation was sent before it.
        let line = Bytes::from(event::redelivered(&asked.line));
        self.asked_bytes = self.asked_bytes + line.len() - asked.line.len();
        asked.line = line.clone();
        asked.position = Some(self.next_position);
        self.next_position += 1;
        asked.start = self.pipe.line(Mark::Asked(id), |out| out.extend_from_slice(&line));
        if let Requester::Conn(conn, ..) = asked.requester {
            if let Some(peer) = self.peers.get(conn) {
                peer.redeliver = peer.redeliver.saturating_sub(1);
            }
            self.queue_close_if_ready(conn);
        }
        true
    }
}
