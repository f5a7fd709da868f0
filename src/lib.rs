//! wsgw: WebSocket gateways whose brain is any program that reads and writes lines.
//!
//! The crate is the binary's inside and no library for others; its modules are public for the
//! tests, the fuzz targets and this documentation.
//!
//! # The way of a message
//!
//! 1. A gateway's *home* shard accepts a socket and hands it to a shard ([`gateway::shard`]), which
//!    keeps it for life. [`ws::handshake`] decides on the request; [`gateway::hub::opening`] asks
//!    the listener, if it wants to be asked, sends the 101 and announces the connection.
//! 2. [`gateway::hub::read`] reads into a buffer that all connections of the shard share, and
//!    [`ws::decoder`] takes it apart. A whole message becomes one frame, header and payload,
//!    encoded once ([`ws::frame`]), and goes to the home.
//! 3. The [`listener::exchange`] there makes it an event with an id ([`listener::protocol::event`]), in turn
//!    with other connections and within the window, and keeps it until it is answered. What the
//!    pipe takes at a time goes into the listener's stdin; [`listener::supervisor`] owns the process.
//! 4. Lines from its stdout ([`listener::protocol::answer`]) find their events in the exchange, which says
//!    who gets what, in the order of the lines.
//! 5. The [`gateway::hub::fanout`] of each shard writes the frame to its recipients, to many with one
//!    system call where the kernel lets it. What a socket does not take waits in that connection's
//!    [`gateway::io::outbox`]. An end has its place in the same order ([`gateway::hub::closing`]).
//!
//! A push enters at 3, from the control port ([`control`]) through [`server`], which has the
//! lifecycle of all gateways. `wsgw send` and the verbs ([`commands`]) are clients of that port;
//! [`connect`] is `wsgw connect`.
//!
//! # What always holds
//!
//! - What goes out never waits: pressure runs from the listener's stdin back to the clients'
//!   sockets, and is cut at the outbox, where a slow client is closed. So a gateway and its
//!   listener cannot wait for each other.
//! - All recipients see one order. A message reaches no connection twice, none before its 101, and
//!   none after the gateway's Close.
//! - For each connection the listener is told: open, its messages in order, one close; a restart
//!   changes nothing of that, and loses no message but one that is its cause.
//! - Whatever grows has a bound in bytes, a default, and a named consequence.
//! - No bytes from outside make it panic, become a second line to the listener or in the log, or
//!   act on a terminal.
//! - [`listener::protocol`] knows neither I/O nor clock, the exchange no clock but the time it is given;
//!   [`connect`] and [`gateway`] never know of each other.
//!
//! # Why shards, and not a task for each connection
//!
//! A task has a stack of futures, buffers, a waker, and a lock around whatever others write to:
//! kilobytes and microseconds that a million idle connections and a fan-out to all of them pay each
//! time. A shard is a thread with an event loop of its own over a slab of connections of a few
//! hundred bytes, which no other thread touches; shards speak by messages. Readiness is
//! edge-triggered and registered once, so a delivery is a write at most, and a message for everybody
//! is one entry for each shard. The control port, processes and signals are few and
//! wait for many things at once: they run on tokio.
//!
//! # Where to read first
//!
//! [`listener::protocol::answer`] and [`listener::protocol::event`] for what is spoken; [`listener::exchange`] for what
//! it means; then [`gateway::hub`], one gateway's part of one shard, and [`gateway::primary`], what
//! one of these has more. `docs/design.md` has the same on a page.

// The links in these docs lead to private modules too; see them with `--document-private-items`.
#![allow(rustdoc::private_intra_doc_links)]

pub mod api;
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
pub mod logging;
pub mod metrics;
pub mod net;
pub mod paths;
pub mod server;
pub mod systemd;
pub mod text;
pub mod ws;
