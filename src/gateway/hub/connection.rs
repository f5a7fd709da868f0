//! One connection's state: kept small, for there may be a million of them and most are idle.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::gateway::hub::admission::Admitted;
use crate::gateway::io::outbox::Outbox;
use crate::gateway::io::transport::Transport;
use crate::gateway::occupancy::AddressBlock;
use crate::listener::connection::{Closed, ConnInfo};
use crate::listener::protocol::connid::ConnId;
use crate::ws::decoder::Fragments;

/// Where a connection stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The request is coming in.
    Handshake,
    /// The listener is asked.
    Asking,
    /// Open: it receives, and its messages count.
    Open,
    /// Its Close (or its violation) came: it still receives what its own messages are owed, then
    /// our Close goes out. What it sends is thrown away.
    Closing,
    /// Our Close went out first: its Close is awaited, messages are thrown away.
    Leaving,
    /// Nothing more is said; waits for the client to close the socket, so that no RST destroys what
    /// is under way.
    Lingering,
}

/// The handshake's part, gone once it is over.
#[derive(Debug)]
pub struct Opening {
    /// The socket's address.
    pub peer: SocketAddr,
    /// Bytes of the head that were looked at.
    pub seen: usize,
    /// The request, once it is there.
    pub upgrade: Option<Box<Admitted>>,
}

/// The end's part: there once it began.
#[derive(Debug, Default)]
pub struct Ending {
    /// What the client's Close said.
    pub client: Option<(u16, String)>,
    /// The Close that goes out.
    pub ours: Option<(Option<u16>, String)>,
    /// Reset the socket when the time is up, instead of closing it.
    pub reset: bool,
}

/// One connection.
#[derive(Debug)]
pub struct Conn {
    /// The socket.
    pub stream: Transport,
    /// Its name.
    pub id: ConnId,
    /// Frames with a lower number in the shard's order are not for it.
    pub joined: u64,
    /// Where it stands.
    pub state: State,
    /// Whether the socket may have bytes to read.
    pub readable: bool,
    /// Whether it is not read because of pressure.
    pub blocked: bool,
    /// Whether it then stands in the queue for its turn; else its own limits keep it.
    pub queued_up: bool,
    /// Whether it waits to be read on, for it had more than one turn reads.
    pub hungry: bool,
    /// Whether epoll has said that the client closed its side: a short read is not the end then.
    pub eof: bool,
    /// Whether the socket takes nothing more: it is lost once what came before is read.
    pub broken: bool,
    /// Frames that the socket has not taken.
    pub out: Option<Box<Outbox>>,
    /// Bytes that were read and make no whole frame yet, or that pressure kept back.
    pub partial: Vec<u8>,
    /// A fragmented message.
    pub fragments: Option<Box<Fragments>>,
    /// Set while it is announced as open.
    pub info: Option<Arc<ConnInfo>>,
    /// Set until the handshake is over.
    pub opening: Option<Box<Opening>>,
    /// Set from the first Close on.
    pub ending: Option<Box<Ending>>,
    /// Its address, where connections are counted by address.
    pub counted_ip: Option<Box<AddressBlock>>,
    /// Its messages that are owed an answer, and their bytes.
    pub unanswered: u32,
    /// Bytes of those.
    pub unanswered_bytes: usize,
    /// Tokens of `max-rate`, and when they were counted.
    pub rate: (f32, u64),
    /// Since when it is blocked, or how far that was accounted for.
    pub blocked_at: u64,
    /// The last message either way.
    pub last_message: u64,
    /// When the next ping is due; 0 for never.
    pub ping_at: u64,
    /// When a pong is overdue; 0 while none is awaited.
    pub pong_by: u64,
    /// When the state it is in has lasted too long; 0 for never.
    pub state_by: u64,
    /// The time its timer is set to; 0 for none.
    pub timer: u64,
    /// Since when more than half of `max-queue` waits; 0 while it does not.
    pub over_since: u64,
    /// When the socket last took bytes from the outbox.
    pub took_at: u64,
}

impl Conn {
    /// A new client.
    pub fn new(stream: Transport, id: ConnId, peer: SocketAddr) -> Conn {
        Conn {
            stream,
            id,
            joined: 0,
            state: State::Handshake,
            readable: false,
            blocked: false,
            queued_up: false,
            hungry: false,
            eof: false,
            broken: false,
            out: None,
            partial: Vec::new(),
            fragments: None,
            info: None,
            opening: Some(Box::new(Opening { peer, seen: 0, upgrade: None })),
            ending: None,
            counted_ip: None,
            unanswered: 0,
            unanswered_bytes: 0,
            rate: (0.0, 0),
            blocked_at: 0,
            last_message: 0,
            ping_at: 0,
            pong_by: 0,
            state_by: 0,
            timer: 0,
            over_since: 0,
            took_at: 0,
        }
    }

    /// Bytes that wait for its socket.
    pub fn queued(&self) -> usize {
        self.out.as_ref().map_or(0, |out| out.bytes())
    }

    /// Whether the socket has taken all that it ever will: nothing waits here, nor inside the record
    /// layer.
    pub fn all_out(&self) -> bool {
        self.broken || self.out.is_none() && !self.stream.holds()
    }

    /// What they cost, as `max-queue` counts.
    pub fn queue_cost(&self) -> usize {
        self.out.as_ref().map_or(0, |out| out.cost())
    }

    /// While it was not read its clocks stood still, and it could send what its rate allows.
    pub fn stood_still(&mut self, now: u64, max_rate: u32) {
        let stood = now.saturating_sub(self.blocked_at);
        self.blocked_at = now;
        self.last_message = (self.last_message + stood).min(now);
        if self.pong_by > 0 {
            self.pong_by += stood;
        }
        self.rate.0 += max_rate as f32 * stood as f32 / 1_000.0;
        self.rate.1 = now;
    }

    /// Whether deliveries are for it: from its 101 to our Close.
    pub fn receives(&self) -> bool {
        matches!(self.state, State::Open | State::Closing) && !self.broken
    }

    /// How it ended, as far as its own Close says.
    pub fn closed(&self, both: bool) -> Closed {
        match self.ending.as_ref().and_then(|e| e.client.as_ref()) {
            Some((code, reason)) => Closed { code: *code, reason: reason.clone(), clean: both },
            None => {
                Closed { code: crate::ws::close::ABNORMAL, reason: String::new(), clean: false }
            }
        }
    }

    /// The earliest of its deadlines; 0 for none.
    pub fn next_deadline(&self, idle: u64) -> u64 {
        let idle_at =
            if idle > 0 && self.state == State::Open { self.last_message + idle } else { 0 };
        [self.ping_at, self.pong_by, self.state_by, idle_at]
            .into_iter()
            .filter(|at| *at > 0)
            .min()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A million idle connections have to fit: whoever adds a field sees its price here.
    #[test]
    fn an_idle_connection_stays_small() {
        assert!(size_of::<Conn>() <= 256, "{} bytes", size_of::<Conn>());
    }
}
