"""The limits of what connections may send and leave unread, and their clocks."""

import os
import signal
import time

import pytest
from websockets.exceptions import InvalidStatus

from harness import encode_frame, rss_kib, wait_until

# Messages.


def test_max_message(serve):
    server = serve("--max-message", "1000")
    fits = server.raw().upgrade()
    fits.frame(1, "x" * 1000)
    assert fits.read_frame() == (True, 1, b"x" * 1000)
    for parts in ([1001], [600, 401]):
        link = server.raw().upgrade()
        for n, size in enumerate(parts):
            link.frame(1 if n == 0 else 0, "x" * size, fin=n == len(parts) - 1)
        assert link.read_close()[0] == 1009
        assert link.at_eof()


def test_a_claimed_length_costs_no_memory(serve):
    server = serve()
    before = rss_kib(server.pid)
    link = server.raw().upgrade()
    link.write(b"\x82\xff" + (2**62).to_bytes(8, "big") + b"\0\0\0\0" + b"x" * 100)
    assert link.read_close()[0] == 1009
    assert rss_kib(server.pid) - before < 10_000


def test_the_default_max_message(serve):
    server = serve(listener=["cat"])
    a = server.connect()
    a.send("x" * 2**20)
    assert a.recv() == "x" * 2**20
    a.send("\x01" * 2**20)
    assert a.recv() == "\x01" * 2**20
    a.send("x" * (2**20 + 1))
    assert a.await_close()[0] == 1009


def test_max_rate(serve):
    server = serve("--max-rate", "10")
    polite = server.connect()
    for n in range(10):
        polite.send(str(n))
    assert polite.recv_many(10) == [str(n) for n in range(10)]
    rude = server.connect()
    for n in range(50):
        try:
            rude.send(str(n))
        except Exception:
            break
    assert rude.await_close()[0] == 1008


def test_ping_and_pong(serve):
    server = serve("--ping-interval", "200ms", "--pong-timeout", "300ms")
    link = server.raw().upgrade()
    for _ in range(2):
        fin, opcode, payload = link.read_frame()
        assert (fin, opcode) == (True, 9)
        link.frame(10, payload)
    # A client that answers is kept; one that does not is closed.
    begun = time.monotonic()
    assert link.read_frame()[1] == 9
    while True:
        try:
            opcode = link.read_frame()[1]
        except (EOFError, ConnectionResetError):
            break
        if opcode == 8:
            break
    assert 0.2 < time.monotonic() - begun < 5
    server.await_connections(0)


def test_a_missing_pong_is_not_clean(scripted):
    server = scripted("--ping-interval", "100ms", "--pong-timeout", "200ms")
    server.raw().upgrade()
    (closed,) = server.record.wait("onClientClose")
    assert closed["clean"] is False


def test_a_message_is_as_good_as_a_pong(scripted):
    server = scripted("--ping-interval", "100ms", "--pong-timeout", "400ms")
    a = server.connect()  # answers pings by itself
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        a.send("x")
        assert a.recv() == "x"
    assert server.record.events("onClientClose") == []


def test_idle_timeout(scripted):
    server = scripted("--idle-timeout", "400ms", "--ping-interval", "100ms")
    begun = time.monotonic()
    a = server.connect()
    assert a.await_close()[0] == 1001
    assert time.monotonic() - begun > 0.35


def test_messages_either_way_keep_a_connection(scripted):
    server = scripted("--idle-timeout", "600ms")
    a = server.connect()
    server.record.wait("onClientOpen")
    for _ in range(12):
        assert server.push(message="x")[1]["delivered"] == 1
        assert a.recv() == "x"
        wait_until_elapsed = time.monotonic() + 0.1
        wait_until(lambda: time.monotonic() > wait_until_elapsed, "a tenth of a second")
    assert server.record.events("onClientClose") == []


# Slow consumers.


def test_a_slow_consumer_is_closed_and_the_others_never_wait(scripted):
    server = scripted("--max-queue", "256KiB", "--hooks", "onClientClose")
    stuck = server.narrow()
    a = server.connect()
    server.await_connections(2)
    # What the kernel takes is no queue; beyond it, it is soon full.
    sent = 0
    while server.metric("wsgw_slow_consumers_total") < 1:
        assert sent < 2000
        a.send("x" * 20_000)
        assert a.recv() == "x" * 20_000
        sent += 1
    (closed,) = server.record.wait("onClientClose")
    # The client answered nothing, so there is none of its own to tell.
    assert closed["code"] in (1006, 1008)
    server.await_metric("wsgw_deliveries_dropped_total", 1)
    server.await_connections(1)
    server.await_log("slow consumer")
    # It was reset: whole frames at most, then an error.
    stuck.at_eof()
    assert rss_kib(server.pid) < 100_000


def test_a_full_queue_drops_and_says_so(serve):
    server = serve("--max-queue", "64KiB")
    server.narrow()
    server.await_connections(1)
    outcomes = []
    for _ in range(2000):
        status, answer = server.push(message="x" * 20_000)
        assert status == 200
        outcomes.append(answer)
        if answer["dropped"] or not answer["matched"]:
            break
    assert any(o["dropped"] == 1 and o["matched"] == 1 for o in outcomes)


def test_a_message_larger_than_the_queue_enters_an_empty_one(serve):
    server = serve("--max-queue", "1KiB")
    a = server.connect()
    server.await_connections(1)
    assert server.push(message="x" * 500_000)[1]["delivered"] == 1
    assert len(a.recv()) == 500_000
    assert server.push(message="y" * 500_000)[1]["delivered"] == 1
    assert len(a.recv()) == 500_000


def test_queued_bytes_are_shown(serve):
    server = serve("--max-queue", "64MiB")
    server.narrow()
    server.await_connections(1)
    for _ in range(20):
        server.push(message="x" * 1_000_000)
    assert server.connections()[0]["queued_bytes"] > 5_000_000


def test_an_echo_to_a_client_that_does_not_read_stops_reading_it(serve):
    """Its own queue over half: it is not read, so it is not closed for its own messages."""
    server = serve("--route", "sender", "--max-queue", "1MiB", "--ping-interval", "0")
    # A small receive buffer would make the reading at the end slow.
    link = server.raw().upgrade()
    link.sock.setblocking(False)
    frame = encode_frame(1, "x" * 10_000)
    rest, whole, blocked_at = frame, 0, None
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and whole < 5000:
        try:
            took = link.sock.send(rest)
            blocked_at = None
            rest = rest[took:]
            if not rest:
                rest, whole = frame, whole + 1
        except BlockingIOError:
            blocked_at = blocked_at or time.monotonic()
            if time.monotonic() - blocked_at > 0.5:
                break
    assert blocked_at, "it was never blocked"
    assert server.metric("wsgw_slow_consumers_total") == 0
    link.sock.setblocking(True)
    link.sock.settimeout(15)
    # Its tiny buffer makes reading slow: the beginning shows that it goes on.
    for _ in range(min(whole, 20)):
        assert link.read_frame() == (True, 1, b"x" * 10_000)


def test_a_producer_pauses_for_a_client_that_still_takes_bytes(serve):
    """A `--hooks none` producer without end does not throw away a reader that keeps reading."""
    server = serve("--hooks", "none", "--max-queue", "256KiB",
                   listener=["sh", "-c", "exec yes '{\"command\":\"send\",\"message\":\"%s\"}'"
                             % ("x" * 1000)])
    link = server.raw().upgrade()
    for _ in range(20_000):
        assert link.read_frame() == (True, 1, b"x" * 1000)
    assert server.metric("wsgw_slow_consumers_total") == 0
    assert rss_kib(server.pid) < 100_000
    link.close()


def test_out_of_descriptors(scripted):
    """Clients wait in the backlog; what is open, the control port and a restart go on."""
    server = scripted("--restart-delay-max", "100ms", files=200)
    client = server.connect()
    links = [server.raw() for _ in range(250)]
    for link in links:
        link.request()
    server.await_metric("wsgw_connections_accepted_total", 50)
    server.await_log("out of file descriptors")
    assert server.status()["state"] == "running"
    client.send("works")
    assert client.recv() == "works"
    (old,) = server.record.wait_pids(1)
    os.kill(old, signal.SIGKILL)
    server.record.wait_pids(2)
    client.send("still")
    assert client.recv() == "still"
    assert server.cli("restart", "default", "--listener").returncode == 0
    assert server.push(message="x", query="?hook=none")[0] == 200
    # Those that leave let the next ones in.
    for link in links[:200]:
        link.close()
    for link in links[200:]:
        assert link.response()[0] == 101


def test_refusals_are_counted_by_reason(serve):
    server = serve("--path", "/a")
    with pytest.raises(InvalidStatus):
        server.connect("/b")
    with pytest.raises(InvalidStatus):
        server.connect("/a", origin="http://evil.example")
    assert server.metric("wsgw_connections_refused_total") == 2
