//! What may happen very often, and is said seldom.

use std::time::Duration;

use tokio::time::Instant;

/// How often it is said at most.
const PAUSE: Duration = Duration::from_secs(1);

/// Counts what happens between two times that it is said.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    next: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// It has happened. Returns how often since it was said last, if it is to be said now.
    pub(super) fn happened(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        if self.next.is_some_and(|next| now < next) {
            return None;
        }
        self.next = Some(now + PAUSE);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_a_second_with_a_count() {
        let (mut seldom, start) = (Seldom::default(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!(seldom.happened(after(0)), Some(1));
        for ms in [0, 1, 999] {
            assert_eq!(seldom.happened(after(ms)), None);
        }
        assert_eq!(seldom.happened(after(1_000)), Some(4));
        assert_eq!(seldom.happened(after(9_000)), Some(1));
    }
}
