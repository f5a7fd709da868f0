//! When the listener is asked no more, by a reload: what waited for it goes on as it would have
//! without it.

use std::sync::Arc;

use crate::config::settings::GatewaySettings;
use crate::listener::exchange::incoming::choose;
use crate::listener::exchange::{
    Effect, Exchange, HandshakeDecision, Party, Payload, PushAsk, Reply, Requester,
    route_recipients,
};
use crate::listener::protocol::connid::ConnId;
use crate::listener::protocol::hooks::{Hook, Hooks};

impl Exchange {
    /// Applies changed settings, live.
    pub fn set_settings(&mut self, settings: Arc<GatewaySettings>) {
        // Another program may be buffered where this one was not.
        self.hinted &= self.settings.listener == settings.listener;
        self.settings = settings;
        self.release(self.settings.hooks);
    }

    /// The listener is gone for good.
    pub fn give_up(&mut self) {
        self.release(Hooks::NONE);
    }

    /// Sends on what waits for events that are not among `hooks`.
    fn release(&mut self, hooks: Hooks) {
        if !hooks.has(Hook::OnHandshake) {
            self.release_handshakes();
        }
        if !hooks.has(Hook::OnMessage) {
            self.release_messages();
        }
        if hooks.is_none() {
            self.peers.clear();
            self.fifo.clear();
            self.results = 0;
        }
    }

    fn release_handshakes(&mut self) {
        let accept = |conn| Effect::Handshake { conn, decision: HandshakeDecision::Accept(None) };
        for id in self.asked_ids(|asker| matches!(asker, Requester::Handshake(..))) {
            if let Some(Requester::Handshake(conn, _)) = self.take_asked(id).map(|a| a.requester) {
                self.effects.push(accept(conn));
            }
        }
        let waiting = std::mem::take(&mut self.handshakes);
        self.effects.extend(waiting.into_iter().map(|waiting| accept(waiting.conn)));
        self.ring.retain(|party| *party != Party::Handshakes);
        self.handshakes_in_ring = false;
    }

    fn release_messages(&mut self) {
        for id in self.asked_ids(|asker| !matches!(asker, Requester::Handshake(..))) {
            // Before the message is done, for a connection that waits for its last answer ends then.
            let Some(asked) = self.asked.get(&id) else { continue };
            if let Requester::Conn(conn, payload) = &asked.requester {
                let (conn, payload) = (*conn, payload.clone());
                let to = route_recipients(self.settings.route, Some(conn), &[]);
                self.effects.push(Effect::deliver(payload, to, None));
            }
            if let Some(Requester::Push(ask)) = self.take_asked(id).map(|asked| asked.requester) {
                self.release_push(*ask);
            }
        }
        let pushes = std::mem::take(&mut self.pushes);
        for waiting in pushes {
            self.release_push(*waiting.ask);
        }
        for (conn, messages) in self.peers.drop_waiting() {
            for message in messages {
                self.release_message(conn, message);
            }
            self.settle(conn);
        }
        self.ring.retain(|party| *party == Party::Handshakes);
        self.pushes_in_ring = false;
    }

    /// Sends a message on that the listener is not asked about.
    pub(super) fn release_message(&mut self, conn: ConnId, message: Payload) {
        let bytes = message.cost();
        let to = route_recipients(self.settings.route, Some(conn), &[]);
        self.effects.push(Effect::deliver(message, to, None));
        self.effects.push(Effect::Settled { conn, bytes });
    }

    /// Sends a push on that the listener is not asked about.
    pub(super) fn release_push(&mut self, ask: PushAsk) {
        let push = &ask.push;
        let (to, gone) = choose(push.connections(), push.except().unwrap_or_default(), |except| {
            self.routed(None, except)
        });
        self.metrics.gone.add(gone.len() as u64);
        let payload = push.payload().clone();
        let report = self.report(gone, Reply::Push(ask.reply));
        self.effects.push(Effect::deliver(payload, to, report));
    }

    /// The ids of what is owed by such askers, oldest first.
    fn asked_ids(&self, which: impl Fn(&Requester) -> bool) -> Vec<u64> {
        let owed = self.asked.iter().filter(|(_, asked)| which(&asked.requester));
        let mut ids: Vec<u64> = owed.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }
}
