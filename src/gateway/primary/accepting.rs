//! Takes clients in: the acceptor, and its rest while descriptors are short.
//!
//! A socket is handed at once to the shard that its connection's name belongs to, which keeps it for
//! life.

use std::io;

use mio::Interest;

use crate::gateway::context::{Context, Kind, token};
use crate::gateway::io::socket::{Acceptor, ClientSocket};
use crate::gateway::msg::HubMsg;
use crate::gateway::shared::Shared;
use crate::gateway::time::Millis;
use crate::listener::protocol::connid::ConnId;
use crate::net::address::Peer;
use crate::net::bind::BoundSocket;

/// Clients accepted in one turn.
const ACCEPTS: usize = 64;

/// Milliseconds that the acceptor rests when descriptors are short.
const REST: u64 = 50;

/// Milliseconds between two complaints about the acceptor.
const COMPLAIN: u64 = 10_000;

/// The acceptor of one gateway.
#[derive(Default)]
pub(super) struct Accepting {
    acceptor: Option<Acceptor>,
    /// Whether clients may wait to be accepted.
    ready: bool,
    /// Not before then.
    rests_until: Option<Millis>,
    complained: Option<Millis>,
    /// Clients for this shard.
    accepted: Vec<(ClientSocket, Peer, ConnId)>,
}

impl Accepting {
    /// Starts or stops accepting.
    pub(super) fn accept_on(
        &mut self,
        acceptor: Option<BoundSocket>,
        shared: &Shared,
        ctx: &Context,
    ) {
        if let Some(mut old) = self.acceptor.take() {
            // Its descriptor may have copies, for which closing this one would not end the watch.
            let _ = ctx.registry.deregister(&mut old);
        }
        self.acceptor = acceptor.and_then(|acceptor| {
            let mut acceptor = Acceptor::new(acceptor);
            let token = token(shared.slot.index, Kind::Acceptor, 0);
            match ctx.registry.register(&mut acceptor, token, Interest::READABLE) {
                Ok(()) => Some(acceptor),
                Err(error) => {
                    tracing::error!(gateway = %shared.id, %error, "the acceptor cannot be watched");
                    None
                }
            }
        });
        self.ready = self.acceptor.is_some();
        self.rests_until = None;
    }

    /// Clients wait.
    pub(super) fn ready(&mut self) {
        self.ready = true;
    }

    /// Whether there is something to do now.
    pub(super) fn wants_turn(&self) -> bool {
        self.ready && self.acceptor.is_some() && self.rests_until.is_none()
    }

    /// When there is something to do without an event.
    pub(super) fn deadline(&self) -> Option<Millis> {
        self.rests_until.filter(|_| self.ready)
    }

    /// Clients for this shard.
    pub(super) fn take(&mut self) -> Vec<(ClientSocket, Peer, ConnId)> {
        std::mem::take(&mut self.accepted)
    }

    /// Takes clients in.
    pub(super) fn accept(&mut self, shared: &Shared, ctx: &Context) {
        if !self.ready || self.rests_until.is_some_and(|until| until > ctx.now) {
            return;
        }
        for _ in 0..ACCEPTS {
            let Some(acceptor) = &self.acceptor else {
                self.ready = false;
                return;
            };
            if !ctx.core.take_socket() {
                if self.rest(ctx) {
                    tracing::warn!(
                        gateway = %shared.id,
                        "out of file descriptors: new clients wait in the backlog until one is free \
                         (raise the hard limit, ulimit -n)"
                    );
                }
                return;
            }
            match acceptor.accept() {
                Ok((stream, peer)) => {
                    self.rests_until = None;
                    let id = ctx.core.next_conn(shared.node);
                    let shard = ctx.core.shard_of(id);
                    if shard == ctx.index {
                        self.accepted.push((stream, peer, id));
                    } else {
                        ctx.core.post_hub(shard, shared, HubMsg::Socket(stream, peer, id));
                    }
                }
                Err(error) => {
                    ctx.core.give_socket();
                    match error.kind() {
                        io::ErrorKind::WouldBlock => {
                            self.ready = false;
                            return;
                        }
                        // The client has gone already, or a signal came.
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                        _ => {
                            if self.rest(ctx) {
                                tracing::error!(
                                    gateway = %shared.id, %error,
                                    "a client cannot be accepted for now"
                                );
                            }
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Rests for a moment; true if it is time to say so in the log.
    fn rest(&mut self, ctx: &Context) -> bool {
        self.rests_until = Some(ctx.now.after(REST));
        let complains = self.complained.is_none_or(|at| ctx.now >= at.after(COMPLAIN));
        if complains {
            self.complained = Some(ctx.now);
        }
        complains
    }
}
