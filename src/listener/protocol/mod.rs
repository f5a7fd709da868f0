//! The lines that the gateway and its listener exchange. Nothing here does I/O or holds state.
//!
//! - [`event`] writes the lines that go to the listener; [`answer`] parses those that come back, and
//!   [`command`] has the commands among them. [`target`] is whom they name as recipients.
//! - [`push`] checks the structs that programs push with `wsgw send` or over the control port.
//! - [`connid`] and [`channel`] have the names of connections and of channels; the kinds of events are a setting's values
//!   ([`crate::config::hooks`]).
//! - [`frame`] is a message as web clients and readers of a history get it.
//! - [`json`] and `fields` have what the others share.

pub mod answer;
pub mod channel;
pub mod command;
pub mod connid;
pub mod event;
mod fields;
pub(crate) mod frame;
pub mod json;
pub(crate) mod node;
pub mod push;
pub mod target;
