//! Payloads into compressed frames (RFC 7692 section 7.2.1).

use std::fmt;

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};

use crate::ws::deflate::{LEAST_BITS, MOST_BITS};
use crate::ws::frame;

/// What a sync flush ends with, and what a message is sent without.
pub(super) const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Bytes of a payload from which on it is worth to try.
pub const WORTH_IT: usize = 256;

/// zlib's level. Of 1 KiB of JSON level 1 leaves 44 % (in 5 µs), 2 leaves 34 % (11 µs), 3 leaves
/// 32 % (13 µs), 6 leaves 32 % (16 µs); of 16 KiB 32, 23, 21 and 19 % (27, 45, 69, 142 µs).
const LEVEL: u32 = 3;

/// Bytes of the buffer that are kept for the next message.
const KEPT: usize = 256 * 1024;

/// Compressors by window, each of which is made when the first message needs it, and takes about
/// 300 KB from then on. What a message becomes depends on the message and the window alone.
#[derive(Default)]
pub struct Compressors {
    by_bits: [Option<Box<Compress>>; (MOST_BITS - LEAST_BITS) as usize],
    buffer: Vec<u8>,
    totals: Totals,
}

/// Bytes of payloads that became smaller.
#[derive(Debug, Default, Clone, Copy)]
pub struct Totals {
    /// What they were.
    pub before: u64,
    /// What they became.
    pub after: u64,
}

impl fmt::Debug for Compressors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressors").finish_non_exhaustive()
    }
}

impl Compressors {
    /// A whole message, compressed, as an unmasked frame with RSV1; `None` if it is shorter than
    /// [`WORTH_IT`] or does not get smaller. `frame` is the message as it is: a whole unmasked
    /// text or binary frame. `window_bits` is 9 to 15.
    pub fn frame(&mut self, window_bits: u8, frame: &[u8]) -> Option<Bytes> {
        let opcode = frame::Header::read(frame)?.opcode()?;
        let payload = frame.get(frame::header_len(frame)..)?;
        if payload.len() < WORTH_IT || opcode.is_control() {
            return None;
        }
        let frame = frame::compressed(opcode, self.payload(window_bits, payload)?);
        self.totals.before += payload.len() as u64;
        self.totals.after += (frame.len() - frame::header_len(&frame)) as u64;
        Some(frame)
    }

    /// What became of frames since this was last asked.
    pub fn take_totals(&mut self) -> Totals {
        std::mem::take(&mut self.totals)
    }

    /// The payload of a message, compressed; `None` if it does not get smaller. `window_bits` is
    /// 9 to 15; 9 is good for a window of 8 bits as well, as the longest distance there is 250.
    pub fn payload(&mut self, window_bits: u8, payload: &[u8]) -> Option<&[u8]> {
        let index = window_bits.checked_sub(LEAST_BITS + 1)?;
        let compressor = self.by_bits.get_mut(usize::from(index))?.get_or_insert_with(|| {
            Box::new(Compress::new_with_window_bits(Compression::new(LEVEL), false, window_bits))
        });
        if self.buffer.len() > KEPT {
            self.buffer = Vec::new();
        }
        // With the tail, which is not sent, and one byte that stays free: only then all is out.
        let room = payload.len() + TAIL.len();
        if self.buffer.len() < room {
            self.buffer.resize(room, 0);
        }
        compressor.reset();
        let out = &mut self.buffer[..room];
        let Ok(Status::Ok) = compressor.compress(payload, out, FlushCompress::Sync) else {
            return None;
        };
        // Neither is longer than a slice.
        let (took, made) = (compressor.total_in() as usize, compressor.total_out() as usize);
        if took < payload.len() || made == room {
            return None;
        }
        self.buffer[..made].strip_suffix(&TAIL)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;
    use zlib_rs::InflateFlush;

    use super::*;
    use crate::ws::payload::Payload;

    /// Inflates with a window of so many bits, a byte at a time: what refers to more than the window
    /// is an error then.
    fn inflated(bits: u8, body: &[u8]) -> Vec<u8> {
        let input = [body, &TAIL].concat();
        // flate2 would refuse 8 bits.
        let mut zlib = zlib_rs::Inflate::new(false, bits);
        let (mut out, mut byte) = (Vec::new(), [0]);
        loop {
            let (from, before) = (zlib.total_in() as usize, zlib.total_out());
            let result = zlib.decompress(&input[from..], &mut byte, InflateFlush::SyncFlush);
            if zlib.total_out() == before {
                assert_eq!(zlib.total_in() as usize, input.len(), "{result:?}");
                return out;
            }
            out.push(byte[0]);
        }
    }

    fn likely() -> impl Strategy<Value = Vec<u8>> {
        let words = prop::collection::vec(0u32..40, 0..1000);
        let text = words.prop_map(|words| {
            words.iter().flat_map(|n| format!("word{}, ", n * n).into_bytes()).collect()
        });
        prop_oneof![text, prop::collection::vec(any::<u8>(), 0..3000)]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// What comes out is smaller, the same each time, and what went in; no distance is longer
        /// than the window, nor than that of 8 bits where 9 are used.
        #[test]
        fn a_message_comes_back(payload in likely(), other in likely(), bits in 9u8..=15) {
            let mut compressors = Compressors::default();
            let Some(body) = compressors.payload(bits, &payload).map(<[u8]>::to_vec) else {
                return Ok(());
            };
            prop_assert!(body.len() < payload.len());
            let _ = compressors.payload(bits, &other);
            prop_assert_eq!(compressors.payload(bits, &payload), Some(&body[..]));
            let windows = if bits == 9 { vec![8, 9, 15] } else { vec![bits, 15] };
            for window in windows {
                prop_assert_eq!(&inflated(window, &body), &payload, "{}", window);
            }
        }
    }

    #[test]
    fn only_what_gets_smaller_is_compressed() {
        let mut compressors = Compressors::default();
        let short = "x".repeat(WORTH_IT - 1);
        assert_eq!(compressors.frame(15, Payload::text(&short).websocket()), None);
        let mut noise = vec![0; 100_000];
        fastrand::Rng::with_seed(5).fill(&mut noise);
        assert_eq!(compressors.frame(15, Payload::binary(&noise).websocket()), None);
        // A stream that ran out of room leaves nothing behind.
        let long = "x".repeat(WORTH_IT);
        let frame = compressors.frame(15, Payload::text(&long).websocket()).unwrap();
        assert_eq!(frame[0], 0xc1);
        assert_eq!(usize::from(frame[1]), frame.len() - 2);
        assert_eq!(inflated(15, &frame[2..]), long.as_bytes());
        assert_eq!(compressors.frame(15, &frame::ping(&[0; 125])), None);
        for unknown in [0, 8, 16] {
            assert_eq!(compressors.payload(unknown, long.as_bytes()), None);
        }
        let mut zlib = flate2::read::DeflateDecoder::new(&frame[2..]);
        let mut start = [0; 16];
        zlib.read_exact(&mut start).unwrap();
        assert_eq!(start, [b'x'; 16]);
    }

    #[test]
    fn a_large_message_leaves_no_large_buffer() {
        let mut compressors = Compressors::default();
        let large = vec![b'x'; 4 * KEPT];
        assert!(compressors.payload(15, &large).is_some());
        assert!(compressors.payload(15, &large[..1000]).is_some());
        assert!(compressors.buffer.capacity() <= KEPT);
    }
}
