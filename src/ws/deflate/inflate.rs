//! Compressed messages back into payloads (RFC 7692 section 7.2.2), under a bound.

use std::fmt;

use flate2::{Decompress, FlushDecompress, Status};

use crate::ws::close;
use crate::ws::close::Closing;
use crate::ws::deflate::compress::TAIL;

/// What is put behind a message that stands alone: the tail that it is sent without, and a last
/// block that is empty. The stream ends there exactly if the message was whole.
const END: [u8; 6] = [0, 0, 0xff, 0xff, 3, 0];

/// Bytes of the buffer that are kept for the next message.
const KEPT: usize = 256 * 1024;

/// Bytes of the buffer for a message that may turn out to be small.
const FIRST: usize = 4 * 1024;

/// The most bytes that a message of so many bytes may take when it is compressed: zlib makes it an
/// eighth longer at worst, where nothing can be saved.
pub(crate) fn compressed_bound(max: usize) -> usize {
    max.saturating_add(max / 8).saturating_add(64)
}

/// Inflates messages, one at a time; its state, about 50 KB, is made when the first one comes.
#[derive(Default)]
pub struct Inflater {
    state: Option<Box<Decompress>>,
    out: Vec<u8>,
    /// Whether messages may refer to those before.
    takeover: bool,
    /// Whether nobody wants what comes out.
    blind: bool,
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("takeover", &self.takeover).finish_non_exhaustive()
    }
}

impl Inflater {
    /// One for a single connection whose other end keeps its window from one message to the next.
    pub fn with_takeover() -> Inflater {
        Inflater { takeover: true, ..Inflater::default() }
    }

    /// One for messages that are thrown away: what it makes of each is empty.
    pub(crate) fn blind() -> Inflater {
        Inflater { blind: true, ..Inflater::default() }
    }

    /// The payload of a message; `body` is what its frames hold, without masks. Whatever `body` is,
    /// no more than `max` bytes are made of it and a little more, [`KEPT`] at most.
    ///
    /// # Errors
    /// 1009 for more than `max` bytes, 1007 for what is not a whole stream.
    pub fn message(&mut self, body: &[u8], max: usize) -> Result<&[u8], Closing> {
        if self.out.capacity() > KEPT {
            self.out = Vec::new();
        }
        self.out.clear();
        // Some compressors have nothing to say of an empty message.
        if body.is_empty() || self.blind {
            return Ok(&self.out);
        }
        let fresh = || Box::new(Decompress::new(false));
        let state = self.state.get_or_insert_with(fresh);
        if !self.takeover {
            state.reset(false);
        }
        let end: &[u8] = if self.takeover { &TAIL } else { &END };
        inflate(state, body, end, max, &mut self.out)?;
        Ok(&self.out)
    }
}

fn inflate(
    state: &mut Decompress,
    body: &[u8],
    end: &[u8],
    max: usize,
    out: &mut Vec<u8>,
) -> Result<(), Closing> {
    let (mut input, mut in_end) = (body, false);
    loop {
        if out.len() == out.capacity() {
            let room = out.capacity().saturating_mul(2).max(body.len().saturating_mul(4));
            // One more than may be: whether there is more shows by that.
            let room = room.max(FIRST).min(max.saturating_add(1)).max(out.len() + 1);
            out.reserve_exact(room - out.len());
        }
        let before = state.total_in();
        let status = state.decompress_vec(input, out, FlushDecompress::Sync);
        // It took no more than the slice has.
        input = &input[(state.total_in() - before) as usize..];
        if out.len() > max {
            return Err(close::TOO_BIG);
        }
        match status.map_err(|_| close::BAD_COMPRESSION)? {
            // A block with BFINAL (section 7.2.3.4): if anything follows, it is a stream of its own.
            Status::StreamEnd => match (in_end, input) {
                (true, []) => return Ok(()),
                (true, _) => return Err(close::BAD_COMPRESSION),
                (false, []) => {
                    state.reset(false);
                    return Ok(());
                }
                (false, _) => state.reset(false),
            },
            // What came is used up, and all that it makes is out.
            Status::Ok | Status::BufError if input.is_empty() && out.len() < out.capacity() => {
                if in_end {
                    // With takeover the stream goes on with the next message.
                    let goes_on = end.len() == TAIL.len();
                    return if goes_on { Ok(()) } else { Err(close::BAD_COMPRESSION) };
                }
                (input, in_end) = (end, true);
            }
            // It neither needs room nor goes on.
            Status::BufError if out.len() < out.capacity() => return Err(close::BAD_COMPRESSION),
            Status::Ok | Status::BufError => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 10_000;

    /// What another sender makes of a message; `state` keeps its window.
    fn sent(state: &mut Compress, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(payload.len() * 2 + 100);
        state.compress_vec(payload, &mut out, FlushCompress::Sync).unwrap();
        out.strip_suffix(&TAIL).unwrap_or(&out).to_vec()
    }

    fn compress(level: u32) -> Compress {
        Compress::new(Compression::new(level), false)
    }

    fn code(body: &[u8], max: usize) -> Result<Vec<u8>, u16> {
        Inflater::default().message(body, max).map(<[u8]>::to_vec).map_err(|(code, _)| code)
    }

    #[test]
    fn the_examples_of_the_rfc() {
        let hello = [
            // Section 7.2.3.1, 7.2.3.3 (no compression), 7.2.3.4 (BFINAL), 7.2.3.5 (two blocks).
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
            // BFINAL without the octet behind it.
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
        ];
        for body in hello {
            assert_eq!(code(body, 5).as_deref(), Ok(&b"Hello"[..]), "{body:x?}");
            assert_eq!(code(body, 4), Err(1009), "{body:x?}");
        }
        // Section 7.2.3.2: the second message refers to the first.
        let mut takeover = Inflater::with_takeover();
        assert_eq!(takeover.message(hello[0], MAX), Ok(&b"Hello"[..]));
        let second = [0xf2, 0x00, 0x11, 0x00, 0x00];
        assert_eq!(takeover.message(&second, MAX), Ok(&b"Hello"[..]));
        assert_eq!(code(&second, MAX), Err(1007));
        // Section 7.2.3.6, and what some send instead.
        assert_eq!(code(&[0], 0).as_deref(), Ok(&b""[..]));
        assert_eq!(code(&[], 0).as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn a_bomb_is_stopped_at_the_bound() {
        let zeros = sent(&mut compress(9), &vec![0; 50_000_000]);
        assert!(zeros.len() < 60_000);
        assert_eq!(code(&zeros, 1_000_000), Err(1009));
        let mut inflater = Inflater::default();
        assert!(inflater.message(&zeros, 1_000_000).is_err());
        assert!(inflater.out.capacity() <= 1_000_001);
        assert_eq!(
            inflater.message(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], 5),
            Ok(&b"Hello"[..])
        );
        assert!(inflater.out.capacity() <= KEPT);
        let exact = sent(&mut compress(6), &[7; MAX]);
        assert_eq!(code(&exact, MAX).as_deref(), Ok(&[7; MAX][..]));
        assert_eq!(code(&exact, MAX - 1), Err(1009));
    }

    #[test]
    fn what_is_no_whole_stream_is_refused() {
        let good =
            sent(&mut compress(6), "a text that is compressed, compressed, compressed".as_bytes());
        for cut in 1..good.len() {
            let result = code(&good[..cut], MAX);
            assert_eq!(result, Err(1007), "{cut} of {} bytes", good.len());
        }
        for bad in [
            // A reserved type of block; lengths that do not agree; a distance in front of the start.
            &[0xff, 0xff][..],
            &[0x00, 0x05, 0x00, 0xff, 0xff, 0x48],
            &[0x02, 0x00, 0x11, 0x00, 0x00],
            // The tail was left where it was, or something follows the last block.
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0xff],
            b"not deflate at all",
        ] {
            assert_eq!(code(bad, MAX), Err(1007), "{bad:x?}");
        }
        let with_tail = [&good[..], &TAIL].concat();
        assert!(code(&with_tail, MAX).is_err());
    }

    #[test]
    fn nothing_compressed_passes_the_bound_of_frames() {
        let mut noise = vec![0; 100_000];
        fastrand::Rng::with_seed(3).fill(&mut noise);
        for level in 0..10 {
            for length in [0, 1, 100, 10_000, noise.len()] {
                let body = sent(&mut compress(level), &noise[..length]);
                assert!(body.len() <= compressed_bound(length), "level {level}: {}", body.len());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// Messages of other compressors come back, with and without their windows.
        #[test]
        fn messages_come_back(
            messages in prop::collection::vec(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..2000),
                prop::collection::vec(b'a'..b'd', 0..2000),
            ], 1..6),
            level in 0u32..10,
        ) {
            let (mut theirs, mut ours) = (compress(level), Inflater::with_takeover());
            for message in &messages {
                let body = sent(&mut theirs, message);
                prop_assert_eq!(ours.message(&body, MAX), Ok(&message[..]));
            }
            let mut ours = Inflater::default();
            for message in &messages {
                let body = sent(&mut compress(level), message);
                prop_assert_eq!(ours.message(&body, MAX), Ok(&message[..]));
                prop_assert_eq!(ours.message(&body, message.len()), Ok(&message[..]));
            }
        }

        /// No bytes make it panic, run on, or make more than the bound.
        #[test]
        fn any_bytes(body: Vec<u8>, max in 0usize..200) {
            for mut inflater in [Inflater::default(), Inflater::with_takeover()] {
                if let Ok(out) = inflater.message(&body, max) {
                    prop_assert!(out.len() <= max);
                }
            }
        }
    }
}
