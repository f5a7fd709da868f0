//! Who is in which channel, on one shard: an index by channel, and one by connection.
//!
//! A message to a channel costs its members, not all connections. A connection that is in no channel
//! costs eight bytes here at most.

use std::collections::HashMap;

use slab::Slab;

use crate::listener::protocol::channel::Channel;

/// The channels of one gateway on one shard.
#[derive(Default)]
pub(crate) struct Rooms {
    rooms: Slab<Room>,
    by_name: HashMap<Channel, u32>,
    by_slot: Vec<Option<Box<Memberships>>>,
}

/// One channel.
struct Room {
    name: Channel,
    /// Slots, in any order.
    members: Vec<u32>,
}

/// The channels of one connection.
#[derive(Default)]
struct Memberships {
    places: Vec<Place>,
    /// Channels that it has left, and what it got of them; only where there is a history.
    past: Vec<Past>,
}

/// A connection's place in a channel.
struct Place {
    room: u32,
    /// Its index among the members.
    index: u32,
    /// It got every message with a higher number.
    from: u64,
    /// The number of its joining among all changes of members.
    change: u64,
}

/// A membership that is over.
struct Past {
    channel: Channel,
    from: u64,
    to: u64,
}

/// Past memberships that are remembered for a connection.
const PAST_MAX: usize = 64;

impl Rooms {
    /// Makes a connection a member, which gets every kept message with a higher number than `from`.
    /// False if it is one already.
    ///
    /// `change` is the number of this among all changes of the gateway's members.
    pub(super) fn join(&mut self, slot: u32, channel: &Channel, from: u64, change: u64) -> bool {
        let room = match self.by_name.get(channel) {
            Some(room) => *room,
            None => {
                // There are fewer rooms than memberships, and those are bounded by memory.
                let room =
                    self.rooms.insert(Room { name: channel.clone(), members: Vec::new() }) as u32;
                self.by_name.insert(channel.clone(), room);
                room
            }
        };
        if self.by_slot.len() <= slot as usize {
            self.by_slot.resize_with(slot as usize + 1, || None);
        }
        let memberships = self.by_slot[slot as usize].get_or_insert_default();
        if memberships.places.iter().any(|place| place.room == room) {
            return false;
        }
        let members = &mut self.rooms[room as usize].members;
        let place = Place { room, index: members.len() as u32, from, change };
        if memberships.places.is_empty() {
            // Most connections are in one channel.
            memberships.places.reserve_exact(1);
        }
        memberships.places.push(place);
        members.push(slot);
        true
    }

    /// Takes a connection out of a channel; false if it is not in it. With `to`, the number of the
    /// newest kept message, the membership is remembered.
    pub(super) fn leave(&mut self, slot: u32, channel: &Channel, to: Option<u64>) -> bool {
        let Some(&room) = self.by_name.get(channel) else { return false };
        let Some(memberships) = self.memberships_mut(slot) else { return false };
        let Some(at) = memberships.places.iter().position(|place| place.room == room) else {
            return false;
        };
        let place = memberships.places.swap_remove(at);
        if let Some(to) = to {
            if memberships.past.len() == PAST_MAX {
                memberships.past.remove(0);
            }
            memberships.past.push(Past { channel: channel.clone(), from: place.from, to });
        } else if memberships.places.is_empty() && memberships.past.is_empty() {
            self.by_slot[slot as usize] = None;
        }
        self.take_out(&place);
        true
    }

    /// Takes a connection out of all its channels, which are returned, sorted.
    pub(super) fn leave_all(&mut self, slot: u32) -> Vec<Channel> {
        let Some(memberships) = self.by_slot.get_mut(slot as usize).and_then(Option::take) else {
            return Vec::new();
        };
        let mut names: Vec<Channel> = Vec::with_capacity(memberships.places.len());
        for place in &memberships.places {
            names.push(self.rooms[place.room as usize].name.clone());
            self.take_out(place);
        }
        names.sort_unstable();
        names
    }

    fn take_out(&mut self, place: &Place) {
        let room = &mut self.rooms[place.room as usize];
        room.members.swap_remove(place.index as usize);
        let moved = room.members.get(place.index as usize).copied();
        if room.members.is_empty() {
            self.by_name.remove(&room.name);
            self.rooms.remove(place.room as usize);
        } else if room.members.capacity() > 64 && room.members.len() * 4 < room.members.capacity() {
            let room_for = room.members.len() * 2;
            room.members.shrink_to(room_for);
        }
        if let Some(moved) = moved.and_then(|slot| self.memberships_mut(slot)) {
            for other in moved.places.iter_mut().filter(|other| other.room == place.room) {
                other.index = place.index;
            }
        }
    }

    fn memberships(&self, slot: u32) -> Option<&Memberships> {
        self.by_slot.get(slot as usize)?.as_deref()
    }

    fn memberships_mut(&mut self, slot: u32) -> Option<&mut Memberships> {
        self.by_slot.get_mut(slot as usize)?.as_deref_mut()
    }

    /// The channels of a connection, sorted.
    pub(super) fn names(&self, slot: u32) -> Vec<Channel> {
        let places = self.memberships(slot).map_or(&[][..], |memberships| &memberships.places);
        let mut names: Vec<Channel> =
            places.iter().map(|place| self.rooms[place.room as usize].name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// How many channels a connection is in.
    pub(super) fn count(&self, slot: u32) -> usize {
        self.memberships(slot).map_or(0, |memberships| memberships.places.len())
    }

    /// Whether a connection is in a channel.
    pub(super) fn is_in(&self, slot: u32, channel: &Channel) -> bool {
        self.from(slot, channel).is_some()
    }

    /// The number behind which a member got every kept message; `None` if it is no member.
    fn from(&self, slot: u32, channel: &Channel) -> Option<u64> {
        let room = *self.by_name.get(channel)?;
        let places = &self.memberships(slot)?.places;
        places.iter().find(|place| place.room == room).map(|place| place.from)
    }

    /// Whether a connection got the kept message with this number because of a channel that it is in
    /// or was in.
    pub(super) fn got(&self, slot: u32, channel: &Channel, number: u64) -> bool {
        let past = self.memberships(slot).map_or(&[][..], |memberships| &memberships.past);
        self.from(slot, channel).is_some_and(|from| from < number)
            || past
                .iter()
                .any(|past| past.channel == *channel && past.from < number && number <= past.to)
    }

    /// Whether a connection was in a channel before this change of members.
    pub(super) fn was_in_before(&self, slot: u32, channel: &Channel, change: u64) -> bool {
        let Some(&room) = self.by_name.get(channel) else { return false };
        let places = self.memberships(slot).map_or(&[][..], |memberships| &memberships.places);
        places.iter().any(|place| place.room == room && place.change < change)
    }

    /// The slots of a channel's members, in any order.
    pub(super) fn members(&self, channel: &Channel) -> &[u32] {
        let room = self.by_name.get(channel);
        room.map_or(&[], |room| &self.rooms[*room as usize].members)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn channel(n: u8) -> Channel {
        Channel::parse(&format!("c{n}")).unwrap()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Join(u32, u8),
        Leave(u32, u8),
        LeaveAll(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u32..6, 0u8..4).prop_map(|(slot, c)| Step::Join(slot, c)),
            2 => (0u32..6, 0u8..4).prop_map(|(slot, c)| Step::Leave(slot, c)),
            1 => (0u32..6).prop_map(Step::LeaveAll),
        ]
    }

    proptest! {
        /// The two indexes say the same as a plain map, whatever moves when somebody leaves.
        #[test]
        fn the_indexes_agree_with_a_plain_map(steps in prop::collection::vec(step(), 0..80)) {
            let mut rooms = Rooms::default();
            let mut plain: BTreeMap<u8, BTreeSet<u32>> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Join(slot, c) => {
                        let new = plain.entry(c).or_default().insert(slot);
                        prop_assert_eq!(rooms.join(slot, &channel(c), 0, 0), new);
                    }
                    Step::Leave(slot, c) => {
                        let was = plain.entry(c).or_default().remove(&slot);
                        prop_assert_eq!(rooms.leave(slot, &channel(c), None), was);
                    }
                    Step::LeaveAll(slot) => {
                        let was: Vec<Channel> = plain
                            .iter_mut()
                            .filter_map(|(c, members)| members.remove(&slot).then(|| channel(*c)))
                            .collect();
                        prop_assert_eq!(rooms.leave_all(slot), was);
                    }
                }
                for c in 0..4 {
                    let members: BTreeSet<u32> =
                        rooms.members(&channel(c)).iter().copied().collect();
                    prop_assert_eq!(&members, plain.entry(c).or_default());
                    prop_assert_eq!(members.len(), rooms.members(&channel(c)).len());
                }
                for slot in 0..6 {
                    let names: Vec<Channel> = plain
                        .iter()
                        .filter(|(_, members)| members.contains(&slot))
                        .map(|(c, _)| channel(*c))
                        .collect();
                    prop_assert_eq!(rooms.names(slot), names);
                }
            }
        }
    }

    #[test]
    fn what_a_connection_got_is_remembered_after_it_left() {
        let mut rooms = Rooms::default();
        let a = channel(1);
        rooms.join(3, &a, 10, 1);
        assert!(!rooms.got(3, &a, 10) && rooms.got(3, &a, 11));
        rooms.leave(3, &a, Some(12));
        rooms.join(3, &a, 20, 2);
        let got: Vec<u64> = (9..23).filter(|n| rooms.got(3, &a, *n)).collect();
        assert_eq!(got, [11, 12, 21, 22]);
    }
}
