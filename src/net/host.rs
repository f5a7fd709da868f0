//! Host names and literal addresses as URLs, headers and settings write them: the one place that
//! splits, joins, brackets and classifies them.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

/// Splits `host[:port]` or `[v6][:port]`.
///
/// The host comes in lower case, with its brackets; a name with letters beyond ASCII comes as DNS
/// and browsers write it (punycode). An empty port counts as none.
pub fn split_host(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, rest) = if authority.starts_with('[') {
        let end = authority.find(']')? + 1;
        authority.split_at(end)
    } else {
        authority.split_at(authority.find(':').unwrap_or(authority.len()))
    };
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        None => return None,
        Some("") => None,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok()?),
        Some(_) => return None,
    };
    if host.is_empty() {
        return None;
    }
    let host = if host.is_ascii() { host.to_ascii_lowercase() } else { punycode(host)? };
    Some((host, port))
}

/// A name with letters beyond ASCII as DNS and browsers write it; a `*` may stand in its labels of
/// ASCII.
fn punycode(name: &str) -> Option<String> {
    // A star in an encoded label would stand between letters that are not those of the name.
    if name.split('.').any(|label| !label.is_ascii() && label.contains('*')) {
        return None;
    }
    // What is ASCII in the end is another name than the one that was written.
    canonical(name).filter(|name| name.contains("xn--"))
}

/// A host as browsers write it in an `Origin`: a name in lower case and punycode, an address in its
/// shortest form, IPv6 in brackets. `None`: there is no such host.
pub fn canonical(host: &str) -> Option<String> {
    url::Host::parse(host).ok().map(|host| host.to_string())
}

/// A host without the brackets around an IPv6 address.
pub fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// A host with brackets around an IPv6 address, as a URL needs them.
pub fn bracketed(host: &str) -> Cow<'_, str> {
    if host.contains(':') && !host.starts_with('[') {
        Cow::Owned(format!("[{host}]"))
    } else {
        Cow::Borrowed(host)
    }
}

/// `host:port`, with brackets around an IPv6 address.
pub fn join(host: &str, port: u16) -> String {
    format!("{}:{port}", bracketed(host))
}

/// A host as a literal address, with brackets or without.
pub fn literal(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[') {
        Some(_) => unbracketed(host).parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse().ok(),
    }
}

/// Whether a host name (lower case, brackets and all) is this machine's loopback.
pub fn is_loopback(host: &str) -> bool {
    if host == "localhost" {
        return true;
    }
    // Without brackets `::1` is not a host but the start of a host and a port.
    literal(host).is_some_and(|address| {
        address.is_loopback() && (address.is_ipv4() || host.starts_with('['))
    })
}

/// Whether `host` can name an address to bind: a literal address, with brackets or without, or a
/// name.
pub fn is_bindable(host: &str) -> bool {
    let (address, zone) = match unbracketed(host).split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (unbracketed(host), None),
    };
    if address.parse::<Ipv6Addr>().is_ok() {
        return zone.is_none_or(|zone| !zone.is_empty());
    }
    let of_names = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c) || !c.is_ascii();
    !host.is_empty() && host.chars().all(of_names) && to_ascii(host).is_some()
}

/// A name for the resolver: in punycode, where it has letters beyond ASCII.
pub fn to_ascii(host: &str) -> Option<Cow<'_, str>> {
    if host.is_ascii() { Some(Cow::Borrowed(host)) } else { canonical(host).map(Cow::Owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_split() {
        let split = |text| split_host(text).map(|(host, port)| format!("{host} {port:?}"));
        for (text, host, port) in [
            ("a", "a", None),
            ("A.example:80", "a.example", Some(80)),
            ("a:", "a", None),
            ("[::1]", "[::1]", None),
            ("[::1]:7", "[::1]", Some(7)),
            ("bücher.example:7", "xn--bcher-kva.example", Some(7)),
            ("BÜCHER.example", "xn--bcher-kva.example", None),
            ("*.bücher.example", "*.xn--bcher-kva.example", None),
        ] {
            assert_eq!(split(text), Some(format!("{host} {port:?}")), "{text}");
        }
        for text in ["", ":80", "a:b", "a:99999", "[::1", "[::1]x", "a:+1", "bü*.example", "\u{ad}"]
        {
            assert_eq!(split(text), None, "{text}");
        }
    }

    #[test]
    fn brackets_come_and_go() {
        assert_eq!(join("::1", 7), "[::1]:7");
        assert_eq!(join("[::1]", 7), "[::1]:7");
        assert_eq!(join("127.0.0.1", 7), "127.0.0.1:7");
        assert_eq!(join("a.example", 7), "a.example:7");
        assert_eq!(unbracketed("[::1]"), "::1");
        assert_eq!(literal("[::1]"), literal("::1"));
        assert!(literal("[127.0.0.1]").is_none() && literal("a.example").is_none());
    }

    #[test]
    fn loopback_is_what_this_machine_alone_reaches() {
        for host in ["localhost", "127.0.0.1", "127.9.9.9", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["::1", "a.localhost", "[::2]", "10.0.0.1", "", "[127.0.0.1]"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn what_cannot_be_bound_is_known() {
        for host in
            ["0.0.0.0", "::", "[::1]", "fe80::1%eth0", "a-b.example", "bücher.example", "x_y"]
        {
            assert!(is_bindable(host), "{host}");
        }
        for host in ["", "a:80", "http://a", "a b", "a/b", "[::1]:80", "fe80::1%", "*"] {
            assert!(!is_bindable(host), "{host}");
        }
    }
}
