//! Which proxy a connection goes through: that of `--proxy`, else what the environment says, read as
//! curl reads it.

use std::net::IpAddr;

use ipnet::IpNet;
use percent_encoding::percent_decode_str;

use crate::connect::target::Target;
use crate::error::Failure;
use crate::net::host::{join, split_host, unbracketed};

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// HTTP: `CONNECT` makes a tunnel.
    Http,
    /// The same over TLS.
    Https,
    /// SOCKS 5; names are resolved here.
    Socks5,
    /// SOCKS 5; names are resolved by the proxy.
    Socks5h,
}

/// A proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    pub(super) kind: Kind,
    /// As the resolver takes it.
    pub(super) host: String,
    pub(super) port: u16,
    /// Name and password.
    pub(super) user: Option<(Vec<u8>, Vec<u8>)>,
    /// For a person: the URL without user and password, and where it was said.
    pub(super) shown: String,
}

/// What `--proxy` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Setting {
    /// Nothing: the environment decides.
    Environment,
    /// No proxy.
    Direct,
    /// This one.
    Through(Proxy),
}

impl Setting {
    /// Reads the flag; an empty one is "no proxy".
    ///
    /// # Errors
    /// Exit code 2: it is not the URL of a proxy.
    pub(super) fn parse(flag: Option<&str>) -> Result<Setting, Failure> {
        Ok(match flag {
            None => Setting::Environment,
            Some("") => Setting::Direct,
            Some(text) => Setting::Through(Proxy::parse("--proxy", text)?),
        })
    }

    /// The proxy on the way to this target; the loopback and unix sockets are always reached
    /// directly.
    ///
    /// # Errors
    /// Exit code 2 for a variable that is not the URL of a proxy.
    pub(super) fn proxy_for(
        &self,
        target: &Target,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Proxy>, Failure> {
        match self {
            _ if target.is_local() => Ok(None),
            Setting::Direct => Ok(None),
            Setting::Through(proxy) => Ok(Some(proxy.clone())),
            Setting::Environment => from_environment(target, variable),
        }
    }
}

/// The variables for a WebSocket, without TLS and with it, in curl's order. There is no upper case
/// of `http_proxy`: a CGI program has the header `Proxy` of a request there.
const VARIABLES: [&[&str]; 2] = [
    &["ws_proxy", "WS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY"],
    &["wss_proxy", "WSS_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
];

fn from_environment(
    target: &Target,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>, Failure> {
    let variable = |name: &&str| variable(name).filter(|value| !value.is_empty());
    if ["no_proxy", "NO_PROXY"].iter().find_map(variable).is_some_and(|list| exempts(&list, target))
    {
        return Ok(None);
    }
    let names = VARIABLES[usize::from(target.tls)];
    let found = names.iter().find_map(|name| Some((name, variable(name)?)));
    found.map(|(name, value)| Proxy::parse(name, &value)).transpose()
}

/// Whether `NO_PROXY` names the target: `*` alone is everything, a name is itself and all below it,
/// an address is itself, a network (`10.0.0.0/8`) its addresses. Names are not resolved, ports are
/// not known.
fn exempts(list: &str, target: &Target) -> bool {
    if list == "*" {
        return true;
    }
    let host = target.certificate_name().trim_end_matches('.');
    let address = host.parse::<IpAddr>().ok();
    list.split([',', ' ', '\t']).filter(|item| !item.is_empty()).any(|item| match address {
        Some(address) => {
            let network = item.parse::<IpNet>();
            network.is_ok_and(|network| network.contains(&address))
                || unbracketed(item).parse() == Ok(address)
        }
        None => {
            let item = item.strip_suffix('.').unwrap_or(item);
            let item = item.strip_prefix('.').unwrap_or(item);
            let start = host.len().checked_sub(item.len());
            !item.is_empty()
                && start.is_some_and(|start| {
                    host.as_bytes()[start..].eq_ignore_ascii_case(item.as_bytes())
                        && (start == 0 || host.as_bytes()[start - 1] == b'.')
                })
        }
    })
}

impl Proxy {
    /// Reads `[SCHEME://][USER[:PASSWORD]@]HOST[:PORT]`; `http` is the default, and as with curl
    /// the ports are 443 for `https` and 1080 for all others.
    ///
    /// # Errors
    /// Exit code 2, with `origin`, the flag or variable that holds it, but not the password.
    fn parse(origin: &str, text: &str) -> Result<Proxy, Failure> {
        let wrong = |why: &str| {
            Failure::usage(format!(
                "{origin}: {why}; write http://HOST:PORT, https://HOST:PORT or socks5h://HOST:PORT"
            ))
        };
        let (scheme, rest) = match text.trim().split_once("://") {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None => ("http".to_owned(), text.trim()),
        };
        let (kind, usual_port) = match scheme.as_str() {
            "http" => (Kind::Http, 1080),
            "https" => (Kind::Https, 443),
            "socks5" => (Kind::Socks5, 1080),
            "socks5h" => (Kind::Socks5h, 1080),
            other => {
                return Err(wrong(&format!("proxies of the kind {other:?} are not supported")));
            }
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, authority),
        };
        let (host, port) =
            split_host(address)
                .filter(|(host, _)| url::Host::parse(host).is_ok())
                .ok_or_else(|| wrong(&format!("{address:?} is not a host and a port")))?;
        let port = port.unwrap_or(usual_port);
        let user = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            (percent_decode_str(name).collect(), percent_decode_str(password).collect())
        });
        if let Some((name, password)) = &user
            && matches!(kind, Kind::Socks5 | Kind::Socks5h)
            && (!(1..=255).contains(&Vec::len(name)) || Vec::len(password) > 255)
        {
            return Err(wrong(
                "SOCKS has room for 1 to 255 bytes of a user, and 255 of a password",
            ));
        }
        let host = unbracketed(&host).to_owned();
        let shown = format!("{scheme}://{} ({origin})", join(&host, port));
        Ok(Proxy { kind, host, port, user, shown })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ConnectArgs;

    fn target(url: &str) -> Target {
        Target::parse(&ConnectArgs { url: url.to_owned(), ..ConnectArgs::default() }).unwrap()
    }

    /// The host of the proxy for a target in this environment.
    fn chosen(url: &str, environment: &[(&str, &str)]) -> Option<String> {
        let variable = |name: &str| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let proxy = Setting::Environment.proxy_for(&target(url), variable).unwrap();
        proxy.map(|proxy| proxy.host)
    }

    #[test]
    fn urls_of_proxies() {
        for (text, kind, host, port, user) in [
            ("http://p:3128", Kind::Http, "p", 3128, None),
            ("http://P.Example:80/", Kind::Http, "p.example", 80, None),
            ("p", Kind::Http, "p", 1080, None),
            ("HTTPS://p", Kind::Https, "p", 443, None),
            ("socks5h://[::1]", Kind::Socks5h, "::1", 1080, None),
            ("socks5://u%40:p%3aq:r@p:1", Kind::Socks5, "p", 1, Some(("u@", "p:q:r"))),
            ("http://a@b@p:8", Kind::Http, "p", 8, Some(("a@b", ""))),
            ("bücher.example:8", Kind::Http, "xn--bcher-kva.example", 8, None),
        ] {
            let proxy = Proxy::parse("--proxy", text).unwrap();
            assert_eq!((proxy.kind, proxy.host.as_str(), proxy.port), (kind, host, port), "{text}");
            let user = user.map(|(name, password): (&str, &str)| (name.into(), password.into()));
            assert_eq!(proxy.user, user, "{text}");
            assert!(!proxy.shown.contains('@'), "{}", proxy.shown);
        }
        for bad in [
            "http://",
            "http://u:secret@",
            "socks4://p",
            "socks://p",
            "ftp://u:secret@p",
            "http://p:99999",
            "http://a b",
            "socks5h://:secret@p",
        ] {
            let failure = Proxy::parse("ALL_PROXY", bad).unwrap_err();
            assert_eq!(failure.exit, 2, "{bad}");
            assert!(failure.message.starts_with("ALL_PROXY: "), "{}", failure.message);
            assert!(!failure.message.contains("secret"), "{}", failure.message);
        }
    }

    #[test]
    fn variables_are_those_of_curl() {
        let all = [
            ("HTTP_PROXY", "never"),
            ("http_proxy", "h"),
            ("https_proxy", "s"),
            ("HTTPS_PROXY", "S"),
            ("all_proxy", "a"),
            ("ALL_PROXY", "A"),
        ];
        assert_eq!(chosen("ws://x", &all).as_deref(), Some("h"));
        assert_eq!(chosen("wss://x", &all).as_deref(), Some("s"));
        assert_eq!(chosen("ws://x", &all[..1]), None);
        assert_eq!(chosen("ws://x", &all[4..]).as_deref(), Some("a"));
        assert_eq!(chosen("wss://x", &all[3..]).as_deref(), Some("s"));
        assert_eq!(chosen("wss://x", &all[5..]).as_deref(), Some("a"));
        assert_eq!(chosen("wss://x", &all[..2]), None);
        assert_eq!(
            chosen("ws://x", &[("http_proxy", ""), ("ALL_PROXY", "a")]).as_deref(),
            Some("a")
        );
        assert_eq!(chosen("ws://x", &[("ws_proxy", "w"), all[1]]).as_deref(), Some("w"));
    }

    #[test]
    fn the_loopback_is_reached_directly() {
        for url in [
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "127.0.0.1",
            "127.9.9.9:1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "ws+unix:///x",
        ] {
            assert_eq!(chosen(url, &[("http_proxy", "p")]), None, "{url}");
            let through = Setting::parse(Some("p")).unwrap();
            assert_eq!(through.proxy_for(&target(url), |_| None), Ok(None), "{url}");
        }
        for url in ["10.0.0.1", "[::2]", "localhost.example", "notlocalhost"] {
            assert!(chosen(url, &[("http_proxy", "p")]).is_some(), "{url}");
        }
    }

    #[test]
    fn no_proxy_is_read_as_curl_reads_it() {
        for (list, url, exempt) in [
            ("*", "a.example", true),
            ("*,b", "a.example", false),
            ("a.example", "A.Example", true),
            ("example", "a.example", true),
            (".example", "a.example", true),
            (".example.", "example", true),
            ("example", "a.example.", true),
            ("x, ,example ", "a.example", true),
            ("ample", "a.example", false),
            ("b.a.example", "a.example", false),
            ("a.example:80", "a.example", false),
            ("*.example", "a.example", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.33", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.1/8", "10.1.2.3", true),
            ("10.0.0.0/99", "10.1.2.3", false),
            ("10.2.0.0/16,fd00::/8", "[fd12::1]", true),
            ("2.3", "10.1.2.3", false),
            ("[fd12::1]", "[fd12::1]", true),
            ("", "a.example", false),
        ] {
            let proxy = chosen(url, &[("all_proxy", "p"), ("NO_PROXY", list)]);
            assert_eq!(proxy.is_none(), exempt, "{list} {url}");
        }
        // The lower case wins, and --proxy asks nobody.
        let both = [("all_proxy", "p"), ("no_proxy", "b"), ("NO_PROXY", "*")];
        assert!(chosen("a", &both).is_some());
        let through = Setting::parse(Some("p")).unwrap();
        assert!(through.proxy_for(&target("a"), |_| Some("*".to_owned())).unwrap().is_some());
        let direct = Setting::parse(Some("")).unwrap();
        assert_eq!(direct.proxy_for(&target("a"), |_| Some("p".to_owned())), Ok(None));
    }
}
