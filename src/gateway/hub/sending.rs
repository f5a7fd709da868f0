//! Messages for connections that are named, and frames for a single one. What goes to many alike is a
//! [burst](super::burst).

use bytes::Bytes;

use crate::gateway::context::Context;
use crate::gateway::hub::connection::Connection;
use crate::gateway::hub::flow::{Flow, stay};
use crate::gateway::hub::hot::Takes;
use crate::gateway::hub::{Hub, Lent};
use crate::gateway::io::uring::Target;
use crate::gateway::wire::{Made, Wire};
use crate::listener::op::Delivery;
use crate::listener::protocol::connid::ConnId;

/// What became of a message for some connections.
#[derive(Default)]
pub(super) struct Counts {
    delivered: u64,
    dropped: u64,
    /// Bytes of the frames that were delivered.
    bytes: u64,
}

impl Counts {
    fn delivered(&mut self, frame: &Bytes) {
        self.delivered += 1;
        self.bytes += frame.len() as u64;
    }
}

impl Hub {
    /// A message for some connections.
    pub(super) fn send_to(&mut self, to: &[ConnId], delivery: &Delivery, ctx: &mut Context) {
        let frame = delivery.payload.websocket();
        let more = self.fanout.more_for(to);
        let mut counts = Counts::default();
        let batched = !more && ctx.batches(to.len(), frame);
        let mut made = Made::default();
        for &id in to {
            if ctx.core.shard_of(id) != ctx.index {
                continue;
            }
            let slot = self.conns.slot(id);
            let hot = slot.map(|slot| (slot, self.conns.hot()[slot as usize]));
            let Some((slot, hot)) = hot.filter(|(_, hot)| hot.takes != Takes::Nothing) else {
                self.shared.metrics.listener.gone.inc();
                if let Some(report) = &delivery.report {
                    report.gone(id);
                }
                continue;
            };
            if hot.wire != Wire::default() {
                let make = || hot.wire.form.message(&delivery.payload, None, delivery.at);
                let frame = made.compressed(hot.wire, make, &mut ctx.codec.compressors);
                self.with(slot, ctx, |conn, lent| conn.send_frame(frame, more, &mut counts, lent));
                continue;
            }
            if batched && hot.takes == Takes::Socket {
                if self.fanout.batch(Target { slot, fd: hot.fd }) {
                    self.send_to_batch(frame, &mut counts, ctx);
                }
                continue;
            }
            self.with(slot, ctx, |conn, lent| conn.send_frame(frame, more, &mut counts, lent));
        }
        self.send_to_batch(frame, &mut counts, ctx);
        self.count_compression(ctx);
        let Counts { delivered, dropped, bytes } = counts;
        let metrics = &self.shared.metrics;
        metrics.messages_out.add(delivered);
        metrics.bytes_out.add(bytes);
        metrics.deliveries_dropped.add(dropped);
        // Whoever is told what became of a push finds it in the counters.
        if let Some(report) = &delivery.report {
            report.add(delivered, dropped);
            report.finish();
        }
    }

    /// Sends a message for some connections to those of the batch.
    fn send_to_batch(&mut self, frame: &Bytes, counts: &mut Counts, ctx: &mut Context) {
        self.send_batch(frame, ctx, |hub, slot, took, ctx| {
            hub.with(slot, ctx, |conn, lent| match took {
                Ok(n) => conn.sent_part(frame, n, counts, lent),
                Err(()) => conn.write_failed(lent),
            });
        });
    }

    /// Counts what was compressed for this gateway just now.
    pub(super) fn count_compression(&self, ctx: &mut Context) {
        let totals = ctx.codec.compressors.take_totals();
        if totals.before > 0 {
            self.shared.metrics.compression_in.add(totals.before);
            self.shared.metrics.compression_out.add(totals.after);
        }
    }
}

impl Connection {
    /// Sends a frame; `more` says that another one follows at once, so that both go with one write.
    pub(super) fn send_frame(
        &mut self,
        frame: &Bytes,
        more: bool,
        counts: &mut Counts,
        lent: &mut Lent<'_>,
    ) -> Flow {
        let waits = self.outbox.is_some();
        if waits || more {
            self.sent_part(frame, 0, counts, lent)?;
            if !waits {
                lent.fanout.dirty.push((lent.slot, self.id));
            }
            return stay();
        }
        match lent.ctx.write(&mut self.stream, frame) {
            Ok(n) => self.sent_part(frame, n, counts, lent),
            Err(_) => self.write_failed(lent),
        }
    }

    /// The socket took `sent` bytes of a frame: the rest, if any, goes to the outbox.
    fn sent_part(
        &mut self,
        frame: &Bytes,
        sent: usize,
        counts: &mut Counts,
        lent: &mut Lent<'_>,
    ) -> Flow {
        if sent == frame.len() {
            self.last_message = lent.ctx.now;
            counts.delivered(frame);
        } else if self.queue(frame, sent, lent)? {
            counts.delivered(frame);
        } else {
            counts.dropped += 1;
            return self.slow_consumer(lent);
        }
        stay()
    }
}
