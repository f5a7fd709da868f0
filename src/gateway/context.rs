//! What the gateways of a shard have in common: the clock, the read buffer, timers, the ring.
//!
//! Owned by the shard's thread, and lent to whatever acts in a turn.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use mio::{Registry, Token};

use crate::gateway::codec::Codec;
use crate::gateway::core::Core;
use crate::gateway::io::outbox::Outbox;
use crate::gateway::io::timers::Timers;
use crate::gateway::io::transport::Transport;
use crate::gateway::io::uring::{LARGEST, Ring};
use crate::gateway::time::Millis;
use crate::gateway::web::Web;

/// The waker's token.
pub(crate) const WAKER: Token = Token(usize::MAX);

/// Bytes of the buffer that all connections of a shard are read into.
const READ_BUFFER: usize = 64 * 1024;

/// Milliseconds for which a newcomer makes turns short: its request follows at once.
const HURRY: u64 = 10;

/// Recipients from which on one system call for all of them is worth it.
const WORTH_A_RING: usize = 8;

/// Empty outboxes that are kept for the next socket that is full.
const SPARES: usize = 64;

/// Connections whose memory is worth giving back.
const CROWD: usize = 512;

/// Milliseconds after which it is.
const TRIM_AFTER: u64 = 2_000;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A connection.
    Connection,
    /// The acceptor.
    Acceptor,
    /// The listener's stdin.
    Stdin,
    /// The listener's stdout.
    Stdout,
}

/// The token of something of a gateway: the gateway's place, the kind, the connection's slot.
pub(crate) fn token(gateway: u32, kind: Kind, slot: u32) -> Token {
    Token((gateway as usize) << 40 | (kind as usize) << 36 | slot as usize)
}

/// The parts of a token.
pub(crate) fn untoken(token: Token) -> (u32, Kind, u32) {
    let kind = match (token.0 >> 36) & 0xf {
        0 => Kind::Connection,
        1 => Kind::Acceptor,
        2 => Kind::Stdin,
        _ => Kind::Stdout,
    };
    // The lower 32 bits are the slot; a gateway's place has far fewer than the 24 above.
    ((token.0 >> 40) as u32, kind, token.0 as u32)
}

/// What the gateways of a shard have in common.
pub(crate) struct Context {
    /// Which shard this is.
    pub index: usize,
    /// What all shards share.
    pub core: Arc<Core>,
    /// What serves files.
    pub web: Arc<Web>,
    /// Where sockets are registered.
    pub registry: Registry,
    /// What sockets are read into; empty while it is in use.
    pub buffer: Vec<u8>,
    /// What compresses and inflates messages.
    pub codec: Codec,
    /// Deadlines of connections.
    pub timers: Timers,
    /// The time of this turn.
    pub now: Millis,
    /// The same as an instant.
    pub instant: Instant,
    /// What sends one frame to many sockets at once; `None` where the kernel has no such thing for
    /// us.
    pub ring: Option<Ring>,
    #[allow(clippy::vec_box)] // the boxes themselves are what is kept
    spares: Vec<Box<Outbox>>,
    /// When the allocator is to give back what a crowd left behind.
    trim_at: Option<Millis>,
    /// Until when turns are short.
    hurry_until: Millis,
}

impl Context {
    pub(super) fn new(index: usize, registry: Registry, core: Arc<Core>, web: Arc<Web>) -> Context {
        let mut this = Context {
            index,
            core,
            web,
            registry,
            buffer: vec![0; READ_BUFFER],
            codec: Codec::default(),
            timers: Timers::default(),
            now: Millis::FIRST,
            instant: Instant::now(),
            ring: None,
            spares: Vec::new(),
            trim_at: None,
            hurry_until: Millis::FIRST,
        };
        this.tick();
        this
    }

    /// Looks at the clock: a turn begins, or the events behind it.
    pub(super) fn tick(&mut self) {
        self.codec.begin_turn();
        self.instant = Instant::now();
        let since = self.instant.duration_since(self.core.start);
        self.now = Millis::new(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    }

    /// Writes what the socket takes, which may be nothing. Less than all means that it is full, and
    /// makes an event once it is not: a record layer takes what it is given in parts.
    ///
    /// # Errors
    /// The connection's end.
    pub(crate) fn write(&self, socket: &mut Transport, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while taken < bytes.len() {
            match socket.write(&bytes[taken..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => taken += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(taken)
    }

    /// Whether so many bytes go to so many connections with one system call for many.
    pub(crate) fn batches(&self, connections: usize, bytes: &[u8]) -> bool {
        connections >= WORTH_A_RING && bytes.len() <= LARGEST && self.ring.is_some()
    }

    /// So many connections have left a gateway: what they used is given back to the system a little
    /// later, when the listener has been told of them too.
    pub(crate) fn crowd_left(&mut self, connections: usize) {
        if connections >= CROWD {
            self.trim_at = Some(self.now.after(TRIM_AFTER));
        }
    }

    /// Whether it is time to give memory back; true once for each crowd.
    pub(super) fn takes_trim(&mut self) -> bool {
        let due = self.trim_at.is_some_and(|at| at <= self.now);
        if due {
            self.trim_at = None;
        }
        due
    }

    /// When it is.
    pub(super) fn trim_at(&self) -> Option<Millis> {
        self.trim_at
    }

    /// Somebody is on the way in, and ought not to wait for long turns.
    pub(crate) fn hurry(&mut self) {
        self.hurry_until = self.now.after(HURRY);
    }

    /// Whether turns are to be short.
    pub(crate) fn hurries(&self) -> bool {
        self.now < self.hurry_until
    }

    /// An empty outbox.
    pub(crate) fn spare(&mut self) -> Box<Outbox> {
        self.spares.pop().unwrap_or_default()
    }

    /// An outbox that is needed no more.
    pub(crate) fn give_back(&mut self, outbox: Option<Box<Outbox>>) {
        if let Some(mut outbox) = outbox
            && self.spares.len() < SPARES
        {
            outbox.reset();
            self.spares.push(outbox);
        }
    }
}
