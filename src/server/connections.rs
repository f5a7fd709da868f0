//! The open connections of a gateway, as the control port shows and closes them.
//!
//! A connection belongs to one shard, which is asked by a message; a shard that is gone has none.

use tokio::sync::oneshot;

use crate::api::{ApiError, ConnectionInfo, ErrorCode};
use crate::control::backend::ConnectionsAsk;
use crate::gateway::msg::{HubMsg, Listing};
use crate::listener::connection::ConnectionRow;
use crate::listener::op::{CloseReply, Op};
use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;
use crate::server::Server;
use crate::ws::close;

impl Server {
    /// The open connections of a gateway, in the order of their names.
    pub(crate) async fn connections(
        &self,
        id: &str,
        ask: ConnectionsAsk,
    ) -> Result<Vec<ConnectionInfo>, ApiError> {
        let gateway = self.find(id)?;
        let Some(running) = gateway.running() else { return Ok(Vec::new()) };
        let limit = ask.limit.unwrap_or(usize::MAX);
        let mut waits = Vec::new();
        self.host.engine.core().post_all(&running.shared, || {
            let (reply, rows) = oneshot::channel();
            waits.push(rows);
            let (channel, after) = (ask.channel.clone(), ask.after);
            HubMsg::List(Listing::Page { channel, after, limit }, reply)
        });
        let mut rows: Vec<ConnectionRow> = Vec::new();
        for wait in waits {
            // A shard that is gone has no connections.
            rows.append(&mut wait.await.unwrap_or_default());
        }
        rows.sort_unstable_by_key(|row| row.info.id);
        rows.truncate(limit);
        Ok(rows.iter().filter_map(info).collect())
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
        let rows = rows.await.unwrap_or_default();
        rows.first().and_then(info).ok_or_else(unknown)
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
