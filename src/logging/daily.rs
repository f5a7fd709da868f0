//! The log's files: one a day (UTC), and a link that always leads to the one that is written.
//!
//! The log's thread owns a [`Daily`] together with the thread that looks after it (`watch`), behind
//! a lock. Others may do anything to the files meanwhile: a file that was moved or removed, or whose
//! place something else has taken, is made anew, as is the directory. Several processes may write
//! into one directory, so nothing here is ever in a state between: the link is renamed into its
//! place, files are opened to be appended to, and a file that another process has removed is not an
//! error.
//!
//! `tracing_appender::rolling` does part of this, but cannot be used. It does not notice a file that
//! was moved; made anew for that purpose it removes a file at each start, even on the same day. It
//! never follows a clock that is set back, so one moment in a far future sends all later lines to
//! that day's file. It removes what was *created* first, a copied-back file last. Its link holds an
//! absolute path, so it breaks when the directory is moved, and there is a moment without it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::thread::Thread;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use crate::files;

/// Files that are kept, the current one among them.
const KEPT: usize = 14;

/// Files dated up to today that are kept in any case: files dated later, which a wrong clock left,
/// take no more places than the others.
const KEPT_UP_TO_TODAY: usize = KEPT / 2;

/// Days by which the clock goes at once, at most, for old files to be removed then. A clock that goes
/// further may be wrong; the next day decides.
const MAX_STEP: u64 = 7;

/// The newest file's name.
pub(super) const LINK: &str = "WebSocket.log";

/// Seconds of a day.
const DAY: u64 = 86_400;

/// How often it is looked whether the file is still in its place.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// Says that the log cannot be written, and why; never waits.
pub(super) type Complain = Box<dyn FnMut(&str) + Send>;

/// The current file, and another one when the day changes or the file has gone.
pub(super) struct Daily {
    directory: PathBuf,
    file: File,
    /// The day of `file`, counted from 1970 on.
    day: u64,
    /// When it was last looked whether the file is in its place.
    looked: Instant,
    /// Set by others: look at once.
    look_now: Arc<AtomicBool>,
    /// Whether the file is not in its place and could not be made anew.
    misplaced: bool,
    /// Whether it has no name at all any more: what is written is lost.
    unlinked: bool,
    complain: Complain,
    /// What was complained of last, until a line is written to a file in its place.
    complaint: Option<String>,
    now: fn() -> SystemTime,
}

impl Daily {
    /// Opens today's file in `directory`, which is made where it is missing. Setting `look_now` has
    /// the file looked at before the next line is written.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn open(
        directory: &Path,
        look_now: Arc<AtomicBool>,
        complain: Complain,
    ) -> io::Result<Daily> {
        Daily::open_with(directory, look_now, complain, SystemTime::now)
    }

    fn open_with(
        directory: &Path,
        look_now: Arc<AtomicBool>,
        complain: Complain,
        now: fn() -> SystemTime,
    ) -> io::Result<Daily> {
        let day = today(now);
        let file = begin(directory, day)?;
        prune(directory, &name_of(day));
        Ok(Daily {
            directory: directory.to_owned(),
            file,
            day,
            looked: Instant::now(),
            look_now,
            misplaced: false,
            unlinked: false,
            complain,
            complaint: None,
            now,
        })
    }

    /// Looks whether the file and the link are in their places, and makes them anew if not.
    pub(super) fn look(&mut self) {
        self.looked = Instant::now();
        if self.in_place() {
            self.misplaced = false;
            self.unlinked = false;
        } else {
            self.begin_anew();
        }
    }

    /// Whether the name of the file's day leads to the file, and the link to that name.
    fn in_place(&self) -> bool {
        let name = name_of(self.day);
        let Ok(open) = self.file.metadata() else { return false };
        let there = fs::metadata(self.directory.join(&name));
        let link = fs::read_link(self.directory.join(LINK));
        there.is_ok_and(|there| there.dev() == open.dev() && there.ino() == open.ino())
            && link.is_ok_and(|to| to == Path::new(&name))
    }

    /// Opens today's file. If that cannot be done, the one that is open goes on, and the reason is
    /// said once.
    fn begin_anew(&mut self) {
        let day = today(self.now);
        match begin(&self.directory, day) {
            Ok(file) => {
                if day.abs_diff(self.day) <= MAX_STEP {
                    prune(&self.directory, &name_of(day));
                }
                self.file = file;
                self.day = day;
                self.misplaced = false;
                self.unlinked = false;
            }
            Err(error) => {
                self.misplaced = true;
                self.unlinked = self.file.metadata().is_ok_and(|open| open.nlink() == 0);
                let what = match self.unlinked {
                    true => "lines are lost until it can",
                    false => "the file that was open goes on until it can",
                };
                let directory = self.directory.display();
                self.complain(format!(
                    "the log cannot be made anew in {directory}: {error}; {what}"
                ));
            }
        }
    }

    fn complain(&mut self, complaint: String) {
        if self.complaint.as_ref() != Some(&complaint) {
            (self.complain)(&complaint);
            self.complaint = Some(complaint);
        }
    }
}

impl Write for Daily {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let asked = self.look_now.swap(false, Ordering::AcqRel);
        let due = asked || self.looked.elapsed() >= LOOK;
        // Forward and back: the file is that of the day that the clock shows.
        if today(self.now) != self.day && (due || !self.misplaced) {
            self.looked = Instant::now();
            self.begin_anew();
        } else if due {
            self.look();
        }
        if self.unlinked {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the log's file is gone"));
        }
        let written = self.file.write(bytes);
        match &written {
            Ok(_) if self.misplaced => {}
            Ok(_) => self.complaint = None,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let directory = self.directory.display();
                self.complain(format!(
                    "the log cannot be written in {directory}: {error}; lines are lost until it can"
                ));
            }
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Starts the thread that looks after a file: it looks every [`LOOK`], and when it is unparked. It
/// ends when nobody writes to the file any more.
///
/// # Errors
/// There can be no further thread.
pub(super) fn watch(file: &Arc<Mutex<Daily>>) -> io::Result<Thread> {
    let file = Arc::downgrade(file);
    let look = move || {
        while let Some(file) = file.upgrade() {
            file.lock().look();
            drop(file);
            thread::park_timeout(LOOK);
        }
    };
    let watcher = thread::Builder::new().name("wsgw-log-watch".to_owned()).spawn(look)?;
    Ok(watcher.thread().clone())
}

/// The day that it is, counted from 1970 on.
fn today(now: fn() -> SystemTime) -> u64 {
    now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() / DAY
}

/// The name of a day's file: `WebSocket.2026-11-24.log`.
fn name_of(day: u64) -> String {
    // A date past the year 9999 cannot be formatted.
    let day = day.min(2_932_896);
    let midnight = SystemTime::UNIX_EPOCH + Duration::from_secs(day * DAY);
    let date = humantime::format_rfc3339_seconds(midnight).to_string();
    format!("WebSocket.{}.log", date.get(..10).unwrap_or(&date))
}

/// Opens a day's file and points the link to it. Makes the directory where it is missing.
fn begin(directory: &Path, day: u64) -> io::Result<File> {
    fs::create_dir_all(directory)?;
    let name = name_of(day);
    // Never waits: a FIFO in its place is found out and refused.
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open(directory.join(&name))
        .map_err(|error| with_name(&name, &error))?;
    files::ensure_regular(&file).map_err(|error| with_name(&name, &error))?;
    point_link(directory, &name).map_err(|error| with_name(LINK, &error))?;
    Ok(file)
}

fn with_name(name: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{name}: {error}"))
}

/// Points the link to a file of the same directory.
fn point_link(directory: &Path, name: &str) -> io::Result<()> {
    let link = directory.join(LINK);
    // A file of that name, of another program perhaps, would be replaced by our link.
    if fs::symlink_metadata(&link).is_ok_and(|found| found.is_file()) {
        let aside = format!("{LINK}.{}.old", std::process::id());
        fs::rename(&link, directory.join(aside))?;
    }
    // Renamed, so that there is no moment without it, whoever else does the same.
    let temporary = directory.join(format!(".{LINK}.{}", std::process::id()));
    let _ = fs::remove_file(&temporary);
    symlink(name, &temporary)?;
    fs::rename(&temporary, &link).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// Removes the oldest files, by the dates in their names, and nothing else. The `current` one is
/// never removed.
///
/// A file dated later than the current one was left by a clock that was wrong, unless the clock is
/// wrong now. Neither may cost the newest files: those dated later count as files that are kept, but
/// leave [`KEPT_UP_TO_TODAY`] places to the others.
fn prune(directory: &Path, current: &str) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let names = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| is_ours(name));
    let (mut later, mut others): (Vec<_>, Vec<_>) = names.partition(|name| name.as_str() > current);
    let newest_first = |a: &String, b: &String| b.cmp(a);
    later.sort_unstable_by(newest_first);
    others.sort_unstable_by(newest_first);
    let later_kept = later.len().min(KEPT - 1);
    let others_kept = (KEPT - later_kept).max(KEPT_UP_TO_TODAY);
    for old in later.iter().skip(later_kept).chain(others.iter().skip(others_kept)) {
        // Another process may have been faster.
        let _ = fs::remove_file(directory.join(old));
    }
}

/// Whether a file has a name that [`name_of`] makes.
fn is_ours(name: &str) -> bool {
    let date = name.strip_prefix("WebSocket.").and_then(|rest| rest.strip_suffix(".log"));
    date.is_some_and(|date| {
        date.len() == 10
            && date.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            })
    })
}

#[cfg(test)]
mod tests;
