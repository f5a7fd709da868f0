//! What those are told who change the channels of a connection, or ask for the members of one.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::listener::protocol::channel::{Channel, push_names};
use crate::listener::protocol::connid::ConnId;

/// A `join` or `leave` command with a `ref`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembershipReply {
    /// The `ref` as compact JSON.
    pub reference: String,
    /// The connection that the command names.
    pub conn: ConnId,
    /// Whether it joins; else it leaves.
    pub joins: bool,
    /// The channels that the command names, in its order.
    pub channels: Vec<Channel>,
}

impl MembershipReply {
    /// The result line, without its newline. `done` says whether the connection was there.
    pub fn line(&self, done: bool) -> String {
        let mut out = format!("{{\"event\":\"onResult\",\"ref\":{},", self.reference).into_bytes();
        if done {
            let key: &[u8] = if self.joins { b"\"joined\":" } else { b"\"left\":" };
            out.extend_from_slice(key);
            push_names(&mut out, &self.channels);
        } else {
            out.extend_from_slice(b"\"gone\":[\"");
            self.conn.write(&mut out);
            out.extend_from_slice(b"\"]");
        }
        out.push(b'}');
        // Names are ASCII, and a ref is text.
        String::from_utf8(out).unwrap_or_default()
    }
}

/// Why a connection is no member any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaveReason {
    /// The listener took it out.
    Left,
    /// The connection has ended.
    Closed,
    /// Its node of the cluster is not heard any more.
    Lost,
}

impl LeaveReason {
    /// As `onLeave` has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            LeaveReason::Left => "left",
            LeaveReason::Closed => "closed",
            LeaveReason::Lost => "lost",
        }
    }
}

/// The members of a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// How many there are.
    pub count: u64,
    /// Some of them, sorted.
    pub conns: Vec<ConnId>,
}

/// Who gets the members of a channel.
pub enum MembersReply {
    /// A function that is called with them, for example to write a result line.
    Command(Box<dyn FnOnce(Members) + Send>),
    /// The control port.
    Control(oneshot::Sender<Members>),
}

/// Collects the members of one channel from all shards; the last shard hands them on.
pub struct MembersReport {
    /// The channel.
    pub channel: Channel,
    /// Whether members on other nodes of a cluster count.
    pub everywhere: bool,
    limit: usize,
    after: Option<ConnId>,
    shards: AtomicUsize,
    rest: Mutex<(Members, Option<MembersReply>)>,
}

impl MembersReport {
    /// A report that is complete when `shards` shards have finished. It lists `limit` members behind
    /// `after`.
    pub fn new(
        channel: Channel,
        (limit, after): (usize, Option<ConnId>),
        shards: usize,
        reply: MembersReply,
    ) -> MembersReport {
        MembersReport {
            channel,
            everywhere: true,
            limit,
            after,
            shards: AtomicUsize::new(shards),
            rest: Mutex::new((Members::default(), Some(reply))),
        }
    }

    /// Adds the members on one shard.
    pub fn add(&self, members: impl Iterator<Item = ConnId>) {
        let mut rest = self.rest.lock();
        for conn in members {
            rest.0.count += 1;
            if self.after.is_none_or(|after| conn > after) {
                rest.0.conns.push(conn);
            }
        }
    }

    /// Notes that a shard has finished. The last one hands the members on.
    pub fn finish(&self) {
        // AcqRel, so that the last shard sees what the others added before they finished.
        if self.shards.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let (mut members, reply) = {
            let mut rest = self.rest.lock();
            (std::mem::take(&mut rest.0), rest.1.take())
        };
        members.conns.sort_unstable();
        members.conns.truncate(self.limit);
        match reply {
            Some(MembersReply::Command(tell)) => tell(members),
            // An error means that the requester has gone.
            Some(MembersReply::Control(sender)) => drop(sender.send(members)),
            None => {}
        }
    }
}
