//! From the URL to the open WebSocket, through a proxy and over redirects.

use std::cell::RefCell;
use std::io;

use rustls::pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::connect::compression::{Deflater, Inflating};
use crate::connect::handshake;
use crate::connect::handshake::{Answer, Outcome, cut, header_lines};
use crate::connect::options::Options;
use crate::connect::output::{Output, Verbose};
use crate::connect::proxy::{Proxy, Setting};
use crate::connect::resume::LARGEST_FRAME;
use crate::connect::stream::{Stream, network};
use crate::connect::target::Target;
use crate::connect::{exit, tls, tunnel};
use crate::error::{Failure, complain};
use crate::text::escape::escape;
use crate::ws::deflate::offer::Agreed;

/// The largest message that is taken in: a test client must not fill the memory.
const MAX_MESSAGE: usize = 1 << 30;

/// The most redirects that `-L` follows.
const REDIRECTS: usize = 5;

/// An open WebSocket.
pub(super) type Socket = WebSocketStream<Box<dyn Stream>>;

/// A WebSocket that was opened.
pub(super) struct Opened {
    /// The socket.
    pub(super) socket: Socket,
    /// The server's 101.
    pub(super) answer: Answer,
    /// Compresses what is sent, where that was agreed on.
    pub(super) deflater: Option<Deflater>,
    /// Where it was opened: the target of the options, or where redirects led.
    pub(super) target: Target,
}

/// Connects to the target, from this position in the server's history on, if there is one; `-v`
/// shows the handshake in `output`, or on stderr before there is one.
///
/// # Errors
/// 3 for DNS, TCP, TLS and proxies, 4 for the handshake, 6 when it takes too long.
pub(super) async fn dial(
    options: &Options,
    position: Option<&str>,
    output: Option<&Output>,
) -> Result<Opened, Failure> {
    // What is waited for, in case that it takes too long.
    let waits_for = RefCell::new(options.target.url.clone());
    match timeout(options.timeout, follow(options, position, output, &waits_for)).await {
        Ok(result) => result,
        Err(_) => Err(Failure::new(
            exit::TIMEOUT,
            format!(
                "{} did not finish the handshake in {} s (--timeout)",
                waits_for.borrow(),
                options.timeout.as_secs_f64()
            ),
        )),
    }
}

/// Connects to the target, or where it leads.
async fn follow(
    options: &Options,
    position: Option<&str>,
    output: Option<&Output>,
    waits_for: &RefCell<String>,
) -> Result<Opened, Failure> {
    let verbose = Verbose { is_on: options.verbose, output };
    let mut target = options.target.clone();
    let mut seen = Vec::new();
    loop {
        let proxy = options.proxy.proxy_for(&target, |name| std::env::var(name).ok())?;
        if let Setting::Through(unused) = &options.proxy
            && proxy.is_none()
            && (output.is_none() || options.verbose)
        {
            let text = format!("the proxy {} is not used for {}", unused.shown, target.address());
            complain_in(output, &text).await;
        }
        *waits_for.borrow_mut() = match &proxy {
            Some(proxy) => format!("{} (through the proxy {})", target.url, proxy.shown),
            None => target.url.clone(),
        };
        let path = target.path_since(position);
        let mut stream = open(options, &target, proxy.as_ref(), verbose).await?;
        let request = handshake::Request::new(&path, &target.headers);
        verbose.say(format!("> GET {} HTTP/1.1\n{}", escape(&path), request.shown("> "))).await;
        let outcome =
            handshake::shake(&mut stream, &target.url, &request, options.location).await?;
        let (answer, location) = match outcome {
            Outcome::Open { answer, compression, early } => {
                show(&answer, verbose).await;
                let socket = web_socket(options, stream, compression, early).await;
                let deflater = compression.map(Deflater::new);
                return Ok(Opened { socket, answer, deflater, target });
            }
            Outcome::Redirect(answer, location) => (answer, location),
        };
        show(&answer, verbose).await;
        seen.push(target.url.clone());
        target = next(&target, &location, &answer, &seen)?;
        verbose.say(format!("* redirected to {}", target.url)).await;
    }
}

async fn show(answer: &Answer, verbose: Verbose<'_>) {
    verbose.say(format!("< {}\n{}", answer.status, header_lines(&answer.headers, "< "))).await;
}

async fn complain_in(output: Option<&Output>, text: &str) {
    match output {
        Some(output) => output.info(text).await,
        None => complain(&format!("* {text}")),
    }
}

/// The target that a redirect names, which is none of those that were `seen`.
fn next(
    from: &Target,
    location: &str,
    answer: &Answer,
    seen: &[String],
) -> Result<Target, Failure> {
    let wrong = |why: String| {
        let text = format!(
            "{} redirects ({}) to {:?}, which cannot be followed: {why}",
            from.url,
            cut(&answer.status, 100),
            cut(location, 500)
        );
        Failure::new(exit::HANDSHAKE, text)
    };
    let target = from.redirected(location).map_err(wrong)?;
    if seen.contains(&target.url) {
        return Err(wrong("it was there before, so it would go round for ever".to_owned()));
    }
    if seen.len() > REDIRECTS {
        return Err(wrong(format!("this would be more than {REDIRECTS} redirects")));
    }
    Ok(target)
}

/// Opens a stream to the target, with TLS if it speaks that.
async fn open(
    options: &Options,
    target: &Target,
    proxy: Option<&Proxy>,
    verbose: Verbose<'_>,
) -> Result<Box<dyn Stream>, Failure> {
    // What is wrong with the flags is said before anybody is called.
    let tls = if target.tls {
        let name = ServerName::try_from(target.certificate_name().to_owned()).map_err(|_| {
            Failure::usage(format!("{:?} cannot be the name in a certificate", target.host))
        })?;
        Some((name, TlsConnector::from(tls::config(options, target.is_first)?)))
    } else {
        None
    };
    let stream = match proxy {
        Some(proxy) => tunnel::through(proxy, target, options, verbose).await?,
        None => tunnel::direct(target).await?,
    };
    let Some((name, connector)) = tls else { return Ok(stream) };
    let stream = connector.connect(name, stream).await.map_err(|e| {
        network(format!("TLS with {} failed: {e}{}", target.address(), tls_hint(&e)))
    })?;
    Ok(Box::new(stream))
}

async fn web_socket(
    options: &Options,
    stream: Box<dyn Stream>,
    compression: Option<Agreed>,
    early: Vec<u8>,
) -> Socket {
    let largest = if options.resume { LARGEST_FRAME } else { MAX_MESSAGE };
    let config = WebSocketConfig::default()
        .max_message_size(Some(largest))
        .max_frame_size(Some(largest))
        .read_buffer_size(64 * 1024)
        .write_buffer_size(64 * 1024);
    let (stream, early): (Box<dyn Stream>, _) = match compression {
        Some(agreed) => (Box::new(Inflating::new(stream, early, agreed, largest)), Vec::new()),
        None => (stream, early),
    };
    WebSocketStream::from_partially_read(stream, early, Role::Client, Some(config)).await
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
