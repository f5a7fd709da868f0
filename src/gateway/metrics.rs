//! The counters of one gateway, and the Prometheus text of all gateways.

use std::sync::Arc;

use crate::listener::metrics::ListenerMetrics;
use crate::metrics;
use crate::metrics::Gauge;

metrics::metrics! {
    /// The counters of one gateway.
    pub struct Metrics {
        /// Open connections, streams among them.
        pub connections: Gauge = "wsgw_connections_open",
        /// Connections accepted: handshakes answered with 101, streams with 200.
        pub accepted: Counter = "wsgw_connections_accepted_total",
        /// Connections refused, by reason.
        pub refused: Labelled = "wsgw_connections_refused_total" by "reason",
        /// Connections closed, by close code.
        pub closed: CloseCodes = "wsgw_connections_closed_total" by "code",
        /// Messages from clients.
        pub messages_in: Counter = "wsgw_messages_received_total",
        /// Payload bytes from clients, as they came.
        pub bytes_in: Counter = "wsgw_received_bytes_total",
        /// Messages pushed through the control port.
        pub pushes: Counter = "wsgw_pushes_total",
        /// Messages to clients, one for each recipient.
        pub messages_out: Counter = "wsgw_deliveries_total",
        /// Frame bytes to clients.
        pub bytes_out: Counter = "wsgw_delivered_bytes_total",
        /// Payload bytes that were compressed, each message once for each encoding, window and CPU.
        pub compression_in: Counter = "wsgw_compression_input_bytes_total",
        /// Bytes that these became.
        pub compression_out: Counter = "wsgw_compression_output_bytes_total",
        /// Deliveries refused by a connection's full queue.
        pub deliveries_dropped: Counter = "wsgw_deliveries_dropped_total",
        /// Connections closed as slow consumers.
        pub slow_consumers: Counter = "wsgw_slow_consumers_total",
        /// Channels that have members.
        pub channels: Gauge = "wsgw_channels",
        /// Members of channels; a connection counts once for each of its channels.
        pub members: Gauge = "wsgw_channel_members",
        /// Times that a connection became a member of a channel.
        pub joins: Counter = "wsgw_channel_joins_total",
        /// Clients that came with a position, by result.
        pub resumes: Labelled = "wsgw_resumes_total" by "result",
        /// Requests that sent messages for a stream, by status of the answer.
        pub posts: Labelled = "wsgw_posts_total" by "status",
        /// Polls, by status of the answer.
        pub polls: Labelled = "wsgw_polls_total" by "status",
        /// Polls that wait.
        pub polls_waiting: Gauge = "wsgw_polls_waiting",
        /// Messages in the history.
        pub history_messages: Gauge = "wsgw_history_messages",
        /// Bytes of the messages in the history.
        pub history_bytes: Gauge = "wsgw_history_bytes",
        /// Age of the oldest message in the history, in seconds.
        pub history_age: Gauge = "wsgw_history_oldest_seconds",
        /// Messages that left the history because of its limits.
        pub history_evicted: Counter = "wsgw_history_evictions_total",
        /// Messages that were sent without a position because the history's file could not be written.
        pub history_unwritten: Counter = "wsgw_history_unwritten_total",
        /// Events that wait for the listener.
        pub queued: Gauge = "wsgw_listener_queue_events",
        with
        /// Those of its listener.
        pub listener: Arc<ListenerMetrics>,
    }
}

metrics::metrics! {
    /// The counters of a gateway's part of a cluster.
    pub struct ClusterMetrics {
        /// 1 while the NATS servers can be reached.
        pub up: Gauge = "wsgw_cluster_up",
        /// Nodes that are heard, this one among them.
        pub nodes: Gauge = "wsgw_cluster_nodes",
        /// Times that another node fell silent.
        pub silent: Counter = "wsgw_cluster_silent_nodes_total",
        /// Messages that were published to the other nodes; one holds the deliveries of a turn.
        pub published: Counter = "wsgw_cluster_published_total",
        /// Messages that were published again.
        pub retried: Counter = "wsgw_cluster_retried_total",
        /// Deliveries of this node that were published, did not come to the stream, and went to nobody.
        pub lost: Counter = "wsgw_cluster_lost_total",
        /// Deliveries of this node that only its own clients got, because no NATS server could be reached.
        pub local: Counter = "wsgw_cluster_local_total",
        /// Times that something of the stream, or of another node, was missing.
        pub gaps: Counter = "wsgw_cluster_gaps_total",
        /// With cluster = "core": deliveries of other nodes that this one did not get.
        pub missed: Counter = "wsgw_cluster_missed_total",
        /// Messages that came twice, or out of their node's order, and were ignored.
        pub ignored: Counter = "wsgw_cluster_ignored_total",
        /// Milliseconds from when another node made the newest message to when it was handled.
        pub lag: Gauge = "wsgw_cluster_lag_milliseconds",
    }
}

metrics::metrics! {
    /// What is conditions up when it is scraped.
    pub struct Condition {
        /// 1 while the gateway's state is running.
        pub running: Gauge = "wsgw_gateway_running",
        /// 1 while the listener's process is up.
        pub listener_up: Gauge = "wsgw_listener_up",
    }
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
    /// Those of its part of a cluster, if it has one.
    pub cluster: Option<&'a ClusterMetrics>,
}

/// The Prometheus text exposition (version 0.0.4) of all gateways.
pub fn render(gateways: &[Scrape<'_>]) -> String {
    let mut out = String::with_capacity(4096);
    let conditions: Vec<Condition> = gateways
        .iter()
        .map(|s| Condition {
            running: Gauge::from(u64::from(s.running)),
            listener_up: Gauge::from(u64::from(s.listener_up)),
        })
        .collect();
    let ids = gateways.iter().map(|s| s.id);
    metrics::render(&mut out, Condition::FAMILIES, ids.zip(&conditions));
    let all = gateways.iter().map(|s| (s.id, s.metrics));
    metrics::render(&mut out, Metrics::FAMILIES, all.clone());
    let listeners = all.map(|(id, metrics)| (id, &*metrics.listener));
    metrics::render(&mut out, ListenerMetrics::FAMILIES, listeners);
    let clusters: Vec<_> = gateways.iter().filter_map(|s| Some((s.id, s.cluster?))).collect();
    if !clusters.is_empty() {
        metrics::render(&mut out, ClusterMetrics::FAMILIES, clusters.into_iter());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCS: &str = include_str!("../../docs/operations.md");

    /// The row of the documents' table that describes a metric.
    fn row<T>(family: &metrics::Family<T>) -> String {
        let label = match family.label {
            "" => String::new(),
            label => format!(" `{label}`"),
        };
        format!("| `{}` | {} |{label} | {} |", family.name, family.kind, family.help.trim())
    }

    /// Dashboards and alerts are built on the names: one that changes is a change for their owners.
    #[test]
    fn the_documents_name_every_metric_and_no_other() {
        let mut rows: Vec<String> = Condition::FAMILIES.iter().map(row).collect();
        rows.extend(Metrics::FAMILIES.iter().map(row));
        rows.extend(ListenerMetrics::FAMILIES.iter().map(row));
        rows.extend(ClusterMetrics::FAMILIES.iter().map(row));
        let documented: Vec<&str> =
            DOCS.lines().filter(|line| line.starts_with("| `wsgw_")).collect();
        assert_eq!(documented, rows);
    }

    #[test]
    fn samples_of_all_gateways_follow_their_family() {
        let (chat, ops) = (Metrics::default(), Metrics::default());
        chat.refused.add("origin", 2);
        chat.listener.faults.add("answer", 1);
        let scrape = |id, metrics, running| Scrape {
            id,
            running,
            listener_up: false,
            metrics,
            cluster: None,
        };
        let text = render(&[scrape("chat", &chat, true), scrape("ops", &ops, false)]);
        for sample in [
            "wsgw_gateway_running{gateway=\"chat\"} 1\nwsgw_gateway_running{gateway=\"ops\"} 0",
            "wsgw_listener_up{gateway=\"ops\"} 0",
            "wsgw_connections_refused_total{gateway=\"chat\",reason=\"origin\"} 2",
            "wsgw_listener_faults_total{gateway=\"chat\",kind=\"answer\"} 1",
            "wsgw_listener_answer_seconds_count{gateway=\"ops\"} 0",
        ] {
            assert!(text.contains(&format!("\n{sample}\n")), "{sample} in\n{text}");
        }
    }

    #[test]
    fn every_family_is_described_and_labels_are_where_they_belong() {
        fn check<T>(families: &[metrics::Family<T>], seen: &mut Vec<&'static str>) {
            for family in families {
                assert!(family.help.trim().ends_with('.'), "{}", family.name);
                assert_eq!(family.name.ends_with("_total"), family.kind == "counter");
                let by = family.help.contains(", by ");
                assert_eq!(by, !family.label.is_empty(), "{}", family.name);
                assert!(!seen.contains(&family.name), "{} twice", family.name);
                seen.push(family.name);
            }
        }
        let mut seen = Vec::new();
        check(Condition::FAMILIES, &mut seen);
        check(Metrics::FAMILIES, &mut seen);
        check(ListenerMetrics::FAMILIES, &mut seen);
        check(ClusterMetrics::FAMILIES, &mut seen);
    }
}
