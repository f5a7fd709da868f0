//! The life of a gateway's listener: started, watched, ended, started again.
//!
//! One task a gateway, on the control runtime (`task`). It owns the process (`incarnation`); the
//! pipes belong to the gateway's home, which reports what it sees on them. The two speak by
//! [`HomeMsg`](crate::gateway::engine::HomeMsg)s and [`Report`]s, and in step: after an exit nothing is
//! started before the home has said that the incarnation's output is handled. Here is the hold that
//! the gateway has on that task, which is told by orders and seen by its [`Life`].

mod incarnation;
mod task;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use incarnation::{Incarnation, try_out};
use task::Task;

use crate::config::settings::GatewaySettings;
use crate::gateway::engine::{Core, Report, Shared};

/// How the listener stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// The first incarnation has not shown yet that it lives.
    Starting,
    /// Up, with its process id.
    Up(u32),
    /// Gone, the next incarnation will come.
    Restarting,
    /// It cannot be started: why.
    Failed(String),
    /// Stopped.
    Stopped,
}

/// What the supervisor is told.
enum Order {
    /// Stop; cut short when the token is cancelled.
    Stop(CancellationToken, oneshot::Sender<()>),
    /// Replace the process; these settings apply from then on.
    Replace(Arc<GatewaySettings>, oneshot::Sender<Result<(), String>>),
}

/// What a supervisor needs of the world around it.
#[derive(Clone)]
pub struct Around {
    /// The engine.
    pub core: Arc<Core>,
    /// The control port's URL, for the listener's environment.
    pub control_url: Option<String>,
    /// Cancelled when all of `serve` stops: an old process is not given its time then.
    pub hurry: CancellationToken,
}

/// A gateway's hold on its supervisor.
pub struct Supervisor {
    orders: mpsc::Sender<Order>,
    life: watch::Receiver<Life>,
}

impl Supervisor {
    /// Starts the listener of a gateway.
    pub fn start(
        around: Around,
        shared: Arc<Shared>,
        reports: mpsc::UnboundedReceiver<Report>,
        first: Option<Incarnation>,
    ) -> Supervisor {
        let (orders, orders_in) = mpsc::channel(4);
        let (life_out, life) = watch::channel(Life::Starting);
        let task = Task::new(around, shared, reports, orders_in, life_out);
        tokio::spawn(task.run(first));
        Supervisor { orders, life }
    }

    /// How the listener stands, now and later.
    pub fn life(&self) -> watch::Receiver<Life> {
        self.life.clone()
    }

    /// Stops the listener: its stdin is closed, then SIGTERM, then SIGKILL. Cancelling `cut` skips
    /// the waits.
    pub async fn stop(&self, cut: CancellationToken) {
        let (done, wait) = oneshot::channel();
        if self.orders.send(Order::Stop(cut, done)).await.is_ok() {
            // It answers or has ended already.
            let _ = wait.await;
        }
    }

    /// Replaces the process by a new one, with new settings; the old one stays if the new one does
    /// not come up.
    pub async fn replace(&self, settings: Arc<GatewaySettings>) -> Result<(), String> {
        let (done, wait) = oneshot::channel();
        let ended = || "the listener is stopped".to_owned();
        self.orders.send(Order::Replace(settings, done)).await.map_err(|_| ended())?;
        wait.await.map_err(|_| ended())?
    }
}
