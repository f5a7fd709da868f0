//! What a WebSocket goes over.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::connect::exit;
use crate::error::Failure;

/// TCP or a unix socket, with TLS or without, perhaps through a proxy.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// DNS, TCP or TLS failed, or a proxy.
pub(super) fn network(text: String) -> Failure {
    Failure::new(exit::NETWORK, text)
}
