//! How long ago something was, for a person.

use std::time::SystemTime;

use crate::text::escape::escape;

/// `3h12m`: the two largest units of the time since an RFC 3339 timestamp. Text that is none comes
/// back, escaped.
pub(crate) fn age(timestamp: &str, now: SystemTime) -> String {
    let Ok(then) = humantime::parse_rfc3339_weak(timestamp) else {
        return escape(timestamp).into_owned();
    };
    span(now.duration_since(then).unwrap_or_default().as_secs())
}

/// Seconds as their two largest units.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let now = humantime::parse_rfc3339("2026-11-24T12:00:00Z").unwrap();
        for (then, want) in [
            ("2026-11-24T12:00:05Z", "0s"),
            ("2026-11-24T11:59:59.5Z", "0s"),
            ("2026-11-24T11:58:57.123456Z", "1m2s"),
            ("2026-11-24T09:30:00Z", "2h30m"),
            ("2026-11-20T11:00:00Z", "4d1h"),
            ("soon\u{1b}", "soon\\x1b"),
        ] {
            assert_eq!(age(then, now), want);
        }
    }
}
