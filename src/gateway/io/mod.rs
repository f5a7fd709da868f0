//! Sockets: TLS or not, what they have not taken yet, deadlines, io_uring.

pub mod memory;
pub mod outbox;
pub mod send_queue;
pub mod timers;
pub mod transport;
#[cfg_attr(not(target_os = "linux"), path = "no_uring.rs")]
pub mod uring;
