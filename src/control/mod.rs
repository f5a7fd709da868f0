//! The control port: HTTP/1.1 with JSON for the host's own programs.
//!
//! `bind` and [`Bound::run`] are the server, on the control runtime; `client` and `discovery` are
//! what `send` and the verbs use, blocking and without a runtime, for they live for milliseconds.

pub mod client;
pub mod discovery;
mod guard;
mod routes;
mod stream;
mod token;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::guard::Guard;
use self::token::TokenFile;
use crate::error::Failure;
use crate::server::Server;
use crate::settings::{ControlListen, ControlSettings};

/// Connections served at a time; further ones wait in the backlog.
const CONNECTIONS: usize = 512;

/// Time to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long open requests may take at the end.
const END_WAIT: Duration = Duration::from_secs(1);

/// How long the acceptor rests when descriptors are short.
const ACCEPT_REST: Duration = Duration::from_millis(50);

enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener, std::path::PathBuf),
}

/// A control port that is bound and whose token file is written.
pub struct Bound {
    acceptor: Acceptor,
    url: String,
    guard: Arc<Guard>,
    file: Option<TokenFile>,
}

/// Binds the control port; `None` where it is switched off.
///
/// # Errors
/// An address that is taken or may not be used, a token file that cannot be read.
pub async fn bind(settings: &ControlSettings) -> Result<Option<Bound>, Failure> {
    if settings.tls_cert.is_some() || settings.tls_key.is_some() {
        return Err(Failure::other(
            "[control] tls-cert and tls-key are not supported yet: use a unix socket or a loopback \
             address, or a proxy that speaks TLS",
        ));
    }
    let (acceptor, url, guard, name) = match &settings.listen {
        ControlListen::Off => return Ok(None),
        ControlListen::Tcp(host, port) => {
            let acceptor = bind_tcp(host, *port, settings.insecure).await?;
            let address = acceptor
                .local_addr()
                .map_err(|e| Failure::other(format!("the control port has no address: {e}")))?;
            let token = match &settings.token_file {
                Some(path) => token::read(path)?,
                None => token::make()?,
            };
            let guard = Guard::for_tcp(address, settings.hosts.clone(), token);
            let name = format!("control-{}.json", address.port());
            (Acceptor::Tcp(acceptor), format!("http://{address}"), guard, name)
        }
        ControlListen::Unix(path) => {
            let acceptor = bind_unix(path, settings)?;
            let url = format!("http+unix://{}", path.display());
            let name = format!("control-{}.json", std::process::id());
            (Acceptor::Unix(acceptor, path.clone()), url, Guard::for_unix(), name)
        }
    };
    let directory = settings.directory.clone().or_else(crate::paths::state_dir);
    let file = match directory.map(|d| TokenFile::write(&d, &name, &url, guard.token())) {
        Some(Ok(file)) => Some(file),
        Some(Err(why)) if settings.directory.is_some() => return Err(Failure::other(why)),
        Some(Err(why)) => {
            tracing::warn!("{why}: `wsgw send` will not find this serve by itself");
            None
        }
        None => {
            tracing::warn!(
                "there is no home directory for the control token's file: [control] directory names one"
            );
            None
        }
    };
    Ok(Some(Bound { acceptor, url, guard: Arc::new(guard), file }))
}

async fn bind_tcp(host: &str, port: u16, insecure: bool) -> Result<TcpListener, Failure> {
    let fail = |e: io::Error| {
        let more = match e.kind() {
            io::ErrorKind::AddrInUse => {
                "is taken, perhaps by another `wsgw serve`: --control ADDR:PORT picks another (port \
                 0 a free one), --control off does without"
                    .to_owned()
            }
            _ => format!("cannot be bound: {e}; --control ADDR:PORT picks another"),
        };
        Failure::other(format!("the control port {host}:{port} {more}"))
    };
    let addresses: Vec<SocketAddr> =
        tokio::net::lookup_host((host, port)).await.map_err(fail)?.collect();
    if !insecure && let Some(open) = addresses.iter().find(|a| !a.ip().to_canonical().is_loopback())
    {
        return Err(Failure::other(format!(
            "the control port's address {} can be reached from other machines, and without TLS the \
             token could be read on the way: use a loopback address or unix:PATH, or set [control] \
             insecure = true if the network is trusted",
            open.ip()
        )));
    }
    TcpListener::bind(&addresses[..]).await.map_err(fail)
}

fn bind_unix(path: &Path, settings: &ControlSettings) -> Result<UnixListener, Failure> {
    let fail = |what: &str, e: &dyn std::fmt::Display| {
        Failure::other(format!("the control socket {} {what}: {e}", path.display()))
    };
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(fail("cannot be made", &"something else is there"));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(fail(
                "is taken",
                &"another process answers on it; --control picks another",
            ));
        }
        // Left by a serve that was killed.
        std::fs::remove_file(path).map_err(|e| fail("is stale and cannot be removed", &e))?;
    }
    // Bound under a name that nobody looks for, and moved when its mode is right: there is no
    // moment in which others may connect.
    let parent = path.parent().unwrap_or(Path::new("."));
    let hidden = parent.join(format!(".wsgw-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&hidden);
    let acceptor = UnixListener::bind(&hidden).map_err(|e| fail("cannot be made", &e))?;
    let set_up = || -> Result<(), Failure> {
        let mode = std::fs::Permissions::from_mode(settings.mode);
        std::fs::set_permissions(&hidden, mode).map_err(|e| fail("cannot have its mode", &e))?;
        if let Some(group) = &settings.group {
            let gid = token::group_id(group)
                .ok_or_else(|| fail("cannot have its group", &format!("no group {group:?}")))?;
            std::os::unix::fs::chown(&hidden, None, Some(gid))
                .map_err(|e| fail("cannot have its group", &e))?;
        }
        std::fs::rename(&hidden, path).map_err(|e| fail("cannot be made", &e))
    };
    set_up().inspect_err(|_| {
        let _ = std::fs::remove_file(&hidden);
    })?;
    Ok(acceptor)
}

impl Bound {
    /// `http://ADDR:PORT` or `http+unix://PATH`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Serves until `stop`; then open requests have a second, and the token file is removed.
    pub async fn run(self, server: Arc<Server>, stop: CancellationToken) {
        let tracker = TaskTracker::new();
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let slot = tokio::select! {
                slot = Arc::clone(&slots).acquire_owned() => slot,
                () = stop.cancelled() => break,
            };
            // The semaphore is never closed.
            let Ok(slot) = slot else { break };
            let serve = |io, local| {
                let (server, guard, stop) =
                    (Arc::clone(&server), Arc::clone(&self.guard), stop.clone());
                tracker.spawn(async move {
                    connection(io, local, server, guard, stop).await;
                    drop(slot);
                });
            };
            let accepted = tokio::select! {
                accepted = self.accept() => accepted,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((io, local)) => serve(io, local),
                Err(error) => {
                    tracing::warn!(%error, "the control port cannot accept for now");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
        tracker.close();
        let _ = tokio::time::timeout(END_WAIT, tracker.wait()).await;
        if let Acceptor::Unix(_, path) = &self.acceptor {
            let _ = std::fs::remove_file(path);
        }
        if let Some(file) = &self.file {
            file.remove();
        }
    }

    async fn accept(&self) -> io::Result<(Box<dyn Stream>, Option<IpAddr>)> {
        match &self.acceptor {
            Acceptor::Tcp(acceptor) => {
                let (stream, _) = acceptor.accept().await?;
                stream.set_nodelay(true)?;
                let local = stream.local_addr()?.ip();
                Ok((Box::new(stream), Some(local)))
            }
            Acceptor::Unix(acceptor, _) => {
                let (stream, _) = acceptor.accept().await?;
                Ok((Box::new(stream), None))
            }
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn connection(
    io: Box<dyn Stream>,
    local: Option<IpAddr>,
    server: Arc<Server>,
    guard: Arc<Guard>,
    stop: CancellationToken,
) {
    let service = service_fn(move |request| {
        let (server, guard) = (Arc::clone(&server), Arc::clone(&guard));
        async move {
            Ok::<_, std::convert::Infallible>(routes::answer(request, local, &server, &guard).await)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(connection);
    // A client that broke off is its own business.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
