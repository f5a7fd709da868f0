//! The wire of the client: a socket of any kind, blocking, and the responses that come on it.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Type};

use crate::api::NOTICE;
use crate::api::endpoint::Endpoint;
use crate::control_client::Response;
use crate::control_client::discovery::Target;
use crate::net::tls_client::ClientTls;

/// A response's head.
const MAX_HEAD: usize = 64 << 10;

/// Whether it is a time-out, as blocking sockets tell it.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// What a response's head says.
pub struct Head {
    /// The status.
    pub status: u16,
    /// How its body ends.
    pub framing: Framing,
    /// What a success says beside its body.
    pub notice: Option<String>,
}

/// How a response's body ends.
#[derive(Debug)]
pub enum Framing {
    /// After so many bytes.
    Length(u64),
    /// With a chunk of length zero.
    Chunked {
        /// Bytes left of the chunk under way.
        left: u64,
        /// Whether the newline behind a chunk is still to come.
        behind: bool,
    },
    /// With the connection.
    UntilClose,
    /// It has ended.
    Ended,
}

/// What comes from the socket, buffered. A time-out loses nothing: the next call goes on.
pub struct Source {
    /// The socket.
    pub socket: Socket,
    buffer: Vec<u8>,
    start: usize,
    /// Until when it may wait.
    pub deadline: Option<Instant>,
}

impl Source {
    /// Nothing read yet, no deadline.
    pub fn new(socket: Socket) -> Source {
        Source { socket, buffer: Vec::new(), start: 0, deadline: None }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let Some(deadline) = self.deadline else { return Ok(None) };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }

    /// Sends all of it.
    pub fn send(&mut self, mut message: &[u8]) -> io::Result<()> {
        while !message.is_empty() {
            self.socket.set_write_timeout(self.left()?)?;
            match self.socket.write(message) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => message = &message[n..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Reads more into the buffer.
    fn fill(&mut self) -> io::Result<usize> {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.socket.set_read_timeout(self.left()?)?;
        let mut piece = [0; 16 << 10];
        loop {
            match self.socket.read(&mut piece) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
                Ok(n) => {
                    self.buffer.extend_from_slice(&piece[..n]);
                    return Ok(n);
                }
            }
        }
    }

    fn fill_some(&mut self) -> io::Result<()> {
        match self.fill()? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed")),
            _ => Ok(()),
        }
    }

    /// The next response, whole.
    pub fn response(&mut self) -> io::Result<Response> {
        let Head { status, mut framing, notice } = self.response_head()?;
        let mut body = Vec::new();
        while self.body(&mut framing, &mut body)? {}
        Ok(Response { status, body, notice })
    }

    /// The head of the next response that is final.
    pub fn response_head(&mut self) -> io::Result<Head> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut response = httparse::Response::new(&mut headers);
            let parsed = response.parse(&self.buffer[self.start..]).map_err(bad)?;
            let httparse::Status::Complete(length) = parsed else {
                if self.buffer.len() - self.start > MAX_HEAD {
                    return Err(bad("its head is too long"));
                }
                self.fill_some()?;
                continue;
            };
            let status = response.code.unwrap_or(0);
            let (mut framing, mut notice) = (Framing::UntilClose, None);
            for header in response.headers.iter() {
                let value = std::str::from_utf8(header.value).unwrap_or_default().trim();
                if header.name.eq_ignore_ascii_case("content-length")
                    && !matches!(framing, Framing::Chunked { .. })
                {
                    let length = value.parse().map_err(|_| bad("its length is not a number"))?;
                    framing = Framing::Length(length);
                } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                    framing = Framing::Chunked { left: 0, behind: false };
                } else if header.name.eq_ignore_ascii_case(NOTICE) {
                    notice = Some(value.to_owned());
                }
            }
            self.start += length;
            match status {
                100..=199 => {}
                204 | 304 => return Ok(Head { status, framing: Framing::Ended, notice }),
                _ => return Ok(Head { status, framing, notice }),
            }
        }
    }

    /// Appends what there is of the body, waiting for something; false at its end.
    pub fn body(&mut self, framing: &mut Framing, out: &mut Vec<u8>) -> io::Result<bool> {
        match framing {
            Framing::Ended | Framing::Length(0) => Ok(false),
            Framing::Length(left) => {
                *left -= self.take(*left, out)?;
                Ok(*left > 0)
            }
            Framing::UntilClose => {
                if self.start == self.buffer.len() && self.fill()? == 0 {
                    *framing = Framing::Ended;
                    return Ok(false);
                }
                self.take(u64::MAX, out)?;
                Ok(true)
            }
            Framing::Chunked { left, behind } => {
                if *left > 0 {
                    *left -= self.take(*left, out)?;
                    return Ok(true);
                }
                if *behind {
                    self.skip_line()?;
                    *behind = false;
                }
                let (length, size) = loop {
                    let waiting = &self.buffer[self.start..];
                    match httparse::parse_chunk_size(waiting)
                        .map_err(|_| bad("a chunk's size is not a number"))?
                    {
                        httparse::Status::Complete(found) => break found,
                        httparse::Status::Partial => self.fill_some()?,
                    }
                };
                if size > 0 {
                    self.start += length;
                    (*left, *behind) = (size, true);
                    return Ok(true);
                }
                // Nothing of it is taken before the empty line is there, so that a time-out in
                // between finds it again. We ask for no trailers, and get none.
                while self.buffer.len() - self.start < length + 2 {
                    self.fill_some()?;
                }
                self.start += length + 2;
                *framing = Framing::Ended;
                Ok(false)
            }
        }
    }

    /// Takes up to `limit` bytes, at least one.
    fn take(&mut self, limit: u64, out: &mut Vec<u8>) -> io::Result<u64> {
        if self.start == self.buffer.len() {
            self.fill_some()?;
        }
        let waiting = &self.buffer[self.start..];
        let n = waiting.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
        out.extend_from_slice(&waiting[..n]);
        self.start += n;
        Ok(n as u64)
    }

    fn skip_line(&mut self) -> io::Result<()> {
        while self.buffer.len() - self.start < 2 {
            self.fill_some()?;
        }
        if &self.buffer[self.start..self.start + 2] != b"\r\n" {
            return Err(bad("a chunk is longer than it says"));
        }
        self.start += 2;
        Ok(())
    }
}

fn bad(why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the answer is not HTTP: {why}"))
}

/// A connected socket of either kind.
pub enum Socket {
    /// `http://`.
    Tcp(TcpStream),
    /// `https://`.
    Tls(Box<ClientTls>),
    /// `http+unix://`.
    Unix(UnixStream),
}

impl Socket {
    /// Connects, TLS and all.
    pub fn connect(target: &Target, timeout: Duration) -> io::Result<Socket> {
        let (tls, host, port) = match &target.endpoint {
            Endpoint::Unix(path) => return connect_unix(path, timeout).map(Socket::Unix),
            Endpoint::Tcp { tls, host, port } => (*tls, host.as_str(), *port),
        };
        let deadline = Instant::now() + timeout;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (host, port).to_socket_addrs()? {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match TcpStream::connect_timeout(&address, left) {
                Ok(socket) => {
                    socket.set_nodelay(true)?;
                    if !tls {
                        return Ok(Socket::Tcp(socket));
                    }
                    socket.set_read_timeout(Some(left))?;
                    socket.set_write_timeout(Some(left))?;
                    let tls = ClientTls::connect(socket, host, target.certificate.clone())?;
                    return Ok(Socket::Tls(Box::new(tls)));
                }
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    /// Another handle of it.
    pub fn try_clone(&self) -> io::Result<Socket> {
        Ok(match self {
            Socket::Tcp(socket) => Socket::Tcp(socket.try_clone()?),
            Socket::Tls(tls) => Socket::Tls(Box::new(tls.try_clone()?)),
            Socket::Unix(socket) => Socket::Unix(socket.try_clone()?),
        })
    }

    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => socket.set_read_timeout(timeout),
            Socket::Tls(tls) => tls.socket().set_read_timeout(timeout),
            Socket::Unix(socket) => socket.set_read_timeout(timeout),
        }
    }

    /// How long a write may take.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => socket.set_write_timeout(timeout),
            Socket::Tls(tls) => tls.socket().set_write_timeout(timeout),
            Socket::Unix(socket) => socket.set_write_timeout(timeout),
        }
    }
}

/// Connects within the time, also where nobody accepts and the backlog is full.
fn connect_unix(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // On a unix socket this bounds the wait for a place in the backlog, too.
    socket.set_write_timeout(Some(timeout))?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(e) if is_timeout(&e) => Err(io::ErrorKind::TimedOut.into()),
        connected => connected.map(|()| socket.into()),
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.read(buffer),
            Socket::Tls(tls) => tls.read(buffer),
            Socket::Unix(socket) => socket.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.write(buffer),
            Socket::Tls(tls) => tls.write(buffer),
            Socket::Unix(socket) => socket.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client makes of an answer that comes byte by byte.
    fn answer(bytes: &[u8]) -> io::Result<Response> {
        let (client, mut server) = UnixStream::pair().unwrap();
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || {
            for byte in bytes {
                if server.write_all(&[byte]).is_err() {
                    break;
                }
            }
        });
        let result = Source::new(Socket::Unix(client)).response();
        writer.join().unwrap();
        result
    }

    #[test]
    fn bodies_of_every_framing() {
        for (bytes, status, body) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, "ok"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, ""),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 N\r\ncontent-length: 1\r\n\r\nx", 404, "x"),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
                200,
                "abc0123456789",
            ),
            ("HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, "until the end"),
            ("HTTP/1.1 204 No\r\n\r\n", 204, ""),
        ] {
            let got = answer(bytes.as_bytes()).unwrap();
            assert_eq!((got.status, String::from_utf8(got.body).unwrap().as_str()), (status, body));
        }
    }

    #[test]
    fn what_breaks_off_is_never_taken_for_whole() {
        for bytes in [
            "",
            "SSH-2.0-OpenSSH\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        ] {
            assert!(answer(bytes.as_bytes()).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_silent_server_is_a_timeout() {
        let (client, _server) = UnixStream::pair().unwrap();
        let mut source = Source::new(Socket::Unix(client));
        source.deadline = Some(Instant::now() + Duration::from_millis(20));
        assert!(is_timeout(&source.response().unwrap_err()));
    }
}
