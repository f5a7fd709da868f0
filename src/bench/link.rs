//! One connection: its socket, TLS, what waits to be sent, and the handshake.

use std::io::{self, ErrorKind, Read, Write};
use std::mem;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use rustls::ClientConnection;

use crate::bench::frames::{self, Frames};
use crate::bench::target::{Address, Target};
use crate::text::escape::escape;
use crate::text::excerpt::excerpt;
use crate::ws::frame::OpCode;
use crate::ws::handshake::accept_key;

/// The largest head of an answer.
const LARGEST_HEAD: usize = 64 * 1024;

/// The most headers in it.
const HEADERS: usize = 128;

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// There is none.
    Free,
    /// TCP.
    Connecting,
    /// TLS and the WebSocket handshake.
    Shaking,
    /// Messages may be sent.
    Open,
    /// A Close was sent.
    Closing,
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn source(&mut self) -> &mut dyn Source {
        match self {
            Socket::Tcp(socket) => socket,
            Socket::Unix(socket) => socket,
        }
    }

    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.read(out),
            Socket::Unix(socket) => socket.read(out),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.write(bytes),
            Socket::Unix(socket) => socket.write(bytes),
        }
    }
}

/// A connection, or the place for one.
pub(super) struct Link {
    socket: Option<Socket>,
    tls: Option<Box<ClientConnection>>,
    pub(super) state: State,
    /// How many connections had this place.
    pub(super) generation: u32,
    /// When it began, or was due, on the engine's clock.
    pub(super) began: u64,
    out: Vec<u8>,
    written: usize,
    /// Where in `out` the last pong ends, and the newest ping that came while it waited.
    pong_end: usize,
    ping: Option<Vec<u8>>,
    /// The answer to the handshake, as far as it came.
    head: Vec<u8>,
    key: String,
    pub(super) frames: Frames,
}

impl Link {
    /// A place without a connection.
    pub(super) fn new() -> Link {
        Link {
            socket: None,
            tls: None,
            state: State::Free,
            generation: 0,
            began: 0,
            out: Vec::new(),
            written: 0,
            pong_end: 0,
            ping: None,
            head: Vec::new(),
            key: String::new(),
            frames: Frames::default(),
        }
    }

    /// Begins to connect.
    ///
    /// # Errors
    /// What the socket says; `WouldBlock` if a unix socket's queue is full, which may be tried again.
    pub(super) fn open(
        &mut self,
        target: &Target,
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        let mut socket = match &target.address {
            Address::Tcp(address) => Socket::Tcp(TcpStream::connect(*address)?),
            Address::Unix(path) => Socket::Unix(UnixStream::connect(path)?),
        };
        registry.register(socket.source(), token, Interest::READABLE | Interest::WRITABLE)?;
        self.tls = match &target.tls {
            Some((name, config)) => {
                let state = ClientConnection::new(config.clone(), name.clone());
                Some(Box::new(state.map_err(io::Error::other)?))
            }
            None => None,
        };
        self.socket = Some(socket);
        self.state = State::Connecting;
        self.generation = self.generation.wrapping_add(1);
        self.out.clear();
        self.written = 0;
        self.pong_end = 0;
        self.ping = None;
        self.head.clear();
        self.frames = Frames::default();
        Ok(())
    }

    /// Whether TCP is connected by now.
    ///
    /// # Errors
    /// Why it will not be.
    pub(super) fn is_connected(&mut self) -> io::Result<bool> {
        let Some(Socket::Tcp(socket)) = &self.socket else { return Ok(true) };
        if let Some(e) = socket.take_error()? {
            return Err(e);
        }
        match socket.peer_addr() {
            Ok(_) => {
                // It matters for the latency alone.
                let _ = socket.set_nodelay(true);
                Ok(true)
            }
            Err(e) if e.kind() == ErrorKind::NotConnected => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Sends the request of the handshake.
    pub(super) fn shake(&mut self, target: &Target) -> io::Result<()> {
        self.state = State::Shaking;
        let mut nonce = [0; 16];
        fastrand::fill(&mut nonce);
        self.key = STANDARD.encode(nonce);
        let request = target.request(&self.key);
        self.send(|out| out.extend_from_slice(request.as_bytes()))
    }

    /// Sends what `build` appends, at once or when the socket takes it.
    pub(super) fn send(&mut self, build: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        match &mut self.tls {
            None => build(&mut self.out),
            Some(tls) => {
                let mut plain = Vec::new();
                build(&mut plain);
                tls.writer().write_all(&plain)?;
            }
        }
        self.flush()
    }

    /// Answers a ping. While the pong to an earlier one waits for the socket, only the newest ping is
    /// kept (RFC 6455, section 5.5.3): a server that pings and does not read must not fill the memory.
    pub(super) fn pong(&mut self, payload: Vec<u8>) -> io::Result<()> {
        if self.pong_end > self.written {
            self.ping = Some(payload);
            return Ok(());
        }
        self.send(|out| frames::push(out, OpCode::Pong, &payload))?;
        self.pong_end = self.out.len();
        Ok(())
    }

    /// Writes what waits, and answers the ping that waited for that.
    pub(super) fn go_on(&mut self) -> io::Result<()> {
        if self.backlog() > 0 {
            self.flush()?;
        }
        match self.ping.take() {
            Some(payload) => self.pong(payload),
            None => Ok(()),
        }
    }

    /// Writes what the socket takes of what waits.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.out)?;
            }
        }
        let Some(socket) = &mut self.socket else { return Ok(()) };
        while self.written < self.out.len() {
            match socket.write(&self.out[self.written..]) {
                Ok(n) => self.written += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.out.clear();
        self.written = 0;
        self.pong_end = 0;
        Ok(())
    }

    /// Bytes that wait for the socket.
    pub(super) fn backlog(&self) -> usize {
        self.out.len() - self.written
    }

    /// Reads what came; with TLS it is to be decrypted.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.socket {
            Some(socket) => socket.read(buffer),
            None => Err(ErrorKind::WouldBlock.into()),
        }
    }

    /// Whether TLS is spoken.
    pub(super) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Decrypts what came, to the end of `plain`. Returns whether the server has said that no more
    /// comes; what it sends behind that is not read.
    pub(super) fn decrypt(&mut self, mut cipher: &[u8], plain: &mut Vec<u8>) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else { return Ok(false) };
        let mut is_over = false;
        while !cipher.is_empty() && !is_over {
            tls.read_tls(&mut cipher)?;
            let came = tls.process_new_packets().map_err(io::Error::other)?;
            let before = plain.len();
            plain.resize(before + came.plaintext_bytes_to_read(), 0);
            tls.reader().read_exact(&mut plain[before..])?;
            is_over = came.peer_has_closed();
        }
        self.flush()?;
        Ok(is_over)
    }

    /// Takes in the answer to the handshake. `None` while it is not whole; else what came behind it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn answer(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
        self.head.extend_from_slice(bytes);
        let Some(end) = memchr::memmem::find(&self.head, b"\r\n\r\n") else {
            return match self.head.len() {
                0..LARGEST_HEAD => Ok(None),
                _ => Err("the head of its answer has no end; is it a WebSocket server?".to_owned()),
            };
        };
        let head = mem::take(&mut self.head);
        check(&head, &self.key)?;
        self.state = State::Open;
        Ok(Some(head[end + 4..].to_vec()))
    }

    /// Ends the connection, whatever is under way.
    pub(super) fn drop_now(&mut self, registry: &Registry) {
        if let Some(mut socket) = self.socket.take() {
            // Closing it does as much.
            let _ = registry.deregister(socket.source());
        }
        self.tls = None;
        self.state = State::Free;
        self.out = Vec::new();
        self.written = 0;
    }
}

/// Checks the answer to the handshake with this key.
fn check(head: &[u8], key: &str) -> Result<(), String> {
    let no_server = |_| "it does not speak HTTP; is it a WebSocket server?".to_owned();
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    let parsed = answer.parse(head).map_err(no_server)?;
    let code = answer.code.unwrap_or_default();
    if code != 101 {
        let size = if let httparse::Status::Complete(size) = parsed { size } else { head.len() };
        let body = String::from_utf8_lossy(&head[size..]);
        let body = body.lines().next().unwrap_or_default().trim();
        let reason = answer.reason.unwrap_or_default();
        let text = format!("it refuses the handshake: {code} {reason}: {body}");
        return Err(escape(&excerpt(text.trim_end_matches([' ', ':']), 300)).into_owned());
    }
    let value = |name: &str| {
        let found = answer.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
        found.map(|header| String::from_utf8_lossy(header.value).trim().to_owned())
    };
    let is_websocket = value("upgrade").is_some_and(|v| v.eq_ignore_ascii_case("websocket"));
    if !is_websocket || value("sec-websocket-accept") != Some(accept_key(key.as_bytes())) {
        return Err("its answer to the handshake is wrong; is it a WebSocket server?".to_owned());
    }
    match value("sec-websocket-extensions") {
        Some(_) => Err("it uses an extension that was not offered".to_owned()),
        None => Ok(()),
    }
}
