"""The control port: who may use it, what it answers, its metrics."""

import json
import re
import socket
import subprocess

import pytest

from harness import tool, wait_until

EVERY = [
    ("GET", "/v1/gateways"), ("GET", "/v1/gateways/default"),
    ("POST", "/v1/gateways/default/messages"), ("POST", "/v1/gateways/default/start"),
    ("POST", "/v1/gateways/default/stop"), ("POST", "/v1/gateways/default/restart"),
    ("POST", "/v1/reload"), ("GET", "/v1/gateways/default/connections"),
    ("GET", "/v1/gateways/default/connections/k1"),
    ("DELETE", "/v1/gateways/default/connections/k1"), ("POST", "/v1/open"),
]


@pytest.mark.parametrize(("method", "path"), EVERY)
def test_everything_needs_the_token(serve, method, path):
    server = serve()
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": server.token},
                    {"Authorization": f"Basic {server.token}"},
                    {"Authorization": f"Bearer {server.token}x"}, {"Authorization": "Bearer "}):
        status, answer = server.api(method, path, token=False, headers=headers)
        assert (status, answer["error"]["code"]) == (401, "unauthorized")
    assert server.status()["state"] == "running"


def test_the_scheme_may_be_written_in_any_case(serve):
    server = serve()
    headers = {"Authorization": f"bearer {server.token}"}
    assert server.api("GET", "/v1/gateways", token=False, headers=headers)[0] == 200


def test_health_and_metrics_need_none(serve):
    server = serve()
    assert server.http("GET", "/healthz", token=False)[0] == 200
    assert server.http("GET", "/healthz", token=False)[2].strip() == "ok"
    status, headers, text = server.http("GET", "/metrics", token=False)
    assert status == 200
    assert headers.get("Content-Type", headers.get("content-type")).startswith("text/plain")
    assert 'wsgw_gateway_running{gateway="default"} 1' in text
    for line in text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) .*|\w+(\{[^}]*\})? [0-9.e+-]+(Inf)?", line), line


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Origin": "null"},
                                     {"Origin": "http://localhost"}, {"Host": "evil.example"},
                                     {"Host": "127.0.0.1.evil.example"}, {"Host": "10.1.2.3"}])
def test_a_web_page_cannot_drive_it(serve, headers):
    server = serve()
    for method, path in EVERY + [("GET", "/metrics"), ("OPTIONS", "/v1/gateways")]:
        status, answer = server.api(method, path, headers=headers)
        assert (status, answer["error"]["code"]) == (403, "forbidden"), path
    assert server.http("GET", "/healthz", headers=headers)[0] == 200
    assert server.status()["state"] == "running"


@pytest.mark.parametrize("host", ["localhost", "localhost:1234", "127.0.0.1:9", "[::1]:80",
                                  "LOCALHOST", "127.1.2.3"])
def test_loopback_names_are_good_hosts(serve, host):
    server = serve()
    assert server.http("GET", "/v1/gateways", headers={"Host": host})[0] == 200


def test_further_hosts(serve):
    server = serve(config="[control]\nhosts = ['gw.internal']\n[gateways.a]\nport = 0\n")
    assert server.http("GET", "/v1/gateways", headers={"Host": "gw.internal:99"})[0] == 200
    assert server.http("GET", "/v1/gateways", headers={"Host": "other.internal"})[0] == 403


def test_no_host_or_two(serve):
    server = serve()
    for hosts in ("", "Host: localhost\r\nHost: evil\r\n"):
        with socket.create_connection(("127.0.0.1", server.control_port), 10) as link:
            link.sendall(f"GET /v1/gateways HTTP/1.1\r\n{hosts}Authorization: Bearer "
                         f"{server.token}\r\nConnection: close\r\n\r\n".encode())
            assert link.recv(65536).split()[1] in (b"400", b"403")


def test_an_address_that_is_not_loopback_needs_tls_or_a_word(serve):
    server = serve("--control", "0.0.0.0:0", control=False, wait=False)
    assert server.wait() != 0
    assert "insecure" in server.err()
    server = serve("--control", "0.0.0.0:0", control=False, config="""
        [control]
        insecure = true
        [gateways.a]
        port = 0
    """)
    port = int(server.await_out(r"control listening on http://\S+:(\d+)\n")[1])
    path = server.state / f"control-{port}.json"
    server.token, server.control_port = json.loads(path.read_text())["token"], port
    # Any literal address of this machine is a good Host then.
    assert server.http("GET", "/v1/gateways", headers={"Host": f"127.0.0.1:{port}"})[0] == 200
    assert server.http("GET", "/v1/gateways", headers={"Host": "203.0.113.9"})[0] == 403


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("POST", "/", 405, "method_not_allowed"), ("GET", "/page/nope", 404, "not_found"),
     ("GET", "/v1/open", 405, "method_not_allowed"), ("GET", "/v1", 404, "not_found"), ("GET", "/v2", 404, "not_found"),
     ("GET", "/v1/gateways/nope", 404, "unknown_gateway"),
     ("POST", "/v1/gateways/nope/messages", 404, "unknown_gateway"),
     ("GET", "/v1/gateways/%00", 404, "unknown_gateway"),
     ("GET", "/v1/gateways/default/nope", 404, "not_found"),
     ("GET", "/v1/gateways/default/connections/k99", 404, "unknown_connection"),
     ("DELETE", "/v1/gateways/default/connections/zz", 404, "unknown_connection"),
     ("PUT", "/v1/gateways", 405, "method_not_allowed"),
     ("POST", "/v1/gateways", 405, "method_not_allowed"),
     ("GET", "/v1/gateways/default/messages", 405, "method_not_allowed"),
     ("GET", "/v1/reload", 405, "method_not_allowed"),
     ("DELETE", "/v1/reload", 405, "method_not_allowed")],
)
def test_what_there_is_not(serve, method, path, status, code):
    server = serve()
    got, answer = server.api(method, path, {"message": "x"} if method == "POST" else None)
    assert (got, answer["error"]["code"]) == (status, code)
    assert answer["error"]["message"]
    if code == "unknown_gateway":
        assert answer["error"]["known"] == ["default"]


def test_curl(serve):
    server = serve()
    client = server.connect()
    server.await_connections(1)
    done = subprocess.run(
        [tool("curl"), "-sS", "-H", f"Authorization: Bearer {server.token}", "-d",
         '{"message":"hi"}', f"{server.control_url}/v1/gateways/default/messages"],
        capture_output=True, text=True)
    assert json.loads(done.stdout) == {
        "matched": 1, "delivered": 1, "dropped": 0, "gone": []}, done.stderr
    assert client.recv() == "hi"


def test_verbs_over_http(serve):
    server = serve()
    for verb, state in (("stop", "stopped"), ("start", "running"), ("restart", "running")):
        status, answer = server.api("POST", f"/v1/gateways/default/{verb}")
        assert (status, answer["id"], answer["state"]) == (200, "default", state)


def test_health_follows_the_gateways(serve):
    server = serve(config="[gateways.a]\nport = 0\n[gateways.b]\nport = 0\nstartup = 'manual'\n")
    assert server.http("GET", "/healthz")[0] == 200
    server.cli("stop", "a")
    assert server.http("GET", "/healthz")[0] == 200


def test_a_message_with_content_length_zero_or_none(serve):
    server = serve()
    status, answer = server.api("POST", "/v1/gateways/default/messages", b"")
    assert (status, answer["error"]["code"]) == (400, "bad_request")


def test_a_chunked_struct(serve):
    server = serve()
    a = server.connect()
    server.await_connections(1)
    with socket.create_connection(("127.0.0.1", server.control_port), 10) as link:
        link.sendall(b"POST /v1/gateways/default/messages HTTP/1.1\r\nHost: localhost\r\n"
                     b"Connection: close\r\nTransfer-Encoding: chunked\r\n"
                     b"Authorization: Bearer " + server.token.encode() + b"\r\n\r\n")
        for piece in (b'{"mess', b'age":"x"}', b""):
            link.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        assert link.recv(65536).split()[1] == b"200"
    assert a.recv() == "x"


def test_bytes_that_are_not_http_harm_nothing(serve):
    server = serve()
    for junk in (b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01" + b"\0" * 100,
                 b"POST /v1/reload HTTP/1.1\r\nContent-Length: x\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.control_port), 10) as link:
            link.sendall(junk)
            link.shutdown(socket.SHUT_WR)
            while link.recv(65536):
                pass
    assert server.status()["state"] == "running"


def test_the_metrics_of_a_message(scripted):
    server = scripted()
    (a, _), (b, _) = server.named(), server.named()
    a.send("xyz")
    assert a.recv() == b.recv() == "xyz"
    server.await_metric("wsgw_deliveries_total", 4)
    # What is told of a push is in the counters then.
    server.push(message="p")
    assert server.metric("wsgw_deliveries_total") == 2 + 2 + 2
    assert server.metric("wsgw_messages_received_total") == 3
    assert server.metric("wsgw_pushes_total") == 1
    assert server.metric("wsgw_connections_open") == 2
    assert server.metric("wsgw_connections_accepted_total") == 2
    assert server.metric("wsgw_listener_up") == 1
    a.close(4321)
    server.await_metric("wsgw_connections_closed_total", 1, code="4321")


def test_nothing_is_started_once_all_of_it_stops(scripted):
    server = scripted("--drain", "3s", "--listener-timeout", "20s")
    a = server.connect()
    a.send("!none")
    server.record.wait("onMessage")
    server.signal()
    wait_until(lambda: server.http("GET", "/healthz")[0] == 503, "the start of the stop")
    for path in ("/v1/gateways/default/start", "/v1/gateways/default/restart",
                 "/v1/gateways/default/restart?listener=true", "/v1/reload"):
        status, answer = server.api("POST", path)
        assert (status, answer["error"]["code"]) == (503, "stopping"), path
    assert server.cli("restart", "default").returncode == 4
    assert server.wait() == 0
    assert len(server.record.pids()) == 1


# The metrics, as Prometheus wants them.


def lint(text):
    """What promtool would complain about, and what its parser would not take."""
    families, current, series = {}, None, set()
    assert text.endswith("\n") and "\r" not in text
    for line in text.splitlines():
        if found := re.fullmatch(r"# HELP (\w+) (\S.*)", line):
            current = found[1]
            assert current not in families, f"{current} twice"
            assert found[2].endswith("."), line
            families[current] = {"type": None, "samples": []}
            continue
        if found := re.fullmatch(r"# TYPE (\w+) (counter|gauge|histogram)", line):
            assert found[1] == current and families[current]["type"] is None, line
            families[current]["type"] = found[2]
            continue
        found = re.fullmatch(r'([a-z_]+)((?:\{(?:[a-z]+="(?:[^"\\\n]|\\[\\"n])*",?)*\})?) (\S+)', line)
        assert found, line
        assert found[1] + found[2] not in series, f"{line} twice"
        series.add(found[1] + found[2])
        value, kind = float(found[3]), families[current]["type"]
        assert value >= 0 and kind
        suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        assert found[1] in [current + s for s in suffixes], line
        labels = dict(re.findall(r'([a-z]+)="([^"]*)"', found[2]))
        assert ("le" in labels) == found[1].endswith("_bucket")
        families[current]["samples"].append((found[1], labels, value))
    for name, family in families.items():
        assert re.fullmatch(r"(wsgw|process)_[a-z_]+", name)
        assert name.endswith("_total") == (family["type"] == "counter"), name
        assert not re.search(r"(milli|micro|nano|kilo|_ms|_us|_kb|_mb|counter|gauge)", name)
        if family["type"] != "histogram":
            continue
        for gateway in {labels["gateway"] for _, labels, _ in family["samples"]}:
            mine = [s for s in family["samples"] if s[1]["gateway"] == gateway]
            buckets = [(float(l["le"]), v) for n, l, v in mine if n == name + "_bucket"]
            assert buckets == sorted(buckets) and buckets[-1][0] == float("inf")
            assert [v for _, v in buckets] == sorted(v for _, v in buckets)
            assert buckets[-1][1] == [v for n, _, v in mine if n == name + "_count"][0]
            assert len([v for n, _, v in mine if n == name + "_sum"]) == 1
    return families


def test_the_metrics_are_what_prometheus_wants(serve):
    server = serve(config="""
        [gateways.chat]
        port = 0
        listener = "cat"
        [gateways."a.b-c_1"]
        port = 0
        allow-origin = ["https://x"]
        [gateways.off]
        port = 0
        startup = "manual"
    """)
    a, b = server.connect(gateway="chat"), server.connect(gateway="a.b-c_1")
    for n in range(20):
        a.send("xyz")
        b.send("xyz")
        assert a.recv() == b.recv() == "xyz"
    b.close(3999, 'a "reason"')
    server.await_metric("wsgw_connections_closed_total", 1, "a.b-c_1", code="3999")
    with pytest.raises(Exception):
        server.connect(gateway="a.b-c_1", origin="http://y")
    status, headers, text = server.http("GET", "/metrics", token=False)
    headers = {k.lower(): v for k, v in headers.items()}
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = lint(text)
    assert {"wsgw_" + name for name in (
        "connections_open", "connections_accepted_total", "connections_refused_total",
        "connections_closed_total", "messages_received_total", "received_bytes_total",
        "deliveries_total", "delivered_bytes_total", "deliveries_dropped_total",
        "slow_consumers_total", "listener_queue_events", "listener_unanswered_events",
        "listener_restarts_total", "listener_faults_total")} <= set(families)
    gateways = {l["gateway"] for _, l, _ in families["wsgw_gateway_running"]["samples"]}
    assert gateways == {"chat", "a.b-c_1", "off"}
    answers = [v for n, l, v in families["wsgw_listener_answer_seconds"]["samples"]
               if n.endswith("_count") and l["gateway"] == "chat"]
    assert answers == [20]
    assert server.metric("wsgw_connections_refused_total", "a.b-c_1", reason="origin") == 1


def test_without_a_gateway_the_metrics_are_still_whole(serve):
    server = serve(config="[gateways]\n")
    lint(server.http("GET", "/metrics", token=False)[2])
    assert server.api("GET", "/v1/gateways") == (200, [])
    assert server.cli("send", "x").returncode == 4


def test_the_connections_of_a_stopped_gateway_are_gone(serve):
    server = serve()
    server.connect()
    (conn,) = server.await_connections(1)
    server.api("POST", "/v1/gateways/default/stop")
    path = f"/v1/gateways/default/connections/{conn['conn']}"
    for method in ("GET", "DELETE"):
        status, answer = server.api(method, path)
        assert (status, answer["error"]["code"]) == (404, "unknown_connection")
    assert server.connections() == []
    done = server.cli("close", "default", conn["conn"])
    assert done.returncode == 4 and conn["conn"] in done.stderr


def test_only_a_code_that_may_be_sent_closes(serve):
    server = serve()
    a = server.connect()
    (conn,) = server.await_connections(1)
    path = f"/v1/gateways/default/connections/{conn['conn']}"
    for code in ("", "x", "0", "999", "1004", "1005", "1006", "1015", "2999", "5000", "99999", "-1"):
        status, answer = server.api("DELETE", f"{path}?code={code}")
        assert (status, answer["error"]["code"]) == (400, "bad_request"), code
    assert server.api("DELETE", f"{path}?reason=%zz")[0] == 400
    status, answer = server.api("DELETE", f"{path}?code=4999&reason=" + "%C3%A4" * 80)
    assert (status, answer["conn"]) == (200, conn["conn"])
    # 123 bytes at most, and no half character.
    assert a.await_close() == (4999, "ä" * 61)
    wait_until(lambda: server.api("DELETE", path)[0] == 404, "the end of the connection")


@pytest.mark.parametrize("query", ["", "?results=each"])
@pytest.mark.parametrize("early", [True, False])
def test_a_stream_that_asks_first_is_told_to_go_on(serve, query, early):
    """A response that began before the word would be taken for the end of the matter."""
    server = serve()
    a = server.connect()
    server.await_connections(1)
    body = b'15\r\n{"message":"one"}\n{"m\r\ne\r\nessage":"two"}\r\n0\r\n\r\n'
    with socket.create_connection(("127.0.0.1", server.control_port), 10) as link:
        head = (f"POST /v1/gateways/default/messages{query} HTTP/1.1\r\nHost: localhost\r\n"
                f"Authorization: Bearer {server.token}\r\nExpect: 100-continue\r\n"
                "Content-Type: application/x-ndjson\r\nConnection: close\r\n"
                "Transfer-Encoding: chunked\r\n\r\n").encode()
        link.sendall(head + body if early else head)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += link.recv(65536)
        if not early:
            assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
            link.sendall(body)
        while piece := link.recv(65536):
            answer += piece
    assert answer.count(b"HTTP/1.1 200 ") == 1
    assert a.recv_many(2) == ["one", "two"]
