//! One process of a listener: started, tried out, and what it said last.
//!
//! The supervisor's task owns it; its stderr is drained by a task of its own, which shares the tail
//! alone.

use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use crate::config::settings::GatewaySettings;
use crate::listener::notes::STDERR;
use crate::listener::process;
use crate::listener::process::Spawned;
use crate::listener::stderr;
use crate::listener::stderr::Tail;
use crate::listener::supervisor::SupervisorContext;

/// How long an incarnation has to live to count as up, if it writes nothing.
pub(crate) const UP_AFTER: Duration = Duration::from_millis(200);

/// One process and what its stderr said last.
pub(crate) struct Incarnation {
    pub(super) spawned: Spawned,
    pub(super) tail: Arc<Mutex<Tail>>,
    pub(super) started: Instant,
}

/// Starts a process and the task that takes in its stderr.
///
/// # Errors
/// Why it cannot be started.
pub(super) fn spawn(
    context: &SupervisorContext,
    settings: &GatewaySettings,
) -> Result<Incarnation, String> {
    let Some(command) = &settings.listener else { return Err("no listener is set".to_owned()) };
    let with_stdin = settings.feeds_listener();
    let mut spawned = process::spawn(
        command,
        &settings.id,
        context.control_url.as_deref(),
        with_stdin,
        context.descriptor_limit,
    )
    .map_err(|e| process::explain(&e, command))?;
    let tail = Arc::new(Mutex::new(Tail::default()));
    if let Some(stderr) = spawned.stderr.take() {
        tokio::spawn(stderr::drain(
            stderr,
            Arc::clone(context.host.id()),
            Arc::clone(&tail),
            Arc::clone(context.host.metrics()),
        ));
    }
    Ok(Incarnation { spawned, tail, started: Instant::now() })
}

/// Starts a process beside what is there and sees whether it lives.
///
/// # Errors
/// Why it does not.
pub(crate) async fn try_out(
    context: &SupervisorContext,
    settings: &GatewaySettings,
) -> Result<Incarnation, String> {
    let mut next = spawn(context, settings)?;
    match timeout(UP_AFTER, next.spawned.process.exited()).await {
        Err(_) => Ok(next),
        Ok(()) => {
            let status = next.spawned.process.kill().await;
            Err(with_tail(&exit_text(status), &next.tail).await)
        }
    }
}

/// How a process ended, in words.
pub(super) fn exit_text(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => format!("{status}"),
        Err(error) => format!("it cannot be waited for: {error}"),
    }
}

/// The reason and the last lines that the listener wrote to stderr.
pub(super) async fn with_tail(why: &str, tail: &Arc<Mutex<Tail>>) -> String {
    // The drain ends with the process; a child that holds the pipe open must not hold this up.
    for _ in 0..20 {
        if tail.lock().ended() {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    let tail = tail.lock();
    let mut text = why.to_owned();
    for line in tail.lines() {
        text.push_str(STDERR);
        text.push_str(line);
    }
    text
}
