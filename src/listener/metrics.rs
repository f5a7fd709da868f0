//! What is counted about one gateway's listener, and noted of it.

use crate::listener::notes::Notes;
use crate::metrics::metrics;

metrics! {
    /// The counters of one gateway's listener and of the conversation with it.
    pub struct ListenerMetrics {
        /// Named recipients that are closed or unknown.
        pub gone: Counter = "wsgw_recipients_gone_total",
        /// Events sent and not answered.
        pub unanswered: Gauge = "wsgw_listener_unanswered_events",
        /// Restarts of the listener.
        pub restarts: Counter = "wsgw_listener_restarts_total",
        /// Answers that nothing waited for: late, repeated, or to an event that needs none.
        pub late: Counter = "wsgw_listener_late_answers_total",
        /// Result lines dropped because their queue was full.
        pub results_dropped: Counter = "wsgw_listener_results_dropped_total",
        /// Lines that the listener wrote to stderr, including lines that are not shown.
        pub stderr_lines: Counter = "wsgw_listener_stderr_lines_total",
        /// Messages that the gateway dropped, by reason.
        pub messages_dropped: Labelled = "wsgw_messages_dropped_total" by "reason",
        /// Faults of the listener, by kind.
        pub faults: Labelled = "wsgw_listener_faults_total" by "kind",
        /// Time from an event's last byte to its answer.
        pub latency: Histogram = "wsgw_listener_answer_seconds",
        with
        /// What is kept of it for those who watch.
        pub notes: Notes,
    }
}
