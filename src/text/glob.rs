//! Patterns in which `*` spans any characters.

/// Whether `text` matches `pattern`, in which `*` spans any characters.
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_span_any_characters() {
        assert!(glob("/rooms/*", "/rooms/a/b") && glob("/rooms/*", "/rooms/"));
        assert!(!glob("/rooms/*", "/room/a") && !glob("/chat", "/chat/"));
        assert!(glob("*", "") && glob("a*b*c", "a--b--c") && !glob("a*b*c", "a--c"));
        assert!(!glob("ab*ba", "aba"), "the parts must not overlap");
    }
}
