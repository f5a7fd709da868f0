//! The URL of a control port: `http://ADDR:PORT`, `https://ADDR:PORT` or `http+unix://PATH`.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use crate::net::host::{join, split_host, unbracketed};
use crate::paths::expand_home;

/// Where a control port is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `http://` or `https://`.
    Tcp {
        /// Whether it is `https://`.
        tls: bool,
        /// A name or a literal, lower case, IPv6 without its brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// `http+unix://PATH`.
    Unix(PathBuf),
}

impl Endpoint {
    /// Parses a URL; `ADDR:PORT` alone and `unix:PATH` (the way `serve --control` has them) are
    /// understood, too.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str) -> Result<Endpoint, String> {
        let bad = |why: &str| {
            format!(
                "{url:?} is not the URL of a control port: {why} \
                 (http://127.0.0.1:10124, http+unix:///run/wsgw/control.sock)"
            )
        };
        let text = url.trim();
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            // As `serve --control` takes it: from the current directory.
            let path = expand_home(Path::new(path)).map_err(|why| bad(&why))?;
            return std::path::absolute(path).map(Endpoint::Unix).map_err(|e| bad(&e.to_string()));
        }
        if let Some(path) = text.strip_prefix("http+unix://") {
            if !path.starts_with('/') {
                return Err(bad("the path of a socket starts with /"));
            }
            return Ok(Endpoint::Unix(PathBuf::from(path)));
        }
        let (tls, rest) = match text.split_once("://") {
            None => (false, text),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some(_) => return Err(bad("its scheme is neither http, https nor http+unix")),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        // Such a character would become part of a request's head.
        let foreign = |c: char| c.is_control() || c.is_whitespace() || "/?#@".contains(c);
        if authority.contains(foreign) {
            return Err(bad("it has more than an address and a port"));
        }
        let (host, port) =
            split_host(authority).ok_or_else(|| bad("it has no address and port"))?;
        let port = match port {
            Some(port) => port,
            None if text.contains("://") => {
                if tls {
                    443
                } else {
                    80
                }
            }
            None => return Err(bad("it has no port")),
        };
        let host = match unbracketed(&host) {
            name if name == host => host,
            // The zone behind a % is the resolver's to know.
            v6 => {
                let (address, zone) = v6.split_at(v6.find('%').unwrap_or(v6.len()));
                let address = address.parse::<Ipv6Addr>();
                let address = address.map_err(|_| bad("its brackets hold no IPv6 address"))?;
                format!("{address}{zone}")
            }
        };
        Ok(Endpoint::Tcp { tls, host, port })
    }

    /// What a request's `Host` says.
    pub fn authority(&self) -> String {
        match self {
            Endpoint::Unix(_) => "localhost".to_owned(),
            Endpoint::Tcp { host, port, .. } => join(host, *port),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp { tls, .. } => {
                let scheme = if *tls { "https" } else { "http" };
                write!(f, "{scheme}://{}", self.authority())
            }
            Endpoint::Unix(path) => write!(f, "http+unix://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_come_back_as_they_are_written() {
        for (url, want) in [
            ("http://127.0.0.1:10124", "http://127.0.0.1:10124"),
            ("http://127.0.0.1:10124/", "http://127.0.0.1:10124"),
            ("127.0.0.1:10124", "http://127.0.0.1:10124"),
            ("HTTP://LocalHost:1", "http://localhost:1"),
            ("https://[::1]:1", "https://[::1]:1"),
            ("https://x.example", "https://x.example:443"),
            ("http+unix:///run/x.sock", "http+unix:///run/x.sock"),
            ("unix:/run/x.sock", "http+unix:///run/x.sock"),
        ] {
            assert_eq!(Endpoint::parse(url).unwrap().to_string(), want);
        }
        for bad in [
            "",
            "ftp://x:1",
            "http://",
            "http://x:1/v1",
            "http://u@x:1",
            "unix:",
            "x",
            "http+unix://x",
        ] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_control_character_never_comes_into_a_requests_head() {
        for bad in ["a\tb:1", "http://a\r\nx-a: b:1", "a\u{85}:1", "a\u{a0}b:1"] {
            assert!(Endpoint::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn brackets_hold_an_address_and_a_zone_keeps_them() {
        for bad in ["https://[:1:]:1", "[x]:1", "http://[]:1"] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
        let zone = Endpoint::parse("http://[fe80::1%lo]:1").unwrap();
        assert_eq!(zone.to_string(), "http://[fe80::1%lo]:1");
        assert_eq!(Endpoint::parse("[::0]:1"), Endpoint::parse("[::]:1"), "one address, one URL");
    }
}
