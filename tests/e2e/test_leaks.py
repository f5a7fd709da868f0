"""Crowds that come and go leave nothing behind: memory, descriptors, threads."""

import os
import resource
import socket
import struct

import pytest

from harness import PATIENCE, alive, close_payload, encode_frame, rss_kib, wait_until

#: Rounds that count, behind two in which everything grows to the size that it needs.
ROUNDS = 10

HEAD = (
    b"GET /crowd HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture
def crowd_size():
    """Clients at a time: 5,000, or what the descriptors allow."""
    return max(100, min(5000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500))


def threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def await_upgrades(socks):
    for sock in socks:
        data = b""
        while b"\r\n\r\n" not in data:
            data += sock.recv(4096)
        assert data.startswith(b"HTTP/1.1 101 ")


def arrive(port, count):
    """Clients that have sent their request, or something else, and those of them that are open."""
    crowd, opened = [], []
    for n in range(count):
        sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        kind = n % 10
        if kind == 8:
            sock.sendall(HEAD[:40])
        elif kind == 9:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n")
        else:
            sock.sendall(HEAD)
            opened.append(sock)
        crowd.append(sock)
    await_upgrades(opened)
    return crowd, opened


def leave(crowd):
    """Each in its own way: with a Close, without one, by a reset, in the midst of a frame."""
    for n, sock in enumerate(crowd):
        kind = n % 10
        if kind < 3:
            sock.sendall(encode_frame(8, close_payload(1000, b"bye")))
        elif kind == 3:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif kind == 4:
            sock.sendall(encode_frame(1, "x" * 1000)[:500])
        elif kind == 5:
            sock.sendall(encode_frame(1, "x" * 1000, fin=False))
        elif kind == 6:
            sock.sendall(encode_frame(3, "a violation"))
        sock.close()


@pytest.mark.long
@pytest.mark.parametrize("listener", [None, ["cat"]], ids=["alone", "cat"])
def test_crowds_leave_nothing_behind(serve, crowd_size, listener):
    count = crowd_size if listener is None else crowd_size // 2
    server = serve("--max-connections-per-ip", "1000000", "--ping-interval", "1h", "-q",
                   "--log-level", "warn", listener=listener)
    levels = []
    for _ in range(2 + ROUNDS):
        crowd, opened = arrive(server.port(), count)
        wait_until(lambda n=len(opened): server.status()["connections"] == n, "all of them")
        # Two of them speak to all.
        for sock in opened[:2]:
            sock.sendall(encode_frame(1, "hello, all"))
        for sock in opened:
            data = b""
            while len(data) < 24:
                data += sock.recv(4096)
        full = descriptors(server.pid)
        assert full >= len(opened)
        leave(crowd)
        wait_until(lambda: server.status()["connections"] == 0, "their end")
        # A socket is closed a moment after its connection is no longer counted.
        most = levels[1][1] + 2 if len(levels) > 1 else 100
        wait_until(lambda: descriptors(server.pid) <= most, lambda: descriptors(server.pid))
        levels.append((rss_kib(server.pid), descriptors(server.pid), threads(server.pid)))
    print(levels)
    _, level, *rounds = levels
    for now in rounds:
        assert now[0] <= level[0] * 1.1 + 2048, levels
        assert now[2] <= level[2], levels


def test_a_crowd_comes_back_after_a_kill(serve, crowd_size, tmp_path):
    """Killed under load: the listener goes too, and all come back at once to the same port."""
    count = min(crowd_size, 2000)
    first = serve(listener=["cat"])
    port = first.port()
    listener = first.status()["listener_pid"]

    def crowd():
        socks = [socket.socket() for _ in range(count)]
        for sock in socks:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        for sock in socks:
            sock.setblocking(True)
            sock.settimeout(PATIENCE)
            sock.sendall(HEAD)
        await_upgrades(socks)
        return socks

    socks = crowd()
    for sock in socks[:50]:
        sock.sendall(encode_frame(1, "load") * 10)
    first.proc.kill()
    first.proc.wait()
    wait_until(lambda: not alive(listener), "the end of the listener")
    for sock in socks:
        sock.close()
    second = serve("--port", port, port=False, listener=["cat"])
    socks = crowd()
    wait_until(lambda: second.status()["connections"] == count, "all of them")
    leave(socks)
