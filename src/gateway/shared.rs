//! One gateway, as its shards and the control runtime share it: atomics, and settings behind locks
//! that are held for a look or a swap alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard, RwLock};
use rustls::ServerConfig;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::settings::GatewaySettings;
use crate::gateway::channels::Channels;
use crate::gateway::kept::History;
use crate::gateway::metrics::Metrics;
use crate::gateway::occupancy::Occupancy;
use crate::gateway::posts::Posts;
use crate::gateway::pressure::Pressure;
use crate::gateway::relay::{Held, Relay};
use crate::listener::protocol::node::Node;
use crate::listener::supervisor::Report;
use crate::listener::tap::Tap;
use crate::net::address::BoundAddress;

/// Where a gateway stands in the tables of the engine and its shards.
///
/// A place is used again when its gateway is gone; the generation tells the two apart, so that a
/// late message for the first never reaches the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GatewaySlot {
    /// The place.
    pub index: u32,
    /// How many gateways had this place before.
    pub generation: u32,
}

/// The one order of a gateway's operations.
#[derive(Default)]
pub(super) struct Order {
    /// Where messages are kept.
    pub(super) history: Option<Arc<History>>,
    /// What puts operations into an order with those of other nodes.
    pub(super) relay: Option<Arc<dyn Relay>>,
}

/// One gateway.
pub struct Shared {
    /// Its id.
    pub id: Arc<str>,
    /// Its place in the engine.
    pub slot: GatewaySlot,
    /// The shard that accepts and speaks to the listener.
    pub primary: usize,
    /// Its counters.
    pub metrics: Arc<Metrics>,
    /// Where its events can be watched.
    pub(crate) tap: Arc<Tap>,
    /// The address that was bound.
    pub bound: BoundAddress,
    /// Backpressure between clients and listener.
    pub(crate) pressure: Pressure,
    /// Its connections, counted.
    pub(crate) occupancy: Occupancy,
    /// The tokens of its streams.
    pub(crate) posts: Arc<Posts>,
    tls: RwLock<Option<Arc<ServerConfig>>>,
    settings: RwLock<Arc<GatewaySettings>>,
    refusing: AtomicBool,
    stopping: AtomicBool,
    /// The clients that are served files, away from the shards.
    pub(crate) answers: TaskTracker,
    /// Those that were answered are not waited for any more.
    pub(crate) end_answers: CancellationToken,
    /// Those that are being answered are cut.
    pub(crate) cut_answers: CancellationToken,
    /// The channels of all shards.
    pub channels: Channels,
    /// Whether operations need the order, for a history or a relay: for a look without the lock.
    orders: AtomicBool,
    /// The node that its connections are on; `None` without a cluster.
    pub(crate) node: Option<Node>,
    /// Held while an operation is handed out, so that all shards see one order.
    order: Mutex<Order>,
    reports: Mutex<mpsc::UnboundedSender<Report>>,
}

impl Shared {
    pub(super) fn new(
        slot: GatewaySlot,
        shards: usize,
        settings: Arc<GatewaySettings>,
        bound: BoundAddress,
        (metrics, tap): (Arc<Metrics>, Arc<Tap>),
        reports: mpsc::UnboundedSender<Report>,
    ) -> Shared {
        Shared {
            id: Arc::from(settings.id.as_str()),
            slot,
            primary: slot.index as usize % shards,
            metrics,
            tap,
            bound,
            pressure: Pressure::new(shards),
            occupancy: Occupancy::default(),
            posts: Arc::default(),
            tls: RwLock::new(None),
            settings: RwLock::new(settings),
            refusing: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            answers: TaskTracker::new(),
            end_answers: CancellationToken::new(),
            cut_answers: CancellationToken::new(),
            channels: Channels::default(),
            orders: AtomicBool::new(false),
            node: None,
            order: Mutex::default(),
            reports: Mutex::new(reports),
        }
    }

    /// The settings as they apply now.
    pub fn settings(&self) -> Arc<GatewaySettings> {
        Arc::clone(&self.settings.read())
    }

    /// Other settings apply from now on; the shards look when they are told.
    pub fn set_settings(&self, settings: Arc<GatewaySettings>) {
        *self.settings.write() = settings;
    }

    /// The certificate that clients are shown; `None` without TLS.
    pub fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.read().clone()
    }

    /// Shows another certificate from now on.
    pub fn set_tls(&self, config: Option<Arc<ServerConfig>>) {
        *self.tls.write() = config;
    }

    /// New connections are refused from now on: a stop has begun.
    pub fn refuse_clients(&self) {
        self.refusing.store(true, Ordering::SeqCst);
        self.end_answers.cancel();
        self.answers.close();
    }

    /// Cuts the clients that are still served files.
    pub fn cut_answers(&self) {
        self.cut_answers.cancel();
    }

    /// Whether new connections are refused.
    pub fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Relaxed)
    }

    /// What clients send is thrown away from now on: the stop goes on to its end.
    pub fn begin_stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Whether what clients send is thrown away.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Held while an operation is handed out.
    pub(super) fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock()
    }

    /// Lets the relay, if there is one, take together what a shard hands in until this is dropped.
    pub(super) fn hold_relay(&self) -> Option<Held> {
        // Without a cluster there is none.
        self.node?;
        self.order().relay.clone().map(Held::new)
    }

    /// Whether operations need the order.
    pub(super) fn orders(&self) -> bool {
        self.orders.load(Ordering::Relaxed)
    }

    /// Operations need the order from now on, or not. The caller holds it.
    pub(super) fn set_orders(&self, orders: bool) {
        self.orders.store(orders, Ordering::Relaxed);
    }

    /// The history; `None` if nothing is kept.
    pub fn history(&self) -> Option<Arc<History>> {
        if !self.orders() {
            return None;
        }
        self.order.lock().history.clone()
    }

    /// Tells the supervisor of the listener. It may be gone at the gateway's end.
    pub fn report(&self, report: Report) {
        let _ = self.reports.lock().send(report);
    }

    /// Where a new supervisor hears the reports from now on.
    pub fn new_reports(&self) -> mpsc::UnboundedReceiver<Report> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.reports.lock() = sender;
        receiver
    }
}
