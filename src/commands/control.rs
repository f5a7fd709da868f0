//! What the commands that talk to the control port share: reaching it, and printing.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use crate::cli::ControlArgs;
use crate::control_client::Client;
use crate::control_client::discovery::Wanted;
use crate::error::Failure;
use crate::text::escape;

/// Connects to the control port that the flags, the environment or the files name.
pub fn open(args: &ControlArgs, retry: Duration) -> Result<Client, Failure> {
    let timeout = seconds("--timeout", &args.timeout)?;
    if timeout.is_zero() {
        return Err(Failure::usage("--timeout 0 leaves no time at all"));
    }
    let wanted = Wanted::from_env(args.control.clone(), args.token_file.clone());
    Client::open(&wanted, timeout, retry)
}

/// A time as `5`, `0.5`, `250ms` or `2m`.
pub fn seconds(flag: &str, text: &str) -> Result<Duration, Failure> {
    let bad = || Failure::usage(format!("{flag} {text:?} is no time: seconds, or 250ms, 10s, 5m"));
    let time = match text.trim().parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_| bad())?,
        Err(_) => humantime::parse_duration(text.trim()).map_err(|_| bad())?,
    };
    // Beyond this, an Instant cannot be added to on every system; nobody means it.
    Ok(time.min(Duration::from_secs(u64::from(u32::MAX))))
}

/// Writes to stdout. Nobody reading (`| head`) is not a failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::other(format!("cannot write to stdout: {e}")))
        }
        _ => Ok(()),
    }
}

/// Prints JSON, the control port's as it came: only what could act on a terminal is written out.
pub fn print_json(body: &[u8]) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(body);
    print(&format!("{}\n", escape::json(text.trim_end())))
}

/// Reads JSON that the control port sent.
pub fn read<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|e| Failure::other(format!("the control port's answer is not understood: {e}")))
}

/// One segment of a path.
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Aligned columns; those whose head starts with `>` to the right.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let names: Vec<String> = head.iter().map(|h| h.trim_start_matches('>').to_owned()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&names).chain(rows).collect();
    let width = |column: usize| {
        lines.iter().filter_map(|l| l.get(column)).map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut out = String::new();
    for line in lines {
        let mut text = String::new();
        for ((cell, &width), head) in line.iter().zip(&widths).zip(head) {
            if !text.is_empty() {
                text.push_str("  ");
            }
            // Writing to a String cannot fail.
            let _ = if head.starts_with('>') {
                write!(text, "{cell:>width$}")
            } else {
                write!(text, "{cell:<width$}")
            };
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, want) in [("30", 30_000), ("0.5", 500), ("250ms", 250), ("2m", 120_000)] {
            assert_eq!(seconds("--x", text).unwrap(), Duration::from_millis(want));
        }
        assert!(seconds("--x", "1e300").is_err());
        for bad in ["", "-1", "x", "nan", "inf"] {
            assert_eq!(seconds("--x", bad).unwrap_err().exit, 2, "{bad}");
        }
    }

    #[test]
    fn columns() {
        let rows = vec![
            vec!["a".to_owned(), "7".to_owned(), "x".to_owned()],
            vec!["longer".to_owned(), "1234".to_owned(), String::new()],
        ];
        let want = "ID       OUT  Z\na          7  x\nlonger  1234\n";
        assert_eq!(table(&["ID", ">OUT", "Z"], &rows), want);
    }

    #[test]
    fn a_segment_is_percent_encoded() {
        assert_eq!(segment("a/b ä"), "a%2Fb%20%C3%A4");
    }
}
