//! What is kept of a request for a static file.

use http::header::{
    IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};

use crate::ws::request::Request;
use crate::ws::response::Response;

/// The headers that change which part of a file is sent, or whether it is.
const CONDITIONS: [http::HeaderName; 6] =
    [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];

/// A GET or HEAD of a static file.
#[derive(Debug)]
pub struct FileRequest {
    /// The size of the request's head in bytes; the next request may stand behind it.
    pub head_len: usize,
    /// Whether the connection stays open for the next request.
    pub keeps_alive: bool,
    /// Method, path and conditions.
    pub request: http::Request<()>,
    /// The answer where there is no such file.
    pub otherwise: Response,
}

impl FileRequest {
    /// What a request asks for; `None` if its path cannot be that of a file.
    pub(crate) fn of(
        request: &Request<'_>,
        (path, query): (&str, &str),
        otherwise: Response,
    ) -> Option<FileRequest> {
        // One slash: two would make a redirect lead to another host.
        let mut target = format!("/{}", path.trim_start_matches('/'));
        if !query.is_empty() {
            target.push('?');
            target.push_str(query);
        }
        let is_head = request.method == "HEAD";
        let mut kept = http::Request::builder()
            .method(if is_head { http::Method::HEAD } else { http::Method::GET })
            .uri(target);
        for name in CONDITIONS {
            // RFC 9110 section 14.2: with HEAD, or in other units than bytes, a range does not count.
            let counts = |value: &String| name != RANGE || !is_head && is_in_bytes(value);
            if let Some(value) = request.joined(name.as_str()).filter(counts) {
                kept = kept.header(name, value);
            }
        }
        Some(FileRequest {
            head_len: request.size,
            keeps_alive: request.keeps_alive(),
            request: kept.body(()).ok()?,
            otherwise: if is_head { otherwise.without_body() } else { otherwise },
        })
    }
}

fn is_in_bytes(range: &str) -> bool {
    range.split('=').next().is_some_and(|unit| unit.trim().eq_ignore_ascii_case("bytes"))
}
