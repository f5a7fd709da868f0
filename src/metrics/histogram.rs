//! A histogram of times.

use std::time::Duration;

use crate::metrics::{Counter, Metric, Samples};

/// Upper bounds of the buckets that are exposed, in microseconds.
const EXPOSED: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 10_000_000];

/// Steps in each power of ten, as parts of a hundred: neighbours differ by some 12 %.
const STEPS: [u64; 20] = [
    100, 112, 125, 140, 160, 180, 200, 225, 250, 280, 315, 355, 400, 450, 500, 560, 630, 710, 800,
    900,
];

/// Powers of ten, from 10 us on.
const DECADES: usize = 7;

/// Upper bounds of the buckets that are counted, in microseconds: from 10 us to 90 s. Those that are
/// exposed are among them.
const BOUNDS: [u64; STEPS.len() * DECADES] = {
    let mut bounds = [0; STEPS.len() * DECADES];
    let (mut at, mut scale) = (0, 10);
    while at < bounds.len() {
        bounds[at] = STEPS[at % STEPS.len()] * scale / 100;
        at += 1;
        if at % STEPS.len() == 0 {
            scale *= 10;
        }
    }
    bounds
};

/// A histogram of times, in seconds. It counts in finer buckets than it exposes, so that
/// percentiles can be told from it.
#[derive(Debug)]
pub struct Histogram {
    /// The last one is for what is above all bounds. Their sum is the count: a scrape between two
    /// counters could find a bucket with more than all of them.
    buckets: [Counter; BOUNDS.len() + 1],
    sum_us: Counter,
}

impl Default for Histogram {
    fn default() -> Histogram {
        let buckets = std::array::from_fn(|_| Counter::default());
        Histogram { buckets, sum_us: Counter::default() }
    }
}

impl Histogram {
    /// Records one time.
    pub fn record(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.buckets[BOUNDS.partition_point(|bound| *bound < us)].inc();
        self.sum_us.add(us);
    }

    /// All that were recorded so far.
    pub(crate) fn times(&self) -> Times {
        Times(self.buckets.iter().map(Counter::get).collect())
    }
}

impl Metric for Histogram {
    const KIND: &'static str = "histogram";

    fn write(&self, samples: &mut Samples<'_>) {
        let (mut count, mut at) = (0, 0);
        for bound in EXPOSED {
            while at < BOUNDS.len() && BOUNDS[at] <= bound {
                count += self.buckets[at].get();
                at += 1;
            }
            samples.labelled("_bucket", "le", bound as f64 / 1e6, count);
        }
        count += self.buckets[at..].iter().map(Counter::get).sum::<u64>();
        samples.labelled("_bucket", "le", "+Inf", count);
        samples.value("_sum", self.sum_us.get() as f64 / 1e6);
        samples.value("_count", count);
    }
}

/// What a [`Histogram`] has recorded up to a moment: how many times fell into each bucket.
#[derive(Debug, Clone)]
pub(crate) struct Times(Box<[u64]>);

impl Times {
    /// Those that came since `old`.
    pub(crate) fn since(&self, old: &Times) -> Times {
        Times(self.0.iter().zip(&old.0).map(|(new, old)| new.saturating_sub(*old)).collect())
    }

    /// How many they are.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The time that so many in a hundred do not exceed, in milliseconds, some 6 % more or less; `None` if there
    /// are none.
    pub(crate) fn percentile(&self, percent: f64) -> Option<f64> {
        let count = self.count();
        let rank = ((count as f64 * percent / 100.0).ceil() as u64).clamp(1, count.max(1));
        let mut below = 0;
        let bucket = self.0.iter().position(|n| {
            below += n;
            below >= rank
        })?;
        let n = self.0[bucket];
        // Of what is above all bounds nothing more is known.
        let upper = *BOUNDS.get(bucket).unwrap_or(&BOUNDS[BOUNDS.len() - 1]) as f64;
        let lower = if bucket == 0 { 0 } else { BOUNDS[bucket - 1] } as f64;
        let part = (n - (below - rank)) as f64 / n as f64;
        Some((lower + (upper - lower).max(0.0) * part) / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buckets_that_are_exposed_are_among_those_that_are_counted() {
        assert!(BOUNDS.is_sorted_by(|a, b| a < b), "{BOUNDS:?}");
        for bound in EXPOSED {
            assert!(BOUNDS.binary_search(&bound).is_ok(), "{bound}");
        }
        let close = BOUNDS.windows(2).all(|pair| pair[1] as f64 <= pair[0] as f64 * 1.18);
        assert!(close, "{BOUNDS:?}");
    }

    #[test]
    fn percentiles_are_near() {
        let times = Histogram::default();
        let none = times.times();
        assert_eq!((none.percentile(50.0), none.count()), (None, 0));
        for us in 1..=100_000u64 {
            times.record(Duration::from_micros(us));
        }
        let all = times.times();
        for (percent, ms) in [(50.0, 50.0), (99.0, 99.0), (0.1, 0.1), (100.0, 100.0)] {
            let found = all.percentile(percent).unwrap();
            assert!((found - ms).abs() <= ms * 0.07, "{percent}: {found}");
        }
        times.record(Duration::from_secs(1000));
        let last = times.times().since(&all);
        assert_eq!((last.count(), last.percentile(50.0)), (1, Some(90_000.0)));
        times.record(Duration::ZERO);
        let both = times.times().since(&all);
        assert!(both.count() == 2 && both.percentile(50.0).unwrap() <= 0.01);
    }
}
