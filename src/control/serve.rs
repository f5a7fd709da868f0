//! The connections of the control port: accepted, bounded in number and time, ended with it.
//!
//! At most [`MAX_CONNECTIONS`] are open. For one more, the oldest connection without an authorized
//! request under way is closed, so that holding connections open does not keep others out; only if
//! all of them are busy, the new one waits in the backlog. A process with a low limit of descriptors
//! has fewer connections, and a connection that takes one of the last descriptors replaces another
//! one, so that some are left for the log and for a listener's restart.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::Accept;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::control::backend::Backend;
use crate::control::busy;
use crate::control::busy::Busy;
use crate::control::routes::Api;
use crate::control::unix::UnixAcceptor;
use crate::net::tls::Renewable;

/// Connections at a time. More than the 1,024 pushes that the server lets wait, so that the next
/// one is told so (429).
const MAX_CONNECTIONS: usize = 2048;
/// The least number of connections, and one for so many descriptors that the process may have.
const MIN_CONNECTIONS: usize = 16;
const DESCRIPTORS_EACH: usize = 8;
/// Descriptors that are kept free: a new connection that takes one of them replaces another one.
const KEPT_BACK: usize = 24;
/// Time to receive a request's head, and of idleness between two requests.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// A request's head.
const MAX_HEADERS: usize = 100;
/// Read buffer of a connection at most, the head's bound, too: with [`MAX_CONNECTIONS`] heads that
/// never end it is 64 MiB.
const MAX_BUFFER: usize = 32 << 10;
/// How long requests under way may take when the port closes.
const GRACE: Duration = Duration::from_millis(300);
/// Pause after a failed accept (no descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Pause between two warnings about it.
const WARN_PAUSE: Duration = Duration::from_secs(10);

/// Where connections come from.
pub(crate) enum Acceptor {
    /// A TCP port, with TLS or without.
    Tcp(TcpListener, Option<Renewable>),
    /// A unix socket.
    Unix(UnixAcceptor),
}

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A connection that came in.
enum Accepted {
    Open(Box<dyn Socket>),
    /// TLS is still to be agreed on.
    Handshake(Box<Accept<TcpStream>>),
}

impl Accepted {
    async fn open(self) -> io::Result<Box<dyn Socket>> {
        match self {
            Accepted::Open(socket) => Ok(socket),
            Accepted::Handshake(accept) => match timeout(HEAD_TIME, *accept).await {
                Ok(socket) => Ok(Box::new(socket?)),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            },
        }
    }
}

impl Acceptor {
    /// The next connection, and its descriptor's number.
    async fn accept(&mut self) -> io::Result<(Accepted, RawFd)> {
        match self {
            Acceptor::Tcp(acceptor, tls) => {
                let (socket, _) = acceptor.accept().await?;
                let number = socket.as_raw_fd();
                // Answers are small and waited for.
                let _ = socket.set_nodelay(true);
                // A peer that vanished without a word would hold an open stream for good.
                let probes = socket2::TcpKeepalive::new()
                    .with_time(Duration::from_secs(60))
                    .with_interval(Duration::from_secs(10));
                let _ = socket2::SockRef::from(&socket).set_tcp_keepalive(&probes);
                let accepted = match tls {
                    Some(tls) => Accepted::Handshake(Box::new(tls.now().accept(socket))),
                    None => Accepted::Open(Box::new(socket)),
                };
                Ok((accepted, number))
            }
            Acceptor::Unix(acceptor) => {
                let socket = acceptor.accept().await?;
                let number = socket.as_raw_fd();
                Ok((Accepted::Open(Box::new(socket)), number))
            }
        }
    }
}

/// How many descriptors the process may have.
fn descriptors() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX)
}

/// Accepts and serves until `stop`, then lets requests under way finish within [`GRACE`].
pub(crate) async fn run<B: Backend>(
    mut acceptor: Acceptor,
    api: Arc<Api<B>>,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    let table = Arc::new(Table::default());
    let cut = CancellationToken::new();
    let mut warned: Option<Instant> = None;
    loop {
        let descriptors = descriptors();
        let most = (descriptors / DESCRIPTORS_EACH).clamp(MIN_CONNECTIONS, MAX_CONNECTIONS);
        tokio::select! {
            () = stop.cancelled() => break,
            () = table.make_room(most) => {}
        }
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = acceptor.accept() => accepted,
        };
        match accepted {
            Ok((accepted, number)) => {
                // The lowest free number is taken: nearly all below it are in use.
                if usize::try_from(number).is_ok_and(|n| n + KEPT_BACK >= descriptors) {
                    table.evict_idle();
                }
                let entry = table.enter();
                let connection =
                    serve(accepted, Arc::clone(&api), entry, stop.clone(), cut.clone());
                connections.spawn(connection);
            }
            Err(e) => {
                table.evict_idle();
                if warned.is_none_or(|at| at.elapsed() >= WARN_PAUSE) {
                    tracing::warn!("control port: cannot accept a connection: {e}");
                    warned = Some(Instant::now());
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(acceptor);
    connections.close();
    api.tasks.close();
    let _ = timeout(GRACE, connections.wait()).await;
    cut.cancel();
    connections.wait().await;
    // Streams and drains ended with their connections; a verb may still be at it.
    let _ = timeout(GRACE, api.tasks.wait()).await;
}

async fn serve<B: Backend>(
    accepted: Accepted,
    api: Arc<Api<B>>,
    entry: Entry,
    stop: CancellationToken,
    cut: CancellationToken,
) {
    let opened = tokio::select! {
        opened = accepted.open() => opened,
        () = entry.state.evicted.cancelled() => return,
        () = stop.cancelled() => return,
    };
    let socket = match opened {
        Ok(socket) => socket,
        Err(e) => {
            tracing::debug!("control port: no TLS handshake: {e}");
            return;
        }
    };
    let at_work = Arc::clone(&entry.state);
    let service = service_fn(move |request: Request<Incoming>| {
        let api = Arc::clone(&api);
        let at_work = Arc::clone(&at_work);
        async move { Ok::<_, Infallible>(api.answer(request, move || at_work.busy()).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = entry.state.evicted.cancelled() => return,
        () = cut.cancelled() => return,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = cut.cancelled() => return,
            }
        }
    };
    if let Err(e) = ended {
        // Clients come and go; nothing to do about it.
        tracing::debug!("control port: a connection ended: {e}");
    }
}

/// The open connections, oldest first.
#[derive(Default)]
struct Table {
    open: Mutex<Open>,
    changed: tokio::sync::Notify,
}

#[derive(Default)]
struct Open {
    next: u64,
    by_age: BTreeMap<u64, Arc<ConnState>>,
}

struct ConnState {
    requests: AtomicUsize,
    evicted: CancellationToken,
    table: Arc<Table>,
}

impl ConnState {
    fn busy(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Box::new(AtWork(Arc::clone(self)))
    }
}

/// One request under way.
struct AtWork(Arc<ConnState>);

impl busy::AtWork for AtWork {
    fn cut(&self) {
        self.0.evicted.cancel();
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
        self.0.table.changed.notify_one();
    }
}

impl Table {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock()
    }

    fn enter(self: &Arc<Self>) -> Entry {
        let mut open = self.open();
        let number = open.next;
        open.next += 1;
        let state = Arc::new(ConnState {
            requests: AtomicUsize::new(0),
            evicted: CancellationToken::new(),
            table: Arc::clone(self),
        });
        open.by_age.insert(number, Arc::clone(&state));
        Entry { number, state }
    }

    /// Waits until there are fewer than `most`, evicting where that helps.
    async fn make_room(&self, most: usize) {
        while self.open().by_age.len() >= most {
            self.evict_idle();
            self.changed.notified().await;
        }
    }

    /// Ends the oldest connection that is not at work.
    fn evict_idle(&self) {
        let idle = |c: &&Arc<ConnState>| {
            c.requests.load(Ordering::Relaxed) == 0 && !c.evicted.is_cancelled()
        };
        if let Some(oldest) = self.open().by_age.values().find(idle) {
            oldest.evicted.cancel();
        }
    }
}

/// A connection's place in the table.
struct Entry {
    number: u64,
    state: Arc<ConnState>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let table = &self.state.table;
        table.open().by_age.remove(&self.number);
        table.changed.notify_one();
    }
}
