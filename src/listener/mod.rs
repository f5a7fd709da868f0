//! The listener: the subprocess that decides about messages, and the conversation with it.

pub mod connection;
pub mod exchange;
pub mod membership;
pub mod metrics;
pub(crate) mod notes;
pub mod op;
pub(crate) mod process;
pub mod protocol;
pub mod recipients;
pub mod report;
pub(crate) mod stderr;
pub(crate) mod supervisor;
pub mod tap;
