"""Requests on a gateway's port, to the letter of HTTP and of RFC 6455 section 4."""

import socket
import time

import pytest

from harness import encode_frame

UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """Sends bytes to one serve, and returns the status, headers and body of what comes."""
    import harness

    server = harness.Serve(tmp_path_factory.mktemp("serve"), "--handshake-timeout", "20s", "--console=false")

    def ask(data, half_close=False, then=b""):
        link = harness.Raw(server.port())
        link.write(data)
        if half_close:
            link.sock.shutdown(socket.SHUT_WR)
        found = link.response()
        if found[0] == 101:
            link.frame(1, "open")
            assert link.read_frame() == (True, 1, b"open")
        else:
            if then:
                link.write(then)
            assert link.at_eof(), "closed in order"
        link.close()
        return found

    yield ask
    server.stop()


def head(first="GET / HTTP/1.1", headers="Host: x\r\n" + UPGRADE):
    return f"{first}\r\n{headers}\r\n".encode("latin-1")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /?a=b HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n\r\n",
    ],
)
def test_a_page_for_browsers(ask, data):
    status, headers, body = ask(data)
    assert status == 200 and "WebSocket" in body
    assert headers["content-type"].startswith("text/html")
    assert headers["connection"] == "close"
    assert int(headers["content-length"]) == len(body)


def test_a_page_for_who_says_no_more(ask):
    assert ask(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", half_close=True)[0] == 200


@pytest.mark.parametrize(
    "data",
    [
        head(headers="Host: x\r\n" + UPGRADE.replace("Upgrade: websocket\r\n", "")),
        head(headers="Host: x\r\n" + UPGRADE.replace("Connection: Upgrade\r\n", "")),
        head("GET / HTTP/1.0"),
        head(headers="Host: x\r\nHost: x\r\n" + UPGRADE),
        head(headers=UPGRADE),
        head("GET x:80 HTTP/1.1"),
        head("GET * HTTP/1.1"),
        head("GET /a b HTTP/1.1"),
        head("GET /\xff HTTP/1.1"),
        head("PRI * HTTP/2.0"),
        head(headers="Host: x\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + UPGRADE),
        head(headers="Host: x\r\nSec-WebSocket-Version: 13\r\n" + UPGRADE),
        head(headers="Host: x\r\nContent-Length: 3\r\n" + UPGRADE) + b"abc",
        head(headers="Host: x\r\nTransfer-Encoding: chunked\r\n" + UPGRADE),
        head(headers="Host: x\r\nX: a\x00b\r\n" + UPGRADE),
        head(headers="Host: x\r\nX: a\rb\r\n" + UPGRADE),
        head(headers="Host: x\r\nX: a\r\n b\r\n" + UPGRADE),
        head(headers="Host : x\r\n" + UPGRADE),
        head(headers="Host: x\r\n" + UPGRADE.replace("25jZQ==", "25jZQ")),
        head(headers="Host: x\r\n" + UPGRADE.replace("25jZQ==", "25jZQAA")),
    ],
    ids=lambda data: repr(data)[2:40],
)
def test_a_bad_request(ask, data):
    assert ask(data)[0] == 400


def test_tls_on_a_port_without_is_answered_at_once(ask):
    begun = time.monotonic()
    assert ask(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")[0] == 400
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    "data",
    [
        # The example of section 4.1 has bits behind its 16 bytes.
        head(headers="Host: x\r\n" + UPGRADE.replace("dGhlIHNhbXBsZSBub25jZQ==",
                                                     "AQIDBAUGBwgJCgsMDQ4PEC==")),
        head(headers="hOST:x\r\n" + UPGRADE.lower().replace("dghlihnhbxbszsbub25jzq==",
                                                           "dGhlIHNhbXBsZSBub25jZQ==")),
        head(headers="Host: x\r\n" + UPGRADE.replace("Connection: Upgrade",
                                                     "Connection: keep-alive\r\nConnection: UPGRADE")),
        head(headers="Host: x\r\n" + UPGRADE.replace("websocket", "h2c, WebSocket")),
        head(headers="Host: x\r\nContent-Length: 0\r\n" + UPGRADE),
        head(headers="Host:\r\n" + UPGRADE),
        head("GET http://example.com:80/chat?x HTTP/1.1"),
        head("GET http://example.com?x HTTP/1.1"),
        head("GET //a/../%2e?x?y HTTP/1.1"),
        b"\r\n\r\n" + head(),
        head().replace(b"\r\n", b"\n"),
    ],
    ids=lambda data: repr(data)[2:80],
)
def test_a_good_request(ask, data):
    assert ask(data)[0] == 101


def test_the_bounds_of_the_head(ask):
    for size, status in [(32_767, 101), (32_768, 101), (32_769, 431), (500_000, 431)]:
        data = head(headers="Host: x\r\n" + UPGRADE + "X: PAD\r\n")
        data = data.replace(b"PAD", b"y" * (size - len(data) + 3))
        assert len(data) == size
        assert ask(data)[0] == status, size
    for count, status in [(100, 101), (101, 431)]:
        more = "".join(f"X-{n}: y\r\n" for n in range(count - 5))
        assert ask(head(headers="Host: x\r\n" + UPGRADE + more))[0] == status, count


@pytest.mark.parametrize("method", ["POST", "PUT", "get"])
def test_another_method(ask, method):
    data = head(f"{method} / HTTP/1.1", "Host: x\r\n")
    assert ask(data, then=b"x" * 500_000)[0] == 405


def test_an_answer_to_head_has_no_body(serve):
    link = serve().raw()
    link.write(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    data = b""
    while chunk := link.sock.recv(4096):
        data += chunk
    assert data.startswith(b"HTTP/1.1 200 ") and data.endswith(b"\r\n\r\n")


def test_paths_and_queries_are_told_as_they_came(scripted):
    server = scripted()
    cases = [("/a%20b/%ff?x=%00&y", "/a%20b/%ff", "x=%00&y"), ("http://h/p?q", "/p", "q"),
             ("http://h?q?r", "/", "q?r"), ("//a//b/../c", "//a//b/../c", ""), ("/?", "/", ""),
             ("/a#b", "/a", "")]
    for n, (target, path, query) in enumerate(cases):
        server.raw().upgrade(target)
        opened = server.record.wait("onClientOpen", n + 1)[-1]
        assert (opened["path"], opened["query"]) == (path, query)


@pytest.mark.parametrize(
    ("patterns", "path", "admitted"),
    [(["/chat"], "/chat", True), (["/chat"], "/chat/", False), (["/chat"], "/chat?x=1", True),
     (["/chat"], "/Chat", False), (["/chat"], "/", False), (["/rooms/*"], "/rooms/a/b", True),
     (["/rooms/*"], "/rooms/", True), (["/rooms/*"], "/rooms", False),
     (["/rooms/*"], "/x/rooms/a", False), (["/a", "/*/z"], "/x/y/z", True), (["*"], "/any", True)],
)
def test_path(serve, patterns, path, admitted):
    server = serve(*[x for p in patterns for x in ("--path", p)])
    link = server.raw()
    link.request(path)
    assert link.response()[0] == (101 if admitted else 404)
    page = server.raw()
    page.request("/", upgrade=False)
    assert page.response()[0] == 200


@pytest.mark.parametrize(
    ("allowed", "offers", "chosen"),
    [
        ([], ["a, b"], "a"), ([], ["a", "b"], "a"), ([], [], None), ([], [",, b ,a"], "b"),
        (["b", "a"], ["a, b"], "a"), (["b"], ["a", "b"], "b"), (["B"], ["b"], None),
        (["c"], ["a, b"], None), (["c"], [], None), (["*"], ["x"], "x"),
        (["c", "*"], ["x, c"], "x"), (["c,d"], ["x, d"], "d"),
    ],
)
def test_subprotocols(serve, allowed, offers, chosen):
    server = serve(*[x for p in allowed for x in ("--protocol", p)])
    link = server.raw()
    link.request("/", [("Sec-WebSocket-Protocol", offer) for offer in offers])
    status, headers, _ = link.response()
    assert status == 101
    assert headers.get("sec-websocket-protocol") == chosen
    assert {k for k in headers if k != "sec-websocket-protocol"} == {
        "upgrade", "connection", "sec-websocket-accept"}


def test_what_could_end_a_line_is_escaped_for_the_listener(scripted):
    """Some readers of lines take these for ends, and what is behind would be a line of its own."""
    server = scripted("--headers", "*")
    link = server.raw()
    nasty = "\u2028\u2029\u0085"
    link.write(f"GET /{nasty}?{nasty} HTTP/1.1\r\nHost: x\r\nX: {nasty}\r\n{UPGRADE}\r\n".encode())
    assert link.response()[0] == 101
    link.frame(1, f'{{"command":1}}\n\r{nasty}\0')
    assert link.read_frame()[1] == 1
    link.frame(8, b"\x03\xe8" + f"bye\n{nasty}".encode())
    server.record.wait("onClientClose")
    for line in server.record.lines():
        assert not set(line.rstrip("\n")) & set("\n\r\0" + nasty), line
    opened, message, closed = server.record.events()
    assert (opened["path"], opened["query"], opened["headers"]["x"]) == ("/" + nasty, nasty, nasty)
    assert message["message"] == f'{{"command":1}}\n\r{nasty}\0'
    assert closed["reason"] == f"bye\n{nasty}"
    server.await_log("k1 closed")
    assert len([line for line in server.log().splitlines() if " k1 " in line]) == 2


@pytest.mark.parametrize(
    ("header", "remote"),
    [
        (["203.0.113.1:4711"], "203.0.113.1"),
        (["[2001:db8::1]:443"], "2001:db8::1"),
        (["[2001:db8::1]"], "2001:db8::1"),
        (["2001:DB8:0::1"], "2001:db8::1"),
        (["::ffff:203.0.113.1"], "203.0.113.1"),
        (["203.0.113.1", "10.1.1.1, 10.2.2.2"], "203.0.113.1"),
        (["203.0.113.9, 203.0.113.1 ,10.1.1.1"], "203.0.113.1"),
        (["10.1.1.1"], None),
        (["nonsense, 203.0.113.1"], None),
        (["203.0.113.1, nonsense"], None),
        (["203.0.113.256"], None),
        (["203.0.113"], None),
        (["unknown"], None),
        (["203.0.113.1:x"], None),
        (["[203.0.113.1]"], None),
        (["203.0.113.1;10.0.0.1"], None),
        ([" "], None),
    ],
)
def test_forwarded_addresses(scripted, header, remote):
    server = scripted("--trusted-proxies", "127.0.0.1,10.0.0.0/8")
    link = server.raw().upgrade("/", [("X-Forwarded-For", value) for value in header])
    (opened,) = server.record.wait("onClientOpen")
    local = f"127.0.0.1:{link.sock.getsockname()[1]}"
    assert opened["remote"] == (remote or local)


def test_an_early_frame_behind_an_asked_handshake(scripted):
    server = scripted("--hooks", "onHandshake,onMessage")
    link = server.raw()
    link.write(head() + encode_frame(1, "early"))
    assert link.response()[0] == 101
    assert link.read_frame() == (True, 1, b"early")
