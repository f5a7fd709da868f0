//! Numbers in few characters.

/// `99999`, `123k`, `1.2M`: at most five characters.
pub(super) fn count(n: u64) -> String {
    match n {
        0..100_000 => n.to_string(),
        _ => scaled(n as f64),
    }
}

/// `1 connection`, `2 connections`.
pub(super) fn counted(n: u64, what: &str) -> String {
    format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" })
}

/// As [`count`], with one digit behind the point where the number is small.
pub(super) fn rate(n: f64) -> String {
    if !n.is_finite() || n <= 0.0 {
        "0".to_owned()
    } else if n < 9.95 {
        let text = format!("{n:.1}");
        text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
    } else if n < 99_999.5 {
        format!("{n:.0}")
    } else {
        scaled(n)
    }
}

/// Bytes a second.
pub(super) fn bytes(n: f64) -> String {
    for (limit, unit) in [(1e3, "B"), (1e6, "kB"), (1e9, "MB")] {
        if n < limit * 0.9995 {
            return format!("{} {unit}", rate(n / (limit / 1e3)));
        }
    }
    format!("{} GB", rate(n / 1e9))
}

fn scaled(mut n: f64) -> String {
    for unit in ["k", "M", "G", "T", "P"] {
        n /= 1e3;
        if n < 9.95 {
            return format!("{n:.1}{unit}");
        }
        if n < 999.5 {
            return format!("{n:.0}{unit}");
        }
    }
    "much".to_owned()
}

/// Milliseconds as a time: `85µs`, `1.2ms`, `12ms`, `3.4s`.
pub(super) fn time(ms: Option<f64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms < 0.0995 => format!("{:.0}µs", ms * 1e3),
        Some(ms) if ms < 9.95 => format!("{ms:.1}ms"),
        Some(ms) if ms < 999.5 => format!("{ms:.0}ms"),
        Some(ms) => format!("{:.1}s", ms / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (n, want) in [(0, "0"), (99_999, "99999"), (100_000, "100k"), (1_234_567, "1.2M")] {
            assert_eq!(count(n), want);
        }
        assert_eq!(count(u64::MAX), "much");
        for (n, want) in [
            (0.0, "0"),
            (-1.0, "0"),
            (f64::NAN, "0"),
            (0.25, "0.2"),
            (3.0, "3"),
            (9.96, "10"),
            (1234.5, "1234"),
            (99_999.6, "100k"),
        ] {
            assert_eq!(rate(n), want, "{n}");
        }
        for (n, want) in [(0.0, "0 B"), (999.0, "999 B"), (1500.0, "1.5 kB"), (2e9, "2 GB")] {
            assert_eq!(bytes(n), want);
        }
    }

    #[test]
    fn times_have_units() {
        for (ms, want) in [
            (None, "-"),
            (Some(0.0853), "85µs"),
            (Some(1.24), "1.2ms"),
            (Some(12.0), "12ms"),
            (Some(999.7), "1.0s"),
        ] {
            assert_eq!(time(ms), want);
        }
    }
}
