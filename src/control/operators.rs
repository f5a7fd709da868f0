//! The requests of the operators' page and of those who watch: a link to the page, and what is live.

use hyper::Method;
use hyper::http::request::Parts;

use crate::api::{ApiError, ErrorCode};
use crate::control::body;
use crate::control::body::Reply;
use crate::control::guard::Caller;
use crate::control::page::Page;

/// Whether a path, taken apart, is one of these.
pub(super) fn is_ours(segments: &[&str]) -> bool {
    matches!(segments, [""] | ["page", ..] | ["v1", "open"])
}

/// Answers one of them.
pub(super) fn answer(
    page: Option<&Page>,
    parts: &Parts,
    segments: &[&str],
    caller: Caller,
) -> Result<Reply, ApiError> {
    let not_allowed = |allow| body::method_not_allowed(&parts.method, parts.uri.path(), allow);
    match segments {
        ["v1", "open"] if parts.method != Method::POST => Ok(not_allowed("POST")),
        ["v1", "open"] => {
            let page = page.ok_or_else(no_page)?;
            if let Caller::Session { .. } = caller {
                let why = "a link to the page is for who has the token: `wsgw open`";
                return Err(ApiError::new(ErrorCode::Forbidden, why));
            }
            Ok(body::json(&page.open(parts)?))
        }
        // The page answers GET and HEAD itself.
        _ if page.is_some() => Ok(not_allowed("GET, HEAD")),
        _ => Err(no_page()),
    }
}

fn no_page() -> ApiError {
    ApiError::new(
        ErrorCode::NotFound,
        "a control port on a unix socket has no page, for browsers cannot open it: \
         `wsgw serve --control ADDR:PORT` has one; `wsgw top` shows the same in a terminal",
    )
}
