//! The bytes of one answer: what is at hand of it, and what follows from a file.

use std::fmt::Write as _;
use std::path::Path;
use std::time::SystemTime;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{Response, StatusCode};

use crate::gateway::web::files::{Part, look_up};
use crate::gateway::web::request::FileRequest;

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its first bytes.
    pub bytes: Vec<u8>,
    /// What follows them.
    pub part: Option<Part>,
}

/// The answer to a request for a file below a directory; `None` if files were switched off since. It
/// may wait for a disk.
pub(crate) fn answer(directory: Option<&Path>, asked: &FileRequest) -> Answer {
    let otherwise = || {
        let otherwise = asked.otherwise.clone().keep_alive(asked.keeps_alive);
        Answer { bytes: otherwise.encode(SystemTime::now()), part: None }
    };
    let Some(directory) = directory else { return otherwise() };
    let (response, part) = look_up(directory, &asked.request);
    match response.status() {
        StatusCode::NOT_FOUND => otherwise(),
        StatusCode::INTERNAL_SERVER_ERROR => {
            tracing::warn!(path = asked.request.uri().path(), "a static file cannot be read");
            Answer { bytes: head(&response, asked.keeps_alive), part: None }
        }
        _ => Answer { bytes: head(&response, asked.keeps_alive), part },
    }
}

fn head(response: &Response<()>, keeps_alive: bool) -> Vec<u8> {
    let status = response.status();
    let mut out = String::with_capacity(512);
    // Writing to a String cannot fail.
    let _ =
        write!(out, "HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or(""));
    let _ = write!(out, "Date: {}\r\n", httpdate::fmt_http_date(SystemTime::now()));
    for (name, value) in response.headers() {
        // `ServeDir` writes ASCII only.
        let Ok(value) = value.to_str() else { continue };
        let _ = write!(out, "{}: {value}", name.as_str());
        // Browsers take text for an old 8-bit encoding otherwise.
        if name == CONTENT_TYPE && is_text(value) {
            out.push_str("; charset=utf-8");
        }
        out.push_str("\r\n");
    }
    if !response.headers().contains_key(CONTENT_LENGTH) && status != StatusCode::NOT_MODIFIED {
        out.push_str("content-length: 0\r\n");
    }
    // A browser asks whether its copy is still good, and never guesses what a file is.
    out.push_str("cache-control: no-cache\r\nx-content-type-options: nosniff\r\n");
    out.push_str(if keeps_alive { "\r\n" } else { "connection: close\r\n\r\n" });
    out.into_bytes()
}

fn is_text(kind: &str) -> bool {
    kind.starts_with("text/") || matches!(kind, "application/javascript" | "application/json")
}
