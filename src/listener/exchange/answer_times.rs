//! The clock of an event: it runs from the later of "its line was fully written" and "the last
//! answer to any event written before it". So a slow listener that keeps answering never times
//! out, and a forgotten event still does.

use std::time::Instant;

/// The answers that still matter: of all answers to events before event `e`, the last one's time.
///
/// Kept with rising position and rising time: an answer to an earlier event at a later time makes
/// every entry behind it meaningless.
#[derive(Debug, Default)]
pub struct AnswerTimes {
    entries: Vec<(u64, Instant)>,
}

impl AnswerTimes {
    /// Notes an answer to the event at `position` in the order of writing.
    pub fn answered(&mut self, position: u64, at: Instant) {
        while self.entries.last().is_some_and(|(p, _)| *p >= position) {
            self.entries.pop();
        }
        self.entries.push((position, at));
    }

    /// When the last answer came to an event written before `position`.
    pub fn before(&self, position: u64) -> Option<Instant> {
        let end = self.entries.partition_point(|(p, _)| *p < position);
        end.checked_sub(1).map(|i| self.entries[i].1)
    }

    /// Forgets what no event from `oldest` on can ask for.
    pub fn trim(&mut self, oldest: u64) {
        let end = self.entries.partition_point(|(p, _)| *p < oldest);
        if end > 1 {
            self.entries.drain(..end - 1);
        }
    }

    /// Forgets what neither the events at these positions (sorted) nor later ones can ask for.
    pub fn thin(&mut self, positions: &[u64]) {
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

    /// Entries held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets all: another incarnation.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the definition: the maximum over all answers to earlier events.
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
