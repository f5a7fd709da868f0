//! Connections on their way in: from the accepted socket to `onClientOpen`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use mio::Interest;

use crate::config::hooks::Hook;
use crate::gateway::context::{Context, Kind, token};
use crate::gateway::hub::admission::{self, Admitted, Decision};
use crate::gateway::hub::closing::Ending;
use crate::gateway::hub::connection::{Allowance, Asking, Connection, State};
use crate::gateway::hub::flow::{Flow, Removal, stay};
use crate::gateway::hub::proxied::{NOT_TRUSTED, note_refusal};
use crate::gateway::hub::{Hub, Lent, streams};
use crate::gateway::io::socket::ClientSocket;
use crate::gateway::io::transport::Transport;
use crate::gateway::msg::{HubMsg, PrimaryMsg};
use crate::gateway::occupancy::AddressBlock;
use crate::gateway::wire::Form;
use crate::listener::connection::ConnInfo;
use crate::listener::exchange::HandshakeDecision;
use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;
use crate::net::address::{Peer, ip_of};
use crate::text::escape::escape;
use crate::text::position::Since;
use crate::ws::close;
use crate::ws::reason::Reason;
use crate::ws::response::Response;

/// Bytes of notices that may wait for the listener; past it new connections get 503.
const NOTICES_MAX: usize = 4 * 1024 * 1024;

impl Hub {
    /// A new client.
    pub(super) fn socket(
        &mut self,
        stream: ClientSocket,
        peer: Peer,
        id: ConnId,
        ctx: &mut Context,
    ) {
        ctx.hurry();
        let by_proxy = self.settings.proxy_protocol;
        if by_proxy && !self.settings.trusts(peer.ip()) {
            note_refusal(&self.shared, peer, NOT_TRUSTED);
            return ctx.core.give_socket();
        }
        // The header comes before TLS.
        let tls = if by_proxy { None } else { self.shared.tls() };
        let stream = match Transport::new(stream, tls.as_ref()) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::error!(gateway = %self.shared.id, %error, "TLS cannot be set up");
                return ctx.core.give_socket();
            }
        };
        let mut conn = Connection::new(stream, id, peer, ctx.now);
        if by_proxy {
            conn.expect_header();
        }
        self.take_in(conn, ctx);
    }

    /// Watches a client whose request comes in.
    pub(super) fn take_in(&mut self, mut conn: Connection, ctx: &mut Context) -> u32 {
        let time = (self.settings.handshake_timeout.as_millis() as u64).max(1);
        conn.state_deadline = Some(ctx.now.after(time));
        let slot = self.conns.insert(conn);
        let token = token(self.shared.slot.index, Kind::Connection, slot);
        self.with(slot, ctx, |conn, lent| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            if let Err(error) =
                lent.ctx.registry.register(conn.stream.socket_mut(), token, interest)
            {
                tracing::error!(gateway = %lent.shared.id, %error, "a client cannot be watched");
                return Flow::Break(Removal::Close);
            }
            conn.arm(lent);
            stay()
        });
        slot
    }

    /// Connections are counted by address from now on: those that are open count too.
    pub(super) fn count_open_ips(&mut self) {
        for (slot, _) in self.conns.all() {
            let Some(conn) = self.conns.get_mut(slot) else { continue };
            let Some(info) = conn
                .info()
                .filter(|_| conn.rare.as_ref().is_none_or(|rare| rare.counted_ip.is_none()))
            else {
                continue;
            };
            if let Some(ip) = ip_of(&info.remote) {
                let block = AddressBlock::of(ip);
                self.shared.occupancy.count(block);
                conn.rare().counted_ip = Some(block);
            }
        }
    }
}

impl Connection {
    /// More bytes of a request are there.
    pub(super) fn request(&mut self, lent: &mut Lent<'_>) -> Flow {
        let State::Handshake(opening) = &mut self.state else { return stay() };
        let seen = std::mem::replace(&mut opening.seen, self.partial.len());
        let peer = opening.peer;
        if opening.again && seen == 0 {
            // It begins.
            self.await_request(lent);
        }
        let bound = lent.shared.bound.ip();
        match admission::decide(&self.partial, seen, lent.settings, peer, bound) {
            Decision::Incomplete => stay(),
            Decision::Answer { response, next: Some(head_len), .. } => {
                self.partial = self.partial.split_off(head_len);
                self.answer(response, lent)
            }
            Decision::Answer { response, reason, next: None } => {
                self.refuse(response, reason, lent)
            }
            Decision::File(asked) => self.leave_for_file(asked, lent),
            Decision::Post(head) => self.post(peer, *head, lent),
            Decision::Poll(ask) => self.poll(peer, *ask, lent),
            Decision::Admit(admitted) => {
                self.partial = self.partial.split_off(admitted.head_len);
                self.upgrade(peer, admitted, lent)
            }
        }
    }

    /// A good request: the limits and the listener have their say.
    fn upgrade(&mut self, peer: Peer, admitted: Box<Admitted>, lent: &mut Lent<'_>) -> Flow {
        let settings = lent.settings;
        if lent.shared.is_refusing() {
            return self.refuse_stopping(&admitted, lent);
        }
        // Looked at here so that nobody is asked in vain; counted when it is opened.
        if lent.shared.occupancy.open() >= settings.max_connections {
            return self.refuse_full(&admitted, lent);
        }
        if settings.tells() && lent.shared.pressure.notice_bytes() >= NOTICES_MAX {
            let response = Response::text(503, "The listener is behind with its events.\n");
            return self.refuse(admitted.answer(response), Some(Reason::ListenerQueue), lent);
        }
        if settings.max_connections_per_ip > 0 && !self.count_ip(admitted.ip, lent) {
            let text = "Too many connections from this address (max-connections-per-ip).\n";
            let response = Response::text(429, text);
            return self.refuse(admitted.answer(response), Some(Reason::MaxConnectionsPerIp), lent);
        }
        let admitted: Arc<Admitted> = Arc::from(admitted);
        if !settings.asks(Hook::OnHandshake) {
            if lent.is_behind(admitted.since) {
                return self.put_off(peer, admitted, HandshakeDecision::UNCHANGED, lent);
            }
            return self.open(&admitted, None, (None, None), lent);
        }
        let ask = PrimaryMsg::Ask(self.id, admitted.asked_members(), admitted.offers.clone());
        self.state = State::Asking(Box::new(Asking { peer, admitted, put_off: false }));
        self.state_deadline = None;
        lent.tell_primary(ask);
        stay()
    }

    /// The answer to a handshake that was asked.
    pub(super) fn decided(&mut self, decision: HandshakeDecision, lent: &mut Lent<'_>) -> Flow {
        let State::Asking(asking) = &self.state else { return stay() };
        // Its place in the state is taken by what comes of it.
        let admitted = Arc::clone(&asking.admitted);
        match decision {
            HandshakeDecision::Accept { .. } if lent.shared.is_refusing() => {
                self.refuse_stopping(&admitted, lent)
            }
            HandshakeDecision::Accept { protocol, join, since } => {
                if !asking.put_off && lent.is_behind(admitted.since) {
                    let decision = HandshakeDecision::Accept { protocol, join, since };
                    let peer = asking.peer;
                    return self.put_off(peer, admitted, decision, lent);
                }
                self.open(&admitted, protocol.as_deref(), (join, since), lent)?;
                // What came while the listener was asked.
                self.readable(lent)
            }
            HandshakeDecision::Refuse(status, body) => {
                let reason = if status == 500 { Reason::ListenerFault } else { Reason::Rejected };
                self.refuse(admitted.answer(Response::text(status, body)), Some(reason), lent)
            }
            HandshakeDecision::Unavailable => {
                let response = Response::text(503, "The listener does not answer.\n");
                self.refuse(admitted.answer(response), Some(Reason::ListenerDown), lent)
            }
        }
    }

    fn refuse_stopping(&mut self, admitted: &Admitted, lent: &mut Lent<'_>) -> Flow {
        let response = Response::text(503, "The gateway is stopping.\n");
        self.refuse(admitted.answer(response), Some(Reason::Stopping), lent)
    }

    fn refuse_full(&mut self, admitted: &Admitted, lent: &mut Lent<'_>) -> Flow {
        let response = Response::text(503, "Too many connections (max-connections).\n");
        self.refuse(admitted.answer(response), Some(Reason::MaxConnections), lent)
    }

    /// Opens it once this shard has handled what it was handed so far.
    fn put_off(
        &mut self,
        peer: Peer,
        admitted: Arc<Admitted>,
        decision: HandshakeDecision,
        lent: &mut Lent<'_>,
    ) -> Flow {
        self.state_deadline = None;
        let msg = HubMsg::Handshake(self.id, decision);
        // On a gateway with a cluster, other nodes may have been faster than this one.
        let position = admitted.since.and_then(Since::position);
        match position.filter(|_| lent.shared.node.is_some()) {
            Some(position) => {
                lent.ctx.core.post_from(position.number, lent.ctx.index, lent.shared, msg);
            }
            None => lent.ctx.core.post_hub(lent.ctx.index, lent.shared, msg),
        }
        self.state = State::Asking(Box::new(Asking { peer, admitted, put_off: true }));
        stay()
    }

    /// 101, or a stream's 200: counted and registered first, then told, then answered. `protocol`, `join`
    /// and `since` are what the listener chose; a client that asks for something gets that.
    fn open(
        &mut self,
        admitted: &Admitted,
        protocol: Option<&str>,
        (join, since): (Option<Vec<Channel>>, Option<Since>),
        lent: &mut Lent<'_>,
    ) -> Flow {
        let protocol = protocol.or(admitted.chosen.as_deref());
        let channels = join.map_or_else(|| admitted.channels.clone(), Into::into);
        let wire = admitted.wire(protocol);
        let welcome = lent.welcome(&channels, admitted.since.or(since), wire.form);
        if welcome.lost && wire.form == Form::Raw {
            return self.refuse(
                admitted.answer(Response::text(410, streams::GONE)),
                Some(Reason::Gone),
                lent,
            );
        }
        // The shards open connections at the same time: none may be one too many.
        if !lent.shared.occupancy.try_open(lent.settings.max_connections) {
            return self.refuse_full(admitted, lent);
        }
        let now = lent.ctx.now;
        let (members, path_len) = admitted.open_members(protocol);
        let info = Arc::new(ConnInfo {
            id: self.id,
            opened_at: SystemTime::now(),
            remote: admitted.remote.as_str().into(),
            members: members.into(),
            path_len,
        });
        self.state = State::Open(Arc::clone(&info));
        self.state_deadline = None;
        self.wire = wire;
        lent.wires.add(wire);
        self.last_message = now;
        self.allowance = Allowance { tokens: lent.settings.max_rate as f32, at: now };
        if wire.form.is_stream() {
            self.partial = Vec::new();
        }
        self.partial.shrink_to_fit();
        lent.shared.metrics.connections.add(1);
        lent.shared.metrics.accepted.inc();
        tracing::info!(
            gateway = %lent.shared.id, conn = %info.id, remote = %info.remote,
            path = info.path_json(), "opened"
        );
        if lent.settings.tells() {
            lent.tell_primary(PrimaryMsg::Opened(info, channels.clone()));
        }
        let lost = welcome.lost;
        let mut bytes = admitted.opening(protocol);
        self.enter(&channels, welcome, &mut bytes, lent);
        self.set_ping(lent);
        self.await_acknowledgements(lent);
        self.arm(lent);
        self.send_always(Bytes::from(bytes), lent)?;
        if lost {
            return self.close_now(close::NOT_RECOVERED, Ending::ORDERLY, lent);
        }
        stay()
    }

    /// Answers in HTTP and closes; without a `reason` it is no refusal.
    pub(super) fn refuse(
        &mut self,
        response: Response,
        reason: Option<Reason>,
        lent: &mut Lent<'_>,
    ) -> Flow {
        if let Some(reason) = reason {
            lent.shared.metrics.refused.add(reason.label(), 1);
            if let Some(remote) = self.peer() {
                let gateway = &lent.shared.id;
                let told = escape(response.body().trim_end());
                // A browser does not show its page the answer: here is where it can be found.
                if reason == Reason::Origin {
                    tracing::info!(%gateway, %remote, %reason, "refused: {told}");
                } else {
                    tracing::debug!(%gateway, %remote, %reason, "refused: {told}");
                }
            }
        }
        self.state = State::Lingering { reset: false };
        self.partial = Vec::new();
        self.send_always(Bytes::from(response.encode(SystemTime::now())), lent)?;
        self.linger(false, lent)
    }

    fn count_ip(&mut self, ip: IpAddr, lent: &Lent<'_>) -> bool {
        let block = AddressBlock::of(ip);
        let max = lent.settings.max_connections_per_ip;
        let counted = lent.shared.occupancy.try_count(block, max);
        if counted {
            self.rare().counted_ip = Some(block);
        }
        counted
    }
}
