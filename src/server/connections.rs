//! The open connections of a gateway, on this node and on the others of its cluster, as the control
//! port shows and closes them.

use crate::api::{ApiError, ConnectionInfo, ErrorCode};
use crate::control::backend::{ConnectionsAsk, ConnectionsPage};
use crate::listener::protocol::connid::ConnId;
use crate::server::Server;
use crate::server::cluster::lists::{Ask, merge};
use crate::server::gateway::Running;
use crate::server::local::Local;
use crate::ws::close;

impl Server {
    /// Open connections of a gateway.
    pub(crate) async fn connections(
        &self,
        id: &str,
        ask: ConnectionsAsk,
    ) -> Result<ConnectionsPage, ApiError> {
        let gateway = self.find(id)?;
        let Some(running) = gateway.running() else { return Ok(ConnectionsPage::default()) };
        let local = Local::new(self.host.engine.core(), &running.shared);
        let Some(member) = running.member.as_ref().filter(|_| !ask.local) else {
            return Ok(local.page(&ask).await);
        };
        // Whoever has the page's first rows may have all of them.
        let whole = ConnectionsAsk {
            offset: 0,
            limit: ask.limit.map(|limit| limit.saturating_add(ask.offset)),
            ..ask.clone()
        };
        let (here, others) = tokio::join!(local.page(&whole), member.pages(&whole));
        Ok(merge(&ask, std::iter::once(here).chain(others)))
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
        let found = match elsewhere(&running, name) {
            false => Local::new(self.host.engine.core(), &running.shared).one(name).await,
            true => ask_its_node(&running, name, &Ask::One(conn.to_owned())).await?,
        };
        found.ok_or_else(unknown)
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
        let closed = match elsewhere(&running, name) {
            false => {
                let local = Local::new(self.host.engine.core(), &running.shared);
                local.close(name, code, reason).await
            }
            true => {
                let (conn, reason) = (conn.to_owned(), reason.to_owned());
                ask_its_node(&running, name, &Ask::Close { conn, code, reason }).await?
            }
        };
        closed.ok_or_else(unknown)
    }
}

/// Whether a connection is on another node.
fn elsewhere(running: &Running, conn: ConnId) -> bool {
    running.member.is_some() && conn.node().is_some() && conn.node() != running.shared.node
}

/// Asks the node of a connection about it; `None` if it is unknown there, or the node is.
///
/// # Errors
/// The node is there and does not answer.
async fn ask_its_node(
    running: &Running,
    conn: ConnId,
    ask: &Ask,
) -> Result<Option<ConnectionInfo>, ApiError> {
    let Some((member, node)) = running.member.as_ref().zip(conn.node()) else { return Ok(None) };
    if let Some(found) = member.ask(node, ask).await {
        return Ok(found.rows.into_iter().next());
    }
    if !member.knows(node) {
        return Ok(None);
    }
    let late = match ask {
        Ask::Close { .. } => " (it may still close it when it goes on)",
        Ask::One(_) | Ask::Page(_) => "",
    };
    let text = format!(
        "the node {node} of the cluster, which has the connection {conn}, does not answer{late}: try again \
         later; `wsgw status --nodes` shows when it was heard"
    );
    Err(ApiError::new(ErrorCode::EngineLost, text))
}

fn unknown_connection(id: &str, conn: &str) -> ApiError {
    let text = format!("no connection {conn:?} on gateway {id:?}");
    ApiError::new(ErrorCode::UnknownConnection, text)
}
