//! Which of a sender's messages came: exact, whatever was lost, came twice or in another order.

use std::collections::BTreeMap;

/// The numbers that came to one receiver.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// All below it came, but for those that are missing.
    next: u64,
    /// The gaps: where each begins, and where it ends (that one is not part of it).
    missing: BTreeMap<u64, u64>,
    came: u64,
}

impl Numbers {
    /// Takes note of a number; false if it came before.
    pub(super) fn take(&mut self, number: u64) -> bool {
        if number >= self.next {
            if number > self.next {
                self.missing.insert(self.next, number);
            }
            self.next = number + 1;
            self.came += 1;
            return true;
        }
        let gap = self.missing.range(..=number).next_back().map(|(start, end)| (*start, *end));
        let Some((start, end)) = gap.filter(|(_, end)| number < *end) else { return false };
        self.missing.remove(&start);
        if start < number {
            self.missing.insert(start, number);
        }
        if number + 1 < end {
            self.missing.insert(number + 1, end);
        }
        self.came += 1;
        true
    }

    /// Whether this number came.
    pub(super) fn has(&self, number: u64) -> bool {
        let gap = self.missing.range(..=number).next_back();
        number < self.next && gap.is_none_or(|(_, end)| number >= *end)
    }

    /// How many came, each counted once.
    pub(super) fn came(&self) -> u64 {
        self.came
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_counts_as_a_set_does() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let (mut numbers, mut set) = (Numbers::default(), BTreeSet::new());
            for _ in 0..random.u64(0..60) {
                let number = random.u64(0..40);
                assert_eq!(numbers.take(number), set.insert(number), "{number} {numbers:?}");
                assert_eq!(numbers.came(), set.len() as u64);
                for number in 0..42 {
                    assert_eq!(numbers.has(number), set.contains(&number));
                }
            }
        }
    }

    #[test]
    fn what_comes_in_order_takes_no_memory() {
        let mut numbers = Numbers::default();
        assert!((0..1000).all(|number| numbers.take(number)));
        assert!(numbers.missing.is_empty());
        assert!(!numbers.take(5));
    }
}
