//! Files whose names a user chose: opened and read so that no surprise behind the name can hang the
//! program or fill its memory.
//!
//! A name may lead to a device, a FIFO, a directory or a file without an end. [`open_regular`] takes
//! regular files alone; [`read`] also takes what a shell's `<(...)` makes, within a bound.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Access, access};

/// Opens a regular file for reading.
///
/// Never waits: a FIFO is opened without blocking, found not to be a regular file, and refused.
///
/// # Errors
/// The system's, or `InvalidInput` that says what the name leads to instead.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    ensure_regular(&file)?;
    Ok(file)
}

/// Refuses an open file that is not a regular one.
///
/// # Errors
/// `InvalidInput` that says what it is.
pub fn ensure_regular(file: &File) -> io::Result<()> {
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(());
    }
    let what = if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, not a regular file")))
}

/// Refuses a directory in which this process may make no file.
///
/// # Errors
/// The reason.
pub fn ensure_writable(directory: &Path) -> Result<(), String> {
    let metadata = std::fs::metadata(directory).map_err(|e| e.to_string())?;
    if !metadata.is_dir() {
        return Err(format!("{} is not a directory", directory.display()));
    }
    access(directory, Access::WRITE_OK | Access::EXEC_OK).map_err(|e| {
        format!("no file can be made in {}: {}", directory.display(), io::Error::from(e))
    })
}

/// Refuses a path that is no directory to write in and that could not be made one.
///
/// # Errors
/// The reason.
pub fn ensure_can_be_directory(path: &Path) -> Result<(), String> {
    let absolute = std::path::absolute(path).map_err(|e| e.to_string())?;
    let there = absolute.ancestors().find(|part| part.symlink_metadata().is_ok());
    let there = there.unwrap_or(Path::new("/"));
    // There the system says that everything may be done, and does nothing.
    let is_proc =
        rustix::fs::statfs(there).is_ok_and(|it| it.f_type == rustix::fs::PROC_SUPER_MAGIC);
    if is_proc && there != absolute {
        return Err(format!("no directory can be made in {}", there.display()));
    }
    ensure_writable(there)
}

/// Reads all of a file or pipe, `limit` bytes at most.
///
/// A FIFO that has a name in the file system is refused: where nobody writes, it would never open.
/// What a shell's `<(...)` makes has none.
///
/// # Errors
/// The system's; `InvalidInput` for a FIFO; `FileTooLarge` past the limit.
pub fn read(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    if is_named_pipe(path) {
        let why = "it is a named pipe; write <(COMMAND) or a regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    read_from(File::open(path)?, limit)
}

/// Whether the name leads to a FIFO in the file system, by links too.
fn is_named_pipe(path: &Path) -> bool {
    // An anonymous pipe in /proc or /dev/fd has no such path.
    let real = std::fs::canonicalize(path).ok();
    real.and_then(|real| std::fs::symlink_metadata(real).ok())
        .is_some_and(|metadata| metadata.file_type().is_fifo())
}

/// Reads all of an open file, `limit` bytes at most.
///
/// # Errors
/// The system's; `FileTooLarge` past the limit.
pub fn read_from(file: File, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        let why = format!("it is larger than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

/// Reads all of a file or pipe as UTF-8 text, `limit` bytes at most.
///
/// # Errors
/// The system's; `FileTooLarge` past the limit; `InvalidData` if it is not UTF-8.
pub fn read_text(path: &Path, limit: usize) -> io::Result<String> {
    String::from_utf8(read(path, limit)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_surprise_behind_the_name_neither_hangs_nor_fills_the_memory() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        for (path, what) in [
            (fifo.as_path(), "a pipe"),
            (Path::new("/dev/zero"), "a device"),
            (dir.path(), "a directory"),
        ] {
            let why = open_regular(path).unwrap_err().to_string();
            assert!(why.contains(what), "{}: {why}", path.display());
        }
        let why = read(&fifo, 1000).unwrap_err().to_string();
        assert!(why.contains("a named pipe"), "{why}");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&fifo, &link).unwrap();
        assert!(read(&link, 1000).is_err());
        let why = read(Path::new("/dev/zero"), 1000).unwrap_err().to_string();
        assert!(why.contains("larger than 1000 bytes"), "{why}");
        let file = dir.path().join("file");
        std::fs::write(&file, b"abc").unwrap();
        assert_eq!(read(&file, 3).unwrap(), b"abc");
        assert!(read(&file, 2).is_err());
    }
}
