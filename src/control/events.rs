//! Streams of server-sent events on the control port.
//!
//! A [`Source`] makes the events of one stream, and a task of its own feeds them to the response. It
//! holds one event ready, so a client that reads slowly gets fewer events and costs no memory. The task
//! ends when the client goes, when the client reads nothing for [`STALL`], when the source has come
//! to its end, and when the control port stops.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{ApiError, ErrorCode};
use crate::control::busy::Busy;

/// Streams at a time.
const MAX_STREAMS: usize = 128;
/// How long a client may leave an event unread. A stream that nobody reads would keep its source at
/// work.
const STALL: Duration = Duration::from_secs(30);
/// After so long without an event a comment is sent, for proxies that end silent responses.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// The comment.
const COMMENT: &[u8] = b":\n\n";

/// Makes the events of one stream. It is dropped when the stream ends.
pub(super) trait Source: Send + 'static {
    /// Waits for the next event, made by [`event`]; `None` ends the stream. It may be dropped while
    /// it waits and be called again; no event is lost by that.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

/// The bytes of an event: its name, and its data as one line of JSON.
pub(super) fn event(name: &str, data: &impl Serialize) -> Bytes {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(b"event: ");
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(b"\ndata: ");
    // Our types have string keys and no fallible fields: serializing them cannot fail.
    let _ = serde_json::to_writer(&mut bytes, data);
    bytes.extend_from_slice(b"\n\n");
    Bytes::from(bytes)
}

/// The streams of one control port.
pub(crate) struct Streams {
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Streams {
    /// No stream yet. All of them end at `stop`; their tasks are among `tasks`.
    pub(crate) fn new(tasks: TaskTracker, stop: CancellationToken) -> Streams {
        Streams { places: Arc::new(Semaphore::new(MAX_STREAMS)), tasks, stop }
    }

    /// The body of a response with the events of `source`, which ends at `until` at the latest; `busy`
    /// marks its connection as busy until then.
    ///
    /// # Errors
    /// There are too many streams.
    pub(super) fn open(
        &self,
        source: impl Source,
        until: Option<Instant>,
        busy: Busy,
    ) -> Result<EventsBody, ApiError> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let text = format!(
                "{MAX_STREAMS} streams of events are open already; close a page or a `wsgw top`"
            );
            return Err(ApiError::new(ErrorCode::Busy, text));
        };
        let (events, body) = mpsc::channel(1);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let _place = place;
            let feed = feed(source, events, busy, stop);
            match until {
                Some(until) => drop(timeout_at(until.into(), feed).await),
                None => feed.await,
            }
        });
        Ok(EventsBody(body))
    }
}

/// Feeds a response until one of the two sides ends it.
async fn feed(
    mut source: impl Source,
    events: mpsc::Sender<Bytes>,
    busy: Busy,
    stop: CancellationToken,
) {
    loop {
        let next = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = events.closed() => return,
            next = timeout(KEEPALIVE, source.next()) => next,
        };
        let event = match next {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(_) => Bytes::from_static(COMMENT),
        };
        let sent = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            sent = timeout(STALL, events.send(event)) => sent,
        };
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                tracing::debug!("control port: a stream of events was not read for too long");
                return busy.cut();
            }
        }
    }
}

/// The body of a response with events. Dropping it ends the stream.
pub(super) struct EventsBody(mpsc::Receiver<Bytes>);

impl EventsBody {
    /// The next event.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::pin::pin;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::control::busy::AtWork;

    #[derive(Default)]
    struct Connection {
        cut: Arc<AtomicBool>,
        gone: Arc<AtomicBool>,
    }

    impl AtWork for Connection {
        fn cut(&self) {
            self.cut.store(true, Ordering::Relaxed);
        }
    }

    impl Drop for Connection {
        fn drop(&mut self) {
            self.gone.store(true, Ordering::Relaxed);
        }
    }

    /// Makes so many events at once, then waits for ever.
    struct Numbers(u64, u64);

    impl Source for Numbers {
        async fn next(&mut self) -> Option<Bytes> {
            if self.0 == self.1 {
                return pending().await;
            }
            self.0 += 1;
            Some(event("n", &self.0))
        }
    }

    fn streams() -> (Streams, CancellationToken, TaskTracker) {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.close();
        (Streams::new(tasks.clone(), stop.clone()), stop, tasks)
    }

    async fn next(body: &mut EventsBody) -> Option<String> {
        let frame = std::future::poll_fn(|cx| body.poll(cx)).await?;
        Some(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn events_come_in_order_and_silence_is_broken_by_a_comment() {
        let (streams, stop, tasks) = streams();
        let connection = Connection::default();
        let gone = Arc::clone(&connection.gone);
        let mut body = streams.open(Numbers(0, 2), None, Box::new(connection)).unwrap();
        assert_eq!(next(&mut body).await.unwrap(), "event: n\ndata: 1\n\n");
        assert_eq!(next(&mut body).await.unwrap(), "event: n\ndata: 2\n\n");
        assert_eq!(next(&mut body).await.unwrap(), ":\n\n");
        assert!(!gone.load(Ordering::Relaxed), "the connection is busy while the stream is open");
        stop.cancel();
        assert_eq!(next(&mut body).await, None, "the stop ends it");
        tasks.wait().await;
        assert!(gone.load(Ordering::Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_cut_and_the_source_is_let_go() {
        let (streams, _stop, tasks) = streams();
        let connection = Connection::default();
        let cut = Arc::clone(&connection.cut);
        let body = streams.open(Numbers(0, u64::MAX), None, Box::new(connection)).unwrap();
        tasks.wait().await;
        assert!(cut.load(Ordering::Relaxed));
        drop(body);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_with_its_session() {
        let (streams, _stop, tasks) = streams();
        let until = tokio::time::Instant::now() + Duration::from_secs(20);
        let connection = Box::new(Connection::default());
        let mut body = streams.open(Numbers(0, 1), Some(until.into_std()), connection).unwrap();
        assert_eq!(next(&mut body).await.unwrap(), "event: n\ndata: 1\n\n");
        assert_eq!(next(&mut body).await.unwrap(), ":\n\n");
        assert_eq!(next(&mut body).await, None);
        assert_eq!(tokio::time::Instant::now(), until);
        tasks.wait().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_its_client_goes() {
        let (streams, _stop, tasks) = streams();
        let connection = Connection::default();
        let cut = Arc::clone(&connection.cut);
        let mut body = streams.open(Numbers(0, 1), None, Box::new(connection)).unwrap();
        next(&mut body).await.unwrap();
        assert!(timeout(Duration::from_secs(1), pin!(tasks.wait())).await.is_err());
        drop(body);
        tasks.wait().await;
        assert!(!cut.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn streams_are_bounded() {
        let (streams, _stop, _tasks) = streams();
        let open = || streams.open(Numbers(0, 0), None, Box::new(Connection::default()));
        let mut all: Vec<EventsBody> = (0..MAX_STREAMS).map(|_| open().unwrap()).collect();
        assert_eq!(open().err().unwrap().code, ErrorCode::Busy);
        all.pop();
        while open().is_err() {
            tokio::task::yield_now().await;
        }
    }
}
