//! Points in time as shards keep them: small, because each connection has several.

use std::num::NonZeroU64;

/// Milliseconds since the engine began, at least 1. An `Option<Millis>` is as small as a `Millis`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Millis(NonZeroU64);

impl Default for Millis {
    fn default() -> Millis {
        Millis::FIRST
    }
}

impl Millis {
    /// The first point in time.
    pub(crate) const FIRST: Millis = Millis(NonZeroU64::MIN);

    /// A number of milliseconds since the engine began; 0 counts as 1.
    pub(crate) fn new(millis: u64) -> Millis {
        Millis(NonZeroU64::new(millis).unwrap_or(NonZeroU64::MIN))
    }

    /// The number.
    pub(crate) fn get(self) -> u64 {
        self.0.get()
    }

    /// So many milliseconds later.
    #[must_use]
    pub(crate) fn after(self, millis: u64) -> Millis {
        Millis(self.0.saturating_add(millis))
    }

    /// Milliseconds since `earlier`; 0 if that is later.
    pub(crate) fn since(self, earlier: Millis) -> u64 {
        self.get().saturating_sub(earlier.get())
    }
}
