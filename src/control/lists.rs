//! The requests that list what a gateway holds: connections, channels, kept messages.

use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use crate::api::{ApiError, CHANNELS_LISTED, ErrorCode, NOTICE, SILENT, TOTAL};
use crate::control::backend::{Backend, ChannelsAsk, HistoryAsk};
use crate::control::body;
use crate::control::body::{Reply, ReplyBody};
use crate::control::frames::FramesBody;
use crate::control::query::Query;
use crate::listener::protocol::channel::Channel;
use crate::ws::close;

/// Lists the connections of a gateway, or shows or closes one of them.
pub(super) async fn connections(
    backend: &impl Backend,
    parts: &Parts,
    query: &Query,
    id: &str,
    conn: Option<&str>,
) -> Result<Reply, ApiError> {
    Ok(match conn {
        None if reads(parts) => {
            let ask = query.connections()?;
            let page = backend.connections(id, ask).await?;
            let mut reply = body::json(&page.rows);
            reply.headers_mut().insert(TOTAL, HeaderValue::from(page.total));
            say_silent(&mut reply, id, &page.silent);
            reply
        }
        None => not_allowed(parts, "GET, HEAD"),
        Some(conn) if reads(parts) => body::json(&backend.connection(id, conn).await?),
        Some(conn) if parts.method == Method::DELETE => {
            let (code, reason) = query.closing()?;
            let reason = close::cut_reason(reason);
            body::json(&backend.close_connection(id, conn, code, reason).await?)
        }
        Some(_) => not_allowed(parts, "GET, HEAD, DELETE"),
    })
}

/// Names the nodes whose connections are not in a list, for they did not answer.
fn say_silent(reply: &mut Reply, id: &str, silent: &[String]) {
    if silent.is_empty() {
        return;
    }
    let names = silent.join(", ");
    let remark =
        format!("gateway {id}: the list is not complete, for these nodes did not answer: {names}");
    for (name, value) in [(SILENT, names), (NOTICE, remark)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            reply.headers_mut().insert(name, value);
        }
    }
}

/// Lists the nodes of a gateway's cluster.
pub(super) fn nodes(backend: &impl Backend, parts: &Parts, id: &str) -> Result<Reply, ApiError> {
    match reads(parts) {
        true => Ok(body::json(&backend.nodes(id)?)),
        false => Ok(not_allowed(parts, "GET, HEAD")),
    }
}

/// Lists the channels of a gateway, or shows one of them. A name may have slashes, encoded or as
/// they are, so it may be several segments of the path.
pub(super) async fn channels(
    backend: &impl Backend,
    parts: &Parts,
    query: &Query,
    id: &str,
    name: &[&str],
) -> Result<Reply, ApiError> {
    if !reads(parts) {
        return Ok(not_allowed(parts, "GET, HEAD"));
    }
    let limit = query.limit()?.unwrap_or(CHANNELS_LISTED);
    if name.is_empty() {
        let (prefix, after) = (query.prefix(), query.after_channel()?);
        let ask = ChannelsAsk { prefix, after, limit, local: query.local()? };
        return Ok(body::json(&backend.channels(id, &ask)?));
    }
    let name = name.join("/");
    let channel = Channel::parse(&name).ok_or_else(|| {
        let text = format!(
            "{name:?} cannot be a channel's name, which has 1 to 200 characters of A-Za-z0-9._:/@+-"
        );
        ApiError::new(ErrorCode::BadRequest, text)
    })?;
    let after = query.after_connection()?;
    Ok(body::json(&backend.channel(id, channel, limit, after, query.local()?).await?))
}

/// Sends kept messages. `busy` marks the connection as busy until they are sent.
pub(super) async fn history(
    backend: &impl Backend,
    parts: &Parts,
    query: &Query,
    id: &str,
    busy: impl Send + Sync + 'static,
) -> Result<Reply, ApiError> {
    if !reads(parts) {
        return Ok(not_allowed(parts, "GET, HEAD"));
    }
    let ask =
        HistoryAsk { channels: query.channels()?, since: query.since()?, limit: query.limit()? };
    let frames = FramesBody::new(backend.history(id, &ask).await?, busy);
    Ok(body::reply(StatusCode::OK, "application/x-ndjson", ReplyBody::Frames(frames)))
}

fn reads(parts: &Parts) -> bool {
    matches!(parts.method, Method::GET | Method::HEAD)
}

fn not_allowed(parts: &Parts, allow: &'static str) -> Reply {
    body::method_not_allowed(&parts.method, parts.uri.path(), allow)
}
