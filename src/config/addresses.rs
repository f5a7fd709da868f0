//! The kinds that are about names and addresses: hosts, origins, networks, the control port.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use clap::ValueHint;
use ipnet::{IpNet, Ipv4Net};
use toml::de::DeValue;

use crate::config::kinds::{AnyPath, Items, Located, Scalar, Text};
use crate::config::place::Value;
use crate::config::values::{ControlListen, ListenHost};
use crate::net::host;
use crate::ws::origin::Origin;

/// A name or a literal address to bind, or `unix:PATH`.
pub(crate) struct Host;

impl Located for Host {
    type Plain = ListenHost;
    const HINT: ValueHint = ValueHint::Hostname;

    fn locate(text: &str, base: &Path) -> Result<ListenHost, String> {
        let text = Text::parse(text)?;
        if let Some(path) = text.strip_prefix("unix:") {
            return unix_path(path, base).map(ListenHost::Unix);
        }
        if host::is_bindable(&text) {
            return Ok(ListenHost::Name(text));
        }
        let hint = match host::split_host(&text) {
            Some((_, Some(_))) => "; the port is a setting of its own",
            _ => "",
        };
        Err(format!("{text:?} is neither a host name, an address nor unix:PATH{hint}"))
    }
}

/// `off`, `unix:PATH` or `ADDR:PORT`.
pub(crate) struct ControlAddress;

impl Located for ControlAddress {
    type Plain = ControlListen;
    const HINT: ValueHint = ValueHint::Unknown;

    fn locate(text: &str, base: &Path) -> Result<ControlListen, String> {
        if text == "off" {
            return Ok(ControlListen::Off);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return unix_path(path, base).map(ControlListen::Unix);
        }
        let text = text.strip_prefix("http://").unwrap_or(text);
        let wrong = || format!("{text:?} is not one of ADDR:PORT, unix:PATH, off");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port: u16 = port.parse().map_err(|_| wrong())?;
        let host = host::unbracketed(host);
        if !host::is_bindable(host) {
            return Err(wrong());
        }
        Ok(ControlListen::Tcp(host.to_owned(), port))
    }
}

fn unix_path(path: &str, base: &Path) -> Result<PathBuf, String> {
    AnyPath::locate(path, base).map_err(|why| format!("invalid path after \"unix:\": {why}"))
}

/// The group of a socket: its name or its number.
pub(crate) struct Group;

impl Scalar for Group {
    type Plain = String;
    const EXPECTED: &'static str = "the name or the number of a group";

    fn parse(text: &str) -> Result<String, String> {
        let text = Text::parse(text)?;
        let is_number = text.trim_start_matches(['-', '+']).bytes().all(|b| b.is_ascii_digit());
        if is_number && text.parse::<u32>().is_err() {
            return Err(format!("there can be no group {text:?}"));
        }
        Ok(text)
    }

    fn text(value: &Value<'_>) -> Option<String> {
        match value {
            DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
            value => value.as_str().map(str::to_owned),
        }
    }
}

/// Names that a request's `Host` may have.
pub(crate) struct HostNames;

impl Items for HostNames {
    type Plain = Vec<String>;

    fn parse(entries: &[String]) -> Result<Vec<String>, String> {
        for entry in entries {
            // An IPv6 address may come without its brackets.
            let name = host::split_host(entry).map(|(host, _)| host);
            let known = host::literal(entry).is_some();
            if !known && !name.is_some_and(|name| host::is_bindable(&name)) {
                return Err(format!(
                    "{entry:?} is not a host name: no request can have it as Host"
                ));
            }
        }
        Ok(entries.to_vec())
    }
}

/// Origins of web pages, `*` or `null`.
pub(crate) struct Origins;

impl Items for Origins {
    type Plain = Vec<String>;

    fn parse(entries: &[String]) -> Result<Vec<String>, String> {
        entries.iter().map(|entry| origin(entry)).collect()
    }
}

/// An origin as browsers send it; what no browser can send would be a rule without effect.
fn origin(entry: &str) -> Result<String, String> {
    if entry == "*" || entry == "null" {
        return Ok(entry.to_owned());
    }
    let wrong = |why: &str| Err(format!("invalid origin {entry:?}: {why}"));
    let form = "write scheme://host or scheme://host:port (* in the host spans any characters), \
                null, or * for all";
    let Some((scheme, authority)) = entry.split_once("://") else { return wrong(form) };
    let scheme = scheme.to_ascii_lowercase();
    let of_schemes = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(of_schemes) {
        return wrong(form);
    }
    if scheme == "ws" || scheme == "wss" {
        return wrong("the origin is that of the web page: write http:// or https://");
    }
    if let Some((host, _)) = authority.split_once('/') {
        return wrong(&format!("an origin has no path, write {scheme}://{host}"));
    }
    if Origin::parse(entry).is_none() {
        return wrong(form);
    }
    let Some((host, port)) = host::split_host(authority) else { return wrong(form) };
    let host = if host.contains('*') {
        // Only the letters of an address in brackets can stand beside the star there.
        let of_hosts = |c: char| c.is_ascii_alphanumeric() || "*-._[]:".contains(c);
        host.chars().all(of_hosts).then_some(host)
    } else {
        host::canonical(&host)
    };
    let Some(host) = host else { return wrong("no web page can have such a host") };
    Ok(match port {
        Some(0) => return wrong("no web page can have port 0"),
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

/// Addresses and networks (CIDR).
pub(crate) struct Networks;

impl Items for Networks {
    type Plain = Vec<IpNet>;

    fn parse(entries: &[String]) -> Result<Vec<IpNet>, String> {
        entries.iter().map(|entry| network(entry)).collect()
    }
}

fn network(entry: &str) -> Result<IpNet, String> {
    let one = || entry.parse::<IpAddr>().ok().map(IpNet::from);
    let network = entry.parse::<IpNet>().ok().or_else(one).ok_or_else(|| {
        format!("{entry:?} is neither an address nor a network: write 10.0.0.0/8, for example")
    })?;
    Ok(canonical(network))
}

/// A network of IPv4 addresses in the clothes of IPv6 as what it is: clients are compared as that.
fn canonical(network: IpNet) -> IpNet {
    let mapped = match network {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => {
            let address: Option<Ipv4Addr> = v6.addr().to_ipv4_mapped();
            address.and_then(|address| Ipv4Net::new(address, v6.prefix_len() - 96).ok())
        }
        _ => None,
    };
    mapped.map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_kept_as_browsers_send_them() {
        for (entry, kept) in [
            ("*", "*"),
            ("null", "null"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("https://*.Bücher.example:8443", "https://*.xn--bcher-kva.example:8443"),
            ("HTTPS://A.example:443", "https://a.example:443"),
            ("http://127.1", "http://127.0.0.1"),
            ("http://[0:0:0:0:0:0:0:1]:80", "http://[::1]:80"),
            ("http://192.168.*.1", "http://192.168.*.1"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            ("http://localhost", "http://localhost"),
        ] {
            assert_eq!(origin(entry).as_deref(), Ok(kept), "{entry}");
        }
    }

    #[test]
    fn origins_that_no_page_can_have_are_errors() {
        for (entry, part) in [
            ("a.example", "write scheme://host"),
            ("https://a.example/", "no path, write https://a.example"),
            ("https://a.example/chat", "no path, write https://a.example"),
            ("wss://a.example", "write http:// or https://"),
            ("https://a.example:*", "write scheme://host"),
            ("https://a.example:0", "port 0"),
            ("https://a b.example", "write scheme://host"),
            ("https://256.1.1.1", "no web page"),
            ("https://[::g]", "no web page"),
            ("https://a%2fb", "no web page"),
            ("https://b*ü.example", "write scheme://host"),
            ("*://a.example", "write scheme://host"),
            ("https://", "write scheme://host"),
        ] {
            let why = origin(entry).unwrap_err();
            assert!(why.contains(part), "{entry}: {why}");
        }
    }

    #[test]
    fn control_addresses() {
        let parse = |text| ControlAddress::locate(text, Path::new("/"));
        assert_eq!(parse("off"), Ok(ControlListen::Off));
        assert_eq!(parse("[::1]:5"), Ok(ControlListen::Tcp("::1".to_owned(), 5)));
        assert_eq!(parse("localhost:0"), Ok(ControlListen::Tcp("localhost".to_owned(), 0)));
        for bad in ["", "10124", ":10124", "host:", "host:99999", "unix:", "a b:1", "[]:1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_of_mapped_addresses_are_those_of_ipv4() {
        let net = |text| network(text).map(|net| net.to_string());
        assert_eq!(net("::ffff:10.0.0.0/104").as_deref(), Ok("10.0.0.0/8"));
        assert_eq!(net("::ffff:10.0.0.1").as_deref(), Ok("10.0.0.1/32"));
        assert_eq!(net("10.0.0.0/8").as_deref(), Ok("10.0.0.0/8"));
        assert!(net("10.0.0.0/33").is_err() && net("localhost").is_err());
    }
}
