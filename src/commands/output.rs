//! What the commands print on stdout: text, JSON, tables.
//!
//! Output that cannot be written is a failure (exit code 1), for a script must not take a truncated
//! file for a whole one. A reader that has gone (`| head`) is not.

use std::fmt::Write as _;
use std::io::{self, Write};

use crate::error::Failure;
use crate::text::escape;

/// Writes to stdout and flushes it.
pub(super) fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    finish(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Turns the result of writing to stdout into that of the command.
pub(super) fn finish(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::other(format!("cannot write to stdout: {e}")))
        }
        _ => Ok(()),
    }
}

/// Prints text as it is.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    write(text.as_bytes())
}

/// Prints JSON as the control port sent it, except that characters which could act on a terminal
/// are escaped.
pub(super) fn print_json(body: &[u8]) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(body);
    print(&format!("{}\n", escape::json(text.trim_end())))
}

/// Aligned columns. A column whose heading starts with `>` is aligned to the right.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
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
    fn columns() {
        let rows = vec![
            vec!["a".to_owned(), "7".to_owned(), "x".to_owned()],
            vec!["longer".to_owned(), "1234".to_owned(), String::new()],
        ];
        let want = "ID       OUT  Z\na          7  x\nlonger  1234\n";
        assert_eq!(table(&["ID", ">OUT", "Z"], &rows), want);
    }
}
