//! Host names, sockets and TLS, for both sides of a connection.

pub(crate) mod bind;
pub mod host;
pub mod tls;
pub mod tls_client;
