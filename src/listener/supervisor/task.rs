//! The supervisor's task: one incarnation after the other, the pauses between them, and how one is
//! ended.
//!
//! Each gateway has one such task, on the control runtime; nothing in it is shared. It handles the
//! reports on the pipes and the gateway's orders, one at a time.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::settings::GatewaySettings;
use crate::listener::exchange::restart::Exit;
use crate::listener::notes::Notes;
use crate::listener::stderr::Tail;
use crate::listener::supervisor::incarnation::{
    Incarnation, UP_AFTER, exit_text, spawn, try_out, with_tail,
};
use crate::listener::supervisor::{Life, ListenerHost, Order, Report, SupervisorContext};

/// An exit before this, without output, of the first two incarnations: it cannot be started.
pub(crate) const EARLY: Duration = Duration::from_secs(1);

/// The first pause before a restart.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// An incarnation that lived so long resets the pause.
const SETTLED: Duration = Duration::from_secs(10);

/// How long a process that closed its stdout may take to exit by itself.
const EXIT_GRACE: Duration = Duration::from_millis(200);

/// How long it may take to exit after the end of its stdin.
pub(crate) const STDIN_WAIT: Duration = Duration::from_secs(4);

/// How long it may take to exit after SIGTERM.
pub(crate) const TERM_WAIT: Duration = Duration::from_secs(2);

/// Why an incarnation's time is over.
enum End {
    /// It exited, closed its stdout or hung.
    Died(String),
    /// The supervisor is told to stop.
    Stop(CancellationToken, oneshot::Sender<()>),
    /// Another one takes its place.
    Replaced(Box<Incarnation>, Arc<GatewaySettings>, oneshot::Sender<Result<(), String>>),
    /// The gateway is gone.
    Orphaned,
}

/// How a pause ended.
enum Pause {
    /// The time is up: the next process is to be started.
    Over,
    /// The next one is there already.
    Next(Box<Incarnation>),
    /// The supervisor is done.
    Done,
}

/// What one gateway's supervisor knows.
pub(super) struct Task {
    context: SupervisorContext,
    settings: Arc<GatewaySettings>,
    reports: mpsc::UnboundedReceiver<Report>,
    orders: mpsc::Receiver<Order>,
    life: watch::Sender<Life>,
    incarnations: u64,
    early: u32,
    /// Whether some incarnation has shown that it lives: it ran for a moment, or wrote something.
    shown: bool,
    delay: Duration,
}

impl Task {
    /// Before the first incarnation.
    pub(super) fn new(
        context: SupervisorContext,
        reports: mpsc::UnboundedReceiver<Report>,
        orders: mpsc::Receiver<Order>,
        life: watch::Sender<Life>,
    ) -> Task {
        Task {
            settings: context.host.settings(),
            context,
            reports,
            orders,
            life,
            incarnations: 0,
            early: 0,
            shown: false,
            delay: FIRST_DELAY,
        }
    }

    /// One incarnation after the other, until the supervisor is done.
    pub(super) async fn run(mut self, mut next: Option<Incarnation>) {
        loop {
            let incarnation = match next.take() {
                Some(incarnation) => incarnation,
                None => match spawn(&self.context, &self.settings) {
                    Ok(incarnation) => incarnation,
                    Err(why) if self.incarnations == 0 => {
                        self.life.send_replace(Life::Failed(why));
                        return;
                    }
                    Err(why) => {
                        tracing::error!(gateway = %self.host().id(), "the listener cannot be started again: {why}");
                        match self.pause().await {
                            Pause::Over => continue,
                            Pause::Next(incarnation) => *incarnation,
                            Pause::Done => return,
                        }
                    }
                },
            };
            next = match self.watch(incarnation).await {
                Some(next) => next,
                None => return,
            };
        }
    }

    fn host(&self) -> &dyn ListenerHost {
        self.context.host.as_ref()
    }

    fn notes(&self) -> &Notes {
        &self.host().metrics().notes
    }

    /// Makes these settings apply from now on.
    fn settle(&mut self, settings: Arc<GatewaySettings>) {
        self.settings = Arc::clone(&settings);
        self.host().apply_settings(settings);
    }

    /// One incarnation from its attachment to its end. `None`: the supervisor is done; else the
    /// next incarnation, if it is there already.
    async fn watch(&mut self, mut now: Incarnation) -> Option<Option<Incarnation>> {
        self.incarnations += 1;
        let pid = now.spawned.process.pid();
        // Reports on an earlier incarnation concern nobody any more.
        while self.reports.try_recv().is_ok() {}
        if let Some(stdout) = now.spawned.stdout.take() {
            self.host().attach(now.spawned.stdin.take(), stdout);
        }
        tracing::info!(gateway = %self.host().id(), pid, "listener started");
        self.notes().started();
        let mut wrote = false;
        let end = self.live(&mut now, &mut wrote).await;
        let lived = now.started.elapsed();
        if let End::Orphaned | End::Died(_) = end {
            self.notes().ended();
        }
        match end {
            End::Orphaned => {
                let _ = now.spawned.process.kill().await;
                None
            }
            End::Died(why) => {
                // It has exited or is killed: this returns at once.
                let _ = now.spawned.process.kill().await;
                if self.shown {
                    self.life.send_replace(Life::Restarting);
                }
                let exit = self.drained(false).await;
                wrote |= exit.is_some_and(|exit| exit.wrote_line);
                if wrote && !self.shown {
                    // It may have written and ended before its first output was reported.
                    self.shown = true;
                    self.life.send_replace(Life::Restarting);
                }
                match self.after_death(&why, lived, wrote, &now.tail).await {
                    Pause::Over => Some(None),
                    Pause::Next(next) => Some(Some(*next)),
                    Pause::Done => None,
                }
            }
            End::Stop(cut, done) => {
                self.end(&mut now, &cut).await;
                self.notes().ended();
                self.life.send_replace(Life::Stopped);
                let _ = done.send(());
                None
            }
            End::Replaced(next, settings, done) => {
                self.life.send_replace(Life::Restarting);
                let hurry = self.context.hurry.clone();
                self.end(&mut now, &hurry).await;
                self.settle(settings);
                self.host().metrics().restarts.inc();
                self.early = 0;
                let _ = done.send(Ok(()));
                Some(Some(*next))
            }
        }
    }

    /// An incarnation has shown that it lives.
    fn came_up(&mut self, pid: u32) {
        self.shown = true;
        self.life.send_replace(Life::Up(pid));
    }

    /// Waits for an incarnation's end.
    async fn live(&mut self, now: &mut Incarnation, wrote: &mut bool) -> End {
        let pid = now.spawned.process.pid();
        let up_at = now.started + UP_AFTER;
        let mut up = false;
        loop {
            tokio::select! {
                biased;
                () = now.spawned.process.exited() => {
                    return End::Died(exit_text(now.spawned.process.kill().await));
                }
                report = self.reports.recv() => match report {
                    None => return End::Orphaned,
                    Some(Report::FirstOutput) => {
                        *wrote = true;
                        if !up {
                            up = true;
                            self.came_up(pid);
                        }
                    }
                    Some(Report::StdoutClosed) => {
                        let exited = timeout(EXIT_GRACE, now.spawned.process.exited()).await;
                        let why = match exited {
                            Ok(()) => exit_text(now.spawned.process.kill().await),
                            Err(_) => "it closed its stdout".to_owned(),
                        };
                        return End::Died(why);
                    }
                    Some(Report::Hang) => {
                        let seconds = self.settings.effective_hang_timeout().as_secs_f64();
                        return End::Died(format!("it wrote nothing for {seconds} s though it owed answers (hang-timeout): killed"));
                    }
                    Some(Report::Drained(_)) => {}
                },
                () = sleep_until(up_at), if !up => {
                    up = true;
                    self.came_up(pid);
                }
                order = self.orders.recv() => match order {
                    None => return End::Orphaned,
                    Some(Order::Stop(cut, done)) => return End::Stop(cut, done),
                    Some(Order::Replace(settings, done)) => {
                        match try_out(&self.context, &settings).await {
                            Ok(next) => return End::Replaced(Box::new(next), settings, done),
                            Err(why) => {
                                let _ = done.send(Err(why));
                            }
                        }
                    }
                },
            }
        }
    }

    /// Waits until what the incarnation left in its stdout has been handled; `wanted` says that we ended
    /// it.
    async fn drained(&mut self, wanted: bool) -> Option<Exit> {
        self.host().exited(wanted);
        loop {
            match self.reports.recv().await? {
                Report::Drained(exit) => return Some(exit),
                _ => continue,
            }
        }
    }

    /// After an unwanted end: says so, and waits for the time to start again.
    async fn after_death(
        &mut self,
        why: &str,
        lived: Duration,
        wrote: bool,
        tail: &Arc<Mutex<Tail>>,
    ) -> Pause {
        if self.incarnations <= 2 && lived < EARLY && !wrote {
            self.early += 1;
            if self.early == 2 {
                // Whoever waits for it says so.
                self.life.send_replace(Life::Failed(with_tail(why, tail).await));
                return Pause::Done;
            }
        }
        if lived >= SETTLED {
            self.delay = FIRST_DELAY;
        }
        tracing::warn!(
            gateway = %self.host().id(),
            lived = %format_args!("{:.1}s", lived.as_secs_f64()),
            "the listener ended: {why}; it is started again in {} ms, clients stay connected",
            self.delay.as_millis()
        );
        self.host().metrics().restarts.inc();
        self.note_death(why, tail);
        self.pause().await
    }

    /// Keeps how it ended, with its last words, which may still be on their way.
    fn note_death(&self, why: &str, tail: &Arc<Mutex<Tail>>) {
        let (why, tail) = (format!("the listener ended: {why}"), Arc::clone(tail));
        let host = Arc::clone(&self.context.host);
        tokio::spawn(async move {
            host.metrics().notes.failed(&with_tail(&why, &tail).await);
        });
    }

    /// The pause before a restart, twice as long each time; an order may end it.
    async fn pause(&mut self) -> Pause {
        let max = self.settings.restart_delay_max;
        let delay = self.delay.min(max);
        self.delay = (self.delay * 2).min(max.max(FIRST_DELAY));
        // Up to a quarter more, so that many gateways do not start their listeners at once.
        let jitter = fastrand::f64() / 4.0;
        let delay = delay.mul_f64(1.0 + jitter).min(max.max(delay));
        tokio::select! {
            () = sleep(delay) => Pause::Over,
            order = self.orders.recv() => match order {
                None => Pause::Done,
                Some(Order::Stop(_, done)) => {
                    self.life.send_replace(Life::Stopped);
                    let _ = done.send(());
                    Pause::Done
                }
                // None is there to replace, but the new one has to show that it lives all the same.
                Some(Order::Replace(settings, done)) => {
                    match try_out(&self.context, &settings).await {
                        Ok(next) => {
                            self.settle(settings);
                            self.delay = FIRST_DELAY;
                            let _ = done.send(Ok(()));
                            Pause::Next(Box::new(next))
                        }
                        Err(why) => {
                            let _ = done.send(Err(why));
                            Pause::Over
                        }
                    }
                }
            },
        }
    }

    /// Ends an incarnation: the end of its stdin, SIGTERM, SIGKILL.
    async fn end(&mut self, now: &mut Incarnation, cut: &CancellationToken) {
        let pid = now.spawned.process.pid();
        let had_stdin = self.settings.feeds_listener();
        if had_stdin {
            self.host().close_stdin();
        }
        let wait = if had_stdin { STDIN_WAIT } else { Duration::ZERO };
        let process = &mut now.spawned.process;
        let mut gone = within(wait, cut, process.exited()).await.is_some();
        // Nobody has waited for it yet, so the group's number is still its own.
        process.signal_group(Signal::TERM);
        let deadline = Instant::now() + TERM_WAIT;
        if !gone {
            gone = within(TERM_WAIT, cut, process.exited()).await.is_some();
        }
        if gone {
            let _ = process.reap();
            // Its children may need the rest of the time. As long as one is left, nobody else can
            // have the group's number.
            while process.group_exists() && Instant::now() < deadline && !cut.is_cancelled() {
                sleep(Duration::from_millis(10)).await;
            }
            if process.group_exists() {
                process.signal_group(Signal::KILL);
            }
        } else {
            let _ = process.kill().await;
        }
        tracing::info!(gateway = %self.host().id(), pid, "listener stopped");
        self.drained(true).await;
    }
}

/// The future's result, unless the time is up or it is cut short.
async fn within<T>(
    time: Duration,
    cut: &CancellationToken,
    future: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        result = future => Some(result),
        () = sleep(time) => None,
        () = cut.cancelled() => None,
    }
}
