//! The pages that are part of the program: the console, with which one tries a gateway in a browser,
//! and the module `wsgw.js` for pages of one's own. Pure.

use std::fmt::Write as _;
use std::sync::OnceLock;

use sha1::{Digest, Sha1};

use crate::ws::request::Request;
use crate::ws::response::{Headers, Response};

/// A file that is part of the program.
pub(crate) struct Asset {
    kind: &'static str,
    text: &'static str,
    tag: OnceLock<String>,
}

/// The console's page.
static CONSOLE: Asset = Asset::new("text/html; charset=utf-8", include_str!("console.html"));

/// What the page loads. No static file has a name that begins with a dot.
static CONSOLE_PARTS: [(&str, Asset); 3] = [
    ("/.wsgw/console.css", Asset::new("text/css; charset=utf-8", include_str!("console.css"))),
    ("/.wsgw/console.js", Asset::new(SCRIPT, include_str!("console.js"))),
    ("/.wsgw/console.svg", Asset::new("image/svg+xml", include_str!("console.svg"))),
];

/// The module for pages that use a gateway.
static MODULE: Asset = Asset::new(SCRIPT, include_str!("wsgw.js"));

const SCRIPT: &str = "text/javascript; charset=utf-8";

impl Asset {
    const fn new(kind: &'static str, text: &'static str) -> Asset {
        Asset { kind, text, tag: OnceLock::new() }
    }

    fn answer(&'static self, request: &Request<'_>, more: Headers) -> Response {
        let tag = self.tag.get_or_init(|| {
            let mut tag = String::from("\"");
            for byte in &Sha1::digest(self.text)[..8] {
                // Writing to a String cannot fail.
                let _ = write!(tag, "{byte:02x}");
            }
            tag + "\""
        });
        let known = request.joined("if-none-match").is_some_and(|tags| {
            tags.split(',')
                .map(|tag| tag.trim().trim_start_matches("W/"))
                .any(|t| t == tag || t == "*")
        });
        let mut headers: Headers = vec![
            ("ETag", tag.as_str().into()),
            ("Cache-Control", "no-cache".into()),
            ("X-Content-Type-Options", "nosniff".into()),
        ];
        headers.extend(more);
        let answer =
            if known { Response::not_modified() } else { Response::asset(self.kind, self.text) };
        answer.with(&headers)
    }
}

/// The console's page, for a client that calls the gateway `host`.
pub(crate) fn console(request: &Request<'_>) -> Response {
    let host = request.one("host").unwrap_or_default();
    // Older browsers do not count ws: as the page's own origin.
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':');
    let sockets = match !host.is_empty() && host.bytes().all(is_plain) {
        true => format!(" ws://{host} wss://{host}"),
        false => String::new(),
    };
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'{sockets}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    );
    CONSOLE.answer(
        request,
        vec![("Content-Security-Policy", policy.into()), ("Referrer-Policy", "no-referrer".into())],
    )
}

/// What the console's page loads, by its path.
pub(crate) fn console_part(request: &Request<'_>, path: &str) -> Option<Response> {
    let part = CONSOLE_PARTS.iter().find(|(name, _)| *name == path);
    part.map(|(_, asset)| asset.answer(request, Headers::new()))
}

/// The module for pages that use a gateway.
pub(crate) fn module(request: &Request<'_>) -> Response {
    MODULE.answer(request, Headers::new())
}
