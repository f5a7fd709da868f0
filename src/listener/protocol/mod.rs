//! The lines that the gateway and its listener exchange. Nothing here does I/O or holds state.
//!
//! - [`event`] writes the lines that go to the listener; [`answer`] parses those that come back.
//! - [`push`] checks the structs that programs push with `wsgw send` or over the control port.
//! - [`hooks`] has the kinds of events; [`connid`] has the names of connections.
//! - [`json`] and `fields` have what the others share.

pub mod answer;
pub mod connid;
pub mod event;
mod fields;
pub mod hooks;
pub mod json;
pub mod push;
