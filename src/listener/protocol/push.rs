//! A push: the struct that `wsgw send` and the control port hand in, checked once.
//!
//! It must not be able to forge an answer or a command through a `cat`: the keys that mean
//! something in an answer's envelope are refused, and so is a key that comes twice.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::listener::protocol::json;
use crate::listener::protocol::json::Members;
use crate::ws::payload::Payload;

/// Keys that a push may not have.
const RESERVED: [&str; 8] =
    ["id", "event", "conn", "command", "ref", "source", "redelivered", "resumed"];

/// Bytes that the event's line has beside the members: id, event, conn, newline, and that it is
/// redelivered.
const ENVELOPE: usize = 80;

/// A checked push.
#[derive(Debug, Clone)]
pub struct Push {
    payload: Payload,
    members: Vec<u8>,
    connections: Option<Vec<String>>,
    except: Option<Vec<String>>,
}

impl Push {
    /// Checks a struct as it came over the control port.
    ///
    /// # Errors
    /// What is wrong with it, for a 400.
    pub fn parse(json: &[u8]) -> Result<Push, String> {
        let text = std::str::from_utf8(json).map_err(|_| "the struct is not UTF-8".to_owned())?;
        let Members(members) = serde_json::from_str::<Members<'_>>(text)
            .map_err(|e| format!("the struct is not a JSON object: {e}"))?;

        let (mut message, mut base64) = (None, None);
        let (mut connections, mut except) = (None, None);
        let mut rest = Vec::new();
        let mut seen = HashSet::with_capacity(members.len());
        for (key, value) in &members {
            if RESERVED.contains(&key.as_ref()) {
                return Err(format!("the key {key:?} is the gateway's own and cannot be pushed"));
            }
            if !seen.insert(key.as_ref()) {
                return Err(format!("the key {key:?} comes twice"));
            }
            match key.as_ref() {
                "message" if value.get() != "null" => {
                    message = Some(if value.get().starts_with('"') {
                        json::as_str(value)
                            .ok_or("\"message\" holds a lone surrogate")?
                            .into_owned()
                    } else {
                        json::compact(value.get())
                    });
                }
                "base64" if value.get() != "null" => {
                    let text = json::as_str(value).ok_or("\"base64\" is not a string")?;
                    let bytes = STANDARD
                        .decode(text.as_bytes())
                        .map_err(|e| format!("\"base64\" cannot be decoded: {e}"))?;
                    base64 = Some((text.into_owned(), bytes));
                }
                "message" | "base64" => {}
                "connections" => connections = Some(names(value.get(), key)?),
                "except" => except = Some(names(value.get(), key)?),
                _ => {
                    rest.push(b',');
                    json::push_str(&mut rest, key);
                    rest.push(b':');
                    json::push_compact(&mut rest, value.get());
                }
            }
        }
        if message.is_none() && base64.is_none() {
            return Err("the struct needs a \"message\" or a \"base64\"".to_owned());
        }

        let mut out = b",\"message\":".to_vec();
        json::push_str(&mut out, message.as_deref().unwrap_or(""));
        if let Some((text, _)) = &base64 {
            out.extend_from_slice(b",\"base64\":");
            json::push_str(&mut out, text);
        }
        out.extend_from_slice(b",\"source\":\"send\"");
        for (key, list) in [("connections", &connections), ("except", &except)] {
            if let Some(list) = list {
                out.push(b',');
                json::push_str(&mut out, key);
                out.push(b':');
                // A list of strings always serializes.
                let _ = serde_json::to_writer(&mut out, list);
            }
        }
        out.extend_from_slice(&rest);

        let payload = match (&base64, &message) {
            (Some((_, bytes)), _) => Payload::binary(bytes),
            (None, message) => Payload::text(message.as_deref().unwrap_or("")),
        };
        Ok(Push { payload, members: out, connections, except })
    }

    /// The message.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// The members of its event, with a comma in front of each.
    pub fn members(&self) -> &[u8] {
        &self.members
    }

    /// Its own `connections`.
    pub fn connections(&self) -> Option<&[String]> {
        self.connections.as_deref()
    }

    /// Its own `except`.
    pub fn except(&self) -> Option<&[String]> {
        self.except.as_deref()
    }

    /// Bytes that its event's line can have, counted against `max-line`.
    pub fn line_size(&self) -> usize {
        self.members.len() + ENVELOPE
    }

    /// Bytes of memory that it holds while it waits.
    pub fn size(&self) -> usize {
        self.members.len() + self.payload.cost()
    }
}

fn names(raw: &str, key: &str) -> Result<Vec<String>, String> {
    serde_json::from_str::<Vec<String>>(raw)
        .map_err(|_| format!("\"{key}\" is not an array of strings"))
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
    fn a_push_becomes_the_contracts_line() {
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
    fn what_could_forge_an_answer_is_refused() {
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
        fn whatever_is_taken_is_one_line_within_its_size(message: String, key in "[a-z\\\\\"\n]{0,6}") {
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
