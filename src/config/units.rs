//! Durations and sizes as people write them.

use std::time::Duration;

/// The longest duration: ten years, far from any overflow of the clocks.
const LONGEST: f64 = 10.0 * 366.0 * 86_400.0;

/// `10` and `0.5` are seconds; `250ms`, `10s`, `5m`, `1h`.
///
/// # Errors
/// What is wrong with it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: write seconds, or 250ms, 10s, 5m, 1h");
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.trim_end().replace('_', "").parse().map_err(|_| wrong())?;
    let unit = match &text[digits.len()..] {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        _ => return Err(wrong()),
    };
    let seconds = number * unit;
    if !seconds.is_finite() || !(0.0..=LONGEST).contains(&seconds) {
        return Err(format!("{text:?} is out of range: a duration is from 0 to ten years"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// `1024` is bytes; `64KiB`, `1MiB`, `1GiB`; `kB`, `MB`, `GB` count by thousands.
///
/// # Errors
/// What is wrong with it.
pub fn size(text: &str) -> Result<usize, String> {
    let wrong = || format!("{text:?} is no size: write bytes, or 64KiB, 1MiB");
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.trim_end().replace('_', "").parse().map_err(|_| wrong())?;
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
    let bytes = number.checked_mul(unit).filter(|n| *n <= 1 << 40);
    bytes.and_then(|n| usize::try_from(n).ok()).ok_or_else(|| format!("{text:?} is over 1 TiB"))
}

/// A whole number from `min` to `max`.
///
/// # Errors
/// What is wrong with it.
pub fn count(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let number: Option<u64> = text.trim().replace('_', "").parse().ok();
    number
        .filter(|n| (min..=max).contains(n))
        .ok_or_else(|| format!("{text:?} is no whole number from {min} to {max}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let ms = |text| duration(text).map(|d| d.as_millis());
        for (text, expected) in [
            ("10", 10_000),
            ("0.5", 500),
            ("250ms", 250),
            ("10s", 10_000),
            ("5m", 300_000),
            ("0", 0),
        ] {
            assert_eq!(ms(text), Ok(expected), "{text}");
        }
        for text in ["", "x", "-1", "1 week", "10S", "nan", "inf", "1e99"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [("0", 0), ("1024", 1024), ("64KiB", 65_536), ("1MiB", 1 << 20)] {
            assert_eq!(size(text), Ok(expected), "{text}");
        }
        for text in ["", "1.5MiB", "-1", "1TiB", "99999999999GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
