//! `wsgw check`.

use std::io::{IsTerminal, Write};

use tokio::signal::unix::{SignalKind, signal};

use crate::check;
use crate::check::client::Client;
use crate::check::report::{Outcome, Report, Severity};
use crate::cli::CheckArgs;
use crate::commands::output;
use crate::config;
use crate::config::settings::{ControlListen, ControlSettings, GatewaySettings};
use crate::error::Failure;
use crate::net::host::join;
use crate::text::escape::escape;

/// Columns of what is printed.
const WIDTH: usize = 100;

/// Plays a gateway to a listener, and says what is wrong with it.
pub(super) fn run(args: &CheckArgs) -> Result<u8, Failure> {
    // The exit code 1 means findings: what is wrong with the config is a wrong use of this command.
    let settings = config::load(&args.serve).map_err(|why| Failure::usage(why.message))?;
    let control_url = control_url(&settings.control);
    let gateway = chosen(settings.gateways, args.serve.id())?;
    let client =
        Client::new(&gateway, args.url.as_deref(), &args.header).map_err(Failure::usage)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::other(format!("the runtime cannot be started: {e}")))?;
    let shows = !args.json && std::io::stderr().is_terminal();
    let progress = |step: &str| {
        if shows {
            // A terminal that is gone changes nothing.
            let _ = write!(std::io::stderr(), "\r\x1b[K{step} …");
        }
    };
    let outcome = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        std::io::Result::Ok(tokio::select! {
            report = check::check(gateway, client, control_url, &progress) => Ok(report),
            _ = interrupt.recv() => Err(SignalKind::interrupt()),
            _ = terminate.recv() => Err(SignalKind::terminate()),
            _ = hangup.recv() => Err(SignalKind::hangup()),
        })
    });
    runtime.shutdown_background();
    if shows {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
    let outcome = outcome.map_err(|e| Failure::other(format!("signals cannot be watched: {e}")))?;
    let report = match outcome {
        Ok(report) => report,
        // The listener was ended with its group when it was let go of.
        Err(kind) => return Ok(128 + u8::try_from(kind.as_raw_value()).unwrap_or_default()),
    };
    let text = if args.json {
        let json = serde_json::to_string_pretty(&report);
        json.map_err(|e| Failure::other(format!("the report cannot be written: {e}")))? + "\n"
    } else {
        text(&report)
    };
    if args.json {
        output::print_json(text.as_bytes())?
    } else {
        output::print(&text)?
    }
    Ok(report.exit())
}

/// The URL of the control port that `serve` would have.
fn control_url(settings: &ControlSettings) -> Option<String> {
    let scheme = if settings.tls_cert.is_some() { "https" } else { "http" };
    match &settings.listen {
        ControlListen::Off => None,
        ControlListen::Tcp(host, port) => Some(format!("{scheme}://{}", join(host, *port))),
        ControlListen::Unix(path) => Some(format!("http+unix://{}", path.display())),
    }
}

/// The gateway whose listener is checked.
fn chosen(gateways: Vec<GatewaySettings>, id: Option<&str>) -> Result<GatewaySettings, Failure> {
    let known: Vec<String> = gateways.iter().map(|gateway| gateway.id.clone()).collect();
    let several = gateways.len() > 1;
    let wanted = id.map(|id| id.trim().to_lowercase());
    let mut all = gateways.into_iter();
    let found = match &wanted {
        None if several => None,
        None => all.next(),
        Some(id) => all.find(|gateway| gateway.id == *id),
    };
    let Some(gateway) = found else {
        let known = known.join(", ");
        return Err(Failure::usage(format!(
            "the config file has these gateways: {known}; --id says whose listener is checked"
        )));
    };
    if gateway.listener.is_none() {
        return Err(Failure::usage(format!(
            "gateway {} has no listener to check: put its command behind --, as in wsgw check -- \
             python3 chat.py",
            gateway.id
        )));
    }
    Ok(gateway)
}

/// The report for a person.
fn text(report: &Report) -> String {
    let mut out = String::new();
    for step in &report.steps {
        let mark = match step.outcome {
            Outcome::Good => "ok",
            Outcome::Bad => "BAD",
            Outcome::Skipped => "-",
        };
        wrap(&mut out, &format!("{mark:<4} {:<10} ", step.step), &step.gateway);
    }
    for finding in &report.findings {
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        out.push('\n');
        wrap(
            &mut out,
            &format!("{severity:<8} "),
            &format!("{} [{}]", finding.message, finding.id),
        );
        if !finding.mend.is_empty() {
            wrap(&mut out, "    mend ", &finding.mend);
        }
    }
    if !report.stderr.is_empty() {
        out.push_str("\nits stderr said last:\n");
        for line in &report.stderr {
            out.push_str(&format!("  {}\n", escape(line)));
        }
    }
    out.push_str(&match report.findings.len() {
        0 => "\nclean: nothing to mend\n".to_owned(),
        1 => "\n1 finding\n".to_owned(),
        count => format!("\n{count} findings\n"),
    });
    out
}

/// Appends a text in lines of [`WIDTH`], behind `head` and aligned to it.
fn wrap(out: &mut String, head: &str, text: &str) {
    let indent = head.chars().count();
    let mut column = indent;
    out.push_str(head);
    for (n, word) in escape(text).split(' ').enumerate() {
        let length = word.chars().count();
        if n > 0 {
            if column + 1 + length > WIDTH {
                out.push('\n');
                out.push_str(&" ".repeat(indent));
                column = indent;
            } else {
                out.push(' ');
                column += 1;
            }
        }
        out.push_str(word);
        column += length;
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_wrapped_and_aligned() {
        let mut out = String::new();
        wrap(
            &mut out,
            "ok   text  ",
            &"word ".repeat(30).trim_end().replace("word", "sixteen-letters!"),
        );
        let lines: Vec<&str> = out.lines().collect();
        assert!(lines.len() > 4 && lines.iter().all(|line| line.chars().count() <= WIDTH), "{out}");
        assert!(lines[1..].iter().all(|line| line.starts_with("           sixteen")), "{out}");
    }
}
