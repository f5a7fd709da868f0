//! What the names of channels, and patterns of them, may hold.

/// The most bytes of a name.
pub const LONGEST: usize = 200;

/// Whether a name may hold this byte: `A-Za-z0-9._:/@+-`.
pub fn may_hold(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._:/@+-".contains(&byte)
}

/// Checks a pattern of names, in which `*` spans any characters.
///
/// # Errors
/// Why no name can match it.
pub fn check_pattern(pattern: &str) -> Result<(), String> {
    let wrong = |why: String| Err(format!("invalid pattern of channels {pattern:?}: {why}"));
    if pattern.is_empty() {
        return wrong("it is empty".to_owned());
    }
    if let Some(other) =
        pattern.chars().find(|c| !matches!(u8::try_from(*c), Ok(b) if b == b'*' || may_hold(b)))
    {
        return wrong(format!(
            "{other:?} cannot be in the name of a channel; write letters and digits of ASCII, any of \
             ._:/@+- and * for any characters"
        ));
    }
    if pattern.bytes().filter(|b| *b != b'*').count() > LONGEST {
        return wrong(format!("the name of a channel has at most {LONGEST} characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_hold_what_names_hold_and_stars() {
        for good in ["*", "room1", "room.*", "A-Z.a_z:0/9@+-", "*a*", &"x".repeat(200)] {
            assert_eq!(check_pattern(good), Ok(()), "{good}");
        }
        for bad in ["", "a b", "a,b", "\u{e4}", "room?", "#", "a\n", &"x".repeat(201)] {
            let why = check_pattern(bad).unwrap_err();
            assert!(why.contains(&format!("{bad:?}")), "{why}");
        }
        assert!(check_pattern("r\u{e4}ume").unwrap_err().contains("'\u{e4}'"));
    }
}
