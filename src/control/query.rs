//! Paths and queries of requests, decoded.

use percent_encoding::percent_decode_str;

use crate::api::{ApiError, ErrorCode};
use crate::ws::close;

/// The parameters of a request, decoded.
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Takes a query apart.
    ///
    /// # Errors
    /// It is not well percent-encoded.
    pub fn parse(query: &str) -> Result<Query, ApiError> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(&key.replace('+', " "))?, decode(&value.replace('+', " "))?))
        });
        pairs.collect::<Option<_>>().map(Query).ok_or_else(|| {
            ApiError::new(ErrorCode::BadRequest, "the query is not well percent-encoded")
        })
    }

    /// The first value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    fn bad(key: &str, value: &str, want: &str) -> ApiError {
        let message = format!("?{key}={value} is not understood: {want}");
        ApiError::new(ErrorCode::BadRequest, message)
    }

    /// Whether the listener is asked.
    ///
    /// # Errors
    /// The value is unknown.
    pub fn hook(&self) -> Result<bool, ApiError> {
        match self.get("hook") {
            None => Ok(true),
            Some("none") => Ok(false),
            Some(other) => Err(Query::bad("hook", other, "hook=none skips the listener")),
        }
    }

    /// Whether each struct of a stream gets a line of its own.
    ///
    /// # Errors
    /// The value is unknown.
    pub fn each(&self) -> Result<bool, ApiError> {
        match self.get("results") {
            None => Ok(false),
            Some("each") => Ok(true),
            Some(other) => Err(Query::bad("results", other, "results=each answers a line each")),
        }
    }

    /// Whether a restart is the listener's alone.
    ///
    /// # Errors
    /// The value is unknown.
    pub fn listener(&self) -> Result<bool, ApiError> {
        match self.get("listener") {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1" | "") => Ok(true),
            Some(other) => Err(Query::bad("listener", other, "true or false")),
        }
    }

    /// The code and the reason of a close.
    ///
    /// # Errors
    /// A code that may not be sent.
    pub fn closing(&self) -> Result<(u16, &str), ApiError> {
        let code = match self.get("code") {
            None => close::NORMAL,
            Some(text) => {
                text.parse().ok().filter(|c| close::may_be_sent(*c)).ok_or_else(|| {
                    Query::bad("code", text, "1000-1003, 1007-1014 and 3000-4999 may be sent")
                })?
            }
        };
        Ok((code, self.get("reason").unwrap_or_default()))
    }
}

/// Percent-decoding; `None` where a `%` has no two hexadecimal digits behind it, or the result is
/// not UTF-8.
pub(super) fn decode(text: &str) -> Option<String> {
    // The library takes a malformed escape as it stands; a request with one is a mistake to be told.
    let escapes = text.split('%').skip(1);
    let is_escape =
        |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_hexdigit());
    if !escapes.into_iter().all(is_escape) {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let query = Query::parse("code=4001&reason=a+b%20%C3%A4&listener").unwrap();
        assert_eq!(query.closing().unwrap(), (4001, "a b ä"));
        assert!(query.listener().unwrap() && query.hook().unwrap() && !query.each().unwrap());
        for bad in ["code=1005", "code=x", "code=99999", "hook=no", "results=all", "listener=2"] {
            let query = Query::parse(bad).unwrap();
            let all = [
                query.closing().err(),
                query.hook().err(),
                query.each().err(),
                query.listener().err(),
            ];
            assert_eq!(all.into_iter().flatten().count(), 1, "{bad}");
        }
        for bad in ["reason=%zz", "reason=%ff", "reason=%", "reason=%2", "reason=%+2", "reason=%é"]
        {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
    }
}
