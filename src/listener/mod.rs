//! The listener: the subprocess that decides about messages, and the conversation with it.

pub mod connection;
pub mod exchange;
pub mod metrics;
pub mod op;
pub mod process;
pub mod protocol;
pub mod recipients;
pub mod report;
pub mod stderr;
pub mod supervisor;
