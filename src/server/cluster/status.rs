//! How a gateway's cluster stands, for the health, the metrics and the list of nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::api::NodeStatus;
use crate::gateway::kept;
use crate::gateway::metrics::ClusterMetrics;
use crate::listener::protocol::node::Node;
use crate::server::cluster::nodes::Nodes;

/// How it stands.
pub(crate) struct Status {
    metrics: Arc<ClusterMetrics>,
    up: AtomicBool,
    why: Mutex<Option<String>>,
    nodes: Mutex<Vec<NodeStatus>>,
    ready: watch::Sender<bool>,
    /// Why the gateway cannot take part at all.
    unfit: watch::Sender<Option<String>>,
    warned: AtomicBool,
    holds: AtomicBool,
}

impl Status {
    pub(super) fn new(metrics: Arc<ClusterMetrics>) -> Status {
        Status {
            metrics,
            up: AtomicBool::new(false),
            why: Mutex::new(None),
            nodes: Mutex::default(),
            ready: watch::Sender::new(false),
            unfit: watch::Sender::new(None),
            warned: AtomicBool::new(false),
            holds: AtomicBool::new(false),
        }
    }

    /// Whether the servers are there.
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Resolves when the stream has been read for the first time.
    pub(crate) async fn when_ready(&self) {
        // The sender lives as long as this does.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Resolves with the reason when it turns out that the gateway cannot take part at all.
    pub(crate) async fn when_unfit(&self) -> String {
        let mut unfit = self.unfit.subscribe();
        let why = unfit.wait_for(Option::is_some).await.map(|why| why.clone());
        match why {
            Ok(Some(why)) => why,
            // The sender lives as long as this does.
            _ => std::future::pending().await,
        }
    }

    pub(super) fn give_up(&self, why: String) {
        self.unfit.send_replace(Some(why));
    }

    pub(super) fn ready(&self) {
        self.ready.send_replace(true);
    }

    /// Why the cluster is degraded, if it is.
    pub(crate) fn degraded(&self) -> Option<String> {
        if self.up.load(Ordering::Relaxed) {
            return None;
        }
        let why = self.why.lock().clone();
        Some(why.unwrap_or_else(|| "no NATS server can be reached".to_owned()))
    }

    pub(super) fn set_up(&self, gateway: &str, up: bool) {
        self.metrics.up.set(u64::from(up));
        if self.up.swap(up, Ordering::Relaxed) == up {
            return;
        }
        match up {
            true => {
                self.why.lock().take();
                tracing::info!(gateway, "the cluster's stream is there");
            }
            false => {
                let why = self.why.lock().clone().unwrap_or_default();
                tracing::warn!(gateway, "the cluster is degraded: {why}");
            }
        }
    }

    pub(super) fn failed(&self, gateway: &str, why: &str) {
        let before = self.why.lock().replace(why.to_owned());
        if !self.up.load(Ordering::Relaxed) && before.as_deref() != Some(why) {
            tracing::warn!(gateway, "the cluster is degraded: {why}");
        }
    }

    /// A node fell silent.
    pub(super) fn silent(&self) {
        self.metrics.silent.inc();
    }

    /// Says once what is not as it should be.
    pub(super) fn check(&self, gateway: &str, differences: &[String], version: &str) {
        if self.warned.swap(true, Ordering::Relaxed) {
            return;
        }
        if !differences.is_empty() {
            let differences = differences.join("; ");
            tracing::warn!(
                gateway,
                "the stream has other settings than this node's, and keeps them: {differences}"
            );
        }
        if is_old(version) {
            tracing::warn!(
                gateway,
                "the NATS server has version {version}: those before 2.10.23 can lose what they have acknowledged when they are killed"
            );
        }
    }

    /// Shows these nodes from now on.
    pub(super) fn set_nodes(
        &self,
        (me, name, connections): (Node, &str, u64),
        nodes: &Nodes,
        clock: u64,
    ) {
        self.metrics.nodes.set(nodes.count() as u64 + 1);
        let of = |(node, known): (Node, &crate::server::cluster::nodes::Known)| NodeStatus {
            node: node.to_string(),
            name: known.name.clone(),
            this: false,
            connections: known.connections,
            silent_ms: known.silent_for(clock),
        };
        let this = NodeStatus {
            node: me.to_string(),
            name: name.to_owned(),
            this: true,
            connections,
            silent_ms: 0,
        };
        *self.nodes.lock() = std::iter::once(this).chain(nodes.all().map(of)).collect();
    }

    /// All nodes that are heard, this one first.
    pub(crate) fn nodes(&self) -> Vec<NodeStatus> {
        self.nodes.lock().clone()
    }

    pub(super) fn strayed(&self) {
        self.metrics.local.inc();
    }

    pub(super) fn published(&self) {
        self.metrics.published.inc();
    }

    pub(super) fn retried(&self, messages: usize) {
        self.metrics.retried.add(messages as u64);
    }

    /// Messages wait for the servers, from now on or no longer.
    pub(super) fn holds(&self, holds: bool) {
        self.holds.store(holds, Ordering::Relaxed);
    }

    /// Whether messages wait for servers that cannot be reached.
    pub(crate) fn is_holding(&self) -> bool {
        self.holds.load(Ordering::Relaxed)
    }

    /// So many entries of another node never came.
    pub(super) fn missed(&self, entries: u64) {
        self.metrics.missed.add(entries);
        self.metrics.gaps.inc();
    }

    pub(super) fn lost(&self) {
        self.metrics.lost.inc();
    }

    pub(super) fn gap(&self) {
        self.metrics.gaps.inc();
    }

    pub(super) fn ignored(&self) {
        self.metrics.ignored.inc();
    }

    pub(super) fn lag(&self, made_at: u64) {
        self.metrics.lag.set(kept::now().saturating_sub(made_at));
    }
}

/// Whether a version is older than 2.10.23.
fn is_old(version: &str) -> bool {
    let mut parts = version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let mut part = || parts.next().unwrap_or(0);
    (part(), part(), part()) < (2, 10, 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_before_2_10_23_are_old() {
        for (version, old) in [
            ("2.9.10", true),
            ("2.10.22", true),
            ("2.10.23", false),
            ("2.11.0-RC.1", false),
            ("2.12.1", false),
            ("3.0.0", false),
            ("", true),
        ] {
            assert_eq!(is_old(version), old, "{version}");
        }
    }
}
