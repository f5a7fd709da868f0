//! One gateway as those see it who watch.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::api::{LastError, Rates, Refusals, WatchedGateway, WatchedListener};
use crate::config::settings::{GatewaySettings, ListenerCommand};
use crate::gateway::metrics::Metrics;
use crate::logging::Recent;
use crate::metrics::Times;
use crate::server::gateway::Gateway;
use crate::server::watch::rfc3339;
use crate::text::escape::escape;
use crate::text::excerpt::excerpt;
use crate::ws::reason::Reason;

/// Bytes of a listener's command that are shown.
const COMMAND_SHOWN: usize = 1024;

/// Looks, a second apart, over which the times of answers are taken together.
const LOOKS: usize = 10;

/// What a look found of a gateway, for the next one to compare with.
pub(super) struct Before {
    at: Instant,
    messages_in: u64,
    messages_out: u64,
    bytes_in: u64,
    bytes_out: u64,
    opened: u64,
    /// The answers of the listener up to the last looks, the oldest first.
    answers: VecDeque<Times>,
    /// When the listener was first seen to owe an answer, if it has given none since.
    silent: Option<Instant>,
}

impl Before {
    fn of(metrics: &Metrics, at: Instant, mut answers: VecDeque<Times>) -> Before {
        if answers.len() > LOOKS {
            answers.pop_front();
        }
        answers.push_back(metrics.listener.latency.times());
        Before {
            answers,
            silent: None,
            at,
            messages_in: metrics.messages_in.get(),
            messages_out: metrics.messages_out.get(),
            bytes_in: metrics.bytes_in.get(),
            bytes_out: metrics.bytes_out.get(),
            opened: metrics.accepted.get(),
        }
    }

    /// For how long the listener has owed answers and given none, as far as was seen.
    pub(super) fn silent(&self) -> Duration {
        self.silent.map_or(Duration::ZERO, |since| self.at.duration_since(since))
    }

    /// Notes whether the listener has given an answer since `old`.
    fn note_silence(&mut self, old: Option<&Before>, unanswered: u64) {
        let count = |before: &Before| before.answers.back().map_or(0, Times::count);
        let is_silent = unanswered > 0 && old.is_some_and(|old| count(old) == count(self));
        self.silent = is_silent.then(|| old.and_then(|old| old.silent).unwrap_or(self.at));
    }

    /// The answers that came in the time of the last looks.
    fn answers(&self) -> Option<Times> {
        Some(self.answers.back()?.since(self.answers.front()?))
    }

    /// What came since `old`, per second.
    fn rates(&self, old: &Before) -> Rates {
        let seconds = self.at.duration_since(old.at).as_secs_f64();
        let rate = |new: u64, old: u64| match seconds {
            0.0 => 0.0,
            seconds => new.saturating_sub(old) as f64 / seconds,
        };
        Rates {
            messages_in: rate(self.messages_in, old.messages_in),
            messages_out: rate(self.messages_out, old.messages_out),
            bytes_in: rate(self.bytes_in, old.bytes_in),
            bytes_out: rate(self.bytes_out, old.bytes_out),
            opened: rate(self.opened, old.opened),
        }
    }
}

impl Gateway {
    /// How it stands. `before` is what the last look found, and what this one finds; `log` knows what
    /// was logged last of it.
    pub(super) fn watched(
        &self,
        before: &mut Option<Before>,
        now: Instant,
        log: &Recent,
    ) -> WatchedGateway {
        self.note_history();
        let status = self.status();
        let metrics = &self.metrics;
        let old = before.take();
        let answers = old.as_ref().map(|old| old.answers.clone()).unwrap_or_default();
        let mut new = Before::of(metrics, now, answers);
        new.note_silence(old.as_ref(), metrics.listener.unanswered.get());
        let rates = old.map(|old| new.rates(&old)).unwrap_or_default();
        let settings = Arc::clone(&self.state().settings);
        let listener = settings.listener.as_ref();
        let listener_detail = listener.map(|command| self.listener(command, &settings, &new));
        *before = Some(new);
        WatchedGateway {
            rates,
            listener_detail,
            refused: refusals(metrics),
            queued: metrics.queued.get(),
            dropped: metrics.deliveries_dropped.get(),
            slow_consumers: metrics.slow_consumers.get(),
            channels: metrics.channels.get(),
            history_messages: settings.history.is_some().then(|| metrics.history_messages.get()),
            last_error: self.last_error(log),
            console: self.has_console(&settings),
            status,
        }
    }

    fn listener(
        &self,
        command: &ListenerCommand,
        settings: &GatewaySettings,
        now: &Before,
    ) -> WatchedListener {
        let metrics = &self.metrics.listener;
        let answers = now.answers();
        let percentile = |percent| answers.as_ref().and_then(|times| times.percentile(percent));
        let (mut timeouts, mut faults) = (0, 0);
        metrics.faults.each(|kind, count| {
            *if kind == "timeout" { &mut timeouts } else { &mut faults } += count;
        });
        WatchedListener {
            command: shown(&command.argv),
            since: metrics.notes.since().map(rfc3339),
            window: settings.window as u64,
            unanswered: metrics.unanswered.get(),
            p50_ms: percentile(50.0),
            p99_ms: percentile(99.0),
            answers: answers.as_ref().map_or(0, Times::count),
            timeouts,
            faults,
            stderr: metrics.notes.stderr(None),
        }
    }

    /// What went wrong last: how the listener or the gateway failed, or what the log says of it at warn
    /// or error.
    fn last_error(&self, log: &Recent) -> Option<LastError> {
        let notes = &self.metrics.listener.notes;
        let error =
            |at: SystemTime, message, stderr| LastError { at: rfc3339(at), message, stderr };
        match (notes.failure(), log.wrong(&self.id)) {
            (Some(failed), Some((at, message))) if at > failed.at => {
                Some(error(at, message, notes.stderr(Some(at))))
            }
            (Some(failed), _) => Some(error(failed.at, failed.message, failed.stderr)),
            (None, Some((at, message))) => Some(error(at, message, notes.stderr(Some(at)))),
            (None, None) => None,
        }
    }

    /// Whether its address shows the console.
    fn has_console(&self, settings: &GatewaySettings) -> bool {
        let Some(running) = self.running() else { return false };
        let is_local = settings.unix_path().is_some() || running.shared.bound.ip().is_loopback();
        settings.console.unwrap_or(is_local)
    }
}

/// What was refused so far, the most frequent first.
fn refusals(metrics: &Metrics) -> Vec<Refusals> {
    let mut refused = Vec::new();
    metrics.refused.each(|label, count| {
        let said = Reason::of_label(label).map(Reason::said);
        refused.push(Refusals {
            reason: label.to_owned(),
            count,
            key: said.and_then(|said| said.key).map(str::to_owned),
            text: said.map(|said| said.text).unwrap_or_default().to_owned(),
        });
    });
    refused.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
    refused
}

/// A command as a person would write it.
fn shown(argv: &[OsString]) -> String {
    let words: Vec<String> = argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let text = match words.as_slice() {
        [shell, flag, line] if shell == "sh" && flag == "-c" => line.clone(),
        words => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    };
    excerpt(&escape(&text), COMMAND_SHOWN).into_owned()
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,".contains(c);
    match word {
        "" => "''".to_owned(),
        word if word.chars().all(is_plain) => word.to_owned(),
        word => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_it_is_written() {
        let of = |words: &[&str]| shown(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(of(&["python3", "chat.py"]), "python3 chat.py");
        assert_eq!(of(&["sh", "-c", "jq -c . | cat"]), "jq -c . | cat");
        assert_eq!(of(&["jq", "a 'x'", ""]), r"jq 'a '\''x'\''' ''");
        assert_eq!(of(&["a\x1b[2J"]), r"'a\x1b[2J'");
        assert!(of(&[&"x".repeat(5000)]).len() < 1100);
    }

    #[test]
    fn answers_are_those_of_the_last_ten_seconds() {
        let metrics = Metrics::default();
        let mut before: Option<Before> = None;
        let mut look = |ms: Option<u64>| {
            let times = &metrics.listener.latency;
            ms.into_iter().for_each(|ms| times.record(Duration::from_millis(ms)));
            let answers = before.take().map(|old| old.answers).unwrap_or_default();
            let now = before.insert(Before::of(&metrics, Instant::now(), answers));
            now.answers().unwrap()
        };
        assert_eq!(look(Some(7)).count(), 0, "nothing to compare with");
        assert_eq!(look(Some(100)).count(), 1);
        for _ in 0..9 {
            assert_eq!(look(None).count(), 1);
        }
        assert_eq!(look(None).count(), 0);
        let times = look(Some(1));
        assert!((times.percentile(99.0).unwrap() - 1.0).abs() < 0.1);
    }

    #[test]
    fn a_listener_that_owes_and_gives_nothing_is_silent() {
        let metrics = Metrics::default();
        let start = Instant::now();
        let look = |seconds, old: Option<&Before>, unanswered| {
            let at = start + Duration::from_secs(seconds);
            let mut new = Before::of(&metrics, at, VecDeque::new());
            new.note_silence(old, unanswered);
            new
        };
        let first = look(0, None, 5);
        let second = look(1, Some(&first), 5);
        let third = look(4, Some(&second), 5);
        assert_eq!(first.silent() + second.silent(), Duration::ZERO);
        assert_eq!(third.silent(), Duration::from_secs(3));
        assert_eq!(look(5, Some(&third), 0).silent(), Duration::ZERO);
        metrics.listener.latency.record(Duration::from_millis(1));
        assert_eq!(look(5, Some(&third), 5).silent(), Duration::ZERO);
    }

    #[test]
    fn the_most_frequent_refusal_comes_first() {
        let metrics = Metrics::default();
        metrics.refused.add(Reason::Path.label(), 1);
        metrics.refused.add(Reason::Origin.label(), 2);
        let refused = refusals(&metrics);
        assert_eq!(refused[0].key.as_deref(), Some("allow-origin"));
        assert_eq!((refused[1].reason.as_str(), refused[1].count), ("path", 1));
    }
}
