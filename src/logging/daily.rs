//! The log's files: one a day (UTC), and a link that always leads to the newest.
//!
//! Several processes may write into one directory, so nothing here is ever in a state between: the
//! link is renamed into its place, files are opened to be appended to, and a file that another one
//! has removed is no error.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Files that are kept, today's among them.
const KEPT: usize = 14;

/// The newest file's name.
pub const LINK: &str = "WebSocket.log";

/// Seconds of a day.
const DAY: u64 = 86_400;

/// The day's file, and the next day's when it comes.
pub struct Daily {
    directory: PathBuf,
    file: File,
    day: u64,
    /// The second of the last attempt at a new day's file.
    tried: u64,
    now: fn() -> SystemTime,
}

impl Daily {
    /// Opens today's file in `directory`, which is made where it is missing.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(directory: &Path) -> io::Result<Daily> {
        Daily::open_with(directory, SystemTime::now)
    }

    fn open_with(directory: &Path, now: fn() -> SystemTime) -> io::Result<Daily> {
        fs::create_dir_all(directory)?;
        // A file of that name, of another program perhaps, would be replaced by our link.
        let link = directory.join(LINK);
        if fs::symlink_metadata(&link).is_ok_and(|found| found.is_file()) {
            let aside = format!("{LINK}.{}.old", std::process::id());
            fs::rename(&link, directory.join(aside))?;
        }
        let (day, second) = today(now);
        let file = begin(directory, day)?;
        Ok(Daily { directory: directory.to_owned(), file, day, tried: second, now })
    }
}

impl Write for Daily {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (day, second) = today(self.now);
        // A clock that is set back does not bring an old file back.
        if day > self.day && second != self.tried {
            self.tried = second;
            // Until it can be made, yesterday's goes on.
            if let Ok(file) = begin(&self.directory, day) {
                self.file = file;
                self.day = day;
            }
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The day and the second that it is.
fn today(now: fn() -> SystemTime) -> (u64, u64) {
    let second = now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    (second / DAY, second)
}

/// Opens a day's file, points the link to it, and removes those that are too old.
fn begin(directory: &Path, day: u64) -> io::Result<File> {
    let midnight = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(day * DAY);
    let date = humantime::format_rfc3339_seconds(midnight).to_string();
    let name = format!("WebSocket.{}.log", date.get(..10).unwrap_or(&date));
    let file = OpenOptions::new().append(true).create(true).open(directory.join(&name))?;
    // Renamed, so that there is no moment without it, whoever else does the same.
    let temporary = directory.join(format!(".{LINK}.{}", std::process::id()));
    let _ = fs::remove_file(&temporary);
    symlink(&name, &temporary)?;
    fs::rename(&temporary, directory.join(LINK)).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })?;
    prune(directory);
    Ok(file)
}

/// Removes the oldest files, by the dates in their names, and nothing else.
fn prune(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| is_ours(name))
        .collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    for old in names.iter().skip(KEPT) {
        // Another process may have been faster.
        let _ = fs::remove_file(directory.join(old));
    }
}

/// `WebSocket.2026-11-24.log`.
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
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    static NOW: AtomicU64 = AtomicU64::new(0);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(NOW.load(Ordering::SeqCst))
    }

    #[test]
    fn each_day_has_its_file_and_the_link_leads_to_the_newest() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let text = |name: &str| fs::read_to_string(at(name)).unwrap();
        let day = 20_000;
        NOW.store(day * DAY, Ordering::SeqCst);
        fs::write(at(LINK), "another program's").unwrap();
        fs::write(at("WebSocketServer.log"), "another program's").unwrap();
        let mut log = Daily::open_with(directory.path(), now).unwrap();
        for n in 0..20 {
            NOW.store((day + n) * DAY + 5, Ordering::SeqCst);
            log.write_all(format!("{n}\n").as_bytes()).unwrap();
            assert_eq!(text(LINK), format!("{n}\n"));
        }
        let ours = |directory: &Path| {
            let names = fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name());
            let mut names: Vec<_> = names.filter_map(|n| n.into_string().ok()).collect();
            names.retain(|name| is_ours(name));
            names.sort();
            names
        };
        let kept = ours(directory.path());
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept[0], "WebSocket.2024-10-10.log");
        assert_eq!(text(&kept[0]), "6\n");
        // A start on the same day removes none and appends.
        let mut again = Daily::open_with(directory.path(), now).unwrap();
        again.write_all(b"again\n").unwrap();
        assert_eq!(ours(directory.path()), kept);
        assert_eq!(text(LINK), "19\nagain\n");
        // A clock that is set back goes on in the newest.
        NOW.store(day * DAY, Ordering::SeqCst);
        log.write_all(b"back\n").unwrap();
        assert_eq!(text(LINK), "19\nagain\nback\n");
        assert_eq!(text("WebSocketServer.log"), "another program's");
        assert_eq!(text(&format!("{LINK}.{}.old", std::process::id())), "another program's");
    }
}
