//! The connections of one gateway on one shard, by slot and by name.
//!
//! What a fan-out touches lies apart from the rest, in an array of its own: it goes through all
//! connections for each message, and the rest of a connection is four cache lines.

use std::collections::HashMap;

use slab::Slab;

use crate::gateway::hub::connection::Connection;
use crate::gateway::hub::hot::Hot;
use crate::listener::protocol::connid::ConnId;

/// The connections of one gateway on one shard.
#[derive(Default)]
pub(crate) struct Connections {
    slots: Slab<Connection>,
    /// By slot; what is vacant takes nothing.
    hot: Vec<Hot>,
    by_id: HashMap<ConnId, u32>,
}

impl Connections {
    /// Adds one; its slot.
    pub(super) fn insert(&mut self, conn: Connection) -> u32 {
        let id = conn.id;
        let hot = conn.hot();
        // Slots are far fewer than descriptors can be.
        let slot = self.slots.insert(conn) as u32;
        if self.hot.len() <= slot as usize {
            self.hot.resize(slot as usize + 1, Hot::VACANT);
        }
        self.hot[slot as usize] = hot;
        self.by_id.insert(id, slot);
        slot
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Connection> {
        let conn = self.slots.try_remove(slot as usize)?;
        self.hot[slot as usize] = Hot::VACANT;
        self.by_id.remove(&conn.id);
        Some(conn)
    }

    /// The slot of a connection.
    pub(super) fn slot(&self, conn: ConnId) -> Option<u32> {
        self.by_id.get(&conn).copied()
    }

    /// The connection in a slot.
    pub(super) fn get(&self, slot: u32) -> Option<&Connection> {
        self.slots.get(slot as usize)
    }

    /// The same, to be changed. What a fan-out knows of it is told by [`Connections::refresh`].
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Connection> {
        self.slots.get_mut(slot as usize)
    }

    /// Has the fan-out know what became of a connection.
    pub(super) fn refresh(&mut self, slot: u32) {
        if let Some(conn) = self.slots.get(slot as usize) {
            self.hot[slot as usize] = conn.hot();
        }
    }

    /// What a fan-out has to know, by slot.
    pub(super) fn hot(&self) -> &[Hot] {
        &self.hot
    }

    /// All of them, with their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Connection)> + Clone {
        self.slots.iter().map(|(slot, conn)| (slot as u32, conn))
    }

    /// All slots and names at this moment.
    pub(super) fn all(&self) -> Vec<(u32, ConnId)> {
        self.iter().map(|(slot, conn)| (slot, conn.id)).collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Gives back the memory of a crowd that left; how many it had room for.
    pub(super) fn forget_crowd(&mut self) -> usize {
        let room = self.slots.capacity();
        *self = Connections::default();
        room
    }
}
