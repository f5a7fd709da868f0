//! What became of a stream of pushes, as one total: the control port's answer at its end, and what
//! `wsgw send --lines --json` prints.
//!
//! Plain data of whoever adds to it. However long the stream, it names so many failures and
//! connections and no more.

use std::collections::HashSet;

use serde::Serialize;

/// Failures that it names.
const FAILED: usize = 100;
/// Names of connections that its `gone` holds, at most.
const GONE: usize = 10_000;

/// The one total.
#[derive(Debug, Default, Serialize)]
pub struct Totals {
    matched: u64,
    /// Recipients that got a message.
    pub delivered: u64,
    dropped: u64,
    gone: Vec<String>,
    failed: Vec<FailedLine>,
    failures: u64,
    #[serde(skip)]
    gone_seen: HashSet<String>,
}

#[derive(Debug, Serialize)]
struct FailedLine {
    line: u64,
    code: String,
}

impl Totals {
    /// A push that was taken in.
    pub fn add(&mut self, matched: u64, delivered: u64, dropped: u64, gone: Vec<String>) {
        self.matched += matched;
        self.delivered += delivered;
        self.dropped += dropped;
        for name in gone {
            if self.gone.len() < GONE && self.gone_seen.insert(name.clone()) {
                self.gone.push(name);
            }
        }
    }

    /// A line that failed.
    pub fn fail(&mut self, line: u64, code: &str) {
        self.failures += 1;
        if self.failed.len() < FAILED {
            self.failed.push(FailedLine { line, code: code.to_owned() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_name_the_first_hundred() {
        let mut totals = Totals::default();
        for line in 1..=150 {
            totals.fail(line, "bad_request");
        }
        totals.add(2, 1, 1, vec!["k1".into()]);
        totals.add(2, 1, 1, vec!["k1".into()]);
        let json = serde_json::to_value(&totals).unwrap();
        assert_eq!(json["failures"], 150);
        assert_eq!(json["failed"].as_array().unwrap().len(), 100);
        assert_eq!(json["failed"][99], serde_json::json!({"line":100,"code":"bad_request"}));
        assert_eq!((&json["matched"], &json["delivered"]), (&4.into(), &2.into()));
        assert_eq!(json["gone"], serde_json::json!(["k1"]), "each name once");
    }
}
