//! The operators' page on `/`: who may see it, and its files.
//!
//! `POST /v1/open` makes a code, the link with it makes a session, and the session's cookie stands
//! in for the token: for requests that come from the page itself, as `Origin` and `Sec-Fetch-Site`
//! say, and for those that change something only with the header `X-Wsgw: 1`. `access` keeps codes
//! and sessions, `assets` has the files. A unix socket has no page, for browsers cannot open it.

mod access;
mod assets;

use std::time::Instant;

use bytes::Bytes;
use hyper::header::{
    AUTHORIZATION, CONTENT_SECURITY_POLICY, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue,
    LOCATION, ORIGIN, REFERRER_POLICY, SET_COOKIE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use crate::api::{ApiError, ErrorCode, Opened};
use crate::control::body;
use crate::control::body::{Reply, ReplyBody};
use crate::control::guard::{Caller, Guard};
use crate::control::page::access::{Access, CODE_TIME};
use crate::control::query::Query;
use crate::net::host;

/// Values of our cookie that one request may have. Another server of this host may set cookies, too.
const MAX_COOKIES: usize = 8;

const HTML: &str = "text/html; charset=utf-8";

/// What the page may load and do.
const POLICY: &str =
    "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// The page of one control port.
pub struct Page {
    /// The cookie's name has the port, for browsers keep the cookies of all ports of a host together.
    cookie: String,
    tls: bool,
    access: Access,
}

impl Page {
    /// The page of a control port that is bound to `port`.
    pub fn new(port: u16, tls: bool) -> Page {
        Page { cookie: format!("wsgw-{port}"), tls, access: Access::default() }
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// Makes a link with a new code. It leads to where this request was sent.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn open(&self, parts: &Parts) -> Result<Opened, ApiError> {
        let failed = |why: String| ApiError::new(ErrorCode::Failed, why);
        let authority = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
        let authority = reachable(authority.unwrap_or_default());
        let code = self.access.issue(Instant::now()).map_err(failed)?;
        let url = format!("{}://{authority}/?code={code}", self.scheme());
        Ok(Opened { url, expires_in: CODE_TIME.as_secs() })
    }

    /// Answers a GET or HEAD of `/` or of `/page/NAME`; `None` for another request.
    pub(in crate::control) fn answer(&self, guard: &Guard, parts: &Parts) -> Option<Reply> {
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            return None;
        }
        let path = parts.uri.path();
        let file = path.strip_prefix("/page/");
        if path != "/" && file.is_none() {
            return None;
        }
        let allowed = guard.host(parts).and_then(|()| self.check_origin(parts));
        let mut reply = match (allowed, file) {
            (Err(e), _) => body::error(&e),
            (Ok(()), Some(name)) => assets::file(parts, name).unwrap_or_else(|| {
                let message = format!("the page has no file {name:?}");
                body::error(&ApiError::new(ErrorCode::NotFound, message))
            }),
            (Ok(()), None) => self.root(guard, parts),
        };
        let headers = reply.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        for name in ["cross-origin-opener-policy", "cross-origin-resource-policy"] {
            let name = HeaderName::from_static(name);
            headers.insert(name, HeaderValue::from_static("same-origin"));
        }
        Some(reply)
    }

    fn root(&self, guard: &Guard, parts: &Parts) -> Reply {
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let code = query.as_ref().map(|query| query.get("code"));
        let now = Instant::now();
        match code {
            Err(_) => locked(),
            Ok(None) => match self.session(guard, parts) {
                Ok(Some(_)) => html(StatusCode::OK, assets::INDEX),
                Ok(None) | Err(_) => locked(),
            },
            // Programs that look where a link leads use no code up.
            Ok(Some(code)) if parts.method == Method::HEAD => {
                if self.access.knows_code(code, now) {
                    to_root(None)
                } else {
                    locked()
                }
            }
            Ok(Some(code)) => match self.begin(code) {
                Ok(Some(cookie)) => {
                    let secure = if self.tls { "; Secure" } else { "" };
                    let attributes = "HttpOnly; SameSite=Strict; Path=/";
                    to_root(Some(format!("{cookie}; {attributes}{secure}")))
                }
                Ok(None) => locked(),
                Err(e) => body::error(&e),
            },
        }
    }

    /// Uses a code up. Returns the cookie of the session that it becomes, without attributes; `None`
    /// for a code that is not good.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn begin(&self, code: &str) -> Result<Option<String>, ApiError> {
        let begun = self.access.redeem(code, Instant::now());
        let begun = begun.map_err(|why| ApiError::new(ErrorCode::Failed, why))?;
        Ok(begun.map(|(session, number)| {
            tracing::info!("operators' page: session {number} begins");
            format!("{}={session}", self.cookie)
        }))
    }

    /// The session of a request; `None` for one that has no cookie of ours, or a token.
    ///
    /// # Errors
    /// The session has ended, or this request may not use it.
    pub fn session(&self, guard: &Guard, parts: &Parts) -> Result<Option<Caller>, ApiError> {
        let cookies = cookies(&parts.headers, &self.cookie);
        if parts.headers.contains_key(AUTHORIZATION) || cookies.is_empty() {
            return Ok(None);
        }
        let refused = |why: &str| Err(ApiError::new(ErrorCode::Forbidden, why));
        guard.host(parts)?;
        self.check_origin(parts)?;
        let mut sites = parts.headers.get_all("sec-fetch-site").iter();
        if !sites.all(|site| site == "same-origin" || site == "none") {
            return refused("the page's session is good for requests of the page itself alone");
        }
        let now = Instant::now();
        let session = cookies.iter().find_map(|cookie| self.access.session(cookie, now));
        let Some((number, until)) = session else {
            return Err(ApiError::new(
                ErrorCode::Unauthorized,
                "the page's session has ended, or `wsgw serve` was started anew: `wsgw open` gives \
                 a new link",
            ));
        };
        let reads = matches!(parts.method, Method::GET | Method::HEAD);
        let marked = parts.headers.get("x-wsgw").is_some_and(|value| value == "1");
        if !reads && !marked {
            return refused("a request of the page that changes something needs `X-Wsgw: 1`");
        }
        Ok(Some(Caller::Session { number, until }))
    }

    /// Refuses what a page of another origin may have sent.
    fn check_origin(&self, parts: &Parts) -> Result<(), ApiError> {
        let mut origins = parts.headers.get_all(ORIGIN).iter();
        let (origin, more) = (origins.next(), origins.next());
        let host = parts.headers.get(HOST).map(HeaderValue::as_bytes).unwrap_or_default();
        let own = [self.scheme().as_bytes(), b"://", host].concat();
        let is_own = |origin: &HeaderValue| origin.as_bytes().eq_ignore_ascii_case(&own);
        if more.is_none() && origin.is_none_or(is_own) {
            return Ok(());
        }
        Err(ApiError::new(
            ErrorCode::Forbidden,
            "a request with the Origin of another page is refused",
        ))
    }
}

/// The values of a cookie.
fn cookies<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.filter(|(n, _)| n.trim() == name).map(|(_, v)| v.trim()).take(MAX_COOKIES).collect()
}

/// The address of a request as a browser can use it: one that listens everywhere is called here.
fn reachable(authority: &str) -> String {
    let Some((name, port)) = host::split_host(authority) else { return authority.to_owned() };
    let name = match host::literal(&name) {
        Some(std::net::IpAddr::V4(address)) if address.is_unspecified() => "127.0.0.1".to_owned(),
        Some(std::net::IpAddr::V6(address)) if address.is_unspecified() => "[::1]".to_owned(),
        _ => name,
    };
    port.map_or_else(|| name.clone(), |port| format!("{name}:{port}"))
}

fn html(status: StatusCode, text: &'static str) -> Reply {
    body::reply(status, HTML, ReplyBody::Full(Bytes::from_static(text.as_bytes())))
}

/// The page for those who have no session.
fn locked() -> Reply {
    let mut reply = html(StatusCode::UNAUTHORIZED, assets::LOCKED);
    reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    reply
}

/// Sends a browser on, so that the code leaves its address bar and its history.
fn to_root(cookie: Option<String>) -> Reply {
    let mut reply = html(StatusCode::SEE_OTHER, "");
    let headers = reply.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_static("/"));
    // A name of letters and digits, and hexadecimal digits.
    let cookie = cookie.and_then(|cookie| HeaderValue::from_str(&cookie).ok());
    headers.extend(cookie.map(|cookie| (SET_COOKIE, cookie)));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_leads_to_an_address_that_browsers_know() {
        for (host, want) in [
            ("127.0.0.1:10124", "127.0.0.1:10124"),
            ("0.0.0.0:7", "127.0.0.1:7"),
            ("[::]:7", "[::1]:7"),
            ("[::1]:7", "[::1]:7"),
            ("Gw.Example", "gw.example"),
        ] {
            assert_eq!(reachable(host), want);
        }
    }

    #[test]
    fn cookies_are_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=b; wsgw-1=x;wsgw-10=y; wsgw-1 = z"));
        headers.append(COOKIE, HeaderValue::from_static("wsgw-1=; wsgw-1"));
        assert_eq!(cookies(&headers, "wsgw-1"), ["x", "z", ""]);
        assert!(cookies(&headers, "wsgw-2").is_empty());
    }
}
