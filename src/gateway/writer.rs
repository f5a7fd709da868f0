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

use parking_lot::Mutex;

use crate::gateway::core::Core;
use crate::gateway::history::{Batch, Log};
use crate::gateway::kept;
use crate::gateway::msg::HubMsg;
use crate::gateway::shared::Shared;
use crate::listener::op::Op;

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

    /// Ends it in order.
    fn close(self: Box<Self>);
}

/// Something on its way through the writer.
enum Item {
    /// An operation.
    Op(Arc<Shared>, Op),
    /// A message to a gateway's part of a shard, which keeps its place among the operations.
    Msg(Arc<Shared>, usize, HubMsg),
    /// Tell when all in front of it is done.
    Flush(mpsc::SyncSender<()>),
    /// End.
    End,
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
        core: Arc<Core>,
    ) -> io::Result<Writer> {
        let (queue, items) = mpsc::channel();
        let gateway = gateway.to_owned();
        let writing = Writing { file, log, gateway, core, failing: false, ended: false };
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

    /// Takes an operation in; it comes back if the writer has ended.
    pub(super) fn op(&self, gateway: &Arc<Shared>, op: Op) -> Option<Op> {
        match self.queue.send(Item::Op(Arc::clone(gateway), op)) {
            Err(mpsc::SendError(Item::Op(_, op))) => Some(op),
            _ => None,
        }
    }

    /// The same for a message to a shard.
    pub(super) fn msg(&self, gateway: &Arc<Shared>, shard: usize, msg: HubMsg) -> Option<HubMsg> {
        match self.queue.send(Item::Msg(Arc::clone(gateway), shard, msg)) {
            Err(mpsc::SendError(Item::Msg(_, _, msg))) => Some(msg),
            _ => None,
        }
    }
}

/// The writer's thread.
struct Writing {
    file: Box<dyn Sink>,
    log: Arc<Mutex<Log>>,
    gateway: String,
    core: Arc<Core>,
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
                if let Item::Op(_, Op::Deliver(delivery)) = &item {
                    bytes += delivery.payload.cost();
                }
                batch.push(item);
                let has_room = batch.len() < BATCH && bytes < BATCH_BYTES;
                next = if has_room { items.try_recv().ok() } else { None };
            }
            self.write(&mut batch);
            for item in batch.drain(..) {
                match item {
                    Item::Op(gateway, op) => self.core.hand_out(&gateway, op),
                    Item::Msg(gateway, shard, msg) => self.core.post_hub(shard, &gateway, msg),
                    // Whoever asked may have gone.
                    Item::Flush(done) => drop(done.send(())),
                    Item::End => self.ended = true,
                }
            }
        }
        self.file.close();
    }

    /// Numbers the messages of a batch and writes them. Where that fails they have no positions, and
    /// the numbers begin anew.
    fn write(&mut self, batch: &mut [Item]) {
        let now = kept::now();
        let change = {
            let mut log = self.log.lock();
            for item in &mut *batch {
                if let Item::Op(_, Op::Deliver(delivery)) = item {
                    delivery.at = log.keep(&delivery.to, &delivery.payload, now);
                }
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
        self.log.lock().new_epoch();
        for item in batch {
            if let Item::Op(gateway, Op::Deliver(delivery)) = item
                && delivery.at.take().is_some()
            {
                gateway.metrics.history_unwritten.inc();
            }
        }
    }
}
