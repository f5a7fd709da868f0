//! The connections that the listener is told of: how much it was told of each, and the messages that
//! wait.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::listener::connection::{Closed, ConnInfo};
use crate::listener::membership::LeaveReason;
use crate::listener::protocol::channel::{Channel, ChannelSet};
use crate::listener::protocol::connid::ConnId;
use crate::ws::payload::Payload;

/// Bytes that are reserved for a connection's close line when it is opened.
const CLOSE_ROOM: usize = 300;

/// Bytes of an `onJoin` or `onLeave` line beside the channel's name, about.
const MEMBERSHIP_LINE: usize = 128;

/// What an `onJoin` or `onLeave` that waits counts.
pub(super) fn told_size(channel: &Channel) -> usize {
    MEMBERSHIP_LINE + channel.as_str().len()
}

/// A line that waits for the listener and needs no answer.
pub(super) enum Notice {
    /// `onClientOpen`.
    Open(ConnId),
    /// `onClientClose`. Without that hook, the connection is forgotten in its place.
    Close(ConnId),
    /// `onJoin`, or `onLeave` with its reason.
    Membership { conn: ConnId, channel: Channel, members: u64, left: Option<LeaveReason> },
    /// A result line, without its newline.
    Result(String),
}

/// A connection that the exchange has.
pub(super) struct Peer {
    pub(super) info: Arc<ConnInfo>,
    /// The channels that it is in, or was in when it ended.
    pub(super) channels: ChannelSet,
    /// The id of the `onClientOpen` that this incarnation was sent; 0 if there is none.
    pub(super) open_id: u64,
    /// Whether an incarnation was sent its `onClientOpen`.
    pub(super) announced: bool,
    /// Its messages that were not made into lines yet.
    pub(super) waiting: VecDeque<Payload>,
    /// How many of its events are owed.
    pub(super) owed: u32,
    /// How many of those this incarnation is still to be sent again.
    pub(super) redeliver: u32,
    /// Whether it is in the exchange's `turns`.
    pub(super) turn_queued: bool,
    /// How it ended, if it has.
    closed: Option<Closed>,
    /// Whether its close is among the notices for this incarnation.
    close_queued: bool,
    /// Its share of [`Peers::notice_bytes`].
    charge: usize,
}

/// The connections that the exchange has: those that are open, and those that have ended and whose
/// close is not written yet.
#[derive(Default)]
pub(super) struct Peers {
    map: HashMap<ConnId, Peer>,
    /// Messages that wait, of all connections.
    waiting: usize,
    /// Bytes of notices that wait, and of the room that is reserved for the closes to come.
    notice_bytes: usize,
}

impl Peers {
    /// Bytes of notices that wait or for which room is reserved. Past a limit, the gateway refuses new
    /// connections.
    pub(super) fn notice_bytes(&self) -> usize {
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

    /// Adds a connection. With `charge`, the bytes of its open and of its close to come are counted.
    pub(super) fn open(&mut self, info: Arc<ConnInfo>, channels: ChannelSet, charge: bool) {
        // Both lines list the channels.
        let bytes = info.members.len() + CLOSE_ROOM + 2 * channels.line_size();
        let conn = info.id;
        let mut peer = Peer {
            info,
            channels,
            open_id: 0,
            announced: false,
            waiting: VecDeque::new(),
            owed: 0,
            redeliver: 0,
            turn_queued: false,
            closed: None,
            close_queued: false,
            charge: 0,
        };
        if charge {
            Self::charge(&mut self.notice_bytes, &mut peer, bytes);
        }
        self.map.insert(conn, peer);
    }

    pub(super) fn get(&mut self, conn: ConnId) -> Option<&mut Peer> {
        self.map.get_mut(&conn)
    }

    /// The channels that a connection is in, or was in when it ended.
    pub(super) fn channels(&self, conn: ConnId) -> Option<&ChannelSet> {
        self.map.get(&conn).map(|peer| &peer.channels)
    }

    /// The connections that have not ended and are in channels, with those channels.
    pub(super) fn memberships(&self) -> impl Iterator<Item = (ConnId, ChannelSet)> + '_ {
        let open = self.map.iter().filter(|(_, peer)| peer.closed.is_none());
        let members = open.filter(|(_, peer)| !peer.channels.as_slice().is_empty());
        members.map(|(conn, peer)| (*conn, peer.channels.clone()))
    }

    /// The channels of a connection that has not ended.
    pub(super) fn open_channels(&mut self, conn: ConnId) -> Option<&mut ChannelSet> {
        let peer = self.map.get_mut(&conn).filter(|peer| peer.closed.is_none());
        peer.map(|peer| &mut peer.channels)
    }

    /// Whether a connection's close is still to be queued.
    pub(super) fn awaits_close(&self, conn: ConnId) -> bool {
        self.map.get(&conn).is_some_and(|peer| !peer.close_queued)
    }

    /// Counts a message that the caller has added to a connection's queue.
    pub(super) fn message_queued(&mut self) {
        self.waiting += 1;
    }

    /// Counts a message that the caller has taken out of a connection's queue.
    pub(super) fn message_dequeued(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// The number of messages that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Notes that a connection's open line was fully written.
    pub(super) fn open_announced(&mut self, conn: ConnId) {
        if let Some(peer) = self.map.get_mut(&conn) {
            peer.announced = true;
            if peer.closed.is_none() {
                Self::discharge(&mut self.notice_bytes, peer);
            }
        }
    }

    /// Notes that a connection has ended. With `charge`, the bytes of its close are counted.
    pub(super) fn close(&mut self, conn: ConnId, closed: Closed, charge: bool) {
        if let Some(peer) = self.map.get_mut(&conn) {
            if charge && peer.charge == 0 {
                let bytes = CLOSE_ROOM + peer.channels.line_size();
                Self::charge(&mut self.notice_bytes, peer, bytes);
            }
            peer.closed = Some(closed);
        }
    }

    /// Whether a connection has ended, none of its messages is still to be written, and its close was
    /// not queued yet.
    pub(super) fn ready_to_close(&self, conn: ConnId) -> bool {
        self.map.get(&conn).is_some_and(Peer::ready_to_close)
    }

    /// Notes that a connection's close was queued.
    pub(super) fn close_queued(&mut self, conn: ConnId) {
        if let Some(peer) = self.map.get_mut(&conn) {
            peer.close_queued = true;
        }
    }

    /// The code, the reason and the `clean` flag of a connection's close, if it has ended.
    pub(super) fn closing(&self, conn: ConnId) -> Option<(u16, String, bool)> {
        let closed = self.map.get(&conn)?.closed.as_ref()?;
        Some((closed.code, closed.reason.clone(), closed.clean))
    }

    pub(super) fn remove(&mut self, conn: ConnId) {
        if let Some(mut peer) = self.map.remove(&conn) {
            self.waiting = self.waiting.saturating_sub(peer.waiting.len());
            Self::discharge(&mut self.notice_bytes, &mut peer);
        }
    }

    /// Gives back memory that more than `room` connections would need.
    pub(super) fn shrink(&mut self, room: usize) {
        self.map.shrink_to(room);
    }

    /// Takes all waiting messages out, sorted by connection. The owed messages that this incarnation was
    /// not sent yet do not hold back a close any more.
    pub(super) fn drop_waiting(&mut self) -> Vec<(ConnId, VecDeque<Payload>)> {
        self.waiting = 0;
        let mut all: Vec<_> = self
            .map
            .iter_mut()
            .filter(|(_, peer)| !peer.waiting.is_empty())
            .map(|(conn, peer)| {
                peer.turn_queued = false;
                peer.redeliver = 0;
                (*conn, std::mem::take(&mut peer.waiting))
            })
            .collect();
        all.sort_unstable_by_key(|(conn, _)| *conn);
        all
    }

    /// Prepares for a new incarnation. Returns every connection, oldest first, and how many of them
    /// were announced to an earlier one. Closes that were queued and not written can be queued again.
    pub(super) fn census(&mut self) -> (Vec<ConnId>, u64) {
        let mut conns: Vec<ConnId> = self.map.keys().copied().collect();
        conns.sort_unstable();
        let mut announced = 0;
        for peer in self.map.values_mut() {
            peer.close_queued = false;
            peer.open_id = 0;
            announced += u64::from(peer.announced);
        }
        (conns, announced)
    }

    /// Removes all connections.
    pub(super) fn clear(&mut self) {
        for (_, mut peer) in self.map.drain() {
            Self::discharge(&mut self.notice_bytes, &mut peer);
        }
        self.waiting = 0;
    }
}

impl Peer {
    /// Whether the connection has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.closed.is_some()
    }

    fn ready_to_close(&self) -> bool {
        self.closed.is_some()
            && !self.close_queued
            && self.waiting.is_empty()
            && self.redeliver == 0
    }
}
