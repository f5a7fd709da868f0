"""`GET /v1/watch`: how everything stands, once a second, for those who look."""

import re
import time

import pytest


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
