//! Bodies of requests and responses, each within a bound.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::time::timeout;

use crate::api::{ApiError, ErrorBody, ErrorCode, MAX_STRUCT};
use crate::control::events::EventsBody;
use crate::control::frames::FramesBody;
use crate::control::results::ResultsBody;

/// Bytes of request bodies that may be held at a time, over all requests: past it, 429.
const MAX_HELD: usize = 64 << 20;
/// How long a struct's body may stop.
const BODY_STALL: Duration = Duration::from_secs(30);
/// What is still read of the body of a refused request, so that its client gets the answer and not
/// a reset: bytes, and time.
const DRAIN_BYTES: usize = 64 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// The type of server-sent events.
const EVENTS: &str = "text/event-stream";

/// A response of the control port.
pub(super) type Reply = Response<ReplyBody>;

/// The body of a response.
pub(super) enum ReplyBody {
    /// All of it.
    Full(Bytes),
    /// The results of an NDJSON stream as they come.
    Results(ResultsBody),
    /// Kept messages.
    Frames(FramesBody),
    /// Server-sent events as they come.
    Events(EventsBody),
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match self.get_mut() {
            ReplyBody::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            ReplyBody::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            ReplyBody::Results(results) => results.poll(cx),
            ReplyBody::Frames(frames) => frames.next_piece(),
            ReplyBody::Events(events) => events.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ReplyBody::Full(bytes) => bytes.is_empty(),
            ReplyBody::Results(_) | ReplyBody::Events(_) => false,
            ReplyBody::Frames(frames) => frames.is_at_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ReplyBody::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            ReplyBody::Results(_) | ReplyBody::Frames(_) | ReplyBody::Events(_) => {
                SizeHint::default()
            }
        }
    }
}

/// A response with this content type.
pub(super) fn reply(status: StatusCode, content_type: &'static str, body: ReplyBody) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// 200 with JSON and a newline, for terminals.
pub(super) fn json(value: &impl Serialize) -> Reply {
    with_json(StatusCode::OK, value)
}

fn with_json(status: StatusCode, value: &impl Serialize) -> Reply {
    // Our types have string keys and no fallible fields: serializing them cannot fail.
    let mut body = serde_json::to_vec(value).unwrap_or_default();
    body.push(b'\n');
    reply(status, "application/json", ReplyBody::Full(Bytes::from(body)))
}

/// Plain text.
pub(super) fn text(status: StatusCode, content_type: &'static str, text: String) -> Reply {
    reply(status, content_type, ReplyBody::Full(Bytes::from(text)))
}

/// Server-sent events.
pub(super) fn events(events: EventsBody) -> Reply {
    reply(StatusCode::OK, EVENTS, ReplyBody::Events(events))
}

/// The answer to HEAD for them: nothing is made for it.
pub(super) fn events_head() -> Reply {
    reply(StatusCode::OK, EVENTS, ReplyBody::Full(Bytes::new()))
}

/// An error with its status.
pub(super) fn error(error: &ApiError) -> Reply {
    let status =
        StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut reply = with_json(status, &ErrorBody { error });
    if error.code == ErrorCode::Unauthorized {
        reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    reply
}

/// 405, with what is allowed.
pub(super) fn method_not_allowed(method: &hyper::Method, path: &str, allow: &'static str) -> Reply {
    let message = format!("{method} is not for {path}, which takes {allow}");
    let mut reply = error(&ApiError::new(ErrorCode::MethodNotAllowed, message));
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    reply
}

/// The memory that the bodies of all requests share.
#[derive(Debug, Clone, Default)]
pub struct Budget(Arc<AtomicUsize>);

impl Budget {
    /// A share, empty at first.
    pub fn share(&self) -> Share {
        Share { of: self.clone(), held: 0 }
    }
}

/// What one request holds of a [`Budget`]; given back when dropped.
#[derive(Debug)]
pub struct Share {
    of: Budget,
    held: usize,
}

impl Share {
    /// Holds `bytes` more, if they are there.
    pub fn take(&mut self, bytes: usize) -> bool {
        let before = self.of.0.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > MAX_HELD {
            self.of.0.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.held += bytes;
        true
    }

    /// Gives all back.
    pub fn clear(&mut self) {
        self.of.0.fetch_sub(self.held, Ordering::Relaxed);
        self.held = 0;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The refusal of a struct that is too large.
pub(super) fn too_large() -> ApiError {
    ApiError::new(ErrorCode::TooLarge, format!("a struct is {} MiB at most", MAX_STRUCT >> 20))
}

/// The refusal when the [`Budget`] is used up.
pub(super) fn no_memory() -> ApiError {
    ApiError::new(
        ErrorCode::Busy,
        format!("structs of {} MiB are being received already; try again", MAX_HELD >> 20),
    )
}

/// Reads the body of one struct.
pub(super) async fn read_struct(
    body: &mut Incoming,
    share: &mut Share,
) -> Result<Vec<u8>, ApiError> {
    let announced = body.size_hint().exact().unwrap_or(0);
    if announced > MAX_STRUCT as u64 {
        return Err(too_large());
    }
    let mut all = Vec::new();
    loop {
        let frame = timeout(BODY_STALL, body.frame()).await.map_err(|_| {
            ApiError::new(
                ErrorCode::BadRequest,
                format!("no byte of the body in {} s", BODY_STALL.as_secs()),
            )
        })?;
        let Some(frame) = frame else { return Ok(all) };
        let frame = frame.map_err(|e| broken(&e))?;
        if let Some(data) = frame.data_ref() {
            if all.len() + data.len() > MAX_STRUCT {
                return Err(too_large());
            }
            if !share.take(data.len()) {
                return Err(no_memory());
            }
            all.extend_from_slice(data);
        }
    }
}

/// The refusal of a body that ended early or is not well chunked.
pub(super) fn broken(error: &hyper::Error) -> ApiError {
    ApiError::new(ErrorCode::BadRequest, format!("the body is incomplete: {error}"))
}

/// Reads on and throws away, within bounds: a socket closed with unread bytes would be reset, and
/// the answer with it.
pub(super) async fn drain(mut body: Incoming) {
    let all = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > DRAIN_BYTES {
                break;
            }
        }
    };
    let _ = timeout(DRAIN_TIME, all).await;
}
