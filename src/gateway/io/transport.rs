//! A client's socket, with TLS or without: both are read and written the same way.
//!
//! Nonblocking throughout. With TLS, bytes that were taken may still wait inside the record layer;
//! [`Transport::flush_tls`] sends them on when the socket is writable again, and no more are taken
//! meanwhile, so that the pressure is the same as without.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::{ServerConfig, ServerConnection};

/// Reads of a TLS socket that bring no byte for us, one after the other: records can be empty.
const EMPTY_READS: usize = 16;

/// One client's socket.
#[derive(Debug)]
pub struct Transport {
    tcp: TcpStream,
    tls: Option<Box<Tls>>,
}

#[derive(Debug)]
struct Tls {
    session: ServerConnection,
    /// Whether our side is to be closed once all is out.
    closing: bool,
    /// What ends the connection once what was read before is handed out.
    failed: Option<io::Error>,
}

impl Transport {
    /// A socket that was accepted.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(tcp: TcpStream, tls: Option<&Arc<ServerConfig>>) -> io::Result<Transport> {
        let tls = match tls {
            None => None,
            Some(config) => {
                let session =
                    ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
                Some(Box::new(Tls { session, closing: false, failed: None }))
            }
        };
        Ok(Transport { tcp, tls })
    }

    /// The socket itself.
    pub fn tcp(&mut self) -> &mut TcpStream {
        &mut self.tcp
    }

    /// The socket itself, to be asked.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }

    /// Whether bytes written to the socket are those of the frames: not with TLS.
    pub fn is_plain(&self) -> bool {
        self.tls.is_none()
    }

    /// Whether a short read has emptied the socket: not so with TLS, whose records end where they
    /// like.
    pub fn short_read_is_all(&self) -> bool {
        self.tls.is_none()
    }

    /// Whether bytes that were taken still wait inside the record layer.
    pub fn tls_pending(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.session.wants_write())
    }

    /// Sends what the record layer holds; true if nothing is left.
    ///
    /// # Errors
    /// The connection's end.
    pub fn flush_tls(&mut self) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else { return Ok(true) };
        while tls.session.wants_write() {
            match tls.session.write_tls(&mut self.tcp) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if tls.closing {
            tls.closing = false;
            self.tcp.shutdown(Shutdown::Write)?;
        }
        Ok(true)
    }

    /// Ends TLS in order before the socket is closed, as far as the socket takes it.
    pub fn close_notify(&mut self) {
        if let Some(tls) = &mut self.tls
            && !tls.session.is_handshaking()
        {
            tls.session.send_close_notify();
            // The socket is closed in any case.
            let _ = self.flush_tls();
        }
    }

    /// Says that nothing more comes from us, behind what was written.
    ///
    /// # Errors
    /// The connection's end.
    pub fn finish(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => self.tcp.shutdown(Shutdown::Write),
            Some(tls) => {
                tls.session.send_close_notify();
                tls.closing = true;
                self.flush_tls().map(drop)
            }
        }
    }
}

impl AsRawFd for Transport {
    fn as_raw_fd(&self) -> RawFd {
        self.tcp.as_raw_fd()
    }
}

impl Read for Transport {
    /// `Interrupted`: there may be more, after the others had their turn.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for _ in 0..EMPTY_READS {
            let Some(tls) = &mut self.tls else { return self.tcp.read(buffer) };
            match tls.session.reader().read(buffer) {
                // A client that cuts the line without a close_notify has left all the same.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            if let Some(error) = tls.failed.take() {
                return Err(error);
            }
            if tls.session.read_tls(&mut self.tcp)? == 0 {
                return Ok(0);
            }
            let failed = tls.session.process_new_packets().map_err(io::Error::other).err();
            // The handshake's next step, or the alert that says what was wrong.
            // A socket that takes nothing more may still have records, and says its end behind them.
            let _ = self.flush_tls();
            if let Some(tls) = &mut self.tls {
                // Good records in front of a bad one have their turn first.
                tls.failed = failed;
            }
        }
        Err(io::ErrorKind::Interrupted.into())
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.tls.is_none() {
            return self.tcp.write(bytes);
        }
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.tls.is_none() {
            return self.tcp.write_vectored(slices);
        }
        if !self.flush_tls()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let Some(tls) = &mut self.tls else { return Ok(0) };
        if tls.session.is_handshaking() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        // Small frames share records.
        let taken = tls.session.writer().write_vectored(slices)?;
        self.flush_tls()?;
        if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_tls().map(drop)
    }
}
