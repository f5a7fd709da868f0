//! A look at all the places where a running `serve` may have left its control file.

use std::io;
use std::path::{Path, PathBuf};

use crate::api::endpoint::Endpoint;
use crate::api::file::{ControlFile, control_files};
use crate::control_client::discovery::{NotFound, parse};
use crate::error::{Failure, exit};

/// A file that could be read.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) content: ControlFile,
}

impl Found {
    pub(super) fn is_for(&self, endpoint: &Endpoint) -> bool {
        parse(&self.content.url).ok().as_ref() == Some(endpoint)
    }

    pub(super) fn stale(&self) -> String {
        stale(&self.path, &self.content)
    }
}

pub(super) fn stale(path: &Path, content: &ControlFile) -> String {
    format!("{} is stale: process {} is gone", path.display(), content.pid)
}

/// What a look at all the places found.
#[derive(Default)]
pub(super) struct Look {
    pub(super) found: Vec<Found>,
    /// What a person is told of where nothing was found.
    places: Vec<String>,
    /// Files and directories that are there and that this user may not read: another user's.
    pub(super) denied: Vec<String>,
    /// Those that are there and cannot be used for another reason. Each may be a `serve`'s.
    pub(super) unusable: Vec<String>,
}

impl Look {
    /// Looks at these directories, now.
    pub(super) fn at(directories: &[PathBuf]) -> Look {
        let mut look = Look::default();
        for directory in directories {
            let before = look.places.len();
            match control_files(directory) {
                Ok(files) => files.into_iter().for_each(|path| look.read(path)),
                // A link that leads nowhere is there.
                Err(e) if e.kind() == io::ErrorKind::NotFound && !directory.is_symlink() => {
                    look.places.push(format!("{}: no such directory", directory.display()));
                }
                Err(e) => look.unread(directory, &e),
            }
            if look.places.len() == before {
                look.places.push(format!("{}: no control-*.json", directory.display()));
            }
        }
        look
    }

    fn read(&mut self, path: PathBuf) {
        match ControlFile::read(&path) {
            Ok(content) => {
                let found = Found { path, content };
                if !found.content.is_live() {
                    self.places.push(found.stale());
                }
                self.found.push(found);
            }
            // Its `serve` ended just now.
            Err(e) if e.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {}
            Err(e) => self.unread(&path, &e),
        }
    }

    fn unread(&mut self, path: &Path, error: &io::Error) {
        let place = format!("{}: {error}", path.display());
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied => &mut self.denied,
            _ => &mut self.unusable,
        };
        kind.push(place.clone());
        self.places.push(place);
    }

    pub(super) fn nothing(&self) -> NotFound {
        let mut message = "no running `wsgw serve` was found; looked at:".to_owned();
        for place in &self.places {
            message.push_str("\n  ");
            message.push_str(place);
        }
        message.push_str("\nstart one, or name one with --control URL");
        NotFound { failure: Failure::new(exit::UNREACHABLE, message), may_come: true }
    }

    pub(super) fn several(&self, live: &[&Found]) -> NotFound {
        let mut message = match live {
            [_] => "which `wsgw serve` is meant is not clear; choose one with --control URL:",
            _ => "several `wsgw serve` run; choose one with --control URL:",
        }
        .to_owned();
        for found in live {
            message.push_str(&format!(
                "\n  {}  (process {}, {})",
                found.content.url,
                found.content.pid,
                found.path.display()
            ));
        }
        for unread in &self.unusable {
            message.push_str(&format!("\n  cannot be read: {unread}"));
        }
        NotFound::for_good(Failure::usage(message))
    }
}
