//! The control port's client: blocking HTTP/1.1 over TCP or a unix socket, one request at a time.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::discovery::Target;
use crate::error::{Failure, exit};

/// Bytes of a response's head at most.
const MAX_HEAD: usize = 64 * 1024;

/// A connection to the control port.
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
}

impl Socket {
    fn set_timeout(&self, time: Duration) -> io::Result<()> {
        let time = Some(time.max(Duration::from_millis(1)));
        match self {
            Socket::Tcp(s) => s.set_read_timeout(time).and(s.set_write_timeout(time)),
            Socket::Unix(s) => s.set_read_timeout(time).and(s.set_write_timeout(time)),
        }
    }

    /// A second handle on the same connection.
    pub fn try_clone(&self) -> io::Result<Socket> {
        Ok(match self {
            Socket::Tcp(s) => Socket::Tcp(s.try_clone()?),
            Socket::Unix(s) => Socket::Unix(s.try_clone()?),
        })
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(s) => s.read(buffer),
            Socket::Unix(s) => s.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(s) => s.write(bytes),
            Socket::Unix(s) => s.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A refusal of the control port, or an answer.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// What else one should know.
    pub notice: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body of a success.
    ///
    /// # Errors
    /// The refusal, with its exit code.
    pub fn ok(self) -> Result<Vec<u8>, Failure> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        let value: Value = serde_json::from_slice(&self.body).unwrap_or(Value::Null);
        Err(failure_of(self.status, &value))
    }
}

/// The failure that an `{"error":{…}}` means.
pub fn failure_of(status: u16, body: &Value) -> Failure {
    let code = body["error"]["code"].as_str().unwrap_or_default();
    let message = match body["error"]["message"].as_str() {
        Some(message) => crate::escape::escape(message).replace("\\n", "\n"),
        None => format!("the control port answered {status}, which is not an answer of wsgw"),
    };
    let exit = match code {
        // Several gateways, and none was named.
        "bad_request" if body["error"]["known"].is_array() => exit::USAGE,
        "unknown_gateway" | "unknown_connection" | "not_running" | "stopping" => exit::NO_GATEWAY,
        "listener_fault" | "listener_down" | "listener_timeout" => exit::LISTENER,
        "unauthorized" | "forbidden" => exit::UNAUTHORIZED,
        _ => exit::FAILURE,
    };
    Failure::new(exit, message)
}

/// Talks to one control port.
pub struct Client {
    target: Target,
    timeout: Duration,
}

fn unreachable(url: &str, error: &io::Error) -> Failure {
    let text = match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            format!("nothing answers at the control port {url}: is `wsgw serve` running?")
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("the control port {url} did not answer in time (--timeout)")
        }
        _ => format!("the control port {url} cannot be reached: {error}"),
    };
    Failure::new(exit::UNREACHABLE, text)
}

impl Client {
    /// A client; `timeout` is for a whole request.
    pub fn new(target: Target, timeout: Duration) -> Client {
        Client { target, timeout }
    }

    fn fail(&self, error: &io::Error) -> Failure {
        unreachable(&self.target.url, error)
    }

    /// Connects, and returns what the `Host` header says.
    ///
    /// # Errors
    /// 3: nobody answers.
    pub fn connect(&self) -> Result<(Socket, String), Failure> {
        let url = &self.target.url;
        let usage = || {
            Failure::usage(format!(
                "{url:?} is no control URL: write http://ADDR:PORT or http+unix://PATH"
            ))
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(usage)?;
        match scheme {
            "http+unix" => {
                let socket = UnixStream::connect(rest).map_err(|e| self.fail(&e))?;
                Ok((Socket::Unix(socket), "localhost".to_owned()))
            }
            "http" => {
                let host = rest.split('/').next().unwrap_or(rest);
                let address =
                    if host.rsplit_once(':').is_some_and(|(_, p)| p.parse::<u16>().is_ok()) {
                        host.to_owned()
                    } else {
                        format!("{host}:80")
                    };
                let addresses = address.to_socket_addrs().map_err(|e| self.fail(&e))?;
                let mut last = io::Error::from(io::ErrorKind::NotFound);
                for address in addresses {
                    match TcpStream::connect_timeout(&address, self.timeout) {
                        Ok(socket) => {
                            // Only a matter of speed.
                            let _ = socket.set_nodelay(true);
                            return Ok((Socket::Tcp(socket), host.to_owned()));
                        }
                        Err(e) => last = e,
                    }
                }
                Err(self.fail(&last))
            }
            _ => Err(usage()),
        }
    }

    /// The head of a request.
    pub fn head(&self, method: &str, path: &str, host: &str, more: &str) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}");
        if let Some(token) = &self.target.token {
            // Writing to a String cannot fail.
            let _ = write!(head, "Authorization: Bearer {token}\r\n");
        }
        head + "\r\n"
    }

    /// One request and its answer.
    ///
    /// # Errors
    /// 3 if it does not come through.
    pub fn request(&self, method: &str, path: &str, body: &[u8]) -> Result<Answer, Failure> {
        self.exchange(self.connect()?, method, path, body)
    }

    /// The same over a connection that is there.
    ///
    /// # Errors
    /// 3 if it does not come through.
    pub fn exchange(
        &self,
        (mut socket, host): (Socket, String),
        method: &str,
        path: &str,
        body: &[u8],
    ) -> Result<Answer, Failure> {
        let deadline = Instant::now() + self.timeout;
        let more = match body {
            [] if method == "GET" => "Connection: close\r\n".to_owned(),
            body => format!(
                "Connection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
                body.len()
            ),
        };
        let mut bytes = self.head(method, path, &host, &more).into_bytes();
        bytes.extend_from_slice(body);
        let left = deadline.saturating_duration_since(Instant::now());
        socket.set_timeout(left).map_err(|e| self.fail(&e))?;
        // A refusal may come before the body is all sent: its answer says more than the error.
        let sent = socket.write_all(&bytes);
        let mut reader = BufReader::new(Timed { socket, deadline });
        match (self.read_answer(&mut reader), sent) {
            (Ok(answer), _) => Ok(answer),
            (Err(_), Err(e)) => Err(self.fail(&e)),
            (Err(e), Ok(())) => Err(e),
        }
    }

    fn read_answer(&self, reader: &mut impl BufRead) -> Result<Answer, Failure> {
        let mut head = read_head(reader).map_err(|e| self.fail(&e))?;
        while head.status == 100 {
            head = read_head(reader).map_err(|e| self.fail(&e))?;
        }
        let mut body = Vec::new();
        if head.chunked {
            let mut chunks = Chunks::new(reader);
            while chunks.next(&mut body).map_err(|e| self.fail(&e))? {}
        } else {
            let length = head.length.unwrap_or(u64::MAX);
            reader.take(length).read_to_end(&mut body).map_err(|e| self.fail(&e))?;
        }
        Ok(Answer { status: head.status, notice: head.notice, body })
    }

    /// What a failed read or write of a stream means.
    pub fn broken(&self, error: &io::Error) -> Failure {
        self.fail(error)
    }

    /// The time for a whole request, or without progress.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sets how long one read or write may take.
    pub fn limit(&self, socket: &Socket) -> Result<(), Failure> {
        socket.set_timeout(self.timeout).map_err(|e| self.fail(&e))
    }
}

/// Reads that end at a deadline.
struct Timed {
    socket: Socket,
    deadline: Instant,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.socket.set_timeout(left)?;
        self.socket.read(buffer)
    }
}

/// A response's head.
pub struct Head {
    /// The status.
    pub status: u16,
    /// Whether the body is chunked.
    pub chunked: bool,
    /// Its length, if it is not.
    pub length: Option<u64>,
    /// What a success says beside its body.
    pub notice: Option<String>,
}

/// Reads a response's head.
///
/// # Errors
/// The connection's, or something that is no HTTP.
pub fn read_head(reader: &mut impl BufRead) -> io::Result<Head> {
    let mut bytes = Vec::new();
    loop {
        let before = bytes.len();
        reader.take((MAX_HEAD - before) as u64 + 1).read_until(b'\n', &mut bytes)?;
        if bytes.len() == before {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if bytes.ends_with(b"\r\n\r\n") {
            break;
        }
        if bytes.len() > MAX_HEAD {
            return Err(io::Error::other("the answer's head is too large"));
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(&bytes).map_err(|e| io::Error::other(format!("it is no HTTP: {e}")))?;
    let header = |name: &str| {
        let found = response.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
        found.and_then(|h| std::str::from_utf8(h.value).ok())
    };
    Ok(Head {
        status: response.code.unwrap_or(0),
        chunked: header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")),
        length: header("content-length").and_then(|v| v.trim().parse().ok()),
        notice: header(super::routes::NOTICE).map(str::to_owned),
    })
}

/// A chunked body.
pub struct Chunks<'a, R> {
    reader: &'a mut R,
}

impl<'a, R: BufRead> Chunks<'a, R> {
    /// The body that follows a head.
    pub fn new(reader: &'a mut R) -> Chunks<'a, R> {
        Chunks { reader }
    }

    /// Appends the next chunk; false at the end.
    ///
    /// # Errors
    /// The connection's, or a body that is not chunked.
    pub fn next(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
        let mut line = String::new();
        (&mut *self.reader).take(64).read_line(&mut line)?;
        let size = line.split(';').next().unwrap_or("").trim();
        if size.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let size = u64::from_str_radix(size, 16)
            .map_err(|_| io::Error::other("the answer's body is broken"))?;
        let got = (&mut *self.reader).take(size).read_to_end(body)? as u64;
        let mut end = [0; 2];
        self.reader.read_exact(&mut end)?;
        if got < size || end != *b"\r\n" {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(size > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_is_joined() {
        let mut bytes = &b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"[..];
        let mut chunks = Chunks::new(&mut bytes);
        let mut body = Vec::new();
        while chunks.next(&mut body).unwrap() {}
        assert_eq!(body, b"abcde");
        let mut cut = &b"5\r\nab"[..];
        assert!(Chunks::new(&mut cut).next(&mut body).is_err());
    }

    #[test]
    fn each_error_code_has_its_exit_code() {
        for (code, exit) in [
            ("bad_request", 1),
            ("unauthorized", 6),
            ("forbidden", 6),
            ("unknown_gateway", 4),
            ("unknown_connection", 4),
            ("not_running", 4),
            ("stopping", 4),
            ("too_large", 1),
            ("busy", 1),
            ("failed", 1),
            ("listener_fault", 5),
            ("listener_down", 5),
            ("listener_timeout", 5),
        ] {
            let body = serde_json::json!({"error": {"code": code, "message": "m"}});
            assert_eq!(failure_of(500, &body).exit, exit, "{code}");
        }
    }
}
