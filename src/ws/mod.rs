//! RFC 6455: frames, close codes, the server's handshake and the origin rule. Pure, no I/O.

pub mod close;
pub mod decoder;
pub mod frame;
pub mod handshake;
pub mod origin;
pub mod payload;
