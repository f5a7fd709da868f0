//! Small JSON helpers beside `serde_json`: appending strings and numbers to a buffer, reading an
//! object's members in their order, and removing white space.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Appends `text` as a JSON string with its quotes.
///
/// U+0085, U+2028 and U+2029 are escaped: some line readers (Java's `Scanner`, Python's `splitlines`)
/// end a line there, and the text may come from a client.
pub(crate) fn push_str(out: &mut Vec<u8>, text: &str) {
    let start = out.len();
    // Neither writing to a Vec nor serializing a str can fail.
    let _ = serde_json::to_writer(&mut *out, text);
    // The three characters begin with one of these two bytes.
    let Some(first) = memchr::memchr2(0xc2, 0xe2, &out[start..]) else { return };
    let rest = out.split_off(start + first);
    let mut rest = &rest[..];
    while let Some(at) = memchr::memchr2(0xc2, 0xe2, rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let (escaped, length): (&[u8], usize) = match rest {
            [0xc2, 0x85, ..] => (b"\\u0085", 2),
            [0xe2, 0x80, 0xa8, ..] => (b"\\u2028", 3),
            [0xe2, 0x80, 0xa9, ..] => (b"\\u2029", 3),
            other => (&other[..1], 1),
        };
        out.extend_from_slice(escaped);
        rest = &rest[length..];
    }
    out.extend_from_slice(rest);
}

/// Appends a number in decimal.
pub(crate) fn push_u64(out: &mut Vec<u8>, number: u64) {
    let mut buffer = [0u8; 20];
    let mut at = buffer.len();
    let mut rest = number;
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&buffer[at..]);
}

/// Appends valid JSON without the white space between its tokens. The result holds no newline, because
/// JSON allows a raw newline only between tokens.
pub(crate) fn push_compact(out: &mut Vec<u8>, json: &str) {
    let mut in_string = false;
    let mut escaped = false;
    for &byte in json.as_bytes() {
        if in_string {
            out.push(byte);
            if escaped {
                escaped = false;
            } else if byte == b'\\' {
                escaped = true;
            } else if byte == b'"' {
                in_string = false;
            }
        } else if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            in_string = byte == b'"';
            out.push(byte);
        }
    }
}

/// Valid JSON without the white space between its tokens.
pub(crate) fn compact(json: &str) -> String {
    let mut out = Vec::with_capacity(json.len());
    push_compact(&mut out, json);
    // The result is UTF-8, because only ASCII bytes were removed.
    String::from_utf8(out).unwrap_or_default()
}

/// The text of a raw JSON string; `None` if the value has another type or contains a lone surrogate.
pub(crate) fn as_str(raw: &RawValue) -> Option<Cow<'_, str>> {
    if !raw.get().starts_with('"') {
        return None;
    }
    // Most strings have no escape and can be borrowed.
    if let Ok(text) = serde_json::from_str::<&str>(raw.get()) {
        return Some(Cow::Borrowed(text));
    }
    serde_json::from_str::<String>(raw.get()).ok().map(Cow::Owned)
}

/// The members of an object in their order, with raw values.
#[derive(Debug)]
pub struct Members<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(8);
                while let Some(Key(key)) = map.next_key()? {
                    members.push((key, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// A key, borrowed if it has no escape.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_string_stays_the_same_and_on_one_line(text in "\\PC*|[\\x00-\\x20\u{85}\u{a0}\u{2027}-\u{202a}\"\\\\]*") {
            let mut out = Vec::new();
            push_str(&mut out, &text);
            let line = std::str::from_utf8(&out).unwrap();
            let ends = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];
            prop_assert!(!line.contains(ends), "it contains the end of a line");
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn numbers_are_decimal(number: u64) {
            let mut out = Vec::new();
            push_u64(&mut out, number);
            prop_assert_eq!(out, number.to_string().into_bytes());
        }
    }

    #[test]
    fn only_white_space_between_tokens_is_removed() {
        assert_eq!(
            compact("{ \"a b\" :\n [ 1.0 ,\t\"x \\\" y\\\\\" ] }"),
            r#"{"a b":[1.0,"x \" y\\"]}"#
        );
    }
}
