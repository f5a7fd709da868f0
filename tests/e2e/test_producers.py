"""Listeners that only write (`--hooks none`), and recipients that are slower than they."""

import sys
import threading
import time

import pytest

TOTAL = 20_000_000

PRODUCER = """
import json, os, sys, time
size, total, go = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
line = json.dumps({"command": "send", "message": "x" * size}).encode() + b"\\n"
while not os.path.exists(go):
    time.sleep(0.01)
for _ in range(total // size):
    sys.stdout.buffer.write(line)
sys.stdout.buffer.flush()
time.sleep(3600)
"""


def producing(serve, tmp_path, queue, size, total=TOTAL):
    go = tmp_path / "go"
    server = serve("--hooks", "none", "--max-queue", queue,
                   listener=[sys.executable, "-c", PRODUCER, size, total, go])
    links = [server.raw().upgrade() for _ in range(4)]
    server.await_connections(4)
    return server, links, go


@pytest.mark.parametrize(("queue", "size"), [("256KiB", 100_000), ("256KiB", 2_000),
                                             ("4MiB", 16_000)])
def test_a_producer_waits_for_those_who_still_read(serve, tmp_path, queue, size):
    """None of them is a slow consumer, though it writes faster than they read."""
    server, links, go = producing(serve, tmp_path, queue, size)
    want = TOTAL // size * size

    def read(link):
        got = 0
        while got < want:
            data = link.sock.recv(65536)
            assert data, "closed"
            got += len(data)
            time.sleep(0.002)

    readers = [threading.Thread(target=read, args=(link,)) for link in links]
    for reader in readers:
        reader.start()
    go.touch()
    for reader in readers:
        reader.join(60)
    server.await_metric("wsgw_deliveries_total", TOTAL // size * 4)
    assert server.metric("wsgw_slow_consumers_total") == 0


@pytest.mark.parametrize("which", range(2))
def test_a_producer_waits_for_a_moment_at_most_for_one_who_reads_nothing(serve, tmp_path, which):
    server, links, go = producing(serve, tmp_path, "1MiB", 10_000, 10**12)
    del links[which]
    longest = [0.0] * len(links)
    over = threading.Event()

    def read(n):
        last = time.monotonic()
        while not over.is_set():
            assert links[n].sock.recv(1 << 20), "closed"
            longest[n] = max(longest[n], time.monotonic() - last)
            last = time.monotonic()

    readers = [threading.Thread(target=read, args=(n,)) for n in range(len(links))]
    for reader in readers:
        reader.start()
    go.touch()
    server.await_log("slow consumer")
    over.set()
    for reader in readers:
        reader.join(20)
    assert max(longest) < 3
