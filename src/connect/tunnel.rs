//! From the name to a stream to the server: a unix socket, TCP, or a tunnel of a proxy.

use std::io;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::connect::handshake::{basic, cut, first_line, head, header_lines};
use crate::connect::options::Options;
use crate::connect::output::Verbose;
use crate::connect::proxy::{Kind, Proxy};
use crate::connect::socks;
use crate::connect::stream::{Stream, network};
use crate::connect::target::Target;
use crate::connect::tls;
use crate::error::Failure;
use crate::net::host::join;
use crate::text::escape::escape;

/// The largest head of a proxy's answer, in bytes.
const LARGEST_HEAD: usize = 64 * 1024;

/// A stream to the target, without a proxy.
///
/// # Errors
/// 3, with what cannot be reached.
pub(super) async fn direct(target: &Target) -> Result<Box<dyn Stream>, Failure> {
    let Some(path) = &target.socket else {
        let stream = tcp(&target.host, target.port).await.map_err(|e| {
            network(e.told(
                &target.address(),
                ": nothing listens there; is the server (`wsgw serve`) running?",
            ))
        })?;
        return Ok(Box::new(stream));
    };
    let stream = UnixStream::connect(path).await.map_err(|e| {
        let hint = match e.kind() {
            io::ErrorKind::ConnectionRefused => ": nothing listens there any more",
            io::ErrorKind::NotFound => "; is the server running?",
            _ => "",
        };
        network(format!("{} cannot be reached: {e}{hint}", target.address()))
    })?;
    Ok(Box::new(stream))
}

/// A stream to the target through a proxy.
///
/// # Errors
/// 3 whatever the proxy does: the server was not reached. 2 for a certificate that cannot be used.
pub(super) async fn through(
    proxy: &Proxy,
    target: &Target,
    options: &Options,
    verbose: Verbose<'_>,
) -> Result<Box<dyn Stream>, Failure> {
    verbose.say(format!("* through the proxy {}", proxy.shown)).await;
    let failed = |why: String| network(format!("the proxy {} {why}", proxy.shown));
    let stream = tcp(&proxy.host, proxy.port).await.map_err(|e| {
        network(e.told(
            &format!("the proxy {}", proxy.shown),
            ": nothing listens there; is the proxy running?",
        ))
    })?;
    let mut stream: Box<dyn Stream> = match proxy.kind {
        Kind::Https => {
            let name = ServerName::try_from(proxy.host.clone()).map_err(|_| {
                failed("has a host that cannot be the name in a certificate".into())
            })?;
            let connector = TlsConnector::from(tls::proxy_config(options)?);
            let stream = connector.connect(name, stream).await;
            Box::new(stream.map_err(|e| failed(format!("cannot be reached by TLS: {e}")))?)
        }
        _ => Box::new(stream),
    };
    match proxy.kind {
        Kind::Http | Kind::Https => http(&mut stream, proxy, target, verbose).await,
        Kind::Socks5h => socks5(&mut stream, proxy, target.certificate_name(), target.port).await,
        Kind::Socks5 => {
            let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
            let address = found
                .map_err(|e| network(unresolved(&target.host, &e)))?
                .next()
                .ok_or_else(|| network(format!("the name {:?} has no address", target.host)))?;
            let host = address.ip().to_string();
            socks5(&mut stream, proxy, &host, target.port).await
        }
    }
    .map_err(failed)?;
    Ok(stream)
}

/// Asks an HTTP proxy for a tunnel (RFC 9110, section 9.3.6).
async fn http(
    stream: &mut Box<dyn Stream>,
    proxy: &Proxy,
    target: &Target,
    verbose: Verbose<'_>,
) -> Result<(), String> {
    let to = join(target.certificate_name(), target.port);
    let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n").into_bytes();
    if let Some((name, password)) = &proxy.user {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(basic(&[name, &b":"[..], password].concat()).as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    let shown = String::from_utf8_lossy(&request);
    let shown: Vec<String> = shown.lines().map(|line| format!("> {line}")).collect();
    verbose.say(shown.join("\n")).await;
    request.extend_from_slice(b"\r\n");
    let broke = |e: io::Error| format!("broke the connection: {e}");
    stream.write_all(&request).await.map_err(broke)?;
    stream.flush().await.map_err(broke)?;
    let mut read = Vec::with_capacity(1024);
    let head = loop {
        match head(&read) {
            Ok(Some(head)) if (100..200).contains(&head.code) => drop(read.drain(..head.size)),
            Ok(Some(head)) => break head,
            Ok(None) if read.len() < LARGEST_HEAD => {
                if stream.read_buf(&mut read).await.map_err(broke)? == 0 {
                    return Err(match &read[..] {
                        [] => {
                            "closed the connection without an answer; does it speak TLS, or SOCKS?"
                                .to_owned()
                        }
                        some => format!("closed the connection after {:?}", first_line(some)),
                    });
                }
            }
            Ok(None) => return Err("answered with a head that does not end".to_owned()),
            Err(why) => return Err(format!("did not answer in HTTP: {why}")),
        }
    };
    let answer = &head.answer;
    verbose.say(format!("< {}\n{}", answer.status, header_lines(&answer.headers, "< "))).await;
    if !(200..300).contains(&head.code) {
        let hint = match (head.code, &proxy.user) {
            (407, None) => "; it wants a user and a password: write USER:PASSWORD@ before its host",
            (407, Some(_)) => "; it does not accept this user and password",
            (403 | 405, _) => "; it may not allow this host or port",
            _ => "",
        };
        return Err(format!("refused a tunnel to {to}: {}{hint}", cut(&answer.status, 200)));
    }
    // The server says nothing before it is asked.
    if read.len() > head.size {
        return Err("sent more than its answer".to_owned());
    }
    Ok(())
}

/// Asks a SOCKS proxy for a connection.
async fn socks5(
    stream: &mut Box<dyn Stream>,
    proxy: &Proxy,
    host: &str,
    port: u16,
) -> Result<(), String> {
    let to = escape(&join(host, port)).into_owned();
    let refused = |why: String| format!("refused a connection to {to}: {why}");
    let answer = say(stream, &socks::greeting(proxy.user.is_some())).await?;
    if socks::wants_password(answer, proxy.user.is_some()).map_err(refused)?
        && let Some((name, password)) = &proxy.user
    {
        let answer = say(stream, &socks::password(name, password)).await?;
        socks::is_let_in(answer).map_err(refused)?;
    }
    let answer = say(stream, &socks::connect(host, port).map_err(refused)?).await?;
    let mut rest = vec![0; socks::rest_of_answer(answer).map_err(refused)?];
    stream.read_exact(&mut rest).await.map_err(|e| broke(&e))?;
    Ok(())
}

/// Sends a message of SOCKS, and reads the first bytes of the answer.
async fn say<const N: usize>(
    stream: &mut Box<dyn Stream>,
    message: &[u8],
) -> Result<[u8; N], String> {
    let mut answer = [0; N];
    stream.write_all(message).await.map_err(|e| broke(&e))?;
    stream.flush().await.map_err(|e| broke(&e))?;
    stream.read_exact(&mut answer).await.map_err(|e| broke(&e))?;
    Ok(answer)
}

fn broke(error: &io::Error) -> String {
    format!("broke the connection: {error}; does it speak SOCKS 5?")
}

/// Why no address of a host could be reached.
enum Unreached {
    Name(String, io::Error),
    Address(io::Error),
}

impl Unreached {
    fn told(&self, what: &str, hint: &str) -> String {
        match self {
            Unreached::Name(host, error) => {
                let of = if what.starts_with("the proxy") {
                    format!(" of {what}")
                } else {
                    String::new()
                };
                unresolved(host, error) + &of
            }
            Unreached::Address(error) => {
                let hint = if error.kind() == io::ErrorKind::ConnectionRefused { hint } else { "" };
                format!("{what} cannot be reached: {error}{hint}")
            }
        }
    }
}

fn unresolved(host: &str, error: &io::Error) -> String {
    format!("the name {host:?} cannot be resolved: {error}")
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, Unreached> {
    let addresses: Vec<_> = tokio::net::lookup_host((host, port))
        .await
        .map_err(|e| Unreached::Name(host.to_owned(), e))?
        .collect();
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Small messages are to go at once; without it they only go later.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(e) => last = e,
        }
    }
    Err(Unreached::Address(last))
}
