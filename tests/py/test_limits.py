"""Limits of connections: sizes, rates, queues, time-outs, addresses; the rules of RFC 6455."""

import os
import re
import socket
import struct
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from conftest import wait_for
from test_serve import upgrade


class Raw:
    """A client that does what it is told."""

    def __init__(self, port, rcvbuf=None):
        self.socket = socket.socket()
        if rcvbuf:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.socket.settimeout(10)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(upgrade().encode())
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self.socket.recv(1000)
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        assert b" 101 " in head, head

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, first, payload=b"", masked=True, length=None):
        n = len(payload) if length is None else length
        bit = 0x80 if masked else 0
        head = bytes([first])
        head += bytes([bit | n]) if n < 126 else bytes([bit | 126]) + struct.pack("!H", n) if n < 65536 \
            else bytes([bit | 127]) + struct.pack("!Q", n)
        mask = b"\1\2\3\4"
        if masked:
            head += mask
            payload = bytes(b ^ mask[i % 4] for i, b in enumerate(payload))
        self.socket.sendall(head + payload)

    def _bytes(self, n):
        while len(self.buffer) < n:
            chunk = self.socket.recv(65536)
            if not chunk:
                raise EOFError
            self.buffer += chunk
        out, self.buffer = self.buffer[:n], self.buffer[n:]
        return out

    def frame(self):
        first, second = self._bytes(2)
        n = second & 0x7F
        assert second < 128, "a server does not mask"
        if n == 126:
            n = struct.unpack("!H", self._bytes(2))[0]
        elif n == 127:
            n = struct.unpack("!Q", self._bytes(8))[0]
        return first, self._bytes(n)

    def close_code(self):
        """The code of the next Close, and that nothing but the end comes after it."""
        while True:
            first, payload = self.frame()
            if first == 0x88:
                break
        with pytest.raises(EOFError):
            self._bytes(1)
        return struct.unpack("!H", payload[:2])[0] if payload else None


@pytest.mark.parametrize("command", [[], ["--", "cat"]])
@pytest.mark.parametrize("frames, code", [
    ([(0x81, b"x", False)], 1002),
    ([(0xC1, b"x")], 1002),
    ([(0x83, b"x")], 1002),
    ([(0x80, b"x")], 1002),
    ([(0x01, b"x"), (0x81, b"y")], 1002),
    ([(0x09, b"x")], 1002),
    ([(0x89, b"x" * 126)], 1002),
    ([(0x88, b"\x03")], 1002),
    ([(0x88, b"\x03\xed")], 1002),
    ([(0x88, b"\x03\xe8\xff")], 1007),
    ([(0x81, b"\xff")], 1007),
    ([(0x82, b"x" * 1001)], 1009),
    ([(0x02, b"x" * 1000), (0x80, b"x")], 1009),
    ([(0x88, b"")], None),
    ([(0x88, b"\x0f\xa1bye")], 4001),
])
def test_violations_and_closes_are_answered(serve, command, frames, code):
    s = serve("--max-message", "1000", *command)
    with Raw(s.port()) as raw:
        for frame in frames:
            raw.send(*frame)
        assert raw.close_code() == code


def test_what_came_before_the_violation_is_still_answered(serve):
    s = serve("--", "cat")
    with Raw(s.port()) as raw:
        raw.send(0x81, b"first")
        raw.send(0x83, b"bad")
        assert raw.frame() == (0x81, b"first")
        assert raw.close_code() == 1002


def test_fragments_with_pings_between_in_single_bytes(serve):
    s = serve()
    with Raw(s.port()) as raw:
        raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sent = []
        real = raw.socket
        raw.socket = type("S", (), {"sendall": lambda _, data: sent.append(data)})()
        raw.send(0x01, "grü".encode()[:3])
        raw.send(0x89, b"ping")
        raw.send(0x00, "grü".encode()[3:])
        raw.send(0x80, b"n")
        raw.socket = real
        for byte in b"".join(sent):
            real.sendall(bytes([byte]))
        assert raw.frame() == (0x8A, b"ping")
        assert raw.frame() == (0x81, "grün".encode())


def test_ping_and_pong_timeout(serve):
    s = serve("--ping-interval", "300ms", "--pong-timeout", "300ms")
    with Raw(s.port()) as dead, connect(s.url()) as alive:
        assert dead.frame()[0] == 0x89
        start = time.monotonic()
        with pytest.raises((EOFError, ConnectionResetError)):
            while True:
                dead.frame()
        assert time.monotonic() - start < 9
        wait_for(lambda: s.status()["connections"] == 1)
        alive.send("still here")
        assert alive.recv(20) == "still here"


def test_idle_timeout(serve):
    s = serve("--idle-timeout", "500ms", "--route", "sender")
    with connect(s.url()) as idle, connect(s.url()) as busy:
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            busy.send("x")
            busy.recv(20)
            time.sleep(0.05)
        with pytest.raises(ConnectionClosed) as closed:
            idle.recv(20)
        assert closed.value.rcvd.code == 1001


def test_max_rate(serve):
    s = serve("--max-rate", "10", "--route", "none")
    with connect(s.url()) as ws:
        for _ in range(10):
            ws.send("x")
        with pytest.raises(ConnectionClosed) as closed:
            for _ in range(50):
                ws.send("x")
            ws.recv(20)
        assert closed.value.rcvd.code == 1008


def test_max_connections_per_ip(serve):
    s = serve("--max-connections-per-ip", "2")
    with connect(s.url()), connect(s.url()):
        with pytest.raises(InvalidStatus) as refused:
            connect(s.url()).close()
        assert refused.value.response.status_code == 429
    wait_for(lambda: s.status()["connections"] == 0)

    def again():
        try:
            connect(s.url()).close()
            return True
        except InvalidStatus:
            return False
    wait_for(again)


def test_trusted_proxies(serve):
    s = serve("--trusted-proxies", "127.0.0.1,10.0.0.0/8", "--max-connections-per-ip", "1")

    def remote(header):
        with connect(s.url(), additional_headers=[("X-Forwarded-For", header)]):
            return s.request("GET", "/v1/gateways/default/connections")[1][-1]["remote"]
    assert remote("203.0.113.9") == "203.0.113.9"
    wait_for(lambda: s.status()["connections"] == 0)
    assert remote("1.2.3.4, 203.0.113.9, 10.1.1.1") == "203.0.113.9"
    wait_for(lambda: s.status()["connections"] == 0)
    assert remote("not an address").startswith("127.0.0.1:")


def test_a_slow_consumer_is_closed_and_nobody_waits(serve):
    s = serve("--max-queue", "256KiB", "--max-message", "1MiB")
    with Raw(s.port(), rcvbuf=4096) as slow, connect(s.url(), max_queue=None) as good, connect(s.url(), max_queue=None) as sender:
        got = []

        def read():
            for _ in range(200):
                got.append(good.recv(20))
        thread = threading.Thread(target=read)
        thread.start()
        # One at a time: only the one that reads nothing is slow.
        for i in range(200):
            sender.send("x" * 65_000)
            sender.recv(20)
        thread.join(30)
        assert len(got) == 200
        s.wait_metric("wsgw_slow_consumers_total", 1)
        wait_for(lambda: s.status()["connections"] == 2)
    s.wait_log("slow consumer")


def test_a_message_larger_than_the_queue_enters_an_empty_one(serve):
    s = serve("--max-queue", "64KiB", "--route", "sender")
    with connect(s.url(), max_size=None) as ws:
        ws.send("y" * 1_000_000)
        assert ws.recv(10) == "y" * 1_000_000


def test_a_client_that_resets_is_gone(serve, listener):
    s = serve(*listener("cat"))
    with Raw(s.port()) as raw:
        wait_for(lambda: s.status()["connections"] == 1)
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    events = listener.wait(lambda e: e and e[-1]["event"] == "onClientClose")
    assert (events[-1]["code"], events[-1]["clean"]) == (1006, False)


def test_close_without_a_code_is_1005(serve, listener):
    s = serve(*listener("cat"))
    with Raw(s.port()) as raw:
        raw.send(0x88)
        assert raw.close_code() is None
    events = listener.wait(lambda e: e and e[-1]["event"] == "onClientClose")
    assert (events[-1]["code"], events[-1]["clean"]) == (1005, True)


def test_descriptors_and_memory_come_back(serve):
    s = serve("--", "cat")

    def descriptors():
        return len(os.listdir(f"/proc/{s.process.pid}/fd"))
    first = None
    for _ in range(3):
        sockets = [Raw(s.port()) for _ in range(300)]
        for raw in sockets:
            raw.socket.close()
        wait_for(lambda: s.status()["connections"] == 0)
        wait_for(lambda: first is None or descriptors() <= first)
        first = first or wait_for(descriptors)


def test_out_of_descriptors(serve):
    """Clients wait in the backlog; what is open, the control port and a restart go on."""
    s = serve("--restart-delay-max", "100ms", "--", "cat", limit=120)
    sockets = []
    try:
        with connect(s.url()) as ws:
            for _ in range(100):
                raw = socket.create_connection(("127.0.0.1", s.port()), 5)
                raw.sendall(upgrade().encode())
                sockets.append(raw)
            s.wait_log("out of file descriptors")
            ws.send("works")
            assert ws.recv(20) == "works"
            pid = s.listener_pid
            os.kill(pid, 9)
            s.wait_listener(other_than=pid)
            ws.send("still")
            assert ws.recv(20) == "still"
            # One that leaves lets the next one in.
            for raw in sockets[:60]:
                raw.close()
            sockets[-1].settimeout(10)
            assert sockets[-1].recv(12) == b"HTTP/1.1 101"
    finally:
        for raw in sockets:
            raw.close()
