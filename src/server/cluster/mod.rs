//! Several nodes that share what a gateway sends, over NATS.
//!
//! A gateway with a cluster has a task on the control runtime ([`task`], [`incoming`]). All of the
//! gateway's operations go through it, on their way from the shards to the shards. Those that concern
//! clients of other nodes, too, it puts into a stream, which all nodes read ([`engine`], [`wire`]);
//! they are carried out when they come back, so the stream's order is everybody's ([`replica`], [`order`],
//! [`counting`], [`opening`]). The
//! stream is the history as well. [`nodes`] knows the other nodes and their members of channels,
//! [`counts`] what they say came of a delivery, [`status`] how all that stands.
//!
//! Everything belongs to the task; others see [`status`] alone. A gateway without a cluster has
//! nothing of this.

mod counting;
mod counts;
mod engine;
mod epochs;
mod fitness;
mod inbox;
mod incoming;
mod linking;
pub(crate) mod lists;
mod names;
mod nodes;
mod opening;
mod order;
mod outgoing;
mod replica;
mod seldom;
mod servers;
#[cfg(test)]
mod simulation;
pub(crate) mod status;
mod task;
mod telling;
mod wire;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::settings::{ClusterSettings, GatewaySettings};
use crate::control::backend::{ConnectionsAsk, ConnectionsPage};
use crate::gateway::core::Core;
use crate::gateway::kept::now;
use crate::gateway::metrics::ClusterMetrics;
use crate::gateway::outlet::Outlet;
use crate::gateway::shared::Shared;
use crate::listener::protocol::node::Node;
use crate::server::cluster::engine::Engine;
use crate::server::cluster::lists::{Ask, PageAsk, Rows};
use crate::server::cluster::names::Names;
use crate::server::cluster::servers::Servers;
use crate::server::cluster::status::Status;
use crate::server::cluster::task::{Ears, Task};
use crate::text::position::Epoch;

/// How long a start waits for the servers.
const START: Duration = Duration::from_secs(2);

/// How often a start looks for the servers.
const LOOK: Duration = Duration::from_millis(10);

/// How long another node may take for an answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// How many names a node draws before it takes one that may be another node's.
const DRAWS: usize = 8;

/// How long a stop waits for the task.
const STOP: Duration = Duration::from_secs(1);

/// The connection of this `serve` to the servers.
pub(crate) struct Cluster {
    settings: ClusterSettings,
    servers: Servers,
    node: tokio::sync::OnceCell<Node>,
    /// When it was made, in Unix milliseconds.
    since: u64,
    client: tokio::sync::OnceCell<Client>,
    /// Tasks that were started.
    runs: AtomicU64,
}

/// A gateway's part of the cluster, while it runs.
pub(crate) struct Member {
    status: Arc<Status>,
    engine: Engine,
    stop: CancellationToken,
    task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Cluster {
    /// Nothing is connected yet.
    pub(crate) fn new(settings: ClusterSettings) -> Cluster {
        Cluster {
            servers: Servers::new(&settings),
            settings,
            node: tokio::sync::OnceCell::new(),
            since: now(),
            client: tokio::sync::OnceCell::new(),
            runs: AtomicU64::new(0),
        }
    }

    /// The settings that it was made by.
    pub(crate) fn settings(&self) -> &ClusterSettings {
        &self.settings
    }

    /// The settings of a gateway as its servers allow them: a message of a client has to fit into one of
    /// theirs. Waits for the servers for a moment.
    ///
    /// # Errors
    /// What is set and does not fit.
    pub(crate) async fn fit(&self, settings: &GatewaySettings) -> Result<GatewaySettings, String> {
        let client = self.client().await?;
        let connected = async {
            while client.try_server_info().is_none_or(|info| info.max_payload == 0) {
                tokio::time::sleep(LOOK).await;
            }
        };
        // Without an answer, what most servers have is taken for granted.
        let known = tokio::time::timeout(START, connected).await.is_ok();
        if let Some(why) = engine::too_small(&client) {
            return Err(why);
        }
        let most = engine::largest(&client);
        let mut fitted = settings.clone();
        fitted.max_shared = Some(most);
        if settings.max_message > most {
            if known && settings.max_message_is_set {
                return Err(format!(
                    "max-message ({} bytes) is too large for the NATS server, which leaves {most} for \
                     it: set it to {most} or less, or raise max_payload of the servers",
                    settings.max_message
                ));
            }
            if settings.max_message_is_set {
                // Whether it fits is seen when the servers are there.
                fitted.max_shared = Some(settings.max_message);
            } else {
                fitted.max_message = most;
            }
        }
        Ok(fitted)
    }

    /// This node. Its name is drawn when a gateway needs it first: the servers are asked whether another
    /// node has it.
    pub(crate) async fn node(&self) -> Node {
        *self.node.get_or_init(|| self.draw()).await
    }

    async fn draw(&self) -> Node {
        let Ok(client) = self.client().await else { return Node::random() };
        for _ in 0..DRAWS {
            let node = Node::random();
            if !is_taken(&client, node).await {
                tokio::spawn(answer_to(client, node));
                return node;
            }
            tracing::info!(%node, "the name of this node is drawn again: another node of the cluster has it");
        }
        Node::random()
    }

    /// The client, which connects in the background, and again whenever it has to.
    async fn client(&self) -> Result<Client, String> {
        self.client.get_or_try_init(|| self.connect()).await.cloned()
    }

    async fn connect(&self) -> Result<Client, String> {
        let mut options = ConnectOptions::new()
            .name(&self.settings.name)
            .retry_on_initial_connect()
            .ping_interval(Duration::from_secs(1))
            .connection_timeout(Duration::from_secs(1))
            .event_callback({
                let why = Arc::clone(&self.servers.why);
                move |event| {
                    let why = Arc::clone(&why);
                    async move {
                        match event {
                            Event::ClientError(error) => *why.lock() = Some(error.to_string()),
                            Event::Connected => *why.lock() = None,
                            _ => {}
                        }
                    }
                }
            })
            .reconnect_delay_callback(|attempts| {
                Duration::from_millis((attempts as u64 * 50).min(250))
            });
        if let Some(path) = &self.settings.credentials {
            options = options.credentials_file(path).await.map_err(|why| {
                format!("the credentials {} cannot be read: {why}", path.display())
            })?;
        }
        let servers = self.settings.url.as_slice();
        let connected = options.connect(servers).await;
        connected.map_err(|why| format!("the NATS servers cannot be connected to: {why}"))
    }

    /// Lets a gateway take part. Returns when it has read the stream, or the servers are too slow.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub(crate) async fn join(
        &self,
        settings: &GatewaySettings,
        (core, shared): (&Arc<Core>, &Arc<Shared>),
        metrics: &Arc<ClusterMetrics>,
    ) -> Result<Member, String> {
        let client = self.client().await?;
        let engine = Engine::new((client.clone(), self.servers.clone()), &self.settings, settings);
        let asks = engine.clone();
        let status = Arc::new(Status::new(Arc::clone(metrics)));
        let outlet = Outlet::new(Arc::clone(core), Arc::clone(shared));
        if !engine.is_core() {
            // Until the stream is read, positions are of this form already.
            outlet.begin_epoch(Epoch::random(), task::number(0, 0));
        }
        let (inbox, taken) = inbox::inbox();
        let (answers, to_answer) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let name = self.settings.name.clone();
        // Each can give its messages up often enough.
        let run = self.runs.fetch_add(1 << 10, Ordering::Relaxed);
        let task = Task::new(
            (self.node().await, self.since, run),
            name,
            engine,
            outlet,
            (settings.on_engine_loss, settings.max_message),
            Arc::clone(&status),
            answers,
        );
        let ears = Ears { inbox: taken, answers: to_answer, stop: stop.clone() };
        let task = tokio::spawn(watched(task.run(ears), stop.clone(), Arc::clone(&status)));
        core.set_relay(shared, Some(Arc::new(inbox)));
        // Without a connection, `fit` has waited already.
        let connected = client.connection_state() == State::Connected;
        let patience = if connected { START } else { Duration::ZERO };
        let member = Member {
            status: Arc::clone(&status),
            engine: asks,
            stop,
            task: tokio::sync::Mutex::new(Some(task)),
        };
        tokio::select! {
            () = status.when_ready() => {}
            why = status.when_unfit() => {
                member.leave().await;
                return Err(why);
            }
            () = too_long(&status, patience) => {
                let why = self.servers.unreachable().await;
                tracing::warn!(gateway = %shared.id, "{why}: the gateway starts without the other nodes");
            }
        }
        Ok(member)
    }
}

/// Whether another node has this name, as far as the servers can be asked.
async fn is_taken(client: &Client, node: Node) -> bool {
    if client.connection_state() != State::Connected {
        return false;
    }
    let asked = client.request(Names::of_node(node), Bytes::new());
    matches!(tokio::time::timeout(PATIENCE, asked).await, Ok(Ok(_)))
}

/// Answers those who ask for a node.
async fn answer_to(client: Client, node: Node) {
    let Ok(mut asked) = client.subscribe(Names::of_node(node)).await else { return };
    while let Some(message) = asked.next().await {
        if let Some(asker) = message.reply {
            // Whoever asked waits for a limited time.
            let _ = client.publish(asker, Bytes::new()).await;
        }
    }
}

/// Runs the task of a gateway, which has failed if that ends unasked.
async fn watched(run: impl Future<Output = ()>, stop: CancellationToken, status: Arc<Status>) {
    let ended = AssertUnwindSafe(run).catch_unwind().await;
    if ended.is_err() || !stop.is_cancelled() {
        let why = "what connects it to the other nodes of the cluster has ended, which is an error in wsgw: \
                   `wsgw start` starts it again";
        status.give_up(why.to_owned());
    }
}

/// Resolves when the servers take too long to answer. While the stream is being read they do answer.
async fn too_long(status: &Status, patience: Duration) {
    tokio::time::sleep(patience).await;
    while status.is_up() {
        tokio::time::sleep(LOOK).await;
    }
}

impl Member {
    /// How it stands.
    pub(crate) fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Asks another node; `None` if it does not answer in time.
    pub(crate) async fn ask(&self, node: Node, ask: &Ask) -> Option<Rows> {
        // It is plain data.
        let bytes = serde_json::to_vec(ask).unwrap_or_default();
        let asked = self.engine.client.request(self.engine.names.of(node), bytes.into());
        let answer = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?;
        serde_json::from_slice(&answer.payload).ok()
    }

    /// Whether a node is there, as far as this one knows.
    pub(crate) fn knows(&self, node: Node) -> bool {
        let name = node.to_string();
        self.status.nodes().iter().any(|known| known.node == name)
    }

    /// What this asks of each other node. A node that does not answer is named.
    pub(crate) async fn pages(&self, ask: &ConnectionsAsk) -> Vec<ConnectionsPage> {
        let others = self.status.nodes().into_iter().filter(|node| !node.this);
        let others = others.filter_map(|node| Node::parse(&node.node));
        futures_util::future::join_all(others.map(|node| self.page(node, ask))).await
    }

    async fn page(&self, node: Node, ask: &ConnectionsAsk) -> ConnectionsPage {
        let mut page = ConnectionsPage::default();
        loop {
            let part = Ask::Page(PageAsk::part(ask, &page.rows));
            let Some(Rows { rows, total, more }) = self.ask(node, &part).await else {
                page.silent.push(node.to_string());
                return page;
            };
            let is_last = !more || rows.is_empty();
            page.total = total;
            page.rows.extend(rows);
            if is_last || ask.limit.is_some_and(|limit| page.rows.len() >= limit) {
                return page;
            }
        }
    }

    /// Resolves when it takes part no longer.
    pub(crate) async fn left(&self) {
        self.stop.cancelled().await;
    }

    /// Takes part no longer; what waits goes to this node's own clients.
    pub(crate) async fn leave(&self) {
        self.stop.cancel();
        if let Some(task) = self.task.lock().await.take() {
            // One that is stuck ends with the runtime.
            let _ = tokio::time::timeout(STOP, task).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_gateway_whose_task_ends_unasked_has_failed() {
        let status = || Arc::new(Status::new(Arc::default()));
        let has_failed = |status: &Arc<Status>| status.when_unfit().now_or_never().is_some();
        let stop = CancellationToken::new();
        let ended = status();
        watched(async { panic!("as a test") }, stop.clone(), Arc::clone(&ended)).await;
        assert!(has_failed(&ended));
        let ended = status();
        watched(async {}, stop.clone(), Arc::clone(&ended)).await;
        assert!(has_failed(&ended));
        let ended = status();
        stop.cancel();
        watched(async {}, stop, Arc::clone(&ended)).await;
        assert!(!has_failed(&ended));
    }
}
