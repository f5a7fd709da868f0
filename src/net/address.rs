//! The addresses of a connection's two ends: where a gateway is bound, and who its client is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// How the client of a unix socket is shown.
const UNIX: &str = "unix";

/// Where a gateway is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoundAddress {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl BoundAddress {
    /// The address, for rules about who may reach it. A unix socket counts as an address that is
    /// not loopback: what a browser calls it is the name of a proxy in front.
    pub fn ip(&self) -> IpAddr {
        match self {
            BoundAddress::Tcp(address) => address.ip(),
            BoundAddress::Unix(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        }
    }

    /// Whether only this machine can reach it: a loopback address, or a unix socket.
    pub fn is_local(&self) -> bool {
        match self {
            BoundAddress::Tcp(address) => address.ip().to_canonical().is_loopback(),
            BoundAddress::Unix(_) => true,
        }
    }

    /// The URL of a gateway there. The path of a unix socket stands in it as it is.
    pub fn url(&self, tls: bool) -> String {
        let scheme = if tls { "wss" } else { "ws" };
        match self {
            BoundAddress::Tcp(address) => format!("{scheme}://{address}"),
            BoundAddress::Unix(path) => format!("{scheme}+unix://{}", path.display()),
        }
    }
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A client of a TCP port, or one that a proxy names.
    Ip(SocketAddr),
    /// A client of a unix socket.
    Unix,
}

impl Peer {
    /// Its address; an IPv4 client of an IPv6 socket is what it is. The client of a unix socket
    /// counts as 127.0.0.1.
    pub fn ip(self) -> IpAddr {
        match self {
            Peer::Ip(address) => address.ip().to_canonical(),
            Peer::Unix => IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }
}

impl fmt::Display for Peer {
    /// `ADDR:PORT`, or `unix`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Ip(address) => SocketAddr::new(self.ip(), address.port()).fmt(f),
            Peer::Unix => f.write_str(UNIX),
        }
    }
}

/// The address of a client that is shown as `ADDR:PORT`, `ADDR` or `unix`.
pub fn ip_of(remote: &str) -> Option<IpAddr> {
    if remote == UNIX {
        return Some(Peer::Unix.ip());
    }
    let with_port = remote.parse().map(|address: SocketAddr| address.ip());
    with_port.or_else(|_| remote.parse()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_shown_so_that_its_address_can_be_read_back() {
        let peer = |address: &str| Peer::Ip(address.parse().unwrap());
        for (peer, shown, ip) in [
            (peer("192.0.2.1:80"), "192.0.2.1:80", "192.0.2.1"),
            (peer("[::ffff:192.0.2.1]:80"), "192.0.2.1:80", "192.0.2.1"),
            (peer("[2001:db8::1]:80"), "[2001:db8::1]:80", "2001:db8::1"),
            (Peer::Unix, "unix", "127.0.0.1"),
        ] {
            assert_eq!(peer.to_string(), shown);
            assert_eq!(peer.ip().to_string(), ip);
            assert_eq!(ip_of(shown), Some(peer.ip()));
        }
        assert_eq!(ip_of("192.0.2.1"), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(ip_of("nobody"), None);
    }

    #[test]
    fn a_gateway_is_shown_with_its_scheme() {
        let tcp = BoundAddress::Tcp("127.0.0.1:80".parse().unwrap());
        assert_eq!(tcp.url(false), "ws://127.0.0.1:80");
        let unix = BoundAddress::Unix("/run/x.sock".into());
        assert_eq!(unix.url(false), "ws+unix:///run/x.sock");
        assert_eq!(unix.url(true), "wss+unix:///run/x.sock");
        assert!(tcp.is_local() && unix.is_local() && !unix.ip().is_loopback());
    }
}
