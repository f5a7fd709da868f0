//! `control-PORT.json`: the file in which a running `serve` says where its control port is, and
//! with which token.
//!
//! It is written whole (a temporary file, renamed) with mode 0600 before the port is announced,
//! and removed at exit by whoever wrote it, never another's.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

use crate::files;

/// Bytes of a control file, or of one that holds a token alone, at most.
pub const MAX_FILE: usize = 64 << 10;

/// What a token has to be: it stands in a header of each request.
pub const TOKEN_RULE: &str = "must be one word of printable ASCII";

/// Whether it follows [`TOKEN_RULE`].
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

/// What the file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlFile {
    /// The URL of the control port.
    pub url: String,
    /// Its token; none is needed on a unix socket.
    #[serde(default)]
    pub token: Option<String>,
    /// The process id of `serve`.
    pub pid: u32,
    /// With `https://`: its certificate (DER in base64), which clients on this machine trust
    /// whatever name it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

impl ControlFile {
    /// Reads a file.
    ///
    /// # Errors
    /// The system's; that it is not a regular file, too large, or not of this kind.
    pub fn read(path: &Path) -> io::Result<ControlFile> {
        let text = files::read_from(files::open_regular(path)?, MAX_FILE)?;
        ControlFile::parse(&text).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }

    /// Understands what a file holds.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &[u8]) -> Result<ControlFile, String> {
        let content: ControlFile =
            serde_json::from_slice(text).map_err(|e| format!("not a control file: {e}"))?;
        match &content.token {
            Some(token) if !is_token(token) => Err(format!("its token {TOKEN_RULE}")),
            _ => Ok(content),
        }
    }

    /// Whether the process that wrote it still runs.
    pub fn is_live(&self) -> bool {
        is_running(self.pid)
    }
}

/// Whether there is a process with this id (of whatever user) that can still do something.
pub fn is_running(pid: u32) -> bool {
    let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    if test_kill_process(id).is_err_and(|e| e != rustix::io::Errno::PERM) {
        return false;
    }
    // A killed process that its parent has not waited for still has its id. Where there is no
    // /proc, that is left undetected.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim_start());
    !state.starts_with(['Z', 'X'])
}

/// A written file; removed when this is dropped, if it is still ours.
#[derive(Debug)]
pub struct Published {
    path: PathBuf,
    content: ControlFile,
    /// The file as it was last found to be ours.
    stamp: Option<Stamp>,
}

/// What changes when somebody replaces or edits a file: its number, when it was last written, its
/// size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    written: (i64, i64),
    size: u64,
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Stamp> {
        let m = fs::symlink_metadata(path)?;
        let file = (m.dev(), m.ino());
        Ok(Stamp { file, written: (m.mtime(), m.mtime_nsec()), size: m.size() })
    }
}

/// What a look at a written file found.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is there as it was written.
    Ours,
    /// There is no file.
    Missing,
    /// There is one that cannot be read or understood, and why.
    Damaged(String),
    /// It is another's.
    Others(ControlFile),
}

impl Published {
    /// Writes `content` into `directory` under `name`; the directory is made (0700) where it is
    /// missing.
    pub fn write(directory: &Path, name: &str, content: ControlFile) -> io::Result<Published> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        remove_predecessors(directory, &content.url);
        let path = directory.join(name);
        let temporary = directory.join(format!(".{name}.{}", std::process::id()));
        // One of a former process with our id would be in the way.
        let _ = fs::remove_file(&temporary);
        let written = (|| {
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            let mut json = serde_json::to_vec(&content)?;
            json.push(b'\n');
            file.write_all(&json)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        })();
        if let Err(e) = written {
            let _ = fs::remove_file(&temporary);
            return Err(e);
        }
        let stamp = Stamp::of(&path).ok();
        Ok(Published { path, content, stamp })
    }

    /// Looks whether it is there and ours; cheap while nothing changed.
    pub fn look(&mut self) -> Seen {
        let now = match Stamp::of(&self.path) {
            Ok(now) => now,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Seen::Missing,
            Err(e) => return Seen::Damaged(e.to_string()),
        };
        if self.stamp == Some(now) {
            return Seen::Ours;
        }
        match ControlFile::read(&self.path) {
            Ok(content) if content == self.content => {
                self.stamp = Some(now);
                Seen::Ours
            }
            Ok(content) => Seen::Others(content),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Seen::Missing,
            Err(e) => Seen::Damaged(e.to_string()),
        }
    }

    /// Leaves the file, for another takes its place.
    pub fn forget(mut self) {
        self.path = PathBuf::new();
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        // Another `serve` with the same port number (on another address) may have replaced it.
        if ControlFile::read(&self.path).is_ok_and(|now| now == self.content) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the files of dead processes that name the URL which is ours now.
fn remove_predecessors(directory: &Path, url: &str) {
    for path in control_files(directory).unwrap_or_default() {
        if ControlFile::read(&path).is_ok_and(|old| old.url == url && !old.is_live()) {
            let _ = fs::remove_file(path);
        }
    }
}

/// The `control-*.json` of a directory, by name.
///
/// # Errors
/// The system's, also where the list breaks off: what is there must not be taken for absent.
pub fn control_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name.starts_with("control-") && name.ends_with(".json") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn content(url: &str, pid: u32) -> ControlFile {
        ControlFile { url: url.to_owned(), token: Some("t".to_owned()), pid, certificate: None }
    }

    #[test]
    fn it_is_private_whole_and_gone_at_the_end() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("state/wsgw");
        let me = std::process::id();
        let published =
            Published::write(&dir, "control-1.json", content("http://x:1", me)).unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(published.path())), (0o700, 0o600));
        assert_eq!(ControlFile::read(published.path()).unwrap(), content("http://x:1", me));
        drop(published);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "nothing is left, no temporary either");
    }

    #[test]
    fn anothers_file_is_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        let me = std::process::id();
        let ours =
            Published::write(dir.path(), "control-1.json", content("http://x:1", me)).unwrap();
        let path = ours.path().to_owned();
        fs::write(&path, serde_json::to_vec(&content("http://y:1", me)).unwrap()).unwrap();
        drop(ours);
        assert!(path.exists());
    }

    #[test]
    fn a_look_tells_what_became_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let me = std::process::id();
        let write =
            || Published::write(dir.path(), "control-1.json", content("http://x:1", me)).unwrap();
        let mut ours = write();
        let path = ours.path().to_owned();
        assert_eq!(ours.look(), Seen::Ours);
        let copy = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(ours.look(), Seen::Missing);
        fs::write(&path, &copy[..copy.len() / 2]).unwrap();
        assert!(matches!(ours.look(), Seen::Damaged(_)));
        fs::write(&path, &copy).unwrap();
        assert_eq!((ours.look(), ours.look()), (Seen::Ours, Seen::Ours), "put back");
        let other = content("http://y:1", me);
        fs::write(&path, serde_json::to_vec(&other).unwrap()).unwrap();
        assert_eq!(ours.look(), Seen::Others(other));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(ours.look(), Seen::Damaged(_)));
        drop(ours);
        assert!(path.is_dir());
    }

    #[test]
    fn a_token_that_would_break_a_header_is_refused() {
        for token in ["a\r\nx: y", "a b", "", "\u{e9}"] {
            let json = serde_json::json!({"url": "http://x:1", "token": token, "pid": 1});
            let error = ControlFile::parse(json.to_string().as_bytes()).unwrap_err();
            assert!(error.contains(TOKEN_RULE), "{error}");
        }
    }

    #[test]
    fn a_dead_predecessor_goes_a_live_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &ControlFile| {
            fs::write(dir.path().join(name), serde_json::to_vec(content).unwrap()).unwrap();
        };
        let me = std::process::id();
        let dead = dead_pid();
        write("control-7.json", &content("http+unix:///s", dead));
        write("control-8.json", &content("http+unix:///other", dead));
        write("control-9.json", &content("http+unix:///s", me));
        let _ours =
            Published::write(dir.path(), "control-10.json", content("http+unix:///s", me)).unwrap();
        let names: Vec<_> = control_files(dir.path())
            .unwrap()
            .iter()
            .map(|p| p.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["control-10.json", "control-8.json", "control-9.json"]);
    }

    #[test]
    fn a_zombie_does_not_run() {
        assert!(is_running(std::process::id()) && is_running(1));
        assert!(!is_running(0) && !is_running(u32::MAX));
        assert!(!is_running(dead_pid()));
        if !Path::new("/proc/self/stat").exists() {
            return;
        }
        let mut child = std::process::Command::new("true")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // Its stdout ends when it has exited.
        io::copy(&mut child.stdout.take().unwrap(), &mut io::sink()).unwrap();
        while is_running(child.id()) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }

    fn dead_pid() -> u32 {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    }
}
