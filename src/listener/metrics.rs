//! What is counted about one gateway's listener, and the counters themselves.
//!
//! Every counter is an atomic of its own, written with relaxed ordering by any thread: a reader sees
//! single values that are each right, not one consistent set.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// A counter or gauge.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Takes `n` away.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A counter with one label.
#[derive(Debug, Default)]
pub struct Labelled(Mutex<BTreeMap<String, u64>>);

impl Labelled {
    /// Adds `n` under `label`. The labels come from small fixed sets (and close codes), never from
    /// free text.
    pub fn add(&self, label: &str, n: u64) {
        let mut map = self.0.lock();
        match map.get_mut(label) {
            Some(count) => *count += n,
            None => {
                map.insert(label.to_owned(), n);
            }
        }
    }

    /// Every label with its count.
    pub fn each(&self, mut f: impl FnMut(&str, u64)) {
        for (label, count) in self.0.lock().iter() {
            f(label, *count);
        }
    }
}

/// Upper bounds of the latency histogram's buckets, in microseconds.
const BUCKETS: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 10_000_000];

/// A histogram of times.
#[derive(Debug, Default)]
pub struct Latency {
    /// The last one is for what is above all bounds. Their sum is the count: a scrape between two
    /// counters could find a bucket with more than all of them.
    buckets: [Count; BUCKETS.len() + 1],
    sum_us: Count,
}

impl Latency {
    /// Records one answer.
    pub fn record(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|bound| us <= *bound).unwrap_or(BUCKETS.len());
        self.buckets[bucket].inc();
        self.sum_us.add(us);
    }

    /// Each bucket's upper bound in seconds (`None`: no bound) and its own count.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<f64>, u64)> {
        let bounds = BUCKETS.iter().map(|bound| Some(*bound as f64 / 1e6)).chain([None]);
        bounds.zip(self.buckets.iter().map(Count::get))
    }

    /// The sum of all times, in seconds.
    pub fn sum(&self) -> f64 {
        self.sum_us.get() as f64 / 1e6
    }
}

/// The counters of one gateway's listener and of the conversation with it.
#[derive(Debug, Default)]
pub struct ListenerMetrics {
    /// Recipients that were named and are closed or unknown.
    pub gone: Count,
    /// Messages that the gateway dropped, by reason.
    pub messages_dropped: Labelled,
    /// A gauge: events that were sent and are not answered.
    pub unanswered: Count,
    /// The time from an event's last byte in the listener's stdin to its answer.
    pub latency: Latency,
    /// Restarts of the listener.
    pub restarts: Count,
    /// Answers that nothing waited for.
    pub late: Count,
    /// Faults of the listener, by kind.
    pub faults: Labelled,
    /// Lines that the listener wrote to stderr, those not shown in the log too.
    pub stderr_lines: Count,
    /// Result lines that found their queue full.
    pub results_dropped: Count,
}
