//! The acceptor's socket.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel keeps for us until they are accepted: a storm of clients fits.
pub(crate) const BACKLOG: i32 = 4096;

/// Binds and listens. `host` is a name or a literal address.
///
/// # Errors
/// The last address's, if the name has several.
pub async fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    // A name is looked up on a thread of its own: a slow answer holds nobody else up.
    for address in tokio::net::lookup_host((host, port)).await? {
        match bind_one(address) {
            Ok(acceptor) => return Ok(acceptor),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Binds one address and listens; the socket does not block.
///
/// # Errors
/// The system's.
pub(crate) fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier run that linger in TIME_WAIT must not keep the port.
    socket.set_reuse_address(true)?;
    // Linux hands this on to the accepted sockets, which saves a call for each.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
