//! `GET /v1/watch`: how everything stands, once a second, for all who look.
//!
//! One task takes the samples, however many watch. It is started by the first of them and ends with
//! the last, so that nothing is computed while nobody looks. Each watcher waits for the next sample
//! ([`tokio::sync::watch`]); one that reads slowly misses samples, and is told how many lines of the
//! log it has missed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::TaskTracker;

use crate::api::Watch;
use crate::control::backend::{Backend, Sampler};
use crate::control::events::{Source, event};

/// The time from one sample to the next.
const PERIOD: Duration = Duration::from_secs(1);

/// The name of the events.
const EVENT: &str = "watch";

/// All who watch one control port.
pub(crate) struct Watchers {
    samples: watch::Sender<Option<Arc<Sample>>>,
    /// Whether a task takes samples.
    at_work: Mutex<bool>,
}

/// What all watchers are sent.
struct Sample {
    watch: Watch,
    /// Where its lines of the log begin and end.
    log: (u64, u64),
    /// The event, for those who have seen all lines before.
    bytes: Bytes,
}

/// One watcher. Dropped, it watches no more.
pub(super) struct Watcher<B> {
    backend: Arc<B>,
    samples: watch::Receiver<Option<Arc<Sample>>>,
    /// Where the lines of the log end that it was sent; `None` before the first event.
    seen: Option<u64>,
}

impl Default for Watchers {
    fn default() -> Watchers {
        Watchers { samples: watch::Sender::new(None), at_work: Mutex::new(false) }
    }
}

impl Watchers {
    /// One more watches.
    pub(super) fn join<B: Backend>(
        self: &Arc<Self>,
        backend: &Arc<B>,
        tasks: &TaskTracker,
    ) -> Watcher<B> {
        let mut at_work = self.at_work.lock();
        let samples = self.samples.subscribe();
        if !*at_work {
            *at_work = true;
            tasks.spawn(take_samples(Arc::clone(self), Arc::clone(backend)));
        }
        drop(at_work);
        Watcher { backend: Arc::clone(backend), samples, seen: None }
    }

    /// Whether nobody is left; then the task is not at work any more.
    fn has_ended(&self) -> bool {
        let mut at_work = self.at_work.lock();
        if self.samples.receiver_count() > 0 {
            return false;
        }
        *at_work = false;
        // What is old is not shown to the next one.
        self.samples.send_replace(None);
        true
    }
}

/// Takes samples as long as somebody watches.
async fn take_samples<B: Backend>(watchers: Arc<Watchers>, backend: Arc<B>) {
    let mut sampler = backend.sampler();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = None;
    loop {
        tokio::select! {
            biased;
            () = watchers.samples.closed() => {
                if watchers.has_ended() {
                    return;
                }
            }
            _ = ticks.tick() => {
                let part = backend.log_after(seen);
                let start = seen.unwrap_or(part.end);
                seen = Some(part.end);
                let (log, log_skipped) = (part.lines, part.skipped);
                let watch = Watch { log, log_skipped, ..sampler.sample() };
                let bytes = event(EVENT, &watch);
                let sample = Sample { watch, log: (start, part.end), bytes };
                watchers.samples.send_replace(Some(Arc::new(sample)));
            }
        }
    }
}

impl<B: Backend> Source for Watcher<B> {
    async fn next(&mut self) -> Option<Bytes> {
        if self.seen.is_some() {
            self.samples.changed().await.ok()?;
        }
        let sample = self.samples.wait_for(Option::is_some).await.ok()?.clone()?;
        if self.seen == Some(sample.log.0) {
            self.seen = Some(sample.log.1);
            return Some(sample.bytes.clone());
        }
        let part = self.backend.log_after(self.seen);
        self.seen = Some(part.end);
        let (log, log_skipped) = (part.lines, part.skipped);
        Some(event(EVENT, &Watch { log, log_skipped, ..sample.watch.clone() }))
    }
}
