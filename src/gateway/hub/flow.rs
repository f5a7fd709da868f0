//! Whether a connection stays: what everything that acts on one returns.
//!
//! `?` hands a removal on, so that nothing touches a connection whose end was decided. The hub
//! carries it out in one place ([`Hub::with`](super::Hub::with)).

use std::ops::ControlFlow;

/// How a connection is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// Its socket is closed.
    Close,
    /// Its socket is reset (RST): what waits in the kernel is thrown away.
    Reset,
    /// Its socket goes to the thread that serves files.
    Away,
}

/// Whether a connection stays.
pub(crate) type Flow = ControlFlow<Removal>;

/// It stays.
pub(crate) fn stay() -> Flow {
    ControlFlow::Continue(())
}

/// It is forgotten.
pub(crate) fn remove(removal: Removal) -> Flow {
    ControlFlow::Break(removal)
}
