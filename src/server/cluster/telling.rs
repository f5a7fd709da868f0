//! What nodes tell each other besides the order: who their members are, what came of a delivery, and what
//! the servers say to what was published.

use async_nats::Message;

use crate::gateway::kept::now;
use crate::gateway::msg::PrimaryMsg;
use crate::listener::exchange::incoming::closed_result;
use crate::listener::protocol::node::Node;
use crate::server::cluster::counts::{Answer, Asker, Told};
use crate::server::cluster::lists;
use crate::server::cluster::lists::Ask;
use crate::server::cluster::replica::Link;
use crate::server::cluster::task::Task;
use crate::server::cluster::wire;
use crate::server::cluster::wire::{Entry, Header};
use crate::server::local::Local;

/// The error of a stream that a message is too large.
const TOO_LARGE: u64 = 10_054;

/// Members that one entry names.
const MEMBERS: usize = 1_024;

impl Task {
    /// Tells the other nodes who is in which channel here.
    pub(super) fn tell_members(&mut self) {
        let members: Vec<Entry> = self
            .members
            .iter()
            .flat_map(|(channel, conns)| {
                let conns: Vec<_> = conns.iter().copied().collect();
                let parts: Vec<Entry> = conns
                    .chunks(MEMBERS)
                    .map(|part| Entry::Members(channel.clone(), part.to_vec()))
                    .collect();
                parts
            })
            .collect();
        self.publish(&Entry::Tells, None);
        for entry in members {
            self.publish(&entry, None);
        }
        self.publish(&Entry::AllTold, None);
    }

    /// The servers' answer to a message that was published.
    pub(super) fn acknowledged(&mut self, ack: &Message) {
        let answer = serde_json::from_slice::<serde_json::Value>(&ack.payload).ok();
        let error = answer.as_ref().and_then(|answer| answer.get("error"));
        let code = error.and_then(|error| error.get("err_code")?.as_u64());
        if code == Some(TOO_LARGE) {
            let number = ack.subject.rsplit('.').next().and_then(|number| number.parse().ok());
            let why = error.map(ToString::to_string).unwrap_or_default();
            return self.refused(number.unwrap_or(0), &why);
        }
        let refused = error.and_then(|error| Some(error.get("description")?.as_str()?.to_owned()));
        let refused = match ack.status {
            Some(async_nats::StatusCode::NO_RESPONDERS) => {
                Some("nobody keeps the stream".to_owned())
            }
            _ => refused,
        };
        if let Some(why) = refused {
            self.lose(&format!("the NATS server refuses a message: {why}"));
        }
    }

    /// The stream refuses a message, and would do so again and again: an empty one takes its number.
    pub(super) fn refused(&mut self, number: u64, why: &str) {
        let header = Header { node: self.me, number, before: 0, at: now() };
        let lost = self.replica.order.replace(number, wire::begin(header).freeze());
        if lost.is_empty() {
            return self.lose(&format!("the NATS server refuses a message: {why}"));
        }
        tracing::error!(gateway = %self.gateway(), "a message is dropped, for the NATS server refuses it: {why}");
        // Those behind it did not count without it.
        let again = self.replica.order.again(true);
        self.status.retried(again);
        self.give_up(lost);
        self.tell_members();
    }

    /// Another node says what came of an entry.
    pub(super) fn told(&mut self, message: &Message) {
        if let Some(asker) = &message.reply {
            let Ok(ask) = serde_json::from_slice::<Ask>(&message.payload) else { return };
            let local = Local::new(self.outlet.core(), self.outlet.gateway());
            let (client, asker) = (self.engine.client.clone(), asker.clone());
            let most = self.engine.most_published();
            // The shards answer when they can; the task goes on meanwhile.
            tokio::spawn(async move {
                let bytes = lists::answer(&local, ask, most).await;
                // Whoever asked waits for a limited time.
                let _ = client.publish(asker, bytes.into()).await;
            });
            return;
        }
        match serde_json::from_slice::<Answer>(&message.payload) {
            Ok(answer) => self.counts.answered(answer),
            Err(why) => tracing::debug!("an answer of another node cannot be read: {why}"),
        }
    }

    /// Says to another node what came of an entry.
    pub(super) async fn answer(&mut self, node: Node, answer: Answer) {
        if self.replica.link == Link::Down {
            // Whoever waits for it waits for a limited time.
            return;
        }
        for bytes in answer.into_messages(self.engine.most_published()) {
            if let Err(why) = self.engine.tell(node, bytes.into()).await {
                return self.lose(&why);
            }
        }
    }

    pub(super) fn tell_done(&mut self) {
        if self.counts.is_empty() {
            return;
        }
        for told in self.counts.take_done(self.clock()) {
            self.tell(told);
        }
    }

    pub(super) fn tell(&self, told: Told) {
        match told.asker {
            Asker::Delivery(report) => {
                report.add_others(told.outcome);
                report.finish();
            }
            Asker::Close(reference) => {
                let closed = (told.outcome.delivered > 0).then_some(()).ok_or("no such connection");
                let line = closed_result(&reference, closed);
                let gateway = self.outlet.gateway();
                self.outlet.core().post_primary(gateway, PrimaryMsg::Result(line));
            }
        }
    }
}
