//! The connections that the listener is told of: what it knows of each, and what waits.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::listener::connection::{Closed, ConnInfo};
use crate::listener::protocol::connid::ConnId;
use crate::ws::payload::Payload;

/// Bytes kept for a connection's close line from its open on.
const CLOSE_ROOM: usize = 300;

/// What waits to be told.
pub enum Notice {
    /// `onClientOpen`.
    Open(ConnId),
    /// `onClientClose`.
    Close(ConnId),
    /// A result line, without its newline.
    Result(String),
}

/// One connection.
pub struct Peer {
    /// Its request.
    pub info: Arc<ConnInfo>,
    /// Whether some incarnation was told of it.
    pub told: bool,
    /// Messages that were not written yet.
    pub waiting: VecDeque<Payload>,
    /// Its events that are owed.
    pub owed: u32,
    /// Of those, events that this incarnation was not sent yet.
    pub redeliver: u32,
    /// Whether it stands in the ring.
    pub in_ring: bool,
    closed: Option<Closed>,
    close_queued: bool,
    charge: usize,
}

/// All of them.
#[derive(Default)]
pub struct Peers {
    map: HashMap<ConnId, Peer>,
    waiting: usize,
    /// Bytes of notices that wait, and of the room kept for the closes to come.
    notice_bytes: usize,
}

impl Peers {
    /// Bytes of notices that wait: past a limit the gateway takes no new connection.
    pub fn notice_bytes(&self) -> usize {
        self.notice_bytes
    }

    fn charge(notice_bytes: &mut usize, peer: &mut Peer, bytes: usize) {
        *notice_bytes += bytes;
        peer.charge += bytes;
    }

    fn discharge(notice_bytes: &mut usize, peer: &mut Peer) {
        *notice_bytes -= peer.charge;
        peer.charge = 0;
    }

    /// A new connection; `charge` says whether its open is told.
    pub fn open(&mut self, info: Arc<ConnInfo>, charge: bool) {
        let bytes = info.members.len() + CLOSE_ROOM;
        let conn = info.id;
        let mut peer = Peer {
            info,
            told: false,
            waiting: VecDeque::new(),
            owed: 0,
            redeliver: 0,
            in_ring: false,
            closed: None,
            close_queued: false,
            charge: 0,
        };
        if charge {
            Self::charge(&mut self.notice_bytes, &mut peer, bytes);
        }
        self.map.insert(conn, peer);
    }

    /// One of them.
    pub fn get(&mut self, conn: ConnId) -> Option<&mut Peer> {
        self.map.get_mut(&conn)
    }

    /// Notes a message that waits; the caller pushed it.
    pub fn one_waits_more(&mut self) {
        self.waiting += 1;
    }

    /// Notes that a message waits no more.
    pub fn one_waits_less(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Messages that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Its open line was fully written.
    pub fn open_told(&mut self, conn: ConnId) {
        if let Some(peer) = self.map.get_mut(&conn) {
            peer.told = true;
            if peer.closed.is_none() {
                Self::discharge(&mut self.notice_bytes, peer);
            }
        }
    }

    /// It is gone.
    pub fn close(&mut self, conn: ConnId, closed: Closed, charge: bool) {
        if let Some(peer) = self.map.get_mut(&conn) {
            if charge && peer.charge == 0 {
                Self::charge(&mut self.notice_bytes, peer, CLOSE_ROOM);
            }
            peer.closed = Some(closed);
        }
    }

    /// Whether it is gone, nothing of it waits, and its close was not queued yet.
    pub fn ready_to_close(&self, conn: ConnId) -> bool {
        self.map.get(&conn).is_some_and(Peer::ready_to_close)
    }

    /// Its close was queued.
    pub fn close_queued(&mut self, conn: ConnId) {
        if let Some(peer) = self.map.get_mut(&conn) {
            peer.close_queued = true;
        }
    }

    /// How it ended.
    pub fn closing(&self, conn: ConnId) -> Option<(u16, String, bool)> {
        let closed = self.map.get(&conn)?.closed.as_ref()?;
        Some((closed.code, closed.reason.clone(), closed.clean))
    }

    /// Forgets it.
    pub fn remove(&mut self, conn: ConnId) {
        if let Some(mut peer) = self.map.remove(&conn) {
            self.waiting = self.waiting.saturating_sub(peer.waiting.len());
            Self::discharge(&mut self.notice_bytes, &mut peer);
        }
    }

    /// Leaves room for so many at most, where there are fewer.
    pub fn shrink(&mut self, room: usize) {
        self.map.shrink_to(room);
    }

    /// Takes all waiting messages away.
    pub fn drop_waiting(&mut self) -> Vec<(ConnId, VecDeque<Payload>)> {
        self.waiting = 0;
        let mut all: Vec<_> = self
            .map
            .iter_mut()
            .filter(|(_, peer)| !peer.waiting.is_empty())
            .map(|(conn, peer)| {
                peer.in_ring = false;
                peer.redeliver = 0;
                (*conn, std::mem::take(&mut peer.waiting))
            })
            .collect();
        all.sort_unstable_by_key(|(conn, _)| *conn);
        all
    }

    /// Every connection, oldest first, and how many of them some incarnation was told of; closes
    /// that were queued for the last incarnation are to be queued again.
    pub fn census(&mut self) -> (Vec<ConnId>, u64) {
        let mut conns: Vec<ConnId> = self.map.keys().copied().collect();
        conns.sort_unstable();
        let mut told = 0;
        for peer in self.map.values_mut() {
            peer.close_queued = false;
            told += u64::from(peer.told);
        }
        (conns, told)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        for (_, mut peer) in self.map.drain() {
            Self::discharge(&mut self.notice_bytes, &mut peer);
        }
        self.waiting = 0;
    }
}

impl Peer {
    fn ready_to_close(&self) -> bool {
        self.closed.is_some()
            && !self.close_queued
            && self.waiting.is_empty()
            && self.redeliver == 0
    }
}
