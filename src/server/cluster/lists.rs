//! Connections on other nodes, for the control port: what a node asks another, and how the answers
//! become one list.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::api::ConnectionInfo;
use crate::control::backend::{ConnectionOrder, ConnectionsAsk, ConnectionsPage};
use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;
use crate::server::local::Local;
use crate::ws::close;

/// Rows that a node sends at a time, and fewer where they do not fit into one message.
const ROWS: usize = 1_000;

/// Bytes of an answer besides its rows.
const FRAME: usize = 64;

/// Bytes that are left of the path of a connection whose row alone is too large.
const PATH: usize = 1_024;

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
    /// Whether there are more behind these.
    #[serde(default)]
    pub(crate) more: bool,
}

const ORDERS: [ConnectionOrder; 4] = [
    ConnectionOrder::Opened,
    ConnectionOrder::Remote,
    ConnectionOrder::Queued,
    ConnectionOrder::Path,
];

impl PageAsk {
    /// What is asked, behind the rows that are there. Each part goes on behind the last connection where
    /// that is possible, so that one that has gone meanwhile does not move the others.
    pub(super) fn part(ask: &ConnectionsAsk, there: &[ConnectionInfo]) -> PageAsk {
        let limit = ask.limit.unwrap_or(usize::MAX).saturating_sub(there.len()).min(ROWS);
        let is_plain = ask.sort == ConnectionOrder::Opened && !ask.descending;
        let last = there.last().filter(|_| is_plain).map(|row| row.conn.clone());
        let offset = if is_plain { 0 } else { there.len() };
        PageAsk {
            channel: ask.channel.as_ref().map(Channel::to_string),
            filter: ask.filter.clone(),
            after: last.or_else(|| ask.after.as_ref().map(ConnId::to_string)),
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

impl Rows {
    /// As they are sent, in `most` bytes: what does not fit comes with the next part.
    fn into_bytes(mut self, most: usize) -> Vec<u8> {
        let most = most.saturating_sub(FRAME);
        let size =
            |row: &ConnectionInfo| serde_json::to_vec(row).map_or(0, |bytes| bytes.len() + 1);
        if let Some(first) = self.rows.first_mut().filter(|first| size(first) > most) {
            // It will never fit.
            cut(first);
        }
        let mut room = most;
        let mut fits = |row: &ConnectionInfo| {
            let left = room.checked_sub(size(row));
            room = left.unwrap_or_default();
            left.is_some()
        };
        let fitting = self.rows.iter().take_while(|row| fits(row)).count();
        self.more |= fitting < self.rows.len();
        self.rows.truncate(fitting);
        // It is plain data.
        serde_json::to_vec(&self).unwrap_or_default()
    }
}

/// Leaves out of a row what may be large.
fn cut(row: &mut ConnectionInfo) {
    let path = row.path_text();
    let path = format!("{}…", &path[..path.floor_char_boundary(PATH)]);
    if let Ok(path) = serde_json::value::to_raw_value(&path) {
        row.path = path;
    }
    row.channels.clear();
}

/// Answers another node, in `most` bytes.
pub(super) async fn answer(local: &Local, ask: Ask, most: usize) -> Vec<u8> {
    let one = |found: Option<ConnectionInfo>| Rows {
        total: u64::from(found.is_some()),
        rows: found.into_iter().collect(),
        more: false,
    };
    let rows = match ask {
        Ask::Page(ask) => {
            let ConnectionsPage { rows, total, .. } = local.page(&ask.ask()).await;
            let more = rows.len() >= ROWS;
            Rows { rows, total, more }
        }
        Ask::One(conn) => match ConnId::parse(&conn) {
            Some(conn) => one(local.one(conn).await),
            None => Rows::default(),
        },
        Ask::Close { conn, code, reason } => match ConnId::parse(&conn) {
            Some(conn) if close::may_be_sent(code) => one(local.close(conn, code, &reason).await),
            _ => Rows::default(),
        },
    };
    rows.into_bytes(most)
}

/// One list of those of several nodes. Each has at least the rows up to the end of the page.
pub(crate) fn merge(
    ask: &ConnectionsAsk,
    pages: impl Iterator<Item = ConnectionsPage>,
) -> ConnectionsPage {
    let mut all = ConnectionsPage::default();
    for page in pages {
        all.total = all.total.saturating_add(page.total);
        all.rows.extend(page.rows);
        all.silent.extend(page.silent);
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
            let page = |rows: &[ConnectionInfo], silent: &str| {
                let silent = vec![silent.to_owned()];
                ConnectionsPage { rows: rows.to_vec(), total: 2, silent }
            };
            let merged = merge(ask, [page(&there, "a"), page(&here, "b")].into_iter());
            assert_eq!((merged.total, merged.silent), (4, vec!["a".to_owned(), "b".to_owned()]));
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

    #[test]
    fn rows_that_do_not_fit_into_a_message_come_with_the_next_part() {
        let large = |number: u32, path: usize| {
            let path = "\u{e9}".repeat(path);
            let mut row = row(&format!("abcd.k{number}"), "127.0.0.1:9", 0);
            row.path = serde_json::value::to_raw_value(&path).unwrap();
            row
        };
        let all: Vec<_> = (1..9).map(|number| large(number, 3_000)).collect();
        let (ask, mut there) = (ConnectionsAsk::default(), Vec::new());
        let mut parts = 0;
        loop {
            let after = PageAsk::part(&ask, &there).after.and_then(|name| ConnId::parse(&name));
            let behind = |row: &&ConnectionInfo| {
                after.is_none_or(|after| ConnId::parse(&row.conn).unwrap() > after)
            };
            let rows = all.iter().filter(behind).cloned().collect();
            let bytes = Rows { rows, total: 8, more: false }.into_bytes(16 << 10);
            assert!(bytes.len() <= 16 << 10, "{}", bytes.len());
            let part: Rows = serde_json::from_slice(&bytes).unwrap();
            there.extend(part.rows);
            parts += 1;
            if !part.more {
                break;
            }
        }
        assert_eq!(parts, 4);
        let names =
            |rows: &[ConnectionInfo]| rows.iter().map(|row| row.conn.clone()).collect::<Vec<_>>();
        assert_eq!(names(&there), names(&all));
        // One that is too large alone is cut.
        let rows = vec![large(1, 20_000)];
        let bytes = Rows { rows, total: 1, more: false }.into_bytes(16 << 10);
        let part: Rows = serde_json::from_slice(&bytes).unwrap();
        assert!(!part.more && part.rows[0].path.get().len() <= PATH + 8, "{part:?}");
    }
}
