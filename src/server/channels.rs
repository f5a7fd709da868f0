//! The channels of a gateway and their history, as the control port shows them.
//!
//! Who is in a channel is collected from the shards by an operation. The history outlives a stop of
//! its gateway, so it can be read while that does not run.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use tokio::sync::oneshot;

use crate::api::{ApiError, ChannelHistory, ChannelInfo, ChannelSummary, ErrorCode};
use crate::control::backend::{ChannelsAsk, HistoryAsk, HistoryMessage};
use crate::gateway::history::{Kept, Target};
use crate::gateway::kept::History;
use crate::listener::membership::{Members, MembersReply, MembersReport};
use crate::listener::op::Op;
use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;
use crate::server::Server;
use crate::text::position::{Position, Since};

impl Server {
    /// The channels of a gateway that have members or kept messages, sorted by name.
    pub(crate) fn channels(
        &self,
        id: &str,
        ask: &ChannelsAsk<'_>,
    ) -> Result<Vec<ChannelSummary>, ApiError> {
        let gateway = self.find(id)?;
        let mut found: BTreeMap<Channel, u64> = BTreeMap::new();
        if let Some(history) = gateway.history() {
            let kept = history.channels(ask.prefix, ask.after, ask.limit);
            found.extend(kept.into_iter().map(|channel| (channel, 0)));
        }
        if let Some(running) = gateway.running() {
            let channels = &running.shared.channels;
            found.extend(channels.list(ask.prefix, ask.after, ask.limit, ask.local));
        }
        let summary = |(channel, members): (Channel, u64)| ChannelSummary {
            channel: channel.to_string(),
            members,
        };
        Ok(found.into_iter().take(ask.limit).map(summary).collect())
    }

    /// One channel, with `limit` members behind `after`.
    pub(crate) async fn channel(
        &self,
        id: &str,
        channel: Channel,
        (limit, after): (usize, Option<ConnId>),
        local: bool,
    ) -> Result<ChannelInfo, ApiError> {
        let gateway = self.find(id)?;
        let mut members = Members::default();
        if let Some(running) = gateway.running() {
            let core = self.host.engine.core();
            let (reply, found) = oneshot::channel();
            let mut report = MembersReport::new(
                channel.clone(),
                (limit, after),
                core.shards(),
                MembersReply::Control(reply),
            );
            report.everywhere = !local;
            core.submit(&running.shared, Op::Members(report.into()));
            // The shards of a gateway that has gone have no members.
            members = found.await.unwrap_or_default();
        }
        let history = gateway.history().map(|history| kept_of(&history, &channel));
        if members.count == 0 && history.as_ref().is_none_or(|kept| kept.messages == 0) {
            let text = format!("no channel {channel:?} on gateway {:?}", gateway.id);
            return Err(ApiError::new(ErrorCode::UnknownChannel, text));
        }
        Ok(ChannelInfo {
            channel: channel.to_string(),
            count: members.count,
            members: members.conns.iter().map(ConnId::to_string).collect(),
            history,
        })
    }

    /// Kept messages. Where the position is ahead of this node of a cluster, it is waited for.
    pub(crate) async fn history(
        &self,
        id: &str,
        ask: &HistoryAsk,
    ) -> Result<Vec<HistoryMessage>, ApiError> {
        let gateway = self.find(id)?;
        let Some(history) = gateway.history() else {
            if gateway.state().settings.history.is_some() {
                return Err(gateway.not_running());
            }
            let text = format!(
                "gateway {:?} keeps no history: its settings have no table \
                 [gateways.{}.history]",
                gateway.id, gateway.id
            );
            return Err(ApiError::new(ErrorCode::NoHistory, text));
        };
        let ahead = ask.since.and_then(Since::position).filter(|since| {
            let here = history.position();
            since.epoch == here.epoch && since.number > here.number
        });
        if let (Some(ahead), Some(running)) = (ahead, gateway.running()) {
            let (reply, reached) = oneshot::channel::<()>();
            let then = Box::new(move || drop(reply));
            self.host.engine.core().then_from(ahead.number, &running.shared, then);
            // It ends without a word.
            let _ = reached.await;
        }
        let channels = (!ask.channels.is_empty()).then_some(&ask.channels[..]);
        let limit = ask.limit.unwrap_or(usize::MAX);
        let (epoch, found) = history.look(channels, ask.since, limit).ok_or_else(|| {
            let text = format!(
                "not all messages after this position are in the history of gateway {:?} any more; \
                 ask again without it",
                gateway.id
            );
            ApiError::new(ErrorCode::Gone, text)
        })?;
        let message = |kept: Kept| HistoryMessage {
            channel: first_asked(&kept.to, &ask.channels),
            at: Position { epoch, number: kept.number },
            payload: kept.payload,
        };
        Ok(found.into_iter().map(message).collect())
    }
}

/// What is kept of a channel.
fn kept_of(history: &History, channel: &Channel) -> ChannelHistory {
    let position = history.position();
    match history.channel(channel.as_str()) {
        None => ChannelHistory { messages: 0, bytes: 0, oldest_at: None, at: position.to_string() },
        Some(stats) => {
            let oldest = UNIX_EPOCH + Duration::from_millis(stats.oldest_at);
            ChannelHistory {
                messages: stats.messages as u64,
                bytes: stats.bytes as u64,
                oldest_at: Some(humantime::format_rfc3339_millis(oldest).to_string()),
                at: Position { number: stats.newest, ..position }.to_string(),
            }
        }
    }
}

/// The first channel of a message that is among those asked for; none asked for: its first.
fn first_asked(to: &Target, asked: &[Channel]) -> Option<Channel> {
    match to {
        Target::All => None,
        Target::Channels(target) => {
            let is_asked = |channel: &&Channel| asked.is_empty() || asked.contains(channel);
            target.channels.iter().find(is_asked).cloned()
        }
    }
}
