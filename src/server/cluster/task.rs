//! The task of a gateway with a cluster. It alone decides in which order the gateway's operations
//! are carried out, and it never waits for the shards.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::settings::OnEngineLoss;
use crate::gateway::history::Log;
use crate::gateway::kept::now;
use crate::gateway::msg::HubMsg;
use crate::gateway::outlet::Outlet;
use crate::gateway::relay::Passing;
use crate::listener::protocol::node::Node;
use crate::server::cluster::counts::{Answer, Counts};
use crate::server::cluster::engine::{Engine, OpenError, Session};
use crate::server::cluster::inbox::Taken;
use crate::server::cluster::nodes::{Memberships, Nodes};
use crate::server::cluster::replica::{Link, Replica};
use crate::server::cluster::seldom::Seldom;
use crate::server::cluster::status::Status;
use crate::server::cluster::wire;
use crate::server::cluster::wire::{Entry, Header};
use crate::text::position::Position;

/// How often the task looks at its clocks.
const TICK: Duration = Duration::from_millis(100);

/// How often a node says that it lives.
const BEAT: Duration = Duration::from_millis(500);

/// After so long, each node that is there has given a sign of life.
pub(super) const ALL_HEARD: Duration = BEAT.saturating_add(TICK.saturating_mul(2));

/// How long the node's own signs of life may be on their way.
const LOST: Duration = Duration::from_millis(1_500);

/// The same, while many messages of the stream wait to be read.
const BACKLOG: Duration = Duration::from_millis(6_000);

/// How late a look at the clocks may be: beyond it the process was stopped.
const PAUSE: Duration = Duration::from_millis(500);

/// How long a message may be on its way before it is sent again.
const AGAIN: Duration = Duration::from_millis(1_000);

/// How long the last attempt to come to the stream may be ago.
const RETRY: Duration = Duration::from_millis(300);

/// How often old signs of life are removed.
const PURGE: Duration = Duration::from_secs(60);

/// Things that are handled at one go.
const TURN: usize = 1_024;

/// Operations that wait for the servers before clients and producers are not read any more.
const WAITING_MOST: usize = 4 * TURN;

/// Messages that may be on their way to the stream.
const IN_FLIGHT: usize = 256;

/// An operation with its place in the message to the stream; `None`: it only stands behind those.
pub(super) struct Item {
    pub(super) index: Option<u16>,
    pub(super) passing: Passing,
    /// Whether it counts against its sender and the frames that wait no longer.
    pub(super) let_go: bool,
}

/// The message to the stream that is being made.
pub(super) struct Batch {
    pub(super) bytes: BytesMut,
    pub(super) items: Vec<Item>,
    /// Its number; in core mode that of its first entry.
    pub(super) number: u64,
    pub(super) entries: u16,
}

type Opening = BoxFuture<'static, Result<Session, OpenError>>;

/// A message behind a hole in the stream, its number, and that of the stream's oldest message.
type Looking = BoxFuture<'static, (u64, Message, Option<u64>)>;

/// The task's state.
pub(super) struct Task {
    pub(super) me: Node,
    pub(super) name: String,
    pub(super) engine: Engine,
    pub(super) outlet: Outlet,
    pub(super) on_loss: OnEngineLoss,
    /// Bytes of a client's message at most.
    pub(super) most: usize,
    pub(super) status: Arc<Status>,
    pub(super) replica: Replica<Item>,
    pub(super) batch: Option<Batch>,
    pub(super) nodes: Nodes,
    pub(super) counts: Counts,
    /// The members of this node.
    pub(super) members: Memberships,
    /// What waits for the servers.
    pub(super) held: VecDeque<Passing>,
    /// Those that wait for a message of the stream: its number, and until when.
    pub(super) waiting: Vec<(u64, u64, Passing)>,
    /// In core mode, the number of the next entry.
    pub(super) next_plain: u64,
    /// In core mode, how many deliveries there were so far.
    pub(super) plain_deliveries: u64,
    /// In core mode, messages that are to be published.
    pub(super) plain: Vec<Bytes>,
    /// In core mode, the numbers of the other nodes' next entries, and their deliveries so far.
    pub(super) expected: HashMap<Node, (u64, u64)>,
    /// Places that were given to what has none.
    pub(super) nowhere: u64,
    /// The history that is being read from the stream, until all of it is there.
    pub(super) draft: Option<Log>,
    /// Whether clients go on without the servers.
    pub(super) goes_alone: bool,
    /// The number of the consumer's last message.
    pub(super) consumed: u64,
    /// Bytes of the stream's messages since that of the epoch, and when it came.
    pub(super) since_epoch: (u64, Instant),
    pub(super) session: Option<Session>,
    /// Messages that cannot be read.
    pub(super) unread: Seldom,
    /// Whether it was said that there is another version of the format.
    pub(super) said_version: bool,
    /// Whether it was said that another node has the same name.
    pub(super) said_namesake: bool,
    /// Nothing is read until this is known.
    pub(super) looking: Option<Looking>,
    start: Instant,
    /// Since when this `serve` runs.
    pub(super) since: u64,
    pub(super) own_beat: Instant,
    /// When a message was read behind which others waited.
    pub(super) backlog_at: Instant,
    pub(super) next_beat: Instant,
    next_try: Instant,
    last_tick: Instant,
    next_purge: Instant,
    pub(super) sent_at: Instant,
    /// How often in a row it could not come to the stream.
    pub(super) failures: u32,
    /// When the node came to the stream.
    pub(super) opened_at: Instant,
    pub(super) answers: mpsc::UnboundedSender<(Node, Answer)>,
}

/// What the task hears.
pub(super) struct Ears {
    pub(super) inbox: Taken,
    pub(super) answers: mpsc::UnboundedReceiver<(Node, Answer)>,
    pub(super) stop: CancellationToken,
}

async fn next(subscriber: Option<&mut Subscriber>) -> Option<Message> {
    match subscriber {
        Some(subscriber) => subscriber.next().await,
        None => std::future::pending().await,
    }
}

/// Waits for something, if there is something to wait for.
async fn awaited<T>(what: &mut Option<BoxFuture<'static, T>>) -> T {
    match what {
        Some(what) => what.await,
        None => std::future::pending().await,
    }
}

impl Task {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        (me, since, run): (Node, u64, u64),
        name: String,
        engine: Engine,
        outlet: Outlet,
        (on_loss, most): (OnEngineLoss, usize),
        status: Arc<Status>,
        answers: mpsc::UnboundedSender<(Node, Answer)>,
    ) -> Task {
        let start = Instant::now();
        Task {
            me,
            name,
            engine,
            outlet,
            on_loss,
            most,
            status,
            replica: Replica::new(me, run),
            batch: None,
            nodes: Nodes::default(),
            counts: Counts::default(),
            members: Memberships::default(),
            held: VecDeque::new(),
            waiting: Vec::new(),
            next_plain: 1,
            plain_deliveries: 0,
            plain: Vec::new(),
            expected: HashMap::new(),
            nowhere: 0,
            draft: None,
            goes_alone: false,
            consumed: 0,
            since_epoch: (0, start),
            session: None,
            unread: Seldom::default(),
            said_version: false,
            said_namesake: false,
            looking: None,
            start,
            since,
            own_beat: start,
            backlog_at: start,
            next_beat: start,
            next_try: start,
            last_tick: start,
            next_purge: start + PURGE,
            sent_at: start,
            failures: 0,
            opened_at: start,
            answers,
        }
    }

    /// Runs until the gateway stops.
    pub(super) async fn run(mut self, mut ears: Ears) {
        let mut private = self.private().await;
        let mut opening: Option<Opening> = None;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let has_room = self.has_room();
            let (messages, acks) = match self.session.as_mut() {
                Some(session) => (Some(&mut session.messages), session.acks.as_mut()),
                None => (None, None),
            };
            tokio::select! {
                () = ears.stop.cancelled() => break,
                passing = ears.inbox.recv(), if has_room => {
                    let Some(passing) = passing else { break };
                    self.take_all(passing, &mut ears.inbox);
                }
                message = next(messages), if self.looking.is_none() => match message {
                    Some(message) => self.read(message),
                    None => self.lose("the subscription has ended"),
                },
                ack = next(acks) => if let Some(ack) = ack { self.acknowledged(&ack) },
                told = next(private.as_mut()) => if let Some(told) = told { self.told(&told) },
                answer = ears.answers.recv() => if let Some((node, answer)) = answer {
                    self.answer(node, answer).await;
                },
                found = awaited(&mut self.looking) => {
                    self.looking = None;
                    self.looked(found);
                }
                session = awaited(&mut opening) => {
                    opening = None;
                    self.opened(session);
                }
                _ = ticks.tick() => {
                    if private.is_none() {
                        private = self.private().await;
                    }
                    self.tick().await;
                }
            }
            self.let_go();
            self.bound(ears.inbox.len());
            self.flush().await;
            self.tell_done();
            if self.replica.link == Link::Down
                && opening.is_none()
                && Instant::now() >= self.next_try
            {
                self.next_try = Instant::now() + RETRY;
                let seen = self.replica.seen();
                let engine = self.engine.clone();
                // Each third time.
                let reconnects = self.failures % 3 == 2;
                opening = Some(async move { engine.open(seen, reconnects).await }.boxed());
            }
        }
        self.end(ears).await;
    }

    /// Takes what the shards have handed in, as far as one turn goes.
    fn take_all(&mut self, first: Passing, inbox: &mut Taken) {
        let core = Arc::clone(self.outlet.core());
        let _held = core.hold_wakes();
        self.take(first);
        for _ in 1..TURN {
            let Some(passing) = inbox.try_recv() else { break };
            self.take(passing);
        }
    }

    /// What this node alone is told; `None` if the client is too busy for it now.
    async fn private(&mut self) -> Option<Subscriber> {
        let subscribing = self.engine.client.subscribe(self.engine.names.of(self.me));
        timeout(TICK, subscribing).await.ok()?.ok()
    }

    /// Whether the others' messages come without an order of all.
    pub(super) fn is_core(&self) -> bool {
        self.engine.is_core()
    }

    /// Clients and producers are not read while much waits for the servers.
    pub(super) fn bound(&self, waiting: usize) {
        let waiting = waiting + self.held.len();
        let gateway = self.outlet.gateway();
        if waiting >= WAITING_MOST {
            gateway.pressure.hold(true);
        } else if waiting <= WAITING_MOST / 4 && gateway.pressure.is_held() {
            gateway.pressure.hold(false);
            self.outlet.core().post_all(gateway, || HubMsg::GateOpen);
        }
    }

    /// Milliseconds since the task began.
    pub(super) fn clock(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn has_room(&self) -> bool {
        self.replica.link != Link::Up || self.replica.order.unseen() < IN_FLIGHT
    }

    // ---- clocks --------------------------------------------------------------------------------

    async fn tick(&mut self) {
        let (at, clock) = (Instant::now(), self.clock());
        let late = at.saturating_duration_since(std::mem::replace(&mut self.last_tick, at));
        if late > PAUSE {
            // This process did not run, so what others have said is still to be read. That time does not
            // count; on a busy machine it comes again and again.
            self.own_beat = (self.own_beat + late).min(at);
            self.sent_at = (self.sent_at + late).min(at);
            self.nodes.excuse_for(u64::try_from(late.as_millis()).unwrap_or(u64::MAX), clock);
        }
        if self.replica.link == Link::Down {
            // Nobody can be heard.
            self.nodes.excuse(clock);
            if self.on_loss == OnEngineLoss::Local && self.is_lost() {
                self.go_alone();
            }
        } else {
            if self.is_silent(at) {
                return self.lose("the NATS server does not answer");
            }
            if at >= self.next_beat {
                self.next_beat = at + BEAT;
                let beat = self.beat();
                if let Err(why) = self.engine.beat(beat).await {
                    return self.lose(&why);
                }
            }
            if !self.is_core()
                && self.replica.is_waiting()
                && at.saturating_duration_since(self.sent_at) > AGAIN
            {
                self.sent_at = at;
                let again = self.replica.again();
                self.status.retried(again);
            }
            for (node, changes) in self.nodes.expire(clock) {
                tracing::warn!(gateway = %self.gateway(), %node, "a node of the cluster is silent: its connections are gone");
                self.status.silent();
                self.expected.remove(&node);
                self.membership_changes(changes);
            }
            self.keep_epoch(at);
            if at >= self.next_purge && !self.is_core() && self.is_eldest() {
                self.next_purge = at + PURGE;
                let engine = self.engine.clone();
                tokio::spawn(async move { engine.purge_beats().await });
            }
        }
        self.show_nodes();
    }

    /// Shows the nodes as they are now.
    pub(super) fn show_nodes(&self) {
        let clock = self.clock();
        let connections = self.outlet.gateway().metrics.connections.get();
        let this = (self.me, self.name.as_str(), connections);
        self.status.set_nodes(this, &self.nodes, clock);
    }

    /// Has the epoch written again in time.
    fn keep_epoch(&mut self, at: Instant) {
        let (bytes, age) = self.engine.epoch_lasts();
        let (since, from) = self.since_epoch;
        let Some(epoch) = self.replica.epoch() else { return };
        if since < bytes && at.saturating_duration_since(from) < age || !self.is_eldest() {
            return;
        }
        self.since_epoch = (0, at);
        let engine = self.engine.clone();
        tokio::spawn(async move {
            if let Err(why) = engine.repeat_epoch(epoch).await {
                tracing::warn!("the epoch of a stream is not written again: {why}");
            }
        });
    }

    /// Whether the node's own signs of life do not come back. While much is still to be read they stand
    /// behind that.
    fn is_silent(&self, at: Instant) -> bool {
        let silent = at.saturating_duration_since(self.own_beat);
        let backlog = at.saturating_duration_since(self.backlog_at);
        silent > LOST && (backlog > LOST || silent > BACKLOG)
    }

    /// Whether the servers have been silent for so long that clients need not wait for them.
    pub(super) fn is_lost(&self) -> bool {
        self.replica.link == Link::Down && self.own_beat.elapsed() > LOST
    }

    /// Whether it is this node that does what one of them has to do.
    fn is_eldest(&self) -> bool {
        self.nodes.all().all(|(node, _)| node > self.me)
    }

    fn beat(&self) -> bytes::Bytes {
        let header = Header { node: self.me, number: 0, before: 0, at: now() };
        let mut bytes = wire::begin(header);
        wire::write(
            &mut bytes,
            &Entry::Beat {
                connections: self.outlet.gateway().metrics.connections.get(),
                since: self.since,
                seen: self.replica.order.seen(),
                epoch: self.replica.marked_epoch(),
                asks: self.asked(),
                name: self.name.clone(),
            },
        );
        bytes.freeze()
    }

    /// The nodes that have not told their members, so many of them as can be asked at a time.
    fn asked(&self) -> Vec<Node> {
        let untold = self.nodes.all().filter(|(_, known)| !known.told()).map(|(node, _)| node);
        fastrand::choose_multiple(untold, wire::ASKED)
    }

    pub(super) fn gateway(&self) -> &str {
        &self.outlet.gateway().id
    }
}

/// The number under which a message is kept.
pub(super) fn number(sequence: u64, index: u16) -> u64 {
    Position::stream_number(sequence, index)
}
