//! The messages of a gateway's stream: what nodes tell each other, in bytes.
//!
//! A message is a header and entries. The header holds the version, the node, the numbers that the
//! node gave it, and when it was made. All numbers are little-endian, texts and lists have their
//! length in front of them. What cannot be read is refused whole, so that no node acts on a half.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::connid::ConnId;
use crate::listener::protocol::node::Node;
use crate::listener::recipients::{ChannelTarget, Recipients};
use crate::text::position::Epoch;
use crate::ws::close;
use crate::ws::payload::Payload;

/// The version of this format.
const VERSION: u8 = 1;

/// All numbers that nodes count by are below this, so that adding to one never overflows.
const NUMBERS: u64 = 1 << 63;

/// Nodes that one sign of life can ask.
pub(super) const ASKED: usize = 64;

/// Bytes of a header.
pub(super) const HEADER: usize = 1 + 4 + 8 + 8 + 8;

/// The head of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Who made it.
    pub(super) node: Node,
    /// Its number among the messages of that node, from 1 on; 0 where it does not count.
    pub(super) number: u64,
    /// In core mode: how many deliveries the node has made before those in it.
    pub(super) before: u64,
    /// When it was made, in Unix milliseconds.
    pub(super) at: u64,
}

/// One thing that nodes are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// Send a message.
    Deliver {
        /// The message.
        payload: Payload,
        /// Who gets it.
        to: Recipients,
        /// Whether the maker wants to know what came of it.
        counts: bool,
    },
    /// Close a connection.
    Close {
        /// The connection.
        conn: ConnId,
        /// The close code.
        code: u16,
        /// The reason.
        reason: String,
        /// Whether the maker wants to know what came of it.
        counts: bool,
    },
    /// A connection of the maker has joined a channel.
    Joined(ConnId, Channel),
    /// A connection of the maker has left a channel; whether because it has ended.
    Left(ConnId, Channel, bool),
    /// The maker begins to tell all its members.
    Tells,
    /// Connections of the maker that are in a channel. After [`Entry::AllTold`], all are told.
    Members(Channel, Vec<ConnId>),
    /// The maker has told all its members.
    AllTold,
    /// The maker lives, and is so.
    Beat {
        /// Its open connections.
        connections: u64,
        /// Since when it runs, in Unix milliseconds.
        since: u64,
        /// The number of the last of its messages that it has seen in the stream.
        seen: u64,
        /// The epoch for which its marker stands in the stream.
        epoch: Option<Epoch>,
        /// The nodes whose members it does not know, some of them at least: it wants to be told.
        asks: Vec<Node>,
        /// The name that its config gives it.
        name: String,
    },
    /// The maker ends in order.
    Bye,
    /// The maker has come to the stream, or has read another epoch.
    Marker(Marker),
}

/// Where a node goes on in an epoch of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marker {
    /// The epoch.
    pub(super) epoch: Epoch,
    /// The number of the first message that it has not seen in the stream.
    pub(super) first: u64,
    /// The number of the last one that it has seen; 0 if there is none.
    pub(super) seen: u64,
    /// Which of its markers it is.
    pub(super) count: u64,
}

/// Begins a message.
pub(super) fn begin(header: Header) -> BytesMut {
    let mut out = BytesMut::with_capacity(256);
    out.put_u8(VERSION);
    out.put_u32_le(header.node.number());
    out.put_u64_le(header.number);
    out.put_u64_le(header.before);
    out.put_u64_le(header.at);
    out
}

const DELIVER: u8 = 1;
const CLOSE: u8 = 2;
const JOINED: u8 = 3;
const LEFT: u8 = 4;
const MEMBERS: u8 = 5;
const BEAT: u8 = 6;
const BYE: u8 = 7;
const ALL_TOLD: u8 = 8;
const MARKER: u8 = 9;
const TELLS: u8 = 10;

const BINARY: u8 = 1;
const COUNTS: u8 = 2;

const ALL: u8 = 0;
const ALL_BUT: u8 = 1;
const ONLY: u8 = 2;
const CHANNELS: u8 = 3;

/// Appends an entry.
pub(super) fn write(out: &mut BytesMut, entry: &Entry) {
    match entry {
        Entry::Deliver { payload, to, counts } => {
            out.put_u8(DELIVER);
            let binary = if payload.is_binary() { BINARY } else { 0 };
            out.put_u8(binary | if *counts { COUNTS } else { 0 });
            write_recipients(out, to);
            write_bytes(out, payload.bytes());
        }
        Entry::Close { conn, code, reason, counts } => {
            out.put_u8(CLOSE);
            out.put_u8(if *counts { COUNTS } else { 0 });
            out.put_u64_le(conn.0);
            out.put_u16_le(*code);
            write_bytes(out, reason.as_bytes());
        }
        Entry::Joined(conn, channel) => write_membership(out, JOINED, *conn, channel),
        Entry::Left(conn, channel, ended) => {
            write_membership(out, LEFT, *conn, channel);
            out.put_u8(u8::from(*ended));
        }
        Entry::Members(channel, conns) => {
            out.put_u8(MEMBERS);
            write_bytes(out, channel.as_str().as_bytes());
            write_conns(out, conns);
        }
        Entry::Beat { connections, since, seen, epoch, asks, name } => {
            out.put_u8(BEAT);
            out.put_u64_le(*connections);
            out.put_u64_le(*since);
            out.put_u64_le(*seen);
            let epoch = epoch.as_ref().map_or("", Epoch::as_str);
            write_bytes(out, epoch.as_bytes());
            out.put_u32_le(length(asks.len()));
            asks.iter().for_each(|node| out.put_u32_le(node.number()));
            write_bytes(out, name.as_bytes());
        }
        Entry::Tells => out.put_u8(TELLS),
        Entry::AllTold => out.put_u8(ALL_TOLD),
        Entry::Bye => out.put_u8(BYE),
        Entry::Marker(marker) => {
            out.put_u8(MARKER);
            write_bytes(out, marker.epoch.as_str().as_bytes());
            out.put_u64_le(marker.first);
            out.put_u64_le(marker.seen);
            out.put_u64_le(marker.count);
        }
    }
}

fn write_membership(out: &mut BytesMut, tag: u8, conn: ConnId, channel: &Channel) {
    out.put_u8(tag);
    out.put_u64_le(conn.0);
    write_bytes(out, channel.as_str().as_bytes());
}

fn write_recipients(out: &mut BytesMut, to: &Recipients) {
    match to {
        Recipients::All => out.put_u8(ALL),
        Recipients::AllBut(conns) => {
            out.put_u8(ALL_BUT);
            write_conns(out, conns);
        }
        Recipients::Only(conns) => {
            out.put_u8(ONLY);
            write_conns(out, conns);
        }
        Recipients::Members(target) => {
            out.put_u8(CHANNELS);
            out.put_u32_le(length(target.channels.len()));
            for channel in &target.channels {
                write_bytes(out, channel.as_str().as_bytes());
            }
            write_conns(out, &target.except);
        }
    }
}

fn write_conns(out: &mut BytesMut, conns: &[ConnId]) {
    out.put_u32_le(length(conns.len()));
    for conn in conns {
        out.put_u64_le(conn.0);
    }
}

fn write_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32_le(length(bytes.len()));
    out.put_slice(bytes);
}

/// Whoever writes keeps a message under the servers' `max_payload`, which is below 2^31.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Why a message cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// It is of this version of the format.
    Version(u8),
    /// It is not as this version of the format has it.
    Broken,
}

/// Reads a message.
///
/// # Errors
/// Why it cannot be read.
pub(super) fn read(bytes: &Bytes) -> Result<(Header, Vec<Entry>), Unread> {
    let mut rest = &bytes[..];
    match rest.try_get_u8() {
        Ok(VERSION) => read_message(rest).ok_or(Unread::Broken),
        // The other versions that there may ever be; anything else is not from wsgw.
        Ok(version @ 1..=31) => Err(Unread::Version(version)),
        _ => Err(Unread::Broken),
    }
}

fn read_message(mut rest: &[u8]) -> Option<(Header, Vec<Entry>)> {
    if rest.len() < HEADER - 1 {
        return None;
    }
    let node = Node::from_number(rest.get_u32_le())?;
    let (number, before) = (read_number(&mut rest)?, read_number(&mut rest)?);
    let header = Header { node, number, before, at: rest.get_u64_le() };
    let mut entries = Vec::new();
    while !rest.is_empty() {
        entries.push(read_entry(&mut rest)?);
    }
    Some((header, entries))
}

fn read_number(rest: &mut &[u8]) -> Option<u64> {
    rest.try_get_u64_le().ok().filter(|number| *number < NUMBERS)
}

fn read_nodes(rest: &mut &[u8]) -> Option<Vec<Node>> {
    let count = rest.try_get_u32_le().ok()? as usize;
    if count > ASKED {
        return None;
    }
    (0..count).map(|_| Node::from_number(rest.try_get_u32_le().ok()?)).collect()
}

fn read_entry(rest: &mut &[u8]) -> Option<Entry> {
    Some(match rest.try_get_u8().ok()? {
        DELIVER => {
            let flags = rest.try_get_u8().ok()?;
            let to = read_recipients(rest)?;
            let body = read_bytes(rest)?;
            let payload = match flags & BINARY {
                0 => Payload::text(std::str::from_utf8(body).ok()?),
                _ => Payload::binary(body),
            };
            Entry::Deliver { payload, to, counts: flags & COUNTS != 0 }
        }
        CLOSE => {
            let flags = rest.try_get_u8().ok()?;
            let conn = ConnId(rest.try_get_u64_le().ok()?);
            let code = rest.try_get_u16_le().ok().filter(|code| close::may_be_sent(*code))?;
            let reason = read_text(rest)?;
            Entry::Close { conn, code, reason, counts: flags & COUNTS != 0 }
        }
        JOINED => Entry::Joined(ConnId(rest.try_get_u64_le().ok()?), read_channel(rest)?),
        LEFT => {
            let (conn, channel) = (ConnId(rest.try_get_u64_le().ok()?), read_channel(rest)?);
            Entry::Left(conn, channel, rest.try_get_u8().ok()? != 0)
        }
        MEMBERS => Entry::Members(read_channel(rest)?, read_conns(rest)?),
        TELLS => Entry::Tells,
        ALL_TOLD => Entry::AllTold,
        BEAT => Entry::Beat {
            connections: rest.try_get_u64_le().ok()?,
            since: rest.try_get_u64_le().ok()?,
            seen: read_number(rest)?,
            epoch: Epoch::parse(&read_text(rest)?),
            asks: read_nodes(rest)?,
            name: read_text(rest)?,
        },
        BYE => Entry::Bye,
        MARKER => Entry::Marker(Marker {
            epoch: Epoch::parse(&read_text(rest)?)?,
            first: read_number(rest)?,
            seen: read_number(rest)?,
            count: rest.try_get_u64_le().ok()?,
        }),
        _ => return None,
    })
}

fn read_recipients(rest: &mut &[u8]) -> Option<Recipients> {
    Some(match rest.try_get_u8().ok()? {
        ALL => Recipients::All,
        ALL_BUT => Recipients::AllBut(read_conns(rest)?.into()),
        ONLY => Recipients::Only(read_conns(rest)?.into()),
        CHANNELS => {
            let count = rest.try_get_u32_le().ok()?;
            let mut channels = Vec::new();
            for _ in 0..count {
                channels.push(read_channel(rest)?);
            }
            ChannelTarget::recipients(channels, read_conns(rest)?)
        }
        _ => return None,
    })
}

fn read_conns(rest: &mut &[u8]) -> Option<Vec<ConnId>> {
    let count = rest.try_get_u32_le().ok()? as usize;
    if rest.len() / 8 < count {
        return None;
    }
    Some((0..count).map(|_| ConnId(rest.get_u64_le())).collect())
}

fn read_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = rest.try_get_u32_le().ok()? as usize;
    let (bytes, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(bytes)
}

fn read_text(rest: &mut &[u8]) -> Option<String> {
    std::str::from_utf8(read_bytes(rest)?).ok().map(str::to_owned)
}

fn read_channel(rest: &mut &[u8]) -> Option<Channel> {
    Channel::parse(std::str::from_utf8(read_bytes(rest)?).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries() -> Vec<Entry> {
        let channel = |name: &str| Channel::parse(name).unwrap();
        let conns = [ConnId(3), ConnId(9)];
        let deliver = |to, payload, counts| Entry::Deliver { payload, to, counts };
        vec![
            deliver(Recipients::All, Payload::text("grüße"), false),
            deliver(Recipients::AllBut(conns.into()), Payload::binary(&[0, 255]), true),
            deliver(Recipients::Only(conns.into()), Payload::text(""), true),
            deliver(
                ChannelTarget::recipients(vec![channel("a"), channel("b")], conns.to_vec()),
                Payload::text("x"),
                false,
            ),
            Entry::Close { conn: conns[0], code: 4001, reason: "weg".to_owned(), counts: true },
            Entry::Joined(conns[0], channel("a")),
            Entry::Left(conns[1], channel("a"), true),
            Entry::Tells,
            Entry::Members(channel("a"), conns.to_vec()),
            Entry::AllTold,
            Entry::Beat {
                connections: 7,
                since: 8,
                seen: 9,
                epoch: Epoch::parse("q7Zk2pYa"),
                asks: vec![Node::from_number(5).unwrap(), Node::from_number(9).unwrap()],
                name: "one".to_owned(),
            },
            Entry::Bye,
            Entry::Marker(Marker {
                epoch: Epoch::parse("q7Zk2pYa").unwrap(),
                first: 4,
                seen: 3,
                count: 5,
            }),
        ]
    }

    fn written(entries: &[Entry]) -> (Header, Bytes) {
        let header = Header { node: Node::from_number(77).unwrap(), number: 12, before: 3, at: 34 };
        let mut out = begin(header);
        entries.iter().for_each(|entry| write(&mut out, entry));
        (header, out.freeze())
    }

    #[test]
    fn a_message_comes_back_as_it_was_written() {
        let entries = entries();
        let (header, bytes) = written(&entries);
        assert_eq!(read(&bytes), Ok((header, entries)));
    }

    #[test]
    fn another_version_is_told_from_rubbish() {
        let (_, bytes) = written(&entries());
        let first = |byte: u8| {
            let mut bytes = bytes.to_vec();
            bytes[0] = byte;
            read(&Bytes::from(bytes)).map(drop)
        };
        assert_eq!(first(VERSION), Ok(()));
        assert_eq!(first(VERSION + 1), Err(Unread::Version(VERSION + 1)));
        assert_eq!(read(&Bytes::from_static(&[VERSION + 1])), Err(Unread::Version(VERSION + 1)));
        for byte in [0, b'{', 255] {
            assert_eq!(first(byte), Err(Unread::Broken));
        }
        assert_eq!(read(&Bytes::new()), Err(Unread::Broken));
        assert_eq!(read(&bytes.slice(..HEADER - 1)), Err(Unread::Broken));
    }

    #[test]
    fn forged_numbers_and_close_codes_are_refused() {
        let node = Node::from_number(77).unwrap();
        let good = Header { node, number: NUMBERS - 1, before: NUMBERS - 1, at: u64::MAX };
        let close =
            |code| Entry::Close { conn: ConnId(3), code, reason: String::new(), counts: false };
        let epoch = Epoch::parse("q7Zk2pYa").unwrap();
        let marker = |first| Entry::Marker(Marker { epoch, first, seen: 0, count: 1 });
        let is_read = |header: Header, entry: &Entry| {
            let mut out = begin(header);
            write(&mut out, entry);
            read(&out.freeze()).is_ok()
        };
        assert!(is_read(good, &Entry::Bye) && is_read(good, &close(4001)));
        assert!(is_read(good, &marker(NUMBERS - 1)));
        for number in [NUMBERS, u64::MAX] {
            assert!(!is_read(Header { number, ..good }, &Entry::Bye));
            assert!(!is_read(Header { before: number, ..good }, &Entry::Bye));
            assert!(!is_read(good, &marker(number)));
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65_535] {
            assert!(!is_read(good, &close(code)), "{code}");
        }
    }

    #[test]
    fn a_message_that_is_cut_is_refused_or_ends_behind_an_entry() {
        let entries = entries();
        let (_, bytes) = written(&entries);
        for length in 0..bytes.len() {
            let read = read(&bytes.slice(..length));
            let whole = read.ok().map(|(_, read)| read);
            assert!(whole.is_none_or(|read| entries.starts_with(&read)), "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes: Vec<u8>, at: usize, with: u8) {
            let _ = read(&Bytes::from(bytes.clone()));
            bytes = written(&entries()).1.to_vec();
            let at = at % bytes.len();
            bytes[at] = with;
            let _ = read(&Bytes::from(bytes));
        }
    }
}
