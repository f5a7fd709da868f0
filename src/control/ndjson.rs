//! NDJSON: a stream of structs over one request, each pushed as it comes, in order.
//!
//! Up to [`OUTSTANDING`] pushes wait for their receipts while the next lines are read. Results are
//! taken in the order of the lines, and go to a [`Sink`].

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, sleep};

use crate::api::{ApiError, ErrorCode, MAX_STRUCT, PushOutcome};
use crate::control::backend::Backend;
use crate::control::body::{Share, broken, no_memory, too_large};
use crate::control::results::Sink;
use crate::listener::protocol::push::Push;

/// Pushes of one stream that wait for their receipts, at most.
const OUTSTANDING: usize = 256;
/// Bytes of their lines, at most (a single line may be larger): a pause cannot hold them back.
const OUTSTANDING_BYTES: usize = 1 << 20;
/// How long a line waits for others' pushes when the server is busy, and how often it asks.
const BUSY_TIME: Duration = Duration::from_secs(10);
const BUSY_STEP: Duration = Duration::from_millis(10);

/// A push on its way, or one that was refused: its error waits for its turn.
enum Pending<R> {
    Waiting(R),
    Refused(ApiError),
}

/// Handles one stream, from its body's first byte (`first` is what was read of it) to its last
/// receipt.
///
/// # Errors
/// The body broke off. The receipts that were still out are dropped, which withdraws their pushes.
pub(super) async fn run<B: Backend, S: Sink>(
    backend: &B,
    id: &str,
    hook: bool,
    first: Option<Bytes>,
    body: &mut Incoming,
    share: Share,
    sink: &mut S,
) -> Result<(), ApiError> {
    let mut stream = Stream { backend, id, hook, sink, pending: VecDeque::new(), pending_bytes: 0 };
    let mut lines = StructLines::new(share);
    lines.feed(first.unwrap_or_default());
    let mut ended = false;
    loop {
        stream.settle();
        stream.sink.room().await?;
        if stream.is_full() {
            // Down to a half at once: waking for each receipt would cost more than the work.
            while stream.is_over_half() {
                stream.settle_one().await;
                stream.sink.room().await?;
            }
            continue;
        }
        match lines.next(ended) {
            Some(line) => {
                stream.submit(line).await;
                // A body that never makes us wait must not starve the other tasks.
                tokio::task::consume_budget().await;
            }
            None if ended && stream.pending.is_empty() => return Ok(()),
            None if ended => stream.settle_one().await,
            None => tokio::select! {
                frame = body.frame() => match frame {
                    None => ended = true,
                    Some(Err(e)) => return Err(broken(&e)),
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            lines.feed(data);
                        }
                    }
                },
                () = stream.settle_one(), if !stream.pending.is_empty() => {}
            },
        }
    }
}

struct Stream<'a, B: Backend, S> {
    backend: &'a B,
    id: &'a str,
    hook: bool,
    sink: &'a mut S,
    pending: VecDeque<(u64, usize, Pending<B::Receipt>)>,
    pending_bytes: usize,
}

impl<B: Backend, S: Sink> Stream<'_, B, S> {
    fn is_full(&self) -> bool {
        self.pending.len() >= OUTSTANDING || self.pending_bytes >= OUTSTANDING_BYTES
    }

    fn is_over_half(&self) -> bool {
        self.pending.len() > OUTSTANDING / 2 || self.pending_bytes > OUTSTANDING_BYTES / 2
    }

    /// Records what is done at the front, without waiting.
    fn settle(&mut self) {
        while let Some((_, _, pending)) = self.pending.front_mut() {
            let result = match pending {
                Pending::Refused(_) => None,
                Pending::Waiting(receipt) => {
                    // `settle_one` polls it again, with a waker.
                    match Pin::new(receipt).poll(&mut Context::from_waker(Waker::noop())) {
                        Poll::Ready(result) => Some(result),
                        Poll::Pending => return,
                    }
                }
            };
            self.record_front(result);
        }
    }

    /// Waits for the oldest push and records it. Cancelled, it changes nothing.
    async fn settle_one(&mut self) {
        let Some((_, _, pending)) = self.pending.front_mut() else { return };
        let result = match pending {
            Pending::Refused(_) => None,
            Pending::Waiting(receipt) => Some(receipt.await),
        };
        self.record_front(result);
    }

    fn record_front(&mut self, result: Option<Result<PushOutcome, ApiError>>) {
        let Some((line, bytes, pending)) = self.pending.pop_front() else { return };
        self.pending_bytes -= bytes;
        match (result, pending) {
            (Some(result), _) => self.sink.record(line, result),
            (None, Pending::Refused(e)) => self.sink.record(line, Err(e)),
            // Only what was waited for is taken off; see the callers.
            (None, Pending::Waiting(_)) => {}
        }
    }

    async fn submit(&mut self, line: Line) {
        self.pause().await;
        let bytes = line.text.as_ref().map_or(0, Bytes::len);
        let pending = match line.text {
            Err(e) => Pending::Refused(e),
            Ok(text) => match self.push(&text).await {
                Ok(receipt) => Pending::Waiting(receipt),
                Err(e) => Pending::Refused(e),
            },
        };
        self.pending.push_back((line.number, bytes, pending));
        self.pending_bytes += bytes;
    }

    /// Waits while a recipient is far behind; what was pushed before is settled meanwhile, so that
    /// the client sees progress.
    async fn pause(&mut self) {
        let (backend, id) = (self.backend, self.id);
        let mut pause = pin!(backend.stream_pause(id));
        loop {
            tokio::select! {
                biased;
                () = &mut pause => return,
                () = self.settle_one(), if !self.pending.is_empty() => {}
            }
        }
    }

    /// Pushes; where the server has too many at hand, this stream's own oldest is waited for, or
    /// others' for a while.
    async fn push(&mut self, text: &[u8]) -> Result<B::Receipt, ApiError> {
        let push = Push::parse(text).map_err(|e| ApiError::new(ErrorCode::BadRequest, e))?;
        let mut give_up = None;
        loop {
            match self.backend.push(self.id, &push, self.hook) {
                Err(e) if e.code == ErrorCode::Busy => {
                    if !self.pending.is_empty() {
                        self.settle_one().await;
                        continue;
                    }
                    let until = *give_up.get_or_insert_with(|| Instant::now() + BUSY_TIME);
                    if Instant::now() >= until {
                        return Err(e);
                    }
                    sleep(BUSY_STEP).await;
                }
                other => return other,
            }
        }
    }
}

/// A line that is not blank, without its newline; or why it cannot be taken.
pub struct Line {
    /// Its number in the stream, from 1 on, blank ones counted.
    pub number: u64,
    /// What it says.
    pub text: Result<Bytes, ApiError>,
}

/// Cuts a body into lines, each within [`MAX_STRUCT`].
///
/// Not [`crate::text::lines`]: lines are taken one by one, so that a full stream can pause between
/// two of them; most are slices of the body, not copies; and what is held counts in the [`Share`]
/// that all requests have of the memory.
pub struct StructLines {
    chunk: Bytes,
    /// The start of a line whose end has not come.
    carry: Vec<u8>,
    /// Why the rest of the line under way is thrown away.
    refused: Option<ApiError>,
    number: u64,
    share: Share,
}

impl StructLines {
    /// Nothing yet; `share` bounds what it holds.
    pub fn new(share: Share) -> StructLines {
        StructLines { chunk: Bytes::new(), carry: Vec::new(), refused: None, number: 0, share }
    }

    /// The next piece of the body; the former one was used up.
    pub fn feed(&mut self, chunk: Bytes) {
        self.chunk = chunk;
    }

    /// The next line that is whole; at the end, what is left is one.
    pub fn next(&mut self, ended: bool) -> Option<Line> {
        loop {
            let Some(newline) = memchr::memchr(b'\n', &self.chunk) else {
                let rest = std::mem::take(&mut self.chunk);
                self.keep(&rest);
                if ended && (self.refused.is_some() || !self.carry.is_empty()) {
                    match self.finish(Bytes::new()) {
                        None => continue,
                        line => return line,
                    }
                }
                return None;
            };
            let piece = self.chunk.split_to(newline);
            self.chunk.advance(1);
            if let Some(line) = self.finish(piece) {
                return Some(line);
            }
        }
    }

    fn keep(&mut self, piece: &[u8]) {
        if self.refused.is_some() || piece.is_empty() {
            return;
        }
        if self.carry.len() + piece.len() > MAX_STRUCT {
            self.refuse(too_large());
        } else if self.share.take(piece.len()) {
            self.carry.extend_from_slice(piece);
        } else {
            self.refuse(no_memory());
        }
    }

    fn refuse(&mut self, why: ApiError) {
        self.refused = Some(why);
        self.carry = Vec::new();
        self.share.clear();
    }

    /// The line that ends with `piece`, unless it is blank.
    fn finish(&mut self, piece: Bytes) -> Option<Line> {
        self.number += 1;
        let number = self.number;
        let text = if self.carry.is_empty() && self.refused.is_none() {
            // Most lines are whole in one piece: no copy.
            if piece.len() > MAX_STRUCT { Err(too_large()) } else { Ok(piece) }
        } else {
            self.keep(&piece);
            self.share.clear();
            match self.refused.take() {
                Some(why) => Err(why),
                None => Ok(Bytes::from(std::mem::take(&mut self.carry))),
            }
        };
        match &text {
            Ok(text) if text.trim_ascii().is_empty() => None,
            _ => Some(Line { number, text }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::body::Budget;

    fn cut(pieces: &[&[u8]]) -> Vec<(u64, Result<Vec<u8>, ErrorCode>)> {
        let mut lines = StructLines::new(Budget::default().share());
        let mut out = Vec::new();
        let mut take = |lines: &mut StructLines, ended| {
            while let Some(line) = lines.next(ended) {
                out.push((line.number, line.text.map(|t| t.to_vec()).map_err(|e| e.code)));
            }
        };
        for piece in pieces {
            lines.feed(Bytes::copy_from_slice(piece));
            take(&mut lines, false);
        }
        take(&mut lines, true);
        out
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_the_pieces(
            pieces in prop::collection::vec("[ab\n ]{0,6}", 0..8),
        ) {
            let pieces: Vec<&[u8]> = pieces.iter().map(|p| p.as_bytes()).collect();
            let whole = pieces.concat();
            let want: Vec<_> = whole
                .split(|b| *b == b'\n')
                .zip(1..)
                .filter(|(line, _)| !line.trim_ascii().is_empty())
                .map(|(line, number)| (number, Ok(line.to_vec())))
                .collect();
            prop_assert_eq!(cut(&pieces), want);
        }
    }

    #[test]
    fn a_line_that_is_too_long_costs_itself_alone() {
        let long = vec![b'x'; MAX_STRUCT];
        let got = cut(&[b"a\n", &long, b"x", b"y\nb\n", &long, b"\n", &long, b"z"]);
        let got: Vec<_> = got.into_iter().map(|(n, t)| (n, t.map(|t| t.len()))).collect();
        assert_eq!(
            got,
            [
                (1, Ok(1)),
                (2, Err(ErrorCode::TooLarge)),
                (3, Ok(1)),
                (4, Ok(MAX_STRUCT)),
                (5, Err(ErrorCode::TooLarge)),
            ]
        );
    }

    #[test]
    fn memory_is_shared_and_given_back() {
        let budget = Budget::default();
        let mut first = budget.share();
        assert!(first.take(60 << 20));
        let mut second = budget.share();
        assert!(!second.take(5 << 20) && second.take(4 << 20));
        drop(first);
        assert!(second.take(50 << 20));
    }
}
