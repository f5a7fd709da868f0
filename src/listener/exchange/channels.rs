//! Which channels each connection is in, and what a listener changes about that.
//!
//! The first channels of a connection come with its opening, or with the acceptance of its handshake
//! if the listener changes them before; after that the exchange decides. So the
//! events of a connection, and the recipients that `route = "channels"` chooses, agree with the lines
//! of the listener so far. The shards carry the changes out behind the operations before them.

use crate::config::hooks::Hook;
use crate::listener::exchange::faults::not_shown;
use crate::listener::exchange::peers::{Notice, told_size};
use crate::listener::exchange::{Effect, Exchange, HandshakeDecision};
use crate::listener::membership::{LeaveReason, MembershipReply};
use crate::listener::op::{Membership, Op};
use crate::listener::protocol::answer::{ChannelChange, Fields};
use crate::listener::protocol::channel::{Channel, ChannelSet};
use crate::listener::protocol::connid::ConnId;
use crate::listener::protocol::event;
use crate::listener::recipients::{Recipients, route_recipients};

/// Bytes of `onJoin` and `onLeave` notices that may wait because of what the listener itself changes.
/// It is twice what may wait before the gateway refuses new connections.
const NOTICES_MAX: usize = 8 * 1024 * 1024;

/// The sender of a message, and the channels that it was in when the listener was asked.
pub(super) type Sender<'a> = (ConnId, &'a ChannelSet);

impl Exchange {
    /// Changes the channels of a connection. False if the connection has gone; then nothing changes.
    ///
    /// # Errors
    /// The listener's fault: the connection would be in too many channels. Then nothing changes.
    pub(super) fn change_channels(
        &mut self,
        conn: ConnId,
        change: ChannelChange,
        reply: Option<MembershipReply>,
    ) -> Result<bool, String> {
        let max = self.settings.max_channels;
        let open = self.peers.open_channels(conn);
        let Some(channels) = open.or_else(|| self.accepted.channels(conn)) else {
            return Ok(false);
        };
        let (leave, join) = (change.leave.as_slice(), change.join.as_slice());
        let leave: Vec<Channel> = leave.iter().filter(|c| channels.has(c)).cloned().collect();
        let stays = |channel: &Channel| channels.has(channel) && !leave.contains(channel);
        let join: Vec<Channel> = join.iter().filter(|c| !stays(c)).cloned().collect();
        if leave.is_empty() && join.is_empty() && reply.is_none() {
            return Ok(true);
        }
        let staying = channels.as_slice().iter().filter(|channel| stays(channel));
        let after = ChannelSet::new(staying.chain(&join).cloned().collect());
        let count = after.as_slice().len();
        if !join.is_empty() && count > max {
            return Err(format!("{conn} would be in {count} channels; max-channels is {max}"));
        }
        *channels = after;
        let since = change.since;
        let membership = Membership { conn, leave, join, since, newest: None, reply };
        self.effects.push(Effect::Op(Op::Membership(Box::new(membership))));
        Ok(true)
    }

    /// The recipients that the gateway's `route` chooses for a message, without `except`.
    pub(super) fn routed(&self, sender: Option<Sender<'_>>, except: &[ConnId]) -> Recipients {
        // A sender that has gone has the channels that it was in when its message was asked.
        let channels = sender.map(|(conn, asked)| self.peers.channels(conn).unwrap_or(asked));
        let channels = channels.map(ChannelSet::as_slice).unwrap_or_default();
        route_recipients(self.settings.route, sender.map(|(conn, _)| conn), channels, except)
    }

    /// Notes the first channels of a connection whose handshake was accepted, because the listener may
    /// change them before the connection is reported as open. `members` are those of the `onHandshake`,
    /// or its line.
    pub(super) fn note_accepted(
        &mut self,
        conn: ConnId,
        decision: &HandshakeDecision,
        members: &[u8],
    ) {
        let HandshakeDecision::Accept { join, .. } = decision else { return };
        let first = join.as_ref().map(|join| ChannelSet::new(join.clone()));
        self.accepted.add(conn, first.unwrap_or_else(|| event::asked_channels(members)));
    }

    /// Handles the first answer to the `onClientOpen` of a connection. Only what it says about channels
    /// counts.
    pub(super) fn open_answered(
        &mut self,
        id: u64,
        conn: ConnId,
        fields: &Fields<'_>,
    ) -> Result<(), String> {
        let change = fields.channel_change();
        let changed = change.and_then(|change| self.change_channels(conn, change, None));
        changed.map(drop).inspect_err(|why| {
            self.metrics.faults.add("answer", 1);
            tracing::warn!(gateway = %self.gateway, %conn, id, "the listener's answer to onClientOpen is at fault and changes nothing: {why}");
        })
    }

    /// A connection has joined a channel, which has so many members now.
    pub fn joined(&mut self, conn: ConnId, channel: Channel, members: u64) {
        self.tell(Hook::OnJoin, conn, channel, members, None);
    }

    /// A connection has left a channel, which has so many members now. What a connection leaves because
    /// it has ended is reported before its end.
    pub fn left(&mut self, conn: ConnId, channel: Channel, members: u64, reason: LeaveReason) {
        self.tell(Hook::OnLeave, conn, channel, members, Some(reason));
    }

    /// A connection on another node of a cluster has joined a channel, or left it.
    pub fn changed_elsewhere(
        &mut self,
        conn: ConnId,
        channel: Channel,
        members: u64,
        left: Option<LeaveReason>,
    ) {
        let hook = if left.is_some() { Hook::OnLeave } else { Hook::OnJoin };
        if self.hook(hook) && self.restart.up {
            self.queue_membership(conn, channel, members, left);
        }
    }

    /// Queues an `onJoin` or `onLeave`. A listener that is down learns of the channels from the open
    /// that it is sent.
    fn tell(
        &mut self,
        hook: Hook,
        conn: ConnId,
        channel: Channel,
        members: u64,
        left: Option<LeaveReason>,
    ) {
        if self.hook(hook) && self.restart.up && self.peers.awaits_close(conn) {
            self.queue_membership(conn, channel, members, left);
        }
    }

    fn queue_membership(
        &mut self,
        conn: ConnId,
        channel: Channel,
        members: u64,
        left: Option<LeaveReason>,
    ) {
        // Connections that open and end are few while many notices wait, for the gateway refuses new
        // ones. What a listener does that joins and leaves but does not read has to be bounded here.
        if self.told_bytes >= NOTICES_MAX && left != Some(LeaveReason::Closed) {
            self.metrics.faults.add("unread", 1);
            if let Some(hidden) = self.fault_log.may_show(self.last_output) {
                let more = not_shown(hidden);
                tracing::warn!(gateway = %self.gateway, %conn, "the listener changes channels faster than it reads its stdin: an onJoin or onLeave is dropped{more}");
            }
            return;
        }
        self.told_bytes += told_size(&channel);
        self.notices.push_back(Notice::Membership { conn, channel, members, left });
    }
}
