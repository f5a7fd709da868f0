"""What the shards owe each other and their clients: wake-ups, credit against
max-rate, fairness while crowds are closed, and a slow recipient of a stream."""

import json
import os
import socket
import subprocess
import threading
import time

from harness import encode_frame, wait_until
from harness.process import PATIENCE



def two_shards():
    return len(os.sched_getaffinity(0)) >= 2


def sender(link, count, size=100):
    """Writes that many numbered messages in a thread of its own."""
    def run():
        data = b"".join(encode_frame(1, f"{n:08} ".ljust(size, "x")) for n in range(count))
        link.sock.settimeout(PATIENCE)
        link.sock.sendall(data)
    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_parked_connection_is_read_on_when_another_shard_opens_the_gate(serve):
    """With no listener clients are not read while many frames wait to be sent. The shard of a parked
    connection may have nothing else to wake it: no pings, no other traffic."""
    assert two_shards(), "this test needs two CPUs"
    server = serve("--ping-interval", "0", "--route", "others", "-q")
    links = [server.raw().upgrade() for _ in range(24)]
    count = 3000
    senders = [sender(link, count) for link in links[:8]]
    # Everybody reads all that the others say; whoever is never read again keeps this from its end.
    def read(link, expected):
        link.sock.settimeout(PATIENCE * 3)
        got = 0
        while got < expected:
            got += len(link.sock.recv(1 << 20))
    size = len(encode_frame(1, "x" * 100, masked=False))
    readers = []
    for n, link in enumerate(links):
        messages = count * (7 if n < 8 else 8)
        readers.append(threading.Thread(target=read, args=(link, messages * size)))
    for thread in readers:
        thread.start()
    for thread in senders + readers:
        thread.join(PATIENCE * 4)
        assert not thread.is_alive(), "a connection is not read any more"
    assert server.metric("wsgw_messages_received_total") == 8 * count


def test_a_parked_connection_is_read_on_through_a_listener(serve):
    server = serve("--ping-interval", "0", "--route", "sender", "--window", "8", "-q",
                   listener=["cat"])
    links = [server.raw().upgrade() for _ in range(16)]
    threads = [sender(link, 500) for link in links]
    for link in links:
        for n in range(500):
            assert link.read_frame()[2].startswith(f"{n:08}".encode())
    for thread in threads:
        thread.join()


def test_who_does_not_read_earns_no_credit_against_max_rate(serve):
    """A connection whose own queue is full is not read. That is its own doing, so it may not send in
    one go afterwards what its rate would have allowed meanwhile."""
    server = serve("--max-rate", "20", "--max-queue", "64KiB", "--route", "all", "-q")
    other = server.raw().upgrade()
    greedy = server.raw(receive_buffer=4096).upgrade()
    for _ in range(5):
        greedy.frame(1, "early")
    # Its queue goes over half: it reads nothing of what the control port sends.
    while max(row["queued_bytes"] for row in server.connections()) < 40_000:
        server.push(message="x" * 8000)
        other.read_frame()
    greedy.frame(1, "this one waits")
    paused = time.monotonic()
    # Long enough for a credit of more than 60 messages.
    wait_until(lambda: time.monotonic() - paused > 3, "time in which it is not read")
    greedy.sock.settimeout(0.5)
    burst = b"".join(encode_frame(1, f"late {n}") for n in range(60))
    greedy.sock.sendall(burst)
    greedy.sock.settimeout(PATIENCE)
    assert greedy.read_close()[0] == 1008
    received = server.metric("wsgw_messages_received_total")
    # The burst of one second's worth, and what came in while it was being read.
    assert received <= 5 + 1 + 40, received


def test_pushes_are_answered_while_thousands_are_closed(serve):
    """To close all connections of one gateway is spread over turns: another gateway on the same
    shards goes on meanwhile."""
    config = "[gateways.crowd]\nport = 0\n[gateways.calm]\nport = 0\n"
    server = serve(config=config, port=False)
    crowd = []
    for _ in range(1500):
        sock = socket.create_connection(("127.0.0.1", server.port("crowd")))
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                     b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                     b"Sec-WebSocket-Version: 13\r\n\r\n")
        crowd.append(sock)
    server.await_connections(1500, "crowd")
    calm = server.connect(gateway="calm")
    stop = threading.Thread(target=lambda: server.cli("stop", "crowd"))
    stop.start()
    served = 0
    while stop.is_alive():
        calm.send(f"still here {served}")
        assert calm.recv() == f"still here {served}"
        served += 1
    stop.join()
    # The stop waits a second for clients that never answer its Close.
    assert served > 20, served
    for sock in crowd:
        sock.close()


def test_a_file_by_lines_reaches_a_client_that_goes_on_taking_bytes(serve, tmp_path):
    """`wsgw send --lines` of many megabytes to a client that is slower than the sender: the stream
    waits for it, so nothing is lost and it is not cut as a slow consumer."""
    lines, size, rate = 20_000, 1000, 2_600_000
    server = serve("-q")
    client = server.raw(receive_buffer=65536).upgrade()
    path = tmp_path / "lines"
    path.write_text("".join(f"{n:08} ".ljust(size - 1, "x") + "\n" for n in range(lines)))
    outcome = {}

    def send():
        with open(path) as stdin:
            outcome["done"] = subprocess.run(
                [os.environ["WSGW_BIN"], "send", "--lines", "--json"], stdin=stdin,
                env={**server.env, "WSGW_CONTROL": server.control_url, "WSGW_TOKEN": server.token},
                capture_output=True, text=True, timeout=120)
    thread = threading.Thread(target=send)
    thread.start()
    frame = len(encode_frame(1, "x" * (size - 1), masked=False))
    began, got = time.monotonic(), 0
    client.sock.settimeout(PATIENCE)
    tick = threading.Event()
    while got < lines * frame:
        got += len(client.sock.recv(min(65536, lines * frame - got)))
        ahead = got / rate - (time.monotonic() - began)
        if ahead > 0:
            # A client of that speed: this is its pace, no wait for an event.
            tick.wait(ahead)
    thread.join()
    done = outcome["done"]
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["delivered"] == lines
    assert server.metric("wsgw_slow_consumers_total") == 0
