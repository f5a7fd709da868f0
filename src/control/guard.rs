//! Who may use the control port: no web page, and nobody without the token.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, ORIGIN};
use subtle::ConstantTimeEq;

use crate::gateway::origin::split_host;
use crate::server::api::{ApiError, ErrorCode};

/// The rules of one control port.
pub struct Guard {
    /// `None` for a unix socket, whose mode says who may.
    tcp: Option<Tcp>,
}

struct Tcp {
    address: SocketAddr,
    hosts: Vec<String>,
    token: String,
}

impl Guard {
    /// The rules of a TCP port.
    pub fn for_tcp(address: SocketAddr, hosts: Vec<String>, token: String) -> Guard {
        Guard { tcp: Some(Tcp { address, hosts, token }) }
    }

    /// The rules of a unix socket.
    pub fn for_unix() -> Guard {
        Guard { tcp: None }
    }

    /// The token; empty for a unix socket.
    pub fn token(&self) -> &str {
        self.tcp.as_ref().map_or("", |tcp| &tcp.token)
    }

    /// Refuses what a web page could send: a request with an `Origin`, or one to a name that may
    /// be anybody's. `local` is the address that the client connected to.
    pub fn check_page(&self, headers: &HeaderMap, local: Option<IpAddr>) -> Result<(), ApiError> {
        if headers.contains_key(ORIGIN) {
            let text = "a request with an Origin comes from a web page, and none may use the \
                        control port";
            return Err(ApiError::new(ErrorCode::Forbidden, text));
        }
        let Some(tcp) = &self.tcp else { return Ok(()) };
        let mut hosts = headers.get_all(HOST).iter();
        let host = hosts.next().and_then(|h| h.to_str().ok()).unwrap_or_default();
        if hosts.next().is_none() && tcp.may_be_called(host, local) {
            return Ok(());
        }
        let text = format!(
            "the Host {host:?} is no name of this control port; [control] hosts lists further ones"
        );
        Err(ApiError::new(ErrorCode::Forbidden, text))
    }

    /// Refuses a request without the token.
    pub fn check_token(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(tcp) = &self.tcp else { return Ok(()) };
        let given = headers.get(AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
        let (scheme, token) = given.split_at(given.len().min(7));
        let fits = scheme.eq_ignore_ascii_case(b"bearer ")
            && bool::from(token.trim_ascii().ct_eq(tcp.token.as_bytes()));
        if fits {
            return Ok(());
        }
        let text = if given.is_empty() {
            "the header `Authorization: Bearer TOKEN` is missing"
        } else {
            "the token is wrong: `serve` makes a new one at each start"
        };
        Err(ApiError::new(ErrorCode::Unauthorized, text))
    }
}

impl Tcp {
    fn may_be_called(&self, host: &str, local: Option<IpAddr>) -> bool {
        let Some((name, _)) = split_host(host) else { return false };
        if self.hosts.iter().any(|h| h.eq_ignore_ascii_case(&name) || h.eq_ignore_ascii_case(host))
        {
            return true;
        }
        let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(&name);
        match bare.parse::<IpAddr>() {
            Ok(ip) => {
                let ip = ip.to_canonical();
                ip.is_loopback()
                    || ip == self.address.ip().to_canonical()
                    || self.address.ip().is_unspecified()
                        && local.is_some_and(|l| l.to_canonical() == ip)
            }
            Err(_) => name.eq_ignore_ascii_case("localhost"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(bound: &str) -> Guard {
        Guard::for_tcp(bound.parse().unwrap(), vec!["gw.example".to_owned()], "secret".to_owned())
    }

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| {
                (hyper::header::HeaderName::from_static(name), value.parse().unwrap())
            })
            .collect()
    }

    #[test]
    fn only_names_that_are_ours_pass() {
        let local = Some("192.0.2.7".parse().unwrap());
        for (bound, host, passes) in [
            ("127.0.0.1:1", "localhost", true),
            ("127.0.0.1:1", "localhost:1", true),
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "[::1]:1", true),
            ("127.0.0.1:1", "gw.example:1", true),
            ("127.0.0.1:1", "evil.example:1", false),
            ("127.0.0.1:1", "192.0.2.7:1", false),
            ("127.0.0.1:1", "", false),
            ("0.0.0.0:1", "192.0.2.7:1", true),
            ("0.0.0.0:1", "192.0.2.8:1", false),
            ("192.0.2.9:1", "192.0.2.9", true),
        ] {
            let got = guard(bound).check_page(&headers(&[("host", host)]), local);
            assert_eq!(got.is_ok(), passes, "{bound} {host}");
        }
    }

    #[test]
    fn no_page_whatever_its_origin() {
        let page = headers(&[("host", "localhost"), ("origin", "null")]);
        assert!(guard("127.0.0.1:1").check_page(&page, None).is_err());
        assert!(Guard::for_unix().check_page(&page, None).is_err());
    }

    #[test]
    fn the_token_has_to_fit_whole() {
        for (value, passes) in [
            ("Bearer secret", true),
            ("bearer secret", true),
            ("Bearer secre", false),
            ("Bearer secretx", false),
            ("Basic secret", false),
            ("secret", false),
            ("", false),
        ] {
            let got = guard("127.0.0.1:1").check_token(&headers(&[("authorization", value)]));
            assert_eq!(got.is_ok(), passes, "{value:?}");
        }
        assert!(guard("127.0.0.1:1").check_token(&HeaderMap::new()).is_err());
    }
}
