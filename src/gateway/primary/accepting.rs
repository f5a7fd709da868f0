//! Takes clients in: the home's acceptor, and its rest while descriptors are short.
//!
//! Runs on the home's shard. A socket is handed at once to the shard that its connection's name
//! belongs to, which keeps it for life.

use std::io;

use mio::Interest;
use mio::net::TcpListener;

use crate::gateway::engine::Msg;
use crate::gateway::hub::Slice;
use crate::gateway::shard::{Ctx, Kind, token};

/// Clients accepted in one turn.
const ACCEPTS: usize = 64;

/// Milliseconds that the acceptor rests when descriptors are short.
const ACCEPT_REST: u64 = 50;

/// Milliseconds between two complaints about the acceptor.
const COMPLAIN: u64 = 10_000;

impl Slice {
    /// Starts or stops accepting.
    pub fn accept_on(&mut self, acceptor: Option<std::net::TcpListener>, ctx: &mut Ctx) {
        let Some(home) = &mut self.home else { return };
        if let Some(mut old) = home.acceptor.take() {
            // Its descriptor may have copies, for which closing this one would not end the watch.
            let _ = ctx.registry.deregister(&mut old);
        }
        home.acceptor = acceptor.and_then(|acceptor| {
            let mut acceptor = TcpListener::from_std(acceptor);
            let token = token(self.shared.slot, Kind::Acceptor, 0);
            match ctx.registry.register(&mut acceptor, token, Interest::READABLE) {
                Ok(()) => Some(acceptor),
                Err(error) => {
                    tracing::error!(gateway = %self.shared.id, %error, "the acceptor cannot be watched");
                    None
                }
            }
        });
        home.accept_ready = home.acceptor.is_some();
        home.accept_after = 0;
        home.dirty = true;
    }

    /// Takes clients in.
    pub(super) fn accept(&mut self, ctx: &mut Ctx) {
        for _ in 0..ACCEPTS {
            let Some(home) = &mut self.home else { return };
            let Some(acceptor) = &home.acceptor else {
                home.accept_ready = false;
                return;
            };
            let complain = ctx.now >= home.complained + COMPLAIN || home.complained == 0;
            if !ctx.core.take_socket() {
                home.accept_after = ctx.now + ACCEPT_REST;
                if complain {
                    home.complained = ctx.now;
                    tracing::warn!(
                        gateway = %self.shared.id,
                        "out of file descriptors: new clients wait in the backlog until one is free \
                         (raise the hard limit, ulimit -n)"
                    );
                }
                return;
            }
            match acceptor.accept() {
                Ok((stream, peer)) => {
                    home.accept_after = 0;
                    let id = ctx.core.next_conn();
                    let shard = ctx.core.shard_of(id);
                    if shard == ctx.index {
                        self.socket(stream, peer, id, ctx);
                    } else {
                        ctx.core.post(shard, Msg::Socket(self.shared.slot, stream, peer, id));
                    }
                }
                Err(e) => {
                    ctx.core.give_socket();
                    match e.kind() {
                        io::ErrorKind::WouldBlock => {
                            home.accept_ready = false;
                            return;
                        }
                        // The client has gone already, or a signal came.
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                        _ => {
                            home.accept_after = ctx.now + ACCEPT_REST;
                            if complain {
                                home.complained = ctx.now;
                                tracing::error!(
                                    gateway = %self.shared.id, error = %e,
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
}
