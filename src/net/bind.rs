//! The acceptor's socket.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

use socket2::{Domain, Protocol, Socket, Type};

use crate::net::address::BoundAddress;
use crate::net::host;

/// Connections that the kernel keeps for us until they are accepted: a storm of clients fits.
pub(crate) const BACKLOG: i32 = 4096;

/// A socket that listens and does not block.
#[derive(Debug)]
pub enum BoundSocket {
    /// On a TCP port.
    Tcp(TcpListener),
    /// On a unix socket.
    Unix(UnixListener),
}

impl BoundSocket {
    /// Another descriptor of the same socket.
    ///
    /// # Errors
    /// The system's.
    pub fn try_clone(&self) -> io::Result<BoundSocket> {
        Ok(match self {
            BoundSocket::Tcp(socket) => BoundSocket::Tcp(socket.try_clone()?),
            BoundSocket::Unix(socket) => BoundSocket::Unix(socket.try_clone()?),
        })
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// The system's, or the unix socket has no path.
    pub fn address(&self) -> io::Result<BoundAddress> {
        match self {
            BoundSocket::Tcp(socket) => socket.local_addr().map(BoundAddress::Tcp),
            BoundSocket::Unix(socket) => match socket.local_addr()?.as_pathname() {
                Some(path) => Ok(BoundAddress::Unix(path.to_path_buf())),
                None => Err(io::Error::other("the unix socket has no path")),
            },
        }
    }
}

/// Binds and listens. `host` is a name or a literal address; of a name with several addresses the
/// first that this machine has is bound, IPv4 before IPv6, for that is where clients of `localhost`
/// look first.
///
/// # Errors
/// The name has no address; or the error of the address: one that is taken is not passed over, for
/// who uses it would get the clients that are meant for us.
pub(crate) async fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    let name = host::to_ascii(host::unbracketed(host));
    let name = name.ok_or_else(|| io::Error::other("it is not a host name"))?;
    // A name is looked up on a thread of its own: a slow answer holds nobody else up.
    let found = tokio::net::lookup_host((name.as_ref(), port)).await?;
    bind_first(found.collect(), bind_one)
}

/// Binds one of a name's addresses: the first that this machine has, IPv4 before IPv6.
///
/// # Errors
/// As for [`bind`].
pub(crate) fn bind_first<T>(
    mut addresses: Vec<SocketAddr>,
    bind_one: impl Fn(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match bind_one(address) {
            Err(e) if is_absent(&e) => last = e,
            done => return done,
        }
    }
    Err(last)
}

/// Whether the machine has no such address, or none of its kind.
fn is_absent(error: &io::Error) -> bool {
    let family = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(family)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_comes_first_and_a_taken_address_is_not_passed_over() {
        let both = || vec!["[::1]:7".parse().unwrap(), "127.0.0.1:7".parse().unwrap()];
        let bound = bind_first(both(), Ok).unwrap();
        assert_eq!(bound.to_string(), "127.0.0.1:7");
        let without = |kind: io::ErrorKind| {
            move |address: SocketAddr| match address {
                SocketAddr::V4(_) => Err(io::Error::from(kind)),
                SocketAddr::V6(_) => Ok(address),
            }
        };
        let absent = bind_first(both(), without(io::ErrorKind::AddrNotAvailable)).unwrap();
        assert_eq!(absent.to_string(), "[::1]:7");
        let taken = bind_first(both(), without(io::ErrorKind::AddrInUse)).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }
}
