//! The counters of one gateway and their Prometheus text.
//!
//! Every field is an independent atomic, written with relaxed ordering from the shards and read by
//! the control port: a scrape is a set of single truths, not one consistent cut.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::listener::metrics::{Count, Labelled, ListenerMetrics};

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
    pub pushes: Count,
    pub queued: Count,
    pub listener: Arc<ListenerMetrics>,
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
            |s| s.metrics.listener.gone.get(),
        ),
        ("wsgw_listener_queue_events", "gauge", "Events that wait for the listener.", |s| {
            s.metrics.queued.get()
        }),
        ("wsgw_listener_unanswered_events", "gauge", "Events sent and not answered.", |s| {
            s.metrics.listener.unanswered.get()
        }),
        ("wsgw_listener_restarts_total", "counter", "Restarts of the listener.", |s| {
            s.metrics.listener.restarts.get()
        }),
        (
            "wsgw_listener_late_answers_total",
            "counter",
            "Answers that nothing waited for (told, timed out, answered twice).",
            |s| s.metrics.listener.late.get(),
        ),
        (
            "wsgw_listener_results_dropped_total",
            "counter",
            "Result lines that found their queue full.",
            |s| s.metrics.listener.results_dropped.get(),
        ),
        (
            "wsgw_listener_stderr_lines_total",
            "counter",
            "Lines that the listener wrote to stderr, those not shown too.",
            |s| s.metrics.listener.stderr_lines.get(),
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
            |m| &m.listener.messages_dropped,
        ),
        ("wsgw_listener_faults_total", "kind", "Faults of the listener, by kind.", |m| {
            &m.listener.faults
        }),
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
        let latency = &s.metrics.listener.latency;
        let mut count = 0;
        for (bound, in_bucket) in latency.buckets() {
            count += in_bucket;
            let le = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
            let _ = writeln!(out, "{name}_bucket{{gateway=\"{}\",le=\"{le}\"}} {count}", s.id);
        }
        let sum = latency.sum();
        let _ = writeln!(out, "{name}_sum{{gateway=\"{}\"}} {sum}", s.id);
        let _ = writeln!(out, "{name}_count{{gateway=\"{}\"}} {count}", s.id);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_histogram_is_cumulative_and_every_family_has_a_type() {
        let metrics = Metrics::default();
        metrics.listener.latency.record(Duration::from_micros(90));
        metrics.listener.latency.record(Duration::from_millis(3));
        metrics.listener.latency.record(Duration::from_secs(11));
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
