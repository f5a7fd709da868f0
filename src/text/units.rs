//! Durations, sizes and numbers as people write them: one grammar for the file and all flags.

use std::time::Duration;

/// The longest duration: ten years, far from any overflow of the clocks.
const LONGEST: f64 = 10.0 * 366.0 * 86_400.0;

/// The largest size: 1 TiB.
const LARGEST: u64 = 1 << 40;

/// Reads a duration: `10` and `0.5` are seconds; `250ms`, `10s`, `5m`, `1h`, `2d`, `1m30s`.
///
/// # Errors
/// What is wrong with it: not a duration, negative, or longer than ten years.
pub fn duration(text: &str) -> Result<Duration, String> {
    let seconds = seconds(text.trim()).ok_or_else(|| {
        format!("invalid duration {text:?}: write seconds, or 250ms, 10s, 5m, 1m30s, 1h")
    })?;
    if !seconds.is_finite() || !(0.0..=LONGEST).contains(&seconds) {
        return Err(format!("{text:?} is out of range: a duration is from 0 to ten years"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Seconds, as a number alone or as the sum of numbers with units; they may be out of range.
fn seconds(text: &str) -> Option<f64> {
    let number = |digits: &str| digits.replace('_', "").parse::<f64>().ok();
    if text.ends_with(|c: char| !c.is_ascii_alphabetic()) {
        return number(text);
    }
    let (mut sum, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let digits = &rest[..rest.find(|c: char| c.is_ascii_alphabetic())?];
        rest = &rest[digits.len()..];
        let unit = &rest[..rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len())];
        rest = rest[unit.len()..].trim_start();
        sum += number(digits.trim_end()).filter(|n| *n >= 0.0)? * unit_of_time(unit)?;
    }
    (!text.is_empty()).then_some(sum)
}

fn unit_of_time(unit: &str) -> Option<f64> {
    Some(match unit {
        "ms" | "msec" | "millis" => 0.001,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return None,
    })
}

/// Reads a size: `1024` is bytes; `64KiB`, `1MiB`, `1GiB`; `kB`, `MB`, `GB` count by thousands.
///
/// # Errors
/// What is wrong with it: not a size, or over 1 TiB.
pub fn size(text: &str) -> Result<usize, String> {
    let wrong = || format!("invalid size {text:?}: write bytes, or 64KiB, 1MiB");
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number = digits.trim_end().replace('_', "");
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let unit: u64 = match &text[digits.len()..] {
        "" | "B" => 1,
        "KiB" | "K" | "k" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    // Digits alone: what does not parse is too large.
    let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
    let bytes = bytes.filter(|n| *n <= LARGEST).and_then(|n| usize::try_from(n).ok());
    bytes.ok_or_else(|| format!("{text:?} is over 1 TiB"))
}

/// Reads a whole number from `min` to `max`.
///
/// # Errors
/// What is wrong with it.
pub fn count(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let number: Option<u64> = text.trim().replace('_', "").parse().ok();
    number
        .filter(|n| (min..=max).contains(n))
        .ok_or_else(|| format!("{text:?} is not a whole number from {min} to {max}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("10", 10_000),
            ("0.5", 500),
            (".5", 500),
            ("1e3", 1_000_000),
            ("1_000", 1_000_000),
            ("250ms", 250),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1.5h", 5_400_000),
            ("2d", 172_800_000),
            ("1m30s", 90_000),
            ("1h 2m 3s 4ms", 3_723_004),
            (" 1 min ", 60_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(duration(text).map(|d| d.as_millis()), Ok(expected), "{text}");
        }
        for text in [
            "", " ", "x", "s", "-1", "-1s", "1m-30s", "1 week", "10S", "nan", "inf", "1e99",
            "1m30", "1mm", "1..5s", "11y", "4000d", "1m s", "٣s",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [("0", 0), ("1024", 1024), ("64KiB", 65_536), ("1MiB", 1 << 20)] {
            assert_eq!(size(text), Ok(expected), "{text}");
        }
        for text in ["", "1.5MiB", "-1", "+1", "1TiB", "99999999999GiB", "KiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
