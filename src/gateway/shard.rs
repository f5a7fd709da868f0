//! A shard: one thread, one epoll, its part of every gateway's connections.
//!
//! The loop: what the kernel says, what others sent, then a *turn* of each gateway (its listener, on
//! the gateway's primary; its frames to send; its connections that waited) and the timers.
//! Readiness is edge-triggered and registered once: a socket that is written in full costs no
//! system call beside the write.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll};

use crate::gateway::context::{Context, Kind, WAKER, untoken};
use crate::gateway::core::Core;
use crate::gateway::hub::Hub;
use crate::gateway::io::memory;
use crate::gateway::io::uring::Ring;
use crate::gateway::msg::{HubMsg, Msg};
use crate::gateway::relay::Held;
use crate::gateway::shared::GatewaySlot;
use crate::gateway::web::Web;
use crate::listener::op::{Delivery, Op};

/// Messages that an inbox keeps room for.
const INBOX: usize = 1024;

/// One thread's work.
pub(crate) struct Shard {
    poll: Poll,
    hubs: Vec<Option<Box<Hub>>>,
    ctx: Context,
}

impl Shard {
    /// A shard without gateways.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn new(
        index: usize,
        poll: Poll,
        core: Arc<Core>,
        web: Arc<Web>,
    ) -> io::Result<Shard> {
        let registry = poll.registry().try_clone()?;
        Ok(Shard { poll, hubs: Vec::new(), ctx: Context::new(index, registry, core, web) })
    }

    /// Works until it is told to quit.
    pub(crate) fn run(mut self) {
        // Made here, because it belongs to the thread that makes it.
        let ring = Ring::new().inspect_err(|error| tracing::debug!(%error, "no io_uring"));
        self.ctx.ring = ring.ok();
        let mut events = Events::with_capacity(1024);
        let mut inbox = Vec::new();
        loop {
            self.ctx.tick();
            if self.ctx.takes_trim() {
                inbox.shrink_to(INBOX);
                self.ctx.core.shrink_inbox(self.ctx.index, INBOX);
                self.hubs.iter_mut().flatten().for_each(|hub| hub.shrink());
                memory::trim();
            }
            let more = self.turn();
            let timeout = if more { Some(Duration::ZERO) } else { self.timeout() };
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "epoll failed");
                    std::process::abort();
                }
            }
            self.ctx.tick();
            let hubs = self.hubs.iter().flatten();
            let held: Vec<Held> = hubs.filter_map(|hub| hub.hold_relay()).collect();
            // Before anything that could give a slot to another connection.
            for event in &events {
                self.event(event);
            }
            self.ctx.core.take_inbox(self.ctx.index, &mut inbox);
            for msg in inbox.drain(..) {
                match msg {
                    Msg::Add(shared) => {
                        let index = shared.slot.index as usize;
                        if self.hubs.len() <= index {
                            self.hubs.resize_with(index + 1, || None);
                        }
                        self.hubs[index] = Some(Box::new(Hub::new(shared, &self.ctx)));
                    }
                    Msg::Gateway(slot, msg) => self.hub_msg(slot, msg),
                    Msg::Quit => return,
                }
            }
            drop(held);
        }
    }

    fn event(&mut self, event: &Event) {
        if event.token() == WAKER {
            return;
        }
        let (gateway, kind, slot) = untoken(event.token());
        let hub = self.hubs.get_mut(gateway as usize).and_then(Option::as_deref_mut);
        let Some(hub) = hub else { return };
        match kind {
            Kind::Connection => hub.connection_event(slot, event, &mut self.ctx),
            Kind::Acceptor | Kind::Stdin | Kind::Stdout => {
                hub.primary_event(kind, event.is_read_closed());
            }
        }
    }

    fn hub_msg(&mut self, slot: GatewaySlot, msg: HubMsg) {
        let place = self.hubs.get_mut(slot.index as usize);
        let Some(place) = place.filter(|place| place.as_ref().is_some_and(|hub| hub.is(slot)))
        else {
            return missed(msg, &self.ctx);
        };
        let removed = matches!(msg, HubMsg::Remove);
        if let Some(hub) = place {
            hub.msg(msg, &mut self.ctx);
        }
        if removed {
            *place = None;
        }
    }

    /// One turn of everything; true if something is left to do at once.
    fn turn(&mut self) -> bool {
        let ctx = &mut self.ctx;
        let mut more = false;
        for hub in self.hubs.iter_mut().flatten() {
            more |= hub.turn(ctx);
        }
        while let Some((at, due)) = ctx.timers.pop(ctx.now) {
            for due in due {
                if let Some(Some(hub)) = self.hubs.get_mut(due.gateway as usize) {
                    hub.timer(due, at, ctx);
                    more = true;
                }
            }
        }
        more
    }

    /// How long the shard may sleep.
    fn timeout(&self) -> Option<Duration> {
        let ctx = &self.ctx;
        let timer = [ctx.timers.next(), ctx.trim_at()].into_iter().flatten().min();
        let timer = timer.map(|at| Duration::from_millis(at.since(ctx.now)));
        let hubs = self.hubs.iter().flatten().filter_map(|hub| hub.timeout(ctx)).min();
        [timer, hubs].into_iter().flatten().min()
    }
}

/// A message for a gateway that is gone. What waits for an answer sees its channel close.
fn missed(msg: HubMsg, ctx: &Context) {
    match msg {
        HubMsg::Socket(..) | HubMsg::Returned(_) => ctx.core.give_socket(),
        HubMsg::Op(Op::Deliver(Delivery { report: Some(report), .. })) => report.finish(),
        _ => {}
    }
}
