//! The history's file: private, bounded, and a regular file of this user's or none at all.
//!
//! A link to `/dev/null` is a common way to have no history; as root, a careless `chmod` would
//! change the device itself.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::{files, paths};

/// A file that is larger is not read.
const LARGEST: u64 = 16 << 20;

/// The history's file, in the user's state directory; made if it is not there. `None` without a
/// home directory.
///
/// # Errors
/// Why there is no history, for a person.
pub(super) fn file() -> Result<Option<PathBuf>, String> {
    let Some(directory) = paths::user_state_dir() else { return Ok(None) };
    let path = directory.join("history");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .map_err(|e| format!("no history: {}: {e}", directory.display()))?;
    check(&path)?;
    Ok(Some(path))
}

/// Makes sure that the name leads to a regular file of this user's that others cannot read.
///
/// # Errors
/// Why there is no history, for a person.
pub(super) fn check(path: &Path) -> Result<(), String> {
    make_private(path).map_err(|e| format!("no history: {}: {e}", path.display()))
}

fn make_private(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    // Neither waits for the other end of a pipe, nor takes a terminal as its own.
    let careful = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    options.read(true).append(true).mode(0o600).custom_flags(careful);
    let file = match fs::metadata(path) {
        // A link that leads nowhere is not followed.
        Err(e) if e.kind() == io::ErrorKind::NotFound => options.create_new(true).open(path)?,
        Err(e) => return Err(e),
        Ok(found) if !found.is_file() => {
            // Only to say what it is: this does not open it for writing.
            files::open_regular(path)?;
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(_) => options.open(path)?,
    };
    files::ensure_regular(&file)?;
    let found = file.metadata()?;
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("it belongs to another user"));
    }
    if found.len() > LARGEST {
        return Err(io::Error::other(format!("it is larger than {} MiB", LARGEST >> 20)));
    }
    if found.mode() & 0o7777 != 0o600 {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}
