"""Clocks and credit of connections that backpressure has kept from being read."""

import time

from harness import encode_frame, wait_until
from harness.process import PATIENCE


def queued(server, conn):
    return next(row["queued_bytes"] for row in server.connections() if row["conn"] == conn)


def passed(seconds, since):
    wait_until(lambda: time.monotonic() - since >= seconds, f"{seconds} s to pass")


def test_the_idle_clock_goes_on_from_the_last_broadcast_after_a_pause(serve):
    """While backpressure keeps a client from being read its clocks stand still, and afterwards they
    go on from the last message, a broadcast included."""
    slow = ["sh", "-c", 'while read -r line; do sleep 2; printf "%s\\n" "$line"; done']
    server = serve("--window", "1", "--hooks", "onMessage", "--route", "sender",
                   "--ping-interval", "0", "--idle-timeout", "1s", listener=slow)
    watcher, first, second = server.raw().upgrade(), server.raw().upgrade(), server.raw().upgrade()
    began = time.monotonic()
    ticks = 0
    while ticks < 12:
        ticks += 1
        server.push(message="tick", query="?hook=none")
        passed(ticks * 0.2, began)
    last = time.monotonic()
    # The window is full, and one message waits: nobody is read for two seconds.
    first.frame(1, "m")
    second.frame(1, "m")
    server.await_metric("wsgw_messages_received_total", 2)
    watcher.write(encode_frame(1, "y" * 50)[:20])
    code, _ = watcher.read_close()
    assert code == 1001
    # Not at once when it is read again: its second had hardly begun.
    assert time.monotonic() - last > 2.3


def test_a_queue_that_drained_earns_credit_again(serve):
    """A connection is paused by its own queue, then by the gate. For the second part it has what
    max-rate would have allowed it meanwhile."""
    late = ["sh", "-c", "sleep 5; exec cat"]
    server = serve("--window", "64", "--hooks", "onMessage", "--route", "sender", "--max-rate",
                   "10", "--ping-interval", "0", listener=late)
    client = server.raw(receive_buffer=4096).upgrade()
    conn = server.connections()[0]["conn"]
    others = [server.raw().upgrade() for _ in range(9)]
    while queued(server, conn) < 2_300_000:
        server.push(message="z" * 200_000, connections=[conn], query="?hook=none")
    client.frame(1, "first")
    # Its frame is there, and not read: the gate is open, but its own queue is over half.
    passed(0.2, time.monotonic())
    for other in others:
        for _ in range(9):
            other.frame(1, "m")
    server.await_metric("wsgw_listener_unanswered_events", 64)
    # It reads all that waited; the gate stays shut until the listener answers.
    client.sock.settimeout(0.3)
    try:
        while client.sock.recv(1 << 20):
            pass
    except TimeoutError:
        pass
    assert queued(server, conn) == 0
    client.sock.settimeout(PATIENCE)
    began = time.monotonic()
    for n in range(30):
        client.frame(1, f"n{n}")
        passed((n + 1) * 0.1, began)
    echoes = []
    while len(echoes) < 31:
        _, opcode, payload = client.read_frame()
        assert opcode == 1, payload
        echoes.append(payload)
    assert echoes[0] == b"first" and echoes[-1] == b"n29"
