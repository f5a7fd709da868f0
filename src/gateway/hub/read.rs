//! Bytes from clients, and the backpressure: a connection is not read while the listener's window
//! is full, or while too much of its own is under way.

use std::io::{self, Read};
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::gateway::engine::{Delivery, HomeMsg};
use crate::gateway::hub::Slice;
use crate::gateway::hub::connection::State;
use crate::gateway::pressure::Gate;
use crate::gateway::shard::Ctx;
use crate::listener::exchange::route_recipients;
use crate::listener::protocol::connid::ConnId;
use crate::listener::protocol::hooks::Hook;
use crate::listener::recipients::Recipients;
use crate::ws::close;
use crate::ws::decoder;
use crate::ws::decoder::{Item, Step};
use crate::ws::frame;
use crate::ws::payload::Message;

/// Messages of a blocked connection before the next one has its turn.
const TURN: usize = 16;

/// Reads of one connection in a turn: one that never ends must not keep the shard from the others.
const READS: usize = 8;

/// Bytes read at a time where messages wait for a listener: what pressure keeps back stays in the
/// kernel rather than here.
const ASKED_READ: usize = 16 * 1024;

/// How far the frames in a buffer were handled.
enum Progress {
    /// So many bytes, the rest is no whole frame.
    More(usize),
    /// So many bytes, pressure keeps the rest back.
    Blocked(usize),
    /// All there is to handle.
    Over,
}

impl Slice {
    /// Whether pressure allows clients to be read at all.
    pub fn gate_open(&self) -> bool {
        let shared = &self.shared;
        if shared.stopping.load(Ordering::Relaxed) {
            return true;
        }
        shared.pressure.may_read(self.gate())
    }

    /// What the settings say of the gate.
    pub(super) fn gate(&self) -> Gate {
        Gate { window: self.settings.asks(Hook::OnMessage).then_some(self.settings.window) }
    }

    /// The socket may have bytes.
    pub fn readable(&mut self, slot: u32, ctx: &mut Ctx) {
        if self.conns.get(slot as usize).is_some_and(|c| c.blocked && c.state == State::Open) {
            return;
        }
        self.take(slot, usize::MAX, ctx);
    }

    /// Gives blocked connections their turns while pressure allows.
    pub fn resume(&mut self, ctx: &mut Ctx) {
        for _ in 0..self.blocked.len() {
            if !self.gate_open() {
                break;
            }
            let Some((slot, id)) = self.blocked.pop_front() else { break };
            let Some(conn) = self.conns.get_mut(slot as usize) else { continue };
            if conn.id != id || !conn.blocked {
                continue;
            }
            conn.blocked = false;
            conn.queued_up = false;
            conn.stood_still(ctx.now, self.settings.max_rate);
            self.take(slot, TURN, ctx);
        }
    }

    /// Reads on where a connection had more than one turn reads; true if there is still more.
    pub fn read_on(&mut self, ctx: &mut Ctx) -> bool {
        for _ in 0..self.hungry.len() {
            let Some((slot, id)) = self.hungry.pop_front() else { break };
            let Some(conn) = self.conns.get_mut(slot as usize).filter(|conn| conn.id == id) else {
                continue;
            };
            conn.hungry = false;
            self.readable(slot, ctx);
        }
        !self.hungry.is_empty()
    }

    /// Whether there is something to do for blocked connections now; asks to be woken if not.
    pub fn wants_resume(&self) -> bool {
        if self.blocked.is_empty() {
            return false;
        }
        self.shared.pressure.wait_for_gate(self.gate())
            || self.shared.stopping.load(Ordering::Relaxed)
    }

    /// Reads and handles a connection's bytes; so many messages of an open one at most.
    fn take(&mut self, slot: u32, mut budget: usize, ctx: &mut Ctx) {
        if ctx.buffer.is_empty() {
            // Called from within itself: the outer call goes on.
            return;
        }
        let mut reads = 0;
        loop {
            let Some(conn) = self.conns.get_mut(slot as usize) else { return };
            match conn.state {
                State::Handshake => {}
                State::Asking => {
                    if conn.eof {
                        self.lost(slot, ctx);
                    }
                    return;
                }
                State::Open | State::Leaving => {
                    if !conn.partial.is_empty() {
                        let mut bytes = std::mem::take(&mut conn.partial);
                        let progress = self.frames(slot, &mut bytes, &mut budget, ctx);
                        if self.keep_rest(slot, bytes, progress) {
                            return;
                        }
                    }
                }
                State::Closing | State::Lingering => {}
            }
            let Some(conn) = self.conns.get_mut(slot as usize) else { return };
            if !conn.readable {
                return;
            }
            if reads == READS {
                if !std::mem::replace(&mut conn.hungry, true) {
                    self.hungry.push_back((slot, conn.id));
                }
                return;
            }
            reads += 1;
            let mut buffer = std::mem::take(&mut ctx.buffer);
            let asks = self.settings.listener.is_some();
            let room = if asks { ASKED_READ.min(buffer.len()) } else { buffer.len() };
            let gone = match conn.stream.read(&mut buffer[..room]) {
                Ok(0) => true,
                Ok(n) => {
                    // A short read has emptied the socket, but for the end that was announced.
                    if n < room && !conn.eof && conn.stream.short_read_is_all() {
                        conn.readable = false;
                    }
                    self.bytes(slot, &mut buffer[..n], &mut budget, ctx);
                    false
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    conn.readable = false;
                    false
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => false,
                Err(_) => true,
            };
            ctx.buffer = buffer;
            if gone {
                self.client_left(slot, ctx);
                return;
            }
            if self.conns.get(slot as usize).is_none_or(|c| c.blocked) {
                return;
            }
        }
    }

    /// Handles bytes that lie in the shared buffer.
    fn bytes(&mut self, slot: u32, bytes: &mut [u8], budget: &mut usize, ctx: &mut Ctx) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        // Any sign of life answers a ping.
        conn.pong_by = 0;
        match conn.state {
            State::Open | State::Leaving if conn.partial.is_empty() => {
                let progress = self.frames(slot, bytes, budget, ctx);
                let (Progress::More(done) | Progress::Blocked(done)) = progress else { return };
                if done < bytes.len()
                    && let Some(conn) = self.conns.get_mut(slot as usize)
                {
                    conn.partial = bytes[done..].to_vec();
                }
            }
            State::Open | State::Leaving => conn.partial.extend_from_slice(bytes),
            State::Handshake => {
                conn.partial.extend_from_slice(bytes);
                self.request(slot, ctx);
            }
            // Kept for when it is open; nothing is read meanwhile.
            State::Asking => conn.partial.extend_from_slice(bytes),
            State::Closing | State::Lingering => {}
        }
    }

    /// Puts back what was not handled; true if the connection is not to be read on.
    fn keep_rest(&mut self, slot: u32, mut bytes: Vec<u8>, progress: Progress) -> bool {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return true };
        let (done, stop) = match progress {
            Progress::More(done) => (done, false),
            Progress::Blocked(done) => (done, true),
            Progress::Over => return false,
        };
        if done == 0 {
            conn.partial = bytes;
        } else if done < bytes.len() {
            bytes.drain(..done);
            bytes.shrink_to_fit();
            conn.partial = bytes;
        }
        stop
    }

    /// Handles the frames at the front of `bytes`, and answers their pings with one write.
    fn frames(
        &mut self,
        slot: u32,
        bytes: &mut [u8],
        budget: &mut usize,
        ctx: &mut Ctx,
    ) -> Progress {
        let id = self.conns.get(slot as usize).map(|conn| conn.id);
        let mut pongs = Vec::new();
        let progress = self.each_frame(slot, bytes, budget, &mut pongs, ctx);
        if !pongs.is_empty() && self.conns.get(slot as usize).map(|conn| conn.id) == id {
            self.send_always(slot, Bytes::from(pongs), ctx);
        }
        progress
    }

    fn each_frame(
        &mut self,
        slot: u32,
        bytes: &mut [u8],
        budget: &mut usize,
        pongs: &mut Vec<u8>,
        ctx: &mut Ctx,
    ) -> Progress {
        let mut at = 0;
        let stopping = self.shared.stopping.load(Ordering::Relaxed);
        loop {
            if at == bytes.len() {
                return Progress::More(at);
            }
            let gate = *budget > 0 && self.gate_open();
            let asks = self.settings.asks(Hook::OnMessage);
            let quarter = (self.settings.window / 4).max(1) as u32;
            let half = self.settings.max_queue / 2;
            let Some(conn) = self.conns.get_mut(slot as usize) else { return Progress::Over };
            match conn.state {
                State::Open if !stopping => {
                    let own = conn.queue_cost() + conn.unanswered_bytes;
                    let free = own <= half || own == 0;
                    let may = free && (!asks || conn.unanswered < quarter);
                    if !(may && gate) {
                        conn.blocked = true;
                        conn.blocked_at = ctx.now;
                        conn.queued_up = may;
                        let id = conn.id;
                        if may {
                            self.blocked.push_back((slot, id));
                        }
                        return Progress::Blocked(at);
                    }
                }
                State::Open | State::Leaving => {}
                _ => return Progress::Over,
            }
            let max = self.settings.max_message;
            match decoder::next(&mut bytes[at..], &mut conn.fragments, max) {
                Step::Need(_) => return Progress::More(at),
                Step::Frame(n, item) => {
                    at += n;
                    match item {
                        Item::Nothing => {}
                        Item::Message(message, length) => {
                            if conn.state == State::Open && !stopping {
                                *budget -= 1;
                                let id = conn.id;
                                self.message(slot, id, message, length, ctx);
                            }
                        }
                        Item::Ping(payload) => {
                            if conn.state == State::Open {
                                frame::pong(pongs, &payload);
                            }
                        }
                        Item::Close(said) => {
                            let (code, reason) = said
                                .map_or((None, String::new()), |(code, text)| (Some(code), text));
                            let client = (code.unwrap_or(close::NO_STATUS), reason);
                            // Section 5.5.1: the Close is answered with the code it had.
                            let ours = (code, String::new());
                            self.client_ends(slot, Some(client), ours, ctx);
                            return Progress::Over;
                        }
                    }
                }
                Step::Violation((code, reason)) => {
                    let id = conn.id;
                    if conn.state == State::Open {
                        tracing::info!(
                            gateway = %self.shared.id, conn = %id, code,
                            "the client broke the protocol: {reason}"
                        );
                    }
                    let ours = (Some(code), reason.to_owned());
                    self.client_ends(slot, None, ours, ctx);
                    return Progress::Over;
                }
            }
        }
    }

    /// A whole message.
    fn message(&mut self, slot: u32, id: ConnId, message: Message, length: usize, ctx: &mut Ctx) {
        let asks = self.settings.asks(Hook::OnMessage);
        let rate = self.settings.max_rate as f32;
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        if rate > 0.0 {
            let (tokens, at) = &mut conn.rate;
            if *tokens < rate {
                let since = ctx.now.saturating_sub(*at) as f32 / 1_000.0;
                *tokens = (*tokens + since * rate).min(rate);
            }
            *at = ctx.now;
            if *tokens < 1.0 {
                let (code, reason) = close::RATE;
                let ours = (Some(code), reason.to_owned());
                tracing::info!(gateway = %self.shared.id, conn = %id, "over max-rate: closed");
                return self.client_ends(slot, None, ours, ctx);
            }
            *tokens -= 1.0;
        }
        conn.last_message = ctx.now;
        let metrics = &self.shared.metrics;
        metrics.messages_in.inc();
        metrics.bytes_in.add(length as u64);
        if tracing::enabled!(tracing::Level::TRACE) {
            let payload = frame::payload_of(&message.frame);
            let body = String::from_utf8_lossy(&payload).into_owned();
            let body = crate::text::escape::escape(&body);
            tracing::trace!(gateway = %self.shared.id, conn = %id, %body, "received");
        }
        if asks {
            conn.unanswered += 1;
            conn.unanswered_bytes += message.frame.len();
            self.shared.pressure.message_posted();
            self.tell_home(HomeMsg::Message(id, message), ctx);
        } else {
            let to = route_recipients(self.settings.route, Some(id), &[]);
            if matches!(&to, Recipients::Only(nobody) if nobody.is_empty()) {
                return;
            }
            conn.unanswered_bytes += message.frame.len();
            self.deliver(Delivery { frame: message.frame, to, from: Some(id), tally: None }, ctx);
        }
    }

    /// The client closed its side, or the socket failed.
    fn client_left(&mut self, slot: u32, ctx: &mut Ctx) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        conn.readable = false;
        match conn.state {
            // A client that half-closed still gets what it is owed, and our Close.
            State::Closing => conn.readable = true,
            State::Lingering if !conn.all_out() => conn.readable = true,
            _ => self.lost(slot, ctx),
        }
    }
}
