//! Taking the control port's address, and telling clients of it.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::file::{ControlFile, Published};
use crate::config::settings::{ControlListen, ControlSettings};
use crate::control::backend::Backend;
use crate::control::body::Budget;
use crate::control::guard::Guard;
use crate::control::routes::Api;
use crate::control::serve;
use crate::control::serve::Acceptor;
use crate::error::Failure;
use crate::net::tls::{Renewable, ServerTls};
use crate::paths;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// A control port that is bound and told of in its file, but not served yet.
pub struct Bound {
    socket: BoundSocket,
    guard: Guard,
    url: String,
    published: Told,
    renewal: Option<Renewal>,
}

/// The file for the clients, while there is one.
type Told = Arc<Mutex<Option<Published>>>;

/// Reads the certificate of a control port again.
pub struct Renewal {
    acceptor: Renewable,
    settings: ControlSettings,
    published: Told,
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
        self.acceptor.renew(&new.acceptor);
        let mut told = self.published.lock();
        let renewed = told.as_ref().map(|old| old.rewrite(STANDARD.encode(&new.certificate)));
        match renewed.transpose() {
            Ok(Some(new)) => *told = Some(new),
            Ok(None) => {}
            Err(e) => return Err(format!("control port: its file cannot be written: {e}")),
        }
        Ok(())
    }
}

enum BoundSocket {
    Tcp(TcpListener, Option<Renewable>),
    Unix(UnixListener, SocketFile),
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
        let (acceptor, _socket_file) = match self.socket {
            BoundSocket::Tcp(socket, tls) => {
                (Acceptor::Tcp(tokio::net::TcpListener::from_std(socket)?, tls), None)
            }
            BoundSocket::Unix(socket, file) => {
                (Acceptor::Unix(tokio::net::UnixListener::from_std(socket)?), Some(file))
            }
        };
        let api = Arc::new(Api {
            backend,
            guard: self.guard,
            budget: Budget::default(),
            tasks: TaskTracker::new(),
        });
        let published = self.published;
        let withdrawn = {
            let stop = stop.clone();
            async move {
                stop.cancelled().await;
                // Before the acceptor goes: nobody is sent to a port that another may have by then.
                drop(published.lock().take());
            }
        };
        tokio::join!(withdrawn, serve::run(acceptor, api, stop));
        Ok(())
    }
}

fn bind_tcp(settings: &ControlSettings, host: &str, port: u16) -> Result<Bound, Failure> {
    let shown = format!(
        "{}:{port}",
        if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
    );
    let tls = match (&settings.tls_cert, &settings.tls_key) {
        (Some(chain), Some(key)) => Some(
            ServerTls::load(chain, key)
                .map_err(|e| Failure::other(format!("control port {shown}: {e}")))?,
        ),
        (None, None) => None,
        _ => {
            return Err(Failure::other(format!(
                "control port {shown}: tls-cert and tls-key of [control] go together, one is missing"
            )));
        }
    };
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = (literal, port)
        .to_socket_addrs()
        .map_err(|e| {
            Failure::other(format!(
                "control port {shown}: the address cannot be resolved ({e}); \
                 `--control ADDR:PORT` gives another"
            ))
        })?
        .collect();
    if let Some(public) = addresses.iter().find(|a| !a.ip().to_canonical().is_loopback())
        && !settings.insecure
        && tls.is_none()
    {
        return Err(Failure::other(format!(
            "control port {shown}: {} is not a loopback address, and the token would cross the \
             network in clear: give [control] tls-cert and tls-key, or insecure = true",
            public.ip()
        )));
    }
    let socket = bind_first(&addresses).map_err(|e| {
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
    let address =
        socket.local_addr().map_err(|e| Failure::other(format!("control port {shown}: {e}")))?;
    let token = match &settings.token_file {
        Some(file) => read_token(file)?,
        None => make_token()?,
    };
    let mut hosts = settings.hosts.clone();
    if literal.parse::<IpAddr>().is_err() {
        hosts.push(host.to_owned());
    }
    let url = format!("{}://{address}", if tls.is_some() { "https" } else { "http" });
    let name = format!("control-{}.json", address.port());
    let content = ControlFile {
        url: url.clone(),
        token: Some(token.clone()),
        pid: std::process::id(),
        certificate: tls.as_ref().map(|tls| STANDARD.encode(&tls.certificate)),
    };
    let published = Arc::new(Mutex::new(publish(settings, &name, content)?));
    let guard = Guard::tcp(token, address.ip(), &hosts);
    let tls = tls.map(|tls| tls.acceptor);
    let renewal = tls.clone().map(|acceptor| Renewal {
        acceptor,
        settings: settings.clone(),
        published: Arc::clone(&published),
    });
    Ok(Bound { socket: BoundSocket::Tcp(socket, tls), guard, url, published, renewal })
}

/// The first address that can be bound, as with a name that has several.
fn bind_first(addresses: &[SocketAddr]) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for &address in addresses {
        match bind_one(address) {
            Ok(socket) => return Ok(socket),
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restarted `serve` must not wait for its old connections' TIME-WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The path of a bound socket; removed when dropped, if it is still ours.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.identity);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn bind_unix(settings: &ControlSettings, path: &Path) -> Result<Bound, Failure> {
    let failed =
        |what: String| Failure::other(format!("control socket {}: {what}", path.display()));
    let path = std::path::absolute(path).map_err(|e| failed(e.to_string()))?;
    match fs::symlink_metadata(&path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(failed(
                "there is a file that is no socket; `--control unix:PATH` picks another".to_owned(),
            ));
        }
        Ok(_) if UnixStream::connect(&path).is_ok() => {
            return Err(failed(
                "somebody answers on it (does another `wsgw serve` run?); `--control unix:PATH` \
                 picks another"
                    .to_owned(),
            ));
        }
        _ => {}
    }
    let group = settings.group.as_deref().map(group_id).transpose().map_err(failed)?;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)
            .map_err(|e| failed(format!("its directory cannot be made: {e}")))?;
    }
    // Bound under another name and renamed once mode and group are right: nobody finds it open
    // to more than it should be, and a stale one is replaced in one step.
    let mut temporary = path.clone().into_os_string();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let _ = fs::remove_file(&temporary);
    let socket = bind_closed(&temporary).map_err(|e| failed(format!("cannot be bound: {e}")))?;
    let made = (|| {
        socket.set_nonblocking(true)?;
        if group.is_some() {
            std::os::unix::fs::chown(&temporary, None, group)?;
        }
        fs::set_permissions(&temporary, fs::Permissions::from_mode(settings.mode))?;
        let meta = fs::symlink_metadata(&temporary)?;
        fs::rename(&temporary, &path)?;
        Ok((meta.dev(), meta.ino()))
    })();
    let identity = made.map_err(|e: io::Error| {
        let _ = fs::remove_file(&temporary);
        failed(format!("mode or group cannot be set: {e}"))
    })?;
    let file = SocketFile { path: path.clone(), identity };
    let url = format!("http+unix://{}", path.display());
    let name = format!("control-{}.json", std::process::id());
    let content =
        ControlFile { url: url.clone(), token: None, pid: std::process::id(), certificate: None };
    let published = Arc::new(Mutex::new(publish(settings, &name, content)?));
    let socket = BoundSocket::Unix(socket, file);
    Ok(Bound { socket, guard: Guard::unix(), url, published, renewal: None })
}

/// Binds with a mode that lets nobody else in, whatever the umask: who connected before the right
/// mode is set would stay. (On Linux the file gets the mode of the socket; elsewhere it is the
/// umask's until [`bind_unix`] sets it.)
fn bind_closed(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let _ = rustix::fs::fchmod(&socket, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A group's number; the name is looked up in `/etc/group`, then by `getent`, which knows others'
/// databases.
fn group_id(group: &str) -> Result<u32, String> {
    if let Ok(id) = group.parse() {
        return Ok(id);
    }
    let find = |table: &str| {
        table.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(group)).then(|| fields.nth(1)?.parse().ok()).flatten()
        })
    };
    let local = fs::read_to_string("/etc/group").unwrap_or_default();
    find(&local)
        .or_else(|| {
            let asked =
                std::process::Command::new("getent").args(["group", group]).output().ok()?;
            find(&String::from_utf8_lossy(&asked.stdout))
        })
        .ok_or_else(|| format!("there is no group {group:?}"))
}

/// Writes the file for the clients. Where they can do without it, its failure is a warning.
fn publish(
    settings: &ControlSettings,
    name: &str,
    content: ControlFile,
) -> Result<Option<Published>, Failure> {
    let needed = content.token.is_some() && settings.token_file.is_none();
    let url = content.url.clone();
    let written = match settings.directory.clone().or_else(paths::state_dir) {
        None => Err("there is no home directory and no $STATE_DIRECTORY".to_owned()),
        Some(directory) => Published::write(&directory, name, content)
            .map_err(|e| format!("{} cannot be written: {e}", directory.join(name).display())),
    };
    match written {
        Ok(published) => Ok(Some(published)),
        Err(why) if needed => Err(Failure::other(format!(
            "control port: {why}; give [control] a `directory`, or switch it off (`--control off`)"
        ))),
        Err(why) => {
            tracing::warn!("control port: {why}; clients need `--control {url}`");
            Ok(None)
        }
    }
}

/// A fresh token: 256 bits in hex.
fn make_token() -> Result<String, Failure> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes)
        .map_err(|e| Failure::other(format!("the system gives no random numbers: {e}")))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

fn read_token(file: &Path) -> Result<String, Failure> {
    let shown = file.display();
    let text = fs::read_to_string(file)
        .map_err(|e| Failure::other(format!("the control token's file {shown}: {e}")))?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Failure::other(format!(
            "the control token's file {shown} must hold one word of printable ASCII"
        )));
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_socket_is_closed_to_others_from_its_first_moment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.sock");
        let _socket = bind_closed(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
