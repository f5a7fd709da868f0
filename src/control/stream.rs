//! NDJSON: a stream of structs, each pushed as it comes, in order and many at a time.
//!
//! The reading of the request never waits for the client to read the answer, so a client that
//! writes all and reads then does not hang.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use hyper::body::Incoming;
use serde::Serialize;
use tokio::sync::mpsc;

use super::routes::{Body, MAX_STRUCT, error_json, full};
use crate::gateway::lines::Lines;
use crate::protocol::push::Push;
use crate::server::api::{ApiError, ErrorCode, PushOutcome};
use crate::server::{PushReceipt, Server};

/// Pushes of one stream that are under way at a time.
const UNDER_WAY: usize = 256;

/// Failures that are listed.
const LISTED: usize = 100;

/// Names of connections in `gone` that are listed in the totals.
const GONE_LISTED: usize = 1000;

/// How long to wait when the whole server is busy.
const BUSY_WAIT: Duration = Duration::from_millis(5);

#[derive(Serialize)]
struct Failed {
    line: u64,
    code: &'static str,
}

#[derive(Default, Serialize)]
struct Totals {
    #[serde(flatten)]
    sum: PushOutcome,
    failed: Vec<Failed>,
    failures: u64,
}

/// Where results go.
struct Results {
    totals: Totals,
    each: Option<mpsc::UnboundedSender<Bytes>>,
}

impl Results {
    fn add(&mut self, line: u64, result: Result<PushOutcome, ApiError>) {
        if let Some(each) = &self.each {
            let text = match &result {
                // Plain data always serializes.
                Ok(outcome) => serde_json::to_string(outcome).unwrap_or_default(),
                Err(error) => {
                    let mut value = error_json(error);
                    value["line"] = line.into();
                    value.to_string()
                }
            };
            // The client may have gone; then the stream ends by itself.
            let _ = each.send(Bytes::from(text + "\n"));
        }
        match result {
            Ok(outcome) => {
                let sum = &mut self.totals.sum;
                sum.matched += outcome.matched;
                sum.delivered += outcome.delivered;
                sum.dropped += outcome.dropped;
                let room = GONE_LISTED.saturating_sub(sum.gone.len());
                sum.gone.extend(outcome.gone.into_iter().take(room));
            }
            Err(error) => {
                self.totals.failures += 1;
                if self.totals.failed.len() < LISTED {
                    self.totals.failed.push(Failed { line, code: error.code.name() });
                }
            }
        }
    }
}

/// Pushes every line of a body. The answer is the totals, or with `each` a line per struct.
pub async fn run(body: Incoming, id: String, hook: bool, each: bool, server: &Arc<Server>) -> Body {
    if !each {
        let mut results = Results { totals: Totals::default(), each: None };
        push_all(body, &id, hook, server, &mut results).await;
        // Plain data always serializes.
        return full(serde_json::to_string(&results.totals).unwrap_or_default() + "\n");
    }
    let (sender, mut receiver) = mpsc::unbounded_channel::<Bytes>();
    let (mut out, body_out) = Channel::<Bytes>::new(1);
    let server = Arc::clone(server);
    tokio::spawn(async move {
        let mut results = Results { totals: Totals::default(), each: Some(sender) };
        let writing = async {
            let mut batch = Vec::new();
            while receiver.recv_many(&mut batch, 1024).await > 0 {
                let joined: Vec<u8> = batch.drain(..).flatten().collect();
                if out.send_data(Bytes::from(joined)).await.is_err() {
                    return;
                }
            }
        };
        let pushing = async {
            push_all(body, &id, hook, &server, &mut results).await;
            // Ends the writing.
            results.each = None;
        };
        tokio::pin!(writing);
        tokio::select! {
            () = pushing => writing.await,
            // The client is gone: what was not begun is withdrawn.
            () = &mut writing => {}
        }
    });
    body_out.boxed_unsync()
}

/// A push under way, and the number of its line.
type Pending = VecDeque<(u64, PushReceipt)>;

async fn settle(pending: &mut Pending, results: &mut Results) {
    if let Some((line, receipt)) = pending.front_mut() {
        let result = receipt.await;
        results.add(*line, result);
        pending.pop_front();
    }
}

async fn push_all(
    mut body: Incoming,
    id: &str,
    hook: bool,
    server: &Server,
    results: &mut Results,
) {
    let mut lines = Lines::default();
    let mut pending = Pending::new();
    let mut number = 0;
    loop {
        let frame = tokio::select! {
            biased;
            () = settle(&mut pending, results), if !pending.is_empty() => continue,
            frame = body.frame() => frame,
        };
        let mut whole: Vec<Option<Vec<u8>>> = Vec::new();
        let end = match frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    lines.feed(data, MAX_STRUCT, |line| whole.push(line.map(<[u8]>::to_vec)));
                }
                false
            }
            Some(Err(_)) | None => {
                lines.end(|line| whole.push(Some(line.to_vec())));
                true
            }
        };
        for line in whole {
            number += 1;
            let push = match &line {
                None => Err(ApiError::new(
                    ErrorCode::TooLarge,
                    format!("a struct is {MAX_STRUCT} bytes at most"),
                )),
                Some(line) if line.trim_ascii().is_empty() => continue,
                Some(line) => {
                    Push::parse(line).map_err(|why| ApiError::new(ErrorCode::BadRequest, why))
                }
            };
            match push {
                Ok(push) => push_one(push, number, id, hook, server, &mut pending, results).await,
                Err(error) => {
                    // In the order of the lines.
                    while !pending.is_empty() {
                        settle(&mut pending, results).await;
                    }
                    results.add(number, Err(error));
                }
            }
        }
        if end {
            break;
        }
    }
    while !pending.is_empty() {
        settle(&mut pending, results).await;
    }
}

async fn push_one(
    push: Push,
    number: u64,
    id: &str,
    hook: bool,
    server: &Server,
    pending: &mut Pending,
    results: &mut Results,
) {
    while pending.len() >= UNDER_WAY {
        settle(pending, results).await;
    }
    server.stream_pause(id).await;
    loop {
        match server.push(id, &push, hook) {
            Ok(receipt) => {
                pending.push_back((number, receipt));
                return;
            }
            // A stream waits where a single request is refused.
            Err(error) if error.code == ErrorCode::Busy => {
                if pending.is_empty() {
                    tokio::time::sleep(BUSY_WAIT).await;
                } else {
                    settle(pending, results).await;
                }
            }
            Err(error) => {
                while !pending.is_empty() {
                    settle(pending, results).await;
                }
                results.add(number, Err(error));
                return;
            }
        }
    }
}
