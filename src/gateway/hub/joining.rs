//! Channels of connections: first ones, changes by the listener, the end; what is replayed to who
//! joins, and what the others are told.
//!
//! All of it happens at a place in the shard's order of operations. What a connection gets live
//! begins there, and what is replayed to it ends there: the newest kept message among the operations
//! that this shard was handed so far. So there is neither a gap nor an overlap, and no lock over the
//! gateway.

use crate::config::hooks::Hook;
use crate::gateway::channels::Change;
use crate::gateway::context::Context;
use crate::gateway::frames;
use crate::gateway::history::{Ask, Kept, Replay, Target};
use crate::gateway::hub::connection::Connection;
use crate::gateway::hub::flow::{Flow, stay};
use crate::gateway::hub::sending::Counts;
use crate::gateway::hub::{Hub, Lent};
use crate::gateway::msg::{HubMsg, PrimaryMsg};
use crate::gateway::wire::{Form, Made};
use crate::listener::membership::{LeaveReason, MembersReport};
use crate::listener::op::{Membership, Op, Presence};
use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;
use crate::text::glob::glob;
use crate::text::position::{Position, Since};

/// The most messages that are replayed at once.
const REPLAY_MAX: usize = 10_000;

/// How many times as large as its body a message is as a frame at most, its channel and position
/// aside: a control character takes six bytes.
const FRAMES_GROW: usize = 8;

/// What a connection is sent when it enters, behind the head of the answer.
pub(super) struct Welcome {
    pub replay: Option<Replay>,
    /// What is replayed, as it is sent.
    pub messages: Vec<u8>,
    /// The newest kept message that this shard was handed; `None` without a history.
    pub newest: Option<Position>,
    recovered: Option<bool>,
    /// Whether it gave a position that cannot be served and would not see that.
    pub lost: bool,
}

impl Welcome {
    /// Where the client is before what it is sent.
    pub(super) fn at(&self) -> Option<Position> {
        let newest = self.newest?;
        let number = self.replay.as_ref().map_or(newest.number, |replay| replay.before);
        Some(Position { number, ..newest })
    }
}

impl Connection {
    /// A new connection enters: it is a member of its first channels from here on. What it gets
    /// first, of what was before among it, is appended to `out`.
    pub(super) fn enter(
        &mut self,
        channels: &[Channel],
        welcome: Welcome,
        out: &mut Vec<u8>,
        lent: &mut Lent<'_>,
    ) {
        self.first_frame = lent.fanout.next_frame();
        let at = welcome.at();
        let Welcome { replay, mut messages, newest, recovered, lost } = welcome;
        for (index, channel) in channels.iter().enumerate() {
            let from = replay.as_ref().and_then(|replay| replay.from.get(index).copied());
            let from = from.unwrap_or(newest.map_or(0, |newest| newest.number));
            self.join(channel, from, lent);
        }
        if let Some(recovered) = recovered {
            let result = if recovered { "recovered" } else { "not_recovered" };
            lent.shared.metrics.resumes.add(result, 1);
        }
        if lost {
            return;
        }
        if self.wire.form.has_frames() {
            let post = self.wire.form.is_stream().then(|| lent.shared.posts.issue(self.id));
            let post = post.flatten();
            if post.is_some() {
                self.rare().post = post;
            }
            let hello = frames::Hello { conn: Some(self.id), at, channels, recovered, post };
            let hello = self.wire.form.hello(&frames::hello(&hello), at);
            out.extend_from_slice(&hello.unwrap_or_default());
        }
        lent.count_replay(replay.as_ref(), messages.len());
        out.append(&mut messages);
    }

    /// Makes it a member, if it is none yet.
    fn join(&self, channel: &Channel, from: u64, lent: &mut Lent<'_>) {
        if lent.rooms.is_in(lent.slot, channel) {
            return;
        }
        let shared = lent.shared;
        shared.metrics.joins.inc();
        shared.metrics.members.add(1);
        shared.channels.joined(channel, |change| {
            lent.rooms.join(lent.slot, channel, from, change.number);
            lent.ctx.core.tell_nodes(shared, None, self.id, channel);
            lent.presence(true, channel, self.id, change);
            if lent.settings.asks(Hook::OnJoin) {
                let msg = PrimaryMsg::Joined(self.id, channel.clone(), change.members);
                lent.tell_primary_in_turn(msg);
            }
        });
    }

    /// Counts and tells that it has left a channel.
    fn left(&self, channel: &Channel, reason: LeaveReason, lent: &mut Lent<'_>) {
        let shared = lent.shared;
        shared.metrics.members.sub(1);
        shared.channels.left(channel, |change| {
            lent.ctx.core.tell_nodes(shared, Some(reason), self.id, channel);
            lent.presence(false, channel, self.id, change);
            if lent.settings.asks(Hook::OnLeave) {
                let msg = PrimaryMsg::Left(self.id, channel.clone(), change.members, reason);
                lent.tell_primary_in_turn(msg);
            }
        });
    }

    /// It receives nothing any more, so it is no member of anything.
    pub(super) fn leave_all(&self, lent: &mut Lent<'_>) {
        for channel in lent.rooms.leave_all(lent.slot) {
            self.left(&channel, LeaveReason::Closed, lent);
        }
    }

    /// Carries out a change of its channels.
    fn change_membership(&mut self, change: &Membership, lent: &mut Lent<'_>) -> Flow {
        let number = change.newest.map(|newest| newest.number);
        for channel in &change.leave {
            if lent.rooms.leave(lent.slot, channel, number) {
                self.left(channel, LeaveReason::Left, lent);
            }
        }
        let mut new: Vec<Channel> = Vec::new();
        for channel in &change.join {
            if !lent.rooms.is_in(lent.slot, channel) && !new.contains(channel) {
                new.push(channel.clone());
            }
        }
        if new.is_empty() {
            return stay();
        }
        if lent.rooms.count(lent.slot) + new.len() > lent.settings.max_channels {
            lent.shared.metrics.listener.faults.add("command", 1);
            tracing::warn!(
                gateway = %lent.shared.id, conn = %self.id,
                "a join is skipped: the connection would be in more than max-channels ({}) channels",
                lent.settings.max_channels
            );
            return stay();
        }
        let waits = self.queue_cost();
        let bound = (lent.settings.max_queue / 2).saturating_sub(waits);
        let is_in =
            |channel: &Channel| new.contains(channel) || lent.rooms.is_in(lent.slot, channel);
        let (mut replay, mut messages) = (None, Vec::new());
        for bound in [bound, bound / FRAMES_GROW] {
            let Some(since) = change.since else { break };
            replay = lent.replay(&new, false, Some(since), change.newest, bound);
            if let Some(replay) = &mut replay {
                // Before it is a member of the new ones: what it got, it got by other channels.
                replay.messages.retain(|kept| !self.got(kept, lent));
            }
            messages = encoded(replay.as_ref(), self.wire.form, None, is_in);
            if messages.len() <= bound {
                break;
            }
        }
        for (index, channel) in new.iter().enumerate() {
            let from = replay.as_ref().and_then(|replay| replay.from.get(index).copied());
            self.join(channel, from.or(number).unwrap_or(0), lent);
        }
        let mut bytes = Vec::new();
        if self.wire.form.has_frames() {
            let recovered = replay.as_ref().map(|replay| replay.recovered.unwrap_or(true));
            let joined = frames::joined(&new, change.newest, recovered);
            bytes.extend_from_slice(&self.wire.form.frame(&joined).unwrap_or_default());
        }
        lent.count_replay(replay.as_ref(), messages.len());
        bytes.append(&mut messages);
        if bytes.is_empty() { stay() } else { self.send_always(bytes.into(), lent) }
    }

    /// Whether it was sent this message because of a channel that it is in or was in.
    fn got(&self, kept: &Kept, lent: &Lent<'_>) -> bool {
        match &kept.to {
            Target::All => true,
            Target::Channels(target) => {
                target.except.binary_search(&self.id).is_err()
                    && target
                        .channels
                        .iter()
                        .any(|channel| lent.rooms.got(lent.slot, channel, kept.number))
            }
        }
    }
}

/// What is replayed, as it is sent: with `newest`, each message has its position in that epoch.
/// `is_in` says whether the connection is in a channel.
fn encoded(
    replay: Option<&Replay>,
    form: Form,
    newest: Option<Position>,
    is_in: impl Fn(&Channel) -> bool,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    for kept in replay.iter().flat_map(|replay| &replay.messages) {
        let channel = match &kept.to {
            Target::All => None,
            Target::Channels(target) => target.channels.iter().find(|channel| is_in(channel)),
        };
        let at = newest.map(|newest| Position { number: kept.number, ..newest });
        bytes.extend_from_slice(&form.message(&kept.payload, channel, at));
    }
    bytes
}

impl Lent<'_> {
    /// What a connection with these channels will be sent when it enters now.
    pub(super) fn welcome(
        &self,
        channels: &[Channel],
        since: Option<Since>,
        form: Form,
    ) -> Welcome {
        let gave = since.and_then(Since::position);
        let newest = self.fanout.newest();
        let bound = self.settings.max_queue / 2;
        let is_in = |channel: &Channel| channels.binary_search(channel).is_ok();
        let (mut replay, mut messages) = (None, Vec::new());
        // Frames are more than their bodies. The second bound holds for them whatever is in them.
        for bound in [bound, bound / FRAMES_GROW] {
            replay = self.replay(channels, true, since, newest, bound);
            messages = encoded(replay.as_ref(), form, newest, is_in);
            if messages.len() <= bound {
                break;
            }
        }
        let recovered = match &replay {
            Some(replay) => replay.recovered,
            // Without a history nothing can be had back.
            None => gave.map(|_| false),
        };
        let lost = recovered == Some(false) && !form.has_frames();
        Welcome { replay, messages, newest, recovered, lost }
    }

    /// Whether a client has seen more already than this shard was handed. Then what it lacks here is
    /// on its way.
    pub(super) fn is_behind(&self, since: Option<Since>) -> bool {
        let Some(position) = since.and_then(Since::position) else { return false };
        let Some(newest) = self.fanout.newest() else { return false };
        newest.epoch == position.epoch
            && position.number > newest.number
            && self.shared.history().is_some_and(|history| {
                let at = history.position();
                let clustered = self.shared.node.is_some();
                at.epoch == position.epoch && (position.number <= at.number || clustered)
            })
    }

    /// What of the history is sent to who joins these channels, or the gateway; `None` without a
    /// history.
    fn replay(
        &self,
        channels: &[Channel],
        all: bool,
        since: Option<Since>,
        newest: Option<Position>,
        max_bytes: usize,
    ) -> Option<Replay> {
        let history = self.shared.history()?;
        let settings = self.settings.history.as_ref()?;
        let newest = newest?;
        let ask = Ask {
            channels,
            all,
            since: since.or(settings.since.filter(|_| all)),
            newest: newest.number,
            fallback: settings.since,
            max_bytes,
            max_messages: REPLAY_MAX,
        };
        Some(history.replay(&ask, newest.epoch))
    }

    /// Counts what is replayed.
    pub(super) fn count_replay(&self, replay: Option<&Replay>, bytes: usize) {
        let messages = replay.map_or(0, |replay| replay.messages.len());
        self.shared.metrics.messages_out.add(messages as u64);
        self.shared.metrics.bytes_out.add(bytes as u64);
    }

    /// Tells the other members of a channel, where they are to know.
    fn presence(&mut self, joins: bool, channel: &Channel, about: ConnId, change: Change) {
        let is_told = |pattern: &String| glob(pattern, channel.as_str());
        if self.shared.is_stopping() || !self.settings.presence.iter().any(is_told) {
            return;
        }
        let frame = frames::presence(joins, channel, about, change.members).into();
        let presence = Presence { channel: channel.clone(), change: change.number, frame };
        self.fanout.submit(Op::Presence(Box::new(presence)), self.shared, self.ctx);
    }
}

impl Hub {
    /// Carries out a change of a connection's channels, in its place in the order.
    pub(super) fn change_membership(&mut self, change: Membership, ctx: &mut Context) {
        let slot = self.conns.slot(change.conn);
        if slot.and_then(|slot| self.conns.get(slot)).is_some_and(Connection::is_put_off) {
            // Behind its opening, which waits in the inbox already.
            let op = Op::Membership(Box::new(change));
            return ctx.core.post_hub(ctx.index, &self.shared, HubMsg::Op(op));
        }
        let slot = slot.filter(|slot| self.conns.get(*slot).is_some_and(Connection::receives));
        match slot {
            Some(slot) => self.with(slot, ctx, |conn, lent| conn.change_membership(&change, lent)),
            None => self.shared.metrics.listener.gone.inc(),
        }
        if let Some(reply) = change.reply {
            self.tell_primary(PrimaryMsg::Result(reply.line(slot.is_some())), ctx);
        }
    }

    /// Tells those members of a channel that get frames about another one.
    pub(super) fn tell_presence(&mut self, presence: &Presence, ctx: &mut Context) {
        let Presence { channel, change, frame } = presence;
        let mut counts = Counts::default();
        let mut made = Made::default();
        for slot in self.rooms.members(channel).to_vec() {
            let Some(form) = self.conns.get(slot).map(|conn| conn.wire.form) else { continue };
            if !form.has_frames() || !self.rooms.was_in_before(slot, channel, *change) {
                continue;
            }
            let bytes = made.get(form, || form.frame(frame).unwrap_or_default());
            self.with(slot, ctx, |conn, lent| conn.send_frame(bytes, false, &mut counts, lent));
        }
    }

    /// Adds this shard's members of a channel to a report.
    pub(super) fn add_members(&mut self, report: &MembersReport) {
        let slots = self.rooms.members(&report.channel).iter();
        report.add(slots.filter_map(|slot| Some(self.conns.get(*slot)?.id)));
        report.finish();
    }
}
