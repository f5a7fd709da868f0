//! The service manager: what it is told, and the sockets that it hands over.
//!
//! Without `NOTIFY_SOCKET` nothing is told, without `LISTEN_FDS` nothing is taken. A socket that is
//! handed over stays open in the manager while `serve` restarts: whoever connects meanwhile waits
//! in its backlog instead of being refused.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::fd::AsFd;

use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::config::id::normal_id;
use crate::config::settings::{GatewaySettings, ListenHost};
use crate::net::address::BoundAddress;
use crate::net::bind::BoundSocket;
use crate::net::host;

/// Tells the service manager that everything has started.
pub(crate) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Tells it that the configuration is being read again; [`ready`] ends that.
pub(crate) fn reloading() {
    // Without the time a newer systemd takes the message for a mistake.
    if let Ok(time) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, time]);
    }
}

/// Tells it that the stop has begun.
pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("the service manager cannot be notified ({state:?}): {error}");
    }
}

/// Listening sockets that were handed over.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    sockets: Vec<Passed>,
    /// What is wrong with those that cannot be used, for the log.
    pub notices: Vec<String>,
}

#[derive(Debug)]
struct Passed {
    name: String,
    address: BoundAddress,
    socket: BoundSocket,
}

impl Inherited {
    /// Takes what this process was handed (`LISTEN_PID`, `LISTEN_FDS`, `LISTEN_FDNAMES`). To be
    /// called once, before there are other threads: the environment is changed.
    pub(crate) fn take() -> Inherited {
        let ours = std::env::var("LISTEN_PID")
            .is_ok_and(|pid| pid.trim().parse() == Ok(std::process::id()));
        if !ours {
            return Inherited::default();
        }
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut fds = ListenFd::from_env();
        let mut inherited = Inherited::default();
        for index in 0..fds.len() {
            let name = names.next().unwrap_or_default().to_owned();
            match take_socket(&mut fds, index) {
                Ok((address, socket)) => inherited.sockets.push(Passed { name, address, socket }),
                Err(error) => inherited.notices.push(format!(
                    "descriptor {} that was handed over ({name:?}) is not used: {error}",
                    index + 3
                )),
            }
        }
        inherited
    }

    /// The socket of a gateway: that with its id as a name, else that with its address.
    pub(crate) fn socket_of(&self, settings: &GatewaySettings) -> Option<io::Result<BoundSocket>> {
        self.of(settings).map(|passed| passed.socket.try_clone())
    }

    fn of(&self, settings: &GatewaySettings) -> Option<&Passed> {
        if self.sockets.is_empty() {
            return None;
        }
        let same_address = self.sockets.iter().filter(|p| serves(&p.address, settings));
        let named = |p: &&Passed| normal_id(&p.name) == settings.id;
        same_address
            .clone()
            .find(named)
            .or_else(|| self.sockets.iter().find(named))
            .or_else(|| same_address.clone().next())
    }

    /// What to say of sockets that no gateway uses: who connects to them waits in vain.
    pub(crate) fn unused<'a>(
        &self,
        gateways: impl Iterator<Item = &'a GatewaySettings>,
    ) -> Vec<String> {
        let used: Vec<&BoundAddress> =
            gateways.filter_map(|g| self.of(g)).map(|passed| &passed.address).collect();
        let unused = self.sockets.iter().filter(|p| !used.contains(&&p.address));
        unused
            .map(|Passed { name, address, .. }| {
                let address = match address {
                    BoundAddress::Tcp(address) => address.to_string(),
                    BoundAddress::Unix(path) => path.display().to_string(),
                };
                format!(
                    "the socket {address} ({name:?}) that was handed over belongs to no gateway: its \
                     name is not an id, and no gateway has its address"
                )
            })
            .collect()
    }
}

/// Takes one of the descriptors, with its address.
fn take_socket(fds: &mut ListenFd, index: usize) -> io::Result<(BoundAddress, BoundSocket)> {
    let (tcp, missing) = (fds.take_tcp_listener(index), io::ErrorKind::NotFound);
    let socket = match tcp {
        Ok(socket) => BoundSocket::Tcp(socket.ok_or(missing)?),
        // It stays where it is when it is not what was asked for.
        Err(error) => {
            let unix = fds.take_unix_listener(index).map_err(|_| error)?;
            BoundSocket::Unix(unix.ok_or(missing)?)
        }
    };
    let descriptor = match &socket {
        BoundSocket::Tcp(socket) => socket.as_fd(),
        BoundSocket::Unix(socket) => socket.as_fd(),
    };
    if !rustix::net::sockopt::socket_acceptconn(descriptor)? {
        return Err(io::Error::other("it does not listen"));
    }
    rustix::io::ioctl_fionbio(descriptor, true)?;
    if let BoundSocket::Tcp(socket) = &socket {
        // Handed on to the accepted ones. Without it small messages are late, no more.
        let _ = socket2::SockRef::from(socket).set_tcp_nodelay(true);
    }
    Ok((socket.address()?, socket))
}

/// Whether a socket is what these settings would have bound.
fn serves(address: &BoundAddress, settings: &GatewaySettings) -> bool {
    let (address, host) = match (address, &settings.host) {
        (BoundAddress::Tcp(address), ListenHost::Name(host)) => (*address, host),
        (BoundAddress::Unix(path), ListenHost::Unix(wanted)) => return path == wanted,
        _ => return false,
    };
    if settings.port != address.port() {
        return false;
    }
    let Some(host) = host::to_ascii(host::unbracketed(host)) else { return false };
    let any = |ip: IpAddr| ip.is_unspecified();
    (host.as_ref(), settings.port).to_socket_addrs().is_ok_and(|mut wanted| {
        // A wildcard of IPv6 takes IPv4 too, and is what a bare port means to systemd.
        wanted.any(|wanted| wanted == address || any(wanted.ip()) && any(address.ip()))
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn inherited(sockets: &[(&str, &TcpListener)]) -> Inherited {
        let passed = |(name, socket): &(&str, &TcpListener)| Passed {
            name: (*name).to_owned(),
            address: BoundAddress::Tcp(socket.local_addr().unwrap()),
            socket: BoundSocket::Tcp(socket.try_clone().unwrap()),
        };
        Inherited { sockets: sockets.iter().map(passed).collect(), notices: Vec::new() }
    }

    #[test]
    fn a_gateway_finds_its_socket_by_name_or_by_address() {
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let two = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = |socket: &TcpListener| socket.local_addr().unwrap().port();
        let all = inherited(&[("wsgw.socket", &one), ("Chat", &two)]);
        let gateway = |id: &str, host: &str, port: u16| {
            let mut settings = GatewaySettings::new(id);
            settings.host = ListenHost::Name(host.to_owned());
            settings.port = port;
            settings
        };
        let found = |settings: &GatewaySettings| {
            all.socket_of(settings).map(|socket| match socket.unwrap() {
                BoundSocket::Tcp(socket) => port(&socket),
                BoundSocket::Unix(_) => panic!("it is a unix socket"),
            })
        };
        assert_eq!(found(&gateway("chat", "127.0.0.1", 9)), Some(port(&two)));
        assert_eq!(found(&gateway("x", "localhost", port(&one))), Some(port(&one)));
        assert_eq!(found(&gateway("x", "127.0.0.2", port(&one))), None);
        assert_eq!(found(&gateway("x", "127.0.0.1", 9)), None);
        let said = all.unused([gateway("chat", "127.0.0.1", 9)].iter());
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("wsgw.socket"), "{said:?}");
    }

    #[test]
    fn a_wildcard_is_a_wildcard() {
        let mut settings = GatewaySettings::new("x");
        settings.host = ListenHost::Name("0.0.0.0".to_owned());
        let serves = |address: &str, settings: &GatewaySettings| {
            serves(&BoundAddress::Tcp(address.parse().unwrap()), settings)
        };
        assert!(serves("[::]:10125", &settings));
        assert!(!serves("127.0.0.1:10125", &settings));
        assert!(!serves("[::]:10126", &settings));
    }
}
