//! Connections that match a text, in an order that is asked for.
//!
//! They come in one after the other, and only those that can be on the page are kept. All of this is
//! done on the control runtime: shards only tell which connections they have.

use std::cmp::Ordering;
use std::net::{IpAddr, SocketAddr};

use crate::control::backend::{ConnectionOrder, ConnectionsAsk};
use crate::listener::connection::ConnectionRow;
use crate::net::address::ip_of;

/// Connections beyond those of the page that are kept before the page is cut.
const SLACK: usize = 4096;

/// A search through connections.
pub(super) struct Search<'a> {
    ask: &'a ConnectionsAsk,
    /// What they must hold, in lower case.
    filter: Option<String>,
    found: Vec<Found>,
    total: u64,
    /// Room for what is compared, used again for each.
    room: String,
}

struct Found {
    row: ConnectionRow,
    /// Where it is ordered by that.
    address: Option<(IpAddr, u16)>,
}

impl<'a> Search<'a> {
    /// Nothing found so far.
    pub(super) fn new(ask: &'a ConnectionsAsk) -> Search<'a> {
        let filter = ask.filter.as_ref().map(|text| text.to_lowercase());
        Search { ask, filter, found: Vec::new(), total: 0, room: String::new() }
    }

    /// Looks at one connection.
    pub(super) fn take(&mut self, row: ConnectionRow) {
        if !self.matches(&row) {
            return;
        }
        self.total += 1;
        if self.ask.after.is_some_and(|after| row.info.id <= after) {
            return;
        }
        let by_address = self.ask.sort == ConnectionOrder::Remote;
        let address = by_address.then(|| address(&row.info.remote)).flatten();
        self.found.push(Found { row, address });
        let wanted = self.wanted();
        if self.found.len() >= wanted.saturating_add(SLACK) {
            self.cut(wanted);
        }
    }

    /// The page, and how many match.
    pub(super) fn end(mut self) -> (Vec<ConnectionRow>, u64) {
        self.cut(self.wanted());
        let order = |a: &Found, b: &Found| compare(self.ask, a, b);
        self.found.sort_unstable_by(order);
        let page = self.found.into_iter().skip(self.ask.offset).map(|found| found.row);
        (page.collect(), self.total)
    }

    /// How many there are up to the end of the page.
    fn wanted(&self) -> usize {
        self.ask.limit.map_or(usize::MAX, |limit| limit.saturating_add(self.ask.offset))
    }

    /// Keeps the first ones, unsorted.
    fn cut(&mut self, wanted: usize) {
        if wanted < self.found.len() {
            let ask = self.ask;
            self.found.select_nth_unstable_by(wanted, |a, b| compare(ask, a, b));
            self.found.truncate(wanted);
        }
    }

    fn matches(&mut self, row: &ConnectionRow) -> bool {
        let Some(filter) = &self.filter else { return true };
        let room = &mut self.room;
        let mut holds = |text: &str| {
            room.clear();
            if text.is_ascii() {
                room.push_str(text);
                room.make_ascii_lowercase();
            } else {
                room.push_str(&text.to_lowercase());
            }
            room.contains(filter.as_str())
        };
        let path = row.info.path_json();
        let path = match path.contains('\\') {
            false => path.trim_matches('"').to_owned(),
            true => serde_json::from_str(path).unwrap_or_default(),
        };
        holds(&row.info.remote)
            || holds(&path)
            || row.channels.iter().any(|channel| holds(channel.as_str()))
            || holds(&row.info.id.to_string())
    }
}

/// The order of two connections.
fn compare(ask: &ConnectionsAsk, a: &Found, b: &Found) -> Ordering {
    let (one, other) = (&a.row, &b.row);
    let by_key = match ask.sort {
        ConnectionOrder::Opened => Ordering::Equal,
        ConnectionOrder::Remote => {
            a.address.cmp(&b.address).then_with(|| one.info.remote.cmp(&other.info.remote))
        }
        ConnectionOrder::Queued => one.queued.cmp(&other.queued),
        ConnectionOrder::Path => one.info.path_json().cmp(other.info.path_json()),
    };
    let order = by_key.then_with(|| one.info.id.cmp(&other.info.id));
    if ask.descending { order.reverse() } else { order }
}

/// A client's address and port, as numbers.
fn address(remote: &str) -> Option<(IpAddr, u16)> {
    let with_port = remote.parse::<SocketAddr>().map(|address| (address.ip(), address.port()));
    with_port.ok().or_else(|| ip_of(remote).map(|ip| (ip, 0)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;
    use crate::listener::connection::ConnInfo;
    use crate::listener::protocol::channel::Channel;
    use crate::listener::protocol::connid::ConnId;

    fn row(id: u64, remote: &str, path: &str, queued: usize, channel: &str) -> ConnectionRow {
        let path = serde_json::to_string(path).unwrap();
        let info = ConnInfo {
            id: ConnId(id),
            opened_at: SystemTime::UNIX_EPOCH,
            remote: remote.into(),
            members: format!("\"path\":{path}").into_bytes().into(),
            path_len: path.len(),
        };
        let channels = Channel::parse(channel).into_iter().collect();
        ConnectionRow { info: Arc::new(info), transport: "websocket", queued, channels }
    }

    fn some() -> Vec<ConnectionRow> {
        vec![
            row(5, "203.0.113.9:80", "/Chat/Ä", 7, "room1"),
            row(2, "[2001:db8::1]:9", "/b", 0, ""),
            row(3, "9.0.0.1:5000", "/a\n", 7, "Room2"),
            row(4, "9.0.0.1:999", "/a", 1, ""),
        ]
    }

    fn search(ask: &ConnectionsAsk, rows: Vec<ConnectionRow>) -> (Vec<u64>, u64) {
        let mut search = Search::new(ask);
        rows.into_iter().for_each(|row| search.take(row));
        let (rows, total) = search.end();
        (rows.iter().map(|row| row.info.id.0).collect(), total)
    }

    #[test]
    fn orders() {
        let by = |sort, descending| {
            search(&ConnectionsAsk { sort, descending, ..Default::default() }, some()).0
        };
        assert_eq!(by(ConnectionOrder::Opened, true), [5, 4, 3, 2]);
        assert_eq!(by(ConnectionOrder::Remote, false), [4, 3, 5, 2]);
        assert_eq!(by(ConnectionOrder::Queued, true), [5, 3, 4, 2]);
        assert_eq!(by(ConnectionOrder::Queued, false), [2, 4, 3, 5]);
        assert_eq!(by(ConnectionOrder::Path, false), [5, 4, 3, 2]);
    }

    #[test]
    fn filters() {
        let with = |text: &str| {
            let filter = Some(text.to_owned());
            search(&ConnectionsAsk { filter, ..Default::default() }, some()).0
        };
        assert_eq!(with("ROOM"), [3, 5]);
        assert_eq!(with("chat/ä"), [5]);
        assert_eq!(with("/a\n"), [3]);
        assert_eq!(with("\\n"), Vec::<u64>::new(), "paths are compared as they are meant");
        assert_eq!(with("9.0.0.1:"), [3, 4]);
        assert_eq!(with(&ConnId(4).to_string()), [4]);
        assert_eq!(with("websocket"), Vec::<u64>::new());
    }

    #[test]
    fn the_total_is_of_all_that_match() {
        let ask = ConnectionsAsk {
            filter: Some("room".to_owned()),
            after: Some(ConnId(3)),
            sort: ConnectionOrder::Queued,
            limit: Some(1),
            ..Default::default()
        };
        assert_eq!(search(&ask, some()), (vec![5], 2));
        assert_eq!(search(&ConnectionsAsk { offset: 1, ..ask }, some()), (vec![], 2));
    }

    proptest! {
        /// However many are thrown away on the way, pages are parts of the whole list.
        #[test]
        fn pages_are_parts_of_the_whole(
            queued in proptest::collection::vec(0usize..50, 0..30),
            (offset, limit) in (0usize..40, 0usize..20),
            descending: bool,
        ) {
            let rows = || -> Vec<ConnectionRow> {
                // More than are kept beside those of a page.
                let each = SLACK / 10;
                let all = queued.iter().enumerate();
                let many = all.flat_map(|(at, n)| (0..each).map(move |i| (at * each + i, *n)));
                many.map(|(id, n)| row(id as u64, "unix", "/", n, "")).collect()
            };
            let sort = ConnectionOrder::Queued;
            let whole = ConnectionsAsk { sort, descending, ..Default::default() };
            let (all, total) = search(&whole, rows());
            prop_assert_eq!(all.len() as u64, total);
            let page = ConnectionsAsk { offset, limit: Some(limit), sort, descending, ..Default::default() };
            let (found, total) = search(&page, rows());
            prop_assert_eq!(total, all.len() as u64);
            let end = all.len().min(offset + limit);
            prop_assert_eq!(&found[..], &all[offset.min(end)..end]);
        }
    }
}
