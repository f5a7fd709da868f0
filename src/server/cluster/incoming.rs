//! What comes from the stream, and from other nodes: it is checked, and carried out in its order.

use std::sync::Arc;

use async_nats::{Message, jetstream};

use crate::api::PushOutcome;
use crate::gateway::msg::PrimaryMsg;
use crate::listener::exchange::incoming::closed_result;
use crate::listener::membership::LeaveReason;
use crate::listener::op::{CloseReply, Delivery, Op};
use crate::listener::protocol::node::Node;
use crate::listener::recipients::Recipients;
use crate::listener::report::{DeliveryReport, Reply};
use crate::server::cluster::counts::{Answer, Asker, Told};
use crate::server::cluster::lists;
use crate::server::cluster::lists::Ask;
use crate::server::cluster::nodes::Change;
use crate::server::cluster::order::Arrival;
use crate::server::cluster::task::{Link, Task, number};
use crate::server::cluster::wire;
use crate::server::cluster::wire::{Entry, Header, Unread, mark_of};
use crate::server::local::Local;
use crate::text::position::{Epoch, Position};
use crate::ws::payload::Payload;
use tokio::time::Instant;

/// Bytes that the servers count for a message besides its own, about.
const STORED: u64 = 96;

/// Errors that are about a message, and not about the stream: its size, and that no more fit.
const OF_ONE_MESSAGE: [u64; 2] = [10_054, 10_077];

/// Members that one entry names.
const MEMBERS: usize = 1_024;

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
        if self.handled.is_some_and(|(handled, _)| sequence <= handled) {
            return;
        }
        if consumed != self.consumed + 1 {
            self.status.gap();
            return self.lose("messages of the stream are missing");
        }
        self.consumed = consumed;
        let body = message.message.payload;
        self.handled = Some((sequence, mark_of(&body)));
        if self.link == Link::Behind {
            // The stream is read; the node's own signs of life come behind what is there.
            self.own_beat = Instant::now();
        }
        self.since_epoch.0 += body.len() as u64 + STORED;
        if message.message.subject.as_str() == self.engine.names.epoch {
            self.since_epoch = (0, Instant::now());
            if let Some(epoch) = std::str::from_utf8(&body).ok().and_then(Epoch::parse) {
                self.begin_epoch(epoch, sequence);
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

    pub(super) fn begin_epoch(&mut self, epoch: Epoch, sequence: u64) {
        if self.epoch == Some(epoch) {
            return;
        }
        self.epoch = Some(epoch);
        if let Some(draft) = &mut self.draft {
            let number = number(sequence, u16::MAX);
            draft.begin_epoch(Position { epoch, number });
            return;
        }
        self.outlet.begin_epoch(epoch, number(sequence, u16::MAX));
    }

    fn arrived(&mut self, sequence: u64, header: Header, entries: Vec<Entry>) {
        let node = header.node;
        let is_other = node != self.me;
        if is_other && !self.restoring {
            self.hear(node);
        }
        if header.number == 0 {
            for entry in entries {
                match entry {
                    Entry::Marker { first, anew, count } => self.marked(node, first, anew, count),
                    entry => self.beat_heard(node, entry),
                }
            }
            return;
        }
        match self.order.arrived(node, header.number) {
            Arrival::Ignored => self.status.ignored(),
            Arrival::Kept => {
                for (index, entry) in (0..).zip(entries) {
                    if let Entry::Deliver { payload, to, .. } = entry {
                        self.keep(&to, &payload, header.at, number(sequence, index));
                    }
                }
            }
            Arrival::Ours(items) => {
                for item in items {
                    let number = item.index.map(|index| number(sequence, index));
                    self.outlet.hand_out(item.passing, number);
                }
                while let Some(item) = self.order.take_own() {
                    self.outlet.hand_out(item.passing, None);
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

    /// A node has come to the stream.
    fn marked(&mut self, node: Node, first: u64, anew: bool, count: u64) {
        if self.order.marked(node, first, anew) {
            self.missing(node);
        }
        if node == self.me && count == self.markers && self.link == Link::Behind {
            self.caught_up();
        }
    }

    /// Messages of a node will never be carried out here.
    fn missing(&mut self, node: Node) {
        tracing::warn!(gateway = %self.gateway(), %node, "messages of a node are missing: nobody can resume from before");
        self.status.gap();
        self.stray();
        self.renew_epoch();
        self.nodes.doubt(node);
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
        if self.restoring {
            return;
        }
        self.nodes.describe(node, connections, since, &name);
        let knows = epoch.is_some() && epoch == self.epoch;
        if !self.is_core() && self.order.has_gap(node, seen, knows) {
            self.missing(node);
        }
        if asks.contains(&self.me) && self.link == Link::Up {
            self.tell_members();
        }
    }

    /// Another node, which runs since `since`, has drawn the same name. Each of the two takes the other's
    /// messages for its own, so the later one ends.
    fn namesake(&mut self, since: u64) {
        // What was in the stream before this node came there may be of a node that is long gone.
        if self.link != Link::Up || std::mem::replace(&mut self.said_namesake, true) {
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
            Entry::Deliver { payload, to, .. } if self.restoring => {
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
                if self.restoring || conn.node() != Some(self.me) {
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
            Entry::Members(channel, conns) => {
                self.nodes.members_told(header.node, Some((channel, conns)), false);
            }
            Entry::AllTold => {
                let changes = self.nodes.members_told(header.node, None, true);
                self.membership_changes(changes);
            }
            Entry::Bye => {
                let changes = self.nodes.ended(header.node);
                self.order.forget(header.node);
                self.expected.remove(&header.node);
                self.show_nodes();
                self.membership_changes(changes);
            }
            Entry::Beat { .. } | Entry::Marker { .. } => {}
        }
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
        if self.restoring {
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

    /// Tells the other nodes who is in which channel here.
    pub(super) fn tell_members(&mut self) {
        let members: Vec<Entry> = self
            .members
            .iter()
            .flat_map(|(channel, conns)| {
                let conns: Vec<_> = conns.iter().copied().collect();
                let parts: Vec<Entry> = conns
                    .chunks(MEMBERS)
                    .map(|part| Entry::Members(channel.clone(), part.to_vec()))
                    .collect();
                parts
            })
            .collect();
        for entry in members {
            self.publish(&entry, None);
        }
        self.publish(&Entry::AllTold, None);
    }

    // ---- what nodes tell each other outside the order ------------------------------------------

    /// The servers' answer to a message that was published.
    pub(super) fn acknowledged(&mut self, ack: &Message) {
        let answer = serde_json::from_slice::<serde_json::Value>(&ack.payload).ok();
        let error = answer.as_ref().and_then(|answer| answer.get("error"));
        let code = error.and_then(|error| error.get("err_code")?.as_u64());
        if code.is_some_and(|code| OF_ONE_MESSAGE.contains(&code)) {
            // It would be refused again and again.
            tracing::error!(gateway = %self.gateway(), "messages are dropped, for the NATS server refuses one of them: {}", error.map(ToString::to_string).unwrap_or_default());
            return self.give_up_unseen();
        }
        let refused = error.and_then(|error| Some(error.get("description")?.as_str()?.to_owned()));
        let refused = match ack.status {
            Some(async_nats::StatusCode::NO_RESPONDERS) => {
                Some("nobody keeps the stream".to_owned())
            }
            _ => refused,
        };
        if let Some(why) = refused {
            self.lose(&format!("the NATS server refuses a message: {why}"));
        }
    }

    /// Another node says what came of an entry.
    pub(super) fn told(&mut self, message: &Message) {
        if let Some(asker) = &message.reply {
            let Ok(ask) = serde_json::from_slice::<Ask>(&message.payload) else { return };
            let local = Local::new(self.outlet.core(), self.outlet.gateway());
            let (client, asker) = (self.engine.client.clone(), asker.clone());
            let most = self.engine.most_published();
            // The shards answer when they can; the task goes on meanwhile.
            tokio::spawn(async move {
                let bytes = lists::answer(&local, ask, most).await;
                // Whoever asked waits for a limited time.
                let _ = client.publish(asker, bytes.into()).await;
            });
            return;
        }
        match serde_json::from_slice::<Answer>(&message.payload) {
            Ok(answer) => self.counts.answered(answer),
            Err(why) => tracing::debug!("an answer of another node cannot be read: {why}"),
        }
    }

    /// Says to another node what came of an entry.
    pub(super) async fn answer(&mut self, node: Node, answer: Answer) {
        if self.link == Link::Down {
            // Whoever waits for it waits for a limited time.
            return;
        }
        for bytes in answer.into_messages(self.engine.most_published()) {
            if let Err(why) = self.engine.tell(node, bytes.into()).await {
                return self.lose(&why);
            }
        }
    }

    pub(super) fn tell_done(&mut self) {
        if self.counts.is_empty() {
            return;
        }
        for told in self.counts.take_done(self.clock()) {
            self.tell(told);
        }
    }

    pub(super) fn tell(&self, told: Told) {
        match told.asker {
            Asker::Delivery(report) => {
                report.add_others(told.outcome);
                report.finish();
            }
            Asker::Close(reference) => {
                let closed = (told.outcome.delivered > 0).then_some(()).ok_or("no such connection");
                let line = closed_result(&reference, closed);
                let gateway = self.outlet.gateway();
                self.outlet.core().post_primary(gateway, PrimaryMsg::Result(line));
            }
        }
    }
}
