//! What a gateway's port serves to browsers beside connections: static files, on a thread of its own,
//! and the pages that are part of the program ([`assets`]).
//!
//! A client that asks for a file leaves its shard with its socket ([`Away`]), for files may wait for a
//! disk, and a shard waits for nothing. It is answered here, and stays for further files until it asks
//! for something else: then its shard gets it back, with what it said. One thread serves the files of
//! all gateways. It is started at first use, and runs with a lower priority than the shards.

mod answer;
pub(crate) mod assets;
mod conversation;
mod files;
pub(crate) mod request;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::gateway::core::Core;
pub(crate) use crate::gateway::web::conversation::Away;
use crate::gateway::web::conversation::converse;

/// By how much its priority is lower.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// The thread that serves files.
pub(crate) struct Web {
    core: Arc<Core>,
    away: Arc<AtomicUsize>,
    thread: Mutex<Option<Thread>>,
}

struct Thread {
    clients: mpsc::UnboundedSender<(Away, Place)>,
    handle: JoinHandle<()>,
}

/// A client's place among those that may be away at a time.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Web {
    /// None is started yet.
    pub(crate) fn new(core: Arc<Core>) -> Web {
        Web { core, away: Arc::default(), thread: Mutex::default() }
    }

    /// A place for one more client; `None` if they hold half of all descriptors already, for the other
    /// half is kept for connections.
    pub(crate) fn place(&self) -> Option<Place> {
        let max = self.core.sockets_max() / 2;
        let next = |n: usize| (n < max).then_some(n + 1);
        let counted = self.away.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        counted.ok().map(|_| Place(Arc::clone(&self.away)))
    }

    /// Serves a client.
    pub(crate) fn serve(&self, away: Away, place: Place) {
        let mut thread = self.thread.lock();
        if thread.is_none() {
            *thread = start(Arc::clone(&self.core))
                .inspect_err(|error| tracing::error!(%error, "no thread for static files"))
                .ok();
        }
        let sent = thread.as_ref().is_some_and(|thread| thread.clients.send((away, place)).is_ok());
        if !sent {
            // The client's socket was closed with it.
            self.core.give_socket();
        }
    }

    /// Ends the thread, and every conversation with it.
    pub(crate) fn stop(&self) {
        if let Some(Thread { clients, handle }) = self.thread.lock().take() {
            drop(clients);
            // One that panicked has said so already.
            let _ = handle.join();
        }
    }
}

fn start(core: Arc<Core>) -> io::Result<Thread> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let (clients, mut comes) = mpsc::unbounded_channel::<(Away, Place)>();
    let work = async move {
        while let Some((away, place)) = comes.recv().await {
            let core = Arc::clone(&core);
            tokio::spawn(async move {
                converse(away, core).await;
                drop(place);
            });
        }
    };
    let handle = std::thread::Builder::new().name("files".to_owned()).spawn(move || {
        // It works without, only less politely.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::nice(NICE);
        runtime.block_on(work);
    })?;
    Ok(Thread { clients, handle })
}
