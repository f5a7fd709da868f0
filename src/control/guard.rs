//! Who may ask: the token, and the rules that keep web pages out.
//!
//! A page in the browser of this machine's user can reach loopback ports. It sends an `Origin`
//! with whatever could change something; and where its own host name was made to point here (DNS
//! rebinding) it sends that name as `Host`. Both are refused, before the token is looked at. Only the
//! operators' page, which comes from here, may send its `Origin` along with its session.

use std::fmt;
use std::net::{IpAddr, UdpSocket};
use std::time::Instant;

use hyper::header::{AUTHORIZATION, HOST, ORIGIN};
use hyper::http::request::Parts;
use subtle::ConstantTimeEq;

use crate::api::{ApiError, ErrorCode};
use crate::net::host::{is_loopback, literal, split_host};

/// The rules of one control port.
#[derive(Debug, Clone)]
pub struct Guard {
    /// `None` on a unix socket: its file's mode and group say who may.
    token: Option<String>,
    /// `None` on a unix socket, which no web page can reach.
    bound: Option<IpAddr>,
    hosts: Vec<Host>,
}

/// Who sent a request that is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Who may open the unix socket.
    Socket,
    /// Who has the token.
    Token,
    /// The operators' page, in a session.
    Session {
        /// The session's number.
        number: u64,
        /// When it ends.
        until: Instant,
    },
    /// Anybody, for what needs no token.
    Anyone,
}

impl Caller {
    /// When what it asks for has to end; `None`: never.
    pub fn until(self) -> Option<Instant> {
        match self {
            Caller::Session { until, .. } => Some(until),
            Caller::Socket | Caller::Token | Caller::Anyone => None,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Caller::Socket => f.write_str("socket"),
            Caller::Token => f.write_str("token"),
            Caller::Session { number, .. } => write!(f, "session {number}"),
            Caller::Anyone => f.write_str("anyone"),
        }
    }
}

/// A name or an address that a `Host` may have.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Name(String),
    Address(IpAddr),
}

impl Host {
    /// From `host`, lower case; an IPv6 literal with its brackets or without.
    fn new(host: &str) -> Host {
        match literal(host) {
            Some(address) => Host::Address(address.to_canonical()),
            None => Host::Name(host.to_owned()),
        }
    }
}

impl Guard {
    /// The rules of a TCP control port bound to `address`; `hosts` are further names that a
    /// request's `Host` may have.
    pub fn tcp(token: String, address: IpAddr, hosts: &[String]) -> Guard {
        let hosts = hosts
            .iter()
            .map(|h| h.trim())
            .map(|h| split_host(h).map_or_else(|| h.to_ascii_lowercase(), |(host, _)| host))
            .map(|h| Host::new(&h))
            .collect();
        Guard { token: Some(token), bound: Some(address.to_canonical()), hosts }
    }

    /// The rules of a unix socket.
    pub fn unix() -> Guard {
        Guard { token: None, bound: None, hosts: Vec::new() }
    }

    /// Refuses what a web page may have sent.
    pub fn no_page(&self, request: &Parts) -> Result<(), ApiError> {
        if request.headers.contains_key(ORIGIN) {
            return Err(ApiError::new(
                ErrorCode::Forbidden,
                "a request with an Origin is refused: the control port is not for web pages",
            ));
        }
        self.host(request)
    }

    /// Refuses a request that calls us by a name that is not ours.
    pub fn host(&self, request: &Parts) -> Result<(), ApiError> {
        let Some(bound) = self.bound else { return Ok(()) };
        let mut named = request.headers.get_all(HOST).iter();
        let (Some(host), None) = (named.next(), named.next()) else {
            return Err(ApiError::new(ErrorCode::BadRequest, "the request needs one Host header"));
        };
        let host = String::from_utf8_lossy(host.as_bytes());
        // A target with an authority of its own overrides Host (RFC 9112 section 3.2.2): then both
        // must be good.
        let target = request.uri.authority().map(|a| a.as_str());
        for name in std::iter::once(host.as_ref()).chain(target) {
            if !self.is_ours(name, bound) {
                return Err(ApiError::new(
                    ErrorCode::Forbidden,
                    format!(
                        "the Host {name:?} is not this control port's; other names belong into \
                         `hosts` of [control]"
                    ),
                ));
            }
        }
        Ok(())
    }

    fn is_ours(&self, authority: &str, bound: IpAddr) -> bool {
        let Some((host, _)) = split_host(authority) else { return false };
        let named = Host::new(&host);
        if is_loopback(&host) || self.hosts.contains(&named) {
            return true;
        }
        let Host::Address(address) = named else { return false };
        address == bound || (bound.is_unspecified() && is_of_this_machine(address))
    }

    /// Who sends a request that is no session's.
    ///
    /// # Errors
    /// A web page may have sent it, or it has no token.
    pub(crate) fn caller(&self, request: &Parts) -> Result<Caller, ApiError> {
        self.no_page(request)?;
        self.has_token(request)?;
        Ok(if self.token.is_some() { Caller::Token } else { Caller::Socket })
    }

    /// Refuses a request without the token.
    pub fn has_token(&self, request: &Parts) -> Result<(), ApiError> {
        let Some(token) = &self.token else { return Ok(()) };
        let Some(given) = request.headers.get(AUTHORIZATION) else {
            return Err(ApiError::new(
                ErrorCode::Unauthorized,
                "the request needs `Authorization: Bearer TOKEN`; the token is in control-*.json \
                 in the state directory of `wsgw serve`",
            ));
        };
        let given = given.as_bytes();
        let is_bearer = given.len() > 7 && given[..7].eq_ignore_ascii_case(b"bearer ");
        let matches = is_bearer && bool::from(given[7..].trim_ascii().ct_eq(token.as_bytes()));
        if matches {
            return Ok(());
        }
        Err(ApiError::new(
            ErrorCode::Unauthorized,
            "the token is wrong: `wsgw serve` makes a new one at each start",
        ))
    }
}

/// Whether this is an address of one of this machine's interfaces: only such a one can be bound.
fn is_of_this_machine(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hyper::Request;

    use super::*;

    fn request(headers: &[(&str, &str)]) -> Parts {
        let mut builder = Request::builder().uri("/v1/gateways");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    fn guard(address: IpAddr) -> Guard {
        Guard::tcp(
            "secret".to_owned(),
            address,
            &["Control.Example:443".to_owned(), "fd00::7".to_owned()],
        )
    }

    fn status(result: Result<(), ApiError>) -> u16 {
        result.map_or_else(|e| e.code.status(), |()| 200)
    }

    #[test]
    fn hosts() {
        let guard = guard("192.0.2.7".parse().unwrap());
        for (host, want) in [
            ("127.0.0.1:10124", 200),
            ("127.8.8.8", 200),
            ("localhost", 200),
            ("LOCALHOST:1", 200),
            ("[::1]:10124", 200),
            ("192.0.2.7:10124", 200),
            ("control.example", 200),
            ("[fd00::7]:1", 200),
            ("[FD00:0::7]", 200),
            ("[::ffff:127.0.0.1]", 403),
            ("[fd00::8]", 403),
            ("CONTROL.example:10124", 200),
            ("192.0.2.8", 403),
            ("evil.example", 403),
            ("localhost.evil.example", 403),
            ("127.0.0.1.evil.example", 403),
            ("evil.example:127.0.0.1", 403),
            ("127.0.0.1@evil.example", 403),
            ("localhost.", 403),
            ("0.0.0.0", 403),
            ("", 403),
        ] {
            assert_eq!(status(guard.no_page(&request(&[("host", host)]))), want, "{host:?}");
        }
        assert_eq!(status(guard.no_page(&request(&[]))), 400);
        let twice = request(&[("host", "localhost"), ("host", "evil.example")]);
        assert_eq!(status(guard.no_page(&twice)), 400);
    }

    #[test]
    fn an_absolute_target_must_be_ours_too() {
        let mut parts = request(&[("host", "localhost")]);
        parts.uri = "http://evil.example/v1/gateways".parse().unwrap();
        assert_eq!(status(guard(Ipv4Addr::LOCALHOST.into()).no_page(&parts)), 403);
    }

    #[test]
    fn a_wildcard_takes_literals_of_this_machine() {
        let guard = guard(Ipv4Addr::UNSPECIFIED.into());
        for (host, want) in
            [("0.0.0.0:10124", 200), ("127.0.0.1", 200), ("192.0.2.7", 403), ("224.0.0.1", 403)]
        {
            assert_eq!(status(guard.no_page(&request(&[("host", host)]))), want, "{host:?}");
        }
    }

    #[test]
    fn no_origin_at_all() {
        for guard in [guard(Ipv4Addr::LOCALHOST.into()), Guard::unix()] {
            for origin in ["http://localhost", "null", ""] {
                let parts = request(&[("host", "localhost"), ("origin", origin)]);
                assert_eq!(status(guard.no_page(&parts)), 403, "{origin:?}");
            }
        }
    }

    #[test]
    fn tokens() {
        let guard = guard(Ipv4Addr::LOCALHOST.into());
        for (value, want) in [
            ("Bearer secret", 200),
            ("bearer secret", 200),
            ("Bearer  secret", 200),
            ("Bearer secre", 401),
            ("Bearer secrets", 401),
            ("Bearer ", 401),
            ("Basic secret", 401),
            ("secret", 401),
            ("", 401),
        ] {
            let parts = request(&[("authorization", value)]);
            assert_eq!(status(guard.has_token(&parts)), want, "{value:?}");
        }
        assert_eq!(status(guard.has_token(&request(&[]))), 401);
        assert_eq!(status(Guard::unix().has_token(&request(&[]))), 200);
    }
}
