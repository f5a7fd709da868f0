//! One gateway, as its shards and the control runtime share it: atomics, and settings behind locks
//! that are held for a look or a swap alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard, RwLock};
use rustls::ServerConfig;
use tokio::sync::mpsc;

use crate::config::settings::GatewaySettings;
use crate::gateway::channels::Channels;
use crate::gateway::kept::History;
use crate::gateway::metrics::Metrics;
use crate::gateway::msg::HubMsg;
use crate::gateway::occupancy::Occupancy;
use crate::gateway::pressure::Pressure;
use crate::listener::op::Op;
use crate::listener::supervisor::Report;

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
}

impl Order {
    /// Gives an operation its place; `keeps` says whether a message is kept now. `None`: the writer
    /// of the history hands it out.
    pub(super) fn put(&self, gateway: &Arc<Shared>, mut op: Op, keeps: bool) -> Option<Op> {
        let Some(history) = &self.history else { return Some(op) };
        if let Some(writer) = history.writer() {
            return writer.op(gateway, op);
        }
        if let Op::Deliver(delivery) = &mut op
            && keeps
        {
            history.keep(delivery);
        }
        Some(op)
    }
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
    /// The address that was bound.
    pub bound: SocketAddr,
    /// Backpressure between clients and listener.
    pub(crate) pressure: Pressure,
    /// Its connections, counted.
    pub(crate) occupancy: Occupancy,
    tls: RwLock<Option<Arc<ServerConfig>>>,
    settings: RwLock<Arc<GatewaySettings>>,
    refusing: AtomicBool,
    stopping: AtomicBool,
    /// The channels of all shards.
    pub channels: Channels,
    /// Whether messages are kept: for a look without the lock.
    pub(super) keeps: AtomicBool,
    /// Held while an operation is handed out, so that all shards see one order.
    order: Mutex<Order>,
    reports: Mutex<mpsc::UnboundedSender<Report>>,
}

impl Shared {
    pub(super) fn new(
        slot: GatewaySlot,
        shards: usize,
        settings: Arc<GatewaySettings>,
        bound: SocketAddr,
        metrics: Arc<Metrics>,
        reports: mpsc::UnboundedSender<Report>,
    ) -> Shared {
        Shared {
            id: Arc::from(settings.id.as_str()),
            slot,
            primary: slot.index as usize % shards,
            metrics,
            bound,
            pressure: Pressure::new(shards),
            occupancy: Occupancy::default(),
            tls: RwLock::new(None),
            settings: RwLock::new(settings),
            refusing: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            channels: Channels::default(),
            keeps: AtomicBool::new(false),
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

    /// The history; `None` if nothing is kept.
    pub fn history(&self) -> Option<Arc<History>> {
        if !self.keeps.load(Ordering::Relaxed) {
            return None;
        }
        self.order.lock().history.clone()
    }

    /// Gives an operation of the only shard its place in the order. `None`: it comes back by the
    /// inbox, once it is written.
    pub(super) fn put_in_order(self: &Arc<Self>, op: Op) -> Option<Op> {
        if !self.keeps.load(Ordering::Relaxed) {
            return Some(op);
        }
        self.order.lock().put(self, op, true)
    }

    /// Keeps a message to a shard behind the operations that are being written; it comes back if
    /// none can be.
    pub(super) fn put_behind_writes(self: &Arc<Self>, shard: usize, msg: HubMsg) -> Option<HubMsg> {
        if !self.keeps.load(Ordering::Relaxed) {
            return Some(msg);
        }
        match self.order.lock().history.as_deref().and_then(History::writer) {
            Some(writer) => writer.msg(self, shard, msg),
            None => Some(msg),
        }
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
