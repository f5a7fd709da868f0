//! The control port: HTTP/1.1 with JSON, where the host's own programs talk to `wsgw serve`.
//!
//! [`bind`] takes the address and writes the file in which clients find URL and token
//! ([`crate::api::file`]); [`Bound::run`] accepts connections, bounded in number and time; [`guard`]
//! says who may ask; `routes` turns requests into calls of a [`backend::Backend`]; `ndjson` and
//! `results` handle streams of structs, `frames` those of kept messages; `lists` answers what is asked
//! of connections, channels and history; `page` is the operators' page, `operators` what it and others
//! ask for; `watch` tells once a second how everything stands and `tail` shows what listeners are told
//! and answer, as server-sent events (`events`). Nothing here knows how gateways work.
//!
//! All of it runs on the control runtime. The table of connections and the results of a stream are
//! behind locks that are never held across an await.

pub mod backend;
mod bind;
mod body;
mod busy;
mod events;
mod examine;
mod frames;
pub mod guard;
mod lists;
mod ndjson;
mod operators;
mod page;
mod publication;
mod query;
mod results;
mod routes;
mod secret;
mod serve;
mod tail;
mod unix;
mod watch;

pub use bind::{Bound, bind};
pub(crate) use examine::what_is_wrong;
#[doc(hidden)]
pub use {body::Budget, ndjson::StructLines, page::Page, query::Query};
