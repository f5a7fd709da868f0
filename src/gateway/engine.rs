//! The engine of a `serve`: it starts the shards' threads, gives gateways their places, and ends
//! the threads when it is dropped.

use std::io;
use std::sync::{Arc, OnceLock};

use mio::{Poll, Waker};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::config::settings::GatewaySettings;
use crate::gateway::context::WAKER;
use crate::gateway::core::Core;
use crate::gateway::metrics::Metrics;
use crate::gateway::msg::{HubMsg, Msg};
use crate::gateway::shard::Shard;
use crate::gateway::shared::{GatewaySlot, Shared};
use crate::gateway::web::Web;
use crate::listener::protocol::node::Node;
use crate::listener::supervisor::Report;
use crate::listener::tap::Tap;
use crate::net::address::BoundAddress;

/// The shards of one `serve`.
pub struct Engine {
    core: Arc<Core>,
    web: Arc<Web>,
    threads: Vec<std::thread::JoinHandle<()>>,
    places: Mutex<Vec<Place>>,
}

/// One place for a gateway.
#[derive(Debug, Default, Clone, Copy)]
struct Place {
    used: bool,
    /// Gateways that had it before.
    generation: u32,
}

impl Engine {
    /// Starts one shard for each CPU that this process may use.
    ///
    /// # Errors
    /// The kernel's, for epoll and threads.
    pub fn start() -> io::Result<Engine> {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Engine::with_shards(cpus.min(16))
    }

    fn with_shards(shards: usize) -> io::Result<Engine> {
        let descriptors = raise_descriptor_limit();
        let mut polls = Vec::with_capacity(shards);
        let mut wakers = Vec::with_capacity(shards);
        for _ in 0..shards {
            let poll = Poll::new()?;
            wakers.push(Waker::new(poll.registry(), WAKER)?);
            polls.push(poll);
        }
        let core = Arc::new(Core::new(wakers, descriptors));
        let web = Arc::new(Web::new(Arc::clone(&core)));
        let mut threads = Vec::with_capacity(shards);
        for (index, poll) in polls.into_iter().enumerate() {
            let shard = Shard::new(index, poll, Arc::clone(&core), Arc::clone(&web))?;
            let thread = std::thread::Builder::new()
                .name(format!("shard-{index}"))
                .spawn(move || shard.run())?;
            threads.push(thread);
        }
        Ok(Engine { core, web, threads, places: Mutex::default() })
    }

    /// What all threads share.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// A gateway appears; it neither accepts nor has a listener yet. In a cluster its connections are
    /// on this node. `observed` are its counters, and where its events can be watched.
    pub(crate) fn add(
        &self,
        node: Option<Node>,
        settings: Arc<GatewaySettings>,
        bound: BoundAddress,
        observed: (Arc<Metrics>, Arc<Tap>),
        reports: mpsc::UnboundedSender<Report>,
    ) -> Arc<Shared> {
        let slot = self.take_place();
        let shards = self.core.shards();
        let mut shared = Shared::new(slot, shards, settings, bound, observed, reports);
        shared.node = node;
        let shared = Arc::new(shared);
        self.core.keep_back_for_gateway();
        for shard in 0..shards {
            self.core.post(shard, Msg::Add(Arc::clone(&shared)));
        }
        shared
    }

    fn take_place(&self) -> GatewaySlot {
        let mut places = self.places.lock();
        let index = places.iter().position(|place| !place.used).unwrap_or(places.len());
        if index == places.len() {
            places.push(Place::default());
        }
        places[index].used = true;
        // There are as many places as gateways at most.
        GatewaySlot { index: index as u32, generation: places[index].generation }
    }

    /// A gateway is gone: its sockets are closed, its place is free.
    pub fn remove(&self, gateway: &Shared) {
        gateway.cut_answers();
        self.core.post_all(gateway, || HubMsg::Remove);
        self.core.give_back_of_gateway();
        if let Some(place) = self.places.lock().get_mut(gateway.slot.index as usize) {
            place.used = false;
            place.generation = place.generation.wrapping_add(1);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for shard in 0..self.core.shards() {
            self.core.post(shard, Msg::Quit);
        }
        for thread in self.threads.drain(..) {
            // A shard that panicked has said so already.
            let _ = thread.join();
        }
        self.web.stop();
    }
}

static FIRST_LIMIT: OnceLock<(u64, u64)> = OnceLock::new();

/// The limits on open files (soft, hard) before they were raised; `None` where there are none.
pub fn first_descriptor_limit() -> Option<(u64, u64)> {
    FIRST_LIMIT.get().copied()
}

/// Raises the limit on open files to the hard limit; returns it.
fn raise_descriptor_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let (Some(soft), Some(hard)) = (limit.current, limit.maximum) {
        // Only the first engine of the process sees the limit as it was given to us.
        let _ = FIRST_LIMIT.set((soft, hard));
    }
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    now.and_then(|n| usize::try_from(n).ok()).unwrap_or(1 << 20)
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    /// Whoever holds on to a gateway that is gone (a push that is withdrawn, a result line) must not
    /// reach the one that has its place now.
    #[test]
    fn a_late_message_does_not_reach_the_next_gateway_in_the_same_place() {
        let engine = Engine::with_shards(2).unwrap();
        let settings = || Arc::new(GatewaySettings::default());
        let bound = BoundAddress::Tcp("127.0.0.1:1".parse().unwrap());
        let (reports, _hears) = mpsc::unbounded_channel();
        let add = || {
            let observed = (Arc::default(), Arc::default());
            engine.add(None, settings(), bound.clone(), observed, reports.clone())
        };
        let first = add();
        engine.remove(&first);
        let second = add();
        assert_eq!(first.slot.index, second.slot.index);
        let sync = |gateway: &Shared| {
            let (done, handled) = oneshot::channel();
            engine.core().post_hub(0, gateway, HubMsg::Sync(done));
            handled.blocking_recv().is_ok()
        };
        assert!(!sync(&first), "the message for the first gateway was handled by the second");
        assert!(sync(&second));
    }
}
