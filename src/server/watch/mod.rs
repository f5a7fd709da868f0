//! How everything stands, for those who watch: `health` says it in words, `gateway` of one gateway.
//!
//! All of it runs on the control runtime. It reads counters that are kept in any case; what it
//! remembers from one look to the next goes with the last watcher.

mod gateway;
mod health;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::api::Watch;
use crate::control::backend::{LogPart, Sampler};
use crate::server::Server;
use gateway::Before;

/// Looks at all gateways of a server, again and again.
pub(crate) struct Looks {
    server: Arc<Server>,
    /// What the look before found of each gateway.
    before: HashMap<String, Before>,
}

impl Looks {
    /// The first look has nothing to compare with.
    pub(super) fn new(server: Arc<Server>) -> Looks {
        Looks { server, before: HashMap::new() }
    }
}

impl Sampler for Looks {
    fn sample(&mut self) -> Watch {
        let now = Instant::now();
        let all = self.server.all();
        let mut before = std::mem::take(&mut self.before);
        let mut gateways = Vec::with_capacity(all.len());
        let mut silent = Vec::new();
        for gateway in &all {
            let mut old = before.remove(&gateway.id);
            gateways.push(gateway.watched(&mut old, now, &self.server.recent));
            silent.push(old.as_ref().map(Before::silent).unwrap_or_default());
            self.before.extend(old.map(|old| (gateway.id.clone(), old)));
        }
        let (mut health, mut reasons) = self.server.health_in_words(&gateways, &silent);
        if let Some(why) = self.server.degraded() {
            health = if health == "ok" { "degraded" } else { health };
            reasons.push(why);
        }
        Watch {
            time: rfc3339(SystemTime::now()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            since: rfc3339(self.server.since),
            health: health.to_owned(),
            reasons,
            gateways,
            log: Vec::new(),
            log_skipped: 0,
            nodes: self.server.cluster_nodes(),
        }
    }
}

impl Server {
    /// Lines of the log that came after this; with `None` the newest that are kept.
    pub(super) fn log_after(&self, seen: Option<u64>) -> LogPart {
        let part = self.recent.after(seen);
        LogPart { lines: part.lines, skipped: part.skipped, end: part.end }
    }
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
