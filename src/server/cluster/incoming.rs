//! What comes from the stream, and from other nodes: it is checked, and carried out in its order.

use std::sync::Arc;

use async_nats::{Message, jetstream};
use futures_util::FutureExt;

use crate::api::PushOutcome;
use crate::listener::membership::LeaveReason;
use crate::listener::op::{CloseReply, Delivery, Op};
use crate::listener::protocol::node::Node;
use crate::listener::recipients::Recipients;
use crate::listener::report::{DeliveryReport, Reply};
use crate::server::cluster::counts::Answer;
use crate::server::cluster::epochs::epoch_of;
use crate::server::cluster::nodes::Change;
use crate::server::cluster::opening::mark_of;
use crate::server::cluster::order::Arrival;
use crate::server::cluster::replica::{Comes, EpochComes, Link, Marked};
use crate::server::cluster::task::{Task, number};
use crate::server::cluster::wire;
use crate::server::cluster::wire::{Entry, Header, Marker, Unread};
use crate::text::position::{Epoch, Position};
use crate::ws::payload::Payload;
use tokio::time::Instant;

/// Bytes that the servers count for a message besides its own, about.
const STORED: u64 = 96;

impl Task {
    /// A message has come from the stream.
    pub(super) fn read(&mut self, message: Message) {
        // What came in one message goes to clients in one write.
        let core = Arc::clone(self.outlet.core());
        let _held = core.hold_wakes();
        if self.is_core() {
            return self.read_plain(&message);
        }
        let context = self.engine.context();
        let message = jetstream::Message { message, context };
        let Ok(info) = message.info() else { return };
        let (sequence, consumed) = (info.stream_sequence, info.consumer_sequence);
        if info.pending > 0 {
            self.backlog_at = Instant::now();
        }
        if consumed != self.consumed + 1 {
            self.status.gap();
            return self.lose("messages of the stream are missing");
        }
        self.consumed = consumed;
        self.comes(sequence, message.message, false);
    }

    /// The stream begins with the message `first`, and behind a hole comes this one.
    pub(super) fn looked(&mut self, (sequence, message, first): (u64, Message, Option<u64>)) {
        match first {
            Some(first) if first <= self.replica.handled() + 1 => {
                self.comes(sequence, message, true);
            }
            Some(_) => self.lose("messages of the stream were evicted before this node read them"),
            None => self.lose("no NATS server answers"),
        }
    }

    fn comes(&mut self, sequence: u64, message: Message, nothing_evicted: bool) {
        match self.replica.comes(sequence, mark_of(&message.payload), nothing_evicted) {
            Comes::Next => {}
            Comes::Before => return self.lose("the stream is in an older state"),
            Comes::Jump => {
                let engine = self.engine.clone();
                let looks = async move { (sequence, message, engine.first().await.ok()) };
                self.looking = Some(looks.boxed());
                return;
            }
            Comes::TooLate => return self.lose("the epoch of the stream is missing"),
        }
        if self.replica.link == Link::Behind {
            // The stream is read; the node's own signs of life come behind what is there.
            self.own_beat = Instant::now();
        }
        let body = message.payload;
        self.since_epoch.0 += body.len() as u64 + STORED;
        if message.subject.as_str() == self.engine.names.epoch {
            self.since_epoch = (0, Instant::now());
            if let Some((epoch, repeats)) = epoch_of(&body) {
                self.epoch_comes(epoch, repeats, sequence);
            }
        } else {
            match wire::read(&body) {
                Ok((header, entries)) => {
                    self.status.lag(header.at);
                    self.arrived(sequence, header, entries);
                }
                Err(why) => self.unread(why),
            }
        }
    }

    /// A message cannot be read.
    fn unread(&mut self, why: Unread) {
        let gateway = self.outlet.gateway();
        match why {
            Unread::Version(version) if !std::mem::replace(&mut self.said_version, true) => {
                tracing::warn!(gateway = %gateway.id, version, "messages of another version of wsgw are in the cluster, and are not read: run the same version on all nodes");
            }
            Unread::Version(_) => {}
            Unread::Broken => {
                if let Some(count) = self.unread.happened(Instant::now()) {
                    tracing::warn!(gateway = %gateway.id, count, "messages of the cluster cannot be read: who else writes to its subjects?");
                }
            }
        }
    }

    /// A message has come without a stream.
    fn read_plain(&mut self, message: &Message) {
        let (header, entries) = match wire::read(&message.payload) {
            Ok(read) => read,
            Err(why) => return self.unread(why),
        };
        let node = header.node;
        if node != self.me {
            self.hear(node);
        }
        if header.number == 0 {
            entries.into_iter().for_each(|entry| self.beat_heard(node, entry));
            return;
        }
        if node == self.me {
            return;
        }
        self.status.lag(header.at);
        let deliveries = entries.iter().filter(|entry| matches!(entry, Entry::Deliver { .. }));
        let next =
            // Neither is near its end in what was read.
            (header.number + entries.len() as u64, header.before + deliveries.count() as u64);
        match self.expected.insert(node, next) {
            Some(expected) if header.number < expected.0 => {
                self.expected.insert(node, expected);
                return self.status.ignored();
            }
            Some((number, before)) if header.number > number => {
                self.status.missed(header.before.saturating_sub(before));
                // What it said about its members may be among that.
                self.nodes.doubt(node);
            }
            _ => {}
        }
        for (index, entry) in (0..).zip(entries) {
            self.carry_out(header, (0, index), entry);
        }
    }

    fn epoch_comes(&mut self, epoch: Epoch, repeats: bool, sequence: u64) {
        let lost = match self.replica.epoch_comes(epoch, repeats) {
            EpochComes::Begins(lost) => lost,
            EpochComes::Again => return,
            EpochComes::BeganUnread => {
                if self.replica.stray() {
                    self.alone(number(sequence, u16::MAX));
                }
                return self.lose("an epoch has begun where this node has not read");
            }
        };
        let number = number(sequence, u16::MAX);
        match &mut self.draft {
            Some(draft) => draft.begin_epoch(Position { epoch, number }),
            None => self.outlet.begin_epoch(epoch, number),
        }
        let were_some = !lost.is_empty();
        self.give_up(lost);
        if were_some && self.replica.link == Link::Up {
            // What was given up may have told of members.
            self.tell_members();
        }
    }

    fn arrived(&mut self, sequence: u64, header: Header, entries: Vec<Entry>) {
        let node = header.node;
        let is_other = node != self.me;
        if is_other && !self.is_restoring() {
            self.hear(node);
        }
        if header.number == 0 {
            for entry in entries {
                match entry {
                    Entry::Marker(marker) => self.marked(node, &marker),
                    entry => self.beat_heard(node, entry),
                }
            }
            return;
        }
        match self.replica.message_comes(node, header.number) {
            Arrival::Ignored => self.status.ignored(),
            Arrival::Kept => {
                for (index, entry) in (0..).zip(entries) {
                    if let Entry::Deliver { payload, to, .. } = entry {
                        self.keep(&to, &payload, header.at, number(sequence, index));
                    }
                }
                if is_other && !self.is_restoring() && self.replica.stray() {
                    // Clients that have come since it was carried out have not got it.
                    self.alone(number(sequence, u16::MAX));
                    self.lose("messages of before come again");
                }
            }
            Arrival::Unclear if self.is_restoring() => {
                // The history is known from here on only.
                let epoch = self.replica.epoch();
                if let (Some(draft), Some(epoch)) = (&mut self.draft, epoch) {
                    *draft = draft.draft(Position { epoch, number: number(sequence, u16::MAX) });
                }
            }
            Arrival::Unclear => self.wrong(node),
            Arrival::Ours(items) => {
                for item in items {
                    let number = item.index.map(|index| number(sequence, index));
                    self.carry_out_own(item, number);
                }
                while let Some(item) = self.replica.order.take_own() {
                    self.carry_out_own(item, None);
                }
            }
            Arrival::Theirs => {
                for (index, entry) in (0..).zip(entries) {
                    self.carry_out(header, (sequence, index), entry);
                }
            }
        }
    }

    /// A message of before goes into the history alone.
    fn keep(&mut self, to: &Recipients, payload: &Payload, at: u64, number: u64) {
        match &mut self.draft {
            Some(draft) => {
                draft.keep_as(to, payload, at, number);
            }
            None => {
                if let Some(history) = self.outlet.history() {
                    history.restore(to, payload, at, number);
                }
            }
        }
    }

    fn marked(&mut self, node: Node, marker: &Marker) {
        let Marked { is_missing, is_wrong, is_up } = self.replica.marker_comes(node, marker);
        if is_wrong {
            return self.wrong(node);
        }
        if is_missing {
            // It went on in the epoch before, where this node did not read it.
            self.status.gap();
            self.nodes.doubt(node);
        }
        if is_up {
            self.caught_up();
        }
    }

    fn hear(&mut self, node: Node) {
        if self.nodes.heard(node, self.clock()) {
            tracing::info!(gateway = %self.gateway(), %node, "a node of the cluster is there");
            self.show_nodes();
        }
    }

    fn beat_heard(&mut self, node: Node, entry: Entry) {
        let Entry::Beat { connections, since, seen, epoch, asks, name } = entry else { return };
        if node == self.me {
            match since == self.since {
                true => self.own_beat = Instant::now(),
                false => self.namesake(since),
            }
            return;
        }
        if self.is_restoring() {
            return;
        }
        self.nodes.describe(node, connections, since, &name);
        if !self.is_core() && self.replica.beat_comes(node, seen, epoch) {
            return self.wrong(node);
        }
        // Servers whose copies of the stream differ may show nodes different epochs.
        let is_here = epoch.is_none() || epoch == self.replica.epoch();
        let is_here = is_here || self.replica.link != Link::Up;
        if self.nodes.is_elsewhere(node, is_here, self.clock()) {
            return self.wrong(node);
        }
        if asks.contains(&self.me) && self.replica.link == Link::Up {
            self.tell_members();
        }
    }

    /// Another node, which runs since `since`, has drawn the same name. Each of the two takes the other's
    /// messages for its own, so the later one ends.
    fn namesake(&mut self, since: u64) {
        // What was in the stream before this node came there may be of a node that is long gone.
        if self.replica.link != Link::Up || std::mem::replace(&mut self.said_namesake, true) {
            return;
        }
        let (gateway, node) = (&self.outlet.gateway().id, self.me);
        if since < self.since {
            self.status.give_up(format!(
                "another node of the cluster has drawn the same name, {node}: restart this `wsgw serve`, \
                 which draws another one"
            ));
        } else {
            tracing::warn!(gateway = %gateway, %node, "another node of the cluster, which has started later, has drawn the same name: it has to be restarted");
        }
    }

    /// Carries out what another node has put into the stream.
    fn carry_out(&mut self, header: Header, (sequence, index): (u64, u16), entry: Entry) {
        let number = (!self.is_core()).then(|| number(sequence, index));
        let place = (header.number, index);
        match entry {
            Entry::Deliver { payload, to, .. } if self.is_restoring() => {
                if let Some(number) = number {
                    self.keep(&to, &payload, header.at, number);
                }
            }
            Entry::Deliver { payload, to, counts } => {
                let to = self.of_this_node(to);
                let report = counts.then(|| self.report_to(header.node, place));
                let delivery = Delivery::new(payload, to, report);
                self.outlet.hand_in(Op::Deliver(delivery), number);
            }
            Entry::Close { conn, code, reason, counts } => {
                if self.is_restoring() || conn.node() != Some(self.me) {
                    return;
                }
                let (answers, me, asker) = (self.answers.clone(), self.me, header.node);
                let tell = move |there: bool| {
                    let delivered = u64::from(there);
                    // A task that has ended owes nothing.
                    let _ =
                        answers.send((asker, Answer { delivered, ..Answer::nothing(me, place) }));
                };
                let reply = match counts {
                    true => CloseReply::Node(Box::new(tell)),
                    false => CloseReply::None,
                };
                self.outlet.hand_in(Op::Close { conn, code, reason, reply }, None);
            }
            Entry::Joined(conn, channel) => {
                let change = self.nodes.joined(header.node, conn, channel);
                self.membership_changes(change);
            }
            Entry::Left(conn, channel, ended) => {
                let change = self.nodes.left(header.node, conn, &channel, ended);
                self.membership_changes(change);
            }
            Entry::Tells => self.nodes.begins_to_tell(header.node),
            Entry::Members(channel, conns) => {
                self.nodes.members_told(header.node, Some((channel, conns)), false);
            }
            Entry::AllTold => {
                let changes = self.nodes.members_told(header.node, None, true);
                self.membership_changes(changes);
            }
            Entry::Bye => {
                let changes = self.nodes.ended(header.node);
                self.expected.remove(&header.node);
                self.show_nodes();
                self.membership_changes(changes);
            }
            Entry::Beat { .. } | Entry::Marker(_) => {}
        }
    }

    fn is_restoring(&self) -> bool {
        !self.is_core() && self.replica.is_restoring()
    }

    /// Those recipients that are on this node.
    fn of_this_node(&self, to: Recipients) -> Recipients {
        match to {
            Recipients::Only(conns) => {
                let mine = conns.iter().filter(|conn| conn.node() == Some(self.me));
                Recipients::Only(mine.copied().collect::<Vec<_>>().into())
            }
            to => to,
        }
    }

    fn report_to(&self, node: Node, place: (u64, u16)) -> Arc<DeliveryReport> {
        let (answers, me) = (self.answers.clone(), self.me);
        let tell = move |outcome: PushOutcome| {
            let PushOutcome { delivered, dropped, gone, .. } = outcome;
            let answer = Answer { delivered, dropped, gone, ..Answer::nothing(me, place) };
            // A task that has ended owes nothing.
            let _ = answers.send((node, answer));
        };
        let shards = self.outlet.core().shards();
        Arc::new(DeliveryReport::new(shards, Vec::new(), Reply::Command(Box::new(tell))))
    }

    /// Who is in which channel on other nodes has changed.
    pub(super) fn membership_changes(&mut self, changes: impl IntoIterator<Item = Change>) {
        if self.is_restoring() {
            return;
        }
        for change in changes {
            let (conn, channel, left) = match change {
                Change::Joined(conn, channel) => (conn, channel, None),
                Change::Left(conn, channel) => (conn, channel, Some(LeaveReason::Left)),
                Change::Ended(conn, channel) => (conn, channel, Some(LeaveReason::Closed)),
                Change::Lost(conn, channel) => (conn, channel, Some(LeaveReason::Lost)),
            };
            self.outlet.changed_elsewhere(conn, &channel, left);
        }
    }
}
