//! The listener protocol and the WebSocket tables: pure, no tokio, no I/O.

pub mod close;
pub mod hooks;
pub mod push;
