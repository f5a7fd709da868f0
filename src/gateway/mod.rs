//! One gateway: its connections, its fan-out, and the bytes from and to its listener.
//!
//! The work is done by *shards*, threads of their own with one event loop each ([`shard`]). A
//! connection belongs to one shard for its life and is touched by no other: it is part of its
//! gateway's [`hub`] there. One of the shards has a gateway's [`primary`], which accepts clients and
//! speaks to the listener through the [`exchange`](crate::listener::exchange), a plain state
//! machine. Shards speak to each other and to the control runtime by messages alone ([`msg`],
//! [`core`]); what they share is atomic ([`shared`], [`pressure`], [`occupancy`], [`metrics`]).

// `pressure` takes its atomics from here, so that its test can give it others.
use std::sync::atomic;

pub mod channels;
pub(crate) mod codec;
pub(crate) mod context;
pub(crate) mod core;
pub mod engine;
pub(crate) mod frames;
pub mod history;
pub(crate) mod hub;
pub(crate) mod io;
pub mod kept;
pub mod metrics;
pub(crate) mod msg;
pub(crate) mod occupancy;
pub(crate) mod outlet;
pub(crate) mod post;
pub(crate) mod posts;
pub mod pressure;
pub(crate) mod primary;
pub(crate) mod relay;
pub(crate) mod shard;
pub(crate) mod shared;
pub(crate) mod time;
pub(crate) mod web;
pub(crate) mod wire;
pub mod writer;

pub use hub::admission;
