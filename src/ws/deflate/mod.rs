//! permessage-deflate (RFC 7692), for both ends. Pure.
//!
//! - [`offer`]: who agrees to what in the opening handshake, section 7.1;
//! - [`compress`]: payloads into compressed frames, section 7.2.1;
//! - [`inflate`]: compressed messages back into payloads under a bound, section 7.2.2.
//!
//! What one message is compressed with never depends on another one, so one frame serves all
//! clients with the same window, and a connection holds nothing while it is idle: the state of a
//! compressor or an inflater is a buffer that whoever works for many connections lends to each.

pub mod compress;
pub mod inflate;
pub mod offer;

/// The smallest window of section 7.1.2, as the base-2 logarithm of its bytes.
const LEAST_BITS: u8 = 8;

/// The largest window, which is also what is used where nobody asks for a smaller one.
pub const MOST_BITS: u8 = 15;
