//! The health of a `serve` in words.

use crate::api::{GatewayState, ListenerState, WatchedGateway};
use crate::server::Server;

impl Server {
    /// `ok`, `degraded` or `failed`, and why it is not `ok`.
    pub(super) fn health_in_words(
        &self,
        gateways: &[WatchedGateway],
    ) -> (&'static str, Vec<String>) {
        if self.host.is_stopping() {
            return ("failed", vec!["wsgw serve is stopping.".to_owned()]);
        }
        let reasons: Vec<String> = gateways.iter().filter_map(what_is_wrong).collect();
        let fails = || {
            let starts = |gateway: &WatchedGateway| gateway.status.state == GatewayState::Starting;
            !gateways.iter().any(starts) && self.health().is_err()
        };
        match reasons.is_empty() {
            true => ("ok", reasons),
            false if fails() => ("failed", reasons),
            false => ("degraded", reasons),
        }
    }
}

/// What is wrong with a gateway.
fn what_is_wrong(gateway: &WatchedGateway) -> Option<String> {
    let status = &gateway.status;
    let id = &status.id;
    match status.state {
        GatewayState::Starting => Some(format!("The gateway {id} is starting.")),
        GatewayState::Failed => {
            let error = status.error.as_deref().unwrap_or("the log says why");
            let first = error.lines().next().unwrap_or_default();
            Some(format!("The gateway {id} has failed: {first}."))
        }
        GatewayState::Running if status.listener == ListenerState::Restarting => Some(format!(
            "The listener of the gateway {id} is down and will be started again; clients stay \
             connected and wait."
        )),
        GatewayState::Running | GatewayState::Stopped | GatewayState::Stopping => None,
    }
}
