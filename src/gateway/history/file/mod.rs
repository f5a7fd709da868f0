//! A history in a file: an SQLite database that holds what a [`Log`](super::Log) keeps.
//!
//! [`Store::open`] reads the log back, and [`Store::write`] puts a [`Batch`] down in one transaction.
//! Beside the database `FILE` lie `FILE-wal` and `FILE-shm`, which are SQLite's, and `FILE-lock`
//! ([`lock`]), which says who has the database open, and whether its epoch may be continued.
//!
//! What is committed has reached the kernel and not the disk (`synchronous=OFF`): it stands when the
//! process is killed. If the machine goes down without a clean end, the next open begins a new epoch.
//!
//! # Concurrency
//!
//! A `Store` belongs to one thread, which may block: on the disk, and for up to five seconds on
//! another program that writes to the database. No lock of the log may be held meanwhile. What is
//! written moves from SQLite's log to the database on a thread of the store's own ([`checkpoint`]).

mod checkpoint;
mod errors;
mod load;
mod lock;
mod schema;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};

use self::checkpoint::Checkpoints;
use self::errors::Trouble;
use self::lock::{End, Lock};
use super::batch::{Batch, number_of};
use super::limits::Limits;
use super::log::Log;
use crate::text::position::Epoch;

/// How long a transaction waits for another program that writes.
const BUSY: Duration = Duration::from_secs(5);

/// The database of one history, open for writing. Dropping it without [`Store::close`] is like a
/// crash of the program: the file can be continued until the machine restarts.
pub struct Store {
    // The fields are dropped in this order: the lock is the last to go.
    connection: Connection,
    checkpoints: Checkpoints,
    /// The epoch of what the database holds.
    epoch: Epoch,
    path: PathBuf,
    lock: Lock,
}

impl Store {
    /// Opens the database at `path`, or creates it, and reads the log back that it holds. `now` is in
    /// milliseconds of Unix time.
    ///
    /// # Errors
    /// What is wrong and what to do, for a person.
    pub fn open(path: &Path, limits: Limits, now: u64) -> Result<(Store, Log), String> {
        Store::open_in_boot(path, limits, now, lock::boot_id().as_deref())
    }

    /// The same, for the boot of the machine that has this id; `None` if it is unknown.
    fn open_in_boot(
        path: &Path,
        limits: Limits,
        now: u64,
        boot: Option<&str>,
    ) -> Result<(Store, Log), String> {
        let path = lock::real_path(path)?;
        let mut lock = Lock::take(&path)?;
        let last = lock.last();
        if last.as_ref().is_some_and(|last| last.machine_went_down(boot)) {
            schema::remove(&path).map_err(|error| errors::say(&path, &error))?;
        }
        let continued = last.filter(|last| last.can_continue(boot)).map(|last| last.epoch);
        let opened = Store::connect(&path, limits, now, continued);
        let (mut connection, mut log) = opened.map_err(|error| errors::say(&path, &error))?;
        let epoch = log.position().epoch;
        lock.write(epoch, boot, End::Open).and_then(|()| lock.sync())?;
        let checkpoints = Checkpoints::start(&path, &mut connection)
            .map_err(|error| errors::say(&path, &error))?;
        let mut store = Store { connection, checkpoints, epoch, path, lock };
        if let Some(batch) = log.take_batch() {
            store.write(&batch)?;
        }
        Ok((store, log))
    }

    /// Opens the database. What it holds is read if its epoch may be continued, and is deleted
    /// otherwise.
    fn connect(
        path: &Path,
        limits: Limits,
        now: u64,
        continued: Option<Epoch>,
    ) -> Result<(Connection, Log), Trouble> {
        schema::create(path)?;
        let mut connection = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(BUSY)?;
        schema::ensure(&mut connection)?;
        let log = match continued {
            Some(epoch) => load::load(&mut connection, epoch, limits.clone(), now)?,
            None => None,
        };
        let log = match log {
            Some(log) => log,
            None => {
                let mut log = Log::new(Epoch::random(), limits);
                log.begin_batches();
                schema::clear(&mut connection, log.position().epoch)?;
                log
            }
        };
        Ok((connection, log))
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a batch in one transaction: all of it or nothing. Once it returns, the messages stand
    /// if the program is killed.
    ///
    /// # Errors
    /// What is wrong, for a person. Then nothing of the batch is in the file, and later batches would
    /// not fit: the caller begins a new epoch with [`Log::new_epoch`] and [`Store::new_epoch`], and
    /// writes on.
    pub fn write(&mut self, batch: &Batch) -> Result<(), String> {
        self.checkpoints.before_write(&self.connection).map_err(|e| errors::say(&self.path, &e))?;
        self.transact(batch).map_err(|error| errors::say(&self.path, &error.into()))?;
        self.epoch = batch.epoch;
        Ok(())
    }

    fn transact(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if batch.epoch != self.epoch {
            schema::forget_all(&transaction)?;
        }
        // Deletes go from page to page, and what is not written need not be deleted.
        let mut evicted = batch.evicted.clone();
        evicted.sort_unstable();
        let first = batch.rows.first().map_or(u64::MAX, |row| row.id);
        let (old, new) = evicted.split_at(evicted.partition_point(|id| *id < first));
        if batch.rows.len() > new.len() {
            let mut insert = transaction.prepare(
                "INSERT INTO messages(rowid, seq, channel, at, binary, body) VALUES(?,?,?,?,?,?)",
            )?;
            for row in batch.rows.iter().filter(|row| new.binary_search(&row.id).is_err()) {
                let channel = row.channel.as_ref().map(|name| name.as_str());
                let (id, seq, at) = (row.id as i64, number_of(row.id) as i64, row.at as i64);
                match row.payload.as_text() {
                    Some(text) => insert.execute(params![id, seq, channel, at, 0, text])?,
                    None => {
                        insert.execute(params![id, seq, channel, at, 1, row.payload.bytes()])?
                    }
                };
            }
        }
        if !old.is_empty() {
            let mut delete = transaction.prepare("DELETE FROM messages WHERE rowid=? AND seq=?")?;
            for id in old {
                delete.execute([*id as i64, number_of(*id) as i64])?;
            }
        }
        if !batch.floors.is_empty() {
            let mut set = transaction.prepare("REPLACE INTO evicted(channel, seq) VALUES(?,?)")?;
            let mut unset = transaction.prepare("DELETE FROM evicted WHERE channel=?")?;
            for (channel, floor) in &batch.floors {
                let name = channel.as_ref().map_or("", |name| name.as_str());
                match floor {
                    Some(floor) => set.execute(params![name, *floor as i64])?,
                    None => unset.execute([name])?,
                };
            }
        }
        schema::set_state(&transaction, batch)?;
        transaction.commit()
    }

    /// Notes that the log has begun a new epoch: what the file holds belongs to the old one, which is
    /// not continued any more. The next batch deletes it. This needs no room on the disk.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub fn new_epoch(&mut self, epoch: Epoch) -> Result<(), String> {
        self.lock.set_epoch(epoch)
    }

    /// Ends it: everything is on disk, and the next open continues even after a restart of the
    /// machine.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub fn close(self) -> Result<(), String> {
        let Store { connection, checkpoints, path, mut lock, .. } = self;
        drop(checkpoints);
        let end = || -> Result<(), Trouble> {
            connection.pragma_update(None, "synchronous", "FULL")?;
            // It may be hindered by a reader; then its frames stay in the WAL, which is synced.
            checkpoint::run(&connection, CheckpointMode::TRUNCATE)?;
            connection.close().map_err(|(_, error)| error)?;
            schema::sync(&path)
        };
        end().map_err(|error: Trouble| errors::say(&path, &error))?;
        lock.end().and_then(|()| lock.sync())
    }
}
