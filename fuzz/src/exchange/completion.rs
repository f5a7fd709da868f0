//! The completion of events: every event is completed exactly once.

use std::sync::Arc;

use tokio::sync::oneshot::error::TryRecvError;
use wsgw::config::hooks::Hook;
use wsgw::config::settings::OnTimeout;
use wsgw::listener::exchange::Effect;
use wsgw::listener::op::{Delivery, Op};
use wsgw::listener::protocol::connid::ConnId;

use super::{About, Model};

/// Whether an event was completed with a delivery.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Completion {
    Sent,
    Dropped,
}

impl Model {
    /// Applies the protocol's rule for time-outs to the model after a check.
    pub(super) fn timeouts(&mut self) {
        let timeout = self.settings.listener_timeout;
        let mut completed = Vec::new();
        let late: Vec<u64> = self
            .owed
            .iter()
            .filter_map(|(id, owed)| {
                let (position, written) = owed.written?;
                let before = self.here.answers[..position].iter().flatten().max();
                let since = before.map_or(written, |at| written.max(*at));
                (self.now >= since + timeout).then_some(*id)
            })
            .collect();
        for id in late {
            let owed = self.owed.remove(&id).expect("it is owed");
            self.completed.insert(id);
            if let Some((position, _)) = owed.written {
                self.here.overdue.insert(id, position);
            }
            let sent = self.settings.on_timeout == OnTimeout::Broadcast
                && matches!(owed.about, About::Message(_));
            completed.push((owed.about, if sent { Completion::Sent } else { Completion::Dropped }));
        }
        self.expect_completed(&completed);
    }

    /// Checks that exactly these events were completed, each once. Handshakes that waited too long may
    /// be refused as well.
    pub(super) fn expect_completed(&mut self, all: &[(About, Completion)]) {
        let mut sent = all
            .iter()
            .filter(|(about, how)| {
                *how == Completion::Sent && !matches!(about, About::Handshake(_))
            })
            .count();
        let mut messages: Vec<ConnId> = all
            .iter()
            .filter_map(|(about, _)| match about {
                About::Message(number) => Some(self.messages[*number]),
                _ => None,
            })
            .collect();
        for effect in std::mem::take(&mut self.exchange.effects) {
            match effect {
                Effect::Op(Op::Deliver(Delivery { report, .. })) => {
                    sent = sent.checked_sub(1).expect("one delivery each");
                    if let Some(report) = report {
                        report.finish();
                    }
                }
                Effect::Settled { conn, .. } => {
                    let at = messages.iter().position(|c| *c == conn).expect("not due");
                    messages.swap_remove(at);
                    self.done(conn);
                }
                Effect::Op(Op::Close { code, .. }) => {
                    assert_eq!((self.settings.on_timeout, code), (OnTimeout::Close, 1011));
                }
                Effect::Op(Op::Presence(_) | Op::Membership(_) | Op::Members(_)) => {
                    panic!("an operation that was not expected")
                }
                Effect::Op(Op::Finish { .. } | Op::CloseAll { .. } | Op::CloseShare { .. }) => {
                    panic!("the exchange never makes this operation")
                }
                Effect::Handshake { conn, .. } => {
                    assert!(self.handshakes.remove(&conn), "one decision each");
                }
            }
        }
        assert!(sent == 0 && messages.is_empty(), "{sent} and {messages:?} are not complete");
        for (about, _) in all {
            if let About::Push(number) = about {
                assert!(self.push_is_complete(*number), "a push that is not complete");
            }
        }
        self.owed.retain(|_, owed| match owed.about {
            About::Handshake(conn) => self.handshakes.contains(&conn),
            _ => true,
        });
    }

    pub(super) fn refused_handshakes(&mut self) {
        let handshakes = &mut self.handshakes;
        self.exchange.effects.retain(|effect| match effect {
            Effect::Handshake { conn, .. } => {
                assert!(handshakes.remove(conn), "one decision each");
                false
            }
            _ => true,
        });
    }

    pub(super) fn done(&mut self, conn: ConnId) {
        let conn = self.conns.get_mut(&conn).expect("a connection");
        conn.under_way = conn.under_way.checked_sub(1).expect("no message is completed twice");
    }

    /// Checks what must hold after every step.
    pub(super) fn check_step(&mut self) {
        self.refused_handshakes();
        for effect in std::mem::take(&mut self.exchange.effects) {
            match effect {
                // The message of a connection that the exchange has forgotten.
                Effect::Settled { conn, .. } => self.done(conn),
                _ => panic!("an effect without a cause"),
            }
        }
        assert!(self.exchange.queued() < 1 << 32 && self.metrics.unanswered.get() < 1 << 32);
        assert!(self.exchange.notice_bytes() < 1 << 32);
    }

    /// Closes all connections and answers all events, and checks that nothing is left.
    pub(super) fn end(&mut self) {
        if !self.up {
            self.toggle(false);
        }
        let all: Vec<ConnId> = self.conns.keys().copied().collect();
        for conn in &all {
            self.close(*conn);
        }
        for _ in 0..10_000 {
            self.take(usize::MAX);
            let Some(id) = self.owed.keys().next().copied() else {
                // If events are sent one at a time, the first waits for a sign of life.
                self.noise(0);
                self.take(usize::MAX);
                if self.owed.is_empty() {
                    break;
                }
                continue;
            };
            self.answer(id, 0, 0);
            self.check_step();
        }
        assert!(!self.exchange.busy() && !self.exchange.window_full(), "something waits forever");
        assert!(self.exchange.flushed());
        assert_eq!(self.exchange.queued(), 0);
        assert!(self.channels.told_all(), "joins and leaves that were not told");
        assert_eq!(self.exchange.notice_bytes(), 0, "bytes of notices are left");
        for conn in self.conns.values().filter(|c| !c.forgotten) {
            assert!(conn.unseen.is_empty() && conn.under_way == 0, "a message was lost");
            assert_eq!(conn.close_announced, self.hook(Hook::OnClientClose));
        }
        for (receiver, ticket) in &mut self.pushes {
            let told = !matches!(receiver.try_recv(), Err(TryRecvError::Empty));
            assert!(told && Arc::strong_count(ticket) == 1, "a push hangs");
        }
        assert!(self.handshakes.is_empty(), "a handshake hangs");
    }
}
