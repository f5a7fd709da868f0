//! The connections that are played: what the exchange's effects do to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::listener::connection::Closed;
use crate::listener::exchange::incoming::closed_result;
use crate::listener::exchange::{Effect, Exchange, HandshakeDecision};
use crate::listener::membership::LeaveReason;
use crate::listener::op::{CloseReply, Delivery, Membership, Op};
use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;
use crate::listener::recipients::Recipients;
use crate::ws::payload::Payload;

/// Where result lines for the listener go.
pub(super) type Results = Arc<dyn Fn(String) + Send + Sync>;

/// What the gateway would have done.
#[derive(Debug, Clone)]
pub(super) enum Deed {
    /// A message goes out.
    Sent {
        /// The message.
        payload: Payload,
        /// Connections that get it.
        to: usize,
        /// Connections that are open.
        of: usize,
    },
    /// A connection is closed.
    Closed {
        /// The connection.
        conn: ConnId,
        /// The close code.
        code: u16,
    },
    /// A handshake is decided about.
    Handshake(HandshakeDecision),
    /// A connection joins or leaves channels.
    Channels {
        /// The connection.
        conn: ConnId,
        /// The channels that it joins.
        join: Vec<Channel>,
        /// The channels that it leaves.
        leave: Vec<Channel>,
    },
}

/// The open connections and their channels.
#[derive(Debug, Default)]
pub(super) struct Clients(BTreeMap<ConnId, BTreeSet<Channel>>);

impl Clients {
    /// A connection is open from now on.
    pub(super) fn open(&mut self, conn: ConnId) {
        self.0.insert(conn, BTreeSet::new());
    }

    /// The open connections.
    pub(super) fn conns(&self) -> Vec<ConnId> {
        self.0.keys().copied().collect()
    }

    /// Ends a connection.
    pub(super) fn close(&mut self, conn: ConnId, closed: Closed, exchange: &mut Exchange) {
        let Some(channels) = self.0.remove(&conn) else { return };
        for channel in channels {
            let members = self.count(&channel);
            exchange.left(conn, channel, members, LeaveReason::Closed);
        }
        exchange.closed(conn, closed);
    }

    /// Carries an effect out. `None`: it changes nothing that a client sees.
    pub(super) fn carry_out(
        &mut self,
        effect: Effect,
        exchange: &mut Exchange,
        results: &Results,
    ) -> Option<Deed> {
        match effect {
            Effect::Handshake { decision, .. } => Some(Deed::Handshake(decision)),
            Effect::Settled { .. } => None,
            Effect::Op(Op::Deliver(delivery)) => Some(self.deliver(delivery)),
            Effect::Op(Op::Close { conn, code, reason, reply }) => {
                let was_open = self.0.contains_key(&conn);
                if let CloseReply::Listener(reference) = reply {
                    let done = if was_open { Ok(()) } else { Err("no such connection") };
                    results(closed_result(&reference, done));
                }
                self.close(conn, Closed { code, reason, clean: true }, exchange);
                was_open.then_some(Deed::Closed { conn, code })
            }
            Effect::Op(Op::Membership(membership)) => self.change(*membership, exchange, results),
            Effect::Op(Op::Members(report)) => {
                let member = |(conn, channels): (&ConnId, &BTreeSet<Channel>)| {
                    channels.contains(&report.channel).then_some(*conn)
                };
                report.add(self.0.iter().filter_map(member));
                report.finish();
                None
            }
            // The exchange makes no others.
            Effect::Op(_) => None,
        }
    }

    fn deliver(&self, delivery: Delivery) -> Deed {
        let of = self.0.len();
        let to = match &delivery.to {
            Recipients::All => of,
            Recipients::AllBut(but) => of - but.iter().filter(|c| self.0.contains_key(c)).count(),
            Recipients::Only(only) => only.iter().filter(|c| self.0.contains_key(c)).count(),
            Recipients::Members(target) => {
                let is_member = |(conn, channels): &(&ConnId, &BTreeSet<Channel>)| {
                    !target.except.contains(conn)
                        && target.channels.iter().any(|channel| channels.contains(channel))
                };
                self.0.iter().filter(is_member).count()
            }
        };
        if let Some(report) = delivery.report {
            report.add(to as u64, 0);
            if let Recipients::Only(only) = &delivery.to {
                let gone = only.iter().filter(|conn| !self.0.contains_key(conn));
                gone.for_each(|conn| report.gone(*conn));
            }
            report.finish();
        }
        Deed::Sent { payload: delivery.payload, to, of }
    }

    fn change(
        &mut self,
        membership: Membership,
        exchange: &mut Exchange,
        results: &Results,
    ) -> Option<Deed> {
        let Membership { conn, leave, join, reply, .. } = membership;
        let there = self.0.contains_key(&conn);
        for channel in &leave {
            let left = self.0.get_mut(&conn).is_some_and(|channels| channels.remove(channel));
            if left {
                exchange.left(conn, channel.clone(), self.count(channel), LeaveReason::Left);
            }
        }
        for channel in &join {
            let joined =
                self.0.get_mut(&conn).is_some_and(|channels| channels.insert(channel.clone()));
            if joined {
                exchange.joined(conn, channel.clone(), self.count(channel));
            }
        }
        if let Some(reply) = reply {
            results(reply.line(there));
        }
        let changed = there && !(join.is_empty() && leave.is_empty());
        changed.then_some(Deed::Channels { conn, join, leave })
    }

    fn count(&self, channel: &Channel) -> u64 {
        self.0.values().filter(|channels| channels.contains(channel)).count() as u64
    }
}
