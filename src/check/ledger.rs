//! What the listener was sent, what it wrote, and what the gateway made of that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::check::clients::Deed;
use crate::check::steps::Step;
use crate::config::hooks::Hook;
use crate::listener::exchange::Exchange;
use crate::listener::exchange::faults::is_piece_of_json;
use crate::listener::protocol::answer::{self, Fields, HandshakeAnswer, Line};
use crate::listener::protocol::target::Target;
use crate::text::escape::escape;
use crate::text::excerpt::excerpt;
use crate::text::lines::Lines;

/// Bytes of a line that a finding shows.
const SHOWN: usize = 160;

/// The size of blocks in which programs write when they do not flush: a page, or a multiple.
const BLOCK: usize = 4096;

/// An event that the listener was sent.
#[derive(Debug)]
pub(super) struct Sent {
    /// In which step.
    pub(super) step: Step,
    /// Its kind.
    pub(super) hook: Hook,
    binary: bool,
    event: Value,
    /// The line, cut.
    pub(super) line: String,
    /// When its last byte was written.
    pub(super) written: Instant,
    /// When the first answer came.
    pub(super) answered: Option<Instant>,
    /// When the gateway gave up waiting.
    pub(super) timed_out: Option<Instant>,
    /// Whether the answer came after the end of stdin.
    pub(super) after_end: bool,
    /// What the answer leads to.
    pub(super) deeds: Vec<Deed>,
}

impl Sent {
    /// Whether the gateway waits for an answer to such an event.
    pub(super) fn is_asked(&self) -> bool {
        matches!(self.hook, Hook::OnMessage | Hook::OnHandshake)
    }

    /// Whether its answer came, or is not waited for any more.
    pub(super) fn is_settled(&self) -> bool {
        self.answered.is_some() || self.timed_out.is_some()
    }

    /// How long its answer took.
    pub(super) fn took(&self) -> Option<Duration> {
        self.answered.map(|at| at.saturating_duration_since(self.written))
    }
}

/// What may be wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// Text that was meant for people.
    Stray,
    /// A part of JSON that goes over several lines.
    Piece,
    /// Several objects on a line.
    Joined,
    /// It looks like JSON, and is not.
    NotJson,
    NotUtf8,
    TooLong,
    NoId,
    IdNotNumber,
    UnknownId,
    AnsweredTwice,
    /// JSON behind a byte order mark.
    ByteOrderMark,
    /// An answer with a key that means nothing, which leaves the message as it is.
    UnknownKey,
    /// A key of an answer has a wrong type or value.
    WrongAnswer,
    WrongCommand,
    /// A recipient that never was a connection.
    UnknownRecipient,
}

/// How often something was wrong, and the first time.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) count: usize,
    pub(super) step: Step,
    /// The line, cut and escaped.
    pub(super) line: String,
    /// What is wrong with it.
    pub(super) why: String,
    /// The event that it answers.
    pub(super) id: Option<u64>,
}

/// All of it, over all processes of the listener.
#[derive(Debug)]
pub(super) struct Ledger {
    /// The step that is played.
    pub(super) step: Step,
    sent: BTreeMap<u64, Sent>,
    faults: BTreeMap<Fault, Seen>,
    /// The steps in which something was wrong with a line.
    fault_steps: BTreeSet<Step>,
    /// Names of connections that there were.
    conns: Vec<String>,
    offers: Vec<String>,
    written: Lines,
    /// Whether the listener speaks plain lines.
    plain: bool,
    /// Lines of the listener, and those of them after the end of stdin.
    pub(super) lines: usize,
    pub(super) lines_after_end: usize,
    /// Lines that were meant for answers, it seems, and are none.
    pub(super) misses: usize,
    /// Lines that the gateway skips for what is wrong with them.
    pub(super) skipped: usize,
    /// Empty lines behind lines that are not, of a listener of plain lines.
    pub(super) empty_behind: usize,
    was_full: bool,
    /// Answers to events that need none, or had theirs.
    pub(super) beside: usize,
    /// The steps in which an answer to an event that needs none had a message.
    pub(super) ignored: BTreeSet<Step>,
    /// Whether stdin has been closed.
    pub(super) ended: bool,
    /// Whether what was read last ends within a line.
    within_line: bool,
    /// Whether it wrote whole blocks.
    blocks: bool,
}

impl Ledger {
    /// Nothing was sent yet. `offers` are the subprotocols that are offered.
    pub(super) fn new(plain: bool, offers: Vec<String>) -> Ledger {
        Ledger {
            step: Step::Start,
            sent: BTreeMap::new(),
            faults: BTreeMap::new(),
            fault_steps: BTreeSet::new(),
            conns: Vec::new(),
            offers,
            written: Lines::default(),
            plain,
            lines: 0,
            lines_after_end: 0,
            misses: 0,
            skipped: 0,
            empty_behind: 0,
            was_full: false,
            beside: 0,
            ignored: BTreeSet::new(),
            ended: false,
            within_line: false,
            blocks: false,
        }
    }

    /// A connection has this name.
    pub(super) fn add_conn(&mut self, name: String) {
        self.conns.push(name);
    }

    /// A new process is written to.
    pub(super) fn begin_process(&mut self) {
        self.written = Lines::default();
        self.within_line = false;
        self.was_full = false;
        self.ended = false;
    }

    /// The events of a step.
    pub(super) fn of_step(&self, step: Step) -> impl Iterator<Item = (u64, &Sent)> {
        self.all().filter(move |(_, sent)| sent.step == step)
    }

    /// All events.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, &Sent)> {
        self.sent.iter().map(|(id, sent)| (*id, sent))
    }

    /// What was wrong with lines.
    pub(super) fn faults(&self) -> &BTreeMap<Fault, Seen> {
        &self.faults
    }

    /// Whether something was wrong with a line of this step.
    pub(super) fn has_fault_in(&self, step: Step) -> bool {
        self.fault_steps.contains(&step)
    }

    /// Whether its output came in blocks, or ends within a line while nothing comes any more.
    pub(super) fn shows_blocks(&self) -> bool {
        self.blocks || self.within_line
    }

    /// Notes bytes that the pipe to the listener took.
    pub(super) fn written(&mut self, bytes: &[u8], now: Instant) {
        if self.plain {
            return;
        }
        let mut lines = Vec::new();
        self.written.feed(bytes, usize::MAX, |line| lines.extend(line.map(<[u8]>::to_vec)));
        for line in lines {
            let event: Value = serde_json::from_slice(&line).unwrap_or_default();
            let name = event["event"].as_str().unwrap_or_default();
            let hook = Hook::ALL.into_iter().find(|hook| hook.name() == name);
            // A result line has no id.
            let (Some(hook), Some(id)) = (hook, event["id"].as_u64()) else { continue };
            let sent = Sent {
                step: self.step,
                hook,
                binary: event["base64"].is_string(),
                event,
                line: shown(&line),
                written: now,
                answered: None,
                timed_out: None,
                after_end: false,
                deeds: Vec::new(),
            };
            self.sent.insert(id, sent);
        }
    }

    /// Forgets what was asked in a step, in which the listener may be ended before it could answer.
    pub(super) fn leave_out(&mut self, step: Step) {
        self.sent.retain(|_, sent| sent.step != step || !sent.is_asked());
    }

    /// Notes which events the exchange does not wait for any more.
    pub(super) fn note_timeouts(&mut self, exchange: &Exchange, now: Instant) {
        for (id, sent) in &mut self.sent {
            if sent.is_asked() && !sent.is_settled() && !exchange.is_owed(*id) {
                sent.timed_out = Some(now);
            }
        }
    }

    /// Notes bytes that the listener wrote; `is_full` says that there was no room to read more, so that
    /// their number says nothing.
    pub(super) fn read(&mut self, bytes: &[u8], is_full: bool) {
        self.within_line = bytes.last() != Some(&b'\n');
        self.blocks |= !is_full && bytes.len().is_multiple_of(BLOCK) && self.within_line;
    }

    /// Notes what an answer leads to.
    pub(super) fn add_deeds(&mut self, id: u64, deeds: Vec<Deed>) {
        if let Some(sent) = self.sent.get_mut(&id) {
            sent.deeds.extend(deeds);
        }
    }

    /// Notes a line that was over the limit.
    pub(super) fn too_long(&mut self, max: usize) {
        self.fault(Fault::TooLong, b"", format!("it has more than {max} bytes (max-line)"), None);
    }

    /// Notes a line of the listener. Returns the event that it answers first.
    pub(super) fn line(&mut self, line: &[u8], now: Instant) -> Option<u64> {
        self.lines += 1;
        self.lines_after_end += usize::from(self.ended);
        if self.plain {
            self.empty_behind += usize::from(line.is_empty() && self.was_full);
            self.was_full = !line.is_empty();
            if std::str::from_utf8(line).is_err() {
                let why = "it is not UTF-8: the bytes that are wrong become U+FFFD".to_owned();
                self.fault(Fault::NotUtf8, line, why, None);
            }
            return None;
        }
        match answer::parse(line) {
            Line::Answer(id, fields) => self.answer(id, &fields, line, now),
            Line::Command(fields) => {
                match fields.command() {
                    Err(why) => self.fault(Fault::WrongCommand, line, why, None),
                    Ok(_) => {
                        let lists = fields.message(false).map(|answer| answer.lists.target);
                        self.recipients(lists.ok().flatten(), line, None);
                    }
                }
                None
            }
            Line::Ignored => None,
            Line::Fault(why) => {
                let (fault, why) = kind_of(line, why);
                self.fault(fault, line, why, None);
                None
            }
        }
    }

    fn answer(&mut self, id: u64, fields: &Fields<'_>, line: &[u8], now: Instant) -> Option<u64> {
        let ended = self.ended;
        let Some(sent) = self.sent.get_mut(&id) else {
            let why = format!("no event had the id {id}");
            self.fault(Fault::UnknownId, line, why, None);
            return None;
        };
        if !sent.is_asked() {
            self.beside += 1;
            let body = fields.message(true).ok().and_then(|answer| answer.body);
            if body.is_some() {
                self.ignored.insert(sent.step);
            }
            if fields.changes_channels()
                && let Err(why) = fields.channel_change()
            {
                self.fault(Fault::WrongAnswer, line, why, Some(id));
            }
            return None;
        }
        if sent.answered.is_some() {
            self.beside += 1;
            self.fault(Fault::AnsweredTwice, line, String::new(), Some(id));
            return None;
        }
        sent.answered = Some(now);
        sent.after_end = ended;
        let (hook, binary, in_time) = (sent.hook, sent.binary, sent.timed_out.is_none());
        let unknown = match sent.step {
            Step::Text => unknown_key(line, &sent.event),
            _ => None,
        };
        if let Some(key) = unknown {
            self.fault(Fault::UnknownKey, line, key, Some(id));
        }
        let target = if hook == Hook::OnHandshake {
            fields.handshake().and_then(|answer| self.offered(answer)).map(|()| None)
        } else {
            fields.message(binary).map(|answer| answer.lists.target)
        };
        match target {
            Ok(target) => self.recipients(target, line, Some(id)),
            Err(why) => self.fault(Fault::WrongAnswer, line, why, Some(id)),
        }
        in_time.then_some(id)
    }

    /// A subprotocol that was chosen must have been offered.
    fn offered(&self, answer: HandshakeAnswer) -> Result<(), String> {
        match answer {
            HandshakeAnswer::Accept { protocol: Some(name), .. }
                if !self.offers.contains(&name) =>
            {
                Err(format!("the subprotocol {name:?} was not offered"))
            }
            _ => Ok(()),
        }
    }

    fn recipients(&mut self, target: Option<Target>, line: &[u8], id: Option<u64>) {
        let Some(Target::Connections(names)) = target else { return };
        if let Some(name) = names.iter().find(|name| !self.conns.contains(name)) {
            let why = format!("no connection had the name {name:?}");
            self.fault(Fault::UnknownRecipient, line, why, id);
        }
    }

    fn fault(&mut self, fault: Fault, line: &[u8], why: String, id: Option<u64>) {
        self.misses += usize::from(matches!(
            fault,
            Fault::Piece
                | Fault::Joined
                | Fault::NotJson
                | Fault::NoId
                | Fault::IdNotNumber
                | Fault::UnknownId
                | Fault::ByteOrderMark
        ));
        self.skipped += usize::from(!matches!(
            fault,
            Fault::AnsweredTwice | Fault::WrongAnswer | Fault::UnknownKey | Fault::UnknownRecipient
        ));
        let step = self.step;
        self.fault_steps.insert(step);
        let line = || shown(line);
        let seen = self.faults.entry(fault);
        seen.or_insert_with(|| Seen { count: 0, step, line: line(), why, id }).count += 1;
    }
}

/// A line as a person is shown it.
fn shown(line: &[u8]) -> String {
    // One byte more than is shown, so that it is marked as cut.
    let text = String::from_utf8_lossy(&line[..line.len().min(SHOWN + 4)]);
    escape(&excerpt(&text, SHOWN)).into_owned()
}

/// The key of an answer that is about nothing and stands in no event, if the answer changes nothing.
fn unknown_key(line: &[u8], event: &Value) -> Option<String> {
    let Ok(Value::Object(answer)) = serde_json::from_slice(line) else { return None };
    let same = |key: &&str| answer.get(*key).is_none_or(|value| event.get(*key) == Some(value));
    if !answer::KEYS.iter().all(|key| *key == "id" || same(key)) {
        return None;
    }
    let is_unknown = |key: &&String| !answer::KEYS.contains(&&***key) && event.get(key).is_none();
    answer.keys().find(is_unknown).cloned()
}

/// What kind of mistake a line is that is neither an answer nor a command.
fn kind_of(line: &[u8], why: &str) -> (Fault, String) {
    let why = why.to_owned();
    let Ok(text) = std::str::from_utf8(line) else {
        return (Fault::NotUtf8, "it is not UTF-8".to_owned());
    };
    let text = text.trim();
    if text.strip_prefix('\u{feff}').is_some_and(|text| text.trim().starts_with('{')) {
        return (Fault::ByteOrderMark, why);
    }
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        return match value.get("id") {
            Some(id) if !id.is_null() => (Fault::IdNotNumber, format!("its id is {id}")),
            _ if value.is_object() => (Fault::NoId, why),
            _ if is_piece_of_json(line) => (Fault::Piece, why),
            _ => (Fault::Stray, why),
        };
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    if matches!(values.next(), Some(Ok(Value::Object(_)))) && matches!(values.next(), Some(Ok(_))) {
        return (Fault::Joined, "it holds several JSON objects".to_owned());
    }
    if is_piece_of_json(line) {
        return (Fault::Piece, why);
    }
    if text.starts_with('{') {
        let error = serde_json::from_str::<Value>(text).err();
        let error = error.map_or(String::new(), |error| error.to_string());
        return (Fault::NotJson, error);
    }
    (Fault::Stray, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_mean_nothing_are_found_where_an_answer_changes_nothing() {
        let event =
            serde_json::json!({"id": 3, "event": "onMessage", "conn": "k1", "message": "hi"});
        for (line, key) in [
            (r#"{"id":3,"reply":"HI"}"#, Some("reply")),
            (r#"{"id":3,"MESSAGE":"HI"}"#, Some("MESSAGE")),
            (
                r#"{"id":3,"event":"onMessage","conn":"k1","message":"hi","text":"HI"}"#,
                Some("text"),
            ),
            (r#"{"id":3,"event":"onMessage","conn":"k1","message":"hi"}"#, None),
            (r#"{"id":3}"#, None),
            (r#"{"id":3,"message":"HI","note":1}"#, None),
            (r#"{"id":3,"connections":[],"why":"spam"}"#, None),
        ] {
            assert_eq!(unknown_key(line.as_bytes(), &event).as_deref(), key, "{line}");
        }
    }

    #[test]
    fn mistakes_are_told_apart() {
        for (line, fault) in [
            (&b"Listening on stdin ..."[..], Fault::Stray),
            (b"", Fault::Stray),
            (b"7", Fault::Stray),
            (b"\"hello\"", Fault::Stray),
            (b"{", Fault::Piece),
            (b"  \"id\": 3,", Fault::Piece),
            (b"]", Fault::Piece),
            (b"{\"id\":1}{\"id\":2}", Fault::Joined),
            (b"{'id': 3, 'message': 'x'}", Fault::NotJson),
            (b"{\"id\":3,\"x\":NaN}", Fault::NotJson),
            (b"{\"id\":3,\"message\":\"\xff\"}", Fault::NotUtf8),
            (b"{\"message\":\"x\"}", Fault::NoId),
            (b"{\"id\":null}", Fault::NoId),
            (b"{\"id\":\"3\"}", Fault::IdNotNumber),
            (b"\xef\xbb\xbf{\"id\":3}", Fault::ByteOrderMark),
            (b"\xef\xbb\xbfready", Fault::Stray),
        ] {
            let shown = String::from_utf8_lossy(line);
            let Line::Fault(why) = answer::parse(line) else { panic!("{shown}") };
            assert_eq!(kind_of(line, why).0, fault, "{shown}");
        }
    }
}
