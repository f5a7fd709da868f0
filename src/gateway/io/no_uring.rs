//! The stand-in for systems without io_uring, where the shards write to one socket after the other.

use std::convert::Infallible;
use std::io;
use std::os::fd::RawFd;

/// See the Linux module of this name.
pub(crate) const BATCH: usize = 256;

/// See the Linux module of this name.
pub(crate) const LARGEST: usize = 0;

/// See the Linux module of this name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) slot: u32,
    pub(crate) fd: RawFd,
}

/// A ring, of which there is none on this system.
pub(crate) struct Ring(Infallible);

impl Ring {
    /// # Errors
    /// Always.
    pub(crate) fn new() -> io::Result<Ring> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Cannot be called, because there is no ring.
    pub(crate) fn send(&mut self, _: &[u8], _: &[Target], _: &mut Vec<(u32, i32)>) {
        match self.0 {}
    }
}
