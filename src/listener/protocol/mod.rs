//! The lines that the gateway and its listener exchange. Nothing here does I/O or holds state.
//!
//! - [`event`] writes the lines that go to the listener; [`answer`] parses those that come back.
//! - [`push`] checks the structs that programs push with `wsgw send` or over the control port.
//! - [`connid`] has the names of connections; the kinds of events are a setting's values
//!   ([`crate::config::hooks`]).
//! - [`json`] and `fields` have what the others share.

pub mod answer;
pub mod channel;
pub mod connid;
pub mod event;
mod fields;
pub mod json;
pub mod push;
