"""The limits (contract: section 7) and plain HTTP on a gateway's port (section 2)."""

import os
import signal
import socket
import time

import pytest
from websockets.exceptions import InvalidStatus

from harness import encode_frame, rss_kib, wait_until


def answer_to(server, path="/", headers=(), **options):
    link = server.raw()
    link.request(path, headers, **options)
    found = link.response()
    assert link.at_eof(), "closed in order after the answer"
    return found


# Plain HTTP.


def test_a_page_says_what_this_is(serve):
    server = serve()
    status, headers, body = answer_to(server, upgrade=False)
    assert status == 200
    assert headers["content-type"].startswith("text/")
    assert "WebSocket" in body and "wsgw" in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_another_method_is_a_405(serve, method):
    server = serve()
    link = server.raw().request("/", method=method, upgrade=False)
    assert b" 405 " in link.sock.recv(65536)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-WebSocket-Key": None},
        {"Sec-WebSocket-Key": "short"},
        {"Sec-WebSocket-Key": "!" * 24},
        {"Sec-WebSocket-Version": None},
        {"Connection": None},
        {"Connection": "close"},
        {"Upgrade": "h2c"},
        {"Host": None},
    ],
)
def test_a_bad_upgrade_is_a_400(serve, headers):
    server = serve()
    assert answer_to(server, headers=headers)[0] == 400


@pytest.mark.parametrize("text", [b"GET / HTTP/1.1\r\nBad Header: x\r\n\r\n", b"\x00\x01\r\n\r\n",
                                  b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nA\x00: b\r\n\r\n",
                                  b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"])
def test_bytes_that_are_no_request_are_a_400(serve, text):
    server = serve()
    link = server.raw()
    link.write(text)
    assert link.response()[0] == 400


@pytest.mark.parametrize("version", ["8", "12", "14", "0", "x"])
def test_a_wrong_version_is_a_426(serve, version):
    server = serve()
    status, headers, _ = answer_to(server, headers={"Sec-WebSocket-Version": version})
    assert status == 426
    assert headers["sec-websocket-version"] == "13"


@pytest.mark.parametrize(
    "headers",
    [
        {"Connection": "keep-alive, Upgrade", "Upgrade": "WebSocket"},
        {"Connection": "upgrade", "Upgrade": "websocket"},
        {"Connection": "Upgrade , x"},
    ],
)
def test_what_clients_write_is_understood(serve, headers):
    server = serve()
    link = server.raw().upgrade("/", headers)
    link.frame(1, "x")
    assert link.read_frame() == (True, 1, b"x")


def test_a_handshake_byte_by_byte_with_a_frame_behind_it(serve):
    server = serve()
    link = server.raw()
    link.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    text = (f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{link.port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").encode()
    for byte in text[:-1]:
        link.write(bytes([byte]))
    link.write(text[-1:] + encode_frame(1, "early"))
    status, headers, _ = link.response()
    assert status == 101
    assert headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert link.read_frame() == (True, 1, b"early")


def test_a_head_too_large_is_a_431(serve):
    server = serve()
    assert answer_to(server, headers={"X-Big": "x" * 33_000})[0] == 431
    assert answer_to(server, headers=[(f"X-{n}", "y") for n in range(101)])[0] == 431
    server.raw().upgrade("/", {"X-Big": "x" * 30_000})
    server.raw().upgrade("/", [(f"X-{n}", "y") for n in range(94)])


def test_a_head_that_never_ends_is_a_431(serve):
    server = serve()
    link = server.raw()
    link.write(b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000)
    assert link.response()[0] == 431


def test_a_handshake_that_takes_too_long_is_a_408(serve):
    server = serve("--handshake-timeout", "300ms")
    begun = time.monotonic()
    link = server.raw()
    link.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
    silent = server.raw()
    assert link.response()[0] == 408
    assert link.at_eof() and silent.at_eof()
    assert time.monotonic() - begun > 0.25


def test_many_that_never_end_do_not_keep_a_good_client_out(serve):
    server = serve("--handshake-timeout", "60s")
    slow = []
    for _ in range(2000):
        slow.append(server.raw())
        slow[-1].write(b"GET / HT")
    a = server.connect()
    a.send("x")
    assert a.recv() == "x"
    for link in slow:
        link.close()


# Connections.


def test_max_connections(serve):
    server = serve("--max-connections", "2")
    a, _b = server.connect(), server.connect()
    server.await_connections(2)
    assert answer_to(server)[0] == 503
    a.close()
    server.await_connections(1)
    server.connect()
    assert server.metric("wsgw_connections_refused_total") == 1


def test_max_connections_per_ip(serve):
    server = serve("--max-connections-per-ip", "2")
    a, _b = server.connect(), server.connect()
    assert answer_to(server)[0] == 429
    a.close()
    server.await_connections(1)
    server.connect()


def test_per_ip_behind_a_proxy(scripted):
    server = scripted("--max-connections-per-ip", "1", "--trusted-proxies", "127.0.0.0/8,10.0.0.0/8")
    first = {"X-Forwarded-For": "203.0.113.1, 10.1.1.1"}
    server.raw().upgrade("/", first)
    assert answer_to(server, headers=first)[0] == 429
    server.raw().upgrade("/", {"X-Forwarded-For": "203.0.113.2"})
    v6 = {"X-Forwarded-For": "2001:db8:1:2::1"}
    server.raw().upgrade("/", v6)
    assert answer_to(server, headers={"X-Forwarded-For": "2001:db8:1:2:ffff::2"})[0] == 429
    server.raw().upgrade("/", {"X-Forwarded-For": "2001:db8:1:3::1"})
    opened = server.record.wait("onClientOpen", 4)
    assert [e["remote"] for e in opened] == [
        "203.0.113.1", "203.0.113.2", "2001:db8:1:2::1", "2001:db8:1:3::1"]


@pytest.mark.parametrize(
    ("trusted", "headers", "remote"),
    [
        (None, [("X-Forwarded-For", "203.0.113.1")], "127.0.0.1:"),
        ("127.0.0.1", [("X-Forwarded-For", "1.1.1.1, 203.0.113.1")], "203.0.113.1"),
        ("127.0.0.1", [("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-For", "2.2.2.2")], "2.2.2.2"),
        ("127.0.0.1", [("X-Forwarded-For", "1.1.1.1, nonsense")], "127.0.0.1:"),
        ("127.0.0.1", [("X-Forwarded-For", "")], "127.0.0.1:"),
        ("127.0.0.1", [], "127.0.0.1:"),
        ("10.0.0.0/8", [("X-Forwarded-For", "203.0.113.1")], "127.0.0.1:"),
    ],
)
def test_remote(scripted, trusted, headers, remote):
    server = scripted(*(["--trusted-proxies", trusted] if trusted else []))
    server.raw().upgrade("/", headers)
    (opened,) = server.record.wait("onClientOpen")
    found = opened["remote"]
    assert found.startswith(remote) if remote.endswith(":") else found == remote


def test_ipv6(scripted):
    server = scripted("--host", "::1", "--max-connections-per-ip", "1")
    port = int(server.await_out(r"gateway default listening on ws://\[::1\]:(\d+)\n")[1])

    def ask(origin):
        with socket.create_connection(("::1", port), 10) as sock:
            sock.sendall(f"GET / HTTP/1.1\r\nHost: [::1]:{port}\r\nUpgrade: websocket\r\n"
                         "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
                         f"dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: {origin}\r\n\r\n".encode())
            return sock.getsockname()[1], sock.recv(1000)[9:12]

    local, status = ask("http://[::1]")
    assert status == b"101"
    (opened,) = server.record.wait("onClientOpen")
    assert opened["remote"] == f"[::1]:{local}"
    assert ask("http://[2001:db8::1]")[1] == b"403"


# Origins.


@pytest.mark.parametrize(
    ("origin", "admitted"),
    [(None, True), ("http://localhost", True), ("https://localhost:3000", True),
     ("http://127.0.0.1:8080", True), ("http://127.9.9.9", True), ("http://[::1]:1", True),
     ("http://evil.example", False), ("http://localhost.evil.example", False), ("null", False),
     ("http://127.0.0.1.evil.example", False), ("http://192.168.1.1", False), ("nonsense", False),
     ("http://evil.example#localhost", False), ("http://localhost@evil.example", False)],
)
def test_the_default_origins(serve, origin, admitted):
    server = serve()
    headers = {"Origin": origin} if origin else {}
    if admitted:
        server.raw().upgrade("/", headers)
    else:
        status, _, body = answer_to(server, headers=headers)
        assert status == 403 and "allow-origin" in body
        (line,) = server.await_log(r"refused: .*", 1)
        assert "allow-origin" in line and origin in line


@pytest.mark.parametrize(
    ("rules", "origin", "admitted"),
    [
        (["https://example.com"], "https://example.com", True),
        (["https://example.com"], "https://example.com:443", True),
        (["https://example.com:443"], "https://example.com", True),
        (["https://example.com"], "https://EXAMPLE.com", True),
        (["https://example.com"], "http://example.com", False),
        (["https://example.com"], "https://example.com:8443", False),
        (["https://example.com"], "https://sub.example.com", False),
        (["https://example.com"], "https://example.com.evil", False),
        (["https://example.com"], "http://localhost", False),
        (["https://example.com"], None, True),
        (["https://*.example.com"], "https://a.b.example.com", True),
        (["https://*.example.com"], "https://example.com", False),
        (["https://*.example.com"], "https://example.com.evil", False),
        (["https://a.com", "http://b.com:81"], "http://b.com:81", True),
        (["https://a.com", "null"], "null", True),
        (["https://a.com"], "null", False),
        (["*"], "https://anything.example", True),
        (["*"], "null", True),
        (["https://*.example.com,null"], "https://a.example.com", True),
        (["https://*.example.com,null"], "null", True),
        (["https://*.example.com,null"], "http://a.example.com", False),
        (["https://*.example.com,null"], "https://example.org", False),
    ],
)
def test_listed_origins(serve, rules, origin, admitted):
    server = serve(*[x for rule in rules for x in ("--allow-origin", rule)])
    headers = {"Origin": origin} if origin else {}
    if admitted:
        server.raw().upgrade("/", headers)
    else:
        assert answer_to(server, headers=headers)[0] == 403


@pytest.mark.parametrize(
    ("host", "origin", "admitted"),
    [("gw.example:81", "https://gw.example", True), ("gw.example", "http://gw.example:9", True),
     ("gw.example", "https://evil.example", False), ("gw.example", "http://localhost", False)],
)
def test_the_origins_of_a_gateway_on_another_address(serve, host, origin, admitted):
    server = serve("--host", "0.0.0.0")
    port = int(server.await_out(r"gateway default listening on ws://0\.0\.0\.0:(\d+)\n")[1])
    assert port == server.port()
    link = server.raw()
    link.request("/", {"Host": host, "Origin": origin})
    assert link.response()[0] == (101 if admitted else 403)


# Messages.


def test_max_message(serve):
    server = serve("--max-message", "1000")
    fits = server.raw().upgrade()
    fits.frame(1, "x" * 1000)
    assert fits.read_frame() == (True, 1, b"x" * 1000)
    for parts in ([1001], [600, 401]):
        link = server.raw().upgrade()
        for n, size in enumerate(parts):
            link.frame(1 if n == 0 else 0, "x" * size, fin=n == len(parts) - 1)
        assert link.read_close()[0] == 1009
        assert link.at_eof()


def test_a_claimed_length_costs_no_memory(serve):
    server = serve()
    before = rss_kib(server.pid)
    link = server.raw().upgrade()
    link.write(b"\x82\xff" + (2**62).to_bytes(8, "big") + b"\0\0\0\0" + b"x" * 100)
    assert link.read_close()[0] == 1009
    assert rss_kib(server.pid) - before < 10_000


def test_the_default_max_message(serve):
    server = serve(listener=["cat"])
    a = server.connect()
    a.send("x" * 2**20)
    assert a.recv() == "x" * 2**20
    a.send("\x01" * 2**20)
    assert a.recv() == "\x01" * 2**20
    a.send("x" * (2**20 + 1))
    assert a.await_close()[0] == 1009


def test_max_rate(serve):
    server = serve("--max-rate", "10")
    polite = server.connect()
    for n in range(10):
        polite.send(str(n))
    assert polite.recv_many(10) == [str(n) for n in range(10)]
    rude = server.connect()
    for n in range(50):
        try:
            rude.send(str(n))
        except Exception:
            break
    assert rude.await_close()[0] == 1008


def test_ping_and_pong(serve):
    server = serve("--ping-interval", "200ms", "--pong-timeout", "300ms")
    link = server.raw().upgrade()
    for _ in range(2):
        fin, opcode, payload = link.read_frame()
        assert (fin, opcode) == (True, 9)
        link.frame(10, payload)
    # A client that answers is kept; one that does not is closed.
    begun = time.monotonic()
    assert link.read_frame()[1] == 9
    while True:
        try:
            opcode = link.read_frame()[1]
        except (EOFError, ConnectionResetError):
            break
        if opcode == 8:
            break
    assert 0.2 < time.monotonic() - begun < 5
    server.await_connections(0)


def test_a_missing_pong_is_not_clean(scripted):
    server = scripted("--ping-interval", "100ms", "--pong-timeout", "200ms")
    server.raw().upgrade()
    (closed,) = server.record.wait("onClientClose")
    assert closed["clean"] is False


def test_a_message_is_as_good_as_a_pong(scripted):
    server = scripted("--ping-interval", "100ms", "--pong-timeout", "400ms")
    a = server.connect()  # answers pings by itself
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        a.send("x")
        assert a.recv() == "x"
    assert server.record.events("onClientClose") == []


def test_idle_timeout(scripted):
    server = scripted("--idle-timeout", "400ms", "--ping-interval", "100ms")
    begun = time.monotonic()
    a = server.connect()
    assert a.await_close()[0] == 1001
    assert time.monotonic() - begun > 0.35


def test_messages_either_way_keep_a_connection(scripted):
    server = scripted("--idle-timeout", "600ms")
    a = server.connect()
    server.record.wait("onClientOpen")
    for _ in range(12):
        assert server.push(message="x")[1]["delivered"] == 1
        assert a.recv() == "x"
        wait_until_elapsed = time.monotonic() + 0.1
        wait_until(lambda: time.monotonic() > wait_until_elapsed, "a tenth of a second")
    assert server.record.events("onClientClose") == []


# Slow consumers.


def stuck_client(server):
    link = server.raw()
    link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return link.upgrade()


def test_a_slow_consumer_is_closed_and_the_others_never_wait(scripted):
    server = scripted("--max-queue", "256KiB", "--hooks", "onClientClose")
    stuck = stuck_client(server)
    a = server.connect()
    server.await_connections(2)
    # What the kernel takes is no queue; beyond it, it is soon full.
    sent = 0
    while server.metric("wsgw_slow_consumers_total") < 1:
        assert sent < 2000
        a.send("x" * 20_000)
        assert a.recv() == "x" * 20_000
        sent += 1
    (closed,) = server.record.wait("onClientClose")
    # The client answered nothing, so there is none of its own to tell.
    assert closed["code"] in (1006, 1008)
    assert server.metric("wsgw_deliveries_dropped_total") >= 1
    server.await_connections(1)
    server.await_log("slow consumer")
    # It was reset: whole frames at most, then an error.
    stuck.at_eof()
    assert rss_kib(server.pid) < 100_000


def test_a_full_queue_drops_and_says_so(serve):
    server = serve("--max-queue", "64KiB")
    stuck_client(server)
    server.await_connections(1)
    outcomes = []
    for _ in range(2000):
        status, answer = server.push(message="x" * 20_000)
        assert status == 200
        outcomes.append(answer)
        if answer["dropped"] or not answer["matched"]:
            break
    assert any(o["dropped"] == 1 and o["matched"] == 1 for o in outcomes)


def test_a_message_larger_than_the_queue_enters_an_empty_one(serve):
    server = serve("--max-queue", "1KiB")
    a = server.connect()
    server.await_connections(1)
    assert server.push(message="x" * 500_000)[1]["delivered"] == 1
    assert len(a.recv()) == 500_000
    assert server.push(message="y" * 500_000)[1]["delivered"] == 1
    assert len(a.recv()) == 500_000


def test_queued_bytes_are_shown(serve):
    server = serve("--max-queue", "64MiB")
    stuck_client(server)
    server.await_connections(1)
    for _ in range(20):
        server.push(message="x" * 1_000_000)
    assert server.connections()[0]["queued_bytes"] > 5_000_000


def test_an_echo_to_a_client_that_does_not_read_stops_reading_it(serve):
    """Its own queue over half: it is not read, so it is not closed for its own messages."""
    server = serve("--route", "sender", "--max-queue", "1MiB", "--ping-interval", "0")
    # A small receive buffer would make the reading at the end slow.
    link = server.raw().upgrade()
    link.sock.setblocking(False)
    frame = encode_frame(1, "x" * 10_000)
    rest, whole, blocked_at = frame, 0, None
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and whole < 5000:
        try:
            took = link.sock.send(rest)
            blocked_at = None
            rest = rest[took:]
            if not rest:
                rest, whole = frame, whole + 1
        except BlockingIOError:
            blocked_at = blocked_at or time.monotonic()
            if time.monotonic() - blocked_at > 0.5:
                break
    assert blocked_at, "it was never blocked"
    assert server.metric("wsgw_slow_consumers_total") == 0
    link.sock.setblocking(True)
    link.sock.settimeout(15)
    # Its tiny buffer makes reading slow: the beginning shows that it goes on.
    for _ in range(min(whole, 20)):
        assert link.read_frame() == (True, 1, b"x" * 10_000)


def test_a_producer_pauses_for_a_client_that_still_takes_bytes(serve):
    """A `--hooks none` producer without end does not throw away a reader that keeps reading."""
    server = serve("--hooks", "none", "--max-queue", "256KiB",
                   listener=["sh", "-c", "exec yes '{\"command\":\"send\",\"message\":\"%s\"}'"
                             % ("x" * 1000)])
    link = server.raw().upgrade()
    for _ in range(20_000):
        assert link.read_frame() == (True, 1, b"x" * 1000)
    assert server.metric("wsgw_slow_consumers_total") == 0
    assert rss_kib(server.pid) < 100_000
    link.close()


def test_out_of_descriptors(scripted):
    """Clients wait in the backlog; what is open, the control port and a restart go on."""
    server = scripted("--restart-delay-max", "100ms", files=200)
    client = server.connect()
    links = [server.raw() for _ in range(250)]
    for link in links:
        link.request()
    server.await_metric("wsgw_connections_accepted_total", 50)
    server.await_log("out of file descriptors")
    assert server.status()["state"] == "running"
    client.send("works")
    assert client.recv() == "works"
    (old,) = server.record.wait_pids(1)
    os.kill(old, signal.SIGKILL)
    server.record.wait_pids(2)
    client.send("still")
    assert client.recv() == "still"
    assert server.cli("restart", "default", "--listener").returncode == 0
    assert server.push(message="x", query="?hook=none")[0] == 200
    # Those that leave let the next ones in.
    for link in links[:200]:
        link.close()
    for link in links[200:]:
        assert link.response()[0] == 101


def test_refusals_are_counted_by_reason(serve):
    server = serve("--path", "/a")
    with pytest.raises(InvalidStatus):
        server.connect("/b")
    with pytest.raises(InvalidStatus):
        server.connect("/a", origin="http://evil.example")
    assert server.metric("wsgw_connections_refused_total") == 2
