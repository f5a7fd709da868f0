"""Clients of streams that mean harm, or do not read: what they cost is bounded, and the others are
served meanwhile."""

import signal
import subprocess
import threading
import time

from harness import PATIENCE, rss_kib, wait_until
from test_attacks import PROMPT, echo_time, pour


def test_half_requests_for_streams(serve):
    """Two thousand that never end their request: the others come in, and the half ones go."""
    server = serve("--streams", "--handshake-timeout", "6s")
    half = [server.raw() for _ in range(2000)]
    for n, link in enumerate(half):
        link.write(f"GET /?stream=sse HTTP/1.1\r\nHost: x\r\nX-{n}: ")
    begun = time.monotonic()
    stream = server.stream("/?stream=lines")
    server.push(message="prompt")
    assert stream.message() == {"message": "prompt"} and time.monotonic() - begun < PROMPT
    for link in half:
        assert link.response()[0] == 408
    assert server.metric("wsgw_connections_refused_total", reason="timeout") == 2000
    server.push(message="still there")
    assert stream.message() == {"message": "still there"}
    for link in half:
        link.close()
    wait_until(lambda: server.descriptors().get("socket", 0) < 100, "their sockets to be closed")


def test_garbage_on_open_streams(serve):
    """What a stream's client says is read and thrown away: no memory, no pressure on the others."""
    server = serve("--streams", "--max-queue", "256KiB")
    streams = [server.stream(f"/?stream={form}") for form in ("sse", "lines", "raw", "raw")]
    client = server.connect()
    before = rss_kib(server.pid)
    over = threading.Event()
    pourers = [threading.Thread(target=pour, args=(stream, data, 3, over))
               for stream, data in zip(streams, (b"\0" * 65536, b"GET / HTTP/1.1\r\n\r\n" * 3000,
                                                 b"\x81\xfe" * 30_000, b"x" * 10_000))]
    for thread in pourers:
        thread.start()
    try:
        assert echo_time(client) < PROMPT
        assert [stream.message() for stream in streams[2:]] == ["echo 0"] * 2
    finally:
        over.set()
        for thread in pourers:
            thread.join()
    assert server.metric("wsgw_messages_received_total") == 20
    assert len(server.connections()) == 5
    assert rss_kib(server.pid) - before < 8 * 1024


def test_bytes_behind_a_request_that_waits_for_the_listener(scripted):
    """They are not kept for longer than it takes to decide, and not without bound."""
    server = scripted("--streams", "--hooks", "onHandshake", "--listener-timeout", "4s",
                      script=["--silent"])
    before = rss_kib(server.pid)
    over = threading.Event()
    links = [server.raw() for _ in range(20)]
    for link in links:
        link.request("/?stream=raw", upgrade=False)
    threads = [threading.Thread(target=pour, args=(link, b"y" * 65536, 1, over)) for link in links]
    for thread in threads:
        thread.start()
    server.record.wait("onHandshake", 20)
    over.set()
    for thread in threads:
        thread.join()
    assert rss_kib(server.pid) - before < 16 * 1024
    for link in links:
        link.sock.settimeout(PATIENCE)
        assert link.response()[0] == 503
        link.close()
    assert server.connections() == []


def test_stopped_clients_hold_nobody_up(serve):
    """A hundred that stop reading: each is cut at its own bound, and the others get all."""
    server = serve("--streams", "--max-queue", "64KiB", "--ping-interval", "1s")
    quick = server.stream("/?stream=sse")
    slow = [server.stream(f"/?stream={form}", receive_buffer=4096)
            for form in ("sse", "lines") * 50]
    text = "z" * 20_000
    sent = 0
    while server.metric("wsgw_slow_consumers_total") < len(slow):
        server.push(message=text)
        sent += 1
        assert quick.message() == {"message": text}
        assert sent < 2000
    server.await_connections(1)
    assert server.metric("wsgw_connections_closed_total", code="1008") == len(slow)
    for link in slow:
        link.close()


def test_curls_that_are_stopped_and_go_on(serve):
    """Within its bound a client that stands still misses nothing."""
    server = serve("--streams")
    url = f"http://127.0.0.1:{server.port()}/?stream=raw"
    with subprocess.Popen(["curl", "-sSN", url], stdout=subprocess.PIPE, text=True) as curl:
        (row,) = server.await_connections(1)
        curl.send_signal(signal.SIGSTOP)
        text = "w" * 1000
        for n in range(1500):
            server.push(message=f"{n} {text}")
        curl.send_signal(signal.SIGCONT)
        for n in range(1500):
            assert curl.stdout.readline() == f"{n} {text}\n"
        server.cli("close", "default", row["conn"])
        assert curl.wait(PATIENCE) == 0


def test_streams_that_come_and_go_leave_nothing(serve):
    server = serve("--streams", "--channels", "query", "--allow-channels", "*", "--history", "10")

    def come_and_go(count):
        for n in range(count):
            stream = server.stream(f"/?stream={('sse', 'lines', 'raw')[n % 3]}&channel=c{n}")
            (stream.close if n % 2 else stream.reset)()
            server.links.remove(stream)
        server.await_connections(0)

    come_and_go(500)
    before = rss_kib(server.pid)
    come_and_go(3000)
    assert rss_kib(server.pid) - before < 3 * 1024
    assert server.metric("wsgw_channel_members") == 0
    # The same bytes go to nobody now, and are not made.
    client = server.connect()
    client.send("x")
    assert client.recv() == "x"
