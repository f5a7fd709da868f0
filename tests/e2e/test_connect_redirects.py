"""`wsgw connect --location`: where redirects of the handshake lead, and what goes along."""

import contextlib
import socket
import ssl
import threading

import pytest

from harness import PATIENCE, PeerServer, certificate, close_and_wait, run_connect


class Places(PeerServer):
    """A server whose paths redirect, as `where` says, or else open a WebSocket. `{PORT}` in a location
    is its own port, `{NAME}` what `others` has for it."""

    def __init__(self, where, status="302 Found", **others):
        self.where, self.status, self.others, self.peers = where, status, others, []
        super().__init__(self.handle)

    def handle(self, peer):
        self.peers.append(peer)
        location = self.where.get(peer.request.split()[1].decode())
        if location is None:
            return close_and_wait(peer.accept())
        location = location.format(PORT=self.port, **self.others)
        peer.send(f"HTTP/1.1 {self.status}\r\nLocation: {location}\r\nContent-Length: 5\r\n\r\nmoved".encode())

    def paths(self):
        return [peer.request.split()[1].decode() for peer in self.peers]


@pytest.mark.parametrize("status", ["301 A", "302 B", "303 C", "307 D", "308 E"])
def test_redirects_are_followed_when_asked_for(tmp_path, status):
    with Places({"/a/b?q": "../c?r#f"}, status) as server:
        done = run_connect(tmp_path, f"{server.url}a/b?q")
        assert done.returncode == 4 and f"HTTP/1.1 {status} (-L follows redirects)" in done.stderr, done.stderr
        assert "location: ../c?r#f" in done.stderr and "moved" in done.stderr
        done = run_connect(tmp_path, "-L", f"{server.url}a/b?q")
        assert (done.returncode, done.stderr) == (0, "")
        assert server.paths() == ["/a/b?q", "/a/b?q", "/c?r"]


def test_v_shows_each_handshake(tmp_path):
    with Places({"/": "/x"}) as server:
        done = run_connect(tmp_path, "-v", "--location", server.url)
    lines = done.stderr.splitlines()
    wanted = ["> GET / HTTP/1.1", "< HTTP/1.1 302 Found", "< location: /x", f"* redirected to {server.url}x",
              "> GET /x HTTP/1.1", "< HTTP/1.1 101 Switching Protocols"]
    assert [line for line in lines if line in wanted] == wanted, done.stderr


@pytest.mark.parametrize("location", ["//127.0.0.1:{PORT}/x", "http://127.0.0.1:{PORT}/x", "WS://127.1:{PORT}/x", "x"])
def test_locations_of_all_kinds_lead_to_the_same_place(tmp_path, location):
    with Places({"/": location}) as server:
        done = run_connect(tmp_path, "-L", server.url)
        assert done.returncode == 0 and server.paths() == ["/", "/x"], done.stderr


SECRETS = ["-u", "n:p", "-H", "X-Key: k", "-H", "Cookie: c"]
OFFERS = ["-o", "https://o.example", "-s", "json"]


def told(peer):
    """Whether a request has the credentials, all or none; what is not secret is always there."""
    assert peer.header("origin") == ["https://o.example"] and peer.header("sec-websocket-protocol") == ["json"]
    has = [bool(peer.header(name)) for name in ("authorization", "x-key", "cookie")]
    assert len(set(has)) == 1, has
    return has[0]


def test_credentials_and_headers_go_to_the_same_host_only(tmp_path):
    with Places({}) as other, Places(
        {"/same": "http://127.0.0.1:{PORT}/x", "/name": "ws://localhost:{PORT}/x", "/port": "ws://127.0.0.1:{OTHER}/x",
         "/back": "ws://localhost:{PORT}/back2", "/back2": "ws://127.0.0.1:{PORT}/x"}, OTHER=other.port,
    ) as server:
        for path, known in [("same", [True, True]), ("name", [True, False]), ("port", [True]),
                            # Once they are dropped they stay so.
                            ("back", [True, False, False])]:
            server.peers.clear()
            done = run_connect(tmp_path, "-L", *SECRETS, *OFFERS, f"{server.url}{path}")
            assert done.returncode == 0, done.stderr
            assert [told(peer) for peer in server.peers] == known, path
        assert [told(peer) for peer in other.peers] == [False]


def test_the_user_of_a_url_goes_to_its_host_only(tmp_path):
    with Places({"/same": "//127.0.0.1:{PORT}/x", "/other": "//localhost:{PORT}/x", "/named": "//u:v@localhost:{PORT}/x"}) \
            as server:
        for path, expected in [("same", ["Basic bjpw"]), ("other", []), ("named", ["Basic dTp2"])]:
            done = run_connect(tmp_path, "-L", f"ws://n:p@127.0.0.1:{server.port}/{path}")
            assert done.returncode == 0, done.stderr
            assert server.peers[-2].header("authorization") == ["Basic bjpw"]
            assert server.peers[-1].header("authorization") == expected, path


def test_a_host_header_of_the_users_is_for_the_first_host(tmp_path):
    with Places({"/": "ws://localhost:{PORT}/x"}) as server:
        assert run_connect(tmp_path, "-L", "-H", "Host: v.example", server.url).returncode == 0
        assert [peer.header("host") for peer in server.peers] == [["v.example"], [f"localhost:{server.port}"]]


def test_five_redirects_are_followed_and_no_sixth(tmp_path):
    where = {f"/{n}": f"/{n + 1}" for n in range(6)}
    with Places(where) as server:
        assert run_connect(tmp_path, "-L", f"{server.url}1").returncode == 0
        assert server.paths() == [f"/{n}" for n in range(1, 7)]
        server.peers.clear()
        done = run_connect(tmp_path, "-L", f"{server.url}0")
        assert done.returncode == 4 and "more than 5 redirects" in done.stderr, done.stderr
        assert f"{server.url}5 redirects (HTTP/1.1 302 Found) to \"/6\"" in done.stderr
        assert server.paths() == [f"/{n}" for n in range(6)]


def test_a_loop_is_seen(tmp_path):
    with Places({"/": "/b", "/b": "/"}) as server:
        done = run_connect(tmp_path, "-L", server.url)
        assert done.returncode == 4 and "would go round for ever" in done.stderr, done.stderr
        assert server.paths() == ["/", "/b"]


@pytest.mark.parametrize("location, said", [
    ("ftp://127.0.0.1/", "its scheme is \"ftp\""),
    ("ws+unix:///tmp/x:/", "its scheme is \"ws+unix\""),
    ("http://", "invalid URL"),
    ("http://h:99999/\u202e", "invalid URL"),
])
def test_what_cannot_be_followed_is_said(tmp_path, location, said):
    with Places({"/": location}) as server:
        done = run_connect(tmp_path, "-L", server.url)
    assert done.returncode == 4 and "cannot be followed" in done.stderr and said in done.stderr, done.stderr
    assert "\u202e" not in done.stderr


@pytest.mark.parametrize("answer", ["302 Found\r\n", "304 Not Modified\r\nLocation: /x\r\n", "200 OK\r\nLocation: /x\r\n"])
def test_what_is_not_a_redirect_is_a_refusal(tmp_path, answer):
    with PeerServer(lambda peer: peer.send(f"HTTP/1.1 {answer}Content-Length: 0\r\n\r\n".encode())) as server:
        done = run_connect(tmp_path, "-L", server.url)
    assert done.returncode == 4 and "refused the handshake" in done.stderr and "-L" not in done.stderr


@contextlib.contextmanager
def tls_front(directory, port, asks_for_certificate=False):
    """The port of a TLS socket whose plain bytes go to `port`; and the certificates that clients showed."""
    chain, key = certificate(directory, "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    if asks_for_certificate:
        context.load_verify_locations(directory / "client.pem")
        context.verify_mode = ssl.CERT_OPTIONAL
    shown = []

    def pump(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                near, _ = acceptor.accept()
                near = context.wrap_socket(near, server_side=True)
                shown.append(near.getpeercert())
                far = socket.create_connection(("127.0.0.1", port), PATIENCE)
                threading.Thread(target=pump, args=(far, near), daemon=True).start()
                threading.Thread(target=pump, args=(near, far), daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as acceptor:
        threading.Thread(target=serve, daemon=True).start()
        yield acceptor.getsockname()[1], shown


def test_tls_is_never_given_up(tmp_path):
    with Places({"/": "http://127.0.0.1:{PORT}/x"}) as server, tls_front(tmp_path, server.port) as (port, _):
        done = run_connect(tmp_path, "-L", "--insecure", f"wss://127.0.0.1:{port}/")
        assert done.returncode == 4 and "it leads from wss to ws, which is not encrypted" in done.stderr, done.stderr
        assert server.paths() == ["/"]


def test_a_redirect_leads_to_tls_and_a_client_certificate_stays_at_home(tmp_path):
    cert, key = certificate(tmp_path, "client")
    with Places({}) as target, tls_front(tmp_path, target.port, True) as (port, shown):
        identity = ["--insecure", "--cert", cert, "--key", key]
        assert run_connect(tmp_path, *identity, f"wss://127.0.0.1:{port}/x").returncode == 0
        assert shown.pop()
        with Places({"/": "https://127.0.0.1:{TLS}/x"}, TLS=port) as server:
            done = run_connect(tmp_path, "-L", *SECRETS, *OFFERS, *identity, server.url)
            assert done.returncode == 0, done.stderr
        assert shown == [{}] or shown == [None]
        assert target.paths() == ["/x", "/x"] and not told(target.peers[1])


def test_the_timeout_covers_all_of_it(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with Places({"/": "ws://127.0.0.1:{SILENT}/"}, SILENT=port) as server:
            done = run_connect(tmp_path, "-L", "--timeout", "0.5", server.url)
        assert done.returncode == 6 and f"ws://127.0.0.1:{port}/ did not finish" in done.stderr, done.stderr


def test_a_lost_connection_begins_at_the_first_place_again(tmp_path):
    lost = []

    class Server(Places):
        def handle(self, peer):
            if peer.request.split()[1] == b"/x" and not lost:
                lost.append(self.peers.append(peer))
                return peer.accept().reset()
            return super().handle(peer)
    with Server({"/": "/x"}) as server:
        done = run_connect(tmp_path, "-L", "--reconnect", server.url)
        assert done.returncode == 0 and server.paths() == ["/", "/x", "/", "/x"], done.stderr


def test_a_position_goes_where_the_redirect_leads(tmp_path):
    class Server(Places):
        def handle(self, peer):
            self.peers.append(peer)
            path = peer.request.split()[1].decode()
            if path.startswith("/?") or path == "/":
                return peer.send(b"HTTP/1.1 307 X\r\nLocation: /x?channel=a\r\n\r\n")
            peer.accept(more="Sec-WebSocket-Protocol: wsgw.v1\r\n")
            peer.frame(1, b'{"hello":1,"conn":"k1","at":"e-1","recovered":true}')
            if len(self.peers) == 2:
                return peer.reset()
            return close_and_wait(peer)
    with Server({}) as server:
        done = run_connect(tmp_path, "-L", "--resume", server.url)
        assert done.returncode == 0, done.stderr
        assert server.paths() == ["/", "/x?channel=a", "/?since=e-1", "/x?channel=a&since=e-1"]
