//! The control port: requests, and the client's reading of its answers.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;

use bytes::Bytes;
use hyper::Request;
use hyper::http::request::Parts;
use wsgw::api::ApiError;
use wsgw::api::endpoint::Endpoint;
use wsgw::api::file::ControlFile;
use wsgw::control::guard::{Caller, Guard};
use wsgw::control::{Budget, Page, Query, StructLines};
use wsgw::control_client::wire::{Framing, Socket, Source, is_timeout};
use wsgw::ws::close;

use super::pieces;

/// Header lines of a request: who may ask is one with the token, no Origin, and our own Host; or the
/// operators' page in its session. One that begins with a P is a POST.
pub fn guard(data: &[u8]) {
    let mut builder = Request::builder().uri("/v1/gateways");
    if data.starts_with(b"P") {
        builder = builder.method("POST");
    }
    // The operators' page has one session, whose cookie stands in a request as `$`.
    let page = Page::new(1, false);
    let link = page.open(&Request::new(()).into_parts().0).expect("a link").url;
    let code = link.split_once("?code=").expect("a code").1;
    let cookie = page.begin(code).expect("random numbers").expect("a session");
    assert_eq!(page.begin(code), Ok(None), "a code is good once");
    for line in data.split(|b| *b == b'\n').take(20) {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let parts: Vec<&[u8]> = line[colon + 1..].split(|b| *b == b'$').collect();
        builder = builder.header(&line[..colon], parts.join(cookie.as_bytes()));
    }
    let Ok(request) = builder.body(()) else { return };
    let parts = request.into_parts().0;
    let hosts = ["control.example".to_owned()];
    let guard = Guard::tcp("secret".to_owned(), IpAddr::V4(Ipv4Addr::LOCALHOST), &hosts);
    session(&page, &guard, &parts, &cookie);

    if guard.no_page(&parts).is_ok() {
        assert!(!parts.headers.contains_key("origin"));
        let all: Vec<_> = parts.headers.get_all("host").iter().collect();
        assert_eq!(all.len(), 1);
        let host = String::from_utf8_lossy(all[0].as_bytes()).to_ascii_lowercase();
        let ours = ["localhost", "127.", "[", "control.example"];
        assert!(ours.iter().any(|start| host.starts_with(start)), "{host}");
        assert!(host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b)), "{host}");
    }
    if guard.has_token(&parts).is_ok() {
        let given = parts.headers.get("authorization").expect("a token");
        let text = given.to_str().expect("text");
        let (scheme, token) = text.split_at(6);
        assert!(scheme.eq_ignore_ascii_case("bearer") && token.trim() == "secret", "{text}");
    }
}

/// Who may use the page's session is the page itself.
fn session(page: &Page, guard: &Guard, parts: &Parts, cookie: &str) {
    let Ok(Some(caller)) = page.session(guard, parts) else { return };
    assert!(matches!(caller, Caller::Session { number: 1, .. }));
    let all = |name: &str| -> Vec<&[u8]> {
        parts.headers.get_all(name).iter().map(|value| value.as_bytes()).collect()
    };
    let cookies = all("cookie").join(&b';');
    assert!(cookies.windows(cookie.len()).any(|part| part == cookie.as_bytes()));
    assert!(all("authorization").is_empty());
    let host = all("host");
    assert_eq!(host.len(), 1);
    match all("origin")[..] {
        [] => {}
        [origin] => assert!(origin.eq_ignore_ascii_case(&[b"http://", host[0]].concat())),
        _ => panic!("two origins"),
    }
    assert!(all("sec-fetch-site").iter().all(|site| matches!(*site, b"same-origin" | b"none")));
    assert!(parts.method == "GET" || all("x-wsgw").first() == Some(&&b"1"[..]));
}

/// A query, a URL of a control port, an error, a control file, and a stream of structs.
pub fn request(data: &[u8]) {
    let budget = Budget::default();
    let cut = |pieces: &[&[u8]]| {
        let (mut lines, mut out) = (StructLines::new(budget.share()), Vec::new());
        for (piece, last) in pieces.iter().zip(1..) {
            lines.feed(Bytes::copy_from_slice(piece));
            for ended in [false, true].into_iter().take(1 + usize::from(last == pieces.len())) {
                while let Some(line) = lines.next(ended) {
                    out.push((line.number, line.text.expect("within the bounds").to_vec()));
                }
            }
        }
        out
    };
    let model: Vec<_> = (1..)
        .zip(data.split(|b| *b == b'\n').map(<[u8]>::to_vec))
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .collect();
    assert_eq!(cut(&[data]), model);
    if !data.is_empty() {
        assert_eq!(cut(&pieces(data, 1)), model);
    }

    let error = ApiError::from_response(418, data);
    assert!((1..=6).contains(&error.code.exit()));
    let _ = serde_json::from_slice::<ControlFile>(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(query) = Query::parse(text) {
        if let Ok((code, reason)) = query.closing() {
            assert!(close::may_be_sent(code) && close::cut_reason(reason).len() <= 123);
        }
        let _ = (query.hook(), query.each(), query.listener());
    }
    if let Ok(endpoint) = Endpoint::parse(text) {
        assert_eq!(Endpoint::parse(&endpoint.to_string()).as_ref(), Ok(&endpoint));
        // It goes into the head of a request.
        assert!(!endpoint.authority().contains(|c: char| c.is_control() || c == ' '));
    }
}

/// An answer of a control port: the same however it comes; what breaks off is never whole.
pub fn wire(data: &[u8]) {
    let data = &data[..data.len().min(16 << 10)];
    assert_eq!(answer(&[data]), answer(&pieces(data, 2)));
}

/// Status and body, or nothing where the answer is no good.
fn answer(pieces: &[&[u8]]) -> Option<(u16, Vec<u8>)> {
    let (client, mut server) = UnixStream::pair().expect("a pair");
    // A read that would wait is a time-out, after which it goes on.
    client.set_nonblocking(true).expect("not blocking");
    let mut source = Source::new(Socket::Unix(client));
    let mut pieces = pieces.iter();
    let mut head: Option<(u16, Framing)> = None;
    let mut body = Vec::new();
    let mut server = Some(&mut server);
    loop {
        let step = match &mut head {
            None => source.response_head().map(|found| {
                head = Some((found.status, found.framing));
                true
            }),
            Some((_, framing)) => source.body(framing, &mut body),
        };
        match step {
            Ok(true) => {}
            Ok(false) => return head.map(|(status, _)| (status, body)),
            Err(e) if is_timeout(&e) => match (pieces.next(), server.as_mut()) {
                (Some(piece), Some(server)) => server.write_all(piece).expect("room"),
                _ => {
                    let _ = server.take()?.shutdown(std::net::Shutdown::Both);
                }
            },
            Err(_) => return None,
        }
    }
}
