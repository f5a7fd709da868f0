"""The measurements behind benches/compare.sh.

What counts is the CPU time of the server's whole process tree (its listener's too), from
/proc/PID/task/*/schedstat: wall-clock times are too noisy for less than a factor of two. The server
has one CPU, the clients another. The clients are this process: what they cost does not enter a
figure, but it bounds the pace."""

import argparse
import os
import pathlib
import re
import resource
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[1]
SECONDS = 1.5
BINARY = os.environ.get("WSGW_BIN", str(ROOT / "target/release/wsgw"))

BUN = """
const [port, mode, child] = process.argv.slice(-3);
let send;
const all = new Map();
let next = 0;
const server = Bun.serve({
  port: Number(port), hostname: "127.0.0.1",
  fetch(r, s) { return s.upgrade(r, { data: String(next++) }) ? undefined : new Response("no", { status: 400 }); },
  websocket: {
    idleTimeout: 0, perMessageDeflate: false,
    open(ws) { ws.subscribe("all"); all.set(ws.data, ws); },
    close(ws) { all.delete(ws.data); },
    message(ws, text) { send(ws, text); },
  },
});
const go = (id, text) => { if (mode === "all") server.publish("all", text); else all.get(id)?.send(text); };
if (child === "cat") {
  const cat = Bun.spawn(["cat"], { stdin: "pipe", stdout: "pipe" });
  send = (ws, text) => { cat.stdin.write(JSON.stringify({ id: ws.data, message: text }) + "\\n"); cat.stdin.flush(); };
  let rest = "";
  const decoder = new TextDecoder();
  for await (const chunk of cat.stdout) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\\n");
    rest = lines.pop();
    for (const line of lines) { const answer = JSON.parse(line); go(answer.id, answer.message); }
  }
} else { send = (ws, text) => go(ws.data, text); }
"""
NODE = """
const [port, mode] = process.argv.slice(-2);
const { WebSocketServer } = require("ws");
const wss = new WebSocketServer({ port: Number(port), host: "127.0.0.1", perMessageDeflate: false, backlog: 4096 });
wss.on("connection", (c) => c.on("message", (m, binary) => {
  if (mode === "all") for (const o of wss.clients) o.send(m, { binary }); else c.send(m, { binary });
}));
"""
PYTHON = """
import asyncio, sys
from websockets.asyncio.server import broadcast, serve
peers = set()
async def handle(ws):
    peers.add(ws)
    try:
        async for m in ws:
            if sys.argv[2] == "all": broadcast(peers, m)
            else: await ws.send(m)
    finally: peers.discard(ws)
async def main():
    async with serve(handle, "127.0.0.1", int(sys.argv[1]), compression=None, backlog=4096):
        await asyncio.get_running_loop().create_future()
asyncio.run(main())
"""


def bun(port, mode, child):
    script = ROOT / "target/tests/bench/server.mjs"
    script.write_text(BUN)
    return [os.environ["BUN"], str(script), port, mode, child]


def wsgw(port, mode, *listener):
    return [BINARY, "serve", "-q", "--control", "off", "--port", port,
            "--route", mode, *listener]


PEERS = {
    "wsgw": lambda port, mode: wsgw(port, mode),
    "Bun": lambda port, mode: bun(port, mode, "none"),
    "Node ws": lambda port, mode: ["node", "-e", NODE, port, mode],
    "Python websockets": lambda port, mode: [sys.executable, "-c", PYTHON, port, mode],
    "wsgw, `cat`": lambda port, mode: wsgw(port, mode, "--", "cat"),
    "Bun, `cat`": lambda port, mode: bun(port, mode, "cat"),
}
if shutil.which("websocketd"):
    PEERS["websocketd `cat`"] = lambda port, mode: mode == "sender" and [
        "websocketd", "--address=127.0.0.1", f"--port={port}", "--loglevel=fatal", "cat"]


def tree(pid):
    yield pid
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from tree(int(child))


def cpu(pid):
    """Microseconds on the CPU of a process and its children."""
    tasks = (t for p in tree(pid) for t in pathlib.Path(f"/proc/{p}/task").iterdir())
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1000


def memory(pid):
    """KiB of a process and its children, shared pages counted once."""
    rollups = (pathlib.Path(f"/proc/{p}/smaps_rollup").read_text() for p in tree(pid))
    return sum(int(line.split()[1]) for r in rollups for line in r.splitlines() if line.startswith("Pss:"))


def connect(port, path="/", headers=""):
    s = socket.create_connection(("127.0.0.1", port), 10)
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
              f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += s.recv(1000)
    assert b" 101 " in head, head
    s.setblocking(False)
    return s


def frame(size):
    """A client's text message of so many bytes, and the length of the server's frame for it."""
    if size < 126:
        head, more = bytes([0x81, 0x80 | size]), 2
    elif size < 65536:
        head, more = bytes([0x81, 0xFE]) + size.to_bytes(2, "big"), 4
    else:
        head, more = bytes([0x81, 0xFF]) + size.to_bytes(8, "big"), 10
    mask = b"\1\2\3\4"
    return head + mask + bytes(120 ^ mask[i % 4] for i in range(size)), size + more


class Server:
    def __init__(self, command):
        self.clients = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.home = tempfile.TemporaryDirectory()
        env = dict(os.environ, HOME=self.home.name, XDG_STATE_HOME=self.home.name)
        self.process = subprocess.Popen(
            command(str(self.port)), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=lambda: os.sched_setaffinity(0, {max(CPUS)}))
        deadline = time.monotonic() + 10
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert time.monotonic() < deadline and self.process.poll() is None, "it does not start"
            time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Its children see the end of their stdin.
        self.process.kill()
        self.process.wait()
        self.home.cleanup()
        for s in self.clients:
            s.close()

    def connect(self, count, path="/", headers=""):
        """So many clients more; they last as long as the server."""
        new = [connect(self.port, path, headers) for _ in range(count)]
        self.clients += new
        return new


def rounds(sockets, send, expected, server):
    """Calls `send` and reads what comes of it, for a while; rounds done, and the server's CPU time."""
    selector = selectors.EpollSelector()
    for s in sockets:
        selector.register(s, selectors.EVENT_READ)
    buffer = bytearray(1 << 18)

    def one():
        send()
        missing = expected
        while missing:
            for key, _ in selector.select(10) or sys.exit("nothing comes"):
                missing -= key.fileobj.recv_into(buffer)

    for _ in range(3):
        one()
    done, before, end = 0, cpu(server.process.pid), time.monotonic() + SECONDS
    while time.monotonic() < end:
        one()
        done += 1
    return done, cpu(server.process.pid) - before


def measure(command, workload):
    """The workload's figures, as {unit: figure}."""
    kind, *numbers = workload.split(":")
    numbers = [int(n) for n in numbers]
    mode = "sender" if kind == "echo" else "all"
    if not command("0", mode):
        return {}
    with Server(lambda port: command(port, mode)) as server:
        pid = server.process.pid
        if kind == "idle":
            server.connect(1)
            time.sleep(0.3)
            empty, before = memory(pid), cpu(pid)
            sockets = server.connect(numbers[0])
            opening = cpu(pid) - before
            time.sleep(1)
            return {"KiB a connection": (memory(pid) - empty) / len(sockets),
                    "µs to open one": opening / len(sockets)}
        sockets = server.connect(numbers[0])
        if kind == "fanout":
            _, size, burst = numbers
            message, length = frame(size)

            def send():
                sockets[0].setblocking(True)
                sockets[0].sendall(message * burst)
                sockets[0].setblocking(False)
            done, used = rounds(sockets, send, length * burst * len(sockets), server)
            return {"µs a delivery": used / (done * burst * len(sockets))}
        message, length = frame(128)
        done, used = rounds(sockets, lambda: [s.send(message) for s in sockets],
                            length * len(sockets), server)
        return {"µs a round trip": used / (done * len(sockets))}


def compare(workloads, count):
    names = list(PEERS)
    print(f"Medians of {count} interleaved rounds.\n")
    print("| workload | unit | " + " | ".join(names) + " |")
    print("|---|---|" + "---|" * len(names))
    for workload in workloads:
        results = {}
        for _ in range(count):
            for name, command in PEERS.items():
                for unit, figure in measure(command, workload).items():
                    results.setdefault(unit, {}).setdefault(name, []).append(figure)
        for unit, figures in results.items():
            row = [f"{statistics.median(figures[n]):.2f}" if n in figures else "–" for n in names]
            print(f"| {workload} | {unit} | " + " | ".join(row) + " |", flush=True)


LISTENERS = {
    "`cat`": ["cat"],
    "`jq --unbuffered`": ["jq", "-c", "--unbuffered", ".message |= ascii_upcase"],
    "Python": ["python3", str(ROOT / "examples/upper.py")],
    "Node": ["node", str(ROOT / "examples/upper.js")],
}


def flood(listener, clients=100):
    """Clients that send as fast as they may; messages a second, CPU of the gateway itself and of its
    listener a message, and how busy their CPU was."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        control = free.getsockname()[1]

    def received():
        with urllib.request.urlopen(f"http://127.0.0.1:{control}/metrics") as metrics:
            found = re.search(r"^wsgw_messages_received_total\S* (\d+)", metrics.read().decode(), re.M)
        return int(found[1])
    command = ["--control", f"127.0.0.1:{control}", "--", *listener]
    with Server(lambda port: [a for a in wsgw(port, "none") if a not in ("--control", "off")] + command) as server:
        sockets = server.connect(clients)
        block = frame(128)[0] * 200
        unsent = dict.fromkeys(sockets, block)
        selector = selectors.EpollSelector()
        for s in sockets:
            selector.register(s, selectors.EVENT_WRITE)
        pid = server.process.pid
        (child,) = (p for p in tree(pid) if p != pid)

        def look():
            return received(), cpu(pid) - cpu(child), cpu(child), time.monotonic()
        start = time.monotonic()
        before = None
        while time.monotonic() < start + 1 + 2 * SECONDS:
            if before is None and time.monotonic() > start + 1:
                before = look()
            for key, _ in selector.select(1):
                s = key.fileobj
                unsent[s] = unsent[s][s.send(unsent[s]):] or block
        messages, own, its, wall = (b - a for a, b in zip(before, look()))
        return messages / wall, own / messages, its / messages, (own + its) / 1e6 / wall


def listeners(count):
    print("| listener | messages/s | gateway, µs CPU a message | listener, µs CPU a message | CPU in use |")
    print("|---|---|---|---|---|")
    for name, command in LISTENERS.items():
        figures = zip(*(flood(command) for _ in range(count)))
        rate, own, its, busy = (statistics.median(f) for f in figures)
        print(f"| {name} | {rate:,.0f} | {own:.2f} | {its:.2f} | {busy:.0%} |", flush=True)


CONNECTIONS = [100, 300, 1000, 3000, 10000, 18000]
SIZES = [32, 128, 512, 2048, 8192, 32768, 65536]


def growth(path, count):
    def median(workload, unit):
        return statistics.median(measure(PEERS["wsgw"], workload)[unit] for _ in range(count))
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200
    connections = [n for n in CONNECTIONS if n <= room]
    cost = [median(f"fanout:{n}:128:1", "µs a delivery") for n in connections]
    kib = [median(f"idle:{n}", "KiB a connection") for n in connections]
    size = [median(f"fanout:200:{n}:1", "µs a delivery") for n in SIZES]
    print("| connections | µs a delivery, 128 bytes | KiB a connection |\n|---|---|---|")
    for n, a, b in zip(connections, cost, kib):
        print(f"| {n} | {a:.2f} | {b:.2f} |")
    print("\n| bytes | µs a delivery, 200 connections |\n|---|---|")
    for n, a in zip(SIZES, size):
        print(f"| {n} | {a:.2f} |")
    plots = [("connections, 128 bytes", "µs CPU a delivery", connections, cost),
             ("connections", "KiB an idle connection", connections, kib),
             ("bytes a message, 200 connections", "µs CPU a delivery", SIZES, size)]
    pathlib.Path(path).write_text(svg(plots))


def svg(plots):
    """Plots side by side, the x axis logarithmic, the y axis from zero."""
    import math
    width, height, left, bottom = 340, 200, 40, 40
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width * len(plots)}" height="{height + 20}" '
           'font-family="sans-serif" font-size="9" fill="#444">'
           '<rect width="100%" height="100%" fill="#fff"/>']
    for i, (x_name, y_name, xs, ys) in enumerate(plots):
        top = max(ys) * 1.15
        lo, hi = math.log(xs[0]), math.log(xs[-1])

        def x(v):
            return i * width + left + (math.log(v) - lo) / (hi - lo) * (width - left - 20)

        def y(v):
            return 20 + (1 - v / top) * (height - 20 - bottom)
        out.append(f'<text x="{i * width + left}" y="14" font-weight="bold">{y_name}</text>')
        for step in range(5):
            v = top * step / 4
            out.append(f'<path d="M{x(xs[0])} {y(v):.1f}H{x(xs[-1])}" stroke="#ddd"/>'
                       f'<text x="{i * width + left - 4}" y="{y(v) + 3:.1f}" text-anchor="end">{v:.1f}</text>')
        for v in xs:
            label = f"{v // 1000}k" if v >= 1000 and v % 1000 == 0 else f"{v // 1024}Ki" if v % 1024 == 0 else v
            out.append(f'<text x="{x(v):.1f}" y="{height - bottom + 14}" text-anchor="middle">{label}</text>')
        out.append(f'<text x="{i * width + width / 2}" y="{height - 8}" text-anchor="middle">{x_name}</text>')
        points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(xs, ys))
        out.append(f'<polyline points="{points}" fill="none" stroke="#06c" stroke-width="2"/>')
        out += [f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3" fill="#06c"/>' for a, b in zip(xs, ys)]
    return "\n".join([*out, "</svg>", ""])


parser = argparse.ArgumentParser()
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--growth", metavar="FILE.svg")
parser.add_argument("--listeners", action="store_true")
parser.add_argument("--channels", action="store_true")
parser.add_argument("--streams", action="store_true")
parser.add_argument("--files", action="store_true")
parser.add_argument("--compression", action="store_true")
parser.add_argument("--servers", action="store_true")
parser.add_argument("--cluster", action="store_true")
parser.add_argument("workloads", nargs="*", metavar="WORKLOAD",
                    default=["fanout:1000:128:1", "fanout:1000:1024:1", "fanout:1000:128:16", "fanout:5000:128:1",
                             "echo:1", "echo:100", "idle:5000"])
options = parser.parse_args()
CPUS = os.sched_getaffinity(0)
if len(CPUS) < 2:
    sys.exit("it takes two CPUs: one for the server, one for the clients")
os.sched_setaffinity(0, {min(CPUS)})
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
if options.listeners:
    listeners(options.rounds)
elif options.channels:
    import channels
    channels.run(sys.modules[__name__], options.rounds)
elif options.files:
    import files
    files.run(sys.modules[__name__], options.rounds)
elif options.streams:
    import streams
    streams.run(sys.modules[__name__], options.rounds)
elif options.servers:
    import servers
    servers.run(sys.modules[__name__], options.rounds)
elif options.cluster:
    import cluster
    cluster.run(sys.modules[__name__], options.rounds)
elif options.compression:
    import compression
    compression.run(sys.modules[__name__], options.rounds)
elif options.growth:
    growth(options.growth, options.rounds)
else:
    compare(options.workloads, options.rounds)
