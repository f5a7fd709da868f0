"""The control port by curl and raw HTTP, and `wsgw send`."""

import base64
import json
import os
import pty
import re
import signal
import socket
import subprocess
import threading
import time

import pytest
from websockets.sync.client import connect

from conftest import BINARY, environment, wait_for


def raw(serve, request):
    host, port = serve.control_url.removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), 10) as s:
        s.sendall(request if isinstance(request, bytes) else request.encode())
        data = b""
        while chunk := s.recv(65536):
            data += chunk
    return int(data.split()[1]), data


def test_who_may(serve):
    s = serve()
    assert s.request("GET", "/v1/gateways")[0] == 200
    for path in ("/healthz", "/metrics"):
        assert s.request("GET", path, headers={"Authorization": None}, raw=True)[0] == 200
    for headers, status in [
        ({"Authorization": None}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Basic {s.token}"}, 401),
        ({"Origin": "http://localhost"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost"}, 200),
        ({"Host": "[::1]:1"}, 200),
    ]:
        assert s.request("GET", "/v1/gateways", headers=headers)[0] == status, headers
    assert s.request("GET", "/metrics", headers={"Origin": "http://x"})[0] == 403
    assert raw(s, "GET /v1/gateways HTTP/1.1\r\nConnection: close\r\n\r\n")[0] in (400, 403)
    done = s.run("send", "hi", env={"WSGW_TOKEN": "wrong", "WSGW_CONTROL": s.control_url})
    assert done.returncode == 6, done.stderr
    done = s.run("send", "hi", env={"WSGW_TOKEN": s.token, "WSGW_CONTROL": s.control_url, "XDG_STATE_HOME": "/nope"})
    assert done.returncode == 0, done.stderr


def test_errors_are_json(serve):
    s = serve()
    for method, path, status, code in [
        ("GET", "/v1/gateways/nope", 404, "unknown_gateway"),
        ("POST", "/v1/gateways/nope/messages", 404, "unknown_gateway"),
        ("GET", "/v1/gateways/default/connections/k99", 404, "unknown_connection"),
        ("DELETE", "/v1/gateways/default/connections/zz", 404, "unknown_connection"),
        ("DELETE", "/v1/gateways/default/connections/k1?code=1005", 400, "bad_request"),
        ("GET", "/v2", 404, "not_found"),
        ("POST", "/v1/gateways", 405, "method_not_allowed"),
        ("GET", "/v1/reload", 405, "method_not_allowed"),
    ]:
        got, body = s.request(method, path, {"message": "x"} if method == "POST" else None)
        assert (got, body["error"]["code"]) == (status, code), path
    assert s.request("GET", "/v1/gateways/nope")[1]["error"]["known"] == ["default"]
    status, body = s.push('{"message":"' + "x" * 17_000_000 + '"}')
    assert (status, body["error"]["code"]) == (413, "too_large")


def test_curl(serve):
    s = serve()
    with connect(s.url()) as ws:
        done = subprocess.run(["curl", "-sS", "-H", f"Authorization: Bearer {s.token}", "-d", '{"message":"hi"}',
                               f"{s.control_url}/v1/gateways/default/messages"], capture_output=True, text=True)
        assert json.loads(done.stdout) == {"matched": 1, "delivered": 1, "dropped": 0, "gone": []}, done.stderr
        assert ws.recv(20) == "hi"


def test_metrics_are_prometheus_text(serve):
    s = serve("--", "cat")
    with connect(s.url()) as ws:
        ws.send("x")
        ws.recv(20)
    s.wait_metric("wsgw_connections_closed_total", 1, code="1000")
    text = s.request("GET", "/metrics", raw=True)[1].decode()
    seen = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            assert kind in ("counter", "gauge", "histogram")
            assert (kind == "counter") == name.endswith("_total"), line
            seen.add(name)
        elif not line.startswith("#"):
            assert re.fullmatch(r'[a-z_]+\{gateway="default"(,[a-z]+="[^"]*")*\} [0-9.e+-]+', line), line
    for name in ("connections_open", "connections_accepted_total", "connections_refused_total", "connections_closed_total",
                 "messages_received_total", "received_bytes_total", "deliveries_total", "delivered_bytes_total",
                 "deliveries_dropped_total", "slow_consumers_total", "listener_queue_events", "listener_unanswered_events",
                 "listener_restarts_total", "listener_faults_total"):
        assert "wsgw_" + name in seen, name
    assert any("latency" in name or "duration" in name or "answer" in name for name in seen)


def stream(serve, lines, query="", early=None):
    """Writes all and reads then."""
    host, port = serve.control_url.removeprefix("http://").rsplit(":", 1)
    body = "".join(line + "\n" for line in lines).encode()
    with socket.create_connection((host, int(port)), 60) as s:
        s.sendall((f"POST /v1/gateways/default/messages{query} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n"
                   f"Authorization: Bearer {serve.token}\r\nContent-Type: application/x-ndjson\r\n"
                   f"Content-Length: {len(body)}\r\n\r\n").encode())
        s.sendall(body)
        data = b""
        while chunk := s.recv(65536):
            data += chunk
    head, body = data.split(b"\r\n\r\n", 1)
    assert b" 200 " in head.split(b"\r\n")[0], head
    if b"chunked" in head.lower():
        out = b""
        while body:
            size, body = body.split(b"\r\n", 1)
            n = int(size, 16)
            out, body = out + body[:n], body[n + 2:]
        body = out
    return [json.loads(line) for line in body.splitlines()]


def test_ndjson(serve):
    s = serve("--", "cat")
    with connect(s.url(), max_queue=None) as ws:
        lines = ['{"message":"a"}', "", "nonsense", '{"message":"b"}', '{"id":1,"message":"c"}']
        [totals] = stream(s, lines)
        assert totals == {"matched": 2, "delivered": 2, "dropped": 0, "gone": [],
                          "failed": [{"line": 3, "code": "bad_request"}, {"line": 5, "code": "bad_request"}], "failures": 2}
        each = stream(s, lines, "?results=each")
        assert [bool(r.get("error")) for r in each] == [False, True, False, True]
        # A client that writes all and reads then does not hang.
        many = [json.dumps({"message": f"{i}"}) for i in range(20_000)]
        assert len(stream(s, many, "?results=each")) == 20_000
        got = [ws.recv(20) for _ in range(4 + 20_000)]
        assert got == ["a", "b", "a", "b"] + [str(i) for i in range(20_000)]
        [totals] = stream(s, ["x"] * 300)
        assert totals["failures"] == 300 and len(totals["failed"]) == 100


def test_a_stream_waits_for_a_recipient_that_reads(serve):
    s = serve("--max-queue", "256KiB")
    with connect(s.url(), max_queue=4) as ws:
        lines = [json.dumps({"message": str(i) + "x" * 20_000}) for i in range(500)]
        thread = threading.Thread(target=stream, args=(s, lines))
        thread.start()
        for i in range(500):
            assert ws.recv(20).startswith(f"{i}x")
            if i % 50 == 0:
                time.sleep(0.02)
        thread.join(20)
    assert s.metric("wsgw_slow_consumers_total") == 0


def test_a_push_whose_requester_has_gone_is_withdrawn(serve, listener):
    s = serve("--window", "4", "--listener-timeout", "30", *listener("slow", 0.4))
    with connect(s.url()) as a, connect(s.url()) as b, connect(s.url()) as c, connect(s.url()) as d:
        # One of them may hold a quarter of the window: four fill it.
        for ws in (a, b, c, d):
            ws.send("x")
        s.wait_metric("wsgw_listener_unanswered_events", 4)
        process = subprocess.Popen([BINARY, "send", "withdrawn"], env=s.env, stdin=subprocess.DEVNULL)
        s.wait_metric("wsgw_pushes_total", 1)
        process.kill()
        process.wait()
        assert s.run("send", "kept").returncode == 0
    assert "withdrawn" not in [e["message"] for e in listener.events()]


def test_send_reads_what_it_should(serve, listener):
    s = serve(*listener("cat"))
    with connect(s.url()) as ws:
        def gets(expected, *args, stdin=None):
            done = s.run("send", *args, stdin=stdin)
            assert done.returncode == 0 and done.stdout in ("delivered 1\n", b"delivered 1\n"), done.stderr
            assert ws.recv(20) == expected
        gets("hi", "hi")
        gets("-x", "--", "-x")
        assert s.run("send", "--no-such-flag").returncode == 2
        gets("a\nb", stdin="a\nb\n")
        gets("a\n", stdin="a\n\n")
        gets("from dash", "-", stdin="from dash\n")
        gets("", "-", stdin="")
        gets("\0\xff\n".encode("latin1"), "--binary", stdin=b"\0\xff\n")
        gets(b"\0\1\2", "--base64", "AAEC")
        gets("x", "--data", '{"message": "x", "level": 3}')
        gets("no hook", "--no-hook", "no hook")
        assert listener.events()[-1]["message"] != "no hook"
        done = s.run("send", "--json", "j")
        assert json.loads(done.stdout) == {"matched": 1, "delivered": 1, "dropped": 0, "gone": []}
        assert ws.recv(20) == "j"
        assert s.run("send", "-q", "q").stdout == ""
        assert ws.recv(20) == "q"
        # With a MESSAGE, stdin is never read.
        done = subprocess.run(f"printf 'one\\ntwo\\n' | while read -r x; do {BINARY} send \"$x\"; done", shell=True,
                              env=s.env, capture_output=True, text=True)
        assert done.stdout == "delivered 1\n" * 2
        assert [ws.recv(20), ws.recv(20)] == ["one", "two"]


def test_send_to(serve):
    s = serve()
    with connect(s.url()) as a, connect(s.url()) as b:
        ka, kb = wait_for(lambda: len(s.request("GET", "/v1/gateways/default/connections")[1]) == 2 and
                          [c["conn"] for c in s.request("GET", "/v1/gateways/default/connections")[1]])
        assert s.run("send", "--to", kb, "to b").stdout == "delivered 1\n"
        assert b.recv(20) == "to b"
        assert s.run("send", "--except", kb, "to a").stdout == "delivered 1\n"
        assert a.recv(20) == "to a"
        done = s.run("send", "--to", "k999", "x")
        assert done.returncode == 4 and "k999" in done.stderr
        table = s.run("connections").stdout
        assert ka in table and kb in table
        rows = json.loads(s.run("connections", "default", "--json").stdout)
        assert {"conn", "remote", "path", "opened_at", "queued_bytes"} <= set(rows[0])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", rows[0]["opened_at"])
        assert s.run("close", "default", ka, "--code", "4009", "--reason", "enough").returncode == 0
        from websockets.exceptions import ConnectionClosed
        with pytest.raises(ConnectionClosed) as closed:
            a.recv(20)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4009, "enough")
        assert s.run("close", "default", ka).returncode == 4
    assert s.run("send", "nobody").returncode == 0
    assert s.run("send", "--require-one", "nobody").returncode == 4


def test_send_lines(serve):
    s = serve("--", "cat")
    with connect(s.url(), max_queue=None) as ws:
        done = s.run("send", "--lines", stdin="a\n\nb\nlast")
        assert (done.returncode, done.stdout) == (0, "delivered 3\n")
        assert [ws.recv(20) for _ in range(3)] == ["a", "b", "last"]
        done = s.run("send", "--lines", "--base64", stdin="AAEC\n%%%\nAAED\n")
        assert done.returncode == 1 and "line 2" in done.stderr and done.stdout == "delivered 2\n"
        assert [ws.recv(20) for _ in range(2)] == [b"\0\1\2", b"\0\1\3"]
        assert s.run("send", "--lines", stdin="").returncode == 0
        # Each line goes as it comes.
        process = subprocess.Popen([BINARY, "send", "--lines"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=s.env, text=True)
        for word in ("one", "two"):
            process.stdin.write(word + "\n")
            process.stdin.flush()
            assert ws.recv(20) == word
        process.stdin.close()
        assert process.wait(10) == 0 and process.stdout.read() == "delivered 2\n"
        many = "".join(f"{i}\n" for i in range(30_000))
        assert s.run("send", "--lines", stdin=many).stdout == "delivered 30000\n"
        assert [ws.recv(20) for _ in range(30_000)] == many.split()
    assert s.run("send", "-g", "nope", "--lines", stdin="x\n").returncode == 4


def test_send_usage(serve):
    s = serve()
    for args, stdin in [([], ""), (["--data", "{}"], None), (["--data", "nope"], None), (["--data", "{}", "x"], None),
                        (["--binary", "x"], None), (["--lines", "x"], "y\n"), (["--timeout", "0", "x"], None),
                        (["--retry", "x", "y"], None), ([], b"\xff\n")]:
        done = s.run("send", *args, stdin=stdin)
        assert done.returncode == 2, (args, done.stderr)
        assert done.stderr
    # At a terminal it does not wait for input.
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(BINARY, [BINARY, "send"], s.env)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2
    os.close(fd)


def test_no_server(tmp_path):
    def run(*args):
        return subprocess.run([BINARY, *args], capture_output=True, text=True, env=environment(tmp_path),
                              stdin=subprocess.DEVNULL, timeout=20)
    done = run("send", "hi")
    assert done.returncode == 3 and "state/wsgw" in done.stderr and "/run/wsgw" in done.stderr
    assert run("status").returncode == 3
    assert run("send", "--control", "http://127.0.0.1:1", "hi").returncode == 3
    start = time.monotonic()
    assert run("send", "--retry", "0.5", "hi").returncode == 3
    assert 0.4 < time.monotonic() - start < 5
    state = tmp_path / "state/wsgw"
    state.mkdir(parents=True)
    (state / "control-10124.json").write_text('{"url":"http://127.0.0.1:10124","token":"x","pid":2147483647}')
    done = run("send", "hi")
    assert done.returncode == 3 and "stale" in done.stderr


def test_retry_finds_a_server_that_comes_later(serve, tmp_path):
    process = subprocess.Popen([BINARY, "send", "--retry", "20", "hi"], env=environment(tmp_path), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, text=True)
    serve()
    assert process.wait(20) == 0
    assert process.stdout.read() == "delivered 0\n"


def test_several_serves_are_listed(serve, tmp_path):
    a, b = serve(), serve()
    done = a.run("send", "hi")
    assert done.returncode == 2 and a.control_url in done.stderr and b.control_url in done.stderr
    assert a.run("send", "--control", b.control_url, "hi").returncode == 0


def test_timeout(serve, listener):
    s = serve("--listener-timeout", "60", *listener("silent"))
    done = s.run("send", "--timeout", "0.5", "hi")
    assert done.returncode == 3 and "--timeout" in done.stderr
    done = s.run("send", "--lines", "--timeout", "0.5", stdin="a\nb\n")
    assert done.returncode == 3
    os.kill(s.listener_pid, signal.SIGKILL)
