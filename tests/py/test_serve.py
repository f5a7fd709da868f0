"""`wsgw serve`: start, signals, config, lifecycle, HTTP on a gateway's port, logs."""

import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from conftest import BINARY, Serve, environment, wait_for


def http(port, request, timeout=5):
    with socket.create_connection(("127.0.0.1", port), timeout) as s:
        s.sendall(request if isinstance(request, bytes) else request.encode())
        data = b""
        while chunk := s.recv(65536):
            data += chunk
    head, _, body = data.decode().partition("\r\n\r\n")
    status = int(head.split()[1])
    headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head.split("\r\n")[1:])}
    return status, headers, body


UPGRADE = ("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: {version}\r\n{more}\r\n")


def upgrade(path="/", version=13, more=""):
    return UPGRADE.format(path=path, version=version, more=more)


def test_plain_http(serve):
    s = serve("--path", "/chat,/rooms/*", "--max-connections", "1")
    port = s.port()
    status, headers, body = http(port, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status == 200 and "WebSocket" in body
    for request, expected in [
        (upgrade("/nope"), 404),
        ("GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n", 400),
        (upgrade("/chat").replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), 400),
        ("POST /chat HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405),
        ("nonsense\r\n\r\n", 400),
        (upgrade("/chat", more="Origin: https://evil.example\r\n"), 403),
        (upgrade("/chat", more="X: " + "y" * 40_000 + "\r\n"), 431),
        (upgrade("/chat", more="".join(f"X-{i}: y\r\n" for i in range(120))), 431),
    ]:
        assert http(port, request)[0] == expected, request[:200]
    status, headers, _ = http(port, upgrade("/chat", version=8))
    assert status == 426 and headers["sec-websocket-version"] == "13"
    status, _, body = http(port, upgrade("/chat", more="Origin: https://evil.example\r\n"))
    assert "allow-origin" in body
    with connect(s.url("/rooms/1")):
        status, headers, _ = http(port, upgrade("/chat"))
        assert status == 503


def test_a_handshake_byte_by_byte_and_one_that_never_ends(serve):
    s = serve("--handshake-timeout", "1s")
    with socket.create_connection(("127.0.0.1", s.port()), 5) as good:
        good.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in upgrade().encode():
            good.sendall(bytes([byte]))
        assert good.recv(1000).startswith(b"HTTP/1.1 101")
    start = time.monotonic()
    assert http(s.port(), "GET / HTTP/1.1\r\nHost:")[0] == 408
    assert 0.8 < time.monotonic() - start < 9


def test_origins(serve):
    s = serve("--allow-origin", "https://*.example.com,null")
    for origin, fine in [("https://a.example.com", True), ("null", True), (None, True),
                         ("http://a.example.com", False), ("https://example.org", False), ("http://localhost", False)]:
        try:
            connect(s.url(), origin=origin).close()
            assert fine, origin
        except InvalidStatus as e:
            assert not fine and e.response.status_code == 403, origin


def test_a_taken_port(serve, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        s = serve(port=str(port), wait=False)
        assert s.process.wait(10) == 1
        s.stop()
        said = "\n".join(s.errors)
        assert str(port) in said and "default" in said and "--port" in said
        s = serve(control=f"127.0.0.1:{port}", wait=False)
        assert s.process.wait(10) == 1
        s.stop()
        said = "\n".join(s.errors)
        assert str(port) in said and "--control" in said


CONFIG = """
[log]
level = "info"
[defaults]
listener-timeout = "5s"
[gateways.one]
port = 0
listener = ["cat"]
[gateways.two]
port = {two}
route = "others"
startup = "{startup}"
[gateways.off]
port = 0
startup = "disabled"
"""


def test_several_gateways_and_their_verbs(serve, tmp_path):
    config = tmp_path / "wsgw.toml"
    config.write_text(CONFIG.format(two=0, startup="manual"))
    s = serve("--config", str(config), port=None)
    states = {g["id"]: g["state"] for g in s.request("GET", "/v1/gateways")[1]}
    assert states == {"one": "running", "two": "stopped", "off": "stopped"}
    assert s.run("start", "off").returncode == 4
    assert s.run("start", "two").returncode == 0
    assert s.run("start", "two").returncode == 0
    wait_for(lambda: s.port("two"))
    # Several run: -g is needed, and they are listed.
    done = s.run("send", "x")
    assert done.returncode == 2 and "one" in done.stderr and "two" in done.stderr
    with connect(s.url(gateway="one")) as a, connect(s.url(gateway="two")) as b:
        assert s.run("send", "-g", "two", "hi").stdout == "delivered 1\n"
        assert b.recv(20) == "hi"
        assert s.run("stop", "two").returncode == 0
        with pytest.raises(ConnectionClosed) as closed:
            b.recv(20)
        assert closed.value.rcvd.code == 1001
        # Only that one's connections.
        a.send("still here")
        assert a.recv(20) == "still here"
        done = s.run("send", "-g", "two", "x")
        assert done.returncode == 4 and "stopped" in done.stderr
        done = s.run("send", "-g", "nope", "x")
        assert done.returncode == 4 and "one" in done.stderr
        pid = s.status("one")["listener_pid"]
        assert s.run("restart", "one", "--listener").returncode == 0
        assert s.status("one")["listener_pid"] not in (None, pid)
        a.send("new listener")
        assert a.recv(20) == "new listener"
    table = s.run("status").stdout
    assert "one" in table and "running" in table
    one = json.loads(s.run("status", "one", "--json").stdout)
    for key in ("id", "state", "listener", "address", "connections", "messages_in", "messages_out", "restarts",
                "listener_pid", "error"):
        assert key in one
    assert isinstance(json.loads(s.run("status", "--json").stdout), list)


def test_one_that_fails_leaves_the_others(serve, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = tmp_path / "wsgw.toml"
        config.write_text(CONFIG.format(two=taken.getsockname()[1], startup="automatic"))
        s = serve("--config", str(config), port=None)
        assert s.status("two")["state"] == "failed" and "taken" in s.status("two")["error"]
        assert s.status("one")["state"] == "running"
        assert s.request("GET", "/healthz", raw=True)[0] == 200


def test_reload(serve, tmp_path):
    config = tmp_path / "wsgw.toml"

    def write(text):
        config.write_text(text)
    write('[gateways.a]\nport = 0\nlistener = ["cat"]\n')
    s = serve("--config", str(config), port=None)
    with connect(s.url(gateway="a")) as ws:
        ws.send("1")
        assert ws.recv(20) == "1"
        # An invalid one changes nothing.
        write('[gateways.a]\nprot = 0\n')
        done = s.run("reload")
        assert done.returncode == 1 and "prot" in done.stderr and ":2:" in done.stderr
        # A key that applies live.
        write('[gateways.a]\nport = 0\nlistener = ["cat"]\nroute = "none"\n')
        assert s.run("reload").returncode == 0
        ws.send("not sent")
        s.wait_metric("wsgw_messages_received_total", 2, gateway="a")
        # Another listener, the clients stay; a new gateway appears.
        write('[gateways.a]\nport = 0\nlistener = "sed -u s/cat/dog/"\n[gateways.b]\nport = 0\n')
        assert s.run("reload").returncode == 0
        ws.send("cat")
        assert ws.recv(20) == "dog"
        assert s.status("b")["state"] == "running"
        # One that fails: the old stays.
        write('[gateways.a]\nport = 0\nlistener = "exit 3"\n[gateways.b]\nport = 0\n')
        done = s.run("reload")
        assert done.returncode == 1 and "a" in done.stderr
        ws.send("cat")
        assert ws.recv(20) == "dog"
        # From a listener to none, and back.
        write('[gateways.a]\nport = 0\n')
        assert s.run("reload").returncode == 0
        assert [g["id"] for g in s.request("GET", "/v1/gateways")[1]] == ["a"]
        ws.send("cat")
        assert ws.recv(20) == "cat"
        write('[gateways.a]\nport = 0\nlistener = "sed -u s/cat/cow/"\n')
        assert s.run("reload").returncode == 0
        ws.send("cat")
        assert ws.recv(20) == "cow"
        # A changed port restarts it.
        write(f'[gateways.a]\nport = 0\nhost = "localhost"\nlistener = ["cat"]\n')
        assert s.run("reload").returncode == 0
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(20)
        assert closed.value.rcvd.code == 1001
    # SIGHUP does the same.
    write('[gateways.a]\nport = 0\nhost = "localhost"\nroute = "sender"\nlistener = ["cat"]\n[gateways.c]\nport = 0\n')
    s.process.send_signal(signal.SIGHUP)
    wait_for(lambda: s.request("GET", "/v1/gateways/c")[0] == 200 and s.status("c")["state"] == "running")


def test_nohup_keeps_sighup_ignored(tmp_path):
    process = subprocess.Popen(["nohup", BINARY, "serve", "--port", "0", "--control", "off"],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
                               text=True, env=environment(tmp_path), cwd=tmp_path)
    assert "listening" in process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_healthz_is_503_while_starting_and_from_sigterm_on(serve, listener):
    s = serve(*listener("ignore-end"))
    assert s.request("GET", "/healthz", headers={"Authorization": None, "Origin": "https://evil"}, raw=True) == (200, b"ok\n")
    s.process.send_signal(signal.SIGTERM)
    wait_for(lambda: s.request("GET", "/healthz", raw=True)[0] == 503)
    assert s.push({"message": "x"})[1]["error"]["code"] == "stopping"


def test_unix_control_socket(serve, tmp_path):
    path = tmp_path / "c.sock"
    s = serve(control=f"unix:{path}", wait=False)
    wait_for(lambda: any("control listening on http+unix://" in line for line in s.lines))
    assert path.stat().st_mode & 0o777 == 0o600
    got = subprocess.run(["curl", "-s", "--unix-socket", str(path), "http://localhost/v1/gateways"],
                         capture_output=True, text=True)
    assert json.loads(got.stdout)[0]["id"] == "default"
    assert s.run("send", "--control", f"unix:{path}", "hi").stdout == "delivered 0\n"
    assert s.run("send", "hi").stdout == "delivered 0\n"
    s.stop()
    assert not path.exists()


def test_the_token_file(serve):
    s = serve()
    port = s.control_url.rsplit(":", 1)[1]
    file = s.home / f"state/wsgw/control-{port}.json"
    assert file.stat().st_mode & 0o777 == 0o600
    content = json.loads(file.read_text())
    assert content["url"] == s.control_url and content["pid"] == s.process.pid and len(content["token"]) >= 32
    s.stop()
    assert not file.exists()


def test_an_implicit_config_is_set_aside(serve, tmp_path):
    directory = tmp_path / "config/wsgw"
    directory.mkdir(parents=True)
    (directory / "wsgw.toml").write_text('[gateways.mine]\nport = 0\n')
    s = serve(port=None)
    assert s.status("mine")["state"] == "running"
    s.stop()
    s = serve()
    assert s.status("default")["state"] == "running"
    s.wait_log("set aside")


def test_bad_use(tmp_path):
    (tmp_path / "bad.toml").write_text("[gateways.chat]\nprot = 1\n")
    for args, code, text in [
        (["--prot", "1"], 2, "--prot"),
        (["--route", "some"], 2, "--route"),
        (["--listener", "cat", "--", "cat"], 2, "--listener"),
        (["--config", "none.toml"], 1, "none.toml"),
        (["--config", "bad.toml"], 1, 'bad.toml:2: gateways.chat: unknown key "prot" (did you mean "port"?)'),
        (["--max-message", "16MiB"], 2, "max-line"),
        (["--log-dir", "/proc/nope"], 1, "/proc/nope"),
        (["--log-level", "loud=["], 2, "log level"),
    ]:
        done = subprocess.run([BINARY, "serve", *args], capture_output=True, text=True, timeout=10,
                              env=environment(tmp_path), cwd=tmp_path, stdin=subprocess.DEVNULL)
        assert done.returncode == code, (args, done.stderr)
        assert text in done.stderr, (args, done.stderr)


def test_a_default_log_that_cannot_be_written_is_a_warning(serve, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state/wsgw").mkdir()
    (tmp_path / "state/wsgw/logs").write_text("in the way")
    s = serve()
    assert s.stop() == 0
    assert any("--log-dir" in line for line in s.errors)


def test_the_log(serve, tmp_path):
    logs = tmp_path / "logs"
    s = serve("--log-dir", str(logs), "--log-level", "trace", "--headers", "*")
    other = serve("--log-dir", str(logs), home=tmp_path)
    with connect(s.url("/x%0Ay\x1bz".replace("\x1b", "%1b")), additional_headers=[("X-Evil", "a")]) as ws:
        ws.send("body\n2026-01-01T00:00:00Z ERROR forged \x1b[2J")
        ws.recv(20)
    s.stop()
    other.stop()
    text = (logs / "WebSocket.log").read_text()
    assert (logs / "WebSocket.log").is_symlink()
    for line in text.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z +(ERROR|WARN|INFO|DEBUG|TRACE) ", line), line
        assert "\x1b" not in line
    assert "forged" in text and " default k1 opened" in text
    # The bodies are there at trace alone.
    quiet = serve(home=tmp_path / "quiet") if (tmp_path / "quiet").mkdir() is None else None
    with connect(quiet.url()) as ws:
        ws.send("secret body")
        ws.recv(20)
    quiet.stop()
    assert "secret" not in quiet.log
    assert not [e for e in serve("-q", home=tmp_path / "quiet").errors]


def test_stdout_closed_and_stderr_stuck(tmp_path):
    """Neither keeps a gateway from its work."""
    read, write = os.pipe()
    process = subprocess.Popen([BINARY, "serve", "--port", "0", "--control", "127.0.0.1:0", "--log-level", "trace"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=write, text=True,
                               env=environment(tmp_path), cwd=tmp_path)
    port = int(process.stdout.readline().rsplit(":", 1)[1])
    process.stdout.close()
    with connect(f"ws://127.0.0.1:{port}/") as ws:
        for i in range(2000):
            ws.send("x" * 200)
            assert ws.recv(20)
    process.terminate()
    assert process.wait(10) == 0
    os.close(read)
    os.close(write)
