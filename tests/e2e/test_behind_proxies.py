"""Streams and WebSockets behind real proxies: nginx and Caddy by the examples, and HAProxy.

A message has to have arrived before the next one is sent, so whatever a proxy keeps back shows.
"""

import contextlib
import http.client
import json
import time

import pytest

from harness import PATIENCE, ROOT, caddy, free_port, haproxy, nginx, ws_client

EXAMPLES = ROOT / "examples"
FORMS = ["sse", "lines", "raw"]
#: The limits of the proxies' patience in the tests of time-outs, and pings that come before it.
PROXY_TIMEOUT = "1s"
PING = 'ping-interval = "300ms"\n'


class Stream:
    """A client of a stream that reads line by line. Every wait has an end."""

    def __init__(self, port, target, method="GET", headers=None, source="127.0.0.1"):
        self.link = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE,
                                               source_address=(source, 0))
        self.link.request(method, target, headers=headers or {})
        self.answer = self.link.getresponse()

    def line(self):
        line = self.answer.readline().decode()
        assert line.endswith("\n"), f"the stream ended: {line!r}"
        return line[:-1]

    def message(self, form):
        """The body of the next message, past keepalives."""
        while True:
            line = self.line()
            if form == "raw" and line:
                return line
            if form == "lines" and line != "{}":
                return json.loads(line)["message"]
            if form == "sse" and line.startswith("data:"):
                return json.loads(line.removeprefix("data:"))["message"]

    def hello(self, form):
        """Reads the hello, where there is one."""
        if form == "raw":
            return None
        while True:
            line = self.line().removeprefix("data:" if form == "sse" else "").strip()
            if line.startswith("{") and line != "{}":
                return json.loads(line)

    def keepalive(self, form):
        """Waits for the next one."""
        beat = {"sse": ":", "lines": "{}", "raw": ""}[form]
        while True:
            line = self.line()
            if line == beat or form == "sse" and line.startswith(":"):
                return

    def close(self):
        self.answer.close()
        self.link.close()


def by_nginx(directory, upstream, timeout=None):
    port = free_port()
    site = (EXAMPLES / "nginx.conf").read_text().replace("listen 8080", f"listen 127.0.0.1:{port}")
    if upstream.startswith("/"):
        upstream = f"unix:{upstream}"
    site = site.replace("http://127.0.0.1:10125", f"http://{upstream}")
    assert upstream in site
    if timeout:
        assert "proxy_read_timeout 120s" in site
        site = site.replace("proxy_read_timeout 120s", f"proxy_read_timeout {timeout}")
    return port, nginx(directory, site, port)


def by_caddy(directory, upstream, timeout=None):
    port = free_port()
    site = (EXAMPLES / "Caddyfile").read_text().replace("chat.example.org {",
                                                        f"http://127.0.0.1:{port} {{")
    if upstream.startswith("/"):
        upstream = f"unix/{upstream}"
    words = upstream
    if timeout:
        words += f" {{\n\t\ttransport http {{\n\t\t\tread_timeout {timeout}\n\t\t}}\n\t}}"
    site = site.replace("reverse_proxy 127.0.0.1:10125", f"reverse_proxy {words}")
    assert upstream in site
    return port, caddy(directory, site, port)


def by_haproxy(directory, upstream, timeout="60s"):
    port = free_port()
    if upstream.startswith("/"):
        upstream = f"unix@{upstream}"
    return port, haproxy(directory, port, upstream, mode="http", timeout=timeout)


PROXIES = {"nginx": by_nginx, "caddy": by_caddy, "haproxy": by_haproxy}


@pytest.fixture
def behind(serve, tmp_path):
    """Starts a gateway with streams behind a proxy: the serve, and the proxy's port."""
    with contextlib.ExitStack() as stack:
        def start(proxy, keys="", unix=False, start=serve, **options):
            host = f'host = "unix:{tmp_path}/g.sock"\n' if unix else "port = 0\n"
            server = start(config=f"[gateways.default]\nstreams = true\n{host}{keys}")
            upstream = f"{tmp_path}/g.sock" if unix else f"127.0.0.1:{server.port()}"
            port, running = PROXIES[proxy](tmp_path, upstream, **options)
            stack.enter_context(running)
            return server, port

        yield start


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@pytest.mark.parametrize("proxy", PROXIES)
def test_nothing_is_buffered(behind, proxy, unix):
    server, port = behind(proxy, unix=unix)
    streams = {form: Stream(port, f"/room?stream={form}") for form in FORMS}
    # The heads and the hellos are there before any message.
    for form, stream in streams.items():
        assert stream.answer.status == 200
        assert "no-transform" in stream.answer.headers["Cache-Control"]
        stream.hello(form)
    sender = ws_client(server.status()["address"])
    server.await_connections(len(FORMS) + 1)
    slowest = 0
    for i in range(20):
        begun = time.monotonic()
        sender.send(f"message {i}")
        for form, stream in streams.items():
            assert stream.message(form) == f"message {i}"
        slowest = max(slowest, time.monotonic() - begun)
    # No proxy waits for more to come, not even for a moment.
    assert slowest < 5
    # Much at once comes whole and in order.
    for i in range(300):
        sender.send(f"{i} " + "x" * 1000)
    for form, stream in streams.items():
        assert [int(stream.message(form).split()[0]) for _ in range(300)] == list(range(300))
    for stream in streams.values():
        stream.close()
    # Which the proxies pass on.
    server.await_connections(1)
    sender.close()


@pytest.mark.parametrize("proxy", PROXIES)
def test_keepalives_outlast_the_proxys_patience(behind, proxy):
    server, port = behind(proxy, PING, timeout=PROXY_TIMEOUT)
    streams = {form: Stream(port, f"/?stream={form}") for form in FORMS}
    for form, stream in streams.items():
        stream.hello(form)
    socket = ws_client(f"ws://127.0.0.1:{port}/")
    server.await_connections(4)
    begun = time.monotonic()
    # More than twice the proxy's time without a message.
    for form, stream in streams.items():
        for _ in range(9):
            stream.keepalive(form)
    assert time.monotonic() - begun > 2
    server.push(message="after the silence")
    for form, stream in streams.items():
        assert stream.message(form) == "after the silence"
        stream.close()
    assert socket.recv() == "after the silence"
    socket.close()


@pytest.mark.parametrize("proxy", PROXIES)
def test_without_keepalives_the_proxy_gives_up(behind, proxy):
    """Which shows that the test above waits for long enough."""
    server, port = behind(proxy, "ping-interval = 0\n", timeout=PROXY_TIMEOUT)
    stream = Stream(port, "/?stream=lines")
    stream.hello("lines")
    with contextlib.suppress(http.client.IncompleteRead, ConnectionError):
        assert stream.answer.read() == b""
    server.await_connections(0)
    stream.close()


@pytest.mark.parametrize("proxy", PROXIES)
def test_the_end_of_a_stream_comes_through(behind, proxy):
    server, port = behind(proxy)
    stream = Stream(port, "/?stream=sse")
    stream.hello("sse")
    (row,) = server.await_connections(1)
    assert server.api("DELETE", f"/v1/gateways/default/connections/{row['conn']}"
                                "?code=4001&reason=kicked")[0] == 200
    rest = stream.answer.read().decode()
    assert "event: close\n" in rest
    assert json.loads(rest.split("data:")[-1]) == {"code": 4001, "reason": "kicked"}
    stream.close()


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_client_that_leaves_is_noticed(behind, scripted, proxy):
    server, port = behind(proxy, start=scripted)
    stream = Stream(port, "/?stream=raw")
    server.record.wait("onClientOpen")
    stream.close()
    (closed,) = server.record.wait("onClientClose")
    assert (closed["code"], closed["clean"]) == (1006, False)


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@pytest.mark.parametrize("proxy", ["nginx", "caddy"])
def test_the_clients_address(behind, proxy, unix):
    server, port = behind(proxy, 'trusted-proxies = "127.0.0.1"\n', unix=unix)
    stream = Stream(port, "/x?stream=lines", source="127.0.0.2")
    (row,) = server.await_connections(1)
    assert (row["remote"], row["path"], row["transport"]) == ("127.0.0.2", "/x", "lines")
    stream.close()
    socket = ws_client(f"ws://127.0.0.1:{port}/y", source_address=("127.0.0.3", 0))
    rows = {row["path"]: row["remote"] for row in server.connections()}
    assert rows["/y"] == "127.0.0.3"
    socket.send("x")
    assert socket.recv() == "x"
    socket.close()


@pytest.mark.parametrize("proxy", PROXIES)
def test_an_event_source_and_its_origin(behind, proxy):
    """What a browser sends, on a page that the proxy serves."""
    server, port = behind(proxy, 'allow-origin = "https://www.example.org"\n')
    headers = {"Accept": "text/event-stream", "Origin": "https://www.example.org"}
    stream = Stream(port, "/", headers=headers)
    assert stream.answer.headers["Content-Type"].startswith("text/event-stream")
    assert stream.answer.headers["Access-Control-Allow-Origin"] == "https://www.example.org"
    stream.hello("sse")
    server.push(message="event")
    assert stream.message("sse") == "event"
    stream.close()
    foreign = Stream(port, "/", headers={**headers, "Origin": "https://other.example"})
    assert foreign.answer.status == 403
    foreign.close()


@pytest.mark.parametrize("proxy", PROXIES)
def test_head_and_options(behind, proxy):
    server, port = behind(proxy)
    for method, target in [("HEAD", "/"), ("OPTIONS", "/"), ("HEAD", "/?stream=sse"),
                           ("OPTIONS", "/?stream=sse")]:
        stream = Stream(port, target, method=method)
        assert (stream.answer.status, stream.answer.read()) in [(200, b""), (204, b"")], target
        stream.close()
    assert not server.connections()
