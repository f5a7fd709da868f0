//! What a check has come to.

use serde::Serialize;

use crate::error::exit;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// Messages are lost, or the listener does not work.
    Error,
    /// It works, and not as well as it could.
    Warning,
}

/// Something that is wrong with a listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// A word for programs.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub mend: String,
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// As it should.
    Good,
    /// A finding tells more.
    Bad,
    /// It was not played.
    Skipped,
}

/// A step of the check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct StepReport {
    /// Its name.
    pub step: &'static str,
    /// How it went.
    pub outcome: Outcome,
    /// What the listener did, and what the gateway would do.
    pub gateway: String,
}

/// Everything that was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Report {
    /// What is wrong, the worst first.
    pub findings: Vec<Finding>,
    /// The steps in their order.
    pub steps: Vec<StepReport>,
    /// What the listener wrote to stderr last.
    pub stderr: Vec<String>,
    /// Whether it could be started.
    #[serde(skip)]
    pub started: bool,
}

impl Report {
    /// The exit code of `wsgw check`.
    pub(crate) fn exit(&self) -> u8 {
        if !self.started {
            exit::LISTENER
        } else if self.findings.is_empty() {
            exit::OK
        } else {
            exit::FAILURE
        }
    }
}
