//! One gateway: its state, and what the control port shows of it. `starting` starts it, `stopping`
//! stops it, and `change` applies a reload to it.
//!
//! The verbs of one gateway run one at a time, under the lock `verb`. The state that they change is
//! behind the lock `state`, which is never held across an await.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

use crate::api::{ApiError, ErrorCode, GatewayState, GatewayStatus, ListenerState};
use crate::config::settings::{GatewaySettings, HistorySettings, Startup};
use crate::gateway::kept::History;
use crate::gateway::metrics::{ClusterMetrics, Metrics};
use crate::gateway::shared::Shared;
use crate::listener::supervisor::{Life, Supervisor};
use crate::listener::tap::{Subscription, Tap};
use crate::net::address::BoundAddress;
use crate::net::bind::BoundSocket;
use crate::net::unix::SocketFile;
use crate::server::Host;
use crate::server::cluster::Member;
use parking_lot::{Mutex, MutexGuard};

/// What exists while a gateway runs.
#[derive(Clone)]
pub(crate) struct Running {
    /// Its part of the engine.
    pub(crate) shared: Arc<Shared>,
    /// Its listener.
    pub(crate) supervisor: Option<Arc<Supervisor>>,
    /// Where it keeps messages from the moment on at which it goes live.
    pub(super) keeping: Option<Keeping>,
    /// Its part of the cluster, if there is one.
    pub(super) member: Option<Arc<Member>>,
}

/// A history, and the settings that it was made by.
#[derive(Clone)]
pub(crate) struct Keeping {
    /// The table.
    pub(super) settings: HistorySettings,
    /// The history.
    pub(super) history: Arc<History>,
    /// Evictions that the metrics have counted.
    pub(super) counted: Arc<AtomicU64>,
}

/// What verbs change.
pub(crate) struct State {
    /// The settings as configured.
    pub(crate) settings: Arc<GatewaySettings>,
    /// Where it stands.
    pub(crate) phase: GatewayState,
    /// Why it failed.
    pub(crate) error: Option<String>,
    /// Whether a verb stopped it.
    pub(crate) by_hand: bool,
    /// What exists while it runs.
    pub(crate) running: Option<Running>,
    /// A copy of the socket that it accepts on, for a successor on the same address.
    pub(super) acceptor: Option<BoundSocket>,
    /// The file of that socket, if we made one; it goes with it.
    pub(super) socket_file: Option<Arc<SocketFile>>,
}

/// What a gateway accepts clients on.
pub(super) struct Acceptor {
    // Dropped first: while the socket is open, no other file can get its number.
    pub(super) file: Option<Arc<SocketFile>>,
    pub(super) socket: BoundSocket,
    /// A unix socket was bound under another name than it has now, so this is not the socket's.
    pub(super) address: BoundAddress,
}

/// Why something could not be done.
pub(crate) struct StartError {
    /// What kind of error it is.
    pub(crate) code: ErrorCode,
    /// The reason, without the gateway's name.
    pub(crate) text: String,
    /// Whether it is that the port is taken: it may be free in a moment.
    pub(crate) taken: bool,
}

impl StartError {
    /// A failure with this reason.
    pub(crate) fn new(text: impl Into<String>) -> StartError {
        StartError { code: ErrorCode::Failed, text: text.into(), taken: false }
    }
}

/// One gateway.
pub(crate) struct Gateway {
    /// Its id.
    pub(crate) id: String,
    /// Its counters, from its first start on.
    pub(crate) metrics: Arc<Metrics>,
    /// Where its events can be watched.
    pub(super) tap: Arc<Tap>,
    /// Those of its part of a cluster.
    pub(crate) cluster_metrics: Arc<ClusterMetrics>,
    state: Mutex<State>,
    /// Its history, over restarts.
    pub(super) keeping: Mutex<Option<Keeping>>,
    /// Held by the verb that has its turn.
    pub(super) verb: tokio::sync::Mutex<()>,
    host: Weak<Host>,
}

impl Gateway {
    /// A stopped gateway.
    pub(crate) fn new(settings: GatewaySettings, host: &Arc<Host>) -> Arc<Gateway> {
        Arc::new(Gateway {
            id: settings.id.clone(),
            metrics: Arc::new(Metrics::default()),
            tap: Arc::default(),
            cluster_metrics: Arc::default(),
            state: Mutex::new(State {
                settings: Arc::new(settings),
                phase: GatewayState::Stopped,
                error: None,
                by_hand: false,
                running: None,
                acceptor: None,
                socket_file: None,
            }),
            keeping: Mutex::new(None),
            verb: tokio::sync::Mutex::new(()),
            host: Arc::downgrade(host),
        })
    }

    /// What verbs change; for a look or a small change.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// What exists while it runs.
    pub(crate) fn running(&self) -> Option<Running> {
        self.state().running.clone()
    }

    /// The `serve` that it belongs to.
    ///
    /// # Errors
    /// All of it stops.
    pub(crate) fn host(&self) -> Result<Arc<Host>, StartError> {
        self.host.upgrade().ok_or_else(|| StartError {
            code: ErrorCode::Stopping,
            text: "wsgw is stopping".to_owned(),
            taken: false,
        })
    }

    /// A copy of what it accepts on.
    pub(super) fn acceptor(&self) -> Option<Acceptor> {
        let state = self.state();
        let socket = state.acceptor.as_ref()?.try_clone().ok()?;
        let address = state.running.as_ref()?.shared.bound.clone();
        Some(Acceptor { file: state.socket_file.clone(), socket, address })
    }

    /// A failure as the control port tells it.
    pub(crate) fn error(&self, error: StartError) -> ApiError {
        ApiError::new(error.code, format!("gateway {}: {}", self.id, error.text))
    }

    /// As the control port shows it.
    pub(crate) fn status(&self) -> GatewayStatus {
        let state = self.state();
        let life = state
            .running
            .as_ref()
            .and_then(|r| r.supervisor.as_ref())
            .map(|s| s.life().borrow().clone());
        let tls = state.settings.tls_cert.is_some();
        GatewayStatus {
            id: self.id.clone(),
            state: state.phase,
            listener: match (&life, &state.settings.listener) {
                (_, None) => ListenerState::None,
                (Some(Life::Up(_)), _) => ListenerState::Up,
                (Some(Life::Starting | Life::Restarting), _) => ListenerState::Restarting,
                _ => ListenerState::None,
            },
            startup: match state.settings.startup {
                Startup::Automatic => "automatic",
                Startup::Manual => "manual",
                Startup::Disabled => "disabled",
            }
            .into(),
            // A failed one takes no clients, though its last ones may still be leaving.
            address: (state.phase != GatewayState::Failed)
                .then(|| state.running.as_ref().map(|r| r.shared.bound.url(tls)))
                .flatten(),
            connections: self.metrics.connections.get(),
            messages_in: self.metrics.messages_in.get(),
            messages_out: self.metrics.messages_out.get(),
            restarts: self.metrics.listener.restarts.get(),
            listener_pid: match life {
                Some(Life::Up(pid)) => Some(pid),
                _ => None,
            },
            error: state.error.clone(),
        }
    }

    /// Watches its events from now on, over restarts.
    pub(crate) fn tail(&self) -> Result<Subscription, ApiError> {
        if self.state().settings.listener.is_none() {
            let text = format!("the gateway {:?} has no listener, so there are no events", self.id);
            return Err(ApiError::new(ErrorCode::BadRequest, text));
        }
        Ok(self.tap.subscribe())
    }

    /// Stops and starts it.
    pub(crate) async fn restart(self: &Arc<Self>) -> Result<(), ApiError> {
        let _turn = self.verb.lock().await;
        self.stop_locked(false).await;
        self.start_locked().await.map_err(|error| self.error(error))
    }

    /// Replaces the listener alone.
    pub(crate) async fn restart_listener(self: &Arc<Self>) -> Result<(), ApiError> {
        let _turn = self.verb.lock().await;
        let settings = Arc::clone(&self.state().settings);
        let Some(running) = self.running() else {
            return Err(self.not_running());
        };
        match &running.supervisor {
            Some(supervisor) => supervisor.replace(settings).await.map_err(|why| {
                let text = format!("the new listener failed, the old one stays: {why}");
                self.metrics.listener.notes.failed(&text);
                ApiError::new(ErrorCode::Failed, text)
            }),
            None => {
                let text = format!("the gateway {:?} has no listener", self.id);
                Err(ApiError::new(ErrorCode::BadRequest, text))
            }
        }
    }

    /// The refusal of what needs a running gateway.
    pub(crate) fn not_running(&self) -> ApiError {
        let state = self.state();
        if state.phase == GatewayState::Stopping {
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
