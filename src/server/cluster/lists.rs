//! Connections on other nodes, for the control port: what a node asks another, and how the answers
//! become one list.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::api::ConnectionInfo;
use crate::control::backend::{ConnectionOrder, ConnectionsAsk, ConnectionsPage};
use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;
use crate::server::local::Local;

/// Rows that a node sends at a time: an answer has to fit into one message.
pub(super) const ROWS: usize = 1_000;

/// What a node asks another.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// A page of its connections.
    Page(PageAsk),
    /// One of its connections.
    One(String),
    /// To close one.
    Close {
        /// The connection.
        conn: String,
        /// The close code, which may be sent.
        code: u16,
        /// The reason.
        reason: String,
    },
}

/// A page of a node's connections, as [`ConnectionsAsk`] has it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PageAsk {
    channel: Option<String>,
    filter: Option<String>,
    after: Option<String>,
    sort: u8,
    descending: bool,
    offset: usize,
    limit: usize,
}

/// The answer.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Rows {
    /// Connections.
    pub(crate) rows: Vec<ConnectionInfo>,
    /// How many match.
    pub(crate) total: u64,
}

const ORDERS: [ConnectionOrder; 4] = [
    ConnectionOrder::Opened,
    ConnectionOrder::Remote,
    ConnectionOrder::Queued,
    ConnectionOrder::Path,
];

impl PageAsk {
    /// A part of what is asked.
    pub(super) fn part(ask: &ConnectionsAsk, offset: usize) -> PageAsk {
        let limit = ask.limit.unwrap_or(usize::MAX).saturating_sub(offset).min(ROWS);
        PageAsk {
            channel: ask.channel.as_ref().map(Channel::to_string),
            filter: ask.filter.clone(),
            after: ask.after.as_ref().map(ConnId::to_string),
            sort: ORDERS.iter().position(|order| *order == ask.sort).unwrap_or(0) as u8,
            descending: ask.descending,
            offset,
            limit,
        }
    }

    fn ask(&self) -> ConnectionsAsk {
        ConnectionsAsk {
            channel: self.channel.as_deref().and_then(Channel::parse),
            filter: self.filter.clone(),
            after: self.after.as_deref().and_then(ConnId::parse),
            sort: ORDERS.get(usize::from(self.sort)).copied().unwrap_or_default(),
            descending: self.descending,
            offset: self.offset,
            limit: Some(self.limit.min(ROWS)),
            local: true,
        }
    }
}

/// Answers another node.
pub(super) async fn answer(local: &Local, ask: Ask) -> Rows {
    let one = |found: Option<ConnectionInfo>| Rows {
        total: u64::from(found.is_some()),
        rows: found.into_iter().collect(),
    };
    match ask {
        Ask::Page(ask) => {
            let ConnectionsPage { rows, total } = local.page(&ask.ask()).await;
            Rows { rows, total }
        }
        Ask::One(conn) => match ConnId::parse(&conn) {
            Some(conn) => one(local.one(conn).await),
            None => Rows::default(),
        },
        Ask::Close { conn, code, reason } => match ConnId::parse(&conn) {
            Some(conn) => one(local.close(conn, code, &reason).await),
            None => Rows::default(),
        },
    }
}

/// One list of those of several nodes. Each has at least the rows up to the end of the page.
pub(crate) fn merge(
    ask: &ConnectionsAsk,
    pages: impl Iterator<Item = ConnectionsPage>,
) -> ConnectionsPage {
    let mut all = ConnectionsPage::default();
    for page in pages {
        all.total += page.total;
        all.rows.extend(page.rows);
    }
    all.rows.sort_by_cached_key(|row| Key::new(ask, row));
    if ask.descending {
        all.rows.reverse();
    }
    all.rows.drain(..ask.offset.min(all.rows.len()));
    all.rows.truncate(ask.limit.unwrap_or(usize::MAX));
    all
}

/// What a row is ordered by; those that are equal by their names, node by node.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    queued: u64,
    address: Option<(IpAddr, u16)>,
    text: String,
    conn: Option<ConnId>,
}

impl Key {
    fn new(ask: &ConnectionsAsk, row: &ConnectionInfo) -> Key {
        let mut key =
            Key { queued: 0, address: None, text: String::new(), conn: ConnId::parse(&row.conn) };
        match ask.sort {
            ConnectionOrder::Opened => {}
            ConnectionOrder::Queued => key.queued = row.queued_bytes,
            ConnectionOrder::Path => key.text = row.path.get().to_owned(),
            ConnectionOrder::Remote => {
                let address = row.remote.parse::<SocketAddr>();
                key.address = address.ok().map(|address| (address.ip(), address.port()));
                key.text.clone_from(&row.remote);
            }
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(conn: &str, remote: &str, queued: u64) -> ConnectionInfo {
        serde_json::from_value(serde_json::json!({
            "conn": conn, "remote": remote, "path": "/", "opened_at": "", "queued_bytes": queued
        }))
        .unwrap()
    }

    #[test]
    fn pages_of_several_nodes_become_one() {
        let here = [row("abcd.k1", "127.0.0.1:9", 5), row("abcd.kz", "127.0.0.1:10", 0)];
        let there = [row("bbbb.k1", "10.0.0.1:7", 5), row("bbbb.k2", "10.0.0.2:7", 9)];
        let names = |ask: &ConnectionsAsk| -> Vec<String> {
            let page = |rows: &[ConnectionInfo]| ConnectionsPage { rows: rows.to_vec(), total: 2 };
            let merged = merge(ask, [page(&there), page(&here)].into_iter());
            assert_eq!(merged.total, 4);
            merged.rows.iter().map(|row| row.conn.clone()).collect()
        };
        let ask = ConnectionsAsk::default();
        assert_eq!(names(&ask), ["abcd.k1", "abcd.kz", "bbbb.k1", "bbbb.k2"]);
        let page = ConnectionsAsk { offset: 1, limit: Some(2), ..ask.clone() };
        assert_eq!(names(&page), ["abcd.kz", "bbbb.k1"]);
        let queued = ConnectionsAsk {
            sort: ConnectionOrder::Queued,
            descending: true,
            ..ConnectionsAsk::default()
        };
        assert_eq!(names(&queued), ["bbbb.k2", "bbbb.k1", "abcd.k1", "abcd.kz"]);
        let remote = ConnectionsAsk { sort: ConnectionOrder::Remote, ..ConnectionsAsk::default() };
        assert_eq!(names(&remote), ["bbbb.k1", "bbbb.k2", "abcd.k1", "abcd.kz"]);
    }
}
