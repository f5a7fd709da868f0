//! A client's socket, watched by tokio.
//!
//! Why the unsafe code is sound: tokio asks that the descriptor stays the same one and open for as long
//! as it watches it. A [`Transport`] owns its socket, gives nobody else the right to close it, and never
//! exchanges it for another one; tokio takes the whole of it, and hands it back when it stops watching.
#![allow(unsafe_code)]

use std::io;

use tokio::io::unix::AsyncFd;

use crate::gateway::io::transport::Transport;

/// Watches a socket that no shard watches.
///
/// # Errors
/// The system's; the socket is closed.
pub(crate) fn watch(stream: Transport) -> io::Result<AsyncFd<Transport>> {
    // SAFETY: see above.
    unsafe { AsyncFd::register(stream) }.map_err(io::Error::from)
}
