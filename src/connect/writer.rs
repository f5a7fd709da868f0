//! The sending half of a connection.

use std::cell::Cell;
use std::collections::VecDeque;

use futures_util::SinkExt;
use futures_util::stream::SplitSink;
use tokio::sync::{Notify, mpsc};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::connect::compression::Deflater;
use crate::connect::dial::Socket;
use crate::connect::input::Input;
use crate::error::complain;

/// What went over the connections of a session.
#[derive(Default)]
pub(super) struct Counts {
    /// Messages.
    pub(super) sent: Cell<u64>,
    /// Their bytes.
    pub(super) sent_bytes: Cell<u64>,
    /// Messages.
    pub(super) received: Cell<u64>,
    /// Their bytes.
    pub(super) received_bytes: Cell<u64>,
    /// Lines of stdin that could not be sent.
    pub(super) unsent: Cell<u64>,
}

/// Adds to a count.
pub(super) fn add(cell: &Cell<u64>, n: usize) {
    cell.set(cell.get() + n as u64);
}

/// The sending half: what was asked for goes first, piped input as the server takes it.
pub(super) struct Writer<'a> {
    /// The socket.
    pub(super) sink: SplitSink<Socket, Message>,
    /// Compresses what is sent, where that was agreed on.
    pub(super) deflater: Option<Deflater>,
    /// What goes first: typed lines, echoes, pings, our Close.
    pub(super) urgent: mpsc::UnboundedReceiver<Message>,
    /// Piped input; gone at its end.
    pub(super) bulk: &'a mut Option<mpsc::Receiver<Input>>,
    /// A batch that was not sent whole.
    pub(super) rest: &'a mut VecDeque<Message>,
    /// What is counted.
    pub(super) counts: &'a Counts,
    /// Told at the end of the input, once all of it is sent.
    pub(super) drained: &'a Notify,
}

impl Writer<'_> {
    /// Ends with our Close, or with what failed.
    pub(super) async fn run(mut self) -> Option<String> {
        match self.write().await {
            // A Close is out: the reader decides when it is over.
            Ok(()) => std::future::pending().await,
            Err(error) => Some(error.to_string()),
        }
    }

    async fn feed(&mut self, message: Message) -> Result<(), Error> {
        if message.is_text() || message.is_binary() {
            add(&self.counts.sent, 1);
            add(&self.counts.sent_bytes, message.len());
        }
        let message = match &mut self.deflater {
            Some(deflater) => deflater.frame(message),
            None => message,
        };
        self.sink.feed(message).await
    }

    async fn write(&mut self) -> Result<(), Error> {
        while let Some(message) = self.rest.pop_front() {
            self.feed(message).await?;
        }
        // What -x wants sent counts as input.
        while let Ok(message) = self.urgent.try_recv() {
            self.feed(message).await?;
        }
        self.sink.flush().await?;
        if self.bulk.is_none() {
            self.drained.notify_one();
        }
        loop {
            tokio::select! {
                biased;
                message = self.urgent.recv() => {
                    let Some(message) = message else { return Ok(()) };
                    let last = message.is_close();
                    self.feed(message).await?;
                    if self.urgent.is_empty() || last {
                        self.sink.flush().await?;
                    }
                    if last {
                        return Ok(());
                    }
                }
                input = async { match self.bulk.as_mut() { Some(bulk) => bulk.recv().await, None => std::future::pending().await } } => {
                    match input {
                        Some(Input::Messages(messages)) => {
                            self.rest.extend(messages);
                            while let Some(message) = self.rest.pop_front() {
                                self.feed(message).await?;
                            }
                            self.sink.flush().await?;
                            // A server that takes all at once must not keep signals waiting.
                            tokio::task::yield_now().await;
                        }
                        Some(Input::Bad(text)) => {
                            add(&self.counts.unsent, 1);
                            complain(&format!("wsgw: {text}"));
                        }
                        None => {
                            *self.bulk = None;
                            self.drained.notify_one();
                        }
                    }
                }
            }
        }
    }
}
