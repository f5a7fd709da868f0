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
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::gateway::history::{Batch, Log, Store};
use crate::listener::op::Delivery;
use crate::text::position::{Epoch, Position};

/// Operations of a batch at most.
const BATCH: usize = 1_024;

/// Bytes of a batch at most.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// How long the end of a file, or what stands in front of something, is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often the end is looked for.
const LOOK: Duration = Duration::from_millis(2);

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

    /// All in front of it is written: it goes on. `newest` is the position of the newest message
    /// that was handed out before.
    fn hand_out(self: Box<Self>, newest: Position);

    /// The writer has ended: it goes on at once. The caller holds the gateway's order.
    fn hand_out_unwritten(self: Box<Self>);
}

enum Item {
    Passes(Box<dyn Passes>),
    /// Tell when all in front of it is done.
    Flush(mpsc::SyncSender<()>),
}

/// Unix milliseconds.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The writer, as others see it.
pub(super) struct Writer {
    /// `None` once it is to end.
    queue: Mutex<Option<mpsc::Sender<Item>>>,
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
        let writing = Writing { file, log, gateway, failing: false };
        let thread = std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || writing.run(&items))?;
        Ok(Writer { queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)) })
    }

    /// Waits until all that was taken in is written and handed out, or the disk has been too slow.
    pub(super) fn flush(&self) {
        let (done, flushed) = mpsc::sync_channel(1);
        if self.send(Item::Flush(done)).is_ok() {
            // An error means that the writer has ended.
            let _ = flushed.recv_timeout(PATIENCE);
        }
    }

    /// Ends the thread once all that was taken in is handed out. What is passed from now on comes
    /// back.
    pub(super) fn close(&self) {
        drop(self.queue.lock().take());
        if let Some(thread) = self.thread.lock().take() {
            let until = Instant::now() + PATIENCE;
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(LOOK);
            }
            if thread.is_finished() {
                // A writer that panicked has said so.
                let _ = thread.join();
            } else {
                tracing::error!("the history's file takes too long to end");
            }
        }
    }

    /// Takes something in; it comes back if the writer has ended.
    pub(super) fn pass(&self, item: Box<dyn Passes>) -> Result<(), Box<dyn Passes>> {
        match self.send(Item::Passes(item)) {
            Err(Item::Passes(item)) => Err(item),
            Ok(()) | Err(Item::Flush(_)) => Ok(()),
        }
    }

    fn send(&self, item: Item) -> Result<(), Item> {
        match &*self.queue.lock() {
            Some(queue) => queue.send(item).map_err(|mpsc::SendError(item)| item),
            None => Err(item),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

/// The writer's thread.
struct Writing {
    file: Box<dyn Sink>,
    log: Arc<Mutex<Log>>,
    gateway: String,
    /// Whether the last batch could not be written.
    failing: bool,
}

impl Writing {
    fn run(mut self, items: &mpsc::Receiver<Item>) {
        let mut batch = Vec::new();
        let mut newest = self.log.lock().position();
        // It ends when nobody can send any more and all is handed out.
        while let Ok(first) = items.recv() {
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
            if !self.write(&mut batch) {
                newest = self.log.lock().position();
            }
            for mut item in batch.drain(..) {
                if let Some(at) = delivery(&mut item).and_then(|delivery| delivery.at) {
                    newest = at;
                }
                match item {
                    Item::Passes(item) => item.hand_out(newest),
                    // Whoever asked may have gone.
                    Item::Flush(done) => drop(done.send(())),
                }
            }
        }
        if let Err(why) = self.file.close() {
            tracing::error!(gateway = %self.gateway, "the history's file does not end in order: {why}");
        }
    }

    /// Numbers the messages of a batch and writes them. False where that fails: they have no
    /// positions, and the numbers begin anew.
    fn write(&mut self, batch: &mut [Item]) -> bool {
        let now = now();
        let change = {
            let mut log = self.log.lock();
            for delivery in batch.iter_mut().filter_map(delivery) {
                delivery.at = log.keep(&delivery.to, &delivery.payload, now);
            }
            log.take_batch()
        };
        let Some(change) = change.filter(|change| !change.is_empty()) else { return true };
        match self.file.write(&change) {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!(gateway = %self.gateway, "the history's file is written again");
            }
            Ok(()) => {}
            Err(why) => {
                self.failed(&why, batch);
                return false;
            }
        }
        true
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
        Item::Flush(_) => None,
    }
}
