//! What the headers of a request say of its client: the address behind trusted proxies, and what the
//! listener is told. Pure.

use std::net::{IpAddr, SocketAddr};

use crate::config::settings::{GatewaySettings, HeaderRule};
use crate::net::host::literal;

/// The last address of an `X-Forwarded-For` that does not belong to a trusted proxy. A malformed
/// header counts as absent.
pub(super) fn last_untrusted(list: &str, settings: &GatewaySettings) -> Option<IpAddr> {
    let mut addresses: Vec<IpAddr> =
        list.split(',').map(|a| forwarded_address(a.trim())).collect::<Option<_>>()?;
    while let Some(address) = addresses.pop() {
        if !settings.trusts(address) {
            return Some(address.to_canonical());
        }
    }
    None
}

/// One address of an `X-Forwarded-For`: some proxies add the port, and brackets to IPv6.
fn forwarded_address(text: &str) -> Option<IpAddr> {
    literal(text).or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// The headers that are told, each name once, in the order of the request.
pub(super) fn kept_headers(
    headers: &[httparse::Header<'_>],
    rules: &[HeaderRule],
) -> Vec<(String, String)> {
    let mut kept: Vec<(String, String)> = Vec::new();
    for header in headers {
        let name = header.name.to_ascii_lowercase();
        let wanted = rules.iter().any(|rule| match rule {
            HeaderRule::All => true,
            HeaderRule::Prefix(prefix) => name.starts_with(prefix.as_str()),
            HeaderRule::Name(rule) => *rule == name,
        });
        if !wanted {
            continue;
        }
        let value = String::from_utf8_lossy(header.value);
        match kept.iter_mut().find(|(n, _)| *n == name) {
            Some((_, before)) => {
                before.push_str(if name == "cookie" { "; " } else { ", " });
                before.push_str(&value);
            }
            None => kept.push((name, value.into_owned())),
        }
    }
    kept
}
