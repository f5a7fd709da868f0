//! The flags of `connect`, checked.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, HOST, ORIGIN};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderName, HeaderValue, Uri};

use crate::cli::{ColorWhen, ConnectArgs};
use crate::config::units;
use crate::error::Failure;

/// How long it stays after the end of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until so long a silence.
    Silence(Duration),
    /// Until the server closes.
    Stay,
}

/// Where to connect.
#[derive(Debug, Clone)]
pub struct Target {
    /// The URL as it was understood.
    pub url: String,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// The host, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path, with its query.
    pub path: String,
    /// The request's headers, but for its key.
    pub headers: HeaderMap,
}

/// The flags, checked.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to.
    pub target: Target,
    /// `-x`.
    pub execute: Vec<String>,
    /// `-n`.
    pub count: Option<u64>,
    /// `-w`.
    pub wait: Wait,
    /// `-w -1`, said in so many words.
    pub stays: bool,
    /// `-b`.
    pub binary: bool,
    /// `--ping`.
    pub ping: Option<Duration>,
    /// `--timeout`.
    pub timeout: Duration,
    /// `--reconnect`.
    pub reconnect: bool,
    /// `--echo`.
    pub echo: bool,
    /// `--pretty`.
    pub pretty: bool,
    /// `--timestamps`.
    pub timestamps: bool,
    /// Whether to colour.
    pub color: bool,
    /// `-v`.
    pub verbose: bool,
    /// `--no-history`.
    pub no_history: bool,
    /// `--insecure`.
    pub insecure: bool,
    /// `--cacert`.
    pub cacert: Option<PathBuf>,
    /// `--cert` and `--key`.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Whether the terminal knows no escape sequences.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|name| name == "dumb")
}

fn usage(text: impl Into<String>) -> Failure {
    Failure::usage(text)
}

fn seconds(flag: &str, text: &str) -> Result<Duration, Failure> {
    let time = units::duration(text).map_err(|why| usage(format!("{flag}: {why}")))?;
    if time.is_zero() { Err(usage(format!("{flag} must be more than zero"))) } else { Ok(time) }
}

impl Options {
    /// Checks the flags.
    ///
    /// # Errors
    /// Exit code 2, with what is wrong.
    pub fn parse(args: &ConnectArgs) -> Result<Options, Failure> {
        let wait = match args.wait.as_deref() {
            Some("-1") => Wait::Stay,
            Some(text) => Wait::Silence(
                units::duration(text).map_err(|why| usage(format!("--wait: {why}; -1 stays")))?,
            ),
            // An echo is driven by the server, not by stdin.
            None if args.count.is_some() || args.echo => Wait::Stay,
            None => Wait::Silence(Duration::from_secs(1)),
        };
        if args.count == Some(0) {
            return Err(usage("-n must be at least 1"));
        }
        let identity = match (&args.cert, &args.key) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (None, None) => None,
            _ => return Err(usage("--cert and --key go together: one of them is missing")),
        };
        let color = match args.color {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => {
                std::io::stdout().is_terminal()
                    && !is_dumb()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        };
        Ok(Options {
            target: target(args)?,
            execute: args.execute.clone(),
            count: args.count,
            wait,
            stays: args.wait.as_deref() == Some("-1"),
            binary: args.binary,
            ping: args.ping.as_deref().map(|text| seconds("--ping", text)).transpose()?,
            timeout: seconds("--timeout", &args.timeout)?,
            reconnect: args.reconnect,
            echo: args.echo,
            pretty: args.pretty,
            timestamps: args.timestamps,
            color,
            verbose: args.verbose,
            no_history: args.no_history,
            insecure: args.insecure,
            cacert: args.cacert.clone(),
            identity,
        })
    }
}

fn target(args: &ConnectArgs) -> Result<Target, Failure> {
    let given = args.url.trim();
    let wrong = |why: &str| {
        usage(format!("{given:?} is no WebSocket URL: {why}; write ws://HOST:PORT/PATH or wss://…"))
    };
    let uri: Uri = whole(given).parse().map_err(
        |e: tokio_tungstenite::tungstenite::http::uri::InvalidUri| wrong(&e.to_string()),
    )?;
    let tls = match uri.scheme_str() {
        Some("ws") => false,
        Some("wss") => true,
        _ => return Err(wrong("its scheme is neither ws nor wss")),
    };
    let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
    let host = authority.host();
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host).to_owned();
    if host.is_empty() {
        return Err(wrong("it has no host"));
    }
    let (user, authority_text) = match authority.as_str().rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest.to_owned()),
        None => (None, authority.to_string()),
    };
    // Brackets stand around an IPv6 address, behind which there is a port or nothing.
    let bracketed = match authority_text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inside, behind)) => {
            !inside.contains('[') && (behind.is_empty() || behind.starts_with(':'))
        }
        None => !authority_text.contains(['[', ']']),
    };
    if !bracketed || host.contains(['[', ']']) || user.is_some_and(|u| u.contains(['[', ']'])) {
        return Err(wrong("its host is neither a name nor an address"));
    }
    let port_text = authority_text.rsplit(']').next().and_then(|rest| rest.split_once(':'));
    if port_text.is_some_and(|(_, port)| port.parse::<u16>().is_err()) {
        return Err(wrong("its port is no number up to 65535"));
    }
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let url = format!("{}://{authority_text}{path}", if tls { "wss" } else { "ws" });
    let headers = headers(args, &authority_text, user)?;
    Ok(Target { url, tls, host, port, path, headers })
}

/// The URL with its scheme in lower case, and with what a URI may not hold written as `%XX`.
fn whole(given: &str) -> String {
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    };
    let (scheme, rest) = match given.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
        _ => ("ws".to_owned(), given),
    };
    let scheme = match scheme.as_str() {
        "http" => "ws",
        "https" => "wss",
        other => other,
    };
    // A fragment never goes to the server (RFC 6455 section 3).
    let rest = rest.split('#').next().unwrap_or(rest);
    let path = rest.find(['/', '?']).unwrap_or(rest.len());
    let mut url = format!("{scheme}://{}", &rest[..path]);
    for byte in rest[path..].bytes() {
        if byte.is_ascii() {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url
}

/// The `%XX` of a URL's user name and password.
fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, more)) = rest.split_first() {
        let hex = |digit: &u8| char::from(*digit).to_digit(16);
        match more {
            [high, low, after @ ..] if byte == b'%' => {
                if let (Some(high), Some(low)) = (hex(high), hex(low)) {
                    out.extend(u8::try_from(high << 4 | low));
                    rest = after;
                    continue;
                }
                out.push(byte);
            }
            _ => out.push(byte),
        }
        rest = more;
    }
    out
}

/// The request's headers, but for its key: what is usual, the flags, and `-H` over all of it.
fn headers(args: &ConnectArgs, host: &str, url_user: Option<&str>) -> Result<HeaderMap, Failure> {
    let value = |flag: &str, text: &str| {
        HeaderValue::from_str(text)
            .map_err(|_| usage(format!("{flag}: {text:?} cannot be a header's value")))
    };
    let mut headers = HeaderMap::new();
    headers.insert(HOST, value("the URL", host)?);
    headers.insert("connection", HeaderValue::from_static("Upgrade"));
    headers.insert("upgrade", HeaderValue::from_static("websocket"));
    headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
    if let Some(origin) = &args.origin {
        headers.insert(ORIGIN, value("--origin", origin)?);
    }
    let user = match (&args.user, url_user) {
        (Some(user), _) if !user.contains(':') => {
            return Err(usage("--user has no colon: write NAME:PASSWORD"));
        }
        (Some(user), _) => Some(user.clone().into_bytes()),
        (None, Some(user)) if user.contains(':') => Some(unescaped(user)),
        (None, Some(user)) => Some([unescaped(user), b":".to_vec()].concat()),
        (None, None) => None,
    };
    if let Some(user) = user {
        headers
            .insert(AUTHORIZATION, value("--user", &format!("Basic {}", STANDARD.encode(user)))?);
    }
    if !args.subprotocol.is_empty() {
        let list = args.subprotocol.join(", ");
        headers.insert("sec-websocket-protocol", value("--subprotocol", &list)?);
    }
    let mut own = HeaderMap::new();
    for header in &args.header {
        let (name, text) = header.split_once(':').ok_or_else(|| {
            usage(format!("--header {header:?} has no colon: write 'Name: value'"))
        })?;
        let name = HeaderName::from_bytes(name.trim().as_bytes())
            .map_err(|_| usage(format!("--header: {name:?} cannot be a header's name")))?;
        own.append(name, value("--header", text.trim())?);
    }
    // The first of a name takes the place of ours, the others come beside it.
    headers.extend(own);
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Options, Failure> {
        let args =
            ConnectArgs { url: url.to_owned(), timeout: "10".to_owned(), ..ConnectArgs::default() };
        Options::parse(&args)
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
            let target = parse(given).unwrap().target;
            assert_eq!((target.url.as_str(), target.host.as_str(), target.port), (url, host, port));
        }
        for bad in ["", "ws://", "ftp://x", "ws://h:99999/", "ws://h:x/", "ws://a b/"] {
            assert_eq!(parse(bad).unwrap_err().exit, 2, "{bad}");
        }
    }

    #[test]
    fn brackets_stand_around_an_address_or_nowhere() {
        for bad in ["ws[::1]/", "ws://x[::1]/", "ws://[::1]x/", "wss://[::@ss:2]/1", "ws://[a]@b/"]
        {
            assert_eq!(parse(bad).unwrap_err().exit, 2, "{bad}");
        }
    }

    #[test]
    fn headers_that_cannot_be_are_usage_errors() {
        for bad in ["no colon", "a b: c", "x: a\nb"] {
            let args = ConnectArgs {
                url: "h".to_owned(),
                timeout: "10".to_owned(),
                header: vec![bad.to_owned()],
                ..ConnectArgs::default()
            };
            assert_eq!(Options::parse(&args).unwrap_err().exit, 2, "{bad}");
        }
    }

    #[test]
    fn a_header_of_the_users_takes_the_place_of_ours() {
        let args = ConnectArgs {
            url: "ws://a%3Ab:p%40@h".to_owned(),
            timeout: "10".to_owned(),
            origin: Some("https://o".to_owned()),
            header: ["Host: v", "X: 1", "x:2", "Origin: https://p"].map(str::to_owned).to_vec(),
            ..ConnectArgs::default()
        };
        let target = Options::parse(&args).unwrap().target;
        let all = |name: &str| -> Vec<&str> {
            target.headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect()
        };
        assert_eq!(all("host"), ["v"]);
        assert_eq!(all("origin"), ["https://p"]);
        assert_eq!(all("x"), ["1", "2"]);
        assert_eq!(all("authorization"), [format!("Basic {}", STANDARD.encode("a:b:p@"))]);
    }
}
