//! Clients that leave their shard to be served a file, and come back.

use std::sync::Arc;

use crate::gateway::context::Context;
use crate::gateway::hub::connection::{Connection, Opening, State};
use crate::gateway::hub::flow::{Flow, Removal, remove, stay};
use crate::gateway::hub::{Hub, Lent};
use crate::gateway::msg::Returned;
use crate::gateway::web::Away;
use crate::gateway::web::request::FileRequest;
use crate::ws::reason::Reason;
use crate::ws::response::Response;

impl Connection {
    /// Leaves the shard to be served a file.
    pub(super) fn leave_for_file(&mut self, asked: Box<FileRequest>, lent: &mut Lent<'_>) -> Flow {
        let State::Handshake(opening) = &mut self.state else { return stay() };
        if lent.shared.is_refusing() {
            let response = Response::text(503, "The gateway is stopping.\n");
            return self.refuse(response, Some(Reason::Stopping), lent);
        }
        let Some(place) = lent.ctx.web.place() else {
            let response = Response::text(503, "Too many clients are served files.\n");
            return self.refuse(response, Some(Reason::Files), lent);
        };
        self.partial = self.partial.split_off(asked.head_len);
        opening.file = Some((asked, place));
        remove(Removal::Away)
    }
}

impl Hub {
    /// Hands a client that was taken out over to the thread that serves files.
    pub(super) fn send_away(&mut self, conn: Connection, ctx: &mut Context) {
        let Connection { mut stream, id, state, partial, .. } = conn;
        let State::Handshake(opening) = state else { return ctx.core.give_socket() };
        let Some((asked, place)) = opening.file else { return ctx.core.give_socket() };
        if let Err(error) = ctx.registry.deregister(stream.socket_mut()) {
            tracing::error!(gateway = %self.shared.id, %error, "a client cannot be handed over");
            return ctx.core.give_socket();
        }
        let shared = Arc::clone(&self.shared);
        let away = Away { stream, peer: opening.peer, id, asked, rest: partial, shared };
        ctx.web.serve(away, place);
    }

    /// A client comes back, with a request for something else.
    pub(super) fn returned(&mut self, returned: Returned, ctx: &mut Context) {
        let Returned { stream, peer, id, bytes } = returned;
        let mut conn = Connection::new(stream, id, peer, ctx.now);
        conn.state = State::Handshake(Box::new(Opening::new(peer, true)));
        conn.partial = bytes;
        let slot = self.take_in(conn, ctx);
        self.with_conn((slot, id), ctx, |conn, lent| {
            conn.request(lent)?;
            // The record layer may hold something that was read already.
            conn.reading.readable = true;
            conn.readable(lent)
        });
    }
}
