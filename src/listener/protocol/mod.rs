//! The listener protocol and the WebSocket tables: pure, no tokio, no I/O.
//!
//! - [`event`] writes the lines that go to the listener, [`answer`] reads those that come back.
//! - [`push`] checks what `wsgw send` and the control port hand in.
//! - [`crate::ws::frame`] encodes frames for clients and takes theirs apart; [`crate::ws::close`] is the one table of
//!   close codes and reasons.
//! - [`connid`] is the name of a connection.

pub mod answer;
pub mod connid;
pub mod event;
pub mod hooks;
pub mod json;
pub mod push;
