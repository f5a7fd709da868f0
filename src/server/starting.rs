//! How a gateway starts: it binds its port, waits until its listener is up, and accepts clients.
//!
//! This runs on the control runtime while the gateway's verb lock is held. What was started belongs
//! to the caller until `go_live` makes it part of the gateway; a start that fails leaves nothing
//! behind.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::{mpsc, watch};

use crate::api::{ApiError, ErrorCode, GatewayState};
use crate::config::settings::{GatewaySettings, Startup};
use crate::gateway::msg::HubMsg;
use crate::gateway::shared::Shared;
use crate::listener::supervisor::{Life, Report, Supervisor};
use crate::net::tls::server_config;
use crate::server::binding::acceptor_of;
use crate::server::gateway::{Acceptor, Gateway, Running, StartError};
use crate::ws::close;

impl Gateway {
    /// Starts it; fine if it runs.
    pub(crate) async fn start(self: &Arc<Self>) -> Result<(), ApiError> {
        let _turn = self.verb.lock().await;
        self.start_locked().await.map_err(|error| self.error(error))
    }

    /// Starts it, within a verb.
    ///
    /// # Errors
    /// Why it has failed now.
    pub(crate) async fn start_locked(self: &Arc<Self>) -> Result<(), StartError> {
        if self.host()?.is_stopping() {
            let text = "wsgw is stopping".to_owned();
            return Err(StartError { code: ErrorCode::Stopping, text, taken: false });
        }
        let settings = {
            let mut state = self.state();
            state.by_hand = false;
            match (state.phase, state.settings.startup) {
                (GatewayState::Running, _) => return Ok(()),
                (_, Startup::Disabled) => {
                    let text = "it is disabled: set its startup to \"manual\" or \"automatic\" and \
                                reload";
                    let code = ErrorCode::NotRunning;
                    return Err(StartError { code, text: text.to_owned(), taken: false });
                }
                _ => {}
            }
            state.phase = GatewayState::Starting;
            state.error = None;
            Arc::clone(&state.settings)
        };
        match self.bring_up(&settings, None).await {
            Ok(running) => {
                self.go_live(running, &settings);
                Ok(())
            }
            Err(error) => {
                let mut state = self.state();
                state.phase = GatewayState::Failed;
                state.error = Some(error.text.clone());
                tracing::error!(gateway = %self.id, "{}", one_line(&error.text));
                self.metrics.listener.notes.failed(&error.text);
                Err(error)
            }
        }
    }

    /// Binds (unless it is given an acceptor), starts the listener and waits until it lives;
    /// accepts nothing yet.
    ///
    /// # Errors
    /// Why it does not come up; nothing is left of it.
    pub(super) async fn bring_up(
        self: &Arc<Self>,
        settings: &Arc<GatewaySettings>,
        acceptor: Option<Acceptor>,
    ) -> Result<(Running, Acceptor), StartError> {
        let tls = tls_of(settings).map_err(StartError::new)?;
        check_static(settings).map_err(StartError::new)?;
        let host = self.host()?;
        let acceptor = match acceptor {
            Some(acceptor) => acceptor,
            None => acceptor_of(settings, &host.inherited).await?,
        };
        let keeping = self.history_for(settings).await.map_err(StartError::new)?;
        let (reports_out, reports) = mpsc::unbounded_channel::<Report>();
        let observed = (Arc::clone(&self.metrics), Arc::clone(&self.tap));
        let bound = acceptor.address.clone();
        let shared = host.engine.add(Arc::clone(settings), bound, observed, reports_out);
        shared.set_tls(tls);
        // The listener may say something before there is a client.
        let history = keeping.as_ref().map(|keeping| Arc::clone(&keeping.history));
        host.engine.core().set_history(&shared, history);
        let mut running = Running { shared, supervisor: None, keeping };
        if settings.listener.is_some() {
            let context = host.supervisor_context(&running.shared);
            let supervisor = Supervisor::start(context, reports, None);
            let mut life = supervisor.life();
            running.supervisor = Some(Arc::new(supervisor));
            let now = life.wait_for(|life| *life != Life::Starting).await;
            let failed = match now.as_deref() {
                // One that wrote something and ended at once may never be seen up.
                Ok(Life::Up(_) | Life::Restarting) => None,
                Ok(Life::Failed(why)) => Some(why.clone()),
                _ => Some("the listener ended".to_owned()),
            };
            drop(now);
            if let Some(why) = failed {
                host.engine.remove(&running.shared);
                return Err(StartError::new(format!("the listener cannot be started: {why}")));
            }
        }
        Ok((running, acceptor))
    }

    /// Accepts: it runs.
    pub(super) fn go_live(
        self: &Arc<Self>,
        (running, acceptor): (Running, Acceptor),
        settings: &GatewaySettings,
    ) {
        let Ok(host) = self.host() else { return };
        let shared = &running.shared;
        let Acceptor { file, socket, address } = acceptor;
        let copy = socket.try_clone().ok();
        // A predecessor may have kept messages there until now.
        self.keep_in(running.keeping.clone(), Some((shared, &host)));
        host.engine.core().post_hub(shared.primary, shared, HubMsg::Accept(Some(socket)));
        let address = address.url(settings.tls_cert.is_some());
        if let Some(supervisor) = &running.supervisor {
            self.watch_listener(supervisor.life(), Arc::clone(shared));
        }
        let mut state = self.state();
        state.running = Some(running);
        state.acceptor = copy;
        state.socket_file = file;
        state.phase = GatewayState::Running;
        state.error = None;
        drop(state);
        tracing::info!(gateway = %self.id, %address, "gateway running");
        (host.announce)(&format!("gateway {} listening on {address}", self.id));
    }

    /// Watches for a listener that fails for good after the gateway counted as running.
    pub(crate) fn watch_listener(
        self: &Arc<Self>,
        mut life: watch::Receiver<Life>,
        shared: Arc<Shared>,
    ) {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let end = life.wait_for(|l| matches!(l, Life::Failed(_) | Life::Stopped)).await;
            let end = end.map(|life| life.clone());
            let Ok(Life::Failed(why)) = end else { return };
            let _turn = this.verb.lock().await;
            let running = this.running().filter(|r| Arc::ptr_eq(&r.shared, &shared));
            let Some(running) = running else { return };
            let error = format!("the listener cannot be started: {why}");
            tracing::error!(
                gateway = %this.id,
                "{}; the gateway stops, `wsgw start {}` tries again", one_line(&error), this.id
            );
            this.metrics.listener.notes.failed(&error);
            let settings = {
                let mut state = this.state();
                state.phase = GatewayState::Failed;
                state.error = Some(error);
                GatewaySettings { drain: Duration::ZERO, ..(*state.settings).clone() }
            };
            this.bring_down(&running, &settings, close::LISTENER_FAILED, Duration::ZERO).await;
            this.state().running = None;
        });
    }
}

/// The certificate of a gateway, read from its files.
///
/// # Errors
/// What is wrong with which file.
pub(crate) fn tls_of(settings: &GatewaySettings) -> Result<Option<Arc<ServerConfig>>, String> {
    let (Some(cert), Some(key)) = (&settings.tls_cert, &settings.tls_key) else { return Ok(None) };
    let (config, _) = server_config(cert, key)?;
    Ok(Some(Arc::new(config)))
}

/// Looks for the directory of static files.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_static(settings: &GatewaySettings) -> Result<(), String> {
    let Some(directory) = &settings.static_files else { return Ok(()) };
    // What is asked of it is what serving asks: that it is a directory, and may be entered.
    let found = std::fs::metadata(directory.join("."));
    found.map(drop).map_err(|error| {
        format!(
            "the directory of static files {directory:?} cannot be served: {error}; create it, or \
             change the key static"
        )
    })
}

/// A reason with a listener's last words, each on a line of its own, for the log.
pub(super) fn one_line(reason: &str) -> String {
    reason.replace("\n  ", " | ")
}
