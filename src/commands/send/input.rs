//! The message of `wsgw send`: from the command line or from stdin, never waiting for a person.

use std::io::{IsTerminal, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::api::MAX_STRUCT;
use crate::cli::SendArgs;
use crate::error::Failure;
use crate::listener::protocol::json;

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Payload {
    /// Text.
    Text(String),
    /// Base64 of a binary message.
    Base64(String),
}

impl Payload {
    /// The message given on the command line.
    pub(super) fn from_text(args: &SendArgs, text: &str) -> Result<Payload, Failure> {
        Ok(if args.base64 {
            Payload::Base64(without_white_space(text))
        } else {
            Payload::Text(text.to_owned())
        })
    }

    /// The message on stdin; `explicit` (a `-`) may be empty, and typed at a terminal.
    pub(super) fn from_stdin(args: &SendArgs, explicit: bool) -> Result<Payload, Failure> {
        let stdin = std::io::stdin();
        if stdin.is_terminal() && !explicit {
            return Err(Failure::usage(
                "no message: give one (`wsgw send hello`), or pipe one in (`date | wsgw send`)",
            ));
        }
        let mut bytes = Vec::new();
        // One more than can be sent, so that an endless input ends here.
        stdin
            .lock()
            .take(MAX_STRUCT as u64 + 2)
            .read_to_end(&mut bytes)
            .map_err(|e| Failure::other(format!("cannot read stdin: {e}")))?;
        if bytes.len() > MAX_STRUCT {
            return Err(Failure::other(format!(
                "the message on stdin is too large: {} MiB are the limit",
                MAX_STRUCT >> 20
            )));
        }
        Payload::from_bytes(args, bytes, explicit)
    }

    fn from_bytes(args: &SendArgs, mut bytes: Vec<u8>, explicit: bool) -> Result<Payload, Failure> {
        if !args.binary && bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        if bytes.is_empty() && !explicit {
            return Err(Failure::usage(
                "no message: stdin is empty (`wsgw send -` sends an empty message)",
            ));
        }
        if args.binary {
            return Ok(Payload::Base64(STANDARD.encode(bytes)));
        }
        let text = String::from_utf8(bytes).map_err(|_| {
            Failure::usage("stdin is not UTF-8 text; --binary sends it as a binary message")
        })?;
        Payload::from_text(args, &text)
    }

    /// Appends the start of the struct; its end is the caller's.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let (key, text) = match self {
            Payload::Text(text) => ("message", text),
            Payload::Base64(text) => ("base64", text),
        };
        write_start(out, key, text);
    }
}

/// Appends `{"KEY":"TEXT"`.
pub(super) fn write_start(out: &mut Vec<u8>, key: &str, text: &str) {
    out.push(b'{');
    json::push_str(out, key);
    out.push(b':');
    json::push_str(out, text);
}

/// `base64` wraps its lines.
fn without_white_space(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_whitespace()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(args: &SendArgs, bytes: &[u8], explicit: bool) -> Result<Payload, u8> {
        Payload::from_bytes(args, bytes.to_vec(), explicit).map_err(|e| e.exit)
    }

    #[test]
    fn one_newline_goes() {
        let text = SendArgs::default();
        let is = |s: &str| Ok(Payload::Text(s.to_owned()));
        assert_eq!(from(&text, b"a\n", false), is("a"));
        assert_eq!(from(&text, b"a\n\n", false), is("a\n"));
        assert_eq!(from(&text, b"a\nb", false), is("a\nb"));
        assert_eq!(from(&text, b"", false), Err(2));
        assert_eq!(from(&text, b"\n", false), Err(2));
        assert_eq!(from(&text, b"", true), is(""));
        assert_eq!(from(&text, b"\xff", false), Err(2));
    }

    #[test]
    fn binary_is_as_it_is() {
        let binary = SendArgs { binary: true, ..SendArgs::default() };
        assert_eq!(from(&binary, b"\xff\n", false), Ok(Payload::Base64("/wo=".to_owned())));
        assert_eq!(from(&binary, b"", false), Err(2));
        let base64 = SendArgs { base64: true, ..SendArgs::default() };
        assert_eq!(from(&base64, b"AA\nEC\n", false), Ok(Payload::Base64("AAEC".to_owned())));
    }
}
