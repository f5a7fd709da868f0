//! A real control port over a fake server, for the tests of the port and of the commands that talk
//! to it.

#![allow(dead_code, reason = "each test binary uses its own part")]

mod channels;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use wsgw::api::file::ControlFile;
use wsgw::api::{
    ApiError, ChannelInfo, ChannelSummary, ConnectionInfo, ErrorCode, GatewayState, GatewayStatus,
    ListenerState, NodeStatus, PushOutcome, Reloaded, Watch,
};
use wsgw::config::settings::{ControlListen, ControlSettings};
use wsgw::control::backend::{
    Backend, ChannelsAsk, ConnectionsAsk, ConnectionsPage, HistoryAsk, HistoryMessage, LogPart,
    Sampler,
};
use wsgw::listener::protocol::channel::Channel;
use wsgw::listener::protocol::connid::ConnId;
use wsgw::listener::protocol::push::Push;
use wsgw::listener::tap::Subscription;

/// Nothing that these tests wait for takes longer, but on a machine that is overwhelmed.
pub const PATIENCE: Duration = Duration::from_secs(30);

type Held = oneshot::Sender<Result<PushOutcome, ApiError>>;

/// A server with the gateways `chat` (running, connections k1 and k2) and `idle` (stopped).
///
/// A push whose message is `hold` gets its receipt at [`Fake::release`]; one that is `!CODE` fails
/// with that code.
#[derive(Default)]
pub struct Fake {
    state: Mutex<State>,
    changed: Condvar,
    /// More held pushes than this are `busy`; 0: no limit.
    pub limit: AtomicUsize,
    /// How many times a stream asked whether to pause.
    pub pauses: AtomicUsize,
    /// Samples taken for those who watch.
    pub samples: Arc<AtomicUsize>,
    /// Samplers that are at work.
    pub samplers: Arc<AtomicUsize>,
}

#[derive(Default)]
pub struct State {
    /// Message and hook of each push, in order.
    pub pushes: Vec<(String, bool)>,
    pub held: Vec<Held>,
    /// Verbs and closes.
    pub calls: Vec<String>,
    pub two_run: bool,
    pub unhealthy: bool,
}

impl Fake {
    pub fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Waits until it is so.
    pub fn wait(&self, what: &str, so: impl Fn(&mut State) -> bool) {
        let state = self.state.lock().unwrap();
        let (_state, result) =
            self.changed.wait_timeout_while(state, PATIENCE, |s| !so(s)).unwrap();
        assert!(!result.timed_out(), "{what}");
    }

    /// Waits until so many pushes are held, of which none was withdrawn.
    pub fn wait_held(&self, n: usize) {
        self.wait("held pushes", |s| s.held.iter().filter(|h| !h.is_closed()).count() == n);
    }

    /// Waits until all held pushes were withdrawn.
    pub fn wait_withdrawn(&self) {
        let start = std::time::Instant::now();
        while self.state().held.iter().any(|h| !h.is_closed()) {
            assert!(start.elapsed() < PATIENCE, "the push was not withdrawn");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Answers all held pushes.
    pub fn release(&self) {
        for held in self.state().held.drain(..) {
            let _ = held.send(Ok(delivered(2)));
        }
    }

    pub fn messages(&self) -> Vec<String> {
        self.state().pushes.iter().map(|(m, _)| m.clone()).collect()
    }

    fn status(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        let running = match id {
            "chat" => true,
            "idle" => self.state().two_run,
            _ => {
                let mut e = ApiError::new(ErrorCode::UnknownGateway, format!("no gateway {id:?}"));
                e.known = Some(vec!["chat".into(), "idle".into()]);
                return Err(e);
            }
        };
        Ok(GatewayStatus {
            id: id.to_owned(),
            state: if running { GatewayState::Running } else { GatewayState::Stopped },
            listener: ListenerState::Up,
            startup: "automatic".into(),
            address: running.then(|| "ws://127.0.0.1:10125".to_owned()),
            connections: 2,
            messages_in: 3,
            messages_out: 4,
            restarts: 1,
            listener_pid: Some(77),
            error: (!running).then(|| "stopped\u{1b}[2J".to_owned()),
        })
    }

    fn call(&self, what: String) {
        self.state().calls.push(what);
        self.changed.notify_all();
    }

    fn verb(&self, verb: &str, id: &str) -> Result<GatewayStatus, ApiError> {
        self.call(format!("{verb} {id}"));
        if id == "idle" {
            return Err(ApiError::new(ErrorCode::Failed, "the gateway cannot be started"));
        }
        self.status(id)
    }
}

fn delivered(n: u64) -> PushOutcome {
    PushOutcome { matched: n, delivered: n, ..PushOutcome::default() }
}

fn info(conn: &str) -> ConnectionInfo {
    ConnectionInfo {
        transport: "websocket".into(),
        conn: conn.to_owned(),
        remote: "203.0.113.9:5151".to_owned(),
        path: serde_json::value::to_raw_value("/chat\u{1b}").unwrap(),
        opened_at: "2026-11-24T12:00:00Z".to_owned(),
        queued_bytes: 9,
        channels: channels::of(conn),
    }
}

/// The fake's receipt.
pub struct Receipt(oneshot::Receiver<Result<PushOutcome, ApiError>>);

impl Future for Receipt {
    type Output = Result<PushOutcome, ApiError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(Result::unwrap)
    }
}

/// The fake's sampler: each sample has its number as the version.
pub struct Samples {
    samples: Arc<AtomicUsize>,
    samplers: Arc<AtomicUsize>,
}

impl Sampler for Samples {
    fn sample(&mut self) -> Watch {
        let number = self.samples.fetch_add(1, Ordering::Relaxed) + 1;
        Watch {
            time: "2026-11-24T12:00:00.000Z".to_owned(),
            version: number.to_string(),
            pid: 1,
            since: "2026-11-24T12:00:00.000Z".to_owned(),
            health: "ok".to_owned(),
            reasons: Vec::new(),
            gateways: Vec::new(),
            log: Vec::new(),
            log_skipped: 0,
            nodes: Vec::new(),
        }
    }
}

impl Drop for Samples {
    fn drop(&mut self) {
        self.samplers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Backend for Fake {
    type Receipt = Receipt;
    type Sampler = Samples;

    fn gateways(&self) -> Vec<GatewayStatus> {
        ["chat", "idle"].iter().filter_map(|id| self.status(id).ok()).collect()
    }

    fn gateway(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        self.status(id)
    }

    fn push(&self, id: &str, push: &Push, hook: bool) -> Result<Receipt, ApiError> {
        if self.status(id)?.state != GatewayState::Running {
            return Err(ApiError::new(ErrorCode::NotRunning, format!("gateway {id} is stopped")));
        }
        let limit = self.limit.load(Ordering::Relaxed);
        let mut state = self.state();
        state.held.retain(|held| !held.is_closed());
        if limit > 0 && state.held.len() >= limit {
            return Err(ApiError::new(ErrorCode::Busy, "too many wait"));
        }
        let members = String::from_utf8(push.members()[1..].to_vec()).unwrap();
        let value: Value = serde_json::from_str(&format!("{{{members}}}")).unwrap();
        let text = match value["base64"].as_str() {
            Some(base64) => format!("base64:{base64}"),
            None => value["message"].as_str().unwrap().to_owned(),
        };
        let mut outcome = delivered(2);
        if let Some(names) = push.connections() {
            let (there, gone): (Vec<String>, _) =
                names.iter().cloned().partition(|n| ["k1", "k2"].contains(&n.as_str()));
            outcome = delivered(there.len() as u64);
            outcome.gone = gone;
        }
        let (tell, receipt) = oneshot::channel();
        match text.as_str() {
            "hold" => state.held.push(tell),
            "!listener_timeout" => {
                let _ = tell.send(Err(ApiError::new(ErrorCode::ListenerTimeout, "no answer")));
            }
            _ => {
                let _ = tell.send(Ok(outcome));
            }
        }
        state.pushes.push((text, hook));
        drop(state);
        self.changed.notify_all();
        Ok(Receipt(receipt))
    }

    fn nodes(&self, id: &str) -> Result<Vec<NodeStatus>, ApiError> {
        self.status(id).map(|_| Vec::new())
    }

    async fn stream_pause(&self, _id: &str) {
        self.pauses.fetch_add(1, Ordering::Relaxed);
    }

    async fn start(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        self.verb("start", id)
    }

    async fn stop(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        self.verb("stop", id)
    }

    async fn restart(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        self.verb("restart", id)
    }

    async fn restart_listener(&self, id: &str) -> Result<GatewayStatus, ApiError> {
        self.verb("restart-listener", id)
    }

    async fn reload(self: &Arc<Self>) -> Result<Reloaded, ApiError> {
        self.call("reload".to_owned());
        Ok(Reloaded { gateways: self.gateways(), notice: Some("needs a new serve".to_owned()) })
    }

    fn channels(&self, id: &str, ask: &ChannelsAsk<'_>) -> Result<Vec<ChannelSummary>, ApiError> {
        self.status(id)?;
        Ok(if id == "chat" { channels::list(ask) } else { Vec::new() })
    }

    async fn channel(
        &self,
        id: &str,
        channel: Channel,
        limit: usize,
        after: Option<ConnId>,
        _local: bool,
    ) -> Result<ChannelInfo, ApiError> {
        self.status(id)?;
        channels::one(&channel, limit, after)
    }

    async fn history(&self, id: &str, ask: &HistoryAsk) -> Result<Vec<HistoryMessage>, ApiError> {
        self.status(id)?;
        match id {
            "chat" => channels::history(ask),
            _ => Err(ApiError::new(ErrorCode::NoHistory, "nothing is kept")),
        }
    }

    async fn connections(
        &self,
        id: &str,
        ask: ConnectionsAsk,
    ) -> Result<ConnectionsPage, ApiError> {
        match self.status(id)?.state {
            GatewayState::Running => {
                let rows = channels::page(vec![info("k1"), info("k2")], &ask);
                Ok(ConnectionsPage { rows, total: 2, silent: Vec::new() })
            }
            _ => Err(ApiError::new(ErrorCode::NotRunning, "stopped")),
        }
    }

    async fn connection(&self, id: &str, conn: &str) -> Result<ConnectionInfo, ApiError> {
        self.status(id)?;
        match conn {
            "k1" | "k2" => Ok(info(conn)),
            _ => Err(ApiError::new(ErrorCode::UnknownConnection, format!("no {conn:?}"))),
        }
    }

    async fn close_connection(
        &self,
        id: &str,
        conn: &str,
        code: u16,
        reason: &str,
    ) -> Result<ConnectionInfo, ApiError> {
        self.call(format!("close {id} {conn} {code} {reason}"));
        self.connection(id, conn).await
    }

    fn tail(&self, id: &str) -> Result<Subscription, ApiError> {
        self.status(id)?;
        Err(ApiError::new(ErrorCode::BadRequest, "it has no listener"))
    }

    fn health(&self) -> Result<(), String> {
        if self.state().unhealthy { Err("stopping".to_owned()) } else { Ok(()) }
    }

    fn metrics(&self) -> String {
        "# TYPE wsgw_x counter\nwsgw_x 1\n".to_owned()
    }

    fn sampler(self: &Arc<Self>) -> Samples {
        self.samplers.fetch_add(1, Ordering::Relaxed);
        Samples { samples: Arc::clone(&self.samples), samplers: Arc::clone(&self.samplers) }
    }

    fn log_after(&self, seen: Option<u64>) -> LogPart {
        let lines = match seen {
            None => vec!["one".to_owned(), "two".to_owned()],
            Some(_) => Vec::new(),
        };
        LogPart { lines, skipped: 0, end: 2 }
    }
}

/// The settings of a control port on a free port of 127.0.0.1.
pub fn settings(directory: &Path) -> ControlSettings {
    ControlSettings {
        listen: ControlListen::Tcp("127.0.0.1".to_owned(), 0),
        directory: Some(directory.to_owned()),
        token_file: None,
        hosts: Vec::new(),
        insecure: false,
        mode: 0o600,
        group: None,
        tls_cert: None,
        tls_key: None,
    }
}

/// A control port that runs until this is dropped.
pub struct Port {
    pub fake: Arc<Fake>,
    pub url: String,
    pub token: String,
    pub state: PathBuf,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
    _home: tempfile::TempDir,
}

impl Port {
    pub fn start() -> Port {
        Port::start_with(|_| {})
    }

    pub fn start_with(change: impl FnOnce(&mut ControlSettings)) -> Port {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("wsgw");
        let mut settings = settings(&state);
        change(&mut settings);
        let bound = wsgw::control::bind(&settings).unwrap().unwrap();
        let url = bound.url().to_owned();
        let state = settings.directory.unwrap();
        let file = std::fs::read_dir(&state).unwrap().next().unwrap().unwrap().path();
        let token = ControlFile::read(&file).unwrap().token.unwrap_or_default();
        let fake = Arc::new(Fake::default());
        let stop = CancellationToken::new();
        let run = {
            let (fake, stop) = (Arc::clone(&fake), stop.clone());
            move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(bound.run(fake, stop)).unwrap();
            }
        };
        let thread = Some(std::thread::spawn(run));
        Port { fake, url, token, state, stop, thread, _home: home }
    }

    pub fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    pub fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// Ends the port, and waits until it has ended.
    pub fn stop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// The start of a request with the token; more header lines, the empty line and the body are
    /// the caller's.
    pub fn head(&self, method: &str, path: &str) -> String {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n",
            self.token
        )
    }

    /// Sends bytes, and reads until the port closes.
    pub fn raw(&self, request: &str) -> Answer {
        let mut socket = self.connect();
        socket.write_all(request.as_bytes()).unwrap();
        Answer::read(&mut socket)
    }

    /// One request on a connection of its own.
    pub fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let head = self.head(method, path);
        let length = body.len();
        self.raw(&format!(
            "{head}Connection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        ))
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "", "")
    }

    pub fn push(&self, body: &str) -> Answer {
        self.request("POST", "/v1/gateways/chat/messages", "", body)
    }

    /// The binary, with this port's state directory to look in.
    pub fn wsgw(&self, args: &[&str]) -> Command {
        let mut command = wsgw(self.state.parent().unwrap());
        command.args(args);
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.wsgw(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs it with this stdin.
    pub fn run_with(&self, args: &[&str], stdin: &[u8]) -> Output {
        let mut child = self
            .wsgw(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        feed(&mut child, stdin);
        child.wait_with_output().unwrap()
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn feed(child: &mut Child, stdin: &[u8]) {
    let mut pipe = child.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    // It may leave without reading all.
    std::thread::spawn(move || pipe.write_all(&stdin));
}

/// The binary with nothing of this environment that it looks at; its state directory is `wsgw` in
/// `state`.
pub fn wsgw(state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wsgw"));
    for name in ["STATE_DIRECTORY", "WSGW_CONTROL", "WSGW_TOKEN", "WSGW_GATEWAY"] {
        command.env_remove(name);
    }
    command.env("HOME", state).env("XDG_STATE_HOME", state);
    command
}

/// What came back on a connection.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn read(socket: &mut impl Read) -> Answer {
        let mut all = Vec::new();
        // A reset behind the answer does not make it less of an answer.
        let end = socket.read_to_end(&mut all);
        let text = String::from_utf8(all).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| {
            panic!("no answer: {text:?} {end:?}");
        });
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = if chunked { dechunk(body) } else { body.to_owned() };
        Answer { status, head: head.to_ascii_lowercase(), body }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    pub fn lines(&self) -> Vec<Value> {
        self.body.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }
}

fn dechunk(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        out.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    out
}

pub fn ok(n: u64) -> Value {
    json!({"matched": n, "delivered": n, "dropped": 0, "gone": []})
}

pub fn out(done: &Output) -> String {
    String::from_utf8(done.stdout.clone()).unwrap()
}

pub fn err(done: &Output) -> String {
    String::from_utf8(done.stderr.clone()).unwrap()
}

pub fn code(done: &Output) -> i32 {
    done.status.code().unwrap_or_else(|| panic!("{done:?}"))
}

#[track_caller]
pub fn is(done: &Output, want: i32, stdout: &str) {
    assert_eq!((code(done), out(done).as_str()), (want, stdout), "{}", err(done));
}
