//! What was measured, as text and as JSON.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::bench::times::{Part, milliseconds};

/// A report.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Messages that were sent, or openings that were tried.
    pub(crate) sent: u64,
    /// Messages that came, or connections that opened.
    pub(crate) received: u64,
    /// What should have come and did not.
    pub(crate) lost: u64,
    /// What came more than once to the same connection.
    pub(crate) duplicates: u64,
    /// What came, a second.
    pub(crate) rate: f64,
    /// `None` (null) where nothing came.
    #[serde(rename = "latency_ms")]
    pub(crate) latency: Option<Latency>,
    /// The server, without user and password.
    pub(crate) url: String,
    /// What was measured.
    pub(crate) mode: &'static str,
    pub(crate) connections: usize,
    /// Bytes in a message; 0 where none were sent.
    pub(crate) payload: usize,
    /// What was to be sent a second; null in the closed loop.
    pub(crate) target_rate: Option<f64>,
    /// How long it took.
    pub(crate) seconds: f64,
    /// What was sent, a second.
    pub(crate) sent_rate: f64,
    /// Messages that were due and not sent, because the server did not take them in time.
    pub(crate) unsent: u64,
    /// Connections that the server ended.
    pub(crate) closed: u64,
    /// The share of the time that this program was at work: near 1 it is the limit.
    pub(crate) busy: f64,
    /// What a reader should know.
    pub(crate) notes: Vec<String>,
    /// Latencies by their share of all, for the plot.
    #[serde(skip)]
    pub(super) curve: Vec<(f64, f64)>,
    /// Rates and latencies over time.
    #[serde(skip)]
    pub(super) parts: Vec<Part>,
    /// Whether the user ended it.
    #[serde(skip)]
    pub(crate) was_interrupted: bool,
    /// Whether the server ended it.
    #[serde(skip)]
    pub(crate) was_cut_short: bool,
}

/// Latencies in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Latency {
    /// The names and values, for a person.
    pub(super) fn named(&self) -> [(&'static str, f64); 5] {
        [
            ("p50", self.p50),
            ("p90", self.p90),
            ("p99", self.p99),
            ("p99.9", self.p999),
            ("max", self.max),
        ]
    }
}

impl Report {
    /// Takes the latencies out of what was measured.
    pub(super) fn with_latencies(mut self, all: &Histogram<u64>, parts: Vec<Part>) -> Report {
        self.parts = parts;
        if all.is_empty() {
            return self;
        }
        let quantile = |q| milliseconds(all.value_at_quantile(q));
        self.latency = Some(Latency {
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: milliseconds(all.max()),
        });
        // As far as there are measurements: a hundred of them have no 99.9th percentile.
        let nines = (all.len() as f64).log10();
        let steps = (nines * 20.0).ceil() as u32;
        let at = |step| 1.0 - 10_f64.powf(-f64::from(step) / 20.0);
        self.curve = (0..=steps).map(|step| (at(step), quantile(at(step)))).collect();
        self
    }

    /// What is counted in this mode: what was sent, what came, and what latencies are of.
    pub(super) fn words(&self) -> (&'static str, &'static str, &'static str) {
        match self.mode {
            "fanout" | "echo" => ("sent", "received", "latency"),
            _ => ("tried", "opened", "time to open"),
        }
    }

    /// What was asked for, on one line.
    pub(super) fn asked(&self) -> String {
        let of_messages = self.payload > 0;
        let connections = counted(self.connections as u64, "connection");
        let mut text = format!("{}, {connections}", self.mode);
        if of_messages {
            let _ = write!(text, ", {} bytes a message", grouped(self.payload as u64));
        }
        match self.target_rate {
            Some(rate) => {
                let _ = write!(text, ", {rate} a second");
            }
            None if of_messages => text.push_str(", closed loop"),
            None => {}
        }
        let _ = write!(text, ", {:.1} s", self.seconds);
        text
    }

    /// Counts with a rate beside some, for a person.
    pub(super) fn counts(&self) -> Vec<(&'static str, u64, Option<f64>)> {
        let (sent, came, _) = self.words();
        let mut rows = vec![
            (sent, self.sent, Some(self.sent_rate)),
            (came, self.received, Some(self.rate)),
            ("lost", self.lost, None),
        ];
        if self.payload > 0 {
            rows.push(("duplicates", self.duplicates, None));
        }
        rows
    }

    /// The report as text.
    pub(crate) fn text(&self) -> String {
        let mut out = format!("{}\n{}\n\n", self.url, self.asked());
        for (name, count, rate) in self.counts() {
            let rate = rate.map_or(String::new(), |rate| format!("{:>16}/s", decimal(rate)));
            let _ = writeln!(out, "  {name:<12}{:>16}{rate}", grouped(count));
        }
        if let Some(latency) = &self.latency {
            let named = latency.named();
            let heads: String = named.iter().map(|(name, _)| format!("{name:>12}")).collect();
            let values: String =
                named.iter().map(|(_, value)| format!("{:>12}", time(*value))).collect();
            let _ = writeln!(out, "\n  {:<12}{heads}\n  {:<12}{values}", self.words().2, "");
        }
        if !self.notes.is_empty() {
            out.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(out, "  note: {note}");
        }
        out
    }

    /// The report as JSON, on one line.
    pub(crate) fn json(&self) -> String {
        // Maps with keys that are no text, which cannot be written, are not part of it.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// So many of something.
pub(super) fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// A count with commas between thousands.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A rate: whole numbers from 100 on, and one digit behind the point below.
pub(super) fn decimal(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { grouped(value.round() as u64) }
}

/// Milliseconds in the unit that fits.
pub(super) fn time(milliseconds: f64) -> String {
    match milliseconds {
        ms if ms < 0.9995 => format!("{:.0} µs", ms * 1000.0),
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 1000.0 => format!("{ms:.1} ms"),
        ms => format!("{:.2} s", ms / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(counted(1, "message"), "1 message");
        assert_eq!(counted(1000, "message"), "1,000 messages");
        assert_eq!([0.04, 99.94, 1234.5].map(decimal), ["0.0", "99.9", "1,235"]);
        assert_eq!(
            [0.0124, 0.9994, 1.0, 12.34, 1500.0].map(time),
            ["12 µs", "999 µs", "1.00 ms", "12.3 ms", "1.50 s"]
        );
    }

    #[test]
    fn the_keys_of_the_json() {
        let latency = Some(Latency::default());
        let json = Report { latency, ..Report::default() }.json();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        for key in ["sent", "received", "lost", "duplicates", "rate"] {
            assert!(value[key].is_number(), "{key}: {json}");
        }
        for key in ["p50", "p90", "p99", "p999", "max"] {
            assert!(value["latency_ms"][key].is_number(), "{key}: {json}");
        }
        assert!(Report::default().json().contains(r#""latency_ms":null"#));
    }

    #[test]
    fn the_curve_ends_where_the_measurements_do() {
        let mut all = Histogram::new_with_bounds(1, 1_000_000_000, 3).unwrap();
        (1..=1000).for_each(|n| all.record(n * 1000).unwrap());
        let report = Report::default().with_latencies(&all, Vec::new());
        let (share, last) = report.curve.last().unwrap();
        assert!((share - 0.999).abs() < 1e-9 && (last - 1.0).abs() < 0.01, "{share} {last}");
        assert!((report.latency.unwrap().p50 - 0.5).abs() < 0.01);
    }
}
