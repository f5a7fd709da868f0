//! Answers in HTTP that are not the end of a connection: the next request may follow on it, or stand
//! behind the last one already.
//!
//! One request is answered after the other. While an answer waits for its socket, or is not there
//! yet, nothing more is read.

use std::time::SystemTime;

use bytes::Bytes;

use crate::gateway::hub::Lent;
use crate::gateway::hub::connection::{Connection, Opening, State};
use crate::gateway::hub::flow::{Flow, stay};
use crate::net::address::Peer;
use crate::ws::response::Response;

impl Connection {
    /// Answers a request. Where the answer says so, the connection stays open for the next one.
    pub(super) fn answer(&mut self, response: Response, lent: &mut Lent<'_>) -> Flow {
        // Its clients have to go when the gateway stops.
        let keeps_alive = response.keeps_alive() && !lent.shared.is_refusing() && !self.broken;
        let peer = self.peer().filter(|_| keeps_alive);
        let Some(peer) = peer else { return self.refuse(response.keep_alive(false), None, lent) };
        self.state = State::Handshake(Box::new(Opening::new(peer, true)));
        self.last_message = lent.ctx.now;
        self.await_request(lent);
        self.send_always(Bytes::from(response.encode(SystemTime::now())), lent)?;
        if self.outbox.is_none() {
            // The next one may be there already.
            self.enter_read_queue(lent);
        }
        stay()
    }

    /// The answer to its last request is out.
    pub(super) fn answered(&mut self, lent: &mut Lent<'_>) {
        self.await_request(lent);
        self.enter_read_queue(lent);
    }

    /// A request has so long from now on.
    pub(super) fn await_request(&mut self, lent: &mut Lent<'_>) {
        let time = (lent.settings.handshake_timeout.as_millis() as u64).max(1);
        self.state_deadline = Some(lent.ctx.now.after(time));
        self.arm(lent);
    }

    /// The socket's address, until the connection is open.
    pub(super) fn peer(&self) -> Option<Peer> {
        match &self.state {
            State::Handshake(opening) => Some(opening.peer),
            State::Asking(asking) => Some(asking.peer),
            State::Posting(posting) => Some(posting.peer),
            State::Posted(posted) => Some(posted.peer),
            State::Polling(polling) => Some(polling.peer),
            State::Open(_) | State::Closing(_) | State::Leaving(_) | State::Lingering { .. } => {
                None
            }
        }
    }

    /// Whether nothing of its next request is there: it can be closed without a word, which would be
    /// taken for the answer to what its client sends now.
    pub(super) fn is_between_requests(&self) -> bool {
        matches!(&self.state, State::Handshake(opening) if opening.again)
            && self.partial.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
    }

    /// Whether something of a request was read and not looked at.
    pub(super) fn has_request(&self) -> bool {
        matches!(&self.state, State::Handshake(opening) if opening.seen < self.partial.len())
    }
}
