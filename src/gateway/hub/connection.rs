//! One connection's state: kept small, because there may be a million of them and most are idle.
//!
//! Owned by its shard's thread. What a connection does is in the other files of this folder, as
//! methods on [`Connection`] that are lent what they need ([`Lent`]) and say whether it stays.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use bytes::Bytes;

use crate::gateway::context::Context;
use crate::gateway::hub::Lent;
use crate::gateway::hub::admission::Admitted;
use crate::gateway::hub::flow::{Flow, stay};
use crate::gateway::hub::hot::{Hot, Takes};
use crate::gateway::hub::requests::{Polling, Posted, Posting};
use crate::gateway::io::outbox::{Flush, Outbox};
use crate::gateway::io::transport::Transport;
use crate::gateway::occupancy::AddressBlock;
use crate::gateway::posts::PostToken;
use crate::gateway::time::Millis;
use crate::gateway::web::Place;
use crate::gateway::web::request::FileRequest;
use crate::gateway::wire::Wire;
use crate::listener::connection::ConnInfo;
use crate::listener::protocol::connid::ConnId;
use crate::net::address::Peer;
use crate::ws::decoder::Fragments;

/// Where a connection stands in its life, with what belongs to that part of it alone.
#[derive(Debug)]
pub(crate) enum State {
    /// The request is coming in.
    Handshake(Box<Opening>),
    /// The listener is asked whether it may come in.
    Asking(Box<Asking>),
    /// It sends a message for a stream, whose body is coming in.
    Posting(Box<Posting>),
    /// The shard of that stream has the message.
    Posted(Box<Posted>),
    /// It waits for something to come.
    Polling(Box<Polling>),
    /// Open: it receives, and its messages count.
    Open(Arc<ConnInfo>),
    /// Its Close (or its violation) came: it still receives what its own messages are owed, then
    /// our Close goes out. What it sends is thrown away.
    Closing(Box<Closing>),
    /// Our Close went out first: its Close is awaited, messages are thrown away.
    Leaving(Box<Leaving>),
    /// Nothing more is said; waits for the client to close the socket, so that no RST destroys what
    /// is under way. `reset` as in [`Leaving`].
    Lingering { reset: bool },
}

/// The request is coming in.
#[derive(Debug)]
pub(crate) struct Opening {
    /// Its other end.
    pub peer: Peer,
    /// Bytes of the head that were looked at.
    pub seen: usize,
    /// Whether it is not the first one on this connection.
    pub again: bool,
    /// Set when its client leaves the shard to be served a file.
    pub file: Option<(Box<FileRequest>, Place)>,
    /// Whether the header of the PROXY protocol has to come first.
    pub header_due: bool,
}

impl Opening {
    /// Nothing of the request is there.
    pub(super) fn new(peer: Peer, again: bool) -> Opening {
        Opening { peer, seen: 0, again, file: None, header_due: false }
    }
}

/// The listener is asked.
#[derive(Debug)]
pub(crate) struct Asking {
    /// Its other end.
    pub peer: Peer,
    /// The request.
    pub admitted: Arc<Admitted>,
    /// Whether it is put off only until this shard has handled what its client has seen already.
    pub put_off: bool,
}

/// The client ended it.
#[derive(Debug)]
pub(crate) struct Closing {
    /// Its request.
    pub info: Arc<ConnInfo>,
    /// What its Close said; `None` where it broke a rule instead.
    pub client: Option<(u16, String)>,
    /// The Close that goes out: no code for one that had none.
    pub ours: (Option<u16>, String),
}

/// We ended it.
#[derive(Debug)]
pub(crate) struct Leaving {
    /// Its request.
    pub info: Arc<ConnInfo>,
    /// The code of our Close.
    pub code: u16,
    /// Reset the socket when the time is up, instead of closing it.
    pub reset: bool,
}

/// Why a connection is not read although bytes may be there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paused {
    /// Since when, or how far that was accounted for.
    pub since: Millis,
    /// Whether it stands in the queue for its turn; else its own limits keep it.
    pub in_resume_queue: bool,
    /// Whether it is its own queue that keeps it: it does not read, so its clocks go on.
    pub by_own_queue: bool,
}

/// What is known about its socket's reading side.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// Whether the socket may have bytes to read.
    pub readable: bool,
    /// Whether epoll has said that the client closed its side: a short read is not the end then.
    pub peer_closed: bool,
    /// Whether it waits to be read on, because it had more than one turn reads.
    pub in_read_queue: bool,
    /// Set while it is not read because of backpressure.
    pub paused: Option<Paused>,
}

/// Messages that a connection may still send: `max-rate`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    /// Messages, at most one second's worth but for the time in which we did not read.
    pub tokens: f32,
    /// When they were counted.
    pub at: Millis,
}

/// What few connections have, apart from the others for the sake of the many.
#[derive(Debug, Default)]
pub(crate) struct Rare {
    /// What it was counted under, where connections are counted by address.
    pub counted_ip: Option<AddressBlock>,
    /// What its client posts with, where it is a stream.
    pub post: Option<PostToken>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The socket.
    pub stream: Transport,
    /// Its name.
    pub id: ConnId,
    /// Frames with a lower number in the shard's order are not for it.
    pub first_frame: u64,
    /// Where it stands.
    pub state: State,
    /// Frames that the socket has not taken.
    pub outbox: Option<Box<Outbox>>,
    /// The reading side.
    pub reading: Reading,
    /// The bytes that it gets of a message.
    pub wire: Wire,
    /// Whether the socket takes nothing more: it is lost once what came before is read.
    pub broken: bool,
    /// Bytes that were read and make no whole frame yet, or that backpressure kept back.
    pub partial: Vec<u8>,
    /// A fragmented message.
    pub fragments: Option<Box<Fragments>>,
    /// What few connections have.
    pub rare: Option<Box<Rare>>,
    /// Its messages that are owed an answer.
    pub unanswered: u32,
    /// Bytes of those, and of its messages that wait to be sent.
    pub unanswered_bytes: usize,
    /// `max-rate`.
    pub allowance: Allowance,
    /// The last message either way, broadcasts aside: [`Lent::last_broadcast`] has those.
    pub last_message: Millis,
    /// When the socket last took bytes from the outbox.
    pub last_drained_at: Option<Millis>,
    /// Since when more than half of `max-queue` waits.
    pub over_half_since: Option<Millis>,
    /// When the next ping is due.
    pub ping_at: Option<Millis>,
    /// When a pong is overdue; set while one is awaited.
    pub pong_deadline: Option<Millis>,
    /// When the state it is in has lasted too long.
    pub state_deadline: Option<Millis>,
    /// The time its timer is set to.
    pub timer: Option<Millis>,
}

impl Connection {
    /// A new client.
    pub(super) fn new(stream: Transport, id: ConnId, peer: Peer, now: Millis) -> Connection {
        Connection {
            stream,
            id,
            first_frame: 0,
            state: State::Handshake(Box::new(Opening::new(peer, false))),
            outbox: None,
            reading: Reading::default(),
            wire: Wire::default(),
            broken: false,
            partial: Vec::new(),
            fragments: None,
            rare: None,
            unanswered: 0,
            unanswered_bytes: 0,
            allowance: Allowance { tokens: 0.0, at: now },
            last_message: now,
            last_drained_at: None,
            over_half_since: None,
            ping_at: None,
            pong_deadline: None,
            state_deadline: None,
            timer: None,
        }
    }

    /// Its request; set from its 101 to the end that the listener is told of.
    pub(super) fn info(&self) -> Option<&Arc<ConnInfo>> {
        match &self.state {
            State::Open(info) => Some(info),
            State::Closing(closing) => Some(&closing.info),
            State::Leaving(leaving) => Some(&leaving.info),
            State::Handshake(_)
            | State::Asking(_)
            | State::Posting(_)
            | State::Posted(_)
            | State::Polling(_)
            | State::Lingering { .. } => None,
        }
    }

    /// Whether its opening is put off until this shard has handled what it was handed so far.
    pub(super) fn is_put_off(&self) -> bool {
        matches!(&self.state, State::Asking(asking) if asking.put_off)
    }

    /// What few connections have.
    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Whether it is open: its messages count.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Whether deliveries are for it: from its 101 to our Close.
    pub(super) fn receives(&self) -> bool {
        matches!(self.state, State::Open(_) | State::Closing(_)) && !self.broken
    }

    /// Bytes that wait for its socket.
    pub(super) fn queued(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.bytes())
    }

    /// What they cost, as `max-queue` counts.
    pub(super) fn queue_cost(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.cost())
    }

    /// Whether the socket has taken all that it ever will: nothing waits here, nor inside the record
    /// layer.
    pub(super) fn all_out(&self) -> bool {
        self.broken || self.outbox.is_none() && !self.stream.tls_pending()
    }

    /// What a fan-out has to know of it.
    pub(super) fn hot(&self) -> Hot {
        let takes = match (self.receives(), &self.outbox) {
            (false, _) => Takes::Nothing,
            (true, Some(_)) => Takes::Queue,
            (true, None) if self.stream.is_plain() => Takes::Socket,
            (true, None) => Takes::Stream,
        };
        let wire = self.wire;
        Hot { first_frame: self.first_frame, fd: self.stream.as_raw_fd(), takes, wire }
    }

    /// While it was not read because of backpressure its clocks stood still, and it could send what
    /// its rate allows. Not so if its own queue kept it: it does not read what it is sent.
    pub(super) fn account_for_pause(&mut self, lent: &Lent<'_>) {
        let now = lent.ctx.now;
        let Some(paused) = &mut self.reading.paused else { return };
        let stood = now.since(paused.since);
        paused.since = now;
        if paused.by_own_queue {
            return;
        }
        self.last_message = self.idle_since(lent).after(stood).min(now);
        if let Some(deadline) = &mut self.pong_deadline {
            *deadline = deadline.after(stood);
        }
        self.allowance.tokens += lent.settings.max_rate as f32 * stood as f32 / 1_000.0;
        self.allowance.at = now;
    }

    // ---- writing -------------------------------------------------------------------------

    /// Sends a control frame or a response: behind what waits already, never refused.
    pub(super) fn send_always(&mut self, bytes: Bytes, lent: &mut Lent<'_>) -> Flow {
        if self.broken {
            return stay();
        }
        let sent = match &self.outbox {
            Some(_) => 0,
            None => match lent.ctx.write(&mut self.stream, &bytes) {
                Ok(n) => n,
                Err(_) => return self.write_failed(lent),
            },
        };
        if sent < bytes.len() {
            let outbox = self.outbox.get_or_insert_with(|| lent.ctx.spare());
            outbox.push_always(bytes, sent);
        }
        stay()
    }

    /// The socket may take bytes again.
    pub(super) fn writable(&mut self, lent: &mut Lent<'_>) -> Flow {
        let pending = self.stream.tls_pending();
        if self.stream.flush_tls().is_err() {
            return self.write_failed(lent);
        }
        if pending {
            self.last_drained_at = Some(lent.ctx.now);
        }
        if self.outbox.is_some() {
            return self.flush(lent);
        }
        // What the record layer held may be all that an end waited for.
        if pending { self.flushed(lent) } else { stay() }
    }

    /// Writes what the socket takes of the outbox.
    pub(super) fn flush(&mut self, lent: &mut Lent<'_>) -> Flow {
        match self.drain_outbox(lent.ctx) {
            Ok(()) => self.flushed(lent),
            Err(_) => self.write_failed(lent),
        }
    }

    /// Writes what the socket takes of the outbox; an empty one goes back to the spares.
    ///
    /// # Errors
    /// The connection's end.
    pub(super) fn drain_outbox(&mut self, ctx: &mut Context) -> io::Result<()> {
        let Some(outbox) = &mut self.outbox else { return Ok(()) };
        match outbox.flush(&mut self.stream)? {
            Flush::Empty => {
                self.last_drained_at = Some(ctx.now);
                ctx.give_back(self.outbox.take());
            }
            Flush::Full(took) => {
                if took {
                    self.last_drained_at = Some(ctx.now);
                }
            }
        }
        Ok(())
    }

    /// A connection that is paused may be read again as far as its own limits go: it gets its turn.
    pub(super) fn enter_resume_queue(&mut self, lent: &mut Lent<'_>) {
        if let Some(paused) = &mut self.reading.paused
            && !paused.in_resume_queue
        {
            paused.in_resume_queue = true;
            lent.queues.resume.push_back((lent.slot, self.id));
        }
    }

    /// It is read on in this turn or the next.
    pub(super) fn enter_read_queue(&mut self, lent: &mut Lent<'_>) {
        if !std::mem::replace(&mut self.reading.in_read_queue, true) {
            lent.queues.read.push_back((lent.slot, self.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A million idle connections have to fit: whoever adds a field sees its price here.
    #[test]
    fn an_idle_connection_stays_small() {
        assert!(size_of::<Connection>() <= 256, "{} bytes", size_of::<Connection>());
    }
}
