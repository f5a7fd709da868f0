//! Where a URL leads: a server as browsers understand it (WHATWG URL), perhaps with the zone of its
//! address, or a unix socket; and where a redirect leads from there.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};
use url::{Host, Url};

use crate::paths::expand_home;

/// What begins the URL of a unix socket.
const UNIX: &str = "ws+unix:";

/// What is escaped in the path of a socket when it is shown: what would end it, or be decoded.
const IN_A_PATH: &AsciiSet = &CONTROLS.add(b'%').add(b':').add(b'#');

/// Where a URL leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// `ws` or `wss`, without a fragment and a zone. For a unix socket it is `ws://localhost/…`.
    pub(crate) url: Url,
    /// The zone of an IPv6 address.
    pub(crate) zone: Option<String>,
    /// The unix socket.
    pub(crate) socket: Option<PathBuf>,
}

impl Place {
    /// Reads a URL; one without a scheme is `ws://`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(given: &str) -> Result<Place, String> {
        let given = given.trim();
        if let Some(start) = given.get(..UNIX.len())
            && start.eq_ignore_ascii_case(UNIX)
        {
            let rest = &given[UNIX.len()..];
            return unix(rest.strip_prefix("//").unwrap_or(rest));
        }
        let is_scheme = |scheme: &str| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        };
        let (scheme, rest) = match given.split_once("://") {
            Some((scheme, rest)) if is_scheme(scheme) => (scheme, rest),
            _ => ("ws", given),
        };
        let scheme = web_socket(&scheme.to_ascii_lowercase())?;
        let (rest, zone) = without_zone(rest)?;
        let rest = rest.trim_start_matches(['/', '\\']);
        let mut url = Url::parse(&format!("{scheme}://{rest}")).map_err(|e| e.to_string())?;
        // A fragment never goes to the server (RFC 6455, section 3).
        url.set_fragment(None);
        Ok(Place { url, zone, socket: None })
    }

    /// Where a redirect's `Location` leads from here.
    ///
    /// # Errors
    /// Why it cannot be followed.
    pub(crate) fn redirected(&self, location: &str) -> Result<Place, String> {
        let mut url = self.url.join(location.trim()).map_err(|e| format!("invalid URL: {e}"))?;
        let scheme = web_socket(url.scheme())?;
        // None of the schemes that are left can refuse the change.
        let _ = url.set_scheme(scheme);
        url.set_fragment(None);
        if self.url.scheme() == "wss" && scheme == "ws" {
            return Err("it leads from wss to ws, which is not encrypted; connect to that URL \
                        itself if this is what you want"
                .to_owned());
        }
        let stays = url.host() == self.url.host() && port(&url) == port(&self.url);
        let socket = self.socket.clone().filter(|_| stays && scheme == "ws");
        let zone = self.zone.clone().filter(|_| url.host() == self.url.host());
        Ok(Place { url, zone, socket })
    }

    /// Whether what is meant for this server may go to the other place: it is the same host and
    /// port, or the same host's usual port for TLS instead of the one without.
    pub(crate) fn is_same_server(&self, other: &Place) -> bool {
        let upgrade = self.url.scheme() == "ws"
            && other.url.scheme() == "wss"
            && (port(&self.url), port(&other.url)) == (Some(80), Some(443));
        self.socket == other.socket
            && self.zone == other.zone
            && self.url.host() == other.url.host()
            && (upgrade
                || self.url.scheme() == other.url.scheme() && port(&self.url) == port(&other.url))
    }

    /// The URL for a person, without user and password; it means the same when it is given again.
    pub(crate) fn shown(&self) -> String {
        let path = self.path();
        if let Some(socket) = &self.socket {
            let socket = percent_encode(socket.as_os_str().as_bytes(), IN_A_PATH);
            return format!("{UNIX}//{socket}:{path}");
        }
        let port = self.url.port().map_or(String::new(), |port| format!(":{port}"));
        let host = match (self.url.host(), &self.zone) {
            (Some(Host::Ipv6(address)), Some(zone)) => format!("[{address}%25{zone}]"),
            (host, _) => host.map_or(String::new(), |host| host.to_string()),
        };
        format!("{}://{host}{port}{path}", self.url.scheme())
    }

    /// The path with its query.
    pub(crate) fn path(&self) -> String {
        match self.url.query() {
            Some(query) => format!("{}?{query}", self.url.path()),
            None => self.url.path().to_owned(),
        }
    }
}

fn port(url: &Url) -> Option<u16> {
    url.port_or_known_default()
}

/// The scheme of a WebSocket for this one.
fn web_socket(scheme: &str) -> Result<&'static str, String> {
    match scheme {
        "ws" | "http" => Ok("ws"),
        "wss" | "https" => Ok("wss"),
        other => Err(format!("its scheme is {other:?}, neither ws nor wss")),
    }
}

/// `PATH:/path`; without `:/path` it is `/`.
fn unix(rest: &str) -> Result<Place, String> {
    let (socket, path) = match rest.find(":/").or_else(|| rest.find(":?")) {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest.strip_suffix(':').unwrap_or(rest), "/"),
    };
    let socket: Vec<u8> = percent_decode_str(socket).collect();
    if socket.is_empty() {
        return Err("it has no path of a socket".to_owned());
    }
    if socket.contains(&0) {
        return Err("the path of its socket has a NUL".to_owned());
    }
    // One that is not valid UTF-8 is left as it is.
    let socket = PathBuf::from(OsStr::from_bytes(&socket));
    let socket = expand_home(&socket)?;
    let path = path.trim_start_matches('/');
    let mut url = Url::parse(&format!("ws://localhost/{path}")).map_err(|e| e.to_string())?;
    url.set_fragment(None);
    Ok(Place { url, zone: None, socket: Some(socket) })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_a_path_and_perhaps_one_of_the_url() {
        for (given, socket, path, shown) in [
            ("ws+unix:///run/x.sock", "/run/x.sock", "/", "ws+unix:///run/x.sock:/"),
            ("ws+unix:///run/x.sock:", "/run/x.sock", "/", "ws+unix:///run/x.sock:/"),
            ("WS+UNIX:/run/x:/a:/b?c=/", "/run/x", "/a:/b?c=/", "ws+unix:///run/x:/a:/b?c=/"),
            ("ws+unix://x.sock:/a b#c", "x.sock", "/a%20b", "ws+unix://x.sock:/a%20b"),
            ("ws+unix:///a%3A%2fb%25:?q", "/a:/b%", "/?q", "ws+unix:///a%3A/b%25:/?q"),
            ("ws+unix:///a?b", "/a?b", "/", "ws+unix:///a?b:/"),
            ("ws+unix:///a:b://c", "/a:b", "/c", "ws+unix:///a%3Ab:/c"),
        ] {
            let place = Place::parse(given).unwrap();
            assert_eq!(place.socket.as_deref(), Some(std::path::Path::new(socket)), "{given}");
            assert_eq!((place.path(), place.shown()), (path.to_owned(), shown.to_owned()));
            assert_eq!(Place::parse(shown).unwrap(), place);
        }
        for bad in ["ws+unix:", "ws+unix://:/x", "ws+unix:///a%00", "wss+unix:///x", "unix:///x"] {
            assert!(Place::parse(bad).is_err(), "{bad}");
        }
    }

    fn redirected(from: &str, location: &str) -> Result<(String, bool), String> {
        let from = Place::parse(from).unwrap();
        let to = from.redirected(location)?;
        Ok((to.shown(), from.is_same_server(&to)))
    }

    #[test]
    fn redirects() {
        for (from, location, to, same) in [
            ("ws://h:8/a/b?q", "c", "ws://h:8/a/c", true),
            ("ws://h:8/a/b?q", "/c?r#f", "ws://h:8/c?r", true),
            ("ws://h:8/a/b?q", "?r", "ws://h:8/a/b?r", true),
            ("ws://h:8/a", "//g/x", "ws://g/x", false),
            ("ws://h:8/a", "http://H:8/x", "ws://h:8/x", true),
            ("ws://h:8/a", "ws://h:9/x", "ws://h:9/x", false),
            ("ws://h/a", "https://h/x", "wss://h/x", true),
            ("ws://h/a", "https://h:8443/x", "wss://h:8443/x", false),
            ("ws://h:8080/a", "https://h/x", "wss://h/x", false),
            ("wss://h/a", "https://h:443/x", "wss://h/x", true),
            ("wss://h/a", "wss://u:p@g.h/x", "wss://g.h/x", false),
            ("ws://[fe80::1%25lo]:2/a", "/x", "ws://[fe80::1%25lo]:2/x", true),
            ("ws://[fe80::1%25lo]:2/a", "//[fe80::2]/x", "ws://[fe80::2]/x", false),
            ("ws+unix:///s:/a", "/x", "ws+unix:///s:/x", true),
            ("ws+unix:///s:/a", "http://localhost/x", "ws+unix:///s:/x", true),
            ("ws+unix:///s:/a", "http://localhost:81/x", "ws://localhost:81/x", false),
            ("ws+unix:///s:/a", "https://localhost/x", "wss://localhost/x", false),
        ] {
            assert_eq!(redirected(from, location), Ok((to.to_owned(), same)), "{from} {location}");
        }
        for (from, location) in [
            ("wss://h/a", "ws://h/a"),
            ("wss://h/a", "http://h/a"),
            ("ws://h/a", "ftp://h/a"),
            ("ws://h/a", "ws+unix:///s:/a"),
            ("ws://h/a", "mailto:x"),
            ("ws://h/a", "http://"),
            ("ws://h/a", "http://h:99999/"),
        ] {
            assert!(redirected(from, location).is_err(), "{from} {location}");
        }
    }
}
