//! One gateway's life: started, stopped, failed. What a reload does to it is in `change`.
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

/// The same where a stop is cut short.
const CUT_WAIT: Duration = Duration::from_millis(100);

/// Steps in which closes are spread over `close-spread`.
const SPREAD_STEP: Duration = Duration::from_millis(50);

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
    /// A copy of the socket that it accepts on, for a successor on the same address.
    acceptor: Option<TcpListener>,
}

/// Why something could not be done.
pub struct Trouble {
    /// What kind of error it is.
    pub code: ErrorCode,
    /// The reason, without the gateway's name.
    pub text: String,
    /// Whether it is that the port is taken: it may be free in a moment.
    pub taken: bool,
}

impl Trouble {
    /// A failure with this reason.
    pub fn new(text: impl Into<String>) -> Trouble {
        Trouble { code: ErrorCode::Failed, text: text.into(), taken: false }
    }
}

/// One gateway.
pub struct Gateway {
    /// Its id.
    pub id: String,
    /// Its counters, from its first start on.
    pub metrics: Arc<Metrics>,
    state: Mutex<State>,
    /// Held by the verb that has its turn.
    pub(super) verb: tokio::sync::Mutex<()>,
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
                acceptor: None,
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

    /// The `serve` that it belongs to.
    ///
    /// # Errors
    /// All of it stops.
    pub fn host(&self) -> Result<Arc<Host>, Trouble> {
        self.host.upgrade().ok_or_else(|| Trouble {
            code: ErrorCode::Stopping,
            text: "wsgw is stopping".to_owned(),
            taken: false,
        })
    }

    /// A copy of the socket that it accepts on.
    pub fn acceptor(&self) -> Option<TcpListener> {
        self.state().acceptor.as_ref()?.try_clone().ok()
    }

    /// A failure as the control port tells it.
    pub fn error(&self, trouble: Trouble) -> ApiError {
        ApiError::new(trouble.code, format!("gateway {}: {}", self.id, trouble.text))
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
            // A failed one takes no clients, though its last ones may still be leaving.
            address: (state.phase != Phase::Failed)
                .then(|| state.running.as_ref().map(|r| url(r.bound, tls)))
                .flatten(),
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
        self.start_locked().await.map_err(|trouble| self.error(trouble))
    }

    /// Starts it, within a verb.
    ///
    /// # Errors
    /// Why it has failed now.
    pub async fn start_locked(self: &Arc<Self>) -> Result<(), Trouble> {
        if self.host()?.is_stopping() {
            let text = "wsgw is stopping".to_owned();
            return Err(Trouble { code: ErrorCode::Stopping, text, taken: false });
        }
        let settings = {
            let mut state = self.state();
            state.by_hand = false;
            match (state.phase, state.settings.startup) {
                (Phase::Running, _) => return Ok(()),
                (_, Startup::Disabled) => {
                    let text = "it is disabled: set its startup to \"manual\" or \"automatic\" and \
                                reload";
                    let code = ErrorCode::NotRunning;
                    return Err(Trouble { code, text: text.to_owned(), taken: false });
                }
                _ => {}
            }
            state.phase = Phase::Starting;
            state.error = None;
            Arc::clone(&state.settings)
        };
        match self.bring_up(&settings, None).await {
            Ok(running) => {
                self.enter(running, &settings);
                Ok(())
            }
            Err(trouble) => {
                let mut state = self.state();
                state.phase = Phase::Failed;
                state.error = Some(trouble.text.clone());
                tracing::error!(gateway = %self.id, "{}", one_line(&trouble.text));
                Err(trouble)
            }
        }
    }

    /// Binds (unless it is given an acceptor), starts the listener and waits until it lives;
    /// accepts nothing yet.
    ///
    /// # Errors
    /// Why it does not come up; nothing is left of it.
    pub async fn bring_up(
        self: &Arc<Self>,
        settings: &Arc<GatewaySettings>,
        acceptor: Option<TcpListener>,
    ) -> Result<(Running, TcpListener), Trouble> {
        let tls = tls_of(settings).map_err(Trouble::new)?;
        let host = self.host()?;
        let handed_over = || host.inherited.socket_of(settings);
        let acceptor = match acceptor.map(Ok).or_else(handed_over) {
            Some(acceptor) => acceptor,
            None => bind::bind(&settings.host, settings.port).await,
        };
        let bound = acceptor.and_then(|acceptor| Ok((acceptor.local_addr()?, acceptor)));
        let (bound, acceptor) = bound.map_err(|e| Trouble {
            code: ErrorCode::Failed,
            taken: e.kind() == io::ErrorKind::AddrInUse,
            text: bind_error(&e, settings),
        })?;
        let (reports_out, reports) = mpsc::unbounded_channel::<Report>();
        let metrics = Arc::clone(&self.metrics);
        let shared = host.engine.add(Arc::clone(settings), bound, metrics, reports_out);
        shared.set_tls(tls);
        let mut running = Running { shared, bound, supervisor: None };
        if settings.listener.is_some() {
            let shared = Arc::clone(&running.shared);
            let supervisor = Supervisor::start(host.around(), shared, reports, None);
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
                return Err(Trouble::new(format!("the listener cannot be started: {why}")));
            }
        }
        Ok((running, acceptor))
    }

    /// Accepts: it runs.
    pub fn enter(
        self: &Arc<Self>,
        (running, acceptor): (Running, TcpListener),
        settings: &GatewaySettings,
    ) {
        let Ok(host) = self.host() else { return };
        let shared = &running.shared;
        let copy = acceptor.try_clone().ok();
        host.engine.core().post(shared.home, Msg::Accept(shared.slot, Some(acceptor)));
        let address = url(running.bound, settings.tls_cert.is_some());
        if let Some(supervisor) = &running.supervisor {
            self.mind(supervisor.life(), Arc::clone(shared));
        }
        let mut state = self.state();
        state.running = Some(running);
        state.acceptor = copy;
        state.phase = Phase::Running;
        state.error = None;
        drop(state);
        tracing::info!(gateway = %self.id, %address, "gateway running");
        (host.announce)(&format!("gateway {} listening on {address}", self.id));
    }

    /// Watches for a listener that fails for good after the gateway counted as running.
    pub fn mind(self: &Arc<Self>, mut life: watch::Receiver<Life>, shared: Arc<Shared>) {
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
            let settings = {
                let mut state = this.state();
                state.phase = Phase::Failed;
                state.error = Some(error);
                GatewaySettings { drain: Duration::ZERO, ..(*state.settings).clone() }
            };
            this.bring_down(&running, &settings, close::LISTENER_FAILED, Duration::ZERO).await;
            this.state().running = None;
        });
    }

    /// Stops it; fine if it is stopped.
    pub async fn stop(self: &Arc<Self>, by_hand: bool) {
        let _turn = self.verb.lock().await;
        self.stop_locked(by_hand).await;
    }

    /// Stops it, within a verb.
    pub async fn stop_locked(self: &Arc<Self>, by_hand: bool) {
        let (running, settings) = {
            let mut state = self.state();
            state.by_hand |= by_hand;
            let Some(running) = state.running.clone() else {
                state.phase = Phase::Stopped;
                state.error = None;
                return;
            };
            state.phase = Phase::Stopping;
            (running, Arc::clone(&state.settings))
        };
        tracing::info!(gateway = %self.id, "gateway stopping");
        let spread = settings.close_spread;
        self.bring_down(&running, &settings, close::STOPPING, spread).await;
        let mut state = self.state();
        state.running = None;
        state.phase = Phase::Stopped;
        state.error = None;
        drop(state);
        tracing::info!(gateway = %self.id, "gateway stopped");
    }

    /// The stop sequence (contract section 1). Before it, clients are closed one after the other
    /// for so long as `spread`, while the others are served on.
    pub async fn bring_down(
        &self,
        running: &Running,
        settings: &GatewaySettings,
        closing: Closing,
        spread: Duration,
    ) {
        let Ok(host) = self.host() else { return };
        let core = host.engine.core();
        let cut = &host.cut;
        let shared = &running.shared;
        shared.refusing.store(true, Ordering::SeqCst);
        self.state().acceptor = None;
        core.post(shared.home, Msg::Accept(shared.slot, None));
        self.close_by_and_by(&host, shared, closing, spread).await;
        shared.stopping.store(true, Ordering::SeqCst);
        core.post_all(|| Msg::Resume(shared.slot));

        let (done, idle) = oneshot::channel();
        core.post_home(shared, HomeMsg::WhenIdle(done));
        wait(settings.drain, cut, idle).await;
        let (done, dropped) = oneshot::channel();
        core.post_home(shared, HomeMsg::DropAll(done));
        if let Some(n @ 1..) = wait(CLOSE_WAIT, cut, dropped).await {
            tracing::warn!(gateway = %self.id, "{n} messages without an answer were dropped at the stop");
        }

        core.post_all(|| Msg::CloseAll(shared.slot, Some(closing)));
        self.wait_empty(&host, shared, CLOSE_WAIT + Duration::from_millis(200), cut).await;
        if cut.is_cancelled() {
            // However short: a client that answers at once is told the truth.
            self.wait_empty(&host, shared, CUT_WAIT, &CancellationToken::new()).await;
        }
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

    /// Closes clients spread over a time, so that they do not all come back at once.
    async fn close_by_and_by(
        &self,
        host: &Host,
        shared: &Shared,
        closing: Closing,
        time: Duration,
    ) {
        let steps = u32::try_from(time.as_millis() / SPREAD_STEP.as_millis()).unwrap_or(u32::MAX);
        for left in (1..=steps).rev() {
            if self.metrics.connections.get() == 0 {
                return;
            }
            host.engine.core().post_all(|| Msg::CloseShare(shared.slot, closing, left));
            tokio::select! {
                () = tokio::time::sleep(SPREAD_STEP) => {}
                () = host.cut.cancelled() => return,
            }
        }
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
        self.stop_locked(false).await;
        self.start_locked().await.map_err(|trouble| self.error(trouble))
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
///
/// # Errors
/// What is wrong with which file.
pub fn tls_of(settings: &GatewaySettings) -> Result<Option<Arc<ServerConfig>>, String> {
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

/// A reason with a listener's last words, each on a line of its own, for the log.
pub fn one_line(reason: &str) -> String {
    reason.replace("\n  ", " | ")
}
