//! Parses the lines that a listener writes: answers and commands. Strings without escapes are not
//! copied.
//!
//! [`parse`] finds out the kind of a line. The meaning of an answer's keys depends on the event that it
//! answers, so their values stay raw until [`Fields::message`] or [`Fields::handshake`] reads them.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::listener::protocol::fields::{base64_bytes, message_text, names, present, whole_number};
use crate::listener::protocol::json;
use crate::listener::protocol::json::Members;
use crate::ws::close;

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

/// The known keys of a line. If a key comes twice, its last value counts, as in most JSON parsers.
#[derive(Debug, Default)]
pub struct Fields<'a> {
    message: Option<&'a RawValue>,
    base64: Option<&'a RawValue>,
    connections: Option<&'a RawValue>,
    except: Option<&'a RawValue>,
    reject: Option<&'a RawValue>,
    reason: Option<&'a RawValue>,
    protocol: Option<&'a RawValue>,
    command: Option<&'a RawValue>,
    conn: Option<&'a RawValue>,
    code: Option<&'a RawValue>,
    reference: Option<&'a RawValue>,
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
            "reject" => &mut fields.reject,
            "reason" => &mut fields.reason,
            "protocol" => &mut fields.protocol,
            "conn" => &mut fields.conn,
            "code" => &mut fields.code,
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

/// The `connections` and `except` of an answer or a command; `None` if the key is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecipientLists {
    /// The names of the recipients.
    pub connections: Option<Vec<String>>,
    /// The names that are taken off the recipients.
    pub except: Option<Vec<String>>,
}

/// An answer to `onMessage`.
#[derive(Debug, PartialEq, Eq)]
pub struct MessageAnswer<'a> {
    /// The new body; `None` leaves the event's body as it is.
    pub body: Option<NewBody<'a>>,
    /// Who gets the message.
    pub lists: RecipientLists,
}

/// An answer to `onHandshake`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandshakeAnswer {
    /// Accept, with the subprotocol if the listener chose one.
    Accept(Option<String>),
    /// Refuse with this status (400 to 599) and text body.
    Reject(u16, String),
}

/// A command.
#[derive(Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Send a message to connections.
    Send {
        /// The message.
        body: NewBody<'a>,
        /// Who gets the message.
        lists: RecipientLists,
    },
    /// Close a connection.
    Close {
        /// The name of the connection; it may name none.
        conn: String,
        /// A close code that may be sent.
        code: u16,
        /// The reason in full; the sender cuts it to the 123 bytes that fit.
        reason: String,
    },
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
        Ok(MessageAnswer { body, lists })
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
        Ok(HandshakeAnswer::Accept(protocol))
    }

    /// Reads a command.
    ///
    /// # Errors
    /// The listener's fault, for the log and for the result line.
    pub fn command(&self) -> Result<Command<'a>, String> {
        let name =
            present(self.command).and_then(json::as_str).ok_or("\"command\" is not a string")?;
        match name.as_ref() {
            "send" => Ok(Command::Send {
                body: self.body()?.ok_or("\"send\" needs a message or base64")?,
                lists: self.recipient_lists()?,
            }),
            "close" => {
                let conn = present(self.conn)
                    .and_then(json::as_str)
                    .ok_or("\"close\" needs a conn, a string")?
                    .into_owned();
                let code = match present(self.code) {
                    None => close::NORMAL,
                    Some(raw) => whole_number(raw)
                        .and_then(|c| u16::try_from(c).ok())
                        .filter(|c| close::may_be_sent(*c))
                        .ok_or_else(|| format!("close code {} may not be sent", raw.get()))?,
                };
                let reason = match present(self.reason) {
                    None => String::new(),
                    Some(raw) => {
                        json::as_str(raw).ok_or("\"reason\" is not a string")?.into_owned()
                    }
                };
                Ok(Command::Close { conn, code, reason })
            }
            other => Err(format!("unknown command {other:?}; the commands are send and close")),
        }
    }

    /// The `ref` of a command as compact JSON; null is a `ref` too.
    pub fn reference(&self) -> Option<String> {
        self.reference.map(|raw| json::compact(raw.get()))
    }

    fn body(&self) -> Result<Option<NewBody<'a>>, String> {
        if let Some(raw) = present(self.base64) {
            return Ok(Some(NewBody::Binary(base64_bytes(raw)?.1)));
        }
        match present(self.message) {
            None => Ok(None),
            Some(raw) => Ok(Some(NewBody::Text(message_text(raw)?))),
        }
    }

    fn recipient_lists(&self) -> Result<RecipientLists, String> {
        Ok(RecipientLists {
            connections: self.connections.map(|raw| names(raw, "connections")).transpose()?,
            except: self.except.map(|raw| names(raw, "except")).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        assert_eq!(unchanged, MessageAnswer { body: None, lists: RecipientLists::default() });

        assert_eq!(answer(r#"{"id":3,"message":"HI"}"#).1.message(false).unwrap().body, text("HI"));
        assert_eq!(
            answer(r#"{"id":3,"base64":"AAEC","message":"x"}"#).1.message(false).unwrap().body,
            Some(NewBody::Binary(vec![0, 1, 2]))
        );
        let (_, fields) = answer(r#"{"id":3,"connections":["k3","k9"],"except":["k3"]}"#);
        assert_eq!(
            fields.message(false).unwrap().lists,
            RecipientLists {
                connections: Some(vec!["k3".into(), "k9".into()]),
                except: Some(vec!["k3".into()])
            }
        );
        assert_eq!(
            answer(r#"{"id":1,"reject":401,"reason":"no token"}"#).1.handshake(),
            Ok(HandshakeAnswer::Reject(401, "no token".into()))
        );
        assert_eq!(
            answer(r#"{"id":1,"protocol":"json"}"#).1.handshake(),
            Ok(HandshakeAnswer::Accept(Some("json".into())))
        );
        assert_eq!(answer(r#"{"id":1}"#).1.handshake(), Ok(HandshakeAnswer::Accept(None)));
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
        assert!(answer(r#"{"id":1,"protocol":7}"#).1.handshake().is_err());
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
    fn commands_are_parsed() {
        let command = |line: &'static str| match parse(line.as_bytes()) {
            Line::Command(fields) => fields.command(),
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(
            command(r#"{"command":"send","message":"tick"}"#),
            Ok(Command::Send { body: text("tick").unwrap(), lists: RecipientLists::default() })
        );
        assert_eq!(
            command(r#"{"command":"close","conn":"k3","code":4001,"reason":"kicked"}"#),
            Ok(Command::Close { conn: "k3".into(), code: 4001, reason: "kicked".into() })
        );
        assert!(matches!(
            command(r#"{"command":"close","conn":"k3"}"#),
            Ok(Command::Close { code: 1000, .. })
        ));
        for bad in [
            r#"{"command":"send"}"#,
            r#"{"command":"send","message":null}"#,
            r#"{"command":"send","message":"x","connections":null}"#,
            r#"{"command":"close"}"#,
            r#"{"command":"close","conn":"k3","code":1005}"#,
            r#"{"command":"close","conn":"k3","code":"4001"}"#,
            r#"{"command":"dance"}"#,
            r#"{"command":7}"#,
        ] {
            assert!(command(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_ref_may_be_any_json_value() {
        let reference = |line: &'static str| match parse(line.as_bytes()) {
            Line::Command(fields) => fields.reference(),
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(reference(r#"{"command":"x"}"#), None);
        assert_eq!(reference(r#"{"command":"x","ref":null}"#).as_deref(), Some("null"));
        assert_eq!(
            reference(r#"{"command":"x","ref":{"a": [1]}}"#).as_deref(),
            Some(r#"{"a":[1]}"#)
        );
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
                Line::Command(fields) => {
                    let _ = fields.command();
                }
                Line::Ignored | Line::Fault(_) => {}
            }
        }
    }
}
