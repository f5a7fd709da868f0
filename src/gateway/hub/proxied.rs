//! Connections behind a proxy that speaks the PROXY protocol: its header is taken out of the socket
//! before anything else is read from it, and before TLS begins.

use std::io;
use std::ops::ControlFlow;

use crate::gateway::hub::Lent;
use crate::gateway::hub::connection::{Connection, State};
use crate::gateway::hub::flow::{Flow, Removal};
use crate::gateway::shared::Shared;
use crate::net::address::Peer;
use crate::net::proxy_protocol::{MAX_HEADER, parse};
use crate::ws::reason::Reason;

/// Why these are refused.
const REASON: Reason = Reason::ProxyProtocol;

/// Why a peer is refused that is not among the trusted proxies.
pub(super) const NOT_TRUSTED: &str = "its address is not among trusted-proxies, and \
                                      proxy-protocol accepts connections from those only";

/// Why one is refused whose header is not complete in time.
pub(super) const TOO_LATE: &str = "the header of the PROXY protocol did not arrive within \
                                   handshake-timeout";

/// Says in the log and the metrics that a connection is closed without an answer.
pub(super) fn note_refusal(shared: &Shared, remote: Peer, why: &str) {
    shared.metrics.refused.add(REASON.label(), 1);
    tracing::info!(gateway = %shared.id, %remote, reason = %REASON, "closed: {why}");
}

impl Connection {
    /// The header is to come first.
    pub(super) fn expect_header(&mut self) {
        if let State::Handshake(opening) = &mut self.state {
            opening.header_due = true;
        }
    }

    /// Whether the header is still to come.
    pub(super) fn awaits_header(&self) -> bool {
        matches!(&self.state, State::Handshake(opening) if opening.header_due)
    }

    /// Takes the header out of the socket, if it is all there; true if it was. It is looked at where
    /// it lies, so that not a byte of what follows is taken with it.
    pub(super) fn take_header(&mut self, lent: &mut Lent<'_>) -> ControlFlow<Removal, bool> {
        let mut buffer = std::mem::take(&mut lent.ctx.buffer);
        let room = buffer.len().min(MAX_HEADER);
        let seen = self.stream.peek(&mut buffer[..room]);
        let taken = match seen {
            Ok(0) => self.lost(lent).map_continue(|()| false),
            Ok(n) => match parse(&buffer[..n]) {
                Ok(Some(header)) => match self.stream.skip(&mut buffer[..header.size]) {
                    Ok(()) => self.header_came(header.client.map(Peer::Ip), lent),
                    Err(_) => self.lost(lent).map_continue(|()| false),
                },
                Ok(None) if self.reading.peer_closed => {
                    let why = "the connection ended within the header of the PROXY protocol";
                    self.refuse_header(why, lent).map_continue(|()| false)
                }
                Ok(None) => {
                    self.reading.readable = false;
                    ControlFlow::Continue(false)
                }
                Err(why) => self.refuse_header(why, lent).map_continue(|()| false),
            },
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.reading.readable = false;
                ControlFlow::Continue(false)
            }
            Err(_) => self.lost(lent).map_continue(|()| false),
        };
        lent.ctx.buffer = buffer;
        taken
    }

    /// The header was taken. TLS begins behind it.
    fn header_came(
        &mut self,
        client: Option<Peer>,
        lent: &mut Lent<'_>,
    ) -> ControlFlow<Removal, bool> {
        let State::Handshake(opening) = &mut self.state else { return ControlFlow::Continue(true) };
        opening.header_due = false;
        opening.peer = client.unwrap_or(opening.peer);
        if let Some(tls) = lent.shared.tls()
            && let Err(error) = self.stream.start_tls(&tls)
        {
            tracing::error!(gateway = %lent.shared.id, %error, "TLS cannot be set up");
            return ControlFlow::Break(Removal::Close);
        }
        ControlFlow::Continue(true)
    }

    /// Closes it without an answer: who sends no header would not understand one, and a proxy's
    /// client must not get what is not for it.
    pub(super) fn refuse_header(&mut self, why: &str, lent: &mut Lent<'_>) -> Flow {
        if let State::Handshake(opening) = &self.state {
            note_refusal(lent.shared, opening.peer, why);
        }
        self.lost(lent)
    }
}
