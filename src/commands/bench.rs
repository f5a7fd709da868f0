//! `wsgw bench`: a load test, and its report.

use std::fs::File;
use std::path::Path;

use crate::bench;
use crate::bench::options::Options;
use crate::bench::page::page;
use crate::cli::BenchArgs;
use crate::commands::{control, output};
use crate::error::{Failure, complain, exit};
use crate::text::escape::escape;

/// Runs a load test and writes its report.
pub(super) fn run(args: &BenchArgs) -> Result<u8, Failure> {
    let options = Options::parse(args)?;
    if let Some(path) = &args.html {
        // It is known before the test whether the file can be written, and an old one stays till then.
        File::options().append(true).create(true).open(path).map_err(|e| unwritable(path, &e))?;
    }
    let report = bench::run(&options).map_err(|failure| control::with_running(failure, "bench"))?;
    let text = if args.json { report.json() + "\n" } else { report.text() };
    let printed = output::print(&text);
    if let Some(path) = &args.html {
        std::fs::write(path, page(&report, env!("CARGO_PKG_VERSION")))
            .map_err(|e| unwritable(path, &e))?;
    }
    printed?;
    let holds = bench::holds(&options, &report);
    if report.was_cut_short {
        let why = report.notes.first().map_or("", String::as_str);
        complain(&format!("wsgw: the server ended the test: {why}"));
    }
    if !holds || report.was_cut_short {
        return Ok(exit::FAILURE);
    }
    if let (Some(list), false) = (&args.assert, args.json) {
        output::print(&format!("the assertions hold: {}\n", escape(list)))?;
    }
    Ok(if report.was_interrupted { bench::INTERRUPTED } else { exit::OK })
}

fn unwritable(path: &Path, e: &std::io::Error) -> Failure {
    Failure::other(format!("the report cannot be written to {}: {e}", path.display()))
}
