//! Latencies: of all that was measured, and over time.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest latency that is told from longer ones: an hour, in nanoseconds.
const LONGEST: u64 = 3_600_000_000_000;

/// How many parts of a run the plots show, about.
const PARTS: u32 = 120;

/// The shortest part.
const SHORTEST: Duration = Duration::from_millis(50);

/// A part of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    /// Its middle, in seconds from the start.
    pub(super) at: f64,
    /// What came in it, a second.
    pub(super) rate: f64,
    /// Latencies in milliseconds: the median, and the 99th percentile; `None` where nothing came.
    pub(super) latency: Option<(f64, f64)>,
}

/// The latencies of a run.
#[derive(Debug)]
pub(super) struct Times {
    all: Histogram<u64>,
    part: Histogram<u64>,
    start: u64,
    part_end: u64,
    part_length: u64,
    parts: Vec<Part>,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("the bounds are those of a histogram")
}

impl Times {
    /// For a run that starts now, at this time of the clock, and is to take so long.
    pub(super) fn new(start: u64, duration: Duration) -> Times {
        let length = (duration / PARTS).max(SHORTEST);
        let part_length = nanoseconds(length);
        Times {
            all: histogram(),
            part: histogram(),
            start,
            part_end: start + part_length,
            part_length,
            parts: Vec::new(),
        }
    }

    /// Takes note of a latency, in nanoseconds.
    pub(super) fn record(&mut self, now: u64, latency: u64) {
        while now >= self.part_end {
            self.end_part(self.part_length);
        }
        self.part.saturating_record(latency);
    }

    fn end_part(&mut self, length: u64) {
        let seconds = length as f64 / 1e9;
        let came = self.part.len();
        let start = self.part_end - self.part_length - self.start;
        let quantile = |q| milliseconds(self.part.value_at_quantile(q));
        self.parts.push(Part {
            at: start as f64 / 1e9 + seconds / 2.0,
            rate: came as f64 / seconds,
            latency: (came > 0).then(|| (quantile(0.5), quantile(0.99))),
        });
        if came > 0 {
            // Both have the same bounds.
            let _ = self.all.add(&self.part);
            self.part.reset();
        }
        self.part_end += self.part_length;
    }

    /// Ends the last part, unless it is too short to say anything, and returns all.
    pub(super) fn finish(mut self, now: u64) -> (Histogram<u64>, Vec<Part>) {
        let length = now.saturating_sub(self.part_end - self.part_length).min(self.part_length);
        if length > self.part_length / 4 {
            self.end_part(length);
        } else {
            let _ = self.all.add(&self.part);
        }
        (self.all, self.parts)
    }
}

/// Nanoseconds as milliseconds.
pub(super) fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

/// Nanoseconds of a duration.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other_without_gaps() {
        let second = 1_000_000_000;
        let mut times = Times::new(5 * second, Duration::from_secs(12));
        times.record(5 * second, 1_000_000);
        times.record(5 * second + second / 20, 3_000_000);
        times.record(5 * second + second * 35 / 100, 2_000_000);
        let (all, parts) = times.finish(5 * second + second * 38 / 100);
        assert_eq!(all.len(), 3);
        assert_eq!(parts.len(), 4);
        assert!((parts[0].rate - 20.0).abs() < 1e-9 && parts[1].latency.is_none());
        assert!((parts[3].at - 0.34).abs() < 1e-9, "{parts:?}");
        let (low, high) = parts[0].latency.unwrap();
        assert!((low - 1.0).abs() < 0.01 && (high - 3.0).abs() < 0.01);
    }
}
