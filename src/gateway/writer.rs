//! The thread that writes a history to its file, and hands out what was written.
//!
//! With a file every operation of the gateway passes through here. The thread takes what has come
//! meanwhile as one batch: it numbers the messages, writes them in one transaction, and then hands
//! the operations to the shards in their order. So nobody is sent a message whose position a crash
//! could take back, and a batch is as large as the file is slow.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::gateway::history::{Batch, Log, Store};
use crate::listener::op::Delivery;
use crate::text::position::Epoch;

/// Operations of a batch at most.
const BATCH: usize = 1_024;

/// Bytes of a batch at most.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// What a log is written to.
pub trait Sink: Send {
    /// Writes what has changed; on success it stands, whatever becomes of this process.
    ///
    /// # Errors
    /// Why nothing of it was written.
    fn write(&mut self, change: &Batch) -> Result<(), String>;

    /// The numbers begin anew, because something could not be written.
    ///
    /// # Errors
    /// Why that could not be noted either.
    fn new_epoch(&mut self, epoch: Epoch) -> Result<(), String>;

    /// Ends it in order.
    ///
    /// # Errors
    /// What could not be done.
    fn close(self: Box<Self>) -> Result<(), String>;
}

impl Sink for Store {
    fn write(&mut self, change: &Batch) -> Result<(), String> {
        Store::write(self, change)
    }

    fn new_epoch(&mut self, epoch: Epoch) -> Result<(), String> {
        Store::new_epoch(self, epoch)
    }

    fn close(self: Box<Self>) -> Result<(), String> {
        Store::close(*self)
    }
}

/// Something that passes through the writer.
pub(super) trait Passes: Send {
    /// The message that it delivers, if it does.
    fn delivery(&mut self) -> Option<&mut Delivery>;

    /// Counts that its message could not be written.
    fn unwritten(&self);

    /// All in front of it is written: it goes on.
    fn hand_out(self: Box<Self>);
}

enum Item {
    Passes(Box<dyn Passes>),
    /// Tell when all in front of it is done.
    Flush(mpsc::SyncSender<()>),
    /// End.
    End,
}

/// Unix milliseconds.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The writer, as others see it.
pub(super) struct Writer {
    queue: mpsc::Sender<Item>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(
        file: Box<dyn Sink>,
        log: Arc<Mutex<Log>>,
        gateway: &str,
    ) -> io::Result<Writer> {
        let (queue, items) = mpsc::channel();
        let gateway = gateway.to_owned();
        let writing = Writing { file, log, gateway, failing: false, ended: false };
        let thread = std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || writing.run(&items))?;
        Ok(Writer { queue, thread: Mutex::new(Some(thread)) })
    }

    /// Waits until all that was taken in is written and handed out.
    pub(super) fn flush(&self) {
        let (done, flushed) = mpsc::sync_channel(1);
        if self.queue.send(Item::Flush(done)).is_ok() {
            // An error means that the writer has ended.
            let _ = flushed.recv();
        }
    }

    /// Ends the thread once all that was taken in is handed out.
    pub(super) fn close(&self) {
        let _ = self.queue.send(Item::End);
        if let Some(thread) = self.thread.lock().take() {
            // A writer that panicked has said so.
            let _ = thread.join();
        }
    }

    /// Takes something in. If the writer has ended, it goes on at once.
    pub(super) fn pass(&self, item: Box<dyn Passes>) {
        if let Err(mpsc::SendError(Item::Passes(item))) = self.queue.send(Item::Passes(item)) {
            item.hand_out();
        }
    }
}

/// The writer's thread.
struct Writing {
    file: Box<dyn Sink>,
    log: Arc<Mutex<Log>>,
    gateway: String,
    /// Whether the last batch could not be written.
    failing: bool,
    ended: bool,
}

impl Writing {
    fn run(mut self, items: &mpsc::Receiver<Item>) {
        let mut batch = Vec::new();
        while !self.ended {
            let Ok(first) = items.recv() else { break };
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(item) = next {
                batch.push(item);
                if let Some(delivery) = batch.last_mut().and_then(delivery) {
                    bytes += delivery.payload.cost();
                }
                let has_room = batch.len() < BATCH && bytes < BATCH_BYTES;
                next = if has_room { items.try_recv().ok() } else { None };
            }
            self.write(&mut batch);
            for item in batch.drain(..) {
                match item {
                    Item::Passes(item) => item.hand_out(),
                    // Whoever asked may have gone.
                    Item::Flush(done) => drop(done.send(())),
                    Item::End => self.ended = true,
                }
            }
        }
        if let Err(why) = self.file.close() {
            tracing::error!(gateway = %self.gateway, "the history's file does not end in order: {why}");
        }
    }

    /// Numbers the messages of a batch and writes them. Where that fails they have no positions, and
    /// the numbers begin anew.
    fn write(&mut self, batch: &mut [Item]) {
        let now = now();
        let change = {
            let mut log = self.log.lock();
            for delivery in batch.iter_mut().filter_map(delivery) {
                delivery.at = log.keep(&delivery.to, &delivery.payload, now);
            }
            log.take_batch()
        };
        let Some(change) = change.filter(|change| !change.is_empty()) else { return };
        match self.file.write(&change) {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!(gateway = %self.gateway, "the history's file is written again");
            }
            Ok(()) => {}
            Err(why) => self.failed(&why, batch),
        }
    }

    fn failed(&mut self, why: &str, batch: &mut [Item]) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(
                gateway = %self.gateway,
                "the history's file cannot be written: {why}; messages go out without positions, and \
                 nobody can resume from before"
            );
        }
        let epoch = {
            let mut log = self.log.lock();
            log.new_epoch();
            log.position().epoch
        };
        if let Err(why) = self.file.new_epoch(epoch) {
            tracing::error!(gateway = %self.gateway, "the history's new epoch cannot be noted: {why}");
        }
        for item in batch {
            let Item::Passes(item) = item else { continue };
            if item.delivery().is_some_and(|delivery| delivery.at.take().is_some()) {
                item.unwritten();
            }
        }
    }
}

fn delivery(item: &mut Item) -> Option<&mut Delivery> {
    match item {
        Item::Passes(item) => item.delivery(),
        Item::Flush(_) | Item::End => None,
    }
}
