//! A client's socket, with or without TLS. Both kinds are read and written in the same way.
//!
//! Nothing here blocks. With TLS, bytes that were taken may still wait in the record layer.
//! [`Transport::flush_tls`] sends them when the socket is writable again. Until then no more bytes are
//! taken, so backpressure works as it does without TLS.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

use crate::gateway::io::socket::ClientSocket;

/// Reads of a TLS socket in a row that may bring no data, because records can be empty. After them
/// other connections have their turn.
const EMPTY_READS: usize = 16;

/// One client's socket.
#[derive(Debug)]
pub(crate) struct Transport {
    socket: ClientSocket,
    tls: Option<Box<Tls>>,
}

#[derive(Debug)]
struct Tls {
    session: ServerConnection,
    /// Whether the write side is to be shut down once the record layer is empty.
    closing: bool,
    /// The error that ends the connection once the data before it was read.
    failed: Option<io::Error>,
}

impl Transport {
    /// Wraps a socket that was accepted.
    ///
    /// # Errors
    /// The TLS session cannot be set up.
    pub(crate) fn new(
        socket: ClientSocket,
        tls: Option<&Arc<ServerConfig>>,
    ) -> io::Result<Transport> {
        let mut transport = Transport { socket, tls: None };
        if let Some(config) = tls {
            transport.start_tls(config)?;
        }
        Ok(transport)
    }

    /// Begins TLS on a plain socket.
    ///
    /// # Errors
    /// The TLS session cannot be set up.
    pub(crate) fn start_tls(&mut self, config: &Arc<ServerConfig>) -> io::Result<()> {
        let session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        self.tls = Some(Box::new(Tls { session, closing: false, failed: None }));
        Ok(())
    }

    /// Copies the bytes that wait in the socket, as many as there is room for, and leaves them there.
    ///
    /// # Errors
    /// None wait, or the socket failed.
    pub(crate) fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let flags = rustix::net::RecvFlags::PEEK;
        let peeked =
            rustix::io::retry_on_intr(|| rustix::net::recv(&self.socket, &mut *buffer, flags));
        peeked.map(|(copied, _)| copied).map_err(io::Error::from)
    }

    /// Takes so many bytes out of the socket, which wait there.
    ///
    /// # Errors
    /// The socket failed.
    pub(crate) fn skip(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.socket.read_exact(bytes)
    }

    /// The socket, for registration.
    pub(crate) fn socket_mut(&mut self) -> &mut ClientSocket {
        &mut self.socket
    }

    /// The socket, for queries.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether frames are written to the socket as they are, without TLS.
    pub(crate) fn is_plain(&self) -> bool {
        self.tls.is_none()
    }

    /// Whether a short read means that the socket is empty. With TLS it may only mean the end of a
    /// record.
    pub(crate) fn short_read_is_all(&self) -> bool {
        self.tls.is_none()
    }

    /// Whether bytes that were taken still wait in the record layer.
    pub(crate) fn tls_pending(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.session.wants_write())
    }

    /// Sends the bytes in the record layer. Returns true if none is left.
    ///
    /// # Errors
    /// The socket failed; the connection has ended.
    pub(crate) fn flush_tls(&mut self) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else { return Ok(true) };
        while tls.session.wants_write() {
            match tls.session.write_tls(&mut self.socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if tls.closing {
            tls.closing = false;
            self.socket.shut_down_write()?;
        }
        Ok(true)
    }

    /// Sends a close_notify before the socket is closed, if the socket takes it.
    pub(crate) fn close_notify(&mut self) {
        if let Some(tls) = &mut self.tls
            && !tls.session.is_handshaking()
        {
            tls.session.send_close_notify();
            // An error does not matter, because the socket is closed next.
            let _ = self.flush_tls();
        }
    }

    /// Shuts down the write side after the bytes that were written.
    ///
    /// # Errors
    /// The socket failed; the connection has ended.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => self.socket.shut_down_write(),
            Some(tls) => {
                tls.session.send_close_notify();
                tls.closing = true;
                self.flush_tls().map(drop)
            }
        }
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket()
    }
}

impl AsRawFd for Transport {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Read for Transport {
    /// The error `Interrupted` means that there may be more to read, after the other connections had
    /// their turn.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for _ in 0..EMPTY_READS {
            let Some(tls) = &mut self.tls else { return self.socket.read(buffer) };
            match tls.session.reader().read(buffer) {
                // A client that closes the socket without a close_notify has left too.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            if let Some(error) = tls.failed.take() {
                return Err(error);
            }
            if tls.session.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            let failed = tls.session.process_new_packets().map_err(io::Error::other).err();
            // This sends the next step of the handshake, or the alert that says what was wrong. An error
            // is ignored here: records may still be there to be read, and the next read or write after
            // them meets the error again.
            let _ = self.flush_tls();
            if let Some(tls) = &mut self.tls {
                // Good records before a bad one are read first.
                tls.failed = failed;
            }
        }
        Err(io::ErrorKind::Interrupted.into())
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.tls.is_none() {
            return self.socket.write(bytes);
        }
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.tls.is_none() {
            return self.socket.write_vectored(slices);
        }
        if !self.flush_tls()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let Some(tls) = &mut self.tls else { return Ok(0) };
        if tls.session.is_handshaking() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        // All slices go into the session before it is flushed, so that small frames share records.
        let taken = tls.session.writer().write_vectored(slices)?;
        self.flush_tls()?;
        if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_tls().map(drop)
    }
}
