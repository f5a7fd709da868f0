//! The channels and the history of the fake's gateway `chat`.

use wsgw::api::{ApiError, ChannelHistory, ChannelInfo, ChannelSummary, ConnectionInfo, ErrorCode};
use wsgw::control::backend::{ChannelsAsk, ConnectionsAsk, HistoryAsk, HistoryMessage};
use wsgw::listener::protocol::channel::Channel;
use wsgw::listener::protocol::connid::ConnId;
use wsgw::text::position::{Position, Since};
use wsgw::ws::payload::Payload;

/// Channels, sorted, and their members. `old` has history alone.
const CHANNELS: [(&str, &[&str]); 4] =
    [("a+b/c", &["k1"]), ("old", &[]), ("room1", &["k1", "k2"]), ("room2", &["k1"])];

/// The channels of a connection.
pub fn of(conn: &str) -> Vec<String> {
    let has = CHANNELS.iter().filter(|(_, members)| members.contains(&conn));
    has.map(|(channel, _)| (*channel).to_owned()).collect()
}

fn position(number: u64) -> Position {
    Position { number, ..Position::parse("q7Zk2pYa-0").unwrap() }
}

pub fn list(ask: &ChannelsAsk<'_>) -> Vec<ChannelSummary> {
    CHANNELS
        .iter()
        .filter(|(name, members)| !members.is_empty() && name.starts_with(ask.prefix))
        .filter(|(name, _)| ask.after.is_none_or(|after| *name > after))
        .take(ask.limit)
        .map(|(name, members)| ChannelSummary {
            channel: (*name).to_owned(),
            members: members.len() as u64,
        })
        .collect()
}

pub fn one(
    channel: &Channel,
    limit: usize,
    after: Option<ConnId>,
) -> Result<ChannelInfo, ApiError> {
    let (name, members) =
        CHANNELS.iter().find(|(name, _)| *name == channel.as_str()).ok_or_else(|| {
            ApiError::new(ErrorCode::UnknownChannel, format!("no channel {channel:?}"))
        })?;
    let behind = |conn: &&&str| after.is_none_or(|after| ConnId::parse(conn).unwrap() > after);
    Ok(ChannelInfo {
        channel: (*name).to_owned(),
        count: members.len() as u64,
        members: members.iter().filter(behind).take(limit).map(|c| (*c).to_owned()).collect(),
        history: Some(ChannelHistory {
            messages: 2,
            bytes: 99,
            oldest_at: Some("2026-11-24T12:00:00.000Z".to_owned()),
            at: position(4).to_string(),
        }),
    })
}

pub fn page(all: Vec<ConnectionInfo>, ask: &ConnectionsAsk) -> Vec<ConnectionInfo> {
    let is_in = |c: &ConnectionInfo| {
        ask.channel.as_ref().is_none_or(|name| c.channels.iter().any(|n| n == name.as_str()))
    };
    all.into_iter()
        .filter(|c| ask.after.is_none_or(|after| ConnId::parse(&c.conn).unwrap() > after))
        .filter(is_in)
        .take(ask.limit.unwrap_or(usize::MAX))
        .collect()
}

/// Number 1 has been evicted.
pub fn history(ask: &HistoryAsk) -> Result<Vec<HistoryMessage>, ApiError> {
    let kept = [
        (2, Payload::text("two\nlines \\ \u{1b}[2J"), Some("room1")),
        (3, Payload::binary(&[0, 255]), None),
        (4, Payload::text("four"), Some("old")),
        (5, Payload::text(""), Some("room1")),
    ];
    let after = ask.since.and_then(Since::position).map_or(1, |position| position.number);
    if after < 1 {
        return Err(ApiError::new(ErrorCode::Gone, "the position cannot be served"));
    }
    let all = kept.into_iter().map(|(number, payload, channel)| HistoryMessage {
        payload,
        channel: channel.and_then(Channel::parse),
        at: position(number),
    });
    let asked = |m: &HistoryMessage| {
        ask.channels.is_empty() || m.channel.as_ref().is_some_and(|c| ask.channels.contains(c))
    };
    let mut found: Vec<_> = all.filter(|m| m.at.number > after).filter(asked).collect();
    let limit = ask.limit.unwrap_or(usize::MAX).min(found.len());
    match ask.since.and_then(Since::position) {
        Some(_) => found.truncate(limit),
        None => drop(found.drain(..found.len() - limit)),
    }
    Ok(found)
}
