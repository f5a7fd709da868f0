//! The tables of a history's database.
//!
//! `messages` is for everybody to read: a row for each channel that keeps a message. A row's id is
//! made of the message's number and of which of its channels the row is for, so that it can be
//! deleted without an index. The other tables are for this program alone.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::errors::Trouble;
use crate::gateway::history::batch::Batch;
use crate::text::position::Epoch;

/// The version of the tables, as `user_version`.
pub(super) const VERSION: i64 = 1;
/// Whose database it is: "wsgw".
const APPLICATION: i64 = 0x7773_6777;

const TABLES: &str = "
    CREATE TABLE messages(seq INTEGER NOT NULL, channel TEXT, at INTEGER NOT NULL,
        binary INTEGER NOT NULL, body NOT NULL);
    CREATE TABLE evicted(channel TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE state(epoch TEXT NOT NULL, newest INTEGER NOT NULL, rest INTEGER NOT NULL,
        limits TEXT NOT NULL);
    INSERT INTO state VALUES('', 0, 0, '');
";

/// Creates the file if it is not there. Only its owner may read it.
pub(super) fn create(path: &Path) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map(drop)
}

/// Checks whose database it is, creates the tables in a new one, and sets the connection up.
pub(super) fn ensure(connection: &mut Connection) -> Result<(), Trouble> {
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0));
    let (application, version): (i64, i64) = (pragma("application_id")?, pragma("user_version")?);
    if application == 0 && version == 0 && tables(connection)? == 0 {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
    } else if application != APPLICATION {
        return Err(Trouble::Foreign);
    } else if version > VERSION {
        return Err(Trouble::Newer(version));
    }
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        let why = "its file system cannot share memory, which SQLite's WAL needs";
        return Err(io::Error::other(why).into());
    }
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update_and_check(None, "journal_size_limit", 16 << 20, |_| Ok(()))?;
    connection.pragma_update(None, "cache_size", -8192)?;
    Ok(())
}

fn tables(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
}

/// Deletes everything, for a new epoch.
pub(super) fn clear(connection: &mut Connection, epoch: Epoch) -> Result<(), Trouble> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    forget_all(&transaction)?;
    let reset = "UPDATE state SET epoch=?, newest=0, rest=0, limits=''";
    transaction.execute(reset, [epoch.as_str()])?;
    Ok(transaction.commit()?)
}

/// Deletes the messages, and what was evicted.
pub(super) fn forget_all(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch("DELETE FROM messages; DELETE FROM evicted; UPDATE state SET rest=0")
}

/// Writes what is there once.
pub(super) fn set_state(transaction: &Transaction<'_>, batch: &Batch) -> rusqlite::Result<()> {
    let (epoch, newest) = (batch.epoch.as_str(), batch.newest as i64);
    transaction.execute("UPDATE state SET epoch=?, newest=?", params![epoch, newest])?;
    if let Some(rest) = batch.rest {
        transaction.execute("UPDATE state SET rest=?", [rest as i64])?;
    }
    if let Some(limits) = &batch.limits {
        let limits = serde_json::to_string(limits).unwrap_or_default();
        transaction.execute("UPDATE state SET limits=?", [limits])?;
    }
    Ok(())
}

/// The files that a database consists of.
fn files(path: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|end| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    })
}

/// Removes a database of ours whose end was lost with the machine. One of another program, or of a
/// newer version, stays.
pub(super) fn remove(path: &Path) -> Result<(), Trouble> {
    if let Ok(connection) = Connection::open(path) {
        let pragma =
            |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0));
        match (pragma("application_id"), pragma("user_version")) {
            (Ok(application), _)
                if application != APPLICATION && tables(&connection).is_ok_and(|n| n > 0) =>
            {
                return Err(Trouble::Foreign);
            }
            (_, Ok(version)) if version > VERSION => return Err(Trouble::Newer(version)),
            _ => {}
        }
    }
    for file in files(path) {
        match std::fs::remove_file(file) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Waits until a closed database is on disk.
pub(super) fn sync(path: &Path) -> Result<(), Trouble> {
    let [database, wal, _] = files(path);
    File::open(&database)?.sync_all()?;
    match File::open(wal) {
        Ok(wal) => wal.sync_all()?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
