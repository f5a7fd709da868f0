//! The counters of one gateway and their Prometheus text.
//!
//! Every field is an independent atomic, written with relaxed ordering from the shards and read by
//! the control port: a scrape is a set of single truths, not one consistent cut.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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

    /// Adds one unless that would be more than `max`; whether it did.
    pub fn inc_up_to(&self, max: u64) -> bool {
        let more = |n| (n < max).then_some(n + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
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
        // A panic cannot happen under this lock; were it poisoned, its data would still be good.
        let mut map = self.0.lock().unwrap_or_else(|e| e.into_inner());
        match map.get_mut(label) {
            Some(count) => *count += n,
            None => {
                map.insert(label.to_owned(), n);
            }
        }
    }

    /// Every label with its count.
    pub fn each(&self, mut f: impl FnMut(&str, u64)) {
        let map = self.0.lock().unwrap_or_else(|e| e.into_inner());
        for (label, count) in map.iter() {
            f(label, *count);
        }
    }
}

/// Upper bounds of the latency histogram's buckets, in microseconds.
const BUCKETS: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 10_000_000];

/// The time from an event's last byte in the listener's stdin to its answer.
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
}

/// The counters of one gateway.
#[derive(Debug, Default)]
#[allow(missing_docs)] // each is described in the table of `families` below
pub struct Metrics {
    pub connections: Count,
    pub accepted: Count,
    pub refused: Labelled,
    pub closed: Labelled,
    pub messages_in: Count,
    pub bytes_in: Count,
    pub messages_out: Count,
    pub bytes_out: Count,
    pub deliveries_dropped: Count,
    pub slow_consumers: Count,
    pub gone: Count,
    pub messages_dropped: Labelled,
    pub pushes: Count,
    pub queued: Count,
    pub unanswered: Count,
    pub latency: Latency,
    pub restarts: Count,
    pub late: Count,
    pub faults: Labelled,
    pub stderr_lines: Count,
    pub results_dropped: Count,
}

/// One gateway's part of the text.
#[derive(Debug)]
pub struct Scrape<'a> {
    /// The gateway's id.
    pub id: &'a str,
    /// Whether its state is `running`.
    pub running: bool,
    /// Whether its listener is up.
    pub listener_up: bool,
    /// Its counters.
    pub metrics: &'a Metrics,
}

/// The Prometheus text exposition (version 0.0.4) of all gateways.
pub fn render(gateways: &[Scrape<'_>]) -> String {
    let mut out = String::with_capacity(4096);
    type Read = fn(&Scrape<'_>) -> u64;
    let families: [(&str, &str, &str, Read); 18] = [
        ("wsgw_gateway_running", "gauge", "1 while the gateway's state is running.", |s| {
            u64::from(s.running)
        }),
        ("wsgw_listener_up", "gauge", "1 while the listener's process is up.", |s| {
            u64::from(s.listener_up)
        }),
        ("wsgw_connections_open", "gauge", "Open WebSocket connections.", |s| {
            s.metrics.connections.get()
        }),
        ("wsgw_connections_accepted_total", "counter", "Handshakes answered with 101.", |s| {
            s.metrics.accepted.get()
        }),
        ("wsgw_messages_received_total", "counter", "Messages from clients.", |s| {
            s.metrics.messages_in.get()
        }),
        ("wsgw_received_bytes_total", "counter", "Payload bytes from clients.", |s| {
            s.metrics.bytes_in.get()
        }),
        ("wsgw_pushes_total", "counter", "Messages pushed through the control port.", |s| {
            s.metrics.pushes.get()
        }),
        ("wsgw_deliveries_total", "counter", "Messages to clients, one for each recipient.", |s| {
            s.metrics.messages_out.get()
        }),
        ("wsgw_delivered_bytes_total", "counter", "Frame bytes to clients.", |s| {
            s.metrics.bytes_out.get()
        }),
        (
            "wsgw_deliveries_dropped_total",
            "counter",
            "Deliveries refused by a connection's full queue.",
            |s| s.metrics.deliveries_dropped.get(),
        ),
        ("wsgw_slow_consumers_total", "counter", "Connections closed as slow consumers.", |s| {
            s.metrics.slow_consumers.get()
        }),
        (
            "wsgw_recipients_gone_total",
            "counter",
            "Recipients that were named and are closed or unknown.",
            |s| s.metrics.gone.get(),
        ),
        ("wsgw_listener_queue_events", "gauge", "Events that wait for the listener.", |s| {
            s.metrics.queued.get()
        }),
        ("wsgw_listener_unanswered_events", "gauge", "Events sent and not answered.", |s| {
            s.metrics.unanswered.get()
        }),
        ("wsgw_listener_restarts_total", "counter", "Restarts of the listener.", |s| {
            s.metrics.restarts.get()
        }),
        (
            "wsgw_listener_late_answers_total",
            "counter",
            "Answers that nothing waited for (told, timed out, answered twice).",
            |s| s.metrics.late.get(),
        ),
        (
            "wsgw_listener_results_dropped_total",
            "counter",
            "Result lines that found their queue full.",
            |s| s.metrics.results_dropped.get(),
        ),
        (
            "wsgw_listener_stderr_lines_total",
            "counter",
            "Lines that the listener wrote to stderr, those not shown too.",
            |s| s.metrics.stderr_lines.get(),
        ),
    ];
    // Writing to a String cannot fail.
    for (name, kind, help, read) in families {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for s in gateways {
            let _ = writeln!(out, "{name}{{gateway=\"{}\"}} {}", s.id, read(s));
        }
    }
    type Pick = for<'a> fn(&'a Metrics) -> &'a Labelled;
    let labelled: [(&str, &str, &str, Pick); 4] = [
        ("wsgw_connections_refused_total", "reason", "Connections refused, by reason.", |m| {
            &m.refused
        }),
        ("wsgw_connections_closed_total", "code", "Connections closed, by close code.", |m| {
            &m.closed
        }),
        (
            "wsgw_messages_dropped_total",
            "reason",
            "Messages that the gateway dropped, by reason.",
            |m| &m.messages_dropped,
        ),
        ("wsgw_listener_faults_total", "kind", "Faults of the listener, by kind.", |m| &m.faults),
    ];
    for (name, label, help, pick) in labelled {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
        for s in gateways {
            pick(s.metrics).each(|value, count| {
                let _ = writeln!(out, "{name}{{gateway=\"{}\",{label}=\"{value}\"}} {count}", s.id);
            });
        }
    }
    let name = "wsgw_listener_answer_seconds";
    let _ = writeln!(
        out,
        "# HELP {name} Time from an event's last byte to its answer.\n# TYPE {name} histogram"
    );
    for s in gateways {
        let latency = &s.metrics.latency;
        let bounds = BUCKETS.iter().map(|bound| (*bound as f64 / 1e6).to_string());
        let mut count = 0;
        for (le, bucket) in bounds.chain(["+Inf".to_owned()]).zip(&latency.buckets) {
            count += bucket.get();
            let _ = writeln!(out, "{name}_bucket{{gateway=\"{}\",le=\"{le}\"}} {count}", s.id);
        }
        let sum = latency.sum_us.get() as f64 / 1e6;
        let _ = writeln!(out, "{name}_sum{{gateway=\"{}\"}} {sum}", s.id);
        let _ = writeln!(out, "{name}_count{{gateway=\"{}\"}} {count}", s.id);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_histogram_is_cumulative_and_every_family_has_a_type() {
        let metrics = Metrics::default();
        metrics.latency.record(Duration::from_micros(90));
        metrics.latency.record(Duration::from_millis(3));
        metrics.latency.record(Duration::from_secs(11));
        metrics.refused.add("origin", 2);
        let text =
            render(&[Scrape { id: "chat", running: true, listener_up: false, metrics: &metrics }]);
        assert!(text.contains("wsgw_gateway_running{gateway=\"chat\"} 1\n"));
        assert!(text.contains("refused_total{gateway=\"chat\",reason=\"origin\"} 2\n"));
        assert!(text.contains("seconds_bucket{gateway=\"chat\",le=\"0.0001\"} 1\n"));
        assert!(text.contains("seconds_bucket{gateway=\"chat\",le=\"0.005\"} 2\n"));
        assert!(text.contains("seconds_bucket{gateway=\"chat\",le=\"10\"} 2\n"));
        assert!(text.contains("seconds_bucket{gateway=\"chat\",le=\"+Inf\"} 3\n"));
        assert!(text.contains("seconds_count{gateway=\"chat\"} 3\n"));
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|s| name.strip_suffix(s))
                .filter(|f| f.ends_with("_seconds"))
                .unwrap_or(name);
            assert!(text.contains(&format!("# TYPE {family} ")), "{line}");
        }
    }
}
