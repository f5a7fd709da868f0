//! `FILE-lock`: who has a history's database open, and whether its epoch may be continued.
//!
//! The lock is an `flock` on a file of its own. It does not hinder those who read the database, and
//! it is not lost with SQLite's own locks, which a process loses when it closes any descriptor of the
//! database.
//!
//! The file's one line has a fixed length and is overwritten in place, so that it can be changed when
//! the disk is full. It names the epoch in use: a database that holds another one is not continued.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::files;
use crate::text::position::Epoch;

/// The first word of the line, with its version.
const MAGIC: &str = "wsgw-history-1";
/// How often a lock is tried again, and after how long.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);
/// The most bytes of a boot id that are written.
const BOOT: usize = 64;

/// How the last one to open the file has left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It is open, or was not closed.
    Open,
    /// It was closed, and everything is on disk.
    Clean,
}

/// What the line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) epoch: Epoch,
    /// The boot of the machine in which it was opened.
    boot: Option<String>,
    end: End,
}

impl Last {
    /// Whether everything that was written is there.
    pub(super) fn can_continue(&self, boot: Option<&str>) -> bool {
        self.end == End::Clean || boot.is_some() && self.boot.as_deref() == boot
    }

    /// Whether what was written last may be missing, and the database be damaged.
    pub(super) fn machine_went_down(&self, boot: Option<&str>) -> bool {
        // Where the system does not tell, only the end is known to be missing.
        !self.can_continue(boot) && boot.is_some() && self.boot.is_some()
    }

    fn parse(text: &str) -> Option<Last> {
        let mut words = text.split_ascii_whitespace();
        if words.next() != Some(MAGIC) {
            return None;
        }
        let epoch = Epoch::parse(words.next()?)?;
        let end = match words.next()? {
            "open" => End::Open,
            "clean" => End::Clean,
            _ => return None,
        };
        let boot = words.next().filter(|boot| *boot != "-").map(str::to_owned);
        Some(Last { epoch, boot, end })
    }

    fn line(&self) -> String {
        let end = match self.end {
            End::Open => "open",
            End::Clean => "clean",
        };
        let boot = self.boot.as_deref().unwrap_or("-");
        format!("{MAGIC} {} {end:<5} {boot:<BOOT$}\n", self.epoch.as_str())
    }
}

/// The lock on a history's file. It is released when it is dropped.
pub(super) struct Lock {
    file: File,
    path: PathBuf,
    last: Option<Last>,
}

impl Lock {
    /// Locks the database at `path`.
    pub(super) fn take(path: &Path) -> Result<Lock, String> {
        let mut name = path.as_os_str().to_owned();
        name.push("-lock");
        let lock = PathBuf::from(name);
        let say = |error: io::Error| {
            format!(
                "the history file {} cannot be used: cannot open {} for writing: {error}",
                path.display(),
                lock.display()
            )
        };
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.custom_flags(nonblocking).open(&lock).map_err(say)?;
        files::ensure_regular(&file).map_err(say)?;
        let mut locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
        for _ in 0..TRIES {
            // A process that is just being started has a copy of every descriptor until it runs its
            // program, and one that was killed is not gone at once.
            if locked != Err(rustix::io::Errno::WOULDBLOCK) {
                break;
            }
            std::thread::sleep(PAUSE);
            locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
        }
        match locked {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(format!(
                    "the history file {} is in use by another gateway or another wsgw serve: give \
                     each history a file of its own",
                    path.display()
                ));
            }
            Err(error) => return Err(say(error.into())),
        }
        let mut text = String::new();
        let read = (&file).take(512).read_to_string(&mut text);
        let last = read.ok().and_then(|_| Last::parse(&text));
        Ok(Lock { file, path: lock, last })
    }

    /// What was left by the last one who had it.
    pub(super) fn last(&self) -> Option<Last> {
        self.last.clone()
    }

    /// Notes who has it now.
    pub(super) fn write(
        &mut self,
        epoch: Epoch,
        boot: Option<&str>,
        end: End,
    ) -> Result<(), String> {
        let boot = boot.filter(|boot| boot.len() <= BOOT).map(str::to_owned);
        self.put(Last { epoch, boot, end })
    }

    /// Notes another epoch.
    pub(super) fn set_epoch(&mut self, epoch: Epoch) -> Result<(), String> {
        let boot = self.last.take().and_then(|last| last.boot);
        self.put(Last { epoch, boot, end: End::Open })
    }

    /// Notes a clean end.
    pub(super) fn end(&mut self) -> Result<(), String> {
        match self.last.take() {
            Some(last) => self.put(Last { end: End::Clean, ..last }),
            None => Ok(()),
        }
    }

    fn put(&mut self, last: Last) -> Result<(), String> {
        let written = self.file.write_all_at(last.line().as_bytes(), 0);
        self.last = Some(last);
        written.map_err(|error| self.say(&error))
    }

    /// Waits until the line is on disk.
    pub(super) fn sync(&self) -> Result<(), String> {
        self.file.sync_all().map_err(|error| self.say(&error))
    }

    fn say(&self, error: &io::Error) -> String {
        format!("cannot write {}: {error}", self.path.display())
    }
}

/// The path without links, so that two names of one file are one lock. A new file's directory must
/// be there.
pub(super) fn real_path(path: &Path) -> Result<PathBuf, String> {
    let say =
        |error: io::Error| format!("the history file {} cannot be used: {error}", path.display());
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            Err(say(io::Error::other("it is not a regular file; name a file")))
        }
        Ok(_) => std::fs::canonicalize(path).map_err(say),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = path.file_name().ok_or_else(|| say(io::Error::other("name a file")))?;
            let parent = match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            let parent = std::fs::canonicalize(parent).map_err(|error| {
                say(io::Error::new(error.kind(), format!("{}: {error}", parent.display())))
            })?;
            Ok(parent.join(name))
        }
        Err(error) => Err(say(error)),
    }
}

/// The id of this boot of the machine; `None` where the system does not tell it.
pub(super) fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let id = id.trim();
    (!id.is_empty() && !id.contains(char::is_whitespace)).then(|| id.to_owned())
}
