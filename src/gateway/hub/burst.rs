//! A burst: consecutive messages for the same connections on their way through a shard, with one
//! `send` for each connection, or one system call for many.
//!
//! Connections that get other bytes of the same messages (bare bodies, the frames of `wsgw.v1`, events
//! of a stream) are gone through one group after the other: each group is a *pass*.

use std::sync::Arc;

use bytes::Bytes;

use crate::gateway::context::Context;
use crate::gateway::hub::Lent;
use crate::gateway::hub::connection::Connection;
use crate::gateway::hub::flow::{Flow, stay};
use crate::gateway::wire::Wire;
use crate::listener::op::Delivery;
use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;
use crate::listener::recipients::Recipients;
use crate::listener::report::DeliveryReport;
use crate::text::position::Position;
use crate::ws::deflate::compress::Compressors;
use crate::ws::payload::Payload;

/// Bytes that a burst joins at most; a larger single message is a burst of its own.
const BURST_BYTES: usize = 256 * 1024;

/// Messages that a burst joins at most.
const BURST_MESSAGES: usize = 256;

/// One message of a burst.
struct Entry {
    payload: Payload,
    at: Option<Position>,
    number: u64,
    from: Option<ConnId>,
    /// Who does not get it, sorted.
    except: Option<Arc<[ConnId]>>,
    report: Option<Arc<DeliveryReport>>,
    /// Deliveries beside those of the whole burst.
    delivered: u64,
    dropped: u64,
}

impl Entry {
    fn new(number: u64, delivery: Delivery) -> Entry {
        let except = match delivery.to {
            Recipients::AllBut(except) => Some(except),
            // Members that do not get it are not among a pass's targets.
            Recipients::All | Recipients::Only(_) | Recipients::Members(_) => None,
        };
        Entry {
            payload: delivery.payload,
            at: delivery.at,
            number,
            from: delivery.from,
            except,
            report: delivery.report,
            delivered: 0,
            dropped: 0,
        }
    }

    /// Whether a connection gets it that is there from `first_frame` on.
    fn is_for(&self, conn: ConnId, first_frame: u64) -> bool {
        let excepted = self.except.as_ref().is_some_and(|all| all.binary_search(&conn).is_ok());
        self.number >= first_frame && !excepted
    }
}

/// What the recipients of a pass get.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Encoding {
    /// The channel that frames name.
    pub channel: Option<Channel>,
    /// The bytes of a message.
    pub wire: Wire,
}

impl Encoding {
    /// Whether both are the same but for compression.
    fn is_alike(&self, other: &Encoding) -> bool {
        self.wire.form == other.wire.form && self.channel == other.channel
    }
}

/// The frames of a burst without compression.
struct Plain {
    encoding: Encoding,
    frames: Vec<Bytes>,
    /// All of them, back to back, once a pass has needed it.
    joined: Option<Bytes>,
}

impl Plain {
    fn new(encoding: Encoding, entries: &[Entry]) -> Plain {
        let Encoding { wire, channel } = &encoding;
        let frame = |entry: &Entry| wire.form.message(&entry.payload, channel.as_ref(), entry.at);
        Plain { frames: entries.iter().map(frame).collect(), encoding, joined: None }
    }

    fn joined(&mut self) -> Bytes {
        self.joined.get_or_insert_with(|| join(&self.frames)).clone()
    }

    /// The frames with those compressed that get smaller; `None` if none of them does.
    fn compressed(&self, bits: u8, compressors: &mut Compressors) -> Option<(Vec<Bytes>, Bytes)> {
        let made: Vec<Option<Bytes>> =
            self.frames.iter().map(|frame| compressors.frame(bits, frame)).collect();
        if made.iter().all(Option::is_none) {
            return None;
        }
        let both = self.frames.iter().zip(made);
        let frames: Vec<Bytes> =
            both.map(|(plain, made)| made.unwrap_or_else(|| plain.clone())).collect();
        let joined = join(&frames);
        Some((frames, joined))
    }
}

fn join(frames: &[Bytes]) -> Bytes {
    if let [frame] = frames {
        return frame.clone();
    }
    let mut all = Vec::with_capacity(frames.iter().map(Bytes::len).sum());
    frames.iter().for_each(|frame| all.extend_from_slice(frame));
    Bytes::from(all)
}

/// Whom a pass goes to.
#[derive(Debug)]
pub(super) enum Targets {
    /// All connections that get this of a message.
    All {
        /// What they get.
        wire: Wire,
    },
    /// The connections in these slots.
    Slots(Vec<u32>),
}

/// The recipients of a burst that get the same bytes.
pub(super) struct Pass {
    pub encoding: Encoding,
    pub targets: Targets,
}

/// What became of one message of a burst.
pub(super) struct Outcome {
    /// Its sender, where no listener was asked.
    pub from: Option<ConnId>,
    /// Bytes of its frame.
    pub bytes: usize,
    /// Connections that got it.
    pub delivered: u64,
    /// Connections whose queue was full.
    pub dropped: u64,
    /// Who wants to know.
    pub report: Option<Arc<DeliveryReport>>,
}

/// Consecutive messages for the same recipients, on their way through the connections.
pub(crate) struct Burst {
    entries: Vec<Entry>,
    /// Those who do not get some message, sorted.
    special: Vec<ConnId>,
    /// The passes to come, the last first.
    passes: Vec<Pass>,
    /// The frame of each message in this pass.
    frames: Vec<Bytes>,
    /// All of them, back to back.
    pub(super) bytes: Bytes,
    /// The same without compression, where a pass before had it and this one or the next may.
    plain: Option<Box<Plain>>,
    /// Whom this pass goes to.
    pub(super) targets: Targets,
    /// The next slot, or the next of the slots.
    pub(super) cursor: usize,
    /// Connections that took the burst whole.
    whole: u64,
    /// Bytes of frames that were delivered.
    bytes_out: u64,
    /// Whether no connection has to note when it got the burst.
    pub(super) skips_clock: bool,
}

impl Burst {
    /// Joins a message for several connections with those behind it that have the same recipients.
    ///
    /// `next` gives the next one, if it is such a message and has so many bytes at most. `passes` are
    /// gone through from the last to the first, once [`Burst::next_pass`] has begun the first one.
    pub(super) fn form(
        number: u64,
        delivery: Delivery,
        passes: Vec<Pass>,
        mut next: impl FnMut(usize) -> Option<(u64, Delivery)>,
    ) -> Burst {
        let mut size = delivery.payload.cost();
        let mut entries = vec![Entry::new(number, delivery)];
        while entries.len() < BURST_MESSAGES
            && let Some((number, next)) = next(BURST_BYTES.saturating_sub(size))
        {
            size += next.payload.cost();
            entries.push(Entry::new(number, next));
        }
        let excepted = entries.iter().filter_map(|entry| entry.except.as_deref());
        let mut special: Vec<ConnId> = excepted.flatten().copied().collect();
        special.sort_unstable();
        special.dedup();
        Burst {
            entries,
            special,
            passes,
            frames: Vec::new(),
            bytes: Bytes::new(),
            plain: None,
            targets: Targets::Slots(Vec::new()),
            cursor: 0,
            whole: 0,
            bytes_out: 0,
            skips_clock: false,
        }
    }

    /// Begins the next pass; false if there is none.
    pub(super) fn next_pass(&mut self, compressors: &mut Compressors) -> bool {
        let Some(Pass { encoding, targets }) = self.passes.pop() else { return false };
        self.targets = targets;
        self.cursor = 0;
        let bits = encoding.wire.deflate;
        let mut plain = match self.plain.take() {
            Some(plain) if plain.encoding.is_alike(&encoding) => *plain,
            _ => Plain::new(encoding, &self.entries),
        };
        let made = (bits > 0).then(|| plain.compressed(bits, compressors)).flatten();
        let next = self.passes.last();
        let shared = next.is_some_and(|next| next.encoding.is_alike(&plain.encoding));
        (self.frames, self.bytes) = match made {
            Some(made) => made,
            None => {
                let joined = plain.joined();
                let frames = match shared {
                    true => plain.frames.clone(),
                    false => std::mem::take(&mut plain.frames),
                };
                (frames, joined)
            }
        };
        self.plain = shared.then(|| Box::new(plain));
        true
    }

    /// Bytes of frames that were delivered.
    pub(super) fn bytes_out(&self) -> u64 {
        self.bytes_out
    }

    /// How many messages it joins.
    pub(super) fn messages(&self) -> usize {
        self.entries.len()
    }

    /// The number of its first message.
    pub(super) fn first(&self) -> u64 {
        self.entries.first().map_or(0, |entry| entry.number)
    }

    /// Whether all its messages are for all connections.
    pub(super) fn is_for_all(&self) -> bool {
        self.special.is_empty()
    }

    /// Whether some message is not for this connection.
    pub(super) fn excepts(&self, conn: ConnId) -> bool {
        self.special.binary_search(&conn).is_ok()
    }

    /// What is counted and told once it went to all connections.
    pub(super) fn outcomes(self) -> impl Iterator<Item = Outcome> {
        let whole = self.whole;
        self.entries.into_iter().map(move |entry| Outcome {
            from: entry.from,
            bytes: entry.payload.cost(),
            delivered: whole + entry.delivered,
            dropped: entry.dropped,
            report: entry.report,
        })
    }

    /// A connection took all of it.
    pub(super) fn took_whole(&mut self, conn: Option<&mut Connection>, ctx: &Context) {
        self.whole += 1;
        self.bytes_out += self.bytes.len() as u64;
        // Where all get the same, one time for all of them is enough.
        if let Some(conn) = conn.filter(|_| !self.skips_clock) {
            conn.last_message = ctx.now;
        }
    }
}

impl Connection {
    /// The socket took `n` bytes of a burst: the rest goes to the outbox.
    pub(super) fn took_of_burst(
        &mut self,
        burst: &mut Burst,
        mut n: usize,
        lent: &mut Lent<'_>,
    ) -> Flow {
        if n == burst.bytes.len() {
            burst.took_whole(Some(self), lent.ctx);
            return stay();
        }
        let mut index = 0;
        while let Some(entry) = burst.entries.get_mut(index) {
            let length = burst.frames[index].len();
            if n < length {
                break;
            }
            n -= length;
            entry.delivered += 1;
            burst.bytes_out += length as u64;
            index += 1;
        }
        self.queue_entries(burst, index, n, lent)
    }

    /// Queues the messages of a burst from `from` on that are for this connection, `sent` bytes of
    /// the first of them being out already; then writes what the socket takes.
    pub(super) fn queue_entries(
        &mut self,
        burst: &mut Burst,
        from: usize,
        mut sent: usize,
        lent: &mut Lent<'_>,
    ) -> Flow {
        let was_empty = self.outbox.is_none();
        for index in from..burst.entries.len() {
            let entry = &burst.entries[index];
            if !self.receives() || !entry.is_for(self.id, self.first_frame) {
                // Nothing of it was sent either.
                continue;
            }
            let frame = burst.frames[index].clone();
            if self.queue(&frame, std::mem::take(&mut sent), lent)? {
                burst.entries[index].delivered += 1;
                burst.bytes_out += frame.len() as u64;
                continue;
            }
            for rest in &mut burst.entries[index..] {
                rest.dropped += u64::from(rest.is_for(self.id, self.first_frame));
            }
            return self.slow_consumer(lent);
        }
        if was_empty && from == 0 { self.flush(lent) } else { stay() }
    }
}
