//! Moves what was written from SQLite's log, the WAL, into the database.
//!
//! A thread with a connection of its own moves most of it, while the writer writes on. It cannot
//! catch up with a writer that does not pause, so the writer itself moves the little that is left
//! then. After that SQLite begins the WAL anew, and so its size is bounded.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, ErrorCode, OpenFlags, wal::CheckpointMode};

use super::errors::Trouble;

/// Pages of the WAL, 4 KiB each, after which they are moved.
const START: usize = 1000;
/// Pages that may come while the thread is busy; past this, the writer waits for it.
const AHEAD: usize = 16_000;
/// The most pages of the WAL, which readers keep it from beginning anew: 1 GiB.
const MOST: usize = 262_144;

#[derive(Default)]
struct State {
    wanted: bool,
    end: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Pages in the WAL.
    pages: AtomicUsize,
}

/// The writer's side. Dropping it ends the thread.
pub(super) struct Checkpoints {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Whether the thread was asked and its end was not yet noticed.
    asked: bool,
    /// The next is due at so many pages.
    due: usize,
}

impl Checkpoints {
    /// Starts the thread. `writer` counts its pages from here on.
    pub(super) fn start(path: &Path, writer: &mut Connection) -> Result<Checkpoints, Trouble> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        // A connection checkpoints only after it has read the database.
        connection.query_row("SELECT count(*) FROM state", [], |_| Ok(()))?;
        let shared = Arc::new(Shared::default());
        let pages = shared.clone();
        writer.wal_hook(Some(move |_: &mut _, count| {
            pages.pages.store(usize::try_from(count).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))?;
        let thread = {
            let shared = shared.clone();
            let run = move || serve(&shared, &connection);
            std::thread::Builder::new().name("history".into()).spawn(run)?
        };
        Ok(Checkpoints { shared, thread: Some(thread), asked: false, due: START })
    }

    /// Keeps the WAL short. It is called in front of each transaction.
    pub(super) fn before_write(&mut self, writer: &Connection) -> Result<(), Trouble> {
        let pages = self.shared.pages.load(Ordering::Relaxed);
        if pages < START {
            self.due = START;
        }
        if pages < self.due {
            return Ok(());
        }
        if !self.asked {
            self.shared.state.lock().wanted = true;
            self.shared.changed.notify_all();
            self.asked = true;
        }
        {
            let mut state = self.shared.state.lock();
            while state.wanted && pages > self.due + AHEAD {
                self.shared.changed.wait(&mut state);
            }
            if state.wanted {
                return Ok(());
            }
        }
        let done = run(writer, CheckpointMode::PASSIVE);
        self.asked = false;
        self.due = pages + START;
        // Where it fails, the transaction may fare better.
        if pages > MOST {
            Err(done.map_or_else(Trouble::from, |()| Trouble::Readers))
        } else {
            Ok(())
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.shared.state.lock().end = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it has, there is nothing to be done about it here.
            drop(thread.join());
        }
    }
}

fn serve(shared: &Shared, connection: &Connection) {
    let mut state = shared.state.lock();
    while !state.end {
        if !state.wanted {
            shared.changed.wait(&mut state);
            continue;
        }
        parking_lot::MutexGuard::unlocked(&mut state, || {
            // What failed is tried again by the writer, which says what is wrong.
            drop(run(connection, CheckpointMode::PASSIVE));
        });
        state.wanted = false;
        shared.changed.notify_all();
    }
}

/// Moves what can be moved now. Readers that hinder it are no error.
pub(super) fn run(connection: &Connection, mode: CheckpointMode) -> rusqlite::Result<()> {
    match connection.wal_checkpoint_v2(Some(rusqlite::MAIN_DB), mode) {
        Err(error) if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) => Err(error),
        _ => Ok(()),
    }
}
