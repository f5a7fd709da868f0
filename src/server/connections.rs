//! The open connections of a gateway, as the control port shows and closes them.
//!
//! A connection belongs to one shard, which is asked by a message; a shard that is gone has none.

use tokio::sync::oneshot;

use crate::api::{ApiError, ConnectionInfo, ErrorCode};
use crate::control::backend::{ConnectionOrder, ConnectionsAsk, ConnectionsPage};
use crate::gateway::msg::{HubMsg, Listed, Listing};
use crate::listener::connection::ConnectionRow;
use crate::listener::op::{CloseReply, Op};
use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;
use crate::server::Server;
use crate::server::gateway::Running;
use crate::server::search::Search;
use crate::ws::close;

/// Slots of a shard that are looked at together: what that takes, some 100 us, its clients wait.
const PART: u32 = 1024;

impl Server {
    /// Open connections of a gateway.
    pub(crate) async fn connections(
        &self,
        id: &str,
        ask: ConnectionsAsk,
    ) -> Result<ConnectionsPage, ApiError> {
        let gateway = self.find(id)?;
        let Some(running) = gateway.running() else { return Ok(ConnectionsPage::default()) };
        let is_plain = ask.sort == ConnectionOrder::Opened && !ask.descending;
        let (rows, total) = match (is_plain && ask.filter.is_none(), &ask.channel) {
            (true, _) => self.first(&running, &ask).await,
            (false, None) => self.search(&running, &ask).await,
            (false, Some(channel)) => {
                // Its members alone, however many others there are.
                let all = ConnectionsAsk { channel: Some(channel.clone()), ..Default::default() };
                let mut search = Search::new(&ask);
                self.first(&running, &all).await.0.into_iter().for_each(|row| search.take(row));
                search.end()
            }
        };
        Ok(ConnectionsPage { rows: rows.iter().filter_map(info).collect(), total })
    }

    /// Goes through all connections, a part of a shard at a time.
    async fn search(&self, running: &Running, ask: &ConnectionsAsk) -> (Vec<ConnectionRow>, u64) {
        let core = self.host.engine.core();
        let mut search = Search::new(ask);
        for shard in 0..core.shards() {
            let mut slots = 0..PART;
            loop {
                let (reply, listed) = oneshot::channel();
                let which = Listing::Slots(slots.clone());
                core.post_hub(shard, &running.shared, HubMsg::List(which, reply));
                // A shard that is gone has no connections.
                let Listed { rows, more, .. } = listed.await.unwrap_or_default();
                rows.into_iter().for_each(|row| search.take(row));
                if !more {
                    break;
                }
                slots = slots.end..slots.end + PART;
            }
        }
        search.end()
    }

    /// The page in the order in which they connected.
    async fn first(&self, running: &Running, ask: &ConnectionsAsk) -> (Vec<ConnectionRow>, u64) {
        let limit = ask.limit.map_or(usize::MAX, |limit| limit.saturating_add(ask.offset));
        let mut waits = Vec::new();
        self.host.engine.core().post_all(&running.shared, || {
            let (reply, rows) = oneshot::channel();
            waits.push(rows);
            let (channel, after) = (ask.channel.clone(), ask.after);
            HubMsg::List(Listing::Page { channel, after, limit }, reply)
        });
        let (mut rows, mut total) = (Vec::new(), 0);
        for wait in waits {
            // A shard that is gone has no connections.
            let mut listed: Listed = wait.await.unwrap_or_default();
            rows.append(&mut listed.rows);
            total += listed.total;
        }
        rows.sort_unstable_by_key(|row| row.info.id);
        rows.truncate(limit);
        rows.drain(..ask.offset.min(rows.len()));
        (rows, total)
    }

    /// One connection.
    pub(crate) async fn connection(
        &self,
        id: &str,
        conn: &str,
    ) -> Result<ConnectionInfo, ApiError> {
        let gateway = self.find(id)?;
        let unknown = || unknown_connection(id, conn);
        let running = gateway.running().ok_or_else(unknown)?;
        let name = ConnId::parse(conn).ok_or_else(unknown)?;
        let core = self.host.engine.core();
        let (reply, rows) = oneshot::channel();
        core.post_hub(
            core.shard_of(name),
            &running.shared,
            HubMsg::List(Listing::One(name), reply),
        );
        let listed: Listed = rows.await.unwrap_or_default();
        listed.rows.first().and_then(info).ok_or_else(unknown)
    }

    /// Closes one connection. The caller has checked neither code nor reason.
    pub(crate) async fn close_connection(
        &self,
        id: &str,
        conn: &str,
        code: u16,
        reason: &str,
    ) -> Result<ConnectionInfo, ApiError> {
        let gateway = self.find(id)?;
        if !close::may_be_sent(code) {
            let text = format!(
                "the close code {code} may not be sent: take 1000, 1001, 1008, 1011, or one of \
                 3000-4999"
            );
            return Err(ApiError::new(ErrorCode::BadRequest, text));
        }
        let unknown = || unknown_connection(id, conn);
        // A gateway that does not run has no connections.
        let running = gateway.running().ok_or_else(unknown)?;
        let name = ConnId::parse(conn).ok_or_else(unknown)?;
        let core = self.host.engine.core();
        let (reply, row) = oneshot::channel();
        let reason = close::cut_reason(reason).to_owned();
        let reply = CloseReply::Control(reply);
        core.submit(&running.shared, Op::Close { conn: name, code, reason, reply });
        let row = row.await.unwrap_or_default().ok_or_else(unknown)?;
        info(&row).ok_or_else(unknown)
    }
}

fn unknown_connection(id: &str, conn: &str) -> ApiError {
    let text = format!("no connection {conn:?} on gateway {id:?}");
    ApiError::new(ErrorCode::UnknownConnection, text)
}

fn info(row: &ConnectionRow) -> Option<ConnectionInfo> {
    Some(ConnectionInfo {
        transport: row.transport.into(),
        conn: row.info.id.to_string(),
        remote: row.info.remote.to_string(),
        // A JSON string by construction.
        path: serde_json::value::RawValue::from_string(row.info.path_json().to_owned()).ok()?,
        opened_at: humantime::format_rfc3339_millis(row.info.opened_at).to_string(),
        queued_bytes: row.queued as u64,
        channels: row.channels.iter().map(Channel::to_string).collect(),
    })
}
