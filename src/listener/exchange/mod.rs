//! The exchange: the gateway's side of the conversation with its listener.
//!
//! It owns what waits for the listener, what the listener owes, and what each incarnation has to
//! be told. It does no I/O and knows no clock but the `now` it is given: its shard writes
//! [`Exchange::unwritten`] into the pipe, hands in the lines that come back, and carries out the
//! [`Effect`]s, in their order. One task owns it; there is no lock.
//!
//! Where things wait:
//! - told events (`onClientOpen`, `onClientClose`) and result lines in `fifo`, in order; they do
//!   not count in the window;
//! - messages with their connection ([`peers::Peer`]), handshakes and pushes in queues of their
//!   own; the `ring` gives each of these parties its turn at the window;
//! - what was written and is owed in `asked`, with its line, for the next incarnation.
//!
//! A connection's close goes into `fifo` only when none of its messages waits any more: that alone
//! keeps open, messages and close in order.

pub mod answer_times;
pub mod incoming;
pub mod outgoing;
pub mod peers;
pub mod pipe_buffer;
pub mod reconfigure;
pub mod restart;
pub mod timeouts;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::listener::connection::{Closed, ConnInfo};
use crate::listener::exchange::answer_times::AnswerTimes;
use crate::listener::exchange::peers::{Notice, Peers};
use crate::listener::exchange::pipe_buffer::Wire;
use crate::listener::exchange::restart::Restart;
use crate::listener::metrics::ListenerMetrics;
use crate::listener::op::{Delivery, Op};
use crate::listener::protocol::answer::HandshakeAnswer;
use crate::listener::protocol::connid::ConnId;
use crate::listener::protocol::hooks::Hook;
use crate::listener::protocol::push::Push;
use crate::listener::recipients::Recipients;
use crate::listener::report::{DeliveryReport, PushReply, Reply};
use crate::ws::payload::Payload;

use crate::config::settings::{GatewaySettings, Route};

/// Bytes that may lie ready for the pipe before events are made into lines: a pipe's capacity.
const WIRE_HIGH: usize = 64 * 1024;

/// Bytes of result lines that may wait.
const RESULTS_MAX: usize = 1024 * 1024;

/// Events without an answer in time whose late answer still counts as a sign of progress.
const OVERDUE_MAX: usize = 4096;

/// Bytes of lines that may be owed at a time, beside `window`: 64 large messages.
const OWED_MAX: usize = 64 * 1024 * 1024;

/// What the shard has to do.
pub enum Effect {
    /// Hand an operation to all shards concerned.
    Op(Op),
    /// Answer a handshake.
    Handshake {
        /// Which.
        conn: ConnId,
        /// How.
        decision: HandshakeDecision,
    },
    /// A connection's message is settled: answered, dropped, or sent on.
    Settled {
        /// Whose.
        conn: ConnId,
        /// Bytes of its frame.
        bytes: usize,
    },
}

impl Effect {
    /// Send a message.
    pub(super) fn deliver(
        payload: Payload,
        to: Recipients,
        report: Option<Arc<DeliveryReport>>,
    ) -> Effect {
        Effect::Op(Op::Deliver(Delivery::new(payload, to, report)))
    }
}

/// The answer to a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandshakeDecision {
    /// 101; with a subprotocol that the listener chose.
    Accept(Option<String>),
    /// The listener's own refusal, or ours: a status and a text body.
    Refuse(u16, String),
    /// 503 with `Retry-After`: no answer, or no listener.
    Unavailable,
}

/// Why a listener has to be killed.
pub const HANG: &str = "hang";

/// Whose event was asked, and what of it is needed once the answer is there.
enum Requester {
    /// A connection's message.
    Conn(ConnId, Payload),
    /// A handshake, with the subprotocols that the client offers.
    Handshake(ConnId, Vec<String>),
    Push(Box<PushAsk>),
}

/// A push that waits or is owed.
pub struct PushAsk {
    /// The push.
    pub push: Push,
    /// Where its outcome goes.
    pub reply: PushReply,
    /// Dropped with the push: what it holds of the limit on waiting pushes.
    pub ticket: Box<dyn Send>,
}

struct Asked {
    requester: Requester,
    /// The line as it was written last.
    line: Bytes,
    /// Order of writing within the incarnation; `None` until written to this one.
    position: Option<u64>,
    /// Offset of its first byte on the wire.
    start: u64,
    /// When its last byte was taken by the pipe.
    written: Option<Instant>,
    /// Whether an earlier incarnation was sent it, or the beginning of it.
    sent: bool,
    /// When it came: handshakes and pushes do not wait for ever for their turn.
    since: Instant,
}

struct WaitingHandshake {
    conn: ConnId,
    members: Vec<u8>,
    offers: Vec<String>,
    since: Instant,
}

struct WaitingPush {
    ask: Box<PushAsk>,
    since: Instant,
}

/// Who takes turns at the window.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Party {
    Conn(ConnId),
    Handshakes,
    Pushes,
}

/// The exchange of one gateway; see the module's docs.
pub struct Exchange {
    gateway: Arc<str>,
    settings: Arc<GatewaySettings>,
    metrics: Arc<ListenerMetrics>,
    /// Shards that report to a tally.
    shards: usize,
    /// What the shard has to do, in order.
    pub effects: Vec<Effect>,
    next_id: u64,
    peers: Peers,
    fifo: VecDeque<Notice>,
    results: usize,
    ring: VecDeque<Party>,
    handshakes: VecDeque<WaitingHandshake>,
    handshakes_owed: usize,
    handshakes_in_ring: bool,
    pushes: VecDeque<WaitingPush>,
    pushes_in_ring: bool,
    wire: Wire,
    asked: HashMap<u64, Asked>,
    asked_bytes: usize,
    next_position: u64,
    answer_times: AnswerTimes,
    /// Events of this incarnation that timed out: still owed, for the hang time-out.
    forgotten: HashSet<u64>,
    /// Their places in the order of writing: an answer that comes late is one to an earlier event.
    overdue: BTreeMap<u64, u64>,
    /// Since when something has been owed without a break.
    owed_since: Option<Instant>,
    /// Since when the pipe takes nothing though lines wait.
    stuck_since: Option<Instant>,
    last_output: Instant,
    next_check: Option<Instant>,
    hinted: bool,
    restart: Restart,
    garbage: incoming::FaultLog,
}

impl Exchange {
    /// An exchange whose listener is not up yet.
    pub fn new(
        gateway: Arc<str>,
        settings: Arc<GatewaySettings>,
        metrics: Arc<ListenerMetrics>,
        shards: usize,
        now: Instant,
    ) -> Exchange {
        Exchange {
            gateway,
            peers: Peers::default(),
            settings,
            metrics,
            shards,
            effects: Vec::new(),
            next_id: 1,
            fifo: VecDeque::new(),
            results: 0,
            ring: VecDeque::new(),
            handshakes: VecDeque::new(),
            handshakes_owed: 0,
            handshakes_in_ring: false,
            pushes: VecDeque::new(),
            pushes_in_ring: false,
            wire: Wire::default(),
            asked: HashMap::new(),
            asked_bytes: 0,
            next_position: 0,
            answer_times: AnswerTimes::default(),
            forgotten: HashSet::new(),
            overdue: BTreeMap::new(),
            owed_since: None,
            stuck_since: None,
            last_output: now,
            next_check: None,
            hinted: false,
            restart: Restart::new(now),
            garbage: incoming::FaultLog::default(),
        }
    }

    /// The id of the next event.
    pub fn next_free_id(&self) -> u64 {
        self.next_id
    }

    /// Issues ids from here on: an exchange before this one used those below.
    pub fn issue_from(&mut self, id: u64) {
        self.next_id = id;
    }

    fn hook(&self, hook: Hook) -> bool {
        self.settings.hooks.has(hook)
    }

    /// Unanswered events that one connection (or all handshakes) may hold.
    fn quarter(&self) -> usize {
        (self.settings.window / 4).max(1)
    }

    /// A connection was opened.
    pub fn opened(&mut self, info: Arc<ConnInfo>) {
        let conn = info.id;
        let told = self.hook(Hook::OnClientOpen);
        self.peers.open(info, told);
        if told && self.restart.up {
            self.fifo.push_back(Notice::Open(conn));
        }
    }

    /// Whether a connection was announced and not forgotten yet.
    pub fn knows(&mut self, conn: ConnId) -> bool {
        self.peers.get(conn).is_some()
    }

    /// A connection sent a message.
    pub fn message(&mut self, conn: ConnId, message: Payload) {
        if !self.hook(Hook::OnMessage) {
            return self.release_message(conn, message);
        }
        let Some(peer) = self.peers.get(conn) else {
            // Only after a clean start of the listener, whose clients are all being closed.
            self.metrics.messages_dropped.add("listener_failed", 1);
            self.effects.push(Effect::Settled { conn, bytes: message.cost() });
            return;
        };
        peer.waiting.push_back(message);
        self.peers.one_waits_more();
        self.enter_ring(conn);
    }

    /// A connection is gone; this comes behind its last message.
    pub fn closed(&mut self, conn: ConnId, closed: Closed) {
        let told = self.hook(Hook::OnClientClose);
        self.peers.close(conn, closed, told);
        self.settle(conn);
    }

    /// Asks whether a handshake may go on.
    pub fn handshake(&mut self, conn: ConnId, members: Vec<u8>, offers: Vec<String>, now: Instant) {
        if !self.hook(Hook::OnHandshake) {
            self.effects
                .push(Effect::Handshake { conn, decision: HandshakeDecision::Accept(None) });
            return;
        }
        if !self.restart.up {
            self.effects.push(Effect::Handshake { conn, decision: HandshakeDecision::Unavailable });
            return;
        }
        self.handshakes.push_back(WaitingHandshake { conn, members, offers, since: now });
        self.enter_handshakes();
        self.check_at(now + self.settings.listener_timeout);
    }

    /// A push that goes through the listener.
    pub fn push(&mut self, ask: PushAsk, now: Instant) {
        if !self.hook(Hook::OnMessage) {
            return self.release_push(ask);
        }
        self.pushes.push_back(WaitingPush { ask: Box::new(ask), since: now });
        if !self.pushes_in_ring {
            self.pushes_in_ring = true;
            self.ring.push_back(Party::Pushes);
        }
        self.check_at(now + self.settings.listener_timeout);
    }

    /// Forgets the pushes that were not begun and whose requesters have gone.
    pub fn withdraw(&mut self) {
        self.pushes.retain(|waiting| !waiting.ask.reply.is_closed());
        let left = |asked: &Asked| match &asked.requester {
            Requester::Push(ask) => ask.reply.is_closed(),
            _ => false,
        };
        let left: Vec<u64> =
            self.asked.iter().filter(|(_, a)| left(a)).map(|(id, _)| *id).collect();
        for id in left {
            if self.take_back(id) {
                self.take_asked(id);
            }
        }
    }

    /// Hands a result line to the listener, if there is room.
    pub fn result(&mut self, line: String) {
        if !self.restart.up || self.results + line.len() > RESULTS_MAX {
            self.metrics.results_dropped.inc();
            return;
        }
        self.results += line.len();
        self.fifo.push_back(Notice::Result(line));
    }

    fn enter_ring(&mut self, conn: ConnId) {
        let quarter = self.quarter();
        if let Some(peer) = self.peers.get(conn)
            && !peer.in_ring
            && !peer.waiting.is_empty()
            && (peer.owed as usize) < quarter
        {
            peer.in_ring = true;
            self.ring.push_back(Party::Conn(conn));
        }
    }

    fn enter_handshakes(&mut self) {
        if !self.handshakes_in_ring
            && !self.handshakes.is_empty()
            && self.handshakes_owed < self.quarter()
        {
            self.handshakes_in_ring = true;
            self.ring.push_back(Party::Handshakes);
        }
    }

    /// Queues a connection's close once nothing of it waits, or forgets the connection if its
    /// close is not told.
    fn settle(&mut self, conn: ConnId) {
        let told = self.hook(Hook::OnClientClose);
        if self.peers.ready_to_close(conn) {
            if !told {
                // The next incarnation is told of every connection, so that `left` comes to 0.
                if !self.restart.will_resume(conn) {
                    self.peers.remove(conn);
                }
            } else if self.restart.up {
                self.peers.close_queued(conn);
                self.fifo.push_back(Notice::Close(conn));
            }
        }
    }

    /// Whether events wait that only a fuller window keeps back: clients' sockets are not read
    /// while this holds.
    pub fn window_full(&self) -> bool {
        !self.ring.is_empty()
    }

    /// Messages, handshakes and pushes that wait for their turn at the window.
    pub fn queued(&self) -> usize {
        self.peers.waiting() + self.handshakes.len() + self.pushes.len()
    }

    /// Bytes of notices (`onClientOpen`, `onClientClose`) that wait for the listener.
    pub fn notice_bytes(&self) -> usize {
        self.peers.notice_bytes()
    }

    /// Events that are owed or wait.
    pub fn busy(&self) -> bool {
        !self.asked.is_empty()
            || !self.handshakes.is_empty()
            || !self.pushes.is_empty()
            || self.peers.waiting() > 0
    }

    /// Whether this incarnation owes an answer.
    pub fn owes(&self) -> bool {
        self.restart.up && !self.asked.is_empty()
    }

    /// Leaves its tables room for so many entries at most, where they have fewer.
    pub fn shrink(&mut self, room: usize) {
        self.peers.shrink(room);
        self.wire.shrink(room);
        self.fifo.shrink_to(room);
        self.ring.shrink_to(room);
        self.asked.shrink_to(room);
        self.effects.shrink_to(room);
    }

    /// Whether lines are on their way to the pipe.
    pub fn flushed(&self) -> bool {
        self.fifo.is_empty() && self.wire.unwritten().is_empty()
    }
}

/// Who gets a message of `sender` (none: a push or a command, which goes to all) when nobody named
/// its recipients.
pub fn route_recipients(route: Route, sender: Option<ConnId>, except: &[ConnId]) -> Recipients {
    let all_but = |mut but: Vec<ConnId>| {
        but.sort_unstable();
        but.dedup();
        if but.is_empty() { Recipients::All } else { Recipients::AllBut(but.into()) }
    };
    match (route, sender) {
        (_, None) | (Route::All, _) => all_but(except.to_vec()),
        (Route::Others, Some(sender)) => {
            let mut but = except.to_vec();
            but.push(sender);
            all_but(but)
        }
        (Route::Sender, Some(sender)) if !except.contains(&sender) => {
            Recipients::Only(Arc::from([sender]))
        }
        (Route::Sender | Route::None, Some(_)) => Recipients::Only(Arc::from([])),
    }
}

fn decision_of(answer: HandshakeAnswer, offers: &[String]) -> Result<HandshakeDecision, String> {
    match answer {
        HandshakeAnswer::Reject(status, reason) => Ok(HandshakeDecision::Refuse(status, reason)),
        HandshakeAnswer::Accept(Some(protocol)) if !offers.contains(&protocol) => {
            Err(format!("the subprotocol {protocol:?} was not offered"))
        }
        HandshakeAnswer::Accept(protocol) => Ok(HandshakeDecision::Accept(protocol)),
    }
}

/// How long the first event of a careful incarnation waits for a sign of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

impl Exchange {
    /// A tally for somebody who wants to know.
    fn report(&self, gone: Vec<String>, reply: Reply) -> Option<Arc<DeliveryReport>> {
        Some(Arc::new(DeliveryReport::new(self.shards, gone, reply)))
    }
}

#[cfg(test)]
mod tests;
