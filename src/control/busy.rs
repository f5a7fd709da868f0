//! The mark of a connection that a request is being answered on.

/// A request that is being answered: while this lives, its connection does not count as idle.
pub(crate) trait AtWork: Send + Sync {
    /// Closes the connection at once.
    fn cut(&self);
}

/// The mark of a request that is being answered.
pub(crate) type Busy = Box<dyn AtWork>;
