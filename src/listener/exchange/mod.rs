//! The exchange: the gateway's side of the conversation with its listener.
//!
//! # What it owns
//!
//! The exchange is a state machine without I/O. It owns:
//! - the events that wait to be written to the listener;
//! - the events that were written and are not answered yet (they are *owed*);
//! - the list of connections that every new listener process has to be told of.
//!
//! Some events are *asked*: `onHandshake` and `onMessage` need an answer. The others,
//! `onClientOpen`, `onJoin`, `onLeave` and `onClientClose`, are *announced*: the listener does not
//! have to answer them.
//! An *incarnation* is one run of the listener's process, from its start to its exit.
//!
//! The caller does the I/O. It writes [`Exchange::unwritten`] into the listener's stdin and reports
//! the bytes that the pipe took ([`Exchange::written`]). It hands in each line of the listener's
//! stdout ([`Exchange::line`]). It carries out the [`Effect`]s.
//!
//! # Concurrency
//!
//! The shard that is the gateway's primary owns the exchange, and no other thread touches it. There
//! is no lock. The exchange reads no clock: the caller passes the time as `now`.
//!
//! # Where events wait
//!
//! - Notices (announced events and result lines) wait in `notices` and are written in that order.
//!   They do not count in the window.
//! - A message waits in the queue of its connection ([`peers::Peer`]). Handshakes wait in a queue
//!   of their own, and so do pushes.
//! - Each of these queues has a place in `turns` while it may put one more event into the window.
//!   The queue at the front writes one event and goes to the back.
//! - An event that was made into a line stays in `asked` with that line until it is answered, so
//!   that the next incarnation can be sent it again.
//!
//! [`Exchange::pump`] makes lines in this order: the connections that a new incarnation has to be
//! told of, the events that it is sent again, notices, then new asked events.
//!
//! The close of a connection enters `notices` when none of its messages waits any more. That rule
//! keeps its open, its messages and its close in order.
//!
//! With `format = "lines"` there are no events: `plain` has the queue of messages, and what becomes
//! of lines.
//!
//! # The order of effects
//!
//! Effects enter `effects` in the order of the decisions, which for answers and commands is the
//! order of their lines on stdout. The caller carries out operations and handshake decisions in that
//! order. It carries out each [`Effect::Settled`] behind the operations of the same batch, because a
//! connection that waits for its last answer ends when its last message is settled. The effects of
//! one line come in this order: the change of channels, then the delivery.

mod accepted;
mod answer_times;
mod channels;
mod commands;
pub(crate) mod faults;
pub mod incoming;
mod outgoing;
mod peers;
mod pipe_buffer;
mod plain;
mod reconfigure;
mod released;
pub(crate) mod restart;
mod timeouts;
mod waiting;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::config::hooks::Hook;
use crate::config::settings::GatewaySettings;
use crate::listener::exchange::accepted::Accepted;
use crate::listener::exchange::answer_times::AnswerTimes;
use crate::listener::exchange::faults::FaultLog;
use crate::listener::exchange::peers::{Notice, Peers};
use crate::listener::exchange::pipe_buffer::PipeBuffer;
use crate::listener::exchange::plain::{Plain, Unannounced};
use crate::listener::exchange::released::Released;
use crate::listener::exchange::restart::Restart;
use crate::listener::exchange::waiting::{Party, WaitingHandshake, WaitingPush};
use crate::listener::metrics::ListenerMetrics;
use crate::listener::op::{Delivery, Op};
use crate::listener::protocol::channel::{Channel, ChannelSet};
use crate::listener::protocol::connid::ConnId;
use crate::listener::protocol::push::Push;
use crate::listener::recipients::Recipients;
use crate::listener::report::{DeliveryReport, PushReply, Reply};
use crate::listener::tap::{Event, Tap};
use crate::text::position::Since;
use crate::ws::payload::Payload;

/// Bytes that may be ready for the pipe before more events are made into lines: the capacity of a
/// pipe.
const PIPE_BUFFER_HIGH: usize = 64 * 1024;

/// Bytes of result lines that may wait.
const RESULTS_MAX: usize = 1024 * 1024;

/// Events that timed out and whose late answers still count as progress.
const OVERDUE_MAX: usize = 4096;

/// Bytes of lines that may be owed at a time, whatever `window` allows: 64 large messages.
const OWED_MAX: usize = 64 * 1024 * 1024;

/// A decision that the caller carries out.
pub enum Effect {
    /// Hand an operation to all shards concerned.
    Op(Op),
    /// Answer a handshake.
    Handshake {
        /// The connection that asks to be opened.
        conn: ConnId,
        /// The answer.
        decision: HandshakeDecision,
    },
    /// A message of a connection is settled: it was answered, dropped, or sent on.
    Settled {
        /// The sender.
        conn: ConnId,
        /// The message's [`Payload::cost`].
        bytes: usize,
    },
}

impl HandshakeDecision {
    /// 101, where the listener chose nothing.
    pub const UNCHANGED: HandshakeDecision =
        HandshakeDecision::Accept { protocol: None, join: None, since: None };
}

impl Effect {
    fn deliver(payload: Payload, to: Recipients, report: Option<Arc<DeliveryReport>>) -> Effect {
        Effect::Op(Op::Deliver(Delivery::new(payload, to, report)))
    }

    fn unavailable(conn: ConnId) -> Effect {
        Effect::Handshake { conn, decision: HandshakeDecision::Unavailable }
    }
}

/// The answer to a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandshakeDecision {
    /// 101.
    Accept {
        /// The subprotocol, if the listener chose one.
        protocol: Option<String>,
        /// The first channels, if the listener chose them; else those that the URL asks for.
        join: Option<Vec<Channel>>,
        /// What the client is sent of the history, if the client itself asks for nothing.
        since: Option<Since>,
    },
    /// A refusal by the listener or by the gateway: an HTTP status and a text body.
    Refuse(u16, String),
    /// 503 with `Retry-After`: the listener is down or did not answer.
    Unavailable,
}

/// Who caused an asked event, and what is needed when the answer comes.
enum Requester {
    /// A connection sent a message. It was in these channels when the listener was asked.
    Conn(ConnId, Payload, ChannelSet),
    /// A connection asks to be opened and offers these subprotocols.
    Handshake(ConnId, Vec<String>),
    Push(Box<PushAsk>),
}

/// A push that waits or is owed.
pub struct PushAsk {
    /// The push.
    pub push: Push,
    /// Where its outcome goes. If the receiver was dropped, the push is withdrawn unless its line
    /// was begun.
    pub reply: PushReply,
    /// Its share of the limit on waiting pushes, given back when the push is dropped.
    pub ticket: Box<dyn Send>,
}

/// An event that is owed.
struct Asked {
    requester: Requester,
    /// The line as it was written last.
    line: Bytes,
    /// Its place in the order of writing within this incarnation; `None` if this incarnation was
    /// not sent it yet.
    position: Option<u64>,
    /// Offset of the line's first byte in the pipe, since the incarnation began.
    start: u64,
    /// When the pipe took the line's last byte.
    written: Option<Instant>,
    /// Whether an earlier incarnation was sent the line or its beginning.
    sent: bool,
    /// When the event came. Handshakes and pushes wait for their turn for `listener-timeout` at
    /// most.
    since: Instant,
}

impl Asked {
    /// As those who watch are shown it.
    fn event(&self, id: u64) -> Event {
        let (name, conn) = match self.requester {
            Requester::Conn(conn, ..) => (Hook::OnMessage, Some(conn)),
            Requester::Handshake(conn, _) => (Hook::OnHandshake, Some(conn)),
            Requester::Push(_) => (Hook::OnMessage, None),
        };
        let line = self.line.clone();
        Event { id: Some(id), name: name.name(), conn, line, written: self.written }
    }
}

/// The exchange of one gateway; see the module's docs.
pub struct Exchange {
    gateway: Arc<str>,
    settings: Arc<GatewaySettings>,
    metrics: Arc<ListenerMetrics>,
    /// Shards that add to a delivery report.
    shards: usize,
    /// Decisions that the caller takes out and carries out, in order.
    pub effects: Vec<Effect>,
    next_id: u64,
    peers: Peers,
    accepted: Accepted,
    released: Released,
    notices: VecDeque<Notice>,
    /// Bytes of the result lines in `notices`.
    results: usize,
    /// Bytes of the `onJoin` and `onLeave` notices in `notices`.
    told_bytes: usize,
    /// The `onClientOpen`s of this incarnation that were not answered, and whose connections have not
    /// ended.
    opens: HashMap<u64, ConnId>,
    /// Who may put the next events into the window.
    turns: VecDeque<Party>,
    handshakes: VecDeque<WaitingHandshake>,
    handshakes_owed: usize,
    handshake_turn_queued: bool,
    pushes: VecDeque<WaitingPush>,
    push_turn_queued: bool,
    plain: Plain,
    unannounced: Unannounced,
    pipe: PipeBuffer,
    asked: HashMap<u64, Asked>,
    /// Bytes of the lines in `asked`.
    asked_bytes: usize,
    next_position: u64,
    answer_times: AnswerTimes,
    /// Events that timed out since the listener's last line. For the hang time-out they are still
    /// owed.
    forgotten: HashSet<u64>,
    /// The position of each event that timed out in this incarnation. Its late answer delays the
    /// time-outs of the events behind it, as an answer in time does.
    overdue: BTreeMap<u64, u64>,
    /// Since when something has been owed without a break.
    owed_since: Option<Instant>,
    /// Since when the pipe has taken nothing although lines wait.
    stuck_since: Option<Instant>,
    last_output: Instant,
    next_check: Option<Instant>,
    /// Whether the log said that the listener's stdout may be buffered.
    hinted: bool,
    restart: Restart,
    fault_log: FaultLog,
    /// For those who watch.
    tap: Arc<Tap>,
}

impl Exchange {
    /// An exchange whose listener is not up yet. `shards` add to each delivery report.
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
            accepted: Accepted::default(),
            released: Released::default(),
            settings,
            metrics,
            shards,
            effects: Vec::new(),
            next_id: 1,
            notices: VecDeque::new(),
            results: 0,
            told_bytes: 0,
            opens: HashMap::new(),
            turns: VecDeque::new(),
            handshakes: VecDeque::new(),
            handshakes_owed: 0,
            handshake_turn_queued: false,
            pushes: VecDeque::new(),
            push_turn_queued: false,
            plain: Plain::default(),
            unannounced: Unannounced::default(),
            pipe: PipeBuffer::default(),
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
            fault_log: FaultLog::default(),
            tap: Arc::default(),
        }
    }

    /// Shows events and answers where `tap` is watched.
    pub(crate) fn set_tap(&mut self, tap: Arc<Tap>) {
        self.tap = tap;
    }

    /// The id of the next event, for [`Exchange::issue_from`] of the gateway's next exchange.
    pub(crate) fn next_free_id(&self) -> u64 {
        self.next_id
    }

    /// Issues ids from `id` on, because an earlier exchange of the gateway issued those below.
    pub(crate) fn issue_from(&mut self, id: u64) {
        self.next_id = id;
    }

    fn hook(&self, hook: Hook) -> bool {
        self.settings.events().has(hook)
    }

    /// Whether this incarnation owes an answer.
    pub(crate) fn owes(&self) -> bool {
        self.restart.up && !self.asked.is_empty()
    }

    /// Whether the answer to this event is waited for.
    pub(crate) fn is_owed(&self, id: u64) -> bool {
        self.asked.contains_key(&id)
    }

    /// Whether an event is owed or waits to be asked.
    pub fn busy(&self) -> bool {
        !self.asked.is_empty() || self.queued() > 0
    }

    /// Whether the pipe took all lines and no notice waits.
    pub fn flushed(&self) -> bool {
        self.notices.is_empty() && self.pipe.unwritten().is_empty()
    }

    /// Whether the listener reads and writes plain lines.
    pub(crate) fn is_plain(&self) -> bool {
        self.settings.is_plain()
    }

    /// Gives back the memory of tables that have room for more than `room` entries and do not need
    /// it.
    pub(crate) fn shrink(&mut self, room: usize) {
        self.peers.shrink(room);
        self.accepted.shrink(room);
        self.pipe.shrink(room);
        self.notices.shrink_to(room);
        self.opens.shrink_to(room);
        self.turns.shrink_to(room);
        self.asked.shrink_to(room);
        self.effects.shrink_to(room);
    }

    /// Drops all notices.
    fn clear_notices(&mut self) {
        self.notices.clear();
        self.results = 0;
        self.told_bytes = 0;
    }

    fn report(&self, gone: Vec<String>, reply: Reply) -> Option<Arc<DeliveryReport>> {
        Some(Arc::new(DeliveryReport::new(self.shards, gone, reply)))
    }
}

#[cfg(test)]
mod tests;
