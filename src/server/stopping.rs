//! How a gateway stops: its clients get what waits for them and a Close, those that do not leave are
//! cut, and then its listener is ended.
//!
//! This runs on the control runtime while the gateway's verb lock is held. Each wait for the shards
//! has a limit, and cancelling `Host::cut` ends all of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::api::GatewayState;
use crate::config::settings::GatewaySettings;
use crate::gateway::msg::{HubMsg, PrimaryMsg};
use crate::gateway::shared::Shared;
use crate::listener::op::Op;
use crate::server::Host;
use crate::server::gateway::{Gateway, Running};
use crate::ws::close;
use crate::ws::close::Closing;

/// How long clients have for their Close, and the listener to take its last events.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// The same where a stop is cut short.
const CUT_WAIT: Duration = Duration::from_millis(100);

/// The pause between two groups of clients that are closed during `close-spread`.
const SPREAD_STEP: Duration = Duration::from_millis(50);

impl Gateway {
    /// Stops it; fine if it is stopped.
    pub(crate) async fn stop(self: &Arc<Self>, by_hand: bool) {
        let _turn = self.verb.lock().await;
        self.stop_locked(by_hand).await;
    }

    /// Stops it, within a verb.
    pub(crate) async fn stop_locked(self: &Arc<Self>, by_hand: bool) {
        let (running, settings) = {
            let mut state = self.state();
            state.by_hand |= by_hand;
            let Some(running) = state.running.clone() else {
                state.phase = GatewayState::Stopped;
                state.error = None;
                return;
            };
            state.phase = GatewayState::Stopping;
            (running, Arc::clone(&state.settings))
        };
        tracing::info!(gateway = %self.id, "gateway stopping");
        let spread = settings.close_spread;
        self.bring_down(&running, &settings, close::STOPPING, spread).await;
        let mut state = self.state();
        state.running = None;
        state.phase = GatewayState::Stopped;
        state.error = None;
        drop(state);
        tracing::info!(gateway = %self.id, "gateway stopped");
    }

    /// Runs the stop sequence: nothing new is taken, what is unanswered has `drain`, the clients get
    /// their Close, the listener is told of their ends and is ended. Before that, for as long as
    /// `spread`, clients are closed one after the other while the rest are still served.
    pub(crate) async fn bring_down(
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
        shared.refuse_clients();
        {
            let mut state = self.state();
            state.socket_file = None;
            state.acceptor = None;
        }
        core.post_hub(shared.primary, shared, HubMsg::Accept(None));
        self.close_by_and_by(&host, shared, closing, spread).await;
        shared.begin_stop();
        core.post_all(shared, || HubMsg::GateOpen);

        let (done, idle) = oneshot::channel();
        core.post_primary(shared, PrimaryMsg::WhenIdle(done));
        wait(settings.drain, cut, idle).await;
        let (done, dropped) = oneshot::channel();
        core.post_primary(shared, PrimaryMsg::DropAll(done));
        if let Some(n @ 1..) = wait(CLOSE_WAIT, cut, dropped).await {
            tracing::warn!(gateway = %self.id, "{n} messages without an answer were dropped at the stop");
        }

        core.submit(shared, Op::CloseAll { closing });
        self.wait_empty(&host, shared, CLOSE_WAIT + Duration::from_millis(200), cut).await;
        if cut.is_cancelled() {
            // A short wait all the same, so that a client that answers at once is seen to leave in order.
            self.wait_empty(&host, shared, CUT_WAIT, &CancellationToken::new()).await;
        }
        // Files that are being sent have the same time as messages that are unanswered.
        wait_for(settings.drain, cut, shared.answers.wait()).await;
        shared.cut_answers();
        core.post_all(shared, || HubMsg::CutAll);
        self.wait_empty(&host, shared, CLOSE_WAIT, &CancellationToken::new()).await;

        if let Some(supervisor) = &running.supervisor {
            let (done, flushed) = oneshot::channel();
            core.post_primary(shared, PrimaryMsg::WhenFlushed(done));
            wait(CLOSE_WAIT, cut, flushed).await;
            supervisor.stop(cut.clone()).await;
        }
        if let Some(member) = &running.member {
            member.leave().await;
        }
        host.engine.remove(shared);
        self.metrics.queued.set(0);
        self.metrics.listener.unanswered.set(0);
    }

    /// Closes clients spread over a time, so that they do not all come back at once.
    async fn close_by_and_by(
        &self,
        host: &Host,
        shared: &Arc<Shared>,
        closing: Closing,
        time: Duration,
    ) {
        let steps = u32::try_from(time.as_millis() / SPREAD_STEP.as_millis()).unwrap_or(u32::MAX);
        for left in (1..=steps).rev() {
            if self.metrics.connections.get() == 0 {
                return;
            }
            host.engine.core().submit(shared, Op::CloseShare { closing, parts: left });
            tokio::select! {
                () = tokio::time::sleep(SPREAD_STEP) => {}
                () = host.cut.cancelled() => return,
            }
        }
    }

    async fn wait_empty(
        &self,
        host: &Host,
        shared: &Arc<Shared>,
        time: Duration,
        cut: &CancellationToken,
    ) {
        let core = host.engine.core();
        let mut waits = Vec::new();
        core.post_all(shared, || {
            let (done, empty) = oneshot::channel();
            waits.push(empty);
            HubMsg::WhenEmpty(done)
        });
        let all = async {
            for empty in waits {
                // A shard that is gone has no connections.
                let _ = empty.await;
            }
        };
        wait_for(time, cut, all).await;
    }
}

async fn wait_for(time: Duration, cut: &CancellationToken, done: impl Future<Output = ()>) {
    tokio::select! {
        () = done => {}
        () = tokio::time::sleep(time) => {}
        () = cut.cancelled() => {}
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
