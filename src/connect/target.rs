//! Where to connect: the URL as browsers take it (WHATWG URL), and the request's headers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, HOST, ORIGIN};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderName, HeaderValue};
use url::{Host, Url};

use crate::cli::ConnectArgs;
use crate::error::Failure;
use crate::net::host::join;
use crate::ws::handshake::FRAMES;
use crate::ws::request::is_token;

/// What is escaped in a query: all but the unreserved characters (RFC 3986, section 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where to connect, and what the request says.
#[derive(Debug, Clone)]
pub struct Target {
    /// The URL as it was understood, without user, password and fragment.
    pub url: String,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// The host as the resolver takes it: a name in ASCII, or an address without brackets, with
    /// its zone (`fe80::1%eth0`).
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path, with its query.
    pub(super) path: String,
    /// The request's headers, but for its key.
    pub headers: HeaderMap,
}

impl Target {
    /// Reads the URL, and the flags that make headers.
    ///
    /// # Errors
    /// Exit code 2, with what is wrong.
    pub(super) fn parse(args: &ConnectArgs) -> Result<Target, Failure> {
        let (url, zone) = url(&args.url).map_err(|why| {
            Failure::usage(format!(
                "invalid WebSocket URL {:?}: {why}; write ws://HOST:PORT/PATH or wss://HOST/PATH",
                args.url
            ))
        })?;
        let tls = url.scheme() == "wss";
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(Failure::usage(format!("the URL {:?} has no host", args.url)));
        };
        let own_port = url.port().map_or(String::new(), |port| format!(":{port}"));
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        // A zone means something on this machine alone (RFC 6874, section 1).
        let host_header = format!("{host}{own_port}");
        let (resolved, shown) = match (host, zone) {
            (Host::Ipv6(address), Some(zone)) => {
                (format!("{address}%{zone}"), format!("[{address}%25{zone}]"))
            }
            (Host::Ipv6(address), None) => (address.to_string(), format!("[{address}]")),
            (host, _) => (host.to_string(), host.to_string()),
        };
        let headers = headers(args, &host_header, &url)?;
        Ok(Target {
            url: format!("{}://{shown}{own_port}{path}", url.scheme()),
            tls,
            host: resolved,
            port,
            path,
            headers,
        })
    }

    /// The path and query, with this position as the only `since`; as they were given without one.
    pub(super) fn path_since(&self, position: Option<&str>) -> String {
        let Some(position) = position else { return self.path.clone() };
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let others = query.split('&').filter(|pair| !pair.is_empty() && !is_since(pair));
        let since = format!("since={}", utf8_percent_encode(position, ESCAPED));
        let pairs: Vec<&str> = others.chain([since.as_str()]).collect();
        format!("{path}?{}", pairs.join("&"))
    }

    /// The `since` of the URL as it was given.
    pub(super) fn since(&self) -> Option<String> {
        let pair = self.path.split_once('?')?.1.split('&').find(|pair| is_since(pair))?;
        let value = pair.split_once('=').map_or("", |(_, value)| value);
        Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
    }

    /// The host for the certificate: without a zone.
    pub(super) fn certificate_name(&self) -> &str {
        self.host.split('%').next().unwrap_or(&self.host)
    }

    /// Host and port for a person, an IPv6 address in brackets.
    pub(super) fn address(&self) -> String {
        join(&self.host, self.port)
    }
}

/// Whether a part of a query is the parameter `since`.
fn is_since(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default();
    percent_decode_str(name).eq(*b"since")
}

/// The URL, and the zone of its IPv6 address, which WHATWG URLs do not have.
fn url(given: &str) -> Result<(Url, Option<String>), String> {
    let given = given.trim();
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    };
    let (scheme, rest) = match given.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
        _ => ("ws".to_owned(), given),
    };
    let scheme = match scheme.as_str() {
        "ws" | "http" => "ws",
        "wss" | "https" => "wss",
        other => return Err(format!("its scheme is {other:?}, neither ws nor wss")),
    };
    let (rest, zone) = without_zone(rest)?;
    let rest = rest.trim_start_matches(['/', '\\']);
    let mut url = Url::parse(&format!("{scheme}://{rest}")).map_err(|e| e.to_string())?;
    // A fragment never goes to the server (RFC 6455, section 3).
    url.set_fragment(None);
    Ok((url, zone))
}

/// Takes the zone out of `[fe80::1%25eth0]` (RFC 6874), and of `[fe80::1%eth0]`, as many write it.
fn without_zone(rest: &str) -> Result<(String, Option<String>), String> {
    let end = rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len());
    let start = rest[..end].rfind('@').map_or(0, |at| at + 1);
    let host = &rest[start..end];
    let inside = host.strip_prefix('[').and_then(|host| host.split_once(']'));
    let Some((address, zone)) = inside.and_then(|(inside, _)| inside.split_once('%')) else {
        return Ok((rest.to_owned(), None));
    };
    let name = zone.strip_prefix("25").filter(|name| !name.is_empty()).unwrap_or(zone);
    let name = percent_decode_str(name).decode_utf8_lossy().into_owned();
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)) {
        return Err(format!("invalid zone {name:?} of the address"));
    }
    let behind = start + 1 + address.len() + 1 + zone.len();
    Ok((format!("{}[{address}{}", &rest[..start], &rest[behind..]), Some(name)))
}

/// The request's headers, but for its key: the usual ones, those of the flags, and `-H` over all.
fn headers(args: &ConnectArgs, host: &str, url: &Url) -> Result<HeaderMap, Failure> {
    let value = |flag: &str, text: &str| {
        HeaderValue::from_str(text)
            .map_err(|_| Failure::usage(format!("{flag}: {text:?} cannot be a header's value")))
    };
    let mut headers = HeaderMap::new();
    headers.insert(HOST, value("the URL", host)?);
    headers.insert("connection", HeaderValue::from_static("Upgrade"));
    headers.insert("upgrade", HeaderValue::from_static("websocket"));
    headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
    if let Some(origin) = &args.origin {
        headers.insert(ORIGIN, value("--origin", origin)?);
    }
    if let Some(user) = user(args, url)? {
        let text = format!("Basic {}", STANDARD.encode(user));
        headers.insert(AUTHORIZATION, value("--user", &text)?);
    }
    let mut offers = subprotocols(&args.subprotocol)?;
    if args.resume && !offers.contains(&FRAMES) {
        offers.insert(0, FRAMES);
    }
    if !offers.is_empty() {
        headers.insert("sec-websocket-protocol", value("--subprotocol", &offers.join(", "))?);
    }
    let mut own = HeaderMap::new();
    for header in &args.header {
        let (name, text) = header.split_once(':').ok_or_else(|| {
            Failure::usage(format!("--header {header:?} has no colon: write 'Name: value'"))
        })?;
        let name = HeaderName::from_bytes(name.trim().as_bytes())
            .map_err(|_| Failure::usage(format!("--header: invalid name {name:?}")))?;
        own.append(name, value("--header", text.trim())?);
    }
    // The first of a name takes the place of ours, the others come beside it.
    headers.extend(own);
    Ok(headers)
}

/// `NAME:PASSWORD` of the flags, else of the URL.
fn user(args: &ConnectArgs, url: &Url) -> Result<Option<Vec<u8>>, Failure> {
    match &args.user {
        Some(user) if !user.contains(':') => {
            return Err(Failure::usage("--user has no colon: write NAME:PASSWORD"));
        }
        Some(user) => return Ok(Some(user.clone().into_bytes())),
        None => {}
    }
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let name = percent_decode_str(url.username());
    let password = percent_decode_str(url.password().unwrap_or(""));
    Ok(Some(name.chain(*b":").chain(password).collect()))
}

/// The subprotocols to offer; each `-s` holds one, or several with commas between.
fn subprotocols(given: &[String]) -> Result<Vec<&str>, Failure> {
    let mut names = Vec::new();
    for name in
        given.iter().flat_map(|list| list.split(',')).map(|name| name.trim_matches([' ', '\t']))
    {
        if !is_token(name) {
            return Err(Failure::usage(format!(
                "--subprotocol: invalid name {name:?}: letters, digits and !#$%&'*+-.^_`|~ only"
            )));
        }
        if names.contains(&name) {
            return Err(Failure::usage(format!("--subprotocol: {name:?} stands there twice")));
        }
        names.push(name);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Target, Failure> {
        Target::parse(&ConnectArgs { url: url.to_owned(), ..ConnectArgs::default() })
    }

    #[test]
    fn urls() {
        for (given, url, host, port) in [
            ("localhost:1/x?y=1#z", "ws://localhost:1/x?y=1", "localhost", 1),
            ("example.org", "ws://example.org/", "example.org", 80),
            ("wss://[::1]/", "wss://[::1]/", "::1", 443),
            ("http://u:p@h:5", "ws://h:5/", "h", 5),
            ("WSS://h", "wss://h/", "h", 443),
            ("h?x=1", "ws://h/?x=1", "h", 80),
            ("h:1/x?u=ws://y", "ws://h:1/x?u=ws://y", "h", 1),
            ("h/ü", "ws://h/%C3%BC", "h", 80),
        ] {
            let target = parse(given).unwrap();
            assert_eq!((target.url.as_str(), target.host.as_str(), target.port), (url, host, port));
        }
        for bad in ["", "ws://", "ftp://x", "ws://h:99999/", "ws://h:x/", "ws://a b/"] {
            assert_eq!(parse(bad).unwrap_err().exit, 2, "{bad}");
        }
    }

    #[test]
    fn urls_are_taken_as_browsers_take_them() {
        for (given, url) in [
            ("h/a b|{c}\"^?d e\"", "ws://h/a%20b|%7Bc%7D%22^?d%20e%22"),
            ("h/a\\b/../c", "ws://h/a/c"),
            ("wss://bücher.example/", "wss://xn--bcher-kva.example/"),
            ("ws://H.Example:80/", "ws://h.example/"),
            ("ws://127.1/", "ws://127.0.0.1/"),
            ("ws://[0:0::1]:2/", "ws://[::1]:2/"),
            ("ws://[fe80::1%25lo]:2/x", "ws://[fe80::1%25lo]:2/x"),
            ("ws://u:p@[fe80::1%lo]/", "ws://[fe80::1%25lo]/"),
        ] {
            let target = parse(given).unwrap();
            assert_eq!(target.url, url, "{given}");
            assert_eq!(parse(&target.url).unwrap().url, url);
        }
        let zone = parse("wss://[fe80::1%25lo]:2/").unwrap();
        assert_eq!(zone.host, "fe80::1%lo");
        assert_eq!(zone.certificate_name(), "fe80::1");
        assert_eq!(zone.address(), "[fe80::1%lo]:2");
        assert_eq!(zone.headers["host"], "[fe80::1]:2");
        for bad in ["ws://[fe80::1%25]x/", "ws://[fe80::1%]/", "ws://[fe80::1%25a b]/"] {
            assert_eq!(parse(bad).unwrap_err().exit, 2, "{bad}");
        }
    }

    #[test]
    fn brackets_stand_around_an_address_or_nowhere() {
        for bad in ["ws[::1]/", "ws://x[::1]/", "ws://[::1]x/", "wss://[::@ss:2]/1"] {
            assert_eq!(parse(bad).unwrap_err().exit, 2, "{bad}");
        }
    }

    #[test]
    fn a_position_takes_the_place_of_since_and_the_rest_stays() {
        for (given, path) in [
            ("h", "/?since=q-1.2%26"),
            ("h/a%20b?", "/a%20b?since=q-1.2%26"),
            ("h/?since=last", "/?since=q-1.2%26"),
            ("h/?x=%26&since=5m&y&s%69nce=1&since", "/?x=%26&y&since=q-1.2%26"),
            ("h/?sincere=1", "/?sincere=1&since=q-1.2%26"),
        ] {
            let target = parse(given).unwrap();
            assert_eq!(target.path_since(Some("q-1.2&")), path, "{given}");
            assert_eq!(target.path_since(None), target.path);
        }
        assert_eq!(parse("h/?x=1&since=q%2D1").unwrap().since().as_deref(), Some("q-1"));
        assert_eq!(parse("h/?sincere=1").unwrap().since(), None);
    }

    #[test]
    fn resuming_offers_its_subprotocol_once() {
        for (subprotocol, offers) in
            [(&[][..], "wsgw.v1"), (&["json"], "wsgw.v1, json"), (&["a,wsgw.v1"], "a, wsgw.v1")]
        {
            let subprotocol = subprotocol.iter().map(|name| (*name).to_owned()).collect();
            let args = ConnectArgs {
                url: "h".to_owned(),
                subprotocol,
                resume: true,
                ..ConnectArgs::default()
            };
            assert_eq!(Target::parse(&args).unwrap().headers["sec-websocket-protocol"], offers);
        }
    }

    #[test]
    fn subprotocols_are_tokens() {
        let offer = |names: &[&str]| {
            let subprotocol = names.iter().map(|name| (*name).to_owned()).collect();
            let args = ConnectArgs { url: "h".to_owned(), subprotocol, ..ConnectArgs::default() };
            Target::parse(&args).map(|target| target.headers["sec-websocket-protocol"].clone())
        };
        assert_eq!(offer(&["a", "b.c, d"]).unwrap(), "a, b.c, d");
        for bad in [&[""][..], &["a b"], &["a,"], &["a", "a"], &["a\n"], &["ä"], &["a/b"]] {
            assert_eq!(offer(bad).unwrap_err().exit, 2, "{bad:?}");
        }
    }

    #[test]
    fn headers_that_cannot_be_are_usage_errors() {
        for bad in ["no colon", "a b: c", "x: a\nb"] {
            let args = ConnectArgs {
                url: "h".to_owned(),
                header: vec![bad.to_owned()],
                ..ConnectArgs::default()
            };
            assert_eq!(Target::parse(&args).unwrap_err().exit, 2, "{bad}");
        }
    }

    #[test]
    fn a_header_of_the_users_takes_the_place_of_ours() {
        let args = ConnectArgs {
            url: "ws://a%3Ab:p%40@h".to_owned(),
            origin: Some("https://o".to_owned()),
            header: ["Host: v", "X: 1", "x:2", "Origin: https://p"].map(str::to_owned).to_vec(),
            ..ConnectArgs::default()
        };
        let target = Target::parse(&args).unwrap();
        let all = |name: &str| -> Vec<&str> {
            target.headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect()
        };
        assert_eq!(all("host"), ["v"]);
        assert_eq!(all("origin"), ["https://p"]);
        assert_eq!(all("x"), ["1", "2"]);
        assert_eq!(all("authorization"), [format!("Basic {}", STANDARD.encode("a:b:p@"))]);
    }
}
