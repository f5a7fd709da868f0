//! WebSocket frames (RFC 6455 section 5): those for clients are encoded once, header and payload
//! in one buffer that all recipients share; those from clients are taken apart in place.
//!
//! The header's own format is tungstenite's; the rules of section 5 that need to know the state of
//! a connection are checked by `gateway::reader`.

use std::io::Cursor;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
pub use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::ws::close;

/// Most bytes a frame's header can have from a client: 2, length 8, mask 4.
pub const MAX_HEADER: usize = 14;

fn encode_into(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    let header = FrameHeader { is_final: true, opcode, ..FrameHeader::default() };
    // Writing to a Vec cannot fail.
    let _ = header.format(payload.len() as u64, out);
    out.extend_from_slice(payload);
}

fn encode(opcode: OpCode, payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(payload.len() + 10);
    encode_into(&mut out, opcode, payload);
    Bytes::from(out)
}

/// A whole text message in one frame.
pub fn text(payload: &str) -> Bytes {
    encode(OpCode::Data(Data::Text), payload.as_bytes())
}

/// A whole binary message in one frame.
pub fn binary(payload: &[u8]) -> Bytes {
    encode(OpCode::Data(Data::Binary), payload)
}

/// A ping.
pub fn ping(payload: &[u8]) -> Bytes {
    encode(OpCode::Control(Control::Ping), payload)
}

/// Appends a pong with the ping's payload.
pub fn pong(out: &mut Vec<u8>, payload: &[u8]) {
    encode_into(out, OpCode::Control(Control::Pong), payload);
}

/// A Close; `None` has an empty payload. The reason is cut at what fits.
pub fn close(code: Option<u16>, reason: &str) -> Bytes {
    let mut payload = Vec::with_capacity(125);
    if let Some(code) = code {
        payload.extend_from_slice(&code.to_be_bytes());
        payload.extend_from_slice(close::cut_reason(reason).as_bytes());
    }
    encode(OpCode::Control(Control::Close), &payload)
}

/// The payload of a frame that [`text`] or [`binary`] made.
pub fn payload_of(frame: &Bytes) -> Bytes {
    let head = match frame.get(1).map(|b| b & 0x7f) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    };
    frame.slice(head.min(frame.len())..)
}

/// A client's frame header.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// FIN.
    pub last: bool,
    /// What it is; never a reserved one.
    pub opcode: OpCode,
    /// The mask; `None` is a violation by a client (section 5.1).
    pub mask: Option<[u8; 4]>,
    /// Bytes of the header.
    pub size: usize,
    /// Bytes of the payload.
    pub length: u64,
}

/// The opcode is a reserved one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved;

/// Reads a header from the front of `bytes`: `Ok(None)` when it is not all there.
///
/// # Errors
/// A reserved opcode.
pub fn head(bytes: &[u8]) -> Result<Option<Head>, Reserved> {
    let mut cursor = Cursor::new(bytes);
    match FrameHeader::parse(&mut cursor) {
        Ok(None) => Ok(None),
        Ok(Some((header, length))) => Ok(Some(Head {
            last: header.is_final,
            opcode: header.opcode,
            mask: header.mask,
            size: usize::try_from(cursor.position()).unwrap_or(MAX_HEADER),
            length,
        })),
        Err(_) => Err(Reserved),
    }
}

/// Takes the mask off, in place (RFC 6455 section 5.3).
pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from_ne_bytes([
        mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3],
    ]);
    let (chunks, tail) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(mask) {
        *byte ^= key;
    }
    for (byte, key) in tail.iter_mut().skip(4).zip(mask) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn unmasking_is_the_rfcs_xor(payload: Vec<u8>, mask: [u8; 4]) {
            let mut ours = payload.clone();
            unmask(&mut ours, mask);
            let rfc: Vec<u8> =
                payload.iter().enumerate().map(|(i, b)| b ^ mask[i % 4]).collect();
            prop_assert_eq!(ours, rfc);
        }

        #[test]
        fn heads_never_panic(bytes: Vec<u8>) {
            let _ = head(&bytes);
        }
    }

    #[test]
    fn a_frame_gives_its_payload_back_at_every_length_format() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            assert_eq!(payload_of(&binary(&payload)), payload, "{length}");
        }
    }

    #[test]
    fn a_head_is_read_when_it_is_all_there() {
        let whole = [0x82, 0xfe, 0x01, 0x00, 1, 2, 3, 4];
        for cut in 0..whole.len() {
            assert!(head(&whole[..cut]).unwrap().is_none(), "{cut} bytes");
        }
        let head = head(&whole).unwrap().unwrap();
        assert_eq!((head.size, head.length, head.mask), (8, 256, Some([1, 2, 3, 4])));
        assert!(super::head(&[0x83, 0x80, 0, 0, 0, 0]).is_err(), "a reserved opcode");
    }
}
