//! All gateways of one `serve`: their lifecycle and their status. `pushes` takes pushes in,
//! `connections` lists and closes connections, `channels` shows channels and their history, `reload`
//! reads the configuration again. [`gateway`], `starting`, `stopping` and `change` deal with one
//! gateway, `backend` with the control port, `watch` with those who look on.
//!
//! All of it runs on the control runtime. The list of gateways is behind a lock that is never held across an
//! await; whatever runs in the shards is asked by messages.

mod backend;
mod binding;
mod change;
mod channels;
pub(crate) mod cluster;
mod connections;
pub(crate) mod gateway;
pub(crate) mod history;
mod listener_host;
mod local;
mod pushes;
mod reload;
mod search;
pub(crate) mod starting;
mod stopping;
mod watch;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::api::{ApiError, ErrorCode, GatewayState, GatewayStatus, NodeStatus, Reloaded};
use cluster::Cluster;
use gateway::{Gateway, Running};
pub(crate) use pushes::PushReceipt;
use pushes::Waiting;

use crate::config::settings;
use crate::config::settings::{ControlSettings, LogSettings, ServeSettings, Startup};
use crate::error::Failure;
use crate::gateway::engine::{Engine, first_descriptor_limit};
use crate::gateway::metrics;
use crate::gateway::metrics::Scrape;
use crate::gateway::shared::Shared;
use crate::listener::supervisor::{Life, SupervisorContext};
use crate::listener::tap::Subscription;
use crate::logging::Recent;
use crate::server::listener_host::RunningHost;
use crate::systemd;
use crate::systemd::Inherited;

/// Reads the configuration again.
pub(crate) type Load = Box<dyn Fn() -> Result<ServeSettings, Failure> + Send + Sync>;

/// Applies the part of a new configuration that does not concern gateways: the log's level, the
/// control port's certificate. The error says what could not be applied.
pub(crate) type Apply = Box<dyn Fn(&ServeSettings) -> Result<(), String> + Send + Sync>;

/// What a server needs of the process around it.
pub(crate) struct Environment {
    /// Says what was bound.
    pub(crate) announce: Box<dyn Fn(&str) + Send + Sync>,
    /// Reads the configuration again.
    pub(crate) load: Load,
    /// Applies the rest of it.
    pub(crate) apply: Apply,
    /// Sockets that were handed over.
    pub(crate) inherited: Inherited,
    /// The newest lines of the log.
    pub(crate) log: Arc<Recent>,
}

/// What gateways need of their `serve`.
pub(crate) struct Host {
    /// The shards.
    pub(crate) engine: Engine,
    /// Says what was bound.
    pub(crate) announce: Box<dyn Fn(&str) + Send + Sync>,
    /// Sockets that were handed over.
    pub(crate) inherited: Inherited,
    /// The other nodes.
    pub(crate) cluster: Option<Cluster>,
    /// Cancelled when the waits of all stops are to be cut short.
    pub(crate) cut: CancellationToken,
    control_url: OnceLock<String>,
    /// Cancelled when the stop of all has begun: nothing is started any more.
    stop: CancellationToken,
}

impl Host {
    /// What the supervisor of a gateway's listener needs.
    fn supervisor_context(&self, shared: &Arc<Shared>) -> SupervisorContext {
        let core = Arc::clone(self.engine.core());
        SupervisorContext {
            host: Arc::new(RunningHost { core, shared: Arc::clone(shared) }),
            control_url: self.control_url.get().cloned(),
            descriptor_limit: first_descriptor_limit(),
            hurry: self.stop.clone(),
        }
    }

    /// Cancelled when the stop of all has begun.
    pub(crate) fn hurry(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Whether the stop of all has begun.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }
}

/// The gateways of one `serve`. Shared by reference counting; every method may be called from any
/// task of the control runtime.
pub(crate) struct Server {
    host: Arc<Host>,
    gateways: Mutex<Vec<Arc<Gateway>>>,
    control: ControlSettings,
    log: LogSettings,
    config_file: Option<PathBuf>,
    load: Load,
    apply: Apply,
    reloading: tokio::sync::Mutex<()>,
    waiting: Arc<Waiting>,
    recent: Arc<Recent>,
    /// When it was made.
    since: SystemTime,
}

impl Server {
    /// The gateways of these settings, none started.
    pub(crate) fn new(
        settings: ServeSettings,
        engine: Engine,
        environment: Environment,
    ) -> Arc<Server> {
        let host = Arc::new(Host {
            engine,
            announce: environment.announce,
            inherited: environment.inherited,
            cluster: settings.cluster.map(Cluster::new),
            cut: CancellationToken::new(),
            control_url: OnceLock::new(),
            stop: CancellationToken::new(),
        });
        let gateways = settings.gateways.into_iter().map(|g| Gateway::new(g, &host)).collect();
        Arc::new(Server {
            host,
            gateways: Mutex::new(gateways),
            control: settings.control,
            log: settings.log,
            config_file: settings.config_file,
            load: environment.load,
            apply: environment.apply,
            reloading: tokio::sync::Mutex::new(()),
            waiting: Arc::default(),
            recent: environment.log,
            since: SystemTime::now(),
        })
    }

    /// Sets the control port's URL; once, before anything is started.
    pub(crate) fn set_control_url(&self, url: String) {
        let _ = self.host.control_url.set(url);
    }

    fn all(&self) -> Vec<Arc<Gateway>> {
        self.gateways.lock().clone()
    }

    fn find(&self, id: &str) -> Result<Arc<Gateway>, ApiError> {
        let id = &crate::config::id::normal_id(id);
        let all = self.all();
        all.iter().find(|g| g.id == *id).cloned().ok_or_else(|| {
            let known: Vec<String> = all.iter().map(|g| g.id.clone()).collect();
            let text = format!("no gateway {id:?}");
            ApiError { code: ErrorCode::UnknownGateway, message: text, known: Some(known) }
        })
    }

    fn find_running(&self, id: &str) -> Result<(Arc<Gateway>, Running), ApiError> {
        let gateway = self.find(id)?;
        let running = {
            let state = gateway.state();
            state.running.clone().filter(|_| state.phase == GatewayState::Running)
        };
        match running {
            Some(running) => Ok((gateway, running)),
            None => Err(gateway.not_running()),
        }
    }

    /// Starts every automatic gateway, all at once; what failed is in their states. Returns
    /// whether one runs, or none was to be started.
    pub(crate) async fn start_automatic(&self) -> bool {
        let automatic: Vec<_> = self
            .all()
            .into_iter()
            .filter(|g| g.state().settings.startup == Startup::Automatic)
            .collect();
        if automatic.is_empty() {
            return true;
        }
        // `starting` from the first moment on: the control port answers already.
        for gateway in &automatic {
            gateway.state().phase = GatewayState::Starting;
        }
        let tasks: Vec<_> = automatic
            .into_iter()
            .map(|gateway| tokio::spawn(async move { gateway.start().await.is_ok() }))
            .collect();
        let mut any = false;
        for task in tasks {
            any |= task.await.unwrap_or(false);
        }
        any
    }

    /// Stops every gateway, all at once.
    pub(crate) async fn shut_down(&self) {
        self.host.stop.cancel();
        let all = self.all();
        reload::stop_all(all.clone()).await;
        all.iter().for_each(|gateway| gateway.close_history());
    }

    /// Ends the waits of every stop that is under way or comes.
    pub(crate) fn cut_short(&self) {
        self.host.cut.cancel();
    }

    /// Why each failed gateway failed.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.all()
            .iter()
            .filter_map(|g| {
                let state = g.state();
                let error = state.error.as_ref().filter(|_| state.phase == GatewayState::Failed)?;
                Some(format!("gateway {}: {error}", g.id))
            })
            .collect()
    }

    /// Every gateway, in the order of the config file.
    pub(crate) fn gateways(&self) -> Vec<GatewayStatus> {
        self.all().iter().map(|g| g.status()).collect()
    }

    /// One gateway.
    pub(crate) fn gateway(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        Ok(self.find(id)?.status())
    }

    /// Watches the events of a gateway from now on.
    pub(crate) fn tail(&self, id: &str) -> Result<Subscription, ApiError> {
        self.find(id)?.tail()
    }

    /// Refuses a verb once all gateways are being stopped: it would have to wait for the end of that.
    fn ensure_not_stopping(&self) -> Result<(), ApiError> {
        if self.host.is_stopping() {
            return Err(ApiError::new(ErrorCode::Stopping, "wsgw is stopping"));
        }
        Ok(())
    }

    /// Starts a gateway; done when it runs (already so: fine).
    pub(crate) async fn start(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        let gateway = self.find(id)?;
        self.ensure_not_stopping()?;
        run(&gateway, |g| async move { g.start().await }).await
    }

    /// Stops a gateway; done when it is stopped (already so: fine).
    pub(crate) async fn stop(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        let gateway = self.find(id)?;
        run(&gateway, |g| async move {
            g.stop(true).await;
            Ok(())
        })
        .await
    }

    /// Stops and starts a gateway.
    pub(crate) async fn restart(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        let gateway = self.find(id)?;
        self.ensure_not_stopping()?;
        run(&gateway, |g| async move { g.restart().await }).await
    }

    /// Replaces the listener alone; the clients stay.
    pub(crate) async fn restart_listener(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        let gateway = self.find(id)?;
        self.ensure_not_stopping()?;
        run(&gateway, |g| async move { g.restart_listener().await }).await
    }

    /// Re-reads the config.
    ///
    /// # Errors
    /// What was not carried out; an invalid config changes nothing.
    pub(crate) async fn reload(self: &Arc<Self>) -> Result<Reloaded, ApiError> {
        self.ensure_not_stopping()?;
        // A requester that goes away does not leave a reload half done.
        let this = Arc::clone(self);
        let task = tokio::spawn(async move {
            let _turn = this.reloading.lock().await;
            systemd::reloading();
            let done = this.reload_now().await;
            systemd::ready();
            done
        });
        let failed = |_| ApiError::new(ErrorCode::Failed, "the reload was interrupted");
        let notice = task.await.map_err(failed)??;
        Ok(Reloaded { gateways: self.gateways(), notice })
    }

    /// `Ok` for `/healthz` 200, else why not.
    pub(crate) fn health(&self) -> Result<(), String> {
        if self.host.is_stopping() {
            return Err("stopping".to_owned());
        }
        let (mut ought, mut failed) = (0, 0);
        for gateway in self.all() {
            let state = gateway.state();
            if state.settings.startup != Startup::Automatic || state.by_hand {
                continue;
            }
            ought += 1;
            match state.phase {
                GatewayState::Starting => {
                    return Err(format!("gateway {} is starting", gateway.id));
                }
                GatewayState::Failed => failed += 1,
                GatewayState::Stopped | GatewayState::Running | GatewayState::Stopping => {}
            }
        }
        if ought > 0 && failed == ought {
            return Err("every gateway that ought to run has failed".to_owned());
        }
        Ok(())
    }

    /// What of a cluster is not as it should be, although everything runs.
    pub(crate) fn degraded(&self) -> Option<String> {
        self.all().iter().find_map(|gateway| {
            let why = gateway.running()?.member?.status().degraded()?;
            Some(format!("gateway {}: {why}", gateway.id))
        })
    }

    /// The nodes of all gateways' clusters in words, each once.
    pub(crate) fn cluster_nodes(&self) -> Vec<String> {
        let mut found: Vec<NodeStatus> = Vec::new();
        for member in self.all().iter().filter_map(|gateway| gateway.running()?.member) {
            for node in member.status().nodes() {
                match found.iter_mut().find(|known| known.node == node.node) {
                    // Each gateway counts its own.
                    Some(known) => known.connections += node.connections,
                    None => found.push(node),
                }
            }
        }
        let words = |node: NodeStatus| {
            let this = if node.this { ", this one" } else { "" };
            format!("{} ({}{this}): {} connections", node.node, node.name, node.connections)
        };
        found.into_iter().map(words).collect()
    }

    /// The nodes of a gateway's cluster, this one first; none without a cluster.
    pub(crate) fn nodes(&self, id: &str) -> Result<Vec<NodeStatus>, ApiError> {
        let gateway = self.find(id)?;
        let member = gateway.running().and_then(|running| running.member);
        Ok(member.map(|member| member.status().nodes()).unwrap_or_default())
    }

    /// The Prometheus text of all gateways.
    pub(crate) fn metrics(&self) -> String {
        let all = self.all();
        let scrapes: Vec<Scrape<'_>> = all
            .iter()
            .map(|g| {
                g.note_history();
                let state = g.state();
                let supervisor = state.running.as_ref().and_then(|r| r.supervisor.as_ref());
                Scrape {
                    id: &g.id,
                    running: state.phase == GatewayState::Running,
                    listener_up: supervisor
                        .is_some_and(|s| matches!(*s.life().borrow(), Life::Up(_))),
                    metrics: &g.metrics,
                    cluster: (state.settings.cluster != settings::Cluster::Off)
                        .then_some(&*g.cluster_metrics),
                }
            })
            .collect();
        metrics::render(&scrapes)
    }
}

/// Runs a verb to its end even if its requester goes away.
async fn run<F, T>(gateway: &Arc<Gateway>, verb: F) -> Result<GatewayStatus, ApiError>
where
    F: FnOnce(Arc<Gateway>) -> T,
    T: Future<Output = Result<(), ApiError>> + Send + 'static,
{
    let task = tokio::spawn(verb(Arc::clone(gateway)));
    let interrupted = |_| ApiError::new(ErrorCode::Failed, "it was interrupted");
    task.await.map_err(interrupted)??;
    Ok(gateway.status())
}
