//! Pushes: how many may wait, and their way to the listener or straight to the clients.
//!
//! Taking a push in never waits; its receipt resolves when the push is done. Atomic counters hold how
//! many wait and their bytes; a push that ends, in whatever way, gives its share back.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::api::{ApiError, ErrorCode, PushOutcome};
use crate::config::hooks::Hook;
use crate::gateway::msg::PrimaryMsg;
use crate::gateway::shared::Shared;
use crate::listener::exchange::PushAsk;
use crate::listener::op::{Delivery, Op};
use crate::listener::protocol::push::Push;
use crate::listener::protocol::target::{NAMES_MOST, names_size};
use crate::listener::recipients::{resolve_recipients, route_recipients};
use crate::listener::report::{DeliveryReport, Reply};
use crate::server::{Host, Server};

/// Pushes that may wait.
const PUSHES_MAX: usize = 1024;

/// Bytes of their structs.
const PUSH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How often a stream that pauses looks whether it may go on.
const STREAM_LOOK: Duration = Duration::from_millis(2);

/// Pushes that wait, and their bytes.
#[derive(Default)]
pub(super) struct Waiting {
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

/// The answer to a push that was taken in; it arrives once, later. Dropped before that, the push is
/// withdrawn if its line was not begun.
pub(crate) struct PushReceipt {
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
            host.engine.core().post_primary(&shared, PrimaryMsg::Withdrawn);
        }
    }
}

impl Server {
    /// Takes a push in, in the order of the calls. `Err` is an immediate refusal (unknown gateway,
    /// not running, stopping, busy, too large). Dropping the receipt withdraws the push if its line
    /// was not begun yet. `hook` false skips the listener.
    pub(crate) fn push(&self, id: &str, push: &Push, hook: bool) -> Result<PushReceipt, ApiError> {
        let (gateway, running) = self.find_running(id)?;
        let shared = &running.shared;
        let settings = shared.settings();
        let core = self.host.engine.core();
        if running.member.as_ref().is_some_and(|member| member.status().is_holding()) {
            let text = "no NATS server of the cluster can be reached, and on-engine-loss is \"hold\": \
                        try again later";
            return Err(ApiError::new(ErrorCode::EngineLost, text));
        }
        let size = push.payload().bytes().len();
        if let Some(most) = settings.max_shared.filter(|most| size > *most) {
            let text = format!(
                "the message has {size} bytes, and one that is shared with other nodes may have {most}: \
                 raise max_payload of the NATS servers"
            );
            return Err(ApiError::new(ErrorCode::TooLarge, text));
        }
        let names = names_size(push.target(), push.except());
        if let Some(most) = settings.max_shared.filter(|most| size + names > *most + NAMES_MOST) {
            let text = format!(
                "the message ({size} bytes) with the names of its recipients ({names} bytes) is too \
                 large to be shared with other nodes: they may have {} bytes together",
                most + NAMES_MOST
            );
            return Err(ApiError::new(ErrorCode::TooLarge, text));
        }
        let ticket = self.waiting.ticket(push.size())?;
        let (reply, outcome) = oneshot::channel();
        if hook && settings.asks(Hook::OnMessage) {
            if push.line_size() > settings.max_line {
                let text = format!(
                    "the event's line would be over max-line ({} bytes)",
                    settings.max_line
                );
                return Err(ApiError::new(ErrorCode::TooLarge, text));
            }
            gateway.metrics.pushes.inc();
            let ask = PushAsk { push: push.clone(), reply, ticket: Box::new(ticket) };
            core.post_primary(shared, PrimaryMsg::Push(Box::new(ask)));
            let asked = Some((Arc::clone(&self.host), Arc::clone(shared)));
            return Ok(PushReceipt { outcome, asked });
        }
        gateway.metrics.pushes.inc();
        let except = push.except().unwrap_or_default();
        let (to, gone) = resolve_recipients(push.target(), except, |except| {
            route_recipients(settings.route, None, &[], except)
        });
        gateway.metrics.listener.gone.add(gone.len() as u64);
        let tell = move |outcome| {
            drop(ticket);
            // The requester may have gone; then nobody is left to tell.
            let _ = reply.send(Ok(outcome));
        };
        let report = DeliveryReport::new(core.shards(), gone, Reply::Command(Box::new(tell)));
        let delivery = Delivery::new(push.payload().clone(), to, Some(Arc::new(report)));
        core.submit(shared, Op::Deliver(delivery));
        Ok(PushReceipt { outcome, asked: None })
    }

    /// Waits while a client of this gateway holds producers up: it has more than half of `max-queue`
    /// waiting and still takes bytes. Each client may do so for `producer-wait` in all.
    pub(crate) async fn stream_pause(&self, id: &str) {
        // Looked up each time: a gateway that stops holds nobody up.
        while self
            .find_running(id)
            .is_ok_and(|(_, running)| running.shared.pressure.any_slow_reader())
        {
            tokio::time::sleep(STREAM_LOOK).await;
        }
    }
}
