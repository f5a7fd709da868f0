//! The server that is loaded: its address, which must be this machine's unless the user says
//! otherwise, and the request that opens a connection.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use url::Host;

use crate::cli::BenchArgs;
use crate::error::{Failure, exit};
use crate::net::place::Place;
use crate::net::tls::certificates;
use crate::net::tls_client::{self, Trust, mozilla_roots, system_roots};

/// What is escaped in the name of a channel: all that may not stand in the value of a query.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// How long each address of a name that has several is tried.
const TRY: Duration = Duration::from_secs(3);

/// Where to connect.
#[derive(Debug, Clone)]
pub(super) enum Address {
    /// By TCP.
    Tcp(SocketAddr),
    /// By a unix socket.
    Unix(PathBuf),
}

/// The server, and what it is asked.
#[derive(Debug)]
pub(crate) struct Target {
    /// The URL for a person.
    pub(super) url: String,
    pub(super) address: Address,
    pub(super) tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
    /// The request, up to the value of its last header, the key.
    request: String,
}

impl Target {
    /// Reads the URL and the flags that concern the server, and resolves its name.
    ///
    /// # Errors
    /// 2 for what was given, and for a machine that is not known to be this one; 3 for a name without
    /// address.
    pub(super) fn parse(args: &BenchArgs) -> Result<Target, Failure> {
        let mut place = Place::parse(&args.url).map_err(|why| {
            Failure::usage(format!(
                "invalid WebSocket URL {:?}: {why}; write ws://HOST:PORT/PATH, wss://HOST/PATH or \
                 ws+unix://SOCKET:/PATH",
                args.url
            ))
        })?;
        if let Some(channel) = &args.channel {
            join(&mut place, channel);
        }
        let request = request(&place, &args.header)?;
        let is_tls = place.url.scheme() == "wss";
        let tls = if is_tls { Some(tls(&place, args)?) } else { None };
        let address = match &place.socket {
            Some(path) => Address::Unix(path.clone()),
            None => Address::Tcp(address(&place, args.remote)?),
        };
        Ok(Target { url: place.shown(), address, tls, request })
    }

    /// The request with this key.
    pub(super) fn request(&self, key: &str) -> String {
        format!("{}{key}\r\n\r\n", self.request)
    }

    /// What a person can do about a server that is not reached.
    pub(super) fn hint(&self) -> &'static str {
        match self.address {
            Address::Tcp(_) => "is the server (`wsgw serve`) running?",
            Address::Unix(_) => "is the server running, and may you use its socket?",
        }
    }
}

/// Adds a channel to the URL, as `channels = "query"` and, where the path is free, as
/// `channels = "path"` of a gateway reads it.
fn join(place: &mut Place, channel: &str) {
    if place.url.path() == "/" {
        let path: Vec<String> =
            channel.split('/').map(|part| utf8_percent_encode(part, ESCAPED).to_string()).collect();
        place.url.set_path(&format!("/{}", path.join("/")));
    }
    let pair = format!("channel={}", utf8_percent_encode(channel, ESCAPED));
    let query = match place.url.query() {
        Some(query) if !query.is_empty() => format!("{query}&{pair}"),
        _ => pair,
    };
    place.url.set_query(Some(&query));
}

fn request(place: &Place, headers: &[String]) -> Result<String, Failure> {
    let host = place.url.host_str().unwrap_or_default();
    let port = place.url.port().map_or(String::new(), |port| format!(":{port}"));
    let mut own: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for header in headers {
        let read = header.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        });
        own.push(read.ok_or_else(|| {
            Failure::usage(format!("--header {header:?} cannot be sent: write 'Name: value'"))
        })?);
    }
    let mut text = format!("GET {} HTTP/1.1\r\n", place.path());
    let has = |name: &str| own.iter().any(|(own, _)| own == name);
    if !has("host") {
        let _ = write!(text, "Host: {host}{port}\r\n");
    }
    text.push_str("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n");
    if !place.url.username().is_empty() && !has("authorization") {
        let user = percent_decode_str(place.url.username());
        let password = percent_decode_str(place.url.password().unwrap_or_default());
        let both: Vec<u8> = user.chain(*b":").chain(password).collect();
        let _ = write!(text, "Authorization: Basic {}\r\n", STANDARD.encode(both));
    }
    for (name, value) in &own {
        let value = value.to_str().map_err(|_| {
            Failure::usage(format!("--header {name}: its value must be printable ASCII"))
        })?;
        let _ = write!(text, "{name}: {value}\r\n");
    }
    text.push_str("Sec-WebSocket-Key: ");
    Ok(text)
}

fn tls(
    place: &Place,
    args: &BenchArgs,
) -> Result<(ServerName<'static>, Arc<ClientConfig>), Failure> {
    let host = match place.url.host() {
        Some(Host::Ipv6(address)) => address.to_string(),
        host => host.map_or(String::new(), |host| host.to_string()),
    };
    let name = ServerName::try_from(host.clone())
        .map_err(|_| Failure::usage(format!("{host:?} cannot be the name in a certificate")))?;
    let trust = match &args.cacert {
        _ if args.insecure => Trust::Anybody,
        Some(path) => {
            let mut roots = RootCertStore::empty();
            let own = certificates("--cacert", path).map_err(Failure::usage)?;
            roots.add_parsable_certificates(own);
            Trust::Roots(roots)
        }
        None => Trust::Roots(mozilla_roots(system_roots())),
    };
    let builder = tls_client::config(trust)
        .map_err(|e| Failure::other(format!("TLS cannot be set up: {e}")))?;
    Ok((name, Arc::new(builder.with_no_client_auth())))
}

/// The address of the server: that of this machine, or any if the user says so.
fn address(place: &Place, may_be_remote: bool) -> Result<SocketAddr, Failure> {
    let unknown = || Failure::usage(format!("the URL {} has no host", place.shown()));
    let port = place.url.port_or_known_default().ok_or_else(unknown)?;
    let host = match (place.url.host().ok_or_else(unknown)?, &place.zone) {
        (Host::Ipv6(address), Some(zone)) => format!("{address}%{zone}"),
        (Host::Ipv6(address), None) => address.to_string(),
        (host, _) => host.to_string(),
    };
    let found = (host.as_str(), port).to_socket_addrs().map_err(|e| match may_be_remote {
        true => {
            let text = format!("the name {host:?} cannot be resolved: {e}");
            Failure::new(exit::UNREACHABLE, text)
        }
        false => Failure::usage(format!(
            "{host:?} is not known to be this machine, since the name cannot be resolved ({e}); another \
             machine is loaded with --remote only"
        )),
    })?;
    let all: Vec<SocketAddr> = found.collect();
    if let Some(other) = all.iter().find(|address| !is_own(address.ip()))
        && !may_be_remote
    {
        return Err(Failure::usage(format!(
            "{} is not on this machine ({}): a load test can make a server unusable for others. \
             With --remote it is loaded all the same; ask its owner before",
            place.shown(),
            other.ip()
        )));
    }
    match all[..] {
        [] => {
            let text = format!("the name {host:?} has no address");
            Err(Failure::new(exit::UNREACHABLE, text))
        }
        [only] => Ok(only),
        // Of several, the first that answers; if none does, the attempt with the first says why.
        [first, ..] => {
            let answers = |a: &&SocketAddr| TcpStream::connect_timeout(a, TRY).is_ok();
            Ok(all.iter().find(answers).copied().unwrap_or(first))
        }
    }
}

/// Whether an address is this machine's: one can bind to it.
fn is_own(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let is_of_many = match address {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    };
    !is_of_many && (address.is_loopback() || UdpSocket::bind((address, 0)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(url: &str) -> BenchArgs {
        BenchArgs { url: url.to_owned(), ..BenchArgs::default() }
    }

    #[test]
    fn other_machines_are_refused() {
        for url in ["ws://192.0.2.1/", "ws://[2001:db8::1]:8/", "ws://224.0.0.1/"] {
            let failure = Target::parse(&args(url)).unwrap_err();
            assert_eq!(failure.exit, 2, "{url}");
            assert!(failure.message.contains("--remote"), "{}", failure.message);
            assert!(Target::parse(&BenchArgs { remote: true, ..args(url) }).is_ok());
        }
        for url in ["127.0.0.1:7", "ws://127.8.8.8/", "ws://[::1]:7/", "ws+unix:///x:/y"] {
            assert!(Target::parse(&args(url)).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_request_has_what_a_handshake_needs() {
        let header = vec!["X-Name: ä b".to_owned(), "bad".to_owned()];
        let with = |header: &[String]| {
            Target::parse(&BenchArgs { header: header.to_vec(), ..args("u:p@127.0.0.1:7/a?b#c") })
        };
        let target = with(&[]).unwrap();
        assert_eq!(
            target.request("KEY"),
            "GET /a?b HTTP/1.1\r\nHost: 127.0.0.1:7\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nAuthorization: Basic dTpw\r\nSec-WebSocket-Key: KEY\r\n\r\n"
        );
        assert!(!target.url.contains("u:p"), "{}", target.url);
        for bad in header {
            assert_eq!(with(&[bad]).unwrap_err().exit, 2);
        }
        let good = with(&["host: h".to_owned(), "Authorization: x".to_owned()]).unwrap();
        let text = good.request("K");
        assert!(text.contains("\r\nhost: h\r\n") && !text.contains("127.0.0.1"), "{text}");
        assert!(text.contains("\r\nauthorization: x\r\n") && !text.contains("Basic"), "{text}");
    }

    #[test]
    fn a_channel_is_asked_for_by_path_and_by_query() {
        for (url, channel, path) in [
            ("127.0.0.1", "news/a+b", "/news/a%2Bb?channel=news%2Fa%2Bb"),
            ("127.0.0.1/ws?x=1", "r", "/ws?x=1&channel=r"),
            ("127.0.0.1?", "r", "/r?channel=r"),
        ] {
            let target =
                Target::parse(&BenchArgs { channel: Some(channel.to_owned()), ..args(url) });
            let text = target.unwrap().request("");
            assert_eq!(text.split(' ').nth(1), Some(path), "{url}");
        }
    }
}
