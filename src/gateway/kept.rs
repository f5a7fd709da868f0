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
use crate::gateway::writer::{Sink, Writer};

pub(crate) use crate::gateway::writer::now;
use crate::listener::op::Delivery;
use crate::listener::protocol::channel::Channel;
use crate::text::position::{Epoch, Position, Since};

/// Messages that somebody who looks at the history is given at a time.
const PIECE: usize = 8_192;

/// Milliseconds since a time in Unix milliseconds.
pub(crate) fn milliseconds_since(at: u64) -> u64 {
    now().saturating_sub(at)
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

    pub(super) fn log(&self) -> &Mutex<Log> {
        &self.log
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

    /// What is sent to somebody who asks. `epoch` is that of `ask.newest`.
    pub fn replay(&self, ask: &Ask<'_>, epoch: Epoch) -> Replay {
        let mut log = self.log.lock();
        if log.position().epoch != epoch {
            // The numbers began anew, and this shard has not heard of it yet.
            let recovered = ask.since.and_then(Since::position).map(|_| false);
            return Replay { recovered, ..ask.nothing() };
        }
        log.replay(ask, now())
    }

    /// What went to these channels and to all behind a position, up to `newest`, which is of the same
    /// epoch: the oldest of it, about `max_bytes` of it at most, and the number up to which that is
    /// everything. `None` if something is missing.
    pub fn after(
        &self,
        channels: &[Channel],
        position: Position,
        newest: Position,
        max_bytes: usize,
    ) -> Option<(Vec<Kept>, u64)> {
        let ask = Ask {
            channels,
            all: true,
            since: None,
            newest: newest.number,
            fallback: None,
            max_bytes,
            max_messages: PIECE,
        };
        let mut log = self.log.lock();
        if log.position().epoch != newest.epoch {
            return None;
        }
        log.after(&ask, position, now())
    }

    /// What somebody is shown who looks at the history of these channels (`None`: at everything), and
    /// its epoch: at most `limit` messages, the oldest behind a position, else the newest. `None` if
    /// something is missing behind the position.
    ///
    /// All of a long history is read piece by piece, so that messages can be kept in between.
    pub fn look(
        &self,
        channels: Option<&[Channel]>,
        since: Option<Since>,
        limit: usize,
    ) -> Option<(Epoch, Vec<Kept>)> {
        self.look_by(channels, since, limit, PIECE)
    }

    fn look_by(
        &self,
        channels: Option<&[Channel]>,
        since: Option<Since>,
        limit: usize,
        piece: usize,
    ) -> Option<(Epoch, Vec<Kept>)> {
        // What is behind a position has to be there at one moment, and so have the newest of each
        // channel. The rest is read from its end on, for it loses what is oldest.
        let piece = match since {
            Some(Since::After(_) | Since::Newest(_)) => usize::MAX,
            Some(Since::Span(_)) | None => piece,
        };
        let mut pieces = Vec::new();
        let (mut left, mut newest) = (limit, u64::MAX);
        let epoch = self.position().epoch;
        loop {
            let max_messages = left.min(piece);
            let query = history::Query { channels, since, max_messages, max_bytes: usize::MAX };
            let found = {
                let mut log = self.log.lock();
                if log.position().epoch != epoch {
                    // All that was there is forgotten.
                    break;
                }
                log.query_up_to(&query, newest, now())?
            };
            left -= found.len();
            newest = found.first().map_or(0, |first| first.number - 1);
            let is_last = found.len() < piece || left == 0;
            pieces.push(found);
            if is_last {
                break;
            }
        }
        Some((epoch, pieces.into_iter().rev().flatten().collect()))
    }

    /// What is kept.
    pub fn stats(&self) -> Stats {
        self.log.lock().stats(now())
    }

    /// What is kept of a channel.
    pub fn channel(&self, channel: &str) -> Option<ChannelStats> {
        self.log.lock().channel(channel, now())
    }

    /// The channels of which something is kept and whose names begin with `prefix`, sorted by name,
    /// behind `after`, so many at most.
    pub fn channels(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<Channel> {
        let mut log = self.log.lock();
        // What is too old is not there any more.
        log.stats(now());
        let fits = |name: &&Channel| {
            name.as_str().starts_with(prefix) && after.is_none_or(|after| name.as_str() > after)
        };
        let mut found: Vec<Channel> = log.channels_with_messages().filter(fits).cloned().collect();
        drop(log);
        found.sort_unstable();
        found.truncate(limit);
        found
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::recipients::{ChannelTarget, Recipients};
    use crate::ws::payload::Payload;

    #[test]
    fn what_is_read_piece_by_piece_is_what_is_there() {
        let limits = Limits {
            channels: vec![("*".to_owned(), 1_000)],
            broadcast: 1_000,
            age_ms: 0,
            bytes: usize::MAX,
        };
        let history = History::in_memory(limits);
        let names = ["a", "b", "c"].map(|name| Channel::parse(name).unwrap());
        for number in 0..100 {
            let to = match number % 4 {
                3 => Recipients::All,
                at => ChannelTarget::recipients(names[..=at].to_vec(), Vec::new()),
            };
            let payload = Payload::text(&number.to_string());
            history.log.lock().keep(&to, &payload, now()).unwrap();
        }
        let (epoch, all) = history.look(None, None, usize::MAX).unwrap();
        assert_eq!((all.len(), epoch), (100, history.position().epoch));
        let some = &names[1..2];
        let (_, of_b) = history.look(Some(some), None, usize::MAX).unwrap();
        assert_eq!(of_b.len(), 50);
        let long = Some(Since::Span(std::time::Duration::from_secs(3_600)));
        for piece in [1, 7, 50, 100, 101] {
            for (channels, whole) in [(None, &all), (Some(some), &of_b)] {
                for limit in [0, 1, 49, 50, usize::MAX] {
                    for since in [None, long] {
                        let found = history.look_by(channels, since, limit, piece).unwrap().1;
                        let want = &whole[whole.len().saturating_sub(limit)..];
                        assert_eq!(found, want, "{piece} {limit}");
                    }
                }
            }
        }
        let after = Some(Since::After(Position { epoch, number: 10 }));
        assert_eq!(history.look_by(None, after, 5, 1).unwrap().1, all[10..15]);
        let ahead = Some(Since::After(Position { epoch, number: 101 }));
        assert!(history.look(None, ahead, 5).is_none());
    }
}
