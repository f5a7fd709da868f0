//! The open connections of one gateway on one shard, as the control port lists them.

use std::sync::Arc;

use crate::gateway::hub::Hub;
use crate::gateway::msg::{Listed, Listing};
use crate::listener::connection::ConnectionRow;
use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;

impl Hub {
    /// Open connections.
    pub(super) fn list(&self, which: &Listing) -> Listed {
        match which {
            Listing::One(conn) => {
                let slot = self.conns.slot(*conn);
                let rows: Vec<_> = slot.and_then(|slot| self.row(slot)).into_iter().collect();
                Listed { total: rows.len() as u64, rows, more: false }
            }
            Listing::Page { channel, after, limit } => self.page(channel.as_ref(), *after, *limit),
            Listing::Slots(slots) => {
                let end = self.conns.hot().len() as u32;
                let rows: Vec<_> = slots.clone().filter_map(|slot| self.row(slot)).collect();
                Listed { total: rows.len() as u64, rows, more: slots.end < end }
            }
        }
    }

    /// A page, in the order of their names.
    fn page(&self, channel: Option<&Channel>, after: Option<ConnId>, limit: usize) -> Listed {
        let mut total = 0;
        // Rows are made only of those that are listed: a page of a million connections is cheap.
        let mut place = |slot: u32| -> Option<(ConnId, u32)> {
            let conn = self.conns.get(slot).filter(|conn| conn.info().is_some())?;
            total += 1;
            after.is_none_or(|after| conn.id > after).then_some((conn.id, slot))
        };
        let mut places: Vec<(ConnId, u32)> = match channel {
            Some(channel) => {
                self.rooms.members(channel).iter().filter_map(|slot| place(*slot)).collect()
            }
            None => self.conns.iter().filter_map(|(slot, _)| place(slot)).collect(),
        };
        if places.len() > limit {
            // The first ones come to the front without sorting all of them.
            places.select_nth_unstable(limit);
            places.truncate(limit);
        }
        places.sort_unstable();
        let rows = places.into_iter().filter_map(|(_, slot)| self.row(slot)).collect();
        Listed { rows, total, more: false }
    }

    /// A connection as it is listed; none before its 101, nor after its end.
    pub(super) fn row(&self, slot: u32) -> Option<ConnectionRow> {
        let conn = self.conns.get(slot)?;
        let channels = self.rooms.names(slot);
        let (info, transport) = (Arc::clone(conn.info()?), conn.wire.form.transport());
        Some(ConnectionRow { info, transport, queued: conn.queued(), channels })
    }
}
