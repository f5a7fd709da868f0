//! A gateway's settings change while it lives: what `reload` does to one gateway.
//!
//! The new parts are started before the old ones stop, where that is possible. If they do not
//! start, the old ones stay.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::api::GatewayState;
use crate::config::settings::{GatewaySettings, ListenHost, Startup};
use crate::gateway::msg::HubMsg;
use crate::gateway::shared::Shared;
use crate::listener::supervisor;
use crate::listener::supervisor::Supervisor;
use crate::server::gateway::{Gateway, Running, StartError};
use crate::server::starting::{check_static, tls_of};
use crate::ws::close;

impl Gateway {
    /// Starts a gateway that a reload brought, if it is to be started by itself.
    ///
    /// # Errors
    /// Why it has failed.
    pub(crate) async fn start_new(self: &Arc<Self>) -> Result<(), StartError> {
        let _turn = self.verb.lock().await;
        let automatic = self.state().settings.startup == Startup::Automatic;
        if automatic { self.start_locked().await } else { Ok(()) }
    }

    /// Applies changed settings.
    ///
    /// # Errors
    /// What could not be done; the gateway goes on as it was.
    pub(crate) async fn change(self: &Arc<Self>, new: GatewaySettings) -> Result<(), StartError> {
        let _turn = self.verb.lock().await;
        let new = Arc::new(new);
        let (old, running, phase) = {
            let state = self.state();
            (Arc::clone(&state.settings), state.running.clone(), state.phase)
        };
        let Some(running) = running else {
            if new.history.is_none() {
                self.keep_in(None, None);
            }
            let same = *old == *new;
            let automatic = new.startup == Startup::Automatic;
            {
                let mut state = self.state();
                if new.startup == Startup::Disabled {
                    state.phase = GatewayState::Stopped;
                    state.error = None;
                }
                state.settings = new;
            }
            // A stopped gateway stays stopped. A failed one is tried again, for the cause may lie
            // outside the file (a port, a certificate). If nothing changed and it fails again, that
            // is not an error of this reload.
            if phase != GatewayState::Failed || !automatic {
                return Ok(());
            }
            return self.start_locked().await.or_else(|why| if same { Ok(()) } else { Err(why) });
        };
        let new = self.fitted(&new).await?;
        let failed = |why: String| StartError::new(remark(&why, "it goes on as it was"));
        if new.startup == Startup::Disabled {
            self.state().settings = new;
            self.stop_locked(false).await;
            return Ok(());
        }
        if old.needs_restart(&new) {
            return self.replace_with(&running, &old, &new).await;
        }
        if (old.mode, &old.group) != (new.mode, &new.group) {
            self.change_socket_file(&new).await.map_err(failed)?;
        }
        // The files may hold another certificate under the same names.
        let tls = tls_of(&new).map_err(failed)?;
        check_static(&new).map_err(failed)?;
        let host = self.host()?;
        let keeping = self.history_for(&new).await.map_err(failed)?;
        if old.needs_new_listener(&new) {
            self.change_listener(&running, &new).await.map_err(failed)?;
        } else if *old != *new {
            self.apply(&running.shared, &new);
        }
        if old.history != new.history {
            self.keep_in(keeping, Some((&running.shared, &host)));
        }
        running.shared.set_tls(tls);
        self.state().settings = new;
        self.settled(&running.shared).await;
        Ok(())
    }

    /// Another address, or TLS switched on or off: the gateway is replaced by another one.
    async fn replace_with(
        self: &Arc<Self>,
        running: &Running,
        old: &GatewaySettings,
        new: &Arc<GatewaySettings>,
    ) -> Result<(), StartError> {
        // 127.0.0.1 and 0.0.0.0, or two spellings of one path.
        let may_overlap = match (&old.host, &new.host) {
            (ListenHost::Name(_), ListenHost::Name(_)) => old.port == new.port && new.port != 0,
            (_, ListenHost::Unix(path)) => {
                self.state().socket_file.as_ref().is_some_and(|file| file.stands_at(path))
            }
            _ => false,
        };
        // On the same address both use one socket, so that no client is refused in between.
        let shared = if old.has_address_of(new) { self.acceptor() } else { None };
        match self.bring_up(new, shared).await {
            Ok(next) => {
                self.state().phase = GatewayState::Stopping;
                self.bring_down(running, old, close::STOPPING, Duration::ZERO).await;
                self.state().settings = Arc::clone(new);
                self.go_live(next, new);
                Ok(())
            }
            // The addresses overlap: the old one has to stop first.
            Err(error) if error.taken && may_overlap => {
                let old = Arc::clone(&self.state().settings);
                self.stop_locked(false).await;
                self.state().settings = Arc::clone(new);
                let Err(mut error) = self.start_locked().await else { return Ok(()) };
                self.state().settings = old;
                match self.start_locked().await {
                    Ok(()) => {
                        error.text = remark(&error.text, "it was started as it was before");
                    }
                    Err(again) => error.text.push_str(&format!(", nor as before: {}", again.text)),
                }
                // The caller must not try again: that would cut its clients once more.
                Err(StartError { taken: false, ..error })
            }
            Err(mut error) => {
                error.text = remark(&error.text, "it goes on as it was");
                Err(error)
            }
        }
    }

    /// Sets mode and group of the unix socket, if it has one that is ours.
    async fn change_socket_file(&self, new: &GatewaySettings) -> Result<(), String> {
        let Some(file) = self.state().socket_file.clone() else { return Ok(()) };
        let (mode, group) = (new.mode, new.group.clone());
        let changed = move || file.set_access(mode, group.as_deref());
        match tokio::task::spawn_blocking(changed).await {
            Ok(changed) => changed.map_err(|why| format!("the unix socket: {why}")),
            Err(error) => Err(error.to_string()),
        }
    }

    fn apply(&self, shared: &Shared, settings: &Arc<GatewaySettings>) {
        shared.set_settings(Arc::clone(settings));
        if let Ok(host) = self.host() {
            host.engine.core().post_all(shared, || HubMsg::Settings);
        }
    }

    /// Waits until every shard works by the new settings: what a client sends once a reload is done
    /// is handled by them.
    async fn settled(&self, shared: &Shared) {
        let Ok(host) = self.host() else { return };
        let mut answers = Vec::new();
        host.engine.core().post_all(shared, || {
            let (reply, answer) = oneshot::channel();
            answers.push(answer);
            HubMsg::Sync(reply)
        });
        for answer in answers {
            // A shard that has nothing of the gateway any more says nothing.
            let _ = answer.await;
        }
    }

    async fn change_listener(
        self: &Arc<Self>,
        running: &Running,
        new: &Arc<GatewaySettings>,
    ) -> Result<(), String> {
        let host = self.host().map_err(|error| error.text)?;
        match (&running.supervisor, &new.listener) {
            (Some(supervisor), Some(_)) => {
                let replaced = supervisor.replace(Arc::clone(new)).await;
                replaced.map_err(|why| format!("the new listener failed: {why}"))
            }
            (Some(supervisor), None) => {
                supervisor.stop(host.hurry()).await;
                self.apply(&running.shared, new);
                if let Some(running) = &mut self.state().running {
                    running.supervisor = None;
                }
                Ok(())
            }
            (None, Some(_)) => {
                let context = host.supervisor_context(&running.shared);
                let first = supervisor::try_out(&context, new)
                    .await
                    .map_err(|why| format!("the listener cannot be started: {why}"))?;
                let reports = running.shared.new_reports();
                self.apply(&running.shared, new);
                let supervisor = Supervisor::start(context, reports, Some(first));
                self.watch_listener(supervisor.life(), Arc::clone(&running.shared));
                if let Some(running) = &mut self.state().running {
                    running.supervisor = Some(Arc::new(supervisor));
                }
                Ok(())
            }
            (None, None) => {
                self.apply(&running.shared, new);
                Ok(())
            }
        }
    }
}

/// A reason with a remark behind its first line, before a listener's last words.
fn remark(reason: &str, remark: &str) -> String {
    let (first, more) = reason.split_at(reason.find('\n').unwrap_or(reason.len()));
    format!("{first}; {remark}{more}")
}
