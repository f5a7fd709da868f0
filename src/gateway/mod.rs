//! One gateway: its acceptor, connections, fan-out and listener.
//!
//! The work is done by *shards*, threads of their own with one event loop each (`shard`). A
//! connection belongs to one shard for its life and is touched by no other. One of the shards is a
//! gateway's *home*: it accepts, and it talks to the listener through the [`crate::listener::exchange`], a plain
//! state machine. Shards speak to each other and to the control runtime by messages alone
//! (`engine`); what they share is atomic ([`metrics`], `Shared`).

use std::sync::atomic;

pub mod engine;
pub(crate) mod hub;
pub mod io;
pub mod metrics;
pub(crate) mod occupancy;
pub mod pressure;
pub(crate) mod primary;
pub(crate) mod shard;

pub use hub::admission;
