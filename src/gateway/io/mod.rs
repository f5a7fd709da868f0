//! Sockets and timers: plain and TLS sockets, the frames that a socket has not taken yet, deadlines,
//! and sending with io_uring. Each value here belongs to one shard, so there is no lock.

pub(crate) mod memory;
pub(crate) mod outbox;
pub(crate) mod send_queue;
pub(crate) mod socket;
pub(crate) mod timers;
pub(crate) mod transport;
#[cfg_attr(not(target_os = "linux"), path = "no_uring.rs")]
pub(crate) mod uring;
pub(crate) mod watched;
