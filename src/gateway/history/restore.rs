//! A log that is rebuilt from what a file says.

use std::collections::HashMap;
use std::sync::Arc;

use super::batch::{Batch, row_id};
use super::limits::{Changes, Limits, SavedLimits};
use super::log::Log;
use super::messages::{Kept, Target};
use super::ring::Ring;
use crate::listener::protocol::channel::Channel;
use crate::listener::recipients::ChannelTarget;
use crate::text::position::Epoch;
use crate::ws::payload::Payload;

/// What a file says besides the messages.
pub(super) struct Saved {
    pub(super) epoch: Epoch,
    pub(super) newest: u64,
    pub(super) limits: SavedLimits,
    /// The newest number that each of these channels (`None`: all) has lost.
    pub(super) floors: HashMap<Option<Channel>, u64>,
    /// The same for all other channels.
    pub(super) rest: u64,
}

/// A log that is being rebuilt. It collects what the file has to be told.
pub(super) struct Restoring {
    log: Log,
    floors: HashMap<Option<Channel>, u64>,
}

impl Restoring {
    pub(super) fn new(saved: Saved) -> Restoring {
        let Saved { epoch, newest, limits, mut floors, rest } = saved;
        let (limits, changes) = Changes::restore(limits);
        let mut log = Log::new(epoch, limits);
        log.newest = newest;
        log.changes = changes;
        log.lost = floors.values().copied().max().unwrap_or(0).max(rest);
        log.all.floor = floors.remove(&None).unwrap_or(0);
        log.floors.set_rest(rest);
        log.batch = Some(Batch::new(epoch, newest));
        Restoring { log, floors }
    }

    /// Adds a message, as the rows that it has: which of its channels each is for, and that channel
    /// (`None`: all). Messages come in the order of their numbers.
    pub(super) fn message(
        &mut self,
        (number, at): (u64, u64),
        payload: Payload,
        rows: &[(u32, Option<Channel>)],
    ) {
        let log = &mut self.log;
        log.newest = log.newest.max(number);
        let names: Box<[Channel]> = rows.iter().filter_map(|(_, name)| name.clone()).collect();
        let to = match names.is_empty() {
            true => Target::All,
            false => {
                let target = ChannelTarget { channels: names, except: Box::default() };
                Target::Channels(Arc::new(target))
            }
        };
        let place = log.messages.push(Kept { number, at, payload, to });
        // It must not go before all its rows are there.
        log.messages.hold(place);
        for (index, channel) in rows {
            let ring = match channel {
                None => Some(&mut log.all),
                Some(name) if log.rings.contains_key(name) => log.rings.get_mut(name),
                Some(name) => {
                    let limit = log.limits.channel(name);
                    let lost = self.floors.remove(channel);
                    // It was created when `rest` was lower, if that is not below its first message.
                    let floor = lost.unwrap_or_else(|| log.floors.rest().min(number - 1));
                    Some(log.rings.entry(name.clone()).or_insert(Ring::new(limit, floor)))
                }
            };
            let Some(ring) = ring else { continue };
            if number <= ring.floor {
                // It was evicted, and its row was not deleted.
                if let Some(batch) = &mut log.batch {
                    batch.evicted.push(row_id(number, *index));
                }
                continue;
            }
            ring.push(&mut log.messages, place, *index);
            if let Some(evicted) = ring.pop_excess(&mut log.messages) {
                log.note(channel.as_ref(), &evicted);
            }
        }
        log.messages.release(place);
    }

    /// The log, with the limits that hold now.
    pub(super) fn finish(self, limits: Limits, now: u64) -> Log {
        let Restoring { mut log, floors } = self;
        for (channel, floor) in floors {
            if let Some(channel) = channel {
                log.forget(channel, floor);
            }
        }
        log.drop_empty_rings();
        log.set_limits(limits);
        log.enforce_bytes();
        log.expire(now);
        log
    }
}
