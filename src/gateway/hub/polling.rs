//! Polls: a request for what came since a position, answered at once if there is something, else when
//! something comes, or after a while.
//!
//! A poll is no connection: the listener is not told of it, and it is no member of a channel. While
//! it waits it counts against `max-connections`.

use crate::gateway::context::Context;
use crate::gateway::frames;
use crate::gateway::history::{Kept, Target};
use crate::gateway::hub::admission::PollAsk;
use crate::gateway::hub::connection::{Connection, State};
use crate::gateway::hub::flow::{Flow, stay};
use crate::gateway::hub::requests::{Polling, Seat};
use crate::gateway::hub::{Hub, Lent, streams};
use crate::gateway::occupancy::AddressBlock;
use crate::gateway::wire::Form;
use crate::listener::protocol::channel::Channel;
use crate::net::address::Peer;
use crate::text::position::{Position, Since};
use crate::ws::response::{Headers, Response};

/// How long a poll waits, in milliseconds: proxies give up after 30 s, some of them.
const WAIT: u64 = 25_000;

/// Polls that look at the history in one turn.
const LOOKS: usize = 256;

/// What a poll finds.
enum Found {
    /// Frames, and the position to go on from.
    Messages(String, Position),
    /// Nothing up to this position.
    Nothing(Position),
    /// What it asks for cannot be had any more.
    Lost,
    /// Nothing is kept.
    NoHistory,
}

impl Connection {
    /// A request that polls.
    pub(super) fn poll(&mut self, peer: Peer, ask: PollAsk, lent: &mut Lent<'_>) -> Flow {
        let PollAsk { head_len, ip, channels, since, keep, cors } = ask;
        self.partial = self.partial.split_off(head_len);
        if lent.shared.is_refusing() {
            return self.refuse_poll(503, "The gateway is stopping.", keep, &cors, lent);
        }
        let Some(since) = since else {
            return self.greet(&channels, keep, &cors, lent);
        };
        let from = match lent.look(&channels, since) {
            Found::Nothing(newest) => since.position().unwrap_or(newest),
            found => return self.found(found, keep, &cors, lent),
        };
        let seat = match self.seat(ip, lent) {
            Ok(seat) => seat,
            Err((status, why)) => return self.refuse_poll(status, why, keep, &cors, lent),
        };
        lent.polls.add(lent.slot, self.id, &channels, lent.fanout.wakes());
        let polling = Polling { peer, channels, since: from, keep, cors, _seat: seat };
        self.state = State::Polling(Box::new(polling));
        self.state_deadline = Some(lent.ctx.now.after(WAIT));
        self.arm(lent);
        stay()
    }

    /// A poll without a position is told where the history stands.
    fn greet(
        &mut self,
        channels: &[Channel],
        keep: bool,
        cors: &Headers,
        lent: &mut Lent<'_>,
    ) -> Flow {
        let welcome = lent.welcome(channels, None, Form::Lines);
        let Some(newest) = welcome.newest else {
            return self.found(Found::NoHistory, keep, cors, lent);
        };
        let at = welcome.at();
        let hello = frames::Hello { conn: None, at, channels, recovered: None, post: None };
        let mut body = frames::hello(&hello);
        body.push(b'\n');
        body.extend_from_slice(&welcome.messages);
        lent.count_replay(welcome.replay.as_ref(), welcome.messages.len());
        // All of it is JSON.
        let body = String::from_utf8(body).unwrap_or_default();
        self.answer_poll(Response::ndjson(body), Some(newest), keep, cors, lent)
    }

    /// A place for a poll that waits.
    fn seat(&self, ip: std::net::IpAddr, lent: &Lent<'_>) -> Result<Seat, (u16, &'static str)> {
        let (settings, occupancy) = (lent.settings, &lent.shared.occupancy);
        let max = settings.max_connections_per_ip;
        let block = (max > 0).then(|| AddressBlock::of(ip));
        if block.is_some_and(|block| !occupancy.try_count(block, max)) {
            return Err((429, "Too many connections from this address (max-connections-per-ip)."));
        }
        if !occupancy.try_open(settings.max_connections) {
            if let Some(block) = block {
                occupancy.uncount(block);
            }
            return Err((503, "Too many connections (max-connections)."));
        }
        Ok(Seat::new(lent.shared, block))
    }

    /// Something came that may be for this poll; with `ends` it waits no longer.
    pub(super) fn look_again(&mut self, ends: bool, lent: &mut Lent<'_>) -> Flow {
        let State::Polling(polling) = &mut self.state else { return stay() };
        match lent.look(&polling.channels, Since::After(polling.since)) {
            Found::Nothing(_) if !ends => stay(),
            found => {
                let (keep, cors) = (polling.keep, std::mem::take(&mut polling.cors));
                self.found(found, keep, &cors, lent)
            }
        }
    }

    /// Answers a poll with what was found.
    fn found(&mut self, found: Found, keep: bool, cors: &Headers, lent: &mut Lent<'_>) -> Flow {
        match found {
            Found::Messages(body, at) => {
                self.answer_poll(Response::ndjson(body), Some(at), keep, cors, lent)
            }
            Found::Nothing(at) => {
                self.answer_poll(Response::no_content(), Some(at), keep, cors, lent)
            }
            Found::Lost => self.refuse_poll(410, streams::GONE.trim_end(), keep, cors, lent),
            Found::NoHistory => {
                let text = streams::NO_HISTORY.trim_end();
                self.refuse_poll(404, text, keep, cors, lent)
            }
        }
    }

    fn refuse_poll(
        &mut self,
        status: u16,
        why: &str,
        keep: bool,
        cors: &Headers,
        lent: &mut Lent<'_>,
    ) -> Flow {
        tracing::debug!(gateway = %lent.shared.id, conn = %self.id, status, "poll refused: {why}");
        self.answer_poll(Response::text(status, format!("{why}\n")), None, keep, cors, lent)
    }

    fn answer_poll(
        &mut self,
        response: Response,
        at: Option<Position>,
        keep: bool,
        cors: &Headers,
        lent: &mut Lent<'_>,
    ) -> Flow {
        let status = match response.status() {
            200 => "200",
            204 => "204",
            404 => "404",
            410 => "410",
            429 => "429",
            _ => "503",
        };
        lent.shared.metrics.polls.add(status, 1);
        lent.polls.remove(lent.slot, lent.fanout.wakes());
        let mut headers: Headers = vec![
            ("Cache-Control", "no-cache, no-transform".into()),
            ("X-Accel-Buffering", "no".into()),
            ("X-Content-Type-Options", "nosniff".into()),
        ];
        headers.extend(at.map(|at| ("X-Wsgw-At", at.to_string().into())));
        self.answer(response.with(&headers).with(cors).keep_alive(keep), lent)
    }

    /// The gateway stops.
    pub(super) fn end_poll(&mut self, lent: &mut Lent<'_>) -> Flow {
        let State::Polling(polling) = &mut self.state else { return stay() };
        let cors = std::mem::take(&mut polling.cors);
        self.refuse_poll(503, "The gateway is stopping.", false, &cors, lent)
    }
}

impl Lent<'_> {
    /// What there is for a poll, up to what this shard was handed.
    fn look(&self, channels: &[Channel], since: Since) -> Found {
        let history = self.shared.history().filter(|_| self.settings.history.is_some());
        let (Some(history), Some(newest)) = (history, self.fanout.newest()) else {
            return Found::NoHistory;
        };
        let Some(position) = since.position() else {
            let welcome = self.welcome(channels, Some(since), Form::Lines);
            if welcome.messages.is_empty() {
                return Found::Nothing(newest);
            }
            self.count_replay(welcome.replay.as_ref(), welcome.messages.len());
            let body = String::from_utf8(welcome.messages).unwrap_or_default();
            return Found::Messages(body, newest);
        };
        if self.is_behind(Some(since)) {
            return Found::Nothing(position);
        }
        let bound = self.settings.max_queue / 2;
        let Some((messages, to)) = history.after(channels, position, newest, bound) else {
            return Found::Lost;
        };
        if messages.is_empty() {
            return Found::Nothing(newest);
        }
        let (body, count, last) = encoded(&messages, channels, newest, bound);
        self.shared.metrics.messages_out.add(count as u64);
        self.shared.metrics.bytes_out.add(body.len() as u64);
        let number = if count < messages.len() { last } else { to };
        Found::Messages(body, Position { number, ..newest })
    }
}

/// The frames of the first messages, about `bound` bytes of them: frames are more than their bodies.
/// How many these are, and the number of the last.
fn encoded(
    messages: &[Kept],
    channels: &[Channel],
    newest: Position,
    bound: usize,
) -> (String, usize, u64) {
    let mut out = Vec::new();
    let (mut count, mut last) = (0, newest.number);
    for kept in messages {
        if out.len() > bound {
            break;
        }
        let channel = match &kept.to {
            Target::All => None,
            Target::Channels(target) => {
                let is_in = |channel: &&Channel| channels.binary_search(channel).is_ok();
                target.channels.iter().find(is_in)
            }
        };
        let at = Some(Position { number: kept.number, ..newest });
        out.extend_from_slice(&Form::Lines.message(&kept.payload, channel, at));
        (count, last) = (count + 1, kept.number);
    }
    // All of it is JSON.
    (String::from_utf8(out).unwrap_or_default(), count, last)
}

impl Hub {
    /// Has polls look again for which something came; true if more of them have to.
    pub(super) fn wake_polls(&mut self, ctx: &mut Context) -> bool {
        self.polls.wake(self.fanout.wakes());
        for _ in 0..LOOKS {
            let Some(conn) = self.polls.next() else { return false };
            self.with_conn(conn, ctx, |conn, lent| conn.look_again(false, lent));
        }
        self.polls.has_woken()
    }
}
