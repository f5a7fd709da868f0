"""Which pages may read a gateway's streams: origins, CORS, requests of foreign pages without an
Origin; and the answers to HEAD, OPTIONS and what is not a request for a stream."""

import pytest
from test_http import ALLOW, UPGRADE, ask

from harness import Raw

OWN = "http://localhost:3000"
EVENTS = {"Accept": "text/event-stream"}


def cors(stream):
    """What the answer tells a browser, beside `Vary`, which is always there."""
    assert stream.headers["vary"] == "Origin"
    prefix = "access-control-"
    return {name.removeprefix(prefix): value for name, value in stream.headers.items()
            if name.startswith(prefix)}


def allowed(origin, credentials=True):
    more = {"allow-credentials": "true"} if credentials else {}
    return {"allow-origin": origin, "expose-headers": "X-Wsgw-At"} | more


@pytest.mark.parametrize(("entries", "origin", "credentials"), [
    # The default rule of a loopback address.
    (None, OWN, True),
    (None, "https://127.0.0.1", True),
    (None, "http://evil.example", None),
    (None, "null", None),
    ("https://a.example", "https://a.example", True),
    ("https://a.example", "https://a.example:443", True),
    ("https://a.example", OWN, None),
    ("https://*.a.example", "https://x.a.example", True),
    ("null", "null", True),
    # A lone star admits everybody, but nobody's cookies.
    ("*", "https://any.example", False),
    ("*", "null", False),
    # Beside a star an entry still has its right.
    ("*,https://a.example", "https://a.example", True),
    ("*,https://a.example", "https://b.example", False),
    ("https://*", "https://b.example", True),
])
def test_the_origins_that_may_read(serve, entries, origin, credentials):
    server = serve("--streams", *(["--allow-origin", entries] if entries else []))
    for path in ("/?stream=sse", "/?stream=lines", "/?stream=raw"):
        stream = server.stream(path, {"Origin": origin})
        if credentials is None:
            assert stream.status == 403 and "allow-origin" in stream.text
            assert cors(stream) == {}
        else:
            assert stream.status == 200 and cors(stream) == allowed(origin, credentials)


def test_elsewhere_the_host_of_the_request_decides(serve):
    server = serve("--streams", "--host", "0.0.0.0")
    port = int(server.await_out(r"listening on ws://0\.0\.0\.0:(\d+)\n")[1])

    def come(**headers):
        link = Raw(port)
        link.request("/?stream=raw", {n.replace("_", "-"): v for n, v in headers.items()},
                     upgrade=False)
        status, found, _ = link.response()
        link.close()
        return status, found.get("access-control-allow-credentials")

    host = {"Host": "chat.example:10125"}
    assert come(Origin="https://chat.example", **host) == (200, "true")
    assert come(Origin="https://evil.example", **host) == (403, None)
    assert come(Referer="http://chat.example:3000/a/page?x", **host) == (200, None)
    assert come(Referer="http://evil.example/chat.example", **host) == (403, None)
    assert come(Referer="http://localhost/", **host) == (403, None)


def test_without_an_origin_there_is_nothing_to_say_but_that_it_varies(serve):
    assert cors(serve("--streams").stream("/?stream=sse")) == {}


def test_refusals_can_be_read(serve):
    server = serve("--streams", "--path", "/chat", "--channels", "query", "--allow-channels", "a")
    for path, status in [("/nope?stream=sse", 404), ("/chat?stream=x", 400), ("/chat", 426),
                         ("/chat?stream=sse&pad=x", 400), ("/chat?stream=sse&since=y", 200),
                         ("/chat?stream=sse&channel=b", 403), ("/nope", 404), ("/", 200)]:
        stream = server.stream(path, {"Origin": OWN})
        assert (stream.status, cors(stream)) == (status, allowed(OWN)), path
    # Of an upgrade as well: a page falls back to a stream and learns why.
    answer = server.raw().request("/nope", {"Origin": OWN}).response()
    assert answer[0] == 404 and answer[1]["access-control-allow-origin"] == OWN


def test_origins_that_are_no_origins_are_not_echoed(serve):
    server = serve("--streams", "--allow-origin", "*")
    for origin in ("", "x", "https://a.example, https://b.example", "https://a b", "file://",
                   "javascript:alert(1)", "https://a@b"):
        stream = server.stream("/?stream=raw", {"Origin": origin})
        assert stream.status == 200 and cors(stream) == {}, origin
    twice = [("Origin", "https://a.example"), ("Origin", "https://b.example")]
    assert cors(server.stream("/?stream=raw", twice)) == {}


@pytest.mark.parametrize("path", ["/", "/?stream=sse", "/?stream=lines", "/chat/x"])
def test_a_browser_asks_first(serve, path):
    server = serve("--streams", "--path", "/*")
    preflight = {"Access-Control-Request-Method": "GET",
                 "Access-Control-Request-Headers": "last-event-id"}
    for origin, found in [(OWN, allowed(OWN)), ("http://evil.example", {})]:
        answer = server.stream(path, {"Origin": origin} | preflight, method="OPTIONS")
        assert answer.status == 200 and answer.text == ""
        assert answer.headers["allow"] == ALLOW + ", POST"
        more = {"allow-headers": "X-Wsgw-Post, Content-Type, Last-Event-ID",
                "allow-methods": "GET, HEAD, POST", "max-age": "3600"}
        assert cors(answer) == (found | more if found else {})


# Requests of a foreign page that have its user's cookies and no Origin.

BROWSER = {"Cookie": "session=1", "Accept": "text/event-stream"}


@pytest.mark.parametrize(("headers", "status"), [
    ({}, 200),
    ({"Sec-Fetch-Site": "same-origin"}, 200),
    ({"Sec-Fetch-Site": "none"}, 200),
    ({"Sec-Fetch-Site": "same-site"}, 403),
    ({"Sec-Fetch-Site": "cross-site"}, 403),
    ({"Sec-Fetch-Site": "something-new"}, 403),
    ({"Sec-Fetch-Site": ""}, 403),
    # It is the browser's word: nothing else counts beside it.
    ({"Sec-Fetch-Site": "same-origin", "Referer": "http://evil.example/"}, 200),
    ({"Sec-Fetch-Site": "none", "Accept": "image/png"}, 200),
    ({"Sec-Fetch-Site": "cross-site", "Referer": OWN + "/"}, 403),
    # With an Origin the rule for origins decides.
    ({"Origin": OWN, "Sec-Fetch-Site": "cross-site"}, 200),
    ({"Origin": OWN, "Referer": "http://evil.example/"}, 200),
    ({"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"}, 403),
    # Plain http elsewhere: older browsers, too.
    ({"Referer": OWN + "/page?x=http://evil.example"}, 200),
    ({"Referer": OWN}, 200),
    ({"Referer": "http://evil.example/"}, 403),
    ({"Referer": "http://evil.example/http://localhost/"}, 403),
    ({"Referer": "http://localhost.evil.example/"}, 403),
    ({"Referer": "http://localhost@evil.example/"}, 403),
    ({"Referer": "http://evil.example\\@localhost/"}, 403),
    ({"Referer": "/relative"}, 403),
    ({"Referer": "about:blank"}, 403),
    ({"Referer": ""}, 403),
    ({"Accept": "image/avif,image/webp,*/*;q=0.8"}, 403),
    ({"Accept": "IMAGE/png"}, 403),
    ({"Accept": "video/webm,video/*;q=0.9,*/*;q=0.5"}, 403),
    ({"Accept": "audio/webm"}, 403),
    ({"Accept": "*/*"}, 200),
    ({"Accept": "text/html,image/png"}, 200),
    ({"Referer": OWN + "/", "Accept": "image/png"}, 403),
    # A foreign name that leads to this machine: a browser, for others send no Accept-Encoding.
    ({"Host": "evil.example", "Accept-Encoding": "gzip"}, 403),
    ({"Host": "evil.example:10125", "Accept-Encoding": "gzip"}, 403),
    ({"Host": "evil.example"}, 200),
    ({"Host": "localhost:1", "Accept-Encoding": "gzip"}, 200),
])
@pytest.mark.parametrize("form", ["sse", "raw"])
def test_a_foreign_page_has_no_stream_without_an_origin(serve, form, headers, status):
    server = serve("--streams")
    stream = server.stream(f"/?stream={form}", BROWSER | headers)
    assert stream.status == status, stream.text
    assert ("allow-origin" in stream.text) == (status == 403)
    assert server.metric("wsgw_connections_refused_total", reason="origin") == (status == 403)
    # HEAD has the same cookies.
    head = server.stream(f"/?stream={form}", BROWSER | headers, method="HEAD")
    assert (head.status, head.buffer) == (status, b"")


def test_a_referer_is_held_against_the_list(serve):
    server = serve("--streams", "--allow-origin", "https://a.example,null")
    for referer, status in [("https://a.example/x", 200), ("https://a.example:444/", 403),
                            (OWN + "/", 403), ("about:blank", 200)]:
        assert server.stream("/?stream=raw", {"Referer": referer}).status == status, referer
    assert serve("--streams", "--allow-origin", "*").stream(
        "/?stream=raw", {"Referer": "http://anybody.example/"}).status == 200


def test_an_upgrade_needs_no_sign_of_its_site(serve):
    """An image cannot make one, so the rule is as it ever was."""
    server = serve("--streams")
    server.raw().upgrade("/", {"Sec-Fetch-Site": "cross-site", "Referer": "http://evil.example/"})
    answer = server.stream("/", {"Sec-Fetch-Site": "cross-site"})
    assert answer.status == 200 and answer.kind == "text/html", "the page has no secret"


# HEAD, OPTIONS, old clients, bodies.


@pytest.mark.parametrize("form", ["sse", "lines", "raw"])
def test_head_of_a_stream_is_its_get_without_the_body(serve, form):
    server = serve("--streams")
    get = server.stream(f"/?stream={form}")
    head = server.stream(f"/?stream={form}", method="HEAD")
    assert head.status == 200 and head.at_eof() and head.buffer == b""
    get.headers.pop("date"), head.headers.pop("date")
    assert head.headers == get.headers
    assert len(server.connections()) == 1


@pytest.mark.parametrize("path", ["/nope?stream=sse", "/c?stream=x", "/c?stream=sse&pad=x",
                                  "/c?stream=lines&channel=b", "/c?stream=raw&channel=",
                                  "/c?stream=sse&since=x"])
def test_head_is_refused_where_get_is(serve, path):
    server = serve("--streams", "--path", "/c", "--channels", "query", "--allow-channels", "a",
                   "--history", "1")
    get, head = [server.stream(path, method=method) for method in ("GET", "HEAD")]
    assert get.status == head.status >= 400
    assert head.at_eof() and head.buffer == b""


def test_methods(serve):
    server = serve("--streams", "--path", "/c")
    for method in ("PUT", "DELETE", "get"):
        answer = server.stream("/c?stream=sse", method=method)
        assert answer.status == 405 and answer.headers["allow"] == ALLOW + ", POST"
        assert answer.text == "Only GET, HEAD, OPTIONS and POST are answered here.\n"
    assert server.stream("/nope?stream=sse", method="OPTIONS").status == 404
    link = server.raw()
    link.write("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
    status, headers, _ = link.response()
    assert (status, headers["allow"]) == (200, ALLOW + ", POST")


@pytest.mark.parametrize("host", [{}, {"Host": None}])
def test_a_client_of_http_1_0_has_streams(serve, host):
    server = serve("--streams")
    stream = server.stream("/?stream=lines", host, version="1.0")
    assert stream.status == 200 and "transfer-encoding" not in stream.headers
    server.push(message="x")
    assert stream.message() == {"message": "x"}


def test_a_stream_of_1_1_needs_a_host(serve):
    assert serve("--streams").stream("/?stream=lines", {"Host": None}).status == 400


@pytest.mark.parametrize("more", [{"Content-Length": "3"}, {"Transfer-Encoding": "chunked"}])
def test_a_request_for_a_stream_has_no_body(serve, more):
    assert serve("--streams").stream("/?stream=sse", more).status == 400


def test_targets_in_absolute_form(serve):
    server = serve("--streams")
    assert server.stream("http://x/a?stream=lines").hello["hello"] == 1
    assert server.stream("http://x?stream=lines").hello["hello"] == 1


def test_paths_hold_for_streams(serve):
    server = serve("--streams", "--path", "/chat,/room/*")
    assert server.stream("/chat?stream=lines").status == 200
    assert server.stream("/room/1?stream=raw").status == 200
    answer = server.stream("/nope?stream=sse")
    assert answer.status == 404 and answer.text.endswith("\n")
    assert server.stream("/nope", EVENTS).status == 404


# Where there are no streams.


def test_without_streams_all_is_as_it_was(serve):
    server = serve("--path", "/,/chat")
    for headers in ({}, EVENTS, {"Origin": OWN}, {"Sec-Fetch-Site": "cross-site"}):
        for target, status in [("/", 200), ("/?stream=sse", 200), ("/chat?stream=lines", 426),
                               ("/nope?stream=raw", 404), ("/?stream=nonsense", 200)]:
            got, found, _ = ask(server, f"GET {target} HTTP/1.1", headers)
            assert got == status
            assert not {"vary", "x-accel-buffering"} & set(found)
            assert not any(name.startswith("access-control") for name in found)
    status, found, _ = ask(server, "POST / HTTP/1.1")
    assert (status, found["allow"]) == (405, [ALLOW])
    status, found, _ = ask(server, "OPTIONS / HTTP/1.1", {"Origin": OWN})
    assert set(found) == {"date", "content-length", "allow", "connection"}
    link = server.raw().request("/?stream=sse", UPGRADE | {"Origin": OWN})
    status, found, _ = link.response()
    assert status == 101 and set(found) == {"upgrade", "connection", "sec-websocket-accept"}
