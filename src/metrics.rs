//! Counters, and their Prometheus text.
//!
//! A struct of metrics is declared with [`metrics!`], where each metric has its name, its help (the
//! doc comment), its type and its label in one place. Counters and gauges are atomics of their own,
//! written with relaxed ordering by any thread: a scrape finds single values that are each right,
//! not one consistent set. Only what has labels takes a lock, and only where something ends or fails.
//!
//! # Why not `prometheus-client`
//!
//! It writes OpenMetrics alone: `# TYPE` lines without the `_total` of the counters, and a final
//! `# EOF`. The endpoint has always had the text format 0.0.4, whose names the dashboards and the
//! documents know. It also wants each metric registered at run time, with its help apart from the
//! field once more, and a label set that any caller may extend.

mod histogram;

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

pub use crate::metrics::histogram::Histogram;
pub(crate) use crate::metrics::histogram::Times;
use crate::ws::close;

/// Declares a struct of metrics and how each is exposed:
///
/// ```text
/// metrics! {
///     /// Doc comment of the struct.
///     pub struct Things {
///         /// The help of the metric.
///         pub made: Counter = "wsgw_things_made_total",
///         /// A metric with a label besides `gateway`.
///         pub lost: Labelled = "wsgw_things_lost_total" by "reason",
///         with
///         /// A field that is not a metric.
///         pub parts: Arc<PartMetrics>,
///     }
/// }
/// ```
macro_rules! metrics {
    (
        $(#[$outer:meta])*
        pub struct $name:ident {
            $(
                $(#[doc = $help:literal])+
                pub $field:ident: $kind:ident = $family:literal $(by $label:literal)?,
            )*
            $(
                with
                $(#[$more:meta])*
                pub $other:ident: $other_type:ty,
            )?
        }
    ) => {
        $(#[$outer])*
        // Some of these structs are the crate's alone.
        #[allow(unreachable_pub)]
        #[derive(Debug, Default)]
        pub struct $name {
            $(
                $(#[doc = $help])+
                pub $field: $crate::metrics::$kind,
            )*
            $( $(#[$more])* pub $other: $other_type, )?
        }

        impl $name {
            /// Each metric with its name, its help and its type.
            pub(crate) const FAMILIES: &[$crate::metrics::Family<Self>] = &[$(
                $crate::metrics::Family {
                    name: $family,
                    help: concat!($($help),+),
                    kind: <$crate::metrics::$kind as $crate::metrics::Metric>::KIND,
                    label: concat!("" $(, $label)?),
                    write: |metrics, samples| {
                        $crate::metrics::Metric::write(&metrics.$field, samples)
                    },
                },
            )*];
        }
    };
}
pub(crate) use metrics;

/// What is said of a metric beside its values.
pub(crate) struct Family<T> {
    /// The name.
    pub(crate) name: &'static str,
    /// One sentence; white space around it does not count.
    pub(crate) help: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub(crate) kind: &'static str,
    /// The label besides `gateway`; empty where there is none.
    pub(crate) label: &'static str,
    /// Writes the values of one gateway.
    pub(crate) write: fn(&T, &mut Samples<'_>),
}

/// Writes the families of all gateways, given with their ids, in the text format 0.0.4.
pub(crate) fn render<'a, T: 'a>(
    out: &mut String,
    families: &[Family<T>],
    gateways: impl Iterator<Item = (&'a str, &'a T)> + Clone,
) {
    for family in families {
        let Family { name, kind, .. } = family;
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", family.help.trim());
        for (gateway, metrics) in gateways.clone() {
            let label = family.label;
            (family.write)(metrics, &mut Samples { out: &mut *out, name, label, gateway });
        }
    }
}

/// Where one gateway's values of one family go.
pub(crate) struct Samples<'a> {
    out: &'a mut String,
    name: &'static str,
    label: &'static str,
    gateway: &'a str,
}

impl Samples<'_> {
    fn value(&mut self, suffix: &str, value: impl Display) {
        let Samples { out, name, gateway, .. } = self;
        let _ = writeln!(out, "{name}{suffix}{{gateway=\"{gateway}\"}} {value}");
    }

    /// `label` and what it says: nothing that would have to be escaped.
    fn labelled(&mut self, suffix: &str, label: &str, says: impl Display, value: u64) {
        let Samples { out, name, gateway, .. } = self;
        let _ = writeln!(out, "{name}{suffix}{{gateway=\"{gateway}\",{label}=\"{says}\"}} {value}");
    }
}

/// Something that can be scraped.
pub(crate) trait Metric {
    /// The type as Prometheus names it.
    const KIND: &'static str;

    /// Writes its values.
    fn write(&self, samples: &mut Samples<'_>);
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Metric for Counter {
    const KIND: &'static str = "counter";

    fn write(&self, samples: &mut Samples<'_>) {
        samples.value("", self.get());
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Takes `n` away, which was added before.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// Sets it.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl From<u64> for Gauge {
    fn from(n: u64) -> Gauge {
        Gauge(AtomicU64::new(n))
    }
}

impl Metric for Gauge {
    const KIND: &'static str = "gauge";

    fn write(&self, samples: &mut Samples<'_>) {
        samples.value("", self.get());
    }
}

/// A counter with one label, whose values stand in the program's text: nothing from outside can
/// become one.
#[derive(Debug, Default)]
pub struct Labelled(Mutex<BTreeMap<&'static str, u64>>);

impl Labelled {
    /// Adds `n` under a value of the label.
    pub fn add(&self, says: &'static str, n: u64) {
        *self.0.lock().entry(says).or_default() += n;
    }

    /// Every value of the label with its count.
    pub fn each(&self, mut f: impl FnMut(&str, u64)) {
        for (says, count) in &*self.0.lock() {
            f(says, *count);
        }
    }
}

impl Metric for Labelled {
    const KIND: &'static str = "counter";

    fn write(&self, samples: &mut Samples<'_>) {
        let label = samples.label;
        self.each(|says, count| samples.labelled("", label, says, count));
    }
}

/// The most codes of applications (3000 to 4999) that are counted each by itself.
const APPLICATION_CODES: usize = 32;

/// A counter by close code. A client chooses its code among some 2,000, each of which would be a
/// series for good: so only the first [`APPLICATION_CODES`] that an application uses are told
/// apart, and all others are counted under their range.
#[derive(Debug, Default)]
pub struct CloseCodes(Mutex<BTreeMap<CloseLabel, u64>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum CloseLabel {
    Code(u16),
    /// Codes of libraries and frameworks, registered with IANA (RFC 6455 section 7.4.2).
    Registered,
    /// Codes of applications, for private use.
    Private,
    Other,
}

impl Display for CloseLabel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CloseLabel::Code(code) => code.fmt(f),
            CloseLabel::Registered => f.write_str("3000-3999"),
            CloseLabel::Private => f.write_str("4000-4999"),
            CloseLabel::Other => f.write_str("other"),
        }
    }
}

impl CloseCodes {
    /// Counts a connection that ended with this code.
    pub fn add(&self, code: u16) {
        let mut counts = self.0.lock();
        let applications = counts.range(CloseLabel::Code(3000)..=CloseLabel::Code(4999)).count();
        let known = match code {
            close::NO_STATUS | close::ABNORMAL => true,
            3000..=4999 => {
                applications < APPLICATION_CODES || counts.contains_key(&CloseLabel::Code(code))
            }
            code => close::may_be_sent(code),
        };
        let label = match code {
            code if known => CloseLabel::Code(code),
            3000..=3999 => CloseLabel::Registered,
            4000..=4999 => CloseLabel::Private,
            _ => CloseLabel::Other,
        };
        *counts.entry(label).or_default() += 1;
    }
}

impl Metric for CloseCodes {
    const KIND: &'static str = "counter";

    fn write(&self, samples: &mut Samples<'_>) {
        let label = samples.label;
        for (says, count) in &*self.0.lock() {
            samples.labelled("", label, says, *count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    metrics! {
        /// One metric of each type.
        pub struct Each {
            /// Help of two
            /// lines.
            pub counter: Counter = "x_total",
            /// A gauge.
            pub gauge: Gauge = "x",
            /// By reason.
            pub labelled: Labelled = "x_refused_total" by "reason",
            /// By code.
            pub codes: CloseCodes = "x_closed_total" by "code",
            /// Times.
            pub times: Histogram = "x_seconds",
        }
    }

    fn text(each: &Each) -> String {
        let mut out = String::new();
        render(&mut out, Each::FAMILIES, [("a", each)].into_iter());
        out
    }

    #[test]
    fn each_type_is_written_as_prometheus_reads_it() {
        let each = Each::default();
        each.counter.add(3);
        each.gauge.set(5);
        each.gauge.sub(1);
        each.labelled.add("origin", 2);
        each.codes.add(1006);
        each.times.record(Duration::from_micros(90));
        each.times.record(Duration::from_millis(3));
        each.times.record(Duration::from_secs(11));
        let text = text(&each);
        for line in [
            "# HELP x_total Help of two lines.",
            "# TYPE x_total counter",
            "x_total{gateway=\"a\"} 3",
            "# TYPE x gauge",
            "x{gateway=\"a\"} 4",
            "# TYPE x_refused_total counter",
            "x_refused_total{gateway=\"a\",reason=\"origin\"} 2",
            "x_closed_total{gateway=\"a\",code=\"1006\"} 1",
            "# TYPE x_seconds histogram",
            "x_seconds_bucket{gateway=\"a\",le=\"0.0001\"} 1",
            "x_seconds_bucket{gateway=\"a\",le=\"0.005\"} 2",
            "x_seconds_bucket{gateway=\"a\",le=\"10\"} 2",
            "x_seconds_bucket{gateway=\"a\",le=\"+Inf\"} 3",
            "x_seconds_sum{gateway=\"a\"} 11.00309",
            "x_seconds_count{gateway=\"a\"} 3",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
        assert!(text.ends_with('\n') && !text.contains("\n\n"));
    }

    #[test]
    fn the_first_codes_of_an_application_are_told_apart() {
        let each = Each::default();
        for code in [4001, 4001, 3999] {
            each.codes.add(code);
        }
        for code in 3000..=4999 {
            each.codes.add(code);
        }
        let text = text(&each);
        for sample in ["\"4001\"} 3", "\"3999\"} 2", "\"3000\"} 1", "\"4000-4999\"} 999"] {
            assert!(text.contains(&format!("code={sample}\n")), "{sample} in\n{text}");
        }
    }

    proptest! {
        /// Whatever codes clients choose, there are few series, each connection is in one of them,
        /// and a code never changes its series.
        #[test]
        fn close_codes_are_few_series(codes in proptest::collection::vec(any::<u16>(), 0..4000)) {
            let each = Each::default();
            for code in &codes {
                each.codes.add(*code);
            }
            let text = text(&each);
            let samples = text.lines().filter(|l| l.starts_with("x_closed_total{"));
            let counts = samples.clone().map(|l| l.rsplit(' ').next().unwrap());
            let sum: usize = counts.map(|n| n.parse::<usize>().unwrap()).sum();
            prop_assert_eq!(sum, codes.len());
            prop_assert!(samples.count() <= APPLICATION_CODES + 17);
        }
    }
}
