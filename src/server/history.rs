//! The histories of gateways: made at a gateway's first start with the table, kept over stops,
//! restarts and reloads while the table is there.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::config::settings::{GatewaySettings, HistorySettings};
use crate::gateway::history::{Limits, Store};
use crate::gateway::kept;
use crate::gateway::kept::History;
use crate::gateway::shared::Shared;
use crate::server::Host;
use crate::server::gateway::{Gateway, Keeping};

fn limits(settings: &HistorySettings) -> Limits {
    Limits {
        channels: settings.channels.clone(),
        broadcast: settings.broadcast,
        age_ms: u64::try_from(settings.age.as_millis()).unwrap_or(u64::MAX),
        bytes: settings.bytes,
    }
}

impl Gateway {
    /// The history that these settings ask for: the one that is there, or a new one. Nothing
    /// changes yet.
    ///
    /// # Errors
    /// The file cannot be used.
    pub(super) async fn history_for(
        self: &Arc<Self>,
        settings: &Arc<GatewaySettings>,
    ) -> Result<Option<Keeping>, String> {
        if settings.history.as_ref().is_none_or(|history| history.file.is_none()) {
            return self.open_history(settings);
        }
        // A file is read whole, and may be waited for.
        let (gateway, settings) = (Arc::clone(self), Arc::clone(settings));
        let opened = tokio::task::spawn_blocking(move || gateway.open_history(&settings)).await;
        opened.unwrap_or_else(|error| Err(format!("the history cannot be opened: {error}")))
    }

    fn open_history(&self, settings: &GatewaySettings) -> Result<Option<Keeping>, String> {
        let Some(new) = &settings.history else { return Ok(None) };
        let there = self.keeping().filter(|keeping| keeping.settings.file == new.file);
        if let Some(keeping) = there {
            return Ok(Some(Keeping { settings: new.clone(), ..keeping }));
        }
        let history = match &new.file {
            None => History::in_memory(limits(new)),
            Some(path) => {
                let (store, log) = Store::open(path, limits(new), kept::now())?;
                let history = History::in_file(log, Box::new(store), &self.id);
                history
                    .map_err(|error| format!("the history's thread cannot be started: {error}"))?
            }
        };
        let history = Arc::new(history);
        Ok(Some(Keeping { settings: new.clone(), history, counted: Arc::default() }))
    }

    /// Keeps messages there from now on. What was there before ends, if it is another.
    pub(super) fn keep_in(&self, keeping: Option<Keeping>, running: Option<(&Arc<Shared>, &Host)>) {
        if let Some(keeping) = &keeping {
            keeping.history.set_limits(limits(&keeping.settings));
        }
        let history = keeping.as_ref().map(|keeping| Arc::clone(&keeping.history));
        let old = std::mem::replace(&mut *self.keeping.lock(), keeping);
        let is_same = |old: &Keeping| {
            history.as_ref().is_some_and(|history| Arc::ptr_eq(history, &old.history))
        };
        let old = old.filter(|old| !is_same(old));
        if let Some(old) = &old {
            old.history.flush();
        }
        if let Some((shared, host)) = running {
            host.engine.core().set_history(shared, history);
        }
        if let Some(old) = old {
            old.history.close();
        }
    }

    fn keeping(&self) -> Option<Keeping> {
        self.keeping.lock().clone()
    }

    /// The history; `None` if nothing is kept.
    pub(crate) fn history(&self) -> Option<Arc<History>> {
        self.keeping().map(|keeping| keeping.history)
    }

    /// Ends the history in order; `serve` ends.
    pub(crate) fn close_history(&self) {
        if let Some(history) = self.history() {
            history.close();
        }
    }

    /// Brings what the metrics show of channels and history up to date.
    pub(crate) fn note_history(&self) {
        let metrics = &self.metrics;
        let channels = self.running().map_or(0, |running| running.shared.channels.count());
        metrics.channels.set(channels as u64);
        let Some(keeping) = self.keeping() else {
            metrics.history_messages.set(0);
            metrics.history_bytes.set(0);
            metrics.history_age.set(0);
            return;
        };
        let stats = keeping.history.stats();
        metrics.history_messages.set(stats.messages as u64);
        metrics.history_bytes.set(stats.bytes as u64);
        metrics.history_age.set(stats.oldest_at.map_or(0, kept::milliseconds_since) / 1_000);
        let counted = keeping.counted.swap(stats.evictions, Ordering::Relaxed);
        metrics.history_evicted.add(stats.evictions.saturating_sub(counted));
    }
}
