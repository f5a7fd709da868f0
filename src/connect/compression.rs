//! `--compress`: permessage-deflate (RFC 7692), the client's side.
//!
//! Tungstenite knows no extensions. So what goes is compressed above it, as whole frames
//! ([`Deflater`]), and what comes is inflated below it ([`Inflating`]).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use flate2::{Compress, Compression, FlushCompress};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

use crate::connect::inflating::Frames;
use crate::ws::deflate::offer::Agreed;

/// Bytes that are read at a time.
const READ: usize = 64 * 1024;

/// What each message is sent without (RFC 7692, section 7.2.1), in bytes.
const TAIL: usize = 4;

/// Compresses what goes to the server. Each message is compressed for itself, as the offer says: every
/// server understands that, whatever it answered.
pub(super) struct Deflater {
    inner: Compress,
}

impl Deflater {
    /// For a connection where this was agreed on.
    pub(super) fn new(agreed: Agreed) -> Deflater {
        let bits = agreed.window_bits;
        Deflater { inner: Compress::new_with_window_bits(Compression::default(), false, bits) }
    }

    /// The message as it is sent. Each one is compressed, whether that makes it smaller or not: who
    /// tests a server wants to see that it understands.
    pub(super) fn frame(&mut self, message: Message) -> Message {
        let kind = match &message {
            Message::Text(_) => Data::Text,
            Message::Binary(_) => Data::Binary,
            _ => return message,
        };
        let payload = self.payload(&message.into_data());
        let header =
            FrameHeader { rsv1: true, opcode: OpCode::Data(kind), ..FrameHeader::default() };
        Message::Frame(Frame::from_payload(header, payload.into()))
    }

    fn payload(&mut self, payload: &[u8]) -> Vec<u8> {
        // What is empty cannot be flushed; an empty block stands for it (section 7.2.3.6).
        if payload.is_empty() {
            return vec![0];
        }
        self.inner.reset();
        let mut out = Vec::with_capacity(payload.len() / 2 + 64);
        loop {
            // It took no more than the slice has.
            let took = self.inner.total_in() as usize;
            let status = self.inner.compress_vec(&payload[took..], &mut out, FlushCompress::Sync);
            // With room to spare everything is out. It fails for no flush that is used here.
            if status.is_err() || out.len() < out.capacity() {
                break;
            }
            out.reserve(out.len());
        }
        out.truncate(out.len().saturating_sub(TAIL));
        out
    }
}

/// A connection whose compressed messages come out uncompressed.
pub(super) struct Inflating<S> {
    stream: S,
    frames: Frames,
    read: Vec<u8>,
}

impl<S> Inflating<S> {
    /// `early` is what was read of the server's frames already; no frame may be larger than
    /// `largest` bytes.
    pub(super) fn new(stream: S, early: Vec<u8>, agreed: Agreed, largest: usize) -> Inflating<S> {
        let frames = Frames::new(early, agreed.server_takeover, largest as u64);
        Inflating { stream, frames, read: vec![0; READ] }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Inflating<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.frames.take(buf) {
                return Poll::Ready(Ok(()));
            }
            let moved = this.frames.step();
            if moved.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))? {
                continue;
            }
            let mut read = ReadBuf::new(&mut this.read);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.frames.came(read.filled());
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Inflating<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Decompress, FlushDecompress};
    use proptest::prelude::*;

    use super::*;

    fn sent(deflater: &mut Deflater, payload: &[u8]) -> Vec<u8> {
        let Message::Frame(frame) = deflater.frame(Message::binary(payload.to_vec())) else {
            panic!("no frame")
        };
        let header = frame.header();
        assert!(header.rsv1 && header.is_final && header.opcode == OpCode::Data(Data::Binary));
        frame.payload().to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// A server understands what is sent, with a window of this size, and of the one agreed on.
        #[test]
        fn messages_come_back(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 1..5),
            window_bits in 9u8..=15,
            forgets: bool,
        ) {
            let mut deflater = Deflater::new(Agreed { window_bits, server_takeover: true });
            let mut inflate = Decompress::new_with_window_bits(false, window_bits);
            for message in messages.iter().chain(&messages) {
                let body = [sent(&mut deflater, message), vec![0, 0, 0xff, 0xff]].concat();
                let mut out = Vec::with_capacity(message.len() + 64);
                inflate.decompress_vec(&body, &mut out, FlushDecompress::Sync).unwrap();
                prop_assert_eq!(&out, message);
                if forgets {
                    inflate.reset(false);
                }
            }
        }
    }

    #[test]
    fn control_frames_stay_as_they_are() {
        let mut deflater = Deflater::new(Agreed { window_bits: 9, server_takeover: true });
        assert!(deflater.frame(Message::Ping("x".repeat(100).into())).is_ping());
        assert!(deflater.frame(Message::Close(None)).is_close());
        assert_eq!(sent(&mut deflater, b""), [0]);
        let first = sent(&mut deflater, &b"word ".repeat(20));
        assert_eq!(sent(&mut deflater, &b"word ".repeat(20)), first);
    }
}
