//! A push: the struct that a program hands in with `wsgw send` or over the control port.
//!
//! A listener such as `cat` echoes the struct, so it must not be able to forge an answer or a command.
//! Keys that the gateway gives a meaning there are refused, and so is a key that comes twice.

use std::collections::HashSet;

use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::fields::{base64_bytes, message_text, names, present};
use crate::listener::protocol::json;
use crate::listener::protocol::json::Members;
use crate::listener::protocol::target::Target;
use crate::ws::payload::Payload;

/// Keys that a push must not have.
const RESERVED: [&str; 12] = [
    "id",
    "event",
    "conn",
    "command",
    "ref",
    "source",
    "redelivered",
    "resumed",
    "join",
    "leave",
    "since",
    "channels",
];

/// The most bytes that the event's line has beside the members: its id, event, conn and newline, and
/// the mark of a redelivery.
const ENVELOPE: usize = 80;

/// A checked push.
#[derive(Debug, Clone)]
pub struct Push {
    payload: Payload,
    members: Vec<u8>,
    target: Option<Target>,
    except: Option<Vec<String>>,
}

impl Push {
    /// Checks a struct as it came over the control port.
    ///
    /// # Errors
    /// What is wrong with the struct, as the text of a 400.
    pub fn parse(json: &[u8]) -> Result<Push, String> {
        let text = std::str::from_utf8(json).map_err(|_| "the struct is not UTF-8".to_owned())?;
        let Members(members) = serde_json::from_str::<Members<'_>>(text)
            .map_err(|e| format!("the struct is not a JSON object: {e}"))?;

        let (mut message, mut base64) = (None, None);
        let (mut connections, mut channel, mut except) = (None, None, None);
        let mut rest = Vec::new();
        let mut seen = HashSet::with_capacity(members.len());
        for (key, value) in &members {
            if RESERVED.contains(&key.as_ref()) {
                return Err(format!("the key {key:?} belongs to the gateway and cannot be pushed"));
            }
            if !seen.insert(key.as_ref()) {
                return Err(format!("the key {key:?} comes twice"));
            }
            let present = present(Some(value));
            match key.as_ref() {
                "message" => message = present.map(message_text).transpose()?,
                "base64" => base64 = present.map(base64_bytes).transpose()?,
                "connections" => connections = Some(*value),
                "channel" => channel = Some(*value),
                "except" => except = Some(names(value, key)?),
                _ => push_member(&mut rest, key, |out| json::push_compact(out, value.get())),
            }
        }
        if message.is_none() && base64.is_none() {
            return Err("the struct needs a \"message\" or a \"base64\"".to_owned());
        }

        let target = Target::read(connections, channel)?;

        let message = message.unwrap_or_default();
        let mut out = Vec::new();
        push_member(&mut out, "message", |out| json::push_str(out, &message));
        if let Some((text, _)) = &base64 {
            push_member(&mut out, "base64", |out| json::push_str(out, text));
        }
        push_member(&mut out, "source", |out| json::push_str(out, "send"));
        let connections = match &target {
            Some(Target::Connections(names)) => Some(names),
            Some(Target::Channels(_)) | None => None,
        };
        for (key, list) in [("connections", connections), ("except", except.as_ref())] {
            if let Some(list) = list {
                // A list of strings always serializes, and writing to a Vec cannot fail.
                push_member(&mut out, key, |out| drop(serde_json::to_writer(out, list)));
            }
        }
        if let Some(channel) = channel {
            push_member(&mut out, "channel", |out| json::push_compact(out, channel.get()));
        }
        out.extend_from_slice(&rest);

        let payload = match &base64 {
            Some((_, bytes)) => Payload::binary(bytes),
            None => Payload::text(&message),
        };
        Ok(Push { payload, members: out, target, except })
    }

    /// The message as it is sent if the listener does not change it.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// The members of its event from `message` on, with a comma in front of each.
    pub fn members(&self) -> &[u8] {
        &self.members
    }

    /// Whom the struct names as recipients.
    pub fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// The `connections` that the struct lists.
    pub fn connections(&self) -> Option<&[String]> {
        match &self.target {
            Some(Target::Connections(names)) => Some(names),
            Some(Target::Channels(_)) | None => None,
        }
    }

    /// The channels that the struct lists in `channel`.
    pub fn channels(&self) -> Option<&[Channel]> {
        match &self.target {
            Some(Target::Channels(channels)) => Some(channels),
            Some(Target::Connections(_)) | None => None,
        }
    }

    /// The `except` that the struct lists.
    pub fn except(&self) -> Option<&[String]> {
        self.except.as_deref()
    }

    /// The most bytes that its event's line can have, which count against `max-line`.
    pub fn line_size(&self) -> usize {
        self.members.len() + ENVELOPE
    }

    /// Bytes of memory that the push holds while it waits.
    pub(crate) fn size(&self) -> usize {
        self.members.len() + self.payload.cost()
    }
}

/// Appends a member with a comma in front; `write` appends its value.
fn push_member(out: &mut Vec<u8>, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b',');
    json::push_str(out, key);
    out.push(b':');
    write(out);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::listener::protocol::event;

    fn line(json: &str) -> String {
        let mut out = Vec::new();
        event::push(&mut out, 5, Push::parse(json.as_bytes()).unwrap().members());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_push_becomes_one_event_line() {
        assert_eq!(
            line(r#"{"message":"backup done"}"#),
            concat!(
                r#"{"id":5,"event":"onMessage","conn":null,"message":"backup done","#,
                r#""source":"send"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn its_own_keys_pass_through_without_a_raw_newline() {
        let line =
            line("{\"message\":\"x\",\n \"room\" : { \"a\":\n 1.0 },\"connections\":[\"k3\"]}");
        assert!(
            line.ends_with("\"source\":\"send\",\"connections\":[\"k3\"],\"room\":{\"a\":1.0}}\n")
        );
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn its_channels_pass_through() {
        for (written, names) in
            [(r#""room1""#, vec!["room1"]), (r#"["b", "a"]"#, vec!["b", "a"]), ("[ ]", Vec::new())]
        {
            let json = format!("{{\"channel\":{written},\"message\":\"x\"}}");
            let push = Push::parse(json.as_bytes()).unwrap();
            let channels: Vec<&str> =
                push.channels().unwrap().iter().map(Channel::as_str).collect();
            assert_eq!(channels, names);
            assert_eq!(push.connections(), None);
            let end = format!(",\"channel\":{}}}\n", json::compact(written));
            assert!(line(&json).ends_with(&end), "{written}");
        }
    }

    #[test]
    fn a_push_that_could_forge_an_answer_is_refused() {
        for bad in [
            r#"{"message":"x","id":1}"#,
            r#"{"message":"x","command":"close"}"#,
            r#"{"message":"x","\u0063ommand":"close"}"#,
            r#"{"message":"x","source":null}"#,
            r#"{"message":"x","message":"y"}"#,
            r#"{"message":"x","a":1,"\u0061":2}"#,
            r#"{"message":"x","resumed":true}"#,
            r#"{"message":"x","connections":null}"#,
            r#"{"message":"x","except":"k3"}"#,
            r#"{"message":"x","channel":null}"#,
            r#"{"message":"x","channel":7}"#,
            r#"{"message":"x","channel":["a",null]}"#,
            r#"{"message":"x","channel":"a b"}"#,
            r#"{"message":"x","channel":"a","connections":[]}"#,
            r#"{"message":"x","channel":"a","\u0063hannel":"b"}"#,
            r#"{"message":"\ud800"}"#,
            r#"{"base64":"!"}"#,
            r#"{"room":"x"}"#,
            r#"{"message":null}"#,
            r#"[]"#,
            "",
            "{\"message\":\"x\"} {}",
        ] {
            assert!(Push::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_accepted_push_is_one_line_within_its_size(message: String, key in "[a-z\\\\\"\n]{0,6}") {
            let json = serde_json::json!({"message": message, format!("x-{key}"): 1}).to_string();
            let push = Push::parse(json.as_bytes()).unwrap();
            let mut out = Vec::new();
            event::push(&mut out, (1 << 53) - 1, push.members());
            prop_assert_eq!(out.iter().filter(|b| **b == b'\n').count(), 1);
            prop_assert!(out.len() <= push.line_size());
            let back: serde_json::Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(&back["message"], &serde_json::Value::String(message));
            prop_assert_eq!(&back["conn"], &serde_json::Value::Null);
        }
    }
}
