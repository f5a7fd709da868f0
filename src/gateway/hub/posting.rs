//! Requests that send messages for a stream, on the shard of the connection that they come on: the
//! body comes in, goes to the stream's shard, and the answer comes back.

use bytes::Bytes;

use crate::gateway::hub::Lent;
use crate::gateway::hub::connection::{Connection, State};
use crate::gateway::hub::flow::{Flow, stay};
use crate::gateway::hub::post_head::PostHead;
use crate::gateway::hub::requests::{Posted, Posting};
use crate::gateway::msg::HubMsg;
use crate::gateway::post::{Content, Outcome, Post};
use crate::gateway::posts::NoPost;
use crate::net::address::Peer;
use crate::ws::body::{Body, BodyError};
use crate::ws::response::{Headers, Response};

/// Bytes of a body that have to come within `handshake-timeout`.
const PROGRESS: usize = 64 * 1024;

impl Connection {
    /// A request that sends messages.
    pub(super) fn post(&mut self, peer: Peer, head: PostHead, lent: &mut Lent<'_>) -> Flow {
        let PostHead { head_len, token, content, framing, expects, keep, cors } = head;
        if lent.shared.is_refusing() {
            return self.refuse_post(503, "The gateway is stopping.", cors, lent);
        }
        let begun = token.ok_or(NoPost::Unknown).and_then(|token| lent.shared.posts.begin(token));
        let under_way = match begun {
            Ok(under_way) => under_way,
            Err(NoPost::Unknown) => {
                return self.refuse_post(404, "No open stream has this token.", cors, lent);
            }
            Err(NoPost::TooMany) => {
                let text = "Too many requests with this token are under way.";
                return self.refuse_post(429, text, cors, lent);
            }
        };
        let max_message = lent.settings.max_message;
        let max = match content {
            Content::Lines => max_message.max(lent.settings.max_queue),
            Content::Text | Content::Binary => max_message,
        };
        let body = match Body::new(framing, max) {
            Ok(body) => body,
            Err(error) => return self.refuse_body(error, content, cors, lent),
        };
        let rest = self.partial.split_off(head_len);
        self.partial = Vec::new();
        let goes_on = expects && rest.is_empty() && !body.is_whole();
        let posting = Posting { peer, under_way, content, body, seen: 0, keep, cors };
        self.state = State::Posting(Box::new(posting));
        self.await_body(lent);
        if goes_on {
            // RFC 9110 section 10.1.1.
            self.send_always(Bytes::from_static(b"HTTP/1.1 100 Continue\r\n\r\n"), lent)?;
        }
        self.body(&rest, lent)
    }

    fn await_body(&mut self, lent: &mut Lent<'_>) {
        let time = (lent.settings.handshake_timeout.as_millis() as u64).max(1);
        self.state_deadline = Some(lent.ctx.now.after(time));
        self.arm(lent);
    }

    /// More bytes of the body, and what is behind it.
    pub(super) fn body(&mut self, bytes: &[u8], lent: &mut Lent<'_>) -> Flow {
        let State::Posting(posting) = &mut self.state else { return stay() };
        match posting.body.take(bytes) {
            Ok(taken) => self.partial.extend_from_slice(&bytes[taken..]),
            Err(error) => {
                let (content, cors) = (posting.content, std::mem::take(&mut posting.cors));
                return self.refuse_body(error, content, cors, lent);
            }
        }
        if !posting.body.is_whole() {
            if posting.body.len() >= posting.seen + PROGRESS {
                posting.seen = posting.body.len();
                self.await_body(lent);
            }
            return stay();
        }
        // Something has to stand in its place for a moment.
        let State::Posting(posting) =
            std::mem::replace(&mut self.state, State::Lingering { reset: false })
        else {
            return stay();
        };
        let Posting { peer, under_way, content, body, keep, cors, .. } = *posting;
        self.state = State::Posted(Box::new(Posted { peer, keep, cors }));
        // The stream's shard answers in time.
        self.state_deadline = None;
        let shard = lent.ctx.core.shard_of(under_way.conn());
        let post = Box::new(Post::new(self.id, under_way, content, body.into_bytes()));
        lent.ctx.core.post_hub(shard, lent.shared, HubMsg::Post(post));
        stay()
    }

    /// The stream's shard says what came of it.
    pub(super) fn posted(&mut self, outcome: Outcome, lent: &mut Lent<'_>) -> Flow {
        let State::Posted(posted) = &mut self.state else { return stay() };
        let (keep, cors) = (posted.keep, std::mem::take(&mut posted.cors));
        let status = outcome.status();
        let response = match status {
            204 => Response::no_content(),
            _ => Response::text(status, outcome.text()),
        };
        note(status, lent);
        self.answer(response.with(&cors).keep_alive(keep), lent)
    }

    fn refuse_body(
        &mut self,
        error: BodyError,
        content: Content,
        cors: Headers,
        lent: &mut Lent<'_>,
    ) -> Flow {
        match (error, content) {
            (BodyError::TooLarge, Content::Lines) => {
                self.refuse_post(413, "The body is too large (max-queue).", cors, lent)
            }
            (BodyError::TooLarge, _) => {
                self.refuse_post(413, "The message is too large (max-message).", cors, lent)
            }
            (BodyError::Invalid(why), _) => {
                self.refuse_post(400, &format!("Bad request: {why}."), cors, lent)
            }
        }
    }

    /// Refuses it before its body was there: nothing was taken, and what comes is thrown away.
    fn refuse_post(&mut self, status: u16, why: &str, cors: Headers, lent: &mut Lent<'_>) -> Flow {
        note(status, lent);
        tracing::debug!(gateway = %lent.shared.id, conn = %self.id, status, "POST refused: {why}");
        let response = Response::text(status, format!("{why} Messages taken: 0.\n")).with(&cors);
        self.answer(response, lent)
    }

    /// The body did not come in time.
    pub(super) fn body_is_late(&mut self, lent: &mut Lent<'_>) -> Flow {
        let State::Posting(posting) = &mut self.state else { return stay() };
        let cors = std::mem::take(&mut posting.cors);
        self.refuse_post(408, "The body did not arrive in time.", cors, lent)
    }

    /// The gateway stops.
    pub(super) fn end_body(&mut self, lent: &mut Lent<'_>) -> Flow {
        let State::Posting(posting) = &mut self.state else { return stay() };
        let cors = std::mem::take(&mut posting.cors);
        self.refuse_post(503, "The gateway is stopping.", cors, lent)
    }
}

/// Counts an answer.
fn note(status: u16, lent: &Lent<'_>) {
    let status = match status {
        204 => "204",
        400 => "400",
        404 => "404",
        408 => "408",
        413 => "413",
        429 => "429",
        _ => "503",
    };
    lent.shared.metrics.posts.add(status, 1);
}
