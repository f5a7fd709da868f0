//! The open connections of a gateway on this node, as the control port and other nodes see and close
//! them.
//!
//! A connection belongs to one shard, which is asked by a message; a shard that is gone has none.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::api::ConnectionInfo;
use crate::control::backend::{ConnectionOrder, ConnectionsAsk, ConnectionsPage};
use crate::gateway::core::Core;
use crate::gateway::msg::{HubMsg, Listed, Listing};
use crate::gateway::shared::Shared;
use crate::listener::connection::ConnectionRow;
use crate::listener::op::{CloseReply, Op};
use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;
use crate::server::search::Search;
use crate::ws::close;

/// Slots of a shard that are looked at together: what that takes, some 100 us, its clients wait.
const PART: u32 = 1024;

/// A gateway's connections on this node.
#[derive(Clone)]
pub(super) struct Local {
    core: Arc<Core>,
    shared: Arc<Shared>,
}

impl Local {
    /// Those of a gateway.
    pub(super) fn new(core: &Arc<Core>, shared: &Arc<Shared>) -> Local {
        Local { core: Arc::clone(core), shared: Arc::clone(shared) }
    }

    /// Open connections.
    pub(super) async fn page(&self, ask: &ConnectionsAsk) -> ConnectionsPage {
        let is_plain = ask.sort == ConnectionOrder::Opened && !ask.descending;
        let (rows, total) = match (is_plain && ask.filter.is_none(), &ask.channel) {
            (true, _) => self.first(ask).await,
            (false, None) => self.search(ask).await,
            (false, Some(channel)) => {
                // Its members alone, however many others there are.
                let all = ConnectionsAsk { channel: Some(channel.clone()), ..Default::default() };
                let mut search = Search::new(ask);
                self.first(&all).await.0.into_iter().for_each(|row| search.take(row));
                search.end()
            }
        };
        ConnectionsPage {
            rows: rows.iter().filter_map(info).collect(),
            total,
            ..ConnectionsPage::default()
        }
    }

    /// Goes through all connections, a part of a shard at a time.
    async fn search(&self, ask: &ConnectionsAsk) -> (Vec<ConnectionRow>, u64) {
        let core = &self.core;
        let mut search = Search::new(ask);
        for shard in 0..core.shards() {
            let mut slots = 0..PART;
            loop {
                let (reply, listed) = oneshot::channel();
                let which = Listing::Slots(slots.clone());
                core.post_hub(shard, &self.shared, HubMsg::List(which, reply));
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
    async fn first(&self, ask: &ConnectionsAsk) -> (Vec<ConnectionRow>, u64) {
        let limit = ask.limit.map_or(usize::MAX, |limit| limit.saturating_add(ask.offset));
        let mut waits = Vec::new();
        self.core.post_all(&self.shared, || {
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
    pub(super) async fn one(&self, conn: ConnId) -> Option<ConnectionInfo> {
        let (reply, rows) = oneshot::channel();
        let shard = self.core.shard_of(conn);
        self.core.post_hub(shard, &self.shared, HubMsg::List(Listing::One(conn), reply));
        let listed: Listed = rows.await.unwrap_or_default();
        listed.rows.first().and_then(info)
    }

    /// Closes one connection. The code may be sent.
    pub(super) async fn close(
        &self,
        conn: ConnId,
        code: u16,
        reason: &str,
    ) -> Option<ConnectionInfo> {
        let (reply, row) = oneshot::channel();
        let reason = close::cut_reason(reason).to_owned();
        let reply = CloseReply::Control(reply);
        self.core.submit(&self.shared, Op::Close { conn, code, reason, reply });
        row.await.unwrap_or_default().as_ref().and_then(info)
    }
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
