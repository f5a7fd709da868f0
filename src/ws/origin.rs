//! Which web pages may connect: the `allow-origin` rule against cross-site WebSocket hijacking
//! (RFC 6455 section 10.2).

use std::net::IpAddr;

use crate::net::host::{is_loopback, split_host};
use crate::text::glob::glob;

/// An origin, taken apart (RFC 6454 section 6.1): `scheme://host[:port]`, nothing behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Origin {
    /// Parses; `None` for anything else, `null` too.
    pub fn parse(text: &str) -> Option<Origin> {
        let (scheme, authority) = text.split_once("://")?;
        if scheme.is_empty() || authority.contains(['/', '@', '?', '#', '\\', ' ', ',']) {
            return None;
        }
        let (host, port) = split_host(authority)?;
        Some(Origin { scheme: scheme.to_ascii_lowercase(), host, port })
    }

    fn port(&self) -> Option<u16> {
        self.port.or(match self.scheme.as_str() {
            "http" | "ws" => Some(80),
            "https" | "wss" => Some(443),
            _ => None,
        })
    }
}

/// Whether a page of `origin` may connect.
///
/// `allow` is the configured list; `None` is the default rule: on a gateway bound to a loopback
/// address any loopback origin, elsewhere the host name of the request's own `Host`.
pub fn may_connect(
    origin: Option<&str>,
    host: &str,
    bound: IpAddr,
    allow: Option<&[String]>,
) -> bool {
    let Some(origin) = origin else { return true };
    let Some(list) = allow else {
        let Some(page) = Origin::parse(origin) else { return false };
        if bound.to_canonical().is_loopback() {
            return is_loopback(&page.host);
        }
        return split_host(host).is_some_and(|(host, _)| host == page.host);
    };
    list.iter().any(|entry| matches(entry, origin))
}

fn matches(entry: &str, origin: &str) -> bool {
    if entry == "*" {
        return true;
    }
    if entry == "null" || origin == "null" {
        return entry == origin;
    }
    let (Some(entry), Some(origin)) = (Origin::parse(entry), Origin::parse(origin)) else {
        return false;
    };
    entry.scheme == origin.scheme
        && entry.port() == origin.port()
        && glob(&entry.host, &origin.host)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const PUBLIC: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

    #[test]
    fn the_default_rule() {
        let may = |origin, host, bound| may_connect(Some(origin), host, bound, None);
        assert!(may_connect(None, "x", PUBLIC, None), "no Origin");
        for origin in [
            "http://localhost",
            "http://localhost:8000",
            "https://127.0.0.1:1",
            "http://127.9.9.9",
            "http://[::1]:8000",
            "http://LOCALHOST",
        ] {
            assert!(may(origin, "127.0.0.1:10125", LOOPBACK), "{origin}");
        }
        for origin in [
            "null",
            "http://evil.example",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "http://evil.example@localhost",
            "http://[::2]",
            "file://",
            "localhost",
            "http://localhost/path",
            "http://localhost:80:80",
            "http://localhost, http://evil.example",
            "",
        ] {
            assert!(!may(origin, "127.0.0.1:10125", LOOPBACK), "{origin}");
        }
        assert!(may("https://chat.example", "chat.example:443", PUBLIC));
        assert!(may("https://chat.example:8443", "CHAT.example", PUBLIC));
        assert!(may("http://[2001:db8::1]:80", "[2001:db8::1]:8080", PUBLIC));
        assert!(!may("https://evil.example", "chat.example", PUBLIC));
        assert!(!may("https://chat.example.evil.example", "chat.example", PUBLIC));
        assert!(!may("https://notchat.example", "chat.example", PUBLIC));
        assert!(!may("http://localhost", "chat.example", PUBLIC));
    }

    #[test]
    fn a_list_replaces_the_default() {
        let may = |origin, list: &[&str]| {
            let list: Vec<String> = list.iter().map(|s| (*s).to_owned()).collect();
            may_connect(Some(origin), "127.0.0.1", LOOPBACK, Some(&list))
        };
        assert!(may("https://a.example", &["https://a.example:443"]));
        assert!(may("https://a.example:443", &["https://a.example"]));
        assert!(!may("http://a.example", &["https://a.example"]));
        assert!(!may("https://a.example:444", &["https://a.example"]));
        assert!(may("https://x.y.a.example", &["https://*.a.example"]));
        assert!(!may("https://a.example", &["https://*.a.example"]));
        assert!(!may("https://a.example.evil", &["https://*.a.example"]));
        assert!(may("null", &["null"]) && !may("null", &["https://a.example"]));
        assert!(may("null", &["*"]) && may("http://x", &["*"]));
        assert!(!may("http://localhost", &["https://a.example"]));
        assert!(!may("https://a.example", &[]));
    }

    #[test]
    fn stars_span_any_characters() {
        assert!(glob("/rooms/*", "/rooms/a/b") && glob("/rooms/*", "/rooms/"));
        assert!(!glob("/rooms/*", "/room/a") && !glob("/chat", "/chat/"));
        assert!(glob("*", "") && glob("a*b*c", "a--b--c") && !glob("a*b*c", "a--c"));
        assert!(!glob("ab*ba", "aba"), "the parts must not overlap");
    }
}
