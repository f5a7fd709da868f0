//! `--assert`: what the report must show.

use crate::bench::report::Report;

/// What an assertion may be about, and whether it is a time.
const NAMES: [(&str, bool); 10] = [
    ("sent", false),
    ("received", false),
    ("lost", false),
    ("duplicates", false),
    ("rate", false),
    ("p50", true),
    ("p90", true),
    ("p99", true),
    ("p999", true),
    ("max", true),
];

/// The comparisons; the longer ones stand first.
const COMPARISONS: [(&str, Comparison); 5] = [
    ("<=", |is, limit| is <= limit),
    (">=", |is, limit| is >= limit),
    ("<", |is, limit| is < limit),
    (">", |is, limit| is > limit),
    ("=", |is, limit| is == limit),
];

/// The same, for a person.
const SIGNS: &str = "the comparisons are <, <=, >, >= and =";

type Comparison = fn(&f64, &f64) -> bool;

/// One condition.
#[derive(Debug, Clone)]
pub(crate) struct Assertion {
    /// As it was written.
    text: String,
    name: &'static str,
    holds: Comparison,
    /// Milliseconds, for a time.
    limit: f64,
}

impl Assertion {
    /// Reads a list with commas between.
    ///
    /// # Errors
    /// Which of them cannot be read, and why.
    pub(crate) fn parse_list(list: &str) -> Result<Vec<Assertion>, String> {
        list.split(',').map(|text| Assertion::parse(text.trim())).collect()
    }

    fn parse(text: &str) -> Result<Assertion, String> {
        let wrong = |why: &str| format!("the assertion {text:?} cannot be read: {why}");
        let at = text.find(['<', '>', '=']).ok_or_else(|| {
            wrong("write a name, a comparison and a value, such as p99<20ms or lost=0")
        })?;
        let name = text[..at].trim();
        let (name, is_time) =
            NAMES.into_iter().find(|(known, _)| *known == name).ok_or_else(|| {
                let known: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
                wrong(&format!(
                    "the names are {} (p999 is the latency of 99.9 %)",
                    known.join(", ")
                ))
            })?;
        let rest = &text[at..];
        let (sign, holds) = COMPARISONS
            .into_iter()
            .find(|(sign, _)| rest.starts_with(sign))
            .ok_or_else(|| wrong(SIGNS))?;
        let value = rest[sign.len()..].trim();
        if value.starts_with(['<', '>', '=', '!']) {
            return Err(wrong(SIGNS));
        }
        let limit = if is_time { milliseconds(value) } else { plain(value) };
        let limit = limit.ok_or_else(|| {
            wrong(match is_time {
                true => "a latency needs a number and a unit: us, ms or s, such as 20ms",
                false => "it needs a number without a unit",
            })
        })?;
        Ok(Assertion { text: text.to_owned(), name, holds, limit })
    }

    /// What breaks it, for a person; `None` if it holds.
    pub(crate) fn broken_by(&self, report: &Report) -> Option<String> {
        let latency = report.latency.as_ref();
        let is = match self.name {
            "sent" => Some(report.sent as f64),
            "received" => Some(report.received as f64),
            "lost" => Some(report.lost as f64),
            "duplicates" => Some(report.duplicates as f64),
            "rate" => Some(report.rate),
            "p50" => latency.map(|l| l.p50),
            "p90" => latency.map(|l| l.p90),
            "p99" => latency.map(|l| l.p99),
            "p999" => latency.map(|l| l.p999),
            _ => latency.map(|l| l.max),
        };
        let Some(is) = is else {
            return Some(format!("{}: nothing was measured", self.text));
        };
        let is_time = NAMES.iter().any(|(name, is_time)| *name == self.name && *is_time);
        let shown = if is_time { format!("{is} ms") } else { is.to_string() };
        (!(self.holds)(&is, &self.limit)).then(|| format!("{}: it is {shown}", self.text))
    }
}

/// A number that is not negative, in digits.
fn plain(text: &str) -> Option<f64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.parse().ok().filter(|_| digits)
}

fn milliseconds(text: &str) -> Option<f64> {
    let at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let factor = match &text[at..] {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1000.0,
        _ => return None,
    };
    Some(plain(text[..at].trim_end())? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::Latency;

    fn report() -> Report {
        let latency = Latency { p50: 1.0, p90: 2.0, p99: 20.0, p999: 30.0, max: 1500.0 };
        Report {
            sent: 10,
            received: 99,
            lost: 1,
            rate: 9.5,
            latency: Some(latency),
            ..Report::default()
        }
    }

    #[test]
    fn assertions_hold_or_do_not() {
        for (list, broken) in [
            ("lost=1,duplicates=0", 0),
            ("lost=0", 1),
            ("lost<1, lost>1 ,lost<=1,lost>=1", 2),
            ("sent>=10,received<100", 0),
            ("p99<20ms", 1),
            ("p99<=20ms", 0),
            ("p99 < 20.5 ms", 0),
            ("p50=1000us", 0),
            ("p90>0.1s", 1),
            ("max<2s,p999<31ms", 0),
            ("rate>9.4", 0),
        ] {
            let assertions = Assertion::parse_list(list).unwrap();
            let found: Vec<_> = assertions.iter().filter_map(|a| a.broken_by(&report())).collect();
            assert_eq!(found.len(), broken, "{list}: {found:?}");
        }
        let nothing = Report { latency: None, ..report() };
        let assertions = Assertion::parse_list("p99<1s").unwrap();
        assert!(assertions[0].broken_by(&nothing).is_some());
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for bad in [
            "",
            "p99",
            "p99<",
            "p99<20",
            "p99<20m",
            "p99<20 parsecs",
            "p98<20ms",
            "lost",
            "lost=",
            "lost=x",
            "lost=0ms",
            "lost==0",
            "lost=!0",
            "lost=-1",
            "rate>1e3",
            "p99<ms",
            "p99<-1ms",
            "lost=0,",
            ",lost=0",
            "lost=0;p99<1s",
            "P99<1ms",
            "rate>nan",
            "rate>inf",
            "p99<1.2.3ms",
        ] {
            assert!(Assertion::parse_list(bad).is_err(), "{bad:?}");
        }
        for bad in ["lost==0", "lost=!0", "lost=>0", "p99=<1s"] {
            let why = Assertion::parse_list(bad).unwrap_err();
            assert!(why.contains("the comparisons are"), "{why}");
        }
    }
}
