//! The kept messages of one gateway.

use std::collections::HashMap;
use std::sync::Arc;

use super::batch::{Batch, MOST_CHANNELS, Row, row_id};
use super::floors::Floors;
use super::limits::{Changes, Compiled, Limits};
use super::messages::{Kept, Messages, Target};
use super::ring::{Evicted, Ring};
use crate::listener::protocol::channel::Channel;
use crate::listener::recipients::{ChannelTarget, Recipients};
use crate::text::position::{Epoch, Position};
use crate::ws::payload::Payload;

/// The kept messages of one gateway.
///
/// Times are milliseconds of Unix time. The messages are in the order of their numbers, and the
/// oldest go first; so if the clock is set back, those that were kept before stay for longer.
pub struct Log {
    pub(super) epoch: Epoch,
    pub(super) newest: u64,
    pub(super) limits: Arc<Compiled>,
    pub(super) changes: Changes,
    pub(super) messages: Messages,
    /// The channels that hold a message.
    pub(super) rings: HashMap<Channel, Ring>,
    /// What goes to all.
    pub(super) all: Ring,
    pub(super) floors: Floors,
    /// The newest number that any channel has lost.
    pub(super) lost: u64,
    evictions: u64,
    /// What a file was not told yet; `None` without a file.
    pub(super) batch: Option<Batch>,
}

/// What a history holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Messages.
    pub messages: usize,
    /// Bytes, as [`Kept::cost`] counts them.
    pub bytes: usize,
    /// When the oldest message was kept.
    pub oldest_at: Option<u64>,
    /// Channels that hold a message.
    pub channels: usize,
    /// Messages that were evicted, ever.
    pub evictions: u64,
}

/// What a history holds of one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelStats {
    /// Messages.
    pub messages: usize,
    /// Bytes, as [`Kept::cost`] counts them. A message to several channels counts in each.
    pub bytes: usize,
    /// When the oldest message was kept.
    pub oldest_at: u64,
    /// The number of the newest message.
    pub newest: u64,
}

impl Log {
    /// An empty log.
    pub fn new(epoch: Epoch, limits: Limits) -> Log {
        let limits = Compiled::new(limits);
        Log {
            epoch,
            newest: 0,
            changes: Changes::default(),
            messages: Messages::new(),
            rings: HashMap::new(),
            all: Ring::new(limits.limits.broadcast, 0),
            floors: Floors::default(),
            lost: 0,
            evictions: 0,
            batch: None,
            limits,
        }
    }

    /// The position of the newest message. Its number is 0 if there was none yet.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, number: self.newest }
    }

    /// Keeps a message. Returns its position; `None` if the message is private, or if none of its
    /// channels is kept. Of more than 65,536 channels, the first ones count.
    pub fn keep(&mut self, to: &Recipients, payload: &Payload, now: u64) -> Option<Position> {
        self.keep_as(to, payload, now, self.newest + 1)
    }

    /// The same under a number that is larger than all before.
    pub fn keep_as(
        &mut self,
        to: &Recipients,
        payload: &Payload,
        now: u64,
        number: u64,
    ) -> Option<Position> {
        self.expire(now);
        let kept = match to {
            Recipients::All | Recipients::AllBut(_) => self.keep_for_all(payload, now, number),
            Recipients::Members(target) => self.keep_in_channels(target, payload, now, number),
            Recipients::Only(_) => false,
        };
        if !kept {
            return None;
        }
        self.newest = number;
        self.enforce_bytes();
        Some(self.position())
    }

    fn keep_for_all(&mut self, payload: &Payload, now: u64, number: u64) -> bool {
        if self.all.limit == 0 {
            return false;
        }
        let kept = Kept { number, at: now, payload: payload.clone(), to: Target::All };
        let at = self.messages.push(kept);
        self.all.push(&mut self.messages, at, 0);
        if let Some(batch) = &mut self.batch {
            let id = row_id(number, 0);
            batch.rows.push(Row { id, at: now, channel: None, payload: payload.clone() });
        }
        if let Some(evicted) = self.all.pop_excess(&mut self.messages) {
            self.note(None, &evicted);
        }
        true
    }

    fn keep_in_channels(
        &mut self,
        target: &Arc<ChannelTarget>,
        payload: &Payload,
        now: u64,
        number: u64,
    ) -> bool {
        let mut place = None;
        for (index, channel) in target.channels.iter().take(MOST_CHANNELS).enumerate() {
            // Channels that hold messages know their limits.
            if !self.rings.contains_key(channel) {
                let limit = self.limits.channel(channel);
                if limit == 0 {
                    continue;
                }
                let ring = Ring::new(limit, self.floors.take(channel));
                self.rings.insert(channel.clone(), ring);
            }
            let Some(ring) = self.rings.get_mut(channel) else { continue };
            let at = *place.get_or_insert_with(|| {
                let to = Target::Channels(without_except(target));
                self.messages.push(Kept { number, at: now, payload: payload.clone(), to })
            });
            // Below `MOST_CHANNELS`.
            let index = index as u32;
            ring.push(&mut self.messages, at, index);
            let evicted = ring.pop_excess(&mut self.messages);
            if let Some(batch) = &mut self.batch {
                let (id, channel) = (row_id(number, index), Some(channel.clone()));
                batch.rows.push(Row { id, at: now, channel, payload: payload.clone() });
            }
            if let Some(evicted) = evicted {
                self.note(Some(channel), &evicted);
            }
        }
        place.is_some()
    }

    /// Notes that a channel (`None`: all) has lost a message.
    pub(super) fn note(&mut self, channel: Option<&Channel>, evicted: &Evicted) {
        self.evictions += u64::from(evicted.gone);
        self.lost = self.lost.max(evicted.number);
        if let Some(batch) = &mut self.batch {
            batch.evict(channel, evicted.number, evicted.index);
        }
    }

    /// Evicts what is too old.
    pub(super) fn expire(&mut self, now: u64) {
        let age = self.limits.limits.age_ms;
        if age == 0 {
            return;
        }
        while let Some((_, oldest)) = self.messages.oldest()
            && oldest.at.saturating_add(age) <= now
        {
            self.evict_oldest();
        }
    }

    /// Evicts the oldest messages until the others fit.
    pub(super) fn enforce_bytes(&mut self) {
        let most = self.limits.limits.bytes.min(Messages::MOST_BYTES);
        while self.messages.bytes() > most {
            self.evict_oldest();
        }
    }

    /// Takes the oldest message out of all its channels, of which it is the oldest too.
    fn evict_oldest(&mut self) {
        let Some((at, kept)) = self.messages.oldest() else { return };
        let target = match &kept.to {
            Target::Channels(target) => target.clone(),
            Target::All => {
                if let Some(evicted) = self.all.pop(&mut self.messages) {
                    self.note(None, &evicted);
                }
                return;
            }
        };
        for channel in &target.channels {
            let Some(ring) = self.rings.get_mut(channel) else { continue };
            if ring.front() == Some(at)
                && let Some(evicted) = ring.pop(&mut self.messages)
            {
                let (empty, floor) = (ring.len() == 0, ring.floor);
                self.note(Some(channel), &evicted);
                if empty && let Some((channel, _)) = self.rings.remove_entry(channel) {
                    self.forget(channel, floor);
                }
            }
        }
    }

    /// Remembers what a channel has lost that holds nothing any more.
    pub(super) fn forget(&mut self, channel: Channel, floor: u64) {
        if let Some(dropped) = self.floors.insert(channel, floor)
            && let Some(batch) = &mut self.batch
        {
            batch.floors.insert(Some(dropped), None);
            batch.rest = Some(self.floors.rest());
        }
    }

    /// Forgets the channels that hold nothing.
    pub(super) fn drop_empty_rings(&mut self) {
        let empty: Vec<(Channel, Ring)> =
            self.rings.extract_if(|_, ring| ring.len() == 0).collect();
        for (channel, ring) in empty {
            self.forget(channel, ring.floor);
        }
    }

    /// Changes the limits. If other channels are kept from now on, the change takes a number, so
    /// that positions before it can be told from those behind it.
    pub fn set_limits(&mut self, limits: Limits) {
        if self.limits.limits == limits {
            return;
        }
        if !self.limits.keeps_the_same_as(&limits) {
            self.newest += 1;
            self.changes.push(self.newest, self.limits.clone());
        }
        self.limits = Compiled::new(limits);
        for (channel, mut ring) in std::mem::take(&mut self.rings) {
            ring.limit = self.limits.channel(&channel);
            while let Some(evicted) = ring.pop_excess(&mut self.messages) {
                self.note(Some(&channel), &evicted);
            }
            ring.shrink();
            self.rings.insert(channel, ring);
        }
        self.drop_empty_rings();
        self.all.limit = self.limits.limits.broadcast;
        while let Some(evicted) = self.all.pop_excess(&mut self.messages) {
            self.note(None, &evicted);
        }
        self.enforce_bytes();
        if let Some(batch) = &mut self.batch {
            batch.limits = Some(self.changes.save(&self.limits.limits));
        }
    }

    /// Forgets everything and begins a new epoch.
    pub fn new_epoch(&mut self) {
        self.begin_epoch(Position { epoch: Epoch::random(), number: 0 });
    }

    /// An empty log with the same limits, whose numbers go on behind this position.
    pub fn draft(&self, position: Position) -> Log {
        let mut new = Log::new(position.epoch, self.limits.limits.clone());
        new.newest = position.number;
        new.changes = Changes::begin_behind(position.number);
        new
    }

    /// What stands up to this number may be wrong: nobody can resume from there.
    pub(crate) fn is_known_behind(&mut self, number: u64) {
        self.changes = Changes::begin_behind(number);
    }

    /// Forgets everything; the numbers go on behind this position.
    pub fn begin_epoch(&mut self, position: Position) {
        let mut new = self.draft(position);
        new.evictions = self.evictions;
        if self.batch.is_some() {
            new.begin_batches();
        }
        *self = new;
    }

    /// Collects from here on what a file has to be told. The log is empty.
    pub(super) fn begin_batches(&mut self) {
        let limits = Some(self.changes.save(&self.limits.limits));
        self.batch = Some(Batch { limits, ..Batch::new(self.epoch, self.newest) });
    }

    /// What has changed since the last time, for a file; `None` if the log has no file. A log that
    /// has one collects it, and this must be called from time to time.
    pub fn take_batch(&mut self) -> Option<Batch> {
        let mut batch = self.batch.replace(Batch::new(self.epoch, self.newest));
        match &mut batch {
            Some(batch) => batch.newest = self.newest,
            None => self.batch = None,
        }
        batch
    }

    /// What is kept.
    pub fn stats(&mut self, now: u64) -> Stats {
        self.expire(now);
        Stats {
            messages: self.messages.len(),
            bytes: self.messages.bytes(),
            oldest_at: self.messages.oldest().map(|(_, kept)| kept.at),
            channels: self.rings.len(),
            evictions: self.evictions,
        }
    }

    /// What is kept of one channel; `None` if that is nothing.
    pub fn channel(&mut self, channel: &str, now: u64) -> Option<ChannelStats> {
        self.expire(now);
        let ring = self.rings.get(channel)?;
        let (oldest, newest) = (ring.front()?, ring.back()?);
        Some(ChannelStats {
            messages: ring.len(),
            bytes: ring.bytes,
            oldest_at: self.messages.get(oldest).at,
            newest: self.messages.get(newest).number,
        })
    }

    /// The channels that hold messages, in any order.
    pub fn channels_with_messages(&self) -> impl Iterator<Item = &Channel> {
        self.rings.keys()
    }
}

/// The target without those that are left out of the live delivery.
fn without_except(target: &Arc<ChannelTarget>) -> Arc<ChannelTarget> {
    if target.except.is_empty() {
        return target.clone();
    }
    Arc::new(ChannelTarget { channels: target.channels.clone(), except: Box::default() })
}
