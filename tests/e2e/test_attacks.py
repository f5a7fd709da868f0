"""Clients that mean harm: what they cost is bounded, and the others are served meanwhile."""

import contextlib
import resource
import socket
import threading
import time

import pytest

from harness import PATIENCE, encode_frame, rss_kib, wait_until

#: Seconds in which a good client has its echo, whatever the others do for as long as it takes; the
#: machine may be busy.
PROMPT = 10.0


def echo_time(client, count=20):
    """The slowest of so many echoes."""
    worst = 0
    for n in range(count):
        begun = time.monotonic()
        client.send(f"echo {n}")
        assert client.recv() == f"echo {n}"
        worst = max(worst, time.monotonic() - begun)
    return worst


def pour(link, data, seconds, over):
    """Writes the same bytes again and again, and reads nothing, until that is over or refused."""
    link.sock.settimeout(0.2)
    deadline = time.monotonic() + seconds
    sent = 0
    while time.monotonic() < deadline or not over.is_set():
        try:
            sent += link.sock.send(data)
        except TimeoutError:
            pass
        except OSError:
            break
    return sent


@contextlib.contextmanager
def pouring(link, data, seconds):
    """For so long at least, and until the end of the block."""
    over = threading.Event()
    thread = threading.Thread(target=pour, args=(link, data, seconds, over))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("frame", [encode_frame(9, ""), encode_frame(9, "p" * 125)],
                         ids=["empty", "full"])
@pytest.mark.parametrize("listener", [None, ["cat"]], ids=["alone", "cat"])
def test_pings_of_a_client_that_does_not_read(serve, frame, listener):
    server = serve("--route", "sender", listener=listener)
    good = server.connect()
    link = server.narrow()
    before = rss_kib(server.pid)
    with pouring(link, frame * 1000, 1.5):
        assert echo_time(good) < PROMPT
    # Half of max-queue, what holds it, and what the reading itself takes.
    assert rss_kib(server.pid) - before < 16 * 1024
    assert echo_time(good) < PROMPT


@pytest.mark.parametrize(
    "first, data",
    [
        (b"", encode_frame(10, "x")),
        (b"", encode_frame(1, "x")),
        (encode_frame(1, "", fin=False), encode_frame(0, "", fin=False)),
        (encode_frame(3, "a violation"), b"\xff"),
        (encode_frame(8, b"\x03\xe8"), b"\xff"),
    ],
    ids=["pongs", "messages", "empty fragments", "behind a violation", "behind a close"],
)
def test_a_client_that_never_stops_sending(serve, first, data):
    """Nothing of it goes anywhere, so no pressure stops it; the others have their turns."""
    server = serve("--route", "none")
    links = [server.raw().upgrade() for _ in range(4)]
    before = rss_kib(server.pid)
    with contextlib.ExitStack() as stack:
        for link in links:
            link.write(first)
            stack.enter_context(pouring(link, data * 20_000, 1.0))
        begun = time.monotonic()
        server.raw().upgrade()
        assert time.monotonic() - begun < PROMPT
        begun = time.monotonic()
        assert server.push(message="x")[0] == 200
        assert time.monotonic() - begun < PROMPT
    assert rss_kib(server.pid) - before < 16 * 1024


def test_slow_frames(serve):
    """Messages that were announced and never come cost what came of them."""
    server = serve("--route", "sender")
    before = rss_kib(server.pid)
    for _ in range(300):
        server.raw().upgrade().write(encode_frame(2, b"x" * 2**20)[:20])
    good = server.connect()
    assert echo_time(good) < PROMPT
    assert rss_kib(server.pid) - before < 8 * 1024


def test_messages_that_are_never_finished_are_bounded_by_max_message(serve):
    server = serve("--max-message", "64KiB")
    before = rss_kib(server.pid)
    links = [server.raw().upgrade() for _ in range(50)]
    for link in links:
        link.write(encode_frame(2, b"x" * 65_536, fin=False))
    for link in links:
        link.write(encode_frame(9, "are you there?"))
        assert link.read_frame() == (True, 10, b"are you there?")
    assert rss_kib(server.pid) - before < 50 * 2 * 64 + 4096
    for link in links:
        link.write(encode_frame(0, b"x", fin=False))
        assert link.read_close()[0] == 1009


def test_heads_that_are_never_finished(serve):
    server = serve()
    before = rss_kib(server.pid)
    links = [server.raw() for _ in range(200)]
    for link in links:
        link.write(b"GET / HTTP/1.1\r\nX: " + b"x" * 30_000)
    good = server.connect()
    assert echo_time(good) < PROMPT
    assert rss_kib(server.pid) - before < 200 * 64 + 4096
    for link in links:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            link.write(b"x" * 100_000)
        assert link.response()[0] == 431


def test_silent_sockets_are_cut(serve):
    """Half of them begin a handshake."""
    server = serve("--handshake-timeout", "2s")
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 500
    links = [server.raw() for _ in range(min(2000, room))]
    for link in links[::2]:
        link.write(b"GET / HTTP/1.1\r\nHost: x\r\nUpg")
    good = server.connect()
    assert echo_time(good) < PROMPT
    for link in links:
        assert link.response()[0] == 408
        assert link.at_eof()
    assert echo_time(good) < PROMPT


def test_one_address_that_opens_everything(serve):
    server = serve("--max-connections-per-ip", "5", "--host", "0.0.0.0")
    statuses = []
    for _ in range(100):
        link = server.raw()
        link.request()
        statuses.append(link.response()[0])
    assert statuses == [101] * 5 + [429] * 95
    # Another address has its own five.
    with socket.create_connection(("127.0.0.1", server.port()), PATIENCE,
                                  source_address=("127.0.0.2", 0)) as other:
        other.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
                      b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
        assert other.recv(1000).startswith(b"HTTP/1.1 101 ")


def test_many_that_come_and_go_at_once_are_counted_right(serve):
    """The limit is exact although several threads open connections at the same time."""
    server = serve("--max-connections", "50")
    port = server.port()
    statuses = []

    def come(count):
        for _ in range(count):
            link = server.raw()
            assert link.port == port
            link.request()
            statuses.append(link.response()[0])

    threads = [threading.Thread(target=come, args=(25,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [101] * 50 + [503] * 150
    wait_until(lambda: server.status()["connections"] == 50, "fifty")
