//! The NATS servers as one gateway uses them: its stream, its place in the stream, and what it
//! publishes.
//!
//! The client's own ordered consumer notices a silent server after ten seconds only. So this uses a
//! plain consumer without acknowledgements, and whoever reads it checks that no message is missing.

use std::time::Duration;

use async_nats::client::{PublishError, RequestErrorKind};
use async_nats::connection::State;
use async_nats::header::{HeaderMap, NATS_MESSAGE_ID};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, ReplayPolicy, push};
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{DiscardPolicy, State as StreamState, Stream};
use async_nats::jetstream::{self, Context, ErrorCode, stream};
use async_nats::{Client, Subscriber};
use bytes::Bytes;
use tokio::time::timeout;

use crate::config::settings::{Cluster, ClusterSettings, GatewaySettings, StreamRule};
use crate::listener::protocol::node::Node;
use crate::listener::protocol::target::NAMES_MOST;
use crate::server::cluster::fitness;
use crate::server::cluster::names::Names;
use crate::server::cluster::opening;
use crate::server::cluster::opening::{Found, Seen, Write, mark_of};
use crate::server::cluster::replica::Opened;
use crate::server::cluster::servers::Servers;
use crate::text::position::Epoch;

/// How long the servers may take for an answer.
const PATIENCE: Duration = Duration::from_millis(1_000);

/// Errors of servers that do not know each other yet: no suitable peers, not available, insufficient resources.
const LATER: [u64; 3] = [10_005, 10_008, 10_023];

/// How long the end of a stream is waited for.
const DELETED: Duration = Duration::from_millis(200);

/// How long a client takes to come to another server, about.
const RECONNECTS: Duration = Duration::from_millis(300);

/// How long room for a message is waited for.
const ROOM: Duration = Duration::from_millis(250);

/// How long all of it may take to come to a stream: some ten answers, of servers that may be far away.
const OPENING: Duration = Duration::from_secs(8);

/// What the stream holds where the gateway keeps no history: for nodes that were away for a moment.
const WITHOUT_HISTORY: (i64, Duration) = (256 << 20, Duration::from_secs(600));

/// What a node gets when it comes to the stream, or comes back.
pub(super) struct Session {
    /// The messages of the stream.
    pub(super) messages: Subscriber,
    /// What the servers say to messages that were published; `None` in core mode.
    pub(super) acks: Option<Subscriber>,
    /// The first words of the subjects by which they say it.
    pub(super) ack_prefix: String,
    /// How the stream was found; `None` in core mode.
    pub(super) opened: Option<Opened>,
    /// What is not as the settings want it.
    pub(super) differences: Vec<String>,
    /// The version of the server.
    pub(super) version: String,
}

/// Bytes that a message to the servers may have besides a client's message: recipients, headers.
const OVERHEAD: usize = 16 << 10;

/// Bytes that its headers take of that.
const HEADERS: usize = 1 << 10;

const _: () =
    assert!(NAMES_MOST + super::outgoing::FRAME <= OVERHEAD - HEADERS, "names fit beside");

/// Bytes of the largest message of a client that can be shared with other nodes.
pub(super) fn largest(client: &Client) -> usize {
    client.try_server_info().map_or(1 << 20, |info| info.max_payload).saturating_sub(OVERHEAD)
}

/// What is wrong with a server whose messages leave no room for one of a client.
pub(super) fn too_small(client: &Client) -> Option<String> {
    let most = client.try_server_info()?.max_payload;
    (1..=OVERHEAD).contains(&most).then(|| {
        format!(
            "the NATS server takes messages of {most} bytes at most, and wsgw needs more than {OVERHEAD}: \
             raise max_payload in the config of the NATS servers"
        )
    })
}

/// Waits for room in the client's queue, which is full for long only while no server takes anything.
async fn within(publishing: impl Future<Output = Result<(), PublishError>>) -> Result<(), String> {
    match timeout(ROOM, publishing).await {
        Ok(sent) => sent.map_err(|why| why.to_string()),
        Err(_) => Err("the NATS server takes nothing".to_owned()),
    }
}

/// Why the servers cannot be used.
pub(super) enum OpenError {
    /// They may be later.
    Failed(String),
    /// Somebody has to change something.
    Unfit(String),
}

impl From<String> for OpenError {
    fn from(why: String) -> OpenError {
        OpenError::Failed(why)
    }
}

/// The servers, for one gateway.
#[derive(Clone)]
pub(super) struct Engine {
    pub(super) client: Client,
    pub(super) jetstream: Context,
    pub(super) names: Names,
    rule: StreamRule,
    pub(super) config: stream::Config,
    has_history: bool,
    core: bool,
    servers: Servers,
}

impl Engine {
    pub(super) fn new(
        (client, servers): (Client, Servers),
        cluster: &ClusterSettings,
        settings: &GatewaySettings,
    ) -> Engine {
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(PATIENCE);
        let names = Names::new(&settings.id);
        let history = settings.history.as_ref();
        let (bytes, age) = history.map_or(WITHOUT_HISTORY, |history| {
            (i64::try_from(history.bytes).unwrap_or(i64::MAX), history.age)
        });
        let config = stream::Config {
            name: names.stream.clone(),
            subjects: vec![names.messages.clone(), names.beats.clone(), names.epoch.clone()],
            max_bytes: bytes,
            max_age: age,
            discard: DiscardPolicy::Old,
            num_replicas: cluster.replicas,
            duplicate_window: Duration::from_secs(120).min(match age {
                Duration::ZERO => Duration::MAX,
                age => age,
            }),
            description: Some(format!("wsgw gateway {}", settings.id)),
            ..stream::Config::default()
        };
        let has_history = history.is_some();
        let core = settings.cluster == Cluster::Core;
        Engine {
            client,
            jetstream,
            names,
            rule: cluster.stream,
            config,
            has_history,
            core,
            servers,
        }
    }

    /// Whether messages are published without a stream.
    pub(super) fn is_core(&self) -> bool {
        self.core
    }

    /// Bytes that one message to the servers may have in all.
    pub(super) fn most_published(&self) -> usize {
        self.most() + OVERHEAD - HEADERS
    }

    /// Bytes of the largest message that can be shared.
    pub(super) fn most(&self) -> usize {
        largest(&self.client)
    }

    /// What the client needs to understand a message of the stream.
    pub(super) fn context(&self) -> Context {
        self.jetstream.clone()
    }

    /// Comes to the stream, of which this node has `seen` something; with `reconnects` by another server, if
    /// there is one.
    ///
    /// # Errors
    /// Why the stream cannot be used.
    pub(super) async fn open(
        &self,
        seen: Option<Seen>,
        reconnects: bool,
    ) -> Result<Session, OpenError> {
        if reconnects && self.client.connection_state() == State::Connected {
            // This server may be cut off from the others.
            let _ = timeout(PATIENCE, self.client.force_reconnect()).await;
            tokio::time::sleep(RECONNECTS).await;
        }
        let opening = async {
            if self.core { Ok(self.open_plain().await?) } else { self.open_stream(seen).await }
        };
        match timeout(OPENING, opening).await {
            // Without a connection, what was asked for is only late.
            Ok(Err(OpenError::Failed(_))) | Err(_)
                if self.client.connection_state() != State::Connected =>
            {
                Err(OpenError::Failed(self.servers.unreachable().await))
            }
            Ok(session) => session,
            Err(_) => {
                if self.client.connection_state() == State::Connected {
                    // The connection may be dead, and nobody has said so. The client may be stuck as well.
                    let _ = timeout(PATIENCE, self.client.force_reconnect()).await;
                }
                Err(OpenError::Failed("no NATS server answers".to_owned()))
            }
        }
    }

    async fn open_plain(&self) -> Result<Session, String> {
        let failed = |why: &dyn std::fmt::Display| format!("NATS cannot be used: {why}");
        let subscribed = self.client.subscribe(self.names.plain.clone()).await;
        let messages = subscribed.map_err(|why| failed(&why))?;
        // Only a server that answers takes part.
        let asked = self.client.request(self.names.plain.clone() + ".nobody", Bytes::new()).await;
        match asked {
            Err(why) if why.kind() != RequestErrorKind::NoResponders => return Err(failed(&why)),
            Ok(_) | Err(_) => {}
        }
        Ok(Session {
            messages,
            acks: None,
            ack_prefix: String::new(),
            opened: None,
            differences: Vec::new(),
            version: self.client.server_info().version,
        })
    }

    async fn open_stream(&self, seen: Option<Seen>) -> Result<Session, OpenError> {
        let failed = |why: &dyn std::fmt::Display| self.failed(why);
        let stream = self.stream(seen.is_some()).await?;
        let info = stream.get_info().await.map_err(|why| failed(&why))?;
        if let Some(why) = fitness::unfit(&self.config, &info.config, self.most()) {
            return Err(OpenError::Unfit(why));
        }
        let (first, made) = (info.state.first_sequence, info.created.unix_timestamp_nanos());
        let there = self.epoch(&stream).await.map_err(|why| failed(&why))?;
        let (epoch, repeats) = (there.map(|there| there.0), there.is_some_and(|there| there.1));
        let mark = self.mark(&stream, seen.as_ref(), &info.state).await;
        let last = info.state.last_sequence;
        let found = Found { made, first, last, epoch, repeats, mark };
        let plan = opening::plan(seen.as_ref(), &found);
        let (epoch, epoch_at) = match (plan.write, epoch) {
            (Write::Nothing, Some(epoch)) => epoch,
            (Write::Again(epoch), _) => {
                self.write_epoch(&stream, (epoch, true), found.epoch).await?
            }
            (Write::Another | Write::Nothing, _) => {
                self.write_epoch(&stream, (Epoch::random(), false), found.epoch).await?
            }
        };
        let newest = stream.get_info().await.map_err(|why| failed(&why))?.state.last_sequence;
        let reads = (seen.as_ref(), plan);
        let from = opening::reads_from(reads, (first, newest, epoch_at), self.has_history);
        let policy = DeliverPolicy::ByStartSequence { start_sequence: from };
        let ack_prefix = self.client.new_inbox();
        let acks = self.client.subscribe(format!("{ack_prefix}.*")).await;
        let acks = acks.map_err(|why| failed(&why))?;
        let messages = self.consume(&stream, policy).await?;
        Ok(Session {
            messages,
            acks: Some(acks),
            ack_prefix,
            opened: Some(Opened {
                made,
                epoch: (epoch, epoch_at),
                from,
                begins: plan.begins,
                is_other: plan.is_other,
                has_hole: plan.has_hole,
                strayed: seen.is_some_and(|seen| seen.strayed),
            }),
            differences: fitness::differences(&self.config, &info.config),
            version: self.client.server_info().version,
        })
    }

    /// What the message is known by that stands where this node has read its last one: a server that was
    /// killed may have lost the end of the stream, and others have written on.
    async fn mark(&self, stream: &Stream, seen: Option<&Seen>, state: &StreamState) -> Option<u64> {
        let handled = seen?.handled;
        if handled < state.first_sequence || handled > state.last_sequence {
            return None;
        }
        let found = stream.get_raw_message(handled).await.ok()?;
        Some(mark_of(&found.payload))
    }

    /// The stream, which is made if it is not there and that is ours to do. `was_there` says that it was
    /// there before.
    async fn stream(&self, was_there: bool) -> Result<Stream, OpenError> {
        let name = &self.names.stream;
        let failed =
            |why: &dyn std::fmt::Display| format!("the stream {name} cannot be used: {why}");
        Ok(match self.rule {
            StreamRule::Create => {
                if was_there && self.jetstream.get_stream(name).await.is_err() {
                    // It was deleted a moment ago, and a server that still does so would break a new one.
                    tokio::time::sleep(DELETED + DELETED.mul_f64(fastrand::f64())).await;
                }
                let made = self.jetstream.get_or_create_stream(self.config.clone()).await;
                made.map_err(|why| match why.kind() {
                    CreateStreamErrorKind::JetStream(error)
                        if !LATER.contains(&error.error_code().0)
                            && (error.code() == 400
                                || error.error_code() == ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED) =>
                    {
                        let why = error.to_string();
                        OpenError::Unfit(format!(
                            "the NATS servers refuse to make the stream {name}: {why}; change [cluster] \
                             or the servers"
                        ))
                    }
                    _ => OpenError::Failed(failed(&why)),
                })?
            }
            StreamRule::Existing => {
                self.jetstream.get_stream(name).await.map_err(|why| match why.kind() {
                    GetStreamErrorKind::JetStream(error)
                        if error.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                    {
                        OpenError::Unfit(format!(
                            "the NATS servers have no stream {name}, and stream = \"existing\" makes \
                             none: make it, or leave the key stream of [cluster] out"
                        ))
                    }
                    _ => OpenError::Failed(failed(&why)),
                })?
            }
        })
    }

    fn failed(&self, why: &dyn std::fmt::Display) -> String {
        format!("the stream {} cannot be used: {why}", self.names.stream)
    }

    /// The messages of the stream, from somewhere on.
    async fn consume(&self, stream: &Stream, policy: DeliverPolicy) -> Result<Subscriber, String> {
        let inbox = self.client.new_inbox();
        let subscribed = self.client.subscribe(inbox.clone()).await;
        let messages = subscribed.map_err(|why| self.failed(&why))?;
        let consumer = push::Config {
            deliver_subject: inbox,
            deliver_policy: policy,
            ack_policy: AckPolicy::None,
            replay_policy: ReplayPolicy::Instant,
            inactive_threshold: Duration::from_secs(30),
            memory_storage: true,
            num_replicas: 1,
            ..push::Config::default()
        };
        stream.create_consumer(consumer).await.map_err(|why| self.failed(&why))?;
        Ok(messages)
    }

    /// Publishes a message to the stream. The servers answer by `ack`.
    pub(super) async fn publish(
        &self,
        id: String,
        ack: String,
        bytes: Bytes,
    ) -> Result<(), String> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, id);
        let subject = self.names.messages.clone();
        within(self.client.publish_with_reply_and_headers(subject, ack, headers, bytes)).await
    }

    /// Publishes a message without a stream.
    pub(super) async fn publish_plain(&self, bytes: Bytes) -> Result<(), String> {
        within(self.client.publish(self.names.plain.clone(), bytes)).await
    }

    /// Publishes a marker to the stream, at its place between the messages.
    pub(super) async fn publish_marker(&self, bytes: Bytes) -> Result<(), String> {
        within(self.client.publish(self.names.messages.clone(), bytes)).await
    }

    /// Says that this node lives.
    pub(super) async fn beat(&self, bytes: Bytes) -> Result<(), String> {
        let subject = if self.core { &self.names.plain } else { &self.names.beats };
        within(self.client.publish(subject.clone(), bytes)).await
    }

    /// Tells one node something that has no place in the order.
    pub(super) async fn tell(&self, node: Node, bytes: Bytes) -> Result<(), String> {
        within(self.client.publish(self.names.of(node), bytes)).await
    }

    /// Removes old signs of life from the stream, which would push out its messages.
    pub(super) async fn purge_beats(&self) {
        let Ok(stream) = self.jetstream.get_stream(&self.names.stream).await else { return };
        if let Err(why) = stream.purge().filter(self.names.beats.clone()).keep(256).await {
            tracing::debug!("the stream {} is not purged: {why}", self.names.stream);
        }
    }
}
