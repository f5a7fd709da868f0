"""Who is let in: requests on the gateway's port, numbers of connections, addresses, origins."""

import socket
import time

import pytest

from harness import encode_frame


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
def test_bytes_that_are_not_a_request_are_a_400(serve, text):
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
    # Connections of different shards are announced in any order.
    assert {e["remote"] for e in opened} == {
        "203.0.113.1", "203.0.113.2", "2001:db8:1:2::1", "2001:db8:1:3::1"}


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
