//! Frames (RFC 6455 section 5): those for clients are encoded here, each once, header and payload
//! in one buffer that all recipients share; the header of a client's frame is taken apart here.
//!
//! The rules that need more than one header (fragments, sizes, control frames) are checked by
//! [`crate::ws::decoder`].

use bytes::Bytes;

use crate::ws::close;

/// The largest header of a client's frame in bytes: 2, a length of 8, a mask of 4.
pub const MAX_HEADER: usize = 14;

/// The largest payload of a control frame in bytes (section 5.5).
pub(crate) const MAX_CONTROL: usize = 125;

/// FIN, the first byte's highest bit: the frame is the last one of its message.
pub(crate) const FIN: u8 = 0x80;

/// RSV1: the message is compressed; on the first frame of a message only (RFC 7692 section 6).
pub const RSV1: u8 = 0x40;

/// The second byte's highest bit: the payload is masked.
const MASKED: u8 = 0x80;

/// The meaning of a frame (section 5.2). The other ten values are reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum OpCode {
    /// A further part of a fragmented message.
    Continuation = 0,
    /// The whole or the first part of a text message.
    Text = 1,
    /// The whole or the first part of a binary message.
    Binary = 2,
    /// The end of the connection.
    Close = 8,
    /// Asks for a pong.
    Ping = 9,
    /// Answers a ping, or is sent unasked as a sign of life.
    Pong = 10,
}

impl OpCode {
    /// Whether it is one of the control frames, which are never fragmented and carry at most
    /// [`MAX_CONTROL`] bytes.
    pub(crate) fn is_control(self) -> bool {
        self as u8 & 8 != 0
    }
}

/// The first two bytes of a frame. They say how long the rest of the header is; what stands in that
/// rest is read as soon as it has arrived.
#[derive(Debug, Clone, Copy)]
pub struct Header([u8; 2]);

/// A payload length that is not in its shortest form, or whose highest bit is set (section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadLength;

impl Header {
    /// The header at the front of `bytes`; `None` for fewer than two bytes.
    pub fn read(bytes: &[u8]) -> Option<Header> {
        bytes.first_chunk().copied().map(Header)
    }

    /// FIN: whether this frame is the last one of its message.
    pub fn is_last(self) -> bool {
        self.0[0] & FIN != 0
    }

    /// RSV1 to RSV3, in the places where they stand (0x40, 0x20, 0x10). Zero unless an extension
    /// was agreed on, which can be that of [`RSV1`].
    pub fn reserved_bits(self) -> u8 {
        self.0[0] & 0x70
    }

    /// `None` for a reserved one.
    pub fn opcode(self) -> Option<OpCode> {
        Some(match self.0[0] & 0x0f {
            0 => OpCode::Continuation,
            1 => OpCode::Text,
            2 => OpCode::Binary,
            8 => OpCode::Close,
            9 => OpCode::Ping,
            10 => OpCode::Pong,
            _ => return None,
        })
    }

    /// Whether the payload is masked, as a client's must be and a server's must not (section 5.1).
    pub fn is_masked(self) -> bool {
        self.0[1] & MASKED != 0
    }

    /// The 7 bits of a length: the length itself up to 125, else the sign that further bytes have it.
    pub(crate) fn short_length(self) -> usize {
        usize::from(self.0[1] & 0x7f)
    }

    /// The size of the whole header in bytes.
    pub fn size(self) -> usize {
        let length = match self.short_length() {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if self.is_masked() { 4 } else { 0 }
    }

    /// The length of the payload; `None` while `bytes`, which begin with this header, hold only a
    /// part of it.
    ///
    /// # Errors
    /// A length that section 5.2 forbids.
    pub fn payload_length(self, bytes: &[u8]) -> Result<Option<u64>, BadLength> {
        let extended = bytes.get(2..).unwrap_or_default();
        let (length, least) = match self.short_length() {
            126 => (extended.first_chunk().map(|n| u64::from(u16::from_be_bytes(*n))), 126),
            127 => (extended.first_chunk().map(|n| u64::from_be_bytes(*n)), 1 << 16),
            short => (Some(short as u64), 0),
        };
        match length {
            Some(n) if n < least || n >> 63 != 0 => Err(BadLength),
            length => Ok(length),
        }
    }

    /// The mask; `None` where there is none, or while `bytes` do not hold the whole header.
    pub(crate) fn mask(self, bytes: &[u8]) -> Option<[u8; 4]> {
        let header = bytes.get(..self.size())?;
        if self.is_masked() { header.last_chunk().copied() } else { None }
    }
}

/// Appends a server's header: the frame is a whole message, and it is not masked. `first` is the
/// first byte.
fn push_header(out: &mut Vec<u8>, first: u8, length: usize) {
    match length {
        0..126 => out.extend_from_slice(&[first, length as u8]),
        126..65_536 => {
            let [high, low] = (length as u16).to_be_bytes();
            out.extend_from_slice(&[first, 126, high, low]);
        }
        _ => {
            out.extend_from_slice(&[first, 127]);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Appends an unmasked frame with this first byte.
pub(crate) fn push_frame(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    push_header(out, first, payload.len());
    out.extend_from_slice(payload);
}

fn encode_with(first: u8, payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(payload.len() + 10);
    push_frame(&mut out, first, payload);
    Bytes::from(out)
}

fn encode(opcode: OpCode, payload: &[u8]) -> Bytes {
    encode_with(FIN | opcode as u8, payload)
}

/// A whole text message in one frame.
pub fn text(payload: &str) -> Bytes {
    encode(OpCode::Text, payload.as_bytes())
}

/// A whole binary message in one frame.
pub fn binary(payload: &[u8]) -> Bytes {
    encode(OpCode::Binary, payload)
}

/// A whole text or binary message in one frame whose payload was compressed.
pub(crate) fn compressed(opcode: OpCode, payload: &[u8]) -> Bytes {
    encode_with(FIN | RSV1 | opcode as u8, payload)
}

/// A ping; the payload is at most [`MAX_CONTROL`] bytes.
pub(crate) fn ping(payload: &[u8]) -> Bytes {
    encode(OpCode::Ping, payload)
}

/// Appends a pong with the ping's payload.
pub(crate) fn pong(out: &mut Vec<u8>, payload: &[u8]) {
    push_frame(out, FIN | OpCode::Pong as u8, payload);
}

/// A Close (section 5.5.1); without a code its payload is empty. The reason is cut at what fits.
pub(crate) fn close(code: Option<u16>, reason: &str) -> Bytes {
    let mut payload = Vec::with_capacity(MAX_CONTROL);
    if let Some(code) = code {
        payload.extend_from_slice(&code.to_be_bytes());
        payload.extend_from_slice(close::cut_reason(reason).as_bytes());
    }
    encode(OpCode::Close, &payload)
}

/// Bytes of the header of a frame that [`text`] or [`binary`] made.
pub fn header_len(frame: &[u8]) -> usize {
    Header::read(frame).map_or(0, Header::size).min(frame.len())
}

/// Takes the mask off, in place (section 5.3).
pub(crate) fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from_ne_bytes([
        mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3],
    ]);
    let (chunks, tail) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
    use tokio_tungstenite::tungstenite::protocol::frame::coding as theirs;

    use super::*;

    proptest! {
        #[test]
        fn unmasking_is_the_xor_of_section_5_3(payload: Vec<u8>, mask: [u8; 4]) {
            let mut ours = payload.clone();
            unmask(&mut ours, mask);
            let expected: Vec<u8> =
                payload.iter().enumerate().map(|(i, b)| b ^ mask[i % 4]).collect();
            prop_assert_eq!(ours, expected);
        }

        /// Tungstenite's parser is the second opinion on every header, whole or not.
        #[test]
        fn headers_are_read_as_tungstenite_reads_them(
            first: u8,
            second: u8,
            mut rest in proptest::collection::vec(any::<u8>(), 0..14),
        ) {
            rest.insert(0, second);
            rest.insert(0, first);
            let ours = Header::read(&rest).unwrap();
            let mut cursor = std::io::Cursor::new(&rest[..]);
            match FrameHeader::parse(&mut cursor) {
                Err(_) => prop_assert_eq!(ours.opcode(), None),
                Ok(None) => prop_assert!(rest.len() < ours.size()),
                Ok(Some((header, length))) => {
                    prop_assert_eq!(cursor.position(), ours.size() as u64);
                    prop_assert_eq!(ours.is_last(), header.is_final);
                    prop_assert_eq!(ours.mask(&rest), header.mask);
                    let rsv = [header.rsv1, header.rsv2, header.rsv3];
                    let bits = [0x40, 0x20, 0x10].map(|bit| ours.reserved_bits() & bit != 0);
                    prop_assert_eq!(bits, rsv);
                    prop_assert_eq!(ours.opcode().map(|o| o as u8), Some(header.opcode.into()));
                    // Only we insist on the shortest form.
                    if let Ok(ours) = ours.payload_length(&rest) {
                        prop_assert_eq!(ours, Some(length));
                    }
                }
            }
        }
    }

    #[test]
    fn headers_are_written_as_tungstenite_writes_them() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
            let payload = vec![b'x'; length];
            let mut expected = Vec::new();
            let opcode = theirs::OpCode::Data(theirs::Data::Binary);
            let header = FrameHeader { is_final: true, opcode, ..FrameHeader::default() };
            header.format(length as u64, &mut expected).unwrap();
            expected.extend_from_slice(&payload);
            let frame = binary(&payload);
            assert_eq!(frame, expected, "{length}");
            assert_eq!(frame[header_len(&frame)..], payload, "{length}");
        }
        assert_eq!(close(Some(1000), "bye")[..], *b"\x88\x05\x03\xe8bye");
        assert_eq!(close(None, "no code, no reason")[..], *b"\x88\x00");
        assert_eq!(ping(b"x")[..], *b"\x89\x01x");
        let mut out = Vec::new();
        pong(&mut out, b"x");
        assert_eq!(out, b"\x8a\x01x");
    }

    #[test]
    fn a_length_is_read_as_soon_as_it_is_there() {
        let whole = [0x82, 0xfe, 0x01, 0x00, 1, 2, 3, 4];
        let header = Header::read(&whole).unwrap();
        assert_eq!(header.size(), 8);
        assert_eq!(header.payload_length(&whole[..3]), Ok(None));
        assert_eq!(header.payload_length(&whole[..4]), Ok(Some(256)));
        assert_eq!((header.mask(&whole[..7]), header.mask(&whole)), (None, Some([1, 2, 3, 4])));
        assert!(Header::read(&whole[..1]).is_none());
    }

    #[test]
    fn lengths_have_their_shortest_form() {
        let length = |bytes: &[u8]| Header::read(bytes).unwrap().payload_length(bytes);
        assert_eq!(length(&[0x82, 126, 0, 125]), Err(BadLength));
        assert_eq!(length(&[0x82, 126, 0, 126]), Ok(Some(126)));
        assert_eq!(length(&[0x82, 127, 0, 0, 0, 0, 0, 0, 255, 255]), Err(BadLength));
        assert_eq!(length(&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]), Ok(Some(65_536)));
        assert_eq!(length(&[0x82, 127, 128, 0, 0, 0, 0, 1, 0, 0]), Err(BadLength));
    }
}
