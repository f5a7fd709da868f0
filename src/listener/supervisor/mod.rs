//! The life of a gateway's listener: it is started, watched, ended and started again.
//!
//! Each gateway has one task for this, on the control runtime (`task`). The task owns the process
//! (`incarnation`); the pipes belong to the shard that is the gateway's primary. The supervisor
//! tells that shard what to do through a [`ListenerHost`], and the shard tells what it sees on the
//! pipes by [`Report`]s. After an exit nothing is started before the shard has reported that it has
//! handled the incarnation's output. A [`Supervisor`] is the handle of that task: it takes orders,
//! and shows how the listener stands ([`Life`]).

mod incarnation;
mod task;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use incarnation::{Incarnation, UP_AFTER, try_out};
use task::Task;
pub(crate) use task::{EARLY, STDIN_WAIT, TERM_WAIT};

use crate::config::settings::GatewaySettings;
use crate::listener::exchange::restart::Exit;
use crate::listener::metrics::ListenerMetrics;

/// The gateway of a listener, as the supervisor sees it. No method blocks.
pub(crate) trait ListenerHost: Send + Sync {
    /// The gateway's id.
    fn id(&self) -> &Arc<str>;

    /// Where the listener's restarts and the lines of its stderr are counted.
    fn metrics(&self) -> &Arc<ListenerMetrics>;

    /// The settings as they apply now.
    fn settings(&self) -> Arc<GatewaySettings>;

    /// Makes these settings apply from now on.
    fn apply_settings(&self, settings: Arc<GatewaySettings>);

    /// Takes over the pipes of a new incarnation: its stdin (none for a producer) and its stdout.
    fn attach(&self, stdin: Option<OwnedFd>, stdout: OwnedFd);

    /// Closes the listener's stdin.
    fn close_stdin(&self);

    /// Reads what the exited incarnation left in its stdout, then reports [`Report::Drained`].
    /// `wanted` says that the supervisor ended it.
    fn exited(&self, wanted: bool);
}

/// What the gateway reports of the listener's pipes. There are at most a few for each incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// The incarnation wrote its first bytes.
    FirstOutput,
    /// Its stdout ended.
    StdoutClosed,
    /// It has to be killed, for it exceeded `hang-timeout`.
    Hang,
    /// It is gone and its stdout has been read to the end.
    Drained(Exit),
}

/// How the listener stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Life {
    /// No incarnation has shown yet that it lives.
    Starting,
    /// Up, with its process id.
    Up(u32),
    /// Gone, the next incarnation will come.
    Restarting,
    /// It cannot be started, with the reason.
    Failed(String),
    /// Stopped.
    Stopped,
}

/// What the supervisor is told.
enum Order {
    /// Stop; the waits are cut short when the token is cancelled.
    Stop(CancellationToken, oneshot::Sender<()>),
    /// Replace the process; these settings apply from then on.
    Replace(Arc<GatewaySettings>, oneshot::Sender<Result<(), String>>),
}

/// What a supervisor needs of the world around it.
#[derive(Clone)]
pub(crate) struct SupervisorContext {
    /// The gateway.
    pub host: Arc<dyn ListenerHost>,
    /// The control port's URL, for the listener's environment.
    pub control_url: Option<String>,
    /// The limits on open files (soft, hard) that listeners get; `None` leaves ours.
    pub descriptor_limit: Option<(u64, u64)>,
    /// Cancelled when all of `serve` stops: an old process is not given its time then.
    pub hurry: CancellationToken,
}

/// The handle of a gateway's supervisor. The supervisor kills the listener and ends when its
/// handle is dropped.
pub(crate) struct Supervisor {
    orders: mpsc::Sender<Order>,
    life: watch::Receiver<Life>,
}

impl Supervisor {
    /// Starts the listener of a gateway, or takes over a `first` incarnation that was started
    /// already. To be called within the control runtime.
    pub(crate) fn start(
        context: SupervisorContext,
        reports: mpsc::UnboundedReceiver<Report>,
        first: Option<Incarnation>,
    ) -> Supervisor {
        let (orders, orders_in) = mpsc::channel(4);
        let (life_out, life) = watch::channel(Life::Starting);
        let task = Task::new(context, reports, orders_in, life_out);
        tokio::spawn(task.run(first));
        Supervisor { orders, life }
    }

    /// How the listener stands, now and later.
    pub(crate) fn life(&self) -> watch::Receiver<Life> {
        self.life.clone()
    }

    /// Stops the listener: its stdin is closed, then it gets SIGTERM, then SIGKILL. Cancelling
    /// `cut` skips the waits.
    pub(crate) async fn stop(&self, cut: CancellationToken) {
        let (done, wait) = oneshot::channel();
        if self.orders.send(Order::Stop(cut, done)).await.is_ok() {
            // It answers or has ended already.
            let _ = wait.await;
        }
    }

    /// Replaces the process by a new one, with new settings.
    ///
    /// # Errors
    /// Why the new one does not come up; the old one stays then.
    pub(crate) async fn replace(&self, settings: Arc<GatewaySettings>) -> Result<(), String> {
        let (done, wait) = oneshot::channel();
        let ended = || "the listener is stopped".to_owned();
        self.orders.send(Order::Replace(settings, done)).await.map_err(|_| ended())?;
        wait.await.map_err(|_| ended())?
    }
}
