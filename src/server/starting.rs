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
use crate::config::settings::{Cluster, GatewaySettings, Startup};
use crate::gateway::msg::HubMsg;
use crate::gateway::shared::Shared;
use crate::listener::supervisor::{Life, Report, Supervisor};
use crate::net::tls::server_config;
use crate::server::binding::acceptor_of;
use crate::server::cluster::Member;
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
        let settings = &self.fitted(settings).await?;
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
        let cluster = host.cluster.as_ref().filter(|_| settings.cluster != Cluster::Off);
        let node = match cluster {
            Some(cluster) => Some(cluster.node().await),
            None => None,
        };
        let shared = host.engine.add(node, Arc::clone(settings), bound, observed, reports_out);
        shared.set_tls(tls);
        // The listener may say something before there is a client.
        let history = keeping.as_ref().map(|keeping| Arc::clone(&keeping.history));
        host.engine.core().set_history(&shared, history);
        let mut running = Running { shared, supervisor: None, keeping, member: None };
        if let Some(cluster) = cluster {
            let joined = cluster
                .join(settings, (host.engine.core(), &running.shared), &self.cluster_metrics)
                .await;
            match joined {
                Ok(member) => running.member = Some(Arc::new(member)),
                Err(why) => {
                    host.engine.remove(&running.shared);
                    return Err(StartError::new(why));
                }
            }
        }
        if settings.listener.is_some() {
            let context = host.supervisor_context(&running.shared);
            let supervisor = Supervisor::start(context, reports, None);
            let mut life = supervisor.life();
            running.supervisor = Some(Arc::new(supervisor));
            let failed = match life.wait_for(|life| *life != Life::Starting).await.as_deref() {
                // One that wrote something and ended at once may never be seen up.
                Ok(Life::Up(_) | Life::Restarting) => None,
                Ok(Life::Failed(why)) => Some(why.clone()),
                _ => Some("the listener ended".to_owned()),
            };
            if let Some(why) = failed {
                if let Some(member) = &running.member {
                    member.leave().await;
                }
                host.engine.remove(&running.shared);
                return Err(StartError::new(format!("the listener cannot be started: {why}")));
            }
        }
        Ok((running, acceptor))
    }

    /// The settings as the servers of a cluster allow them.
    ///
    /// # Errors
    /// What does not fit.
    pub(super) async fn fitted(
        &self,
        settings: &Arc<GatewaySettings>,
    ) -> Result<Arc<GatewaySettings>, StartError> {
        let host = self.host()?;
        if settings.cluster == Cluster::Off {
            return Ok(Arc::clone(settings));
        }
        match &host.cluster {
            None => Err(StartError::new("the table [cluster] is new: it needs a new `wsgw serve`")),
            Some(cluster) => cluster.fit(settings).await.map(Arc::new).map_err(StartError::new),
        }
    }

    /// Watches for a gateway that turns out not to fit the servers of its cluster.
    fn watch_member(self: &Arc<Self>, member: &Arc<Member>, shared: Arc<Shared>) {
        let (this, member) = (Arc::clone(self), Arc::clone(member));
        let task = async move {
            tokio::select! {
                why = member.status().when_unfit() => this.fail(&shared, why, "").await,
                () = member.left() => {}
            }
        };
        tokio::spawn(task);
    }

    /// A gateway that counted as running has failed.
    async fn fail(self: &Arc<Self>, shared: &Arc<Shared>, error: String, remark: &str) {
        let _turn = self.verb.lock().await;
        let running = self.running().filter(|r| Arc::ptr_eq(&r.shared, shared));
        let Some(running) = running else { return };
        tracing::error!(
            gateway = %self.id,
            "{}; the gateway stops{remark}", one_line(&error)
        );
        self.metrics.listener.notes.failed(&error);
        let settings = {
            let mut state = self.state();
            state.phase = GatewayState::Failed;
            state.error = Some(error);
            GatewaySettings { drain: Duration::ZERO, ..(*state.settings).clone() }
        };
        self.bring_down(&running, &settings, close::LISTENER_FAILED, Duration::ZERO).await;
        self.state().running = None;
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
        if let Some(member) = &running.member {
            self.watch_member(member, Arc::clone(shared));
        }
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
            let error = format!("the listener cannot be started: {why}");
            this.fail(&shared, error, &format!(", `wsgw start {}` tries again", this.id)).await;
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
