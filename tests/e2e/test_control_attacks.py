"""Attacks on the control port: bounded in memory and time."""

import contextlib
import re
import resource
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import rss_kib, wait_until

# What is written to make two programs read it differently.

BODY = b'{"message":"x"}'


def exchange(server, request, half=False):
    """All that is answered to these bytes, until the port closes or is silent for good."""
    with socket.create_connection(("127.0.0.1", server.control_port), 10) as link:
        link.sendall(request)
        if half:
            link.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := link.recv(65536):
            answer += piece
        return answer


def post(server, headers, body, close=True):
    head = ("POST /v1/gateways/default/messages HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {server.token}\r\n{headers}")
    return (head + ("Connection: close\r\n\r\n" if close else "\r\n")).encode() + body


SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(("headers", "body"), [
    ("Content-Length: 15\r\nContent-Length: 16\r\n", BODY),
    ("Content-Length: 15, 15\r\n", BODY), ("Content-Length: +15\r\n", BODY),
    ("Content-Length: -1\r\n", BODY), ("Content-Length: 0x0f\r\n", BODY),
    ("Content-Length: 99999999999999999999\r\n", BODY),
    ("Transfer-Encoding: gzip\r\n", BODY),
    ("Transfer-Encoding: chunked, gzip\r\n", b"f\r\n" + BODY + b"\r\n0\r\n\r\n"),
    ("Transfer-Encoding: xchunked\r\n", b"f\r\n" + BODY + b"\r\n0\r\n\r\n"),
    ("Transfer-Encoding : chunked\r\n", b"f\r\n" + BODY + b"\r\n0\r\n\r\n"),
    ("X-A: b\r\n folded\r\nContent-Length: 15\r\n", BODY),
    ("X-A: b\rc\r\nContent-Length: 15\r\n", BODY), ("X-A: \0\r\nContent-Length: 15\r\n", BODY),
    ("Transfer-Encoding: chunked\r\n", b"-f\r\n" + BODY + b"\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\n", b"ffffffffffffffff1\r\n" + BODY + b"\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\n", b"e\r\n" + BODY + b"\r\n0\r\n\r\n"),
])
def test_what_cannot_be_framed_is_refused_and_the_connection_closed(serve, headers, body):
    server = serve()
    a = server.connect()
    server.await_connections(1)
    answer = exchange(server, post(server, headers, body, close=False) + SMUGGLED)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1, "what stands behind it is not read as a request"
    server.push(message="after")
    assert a.recv() == "after"


@pytest.mark.parametrize("headers", [
    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
])
def test_two_framings_are_the_last_of_a_connection(serve, headers):
    """RFC 9112 section 6.1: chunked counts, and the connection is closed."""
    server = serve()
    chunked = b"f\r\n" + BODY + b"\r\n0\r\n\r\n"
    answer = exchange(server, post(server, headers, chunked, close=False) + SMUGGLED)
    assert answer.split()[1] in (b"200", b"400")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_body_that_ends_early_is_not_sent(serve):
    server = serve()
    a = server.connect()
    server.await_connections(1)
    request = post(server, "Content-Length: 16\r\n", BODY, close=False)
    assert exchange(server, request, half=True)[:12] in (b"HTTP/1.1 400", b"")
    server.push(message="after")
    assert a.recv() == "after"


def test_requests_in_a_row_on_one_connection(serve):
    server = serve()
    token = f"Authorization: Bearer {server.token}\r\n"
    get = f"GET /v1/gateways HTTP/1.1\r\nHost: localhost\r\n{token}\r\n".encode()
    # A refused request's body does not become the next request.
    refused = b"POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n" + BODY
    unwanted = f"GET /v1/gateways HTTP/1.1\r\nHost: localhost\r\n{token}Content-Length: 15\r\n\r\n"
    answer = exchange(server, SMUGGLED.replace(b"Connection: close\r\n", b"") + get + refused
                      + unwanted.encode() + BODY + post(server, "Content-Length: 15\r\n", BODY))
    assert re.findall(rb"HTTP/1.1 (\d+) ", answer) == [b"200", b"200", b"401", b"200", b"200"]
    assert answer.endswith(b'{"matched":0,"delivered":0,"dropped":0,"gone":[]}\n')


@pytest.mark.parametrize("head", [
    "GET /v1/gateways HTTP/1.1\r\n" + "".join(f"X-{n}: y\r\n" for n in range(101)) + "\r\n",
    "GET /v1/gateways HTTP/1.1\r\nX: " + "y" * 100_000 + "\r\n\r\n",
    "GET /" + "y" * 100_000 + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
])
def test_a_head_has_an_end(serve, head):
    server = serve()
    with socket.create_connection(("127.0.0.1", server.control_port), 10) as link:
        try:
            link.sendall(head.encode())
            answer = link.recv(65536)
        except ConnectionError:
            # It was closed before all of it was out.
            answer = b""
    assert answer[:12] in (b"HTTP/1.1 431", b"HTTP/1.1 414", b"")
    assert server.status()["state"] == "running"


def test_heads_without_end_cost_little_and_keep_nobody_out(serve):
    server = serve()
    before = rss_kib(server.pid)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(2100, hard // 2)
    with contextlib.ExitStack() as links:
        for n in range(count):
            link = links.enter_context(socket.create_connection(
                ("127.0.0.1", server.control_port), 10))
            link.setblocking(False)
            with contextlib.suppress(OSError):
                link.send(b"GET / HTTP/1.1\r\nX: " + b"y" * 100_000)
        done = server.cli("send", "x")
        assert (done.returncode, done.stdout) == (0, "delivered 0\n"), done.stderr
        assert rss_kib(server.pid) - before < 150 * 1024
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_bodies_of_strangers_are_not_held(serve):
    server = serve()
    before = rss_kib(server.pid)
    request = (b"POST /v1/gateways/default/messages HTTP/1.1\r\nHost: localhost\r\n"
               b"Content-Length: 16000000\r\n\r\n")

    def upload(_):
        with socket.create_connection(("127.0.0.1", server.control_port), 20) as link:
            link.sendall(request)
            for _ in range(16):
                link.sendall(b"x" * 1_000_000)
            return link.recv(65536).split()[1]

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(upload, range(16))) == {b"401"}
    assert rss_kib(server.pid) - before < 30 * 1024


def test_bodies_beyond_what_may_be_held_are_429(serve):
    server = serve()
    before = rss_kib(server.pid)
    with contextlib.ExitStack() as links:
        # 64 MiB, each one byte short of its end.
        held = []
        for _ in range(4):
            link = links.enter_context(socket.create_connection(
                ("127.0.0.1", server.control_port), 20))
            size = (16 << 20) - 1024
            head = post(server, f"Content-Length: {size}\r\n", b'{"message":"')
            link.sendall(head + b"y" * (size - 15))
            held.append(link)

        def refused():
            status, answer = server.push(message="z" * 100_000)
            return status == 429 and answer["error"]["code"] == "busy"

        wait_until(refused, "a refusal")
        assert server.push(message="small")[0] in (200, 429)
        for link in held:
            link.sendall(b'y"}')
            assert link.recv(65536).split()[1] == b"200"
        assert server.push(message="z" * 100_000)[0] == 200
    assert rss_kib(server.pid) - before < 300 * 1024


def test_with_few_descriptors_it_keeps_nobody_out(serve):
    """Held connections leave descriptors for the next one, for clients and for the listener."""
    server = serve(listener=["cat"], wrap=["sh", "-c", 'ulimit -n 256; exec "$@"', "sh"])
    clients = [server.connect() for _ in range(20)]
    with contextlib.ExitStack() as links:
        for _ in range(400):
            links.enter_context(socket.create_connection(("127.0.0.1", server.control_port), 10))
        done = server.cli("send", "--timeout", "20", "x")
        assert (done.returncode, done.stdout) == (0, "delivered 20\n"), done.stderr
        assert server.cli("restart", "default", "--listener").returncode == 0
        with contextlib.suppress(OSError):
            # As many clients as it takes, and the control port still answers.
            for _ in range(200):
                clients.append(server.connect(open_timeout=2))
        assert len(clients) > 150
        for _ in range(100):
            links.enter_context(socket.create_connection(("127.0.0.1", server.control_port), 10))
        assert server.cli("status", "--timeout", "20").returncode == 0
        assert server.cli("restart", "default", "--listener").returncode == 0
