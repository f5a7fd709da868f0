//! HTTP requests to calls of the server.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;

use super::guard::Guard;
use super::stream;
use crate::protocol::close;
use crate::protocol::push::Push;
use crate::server::Server;
use crate::server::api::{ApiError, ErrorCode};

/// The body of every answer.
pub type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// Bytes of a struct at most.
pub const MAX_STRUCT: usize = 16 * 1024 * 1024;

/// The header in which a success says what else one should know.
pub const NOTICE: &str = "wsgw-notice";

/// A body that is there at once.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

fn response(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn json<T: Serialize>(value: &T) -> Response<Body> {
    // Plain data always serializes.
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    response(StatusCode::OK, "application/json", full(text))
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    response(status, "text/plain; charset=utf-8", full(text))
}

/// `{"error":{…}}`.
pub fn error_json(error: &ApiError) -> serde_json::Value {
    let mut inner = serde_json::json!({ "code": error.code.name(), "message": error.message });
    if let Some(known) = &error.known {
        inner["known"] = known.clone().into();
    }
    serde_json::json!({ "error": inner })
}

fn refusal(error: &ApiError) -> Response<Body> {
    let status = StatusCode::from_u16(error.code.status());
    let body = full(error_json(error).to_string() + "\n");
    let mut response =
        response(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), "application/json", body);
    if error.code == ErrorCode::Unauthorized {
        let bearer = HeaderValue::from_static("Bearer realm=\"wsgw\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
    }
    response
}

fn bad(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::BadRequest, message)
}

/// Answers one request.
pub async fn answer(
    request: Request<Incoming>,
    local: Option<IpAddr>,
    server: &Arc<Server>,
    guard: &Guard,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let head = request.method() == Method::HEAD;
    if path == "/healthz" && (head || request.method() == Method::GET) {
        return match server.health() {
            Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
        };
    }
    if let Err(error) = guard.check_page(request.headers(), local) {
        return refusal(&error);
    }
    if path != "/metrics"
        && let Err(error) = guard.check_token(request.headers())
    {
        return refusal(&error);
    }
    route(request, &path, server).await.unwrap_or_else(|error| refusal(&error))
}

async fn route(
    request: Request<Incoming>,
    path: &str,
    server: &Arc<Server>,
) -> Result<Response<Body>, ApiError> {
    let decoded: Vec<String> = path
        .trim_start_matches('/')
        .split('/')
        .map(decode)
        .collect::<Option<_>>()
        .ok_or_else(|| bad("the path is not percent-encoded UTF-8"))?;
    let parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
    let query = query(request.uri().query().unwrap_or_default())?;
    let method = match request.method() {
        &Method::HEAD => Method::GET,
        method => method.clone(),
    };
    let allowed: &'static str = match parts[..] {
        ["healthz" | "metrics"]
        | ["v1", "gateways"]
        | ["v1", "gateways", _]
        | ["v1", "gateways", _, "connections"] => "GET, HEAD",
        ["v1", "gateways", _, "connections", _] => "GET, HEAD, DELETE",
        ["v1", "gateways", _, "messages" | "start" | "stop" | "restart"]
        | ["v1", "messages" | "reload"] => "POST",
        _ => {
            let message = format!("there is nothing at {path}");
            return Err(ApiError::new(ErrorCode::NotFound, message));
        }
    };
    if !allowed.split(", ").any(|m| m == method.as_str()) {
        let message = format!("{method} is not for {path}: use {allowed}");
        let mut response = refusal(&ApiError::new(ErrorCode::MethodNotAllowed, message));
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        return Ok(response);
    }
    match (method.as_str(), &parts[..]) {
        (_, ["metrics"]) => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            Ok(response(StatusCode::OK, kind, full(server.metrics())))
        }
        (_, ["v1", "gateways"]) => Ok(json(&server.gateways())),
        (_, ["v1", "gateways", id]) => Ok(json(&server.gateway(id)?)),
        (_, ["v1", "gateways", id, "connections"]) => Ok(json(&server.connections(id).await?)),
        ("GET", ["v1", "gateways", id, "connections", conn]) => {
            Ok(json(&server.connection(id, conn).await?))
        }
        (_, ["v1", "gateways", id, "connections", conn]) => {
            let code = query.get("code").map_or(Ok(close::NORMAL), |code| {
                code.parse().map_err(|_| bad(format!("{code:?} is no close code")))
            })?;
            let reason = query.get("reason").map_or("", String::as_str);
            Ok(json(&server.close_connection(id, conn, code, reason).await?))
        }
        // To the only gateway that runs.
        (_, ["v1", "messages"]) => {
            let id = server.only_running()?;
            messages(request, &id, &query, server).await
        }
        (_, ["v1", "gateways", id, "messages"]) => messages(request, id, &query, server).await,
        (_, ["v1", "gateways", id, "start"]) => Ok(json(&server.start(id).await?)),
        (_, ["v1", "gateways", id, "stop"]) => Ok(json(&server.stop(id).await?)),
        (_, ["v1", "gateways", id, "restart"]) => match query.get("listener").map(String::as_str) {
            None | Some("false") => Ok(json(&server.restart(id).await?)),
            Some("true") => Ok(json(&server.restart_listener(id).await?)),
            Some(other) => Err(bad(format!("listener={other}: true or false"))),
        },
        _ => {
            let done = server.reload().await?;
            let mut response = json(&done.gateways);
            if let Some(notice) = done.notice {
                response.headers_mut().insert(NOTICE, HeaderValue::from_static(notice));
            }
            Ok(response)
        }
    }
}

async fn messages(
    request: Request<Incoming>,
    id: &str,
    query: &HashMap<String, String>,
    server: &Arc<Server>,
) -> Result<Response<Body>, ApiError> {
    let hook = match query.get("hook").map(String::as_str) {
        None => true,
        Some("none") => false,
        Some(other) => return Err(bad(format!("hook={other}: only hook=none is known"))),
    };
    let kind = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    if kind.eq_ignore_ascii_case("application/x-ndjson") {
        let each = match query.get("results").map(String::as_str) {
            None => false,
            Some("each") => true,
            Some(other) => return Err(bad(format!("results={other}: only results=each is known"))),
        };
        // Refused at once where there is no such gateway.
        server.gateway(id)?;
        let body = stream::run(request.into_body(), id.to_owned(), hook, each, server).await;
        return Ok(response(StatusCode::OK, "application/x-ndjson", body));
    }
    let body = Limited::new(request.into_body(), MAX_STRUCT).collect().await.map_err(|e| {
        if e.is::<http_body_util::LengthLimitError>() {
            let message = format!("a struct is {MAX_STRUCT} bytes at most");
            ApiError::new(ErrorCode::TooLarge, message)
        } else {
            bad(format!("the body ended early: {e}"))
        }
    })?;
    let push = Push::parse(&body.to_bytes()).map_err(bad)?;
    let receipt = server.push(id, &push, hook)?;
    let outcome = receipt.await?;
    Ok(json(&outcome))
}

/// Percent-decodes one segment.
fn decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let hex = text.get(at + 1..at + 3)?;
            out.push(u8::from_str_radix(hex, 16).ok()?);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).ok()
}

fn query(text: &str) -> Result<HashMap<String, String>, ApiError> {
    const KNOWN: [&str; 5] = ["hook", "results", "listener", "code", "reason"];
    let mut all = HashMap::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(&value.replace('+', " "))
            .ok_or_else(|| bad("the query is not percent-encoded UTF-8"))?;
        if !KNOWN.contains(&key) {
            return Err(bad(format!("unknown query parameter {key:?}")));
        }
        all.insert(key.to_owned(), value);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_decoding() {
        assert_eq!(decode("a%20b%C3%BC").as_deref(), Some("a bü"));
        for bad in ["%", "%2", "%zz", "%ff", "%+1"] {
            assert_eq!(decode(bad).filter(|_| bad != "%+1"), None, "{bad}");
        }
    }
}
