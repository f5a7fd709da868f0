//! The engine: the shards' threads, their inboxes, and what the threads of a `serve` share.
//!
//! Shards and the control runtime speak by [`Msg`]s. An inbox is a vector under a lock that is held
//! for a push or a swap alone; a wake-up is sent only when the shard has not been woken already.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use mio::Waker;
use mio::net::TcpStream;
use parking_lot::{Mutex, RwLock};
use rustls::ServerConfig;
use tokio::sync::{mpsc, oneshot};

use crate::config::settings::GatewaySettings;
use crate::gateway::metrics::Metrics;
use crate::gateway::occupancy::Occupancy;
use crate::gateway::pressure::Pressure;
use crate::gateway::shard::Shard;
use crate::listener::connection::{Closed, ConnInfo};
use crate::listener::exchange::{PushAsk, Verdict};
use crate::listener::protocol::connid::ConnId;
use crate::listener::recipients::Recipients;
use crate::listener::report::DeliveryReport;
use crate::listener::supervisor::Report;
use crate::ws::close::Closing;
use crate::ws::payload::Message;

/// Descriptors that clients never get: for the control port and the log.
const KEPT_BACK: usize = 48;

/// The same for each gateway: its acceptor, its listener's pipes, and those of a restart.
const KEPT_BACK_EACH: usize = 16;

/// One gateway, as its shards and the control runtime share it.
pub struct Shared {
    /// Its id.
    pub id: Arc<str>,
    /// Its slot in the engine.
    pub slot: usize,
    /// The shard that accepts and speaks to the listener.
    pub home: usize,
    /// Its counters.
    pub metrics: Arc<Metrics>,
    /// The address that was bound.
    pub bound: SocketAddr,
    tls: RwLock<Option<Arc<ServerConfig>>>,
    /// Backpressure between clients and listener.
    pub(crate) pressure: Pressure,
    /// Its connections, counted.
    pub(crate) occupancy: Occupancy,
    /// The settings as they apply now.
    settings: RwLock<Arc<GatewaySettings>>,
    /// Whether new connections are refused: a stop has begun.
    pub refusing: AtomicBool,
    /// Whether what clients send is thrown away: the stop goes on to its end.
    pub stopping: AtomicBool,
    /// Held while a delivery goes to more than one shard, so that all see one order.
    order: Mutex<()>,
    /// What the supervisor of the listener has to know.
    reports: Mutex<mpsc::UnboundedSender<Report>>,
}

impl Shared {
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

/// A frame for recipients.
pub struct Delivery {
    /// Header and payload.
    pub frame: Bytes,
    /// Who gets it.
    pub to: Recipients,
    /// Whose message it is, where no listener was asked: it counts against its sender until it is
    /// sent.
    pub from: Option<ConnId>,
    /// Who wants to know.
    pub tally: Option<Arc<DeliveryReport>>,
}

impl Delivery {
    fn share(&self) -> Delivery {
        Delivery {
            frame: self.frame.clone(),
            to: self.to.clone(),
            from: self.from,
            tally: self.tally.clone(),
        }
    }
}

/// Who is told that a close command was carried out.
pub enum CloseReply {
    /// Nobody.
    None,
    /// The listener: the `ref`.
    Listener(String),
    /// The control port.
    Control(oneshot::Sender<Option<ConnRow>>),
}

/// One connection, as it is listed.
#[derive(Debug, Clone)]
pub struct ConnRow {
    /// Its request.
    pub info: Arc<ConnInfo>,
    /// Bytes that wait for its socket.
    pub queued: usize,
}

/// What a shard is told. The first field is the gateway's slot.
pub enum Msg {
    /// A gateway appears.
    Add(Arc<Shared>),
    /// A gateway is gone.
    Remove(usize),
    /// Its settings changed.
    Settings(usize),
    /// Tell when all that was posted before this has been handled.
    Sync(usize, oneshot::Sender<()>),
    /// Accept on this socket (home only); `None` stops accepting.
    Accept(usize, Option<std::net::TcpListener>),
    /// A new client.
    Socket(usize, TcpStream, SocketAddr, ConnId),
    /// Send a frame.
    Deliver(usize, Delivery),
    /// Close a connection behind what was delivered to it so far.
    Close(usize, ConnId, u16, String, CloseReply),
    /// The answer to a handshake.
    Verdict(usize, ConnId, Verdict),
    /// Messages of these connections are through, and the bytes of each.
    Done(usize, Vec<(ConnId, usize)>),
    /// A connection's end, behind what was delivered to it so far.
    Finish(usize, ConnId),
    /// Pressure is off: read again.
    Resume(usize),
    /// For the home.
    Home(usize, HomeMsg),
    /// List connections: all, or one.
    List(usize, Option<ConnId>, oneshot::Sender<Vec<ConnRow>>),
    /// Close every connection behind what was delivered so far; `None` cuts them now.
    CloseAll(usize, Option<(u16, &'static str)>),
    /// Close one part in so many of the connections, at random rounding, behind what was delivered
    /// so far.
    CloseShare(usize, Closing, u32),
    /// Tell when no connection is left.
    WhenEmpty(usize, oneshot::Sender<()>),
    /// End the thread.
    Quit,
}

/// For the home of a gateway.
pub enum HomeMsg {
    /// A connection on another shard was opened.
    Opened(Arc<ConnInfo>),
    /// It sent a message.
    Message(ConnId, Message),
    /// It is gone.
    Closed(ConnId, Closed),
    /// A handshake asks.
    Ask(ConnId, Vec<u8>, Vec<String>),
    /// A result line for the listener.
    Result(String),
    /// A push through the listener.
    Push(Box<PushAsk>),
    /// The requester of a push has gone.
    Withdrawn,
    /// A new incarnation of the listener: its stdin (none for a producer) and its stdout.
    Attach(Option<OwnedFd>, OwnedFd),
    /// The incarnation's process has exited.
    Exited {
        /// Whether we ended it.
        wanted: bool,
    },
    /// Close the listener's stdin.
    CloseStdin,
    /// Tell when no event is owed or waits.
    WhenIdle(oneshot::Sender<()>),
    /// Drop whatever is owed or waits; tells how many.
    DropAll(oneshot::Sender<usize>),
    /// Tell when every line is in the listener's stdin.
    WhenFlushed(oneshot::Sender<()>),
}

struct Inbox {
    queue: Mutex<Vec<Msg>>,
    waker: Waker,
    woken: AtomicBool,
}

/// What all threads share.
pub struct Core {
    inboxes: Vec<Inbox>,
    /// When the engine began; the shards' milliseconds count from here.
    pub start: Instant,
    next_conn: AtomicU64,
    sockets: AtomicUsize,
    descriptors: usize,
    kept_back: AtomicUsize,
}

impl Core {
    /// Shards.
    pub fn shards(&self) -> usize {
        self.inboxes.len()
    }

    /// The shard of a connection.
    pub fn shard_of(&self, conn: ConnId) -> usize {
        // The remainder is below the number of shards.
        (conn.0 % self.inboxes.len() as u64) as usize
    }

    /// A name that no connection ever had.
    pub fn next_conn(&self) -> ConnId {
        ConnId(self.next_conn.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes a descriptor for a client, if one may be taken.
    pub fn take_socket(&self) -> bool {
        let kept_back = self.kept_back.load(Ordering::Relaxed);
        let max = self.descriptors.saturating_sub(kept_back).max(16);
        let taken = self
            .sockets
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < max).then_some(n + 1));
        taken.is_ok()
    }

    /// Gives it back.
    pub fn give_socket(&self) {
        self.sockets.fetch_sub(1, Ordering::Relaxed);
    }

    /// Puts a message into a shard's inbox and wakes the shard.
    pub fn post(&self, shard: usize, msg: Msg) {
        let Some(inbox) = self.inboxes.get(shard) else { return };
        inbox.queue.lock().push(msg);
        // Release: whoever sees the flag sees the message.
        if !inbox.woken.swap(true, Ordering::AcqRel) {
            // It fails only when the shard's poll is gone, and its thread with it.
            let _ = inbox.waker.wake();
        }
    }

    /// Takes what is in a shard's inbox.
    pub fn take_inbox(&self, shard: usize, into: &mut Vec<Msg>) {
        let Some(inbox) = self.inboxes.get(shard) else { return };
        if inbox.woken.swap(false, Ordering::AcqRel) {
            into.append(&mut inbox.queue.lock());
        }
    }

    /// Leaves a shard's inbox room for so many messages at most, where it has fewer.
    pub fn shrink_inbox(&self, shard: usize, room: usize) {
        if let Some(inbox) = self.inboxes.get(shard) {
            inbox.queue.lock().shrink_to(room);
        }
    }

    /// For a gateway's home.
    pub fn post_home(&self, gateway: &Shared, msg: HomeMsg) {
        self.post(gateway.home, Msg::Home(gateway.slot, msg));
    }

    /// Sends a frame on every shard concerned, in one order for all.
    pub fn deliver(&self, gateway: &Shared, delivery: Delivery) {
        // With a tally every shard has to report.
        if let (Recipients::Only(conns), None) = (&delivery.to, &delivery.tally) {
            match conns[..] {
                [] => return,
                [conn] => {
                    let shard = self.shard_of(conn);
                    gateway.pressure.frames_added(1);
                    let _order = gateway.order.lock();
                    self.post(shard, Msg::Deliver(gateway.slot, delivery));
                    return;
                }
                _ => {}
            }
        }
        gateway.pressure.frames_added(self.shards());
        let _order = gateway.order.lock();
        for shard in 1..self.shards() {
            self.post(shard, Msg::Deliver(gateway.slot, delivery.share()));
        }
        self.post(0, Msg::Deliver(gateway.slot, delivery));
    }

    /// To every shard.
    pub fn post_all(&self, mut msg: impl FnMut() -> Msg) {
        for shard in 0..self.shards() {
            self.post(shard, msg());
        }
    }
}

/// The shards of one `serve`.
pub struct Engine {
    core: Arc<Core>,
    threads: Vec<std::thread::JoinHandle<()>>,
    slots: Mutex<Vec<bool>>,
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
        let mut inboxes = Vec::with_capacity(shards);
        for _ in 0..shards {
            let poll = mio::Poll::new()?;
            let waker = Waker::new(poll.registry(), crate::gateway::shard::WAKER)?;
            inboxes.push(Inbox {
                queue: Mutex::new(Vec::new()),
                waker,
                woken: AtomicBool::new(false),
            });
            polls.push(poll);
        }
        let core = Arc::new(Core {
            inboxes,
            start: Instant::now(),
            next_conn: AtomicU64::new(1),
            sockets: AtomicUsize::new(0),
            descriptors,
            kept_back: AtomicUsize::new(KEPT_BACK),
        });
        let mut threads = Vec::with_capacity(shards);
        for (index, poll) in polls.into_iter().enumerate() {
            let shard = Shard::new(index, poll, Arc::clone(&core))?;
            let thread = std::thread::Builder::new()
                .name(format!("shard-{index}"))
                .spawn(move || shard.run())?;
            threads.push(thread);
        }
        Ok(Engine { core, threads, slots: Mutex::new(Vec::new()) })
    }

    /// What all threads share.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// A gateway appears; it neither accepts nor has a listener yet.
    pub fn add(
        &self,
        settings: Arc<GatewaySettings>,
        bound: SocketAddr,
        metrics: Arc<Metrics>,
        reports: mpsc::UnboundedSender<Report>,
    ) -> Arc<Shared> {
        let slot = {
            let mut slots = self.slots.lock();
            let free = slots.iter().position(|used| !used);
            let slot = free.unwrap_or(slots.len());
            if free.is_none() {
                slots.push(true);
            } else {
                slots[slot] = true;
            }
            slot
        };
        let shared = Arc::new(Shared {
            id: Arc::from(settings.id.as_str()),
            slot,
            home: slot % self.core.shards(),
            metrics,
            bound,
            tls: RwLock::new(None),
            pressure: Pressure::new(self.core.shards()),
            occupancy: Occupancy::default(),
            settings: RwLock::new(settings),
            refusing: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            order: Mutex::new(()),
            reports: Mutex::new(reports),
        });
        self.core.kept_back.fetch_add(KEPT_BACK_EACH, Ordering::Relaxed);
        self.core.post_all(|| Msg::Add(Arc::clone(&shared)));
        shared
    }

    /// A gateway is gone: its sockets are closed, its slot is free.
    pub fn remove(&self, gateway: &Shared) {
        self.core.post_all(|| Msg::Remove(gateway.slot));
        self.core.kept_back.fetch_sub(KEPT_BACK_EACH, Ordering::Relaxed);
        let mut slots = self.slots.lock();
        if let Some(used) = slots.get_mut(gateway.slot) {
            *used = false;
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.core.post_all(|| Msg::Quit);
        for thread in self.threads.drain(..) {
            // A shard that panicked has said so already.
            let _ = thread.join();
        }
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
