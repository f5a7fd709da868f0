//! RFC 6455, pure: bytes and values in, bytes and values out; no I/O, no clock, no settings.
//!
//! - [`body`]: the body of an HTTP request, RFC 9112 section 6;
//! - [`frame`] and [`decoder`]: section 5, one header parser for both directions;
//! - [`close`]: close codes and reasons, section 7.4;
//! - [`request`], [`handshake`], [`response`]: the opening handshake, section 4, and HTTP as far as
//!   it is needed for it;
//! - [`deflate`]: permessage-deflate, RFC 7692;
//! - [`origin`]: section 10.2;
//! - [`payload`]: a message on its way through the gateway;
//! - [`reason`]: why a client is refused.
//!
//! # Why not tungstenite's
//!
//! `wsgw connect` is a tungstenite client. A gateway needs two things that its server does not
//! offer: a frame that is encoded once for all recipients, and a decoder that keeps no buffer for
//! each connection but works in the one that a shard's connections share. A protocol error shows
//! there with a frame's first bytes, before a payload without an end is waited for. What would be
//! left to take from tungstenite is a header's format, which is some thirty lines here; taking it
//! meant to parse each header twice. It is the second opinion in the tests and the fuzz targets.
//!
//! Nothing here imports `config`, `listener` or `gateway`.

pub mod body;
pub mod close;
pub mod decoder;
pub mod deflate;
pub mod frame;
pub mod handshake;
pub mod origin;
pub mod payload;
pub mod reason;
pub mod request;
pub mod response;
