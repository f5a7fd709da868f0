//! `wsgw open`: a link to the operators' page, and a browser that follows it.

use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::api::Opened;
use crate::api::endpoint::Endpoint;
use crate::cli::OpenArgs;
use crate::commands::control;
use crate::commands::control::read;
use crate::commands::output::print;
use crate::error::{Failure, complain, exit};
use crate::text::escape;

/// `wsgw open`.
pub(super) fn run(args: &OpenArgs) -> Result<u8, Failure> {
    let mut client = control::open(&args.control, Duration::ZERO)?;
    if let Endpoint::Unix(path) = client.endpoint() {
        return Err(Failure::other(format!(
            "the control socket {} has no page, for browsers cannot open a unix socket: \
             `wsgw serve --control ADDR:PORT` has one; `wsgw top` shows the same in a terminal",
            path.display()
        )));
    }
    let opened: Opened = read(&client.call("POST", "/v1/open", None)?)?;
    let url = escape::lines(&opened.url);
    print(&format!("{url}\n"))?;
    if std::io::stdout().is_terminal() {
        let seconds = opened.expires_in;
        complain(&format!("The link is good once, within {seconds} s."));
        if !args.print && has_desktop() {
            browse(&opened.url);
        }
    }
    Ok(exit::OK)
}

/// Whether there is a desktop on which a browser could open.
fn has_desktop() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    cfg!(target_os = "macos") || is_set("DISPLAY") || is_set("WAYLAND_DISPLAY")
}

/// Starts the desktop's browser, which outlives us.
fn browse(url: &str) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let started = Command::new(program)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C in this terminal is not meant for the browser.
        .process_group(0)
        .spawn();
    if let Err(e) = started {
        complain(&format!("wsgw: {program} cannot be started: {e}; open the link yourself"));
    }
}
