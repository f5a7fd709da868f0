//! What is wrong with a history's file, for a person.

use std::io;
use std::path::Path;

use rusqlite::ErrorCode;

/// What may go wrong.
#[derive(Debug)]
pub(super) enum Trouble {
    Sqlite(rusqlite::Error),
    File(io::Error),
    /// A database of another program.
    Foreign,
    /// A newer version of this program made it.
    Newer(i64),
    /// It holds what this program never wrote.
    Damaged(String),
    /// Readers keep SQLite from shortening its log.
    Readers,
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Trouble {
        Trouble::Sqlite(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::File(error)
    }
}

/// The message about the database at `path`.
pub(super) fn say(path: &Path, trouble: &Trouble) -> String {
    let file = path.display();
    let damaged = |what: &str| {
        format!(
            "the history file {file} is damaged ({what}): move it away together with {file}-wal, \
             and a new history is begun"
        )
    };
    match trouble {
        Trouble::Sqlite(error) => match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                damaged(&error.to_string())
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => format!(
                "the history file {file} is locked by another program ({error}): end the program \
                 that writes to it, for example sqlite3 in a transaction"
            ),
            Some(ErrorCode::DiskFull) => format!(
                "the history file {file} cannot be written: the disk is full ({error}): make room"
            ),
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                format!(
                    "the history file {file} cannot be opened for writing ({error}): check the \
                     permissions of the file and of its directory"
                )
            }
            _ => format!("the history file {file} cannot be used: {error}"),
        },
        Trouble::File(error) => format!("the history file {file} cannot be used: {error}"),
        Trouble::Foreign => format!(
            "{file} is an SQLite database of another program: give the history another file"
        ),
        Trouble::Newer(version) => format!(
            "the history file {file} has format {version}, and this version of wsgw knows formats \
             up to {}: use the newer wsgw, or move the file away",
            super::schema::VERSION
        ),
        Trouble::Damaged(what) => damaged(what),
        Trouble::Readers => format!(
            "the history file {file}-wal has grown to 1 GiB, because another program reads the \
             database without an end: end that program"
        ),
    }
}
