//! Connections on their way in: from the accepted socket to `onClientOpen`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use bytes::Bytes;
use mio::Interest;
use mio::net::TcpStream;

use crate::gateway::engine::HomeMsg;
use crate::gateway::hub::Slice;
use crate::gateway::hub::admission;
use crate::gateway::hub::admission::{Admitted, Decision};
use crate::gateway::hub::connection::{Conn, State};
use crate::gateway::io::transport::Transport;
use crate::gateway::occupancy::AddressBlock;
use crate::gateway::shard::Ctx;
use crate::listener::connection::ConnInfo;
use crate::listener::exchange::Verdict;
use crate::listener::protocol::connid::ConnId;
use crate::listener::protocol::hooks::Hook;
use crate::ws::response::Response;

/// Bytes of told events that may wait for the listener; past it new connections get 503.
const NOTICES_MAX: usize = 4 * 1024 * 1024;

impl Slice {
    /// A new client.
    pub fn socket(&mut self, stream: TcpStream, peer: SocketAddr, id: ConnId, ctx: &mut Ctx) {
        ctx.hurry();
        let stream = match Transport::new(stream, self.shared.tls().as_ref()) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::error!(gateway = %self.shared.id, %error, "TLS cannot be set up");
                return ctx.core.give_socket();
            }
        };
        let entry = self.conns.vacant_entry();
        // Slots are far fewer than descriptors can be.
        let slot = entry.key() as u32;
        let mut conn = Conn::new(stream, id, peer);
        conn.state_by = ctx.now + (self.settings.handshake_timeout.as_millis() as u64).max(1);
        entry.insert(conn);
        self.by_id.insert(id, slot);
        let token = self.conn_token(slot);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = match self.conns.get_mut(slot as usize) {
            Some(conn) => ctx.registry.register(conn.stream.tcp(), token, interest),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        if let Err(error) = registered {
            tracing::error!(gateway = %self.shared.id, %error, "a client cannot be watched");
            return self.drop_conn(slot, false, ctx);
        }
        self.arm(slot, ctx);
    }

    /// More bytes of a request are there.
    pub fn request(&mut self, slot: u32, ctx: &mut Ctx) {
        let bound = self.shared.bound.ip();
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        let Some(opening) = &mut conn.opening else { return };
        let seen = opening.seen;
        opening.seen = conn.partial.len();
        match admission::decide(&conn.partial, seen, &self.settings, opening.peer, bound) {
            Decision::Incomplete => {}
            Decision::Answer { response, reason } => self.refuse(slot, response, reason, ctx),
            Decision::Admit(upgrade) => {
                let rest = conn.partial.split_off(upgrade.head_len);
                conn.partial = rest;
                self.upgrade(slot, upgrade, ctx);
            }
        }
    }

    /// A good request: the limits and the listener have their say.
    fn upgrade(&mut self, slot: u32, upgrade: Box<Admitted>, ctx: &mut Ctx) {
        if self.shared.refusing.load(Ordering::Relaxed) {
            let response = Response::text(503, "The gateway is stopping.\n");
            return self.refuse(slot, response, "stopping", ctx);
        }
        // Looked at here so that nobody is asked in vain; counted when it is opened.
        if self.shared.occupancy.open() >= self.settings.max_connections {
            return self.refuse_full(slot, ctx);
        }
        if self.settings.tells() && self.shared.pressure.notice_bytes() >= NOTICES_MAX {
            let response = Response::text(503, "The listener is behind with its events.\n");
            return self.refuse(slot, response, "listener_queue", ctx);
        }
        if self.settings.max_connections_per_ip > 0 && !self.count_ip(slot, upgrade.ip) {
            let text = "Too many connections from this address (max-connections-per-ip).\n";
            let response = Response::text(429, text);
            return self.refuse(slot, response, "max_connections_per_ip", ctx);
        }
        let asked = self.settings.asks(Hook::OnHandshake);
        if !asked {
            return self.open(slot, &upgrade, upgrade.chosen.as_deref(), ctx);
        }
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        conn.state = State::Asking;
        conn.state_by = 0;
        let ask = HomeMsg::Ask(conn.id, upgrade.asked_members(), upgrade.offers.clone());
        if let Some(opening) = &mut conn.opening {
            opening.upgrade = Some(upgrade);
        }
        self.tell_home(ask, ctx);
    }

    /// The answer to a handshake that was asked.
    pub fn verdict(&mut self, conn: ConnId, verdict: Verdict, ctx: &mut Ctx) {
        let Some(slot) = self.slot(conn) else { return };
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        if conn.state != State::Asking {
            return;
        }
        let Some(upgrade) = conn.opening.as_mut().and_then(|o| o.upgrade.take()) else { return };
        match verdict {
            Verdict::Accept(protocol) => {
                if self.shared.refusing.load(Ordering::Relaxed) {
                    let response = Response::text(503, "The gateway is stopping.\n");
                    return self.refuse(slot, response, "stopping", ctx);
                }
                let protocol = protocol.as_deref().or(upgrade.chosen.as_deref());
                self.open(slot, &upgrade, protocol, ctx);
                // What came while the listener was asked.
                self.readable(slot, ctx);
            }
            Verdict::Refuse(status, body) => {
                let reason = if status == 500 { "listener_fault" } else { "rejected" };
                self.refuse(slot, Response::text(status, body), reason, ctx);
            }
            Verdict::Unavailable => {
                let response = Response::text(503, "The listener does not answer.\n");
                self.refuse(slot, response, "listener_down", ctx);
            }
        }
    }

    fn refuse_full(&mut self, slot: u32, ctx: &mut Ctx) {
        let response = Response::text(503, "Too many connections (max-connections).\n");
        self.refuse(slot, response, "max_connections", ctx);
    }

    /// 101: counted and registered first, then told, then answered.
    fn open(&mut self, slot: u32, upgrade: &Admitted, protocol: Option<&str>, ctx: &mut Ctx) {
        // The shards open connections at the same time: none may be one too many.
        if !self.shared.occupancy.try_open(self.settings.max_connections) {
            return self.refuse_full(slot, ctx);
        }
        let joined = self.fanout.next_seq();
        let (members, path_len) = upgrade.open_members(protocol);
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        let info = Arc::new(ConnInfo {
            id: conn.id,
            opened_at: SystemTime::now(),
            remote: upgrade.remote.as_str().into(),
            members: members.into(),
            path_len,
        });
        conn.opening = None;
        conn.state = State::Open;
        conn.state_by = 0;
        conn.joined = joined;
        conn.last_message = ctx.now;
        conn.rate = (self.settings.max_rate as f32, ctx.now);
        conn.info = Some(Arc::clone(&info));
        conn.partial.shrink_to_fit();
        self.shared.metrics.connections.add(1);
        self.shared.metrics.accepted.inc();
        tracing::info!(
            gateway = %self.shared.id, conn = %info.id, remote = %info.remote,
            path = info.path_json(), "opened"
        );
        if self.settings.tells() {
            self.tell_home(HomeMsg::Opened(info), ctx);
        }
        self.set_ping(slot, ctx.now);
        self.arm(slot, ctx);
        self.send_always(slot, Bytes::from(upgrade.switching_protocols(protocol)), ctx);
    }

    /// Answers in HTTP and closes. `reason` is the label in the metrics; empty: no refusal.
    pub fn refuse(&mut self, slot: u32, response: Response, reason: &'static str, ctx: &mut Ctx) {
        if !reason.is_empty() {
            self.shared.metrics.refused.add(reason, 1);
            let peer = self.conns.get(slot as usize).and_then(|c| c.opening.as_ref());
            if let Some(opening) = peer {
                let (id, remote) = (&self.shared.id, opening.peer);
                let told = crate::text::escape::escape(response.body().trim_end());
                // A browser does not show its page the answer: here is where it can be found.
                if reason == "origin" {
                    tracing::info!(gateway = %id, %remote, reason, "refused: {told}");
                } else {
                    tracing::debug!(gateway = %id, %remote, reason, "refused: {told}");
                }
            }
        }
        if let Some(conn) = self.conns.get_mut(slot as usize) {
            conn.opening = None;
            conn.partial = Vec::new();
        }
        self.send_always(slot, Bytes::from(response.encode(SystemTime::now())), ctx);
        self.linger(slot, ctx);
    }

    fn count_ip(&mut self, slot: u32, ip: IpAddr) -> bool {
        let block = AddressBlock::of(ip);
        if !self.shared.occupancy.try_count(block, self.settings.max_connections_per_ip) {
            return false;
        }
        if let Some(conn) = self.conns.get_mut(slot as usize) {
            conn.counted_ip = Some(Box::new(block));
        }
        true
    }

    /// Connections are counted by address from now on: those that are open count too.
    pub fn count_open_ips(&mut self) {
        for (_, conn) in &mut self.conns {
            let Some(info) = conn.info.as_ref().filter(|_| conn.counted_ip.is_none()) else {
                continue;
            };
            let socket = info.remote.parse::<SocketAddr>().map(|a| a.ip());
            if let Ok(ip) = socket.or_else(|_| info.remote.parse()) {
                let block = AddressBlock::of(ip);
                self.shared.occupancy.count(block);
                conn.counted_ip = Some(Box::new(block));
            }
        }
    }
}
