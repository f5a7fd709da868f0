//! JSON, indented: nothing but its white space is changed.

use serde::de::IgnoredAny;

/// How many times larger than the message its indented form may be.
const GROWTH: usize = 8;

/// Bytes that a short message may grow by beyond that.
const SLACK: usize = 1024;

/// The text with indentation, if it is a JSON object or array.
///
/// Indentation grows with the square of the depth, so deeply nested JSON that would become more
/// than [`GROWTH`] times as large is not indented either.
pub(super) fn indented(text: &str) -> Option<String> {
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    if !text.starts_with(['{', '[']) || serde_json::from_str::<IgnoredAny>(text).is_err() {
        return None;
    }
    let largest = text.len() * GROWTH + SLACK;
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0;
    let mut chars = text.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(c) = chars.next() {
        // One more line is the most that any character adds.
        if out.len() + 2 * depth > largest {
            return None;
        }
        match c {
            '"' => {
                out.push(c);
                let mut escaped = false;
                for c in chars.by_ref() {
                    out.push(c);
                    if c == '"' && !escaped {
                        break;
                    }
                    escaped = c == '\\' && !escaped;
                }
            }
            '{' | '[' => {
                out.push(c);
                while chars.next_if(char::is_ascii_whitespace).is_some() {}
                // Nothing is to be seen between the two of an empty one.
                if let Some(end) = chars.next_if(|c| matches!(c, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth -= 1;
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_json_containers_are_indented() {
        assert_eq!(indented("{\"a\":1}").as_deref(), Some("{\n  \"a\": 1\n}"));
        for other in ["1", "no", "\"x\"", "{", "[1] x", ""] {
            assert_eq!(indented(other), None, "{other}");
        }
    }

    #[test]
    fn order_numbers_and_doubles_stay() {
        let text = r#" {"z":1e400, "a" : [ ], "n":12345678901234567890123,"z":"\"{,:\\" ,"o":{}} "#;
        let expected = "{\n  \"z\": 1e400,\n  \"a\": [],\n  \"n\": 12345678901234567890123,\n  \
                        \"z\": \"\\\"{,:\\\\\",\n  \"o\": {}\n}";
        assert_eq!(indented(text).as_deref(), Some(expected));
    }

    #[test]
    fn deep_nesting_does_not_multiply_the_message() {
        let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
        assert_eq!(indented(&deep), None);
        let wide = format!("{}1{}{}", "[".repeat(100), ",1".repeat(100_000), "]".repeat(100));
        assert_eq!(indented(&wide), None);
        let usual = format!("{}1,2{}", "[".repeat(12), "]".repeat(12));
        assert!(indented(&usual).is_some());
    }

    proptest! {
        #[test]
        fn as_serde_indents(keys: Vec<String>, number: i64) {
            let value = serde_json::json!({"list": keys, "n": number, "deep": [[{}, [number]], []]});
            let expected = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(indented(&value.to_string()), Some(expected));
        }
    }
}
