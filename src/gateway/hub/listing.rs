//! The open connections of one gateway on one shard, as the control port lists them.

use std::sync::Arc;

use crate::gateway::hub::Hub;
use crate::gateway::msg::Listing;
use crate::listener::connection::ConnectionRow;
use crate::listener::protocol::connid::ConnId;

impl Hub {
    /// Open connections, in the order of their names.
    pub(super) fn list(&self, which: &Listing) -> Vec<ConnectionRow> {
        let (channel, after, limit) = match which {
            Listing::One(conn) => {
                let slot = self.conns.slot(*conn);
                return slot.and_then(|slot| self.row(slot)).into_iter().collect();
            }
            Listing::Page { channel, after, limit } => (channel, *after, *limit),
        };
        // Rows are made only of those that are listed: a page of a million connections is cheap.
        let place = |slot: u32| -> Option<(ConnId, u32)> {
            let conn = self.conns.get(slot).filter(|conn| conn.info().is_some())?;
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
        places.into_iter().filter_map(|(_, slot)| self.row(slot)).collect()
    }

    /// A connection as it is listed; none before its 101, nor after its end.
    pub(super) fn row(&self, slot: u32) -> Option<ConnectionRow> {
        let conn = self.conns.get(slot)?;
        let channels = self.rooms.names(slot);
        let (info, transport) = (Arc::clone(conn.info()?), conn.wire.form.transport());
        Some(ConnectionRow { info, transport, queued: conn.queued(), channels })
    }
}
