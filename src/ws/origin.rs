//! Which web pages may connect: the `allow-origin` rule against cross-site WebSocket hijacking
//! (RFC 6455 section 10.2).
//!
//! Hosts are compared as browsers write them in an `Origin`: names in lower case and in punycode,
//! addresses in their shortest form. The settings keep their entries in that form, and a request's
//! headers come in it. A port that is left out is that of the scheme.

use std::net::IpAddr;

use url::Url;

use crate::net::host::{is_loopback, split_host};
use crate::text::glob::glob;

/// An origin, taken apart (RFC 6454 section 6.1): `scheme://host[:port]`, nothing behind it.
///
/// Two are equal when they are the same to a browser: a port that is its scheme's own may be left
/// out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    /// `None` only where the scheme has no port of its own.
    port: Option<u16>,
}

impl Origin {
    /// Parses; `None` for what is not such an origin, `null` among it.
    pub fn parse(text: &str) -> Option<Origin> {
        let (scheme, authority) = text.split_once("://")?;
        let is_delimiter =
            |c: char| c.is_control() || matches!(c, '/' | '@' | '?' | '#' | '\\' | ' ' | ',');
        if scheme.is_empty() || authority.contains(is_delimiter) {
            return None;
        }
        let (host, port) = split_host(authority)?;
        let scheme = scheme.to_ascii_lowercase();
        let port = port.or(match scheme.as_str() {
            "http" | "ws" => Some(80),
            "https" | "wss" => Some(443),
            _ => None,
        });
        Some(Origin { scheme, host, port })
    }
}

/// The origin of the page at a URL, as a browser writes it; `null` for a URL that has none.
pub(crate) fn origin_of(url: &str) -> String {
    let url = Url::parse(url);
    url.map_or_else(|_| "null".to_owned(), |url| url.origin().ascii_serialization())
}

/// What a page that may connect may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Admission {
    /// Whether it may read what was asked for with the cookies of its user: not where a lone `*`
    /// admits everybody.
    pub(crate) credentials: bool,
}

/// Whether a page of `origin` may connect to a gateway that is bound to the address `bound`, by a
/// request whose `Host` is `host`. Without an `Origin` it is not a web page, and may.
///
/// `allow` is the configured list; `None` is the default rule: on a gateway bound to a loopback
/// address any loopback origin, elsewhere any origin with the host of the request's own `Host`.
pub fn may_connect(
    origin: Option<&str>,
    host: &str,
    bound: IpAddr,
    allow: Option<&[String]>,
) -> bool {
    admission(origin, host, bound, allow).is_some()
}

/// The same, with what it may do; `None` if it may not connect.
pub(crate) fn admission(
    origin: Option<&str>,
    host: &str,
    bound: IpAddr,
    allow: Option<&[String]>,
) -> Option<Admission> {
    let named = Some(Admission { credentials: true });
    let Some(origin) = origin else { return named };
    let Some(list) = allow else {
        let page = Origin::parse(origin)?;
        let may = if bound.to_canonical().is_loopback() {
            is_loopback(&page.host)
        } else {
            split_host(host).is_some_and(|(host, _)| host == page.host)
        };
        return named.filter(|_| may);
    };
    if list.iter().any(|entry| entry != "*" && matches(entry, origin)) {
        return named;
    }
    let all = list.iter().any(|entry| entry == "*");
    all.then_some(Admission { credentials: false })
}

fn matches(entry: &str, origin: &str) -> bool {
    if entry == "null" || origin == "null" {
        return entry == origin;
    }
    let (Some(entry), Some(origin)) = (Origin::parse(entry), Origin::parse(origin)) else {
        return false;
    };
    entry.scheme == origin.scheme && entry.port == origin.port && glob(&entry.host, &origin.host)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

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
            "http://localhost\t",
            "http://localhost:x",
            "http://localhost:65536",
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
        assert!(may("https://xn--bcher-kva.example", &["https://xn--bcher-kva.example"]));
        assert!(may("https://a.xn--bcher-kva.example", &["https://*.xn--bcher-kva.example"]));
        assert!(may("http://[2001:db8::1]:8080", &["http://[2001:db8::1]:8080"]));
        assert!(!may("https://evil.example\t.a.example", &["https://*.a.example"]));
    }

    const SCHEMES: [(&str, u16); 4] = [("http", 80), ("https", 443), ("ws", 80), ("wss", 443)];

    prop_compose! {
        /// A scheme, its own port, a host, and the port that is written.
        fn parts()(
            scheme in proptest::sample::select(&SCHEMES[..]),
            host in "([a-z0-9]{1,5}(-[a-z0-9]{1,5})?\\.){0,3}[a-z]{2,6}|\\[2001:db8::[1-9]\\]",
            port in proptest::option::of(prop_oneof![Just(80), Just(443), any::<u16>()]),
        ) -> ((&'static str, u16), String, Option<u16>) {
            (scheme, host, port)
        }
    }

    fn written(scheme: &str, host: &str, port: Option<u16>) -> String {
        format!("{scheme}://{host}{}", port.map_or(String::new(), |port| format!(":{port}")))
    }

    fn listed(entry: &str, origin: &str) -> bool {
        may_connect(Some(origin), "x", PUBLIC, Some(&[entry.to_owned()]))
    }

    proptest! {
        /// An entry admits the origins that are its own to a browser, and no other one.
        #[test]
        fn an_entry_is_one_origin(a in parts(), b in parts(), same_host: bool, same_scheme: bool) {
            let ((scheme, own), host, port) = a;
            let (other_scheme, other_own) = if same_scheme { (scheme, own) } else { b.0 };
            let other_host = if same_host { host.clone() } else { b.1 };
            let entry = written(scheme, &host, port);
            let origin = written(other_scheme, &other_host, b.2);
            let same = scheme == other_scheme
                && host == other_host
                && port.unwrap_or(own) == b.2.unwrap_or(other_own);
            prop_assert_eq!(listed(&entry, &origin), same, "{} {}", entry, origin);
        }

        /// Upper and lower case are the same, and so is a port that could have been left out.
        #[test]
        fn letters_and_the_schemes_own_port_do_not_matter((scheme, host, port) in parts()) {
            let ((scheme, own), origin) = (scheme, written(scheme.0, &host, port));
            prop_assert!(listed(&origin, &origin.to_ascii_uppercase()));
            prop_assert!(listed(&origin.to_ascii_uppercase(), &origin));
            let full = written(scheme, &host, Some(port.unwrap_or(own)));
            prop_assert!(listed(&full, &origin) && listed(&origin, &full));
        }

        /// A star stands for labels of one host: nothing before the scheme, nothing of the port.
        #[test]
        fn a_star_stays_within_the_host((scheme, host, port) in parts(), label in "[a-z0-9.-]{1,9}") {
            prop_assume!(!host.starts_with('['));
            let entry = written(scheme.0, &format!("*.{host}"), port);
            let below = written(scheme.0, &format!("{label}.{host}"), port);
            prop_assert!(listed(&entry, &below));
            prop_assert!(!listed(&entry, &written(scheme.0, &host, port)));
            let behind = written(scheme.0, &format!("{label}.{host}.evil.example"), port);
            prop_assert!(!listed(&entry, &behind));
        }

        /// The default rule elsewhere: the host of the request's own `Host`, at any port.
        #[test]
        fn the_host_of_the_request_decides(a in parts(), b in parts(), same: bool) {
            let host = if same { a.1.clone() } else { b.1 };
            let origin = written(a.0.0, &a.1, a.2);
            let own = written("", &host.to_ascii_uppercase(), b.2).split_off("://".len());
            prop_assert_eq!(may_connect(Some(&origin), &own, PUBLIC, None), host == a.1);
        }

        #[test]
        fn anything_else_is_refused(origin: String, host: String) {
            let admitted = may_connect(Some(&origin), &host, PUBLIC, None);
            prop_assert!(!admitted || Origin::parse(&origin).is_some());
        }
    }
}
