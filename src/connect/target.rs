//! Where to connect, and the request's headers.

use std::net::IpAddr;
use std::path::PathBuf;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, HOST, ORIGIN};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderName, HeaderValue};
use url::{Host, Url};

use crate::cli::ConnectArgs;
use crate::connect::handshake::basic;
use crate::error::Failure;
use crate::net::host::join;
use crate::net::place::Place;
use crate::text::escape::escape;
use crate::ws::deflate::offer::OFFER;
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
    /// The unix socket, in place of host and port.
    pub socket: Option<PathBuf>,
    /// The path, with its query.
    pub(super) path: String,
    /// The request's headers, but for its key.
    pub headers: HeaderMap,
    /// Whether this is the server of the URL that was given, which gets the user's credentials.
    pub(super) is_first: bool,
    place: Place,
    /// Headers that go to every server.
    offers: HeaderMap,
    /// Headers that go to the server of the URL that was given.
    own: HeaderMap,
}

impl Target {
    /// Reads the URL, and the flags that make headers.
    ///
    /// # Errors
    /// Exit code 2, with what is wrong.
    pub(super) fn parse(args: &ConnectArgs) -> Result<Target, Failure> {
        let place = Place::parse(&args.url).map_err(|why| {
            Failure::usage(format!(
                "invalid WebSocket URL {:?}: {why}; write ws://HOST:PORT/PATH, wss://HOST/PATH or \
                 ws+unix://SOCKET:/PATH",
                args.url
            ))
        })?;
        let own = own_headers(args, &place.url)?;
        Target::new(place, offers(args)?, own, true)
            .ok_or_else(|| Failure::usage(format!("the URL {:?} has no host", args.url)))
    }

    /// `None` for a URL without a host.
    fn new(place: Place, offers: HeaderMap, own: HeaderMap, is_first: bool) -> Option<Target> {
        let (host, port) = (place.url.host()?.to_owned(), place.url.port_or_known_default()?);
        // A zone means something on this machine alone (RFC 6874, section 1).
        let own_port = place.url.port().map_or(String::new(), |port| format!(":{port}"));
        let named = match &place.socket {
            Some(_) => "localhost".to_owned(),
            None => format!("{host}{own_port}"),
        };
        let host = match (host, &place.zone) {
            (Host::Ipv6(address), Some(zone)) => format!("{address}%{zone}"),
            (Host::Ipv6(address), None) => address.to_string(),
            (host, _) => host.to_string(),
        };
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::try_from(named).ok()?);
        headers.extend(offers.clone());
        if let Some(user) = user_of(&place.url) {
            headers.insert(AUTHORIZATION, basic(&user));
        }
        if is_first {
            // The first of a name takes the place of ours, the others come beside it.
            headers.extend(own.clone());
        }
        Some(Target {
            url: place.shown(),
            tls: place.url.scheme() == "wss",
            host,
            port,
            socket: place.socket.clone(),
            path: place.path(),
            headers,
            is_first,
            place,
            offers,
            own,
        })
    }

    /// Where a redirect's `Location` leads. Credentials and `-H` stay with the first server, and do
    /// not come back once another one was in between.
    ///
    /// # Errors
    /// Why it cannot be followed.
    pub fn redirected(&self, location: &str) -> Result<Target, String> {
        let place = self.place.redirected(location)?;
        let is_first = self.is_first && self.place.is_same_server(&place);
        Target::new(place, self.offers.clone(), self.own.clone(), is_first)
            .ok_or_else(|| "it has no host".to_owned())
    }

    /// Whether only this machine is reached: by a unix socket, or an address of the loopback.
    pub(super) fn is_local(&self) -> bool {
        let name = self.host.strip_suffix('.').unwrap_or(&self.host);
        self.socket.is_some()
            || name == "localhost"
            || name.ends_with(".localhost")
            || self
                .certificate_name()
                .parse::<IpAddr>()
                .is_ok_and(|address| address.to_canonical().is_loopback())
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

    /// Host and port for a person, an IPv6 address in brackets; or the path of the socket.
    pub(super) fn address(&self) -> String {
        match &self.socket {
            Some(socket) => format!("the unix socket {}", escape(&socket.to_string_lossy())),
            None => join(&self.host, self.port),
        }
    }
}

/// Whether a part of a query is the parameter `since`.
fn is_since(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default();
    percent_decode_str(name).eq(*b"since")
}

fn value(flag: &str, text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text)
        .map_err(|_| Failure::usage(format!("{flag}: {text:?} cannot be a header's value")))
}

/// The headers that every server gets.
fn offers(args: &ConnectArgs) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert("connection", HeaderValue::from_static("Upgrade"));
    headers.insert("upgrade", HeaderValue::from_static("websocket"));
    headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
    if let Some(origin) = &args.origin {
        headers.insert(ORIGIN, value("--origin", origin)?);
    }
    let mut offers = subprotocols(&args.subprotocol)?;
    if args.resume && !offers.contains(&FRAMES) {
        offers.insert(0, FRAMES);
    }
    if !offers.is_empty() {
        headers.insert("sec-websocket-protocol", value("--subprotocol", &offers.join(", "))?);
    }
    if args.compress {
        headers.insert("sec-websocket-extensions", HeaderValue::from_static(OFFER));
    }
    Ok(headers)
}

/// The headers that only the server of the URL gets: user and password of the flags, else of the
/// URL, and `-H` over all.
fn own_headers(args: &ConnectArgs, url: &Url) -> Result<HeaderMap, Failure> {
    let mut own = HeaderMap::new();
    for header in &args.header {
        let (name, text) = header.split_once(':').ok_or_else(|| {
            Failure::usage(format!("--header {header:?} has no colon: write 'Name: value'"))
        })?;
        let name = HeaderName::from_bytes(name.trim().as_bytes())
            .map_err(|_| Failure::usage(format!("--header: invalid name {name:?}")))?;
        own.append(name, value("--header", text.trim())?);
    }
    let user = match &args.user {
        Some(user) if !user.contains(':') => {
            return Err(Failure::usage("--user has no colon: write NAME:PASSWORD"));
        }
        Some(user) => Some(user.clone().into_bytes()),
        None => user_of(url),
    };
    if let Some(user) = user {
        own.entry(AUTHORIZATION).or_insert_with(|| basic(&user));
    }
    Ok(own)
}

/// `NAME:PASSWORD` of the URL.
fn user_of(url: &Url) -> Option<Vec<u8>> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let name = percent_decode_str(url.username());
    let password = percent_decode_str(url.password().unwrap_or(""));
    Some(name.chain(*b":").chain(password).collect())
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
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

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
