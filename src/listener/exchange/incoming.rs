//! The lines that the listener writes: an answer is applied to its event, a command becomes an effect,
//! and every other line is a fault that is logged and skipped.

use std::sync::Arc;
use std::time::Instant;

use crate::api::{ErrorCode, PushOutcome};
use crate::listener::exchange::channels::Sender;
use crate::listener::exchange::{Asked, Effect, Exchange, HandshakeDecision, PushAsk, Requester};
use crate::listener::membership::Members;
use crate::listener::protocol::answer;
use crate::listener::protocol::answer::{
    Fields, HandshakeAnswer, Line, MessageAnswer, NewBody, RecipientLists,
};
use crate::listener::protocol::channel::{Channel, ChannelSet};
use crate::listener::protocol::connid::ConnId;
use crate::listener::protocol::target::{NAMES_MOST, Target, names_size};
use crate::listener::recipients::{Recipients, resolve_recipients};
use crate::listener::report::Reply;
use crate::ws::payload::Payload;

/// The result line of a `send` command with this `ref`.
pub fn sent_result(reference: &str, outcome: &PushOutcome) -> String {
    // Numbers and a list of strings always serialize.
    let outcome = serde_json::to_string(outcome).unwrap_or_default();
    let members = outcome.strip_prefix('{').unwrap_or("}");
    format!("{{\"event\":\"onResult\",\"ref\":{reference},{members}")
}

/// The result line of a `members` command with this `ref`.
pub fn members_result(reference: &str, channel: &Channel, members: &Members) -> String {
    // Names need no escaping.
    let names: Vec<String> = members.conns.iter().map(|conn| format!("\"{conn}\"")).collect();
    format!(
        "{{\"event\":\"onResult\",\"ref\":{reference},\"channel\":\"{channel}\",\"count\":{},\"members\":[{}]}}",
        members.count,
        names.join(",")
    )
}

/// The result line of a command with this `ref` about a connection that there is not.
pub(super) fn gone_result(reference: &str, conn: &str) -> String {
    let conn = serde_json::Value::from(conn);
    format!("{{\"event\":\"onResult\",\"ref\":{reference},\"gone\":[{conn}]}}")
}

/// The result line of a `close` command with this `ref`.
pub fn closed_result(reference: &str, closed: Result<(), &str>) -> String {
    match closed {
        Ok(()) => format!("{{\"event\":\"onResult\",\"ref\":{reference},\"closed\":true}}"),
        Err(error) => error_result(reference, error),
    }
}

pub(super) fn error_result(reference: &str, error: &str) -> String {
    let error = serde_json::Value::from(error);
    format!("{{\"event\":\"onResult\",\"ref\":{reference},\"error\":{error}}}")
}

impl Exchange {
    /// Notes that the listener wrote bytes to its stdout.
    pub fn output(&mut self, now: Instant) {
        self.last_output = now;
        self.restart.wrote_byte = true;
    }

    /// Handles a line from the listener, without its newline. `results` gets the result lines of
    /// commands that finish later, from any shard.
    pub fn line(&mut self, line: &[u8], results: &Arc<dyn Fn(String) + Send + Sync>, now: Instant) {
        self.restart.line();
        if self.is_plain() {
            return self.send_line(line, now);
        }
        if !self.forgotten.is_empty() {
            self.forgotten.clear();
            if self.asked.is_empty() {
                self.owed_since = None;
            }
        }
        // An echo or `{"id":N}` changes nothing, so it does not have to be parsed.
        if let Some((id, rest)) = answer::leading_id(line)
            && let Some(asked) = self.asked.get(&id)
            && (rest == b"}" || asked.line.strip_suffix(b"\n") == Some(line))
        {
            self.answer(id, &Fields::default(), line, now);
            return;
        }
        match answer::parse(line) {
            Line::Answer(id, fields) => {
                if self.asked.contains_key(&id) {
                    self.answer(id, &fields, line, now);
                } else if let Some(conn) = self.opens.remove(&id)
                    && fields.changes_channels()
                {
                    let fault = self.open_answered(id, conn, &fields).err();
                    self.tap.answered_late(id, line, fault, now);
                } else if id > 0 && id < self.next_id {
                    self.metrics.late.inc();
                    self.tap.answered_late(id, line, None, now);
                    if let Some(position) = self.overdue.remove(&id) {
                        self.answer_times.answered(position, now);
                    }
                } else {
                    self.log_fault(line, "unknown_id", "its id was never issued", now);
                }
            }
            Line::Command(fields) => self.command(line, &fields, results, now),
            Line::Ignored => {}
            Line::Fault(why) => self.log_fault(line, "garbage", why, now),
        }
    }

    /// Applies an answer to the owed event with this id.
    fn answer(&mut self, id: u64, fields: &Fields<'_>, line: &[u8], now: Instant) {
        let Some(asked) = self.take_asked(id) else { return };
        self.restart.answered();
        if let Some(position) = asked.position {
            self.answer_times.answered(position, now);
            if self.asked.is_empty() {
                self.answer_times.clear();
                self.owed_since = None;
            } else if self.answer_times.len() > 4 * self.settings.window.max(256) {
                // An event that is never answered must not keep the times of all later answers.
                let mut owed: Vec<u64> = self.asked.values().filter_map(|a| a.position).collect();
                owed.sort_unstable();
                self.answer_times.thin(&owed);
            }
        }
        if let Some(written) = asked.written {
            self.metrics.latency.record(now.duration_since(written));
        }
        let shown = self.tap.is_on().then(|| asked.event(id));
        let fault = self.apply(id, asked, fields).err();
        if let Some(event) = shown {
            self.tap.answered(&event, line, fault, now);
        }
    }

    /// Does what an answer says. An error is what is at fault with the answer.
    fn apply(&mut self, id: u64, asked: Asked, fields: &Fields<'_>) -> Result<(), String> {
        let mut fault = None;
        match asked.requester {
            Requester::Handshake(conn, offers) => {
                let max = self.settings.max_channels;
                let decision =
                    fields.handshake().and_then(|answer| decision_of(answer, &offers, max));
                let decision = decision.unwrap_or_else(|why| {
                    self.metrics.faults.add("handshake", 1);
                    tracing::warn!(gateway = %self.gateway, %conn, id, "refused with 500 because the listener's answer to onHandshake is at fault: {why}");
                    fault = Some(why);
                    HandshakeDecision::Refuse(500, "The listener's answer was at fault.\n".to_owned())
                });
                self.note_accepted(conn, &decision, &asked.line);
                self.effects.push(Effect::Handshake { conn, decision });
            }
            Requester::Conn(conn, payload, channels) => {
                let answer = fields.message(payload.is_binary());
                if let Err(why) = answer.and_then(|a| self.send_on(conn, payload, &channels, a)) {
                    self.metrics.faults.add("answer", 1);
                    self.metrics.messages_dropped.add("fault", 1);
                    tracing::warn!(gateway = %self.gateway, %conn, id, "message dropped because the listener's answer is at fault: {why}");
                    fault = Some(why);
                }
            }
            Requester::Push(ask) => match push_answer(fields, &ask).and_then(|answer| {
                let payload = new_payload(answer.body, ask.push.payload().clone());
                let payload = self.fits(payload, &answer.lists)?;
                Ok((answer.lists, payload))
            }) {
                Ok((lists, payload)) => {
                    let own = (ask.push.target(), ask.push.except());
                    let (to, gone) = self.recipients(None, &lists, own);
                    self.metrics.gone.add(gone.len() as u64);
                    let report = self.report(gone, Reply::Push(ask.reply));
                    self.effects.push(Effect::deliver(payload, to, report));
                }
                Err(why) => {
                    self.metrics.faults.add("answer", 1);
                    self.metrics.messages_dropped.add("fault", 1);
                    tracing::warn!(gateway = %self.gateway, id, "push dropped because the listener's answer is at fault: {why}");
                    let message = format!("the listener's answer is at fault: {why}");
                    self.fail_push(*ask, ErrorCode::ListenerFault, &message);
                    fault = Some(why);
                }
            },
        }
        fault.map_or(Ok(()), Err)
    }

    /// Sends a connection's message on as its answer says, behind the change of its channels.
    fn send_on(
        &mut self,
        conn: ConnId,
        payload: Payload,
        asked: &ChannelSet,
        answer: MessageAnswer<'_>,
    ) -> Result<(), String> {
        let payload = self.fits(new_payload(answer.body, payload), &answer.lists)?;
        // If the connection has gone, its channels stay as they are and the message goes out.
        self.change_channels(conn, answer.change, None)?;
        let (to, gone) = self.recipients(Some((conn, asked)), &answer.lists, (None, None));
        self.metrics.gone.add(gone.len() as u64);
        self.effects.push(Effect::deliver(payload, to, None));
        Ok(())
    }

    /// A message as it may be sent to these.
    ///
    /// # Errors
    /// It is too large to be shared with other nodes.
    pub(super) fn fits(&self, payload: Payload, lists: &RecipientLists) -> Result<Payload, String> {
        let size = payload.bytes().len();
        let names = names_size(lists.target.as_ref(), lists.except.as_deref());
        match self.settings.max_shared {
            Some(most) if size + names > most + NAMES_MOST => Err(format!(
                "its message ({size} bytes) with the names of its recipients ({names} bytes) is too large to be shared with other nodes: they may have {} bytes together (max_payload of the NATS servers)",
                most + NAMES_MOST
            )),
            Some(most) if size > most => Err(format!(
                "its message has {size} bytes, and one that is shared with other nodes may have {most} (max_payload of the NATS servers)"
            )),
            _ => Ok(payload),
        }
    }

    /// The recipients that the answer or command names, else those that the push itself names (`own`:
    /// its target and `except`), else those that `route` chooses. The second value holds the listed
    /// names that are not names of connections.
    pub(super) fn recipients(
        &self,
        sender: Option<Sender<'_>>,
        lists: &RecipientLists,
        own: (Option<&Target>, Option<&[String]>),
    ) -> (Recipients, Vec<String>) {
        let target = lists.target.as_ref().or(own.0);
        let except = lists.except.as_deref().or(own.1).unwrap_or_default();
        resolve_recipients(target, except, |except| self.routed(sender, except))
    }
}

fn decision_of(
    answer: HandshakeAnswer,
    offers: &[String],
    max_channels: usize,
) -> Result<HandshakeDecision, String> {
    let (protocol, join, since) = match answer {
        HandshakeAnswer::Reject(status, reason) => {
            return Ok(HandshakeDecision::Refuse(status, reason));
        }
        HandshakeAnswer::Accept { protocol, join, since } => (protocol, join, since),
    };
    if let Some(protocol) = protocol.as_ref().filter(|protocol| !offers.contains(protocol)) {
        return Err(format!("the subprotocol {protocol:?} was not offered"));
    }
    let join = join.map(|join| join.as_slice().to_vec());
    match join.as_ref().map_or(0, Vec::len) {
        count if count > max_channels => {
            Err(format!("it joins {count} channels; max-channels is {max_channels}"))
        }
        _ => Ok(HandshakeDecision::Accept { protocol, join, since }),
    }
}

/// The answer to a push, which comes from no connection.
fn push_answer<'a>(fields: &Fields<'a>, ask: &PushAsk) -> Result<MessageAnswer<'a>, String> {
    let answer = fields.message(ask.push.payload().is_binary())?;
    if answer.change.join.as_slice().is_empty() {
        return Ok(answer);
    }
    Err("it has \"join\", but a push comes from no connection that could join".to_owned())
}

fn new_payload(body: Option<NewBody<'_>>, unchanged: Payload) -> Payload {
    body.map_or(unchanged, payload_of)
}

pub(super) fn payload_of(body: NewBody<'_>) -> Payload {
    match body {
        NewBody::Text(text) => Payload::text(&text),
        NewBody::Binary(bytes) => Payload::binary(&bytes),
    }
}

#[cfg(test)]
mod tests;
