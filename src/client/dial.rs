//! From the name to the open WebSocket.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::http::HeaderMap;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, error::ProtocolError};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::options::Options;
use super::{exit, tls};
use crate::error::Failure;
use crate::escape::escape;

/// The largest message that is taken in: a test client must not fill the memory.
const MAX_MESSAGE: usize = 1 << 30;

/// Bytes of a refusal's body that are shown.
const BODY_SHOWN: usize = 1000;

/// How long a refusal's body is waited for.
const BODY_WAIT: Duration = Duration::from_millis(300);

/// TCP, with TLS or without.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// An open WebSocket.
pub type Socket = WebSocketStream<Handle>;

/// A stream that two may hold, one after the other.
pub struct Handle(Arc<Mutex<Box<dyn Stream>>>);

impl Handle {
    fn stream(&self) -> MutexGuard<'_, Box<dyn Stream>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl AsyncRead for Handle {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream()).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Handle {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream()).poll_shutdown(cx)
    }
}

fn network(text: String) -> Failure {
    Failure::new(exit::NETWORK, text)
}

/// Connects.
///
/// # Errors
/// 3 for DNS, TCP and TLS, 4 for the handshake, 6 when it takes too long.
pub async fn dial(options: &Options) -> Result<(Socket, Response), Failure> {
    match timeout(options.timeout, dial_unbounded(options)).await {
        Ok(result) => result,
        Err(_) => Err(Failure::new(
            exit::TIMEOUT,
            format!(
                "{} did not finish the handshake in {} s (--timeout)",
                options.target.url,
                options.timeout.as_secs_f64()
            ),
        )),
    }
}

async fn dial_unbounded(options: &Options) -> Result<(Socket, Response), Failure> {
    let target = &options.target;
    let stream = tcp(options).await?;
    // Small messages are to go at once; without it they only go later.
    let _ = stream.set_nodelay(true);
    let stream: Box<dyn Stream> = if target.tls {
        let name = ServerName::try_from(target.host.clone())
            .map_err(|_| Failure::usage(format!("{:?} is no name for TLS", target.host)))?;
        let connector = TlsConnector::from(tls::config(options)?);
        let stream = connector.connect(name, stream).await.map_err(|e| {
            network(format!("TLS with {}:{} failed: {e}{}", target.host, target.port, tls_hint(&e)))
        })?;
        Box::new(stream)
    } else {
        Box::new(stream)
    };
    if options.verbose {
        show_request(options);
    }
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
        .read_buffer_size(64 * 1024)
        .write_buffer_size(64 * 1024);
    // A second handle: a refusal's body is still to be read.
    let mut stream = Handle(Arc::new(Mutex::new(stream)));
    let copy = Handle(Arc::clone(&stream.0));
    match client_async_with_config(target.request.clone(), copy, Some(config)).await {
        Ok((socket, response)) => {
            if options.verbose {
                let (status, headers) = (response.status(), response.headers());
                crate::error::complain(&format!(
                    "< HTTP/1.1 {status}\n{}",
                    header_lines(headers, "< ")
                ));
            }
            Ok((socket, response))
        }
        Err(error) => Err(refused(options, error, &mut stream).await),
    }
}

async fn tcp(options: &Options) -> Result<TcpStream, Failure> {
    let target = &options.target;
    let (host, port) = (target.host.as_str(), target.port);
    let addresses: Vec<_> = tokio::net::lookup_host((host, port))
        .await
        .map_err(|e| network(format!("the name {host:?} cannot be resolved: {e}")))?
        .collect();
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e,
        }
    }
    let hint = if last.kind() == io::ErrorKind::ConnectionRefused {
        ": nothing listens there; is the server (`wsgw serve`) running?"
    } else {
        ""
    };
    Err(network(format!("{host}:{port} cannot be reached: {last}{hint}")))
}

fn tls_hint(error: &io::Error) -> &'static str {
    let text = error.to_string();
    if text.contains("invalid peer certificate") {
        " (--cacert FILE trusts a certificate of your own, --insecure any)"
    } else if text.contains("InvalidContentType") || text.contains("corrupt") {
        " (does the server speak TLS at all? ws:// is without)"
    } else {
        ""
    }
}

/// Header lines, escaped, each with this in front.
pub fn header_lines(headers: &HeaderMap, prefix: &str) -> String {
    let mut out = String::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        out.push_str(&format!("{prefix}{name}: {}\n", escape(&value)));
    }
    out
}

fn show_request(options: &Options) {
    let request = &options.target.request;
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
    let headers = header_lines(request.headers(), "> ");
    crate::error::complain(&format!("> GET {} HTTP/1.1\n{headers}", escape(path)));
}

/// What a failed handshake means.
async fn refused(options: &Options, error: Error, stream: &mut Handle) -> Failure {
    let url = &options.target.url;
    match error {
        Error::Http(response) => {
            let mut body = response.body().clone().unwrap_or_default();
            // Its start may be on its way.
            let mut buffer = [0; BODY_SHOWN];
            while body.len() < BODY_SHOWN
                && let Ok(Ok(n @ 1..)) = timeout(BODY_WAIT, stream.read(&mut buffer)).await
            {
                body.extend_from_slice(&buffer[..n]);
            }
            body.truncate(BODY_SHOWN);
            let body = String::from_utf8_lossy(&body);
            let body: Vec<String> =
                body.lines().map(|line| format!("  {}", escape(line))).collect();
            let text = format!(
                "{url} refused the handshake: {}\n{}{}",
                response.status(),
                header_lines(response.headers(), "  "),
                body.join("\n")
            );
            Failure::new(exit::HANDSHAKE, text.trim_end())
        }
        Error::Io(e) => network(format!("the connection to {url} broke in the handshake: {e}")),
        Error::Protocol(ProtocolError::HandshakeIncomplete) | Error::ConnectionClosed => {
            Failure::new(exit::HANDSHAKE, format!("{url} closed the connection in the handshake"))
        }
        other => {
            let text = format!(
                "{url} answered the handshake in a wrong way: {other}; is it a WebSocket server?"
            );
            Failure::new(exit::HANDSHAKE, escape(&text).into_owned())
        }
    }
}
