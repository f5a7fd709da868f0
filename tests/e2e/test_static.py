"""Static files on a gateway's port: what is found, what is not, and what else the connection may do."""

import os
import shutil
import ssl
import time
from pathlib import Path

import pytest

from harness import certificate, rss_kib, run_cli, wait_until

PLAIN = {"upgrade": False}


@pytest.fixture
def www(tmp_path):
    root = tmp_path / "www"
    (root / "sub").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / ".hidden").mkdir()
    (root / "index.html").write_text("<p>the index ä")
    (root / "sub/index.html").write_text("<p>below")
    (root / "app.js").write_text("export {};")
    (root / "a b.txt").write_text("spaced")
    (root / "data.bin").write_bytes(bytes(range(256)) * 40)
    (root / ".env").write_text("secret")
    (root / ".hidden/x").write_text("secret")
    (tmp_path / "secret").write_text("secret")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "in").symlink_to(root / "app.js")
    return root


def ask(link, path="/", headers=(), method="GET", version="1.1"):
    """Status, headers and body (bytes) of one answer; the connection stays."""
    link.request(path, headers, method=method, version=version, **PLAIN)
    return answer(link, method)


def answer(link, method="GET"):
    while b"\r\n\r\n" not in link.buffer:
        data = link.sock.recv(65536)
        assert data, link.buffer
        link.buffer += data
    head, _, link.buffer = link.buffer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    found = dict((name.lower(), value) for name, value in (line.split(": ", 1) for line in lines))
    assert len(found) == len(lines), lines
    status = int(first.split()[1])
    has_body = method != "HEAD" and status != 304
    return status, found, link.read_exactly(int(found["content-length"])) if has_body else b""


def test_files_are_served_with_their_types(serve, www):
    link = serve("--static", www).raw()
    for path, kind, body in [
        ("/", "text/html; charset=utf-8", "<p>the index ä".encode()),
        ("/index.html", "text/html; charset=utf-8", "<p>the index ä".encode()),
        ("/sub/", "text/html; charset=utf-8", b"<p>below"),
        ("/app.js", "text/javascript; charset=utf-8", b"export {};"),
        ("/in", "application/octet-stream", b"export {};"),
        ("/a%20b.txt?v=3", "text/plain; charset=utf-8", b"spaced"),
        ("/data.bin", "application/octet-stream", bytes(range(256)) * 40),
    ]:
        status, headers, got = ask(link, path)
        assert (status, headers["content-type"], got) == (200, kind, body), path
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-cache" and "date" in headers
        assert "connection" not in headers
        head = ask(link, path, method="HEAD")
        head[1]["date"] = headers["date"]
        assert head == (200, headers, b"")


@pytest.mark.parametrize("path", [
    "/nope", "/.env", "/%2eenv", "/.hidden/x", "/sub/../.env", "/../secret", "/%2e%2e/secret",
    "/..%2fsecret", "/sub/%2e%2e/%2e%2e/secret", "/out", "/app.js/", "/app.js/x", "/empty/", "/app.js%00",
    "/app.js%00.html", "/%ff", "/sub//../../secret", "/.wsgw/nope", "/.wsgw/../secret", "//../secret",
])
def test_nothing_else_is_served(serve, www, path):
    link = serve("--static", www).raw()
    status, headers, body = ask(link, path)
    assert (status, body) == (404, b"There is no such file.\n")
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert ask(link, "/app.js")[2] == b"export {};", "the connection goes on"


def test_a_directory_without_its_slash_is_a_redirect_to_this_host(serve, www):
    link = serve("--static", www).raw()
    for path, location in [("/sub", "/sub/"), ("/sub?a=b", "/sub/?a=b"), ("//sub", "/sub/")]:
        status, headers, body = ask(link, path)
        assert (status, headers["location"], body) == (307, location, b""), path


def test_conditions_and_ranges(serve, www):
    link = serve("--static", www).raw()
    _, headers, whole = ask(link, "/data.bin")
    tag, modified = headers["etag"], headers["last-modified"]
    assert not tag.startswith("W/")
    for condition in ({"If-None-Match": tag}, {"If-None-Match": f'"x", W/{tag}'},
                      {"If-Modified-Since": modified}):
        status, headers, _ = ask(link, "/data.bin", condition)
        assert (status, headers["etag"], headers.get("content-length")) == (304, tag, None)
    assert ask(link, "/data.bin", {"If-None-Match": '"x"'})[2] == whole
    assert ask(link, "/data.bin", {"If-Match": '"x"'})[0] == 412
    status, headers, part = ask(link, "/data.bin", {"Range": "bytes=1000-1003"})
    assert (status, part) == (206, whole[1000:1004])
    assert headers["content-range"] == f"bytes 1000-1003/{len(whole)}"
    assert ask(link, "/data.bin", {"Range": "bytes=-4", "If-Range": tag})[2] == whole[-4:]
    assert ask(link, "/data.bin", {"Range": "bytes=-4", "If-Range": '"x"'})[2] == whole
    status, headers, _ = ask(link, "/data.bin", {"Range": "bytes=99999-"})
    assert (status, headers["content-range"]) == (416, f"bytes */{len(whole)}")
    # A file that changes has another tag.
    (www / "data.bin").write_bytes(b"new")
    status, headers, body = ask(link, "/data.bin", {"If-None-Match": tag})
    assert (status, body) == (200, b"new") and headers["etag"] != tag


def test_upgrades_go_before_files_and_paths_do_not_concern_them(serve, www):
    server = serve("--static", www, "--path", "/chat", listener=["cat"])
    (www / "chat").write_text("a file")
    client = server.connect("/chat")
    client.send("hello")
    assert client.recv() == "hello"
    link = server.raw()
    assert ask(link, "/chat")[2] == b"a file"
    assert ask(link, "/sub/")[2] == b"<p>below"
    assert ask(link, "/chat", method="OPTIONS")[0] == 200


@pytest.mark.parametrize("secure", [False, True])
def test_the_next_request_may_be_an_upgrade(serve, www, tmp_path, secure):
    args, tls = ["--static", www], None
    if secure:
        cert, key = certificate(tmp_path)
        args += ["--tls-cert", cert, "--tls-key", key]
        tls = ssl.create_default_context(cafile=str(cert))
    server = serve(*args, listener=["cat"])
    link = server.raw(tls=tls)
    for _ in range(3):
        assert ask(link, "/app.js")[2] == b"export {};"
    link.upgrade()
    link.frame(1, "hello")
    assert link.read_frame() == (True, 1, b"hello")
    server.await_connections(1)


def test_pipelined_requests_are_answered_in_their_order(serve, www):
    server = serve("--static", www, listener=["cat"])
    link = server.raw()
    paths = ["/app.js", "/nope", "/.wsgw/console.svg", "/sub/", "/data.bin"]
    link.write(b"".join(link.head(path, **PLAIN) for path in paths) + link.head("/"))
    assert answer(link)[2] == b"export {};"
    assert answer(link)[0] == 404
    assert answer(link)[1]["content-type"] == "image/svg+xml"
    assert answer(link)[2] == b"<p>below"
    assert len(answer(link)[2]) == 10240
    assert link.response()[0] == 101
    link.frame(1, "hello")
    assert link.read_frame() == (True, 1, b"hello")


def test_a_request_in_pieces_between_files(serve, www):
    link = serve("--static", www).raw()
    for _ in range(2):
        for byte in link.head("/app.js", **PLAIN):
            link.write(bytes([byte]))
        assert answer(link)[2] == b"export {};"


@pytest.mark.parametrize(("version", "headers"), [("1.0", {}), ("1.1", {"Connection": "close"})])
def test_who_wants_the_end_gets_it(serve, www, version, headers):
    link = serve("--static", www).raw()
    status, found, body = ask(link, "/data.bin", headers, version=version)
    assert (status, len(body), found["connection"]) == (200, 10240, "close")
    assert link.at_eof() and not link.buffer


def test_what_is_no_request_for_a_file_is_refused_as_ever(serve, www):
    link = serve("--static", www).raw()
    assert ask(link, "/app.js")[0] == 200
    status, headers, _ = ask(link, "/app.js", method="PUT")
    assert (status, headers["connection"]) == (405, "close")
    assert link.at_eof()


def test_a_slow_reader_costs_no_memory_and_holds_nobody_up(serve, www):
    big = www / "big"
    with big.open("wb") as file:
        file.truncate(300 * 1024 * 1024)
    server = serve("--static", www, listener=["cat"])
    server.connect()
    before = rss_kib(server.proc.pid)
    slow = [server.raw(receive_buffer=4096) for _ in range(20)]
    for link in slow:
        link.request("/big", **PLAIN)
        assert link.sock.recv(16)
    assert ask(server.raw(), "/app.js")[2] == b"export {};"
    client = server.connect()
    client.send("hello")
    assert client.recv() == "hello"
    # Twenty files of 300 MiB are under way.
    assert rss_kib(server.proc.pid) - before < 30 * 1024
    # One that reads gets all of it.
    link = server.raw()
    link.request("/big", **PLAIN)
    received = 0
    while received < big.stat().st_size:
        data = link.sock.recv(1 << 20)
        assert data
        received += len(data)


def test_idle_connections_end_with_the_handshake_timeout(serve, www):
    server = serve("--static", www, "--handshake-timeout", "300ms")
    for path in ("/app.js", "/.wsgw/console.svg"):
        link = server.raw()
        assert ask(link, path)[0] == 200
        began = time.monotonic()
        assert link.at_eof()
        assert 0.2 < time.monotonic() - began < 5


def test_a_stop_lets_answers_end_and_cuts_those_that_do_not(serve, www):
    with (www / "big").open("wb") as file:
        file.truncate(300 * 1024 * 1024)
    server = serve("--static", www, "--drain", "1s")
    idle, on_shard, slow = server.raw(), server.raw(), server.raw(receive_buffer=4096)
    assert ask(idle, "/app.js")[0] == ask(on_shard, "/.wsgw/console.svg")[0] == 200
    slow.request("/big", **PLAIN)
    assert slow.sock.recv(16)
    began = time.monotonic()
    server.signal()
    assert idle.at_eof() and on_shard.at_eof()
    assert server.wait() == 0
    assert time.monotonic() - began < 6
    slow.at_eof()


def test_descriptors_come_back(serve, www):
    server = serve("--static", www)
    fds = Path(f"/proc/{server.proc.pid}/fd")
    ask(server.raw(), "/app.js")
    server.close_raw()
    before = wait_until(lambda: len(list(fds.iterdir())), "descriptors")
    for round in range(3):
        links = [server.raw() for _ in range(30)]
        for link in links:
            assert ask(link, "/data.bin")[0] == 200
        for n, link in enumerate(links):
            link.reset() if n % 2 else link.close()
    wait_until(lambda: len(list(fds.iterdir())) <= before + 1, "descriptors that come back")


def test_half_of_the_descriptors_are_left_for_connections(serve, www):
    server = serve("--static", www, files=200)
    held = []
    for _ in range(120):
        link = server.raw()
        status, _, body = ask(link, "/app.js")
        if status == 503:
            break
        held.append(link)
    assert status == 503 and b"Too many clients" in body
    assert len(held) >= 16
    client = server.connect()
    client.close()


def test_a_directory_that_is_missing_is_an_error(tmp_path):
    missing = tmp_path / "nope"
    done = run_cli(tmp_path, "serve", "--port", "0", "--control", "off", "--static", missing)
    assert done.returncode == 1
    assert f'"{missing}" cannot be served' in done.stderr and "change the key static" in done.stderr


def test_the_files_of_a_config_are_beside_it_and_a_reload_changes_them(serve, tmp_path, www):
    home = tmp_path / "files"
    shutil.copytree(www, home / "www", symlinks=True)
    text = 'control.listen = "127.0.0.1:0"\n[gateways.default]\nport = 0\nstatic = "{}"\n'
    server = serve(name="files", config=text.format("www"), port=None)
    assert server.config.parent == home
    link = server.raw()
    assert ask(link, "/app.js")[2] == b"export {};"
    other = home / "other"
    other.mkdir()
    (other / "app.js").write_text("other")
    server.reload(text.format("missing"), code=1)
    assert ask(link, "/app.js")[2] == b"export {};"
    server.reload(text.format("other"))
    assert ask(link, "/app.js")[2] == b"other"
    # A directory that is exchanged as a whole.
    os.rename(other, home / "old")
    other.mkdir()
    (other / "app.js").write_text("newer")
    assert ask(link, "/app.js")[2] == b"newer"


def test_requests_in_the_record_layer_are_answered(serve, www, tmp_path):
    """What the shard has decrypted and not read is there when its client has left for the files."""
    cert, key = certificate(tmp_path)
    # With a listener, a shard reads no more than a record holds at a time.
    server = serve("--static", www, "--tls-cert", cert, "--tls-key", key, listener=["cat"])
    link = server.raw()
    comes, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context(cafile=str(cert)).wrap_bio(comes, goes, server_hostname="localhost")

    def until(act):
        while True:
            try:
                return act()
            except ssl.SSLWantReadError:
                link.write(goes.read())
                data = link.sock.recv(65536)
                assert data, "the connection ended"
                comes.write(data)

    until(tls.do_handshake)
    link.write(goes.read())
    # Two records that come together: the last request begins in the first one.
    count, length = 4, 4146
    asked = link.head("/app.js", {"X-Pad": ""}, **PLAIN)
    said = link.head("/app.js", {"X-Pad": "x" * (length - len(asked))}, **PLAIN) * count
    assert len(said) == count * length
    tls.write(said[:16384])
    tls.write(said[16384:])
    link.write(goes.read())
    got = b""
    while got.count(b"export {};") < count:
        got += until(lambda: tls.read(65536))


def test_a_range_that_does_not_count(serve, www):
    (www / "nothing.txt").touch()
    link = serve("--static", www).raw()
    for path, unit, method, length in [
        ("/data.bin", "lines=1-2", "GET", 10240),
        ("/data.bin", "bytes=1-2", "HEAD", 10240),
        ("/nothing.txt", "bytes=0-", "GET", 0),
    ]:
        status, headers, _ = ask(link, path, {"Range": unit}, method)
        assert (status, headers["content-length"]) == (200, str(length)), (path, unit, method)
        assert "content-range" not in headers
