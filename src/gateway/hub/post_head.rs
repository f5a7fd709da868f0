//! The head of a request that sends messages for a stream. Pure.

use crate::gateway::hub::wishes;
use crate::gateway::post::Content;
use crate::gateway::posts::PostToken;
use crate::ws::body::Framing;
use crate::ws::reason::Reason;
use crate::ws::request::Request;
use crate::ws::response::{Headers, Refusal, Response, bad_request};

/// What it says. Its path and its origin are good.
#[derive(Debug)]
pub struct PostHead {
    /// The size of the head in bytes; the body stands behind it.
    pub head_len: usize,
    /// `None` for what cannot be a token: no stream has it.
    pub(super) token: Option<PostToken>,
    pub(super) content: Content,
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether the client waits for a 100 before it sends the body.
    pub(super) expects: bool,
    /// Whether the connection stays open.
    pub(super) keep: bool,
    /// What the answer tells browsers.
    pub(super) cors: Headers,
}

impl PostHead {
    /// Reads it.
    ///
    /// # Errors
    /// 400 without a token or for a body that is not HTTP, 415 for a body that is compressed.
    pub(super) fn read(
        request: &Request<'_>,
        query: &str,
        cors: Headers,
    ) -> Result<PostHead, Refusal> {
        let framing = Framing::of(request)?;
        let coding = request.joined("content-encoding").unwrap_or_default();
        if !coding.is_empty() && !coding.eq_ignore_ascii_case("identity") {
            let text = "The body may have no Content-Encoding.\n";
            return Err(Refusal {
                response: Response::text(415, text),
                reason: Reason::BadRequest,
            });
        }
        let kind = request.one("content-type").unwrap_or_default();
        Ok(PostHead {
            head_len: request.size,
            token: token(request, query)?,
            content: Content::of(&kind),
            framing,
            expects: request.http_1_1 && request.has_token("expect", "100-continue"),
            keep: request.keeps_alive(),
            cors,
        })
    }
}

/// The token, in a header or in the URL.
fn token(request: &Request<'_>, query: &str) -> Result<Option<PostToken>, Refusal> {
    let in_url = wishes::values(query, "post")?;
    let given: Vec<_> = request.values("x-wsgw-post").collect();
    let given = given.iter().map(|token| &**token).chain(in_url.iter().map(String::as_str));
    let given: Vec<&str> = given.collect();
    match given[..] {
        [] | [""] => Err(bad_request(
            "a POST needs the token of an open stream, the post of its hello, as X-Wsgw-Post or \
             ?post=",
        )),
        [token] => Ok(PostToken::parse(token)),
        _ => Err(bad_request("the request has more than one token")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "AAECAwQFBgcICQoLDA0ODw";

    fn read(query: &str, headers: &str) -> Result<PostHead, u16> {
        let head = format!("POST /?{query} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        let request = Request::read(head.as_bytes(), 0).unwrap().unwrap();
        PostHead::read(&request, query, Headers::new()).map_err(|refusal| refusal.response.status())
    }

    #[test]
    fn one_token_in_one_place() {
        let header = format!("X-Wsgw-Post: {TOKEN}\r\n");
        let query = format!("a=b&post={TOKEN}");
        for (query, headers, status) in [
            ("", header.as_str(), None),
            (query.as_str(), "", None),
            (query.as_str(), header.as_str(), Some(400)),
            ("", "", Some(400)),
            ("post=", "", Some(400)),
            ("post", "", Some(400)),
            ("post=x", "", None),
            ("post=%ff", "", Some(400)),
        ] {
            assert_eq!(read(query, headers).err(), status, "{query} {headers}");
        }
        let twice = format!("{header}{header}");
        assert_eq!(read("", &twice).err(), Some(400));
        assert_eq!(read("", &header).unwrap().token, PostToken::parse(TOKEN));
        assert_eq!(read("", "X-Wsgw-Post: guess\r\n").unwrap().token, None);
    }

    #[test]
    fn what_the_headers_say() {
        let head = |headers: &str| read(&format!("post={TOKEN}"), headers);
        let plain = head("Content-Length: 3\r\n").unwrap();
        assert_eq!((plain.framing, plain.content), (Framing::Length(3), Content::Text));
        assert!(plain.keep && !plain.expects);
        let other = "Transfer-Encoding: chunked\r\nExpect: 100-Continue\r\nConnection: close\r\n\
                     Content-Type: application/x-ndjson\r\nContent-Encoding: identity\r\n";
        let other = head(other).unwrap();
        assert_eq!((other.framing, other.content), (Framing::Chunked, Content::Lines));
        assert!(!other.keep && other.expects);
        assert_eq!(head("Content-Encoding: gzip\r\n").err(), Some(415));
        assert_eq!(head("Content-Length: x\r\n").err(), Some(400));
    }
}
