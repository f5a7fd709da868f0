//! Who may connect: a request's bytes and the gateway's settings in, a decision out. Pure.
//!
//! What RFC 6455 asks of an upgrade is [`handshake`]'s; here are the gateway's own rules (paths,
//! origins, trusted proxies, subprotocols) and what its listener is told of a request.

use std::net::IpAddr;

use crate::config::hooks::Hook;
use crate::config::settings::{Compression, GatewaySettings};
use crate::gateway::hub::headers::{kept_headers, last_untrusted};
use crate::gateway::hub::post_head::PostHead;
use crate::gateway::hub::streams::{self, Asked};
use crate::gateway::hub::wishes;
use crate::gateway::web::assets;
use crate::gateway::web::request::FileRequest;
use crate::gateway::wire::{Form, Wire};
use crate::listener::protocol::channel::{Channel, push_names};
use crate::listener::protocol::event::{self, Subprotocol};
use crate::listener::protocol::json;
use crate::net::address::Peer;
use crate::text::excerpt::excerpt;
use crate::text::glob::glob;
use crate::text::position::Since;
use crate::ws::deflate;
use crate::ws::deflate::offer::Answer;
use crate::ws::handshake::{self, FRAMES};
use crate::ws::origin::may_connect;
use crate::ws::reason::Reason;
use crate::ws::request::Request;
use crate::ws::response::{Headers, Refusal, Response, bad_request};

const PAGE: &str = "<!doctype html>\n<title>wsgw</title>\n<p>This is a WebSocket server (wsgw). \
                    Connect with a WebSocket client, for example <code>wsgw connect</code>.</p>\n";

/// Bytes of an origin that a refusal and the log show.
const ORIGIN_SHOWN: usize = 256;

/// What to do with the bytes so far.
#[derive(Debug)]
pub enum Decision {
    /// The head is not all there.
    Incomplete,
    /// A good upgrade, or a good request for a stream.
    Admit(Box<Admitted>),
    /// A request for a static file.
    File(Box<FileRequest>),
    /// A message for a stream, the body of which is to come.
    Post(Box<PostHead>),
    /// A good request for what came since a position.
    Poll(Box<PollAsk>),
    /// An HTTP answer.
    Answer {
        /// The answer.
        response: Response,
        /// Why it is a refusal; `None` where nothing was refused.
        reason: Option<Reason>,
        /// The size of the request's head where the connection stays open for the next request.
        next: Option<usize>,
    },
}

/// A good request for what came since a position, before the limits have had their say.
#[derive(Debug)]
pub struct PollAsk {
    /// The size of the request's head in bytes.
    pub head_len: usize,
    /// The client's address, as in [`Admitted`].
    pub ip: IpAddr,
    /// The channels that its URL asks for, sorted.
    pub channels: Box<[Channel]>,
    /// From where on; `None` to begin.
    pub since: Option<Since>,
    /// Whether the connection stays open.
    pub(super) keep: bool,
    /// What any answer to it tells browsers.
    pub(super) cors: Headers,
}

/// A good request for a connection, before the limits and the listener have had their say.
#[derive(Debug)]
pub struct Admitted {
    /// The size of the request's head in bytes; frames may stand behind it.
    pub head_len: usize,
    /// The client's address: that of its socket, or what a trusted proxy says.
    pub ip: IpAddr,
    /// The same as text: with the port where it is the socket's, `unix` for a unix socket.
    pub remote: String,
    /// The subprotocols that the client offers, in its order.
    pub offers: Vec<String>,
    /// The one that the settings choose.
    pub chosen: Option<String>,
    /// The channels that its URL asks for, sorted.
    pub channels: Box<[Channel]>,
    /// What it asks to be sent of the history.
    pub since: Option<Since>,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    kind: Kind,
    /// What is said to the client's offers of compression.
    deflate: Option<Answer>,
    /// Whether the listener is told of the transport.
    tells_transport: bool,
    /// What any answer to it tells browsers.
    cors: Headers,
}

/// What kind of connection is asked for.
#[derive(Debug)]
enum Kind {
    /// A WebSocket, with the client's key.
    WebSocket(String),
    /// A stream, with so many bytes of comment first.
    Stream(Form, usize),
}

impl Admitted {
    /// What `onHandshake` says of it.
    pub fn asked_members(&self) -> Vec<u8> {
        let mut members =
            event::request_members(self.request(), Subprotocol::Offered(&self.offers));
        if !self.channels.is_empty() {
            members.extend_from_slice(b",\"join\":");
            push_names(&mut members, &self.channels);
        }
        members
    }

    /// What `onClientOpen` says of it, and how many bytes the path has in it as a JSON string.
    pub fn open_members(&self, protocol: Option<&str>) -> (Vec<u8>, usize) {
        let members = event::request_members(self.request(), Subprotocol::Chosen(protocol));
        let mut path = Vec::new();
        json::push_str(&mut path, &self.path);
        (members, path.len())
    }

    /// The path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How it is connected.
    pub fn transport(&self) -> &'static str {
        self.wire(None).form.transport()
    }

    /// The bytes that it gets of messages, with this subprotocol.
    pub(super) fn wire(&self, protocol: Option<&str>) -> Wire {
        let form = match self.kind {
            Kind::WebSocket(_) if protocol == Some(FRAMES) => Form::Framed,
            Kind::WebSocket(_) => Form::Bare,
            Kind::Stream(form, _) => form,
        };
        Wire { form, deflate: self.deflate.map_or(0, Answer::window_bits) }
    }

    /// What the answer begins with: the 101 with this subprotocol, or a stream's head.
    pub fn opening(&self, protocol: Option<&str>) -> Vec<u8> {
        match &self.kind {
            Kind::WebSocket(key) => handshake::switching_protocols(key, protocol, self.deflate),
            Kind::Stream(form, pad) => {
                let mut out = streams::head(*form, &self.cors);
                out.extend_from_slice(&streams::comment(*pad));
                out
            }
        }
    }

    /// An answer to it that is no connection.
    pub(super) fn answer(&self, response: Response) -> Response {
        response.with(&self.cors)
    }

    fn request(&self) -> event::Request<'_> {
        event::Request {
            path: &self.path,
            query: &self.query,
            remote: &self.remote,
            headers: &self.headers,
            transport: self.tells_transport.then(|| self.transport()),
        }
    }
}

/// Decides on a request, of whose bytes `seen` were looked at before. `peer` is the socket's other
/// end, `bound` the address that the gateway listens on.
pub fn decide(
    bytes: &[u8],
    seen: usize,
    settings: &GatewaySettings,
    peer: Peer,
    bound: IpAddr,
) -> Decision {
    let request = match Request::read(bytes, seen) {
        Ok(Some(request)) => request,
        Ok(None) => return Decision::Incomplete,
        Err(Refusal { response, reason }) => {
            // What cannot be read further may still have said that it wants no body.
            let is_head = bytes.trim_ascii_start().starts_with(b"HEAD ");
            let response = if is_head { response.without_body() } else { response };
            return Decision::Answer { response, reason: Some(reason), next: None };
        }
    };
    let asker = Asker { request: &request, settings, peer, bound };
    let decided = match request.method {
        "GET" if handshake::is_attempted(&request) => {
            asker.upgrade().map(|admitted| Decision::Admit(Box::new(admitted)))
        }
        "GET" | "HEAD" | "OPTIONS" => asker.plain(),
        "POST" if settings.streams => asker.post(),
        _ => {
            let text = if settings.streams {
                "Only GET, HEAD, OPTIONS and POST are answered here.\n"
            } else {
                "Only GET, HEAD and OPTIONS are answered here.\n"
            };
            let response = Response::text(405, text);
            Err(Refusal { response, reason: Reason::Method })
        }
    };
    let (response, reason) = match decided {
        Ok(Decision::Answer { response, reason, .. }) => (response, reason),
        Ok(decision) => return decision,
        Err(Refusal { response, reason }) => (response, Some(reason)),
    };
    let response = response.with_post(settings.streams).with(&asker.cors());
    let response = if request.method == "HEAD" { response.without_body() } else { response };
    let keeps_alive = response.keeps_alive() && request.keeps_alive();
    let response = response.keep_alive(keeps_alive);
    Decision::Answer { response, reason, next: keeps_alive.then_some(request.size) }
}

/// An answer that refuses nothing.
fn answer(response: Response) -> Decision {
    Decision::Answer { response, reason: None, next: None }
}

/// A request, and what it is held against.
struct Asker<'a> {
    request: &'a Request<'a>,
    settings: &'a GatewaySettings,
    peer: Peer,
    bound: IpAddr,
}

impl Asker<'_> {
    /// What answers tell browsers, where that matters.
    fn cors(&self) -> Headers {
        if !self.settings.streams {
            return Headers::new();
        }
        streams::cors(self.request, self.settings, self.bound)
    }

    /// A request that is not an upgrade: for a stream, or from a browser, a load balancer's check, a
    /// client that a proxy has robbed of its `Upgrade`.
    fn plain(&self) -> Result<Decision, Refusal> {
        let Asker { request, settings, .. } = self;
        handshake::check_request(request)?;
        // RFC 9110 section 9.3.7: the server as a whole.
        if (request.method, request.target) == ("OPTIONS", "*") {
            return Ok(answer(Response::options()));
        }
        let (path, query) = target(request)?;
        let fits = path_fits(path, settings);
        if settings.streams
            && request.method != "OPTIONS"
            && let Some(asked) = streams::asked(request, query)?
        {
            return self.stream(asked, path, query);
        }
        if request.method == "OPTIONS" {
            let answered = path == "/" || fits || settings.static_files.is_some();
            return if answered { Ok(answer(Response::options())) } else { Err(no_such_path()) };
        }
        if let Some(decision) = self.page(path, query) {
            return Ok(decision);
        }
        if !fits {
            return Err(no_such_path());
        }
        let response = Response::text(426, "This is a WebSocket server (wsgw).\n");
        Err(Refusal { response, reason: Reason::NoUpgrade })
    }

    /// What is served to browsers: parts of the program, and static files.
    fn page(&self, path: &str, query: &str) -> Option<Decision> {
        let Asker { request, settings, .. } = *self;
        if settings.streams && path == "/wsgw.js" {
            return Some(answer(assets::module(request)));
        }
        let is_local = settings.unix_path().is_some() || self.bound.is_loopback();
        let console = settings.console.unwrap_or(is_local);
        if console && let Some(response) = assets::console_part(request, path) {
            return Some(answer(response));
        }
        let otherwise = match path {
            "/" if console => Some(assets::console(request)),
            "/" => Some(Response::page(PAGE)),
            _ => None,
        };
        if settings.static_files.is_none() {
            return otherwise.map(answer);
        }
        let otherwise =
            otherwise.unwrap_or_else(|| Response::text(404, "There is no such file.\n"));
        Some(match FileRequest::of(request, (path, query), otherwise.clone()) {
            Some(file) => Decision::File(Box::new(file)),
            None => answer(otherwise),
        })
    }

    /// A request for a stream.
    fn stream(&self, asked: Asked, path: &str, query: &str) -> Result<Decision, Refusal> {
        let Asker { request, settings, bound, .. } = *self;
        if !path_fits(path, settings) {
            return Err(no_such_path());
        }
        check_origin(request, settings, bound)?;
        streams::check_site(request, settings, bound)?;
        let form = match asked {
            Asked::Stream(form) => form,
            Asked::Poll => return self.poll(path, query),
        };
        let pad = if form == Form::Sse { streams::pad(query)? } else { 0 };
        let mut admitted = self.admitted(path, query, Kind::Stream(form, pad))?;
        if request.method == "HEAD" {
            return Ok(answer(streams::head_alone(form)));
        }
        if form == Form::Sse {
            admitted.since = streams::last_event_id(request).or(admitted.since);
        }
        Ok(Decision::Admit(Box::new(admitted)))
    }

    /// A request for what came since a position.
    fn poll(&self, path: &str, query: &str) -> Result<Decision, Refusal> {
        let Asker { request, settings, .. } = *self;
        let refuse =
            |status, text, reason| Err(Refusal { response: Response::text(status, text), reason });
        if settings.asks(Hook::OnHandshake) {
            let text = "This gateway asks its listener about each client (onHandshake), and a poll \
                        has no connection to ask about. Use a stream: sse, lines or raw.\n";
            return refuse(403, text, Reason::Poll);
        }
        if settings.history.is_none() {
            return refuse(404, streams::NO_HISTORY, Reason::Poll);
        }
        let wishes = wishes::of(path, query, settings)?;
        if request.method == "HEAD" {
            return Ok(answer(streams::head_alone(Form::Lines)));
        }
        Ok(Decision::Poll(Box::new(PollAsk {
            head_len: request.size,
            ip: self.client().0,
            channels: wishes.channels,
            since: wishes.since,
            keep: request.keeps_alive(),
            cors: self.cors(),
        })))
    }

    /// A message for a stream. What a foreign page may send without asking has no `X-Wsgw-Post`, and
    /// a token of the stream it needs in any case.
    fn post(&self) -> Result<Decision, Refusal> {
        let Asker { request, settings, bound, .. } = *self;
        handshake::check_host(request)?;
        let (path, query) = target(request)?;
        if !path_fits(path, settings) {
            return Err(no_such_path());
        }
        check_origin(request, settings, bound)?;
        Ok(Decision::Post(Box::new(PostHead::read(request, query, self.cors())?)))
    }

    /// The client's address: that of its socket, or what a trusted proxy says; and as text, with the
    /// port where it is the socket's.
    fn client(&self) -> (IpAddr, String) {
        let Asker { request, settings, peer, .. } = *self;
        let forwarded = settings
            .trusts(peer.ip())
            .then(|| request.joined("x-forwarded-for"))
            .flatten()
            .and_then(|list| last_untrusted(&list, settings));
        match forwarded {
            Some(ip) => (ip, ip.to_string()),
            None => (peer.ip(), peer.to_string()),
        }
    }

    /// An upgrade.
    fn upgrade(&self) -> Result<Admitted, Refusal> {
        let Asker { request, settings, bound, .. } = *self;
        handshake::check_request(request)?;
        let (path, query) = target(request)?;
        if !path_fits(path, settings) {
            return Err(no_such_path());
        }
        let key = handshake::check_upgrade(request)?;
        check_origin(request, settings, bound)?;
        self.admitted(path, query, Kind::WebSocket(key))
    }

    /// What is kept of a good request.
    fn admitted(&self, path: &str, query: &str, kind: Kind) -> Result<Admitted, Refusal> {
        let Asker { request, settings, .. } = *self;
        let (ip, remote) = self.client();
        let wishes = wishes::of(path, query, settings)?;
        // A stream has none, whatever its request says.
        let offers = match kind {
            Kind::WebSocket(_) => request.tokens("sec-websocket-protocol"),
            Kind::Stream(..) => Vec::new(),
        };
        let compresses =
            settings.compression == Compression::Shared && matches!(kind, Kind::WebSocket(_));
        let extensions = || request.values("sec-websocket-extensions");
        let deflate = compresses.then(|| deflate::offer::answer(extensions())).flatten();
        let chosen = match &settings.protocols {
            None => offers.first().cloned(),
            Some(list) => offers.iter().find(|offer| list.contains(offer)).cloned(),
        };
        Ok(Admitted {
            head_len: request.size,
            ip,
            remote,
            chosen,
            channels: wishes.channels,
            since: wishes.since,
            path: path.to_owned(),
            query: query.to_owned(),
            headers: kept_headers(&request.headers, &settings.headers),
            kind,
            deflate,
            tells_transport: settings.streams,
            cors: self.cors(),
            offers,
        })
    }
}

fn target<'b>(request: &Request<'b>) -> Result<(&'b str, &'b str), Refusal> {
    request.path_and_query().ok_or_else(|| bad_request("the target is not a path"))
}

fn path_fits(path: &str, settings: &GatewaySettings) -> bool {
    settings.path.is_empty() || settings.path.iter().any(|pattern| glob(pattern, path))
}

fn no_such_path() -> Refusal {
    Refusal { response: Response::text(404, "No WebSocket here.\n"), reason: Reason::Path }
}

fn check_origin(
    request: &Request<'_>,
    settings: &GatewaySettings,
    bound: IpAddr,
) -> Result<(), Refusal> {
    let origin = request.joined("origin");
    let host = request.one("host").unwrap_or_default();
    if may_connect(origin.as_deref(), &host, bound, settings.allow_origin.as_deref()) {
        return Ok(());
    }
    let origin = origin.unwrap_or_default();
    let text = format!(
        "The origin {:?} may not connect. The gateway's setting allow-origin says which may.\n",
        excerpt(&origin, ORIGIN_SHOWN)
    );
    Err(Refusal { response: Response::text(403, text), reason: Reason::Origin })
}
