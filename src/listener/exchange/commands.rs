//! The commands of the listener: each becomes an effect.

use std::sync::Arc;
use std::time::Instant;

use crate::listener::exchange::incoming::{
    error_result, gone_result, members_result, payload_of, sent_result,
};
use crate::listener::exchange::{Effect, Exchange};
use crate::listener::membership::{MembersReply, MembersReport, MembershipReply};
use crate::listener::op::{CloseReply, Membership, Op};
use crate::listener::protocol::answer::{ChannelChange, Fields, NewBody, RecipientLists};
use crate::listener::protocol::channel::{Channel, ChannelSet};
use crate::listener::protocol::command::Command;
use crate::listener::protocol::connid::ConnId;
use crate::listener::report::Reply;
use crate::text::position::Since;

/// Where the result lines of commands go that finish later, from any shard.
pub(super) type Results = Arc<dyn Fn(String) + Send + Sync>;

impl Exchange {
    /// Carries out a command.
    pub(super) fn command(
        &mut self,
        line: &[u8],
        fields: &Fields<'_>,
        results: &Results,
        now: Instant,
    ) {
        let reference = fields.reference().filter(|_| !self.settings.hooks.is_none());
        let done = fields.command().and_then(|command| {
            let reference = reference.clone();
            match command {
                Command::Send { body, lists } => {
                    return self.send(body, &lists, reference, results);
                }
                Command::Close { conn, code, reason } => {
                    self.close(&conn, code, reason, reference);
                }
                Command::Membership { conn, joins, channels, since } => {
                    return self.change(&conn, joins, channels, since, reference);
                }
                Command::Members { channel, limit, after } => {
                    self.list_members(channel, (limit, after), reference, results);
                }
            }
            Ok(())
        });
        if done.is_ok() {
            self.tap.line("command", line, None, now);
        }
        if let Err(why) = done {
            if let Some(reference) = reference {
                self.result(error_result(&reference, &why));
            }
            self.log_fault(line, "command", why, now);
        }
    }

    fn send(
        &mut self,
        body: NewBody<'_>,
        lists: &RecipientLists,
        reference: Option<String>,
        results: &Results,
    ) -> Result<(), String> {
        let payload = self.fits(payload_of(body), lists)?;
        let (to, gone) = self.recipients(None, lists, (None, None));
        self.metrics.gone.add(gone.len() as u64);
        let report = reference.and_then(|reference| {
            let results = Arc::clone(results);
            let tell = move |outcome| results(sent_result(&reference, &outcome));
            self.report(gone, Reply::Command(Box::new(tell)))
        });
        self.effects.push(Effect::deliver(payload, to, report));
        Ok(())
    }

    fn close(&mut self, conn: &str, code: u16, reason: String, reference: Option<String>) {
        let Some(conn) = ConnId::parse(conn) else {
            self.metrics.gone.inc();
            if let Some(reference) = reference {
                self.result(error_result(&reference, "no such connection"));
            }
            return;
        };
        let reply = reference.map_or(CloseReply::None, CloseReply::Listener);
        self.effects.push(Effect::Op(Op::Close { conn, code, reason, reply }));
    }

    /// A `join` or `leave` command.
    fn change(
        &mut self,
        name: &str,
        joins: bool,
        channels: Vec<Channel>,
        since: Option<Since>,
        reference: Option<String>,
    ) -> Result<(), String> {
        let there = match ConnId::parse(name) {
            None => false,
            Some(conn) if self.settings.hooks.is_none() => {
                // The exchange does not have the connections of a pure producer, so the shard looks
                // what changes.
                let (leave, join) = if joins { (vec![], channels) } else { (channels, vec![]) };
                let membership = Membership { conn, leave, join, since, newest: None, reply: None };
                self.effects.push(Effect::Op(Op::Membership(Box::new(membership))));
                true
            }
            Some(conn) => {
                let set = ChannelSet::new(channels.clone());
                let (leave, join) =
                    if joins { (ChannelSet::default(), set) } else { (set, ChannelSet::default()) };
                let reply = reference.clone().map(|reference| MembershipReply {
                    reference,
                    conn,
                    joins,
                    channels,
                });
                self.change_channels(conn, ChannelChange { leave, join, since }, reply)?
            }
        };
        if !there {
            self.metrics.gone.inc();
            if let Some(reference) = reference {
                self.result(gone_result(&reference, name));
            }
        }
        Ok(())
    }

    /// A `members` command. A listener that gets no result lines asks in vain.
    fn list_members(
        &mut self,
        channel: Channel,
        which: (usize, Option<ConnId>),
        reference: Option<String>,
        results: &Results,
    ) {
        let Some(reference) = reference else { return };
        let results = Arc::clone(results);
        let named = channel.clone();
        let tell = move |members| results(members_result(&reference, &named, &members));
        let reply = MembersReply::Command(Box::new(tell));
        let report = MembersReport::new(channel, which, self.shards, reply);
        self.effects.push(Effect::Op(Op::Members(Arc::new(report))));
    }
}
