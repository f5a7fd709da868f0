//! The token and the file in which clients find it.

use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::Failure;

/// Bytes of a token that we make.
const LENGTH: usize = 32;

/// A new token.
///
/// # Errors
/// The kernel's, if it has no randomness.
pub fn make() -> Result<String, Failure> {
    let mut bytes = [0u8; LENGTH];
    getrandom::fill(&mut bytes)
        .map_err(|e| Failure::other(format!("no random bytes for the control token: {e}")))?;
    let mut token = String::with_capacity(2 * LENGTH);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(token, "{byte:02x}");
    }
    Ok(token)
}

/// A token from a file, without the white space around it.
///
/// # Errors
/// A file that cannot be read, or holds nothing that could be a token.
pub fn read(path: &Path) -> Result<String, Failure> {
    let text = fs::read_to_string(path).map_err(|e| {
        Failure::other(format!("the control token file {} cannot be read: {e}", path.display()))
    })?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Failure::other(format!(
            "the control token file {} has to hold one line of visible ASCII",
            path.display()
        )));
    }
    Ok(token.to_owned())
}

/// A group's number, by name or number.
pub fn group_id(group: &str) -> Option<u32> {
    if let Ok(gid) = group.parse() {
        return Some(gid);
    }
    let text = fs::read_to_string("/etc/group").ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(group)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

/// `control-PORT.json`, removed at the end.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    text: String,
}

impl TokenFile {
    /// Writes it whole: a reader finds the old file or the new one.
    ///
    /// # Errors
    /// What cannot be written, for a person.
    pub fn write(
        directory: &Path,
        name: &str,
        url: &str,
        token: &str,
    ) -> Result<TokenFile, String> {
        let path = directory.join(name);
        let fail =
            |e| format!("the control token's file {} cannot be written: {e}", path.display());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(fail)?;
        let pid = std::process::id();
        let text = serde_json::json!({ "url": url, "token": token, "pid": pid }).to_string() + "\n";
        let temporary = directory.join(format!(".{name}.{pid}"));
        let _ = fs::remove_file(&temporary);
        let written = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&temporary, &path));
        if let Err(e) = written {
            let _ = fs::remove_file(&temporary);
            return Err(fail(e));
        }
        Ok(TokenFile { path, text })
    }

    /// Removes it, unless another `serve` has put its own there.
    pub fn remove(&self) {
        if fs::read_to_string(&self.path).is_ok_and(|text| text == self.text) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_file_is_private_and_only_our_own_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state/wsgw");
        let old = TokenFile::write(&state, "control-1.json", "http://x", "old").unwrap();
        let path = state.join("control-1.json");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
        let new = TokenFile::write(&state, "control-1.json", "http://x", "new").unwrap();
        old.remove();
        assert!(path.exists());
        new.remove();
        assert!(!path.exists());
    }
}
