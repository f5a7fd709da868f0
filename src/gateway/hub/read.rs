//! Bytes from clients, and backpressure: a connection is not read while the listener's window is
//! full or its own limits are reached.
//!
//! Sockets are read into one buffer that all connections of a shard share. What is no whole frame
//! yet, or has to wait, is kept with the connection.

use std::io::{self, Read};

use bytes::Bytes;

use crate::config::settings::Route;
use crate::gateway::context::Context;
use crate::gateway::hub::connection::{Connection, Paused, State};
use crate::gateway::hub::flow::{Flow, Removal, stay};
use crate::gateway::hub::{Hub, Lent, gate, may_read};
use crate::gateway::msg::PrimaryMsg;
use crate::listener::op::Delivery;
use crate::listener::recipients::{Recipients, route_recipients};
use crate::text::escape::escape;
use crate::ws::close::Closing;
use crate::ws::decoder::{self, Item, Step};
use crate::ws::deflate::inflate::Inflater;
use crate::ws::payload::Payload;
use crate::ws::{close, frame};

/// Messages of a paused connection before the next one has its turn.
const TURN: usize = 16;

/// Reads of one connection in a turn: one that never ends must not keep the shard from the others.
const READS: usize = 8;

/// Bytes read at a time where messages wait for a listener: what backpressure keeps back stays in
/// the kernel rather than here.
const ASKED_READ: usize = 16 * 1024;

/// How far the frames in a buffer were handled.
enum Progress {
    /// So many bytes, the rest is no whole frame.
    More(usize),
    /// So many bytes, backpressure keeps the rest back.
    Paused(usize),
    /// All there is to handle.
    Over,
}

/// How far frames were handled, or the connection's end.
type Handled = std::ops::ControlFlow<Removal, Progress>;

/// Frames were handled so far.
fn handled(progress: Progress) -> Handled {
    Handled::Continue(progress)
}

impl Hub {
    /// Gives paused connections their turns while backpressure allows.
    pub(super) fn resume(&mut self, ctx: &mut Context) {
        for _ in 0..self.queues.resume.len() {
            if !may_read(&self.shared, &self.settings) {
                break;
            }
            let Some(entry) = self.queues.resume.pop_front() else { break };
            self.with_conn(entry, ctx, |conn, lent| {
                if conn.reading.paused.is_none() {
                    return stay();
                }
                conn.account_for_pause(lent);
                conn.reading.paused = None;
                conn.take(TURN, lent)
            });
        }
    }

    /// Reads on where a connection had more than one turn reads; true if there is still more.
    pub(super) fn read_on(&mut self, ctx: &mut Context) -> bool {
        for _ in 0..self.queues.read.len() {
            let Some(entry) = self.queues.read.pop_front() else { break };
            self.with_conn(entry, ctx, |conn, lent| {
                conn.reading.in_read_queue = false;
                conn.readable(lent)
            });
        }
        !self.queues.read.is_empty()
    }

    /// Whether there is something to do for paused connections now; asks to be woken if not.
    pub(super) fn wants_resume(&self) -> bool {
        !self.queues.resume.is_empty()
            && (self.shared.pressure.wait_for_gate(gate(&self.settings))
                || self.shared.is_stopping())
    }
}

impl Connection {
    /// The socket may have bytes.
    pub(super) fn readable(&mut self, lent: &mut Lent<'_>) -> Flow {
        // What the client of a stream sends on its connection is thrown away, whatever the pressure.
        if self.reading.paused.is_some() && self.is_open() && !self.wire.form.is_stream() {
            return stay();
        }
        self.take(usize::MAX, lent)
    }

    /// Reads and handles its bytes; so many messages of an open one at most.
    fn take(&mut self, mut budget: usize, lent: &mut Lent<'_>) -> Flow {
        let mut reads = 0;
        loop {
            match self.state {
                State::Handshake(_) if self.awaits_header() => {
                    if !self.take_header(lent)? {
                        return stay();
                    }
                }
                // The next request waits until the answer to the last one is out.
                State::Handshake(_) if self.outbox.is_some() => return stay(),
                State::Handshake(_) if self.has_request() && reads < READS => {
                    reads += 1;
                    self.request(lent)?;
                    continue;
                }
                State::Handshake(_) | State::Posting(_) => {}
                State::Asking(_) | State::Polling(_) if self.reading.peer_closed => {
                    return self.lost(lent);
                }
                State::Asking(_) | State::Polling(_) | State::Posted(_) => return stay(),
                State::Open(_) if self.wire.form.is_stream() => {
                    self.take_posts(&mut budget, lent)?;
                }
                State::Open(_) | State::Leaving(_) => {
                    if !self.partial.is_empty() {
                        let mut bytes = std::mem::take(&mut self.partial);
                        let progress = self.frames(&mut bytes, &mut budget, lent)?;
                        if self.keep_rest(bytes, progress) {
                            return stay();
                        }
                    }
                }
                State::Closing(_) | State::Lingering { .. } => {}
            }
            if reads == READS && (self.reading.readable || self.has_request()) {
                self.enter_read_queue(lent);
                return stay();
            }
            if !self.reading.readable {
                return stay();
            }
            reads += 1;
            if self.read_once(&mut budget, lent)? {
                return self.client_left(lent);
            }
            if self.reading.paused.is_some() {
                return stay();
            }
        }
    }

    /// Reads once and handles what came; true if nothing more will.
    fn read_once(
        &mut self,
        budget: &mut usize,
        lent: &mut Lent<'_>,
    ) -> std::ops::ControlFlow<Removal, bool> {
        let mut buffer = std::mem::take(&mut lent.ctx.buffer);
        let asks = lent.settings.listener.is_some();
        let room = if asks { ASKED_READ.min(buffer.len()) } else { buffer.len() };
        let mut flow = stay();
        let ended = match self.stream.read(&mut buffer[..room]) {
            Ok(0) => true,
            Ok(n) => {
                // A short read has emptied the socket, but for the end that was announced.
                if n < room && !self.reading.peer_closed && self.stream.short_read_is_all() {
                    self.reading.readable = false;
                }
                flow = self.bytes(&mut buffer[..n], budget, lent);
                false
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.reading.readable = false;
                false
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => false,
            Err(_) => true,
        };
        lent.ctx.buffer = buffer;
        flow?;
        std::ops::ControlFlow::Continue(ended)
    }

    /// Handles bytes that lie in the shared buffer.
    fn bytes(&mut self, bytes: &mut [u8], budget: &mut usize, lent: &mut Lent<'_>) -> Flow {
        // Any sign of life answers a ping.
        self.pong_deadline = None;
        if self.is_open() && self.wire.form.is_stream() {
            // Its request is all that it says on this socket.
            return stay();
        }
        match self.state {
            State::Open(_) | State::Leaving(_) if self.partial.is_empty() => {
                let progress = self.frames(bytes, budget, lent)?;
                if let Progress::More(done) | Progress::Paused(done) = progress
                    && done < bytes.len()
                {
                    self.partial = bytes[done..].to_vec();
                }
            }
            State::Open(_) | State::Leaving(_) => self.partial.extend_from_slice(bytes),
            State::Handshake(_) => {
                self.partial.extend_from_slice(bytes);
                return self.request(lent);
            }
            State::Posting(_) => return self.body(bytes, lent),
            // Kept for later; nothing is read meanwhile.
            State::Asking(_) | State::Posted(_) | State::Polling(_) => {
                self.partial.extend_from_slice(bytes);
            }
            State::Closing(_) | State::Lingering { .. } => {}
        }
        stay()
    }

    /// Puts back what was not handled; true if the connection is not to be read on.
    fn keep_rest(&mut self, mut bytes: Vec<u8>, progress: Progress) -> bool {
        let (done, stop) = match progress {
            Progress::More(done) => (done, false),
            Progress::Paused(done) => (done, true),
            Progress::Over => return false,
        };
        if done == 0 {
            self.partial = bytes;
        } else if done < bytes.len() {
            bytes.drain(..done);
            bytes.shrink_to_fit();
            self.partial = bytes;
        }
        stop
    }

    /// Handles the frames at the front of `bytes`, and answers their pings with one write.
    fn frames(&mut self, bytes: &mut [u8], budget: &mut usize, lent: &mut Lent<'_>) -> Handled {
        let mut pongs = Vec::new();
        let progress = self.each_frame(bytes, budget, &mut pongs, lent)?;
        if !pongs.is_empty() {
            self.send_always(Bytes::from(pongs), lent)?;
        }
        handled(progress)
    }

    fn each_frame(
        &mut self,
        bytes: &mut [u8],
        budget: &mut usize,
        pongs: &mut Vec<u8>,
        lent: &mut Lent<'_>,
    ) -> Handled {
        let mut at = 0;
        let stopping = lent.shared.is_stopping();
        loop {
            if at == bytes.len() {
                return handled(Progress::More(at));
            }
            match self.state {
                State::Open(_) if !stopping => {
                    let spent = self.wire.deflate > 0 && lent.ctx.codec.is_spent();
                    if self.pauses(*budget > 0 && !spent, lent) {
                        return handled(Progress::Paused(at));
                    }
                }
                State::Open(_) | State::Leaving(_) => {}
                _ => return handled(Progress::Over),
            }
            let max = lent.settings.max_message;
            // Nobody needs to see what is thrown away below.
            let mut blind = Inflater::blind();
            let inflater = match self.state {
                State::Open(_) if !stopping => lent.ctx.codec.inflater(self.wire.deflate > 0),
                _ => (self.wire.deflate > 0).then_some(&mut blind),
            };
            match decoder::next(&mut bytes[at..], &mut self.fragments, max, inflater) {
                Step::Need(_) => return handled(Progress::More(at)),
                Step::Frame(n, item) => {
                    at += n;
                    match item {
                        Item::Nothing => {}
                        Item::Message(message, length) if self.is_open() && !stopping => {
                            *budget -= 1;
                            if self.wire.deflate > 0 {
                                lent.ctx.codec.inflated(message.bytes().len());
                            }
                            self.message(message, length, lent)?;
                        }
                        Item::Message(..) => {}
                        Item::Ping(payload) => {
                            if self.is_open() {
                                frame::pong(pongs, &payload);
                            }
                        }
                        Item::Close(said) => {
                            let (code, reason) = said
                                .map_or((None, String::new()), |(code, text)| (Some(code), text));
                            let client = (code.unwrap_or(close::NO_STATUS), reason);
                            // RFC 6455 section 5.5.1: the Close is answered with the code it had.
                            self.client_ends(Some(client), (code, String::new()), lent)?;
                            return handled(Progress::Over);
                        }
                    }
                }
                Step::Violation(closing) => {
                    self.violated(closing, lent)?;
                    return handled(Progress::Over);
                }
            }
        }
    }

    /// The client broke a rule.
    fn violated(&mut self, (code, reason): Closing, lent: &mut Lent<'_>) -> Flow {
        if self.is_open() {
            tracing::info!(
                gateway = %lent.shared.id, conn = %self.id, code,
                "the client broke the protocol: {reason}"
            );
        }
        self.client_ends(None, (Some(code), reason.to_owned()), lent)
    }

    /// Pauses it if it may not be read now; `turn` says whether its turn goes on.
    pub(super) fn pauses(&mut self, turn: bool, lent: &mut Lent<'_>) -> bool {
        let settings = lent.settings;
        let half = settings.max_queue / 2;
        let queue = self.queue_cost();
        let own = queue + self.unanswered_bytes;
        let quarter = (settings.window / 4).max(1) as u32;
        let within_own_limits = (own <= half || own == 0)
            && (!settings.hands_over_messages() || self.unanswered < quarter);
        if within_own_limits && turn && may_read(lent.shared, settings) {
            return false;
        }
        self.reading.paused = Some(Paused {
            since: lent.ctx.now,
            in_resume_queue: false,
            by_own_queue: queue > half,
        });
        if within_own_limits {
            self.enter_resume_queue(lent);
        }
        true
    }

    /// A whole message; `length` is what its payload had on the wire.
    fn message(&mut self, message: Payload, length: usize, lent: &mut Lent<'_>) -> Flow {
        if !self.allows_one_more(lent) {
            let (code, reason) = close::RATE;
            tracing::info!(gateway = %lent.shared.id, conn = %self.id, "over max-rate: closed");
            return self.client_ends(None, (Some(code), reason.to_owned()), lent);
        }
        self.accept(message, length, lent);
        stay()
    }

    /// The same within its `max-rate`: it is on its way.
    pub(super) fn accept(&mut self, message: Payload, length: usize, lent: &mut Lent<'_>) {
        self.last_message = lent.ctx.now;
        let metrics = &lent.shared.metrics;
        metrics.messages_in.inc();
        metrics.bytes_in.add(length as u64);
        if tracing::enabled!(tracing::Level::TRACE) {
            let body = escape(&String::from_utf8_lossy(message.bytes())).to_string();
            tracing::trace!(gateway = %lent.shared.id, conn = %self.id, %body, "received");
        }
        if lent.settings.hands_over_messages() {
            self.unanswered += 1;
            self.unanswered_bytes += message.cost();
            lent.shared.pressure.message_posted();
            lent.tell_primary(PrimaryMsg::Message(self.id, message));
            return;
        }
        if let Some(delivery) = self.routed(message, lent) {
            self.unanswered_bytes += delivery.payload.cost();
            lent.deliver(Delivery { from: Some(self.id), ..delivery });
        }
    }

    /// Sends a message on that no listener is asked about any more.
    pub(super) fn send_unasked(&mut self, message: Payload, lent: &mut Lent<'_>) {
        if let Some(delivery) = self.routed(message, lent) {
            lent.deliver(delivery);
        }
    }

    /// A message of this connection to whom the route chooses; `None` if that is nobody.
    fn routed(&self, message: Payload, lent: &Lent<'_>) -> Option<Delivery> {
        let channels = match lent.settings.route {
            Route::Channels => lent.rooms.names(lent.slot),
            _ => Vec::new(),
        };
        let to = route_recipients(lent.settings.route, Some(self.id), &channels, &[]);
        let nobody = matches!(&to, Recipients::Only(nobody) if nobody.is_empty());
        (!nobody).then(|| Delivery::new(message, to, None))
    }

    /// Counts a message against `max-rate`; false if it is one too many.
    pub(super) fn allows_one_more(&mut self, lent: &Lent<'_>) -> bool {
        let rate = lent.settings.max_rate as f32;
        if rate == 0.0 {
            return true;
        }
        let now = lent.ctx.now;
        let allowance = &mut self.allowance;
        if allowance.tokens < rate {
            let since = now.since(allowance.at) as f32 / 1_000.0;
            allowance.tokens = (allowance.tokens + since * rate).min(rate);
        }
        allowance.at = now;
        if allowance.tokens < 1.0 {
            return false;
        }
        allowance.tokens -= 1.0;
        true
    }

    /// The client closed its side, or the socket failed.
    fn client_left(&mut self, lent: &mut Lent<'_>) -> Flow {
        // A client that half-closed still gets what it is owed, and our Close.
        let owed = match self.state {
            State::Closing(_) => true,
            State::Lingering { .. } => !self.all_out(),
            _ => false,
        };
        self.reading.readable = owed;
        if owed { stay() } else { self.lost(lent) }
    }
}
