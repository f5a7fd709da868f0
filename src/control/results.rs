//! The results of an NDJSON stream: added up, or a line each on their way to the client.
//!
//! A client that writes everything before it reads anything does not hang: totals are sent at the
//! end, and lines wait in a buffer of [`MAX_RESULTS`] bytes. When the buffer is full, the stream is
//! not read any further, and after [`STALL`] it is given up.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Frame;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::api::{ApiError, ErrorCode, PushOutcome, Totals, write_result};

/// Bytes of results that wait for a client that does not read them.
const MAX_RESULTS: usize = 16 << 20;
/// How long a client may leave a full buffer of results unread.
const STALL: Duration = Duration::from_secs(30);

/// Where the results of a stream go, in the order of its lines.
pub(crate) trait Sink: Send {
    /// Takes one.
    fn record(&mut self, line: u64, result: Result<PushOutcome, ApiError>);

    /// Waits until there is room for more.
    fn room(&mut self) -> impl Future<Output = Result<(), ApiError>> + Send {
        std::future::ready(Ok(()))
    }
}

impl Sink for Totals {
    fn record(&mut self, line: u64, result: Result<PushOutcome, ApiError>) {
        match result {
            Ok(done) => self.add(done.matched, done.delivered, done.dropped, done.gone),
            Err(e) => self.fail(line, e.code.name()),
        }
    }
}

impl Sink for Results {
    fn record(&mut self, line: u64, result: Result<PushOutcome, ApiError>) {
        self.write(line, &result);
    }

    async fn room(&mut self) -> Result<(), ApiError> {
        self.wait_for_room().await
    }
}

/// The results of a stream on their way to the client: this end writes, [`ResultsBody`] reads.
pub(crate) struct Results(Arc<Shared>);

/// The body of a response with a line per struct. Dropping it ends the stream.
pub(crate) struct ResultsBody(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Told when the body took what waited, or is gone.
    taken: Notify,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    end: Option<io::Result<()>>,
    gone: bool,
    reader: Option<Waker>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// A pair of ends.
pub(crate) fn pair() -> (Results, ResultsBody) {
    let shared = Arc::new(Shared { state: Mutex::default(), taken: Notify::new() });
    (Results(Arc::clone(&shared)), ResultsBody(shared))
}

impl Results {
    fn write(&self, line: u64, result: &Result<PushOutcome, ApiError>) {
        let mut state = self.0.state();
        write_result(&mut state.lines, line, result);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Waits until the client has read enough.
    async fn wait_for_room(&self) -> Result<(), ApiError> {
        let free = async {
            loop {
                let taken = self.0.taken.notified();
                {
                    let state = self.0.state();
                    if state.gone || state.lines.len() < MAX_RESULTS {
                        return;
                    }
                }
                taken.await;
            }
        };
        if self.0.state().lines.len() < MAX_RESULTS {
            return Ok(());
        }
        timeout(STALL, free).await.map_err(|_| {
            ApiError::new(ErrorCode::BadRequest, "the results were not read for too long")
        })
    }

    /// Resolves when the client has gone.
    pub(crate) async fn gone(&self) {
        loop {
            let taken = self.0.taken.notified();
            if self.0.state().gone {
                return;
            }
            taken.await;
        }
    }

    /// Another handle on the same end.
    pub(crate) fn handle(&self) -> Results {
        Results(Arc::clone(&self.0))
    }

    /// Ends the body; an error breaks the response off, so that it cannot be taken for whole.
    pub(crate) fn end(&self, how: io::Result<()>) {
        let mut state = self.0.state();
        state.end = Some(how);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl ResultsBody {
    /// The next piece: all the lines that wait.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let mut state = self.0.state();
        if !state.lines.is_empty() {
            let lines = Bytes::from(std::mem::take(&mut state.lines));
            drop(state);
            self.0.taken.notify_waiters();
            return Poll::Ready(Some(Ok(Frame::data(lines))));
        }
        match state.end.take() {
            Some(Ok(())) => {
                state.end = Some(Ok(()));
                Poll::Ready(None)
            }
            Some(Err(e)) => Poll::Ready(Some(Err(e))),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for ResultsBody {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.gone = true;
        state.lines = Vec::new();
        drop(state);
        self.0.taken.notify_waiters();
    }
}
