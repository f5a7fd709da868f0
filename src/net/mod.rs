//! Host names, sockets and TLS, for both sides of a connection.

pub mod address;
pub mod bind;
pub mod host;
pub(crate) mod place;
pub mod proxy_protocol;
pub mod tls;
pub mod tls_client;
pub(crate) mod unix;
