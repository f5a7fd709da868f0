"""`GET /v1/watch`: how everything stands, once a second, for those who look."""

import re
import time

import pytest

from harness import rss_kib, wait_until


def gateway(data, name="default"):
    return next(g for g in data["gateways"] if g["id"] == name)


def test_the_first_event_comes_at_once_and_one_each_second_behind_it(serve):
    server = serve()
    start = time.monotonic()
    stream = server.events()
    assert stream.status == 200
    assert stream.headers["content-type"] == "text/event-stream"
    assert stream.headers["cache-control"] == "no-store"
    first = stream.event()
    assert time.monotonic() - start < 0.9
    assert first.name == "watch"
    data = first.data
    assert data["pid"] == server.pid
    assert data["version"] and data["nodes"] == [] and data["log_skipped"] == 0
    assert data["time"].endswith("Z") and data["since"] <= data["time"]
    assert (data["health"], data["reasons"]) == ("ok", [])
    assert any("gateway running" in line for line in data["log"])
    assert gateway(data) | server.status() == gateway(data)
    for _ in range(2):
        assert stream.event().name == "watch"
    assert 1.5 < time.monotonic() - start < 6


def test_it_is_for_those_with_the_token(serve):
    server = serve()
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        assert server.events(headers=headers, token=False).status == 401
    assert server.events(headers={"Origin": "http://evil.example"}).status == 403
    status, headers, _ = server.http("POST", "/v1/watch")
    assert (status, headers["allow"]) == (405, "GET, HEAD")
    status, headers, body = server.http("HEAD", "/v1/watch")
    assert (status, headers["content-type"], body) == (200, "text/event-stream", "")


def test_rates_are_of_the_last_second(serve):
    server = serve()
    client = server.connect()
    stream = server.events()
    assert gateway(stream.event().data)["rates"] == {
        "messages_in": 0, "messages_out": 0, "bytes_in": 0, "bytes_out": 0, "opened": 0}

    def busy(data):
        for _ in range(20):
            client.send("12345")
        client.recv_many(20)
        rates = gateway(data)["rates"]
        return rates if rates["messages_in"] > 0 else None

    rates = stream.until(busy)
    assert rates["messages_out"] == pytest.approx(rates["messages_in"], rel=0.5)
    assert rates["bytes_in"] == pytest.approx(rates["messages_in"] * 5)
    assert rates["bytes_out"] == pytest.approx(rates["messages_out"] * 7)
    quiet = stream.until(lambda data: not gateway(data)["rates"]["messages_in"] and data)
    assert gateway(quiet)["messages_in"] >= 20


def test_lines_of_the_log_come_once_to_each_watcher(serve):
    server = serve()
    early = server.events()
    assert "k1" not in "".join(early.event().data["log"])
    server.connect()
    opened = re.compile(r" INFO default k1 opened ")
    found = early.until(lambda data: [x for x in data["log"] if opened.search(x)])
    assert len(found) == 1
    late = server.events()
    lines = late.event().data["log"]
    assert len([x for x in lines if opened.search(x)]) == 1
    assert lines == server.log().splitlines()[-len(lines):]
    server.connect()
    for stream in (early, late):
        seen = []

        def collect(data, seen=seen):
            seen += data["log"]
            return any("k2 opened" in line for line in data["log"])

        stream.until(collect)
        assert not any(opened.search(line) for line in seen), "it was sent before"


def test_a_stop_ends_the_stream_after_it_has_told_of_it(serve):
    server = serve(listener=["sleep", "60"])
    stream = server.events()
    stream.event()
    server.signal()
    last = None
    while event := stream.event():
        last = event.data
    assert last["health"] == "failed" and "stopping" in last["reasons"][0]
    assert server.wait() == 0


def test_a_reader_that_stops_reading_costs_no_memory_and_holds_nobody_up(serve):
    server = serve()
    slow = server.events(receive_buffer=4096)
    slow.event()
    quick = server.events()
    for _ in range(4):
        quick.event()
    # It missed nothing while its few events waited in the buffers of the sockets.
    assert slow.event().name == "watch"
    assert server.http("GET", "/healthz")[0] == 200


SLOW = "import sys, time\nfor line in sys.stdin:\n    time.sleep(0.05)\n    print(line, end='', flush=True)\n"


def test_the_listener_and_the_times_of_its_answers(serve):
    server = serve("--window", "7", listener=["python3", "-c", SLOW])
    client = server.connect()
    stream = server.events()
    first = gateway(stream.event().data)["listener_detail"]
    assert (first["window"], first["answers"], first["p50_ms"], first["p99_ms"]) == (7, 0, None, None)
    assert first["command"].startswith("python3 -c 'import sys, time\\nfor line")
    assert first["since"] <= stream.event().data["time"]

    def answered(data):
        client.send("x")
        client.recv()
        found = gateway(data)["listener_detail"]
        return found if found["answers"] >= 2 else None

    found = stream.until(answered)
    assert 45 < found["p50_ms"] <= found["p99_ms"] < 5_000
    for _ in range(5):
        client.send("x")
    assert stream.until(lambda data: gateway(data)["listener_detail"]["unanswered"] == 0)
    client.recv_many(5)


def test_what_waits_for_a_listener_that_does_not_answer(serve):
    server = serve("--window", "4", listener=["sleep", "60"])
    clients = [server.connect() for _ in range(4)]
    for client in clients:
        for _ in range(3):
            client.send("x")
    found = server.events().until(
        lambda data: g if (g := gateway(data))["listener_detail"]["unanswered"] == 4 else None)
    assert found["listener_detail"]["window"] == 4
    data = server.events().until(lambda data: data if data["health"] == "degraded" else None)
    [reason] = data["reasons"]
    assert re.fullmatch(r"The listener of the gateway default has answered nothing for [3-9] s, and 4 "
                        r"events wait for it\.", reason)


def test_how_a_listener_ended_and_what_it_said(serve):
    # A line that means nothing shows that it lives.
    died = ("echo '{\"event\":\"onResult\"}'; read line; "
            "echo 'first words' >&2; echo 'no such table' >&2; exit 3")
    server = serve(listener=["sh", "-c", died])
    stream = server.events()
    assert "last_error" not in gateway(stream.event().data)
    server.connect().send("x")
    found = stream.until(
        lambda data: e if "ended" in (e := gateway(data).get("last_error", {})).get("message", "")
        and e["stderr"] else None)
    assert "the listener ended: exit status: 3" in found["message"]
    assert found["stderr"] == ["first words", "no such table"]
    now = stream.event().data
    assert gateway(now)["listener_detail"]["stderr"][-1] == "no such table"
    assert found["at"] <= now["time"]


def test_health_says_why_in_words(serve):
    server = serve(config="""
        [gateways.good]
        port = 0
        [gateways.bad]
        port = 0
        listener = "echo 'cannot read the key' >&2; exit 4"
        """, wait=False)
    server.await_control()
    stream = server.events()
    data = stream.until(lambda data: data if gateway(data, "bad")["state"] == "failed" else None)
    assert data["health"] == "degraded"
    [reason] = data["reasons"]
    assert reason.startswith("The gateway bad has failed: the listener cannot be started")
    assert "stderr" not in reason
    error = gateway(data, "bad")["last_error"]
    assert "exit status: 4" in error["message"] and error["stderr"][-1] == "cannot read the key"
    assert gateway(data, "bad")["listener_detail"]["since"] is None
    assert "last_error" not in gateway(data, "good")
    assert "listener_detail" not in gateway(data, "good")
    assert gateway(data, "good")["console"] is True
    assert gateway(data, "bad")["console"] is False


def test_a_listener_that_is_down_is_degraded(serve):
    server = serve("--restart-delay-max", "60",
                   listener=["sh", "-c", "echo; read line; kill -9 $$"])
    stream = server.events()
    assert stream.event().data["health"] == "ok"
    server.connect().send("x")
    data = stream.until(lambda data: data if data["health"] == "degraded" else None)
    assert "listener of the gateway default is down" in data["reasons"][0]
    assert gateway(data)["listener"] == "restarting"


def test_refusals_name_the_key_that_would_change_them(serve):
    server = serve("--path", "/ok", "--max-connections", "1", "--allow-channels", "a",
                   "--channels", "query", "--max-channels", "1")
    server.connect("/ok")

    def refused(path="/ok", headers=(), **options):
        return server.raw().request(path, headers, **options).response()[0]

    assert refused("/no") == refused("/no") == refused("/no") == 404
    assert refused(headers={"Origin": "http://evil.example"}) == 403
    assert refused() == 503
    assert refused("/ok?channel=b") == 403
    assert refused(headers={"Sec-WebSocket-Version": "12"}) == 426
    assert refused(method="PUT") == 405
    found = gateway(server.events().event().data)["refused"]
    assert found[0]["reason"] == "path" and found[0]["count"] == 3
    keys = {one["reason"]: one["key"] for one in found}
    assert keys == {"path": "path", "origin": "allow-origin", "max_connections": "max-connections",
                    "channel": "allow-channels", "version": None, "method": "streams"}
    for one in found:
        assert one["text"].endswith(".") and (not one["key"] or one["key"] in one["text"])
        assert server.metric("wsgw_connections_refused_total", reason=one["reason"]) == one["count"]


def test_faults_and_timeouts_of_the_listener_are_what_went_wrong_last(scripted):
    server = scripted("--listener-timeout", "300ms")
    stream = server.events()
    client = server.connect()
    client.send('!answer {"connections":"k1"}')
    found = stream.until(lambda data: g if "last_error" in (g := gateway(data)) else None)
    assert "k1: message dropped because the listener's answer is at fault" in \
        found["last_error"]["message"]
    assert found["listener_detail"]["faults"] == 1
    client.send("!none")
    found = stream.until(
        lambda data: g if (g := gateway(data))["listener_detail"]["timeouts"] else None)
    assert "no answer in 0.3 s" in found["last_error"]["message"]


FLOOD = """
import sys, time
while True:
    for _ in range(150):
        print("x" * 1500, file=sys.stderr)
    sys.stderr.flush()
    time.sleep(0.9)
"""


@pytest.mark.long
def test_a_reader_that_stops_reading_costs_little_and_is_let_go(serve):
    # Each event has some 200 KiB of log: they fill the buffers of the sockets in a while.
    server = serve("-q", "--hooks", "none", listener=["python3", "-u", "-c", FLOOD])
    slow = server.events(receive_buffer=4096)
    slow.event()
    quick = server.events()
    quick.event()
    memory = rss_kib(server.pid)
    slowest = 0.0
    for _ in range(40):
        start = time.monotonic()
        assert quick.event().name == "watch"
        slowest = max(slowest, time.monotonic() - start)
    assert slowest < 5, "the others do not wait for it"
    assert rss_kib(server.pid) - memory < 30_000
    slow_port = slow.link.sock.getsockname()[1]

    def is_cut():
        quick.event()
        # Our end of its connection, in the state ESTABLISHED while the other end holds it.
        with open("/proc/net/tcp") as table:
            rows = [row.split() for row in table]
        return not any(row[2].endswith(f":{slow_port:04X}") and row[3] == "01" for row in rows)

    wait_until(is_cut, "the end of who does not read", 90)
    assert gateway(quick.event().data)["state"] == "running"
