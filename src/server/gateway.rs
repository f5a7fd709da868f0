//! One gateway's life: started, stopped, failed, changed by a reload.
//!
//! Verbs of one gateway take turns (`verb`); what they find and leave is in `state`, behind a lock
//! that is never held across an await.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Host;
use super::api::{ApiError, ErrorCode, GatewayStatus};
use crate::gateway::bind;
use crate::gateway::engine::{HomeMsg, Msg, Report, Shared};
use crate::gateway::metrics::Metrics;
use crate::gateway::supervisor::{Life, Supervisor};
use crate::gateway::transport::server_config;
use crate::protocol::close::{self, Closing};
use crate::settings::{GatewaySettings, Startup};

/// How long clients have for their Close, and the listener to take its last events.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Where a gateway stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is bound.
    Stopped,
    /// Being started.
    Starting,
    /// Bound, its listener lives.
    Running,
    /// Being stopped.
    Stopping,
    /// It could not be started, or its listener failed for good.
    Failed,
}

impl Phase {
    /// The name in `status`.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Stopped => "stopped",
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Stopping => "stopping",
            Phase::Failed => "failed",
        }
    }
}

/// What exists while a gateway runs.
#[derive(Clone)]
pub struct Running {
    /// Its part of the engine.
    pub shared: Arc<Shared>,
    /// Where it is bound.
    pub bound: SocketAddr,
    /// Its listener.
    pub supervisor: Option<Arc<Supervisor>>,
}

/// What verbs change.
pub struct State {
    /// The settings as configured.
    pub settings: Arc<GatewaySettings>,
    /// Where it stands.
    pub phase: Phase,
    /// Why it failed.
    pub error: Option<String>,
    /// Whether a verb stopped it.
    pub by_hand: bool,
    /// What exists while it runs.
    pub running: Option<Running>,
}

/// One gateway.
pub struct Gateway {
    /// Its id.
    pub id: String,
    /// Its counters, from its first start on.
    pub metrics: Arc<Metrics>,
    state: Mutex<State>,
    verb: tokio::sync::Mutex<()>,
    host: Weak<Host>,
}

impl Gateway {
    /// A stopped gateway.
    pub fn new(settings: GatewaySettings, host: &Arc<Host>) -> Arc<Gateway> {
        Arc::new(Gateway {
            id: settings.id.clone(),
            metrics: Arc::new(Metrics::default()),
            state: Mutex::new(State {
                settings: Arc::new(settings),
                phase: Phase::Stopped,
                error: None,
                by_hand: false,
                running: None,
            }),
            verb: tokio::sync::Mutex::new(()),
            host: Arc::downgrade(host),
        })
    }

    /// What verbs change; for a look or a small change.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// What exists while it runs.
    pub fn running(&self) -> Option<Running> {
        self.state().running.clone()
    }

    fn host(&self) -> Result<Arc<Host>, ApiError> {
        self.host.upgrade().ok_or_else(|| ApiError::new(ErrorCode::Stopping, "wsgw is stopping"))
    }

    /// As the control port shows it.
    pub fn status(&self) -> GatewayStatus {
        let state = self.state();
        let life = state
            .running
            .as_ref()
            .and_then(|r| r.supervisor.as_ref())
            .map(|s| s.life().borrow().clone());
        let tls = state.settings.tls_cert.is_some();
        GatewayStatus {
            id: self.id.clone(),
            state: state.phase.name(),
            listener: match (&life, &state.settings.listener) {
                (_, None) => "none",
                (Some(Life::Up(_)), _) => "up",
                (Some(Life::Starting | Life::Restarting), _) => "restarting",
                _ => "none",
            },
            startup: match state.settings.startup {
                Startup::Automatic => "automatic",
                Startup::Manual => "manual",
                Startup::Disabled => "disabled",
            },
            address: state.running.as_ref().map(|r| url(r.bound, tls)),
            connections: self.metrics.connections.get(),
            messages_in: self.metrics.messages_in.get(),
            messages_out: self.metrics.messages_out.get(),
            restarts: self.metrics.restarts.get(),
            listener_pid: match life {
                Some(Life::Up(pid)) => Some(pid),
                _ => None,
            },
            error: state.error.clone(),
        }
    }

    /// Starts it; fine if it runs.
    pub async fn start(self: &Arc<Self>) -> Result<(), ApiError> {
        let _turn = self.verb.lock().await;
        self.start_locked().await
    }

    async fn start_locked(self: &Arc<Self>) -> Result<(), ApiError> {
        let settings = {
            let mut state = self.state();
            state.by_hand = false;
            match (state.phase, state.settings.startup) {
                (Phase::Running, _) => return Ok(()),
                (_, Startup::Disabled) => {
                    let text = format!(
                        "the gateway {:?} is disabled: set its startup to \"manual\" or \"automatic\" \
                         and reload",
                        self.id
                    );
                    return Err(ApiError::new(ErrorCode::NotRunning, text));
                }
                _ => {}
            }
            state.phase = Phase::Starting;
            state.error = None;
            Arc::clone(&state.settings)
        };
        match self.bring_up(&settings).await {
            Ok(running) => {
                self.enter(running, &settings);
                Ok(())
            }
            Err(why) => {
                let mut state = self.state();
                state.phase = Phase::Failed;
                state.error = Some(why.clone());
                tracing::error!(gateway = %self.id, "{why}");
                Err(ApiError::new(ErrorCode::Failed, format!("gateway {}: {why}", self.id)))
            }
        }
    }

    /// Binds, starts the listener and waits until it lives; accepts nothing yet.
    async fn bring_up(
        self: &Arc<Self>,
        settings: &Arc<GatewaySettings>,
    ) -> Result<(Running, TcpListener), String> {
        let tls = tls_of(settings)?;
        let host = self.host().map_err(|e| e.message)?;
        let (acceptor, bound) =
            bind::bind(&settings.host, settings.port).map_err(|e| bind_error(&e, settings))?;
        let (reports_out, reports) = mpsc::unbounded_channel::<Report>();
        let core = host.engine.core();
        let metrics = Arc::clone(&self.metrics);
        let shared = host.engine.add(Arc::clone(settings), bound, metrics, reports_out);
        shared.set_tls(tls);
        let mut running = Running { shared, bound, supervisor: None };
        if settings.listener.is_some() {
            let supervisor = Supervisor::start(
                Arc::clone(core),
                Arc::clone(&running.shared),
                reports,
                host.control_url(),
            );
            let mut life = supervisor.life();
            running.supervisor = Some(Arc::new(supervisor));
            let now = life.wait_for(|l| matches!(l, Life::Up(_) | Life::Failed(_))).await;
            let failed = match now.as_deref() {
                Ok(Life::Up(_)) => None,
                Ok(Life::Failed(why)) => Some(why.clone()),
                _ => Some("the listener ended".to_owned()),
            };
            drop(now);
            if let Some(why) = failed {
                host.engine.remove(&running.shared);
                return Err(format!("the listener cannot be started: {why}"));
            }
        }
        Ok((running, acceptor))
    }

    /// Accepts: it runs.
    fn enter(
        self: &Arc<Self>,
        (running, acceptor): (Running, TcpListener),
        settings: &GatewaySettings,
    ) {
        let Ok(host) = self.host() else { return };
        let shared = &running.shared;
        host.engine.core().post(shared.home, Msg::Accept(shared.slot, Some(acceptor)));
        let address = url(running.bound, settings.tls_cert.is_some());
        if let Some(supervisor) = &running.supervisor {
            self.mind(supervisor.life(), Arc::clone(shared));
        }
        let mut state = self.state();
        state.running = Some(running);
        state.phase = Phase::Running;
        state.error = None;
        drop(state);
        tracing::info!(gateway = %self.id, %address, "gateway running");
        (host.announce)(&format!("gateway {} listening on {address}", self.id));
    }

    /// Watches for a listener that fails for good after the gateway counted as running.
    fn mind(self: &Arc<Self>, mut life: watch::Receiver<Life>, shared: Arc<Shared>) {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let end = life.wait_for(|l| matches!(l, Life::Failed(_) | Life::Stopped)).await;
            let end = end.map(|life| life.clone());
            let Ok(Life::Failed(why)) = end else { return };
            let _turn = this.verb.lock().await;
            let running = this.running().filter(|r| Arc::ptr_eq(&r.shared, &shared));
            let Some(running) = running else { return };
            {
                let mut state = this.state();
                state.phase = Phase::Failed;
                state.error = Some(format!("the listener cannot be started: {why}"));
            }
            let cut = CancellationToken::new();
            this.bring_down(&running, Duration::ZERO, close::LISTENER_FAILED, &cut).await;
            this.state().running = None;
        });
    }

    /// Stops it; fine if it is stopped. `cut` ends the waits.
    pub async fn stop(
        self: &Arc<Self>,
        by_hand: bool,
        cut: &CancellationToken,
    ) -> Result<(), ApiError> {
        let _turn = self.verb.lock().await;
        self.stop_locked(by_hand, cut).await
    }

    async fn stop_locked(
        self: &Arc<Self>,
        by_hand: bool,
        cut: &CancellationToken,
    ) -> Result<(), ApiError> {
        let (running, drain) = {
            let mut state = self.state();
            state.by_hand |= by_hand;
            let Some(running) = state.running.clone() else {
                state.phase = Phase::Stopped;
                state.error = None;
                return Ok(());
            };
            state.phase = Phase::Stopping;
            (running, state.settings.drain)
        };
        tracing::info!(gateway = %self.id, "gateway stopping");
        self.bring_down(&running, drain, close::STOPPING, cut).await;
        let mut state = self.state();
        state.running = None;
        state.phase = Phase::Stopped;
        state.error = None;
        drop(state);
        tracing::info!(gateway = %self.id, "gateway stopped");
        Ok(())
    }

    /// The stop sequence (contract section 1).
    async fn bring_down(
        &self,
        running: &Running,
        drain: Duration,
        closing: Closing,
        cut: &CancellationToken,
    ) {
        let Ok(host) = self.host() else { return };
        let core = host.engine.core();
        let shared = &running.shared;
        shared.stopping.store(true, Ordering::SeqCst);
        core.post(shared.home, Msg::Accept(shared.slot, None));
        core.post_all(|| Msg::Resume(shared.slot));

        let (done, idle) = oneshot::channel();
        core.post_home(shared, HomeMsg::WhenIdle(done));
        wait(drain, cut, idle).await;
        let (done, dropped) = oneshot::channel();
        core.post_home(shared, HomeMsg::DropAll(done));
        if let Some(n @ 1..) = wait(CLOSE_WAIT, cut, dropped).await {
            tracing::warn!(gateway = %self.id, "{n} messages without an answer were dropped at the stop");
        }

        core.post_all(|| Msg::CloseAll(shared.slot, Some(closing)));
        self.wait_empty(&host, shared, CLOSE_WAIT + Duration::from_millis(200), cut).await;
        core.post_all(|| Msg::CloseAll(shared.slot, None));
        self.wait_empty(&host, shared, CLOSE_WAIT, &CancellationToken::new()).await;

        if let Some(supervisor) = &running.supervisor {
            let (done, flushed) = oneshot::channel();
            core.post_home(shared, HomeMsg::WhenFlushed(done));
            wait(CLOSE_WAIT, cut, flushed).await;
            supervisor.stop(cut.clone()).await;
        }
        host.engine.remove(shared);
        self.metrics.queued.set(0);
        self.metrics.unanswered.set(0);
    }

    async fn wait_empty(
        &self,
        host: &Host,
        shared: &Shared,
        time: Duration,
        cut: &CancellationToken,
    ) {
        let core = host.engine.core();
        let mut waits = Vec::new();
        core.post_all(|| {
            let (done, empty) = oneshot::channel();
            waits.push(empty);
            Msg::WhenEmpty(shared.slot, done)
        });
        let all = async {
            for empty in waits {
                // A shard that is gone has no connections.
                let _ = empty.await;
            }
        };
        tokio::select! {
            () = all => {}
            () = tokio::time::sleep(time) => {}
            () = cut.cancelled() => {}
        }
    }

    /// Stops and starts it.
    pub async fn restart(self: &Arc<Self>) -> Result<(), ApiError> {
        let _turn = self.verb.lock().await;
        self.stop_locked(false, &CancellationToken::new()).await?;
        self.start_locked().await
    }

    /// Replaces the listener alone.
    pub async fn restart_listener(self: &Arc<Self>) -> Result<(), ApiError> {
        let _turn = self.verb.lock().await;
        let settings = Arc::clone(&self.state().settings);
        let Some(running) = self.running() else {
            return Err(self.not_running());
        };
        match &running.supervisor {
            Some(supervisor) => supervisor.replace(settings).await.map_err(|why| {
                let text = format!("the new listener failed, the old one stays: {why}");
                ApiError::new(ErrorCode::Failed, text)
            }),
            None => {
                let text = format!("the gateway {:?} has no listener", self.id);
                Err(ApiError::new(ErrorCode::BadRequest, text))
            }
        }
    }

    /// The refusal of what needs a running gateway.
    pub fn not_running(&self) -> ApiError {
        let state = self.state();
        if state.phase == Phase::Stopping {
            return ApiError::new(
                ErrorCode::Stopping,
                format!("gateway {:?} is stopping", self.id),
            );
        }
        let more = match &state.error {
            Some(error) => format!(" ({error})"),
            None if state.settings.startup == Startup::Disabled => " and disabled".to_owned(),
            None => format!("; `wsgw start {}` starts it", self.id),
        };
        let text = format!("gateway {:?} is {}{more}", self.id, state.phase.name());
        ApiError::new(ErrorCode::NotRunning, text)
    }

    /// Applies changed settings (reload).
    pub async fn change(self: &Arc<Self>, new: GatewaySettings) -> Result<(), ApiError> {
        let _turn = self.verb.lock().await;
        let new = Arc::new(new);
        let (old, running, phase) = {
            let state = self.state();
            (Arc::clone(&state.settings), state.running.clone(), state.phase)
        };
        let disabled = new.startup == Startup::Disabled;
        let Some(running) = running else {
            self.state().settings = Arc::clone(&new);
            let fixed = phase == Phase::Failed && *old != *new;
            return match fixed && new.startup == Startup::Automatic {
                true => self.start_locked().await,
                false => Ok(()),
            };
        };
        let failed = |why: String| {
            let text = format!("gateway {}: {why}; it goes on as it was", self.id);
            ApiError::new(ErrorCode::Failed, text)
        };
        // The files may hold another certificate under the same names.
        if !old.needs_restart(&new) {
            running.shared.set_tls(tls_of(&new).map_err(failed)?);
        }
        if *old == *new {
            return Ok(());
        }
        if disabled {
            self.state().settings = new;
            return self.stop_locked(false, &CancellationToken::new()).await;
        }
        if old.needs_restart(&new) {
            // The new one is up before the old one goes; on the same port it cannot be.
            let same_port = new.port != 0 && old.port == new.port;
            if !same_port {
                let next = self.bring_up(&new).await.map_err(failed)?;
                self.state().phase = Phase::Stopping;
                let cut = CancellationToken::new();
                self.bring_down(&running, old.drain, close::STOPPING, &cut).await;
                self.state().settings = Arc::clone(&new);
                self.enter(next, &new);
                return Ok(());
            }
            self.stop_locked(false, &CancellationToken::new()).await?;
            self.state().settings = Arc::clone(&new);
            let started = self.start_locked().await;
            if let Err(error) = started {
                self.state().settings = old;
                self.start_locked().await?;
                return Err(failed(error.message));
            }
            return Ok(());
        }
        if old.needs_new_listener(&new) {
            self.change_listener(&running, &new).await.map_err(failed)?;
        } else {
            self.apply(&running.shared, &new);
        }
        self.state().settings = new;
        Ok(())
    }

    fn apply(&self, shared: &Shared, settings: &Arc<GatewaySettings>) {
        *shared.settings.write().unwrap_or_else(|e| e.into_inner()) = Arc::clone(settings);
        if let Ok(host) = self.host() {
            host.engine.core().post_all(|| Msg::Settings(shared.slot));
        }
    }

    async fn change_listener(
        self: &Arc<Self>,
        running: &Running,
        new: &Arc<GatewaySettings>,
    ) -> Result<(), String> {
        let host = self.host().map_err(|e| e.message)?;
        match (&running.supervisor, &new.listener) {
            (Some(supervisor), Some(_)) => supervisor.replace(Arc::clone(new)).await,
            (Some(supervisor), None) => {
                supervisor.stop(CancellationToken::new()).await;
                self.apply(&running.shared, new);
                if let Some(running) = &mut self.state().running {
                    running.supervisor = None;
                }
                Ok(())
            }
            (None, Some(_)) => {
                let reports = running.shared.new_reports();
                let old = running.shared.settings();
                self.apply(&running.shared, new);
                let supervisor = Supervisor::start(
                    Arc::clone(host.engine.core()),
                    Arc::clone(&running.shared),
                    reports,
                    host.control_url(),
                );
                let mut life = supervisor.life();
                let now = life.wait_for(|l| matches!(l, Life::Up(_) | Life::Failed(_))).await;
                let failed = match now.as_deref() {
                    Ok(Life::Up(_)) => None,
                    Ok(Life::Failed(why)) => Some(why.clone()),
                    _ => Some("the listener ended".to_owned()),
                };
                drop(now);
                if let Some(why) = failed {
                    self.apply(&running.shared, &old);
                    return Err(format!("the listener cannot be started: {why}"));
                }
                self.mind(supervisor.life(), Arc::clone(&running.shared));
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

async fn wait<T>(
    time: Duration,
    cut: &CancellationToken,
    receiver: oneshot::Receiver<T>,
) -> Option<T> {
    tokio::select! {
        biased;
        result = timeout(time, receiver) => result.ok()?.ok(),
        () = cut.cancelled() => None,
    }
}

/// The certificate of a gateway, read from its files.
fn tls_of(settings: &GatewaySettings) -> Result<Option<Arc<ServerConfig>>, String> {
    let (Some(cert), Some(key)) = (&settings.tls_cert, &settings.tls_key) else { return Ok(None) };
    let (config, _) = server_config(cert, key)?;
    Ok(Some(Arc::new(config)))
}

/// The URL of a bound gateway.
fn url(bound: SocketAddr, tls: bool) -> String {
    format!("{}://{bound}", if tls { "wss" } else { "ws" })
}

fn bind_error(error: &io::Error, settings: &GatewaySettings) -> String {
    let GatewaySettings { id, host, port, .. } = settings;
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {port} on {host} is taken (gateway {id}): stop what uses it, or pick another with \
             --port (0 takes a free one)"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "port {port} on {host} may not be bound (gateway {id}): {error}; ports below 1024 need \
             privileges, --port picks another"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("{host} is no address of this machine (gateway {id}): --host picks another")
        }
        _ => {
            format!("{host}:{port} cannot be bound (gateway {id}): {error}; see --host and --port")
        }
    }
}
