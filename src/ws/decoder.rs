//! Frames from a client: the rules of RFC 6455 sections 5 to 8 that need a connection's state, and
//! those of permessage-deflate (RFC 7692 section 6) where it was agreed.
//!
//! Pure: bytes in, one [`Item`] at a time out. Payloads are unmasked in place.

use bytes::Bytes;

use crate::ws::close;
use crate::ws::close::Closing;
use crate::ws::deflate::inflate::{Inflater, compressed_bound};
use crate::ws::frame;
use crate::ws::frame::{Header, MAX_CONTROL, OpCode, RSV1};
use crate::ws::payload::Payload;

/// The result of looking at the front of the bytes.
#[derive(Debug)]
pub enum Step {
    /// The frame is not complete; this many bytes are needed to go on.
    Need(usize),
    /// A frame of this many bytes.
    Frame(usize, Item),
    /// The client broke the rules: this Close answers it, and nothing more is read.
    Violation(Closing),
}

/// The content of a frame.
#[derive(Debug)]
pub enum Item {
    /// A part of a message, or a pong: nothing to do.
    Nothing,
    /// A whole message, and the bytes of its payload as they came: compressed, if it was.
    Message(Payload, usize),
    /// A ping with this payload.
    Ping(Bytes),
    /// A Close with its code and reason, or an empty one.
    Close(Option<(u16, String)>),
}

/// What the first frame of a message says of it.
#[derive(Debug, Clone, Copy)]
struct Form {
    /// Whether it is binary.
    binary: bool,
    /// Whether it is compressed.
    compressed: bool,
}

/// A fragmented message whose last part has not arrived.
#[derive(Debug)]
pub struct Fragments {
    form: Form,
    /// The payload so far, as it came; the decoder keeps it within the bound of a message, or what
    /// such a message takes at most when it is compressed.
    pub payload: Vec<u8>,
    /// How many bytes of a text were found to be UTF-8.
    checked: usize,
}

/// Takes one frame from the front of `bytes`. `max` bounds the payload of a whole message in bytes.
/// With an `inflater` messages may be compressed: one that is agreed with the client on this.
///
/// What is wrong with a frame is said as soon as its first bytes show it: the rest, which may be
/// endless, is not waited for. Of a compressed message that holds for its frames; what is in it
/// shows when its last frame has come.
pub fn next(
    bytes: &mut [u8],
    fragments: &mut Option<Box<Fragments>>,
    max: usize,
    inflater: Option<&mut Inflater>,
) -> Step {
    let Some(header) = Header::read(bytes) else { return Step::Need(2) };
    let Some(opcode) = expected(header, fragments.is_some(), inflater.is_some()) else {
        return Step::Violation(close::PROTOCOL_ERROR);
    };
    let length = match header.payload_length(bytes) {
        Ok(Some(length)) => length,
        Ok(None) => return Step::Need(header.size()),
        Err(frame::BadLength) => return Step::Violation(close::PROTOCOL_ERROR),
    };
    let (before, compressed) = match fragments {
        Some(fragments) if !opcode.is_control() => {
            (fragments.payload.len(), fragments.form.compressed)
        }
        _ => (0, header.reserved_bits() == RSV1),
    };
    let bound = match opcode.is_control() {
        true => MAX_CONTROL,
        false if compressed => compressed_bound(max),
        false => max,
    };
    // A length that does not fit in usize is too big all the more.
    let length = usize::try_from(length).ok();
    let Some(length) = length.filter(|n| n.checked_add(before).is_some_and(|whole| whole <= bound))
    else {
        // A control frame's length was checked by `expected`.
        return Step::Violation(close::TOO_BIG);
    };
    let Some(mask) = header.mask(bytes) else { return Step::Need(header.size()) };
    let Some(end) = header.size().checked_add(length) else {
        return Step::Violation(close::TOO_BIG);
    };
    let Some(payload) = bytes.get_mut(header.size()..end) else { return Step::Need(end) };
    frame::unmask(payload, mask);
    let item = match opcode {
        OpCode::Ping => Ok(Item::Ping(Bytes::copy_from_slice(payload))),
        OpCode::Pong => Ok(Item::Nothing),
        OpCode::Close => close_item(payload),
        OpCode::Continuation | OpCode::Text | OpCode::Binary => {
            let form = Form { binary: opcode == OpCode::Binary, compressed };
            data_item(form, header.is_last(), payload, fragments, max, inflater)
        }
    };
    match item {
        Ok(item) => Step::Frame(end, item),
        Err(closing) => Step::Violation(closing),
    }
}

/// The opcode, if a client may send a frame that begins with this header now. `under_way` says
/// whether a fragmented message has begun, `may_compress` whether compression was agreed.
fn expected(header: Header, under_way: bool, may_compress: bool) -> Option<OpCode> {
    let opcode = header.opcode()?;
    let in_place = match opcode {
        OpCode::Continuation => under_way,
        OpCode::Text | OpCode::Binary => !under_way,
        // Section 5.5: not fragmented, and a length that needs no further bytes.
        OpCode::Close | OpCode::Ping | OpCode::Pong => {
            header.is_last() && header.short_length() <= MAX_CONTROL
        }
    };
    let reserved_in_place = match header.reserved_bits() {
        0 => true,
        // RFC 7692 section 6.1: on the first frame of a message, and not on control frames.
        RSV1 => may_compress && matches!(opcode, OpCode::Text | OpCode::Binary),
        _ => false,
    };
    (in_place && reserved_in_place && header.is_masked()).then_some(opcode)
}

/// A whole message, or a part of one. `form` is what the frame says of itself: that of a
/// continuation is the form of the message it belongs to.
fn data_item(
    form: Form,
    last: bool,
    payload: &[u8],
    fragments: &mut Option<Box<Fragments>>,
    max: usize,
    inflater: Option<&mut Inflater>,
) -> Result<Item, Closing> {
    if last && fragments.is_none() {
        return message(form, payload, max, inflater);
    }
    let whole = fragments
        .get_or_insert_with(|| Box::new(Fragments { form, payload: Vec::new(), checked: 0 }));
    whole.payload.extend_from_slice(payload);
    if !whole.form.binary && !whole.form.compressed {
        // Fails as soon as no continuation can make it UTF-8 (section 8.1).
        match std::str::from_utf8(&whole.payload[whole.checked..]) {
            Ok(_) => whole.checked = whole.payload.len(),
            Err(e) if e.error_len().is_none() && !last => whole.checked += e.valid_up_to(),
            Err(_) => return Err(close::INVALID_TEXT),
        }
    }
    if !last {
        return Ok(Item::Nothing);
    }
    let Some(whole) = fragments.take() else { return Ok(Item::Nothing) };
    // A text was checked piece by piece; checking the whole once more is cheaper than a proof.
    message(whole.form, &whole.payload, max, inflater)
}

/// A whole message of this payload.
fn message(
    form: Form,
    payload: &[u8],
    max: usize,
    inflater: Option<&mut Inflater>,
) -> Result<Item, Closing> {
    let bytes = match inflater.filter(|_| form.compressed) {
        Some(inflater) => inflater.message(payload, max)?,
        None => payload,
    };
    let message = if form.binary {
        Payload::binary(bytes)
    } else {
        Payload::text(std::str::from_utf8(bytes).map_err(|_| close::INVALID_TEXT)?)
    };
    Ok(Item::Message(message, payload.len()))
}

fn close_item(payload: &[u8]) -> Result<Item, Closing> {
    match payload {
        [] => Ok(Item::Close(None)),
        [_] => Err(close::PROTOCOL_ERROR),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !close::may_be_sent(code) {
                return Err(close::PROTOCOL_ERROR);
            }
            let reason = std::str::from_utf8(reason).map_err(|_| close::INVALID_TEXT)?;
            Ok(Item::Close(Some((code, reason.to_owned()))))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1000;

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            n @ 0..126 => out.push(0x80 | n as u8),
            n => {
                out.push(0x80 | 126);
                out.extend_from_slice(&(n as u16).to_be_bytes());
            }
        }
        let mask = [7u8, 3, 99, 200];
        out.extend_from_slice(&mask);
        out.extend(payload.iter().enumerate().map(|(i, b)| b ^ mask[i % 4]));
        out
    }

    fn all(bytes: Vec<u8>) -> (Vec<Item>, Option<u16>) {
        all_with(bytes, None)
    }

    fn all_compressed(bytes: Vec<u8>) -> (Vec<Item>, Option<u16>) {
        all_with(bytes, Some(&mut Inflater::default()))
    }

    fn all_with(
        mut bytes: Vec<u8>,
        mut inflater: Option<&mut Inflater>,
    ) -> (Vec<Item>, Option<u16>) {
        let (mut items, mut fragments, mut at) = (Vec::new(), None, 0);
        while at < bytes.len() {
            match next(&mut bytes[at..], &mut fragments, MAX, inflater.as_deref_mut()) {
                Step::Need(_) => break,
                Step::Frame(n, item) => {
                    at += n;
                    items.push(item);
                }
                Step::Violation((code, _)) => return (items, Some(code)),
            }
        }
        (items, None)
    }

    #[test]
    fn a_fragmented_text_with_a_ping_between_is_one_message() {
        let bytes = [
            masked(0x01, "gr\u{fc}".as_bytes().split_at(3).0),
            masked(0x89, b"p"),
            masked(0x80, &"gr\u{fc}n".as_bytes()[3..]),
        ]
        .concat();
        let (items, violation) = all(bytes);
        assert_eq!(violation, None);
        let [Item::Nothing, Item::Ping(ping), Item::Message(message, 5)] = &items[..] else {
            panic!("{items:?}")
        };
        assert_eq!(&ping[..], b"p");
        assert_eq!(message.bytes(), "grün".as_bytes());
    }

    #[test]
    fn violations_have_their_close_codes() {
        let cases: &[(Vec<u8>, u16)] = &[
            (vec![0x81, 0x01, b'x'], 1002),
            (masked(0xc1, b"x"), 1002),
            (masked(0x83, b"x"), 1002),
            (masked(0x8b, b""), 1002),
            (masked(0x80, b"x"), 1002),
            ([masked(0x01, b"x"), masked(0x81, b"x")].concat(), 1002),
            (masked(0x09, b"x"), 1002),
            (masked(0x89, &[0; 126]), 1002),
            (masked(0x88, &[3]), 1002),
            (masked(0x88, &1005u16.to_be_bytes()), 1002),
            (masked(0x88, b"\x03\xe8\xff"), 1007),
            (masked(0x81, b"\xff"), 1007),
            (masked(0x81, b"\xe2\x82"), 1007),
            (masked(0x01, b"\xf0\x80"), 1007),
            (masked(0x82, &[0; MAX + 1]), 1009),
            ([masked(0x02, &[0; MAX]), masked(0x80, b"x")].concat(), 1009),
        ];
        for (bytes, code) in cases {
            assert_eq!(all(bytes.clone()).1, Some(*code), "{bytes:x?}");
        }
    }

    #[test]
    fn a_violation_shows_before_the_frame_is_there() {
        let cases: &[(&[u8], u16)] = &[
            (&[0x81, 0x05], 1002),
            (&[0x83, 0x85], 1002),
            (&[0xf1, 0x85], 1002),
            (&[0x09, 0x85], 1002),
            (&[0x80, 0x85], 1002),
            (&[0x89, 0xfe], 1002),
            (&[0x81, 0xfe, 0x00, 0x7d], 1002),
            (&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], 1002),
            (&[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], 1002),
            (&[0x81, 0xfe, 0x03, 0xe9], 1009),
            (&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0], 1009),
            (&[0x02, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255], 1009),
        ];
        for (bytes, code) in cases {
            assert_eq!(all(bytes.to_vec()).1, Some(*code), "{bytes:x?}");
        }
        assert_eq!(all(vec![0x81, 0xfe, 0x03, 0xe8]).1, None);
        let behind = [masked(0x02, &[0; MAX - 5]), vec![0x80, 0x86]].concat();
        assert_eq!(all(behind).1, Some(1009));
    }

    /// "Hello" as RFC 7692 section 7.2.3.1 has it.
    const HELLO: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

    #[test]
    fn compressed_messages_are_inflated_whole_and_in_fragments() {
        let (first, rest) = HELLO.split_at(3);
        let bytes = [
            masked(0xc1, HELLO),
            masked(0x42, first),
            masked(0x89, b"p"),
            masked(0x00, b""),
            masked(0x80, rest),
            masked(0x81, b"plain"),
        ]
        .concat();
        let (items, violation) = all_compressed(bytes);
        assert_eq!(violation, None);
        let messages: Vec<_> = items
            .iter()
            .filter_map(|item| match item {
                Item::Message(message, length) => Some((message.clone(), *length)),
                _ => None,
            })
            .collect();
        assert_eq!(
            messages,
            [
                (Payload::text("Hello"), HELLO.len()),
                (Payload::binary(b"Hello"), HELLO.len()),
                (Payload::text("plain"), 5),
            ]
        );
    }

    #[test]
    fn rsv1_stands_on_the_first_frame_of_a_message_alone_and_only_where_agreed() {
        let after_first = |next: Vec<u8>| [masked(0x01, b"x"), next].concat();
        let cases: &[(Vec<u8>, u16)] = &[
            (after_first(masked(0xc0, HELLO)), 1002),
            ([masked(0x41, &HELLO[..3]), masked(0xc0, &HELLO[3..])].concat(), 1002),
            (after_first(masked(0xc1, HELLO)), 1002),
            (masked(0xc0, HELLO), 1002),
            (masked(0xc8, b""), 1002),
            (masked(0xc9, b"x"), 1002),
            (masked(0xca, b"x"), 1002),
            (masked(0xa1, HELLO), 1002),
            (masked(0x91, HELLO), 1002),
            (masked(0xe1, HELLO), 1002),
            (masked(0xc3, HELLO), 1002),
            // Uncompressed where it says otherwise, cut off, no text, no whole character.
            (masked(0xc1, b"Hello"), 1007),
            (masked(0xc2, &HELLO[..5]), 1007),
            (masked(0xc1, &[0x00, 0x01, 0x00, 0xfe, 0xff, 0xff, 0x00]), 1007),
            (masked(0xc1, &[0x00, 0x02, 0x00, 0xfd, 0xff, 0xe2, 0x82, 0x00]), 1007),
            // As it came it may be an eighth longer, inflated it may not.
            (masked(0xc2, &[0; MAX + MAX / 8 + 65]), 1009),
            ([masked(0x42, &[0; MAX]), masked(0x80, &[0; MAX / 8 + 65])].concat(), 1009),
        ];
        for (bytes, code) in cases {
            assert_eq!(all(bytes.clone()).1, Some(1002), "{bytes:x?}");
            assert_eq!(all_compressed(bytes.clone()).1, Some(*code), "{bytes:x?}");
        }
    }

    proptest! {
        /// No bytes of a client make it panic, and it always goes on or asks for more than it has.
        #[test]
        fn any_bytes(bytes: Vec<u8>, compressed: bool) {
            let mut bytes = bytes;
            let mut inflater = compressed.then(Inflater::default);
            let (mut fragments, mut at) = (None, 0);
            while at < bytes.len() {
                match next(&mut bytes[at..], &mut fragments, 100, inflater.as_mut()) {
                    Step::Need(n) => {
                        prop_assert!(n > bytes.len() - at);
                        break;
                    }
                    Step::Frame(n, _) => {
                        prop_assert!(n > 0);
                        at += n;
                    }
                    Step::Violation(_) => break,
                }
            }
        }
    }
}
