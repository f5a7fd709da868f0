//! A gateway's history as its shards use it: the log behind one lock, and the thread that writes it
//! to a file ([`writer`](super::writer)).
//!
//! A message gets its number where the gateway's order is made: without a file, under that order's
//! lock; with one, in the writer's thread.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::gateway::history;
use crate::gateway::history::{Ask, ChannelStats, Kept, Limits, Log, Replay, Stats};
use crate::gateway::writer::{Sink, Writer, now};
use crate::listener::op::Delivery;
use crate::listener::protocol::channel::Channel;
use crate::text::position::{Epoch, Position, Since};

/// Milliseconds since a time in Unix milliseconds.
pub(crate) fn milliseconds_since(at: u64) -> u64 {
    now().saturating_sub(at)
}

/// What somebody asks of a history.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// The channels.
    pub channels: &'a [Channel],
    /// Whether what went to all is wanted too.
    pub all: bool,
    /// Which messages.
    pub since: Option<Since>,
    /// The position of the newest one.
    pub newest: Position,
    /// What is wanted where a position cannot be served.
    pub fallback: Option<Since>,
    /// Bytes at most.
    pub max_bytes: usize,
    /// Messages at most.
    pub max_messages: usize,
}

/// The history of a gateway.
pub struct History {
    log: Arc<Mutex<Log>>,
    writer: Option<Writer>,
}

impl History {
    /// A history in memory.
    pub fn in_memory(limits: Limits) -> History {
        History { log: Arc::new(Mutex::new(Log::new(Epoch::random(), limits))), writer: None }
    }

    /// A history that is kept in a file, too; `log` is what stands there.
    ///
    /// # Errors
    /// The writer's thread cannot be started.
    pub fn in_file(log: Log, file: Box<dyn Sink>, gateway: &str) -> io::Result<History> {
        let log = Arc::new(Mutex::new(log));
        let writer = Writer::start(file, Arc::clone(&log), gateway)?;
        Ok(History { log, writer: Some(writer) })
    }

    /// The writer's queue, if there is a file.
    pub(super) fn writer(&self) -> Option<&Writer> {
        self.writer.as_ref()
    }

    /// Keeps a message, if it is one that is kept.
    pub(super) fn keep(&self, delivery: &mut Delivery) {
        delivery.at = self.log.lock().keep(&delivery.to, &delivery.payload, now());
    }

    /// The position of the newest message.
    pub fn position(&self) -> Position {
        self.log.lock().position()
    }

    /// What is kept from now on.
    pub fn set_limits(&self, limits: Limits) {
        self.log.lock().set_limits(limits);
    }

    /// What is sent to somebody who asks.
    pub fn replay(&self, query: &Query<'_>) -> Replay {
        let mut log = self.log.lock();
        let Query { channels, all, since, newest, fallback, max_bytes, max_messages } = *query;
        if log.position().epoch != newest.epoch {
            // The numbers began anew, and this shard has not heard of it yet.
            return Replay {
                recovered: since.and_then(Since::position).map(|_| false),
                before: newest.number,
                messages: Vec::new(),
                from: vec![newest.number; channels.len()],
                from_all: newest.number,
            };
        }
        let newest = newest.number;
        log.replay(&Ask { channels, all, since, newest, fallback, max_bytes, max_messages }, now())
    }

    /// What somebody is shown who looks at the history, and its epoch; `None` if something is missing
    /// behind the position that is asked for.
    pub fn look(&self, query: &history::Query<'_>) -> Option<(Epoch, Vec<Kept>)> {
        let mut log = self.log.lock();
        let found = log.query(query, now())?;
        Some((log.position().epoch, found))
    }

    /// What is kept.
    pub fn stats(&self) -> Stats {
        self.log.lock().stats(now())
    }

    /// What is kept of a channel.
    pub fn channel(&self, channel: &str) -> Option<ChannelStats> {
        self.log.lock().channel(channel, now())
    }

    /// The channels of which something is kept.
    pub fn channels(&self) -> Vec<Channel> {
        self.log.lock().channels_with_messages().cloned().collect()
    }

    /// Waits until all that was handed to the writer is written and handed on.
    pub fn flush(&self) {
        if let Some(writer) = &self.writer {
            writer.flush();
        }
    }

    /// Ends the file in order. Nothing is kept afterwards.
    pub fn close(&self) {
        if let Some(writer) = &self.writer {
            writer.close();
        }
    }
}
