//! How a gateway gets the socket that it accepts clients on: from the service manager, or bound here.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::api::ErrorCode;
use crate::config::settings::{GatewaySettings, ListenHost};
use crate::net::address::BoundAddress;
use crate::net::bind::BoundSocket;
use crate::net::unix::{BindError, Place};
use crate::net::{bind, host};
use crate::server::gateway::{Acceptor, StartError};
use crate::systemd::Inherited;

/// The socket that was handed over for a gateway, else one that is bound now.
///
/// # Errors
/// Why it cannot be bound.
pub(super) async fn acceptor_of(
    settings: &GatewaySettings,
    inherited: &Inherited,
) -> Result<Acceptor, StartError> {
    if let Some(socket) = inherited.socket_of(settings) {
        let bound = socket.and_then(|socket| Ok((socket.address()?, socket)));
        let failed = |e| StartError::new(format!("the socket that was handed over: {e}"));
        let (address, socket) = bound.map_err(failed)?;
        return Ok(Acceptor { file: None, socket, address });
    }
    match &settings.host {
        ListenHost::Name(name) => bind_tcp(name, settings).await,
        ListenHost::Unix(path) => bind_unix(path, settings).await,
    }
}

async fn bind_tcp(host: &str, settings: &GatewaySettings) -> Result<Acceptor, StartError> {
    let socket = bind::bind(host, settings.port).await;
    let bound = socket.and_then(|socket| Ok((socket.local_addr()?, socket)));
    let (address, socket) = bound.map_err(|e| StartError {
        code: ErrorCode::Failed,
        taken: e.kind() == io::ErrorKind::AddrInUse,
        text: bind_error(&e, host, settings),
    })?;
    let address = BoundAddress::Tcp(address);
    Ok(Acceptor { file: None, socket: BoundSocket::Tcp(socket), address })
}

async fn bind_unix(path: &Path, settings: &GatewaySettings) -> Result<Acceptor, StartError> {
    let error = |taken, why: String| {
        let text = format!("the unix socket {} (gateway {}): {why}", path.display(), settings.id);
        StartError { code: ErrorCode::Failed, text, taken }
    };
    let (wanted, mode, group) = (path.to_owned(), settings.mode, settings.group.clone());
    // Its group may have to be asked for from another program.
    let bound = tokio::task::spawn_blocking(move || {
        let place = Place::new(&wanted, mode, group.as_deref()).map_err(BindError::Failed)?;
        let address = BoundAddress::Unix(place.path().to_owned());
        place.bind().map(|(file, socket)| (file, socket, address))
    });
    let bound = bound.await.map_err(|e| error(false, e.to_string()))?;
    let (file, socket, address) = bound.map_err(|why| match why {
        BindError::Taken(why) => error(true, format!("{why}; --host unix:PATH picks another")),
        BindError::Failed(why) => error(false, why),
    })?;
    Ok(Acceptor { file: Some(Arc::new(file)), socket: BoundSocket::Unix(socket), address })
}

fn bind_error(error: &io::Error, host: &str, settings: &GatewaySettings) -> String {
    let GatewaySettings { id, port, .. } = settings;
    let host = host::bracketed(host);
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {port} on {host} is taken (gateway {id}): stop what uses it, or pick another with \
             --port (0 takes a free one)"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "port {port} on {host} may not be bound (gateway {id}): {error}; ports below 1024 need \
             privileges, --port picks another"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("{host} is not an address of this machine (gateway {id}): --host picks another")
        }
        _ => {
            format!("{host}:{port} cannot be bound (gateway {id}): {error}; see --host and --port")
        }
    }
}
