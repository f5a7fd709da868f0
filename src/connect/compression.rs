//! `--compress`: permessage-deflate (RFC 7692), the client's side.
//!
//! Tungstenite knows no extensions. So what goes is compressed above it, as whole frames
//! ([`Deflater`]), and what comes is inflated below it ([`Inflating`]).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

use crate::connect::inflating::Frames;
use crate::ws::deflate::compress::Compressors;
use crate::ws::deflate::offer::Agreed;

/// Bytes that are read at a time.
const READ: usize = 64 * 1024;

/// Compresses what goes to the server. Each message is compressed for itself, which the server must
/// understand whatever it chose, and only where that makes it smaller.
pub(super) struct Deflater {
    compressors: Compressors,
    window_bits: u8,
}

impl Deflater {
    /// For a connection where this was agreed on.
    pub(super) fn new(agreed: Agreed) -> Deflater {
        Deflater { compressors: Compressors::default(), window_bits: agreed.window_bits }
    }

    /// The message as it is sent.
    pub(super) fn frame(&mut self, message: Message) -> Message {
        let (kind, payload) = match &message {
            Message::Text(text) => (Data::Text, text.as_bytes()),
            Message::Binary(bytes) => (Data::Binary, &bytes[..]),
            _ => return message,
        };
        let Some(payload) = self.compressors.payload(self.window_bits, payload) else {
            return message;
        };
        let header =
            FrameHeader { rsv1: true, opcode: OpCode::Data(kind), ..FrameHeader::default() };
        Message::Frame(Frame::from_payload(header, payload.to_vec().into()))
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
    use super::*;

    #[test]
    fn only_what_gets_smaller_is_compressed() {
        let mut deflater = Deflater::new(Agreed { window_bits: 9, server_takeover: true });
        let Message::Frame(frame) = deflater.frame(Message::text("x".repeat(1000))) else {
            panic!("no frame")
        };
        assert!(frame.header().rsv1 && frame.header().is_final && frame.payload().len() < 50);
        assert!(deflater.frame(Message::text("x")).is_text());
        assert!(deflater.frame(Message::Ping("x".repeat(100).into())).is_ping());
    }
}
