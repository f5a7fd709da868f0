//! The live tail of a gateway: its events and the listener's answers, for those who watch.
//!
//! A [`Tap`] is one gateway's, over restarts. While nobody watches, the exchange looks at one flag for
//! an event and does nothing else. The entries of a second beyond [`PER_SECOND`] are counted and not
//! made, and so is what a reader does not take in time.
//!
//! The shard of the gateway's primary writes, the control runtime reads. The lock is held for one
//! entry.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Interval, MissedTickBehavior};

use crate::api::{Tail, TailEntry};
use crate::listener::protocol::connid::ConnId;
use crate::text::excerpt::excerpt;
use crate::text::throttle::Throttle;

/// Entries that are shown in a second.
const PER_SECOND: u32 = 50;
/// Bytes of a line that are shown.
const LINE: usize = 2048;
/// Entries that wait for one reader.
const WAITING: usize = 128;
/// Events that nothing waits for any more and whose answers are still paired with them.
const SETTLED: usize = 256;
/// How often a reader is told how many entries were skipped.
const TELL_SKIPPED: Duration = Duration::from_secs(1);

/// What became of an event, or of a line of the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was answered.
    Answered,
    /// It needs no answer.
    Told,
    /// The line was a command.
    Command,
    /// No answer came in time.
    Timeout,
    /// The answer, or the line, is at fault.
    Fault,
    /// The listener ended, or the gateway stopped, before an answer came.
    Lost,
    /// The answer came when nothing waited for it any more.
    Late,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::Told => "told",
            Outcome::Command => "command",
            Outcome::Timeout => "timeout",
            Outcome::Fault => "fault",
            Outcome::Lost => "lost",
            Outcome::Late => "late",
        }
    }
}

/// An event that was made into a line.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// Its id; `None` for a plain line and for a result.
    pub(crate) id: Option<u64>,
    /// Its name.
    pub(crate) name: &'static str,
    /// The connection that it is about.
    pub(crate) conn: Option<ConnId>,
    /// Its line.
    pub(crate) line: Bytes,
    /// When the pipe took it; `None` if it did not.
    pub(crate) written: Option<Instant>,
}

/// Where the events of one gateway can be watched.
#[derive(Debug, Default)]
pub struct Tap {
    on: AtomicBool,
    open: Mutex<Option<Open>>,
}

/// What exists while somebody watches.
#[derive(Debug)]
struct Open {
    entries: broadcast::Sender<Arc<TailEntry>>,
    /// Entries that were not made so far.
    skipped: Arc<AtomicU64>,
    throttle: Throttle,
    /// One moment on both clocks.
    moment: (Instant, SystemTime),
    /// The newest events that were settled without an answer, and as what.
    settled: VecDeque<(Event, Outcome)>,
}

impl Tap {
    /// Whether somebody watches.
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Watches from now on.
    pub(crate) fn subscribe(self: &Arc<Tap>) -> Subscription {
        let mut guard = self.open.lock();
        let moment = (Instant::now(), SystemTime::now());
        let open = guard.get_or_insert_with(|| Open {
            entries: broadcast::Sender::new(WAITING),
            skipped: Arc::default(),
            throttle: Throttle::new(PER_SECOND, Duration::from_secs(1)),
            moment,
            settled: VecDeque::new(),
        });
        // The clocks drift apart.
        open.moment = moment;
        let mut ticks = tokio::time::interval(TELL_SKIPPED);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        let subscription = Subscription {
            entries: Some(open.entries.subscribe()),
            told: open.skipped.load(Ordering::Relaxed),
            skipped: Arc::clone(&open.skipped),
            missed: 0,
            ticks,
            tap: Arc::downgrade(self),
        };
        self.on.store(true, Ordering::Relaxed);
        subscription
    }

    /// Somebody does not watch any more.
    fn leave(&self) {
        let mut guard = self.open.lock();
        if guard.as_ref().is_some_and(|open| open.entries.receiver_count() == 0) {
            *guard = None;
            self.on.store(false, Ordering::Relaxed);
        }
    }

    /// An event was made that needs no answer.
    pub(crate) fn told(
        &self,
        id: Option<u64>,
        name: &'static str,
        conn: Option<ConnId>,
        line: &[u8],
        now: Instant,
    ) {
        if self.is_on() {
            let line = Bytes::copy_from_slice(shown(line));
            let event = Event { id, name, conn, line, written: Some(now) };
            self.unanswered(event, Outcome::Told, now);
        }
    }

    /// Nobody waits for the answer to an event any more.
    pub(crate) fn unanswered(&self, event: Event, outcome: Outcome, now: Instant) {
        let mut guard = self.open.lock();
        let Some(open) = guard.as_mut() else { return };
        open.show(&event, None, outcome, None, now);
        if event.id.is_some() {
            if open.settled.len() >= SETTLED {
                open.settled.pop_front();
            }
            open.settled.push_back((event.shortened(), outcome));
        }
    }

    /// An event was answered; `fault` is what is wrong with the answer.
    pub(crate) fn answered(
        &self,
        event: &Event,
        answer: &[u8],
        fault: Option<String>,
        now: Instant,
    ) {
        let outcome = if fault.is_some() { Outcome::Fault } else { Outcome::Answered };
        if let Some(open) = self.open.lock().as_mut() {
            open.show(event, Some(answer), outcome, fault, now);
        }
    }

    /// An answer came that nothing waited for.
    pub(crate) fn answered_late(
        &self,
        id: u64,
        answer: &[u8],
        fault: Option<String>,
        now: Instant,
    ) {
        if !self.is_on() {
            return;
        }
        let mut guard = self.open.lock();
        let Some(open) = guard.as_mut() else { return };
        let at = open.settled.iter().rposition(|(event, _)| event.id == Some(id));
        let (event, outcome) = match at.and_then(|at| open.settled.remove(at)) {
            Some((event, Outcome::Told)) => (event, Outcome::Answered),
            Some((event, _)) => (event, Outcome::Late),
            None => (Event { id: Some(id), ..Event::unknown("answer") }, Outcome::Late),
        };
        let outcome = if fault.is_some() { Outcome::Fault } else { outcome };
        open.show(&event, Some(answer), outcome, fault, now);
    }

    /// The listener wrote a line that answers no event; `name` says what it was meant for.
    pub(crate) fn line(
        &self,
        name: &'static str,
        line: &[u8],
        fault: Option<String>,
        now: Instant,
    ) {
        if self.is_on()
            && let Some(open) = self.open.lock().as_mut()
        {
            let outcome = if fault.is_some() { Outcome::Fault } else { Outcome::Command };
            open.show(&Event::unknown(name), Some(line), outcome, fault, now);
        }
    }
}

impl Event {
    fn unknown(name: &'static str) -> Event {
        Event { id: None, name, conn: None, line: Bytes::new(), written: None }
    }

    /// Without what is not shown of a long line.
    fn shortened(mut self) -> Event {
        if self.line.len() > shown(&self.line).len() {
            self.line = Bytes::copy_from_slice(shown(&self.line));
        }
        self
    }
}

impl Open {
    /// Makes an entry, unless there were too many of them.
    fn show(
        &mut self,
        event: &Event,
        answer: Option<&[u8]>,
        outcome: Outcome,
        why: Option<String>,
        now: Instant,
    ) {
        if self.throttle.admit(now).is_none() {
            self.skipped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let at = event.written.unwrap_or(now);
        let since = at.saturating_duration_since(self.moment.0);
        let before = self.moment.0.saturating_duration_since(at);
        let at = self.moment.1 + since - before;
        let took = event.written.filter(|_| answer.is_some());
        let entry = TailEntry {
            at: humantime::format_rfc3339_millis(at).to_string(),
            id: event.id,
            event: event.name.to_owned(),
            conn: event.conn.map(|conn| conn.to_string()),
            line: cut(&event.line),
            answer: answer.map(cut),
            ms: took.map(|written| now.duration_since(written).as_secs_f64() * 1e3),
            outcome: outcome.name().to_owned(),
            why,
        };
        // Readers may have gone a moment ago.
        let _ = self.entries.send(Arc::new(entry));
    }
}

/// The beginning of a line: a few bytes more than are shown, so that the excerpt is marked as cut.
fn shown(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    &line[..line.len().min(LINE + 4)]
}

/// What is shown of a line.
fn cut(line: &[u8]) -> String {
    excerpt(&String::from_utf8_lossy(shown(line)), LINE).into_owned()
}

/// What one reader gets of a [`Tap`]. Dropping it ends that.
#[derive(Debug)]
pub struct Subscription {
    /// `None` only while it is dropped.
    entries: Option<broadcast::Receiver<Arc<TailEntry>>>,
    skipped: Arc<AtomicU64>,
    /// How many of `skipped` the reader was told of.
    told: u64,
    /// Entries that it did not take in time.
    missed: u64,
    ticks: Interval,
    tap: Weak<Tap>,
}

impl Subscription {
    /// What comes next; `None` once the gateway is gone. It may be dropped while it waits: nothing is
    /// lost by that.
    pub(crate) async fn next(&mut self) -> Option<Tail> {
        let entries = self.entries.as_mut()?;
        loop {
            tokio::select! {
                biased;
                _ = self.ticks.tick() => {
                    let all = self.skipped.load(Ordering::Relaxed);
                    let skipped = all - self.told + self.missed;
                    (self.told, self.missed) = (all, 0);
                    if skipped > 0 {
                        return Some(Tail::Skipped { skipped });
                    }
                }
                entry = entries.recv() => match entry {
                    Ok(entry) => return Some(Tail::Entry((*entry).clone())),
                    Err(RecvError::Lagged(missed)) => self.missed += missed,
                    Err(RecvError::Closed) => return None,
                },
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // Before the count of readers is looked at.
        self.entries = None;
        if let Some(tap) = self.tap.upgrade() {
            tap.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(tap: &Tap, id: u64, now: Instant) {
        tap.told(Some(id), "onClientOpen", Some(ConnId(3)), b"{\"id\":1}\n", now);
    }

    async fn entry(reader: &mut Subscription) -> TailEntry {
        match reader.next().await {
            Some(Tail::Entry(entry)) => entry,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_made_while_nobody_watches() {
        let tap = Arc::new(Tap::default());
        assert!(!tap.is_on());
        told(&tap, 1, Instant::now());
        let (mut one, two) = (tap.subscribe(), tap.subscribe());
        assert!(tap.is_on());
        told(&tap, 2, Instant::now());
        assert_eq!(entry(&mut one).await.id, Some(2), "nothing of before");
        drop(one);
        assert!(tap.is_on());
        drop(two);
        assert!(!tap.is_on() && tap.open.lock().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn fifty_a_second_are_shown_and_the_others_counted() {
        let tap = Arc::new(Tap::default());
        let mut reader = tap.subscribe();
        let now = Instant::now();
        (0..70).for_each(|id| told(&tap, id, now));
        for id in 0..50 {
            assert_eq!(entry(&mut reader).await.id, Some(id));
        }
        assert_eq!(reader.next().await, Some(Tail::Skipped { skipped: 20 }));
        told(&tap, 70, now + Duration::from_secs(1));
        assert_eq!(entry(&mut reader).await.id, Some(70));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_told_how_many_it_missed() {
        let tap = Arc::new(Tap::default());
        let mut reader = tap.subscribe();
        let start = Instant::now();
        for id in 0..200 {
            told(&tap, id, start + Duration::from_millis(id * 25));
        }
        for id in 72..200 {
            assert_eq!(entry(&mut reader).await.id, Some(id));
        }
        assert_eq!(reader.next().await, Some(Tail::Skipped { skipped: 72 }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_is_paired_with_its_event() {
        let tap = Arc::new(Tap::default());
        let mut reader = tap.subscribe();
        let now = Instant::now();
        told(&tap, 1, now);
        assert_eq!(entry(&mut reader).await.outcome, "told");
        tap.answered_late(1, b"{\"id\":1}", None, now + Duration::from_millis(5));
        let answered = entry(&mut reader).await;
        assert_eq!((answered.outcome.as_str(), answered.ms), ("answered", Some(5.0)));
        assert_eq!((answered.line.as_str(), answered.conn.as_deref()), ("{\"id\":1}", Some("k3")));
        tap.answered_late(1, b"{\"id\":1}", None, now);
        let again = entry(&mut reader).await;
        assert_eq!((again.outcome.as_str(), again.event.as_str()), ("late", "answer"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_line_is_cut_between_characters_and_marked() {
        let tap = Arc::new(Tap::default());
        let mut reader = tap.subscribe();
        tap.line("line", "ä".repeat(5000).as_bytes(), Some("no".to_owned()), Instant::now());
        let entry = entry(&mut reader).await;
        assert_eq!(entry.answer.unwrap(), format!("{} … (cut at 2 KiB)", "ä".repeat(1024)));
        assert_eq!((entry.outcome.as_str(), entry.why.as_deref()), ("fault", Some("no")));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_gateway_ends_it() {
        let tap = Arc::new(Tap::default());
        let mut reader = tap.subscribe();
        drop(tap);
        assert_eq!(reader.next().await, None);
    }
}
