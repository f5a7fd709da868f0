//! Parses the lines that a listener writes, and reads the answers among them. Strings without escapes
//! are not copied.
//!
//! [`parse`] finds out the kind of a line. The meaning of an answer's keys depends on the event that it
//! answers, so their values stay raw until [`Fields::message`], [`Fields::handshake`] or
//! [`Fields::channel_change`] reads them.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::listener::protocol::channel::ChannelSet;
use crate::listener::protocol::fields::{
    base64_bytes, channels, message_text, names, present, since, whole_number,
};
use crate::listener::protocol::json;
use crate::listener::protocol::json::Members;
use crate::listener::protocol::target::Target;
use crate::text::position::Since;

/// The kind of a line.
#[derive(Debug)]
pub enum Line<'a> {
    /// An answer to the event with this id.
    Answer(u64, Fields<'a>),
    /// A command.
    Command(Fields<'a>),
    /// The echo of an `onResult` line, which is ignored.
    Ignored,
    /// A line that the protocol does not allow, and the reason.
    Fault(&'static str),
}

/// The keys of lines that mean something.
pub(crate) const KEYS: [&str; 19] = [
    "id",
    "event",
    "command",
    "message",
    "base64",
    "connections",
    "except",
    "channel",
    "join",
    "leave",
    "since",
    "reject",
    "reason",
    "protocol",
    "conn",
    "code",
    "limit",
    "after",
    "ref",
];

/// The known keys of a line. If a key comes twice, its last value counts, as in most JSON parsers.
#[derive(Debug, Default)]
pub struct Fields<'a> {
    message: Option<&'a RawValue>,
    base64: Option<&'a RawValue>,
    connections: Option<&'a RawValue>,
    except: Option<&'a RawValue>,
    join: Option<&'a RawValue>,
    leave: Option<&'a RawValue>,
    reject: Option<&'a RawValue>,
    protocol: Option<&'a RawValue>,
    reference: Option<&'a RawValue>,
    pub(super) channel: Option<&'a RawValue>,
    pub(super) since: Option<&'a RawValue>,
    pub(super) reason: Option<&'a RawValue>,
    pub(super) command: Option<&'a RawValue>,
    pub(super) conn: Option<&'a RawValue>,
    pub(super) code: Option<&'a RawValue>,
    pub(super) limit: Option<&'a RawValue>,
    pub(super) after: Option<&'a RawValue>,
}

/// The id at the front of a line that begins as the gateway's own lines do, and the rest of the line.
/// With it an echo is recognized without a JSON parser.
pub fn leading_id(line: &[u8]) -> Option<(u64, &[u8])> {
    let rest = line.strip_prefix(b"{\"id\":")?;
    // 16 digits hold every id below 2^53.
    let digits = rest.iter().take(17).take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 || digits > 16 || rest[0] == b'0' {
        return None;
    }
    let (number, rest) = rest.split_at(digits);
    let id = number.iter().fold(0u64, |id, digit| id * 10 + u64::from(digit - b'0'));
    Some((id, rest))
}

/// Parses a line, which is given without its newline.
pub fn parse(line: &[u8]) -> Line<'_> {
    let Ok(text) = std::str::from_utf8(line) else {
        return Line::Fault("it is not UTF-8");
    };
    let Ok(Members(members)) = serde_json::from_str::<Members<'_>>(text) else {
        return Line::Fault("it is not a JSON object");
    };
    let mut fields = Fields::default();
    let (mut id, mut event) = (None, None);
    for (key, value) in members {
        let place = match key.as_ref() {
            "id" => &mut id,
            "event" => &mut event,
            "command" => &mut fields.command,
            "message" => &mut fields.message,
            "base64" => &mut fields.base64,
            "connections" => &mut fields.connections,
            "except" => &mut fields.except,
            "channel" => &mut fields.channel,
            "join" => &mut fields.join,
            "leave" => &mut fields.leave,
            "since" => &mut fields.since,
            "reject" => &mut fields.reject,
            "reason" => &mut fields.reason,
            "protocol" => &mut fields.protocol,
            "conn" => &mut fields.conn,
            "code" => &mut fields.code,
            "limit" => &mut fields.limit,
            "after" => &mut fields.after,
            "ref" => &mut fields.reference,
            _ => continue,
        };
        *place = Some(value);
    }
    if present(fields.command).is_some() {
        return Line::Command(fields);
    }
    if event.and_then(json::as_str).is_some_and(|e| e == "onResult") {
        return Line::Ignored;
    }
    match present(id) {
        None => Line::Fault("it has neither an id nor a command"),
        Some(id) => match whole_number(id) {
            Some(id) => Line::Answer(id, fields),
            None => Line::Fault("its id is not a whole number"),
        },
    }
}

/// The message body in an answer or a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewBody<'a> {
    /// A text message.
    Text(Cow<'a, str>),
    /// A binary message.
    Binary(Vec<u8>),
}

/// The recipients that an answer or a command names; `None` where the key is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecipientLists {
    /// The recipients.
    pub target: Option<Target>,
    /// The names that are taken off the recipients.
    pub except: Option<Vec<String>>,
}

/// What an answer or a command changes about the channels of a connection. It leaves first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelChange {
    /// The channels that it leaves.
    pub leave: ChannelSet,
    /// The channels that it joins.
    pub join: ChannelSet,
    /// What it is sent of the history of those that it joins.
    pub since: Option<Since>,
}

/// An answer to `onMessage`.
#[derive(Debug, PartialEq, Eq)]
pub struct MessageAnswer<'a> {
    /// The new body; `None` leaves the event's body as it is.
    pub body: Option<NewBody<'a>>,
    /// Who gets the message.
    pub lists: RecipientLists,
    /// What becomes of the sender's channels.
    pub change: ChannelChange,
}

/// An answer to `onHandshake`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandshakeAnswer {
    /// Accept.
    Accept {
        /// The subprotocol, if the listener chose one.
        protocol: Option<String>,
        /// The first channels, if the listener chose them.
        join: Option<ChannelSet>,
        /// What the client is sent of the history, if the client itself asks for nothing.
        since: Option<Since>,
    },
    /// Refuse with this status (400 to 599) and text body.
    Reject(u16, String),
}

impl<'a> Fields<'a> {
    /// Reads an answer to `onMessage`; `binary` says whether the event's message is binary.
    ///
    /// # Errors
    /// The listener's fault, for the log.
    pub fn message(&self, binary: bool) -> Result<MessageAnswer<'a>, String> {
        let lists = self.recipient_lists()?;
        let mut body = self.body()?;
        // A binary event has an empty `message` beside its `base64`. Its echo is not a text.
        let empty = matches!(&body, Some(NewBody::Text(text)) if text.is_empty());
        if binary && empty {
            body = None;
        }
        Ok(MessageAnswer { body, lists, change: self.channel_change()? })
    }

    /// Whether the line says anything about the channels of its connection.
    pub fn changes_channels(&self) -> bool {
        self.join.is_some() || self.leave.is_some() || self.since.is_some()
    }

    /// Reads what an answer changes about the channels of its connection.
    ///
    /// # Errors
    /// The listener's fault, for the log.
    pub fn channel_change(&self) -> Result<ChannelChange, String> {
        let set = |raw: Option<&RawValue>, key: &str| -> Result<ChannelSet, String> {
            raw.map_or_else(
                || Ok(ChannelSet::default()),
                |raw| Ok(ChannelSet::new(channels(raw, key)?)),
            )
        };
        Ok(ChannelChange {
            leave: set(self.leave, "leave")?,
            join: set(self.join, "join")?,
            since: self.since.map(since).transpose()?,
        })
    }

    /// Reads an answer to `onHandshake`.
    ///
    /// # Errors
    /// The listener's fault, for the log. A faulty answer never accepts.
    pub fn handshake(&self) -> Result<HandshakeAnswer, String> {
        if let Some(reject) = self.reject.filter(|r| r.get() != "null") {
            let status = whole_number(reject).filter(|s| (400..=599).contains(s));
            let Some(status) = status.and_then(|s| u16::try_from(s).ok()) else {
                return Err("\"reject\" is not a status from 400 to 599".to_owned());
            };
            let reason = match present(self.reason) {
                None => String::new(),
                Some(raw) => json::as_str(raw).ok_or("\"reason\" is not a string")?.into_owned(),
            };
            return Ok(HandshakeAnswer::Reject(status, reason));
        }
        let protocol = match present(self.protocol) {
            None => None,
            Some(raw) => {
                Some(json::as_str(raw).ok_or("\"protocol\" is not a string")?.into_owned())
            }
        };
        let change = self.channel_change()?;
        let (join, since) = (self.join.map(|_| change.join), change.since);
        Ok(HandshakeAnswer::Accept { protocol, join, since })
    }

    /// The `ref` of a command as compact JSON; null is a `ref` too.
    pub fn reference(&self) -> Option<String> {
        self.reference.map(|raw| json::compact(raw.get()))
    }

    pub(super) fn body(&self) -> Result<Option<NewBody<'a>>, String> {
        if let Some(raw) = present(self.base64) {
            return Ok(Some(NewBody::Binary(base64_bytes(raw)?.1)));
        }
        match present(self.message) {
            None => Ok(None),
            Some(raw) => Ok(Some(NewBody::Text(message_text(raw)?))),
        }
    }

    pub(super) fn recipient_lists(&self) -> Result<RecipientLists, String> {
        Ok(RecipientLists {
            target: Target::read(self.connections, self.channel)?,
            except: self.except.map(|raw| names(raw, "except")).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::listener::protocol::channel::Channel;

    fn answer(line: &str) -> (u64, Fields<'_>) {
        match parse(line.as_bytes()) {
            Line::Answer(id, fields) => (id, fields),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn text(text: &str) -> Option<NewBody<'_>> {
        Some(NewBody::Text(Cow::Borrowed(text)))
    }

    #[test]
    fn answers_are_parsed() {
        let (id, fields) = answer(r#"{"id":3}"#);
        assert_eq!(id, 3);
        let unchanged = fields.message(false).unwrap();
        let (lists, change) = (RecipientLists::default(), ChannelChange::default());
        assert_eq!(unchanged, MessageAnswer { body: None, lists, change });

        assert_eq!(answer(r#"{"id":3,"message":"HI"}"#).1.message(false).unwrap().body, text("HI"));
        assert_eq!(
            answer(r#"{"id":3,"base64":"AAEC","message":"x"}"#).1.message(false).unwrap().body,
            Some(NewBody::Binary(vec![0, 1, 2]))
        );
        let (_, fields) = answer(r#"{"id":3,"connections":["k3","k9"],"except":["k3"]}"#);
        assert_eq!(
            fields.message(false).unwrap().lists,
            RecipientLists {
                target: Some(Target::Connections(vec!["k3".into(), "k9".into()])),
                except: Some(vec!["k3".into()])
            }
        );
        assert_eq!(
            answer(r#"{"id":1,"reject":401,"reason":"no token"}"#).1.handshake(),
            Ok(HandshakeAnswer::Reject(401, "no token".into()))
        );
        assert_eq!(
            answer(r#"{"id":1,"protocol":"json"}"#).1.handshake(),
            Ok(HandshakeAnswer::Accept { protocol: Some("json".into()), join: None, since: None })
        );
        assert_eq!(
            answer(r#"{"id":1}"#).1.handshake(),
            Ok(HandshakeAnswer::Accept { protocol: None, join: None, since: None })
        );
    }

    #[test]
    fn a_message_of_another_type_is_sent_as_compact_json() {
        for (line, sent) in [
            (r#"{"id":3,"message":{"a": [1.50, "b c"]}}"#, r#"{"a":[1.50,"b c"]}"#),
            (r#"{"id":3,"message":7}"#, "7"),
            (r#"{"id":3,"message":false}"#, "false"),
        ] {
            assert_eq!(answer(line).1.message(false).unwrap().body, text(sent));
        }
        assert_eq!(answer(r#"{"id":3,"message":null}"#).1.message(false).unwrap().body, None);
    }

    #[test]
    fn an_empty_message_leaves_a_binary_event_unchanged() {
        let line = r#"{"id":3,"message":""}"#;
        assert_eq!(answer(line).1.message(false).unwrap().body, text(""));
        assert_eq!(answer(line).1.message(true).unwrap().body, None);
    }

    #[test]
    fn a_wrong_recipient_list_never_becomes_a_broadcast() {
        for bad in ["null", "\"k3\"", "7", "{}", "[3]", "[null]", "[[\"k3\"]]", "true"] {
            for key in ["connections", "except"] {
                let line = format!("{{\"id\":3,\"{key}\":{bad}}}");
                assert!(answer(&line).1.message(false).is_err(), "{line}");
            }
        }
    }

    fn set(names: &[&str]) -> ChannelSet {
        ChannelSet::new(names.iter().map(|name| Channel::parse(name).unwrap()).collect())
    }

    #[test]
    fn an_answer_names_channels_as_a_string_or_an_array() {
        let line = r#"{"id":3,"leave":"lobby","join":["b","a","b"],"since":3}"#;
        let change = answer(line).1.message(false).unwrap().change;
        let since = Some(Since::Newest(3));
        assert_eq!(change, ChannelChange { leave: set(&["lobby"]), join: set(&["a", "b"]), since });
        let position = Since::parse("q7Zk2pYa-1040").unwrap();
        let line = r#"{"id":3,"since":"q7Zk2pYa-1040","join":[]}"#;
        let change = answer(line).1.channel_change().unwrap();
        assert_eq!((change.join, change.since), (set(&[]), Some(position)));
        assert!(answer(line).1.changes_channels());
        assert!(!answer(r#"{"id":3,"channel":"a"}"#).1.changes_channels());

        for (channel, names) in
            [(r#""b""#, vec!["b"]), (r#"["b","a"]"#, vec!["b", "a"]), ("[]", vec![])]
        {
            let line = format!("{{\"id\":3,\"channel\":{channel}}}");
            let channels = names.iter().map(|name| Channel::parse(name).unwrap()).collect();
            let target = answer(&line).1.message(false).unwrap().lists.target;
            assert_eq!(target, Some(Target::Channels(channels)));
        }
        for (join, first) in
            [(r#""b""#, set(&["b"])), (r#"["b","a"]"#, set(&["a", "b"])), ("[]", set(&[]))]
        {
            let line = format!("{{\"id\":1,\"join\":{join}}}");
            let accepted =
                HandshakeAnswer::Accept { protocol: None, join: Some(first), since: None };
            assert_eq!(answer(&line).1.handshake(), Ok(accepted));
        }
    }

    #[test]
    fn wrong_channels_are_faults() {
        for bad in [
            "null",
            "7",
            "{}",
            "true",
            "[3]",
            "[null]",
            "[[\"a\"]]",
            "\"\"",
            "\"a b\"",
            "[\"a\",\"\"]",
            r#""\ud800""#,
        ] {
            for key in ["channel", "join", "leave"] {
                let line = format!("{{\"id\":3,\"{key}\":{bad}}}");
                assert!(answer(&line).1.message(false).is_err(), "{line}");
            }
        }
        for bad in ["null", "-1", "1.5", "\"\"", "\"x\"", "[1]", "true"] {
            let line = format!("{{\"id\":3,\"join\":\"a\",\"since\":{bad}}}");
            assert!(answer(&line).1.message(false).is_err(), "{line}");
        }
        let both = r#"{"id":3,"connections":["k3"],"channel":"a"}"#;
        assert!(answer(both).1.message(false).is_err());
    }

    #[test]
    fn bad_base64_and_lone_surrogates_are_faults() {
        for bad in [
            r#"{"id":3,"base64":"AAE"}"#,
            r#"{"id":3,"base64":"AA-_"}"#,
            r#"{"id":3,"base64":7}"#,
            r#"{"id":3,"message":"\ud800"}"#,
        ] {
            assert!(answer(bad).1.message(false).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bad_handshake_answer_never_accepts() {
        for bad in ["399", "600", "\"401\"", "true", "401.5", "-1", "{}"] {
            let line = format!("{{\"id\":1,\"reject\":{bad}}}");
            assert!(answer(&line).1.handshake().is_err(), "{line}");
        }
        for bad in [r#""protocol":7"#, r#""join":null"#, r#""join":["a b"]"#, r#""since":"x""#] {
            assert!(answer(&format!("{{\"id\":1,{bad}}}")).1.handshake().is_err(), "{bad}");
        }
    }

    #[test]
    fn lines_that_are_faults_or_ignored() {
        for bad in
            ["", "hello", "[1]", "7", "{}", r#"{"id":null}"#, r#"{"id":"3"}"#, r#"{"id":1.5}"#]
        {
            assert!(matches!(parse(bad.as_bytes()), Line::Fault(_)), "{bad}");
        }
        assert!(matches!(parse(b"{\"id\":1,\"message\":\"\xff\"}"), Line::Fault(_)));
        assert!(matches!(parse(br#"{"event":"onResult","ref":7}"#), Line::Ignored));
        assert!(matches!(
            parse(br#"{"event":"onResult","command":"send","message":"x"}"#),
            Line::Command(_)
        ));
        assert_eq!(answer(r#" { "message" : "x", "id" : 3.0 } "#).0, 3);
    }

    #[test]
    fn the_leading_id_is_read_only_in_the_form_of_the_gateway() {
        assert_eq!(leading_id(b"{\"id\":42,\"x\":1}"), Some((42, &b",\"x\":1}"[..])));
        assert_eq!(leading_id(b"{\"id\":42"), Some((42, &b""[..])));
        for other in
            [&b"{ \"id\":42}"[..], b"{\"id\":}", b"{\"id\":-1}", b"{\"id\":99999999999999999}"]
        {
            assert_eq!(leading_id(other), None);
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line: Vec<u8>) {
            match parse(&line) {
                Line::Answer(_, fields) => {
                    let _ = fields.message(true);
                    let _ = fields.handshake();
                }
                Line::Command(_) | Line::Ignored | Line::Fault(_) => {}
            }
        }
    }
}
