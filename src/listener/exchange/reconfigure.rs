//! Changed settings. If the listener is no longer asked about an event, the events of that kind that
//! wait or are owed go on as if they had never been asked.

use std::sync::Arc;

use crate::config::hooks::{Hook, Hooks};
use crate::config::settings::{GatewaySettings, Route};
use crate::listener::exchange::waiting::Party;
use crate::listener::exchange::{Effect, Exchange, HandshakeDecision, PushAsk, Requester};
use crate::listener::protocol::channel::ChannelSet;
use crate::listener::protocol::connid::ConnId;
use crate::listener::recipients::resolve_recipients;
use crate::listener::report::Reply;
use crate::ws::payload::Payload;

impl Exchange {
    /// Applies changed settings while the exchange runs.
    pub(crate) fn set_settings(&mut self, settings: Arc<GatewaySettings>) {
        // A new program may buffer its stdout although the old one did not.
        self.hinted &= self.settings.listener == settings.listener;
        let was_plain = self.is_plain();
        self.settings = settings;
        match (was_plain, self.is_plain()) {
            (false, true) => self.begin_plain(),
            (true, false) => self.end_plain(),
            _ => {}
        }
        if self.is_plain() && !self.settings.hands_over_messages() {
            self.release_lines();
        }
        self.release_unhooked(self.settings.events());
    }

    /// Handles the removal of the listener from the gateway: all that waits goes on without it.
    pub(crate) fn listener_removed(&mut self) {
        self.release_lines();
        self.release_unhooked(Hooks::NONE);
    }

    /// Lets the events go on that are not among `hooks`.
    fn release_unhooked(&mut self, hooks: Hooks) {
        if !hooks.has(Hook::OnHandshake) {
            self.accept_all_handshakes();
        }
        if !hooks.has(Hook::OnMessage) {
            self.send_all_messages();
        }
        if hooks.is_none() {
            if self.settings.route == Route::Channels {
                self.released.add(self.peers.memberships());
            }
            if !self.released.is_empty() {
                // The check that is due at once sets the time to forget them.
                self.check_at(self.last_output);
            }
            self.peers.clear();
            self.accepted.clear();
            self.opens.clear();
            self.clear_notices();
        } else {
            self.released.clear();
        }
    }

    /// Accepts every handshake that waits or is owed.
    fn accept_all_handshakes(&mut self) {
        let decision = HandshakeDecision::UNCHANGED;
        for id in self.asked_ids(|requester| matches!(requester, Requester::Handshake(..))) {
            let Some(asked) = self.take_asked(id) else { continue };
            if let Requester::Handshake(conn, _) = asked.requester {
                self.note_accepted(conn, &decision, &asked.line);
                self.effects.push(Effect::Handshake { conn, decision: decision.clone() });
            }
        }
        for waiting in std::mem::take(&mut self.handshakes) {
            let conn = waiting.conn;
            self.note_accepted(conn, &decision, &waiting.members);
            self.effects.push(Effect::Handshake { conn, decision: decision.clone() });
        }
        self.turns.retain(|party| *party != Party::Handshakes);
        self.handshake_turn_queued = false;
    }

    /// Sends on every message and push that waits or is owed.
    fn send_all_messages(&mut self) {
        for id in self.asked_ids(|requester| !matches!(requester, Requester::Handshake(..))) {
            // The delivery comes before the message is settled, because a connection that waits for its
            // last answer ends when that message is settled.
            let Some(asked) = self.asked.get(&id) else { continue };
            if let Requester::Conn(conn, payload, channels) = &asked.requester {
                let payload = payload.clone();
                let to = self.routed(Some((*conn, channels)), &[]);
                self.effects.push(Effect::deliver(payload, to, None));
            }
            if let Some(Requester::Push(ask)) = self.take_asked(id).map(|asked| asked.requester) {
                self.send_push_unasked(*ask);
            }
        }
        let pushes = std::mem::take(&mut self.pushes);
        for waiting in pushes {
            self.send_push_unasked(*waiting.ask);
        }
        for (conn, messages) in self.peers.drop_waiting() {
            for message in messages {
                self.send_unasked(conn, message);
            }
            self.queue_close_if_ready(conn);
        }
        self.turns.retain(|party| *party == Party::Handshakes);
        self.push_turn_queued = false;
    }

    /// Sends a message on without asking the listener.
    pub(super) fn send_unasked(&mut self, conn: ConnId, message: Payload) {
        let bytes = message.cost();
        let nothing = ChannelSet::default();
        let channels = self.released.channels(conn).unwrap_or(&nothing);
        let to = self.routed(Some((conn, channels)), &[]);
        self.effects.push(Effect::deliver(message, to, None));
        self.effects.push(Effect::Settled { conn, bytes });
    }

    /// Sends a push on without asking the listener.
    pub(super) fn send_push_unasked(&mut self, ask: PushAsk) {
        let push = &ask.push;
        let except = push.except().unwrap_or_default();
        let (to, gone) =
            resolve_recipients(push.target(), except, |except| self.routed(None, except));
        self.metrics.gone.add(gone.len() as u64);
        let payload = push.payload().clone();
        let report = self.report(gone, Reply::Push(ask.reply));
        self.effects.push(Effect::deliver(payload, to, report));
    }

    /// The ids of the owed events whose requester fits, oldest first.
    pub(super) fn asked_ids(&self, which: impl Fn(&Requester) -> bool) -> Vec<u64> {
        let owed = self.asked.iter().filter(|(_, asked)| which(&asked.requester));
        let mut ids: Vec<u64> = owed.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }
}
