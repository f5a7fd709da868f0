//! From the name to the open WebSocket.

use std::io;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::connect::handshake;
use crate::connect::handshake::{Answer, header_lines};
use crate::connect::options::Options;
use crate::connect::output::Output;
use crate::connect::resume::LARGEST_FRAME;
use crate::connect::{exit, tls};
use crate::error::{Failure, complain};
use crate::text::escape::escape;

/// The largest message that is taken in: a test client must not fill the memory.
const MAX_MESSAGE: usize = 1 << 30;

/// TCP, with TLS or without.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// An open WebSocket.
pub(super) type Socket = WebSocketStream<Box<dyn Stream>>;

fn network(text: String) -> Failure {
    Failure::new(exit::NETWORK, text)
}

/// Connects to this path of the target; `-v` shows the handshake in `output`, or on stderr before there is one.
///
/// # Errors
/// 3 for DNS, TCP and TLS, 4 for the handshake, 6 when it takes too long.
pub(super) async fn dial(
    options: &Options,
    path: &str,
    output: Option<&Output>,
) -> Result<(Socket, Answer), Failure> {
    match timeout(options.timeout, dial_unbounded(options, path, output)).await {
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

async fn dial_unbounded(
    options: &Options,
    path: &str,
    output: Option<&Output>,
) -> Result<(Socket, Answer), Failure> {
    let target = &options.target;
    // What is wrong with the flags is said before anybody is called.
    let tls = if target.tls {
        let name = ServerName::try_from(target.certificate_name().to_owned()).map_err(|_| {
            Failure::usage(format!("{:?} cannot be the name in a certificate", target.host))
        })?;
        Some((name, TlsConnector::from(tls::config(options)?)))
    } else {
        None
    };
    let stream = tcp(options).await?;
    // Small messages are to go at once; without it they only go later.
    let _ = stream.set_nodelay(true);
    let mut stream: Box<dyn Stream> = match tls {
        Some((name, connector)) => {
            Box::new(connector.connect(name, stream).await.map_err(|e| {
                network(format!("TLS with {} failed: {e}{}", target.address(), tls_hint(&e)))
            })?)
        }
        None => Box::new(stream),
    };
    let verbose = async |text: String| match output {
        _ if !options.verbose => {}
        Some(output) => output.trace(&text).await,
        None => complain(&text),
    };
    let request = handshake::Request::new(path, &target.headers);
    verbose(format!("> GET {} HTTP/1.1\n{}", escape(path), request.shown("> "))).await;
    let (answer, early) = handshake::shake(&mut stream, &target.url, &request).await?;
    verbose(format!("< {}\n{}", answer.status, header_lines(&answer.headers, "< "))).await;
    let largest = if options.resume { LARGEST_FRAME } else { MAX_MESSAGE };
    let config = WebSocketConfig::default()
        .max_message_size(Some(largest))
        .max_frame_size(Some(largest))
        .read_buffer_size(64 * 1024)
        .write_buffer_size(64 * 1024);
    let socket =
        WebSocketStream::from_partially_read(stream, early, Role::Client, Some(config)).await;
    Ok((socket, answer))
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
    Err(network(format!("{} cannot be reached: {last}{hint}", target.address())))
}

fn tls_hint(error: &io::Error) -> &'static str {
    let text = error.to_string();
    if text.contains("invalid peer certificate") {
        " (--cacert FILE trusts a certificate of your own, --insecure any)"
    } else if error.kind() == io::ErrorKind::UnexpectedEof
        || error.kind() == io::ErrorKind::ConnectionReset
        || text.contains("InvalidContentType")
        || text.contains("corrupt")
    {
        " (does the server speak TLS at all? ws:// is without)"
    } else {
        ""
    }
}
