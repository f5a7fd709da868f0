"""Order, the window, and what happens when a side is slow."""

import json
import socket
import threading
import time

import pytest

from harness import encode_frame, rss_kib, run_connect, wait_until


def test_per_connection_open_messages_close(scripted):
    server = scripted()
    clients = [server.connect() for _ in range(10)]
    for n in range(20):
        for client in clients:
            client.send(str(n))
    for client in clients:
        client.close(1000, "done")
    server.record.wait("onClientClose", 10)
    by_conn = {}
    ids = []
    for event in server.record.events():
        ids.append(event["id"])
        by_conn.setdefault(event["conn"], []).append(event)
    assert ids == sorted(set(ids))
    assert len(by_conn) == 10
    for events in by_conn.values():
        assert [e["event"] for e in events] == (
            ["onClientOpen"] + ["onMessage"] * 20 + ["onClientClose"])
        assert [e["message"] for e in events[1:-1]] == [str(n) for n in range(20)]


@pytest.mark.parametrize(
    ("payload", "code", "reason", "clean"),
    [
        (b"", 1005, "", True),
        (b"\x03\xe8", 1000, "", True),
        (b"\x03\xe9going", 1001, "going", True),
        (b"\x0f\xa1\xc3\xa4", 4001, "ä", True),
        (None, 1006, "", False),
    ],
)
def test_how_a_close_is_told(scripted, payload, code, reason, clean):
    server = scripted()
    link = server.raw().upgrade()
    if payload is None:
        link.close()
    else:
        link.frame(8, payload)
        assert link.read_close()[0] == (code if code != 1005 else None)
        assert link.at_eof()
    (closed,) = server.record.wait("onClientClose")
    assert (closed["code"], closed["reason"], closed["clean"]) == (code, reason, clean)


def test_a_reset_is_told_once(scripted):
    server = scripted()
    link = server.raw().upgrade()
    server.record.wait("onClientOpen")
    link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    link.close()
    (closed,) = server.record.wait("onClientClose")
    assert (closed["code"], closed["clean"]) == (1006, False)
    server.stop()
    assert len(server.record.events("onClientClose")) == 1


def test_two_hundred_clients_and_a_shuffling_listener(scripted):
    """All see every message, in one same order, though the answers come in any."""
    server = scripted(script=["--shuffle"])
    clients, messages = 200, 20
    links = [server.raw().upgrade() for _ in range(clients)]
    server.await_connections(clients)
    # Each client reads what all send, while it sends.
    seen = [b""] * clients
    total = clients * messages
    frame = len(encode_frame(1, "000-000", masked=False))

    def read(n):
        data = []
        left = total * frame
        while left:
            piece = links[n].sock.recv(min(left, 65536))
            assert piece, "closed"
            data.append(piece)
            left -= len(piece)
        seen[n] = b"".join(data)

    readers = [threading.Thread(target=read, args=(n,)) for n in range(clients)]
    for reader in readers:
        reader.start()
    for m in range(messages):
        for n, link in enumerate(links):
            link.frame(1, f"{n:03}-{m:03}")
    for reader in readers:
        reader.join(60)
    assert all(one == seen[0] for one in seen)
    texts = [seen[0][i + 2 : i + frame].decode() for i in range(0, len(seen[0]), frame)]
    assert sorted(texts) == sorted(f"{n:03}-{m:03}" for n in range(clients) for m in range(messages))
    # The listener did shuffle, or this test would prove nothing.
    assert texts != sorted(texts, key=lambda t: t.split("-")[::-1])
    for link in links:
        link.close()


def test_a_hundred_messages_of_each_client_reach_the_listener_in_order(scripted):
    server = scripted("--route", "sender", script=["--shuffle"])
    links = [server.raw().upgrade() for _ in range(200)]
    for n, link in enumerate(links):
        link.write(b"".join(encode_frame(1, f"{n}:{m}") for m in range(100)))
    events = server.record.wait("onMessage", 20_000, timeout=60)
    last = {}
    for event in events:
        n, m = event["message"].split(":")
        assert int(m) == last.get(n, -1) + 1
        last[n] = int(m)
    server.await_metric("wsgw_deliveries_total", 20_000, timeout=60)
    for link in links:
        link.close()


def test_the_window_and_its_quarter(scripted):
    server = scripted("--window", "8", "--listener-timeout", "60s", "--drain", "0",
                      script=["--silent"])
    links = [server.raw().upgrade() for _ in range(5)]
    server.record.wait("onClientOpen", 5)
    for m in range(5):
        links[0].frame(1, f"a{m}")
    server.record.wait("onMessage", 2)
    # Another's message comes through though the first one waits: it holds a quarter at most.
    links[1].frame(1, "b0")
    server.record.wait("onMessage", 3)
    assert server.record.messages() == ["a0", "a1", "b0"]
    for link in links[2:]:
        for m in range(3):
            link.frame(1, f"c{m}")
    server.record.wait("onMessage", 8)
    assert server.metric("wsgw_listener_unanswered_events") == 8
    for link in links:
        link.close()


def test_a_window_of_one_serves_everybody_in_turn(scripted):
    server = scripted("--window", "1")
    a, b = server.connect(), server.connect()
    for n in range(20):
        a.send(f"a{n}")
        b.send(f"b{n}")
    got = a.recv_many(40)
    assert [m for m in got if m[0] == "a"] == [f"a{n}" for n in range(20)]
    assert [m for m in got if m[0] == "b"] == [f"b{n}" for n in range(20)]


def test_pressure_reaches_the_senders_and_nothing_is_dropped(scripted, tmp_path):
    """While the listener reads nothing, clients can send only so much, memory stays bounded, and
    all of it arrives once the listener reads on."""
    go = tmp_path / "go"
    server = scripted("--listener-timeout", "60s", "--hang-timeout", "120s", "--hooks",
                      "onMessage", "--ping-interval", "0", "--route", "none",
                      script=["--never-reads", go])
    before = rss_kib(server.pid)
    frame = encode_frame(1, "x" * 16_000)
    links = [server.raw().upgrade() for _ in range(50)]
    sent = [0] * len(links)
    for link in links:
        link.sock.setblocking(False)
        link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    rest = [b""] * len(links)

    def push():
        moved = False
        for n, link in enumerate(links):
            try:
                while sent[n] < 1000:
                    if not rest[n]:
                        rest[n] = frame
                    took = link.sock.send(rest[n])
                    rest[n] = rest[n][took:]
                    sent[n] += not rest[n]
                    moved = True
            except BlockingIOError:
                pass
        return moved

    # Nothing moves any more: every sender is blocked.
    quiet = time.monotonic()
    deadline = quiet + 30
    while time.monotonic() - quiet < 0.5 and time.monotonic() < deadline:
        if push():
            quiet = time.monotonic()
    assert time.monotonic() < deadline
    assert all(n < 1000 for n in sent), "a sender was never blocked"
    grown = rss_kib(server.pid) - before
    # 800 MB are offered; the window holds 256 events of some 16 KB.
    assert grown < 60_000, f"{grown} KiB"
    go.touch()

    # Ends the frames that are half written, so that a whole number of messages is on its way.
    def drained():
        for n, link in enumerate(links):
            if rest[n]:
                try:
                    took = link.sock.send(rest[n])
                except BlockingIOError:
                    continue
                rest[n] = rest[n][took:]
                sent[n] += not rest[n]
        return not any(rest)

    wait_until(drained, "the senders to go on", 30)
    server.record.wait("onMessage", sum(sent), timeout=60)
    assert server.metric("wsgw_messages_dropped_total") == 0
    assert len(server.record.events("onMessage")) == sum(sent)
    for link in links:
        link.close()


def test_a_slow_listener_that_keeps_answering_never_times_out(scripted):
    server = scripted("--listener-timeout", "300ms", "--hang-timeout", "5s",
                      script=["--slow", "0.02"])
    a = server.connect()
    for n in range(60):
        a.send(str(n))
    assert a.recv_many(60) == [str(n) for n in range(60)]
    assert server.metric("wsgw_messages_dropped_total") == 0


def test_a_forgotten_event_times_out_though_others_are_answered(scripted):
    server = scripted("--listener-timeout", "300ms")
    a, b = server.connect(), server.connect()
    a.send("!none")
    deadline = time.monotonic() + 10
    n = 0
    while server.metric("wsgw_messages_dropped_total") < 1:
        assert time.monotonic() < deadline
        b.send(str(n))
        assert b.recv() == str(n)
        n += 1


def test_reading_stdout_never_waits_on_writing_stdin(scripted):
    """A listener that writes megabytes while it reads nothing must not block for ever."""
    server = scripted()
    a = server.connect()
    command = {"command": "send", "message": "x" * 1000}
    a.send("!repeat 5000 " + json.dumps(command))
    for n in range(300):
        a.send("y" * 10_000)
    assert a.recv_many(5000) == ["x" * 1000] * 5000
    assert a.recv().startswith("!repeat")
    assert a.recv_many(300) == ["y" * 10_000] * 300


def test_the_queue_of_told_events_is_bounded(scripted, tmp_path):
    go = tmp_path / "go"
    server = scripted("--hooks", "onClientOpen,onClientClose", "--headers", "*",
                      "--hang-timeout", "120s", script=["--never-reads", go])
    links = []
    refused = None
    for _ in range(600):
        link = server.raw()
        link.request("/", {"X-Fill": "f" * 20_000})
        status, _, _ = link.response()
        if status != 101:
            refused = status
            break
        links.append(link)
    assert refused == 503
    assert 4 * 2**20 / 20_500 - 20 < len(links) < 4 * 2**20 / 20_000 + 40
    go.touch()
    server.record.wait("onClientOpen", len(links))
    # There is room again.
    links.append(server.raw().upgrade())
    for link in links:
        link.close()
    server.record.wait("onClientClose", len(links))


def test_answers_still_reach_a_client_that_closed(scripted):
    """`echo hi | client`: its Close comes right behind its message."""
    server = scripted("--route", "sender")
    link = server.raw().upgrade()
    link.write(encode_frame(1, "!delay 0.3") + encode_frame(8, b"\x03\xe8")
               + encode_frame(1, "thrown away"))
    assert link.read_frame() == (True, 1, b"!delay 0.3")
    assert link.read_close() == (1000, "")
    assert link.at_eof()
    server.record.wait("onClientClose")
    assert server.record.messages() == ["!delay 0.3"]
    kinds = [e["event"] for e in server.record.events()]
    assert kinds == ["onClientOpen", "onMessage", "onClientClose"]


def test_answers_still_reach_a_client_whose_input_ends(serve):
    server = serve(listener=["sh", "-c", "while read -r x; do sleep 0.2; printf '%s\\n' \"$x\"; done"])
    done = run_connect(server.dir, server.url(), stdin="hi\n")
    assert (done.returncode, done.stdout) == (0, "hi\n"), done.stderr


def test_a_close_waits_one_second_at_most(scripted):
    server = scripted("--drain", "0")
    link = server.raw().upgrade()
    begun = time.monotonic()
    link.write(encode_frame(1, "!none") + encode_frame(8, b"\x03\xe8"))
    assert link.read_close() == (1000, "")
    assert 0.8 < time.monotonic() - begun < 5


def test_nothing_comes_after_a_close(scripted):
    server = scripted()
    a = server.connect()
    b, nb = server.named()
    b.close()
    server.record.wait("onClientClose")
    a.send("x")
    assert a.recv() == "x"
    events = [e for e in server.record.events() if e["conn"] == nb]
    assert events[-1]["event"] == "onClientClose"
