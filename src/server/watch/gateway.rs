//! One gateway as those see it who watch.

use std::time::Instant;

use crate::api::{Rates, Refusals, WatchedGateway, WatchedListener};
use crate::gateway::metrics::Metrics;
use crate::server::gateway::Gateway;
use crate::text::escape::escape;

/// Bytes of a listener's command that are shown.
const COMMAND_SHOWN: usize = 1024;

/// What a look found of a gateway, for the next one to compare with.
pub(super) struct Before {
    at: Instant,
    messages_in: u64,
    messages_out: u64,
    bytes_in: u64,
    bytes_out: u64,
    opened: u64,
}

impl Before {
    fn of(metrics: &Metrics, at: Instant) -> Before {
        Before {
            at,
            messages_in: metrics.messages_in.get(),
            messages_out: metrics.messages_out.get(),
            bytes_in: metrics.bytes_in.get(),
            bytes_out: metrics.bytes_out.get(),
            opened: metrics.accepted.get(),
        }
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
    /// How it stands. `before` is what the last look found, and what this one finds.
    pub(super) fn watched(&self, before: &mut Option<Before>, now: Instant) -> WatchedGateway {
        let status = self.status();
        let metrics = &self.metrics;
        let new = Before::of(metrics, now);
        let rates = before.as_ref().map(|old| new.rates(old)).unwrap_or_default();
        *before = Some(new);
        self.note_history();
        let mut refused = Vec::new();
        metrics.refused.each(|reason, count| {
            let (key, text) = (None, String::new());
            refused.push(Refusals { reason: reason.to_owned(), count, key, text });
        });
        refused.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
        let settings = std::sync::Arc::clone(&self.state().settings);
        let console = self.running().map(|running| {
            settings.console.unwrap_or_else(|| {
                settings.unix_path().is_some() || running.shared.bound.ip().is_loopback()
            })
        });
        WatchedGateway {
            rates,
            listener_detail: settings.listener.as_ref().map(|command| WatchedListener {
                command: shown(&command.argv),
                since: None,
                window: settings.window as u64,
                unanswered: metrics.listener.unanswered.get(),
                p50_ms: None,
                p99_ms: None,
                answers: 0,
                timeouts: 0,
                faults: 0,
                stderr: Vec::new(),
            }),
            refused,
            queued: metrics.queued.get(),
            dropped: metrics.deliveries_dropped.get(),
            slow_consumers: metrics.slow_consumers.get(),
            channels: metrics.channels.get(),
            history_messages: settings.history.is_some().then(|| metrics.history_messages.get()),
            last_error: None,
            console: console.unwrap_or(false),
            status,
        }
    }
}

/// A command as a person would write it.
fn shown(argv: &[std::ffi::OsString]) -> String {
    let words: Vec<String> = argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let text = match words.as_slice() {
        [shell, flag, line] if shell == "sh" && flag == "-c" => line.clone(),
        words => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    };
    crate::text::excerpt::excerpt(&escape(&text), COMMAND_SHOWN).into_owned()
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
