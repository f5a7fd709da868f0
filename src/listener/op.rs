//! The operations on a gateway's connections that take place in one order for all of them.
//!
//! The exchange decides on some, the control port asks for others, and connections that end add
//! theirs. Whoever makes one hands it to `gateway::core::Core::submit`; each shard carries out its
//! part in `gateway::hub::fanout`. A new operation is a variant here and an arm there.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::listener::connection::ConnectionRow;
use crate::listener::protocol::connid::ConnId;
use crate::listener::recipients::Recipients;
use crate::listener::report::DeliveryReport;
use crate::ws::close::Closing;
use crate::ws::payload::Payload;

/// One operation.
pub enum Op {
    /// Send a message.
    Deliver(Delivery),
    /// Close one connection, behind what was delivered to it so far.
    Close {
        /// The connection.
        conn: ConnId,
        /// The close code that the client gets.
        code: u16,
        /// The reason that the client gets.
        reason: String,
        /// Who is told what came of it.
        reply: CloseReply,
    },
    /// Answer a client's Close, behind what was delivered to it so far.
    Finish {
        /// The connection.
        conn: ConnId,
    },
    /// Close every connection that is open now.
    CloseAll {
        /// The close code and reason that the clients get.
        closing: Closing,
    },
    /// Close one part in `parts` of the connections, at random.
    CloseShare {
        /// The close code and reason that the clients get.
        closing: Closing,
        /// How many shares all connections make.
        parts: u32,
    },
}

/// A message for recipients.
pub struct Delivery {
    /// The message.
    pub payload: Payload,
    /// Who gets it.
    pub to: Recipients,
    /// Its sender, where no listener was asked: the message counts against it until it is sent.
    pub from: Option<ConnId>,
    /// Who wants to know what became of it.
    pub report: Option<Arc<DeliveryReport>>,
}

impl Delivery {
    /// A message that counts against no sender.
    pub fn new(payload: Payload, to: Recipients, report: Option<Arc<DeliveryReport>>) -> Delivery {
        Delivery { payload, to, from: None, report }
    }

    /// The same for another shard.
    #[must_use]
    pub fn share(&self) -> Delivery {
        Delivery {
            payload: self.payload.clone(),
            to: self.to.clone(),
            from: self.from,
            report: self.report.clone(),
        }
    }
}

/// Who is told that a close was carried out.
pub enum CloseReply {
    /// Nobody.
    None,
    /// The listener: the command's `ref`.
    Listener(String),
    /// The control port: the connection as it was, or `None` if it was gone.
    Control(oneshot::Sender<Option<ConnectionRow>>),
}
