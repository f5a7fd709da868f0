//! The frames of the subprotocol `wsgw.v1`, as a client reads them: one JSON object for each text
//! message of the server. Keys that are not known are ignored, and so are frames without a known one.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The longest position that is kept, in bytes.
const LONGEST_POSITION: usize = 200;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The first frame of a connection.
    Hello {
        /// Where the client is before what follows; `None`: the server keeps no history.
        at: Option<String>,
        /// Whether everything since the position that the client gave follows.
        recovered: Option<bool>,
    },
    /// A message.
    Message {
        /// What was sent.
        body: Body,
        /// Its position; `None` where it has none.
        at: Option<String>,
    },
    /// Something that a client of bodies needs not know: channels joined, and who came and went.
    Other,
}

/// What a message holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Of a text message.
    Text(String),
    /// Of a binary message.
    Binary(Vec<u8>),
}

/// The keys that decide; a key with the value null counts as absent.
#[derive(Deserialize)]
struct Keys<'a> {
    #[serde(borrow)]
    hello: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    base64: Option<&'a RawValue>,
    #[serde(borrow)]
    at: Option<&'a RawValue>,
    #[serde(borrow)]
    recovered: Option<&'a RawValue>,
}

/// Reads a frame. Nested values of keys that are not known take no stack and no memory.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<Frame, String> {
    // Without this an array would be read as the keys in their order.
    if !text.trim_ascii_start().starts_with('{') {
        return Err("a frame must be a JSON object".to_owned());
    }
    let keys: Keys<'_> =
        serde_json::from_str(text).map_err(|e| format!("a frame is not valid JSON: {e}"))?;
    if let Some(hello) = keys.hello {
        if !hello.get().bytes().all(|b| b.is_ascii_digit()) {
            return Err("\"hello\" must be a whole number".to_owned());
        }
        return Ok(Frame::Hello { at: position(keys.at)?, recovered: boolean(keys.recovered)? });
    }
    let body = match (keys.base64, keys.message) {
        (None, None) => return Ok(Frame::Other),
        // As in answers of a listener, base64 wins.
        (Some(base64), _) => {
            let bytes = STANDARD.decode(string("base64", base64)?.as_bytes());
            Body::Binary(bytes.map_err(|e| format!("\"base64\" is not valid base64: {e}"))?)
        }
        (None, Some(message)) => Body::Text(string("message", message)?.into_owned()),
    };
    Ok(Frame::Message { body, at: position(keys.at)? })
}

fn string<'a>(key: &str, raw: &'a RawValue) -> Result<Cow<'a, str>, String> {
    let raw = raw.get();
    if !raw.starts_with('"') {
        return Err(format!("\"{key}\" must be a string"));
    }
    if !raw.contains('\\') {
        // Nothing but the quotes around it.
        return Ok(Cow::Borrowed(&raw[1..raw.len() - 1]));
    }
    let text: Result<String, _> = serde_json::from_str(raw);
    text.map(Cow::Owned).map_err(|e| format!("\"{key}\" is not a valid string: {e}"))
}

fn boolean(raw: Option<&RawValue>) -> Result<Option<bool>, String> {
    match raw.map(RawValue::get) {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err("\"recovered\" must be true or false".to_owned()),
    }
}

/// A position is the server's own: nothing but its place in a URL and on a terminal is asked of it.
fn position(raw: Option<&RawValue>) -> Result<Option<String>, String> {
    let Some(raw) = raw else { return Ok(None) };
    let text = string("at", raw)?;
    if text.is_empty()
        || text.len() > LONGEST_POSITION
        || !text.bytes().all(|b| b.is_ascii_graphic())
    {
        return Err(format!(
            "\"at\" must be a position of 1 to {LONGEST_POSITION} visible ASCII characters"
        ));
    }
    Ok(Some(text.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: Body, at: Option<&str>) -> Frame {
        Frame::Message { body, at: at.map(str::to_owned) }
    }

    #[test]
    fn frames() {
        let text = |text: &str| Body::Text(text.to_owned());
        for (given, frame) in [
            (
                r#"{"hello":1,"conn":"k3","at":"q7Zk2pYa-1040","channels":["r"],"recovered":true}"#,
                Frame::Hello { at: Some("q7Zk2pYa-1040".to_owned()), recovered: Some(true) },
            ),
            (r#"{"hello":1,"conn":"k3"}"#, Frame::Hello { at: None, recovered: None }),
            (
                r#" {"new":{"x":[1]},"hello":1,"at":null,"recovered":false}"#,
                Frame::Hello { at: None, recovered: Some(false) },
            ),
            (
                r#"{"message":"a\n\u00e4","channel":"r","at":"q-1.2"}"#,
                message(text("a\nä"), Some("q-1.2")),
            ),
            (r#"{"message":"","x":1}"#, message(text(""), None)),
            (r#"{"base64":"AP8="}"#, message(Body::Binary(vec![0, 255]), None)),
            (r#"{"message":"","base64":"AP8="}"#, message(Body::Binary(vec![0, 255]), None)),
            (r#"{"joined":["room1"],"at":"q-7","recovered":false}"#, Frame::Other),
            (r#"{"join":"room1","conn":"k9","members":3}"#, Frame::Other),
            (r#"{"leave":7}"#, Frame::Other),
            ("{}", Frame::Other),
        ] {
            assert_eq!(parse(given), Ok(frame), "{given}");
        }
    }

    #[test]
    fn what_is_no_frame_is_said() {
        for (given, said) in [
            ("", "JSON object"),
            ("hi", "JSON object"),
            ("[1]", "JSON object"),
            (r#""x""#, "JSON object"),
            ("{", "not valid JSON"),
            ("{} {}", "not valid JSON"),
            (r#"{"message":"a","message":"b"}"#, "duplicate"),
            (r#"{"message":7}"#, "must be a string"),
            (r#"{"message":"\ud800"}"#, "valid string"),
            (r#"{"base64":"A"}"#, "base64"),
            (r#"{"base64":[]}"#, "must be a string"),
            (r#"{"hello":"1"}"#, "whole number"),
            (r#"{"hello":1,"at":7}"#, "must be a string"),
            (r#"{"hello":1,"at":""}"#, "position"),
            (r#"{"message":"x","at":"\u001b[2J"}"#, "position"),
            (r#"{"hello":1,"recovered":1}"#, "true or false"),
        ] {
            let why = parse(given).unwrap_err();
            assert!(why.contains(said), "{given}: {why}");
        }
        let long = format!(r#"{{"hello":1,"at":"{}"}}"#, "x".repeat(201));
        assert!(parse(&long).is_err());
    }

    #[test]
    fn nested_values_take_no_stack() {
        let deep = "[".repeat(1_000_000);
        assert!(parse(&format!(r#"{{"x":{deep}"#)).is_err());
        let whole = format!(r#"{{"x":{deep}{}}}"#, "]".repeat(1_000_000));
        assert_eq!(parse(&whole), Ok(Frame::Other));
        let message = format!(r#"{{"message":{deep}{}}}"#, "]".repeat(1_000_000));
        assert!(parse(&message).is_err());
    }
}
