"""Where the console and `wsgw.js` are served, and how. What the console does is tested in Chromium."""

import re

import pytest

from harness import ROOT

SHORT = "This is a WebSocket server (wsgw)."


def ask(server, path="/", headers=(), method="GET"):
    link = server.raw()
    link.request(path, dict(headers) | {"Connection": "close"}, method=method, upgrade=False)
    if method == "HEAD":
        link.write(b"")
        data = b""
        while chunk := link.sock.recv(65536):
            data += chunk
        return int(data.split()[1]), data.decode()
    return link.response()


def shows_console(server):
    status, headers, body = ask(server)
    assert status == 200
    assert ("content-security-policy" in headers) == ("console.js" in body)
    return "console.js" in body


@pytest.mark.parametrize(("args", "shown"), [
    ([], True),
    (["--console=true"], True),
    (["--console=false"], False),
    (["--host", "0.0.0.0"], False),
    (["--host", "0.0.0.0", "--console=true"], True),
    (["--path", "/chat"], True),
])
def test_where_the_console_stands(serve, args, shown):
    server = serve(*args)
    assert shows_console(server) == shown
    for part in ("css", "js", "svg"):
        assert ask(server, f"/.wsgw/console.{part}")[0] in ([200] if shown else [404, 426])
    if not shown:
        assert SHORT in ask(server)[2]


def test_an_index_goes_before_the_console(serve, tmp_path):
    www = tmp_path / "www"
    www.mkdir()
    server = serve("--static", www)
    assert shows_console(server)
    (www / "index.html").write_text("mine")
    assert ask(server)[2] == "mine"
    assert ask(server, "/.wsgw/console.js")[0] == 200
    plain = serve("--static", www, "--console=false")
    assert ask(plain)[2] == "mine"
    (www / "index.html").unlink()
    assert SHORT in ask(plain)[2]
    assert ask(plain, "/.wsgw/console.js")[0] == 404


def test_what_a_browser_has_is_not_sent_again(serve):
    server = serve()
    for path in ("/", "/.wsgw/console.css", "/.wsgw/console.js", "/.wsgw/console.svg"):
        status, headers, body = ask(server, path)
        assert status == 200 and headers["cache-control"] == "no-cache"
        assert headers["x-content-type-options"] == "nosniff"
        for tags in (headers["etag"], f'"x", W/{headers["etag"]}', "*"):
            status, again, rest = ask(server, path, {"If-None-Match": tags})
            assert (status, again["etag"], rest) == (304, headers["etag"], "")
        status, text = ask(server, path, method="HEAD")
        assert status == 200 and text.endswith("\r\n\r\n")
        assert f"Content-Length: {len(body.encode())}\r\n" in text


@pytest.mark.parametrize("host", ["x y", "x;script-src *", "[::1]:80", "x'", "x\tz", ""])
def test_a_host_cannot_change_the_policy(serve, host):
    status, headers, _ = ask(serve(), headers={"Host": host})
    assert status == 200
    assert re.search(r"connect-src 'self'; frame", headers["content-security-policy"])


def test_the_module_is_served_with_streams_alone(serve):
    server = serve("--streams", "--allow-origin", "https://a.example")
    status, headers, body = ask(server, "/wsgw.js", {"Origin": "https://a.example"})
    assert (status, body) == (200, (ROOT / "src/gateway/web/wsgw.js").read_text())
    assert headers["content-type"] == "text/javascript; charset=utf-8"
    assert headers["access-control-allow-origin"] == "https://a.example"
    assert headers["vary"] == "Origin" and headers["cache-control"] == "no-cache"
    status, again, _ = ask(server, "/wsgw.js", {"If-None-Match": headers["etag"]})
    assert status == 304 and again["vary"] == "Origin"
    _, foreign, _ = ask(server, "/wsgw.js", {"Origin": "https://b.example"})
    assert "access-control-allow-origin" not in foreign
    assert ask(serve("--streams=false"), "/wsgw.js")[0] == 426


def test_the_module_goes_before_a_file_of_its_name(serve, tmp_path):
    (tmp_path / "www").mkdir()
    (tmp_path / "www/wsgw.js").write_text("mine")
    server = serve("--streams", "--static", tmp_path / "www")
    assert "class Gateway" in ask(server, "/wsgw.js")[2]
    plain = serve("--static", tmp_path / "www")
    assert ask(plain, "/wsgw.js")[2] == "mine"


def test_a_stream_goes_before_a_file(serve, tmp_path):
    (tmp_path / "www").mkdir()
    (tmp_path / "www/index.html").write_text("mine")
    server = serve("--streams", "--static", tmp_path / "www")
    link = server.raw().request("/?stream=lines", upgrade=False)
    status, headers, _ = link.response()
    assert (status, headers["content-type"]) == (200, "application/x-ndjson")


def test_requests_follow_each_other_on_one_connection(serve):
    server = serve(listener=["cat"])
    link = server.raw()
    for path in ("/", "/.wsgw/console.css", "/.wsgw/console.js"):
        link.request(path, upgrade=False)
        status, headers, _ = link.response()
        assert status == 200 and "connection" not in headers
    assert server.metric("wsgw_connections_refused_total") == 0
    link.upgrade()
    link.frame(1, "hello")
    assert link.read_frame() == (True, 1, b"hello")


def test_who_sends_requests_and_reads_no_answer_is_held_up(serve):
    server = serve("--handshake-timeout", "20s")
    link = server.raw(receive_buffer=4096)
    link.sock.settimeout(1)
    requests = link.head("/.wsgw/console.js", upgrade=False) * 200
    before = server.rss_kib()
    with pytest.raises(TimeoutError):
        for _ in range(2_000):
            link.sock.sendall(requests)
    assert server.rss_kib() - before < 16 * 1024
    # It has lost nothing by that.
    link.sock.settimeout(20)
    for _ in range(300):
        assert link.response()[0] == 200
