//! The files of the operators' page. They are part of the program.

use std::sync::LazyLock;

use hyper::header::{CACHE_CONTROL, ETAG, HeaderValue, IF_NONE_MATCH};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use sha1::{Digest, Sha1};

use crate::control::body;
use crate::control::body::{Reply, ReplyBody};

macro_rules! files {
    ($($name:literal,)*) => {
        /// What `/page/NAME` serves, by name.
        const FILES: &[(&str, &[u8])] = &[$(($name, include_bytes!(concat!("files/", $name))),)*];
    };
}

files! {
    "api.js",
    "channels.js",
    "connections.js",
    "dialog.js",
    "dom.js",
    "figures.js",
    "format.js",
    "gateway.js",
    "icon.svg",
    "live.js",
    "locked.css",
    "log.js",
    "main.js",
    "overview.js",
    "page.css",
    "send.js",
    "summary.js",
    "tail.js",
}

/// The page itself.
pub(super) const INDEX: &str = include_str!("files/index.html");

/// What is shown to those who have no session.
pub(super) const LOCKED: &str = include_str!("files/locked.html");

static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let tag = |(_, bytes): &(&str, &[u8])| {
        let digest = Sha1::digest(bytes);
        let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("\"{hex}\"")
    };
    FILES.iter().map(tag).collect()
});

/// The content type of a file, by its name.
fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

/// A file; `None` where there is none of that name.
pub(super) fn file(parts: &Parts, name: &str) -> Option<Reply> {
    let at = FILES.iter().position(|(file, _)| *file == name)?;
    let tag = TAGS[at].as_str();
    let known = parts.headers.get_all(IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
    let is_known = known
        .flat_map(|tags| tags.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|t| t == tag || t == "*");
    let mut reply = if is_known {
        let mut reply = Response::new(ReplyBody::Full(bytes::Bytes::new()));
        *reply.status_mut() = StatusCode::NOT_MODIFIED;
        reply
    } else {
        let content = ReplyBody::Full(bytes::Bytes::from_static(FILES[at].1));
        body::reply(StatusCode::OK, kind(name), content)
    };
    let headers = reply.headers_mut();
    // Hexadecimal digits in quotes.
    headers.extend(HeaderValue::from_str(tag).ok().map(|tag| (ETAG, tag)));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_served() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/control/page/files");
        let entries = std::fs::read_dir(directory).unwrap();
        let mut there: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.ends_with(".html"))
            .collect();
        there.sort();
        let mut served: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        served.sort_unstable();
        assert_eq!(served, there);
        assert!(FILES.iter().all(|(name, _)| kind(name) != "application/octet-stream"));
    }
}
