"""One message to everybody, again and again: CPU time of the server's processes a delivery.

The clients read raw bytes and count frames, so that they cost as little as Python allows; what
they cost does not enter the figure."""

import os
import pathlib
import selectors
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
CLIENTS, MESSAGES = int(sys.argv[1]), int(sys.argv[2])
ROUNDS = 3
PAYLOAD = b"x" * 128
NODE = """
const { WebSocketServer } = require("ws");
const wss = new WebSocketServer({ port: Number(process.argv[1]), host: "127.0.0.1", perMessageDeflate: false });
wss.on("connection", (c) => c.on("message", (m, binary) => { for (const o of wss.clients) o.send(m, { binary }); }));
"""
PYTHON = """
import asyncio, sys
from websockets.asyncio.server import broadcast, serve
peers = set()
async def handle(ws):
    peers.add(ws)
    try:
        async for m in ws: broadcast(peers, m)
    finally: peers.discard(ws)
async def main():
    async with serve(handle, "127.0.0.1", int(sys.argv[1]), compression=None, backlog=4096): await asyncio.get_running_loop().create_future()
asyncio.run(main())
"""
WSGW = [str(ROOT / "target/release/wsgw"), "serve", "-q", "--control", "off", "--port"]
PEERS = {
    "wsgw": lambda port: [*WSGW, port],
    "wsgw through cat": lambda port: [*WSGW, port, "--", "cat"],
    "Node ws": lambda port: ["node", "-e", NODE, port],
    "Python websockets": lambda port: [sys.executable, "-c", PYTHON, port],
}


def cpu(pid):
    """Nanoseconds on the CPU of a process and its children."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
        for child in (task / "children").read_text().split():
            total += cpu(child)
    return total


def connect(port):
    s = socket.create_connection(("127.0.0.1", port), 10)
    s.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += s.recv(1000)
    assert b" 101 " in head, head
    s.setblocking(False)
    return s


def measure(command):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as home:
        env = dict(os.environ, HOME=home, XDG_STATE_HOME=home)
        last = max(os.sched_getaffinity(0))
        server = subprocess.Popen(command(str(port)), env=env, stdout=subprocess.DEVNULL,
                                  preexec_fn=lambda: os.sched_setaffinity(0, {last}))
        try:
            deadline = time.monotonic() + 10
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert time.monotonic() < deadline and server.poll() is None, "it does not start"
                time.sleep(0.05)
            sockets = [connect(port) for _ in range(CLIENTS)]
            selector = selectors.EpollSelector()
            for s in sockets:
                selector.register(s, selectors.EVENT_READ)
            mask = b"\1\2\3\4"
            message = bytes([0x81, 0xFE]) + len(PAYLOAD).to_bytes(2, "big") + mask + bytes(
                b ^ mask[i % 4] for i, b in enumerate(PAYLOAD))
            one = len(PAYLOAD) + 4

            def round_trip():
                sockets[0].sendall(message)
                missing = one * CLIENTS
                while missing:
                    for key, _ in selector.select(10) or sys.exit("nothing comes"):
                        missing -= len(key.fileobj.recv(65536))
            for _ in range(20):
                round_trip()
            before = cpu(server.pid)
            for _ in range(MESSAGES):
                round_trip()
            return (cpu(server.pid) - before) / 1000 / (MESSAGES * CLIENTS)
        finally:
            server.kill()
            server.wait()


results = {name: [] for name in PEERS}
for _ in range(ROUNDS):
    for name, command in PEERS.items():
        results[name].append(measure(command))
best = sorted(results["wsgw"])[ROUNDS // 2]
print(f"{CLIENTS} clients, {MESSAGES} messages of {len(PAYLOAD)} bytes, median of {ROUNDS} interleaved rounds")
for name, figures in results.items():
    median = sorted(figures)[ROUNDS // 2]
    print(f"{name:<20} {median:6.2f} µs CPU a delivery   {median / best:5.2f} × wsgw")
