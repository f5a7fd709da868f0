//! Text from outside on its way to a terminal or a log line: nothing in it may act as a control
//! character, or look like the end of a line.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character may do something to a terminal or to the reading of a line: C0, DEL, C1,
/// the line and paragraph separators, and those that turn the direction of writing.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{061c}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with such characters written out (`\n`, `\t`, `\x1b`, `\u{2028}`).
pub fn escape(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(acts) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    for c in text[first..].chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if acts(c) && (c as u32) < 0x100 => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if acts(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// The text on one line that can be read back: each backslash twice, each newline as `\n`. Other
/// characters are as they are; for a terminal, [`escape`] comes on top.
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '\n']) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace('\\', r"\\").replace('\n', r"\n"))
}

/// Each line for itself; their ends stay.
pub fn lines(text: &str) -> String {
    text.split('\n').map(escape).collect::<Vec<_>>().join("\n")
}

/// JSON whose strings may hold such characters (those below U+0020 they cannot), with each as `\u`
/// and four digits: the same JSON, fit for a terminal.
pub fn json(text: &str) -> Cow<'_, str> {
    let in_string = |c: char| c >= '\u{7f}' && acts(c);
    if !text.contains(in_string) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if in_string(c) {
            // None of them is beyond U+FFFF. Writing to a String cannot fail.
            let _ = write!(out, "\\u{:04x}", c as u32);
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_written_out() {
        assert_eq!(escape("plain ünïcode 😀"), "plain ünïcode 😀");
        assert_eq!(escape("a\nb\tc\r"), "a\\nb\\tc\\r");
        assert_eq!(escape("\x1b[31m\x7f\u{9b}"), "\\x1b[31m\\x7f\\x9b");
        assert_eq!(escape("x\u{202e}y\u{2028}"), "x\\u{202e}y\\u{2028}");
        assert_eq!(lines("a\x1b\n  b\r\n"), "a\\x1b\n  b\\r\n");
    }

    #[test]
    fn a_text_on_one_line_can_be_read_back() {
        assert_eq!(one_line("plain \t ünïcode"), "plain \t ünïcode");
        assert_eq!(one_line("a\nb\\n"), r"a\nb\\n");
        assert_eq!(escape(&one_line("a\n\u{1b}")), r"a\n\x1b");
    }

    #[test]
    fn json_stays_the_same_json() {
        let text = "[\n\t\"\\u001bä\u{9b}\u{7f}\u{202e}😀\"]";
        let shown = json(text);
        assert_eq!(shown, "[\n\t\"\\u001bä\\u009b\\u007f\\u202e😀\"]");
        let read = |json| serde_json::from_str::<Vec<String>>(json).unwrap();
        assert_eq!(read(&shown), read(text));
    }
}
