//! Runs the exchange with any sequence of events, lines, restarts and times, and compares it with a
//! simple model of what the listener protocol promises.

mod channels;
mod completion;
mod inbound;
mod lines;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tokio::sync::oneshot::{self, Receiver};
use wsgw::api::{ApiError, PushOutcome};
use wsgw::config::hooks::Hook;
use wsgw::config::settings::GatewaySettings;
use wsgw::listener::connection::{Closed, ConnInfo};
use wsgw::listener::exchange::{Effect, Exchange, PushAsk};
use wsgw::listener::membership::LeaveReason;
use wsgw::listener::metrics::ListenerMetrics;
use wsgw::listener::protocol::connid::ConnId;
use wsgw::listener::protocol::event;
use wsgw::listener::protocol::event::{Request, Subprotocol};
use wsgw::listener::protocol::push::Push;
use wsgw::ws::payload::Payload;

use self::channels::{Accepted, Channels, MOST, Names, Rooms};
use self::completion::Completion;
use super::{Choices, gateway_with};

/// What an asked event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    /// A message by its number.
    Message(usize),
    /// A handshake of this connection.
    Handshake(ConnId),
    /// A push by its number.
    Push(usize),
}

struct Conn {
    closed: bool,
    rooms: Rooms,
    /// Whether an incarnation was sent its open, and its close.
    open_announced: bool,
    close_announced: bool,
    /// Its messages that no incarnation was sent yet.
    unseen: VecDeque<usize>,
    /// How many of its messages are not settled.
    under_way: usize,
    /// Whether the listener was started clean after it was opened.
    forgotten: bool,
}

/// An event that the listener owes.
struct Owed {
    about: About,
    /// Its position in the order of writing within this incarnation, and when it was written.
    written: Option<(usize, Instant)>,
}

/// What one incarnation was sent and has answered.
#[derive(Default)]
struct Incarnation {
    opened: BTreeSet<ConnId>,
    /// The ids of those opens.
    open_ids: BTreeMap<u64, ConnId>,
    closed: BTreeSet<ConnId>,
    seen: BTreeSet<u64>,
    /// Ids that were complete before it began. None of their lines may come.
    completed: BTreeSet<u64>,
    /// For each position, when its event was answered.
    answers: Vec<Option<Instant>>,
    /// Positions of events that timed out. Late answers to them count as answers.
    overdue: BTreeMap<u64, usize>,
    left: Option<u64>,
    redelivered: u64,
    partial: Vec<u8>,
    wrote_line: bool,
    since: Option<Instant>,
    /// Whether events are sent again one at a time.
    one_at_a_time: bool,
    /// Events that were owed when it began.
    to_redeliver: BTreeSet<u64>,
}

/// Receives the outcome of a push.
type Outcome = Receiver<Result<PushOutcome, ApiError>>;

struct Model {
    exchange: Exchange,
    settings: Arc<GatewaySettings>,
    metrics: Arc<ListenerMetrics>,
    results: Arc<dyn Fn(String) + Send + Sync>,
    now: Instant,
    up: bool,
    conns: BTreeMap<ConnId, Conn>,
    messages: Vec<ConnId>,
    /// Each with its ticket, which the exchange drops when the push is complete.
    pushes: Vec<(Outcome, Arc<()>)>,
    handshakes: BTreeSet<ConnId>,
    /// Connections that were accepted and are not open.
    accepted: BTreeMap<ConnId, Accepted>,
    /// The number of handshakes so far.
    asked_in: u64,
    owed: BTreeMap<u64, Owed>,
    completed: BTreeSet<u64>,
    /// Ids whose lines an incarnation was sent, in full or in part.
    sent: BTreeSet<u64>,
    highest: u64,
    here: Incarnation,
    exits: u32,
    alone: Option<(u64, u32)>,
    silent_exits: Option<(u32, Instant)>,
    results_given: VecDeque<String>,
    channels: Channels,
}

/// Runs the sequence that the bytes describe.
pub fn exchange(data: &[u8]) {
    let mut choices = Choices(data);
    let mut model = Model::new(&mut choices);
    let mut steps = 0;
    while !choices.is_empty() && steps < 2_000 {
        model.step(&mut choices);
        steps += 1;
    }
    model.end();
}

impl Model {
    fn new(choices: &mut Choices<'_>) -> Model {
        let windows = ["1", "2", "4", "9", "256"];
        let window = windows[choices.below(windows.len())];
        let on_timeout = [r#""drop""#, r#""broadcast""#, r#""close""#][choices.below(3)];
        let bits = choices.byte();
        let route = if bits & 32 == 0 { r#""all""# } else { r#""channels""# };
        let most = MOST.to_string();
        let set = [
            ("window", window),
            ("on-timeout", on_timeout),
            ("route", route),
            ("max-channels", most.as_str()),
        ];
        let mut settings = gateway_with(&set).expect("good settings");
        let hooks = [
            "onHandshake,onClientOpen,onClientClose,onMessage",
            "onClientOpen,onMessage",
            "onClientClose,onMessage",
            "onMessage",
        ];
        let mut names: Vec<&str> = hooks[usize::from(bits) % hooks.len()].split(',').collect();
        if bits & 64 != 0 {
            names.extend(["onJoin", "onLeave"]);
        }
        settings.hooks = wsgw::config::hooks::Hooks::parse(&names).expect("hooks");
        settings.listener_timeout = Duration::from_secs(10);
        let (settings, metrics) = (Arc::new(settings), Arc::new(ListenerMetrics::default()));
        let now = Instant::now();
        Model {
            exchange: Exchange::new(
                Arc::from("fuzz"),
                Arc::clone(&settings),
                Arc::clone(&metrics),
                1,
                now,
            ),
            settings,
            metrics,
            results: Arc::new(|_| {}),
            now,
            up: false,
            conns: BTreeMap::new(),
            messages: Vec::new(),
            pushes: Vec::new(),
            handshakes: BTreeSet::new(),
            accepted: BTreeMap::new(),
            asked_in: 0,
            owed: BTreeMap::new(),
            completed: BTreeSet::new(),
            sent: BTreeSet::new(),
            highest: 0,
            here: Incarnation::default(),
            exits: 0,
            alone: None,
            silent_exits: None,
            results_given: VecDeque::new(),
            channels: Channels::default(),
        }
    }

    fn hook(&self, hook: Hook) -> bool {
        self.settings.hooks.has(hook)
    }

    /// Chooses one of the newest connections.
    fn conn(&self, choices: &mut Choices<'_>) -> Option<ConnId> {
        let back = choices.below(8);
        self.conns.keys().rev().nth(back).copied()
    }

    fn owed_id(&self, choices: &mut Choices<'_>) -> Option<u64> {
        if self.owed.is_empty() {
            return None;
        }
        let nth = choices.below(self.owed.len());
        self.owed.keys().nth(nth).copied()
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        let byte = usize::from(choices.byte());
        // What is done, and in what way.
        let (what, way) = (byte % 20, byte / 20);
        match what {
            0 if way % 2 == 1 && !self.accepted.is_empty() => self.open_accepted(choices.below(8)),
            0 => self.open(way),
            1..=4 => {
                if let Some(conn) = self.conn(choices) {
                    self.message(conn);
                }
            }
            5 => {
                if let Some(conn) = self.conn(choices) {
                    self.close(conn);
                }
            }
            6 if self.hook(Hook::OnHandshake) => self.handshake(),
            6 | 7 => self.push(),
            8 => self.toggle(choices.below(8) == 0),
            9 => self.pass(Duration::from_millis(100)),
            10 => self.pass(Duration::from_secs(choices.below(12) as u64)),
            11 => self.take(choices.below(200)),
            12 | 13 => self.take(usize::MAX),
            14..=16 => {
                if let Some(id) = self.owed_id(choices) {
                    let byte = usize::from(choices.byte());
                    self.answer(id, byte % 5, byte / 5);
                }
            }
            17 => self.noise(choices.below(6)),
            18 => {
                let line = format!("{{\"event\":\"onResult\",\"ref\":{}}}", self.messages.len());
                self.exchange.result(line.clone());
                if self.up {
                    self.results_given.push_back(line);
                }
            }
            19 if way % 4 == 1 => self.answer_open(choices.below(8), choices.below(16)),
            19 if way % 4 > 1 => {
                let accepted = self.accepted.keys().nth_back(choices.below(4)).copied();
                let accepted = accepted.filter(|_| way % 8 > 5);
                if let Some(conn) = accepted.or_else(|| self.conn(choices)) {
                    self.membership_command(conn, way % 4 == 2, choices.below(16));
                }
            }
            _ => {
                let nth = choices.below(self.pushes.len().max(1));
                if let Some((receiver, _)) = self.pushes.get_mut(nth) {
                    receiver.close();
                    self.exchange.withdraw();
                }
            }
        }
        self.check_step();
    }

    fn open(&mut self, which: usize) {
        let id = ConnId(self.conns.len() as u64 + 1);
        let names = channels::set(which % 3);
        self.opened(id, &names.clone(), names);
    }

    /// A connection was opened in the channels `first`, and its shard has handed that in. The listener
    /// has changed them to `now` meanwhile.
    fn opened(&mut self, id: ConnId, first: &Names, now: Names) {
        let headers = [("x-a".to_owned(), "b".to_owned())];
        let request = Request {
            path: "/",
            query: "",
            remote: "127.0.0.1:1",
            headers: &headers,
            transport: None,
        };
        let members = event::request_members(request, Subprotocol::Chosen(None));
        let first = channels::channels(first);
        self.exchange.opened(
            Arc::new(ConnInfo {
                id,
                opened_at: SystemTime::UNIX_EPOCH,
                remote: "127.0.0.1:1".into(),
                members: members.into(),
                path_len: 3,
            }),
            &first,
        );
        let conn = Conn {
            closed: false,
            rooms: Rooms::new(now),
            open_announced: false,
            close_announced: false,
            unseen: VecDeque::new(),
            under_way: 0,
            forgotten: false,
        };
        self.conns.insert(id, conn);
        for channel in &first {
            self.joined(id, channel);
        }
    }

    fn message(&mut self, id: ConnId) {
        let number = self.messages.len();
        let Some(conn) = self.conns.get_mut(&id).filter(|c| !c.closed) else { return };
        conn.under_way += 1;
        conn.unseen.push_back(number);
        let payload = Payload::text(&number.to_string());
        self.exchange.message(id, payload);
        self.messages.push(id);
    }

    fn close(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id).filter(|c| !c.closed) else { return };
        conn.closed = true;
        for channel in channels::channels(&conn.rooms.now().clone()) {
            self.left(id, &channel, LeaveReason::Closed);
        }
        let closed = Closed { code: 1000, reason: id.to_string(), clean: true };
        self.exchange.closed(id, closed);
    }

    fn handshake(&mut self) {
        // Their names must differ from the others'.
        self.asked_in += 1;
        let id = ConnId(1_000_000 + self.asked_in);
        self.handshakes.insert(id);
        let request = Request { path: "/", query: "", remote: "", headers: &[], transport: None };
        let mut members = event::request_members(request, Subprotocol::Offered(&[]));
        members.extend_from_slice(channels::asked(id).as_bytes());
        self.exchange.handshake(id, members, Vec::new(), self.now);
    }

    fn push(&mut self) {
        let json = format!("{{\"message\":\"\",\"push\":{}}}", self.pushes.len());
        let push = Push::parse(json.as_bytes()).expect("a good push");
        let (reply, receiver) = oneshot::channel();
        let ticket = Arc::new(());
        self.pushes.push((receiver, Arc::clone(&ticket)));
        self.exchange.push(PushAsk { push, reply, ticket: Box::new(ticket) }, self.now);
    }

    fn push_is_complete(&self, number: usize) -> bool {
        Arc::strong_count(&self.pushes[number].1) == 1
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        // The gateway would kill a listener that hangs. Here it lives on, which tests more.
        let _ = self.exchange.check(self.now);
        self.timeouts();
    }

    /// The pipe takes up to `n` bytes.
    fn take(&mut self, n: usize) {
        let mut left = n;
        loop {
            self.exchange.pump(self.now);
            let bytes = self.exchange.unwritten();
            let some = bytes.len().min(left);
            if some == 0 {
                self.channels.behind = !bytes.is_empty() || !self.here.partial.is_empty();
                return;
            }
            self.here.partial.extend_from_slice(&bytes[..some]);
            left -= some;
            self.exchange.written(some, self.now);
            while let Some(end) = self.here.partial.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.here.partial.drain(..=end).collect();
                self.inbound(&line);
            }
        }
    }

    /// Starts the listener if it is down, and ends it if it is up.
    fn toggle(&mut self, wanted: bool) {
        if !self.up {
            self.up = true;
            self.exchange.attach(self.now);
            let one_at_a_time = self.here.one_at_a_time && !self.old_events_are_completed();
            let owed: BTreeSet<u64> = self.owed.keys().copied().collect();
            self.here = Incarnation {
                one_at_a_time: !owed.is_empty() && (one_at_a_time || self.exits >= 2),
                to_redeliver: owed,
                completed: self.completed.clone(),
                since: Some(self.now),
                ..Incarnation::default()
            };
            return;
        }
        // The events that were begun are those that the listener has read and owes, and the one whose
        // line the pipe took in part.
        let mut cut = std::mem::take(&mut self.here.partial);
        if !cut.is_empty() {
            let rest = self.exchange.unwritten();
            let end = rest.iter().position(|b| *b == b'\n').expect("the line's end");
            cut.extend_from_slice(&rest[..end]);
            let event: Value = serde_json::from_slice(&cut).expect("JSON");
            if event["event"] == "onMessage" {
                let id = event["id"].as_u64().expect("an id");
                self.highest = self.highest.max(id);
                self.listed_again(id, &channels::listed(&event));
                let completed =
                    event["push"].as_u64().is_some_and(|n| self.push_is_complete(n as usize));
                if !completed && !self.completed.contains(&id) {
                    let about = match event["push"].as_u64() {
                        Some(push) => About::Push(push as usize),
                        None => {
                            let text = event["message"].as_str().expect("text");
                            About::Message(text.parse().expect("ours"))
                        }
                    };
                    self.owed.entry(id).or_insert(Owed { about, written: None });
                    let written = Some((usize::MAX, self.now));
                    self.owed.get_mut(&id).expect("just there").written = written;
                }
            }
        }
        self.detach(wanted);
    }

    fn old_events_are_completed(&self) -> bool {
        self.here.to_redeliver.iter().all(|id| self.completed.contains(id))
    }

    fn detach(&mut self, wanted: bool) {
        let wrote_line = self.here.wrote_line;
        self.up = false;
        self.results_given.clear();
        self.channels.detached();
        self.exits += u32::from(!wanted);
        let mut completed = Vec::new();
        let mut begun = Vec::new();
        for (id, owed) in &mut self.owed {
            if owed.written.take().is_some() && !matches!(owed.about, About::Handshake(_)) {
                begun.push(*id);
            }
        }
        self.sent.extend(&begun);
        if let [id] = begun[..]
            && !wanted
        {
            let before = self.alone.filter(|(last, _)| *last == id).map_or(0, |(_, n)| n);
            self.alone = Some((id, before + 1));
            if before + 1 == 3 {
                self.alone = None;
                let owed = self.owed.remove(&id).expect("it is owed");
                self.completed.insert(id);
                completed.push((owed.about, Completion::Dropped));
                if let About::Message(number) = owed.about {
                    let conn = self.conns.get_mut(&self.messages[number]).expect("a connection");
                    conn.unseen.retain(|m| *m != number);
                }
            }
        }
        let exit = self.exchange.detach(wanted, self.now);
        assert_eq!(exit.wrote_line, wrote_line);
        self.owed.retain(|_, owed| !matches!(owed.about, About::Handshake(_)));
        self.refused_handshakes();
        assert!(self.handshakes.is_empty(), "the end of an incarnation refuses all handshakes");
        self.expect_completed(&completed);
        if exit.start_clean {
            assert!(!wrote_line);
            self.start_clean();
        }
    }

    /// The gateway starts the listener clean and forgets all events and connections.
    fn start_clean(&mut self) {
        self.exchange.start_clean();
        self.accepted.clear();
        for (_, conn) in self.conns.iter_mut() {
            conn.forgotten = true;
            conn.closed = true;
            conn.unseen.clear();
        }
        self.completed.extend(std::mem::take(&mut self.owed).into_keys());
        (self.exits, self.alone) = (0, None);
        for effect in std::mem::take(&mut self.exchange.effects) {
            match effect {
                Effect::Settled { conn, .. } => self.done(conn),
                _ => panic!("a clean start only settles messages"),
            }
        }
        assert!(self.conns.values().all(|conn| conn.under_way == 0), "nothing is under way");
        assert!(!self.exchange.busy());
    }
}
