//! Taking the control port's address, and telling clients of it.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::file::{ControlFile, MAX_FILE, TOKEN_RULE, is_token};
use crate::config::settings::{ControlListen, ControlSettings};
use crate::control::backend::Backend;
use crate::control::body::Budget;
use crate::control::events::Streams;
use crate::control::guard::Guard;
use crate::control::page::Page;
use crate::control::publication::Publication;
use crate::control::routes::Api;
use crate::control::secret::random_hex;
use crate::control::serve::{self, Acceptor};
use crate::control::unix;
use crate::error::Failure;
use crate::files;
use crate::net::bind::{bind_first, bind_one};
use crate::net::host;
use crate::net::tls::{Renewable, ServerTls};
use crate::net::unix::Place;

/// A control port that is bound and told of in its file, but not served yet.
pub struct Bound {
    socket: BoundSocket,
    guard: Guard,
    page: Option<Page>,
    url: String,
    publication: Publication,
    renewal: Option<Renewal>,
}

/// Reads the certificate of a control port again.
pub struct Renewal {
    acceptor: Renewable,
    settings: ControlSettings,
    publication: Publication,
}

impl Renewal {
    /// From now on new connections are shown what is in the files; the clients' file names it.
    ///
    /// # Errors
    /// What is wrong with which file; nothing changes.
    pub fn renew(&self) -> Result<(), String> {
        let (Some(chain), Some(key)) = (&self.settings.tls_cert, &self.settings.tls_key) else {
            return Ok(());
        };
        let new = ServerTls::load(chain, key)
            .map_err(|e| format!("control port: {e}; it goes on as it was"))?;
        // First what may fail.
        self.publication
            .renew(STANDARD.encode(&new.certificate))
            .map_err(|e| format!("control port: {e}; it goes on as it was"))?;
        self.acceptor.renew(&new.acceptor);
        Ok(())
    }
}

enum BoundSocket {
    Tcp(TcpListener, Option<Renewable>),
    Unix(unix::Bound),
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Takes the address and writes the file for the clients. `None` where the control port is off.
///
/// # Errors
/// Exit code 1, with what a person can do about it.
pub fn bind(settings: &ControlSettings) -> Result<Option<Bound>, Failure> {
    let bound = match &settings.listen {
        ControlListen::Off => return Ok(None),
        ControlListen::Tcp(host, port) => bind_tcp(settings, host, *port)?,
        ControlListen::Unix(path) => bind_unix(settings, path)?,
    };
    Ok(Some(bound))
}

impl Bound {
    /// The URL: for the listeners' `WSGW_CONTROL`, and for the file.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// For a certificate that is renewed while the port is open.
    pub fn take_renewal(&mut self) -> Option<Renewal> {
        self.renewal.take()
    }

    /// The line for stdout, once [`Bound::run`] is under way.
    pub fn announcement(&self) -> String {
        format!("control listening on {}", self.url)
    }

    /// Serves until `stop`, then removes the file and lets requests under way finish within 1 s.
    ///
    /// # Errors
    /// The runtime does not take the socket.
    pub async fn run<B: Backend>(self, backend: Arc<B>, stop: CancellationToken) -> io::Result<()> {
        let acceptor = match self.socket {
            BoundSocket::Tcp(socket, tls) => {
                Acceptor::Tcp(tokio::net::TcpListener::from_std(socket)?, tls)
            }
            BoundSocket::Unix(bound) => Acceptor::Unix(bound.into_acceptor()?),
        };
        let tasks = TaskTracker::new();
        let api = Arc::new(Api {
            backend,
            guard: self.guard,
            page: self.page,
            budget: Budget::default(),
            streams: Streams::new(tasks.clone(), stop.clone()),
            watchers: Arc::default(),
            tasks,
        });
        // Withdrawn before the acceptor goes: nobody is sent to a port that another may have then.
        let published = self.publication.keep(stop.clone());
        tokio::join!(published, serve::run(acceptor, api, stop));
        Ok(())
    }
}

fn bind_tcp(settings: &ControlSettings, host: &str, port: u16) -> Result<Bound, Failure> {
    let shown = host::join(host, port);
    let failed = |why: String| Failure::other(format!("control port {shown}: {why}"));
    let tls = tls_of(settings).map_err(failed)?;
    let name = host::to_ascii(host::unbracketed(host)).unwrap_or_default();
    let addresses = resolve(&name, port).map_err(failed)?;
    if !settings.insecure && tls.is_none() {
        ensure_loopback(&addresses).map_err(failed)?;
    }
    let socket = bind_first(addresses, bind_one).map_err(|e| {
        let what = match e.kind() {
            io::ErrorKind::AddrInUse => {
                "is taken (does another `wsgw serve` run? see `wsgw status`)".to_owned()
            }
            _ => format!("cannot be bound: {e}"),
        };
        Failure::other(format!(
            "control port {shown} {what}; `--control 127.0.0.1:PORT` picks another, port 0 a free \
             one"
        ))
    })?;
    let address = socket.local_addr().map_err(|e| failed(e.to_string()))?;
    let token = match &settings.token_file {
        Some(file) => read_token(file)?,
        // 256 bits.
        None => random_hex::<32>().map_err(Failure::other)?,
    };
    let mut hosts = settings.hosts.clone();
    if host::literal(host).is_none() {
        hosts.push(host.to_owned());
    }
    let url = format!("{}://{address}", if tls.is_some() { "https" } else { "http" });
    let content = ControlFile {
        url: url.clone(),
        token: Some(token.clone()),
        pid: std::process::id(),
        certificate: tls.as_ref().map(|tls| STANDARD.encode(&tls.certificate)),
    };
    let name = format!("control-{}.json", address.port());
    let publication = Publication::new(settings, name, content)?;
    let guard = Guard::tcp(token, address.ip(), &hosts);
    let tls = tls.map(|tls| tls.acceptor);
    let renewal = tls.clone().map(|acceptor| Renewal {
        acceptor,
        settings: settings.clone(),
        publication: publication.clone(),
    });
    let page = Some(Page::new(address.port(), tls.is_some()));
    let socket = BoundSocket::Tcp(socket, tls);
    Ok(Bound { socket, guard, page, url, publication, renewal })
}

pub(super) fn tls_of(settings: &ControlSettings) -> Result<Option<ServerTls>, String> {
    match (&settings.tls_cert, &settings.tls_key) {
        (Some(chain), Some(key)) => ServerTls::load(chain, key).map(Some),
        (None, None) => Ok(None),
        _ => Err("[control] needs both tls-cert and tls-key; one is missing".to_owned()),
    }
}

pub(super) fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let found = (host, port).to_socket_addrs().map_err(|e| {
        format!("the address cannot be resolved ({e}); `--control ADDR:PORT` gives another")
    })?;
    Ok(found.collect())
}

/// Refuses an address that others can reach, for a port without TLS.
pub(super) fn ensure_loopback(addresses: &[SocketAddr]) -> Result<(), String> {
    match addresses.iter().find(|a| !a.ip().to_canonical().is_loopback()) {
        None => Ok(()),
        Some(public) => Err(format!(
            "{} is not a loopback address, and the token would cross the network in clear: give \
             [control] tls-cert and tls-key, or insecure = true",
            public.ip()
        )),
    }
}

fn bind_unix(settings: &ControlSettings, path: &Path) -> Result<Bound, Failure> {
    let failed =
        |path: &Path, why| Failure::other(format!("control socket {}: {why}", path.display()));
    let place = Place::new(path, settings.mode, settings.group.as_deref())
        .map_err(|why| failed(path, why))?;
    let path = place.path().to_owned();
    let socket = unix::Bound::bind(place).map_err(|why| failed(&path, why))?;
    let url = format!("http+unix://{}", path.display());
    let name = format!("control-{}.json", std::process::id());
    let content =
        ControlFile { url: url.clone(), token: None, pid: std::process::id(), certificate: None };
    let publication = Publication::new(settings, name, content)?;
    let socket = BoundSocket::Unix(socket);
    Ok(Bound { socket, guard: Guard::unix(), page: None, url, publication, renewal: None })
}

pub(super) fn read_token(file: &Path) -> Result<String, Failure> {
    let shown = file.display();
    let text = files::read_text(file, MAX_FILE)
        .map_err(|e| Failure::other(format!("the control token's file {shown}: {e}")))?;
    let token = text.trim();
    if !is_token(token) {
        return Err(Failure::other(format!(
            "the control token's file {shown}: the token {TOKEN_RULE}"
        )));
    }
    Ok(token.to_owned())
}
