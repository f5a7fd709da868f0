//! All gateways of one `serve`: lifecycle verbs, reload, shutdown; and the door through which
//! pushes come in.

pub mod api;
mod change;
pub mod gateway;
mod reload;
mod starting;
mod stopping;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use api::{ApiError, ConnectionInfo, ErrorCode, GatewayStatus, PushOutcome};
use gateway::{Gateway, Phase, Running};

use crate::error::Failure;
use crate::gateway::engine::{CloseReply, ConnRow, Delivery, Engine, HomeMsg, Msg, Shared};
use crate::gateway::exchange::lines::choose;
use crate::gateway::exchange::{PushAsk, route_recipients};
use crate::gateway::metrics::{self, Scrape};
use crate::gateway::supervisor::{Around, Life, asks};
use crate::gateway::tally::{Reply, Tally};
use crate::protocol::connid::ConnId;
use crate::protocol::push::Push;
use crate::settings::{ControlSettings, LogSettings, ServeSettings, Startup};
use crate::systemd::{self, Inherited};

/// Pushes that may wait.
const PUSHES_MAX: usize = 1024;

/// Bytes of their structs.
const PUSH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long an NDJSON stream waits at a time for a recipient that is over half of `max-queue`.
const STREAM_PAUSE: Duration = Duration::from_secs(1);

/// How often it looks.
const STREAM_LOOK: Duration = Duration::from_millis(2);

/// Reads the configuration again.
pub type Load = Box<dyn Fn() -> Result<ServeSettings, Failure> + Send + Sync>;

/// Applies what a reload brings beside the gateways: the log's level, the control port's
/// certificate. Tells what could not be.
pub type Apply = Box<dyn Fn(&ServeSettings) -> Result<(), String> + Send + Sync>;

/// What a server does outside of itself.
pub struct Outside {
    /// Says what was bound.
    pub announce: Box<dyn Fn(&str) + Send + Sync>,
    /// Reads the configuration again.
    pub load: Load,
    /// Applies the rest of it.
    pub apply: Apply,
    /// Sockets that were handed over.
    pub inherited: Inherited,
}

/// What gateways need of their `serve`.
pub struct Host {
    /// The shards.
    pub engine: Engine,
    /// Says what was bound.
    pub announce: Box<dyn Fn(&str) + Send + Sync>,
    /// Sockets that were handed over.
    pub inherited: Inherited,
    /// Cancelled when the waits of all stops are to be cut short.
    pub cut: CancellationToken,
    control_url: OnceLock<String>,
    /// Cancelled when the stop of all has begun: nothing is started any more.
    stop: CancellationToken,
}

impl Host {
    /// What the supervisors of listeners need.
    pub fn around(&self) -> Around {
        Around {
            core: Arc::clone(self.engine.core()),
            control_url: self.control_url.get().cloned(),
            hurry: self.stop.clone(),
        }
    }

    /// Cancelled when the stop of all has begun.
    pub fn hurry(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Whether the stop of all has begun.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }
}

/// The gateways of one `serve`. Shared by reference counting; every method may be called from any
/// task of the control runtime.
pub struct Server {
    host: Arc<Host>,
    gateways: Mutex<Vec<Arc<Gateway>>>,
    control: ControlSettings,
    log: LogSettings,
    config_file: Option<PathBuf>,
    load: Load,
    apply: Apply,
    reloading: tokio::sync::Mutex<()>,
    waiting: Arc<Waiting>,
}

/// Pushes that wait, and their bytes.
#[derive(Default)]
struct Waiting {
    pushes: AtomicUsize,
    bytes: AtomicUsize,
}

/// What one push holds of the limits, until it is dropped.
struct Ticket(Arc<Waiting>, usize);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.pushes.fetch_sub(1, Ordering::Relaxed);
        self.0.bytes.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl Waiting {
    fn ticket(self: &Arc<Waiting>, bytes: usize) -> Result<Ticket, ApiError> {
        let pushes = self.pushes.fetch_add(1, Ordering::Relaxed);
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // From here on its drop gives both back.
        let ticket = Ticket(Arc::clone(self), bytes);
        if pushes >= PUSHES_MAX || before > 0 && before + bytes > PUSH_BYTES_MAX {
            return Err(ApiError::new(
                ErrorCode::Busy,
                "too many pushes wait (1024 requests or 64 MiB): try again later",
            ));
        }
        Ok(ticket)
    }
}

/// A reload that was carried out.
pub struct Reloaded {
    /// Every gateway.
    pub gateways: Vec<GatewayStatus>,
    /// What could not be applied, and what to do about it.
    pub notice: Option<String>,
}

/// The answer to a push that was taken in; it arrives once, later. Dropped before that, the push is
/// withdrawn if its line was not begun.
pub struct PushReceipt {
    outcome: oneshot::Receiver<Result<PushOutcome, ApiError>>,
    asked: Option<(Arc<Host>, Arc<Shared>)>,
}

impl Future for PushReceipt {
    type Output = Result<PushOutcome, ApiError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = std::task::ready!(Pin::new(&mut self.outcome).poll(cx));
        self.asked = None;
        Poll::Ready(outcome.unwrap_or_else(|_| {
            let text = "the gateway stopped before the push was through";
            Err(ApiError::new(ErrorCode::Stopping, text))
        }))
    }
}

impl Drop for PushReceipt {
    fn drop(&mut self) {
        self.outcome.close();
        if let Some((host, shared)) = self.asked.take() {
            host.engine.core().post_home(&shared, HomeMsg::Withdrawn);
        }
    }
}

impl Server {
    /// The gateways of these settings, none started.
    pub fn new(settings: ServeSettings, engine: Engine, outside: Outside) -> Arc<Server> {
        let host = Arc::new(Host {
            engine,
            announce: outside.announce,
            inherited: outside.inherited,
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
            load: outside.load,
            apply: outside.apply,
            reloading: tokio::sync::Mutex::new(()),
            waiting: Arc::default(),
        })
    }

    /// Sets the control port's URL; once, before anything is started.
    pub fn set_control_url(&self, url: String) {
        let _ = self.host.control_url.set(url);
    }

    fn all(&self) -> Vec<Arc<Gateway>> {
        self.gateways.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    fn find(&self, id: &str) -> Result<Arc<Gateway>, ApiError> {
        let id = &crate::config::keys::normal_id(id);
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
            state.running.clone().filter(|_| state.phase == Phase::Running)
        };
        match running {
            Some(running) => Ok((gateway, running)),
            None => Err(gateway.not_running()),
        }
    }

    /// Starts every automatic gateway, all at once; what failed is in their states. Returns
    /// whether one runs, or none was to be started.
    pub async fn start_automatic(&self) -> bool {
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
            gateway.state().phase = Phase::Starting;
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
    pub async fn shut_down(&self) {
        self.host.stop.cancel();
        reload::stop_all(self.all()).await;
    }

    /// Ends the waits of every stop that is under way or comes.
    pub fn cut_short(&self) {
        self.host.cut.cancel();
    }

    /// Why each failed gateway failed.
    pub fn failures(&self) -> Vec<String> {
        self.all()
            .iter()
            .filter_map(|g| {
                let state = g.state();
                let error = state.error.as_ref().filter(|_| state.phase == Phase::Failed)?;
                Some(format!("gateway {}: {error}", g.id))
            })
            .collect()
    }

    /// Every gateway, in the order of the config file.
    pub fn gateways(&self) -> Vec<GatewayStatus> {
        self.all().iter().map(|g| g.status()).collect()
    }

    /// One gateway.
    pub fn gateway(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        Ok(self.find(id)?.status())
    }

    /// Takes a push in, in the order of the calls. `Err` is an immediate refusal (unknown gateway,
    /// not running, stopping, busy, too large). Dropping the receipt withdraws the push if its line
    /// was not begun yet. `hook` false skips the listener.
    pub fn push(&self, id: &str, push: &Push, hook: bool) -> Result<PushReceipt, ApiError> {
        let (gateway, running) = self.find_running(id)?;
        let shared = &running.shared;
        let settings = shared.settings();
        let core = self.host.engine.core();
        let ticket = self.waiting.ticket(push.size())?;
        let (reply, outcome) = oneshot::channel();
        if hook && asks(&settings) {
            if push.line_size() > settings.max_line {
                let text = format!(
                    "the event's line would be over max-line ({} bytes)",
                    settings.max_line
                );
                return Err(ApiError::new(ErrorCode::TooLarge, text));
            }
            gateway.metrics.pushes.inc();
            let ask = PushAsk { push: push.clone(), reply, ticket: Box::new(ticket) };
            core.post_home(shared, HomeMsg::Push(Box::new(ask)));
            let asked = Some((Arc::clone(&self.host), Arc::clone(shared)));
            return Ok(PushReceipt { outcome, asked });
        }
        gateway.metrics.pushes.inc();
        let except = push.except().unwrap_or_default();
        let (to, gone) = choose(push.connections(), except, |except| {
            route_recipients(settings.route, None, except)
        });
        gateway.metrics.gone.add(gone.len() as u64);
        let tell = move |outcome| {
            drop(ticket);
            // The requester may have gone; then nobody is left to tell.
            let _ = reply.send(Ok(outcome));
        };
        let tally = Tally::new(core.shards(), gone, Reply::Command(Box::new(tell)));
        let frame = push.frame().clone();
        core.deliver(shared, Delivery { frame, to, from: None, tally: Some(Arc::new(tally)) });
        Ok(PushReceipt { outcome, asked: None })
    }

    /// Whether a recipient of this gateway that is still taking bytes has more than half of
    /// `max-queue` waiting: NDJSON streams pause then. Resolves when that is over, or after 1 s.
    pub async fn stream_pause(&self, id: &str) {
        let Ok((_, running)) = self.find_running(id) else { return };
        let until = tokio::time::Instant::now() + STREAM_PAUSE;
        while running.shared.any_over_half() && tokio::time::Instant::now() < until {
            tokio::time::sleep(STREAM_LOOK).await;
        }
    }

    /// Nothing is started any more once all of it stops: it would wait for the end of the stop.
    fn goes_on(&self) -> Result<(), ApiError> {
        if self.host.is_stopping() {
            return Err(ApiError::new(ErrorCode::Stopping, "wsgw is stopping"));
        }
        Ok(())
    }

    /// Starts a gateway; done when it runs (already so: fine).
    pub async fn start(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        let gateway = self.find(id)?;
        self.goes_on()?;
        run(&gateway, |g| async move { g.start().await }).await
    }

    /// Stops a gateway; done when it is stopped (already so: fine).
    pub async fn stop(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        let gateway = self.find(id)?;
        run(&gateway, |g| async move {
            g.stop(true).await;
            Ok(())
        })
        .await
    }

    /// Stops and starts a gateway.
    pub async fn restart(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        let gateway = self.find(id)?;
        self.goes_on()?;
        run(&gateway, |g| async move { g.restart().await }).await
    }

    /// Replaces the listener alone; the clients stay.
    pub async fn restart_listener(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        let gateway = self.find(id)?;
        self.goes_on()?;
        run(&gateway, |g| async move { g.restart_listener().await }).await
    }

    /// Re-reads the config.
    ///
    /// # Errors
    /// What was not carried out; an invalid config changes nothing.
    pub async fn reload(self: &Arc<Self>) -> Result<Reloaded, ApiError> {
        self.goes_on()?;
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

    /// The open connections of a gateway.
    pub async fn connections(&self, id: &str) -> Result<Vec<ConnectionInfo>, ApiError> {
        let gateway = self.find(id)?;
        let Some(running) = gateway.running() else { return Ok(Vec::new()) };
        let mut waits = Vec::new();
        self.host.engine.core().post_all(|| {
            let (reply, rows) = oneshot::channel();
            waits.push(rows);
            Msg::List(running.shared.slot, None, reply)
        });
        let mut rows: Vec<ConnRow> = Vec::new();
        for wait in waits {
            // A shard that is gone has no connections.
            rows.append(&mut wait.await.unwrap_or_default());
        }
        rows.sort_unstable_by_key(|row| row.info.id);
        Ok(rows.iter().filter_map(info).collect())
    }

    /// One connection.
    pub async fn connection(&self, id: &str, conn: &str) -> Result<ConnectionInfo, ApiError> {
        let gateway = self.find(id)?;
        let unknown = || unknown_connection(id, conn);
        let running = gateway.running().ok_or_else(unknown)?;
        let name = ConnId::parse(conn).ok_or_else(unknown)?;
        let core = self.host.engine.core();
        let (reply, rows) = oneshot::channel();
        core.post(core.shard_of(name), Msg::List(running.shared.slot, Some(name), reply));
        let rows = rows.await.unwrap_or_default();
        rows.first().and_then(info).ok_or_else(unknown)
    }

    /// Closes one connection. The caller has checked neither code nor reason.
    pub async fn close_connection(
        &self,
        id: &str,
        conn: &str,
        code: u16,
        reason: &str,
    ) -> Result<ConnectionInfo, ApiError> {
        use crate::protocol::close;
        let gateway = self.find(id)?;
        if !close::may_be_sent(code) {
            let text = format!(
                "the close code {code} may not be sent: take 1000, 1001, 1008, 1011, or one of \
                 3000-4999"
            );
            return Err(ApiError::new(ErrorCode::BadRequest, text));
        }
        let unknown = || unknown_connection(id, conn);
        // A gateway that does not run has no connections.
        let running = gateway.running().ok_or_else(unknown)?;
        let name = ConnId::parse(conn).ok_or_else(unknown)?;
        let core = self.host.engine.core();
        let (reply, row) = oneshot::channel();
        let reason = close::cut_reason(reason).to_owned();
        let msg = Msg::Close(running.shared.slot, name, code, reason, CloseReply::Control(reply));
        core.post(core.shard_of(name), msg);
        let row = row.await.unwrap_or_default().ok_or_else(unknown)?;
        info(&row).ok_or_else(unknown)
    }

    /// `Ok` for `/healthz` 200, else why not.
    pub fn health(&self) -> Result<(), String> {
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
                Phase::Starting => return Err(format!("gateway {} is starting", gateway.id)),
                Phase::Failed => failed += 1,
                Phase::Stopped | Phase::Running | Phase::Stopping => {}
            }
        }
        if ought > 0 && failed == ought {
            return Err("every gateway that ought to run has failed".to_owned());
        }
        Ok(())
    }

    /// The Prometheus text of all gateways.
    pub fn metrics(&self) -> String {
        let all = self.all();
        let scrapes: Vec<Scrape<'_>> = all
            .iter()
            .map(|g| {
                let state = g.state();
                let supervisor = state.running.as_ref().and_then(|r| r.supervisor.as_ref());
                Scrape {
                    id: &g.id,
                    running: state.phase == Phase::Running,
                    listener_up: supervisor
                        .is_some_and(|s| matches!(*s.life().borrow(), Life::Up(_))),
                    metrics: &g.metrics,
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

fn unknown_connection(id: &str, conn: &str) -> ApiError {
    let text = format!("no connection {conn:?} on gateway {id:?}");
    ApiError::new(ErrorCode::UnknownConnection, text)
}

fn info(row: &ConnRow) -> Option<ConnectionInfo> {
    Some(ConnectionInfo {
        conn: row.info.id.to_string(),
        remote: row.info.remote.to_string(),
        // A JSON string by construction.
        path: serde_json::value::RawValue::from_string(row.info.path_json().to_owned()).ok()?,
        opened_at: humantime::format_rfc3339_millis(row.info.opened_at).to_string(),
        queued_bytes: row.queued as u64,
    })
}
