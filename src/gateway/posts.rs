//! The tokens with which the clients of a gateway's streams send messages: a stream's client cannot
//! send on its own connection, so it sends in requests of their own, which name the stream by a token.
//!
//! Shared by the shards, behind one lock that is held for a look. A stream's entry takes some
//! thirty bytes. A token is 128 random bits: whoever has one has been told it by the gateway.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;

use crate::listener::protocol::connid::ConnId;

/// Requests with one token that may be under way at a time.
const UNDER_WAY_MAX: u32 = 16;

/// Entries that a table keeps room for when a crowd has left.
const ROOM: usize = 64;

/// Names a stream for those who send to it: 128 bits at random.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PostToken([u8; 16]);

impl PostToken {
    /// Reads one: 22 characters of base64url.
    pub(crate) fn parse(text: &str) -> Option<PostToken> {
        let mut bytes = [0; 16];
        // The decoder may want room for a rest that is not there.
        let mut room = [0; 18];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut room).ok()?;
        bytes.copy_from_slice(room.get(..length).filter(|bytes| bytes.len() == 16)?);
        Some(PostToken(bytes))
    }
}

/// As it is written: 22 characters of base64url.
impl fmt::Display for PostToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// It is a secret, and stays out of the log.
impl fmt::Debug for PostToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostToken(..)")
    }
}

/// The tokens of one gateway's streams.
#[derive(Debug, Default)]
pub(crate) struct Posts {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    streams: HashMap<PostToken, ConnId>,
    /// Requests that are being received or wait for their answer; most streams have none.
    under_way: HashMap<PostToken, u32>,
}

/// Why a request is not received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPost {
    /// No stream has this token.
    Unknown,
    /// Too many with this token are under way.
    TooMany,
}

/// A request that is under way. It counts until this is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay {
    posts: Arc<Posts>,
    token: PostToken,
    conn: ConnId,
}

impl UnderWay {
    /// The stream that it is for, which may have ended by now.
    pub(crate) fn conn(&self) -> ConnId {
        self.conn
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut tables = self.posts.tables.lock();
        if let Entry::Occupied(mut count) = tables.under_way.entry(self.token) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        shrink(&mut tables.under_way);
    }
}

impl Posts {
    /// A new token for a stream. [`Posts::remove`] has to be called at the stream's end. `None` if
    /// the system has no random numbers: the stream's client cannot send then.
    pub(crate) fn issue(&self, conn: ConnId) -> Option<PostToken> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).ok()?;
        let token = PostToken(bytes);
        self.tables.lock().streams.insert(token, conn);
        Some(token)
    }

    /// A stream has ended.
    pub(crate) fn remove(&self, token: PostToken) {
        let mut tables = self.tables.lock();
        tables.streams.remove(&token);
        shrink(&mut tables.streams);
    }

    /// A request with this token comes in.
    ///
    /// # Errors
    /// The stream is unknown, or too many requests with its token are under way.
    pub(crate) fn begin(self: &Arc<Self>, token: PostToken) -> Result<UnderWay, NoPost> {
        let mut tables = self.tables.lock();
        let Some(&conn) = tables.streams.get(&token) else { return Err(NoPost::Unknown) };
        let count = tables.under_way.entry(token).or_insert(0);
        if *count >= UNDER_WAY_MAX {
            return Err(NoPost::TooMany);
        }
        *count += 1;
        Ok(UnderWay { posts: Arc::clone(self), token, conn })
    }
}

/// A crowd that left gives its memory back.
fn shrink<V>(table: &mut HashMap<PostToken, V>) {
    if table.capacity() > ROOM && table.len() * 4 < table.capacity() {
        table.shrink_to(table.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_22_characters_of_128_bits() {
        let posts = Arc::new(Posts::default());
        let token = posts.issue(ConnId(7)).unwrap();
        let text = token.to_string();
        assert_eq!(text.len(), 22);
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        assert_eq!(PostToken::parse(&text), Some(token));
        assert_eq!(format!("{token:?}"), "PostToken(..)");
        let longer = format!("{text}A");
        for wrong in ["", &text[1..], &longer, "+/+/+/+/+/+/+/+/+/+/+w", "AAAAAAAAAAAAAAAAAAAAA="] {
            assert_eq!(PostToken::parse(wrong), None, "{wrong}");
        }
        // Bits that no byte has are not thrown away: each token is written in one way alone.
        assert_eq!(PostToken::parse("AAAAAAAAAAAAAAAAAAAAAB"), None);
    }

    #[test]
    fn a_request_finds_its_stream_until_that_ends() {
        let posts = Arc::new(Posts::default());
        let (a, b) = (posts.issue(ConnId(1)).unwrap(), posts.issue(ConnId(2)).unwrap());
        assert_eq!(posts.begin(a).unwrap().conn(), ConnId(1));
        assert_eq!(posts.begin(b).unwrap().conn(), ConnId(2));
        posts.remove(a);
        assert_eq!(posts.begin(a).unwrap_err(), NoPost::Unknown);
        assert_eq!(posts.begin(PostToken([0; 16])).unwrap_err(), NoPost::Unknown);
        assert!(posts.begin(b).is_ok());
    }

    #[test]
    fn sixteen_may_be_under_way() {
        let posts = Arc::new(Posts::default());
        let (a, b) = (posts.issue(ConnId(1)).unwrap(), posts.issue(ConnId(2)).unwrap());
        let mut held: Vec<UnderWay> = (0..16).map(|_| posts.begin(a).unwrap()).collect();
        assert_eq!(posts.begin(a).unwrap_err(), NoPost::TooMany);
        assert!(posts.begin(b).is_ok());
        held.pop();
        held.push(posts.begin(a).unwrap());
        assert_eq!(posts.begin(a).unwrap_err(), NoPost::TooMany);
        // The stream ends in between.
        posts.remove(a);
        held.clear();
        assert!(posts.tables.lock().under_way.is_empty());
    }

    #[test]
    fn a_crowd_that_left_gives_its_memory_back() {
        let posts = Arc::new(Posts::default());
        let tokens: Vec<_> = (0..5_000).map(|n| posts.issue(ConnId(n)).unwrap()).collect();
        let per_entry = size_of::<(PostToken, ConnId)>() + 1;
        assert!(per_entry <= 25, "{per_entry}");
        for token in tokens {
            posts.remove(token);
        }
        assert!(posts.tables.lock().streams.capacity() <= 2 * ROOM);
    }
}
