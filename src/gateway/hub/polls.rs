//! The polls of one gateway that wait on one shard, by channel; and which of them are to look again.
//!
//! A poll looks at the history up to the newest message that its shard was handed, and waits if
//! nothing is there for it. Every kept message that the shard is handed after that is noted with its
//! recipients ([`Wakes::note`]), in the same thread: so none is missed.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::gateway::hub::rooms::Rooms;
use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;
use crate::listener::recipients::Recipients;

/// Whom kept messages went to since polls last looked.
#[derive(Default)]
pub(crate) struct Wakes {
    /// Whether some poll waits; else nothing is noted.
    waits: bool,
    all: bool,
    channels: HashSet<Channel>,
}

impl Wakes {
    /// A kept message was handed to this shard.
    pub(super) fn note(&mut self, to: &Recipients) {
        if !self.waits || self.all {
            return;
        }
        match to {
            Recipients::All | Recipients::AllBut(_) => self.note_all(),
            Recipients::Members(target) => {
                for channel in &target.channels {
                    if !self.channels.contains(channel) {
                        self.channels.insert(channel.clone());
                    }
                }
            }
            Recipients::Only(_) => {}
        }
    }

    /// All polls have to look again.
    pub(super) fn note_all(&mut self) {
        self.all = self.waits;
        self.channels.clear();
    }
}

/// A poll that waits.
struct Waiting {
    conn: ConnId,
    /// Whether it is among those that are to look.
    woken: bool,
}

/// The polls that wait.
#[derive(Default)]
pub(crate) struct Polls {
    waiting: HashMap<u32, Waiting>,
    by_channel: Rooms,
    woken: VecDeque<u32>,
}

impl Polls {
    /// A poll waits from now on.
    pub(super) fn add(&mut self, slot: u32, conn: ConnId, channels: &[Channel], wakes: &mut Wakes) {
        wakes.waits = true;
        self.waiting.insert(slot, Waiting { conn, woken: false });
        for channel in channels {
            self.by_channel.join(slot, channel, 0, 0);
        }
    }

    /// The connection in a slot does not wait any more.
    pub(super) fn remove(&mut self, slot: u32, wakes: &mut Wakes) {
        if self.waiting.remove(&slot).is_none() {
            return;
        }
        self.by_channel.leave_all(slot);
        if self.waiting.is_empty() {
            // A crowd that left gives its memory back.
            *self = Polls::default();
            *wakes = Wakes::default();
        }
    }

    /// Finds out who is to look again.
    pub(super) fn wake(&mut self, wakes: &mut Wakes) {
        if std::mem::take(&mut wakes.all) {
            for (slot, waiting) in &mut self.waiting {
                if !std::mem::replace(&mut waiting.woken, true) {
                    self.woken.push_back(*slot);
                }
            }
        }
        for channel in wakes.channels.drain() {
            for slot in self.by_channel.members(&channel) {
                if let Some(waiting) = self.waiting.get_mut(slot)
                    && !std::mem::replace(&mut waiting.woken, true)
                {
                    self.woken.push_back(*slot);
                }
            }
        }
    }

    /// The next one that is to look.
    pub(super) fn next(&mut self) -> Option<(u32, ConnId)> {
        while let Some(slot) = self.woken.pop_front() {
            // One that has gone may have left its slot to another.
            if let Some(waiting) = self.waiting.get_mut(&slot)
                && std::mem::take(&mut waiting.woken)
            {
                return Some((slot, waiting.conn));
            }
        }
        None
    }

    /// Whether some are to look.
    pub(super) fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::listener::recipients::ChannelTarget;

    fn channel(n: u8) -> Channel {
        Channel::parse(&format!("c{n}")).unwrap()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Wait(u32, BTreeSet<u8>),
        Gone(u32),
        Message(Option<BTreeSet<u8>>),
        Look(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let channels = || prop::collection::btree_set(0u8..4, 0..3);
        prop_oneof![
            4 => (0u32..6, channels()).prop_map(|(slot, channels)| Step::Wait(slot, channels)),
            2 => (0u32..6).prop_map(Step::Gone),
            3 => prop::option::weighted(0.8, channels()).prop_map(Step::Message),
            2 => (0usize..4).prop_map(Step::Look),
        ]
    }

    /// What a poll of the model waits for, and whether there was something since it looked.
    struct Poll {
        conn: u64,
        channels: BTreeSet<u8>,
        due: bool,
    }

    proptest! {
        /// Exactly those look for whom there was a message since they looked last, each once.
        #[test]
        fn nobody_is_forgotten_and_nobody_looks_in_vain(
            steps in prop::collection::vec(step(), 0..80),
        ) {
            let (mut polls, mut wakes) = (Polls::default(), Wakes::default());
            let mut model: BTreeMap<u32, Poll> = BTreeMap::new();
            let mut next_conn = 0;
            for step in steps.into_iter().chain([Step::Look(usize::MAX)]) {
                match step {
                    Step::Wait(slot, channels) => {
                        if model.contains_key(&slot) {
                            continue;
                        }
                        // What was noted before it came is not for it.
                        polls.wake(&mut wakes);
                        next_conn += 1;
                        let names: Vec<Channel> = channels.iter().map(|n| channel(*n)).collect();
                        polls.add(slot, ConnId(next_conn), &names, &mut wakes);
                        model.insert(slot, Poll { conn: next_conn, channels, due: false });
                    }
                    Step::Gone(slot) => {
                        polls.remove(slot, &mut wakes);
                        model.remove(&slot);
                    }
                    Step::Message(to) => {
                        wakes.note(&match &to {
                            None => Recipients::All,
                            Some(to) => ChannelTarget::recipients(
                                to.iter().map(|n| channel(*n)).collect(),
                                Vec::new(),
                            ),
                        });
                        wakes.note(&Recipients::Only(Arc::from([])));
                        for poll in model.values_mut() {
                            poll.due |= to.as_ref().is_none_or(|to| !to.is_disjoint(&poll.channels));
                        }
                    }
                    Step::Look(most) => {
                        polls.wake(&mut wakes);
                        for _ in 0..most {
                            let Some((slot, conn)) = polls.next() else { break };
                            let poll = model.get_mut(&slot).expect("one that waits");
                            prop_assert_eq!(conn.0, poll.conn);
                            prop_assert!(std::mem::take(&mut poll.due), "in vain");
                        }
                    }
                }
            }
            prop_assert!(model.values().all(|poll| !poll.due), "somebody was forgotten");
            prop_assert!(!polls.has_woken());
        }
    }
}
