//! `GET /v1/gateways/ID/tail`: the events of a gateway and their answers, as they come.
//!
//! Messages of clients are shown, so the log says who looks, and when.

use std::time::Instant;

use bytes::Bytes;
use hyper::Method;
use hyper::http::request::Parts;

use crate::api::{ApiError, Tail};
use crate::control::backend::Backend;
use crate::control::body;
use crate::control::body::Reply;
use crate::control::busy::Busy;
use crate::control::events;
use crate::control::events::{Source, Streams};
use crate::control::guard::Caller;
use crate::listener::tap::Subscription;

/// The events of one stream.
pub(super) struct TailSource {
    tail: Subscription,
    gateway: String,
    caller: Caller,
    /// When the first was waited for.
    began: Option<Instant>,
    shown: u64,
    skipped: u64,
}

impl TailSource {
    /// Shows `caller` the events of a gateway.
    pub(super) fn new(tail: Subscription, gateway: String, caller: Caller) -> TailSource {
        TailSource { tail, gateway, caller, began: None, shown: 0, skipped: 0 }
    }
}

/// Answers a request for the events of a gateway; `busy` marks its connection as busy.
pub(super) fn answer(
    backend: &impl Backend,
    streams: &Streams,
    parts: &Parts,
    id: &str,
    caller: Caller,
    busy: Busy,
) -> Result<Reply, ApiError> {
    match parts.method {
        Method::GET => {
            let source = TailSource::new(backend.tail(id)?, id.to_owned(), caller);
            Ok(body::events(streams.open(source, caller.until(), busy)?))
        }
        Method::HEAD => {
            backend.gateway(id)?;
            Ok(body::events_head())
        }
        _ => Ok(body::method_not_allowed(&parts.method, parts.uri.path(), "GET, HEAD")),
    }
}

impl Source for TailSource {
    async fn next(&mut self) -> Option<Bytes> {
        if self.began.is_none() {
            self.began = Some(Instant::now());
            tracing::info!(gateway = %self.gateway, who = %self.caller, "a live tail of events begins");
        }
        let tail = self.tail.next().await?;
        match &tail {
            Tail::Entry(_) => self.shown += 1,
            Tail::Skipped { skipped } => self.skipped += skipped,
        }
        Some(events::event("tail", &tail))
    }
}

impl Drop for TailSource {
    fn drop(&mut self) {
        let Some(began) = self.began else { return };
        let seconds = began.elapsed().as_secs();
        tracing::info!(
            gateway = %self.gateway,
            who = %self.caller,
            shown = self.shown,
            skipped = self.skipped,
            "a live tail of events ends after {seconds} s"
        );
    }
}
