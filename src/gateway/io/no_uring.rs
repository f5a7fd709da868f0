//! Where there is no io_uring: the shards write to one socket after the other.

use std::convert::Infallible;
use std::io;
use std::os::fd::RawFd;

/// See the Linux module of this name.
pub const BATCH: usize = 256;

/// See the Linux module of this name.
pub const LARGEST: usize = 0;

/// A socket that gets the bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Whose it is.
    pub slot: u32,
    /// The socket.
    pub fd: RawFd,
}

/// There is none.
pub struct Ring(Infallible);

impl Ring {
    /// # Errors
    /// Always.
    pub fn new() -> io::Result<Ring> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Cannot be called.
    pub fn send(&mut self, _: &[u8], _: &[Target], _: &mut Vec<(u32, i32)>) {
        match self.0 {}
    }
}
