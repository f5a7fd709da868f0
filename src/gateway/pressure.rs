//! Backpressure of one gateway: what its shards tell each other about how much is under way, and
//! the gate that they read clients through.
//!
//! All of it is atomic; any thread may call anything. There are two directions:
//!
//! - *Clients to listener.* While the listener's window is full, or too many messages wait for it,
//!   no shard reads from clients. Without a listener the same holds while too many frames wait to be
//!   sent. A shard that finds this *gate* closed parks its connections and calls
//!   [`Pressure::wait_for_gate`]; whoever lowers a counter calls [`Pressure::wake_waiters`].
//! - *Producers to clients.* While a client that still takes bytes has more than half of its queue
//!   waiting ([`Pressure::set_slow_reader`]), a producer is not read.
//!
//! # Why no wake-up is lost
//! A shard stores `waiter` and then looks at the gate; whoever opens the gate changes a counter and
//! then looks at `waiter`. A `SeqCst` fence stands between the two steps on both sides, so at least
//! one of them sees the other's store: either the shard finds the gate open, or it is woken.
//! `tests/loom_pressure.rs` tries every interleaving. This file is compiled there with loom's
//! atomics, so it uses nothing of the crate but `super::atomic`.

use super::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

/// Frames that may wait to be sent, for each shard, before clients are not read.
pub const FRAMES_PER_SHARD: usize = 256;

/// The smallest bound on messages that wait for the listener, however small the window is.
const WAITING_MIN: usize = 16;

/// What a shard needs to know about its gateway's settings to judge the gate.
#[derive(Debug, Clone, Copy)]
pub struct Gate {
    /// The listener's window if messages go through the listener; `None` if they are sent at once.
    pub window: Option<usize>,
}

/// The backpressure of one gateway.
#[derive(Debug)]
pub struct Pressure {
    /// Whether every place in the listener's window is taken and more waits.
    window_full: AtomicBool,
    /// Messages that shards posted and the primary has not taken in yet. The primary publishes
    /// `waiting` before it lowers this, so that the sum never misses a message.
    under_way: AtomicUsize,
    /// Messages, handshakes and pushes that wait in the exchange.
    waiting: AtomicUsize,
    /// Bytes of notices (told events) that wait in the exchange.
    notice_bytes: AtomicUsize,
    /// Frames that wait to be sent, on all shards together.
    frames_pending: AtomicUsize,
    /// Whether some shard has parked connections and wants to hear that the gate is open.
    waiter: AtomicBool,
    /// Whether messages wait for the servers of a cluster.
    held: AtomicBool,
    /// By shard: whether a client that still takes bytes has over half of its queue waiting.
    slow_readers: Box<[AtomicBool]>,
}

impl Pressure {
    /// No pressure, for so many shards.
    pub fn new(shards: usize) -> Pressure {
        Pressure {
            window_full: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            notice_bytes: AtomicUsize::new(0),
            frames_pending: AtomicUsize::new(0),
            waiter: AtomicBool::new(false),
            held: AtomicBool::new(false),
            slow_readers: (0..shards).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    // ---- the gate ------------------------------------------------------------------------

    /// Whether clients may be read.
    pub fn may_read(&self, gate: Gate) -> bool {
        if self.is_held() {
            return false;
        }
        match gate.window {
            Some(window) => {
                let ahead =
                    self.under_way.load(Ordering::Acquire) + self.waiting.load(Ordering::Acquire);
                !self.window_full.load(Ordering::Acquire) && ahead < window.max(WAITING_MIN)
            }
            None => self.frames_pending() < FRAMES_PER_SHARD * self.slow_readers.len(),
        }
    }

    /// Neither clients nor producers are read from now on, or they are again. Whoever ends it wakes
    /// all shards afterwards.
    pub fn hold(&self, held: bool) {
        self.held.store(held, Ordering::SeqCst);
    }

    /// Whether clients and producers are not read because messages wait for the servers of a cluster.
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// Asks to be woken when the gate opens; true if it is open already.
    pub fn wait_for_gate(&self, gate: Gate) -> bool {
        self.waiter.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.may_read(gate)
    }

    /// Whether the caller has to wake all shards: the gate is open and one of them waits for it.
    /// To be called after everything that may open the gate.
    #[must_use]
    pub fn wake_waiters(&self, gate: Gate) -> bool {
        fence(Ordering::SeqCst);
        self.waiter.load(Ordering::Relaxed)
            && self.may_read(gate)
            && self.waiter.swap(false, Ordering::AcqRel)
    }

    // ---- messages to the listener --------------------------------------------------------

    /// A message is on its way to the primary.
    pub fn message_posted(&self) {
        self.under_way.fetch_add(1, Ordering::AcqRel);
    }

    /// The primary took a message in; `waiting` is what its exchange holds now.
    pub fn message_taken(&self, waiting: usize) {
        self.waiting.store(waiting, Ordering::Release);
        self.under_way.fetch_sub(1, Ordering::AcqRel);
    }

    /// What the exchange came to in a turn.
    pub fn publish(&self, window_full: bool, waiting: usize, notice_bytes: usize) {
        self.waiting.store(waiting, Ordering::Release);
        self.window_full.store(window_full, Ordering::Release);
        self.set_notice_bytes(notice_bytes);
    }

    /// Whether no message is on its way to the primary.
    pub fn nothing_under_way(&self) -> bool {
        self.under_way.load(Ordering::Acquire) == 0
    }

    /// Bytes of notices that wait for the listener.
    pub fn notice_bytes(&self) -> usize {
        self.notice_bytes.load(Ordering::Relaxed)
    }

    /// The same, as the exchange counts them.
    pub fn set_notice_bytes(&self, bytes: usize) {
        self.notice_bytes.store(bytes, Ordering::Relaxed);
    }

    // ---- frames to clients ---------------------------------------------------------------

    /// So many frames wait to be sent now.
    pub fn frames_added(&self, frames: usize) {
        self.frames_pending.fetch_add(frames, Ordering::AcqRel);
    }

    /// So many were sent, or will never be.
    pub fn frames_done(&self, frames: usize) {
        self.frames_pending.fetch_sub(frames, Ordering::AcqRel);
    }

    /// Frames that wait to be sent, on all shards together.
    pub fn frames_pending(&self) -> usize {
        self.frames_pending.load(Ordering::Acquire)
    }

    // ---- producers -----------------------------------------------------------------------

    /// Publishes whether a client of this shard that still takes bytes has over half of its queue
    /// waiting.
    pub fn set_slow_reader(&self, shard: usize, slow: bool) {
        let flag = &self.slow_readers[shard];
        if flag.load(Ordering::Relaxed) != slow {
            flag.store(slow, Ordering::Release);
        }
    }

    /// The same, as it was published.
    pub fn has_slow_reader(&self, shard: usize) -> bool {
        self.slow_readers[shard].load(Ordering::Acquire)
    }

    /// Whether any shard has such a client: producers are not read meanwhile.
    pub fn any_slow_reader(&self) -> bool {
        self.is_held() || self.slow_readers.iter().any(|slow| slow.load(Ordering::Acquire))
    }
}
