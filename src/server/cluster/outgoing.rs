//! What this node's own shards hand in, on its way to the stream, or behind what is there.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::api::PushOutcome;
use crate::config::settings::OnEngineLoss;
use crate::gateway::kept::now;
use crate::gateway::relay::Passing;
use crate::listener::membership::LeaveReason;
use crate::listener::op::{CloseReply, Delivery, Op};
use crate::listener::protocol::connid::ConnId;
use crate::listener::protocol::node::Node;
use crate::listener::recipients::Recipients;
use crate::server::cluster::counts::{Asker, Place};
use crate::server::cluster::replica::Link;
use crate::server::cluster::task::{ALL_HEARD, Batch, Item, Task, number};
use crate::server::cluster::wire;
use crate::server::cluster::wire::{Entry, Header};
use bytes::BytesMut;
use tokio::time::Instant;

/// How long a client may wait for what another node has sent it already, in milliseconds.
const BEHIND: u64 = 2_000;

/// Bytes of a message besides what its one delivery holds.
pub(super) const FRAME: usize = 64;

/// Whom a delivery goes to, by where they are.
enum Spread {
    /// This node's own clients alone.
    Here,
    /// Everybody whom the stream is told.
    Everywhere,
    /// These on other nodes, and these here; the last ones are on no node.
    Divided { there: Vec<ConnId>, here: Vec<ConnId>, gone: Vec<ConnId> },
}

/// Bytes that recipients take.
fn size_of_recipients(to: &Recipients) -> usize {
    match to {
        Recipients::All => 0,
        Recipients::AllBut(conns) | Recipients::Only(conns) => conns.len() * 8,
        Recipients::Members(target) => {
            let names = target.channels.iter().map(|channel| 4 + channel.as_str().len());
            names.sum::<usize>() + target.except.len() * 8
        }
    }
}

impl Task {
    /// Takes in what a shard has handed in.
    pub(super) fn take(&mut self, passing: Passing) {
        if let Passing::Member { left, conn, channel } = &passing {
            let of = self.members.entry(channel.clone()).or_default();
            if left.is_none() {
                of.insert(*conn)
            } else {
                of.remove(conn)
            };
            if of.is_empty() {
                self.members.remove(channel);
            }
        }
        if let Passing::From { number, .. } = &passing {
            let (number, until) = (*number, self.clock() + BEHIND);
            self.waiting.push((number, until, passing));
            return self.let_go();
        }
        if let Passing::Op(Op::Members(report)) = &passing
            && report.everywhere
        {
            // Those of other nodes are known here, whether the servers are there or not.
            report.add(self.nodes.members(&report.channel));
        }
        let alone = self.on_loss == OnEngineLoss::Local && self.is_lost();
        match (self.replica.link, passing) {
            (Link::Up, passing) => self.route(passing),
            (Link::Down, Passing::Op(Op::Deliver(delivery))) if alone => {
                self.deliver_here(delivery);
            }
            // It has its turn when all that was missed has been read.
            (_, passing @ Passing::Op(Op::Deliver(_))) => self.held.push_back(passing),
            (_, passing) => self.outlet.hand_out(passing, None),
        }
    }

    /// Lets those go on that waited for what has been handed out by now, or for too long.
    pub(super) fn let_go(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let (clock, at) = (self.clock(), number(self.replica.handled(), u16::MAX));
        let goes = |(number, until, _): &mut (u64, u64, Passing)| *number <= at || *until <= clock;
        for (_, _, passing) in self.waiting.extract_if(.., goes) {
            self.outlet.hand_out(passing, None);
        }
    }

    /// A message goes to this node's own clients alone, because the servers are lost.
    pub(super) fn deliver_here(&mut self, delivery: Delivery) {
        let spread = self.spread(&delivery.to);
        let others = match &spread {
            Spread::Here => false,
            Spread::Everywhere => true,
            Spread::Divided { there, .. } => !there.is_empty(),
        };
        // What goes to connections has no position.
        if matches!(spread, Spread::Everywhere) && !self.is_core() && self.replica.go_alone() {
            self.alone(number(self.replica.handled(), u16::MAX));
        }
        if others {
            self.status.strayed();
            if self.is_core() {
                // The others see by the numbers that they did not get it.
                self.next_plain += 1;
                self.plain_deliveries += 1;
            }
        }
        if let Some(report) = &delivery.report {
            let silent = self.nodes.all().map(|(node, _)| node.to_string()).collect();
            report.expect_others();
            report.add_others(PushOutcome {
                nodes: Some(self.nodes.count() as u64 + 1),
                silent: Some(silent),
                ..PushOutcome::default()
            });
            report.finish();
        }
        self.outlet.hand_out(Passing::Op(Op::Deliver(delivery)), None);
    }

    /// Puts something into the stream, or behind what was put there.
    pub(super) fn route(&mut self, passing: Passing) {
        match passing {
            Passing::Op(Op::Deliver(delivery)) => self.route_delivery(delivery),
            Passing::Op(Op::Close { conn, code, reason, reply })
                if conn.node().is_some_and(|node| node != self.me) =>
            {
                self.close_elsewhere(conn, code, reason, reply);
            }
            Passing::Member { left, conn, channel } => {
                let entry = match left {
                    None => Entry::Joined(conn, channel),
                    Some(why) => Entry::Left(conn, channel, why == LeaveReason::Closed),
                };
                self.publish(&entry, None);
            }
            passing => self.behind(passing),
        }
    }

    fn route_delivery(&mut self, mut delivery: Delivery) {
        let spread = self.spread(&delivery.to);
        let report = delivery.report.clone();
        if let Some(report) = &report {
            report.expect_others();
        }
        let (place, asked, gone) = match spread {
            Spread::Here => {
                let place = self.nowhere();
                self.behind(Passing::Op(Op::Deliver(delivery)));
                (place, BTreeSet::new(), Vec::new())
            }
            Spread::Everywhere => {
                let asked = self.nodes.all().map(|(node, _)| node).collect();
                let to = delivery.to.clone();
                (self.publish_delivery(to, delivery), asked, Vec::new())
            }
            Spread::Divided { there, here, gone } => {
                self.outlet.retarget(&mut delivery, Recipients::Only(here.into()));
                let asked = there.iter().filter_map(|conn| conn.node()).collect();
                let place = match there.is_empty() {
                    true => {
                        let place = self.nowhere();
                        self.behind(Passing::Op(Op::Deliver(delivery)));
                        place
                    }
                    false => self.publish_delivery(Recipients::Only(there.into()), delivery),
                };
                (place, asked, gone)
            }
        };
        self.outlet.gateway().metrics.listener.gone.add(gone.len() as u64);
        if let Some(report) = report {
            let gone = gone.iter().map(ConnId::to_string).collect();
            self.ask(place, Asker::Delivery(report), asked, gone);
        }
    }

    fn publish_delivery(&mut self, to: Recipients, mut delivery: Delivery) -> Place {
        let (payload, counts) = (delivery.payload.clone(), delivery.report.is_some());
        let size = payload.bytes().len() + size_of_recipients(&to);
        if payload.bytes().len() > self.engine.most() || size > self.engine.most_published() - FRAME
        {
            // Answers and pushes that are too large are refused before they come here. What is too much
            // here are recipients.
            self.status.lost();
            tracing::error!(gateway = %self.gateway(), "a message with its recipients ({size} bytes) is dropped: it does not fit into a message of the NATS server (max_payload)");
            self.outlet.retarget(&mut delivery, Recipients::Only(Arc::from([])));
            self.behind(Passing::Op(Op::Deliver(delivery)));
            return self.nowhere();
        }
        let item = Passing::Op(Op::Deliver(delivery));
        self.publish(&Entry::Deliver { payload, to, counts }, Some(item))
    }

    fn close_elsewhere(&mut self, conn: ConnId, code: u16, reason: String, reply: CloseReply) {
        let reference = match reply {
            CloseReply::Listener(reference) => Some(reference),
            // The control port asks the other node itself.
            CloseReply::None | CloseReply::Node(_) | CloseReply::Control(_) => None,
        };
        let asked = conn.node().filter(|node| self.nodes.knows(*node));
        if asked.is_none() {
            self.outlet.gateway().metrics.listener.gone.inc();
        }
        let counts = reference.is_some();
        let place = self.publish(&Entry::Close { conn, code, reason, counts }, None);
        if let Some(reference) = reference {
            self.ask(place, Asker::Close(reference), asked.into_iter().collect(), Vec::new());
        }
    }

    fn spread(&self, to: &Recipients) -> Spread {
        let Recipients::Only(conns) = to else { return Spread::Everywhere };
        let is_here = |conn: &&ConnId| conn.node().is_none_or(|node| node == self.me);
        if conns.iter().all(|conn| is_here(&conn)) {
            return Spread::Here;
        }
        let here = conns.iter().filter(is_here).copied().collect();
        let others = conns.iter().filter(|conn| !is_here(conn)).copied();
        let is_known = |conn: &ConnId| conn.node().is_some_and(|node| self.nodes.knows(node));
        let (there, gone) = others.partition(is_known);
        Spread::Divided { there, here, gone }
    }

    fn ask(&mut self, place: Place, asker: Asker, asked: BTreeSet<Node>, gone: Vec<String>) {
        let nodes = self.nodes.count() as u64 + 1;
        self.counts.ask(place, asker, (asked, nodes), gone, self.clock());
    }

    /// A place that no entry has.
    fn nowhere(&mut self) -> Place {
        self.nowhere += 1;
        (u64::MAX - self.nowhere, u16::MAX)
    }

    /// Something that is to be done behind all that was put into the stream.
    fn behind(&mut self, passing: Passing) {
        if self.is_core() {
            return self.outlet.hand_out(passing, None);
        }
        let item = Item { index: None, passing, let_go: false };
        if let Some(batch) = &mut self.batch {
            batch.items.push(item);
        } else if let Some(item) = self.replica.order.own(item) {
            self.outlet.hand_out(item.passing, None);
        }
    }

    /// Appends an entry to the message that is being made. Returns its place.
    pub(super) fn publish(&mut self, entry: &Entry, passing: Option<Passing>) -> Place {
        let core = self.is_core();
        let mut bytes = BytesMut::new();
        wire::write(&mut bytes, entry);
        let room = self.engine.most_published().saturating_sub(bytes.len());
        if self.batch.as_ref().is_some_and(|batch| batch.bytes.len() > room) {
            self.close_batch();
        }
        let number = if core { self.next_plain } else { self.replica.order.next() };
        let before = self.plain_deliveries;
        let header = Header { node: self.me, number, before, at: now() };
        let batch = self.batch.get_or_insert_with(|| Batch {
            bytes: wire::begin(header),
            items: Vec::new(),
            number,
            entries: 0,
        });
        batch.bytes.extend_from_slice(&bytes);
        if core && matches!(entry, Entry::Deliver { .. }) {
            self.plain_deliveries += 1;
        }
        let (number, index) = (batch.number, batch.entries);
        batch.entries += 1;
        match passing {
            Some(passing) if core => self.outlet.hand_out(passing, None),
            Some(passing) => batch.items.push(Item { index: Some(index), passing, let_go: false }),
            None => {}
        }
        if batch.bytes.len() > self.engine.most() / 2 || batch.entries == u16::MAX - 1 {
            self.close_batch();
        }
        (number, index)
    }

    /// The message that is being made is complete.
    pub(super) fn close_batch(&mut self) {
        let Some(batch) = self.batch.take() else { return };
        if self.is_core() {
            self.next_plain = batch.number + u64::from(batch.entries);
            self.plain.push(batch.bytes.freeze());
            return;
        }
        if !self.replica.is_waiting() {
            self.sent_at = Instant::now();
        }
        self.replica.order.sent(batch.bytes.freeze(), batch.items);
    }

    /// Publishes what is complete.
    pub(super) async fn flush(&mut self) {
        self.close_batch();
        // A node that has begun to read in the middle of an epoch waits until all have given a sign of life.
        let waits = self.replica.order.counting.guesses() && self.opened_at.elapsed() < ALL_HEARD;
        let marker = if waits { None } else { self.replica.take_marker() };
        if let Some(marker) = marker {
            let header = Header { node: self.me, number: 0, before: 0, at: now() };
            let mut bytes = wire::begin(header);
            wire::write(&mut bytes, &Entry::Marker(marker));
            if let Err(why) = self.engine.publish_marker(bytes.freeze()).await {
                return self.lose(&why);
            }
        }
        if self.replica.link != Link::Up {
            self.plain.clear();
            return;
        }
        for bytes in std::mem::take(&mut self.plain) {
            self.status.published();
            if let Err(why) = self.engine.publish_plain(bytes).await {
                return self.lose(&why);
            }
        }
        let Some(prefix) = self.session.as_ref().map(|session| session.ack_prefix.clone()) else {
            return;
        };
        for (number, attempt, bytes) in self.replica.order.take_unpublished() {
            let id = format!("{}-{number}-{attempt}", self.me);
            let ack = format!("{prefix}.{number}");
            self.status.published();
            if let Err(why) = self.engine.publish(id, ack, bytes).await {
                return self.lose(&why);
            }
        }
    }
}
