//! Paths and queries of requests, decoded.

use percent_encoding::percent_decode_str;

use crate::api::{ApiError, ErrorCode};
use crate::control::backend::{ConnectionOrder, ConnectionsAsk};
use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;
use crate::text::position::Since;
use crate::ws::close;

/// The parameters of a request, decoded.
pub struct Query(Vec<Parameter>);

struct Parameter {
    key: String,
    value: String,
    /// The value where `+` stands for itself: names of channels may have one, and no space.
    name: String,
}

impl Query {
    /// Takes a query apart.
    ///
    /// # Errors
    /// It is not well percent-encoded.
    pub fn parse(query: &str) -> Result<Query, ApiError> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some(Parameter {
                key: decode(&key.replace('+', " "))?,
                value: decode(&value.replace('+', " "))?,
                name: decode(value)?,
            })
        });
        pairs.collect::<Option<_>>().map(Query).ok_or_else(|| {
            ApiError::new(ErrorCode::BadRequest, "the query is not well percent-encoded")
        })
    }

    /// The first value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|p| p.key == key).map(|p| p.value.as_str())
    }

    /// The values of a key as names.
    fn names<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |p| p.key == key).map(|p| p.name.as_str())
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

    /// Which connections are listed.
    ///
    /// # Errors
    /// One of the parameters is not understood.
    pub fn connections(&self) -> Result<ConnectionsAsk, ApiError> {
        let sort = match self.get("sort") {
            None | Some("opened") => ConnectionOrder::Opened,
            Some("remote") => ConnectionOrder::Remote,
            Some("queued") => ConnectionOrder::Queued,
            Some("path") => ConnectionOrder::Path,
            Some(other) => {
                return Err(Query::bad("sort", other, "opened, remote, queued or path"));
            }
        };
        let descending = match self.get("order") {
            None | Some("asc") => false,
            Some("desc") => true,
            Some(other) => return Err(Query::bad("order", other, "asc or desc")),
        };
        Ok(ConnectionsAsk {
            channel: self.channel()?,
            filter: self.get("filter").filter(|text| !text.is_empty()).map(str::to_owned),
            after: self.after_connection()?,
            sort,
            descending,
            offset: self.number("offset")?.unwrap_or(0),
            limit: self.limit()?,
            local: self.local()?,
        })
    }

    /// Whether this node of a cluster is asked alone.
    ///
    /// # Errors
    /// The value is unknown.
    pub fn local(&self) -> Result<bool, ApiError> {
        match self.get("local") {
            None | Some("false") => Ok(false),
            Some("true" | "") => Ok(true),
            Some(other) => Err(Query::bad("local", other, "true or false")),
        }
    }

    /// How many are listed at most.
    ///
    /// # Errors
    /// It is not a number.
    pub fn limit(&self) -> Result<Option<usize>, ApiError> {
        self.number("limit")
    }

    fn number(&self, key: &str) -> Result<Option<usize>, ApiError> {
        let Some(text) = self.get(key) else { return Ok(None) };
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !is_number {
            return Err(Query::bad(key, text, "a whole number"));
        }
        // One that is out of range is above any list.
        Ok(Some(text.parse().unwrap_or(usize::MAX)))
    }

    /// The connection behind which a list goes on; an empty value is none.
    ///
    /// # Errors
    /// It is not the name of a connection.
    pub fn after_connection(&self) -> Result<Option<ConnId>, ApiError> {
        let after = self.get("after").filter(|text| !text.is_empty());
        after
            .map(|text| {
                let want = "the name of a connection, such as k3";
                ConnId::parse(text).ok_or_else(|| Query::bad("after", text, want))
            })
            .transpose()
    }

    /// The channel behind which a list goes on; an empty value is none.
    ///
    /// # Errors
    /// It is not the name of a channel.
    pub fn after_channel(&self) -> Result<Option<&str>, ApiError> {
        let after = self.names("after").next().filter(|name| !name.is_empty());
        after.map(|name| channel("after", name).map(|_| name)).transpose()
    }

    /// What the names of channels start with.
    pub fn prefix(&self) -> &str {
        self.names("prefix").next().unwrap_or_default()
    }

    /// The channels that are named, in their order.
    ///
    /// # Errors
    /// One is not the name of a channel.
    pub fn channels(&self) -> Result<Vec<Channel>, ApiError> {
        self.names("channel").map(|name| channel("channel", name)).collect()
    }

    /// The one channel that is named.
    ///
    /// # Errors
    /// It is not the name of a channel, or there are several.
    pub fn channel(&self) -> Result<Option<Channel>, ApiError> {
        let mut channels = self.channels()?;
        if channels.len() > 1 {
            let text = "?channel= may be given once here";
            return Err(ApiError::new(ErrorCode::BadRequest, text));
        }
        Ok(channels.pop())
    }

    /// From where on messages are asked for.
    ///
    /// # Errors
    /// It is none of what [`Since`] reads.
    pub fn since(&self) -> Result<Option<Since>, ApiError> {
        let since = self.get("since").map(Since::parse).transpose();
        since.map_err(|why| ApiError::new(ErrorCode::BadRequest, why))
    }
}

fn channel(key: &str, name: &str) -> Result<Channel, ApiError> {
    let want = "a channel's name has 1 to 200 characters of A-Za-z0-9._:/@+-";
    Channel::parse(name).ok_or_else(|| Query::bad(key, name, want))
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

    #[test]
    fn which_connections_are_listed() {
        let ask = |query| Query::parse(query).unwrap().connections();
        assert_eq!(ask("").unwrap(), ConnectionsAsk::default());
        assert_eq!(ask("sort=opened&order=asc&filter=&offset=0").unwrap(), ask("").unwrap());
        let found = ask("sort=queued&order=desc&filter=R%C3%B6om+1&offset=20&limit=10").unwrap();
        assert_eq!(found.sort, ConnectionOrder::Queued);
        assert_eq!((found.descending, found.offset, found.limit), (true, 20, Some(10)));
        assert_eq!(found.filter.as_deref(), Some("Röom 1"));
        for bad in ["sort=", "sort=age", "order=up", "offset=-1", "offset=", "limit=x", "after=?"] {
            assert_eq!(ask(bad).unwrap_err().code, ErrorCode::BadRequest, "{bad}");
        }
    }

    #[test]
    fn lists_and_their_pages() {
        let query = Query::parse("limit=2&after=k3&channel=a%2Fb&channel=a+b&since=5m").unwrap();
        assert_eq!(query.limit().unwrap(), Some(2));
        assert_eq!(query.after_connection().unwrap(), ConnId::parse("k3"));
        assert_eq!(query.after_channel().unwrap(), Some("k3"));
        let channels = query.channels().unwrap();
        assert_eq!(channels.iter().map(Channel::as_str).collect::<Vec<_>>(), ["a/b", "a+b"]);
        assert_eq!(query.since().unwrap(), Since::parse("5m").ok());
        assert!(query.channel().is_err(), "two of them");

        let query = Query::parse("limit=99999999999999999999999&after=&prefix=a+&x=y").unwrap();
        assert_eq!(query.limit().unwrap(), Some(usize::MAX));
        assert_eq!(
            (query.after_connection().unwrap(), query.after_channel().unwrap()),
            (None, None)
        );
        assert_eq!((query.prefix(), query.channel().unwrap()), ("a+", None));

        for bad in
            ["limit=", "limit=-1", "limit=x", "after=k", "channel=", "channel=a%20b", "since="]
        {
            let query = Query::parse(bad).unwrap();
            let all = [
                query.limit().err(),
                query.after_connection().err(),
                query.channels().err(),
                query.since().err(),
            ];
            assert_eq!(all.into_iter().flatten().count(), 1, "{bad}");
        }
        assert!(Query::parse("after=a%20").unwrap().after_channel().is_err());
    }
}
