//! `wsgw man [DIR]`: man pages, made from the command line's own definition.

use std::io;

use clap::{Command, CommandFactory};

use crate::cli::{Cli, ManArgs};
use crate::commands::output;
use crate::error::{Failure, exit};

/// What stands at the end of the page of `wsgw` alone.
const FILES: &str = r".SH FILES
.TP
.I ~/.config/wsgw/wsgw.toml, /etc/wsgw/wsgw.toml
The config file of \fBwsgw serve\fR: the first that is there, unless \-\-config names another.
.TP
.I ~/.local/state/wsgw/control\-PORT.json
The address and the token of a control port, for the commands that talk to it.
.TP
.I ~/.local/state/wsgw/logs/WebSocket.log
The log, unless \-\-log\-dir names another directory.
";

/// Writes the man pages of all commands, or prints that of `wsgw`.
pub(super) fn run(args: &ManArgs) -> Result<u8, Failure> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    match &args.directory {
        Some(directory) => {
            let write = |(name, page): (String, Vec<u8>)| {
                std::fs::write(directory.join(format!("{name}.1")), page)
            };
            std::fs::create_dir_all(directory)
                .and_then(|()| pages(&command))
                .and_then(|pages| pages.into_iter().try_for_each(write))
                .map_err(|e| {
                    Failure::other(format!(
                        "the man pages cannot be written to {}: {e}",
                        directory.display()
                    ))
                })?;
        }
        None => {
            let page = page(&command, &command)
                .map_err(|e| Failure::other(format!("the man page cannot be made: {e}")))?;
            output::write(&page)?;
        }
    }
    Ok(exit::OK)
}

/// The name and the page of `wsgw`, and of each subcommand.
fn pages(command: &Command) -> io::Result<Vec<(String, Vec<u8>)>> {
    let all = std::iter::once(command).chain(command.get_subcommands());
    all.map(|one| Ok((name(one).to_owned(), page(command, one)?))).collect()
}

/// `wsgw-serve`: the name of a command's page.
fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// The page of `command`, one of those of `root`.
fn page(root: &Command, command: &Command) -> io::Result<Vec<u8>> {
    let mut rendered = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut rendered)?;
    let version = root.get_version().unwrap_or_default();
    let (title, section) = (name(command).to_uppercase(), 1);
    let mut page = String::new();
    for line in String::from_utf8_lossy(&rendered).lines() {
        if line.starts_with(".TH ") {
            // clap_mangen leaves the empty date unquoted, so that the version takes its place.
            page.push_str(&format!(".TH {title} {section} \"\" \"wsgw {version}\" \"wsgw\""));
        } else {
            page.push_str(line.trim_end());
        }
        page.push('\n');
    }
    // The blank line is enough.
    let mut page = page.replace(".br\n\n.br\n", ".sp\n");
    if name(command) == name(root) {
        page.push_str(FILES);
    } else {
        page.push_str(".SH SEE ALSO\n.BR wsgw (1)\n");
    }
    Ok(page.into_bytes())
}
