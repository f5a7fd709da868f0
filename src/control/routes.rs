//! The requests of the control port, each turned into one call of the backend.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, EXPECT, HeaderValue, ORIGIN};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use tokio::task::yield_now;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::api::{ApiError, ErrorCode, NOTICE, Totals};
use crate::control::backend::Backend;
use crate::control::body;
use crate::control::body::{Budget, Reply, ReplyBody};
use crate::control::busy::{AtWork, Busy};
use crate::control::events::Streams;
use crate::control::guard::{Caller, Guard};
use crate::control::lists;
use crate::control::ndjson;
use crate::control::operators;
use crate::control::page::Page;
use crate::control::query::{Query, decode};
use crate::control::results;
use crate::control::results::Results;
use crate::control::tail;
use crate::control::watch::Watchers;
use crate::listener::protocol::push::Push;

/// What all requests of one control port share.
pub(crate) struct Api<B> {
    /// The gateways.
    pub(crate) backend: Arc<B>,
    /// Who may ask.
    pub(crate) guard: Guard,
    /// The operators' page; `None` on a unix socket.
    pub(crate) page: Option<Page>,
    /// The memory of all request bodies.
    pub(crate) budget: Budget,
    /// Verbs, streams and drains outlive the call that started them, but not the control port.
    pub(crate) tasks: TaskTracker,
    /// Streams of server-sent events.
    pub(crate) streams: Streams,
    /// Those who watch.
    pub(crate) watchers: Arc<Watchers>,
}

/// How long the client of a failed stream has to read until the response breaks off.
const LAST_READ: Duration = Duration::from_secs(1);

impl<B: Backend> Api<B> {
    /// Answers one request. `busy` marks the connection as busy; only an authorized request does so.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        busy: impl FnOnce() -> Busy,
    ) -> Reply {
        let (parts, mut body) = request.into_parts();
        let path = parts.uri.path();
        if path == "/healthz" {
            return self.health(&parts.method);
        }
        let page = self.page.as_ref().and_then(|page| page.answer(&self.guard, &parts));
        let answer = match page {
            Some(page) => Ok(Answer::Done(page)),
            None => match self.caller(&parts) {
                Err(e) => {
                    tracing::debug!("control port: {} {path} refused: {}", parts.method, e.message);
                    Err(e)
                }
                Ok(caller) => self.route(&parts, &mut body, caller, busy()).await,
            },
        };
        let reply = match answer {
            Ok(Answer::Done(reply)) => reply,
            Ok(Answer::Stream { id, hook, busy }) => {
                let first = match parts.headers.contains_key(EXPECT) {
                    true => go_on(&mut body).await,
                    false => Ok(None),
                };
                match first {
                    Ok(first) => return self.stream_each(id, hook, first, body, busy),
                    Err(e) => body::error(&e),
                }
            }
            Err(e) => body::error(&e),
        };
        // A client that waits for a 100 before it sends the body has its final answer now, and does
        // not send the body.
        let comes = !parts.headers.contains_key(EXPECT);
        if comes && !body.is_end_stream() {
            self.tasks.spawn(body::drain(body));
        }
        reply
    }

    /// Who sends a request: a session of the page, or else who has the token.
    fn caller(&self, parts: &Parts) -> Result<Caller, ApiError> {
        if parts.uri.path() == "/metrics" && !parts.headers.contains_key(ORIGIN) {
            return self.guard.host(parts).map(|()| Caller::Anyone);
        }
        match self.page.as_ref().map(|page| page.session(&self.guard, parts)) {
            Some(Ok(Some(caller))) => Ok(caller),
            Some(Err(e)) => Err(e),
            Some(Ok(None)) | None => self.guard.caller(parts),
        }
    }

    fn health(&self, method: &Method) -> Reply {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return body::method_not_allowed(method, "/healthz", "GET, HEAD");
        }
        let (status, text) = match self.backend.health() {
            Ok(()) => match self.backend.degraded() {
                None => (StatusCode::OK, "ok\n".to_owned()),
                Some(why) => (StatusCode::OK, format!("degraded\n{why}\n")),
            },
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        };
        body::text(status, "text/plain; charset=utf-8", text)
    }

    async fn route(
        self: &Arc<Self>,
        parts: &Parts,
        request: &mut Incoming,
        caller: Caller,
        busy: Busy,
    ) -> Result<Answer, ApiError> {
        let path = parts.uri.path();
        let query = Query::parse(parts.uri.query().unwrap_or_default())?;
        let segments: Vec<String> =
            path.split('/').skip(1).map(decode).collect::<Option<_>>().ok_or_else(|| {
                ApiError::new(ErrorCode::BadRequest, "the path is not well percent-encoded")
            })?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        if operators::is_ours(&segments) {
            let reply = operators::answer(self.page.as_ref(), parts, &segments, caller)?;
            return Ok(Answer::Done(reply));
        }
        let backend = &self.backend;
        let reads = matches!(parts.method, Method::GET | Method::HEAD);
        let posts = parts.method == Method::POST;
        let not_allowed = |allow| not_allowed(parts, allow);
        let reply = match segments.as_slice() {
            ["metrics"] if reads => body::text(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                backend.metrics(),
            ),
            ["v1", "gateways"] if reads => body::json(&backend.gateways()),
            ["v1", "gateways", id] if reads => body::json(&backend.gateway(&name(id))?),
            ["v1", "watch"] => self.watch(parts, caller, busy)?,
            ["v1", "gateways", id, "nodes"] => lists::nodes(&**backend, parts, &name(id))?,
            ["metrics"] | ["v1", "gateways"] | ["v1", "gateways", _] => {
                return not_allowed("GET, HEAD");
            }
            ["v1", "gateways", id, "messages"] if posts => {
                return self.messages(parts, &query, name(id), request, busy).await;
            }
            ["v1", "gateways", id, "connections", rest @ ..] if rest.len() <= 1 => {
                let conn = rest.first().copied();
                lists::connections(&**backend, parts, &query, &name(id), conn).await?
            }
            ["v1", "gateways", id, "channels", rest @ ..] => {
                lists::channels(&**backend, parts, &query, &name(id), rest).await?
            }
            ["v1", "gateways", id, "tail"] => {
                tail::answer(&**backend, &self.streams, parts, &name(id), caller, busy)?
            }
            ["v1", "gateways", id, "history"] => {
                lists::history(&**backend, parts, &query, &name(id), busy).await?
            }
            ["v1", "gateways", id, verb @ ("start" | "stop" | "restart")] if posts => {
                self.verb(Verb::parse(verb, query.listener()?), name(id)).await?
            }
            ["v1", "reload"] if posts => self.verb(Verb::Reload, String::new()).await?,
            ["v1", "gateways", _, "messages" | "start" | "stop" | "restart"] | ["v1", "reload"] => {
                return not_allowed("POST");
            }
            _ => {
                let message = format!("the API has no path {path}; it starts at /v1/gateways");
                return Err(ApiError::new(ErrorCode::NotFound, message));
            }
        };
        Ok(Answer::Done(reply))
    }

    /// Answers a request for how everything stands, once a second.
    fn watch(&self, parts: &Parts, caller: Caller, busy: Busy) -> Result<Reply, ApiError> {
        match parts.method {
            Method::GET => {
                let watcher = self.watchers.join(&self.backend, &self.tasks);
                Ok(body::events(self.streams.open(watcher, caller.until(), busy)?))
            }
            Method::HEAD => Ok(body::events_head()),
            _ => Ok(body::method_not_allowed(&parts.method, parts.uri.path(), "GET, HEAD")),
        }
    }

    /// Runs a verb to its end, even if the client that asked for it goes away: half a restart is
    /// worse than one whose result is not read.
    async fn verb(&self, verb: Verb, id: String) -> Result<Reply, ApiError> {
        let backend = Arc::clone(&self.backend);
        let task = self.tasks.spawn(async move {
            let gateway = match verb {
                Verb::Start => backend.start(&id).await,
                Verb::Stop => backend.stop(&id).await,
                Verb::Restart => backend.restart(&id).await,
                Verb::RestartListener => backend.restart_listener(&id).await,
                Verb::Reload => {
                    let done = backend.reload().await?;
                    let mut reply = body::json(&done.gateways);
                    let notice = done.notice.and_then(|n| HeaderValue::from_str(&n).ok());
                    if let Some(notice) = notice {
                        reply.headers_mut().insert(NOTICE, notice);
                    }
                    return Ok(reply);
                }
            };
            gateway.map(|gateway| body::json(&gateway))
        });
        task.await.unwrap_or_else(|e| {
            Err(ApiError::new(ErrorCode::Failed, format!("the verb was interrupted: {e}")))
        })
    }

    async fn messages(
        &self,
        parts: &Parts,
        query: &Query,
        id: String,
        request: &mut Incoming,
        busy: Busy,
    ) -> Result<Answer, ApiError> {
        let hook = query.hook()?;
        let each = query.each()?;
        // Checked before the body is read, so that no client uploads in vain.
        self.backend.gateway(&id)?;
        let mut share = self.budget.share();
        if is_ndjson(parts) {
            if each {
                return Ok(Answer::Stream { id, hook, busy });
            }
            let mut totals = Totals::default();
            ndjson::run(&*self.backend, &id, hook, None, request, share, &mut totals).await?;
            return Ok(Answer::Done(body::json(&totals)));
        }
        let json = body::read_struct(request, &mut share).await?;
        let push = Push::parse(&json).map_err(|e| ApiError::new(ErrorCode::BadRequest, e))?;
        drop(json);
        let receipt = self.backend.push(&id, &push, hook)?;
        drop((push, share));
        let outcome = receipt.await?;
        Ok(Answer::Done(body::json(&outcome)))
    }

    /// A stream that answers a line per struct: the response starts at once, and the work goes on
    /// in a task that ends with it.
    fn stream_each(
        self: Arc<Self>,
        id: String,
        hook: bool,
        first: Option<Bytes>,
        mut body: Incoming,
        busy: Busy,
    ) -> Reply {
        let (results, response) = results::pair();
        let tasks = self.tasks.clone();
        tasks.spawn(async move {
            let mut sink = results.handle();
            let share = self.budget.share();
            let work = ndjson::run(&*self.backend, &id, hook, first, &mut body, share, &mut sink);
            tokio::select! {
                done = work => end(&results, done, &*busy).await,
                () = results.gone() => {}
            }
        });
        body::reply(StatusCode::OK, "application/x-ndjson", ReplyBody::Results(response))
    }
}

/// Makes hyper send 100 Continue to a client that waits for it: otherwise the client would take the
/// start of our response for a final answer. Returns what has come of the body already.
async fn go_on(request: &mut Incoming) -> Result<Option<Bytes>, ApiError> {
    let first = poll_fn(|cx| Poll::Ready(Pin::new(&mut *request).poll_frame(cx))).await;
    // The connection's task has to run once, to see that the body is wanted, before our response.
    yield_now().await;
    match first {
        Poll::Ready(Some(Err(e))) => Err(body::broken(&e)),
        Poll::Ready(Some(Ok(frame))) => Ok(frame.into_data().ok()),
        Poll::Ready(None) | Poll::Pending => Ok(None),
    }
}

/// Ends a stream's response. After a failure the response is broken off; a client that does not read
/// would not see that and go on writing in vain, so its connection is closed.
async fn end(results: &Results, done: Result<(), ApiError>, busy: &dyn AtWork) {
    let failed = done.is_err();
    results.end(done.map_err(|e| io::Error::other(e.message)));
    if failed && timeout(LAST_READ, results.gone()).await.is_err() {
        busy.cut();
    }
}

enum Answer {
    Done(Reply),
    Stream { id: String, hook: bool, busy: Busy },
}

#[derive(Clone, Copy)]
enum Verb {
    Start,
    Stop,
    Restart,
    RestartListener,
    Reload,
}

impl Verb {
    fn parse(name: &str, listener: bool) -> Verb {
        match name {
            "start" => Verb::Start,
            "stop" => Verb::Stop,
            _ if listener => Verb::RestartListener,
            _ => Verb::Restart,
        }
    }
}

fn not_allowed(parts: &Parts, allow: &'static str) -> Result<Answer, ApiError> {
    let reply = body::method_not_allowed(&parts.method, parts.uri.path(), allow);
    Ok(Answer::Done(reply))
}

/// Ids of gateways are lower case, however they are asked for.
fn name(id: &str) -> String {
    id.trim().to_ascii_lowercase()
}

fn is_ndjson(parts: &Parts) -> bool {
    let essence = parts
        .headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.split(';').next())
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    matches!(essence.as_str(), "application/x-ndjson" | "application/ndjson")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[derive(Default)]
    struct Connection(AtomicBool);

    impl AtWork for Connection {
        fn cut(&self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_that_the_stream_failed_is_cut() {
        let failed = || Err(ApiError::new(ErrorCode::BadRequest, "not read for too long"));
        for (done, reads, cut) in
            [(failed(), false, true), (failed(), true, false), (Ok(()), false, false)]
        {
            let (results, body) = results::pair();
            let connection = Connection::default();
            if reads {
                drop(body);
                end(&results, done, &connection).await;
            } else {
                end(&results, done, &connection).await;
                drop(body);
            }
            assert_eq!(connection.0.into_inner(), cut);
        }
    }
}
