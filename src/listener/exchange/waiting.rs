//! What comes in from connections and pushes, and the queues in which it waits for the window.

use std::sync::Arc;
use std::time::Instant;

use crate::config::hooks::Hook;
use crate::listener::connection::{Closed, ConnInfo};
use crate::listener::exchange::peers::Notice;
use crate::listener::exchange::{
    Effect, Exchange, HandshakeDecision, PushAsk, RESULTS_MAX, Requester,
};
use crate::listener::protocol::channel::{Channel, ChannelSet};
use crate::listener::protocol::connid::ConnId;
use crate::ws::payload::Payload;

pub(super) struct WaitingHandshake {
    pub(super) conn: ConnId,
    pub(super) members: Vec<u8>,
    pub(super) offers: Vec<String>,
    pub(super) since: Instant,
}

pub(super) struct WaitingPush {
    pub(super) ask: Box<PushAsk>,
    pub(super) since: Instant,
}

/// A queue that takes turns at the window.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Party {
    Conn(ConnId),
    Handshakes,
    Pushes,
}

impl Exchange {
    /// Unanswered events that one connection may have, and that all handshakes together may have.
    pub(super) fn quarter(&self) -> usize {
        (self.settings.window / 4).max(1)
    }

    /// A connection was opened; `channels` are its first, sorted. What the listener has changed about
    /// them since it accepted the connection counts too.
    pub fn opened(&mut self, info: Arc<ConnInfo>, channels: &[Channel]) {
        // A shard that has not heard of plain lines yet still tells of connections.
        if self.is_plain() {
            return;
        }
        let conn = info.id;
        let announce = self.hook(Hook::OnClientOpen);
        let changed = self.accepted.opened(conn);
        let channels = changed.unwrap_or_else(|| ChannelSet::new(channels.to_vec()));
        self.peers.open(info, channels, announce);
        if announce && self.restart.up {
            self.notices.push_back(Notice::Open(conn));
        }
        self.adopt_unannounced(conn);
    }

    /// Whether the exchange has a connection: it was opened, and its close is not written yet.
    pub(crate) fn knows(&mut self, conn: ConnId) -> bool {
        self.peers.get(conn).is_some()
    }

    /// A connection sent a message.
    pub fn message(&mut self, conn: ConnId, message: Payload) {
        if self.is_plain() && self.settings.hands_over_messages() {
            return self.queue_line(conn, message);
        }
        if !self.hook(Hook::OnMessage) {
            return self.send_unasked(conn, message);
        }
        let Some(peer) = self.peers.get(conn) else {
            let Some(message) = self.unannounced.take_in(conn, message) else { return };
            // This happens only after a clean start of the listener, when all clients are closed.
            self.metrics.messages_dropped.add("listener_failed", 1);
            self.effects.push(Effect::Settled { conn, bytes: message.cost() });
            return;
        };
        peer.waiting.push_back(message);
        self.peers.message_queued();
        self.queue_turn(conn);
    }

    /// A connection has ended. The caller reports this after the connection's last message.
    pub fn closed(&mut self, conn: ConnId, closed: Closed) {
        let announce = self.hook(Hook::OnClientClose);
        self.peers.close(conn, closed, announce);
        if let Some(peer) = self.peers.get(conn) {
            self.opens.remove(&peer.open_id);
        }
        self.queue_close_if_ready(conn);
    }

    /// Asks the listener whether a connection may be opened. `members` is made by
    /// [`request_members`](crate::listener::protocol::event::request_members); `offers` are the
    /// subprotocols that the client offers. The decision comes as an effect.
    pub fn handshake(&mut self, conn: ConnId, members: Vec<u8>, offers: Vec<String>, now: Instant) {
        if !self.hook(Hook::OnHandshake) {
            self.effects.push(Effect::Handshake { conn, decision: HandshakeDecision::UNCHANGED });
            return;
        }
        if !self.restart.up {
            self.effects.push(Effect::unavailable(conn));
            return;
        }
        self.handshakes.push_back(WaitingHandshake { conn, members, offers, since: now });
        self.queue_handshake_turn();
        self.check_at(now + self.settings.listener_timeout);
    }

    /// Asks the listener about a push.
    pub fn push(&mut self, ask: PushAsk, now: Instant) {
        if !self.hook(Hook::OnMessage) {
            return self.send_push_unasked(ask);
        }
        self.pushes.push_back(WaitingPush { ask: Box::new(ask), since: now });
        self.queue_push_turn();
        self.check_at(now + self.settings.listener_timeout);
    }

    /// Drops the pushes whose requesters have gone, except those whose lines were begun.
    pub fn withdraw(&mut self) {
        self.pushes.retain(|waiting| !waiting.ask.reply.is_closed());
        let abandoned: Vec<u64> = self
            .asked
            .iter()
            .filter(|(_, asked)| {
                matches!(&asked.requester, Requester::Push(ask) if ask.reply.is_closed())
            })
            .map(|(id, _)| *id)
            .collect();
        for id in abandoned {
            if self.take_back(id) {
                self.take_asked(id);
            }
        }
    }

    /// Queues a result line (without its newline) for the listener. It is dropped and counted if
    /// the listener is down or 1 MiB of results wait.
    pub fn result(&mut self, line: String) {
        if !self.restart.up || self.results + line.len() > RESULTS_MAX {
            self.metrics.results_dropped.inc();
            return;
        }
        self.results += line.len();
        self.notices.push_back(Notice::Result(line));
    }

    /// Gives a connection a turn if one of its messages waits and its quarter has room.
    pub(super) fn queue_turn(&mut self, conn: ConnId) {
        let quarter = self.quarter();
        if let Some(peer) = self.peers.get(conn)
            && !peer.turn_queued
            && !peer.waiting.is_empty()
            && (peer.owed as usize) < quarter
        {
            peer.turn_queued = true;
            self.turns.push_back(Party::Conn(conn));
        }
    }

    /// Gives the handshakes a turn if one waits and their quarter has room.
    pub(super) fn queue_handshake_turn(&mut self) {
        if !self.handshake_turn_queued
            && !self.handshakes.is_empty()
            && self.handshakes_owed < self.quarter()
        {
            self.handshake_turn_queued = true;
            self.turns.push_back(Party::Handshakes);
        }
    }

    /// Gives the pushes a turn if one waits.
    pub(super) fn queue_push_turn(&mut self) {
        if !self.push_turn_queued && !self.pushes.is_empty() {
            self.push_turn_queued = true;
            self.turns.push_back(Party::Pushes);
        }
    }

    /// Queues the close of a connection that has ended, once none of its messages waits. Without
    /// the hook `onClientClose` it forgets the connection instead.
    pub(super) fn queue_close_if_ready(&mut self, conn: ConnId) {
        if !self.peers.ready_to_close(conn) {
            return;
        }
        let silent = !self.hook(Hook::OnClientClose);
        // Then the connection is forgotten behind its `onJoin` and `onLeave`.
        let tells = self.hook(Hook::OnJoin) || self.hook(Hook::OnLeave);
        if silent && !(tells && self.restart.up) {
            // A connection that this incarnation is still to be told of stays until then, so that
            // `left` counts down to 0.
            if !self.restart.will_resume(conn) {
                self.peers.remove(conn);
            }
        } else if self.restart.up {
            self.peers.close_queued(conn);
            self.notices.push_back(Notice::Close(conn));
        }
    }

    /// Whether events wait only because the window is full. While this holds, the gateway does not
    /// read its clients' sockets.
    pub fn window_full(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Messages, handshakes and pushes that wait for their turn.
    pub fn queued(&self) -> usize {
        let plain = self.plain.waiting() + self.unannounced.waiting();
        self.peers.waiting() + self.handshakes.len() + self.pushes.len() + plain
    }

    /// Bytes of the announced events that wait, and of the room that is kept for the closes to come.
    pub fn notice_bytes(&self) -> usize {
        self.peers.notice_bytes() + self.told_bytes
    }
}
