//! A limit on how often something is said, so that a flood of one kind does not bury the rest.

use std::time::{Duration, Instant};

/// Lets so many through in each period and counts the others. Pure: the caller brings the time.
#[derive(Debug)]
pub struct Throttle {
    limit: u32,
    period: Duration,
    began: Option<Instant>,
    let_through: u32,
    held_back: u64,
}

impl Throttle {
    /// Lets the first `limit` of each `period` through.
    pub fn new(limit: u32, period: Duration) -> Throttle {
        Throttle { limit, period, began: None, let_through: 0, held_back: 0 }
    }

    /// Whether this one may be said. `Some` holds how many were held back since the last one that
    /// was said; `None` counts this one as held back.
    pub fn admit(&mut self, now: Instant) -> Option<u64> {
        self.renew(now);
        if self.let_through >= self.limit {
            self.held_back += 1;
            return None;
        }
        self.let_through += 1;
        Some(std::mem::take(&mut self.held_back))
    }

    /// How many were held back, once the period in which that happened is over: for saying so
    /// without waiting for another one.
    pub fn take_held_back(&mut self, now: Instant) -> Option<u64> {
        self.renew(now);
        if self.held_back == 0 || self.let_through > 0 {
            return None;
        }
        Some(std::mem::take(&mut self.held_back))
    }

    /// How many are held back now.
    pub fn held_back(&self) -> u64 {
        self.held_back
    }

    fn renew(&mut self, now: Instant) {
        if self.began.is_none_or(|began| now.duration_since(began) >= self.period) {
            self.began = Some(now);
            self.let_through = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_period_pass_and_the_others_are_counted() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut throttle = Throttle::new(2, Duration::from_secs(1));
        let admitted: Vec<_> = (0..5).map(|i| throttle.admit(at(i * 100))).collect();
        assert_eq!(admitted, [Some(0), Some(0), None, None, None]);
        assert_eq!(throttle.take_held_back(at(999)), None);
        assert_eq!(throttle.admit(at(1000)), Some(3));
        assert_eq!(throttle.admit(at(1001)), Some(0));
        assert_eq!(throttle.admit(at(1002)), None);
        assert_eq!(throttle.take_held_back(at(2000)), Some(1));
        assert_eq!(throttle.take_held_back(at(3000)), None);
    }
}
