//! The lines that the listener writes: an answer is applied to its event, a command becomes an effect,
//! and every other line is a fault that is logged and skipped.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::api::{ErrorCode, PushOutcome};
use crate::listener::exchange::{Effect, Exchange, HandshakeDecision, Requester};
use crate::listener::op::{CloseReply, Op};
use crate::listener::protocol::answer;
use crate::listener::protocol::answer::{
    Command, Fields, HandshakeAnswer, Line, NewBody, RecipientLists,
};
use crate::listener::protocol::connid::ConnId;
use crate::listener::recipients::{Recipients, resolve_recipients};
use crate::listener::report::Reply;
use crate::text::escape::escape;
use crate::text::excerpt::excerpt;
use crate::text::throttle::Throttle;
use crate::ws::payload::Payload;

/// Bytes of a faulty line that the log shows.
const SHOWN: usize = 200;

/// Faulty lines that the log shows in a second.
const SHOWN_PER_SECOND: u32 = 5;

/// Limits how many faulty lines the log shows.
pub(super) struct FaultLog(Throttle);

impl Default for FaultLog {
    fn default() -> FaultLog {
        FaultLog(Throttle::new(SHOWN_PER_SECOND, Duration::from_secs(1)))
    }
}

impl FaultLog {
    /// `None` if the log must not show the line now; else the number of lines that it did not show
    /// since the last one.
    fn may_show(&mut self, now: Instant) -> Option<u64> {
        self.0.admit(now)
    }
}

fn not_shown(hidden: u64) -> String {
    if hidden > 0 { format!(" ({hidden} more were not shown)") } else { String::new() }
}

/// A hint for the author of a listener that writes a line which is neither an answer nor a command.
fn hint(line: &[u8]) -> &'static str {
    let line = line.trim_ascii();
    let key = line.starts_with(b"\"") && memchr::memmem::find(line, b"\":").is_some();
    if key || matches!(line, b"{" | b"}" | b"}," | b"[" | b"]" | b"],") {
        "; is it JSON over several lines? Each answer is one line (jq -c)"
    } else {
        "; did you mean to print to stderr?"
    }
}

/// The result line of a `send` command with this `ref`.
pub fn sent_result(reference: &str, outcome: &PushOutcome) -> String {
    // Numbers and a list of strings always serialize.
    let outcome = serde_json::to_string(outcome).unwrap_or_default();
    let members = outcome.strip_prefix('{').unwrap_or("}");
    format!("{{\"event\":\"onResult\",\"ref\":{reference},{members}")
}

/// The result line of a `close` command with this `ref`.
pub fn closed_result(reference: &str, closed: Result<(), &str>) -> String {
    match closed {
        Ok(()) => format!("{{\"event\":\"onResult\",\"ref\":{reference},\"closed\":true}}"),
        Err(error) => error_result(reference, error),
    }
}

fn error_result(reference: &str, error: &str) -> String {
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
            self.answer(id, &Fields::default(), now);
            return;
        }
        match answer::parse(line) {
            Line::Answer(id, fields) => {
                if self.asked.contains_key(&id) {
                    self.answer(id, &fields, now);
                } else if id > 0 && id < self.next_id {
                    self.metrics.late.inc();
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

    /// Notes a line that was longer than `max-line` and was thrown away.
    pub(crate) fn over_long(&mut self, max: usize, now: Instant) {
        self.metrics.faults.add("over_long", 1);
        if let Some(hidden) = self.fault_log.may_show(now) {
            let more = not_shown(hidden);
            tracing::warn!(gateway = %self.gateway, "the listener wrote a line of more than {max} bytes (max-line): line thrown away{more}");
        }
    }

    /// Counts a faulty line under `kind` and logs it.
    fn log_fault(&mut self, line: &[u8], kind: &'static str, why: impl fmt::Display, now: Instant) {
        self.metrics.faults.add(kind, 1);
        if let Some(hidden) = self.fault_log.may_show(now) {
            // One byte more than is shown, so that the excerpt is marked as cut.
            let text = String::from_utf8_lossy(&line[..line.len().min(SHOWN + 1)]);
            let more = not_shown(hidden);
            // A faulty command was meant for the gateway, so it gets no hint.
            let hint = if kind == "command" { "" } else { hint(line) };
            tracing::warn!(
                gateway = %self.gateway,
                "the listener wrote a line that is skipped: {why}{hint}{more} line={}",
                escape(&excerpt(&text, SHOWN))
            );
        }
    }

    /// Applies an answer to the owed event with this id.
    fn answer(&mut self, id: u64, fields: &Fields<'_>, now: Instant) {
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
        match asked.requester {
            Requester::Handshake(conn, offers) => {
                let decision = fields.handshake().and_then(|answer| decision_of(answer, &offers));
                let decision = decision.unwrap_or_else(|why| {
                    self.metrics.faults.add("handshake", 1);
                    tracing::warn!(gateway = %self.gateway, %conn, id, "refused with 500 because the listener's answer to onHandshake is at fault: {why}");
                    HandshakeDecision::Refuse(500, "The listener's answer was at fault.\n".to_owned())
                });
                self.effects.push(Effect::Handshake { conn, decision });
            }
            Requester::Conn(conn, payload) => match fields.message(payload.is_binary()) {
                Ok(answer) => {
                    let payload = new_payload(answer.body, payload);
                    let (to, gone) = self.recipients(Some(conn), &answer.lists, (None, None));
                    self.metrics.gone.add(gone.len() as u64);
                    self.effects.push(Effect::deliver(payload, to, None));
                }
                Err(why) => {
                    self.metrics.faults.add("answer", 1);
                    self.metrics.messages_dropped.add("fault", 1);
                    tracing::warn!(gateway = %self.gateway, %conn, id, "message dropped because the listener's answer is at fault: {why}");
                }
            },
            Requester::Push(ask) => match fields.message(ask.push.payload().is_binary()) {
                Ok(answer) => {
                    let payload = new_payload(answer.body, ask.push.payload().clone());
                    let own = (ask.push.connections(), ask.push.except());
                    let (to, gone) = self.recipients(None, &answer.lists, own);
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
                }
            },
        }
    }

    /// The recipients that the answer or command lists, else those that the push itself lists (`own`:
    /// its `connections` and `except`), else those that `route` chooses. The second value holds the
    /// listed names that are not names of connections.
    fn recipients(
        &self,
        sender: Option<ConnId>,
        lists: &RecipientLists,
        own: (Option<&[String]>, Option<&[String]>),
    ) -> (Recipients, Vec<String>) {
        let listed = lists.connections.as_deref().or(own.0);
        let except = lists.except.as_deref().or(own.1).unwrap_or_default();
        resolve_recipients(listed, except, |except| self.routed(sender, except))
    }

    /// Carries out a command.
    fn command(
        &mut self,
        line: &[u8],
        fields: &Fields<'_>,
        results: &Arc<dyn Fn(String) + Send + Sync>,
        now: Instant,
    ) {
        let reference = fields.reference().filter(|_| !self.settings.hooks.is_none());
        match fields.command() {
            Ok(Command::Send { body, lists }) => {
                let payload = payload_of(body);
                let (to, gone) = self.recipients(None, &lists, (None, None));
                self.metrics.gone.add(gone.len() as u64);
                let report = reference.and_then(|reference| {
                    let results = Arc::clone(results);
                    let tell = move |outcome| results(sent_result(&reference, &outcome));
                    self.report(gone, Reply::Command(Box::new(tell)))
                });
                self.effects.push(Effect::deliver(payload, to, report));
            }
            Ok(Command::Close { conn, code, reason }) => match ConnId::parse(&conn) {
                Some(conn) => {
                    let reply = reference.map_or(CloseReply::None, CloseReply::Listener);
                    self.effects.push(Effect::Op(Op::Close { conn, code, reason, reply }));
                }
                None => {
                    self.metrics.gone.inc();
                    if let Some(reference) = reference {
                        self.result(error_result(&reference, "no such connection"));
                    }
                }
            },
            Err(why) => {
                if let Some(reference) = reference {
                    self.result(error_result(&reference, &why));
                }
                self.log_fault(line, "command", why, now);
            }
        }
    }
}

fn decision_of(answer: HandshakeAnswer, offers: &[String]) -> Result<HandshakeDecision, String> {
    match answer {
        HandshakeAnswer::Reject(status, reason) => Ok(HandshakeDecision::Refuse(status, reason)),
        HandshakeAnswer::Accept(Some(protocol)) if !offers.contains(&protocol) => {
            Err(format!("the subprotocol {protocol:?} was not offered"))
        }
        HandshakeAnswer::Accept(protocol) => Ok(HandshakeDecision::Accept { protocol, join: None }),
    }
}

fn new_payload(body: Option<NewBody<'_>>, unchanged: Payload) -> Payload {
    body.map_or(unchanged, payload_of)
}

fn payload_of(body: NewBody<'_>) -> Payload {
    match body {
        NewBody::Text(text) => Payload::text(&text),
        NewBody::Binary(bytes) => Payload::binary(&bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::sync::Arc;

    use proptest::prelude::*;
    use tokio::sync::oneshot;

    use super::*;
    use crate::config::settings::Route;
    use crate::listener::connection::ConnInfo;
    use crate::listener::exchange::PushAsk;
    use crate::listener::protocol::push::Push;
    use crate::ws::payload::Payload;

    type Names = Option<Vec<&'static str>>;

    /// Names of connections, and names that no connection can have.
    fn names() -> impl Strategy<Value = Names> {
        let name = prop::sample::select(vec!["k1", "k2", "k3", "k4", "k5", "K1", "k01", "x"]);
        prop::option::of(prop::collection::vec(name, 0..5))
    }

    fn members(connections: &Names, except: &Names) -> String {
        let member = |key: &str, names: &Names| {
            let names = names.as_ref().map(|names| format!(",\"{key}\":{names:?}"));
            names.unwrap_or_default()
        };
        member("connections", connections) + &member("except", except)
    }

    /// The rules of the protocol, one by one.
    fn by_the_protocol(
        route: Route,
        sender: Option<u64>,
        connections: Option<&Vec<&str>>,
        except: Option<&Vec<&str>>,
        open: &BTreeSet<u64>,
    ) -> BTreeSet<u64> {
        let but = |id: &u64| {
            !except.is_some_and(|names| names.iter().any(|name| *name == format!("k{id}")))
        };
        let chosen = |id: &u64| match (connections, route, sender) {
            (Some(names), ..) => names.iter().any(|name| *name == format!("k{id}")),
            (None, _, None) | (None, Route::All, _) => true,
            (None, Route::Others, Some(sender)) => *id != sender,
            (None, Route::Sender, Some(sender)) => *id == sender,
            (None, Route::None | Route::Channels, Some(_)) => false,
        };
        open.iter().copied().filter(|id| chosen(id) && but(id)).collect()
    }

    fn exchange(route: &str, now: Instant) -> Exchange {
        let text = format!("[gateways.g]\nroute = \"{route}\"");
        let file = crate::config::from_text(Path::new("/wsgw.toml"), &text);
        let settings = file.unwrap().gateways.remove(0);
        let mut exchange = Exchange::new("g".into(), Arc::new(settings), Arc::default(), 1, now);
        exchange.attach(now);
        for id in 1..=5 {
            exchange.opened(
                Arc::new(ConnInfo {
                    id: ConnId(id),
                    opened_at: std::time::SystemTime::UNIX_EPOCH,
                    remote: "".into(),
                    members: (*b"\"path\":\"/\"").into(),
                    path_len: 3,
                }),
                &[],
            );
        }
        exchange
    }

    proptest! {
        /// For every route, and whatever lists the answer and the push have: exactly the recipients
        /// that the protocol names get the message, each once, and every listed name that is not
        /// the name of a connection is counted.
        #[test]
        fn recipients_are_those_that_the_protocol_names(
            route in prop::sample::select(vec!["all", "others", "sender", "none"]),
            sender in prop::option::of(1u64..=5),
            (own_connections, own_except) in (names(), names()),
            (connections, except) in (names(), names()),
            open in prop::collection::btree_set(1u64..=5, 0..=5),
        ) {
            let now = Instant::now();
            let mut exchange = exchange(route, now);
            let (reply, _outcome) = oneshot::channel();
            let own = match sender {
                Some(sender) => {
                    let message = Payload::text("hi");
                    exchange.message(ConnId(sender), message);
                    (None, None)
                }
                None => {
                    let own = members(&own_connections, &own_except);
                    let push = Push::parse(format!("{{\"message\":\"hi\"{own}}}").as_bytes());
                    let push = push.unwrap();
                    exchange.push(PushAsk { push, reply, ticket: Box::new(()) }, now);
                    (own_connections, own_except)
                }
            };
            exchange.pump(now);
            exchange.written(exchange.unwritten().len(), now);
            // The five opens have the ids before it.
            let answer = format!("{{\"id\":6{}}}", members(&connections, &except));
            let results: Arc<dyn Fn(String) + Send + Sync> = Arc::new(|_| {});
            exchange.line(answer.as_bytes(), &results, now);
            let to = exchange.effects.iter().find_map(|effect| match effect {
                Effect::Op(Op::Deliver(delivery)) => Some(delivery.to.clone()),
                _ => None,
            });

            let connections = connections.or(own.0);
            let except = except.or(own.1);
            let got: Vec<u64> = match to.unwrap() {
                Recipients::All => open.iter().copied().collect(),
                Recipients::Members(_) => Vec::new(),
                Recipients::AllBut(but) => {
                    open.iter().copied().filter(|id| !but.contains(&ConnId(*id))).collect()
                }
                Recipients::Only(ids) => {
                    ids.iter().map(|id| id.0).filter(|id| open.contains(id)).collect()
                }
            };
            let route = exchange.settings.route;
            let expected =
                by_the_protocol(route, sender, connections.as_ref(), except.as_ref(), &open);
            prop_assert_eq!(&got, &expected.into_iter().collect::<Vec<_>>());

            let nobody: BTreeSet<&str> = connections
                .iter()
                .flatten()
                .filter(|name| ConnId::parse(name).is_none())
                .filter(|name| !except.iter().flatten().any(|but| but == *name))
                .copied()
                .collect();
            prop_assert_eq!(exchange.metrics.gone.get(), nobody.len() as u64);
        }
    }
}
