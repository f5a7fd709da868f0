//! Sockets of TCP and unix sockets, which are used in the same way.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};

use crate::net::address::Peer;
use crate::net::bind::BoundSocket;

/// The socket of one client.
#[derive(Debug)]
pub enum ClientSocket {
    /// A client of a TCP port.
    Tcp(TcpStream),
    /// A client of a unix socket.
    Unix(UnixStream),
}

/// The socket that clients are accepted on.
#[derive(Debug)]
pub(crate) enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The socket of whichever kind, as something that both kinds are.
macro_rules! either {
    ($this:expr, $socket:ident => $used:expr) => {
        match $this {
            Self::Tcp($socket) => $used,
            Self::Unix($socket) => $used,
        }
    };
}

impl ClientSocket {
    /// Shuts down the write side.
    pub(crate) fn shut_down_write(&self) -> io::Result<()> {
        either!(self, socket => socket.shutdown(Shutdown::Write))
    }
}

impl Read for ClientSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        either!(self, socket => socket.read(buffer))
    }
}

impl Write for ClientSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        either!(self, socket => socket.write(bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        either!(self, socket => socket.write_vectored(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for ClientSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        either!(self, socket => socket.as_fd())
    }
}

impl AsRawFd for ClientSocket {
    fn as_raw_fd(&self) -> RawFd {
        either!(self, socket => socket.as_raw_fd())
    }
}

impl Acceptor {
    pub(crate) fn new(socket: BoundSocket) -> Acceptor {
        match socket {
            BoundSocket::Tcp(socket) => Acceptor::Tcp(TcpListener::from_std(socket)),
            BoundSocket::Unix(socket) => Acceptor::Unix(UnixListener::from_std(socket)),
        }
    }

    /// The next client.
    pub(crate) fn accept(&self) -> io::Result<(ClientSocket, Peer)> {
        match self {
            Acceptor::Tcp(socket) => {
                socket.accept().map(|(client, peer)| (ClientSocket::Tcp(client), Peer::Ip(peer)))
            }
            Acceptor::Unix(socket) => {
                socket.accept().map(|(client, _)| (ClientSocket::Unix(client), Peer::Unix))
            }
        }
    }
}

/// Both kinds are watched as the socket that they are.
macro_rules! watched {
    ($kind:ident) => {
        impl Source for $kind {
            fn register(&mut self, to: &Registry, token: Token, of: Interest) -> io::Result<()> {
                either!(self, socket => socket.register(to, token, of))
            }

            fn reregister(&mut self, to: &Registry, token: Token, of: Interest) -> io::Result<()> {
                either!(self, socket => socket.reregister(to, token, of))
            }

            fn deregister(&mut self, from: &Registry) -> io::Result<()> {
                either!(self, socket => socket.deregister(from))
            }
        }
    };
}

watched!(ClientSocket);
watched!(Acceptor);
