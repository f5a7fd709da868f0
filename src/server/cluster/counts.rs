//! What other nodes say of deliveries and closes that this node has put into the stream.
//!
//! Plain data; time comes in as milliseconds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::api::PushOutcome;
use crate::listener::protocol::node::Node;
use crate::listener::report::DeliveryReport;

/// How long the others may take, in milliseconds.
const PATIENCE: u64 = 500;

/// Where an entry stands: the number of its message, and its place there.
pub(super) type Place = (u64, u16);

/// What one node says of an entry, in JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// The node, by its name.
    pub(super) node: String,
    /// The entry.
    pub(super) place: Place,
    /// To how many connections it was delivered; 1 if the connection was there to be closed.
    #[serde(default)]
    pub(super) delivered: u64,
    /// How many had a full queue.
    #[serde(default)]
    pub(super) dropped: u64,
    /// Those that are not there.
    #[serde(default)]
    pub(super) gone: Vec<String>,
    /// Whether there is more to say: a message of the servers can hold so many names only.
    #[serde(default)]
    pub(super) more: bool,
}

/// Bytes of an answer besides its names.
const FRAME: usize = 256;

/// Bytes of the name of a connection, with quotes and a comma.
const NAME: usize = 24;

impl Answer {
    /// Nothing came of it.
    pub(super) fn nothing(node: Node, place: Place) -> Answer {
        let node = node.to_string();
        Answer { node, place, delivered: 0, dropped: 0, gone: Vec::new(), more: false }
    }

    /// As it is sent, in messages of `most` bytes.
    pub(super) fn into_messages(self, most: usize) -> Vec<Vec<u8>> {
        let names = (most.saturating_sub(FRAME) / NAME).max(1);
        let parts = self.gone.len().div_ceil(names).max(1);
        let part = |at: usize| {
            let gone = self.gone.iter().skip(at * names).take(names).cloned().collect();
            let part = match at + 1 == parts {
                true => Answer { gone, ..self.clone() },
                false => {
                    let node = self.node.clone();
                    Answer { node, place: self.place, delivered: 0, dropped: 0, gone, more: true }
                }
            };
            // It is plain data.
            serde_json::to_vec(&part).unwrap_or_default()
        };
        (0..parts).map(part).collect()
    }
}

/// Who is told.
pub(super) enum Asker {
    /// The report of a delivery, which expects one more part.
    Delivery(Arc<DeliveryReport>),
    /// A listener that had a connection closed, by a command with this `ref`.
    Close(String),
}

struct Waiting {
    asker: Asker,
    /// Those that have said nothing yet.
    missing: BTreeSet<Node>,
    so_far: PushOutcome,
    until: u64,
}

/// An asker, and what it is told.
pub(super) struct Told {
    pub(super) asker: Asker,
    pub(super) outcome: PushOutcome,
}

/// What is waited for.
#[derive(Default)]
pub(super) struct Counts {
    waiting: BTreeMap<Place, Waiting>,
}

impl Counts {
    /// Waits for what these nodes say of an entry, of `nodes` nodes in all; `gone` is known already.
    pub(super) fn ask(
        &mut self,
        place: Place,
        asker: Asker,
        (missing, nodes): (BTreeSet<Node>, u64),
        gone: Vec<String>,
        now: u64,
    ) {
        let so_far = PushOutcome { gone, nodes: Some(nodes), ..PushOutcome::default() };
        let until = now + PATIENCE;
        self.waiting.insert(place, Waiting { asker, missing, so_far, until });
    }

    /// A node has said something.
    pub(super) fn answered(&mut self, answer: Answer) {
        let Some(node) = Node::parse(&answer.node) else { return };
        let Some(waiting) = self.waiting.get_mut(&answer.place) else { return };
        let is_expected = match answer.more {
            true => waiting.missing.contains(&node),
            false => waiting.missing.remove(&node),
        };
        if !is_expected {
            return;
        }
        let so_far = &mut waiting.so_far;
        so_far.delivered = so_far.delivered.saturating_add(answer.delivered);
        so_far.dropped = so_far.dropped.saturating_add(answer.dropped);
        waiting.so_far.gone.extend(answer.gone);
    }

    /// Takes what is complete, or has waited for too long.
    pub(super) fn take_done(&mut self, now: u64) -> Vec<Told> {
        let done =
            |_: &Place, waiting: &mut Waiting| waiting.missing.is_empty() || waiting.until <= now;
        self.waiting.extract_if(.., done).map(|(_, waiting)| waiting.tell()).collect()
    }

    /// Takes all: nobody will say anything more.
    pub(super) fn take_all(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.waiting).into_values().map(Waiting::tell).collect()
    }

    /// Whether nothing is waited for.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Waiting {
    fn tell(self) -> Told {
        let silent = self.missing.iter().map(Node::to_string).collect();
        let outcome = PushOutcome { silent: Some(silent), ..self.so_far };
        Told { asker: self.asker, outcome }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u32) -> Node {
        Node::from_number(number).unwrap()
    }

    fn answer(by: Node, place: Place, delivered: u64) -> Answer {
        let node = by.to_string();
        Answer { node, place, delivered, dropped: 0, gone: Vec::new(), more: false }
    }

    #[test]
    fn an_answer_with_many_names_comes_in_several_messages() {
        let mut counts = Counts::default();
        let a = node(1);
        let asker = Asker::Close(String::new());
        counts.ask((1, 0), asker, (BTreeSet::from([a]), 2), Vec::new(), 1_000);
        let gone: Vec<String> = (0..5_000).map(|number| format!("b7xq.kzzzzzz{number}")).collect();
        let messages = Answer { gone: gone.clone(), ..answer(a, (1, 0), 7) }.into_messages(16_384);
        assert!(messages.len() > 5 && messages.iter().all(|message| message.len() <= 16_384));
        for message in &messages {
            assert!(counts.take_done(1_000).is_empty());
            counts.answered(serde_json::from_slice(message).unwrap());
        }
        let told = counts.take_done(1_000);
        assert_eq!((told[0].outcome.delivered, &told[0].outcome.gone), (7, &gone));
        assert_eq!(answer(a, (1, 0), 0).into_messages(0).len(), 1);
    }

    #[test]
    fn forged_counts_do_no_harm() {
        let mut counts = Counts::default();
        let (a, b) = (node(1), node(2));
        let asker = Asker::Close(String::new());
        counts.ask((1, 0), asker, (BTreeSet::from([a, b]), 3), Vec::new(), 1_000);
        counts.answered(answer(a, (1, 0), u64::MAX));
        counts.answered(answer(b, (1, 0), u64::MAX));
        assert_eq!(counts.take_done(1_000)[0].outcome.delivered, u64::MAX);
    }

    #[test]
    fn who_says_nothing_in_time_is_silent() {
        let mut counts = Counts::default();
        let (a, b) = (node(1), node(2));
        for number in [1, 2] {
            let asker = Asker::Close(String::new());
            let gone = vec!["k1".to_owned()];
            counts.ask((number, 0), asker, (BTreeSet::from([a, b]), 3), gone, 1_000);
        }
        counts.answered(answer(a, (1, 0), 4));
        counts.answered(answer(a, (1, 0), 4));
        counts.answered(answer(a, (2, 0), 2));
        counts.answered(answer(a, (3, 0), 2));
        assert!(counts.take_done(1_400).is_empty());
        counts.answered(answer(b, (2, 0), 3));
        let told = counts.take_done(1_400);
        assert_eq!((told.len(), told[0].outcome.delivered), (1, 5));
        assert_eq!(told[0].outcome.silent, Some(Vec::new()));
        let told = counts.take_done(1_500);
        assert_eq!((told.len(), told[0].outcome.delivered), (1, 4));
        assert_eq!(told[0].outcome.silent, Some(vec![b.to_string()]));
        assert_eq!(told[0].outcome.nodes, Some(3));
        assert!(counts.is_empty());
    }
}
