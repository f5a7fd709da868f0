//! The configuration is read again: what that does to the gateways as a whole. What it does to one
//! of them is in `change`.

use std::sync::Arc;

use crate::api::{ApiError, ErrorCode};
use crate::config::settings::{GatewaySettings, ServeSettings};
use crate::server::Server;
use crate::server::cluster::Cluster;
use crate::server::gateway::Gateway;
use crate::server::starting::one_line;

impl Server {
    /// Re-reads the config, within the turn of one reload.
    ///
    /// # Errors
    /// What was not carried out.
    pub(crate) async fn reload_now(self: &Arc<Self>) -> Result<Option<String>, ApiError> {
        let settings = (self.load)().map_err(|e| {
            tracing::error!("reload: nothing was changed: {e}");
            ApiError::new(ErrorCode::Failed, format!("nothing was changed: {e}"))
        })?;
        if self.config_file.is_some() && settings.config_file.is_none() {
            let text = "nothing was changed: the config file is gone";
            tracing::error!("reload: {text}");
            return Err(ApiError::new(ErrorCode::Failed, text));
        }
        let mut errors = Vec::new();
        if let Err(why) = (self.apply)(&settings) {
            errors.push(why);
        }
        let notice = self.needs_new_serve(&settings);
        if let Some(text) = &notice {
            tracing::warn!("reload: {text}");
        }
        let old = self.all();
        let mut next: Vec<Arc<Gateway>> = Vec::new();
        let mut work = Vec::new();
        for new in settings.gateways {
            let known = old.iter().find(|g| g.id == new.id).map(Arc::clone);
            let gateway = known.clone().unwrap_or_else(|| Gateway::new(new.clone(), &self.host));
            next.push(Arc::clone(&gateway));
            work.push((gateway, known.map(|_| new)));
        }
        // Removed ones go first: their ports may be wanted.
        let is_kept = |gateway: &Arc<Gateway>| next.iter().any(|g| Arc::ptr_eq(g, gateway));
        let removed: Vec<_> = old.into_iter().filter(|gateway| !is_kept(gateway)).collect();
        stop_all(removed.clone()).await;
        // Another gateway may be about to open the same file.
        removed.iter().for_each(|gateway| gateway.close_history());
        *self.gateways.lock() = next;
        // One may wait for the port that another one leaves.
        loop {
            let before = work.len();
            let (again, failed) = carry_out(work).await;
            errors.extend(failed);
            if again.is_empty() || again.len() == before {
                errors.extend(again.into_iter().map(|(_, _, why)| why));
                break;
            }
            work = again.into_iter().map(|(gateway, new, _)| (gateway, new)).collect();
        }
        if errors.is_empty() {
            tracing::info!("configuration reloaded");
            Ok(notice)
        } else {
            errors.iter().for_each(|error| tracing::error!("reload: {}", one_line(error)));
            Err(ApiError::new(ErrorCode::Failed, errors.join("\n")))
        }
    }

    /// What of new settings this process cannot apply.
    fn needs_new_serve(&self, new: &ServeSettings) -> Option<String> {
        let mut changed = Vec::new();
        if new.control != self.control {
            changed.push("[control]");
        }
        if new.cluster.as_ref() != self.host.cluster.as_ref().map(Cluster::settings) {
            changed.push("[cluster]");
        }
        if new.log.directory != self.log.directory {
            changed.push("the log's directory");
        }
        let text = "changed: that needs a new `wsgw serve`; the rest was applied";
        (!changed.is_empty()).then(|| format!("{} {text}", changed.join(" and ")))
    }
}

/// A gateway and its new settings; none where it is new itself.
type Change = (Arc<Gateway>, Option<GatewaySettings>);

/// Carries changes out, all at once. Those that found their port taken come back with the reason;
/// the other failures are told.
#[allow(clippy::type_complexity)] // each is named where it is used
async fn carry_out(
    work: Vec<Change>,
) -> (Vec<(Arc<Gateway>, Option<GatewaySettings>, String)>, Vec<String>) {
    let tasks: Vec<_> = work
        .into_iter()
        .map(|(gateway, new)| {
            tokio::spawn(async move {
                let done = match new.clone() {
                    Some(new) => gateway.change(new).await,
                    None => gateway.start_new().await,
                };
                (gateway, new, done)
            })
        })
        .collect();
    let (mut again, mut failed) = (Vec::new(), Vec::new());
    for task in tasks {
        match task.await {
            Ok((_, _, Ok(()))) => {}
            Ok((gateway, new, Err(error))) => {
                let taken = error.taken;
                let why = gateway.error(error).message;
                if taken { again.push((gateway, new, why)) } else { failed.push(why) }
            }
            Err(error) => failed.push(error.to_string()),
        }
    }
    (again, failed)
}

/// Stops gateways, all at once.
pub(crate) async fn stop_all(gateways: Vec<Arc<Gateway>>) {
    let stops: Vec<_> = gateways
        .into_iter()
        .map(|gateway| tokio::spawn(async move { gateway.stop(false).await }))
        .collect();
    for stop in stops {
        // A stop does not fail.
        let _ = stop.await;
    }
}
