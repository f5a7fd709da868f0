//! Text from outside, cut to a length that a person reads.

use std::borrow::Cow;

/// The text, or what of it fits into `max` bytes with a mark that says so: `… (cut at 1 KiB)`.
pub fn excerpt(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(max);
    Cow::Owned(format!("{}{}", &text[..end], mark(max)))
}

/// What stands behind a text of which only the first `max` bytes are shown.
pub fn mark(max: usize) -> String {
    match max {
        1024.. if max.is_multiple_of(1024) => format!(" … (cut at {} KiB)", max / 1024),
        _ => format!(" … (cut at {max} bytes)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters_and_marked() {
        assert_eq!(excerpt("short", 5), "short");
        assert_eq!(excerpt("ääää", 5), "ää … (cut at 5 bytes)");
        let cut = excerpt(&"x".repeat(3000), 1024).into_owned();
        assert_eq!(cut, format!("{} … (cut at 1 KiB)", "x".repeat(1024)));
    }
}
