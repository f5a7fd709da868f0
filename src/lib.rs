//! wsgw: WebSocket gateways whose brain is any program that reads and writes lines.
//!
//! The crate is the inside of the binary and not a library for others. Its modules are public as far
//! as the tests, the fuzz targets and the benchmarks need them. `docs/design.md` has a picture of
//! what is described here, and a table that says where to change what.
//!
//! # How a message travels
//!
//! 1. One shard of each gateway is its *primary* ([`gateway::primary`]). It accepts a socket and
//!    hands it to a shard ([`gateway::shard`]), which keeps it for life, in the gateway's part of that
//!    shard ([`gateway::hub`]). `hub/admission.rs` decides about the request; `hub/opening.rs` asks the
//!    listener if the hook `onHandshake` is set, then sends the 101 and announces the connection.
//! 2. `hub/read.rs` reads into a buffer that all connections of the shard share, and [`ws::decoder`]
//!    takes it apart. A whole message becomes one [`ws::payload::Payload`], encoded once, and goes to
//!    the primary. If the listener is not asked about messages, step 3 is skipped: the hub itself makes the
//!    operation of step 4.
//! 3. The [`listener::exchange`] there turns it into an event with an id ([`listener::protocol::event`]).
//!    Connections take turns within the window. The event is kept until it is answered. The primary
//!    writes it to the listener's stdin; `listener::supervisor` owns the listener's process.
//! 4. Lines from the listener's stdout ([`listener::protocol::answer`]) find their events in the
//!    exchange, which decides who gets what. Each decision is an operation ([`listener::op`]), and the
//!    shards concerned carry operations out in the order of the lines.
//! 5. `hub/fanout.rs` writes a message to its recipients on its shard, to many of them with one system
//!    call where the kernel allows it. What a socket does not take waits in that connection's
//!    [`gateway::io::outbox`]. A close is an operation too, so it comes behind the messages before it
//!    (`hub/closing.rs`).
//!
//! A push from the control port ([`control`]) enters at step 3, or at step 4 if the listener is
//! not asked, through [`server`], which manages the
//! lifecycle of all gateways. `wsgw send` and the other client commands ([`commands`]) talk to that
//! port with [`control_client`]. [`connect`] is `wsgw connect`.
//!
//! # What always holds
//!
//! - No shard waits for a client. A client that reads slowly fills its own outbox, and is closed as a
//!   slow consumer when that is full. A listener that reads slowly makes the gateway read its clients
//!   slowly ([`gateway::pressure`]). So a gateway and its listener cannot wait for each other.
//! - All recipients see one order. A message reaches no connection twice, none before its 101, and
//!   none after the gateway's Close.
//! - The listener is told of each connection in this order: its open, its messages, one close. A
//!   restart of the listener does not change that; `docs/design.md` says which messages it may lose.
//! - Whatever can grow has a bound in bytes, a default, and a documented consequence.
//! - No bytes from outside can make the program panic, become a second line to the listener or in the
//!   log, or act on a terminal.
//! - Modules depend on each other in one direction: `commands` → `server`, `control`,
//!   `control_client`, `connect` → `gateway` → `listener` → `ws`, `api`, `net`, `text`, `files`.
//!   [`ws`], [`listener::protocol`] and [`listener::exchange`] do no I/O and read no clock. [`connect`]
//!   and [`gateway`] do not know each other.
//!
//! # Why shards, and not a task for each connection
//!
//! A task has futures, buffers, a waker, and a lock around what others write to. That is kilobytes and
//! microseconds that a million idle connections, and a fan-out to all of them, would pay each time. A
//! shard is a thread with its own event loop over an array of connections of a few hundred bytes each,
//! which no other thread touches. Shards send each other messages. Readiness is edge-triggered and
//! registered once, so a delivery costs at most one system call for each recipient, and a message for everybody is one entry in
//! each shard's inbox. The control port, processes and signals are few, and wait for many things at once: they
//! run on tokio.
//!
//! # What to read first
//!
//! [`listener::protocol::event`] and [`listener::protocol::answer`] for what is spoken with the
//! listener; [`listener::exchange`] for what it means; then [`gateway::hub`] for what happens to
//! connections.

// The links in these docs lead to private modules too; see them with `--document-private-items`.
#![allow(rustdoc::private_intra_doc_links)]
#![warn(unreachable_pub)]

pub mod api;
pub mod bench;
pub(crate) mod check;
pub mod cli;
pub mod commands;
pub mod config;
pub mod connect;
pub mod control;
pub mod control_client;
pub mod error;
pub mod files;
pub mod gateway;
pub mod listener;
pub(crate) mod logging;
pub mod metrics;
pub mod net;
pub(crate) mod paths;
pub mod server;
pub(crate) mod systemd;
pub mod text;
mod top;
pub mod ws;
