//! What the clients of streams send in requests of their own, on the shard of the stream: it goes the
//! way of a message on a connection, and waits like one while its stream may not be read.

use std::collections::{HashMap, VecDeque};

use crate::gateway::context::Context;
use crate::gateway::hub::connection::Connection;
use crate::gateway::hub::flow::{Flow, stay};
use crate::gateway::hub::{Hub, Lent};
use crate::gateway::msg::HubMsg;
use crate::gateway::post::{Post, Verdict};
use crate::gateway::shared::Shared;

/// Messages that are taken when they come; more have to wait for their turn.
const AT_ONCE: usize = 16;

/// Bodies that wait until their stream may be read, by its slot, in the order of arrival. There are
/// few: a client waits for the answer, and a token has only so many requests under way.
#[derive(Default)]
pub(crate) struct Taking(HashMap<u32, VecDeque<Box<Post>>>);

impl Taking {
    fn push(&mut self, slot: u32, post: Box<Post>) {
        self.0.entry(slot).or_default().push_back(post);
    }

    fn put_back(&mut self, slot: u32, post: Box<Post>) {
        self.0.entry(slot).or_default().push_front(post);
    }

    fn pop(&mut self, slot: u32) -> Option<Box<Post>> {
        // Nearly always there is nothing at all.
        if self.0.is_empty() {
            return None;
        }
        let waiting = self.0.get_mut(&slot)?;
        let post = waiting.pop_front();
        if waiting.is_empty() {
            self.0.remove(&slot);
            if self.0.is_empty() {
                // A crowd that left gives its memory back.
                self.0 = HashMap::new();
            }
        }
        post
    }
}

/// Tells the connection of a request what came of it.
fn answer(post: Post, verdict: Verdict, shared: &Shared, ctx: &Context) {
    let from = post.from;
    let outcome = post.ends(verdict);
    let shard = ctx.core.shard_of(from);
    ctx.core.post_hub(shard, shared, HubMsg::Posted(from, outcome));
}

impl Hub {
    /// A body for a stream of this shard.
    pub(super) fn take_post(&mut self, post: Box<Post>, ctx: &mut Context) {
        let slot = self.conns.slot(post.conn());
        match slot.filter(|slot| self.conns.get(*slot).is_some_and(Connection::is_open)) {
            Some(slot) => {
                self.taking.push(slot, post);
                let mut budget = AT_ONCE;
                self.with(slot, ctx, |conn, lent| conn.take_posts(&mut budget, lent));
            }
            None => {
                let verdict = no_stream(&self.shared);
                answer(*post, verdict, &self.shared, ctx);
            }
        }
    }

    /// The connection in a slot is gone, and what waits for it is not taken.
    pub(super) fn end_posts(&mut self, slot: u32, ctx: &Context) {
        while let Some(post) = self.taking.pop(slot) {
            answer(*post, no_stream(&self.shared), &self.shared, ctx);
        }
    }
}

/// Why a stream takes nothing any more.
fn no_stream(shared: &Shared) -> Verdict {
    if shared.is_refusing() { Verdict::Stopping } else { Verdict::Ended }
}

impl Connection {
    /// Takes what waits for it, so many messages at most, while it may be read.
    pub(super) fn take_posts(&mut self, budget: &mut usize, lent: &mut Lent<'_>) -> Flow {
        let mut took = false;
        while self.reading.paused.is_none()
            && let Some(mut post) = lent.taking.pop(lent.slot)
        {
            let (verdict, some) = self.take_messages(&mut post, budget, lent);
            took |= some;
            match verdict {
                Some(verdict) => {
                    answer(*post, verdict, lent.shared, lent.ctx);
                    took = true;
                }
                None => lent.taking.put_back(lent.slot, post),
            }
        }
        if !lent.taking.0.contains_key(&lent.slot) {
            self.state_deadline = None;
        } else if took || self.state_deadline.is_none() {
            // As long as its messages are taken, the rest has time.
            let time = lent.settings.listener_timeout.as_millis() as u64;
            self.state_deadline = Some(lent.ctx.now.after(time));
            self.arm(lent);
        }
        stay()
    }

    /// Takes the messages of a body: how it ended, `None` if it has to wait; and whether one was taken.
    fn take_messages(
        &mut self,
        post: &mut Post,
        budget: &mut usize,
        lent: &mut Lent<'_>,
    ) -> (Option<Verdict>, bool) {
        let mut took = false;
        loop {
            if post.is_over() {
                return (Some(Verdict::Taken), took);
            }
            if lent.shared.is_stopping() {
                return (Some(Verdict::Stopping), took);
            }
            if self.pauses(*budget > 0, lent) {
                return (None, took);
            }
            let message = match post.next(lent.settings.max_message) {
                Ok(message) => message,
                Err(verdict) => return (Some(verdict), took),
            };
            if !self.allows_one_more(lent) {
                return (Some(Verdict::TooFast), took);
            }
            *budget -= 1;
            let length = message.bytes().len();
            self.accept(message, length, lent);
            post.took();
            took = true;
        }
    }

    /// What waits for it is not taken any more.
    pub(super) fn refuse_posts(&mut self, verdict: Verdict, lent: &mut Lent<'_>) {
        while let Some(post) = lent.taking.pop(lent.slot) {
            answer(*post, verdict, lent.shared, lent.ctx);
        }
    }

    /// Its end has begun.
    pub(super) fn end_posts(&mut self, lent: &mut Lent<'_>) {
        self.refuse_posts(no_stream(lent.shared), lent);
    }
}
