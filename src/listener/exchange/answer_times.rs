//! The times of the answers, from which the time-outs of events are counted.
//!
//! The time-out of an event begins when its line is fully written, and begins anew with each answer
//! to an event that was written before it. So a slow listener that keeps answering never times out,
//! but an event that it skips does.

use std::time::Instant;

/// Knows for each event when the last answer came to an event written before it.
///
/// An entry is the position of an answered event in the order of writing, and the time of its
/// answer. Both rise from entry to entry: a later answer to an earlier event replaces every entry at
/// its position and behind it.
#[derive(Debug, Default)]
pub(super) struct AnswerTimes {
    entries: Vec<(u64, Instant)>,
}

impl AnswerTimes {
    /// Notes an answer to the event at `position`.
    pub(super) fn answered(&mut self, position: u64, at: Instant) {
        while self.entries.last().is_some_and(|(p, _)| *p >= position) {
            self.entries.pop();
        }
        self.entries.push((position, at));
    }

    /// The time of the last answer to an event written before `position`.
    pub(super) fn before(&self, position: u64) -> Option<Instant> {
        let end = self.entries.partition_point(|(p, _)| *p < position);
        end.checked_sub(1).map(|i| self.entries[i].1)
    }

    /// Drops the entries that [`AnswerTimes::before`] cannot need for positions from `oldest` on.
    pub(super) fn trim(&mut self, oldest: u64) {
        let end = self.entries.partition_point(|(p, _)| *p < oldest);
        if end > 1 {
            self.entries.drain(..end - 1);
        }
    }

    /// Drops the entries that [`AnswerTimes::before`] needs neither for these positions (sorted) nor
    /// for positions to come.
    pub(super) fn thin(&mut self, positions: &[u64]) {
        let mut kept: Vec<(u64, Instant)> = Vec::with_capacity(positions.len() + 1);
        for position in positions.iter().copied().chain([u64::MAX]) {
            let end = self.entries.partition_point(|(p, _)| *p < position);
            if let Some(entry) = end.checked_sub(1).map(|i| self.entries[i])
                && kept.last() != Some(&entry)
            {
                kept.push(entry);
            }
        }
        self.entries = kept;
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Drops all entries, for a new incarnation.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Compares it with the definition: the latest of all answers to earlier events.
        #[test]
        fn it_is_the_last_answer_to_an_earlier_event(
            answers in proptest::collection::vec(0u64..40, 0..60),
            ask in 0u64..41,
        ) {
            let start = Instant::now();
            let mut times = AnswerTimes::default();
            let mut model = Vec::new();
            for (i, position) in answers.into_iter().enumerate() {
                let at = start + Duration::from_millis(i as u64);
                times.answered(position, at);
                model.push((position, at));
            }
            let expected = model.iter().filter(|(p, _)| *p < ask).map(|(_, at)| *at).max();
            prop_assert_eq!(times.before(ask), expected);
            times.trim(ask);
            prop_assert_eq!(times.before(ask), expected);
            let last = times.before(u64::MAX);
            times.thin(&[ask]);
            prop_assert_eq!(times.before(ask), expected);
            prop_assert_eq!(times.before(u64::MAX), last);
            prop_assert!(times.len() <= 2);
        }
    }
}
