//! The health of a `serve` in words.

use std::time::Duration;

use crate::api::{GatewayState, ListenerState, WatchedGateway};
use crate::server::Server;

/// A listener that owes answers and has given none for so long is worth a word.
const SILENCE: Duration = Duration::from_secs(3);

impl Server {
    /// `ok`, `degraded` or `failed`, and why it is not `ok`. `silent` says of each gateway for how long
    /// its listener has owed answers and given none.
    pub(super) fn health_in_words(
        &self,
        gateways: &[WatchedGateway],
        silent: &[Duration],
    ) -> (&'static str, Vec<String>) {
        if self.host.is_stopping() {
            return ("failed", vec!["wsgw serve is stopping.".to_owned()]);
        }
        let reasons: Vec<String> = gateways
            .iter()
            .zip(silent)
            .filter_map(|(gateway, silent)| what_is_wrong(gateway, *silent))
            .collect();
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
fn what_is_wrong(gateway: &WatchedGateway, silent: Duration) -> Option<String> {
    let status = &gateway.status;
    let id = &status.id;
    match status.state {
        GatewayState::Starting => Some(format!("The gateway {id} is starting.")),
        GatewayState::Failed => {
            let error = status.error.as_deref().unwrap_or("the log says why");
            let first = error.lines().next().unwrap_or_default();
            Some(format!("The gateway {id} has failed: {}.", first.trim_end_matches('.')))
        }
        GatewayState::Running if status.listener == ListenerState::Restarting => Some(format!(
            "The listener of the gateway {id} is down and will be started again; clients stay \
             connected and wait."
        )),
        GatewayState::Running if silent >= SILENCE => {
            let unanswered = gateway.listener_detail.as_ref().map_or(0, |l| l.unanswered);
            let (events, wait) =
                if unanswered == 1 { ("event", "waits") } else { ("events", "wait") };
            Some(format!(
                "The listener of the gateway {id} has answered nothing for {} s, and {unanswered} \
                 {events} {wait} for it.",
                silent.as_secs()
            ))
        }
        GatewayState::Running | GatewayState::Stopped | GatewayState::Stopping => None,
    }
}
