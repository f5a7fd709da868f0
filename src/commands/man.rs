//! `wsgw man [DIR]`: man pages, made from the command line's own definition.

use clap::CommandFactory;

use crate::cli::{Cli, ManArgs};
use crate::commands::output;
use crate::error::{Failure, exit};

/// Writes the man pages of all commands, or prints that of `wsgw`.
pub(super) fn run(args: &ManArgs) -> Result<u8, Failure> {
    let command = Cli::command();
    match &args.directory {
        Some(directory) => {
            std::fs::create_dir_all(directory)
                .and_then(|()| clap_mangen::generate_to(command, directory))
                .map_err(|e| {
                    Failure::other(format!(
                        "the man pages cannot be written to {}: {e}",
                        directory.display()
                    ))
                })?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command)
                .render(&mut page)
                .map_err(|e| Failure::other(format!("the man page cannot be made: {e}")))?;
            output::write(&page)?;
        }
    }
    Ok(exit::OK)
}
