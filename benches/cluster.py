"""What several nodes over NATS cost, each beside the same gateway without a cluster in the same rounds;
run by `benches/compare.sh --cluster`. It needs nats-server, and starts its own, with JetStream on the
disk, on one machine with everything else.

The gateways share one CPU; the clients have the other. The NATS server has the clients' CPU where CPU
time is what is measured, and that of the gateways where rates and latencies are, for there the clients
never sleep."""

import concurrent.futures
import json
import os
import pathlib
import re
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests"))
from harness.nats import NatsServer  # noqa: E402

#: Bytes of a message, the head of the frame that a client gets of it, and bytes of the frame.
SIZE, HEAD, FRAME = 128, b"\x81\x7e\0\x80", 132
PUBLISHERS = 4
RATES = [10_000, 30_000, 60_000, 100_000]

BUN = """
import { connect, consumerOpts } from "nats";
const [port, mode, url] = process.argv.slice(-3);
const server = Bun.serve({
  port: Number(port), hostname: "127.0.0.1",
  fetch(r, s) { return s.upgrade(r) ? undefined : new Response("no", { status: 400 }); },
  websocket: {
    idleTimeout: 0, perMessageDeflate: false,
    open(ws) { ws.subscribe("all"); },
    message(ws, text) { send(text); },
  },
});
let send = (text) => server.publish("all", text);
const decoder = new TextDecoder(), encoder = new TextEncoder();
if (mode !== "off") {
  const nats = await connect({ servers: url });
  let messages;
  if (mode === "core") {
    messages = nats.subscribe("all");
    send = (text) => nats.publish("all", encoder.encode(text));
  } else {
    const manager = await nats.jetstreamManager(), stream = nats.jetstream();
    await manager.streams.add({ name: "all", subjects: ["all"], storage: "file", max_age: 600e9 });
    const options = consumerOpts();
    options.orderedConsumer();
    options.deliverNew();
    messages = await stream.subscribe("all", options);
    send = (text) => { stream.publish("all", encoder.encode(text)).catch(() => {}); };
  }
  for await (const m of messages) server.publish("all", decoder.decode(m.data));
}
"""


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def nats_servers(directory, count):
    """One NATS server, or several that form a cluster, which copies streams to all of them."""
    ports = [free_port() for _ in range(count)]
    routes = ", ".join(f'"nats-route://127.0.0.1:{port}"' for port in ports)
    cluster = 'server_name: "n{}"\ncluster {{ name: "c", host: "127.0.0.1", port: {}, routes: [{}] }}'
    servers = [
        NatsServer(directory / f"nats{n}", cluster.format(n, port, routes) if count > 1 else "", start=False)
        for n, port in enumerate(ports)]
    # None of several is healthy alone.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(NatsServer.start, servers))
    return servers


class Nodes:
    """Gateways of one kind, with NATS servers of their own: `mode` is off, ordered, core, or replicated
    (ordered, with three servers), with the name of a peer in front where it is one."""

    def __init__(self, c, mode, count=1, keys="", beside_clients=False):
        self.c, self.directory = c, tempfile.TemporaryDirectory()
        self.servers, self.nodes, self.controls = [], [], []
        peer, _, mode = mode.rpartition(" ")
        try:
            if mode != "off":
                directory = pathlib.Path(self.directory.name)
                self.servers = nats_servers(directory, 3 if mode == "replicated" else 1)
                cpu = min(c.CPUS) if beside_clients else max(c.CPUS)
                for server in self.servers:
                    for task in pathlib.Path(f"/proc/{server.proc.pid}/task").iterdir():
                        os.sched_setaffinity(int(task.name), {cpu})
            for _ in range(count):
                self.add(peer, mode, keys)
        except BaseException:
            self.__exit__()
            raise

    def add(self, peer, mode, keys=""):
        name = f"node{len(self.nodes)}"
        self.controls.append(free_port())
        if peer == "Bun":
            script = self.c.ROOT / "target/tests/bench/nats.mjs"
            script.write_text(BUN)
            url = self.servers[0].url if self.servers else ""
            self.nodes.append(self.c.Server(lambda port: [os.environ["BUN"], str(script), port, mode, url]))
            time.sleep(0.5)
            return
        config = pathlib.Path(self.directory.name) / f"{name}.toml"
        urls = json.dumps([server.url for server in self.servers])
        cluster = f"[cluster]\nurl = {urls}\nreplicas = {len(self.servers)}\n" if self.servers else ""
        mode = "ordered" if mode == "replicated" else mode
        config.write_text(f'{cluster}[gateways.default]\ncluster = "{mode}"\n{keys}\n')
        command = [self.c.BINARY, "serve", "-q", "--config", str(config),
                   "--control", f"127.0.0.1:{self.controls[-1]}"]
        self.nodes.append(self.c.Server(lambda port: [*command, "--port", port]))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for node in self.nodes:
            node.__exit__()
        for server in self.servers:
            server.kill()
        self.directory.cleanup()

    def pids(self):
        return [node.process.pid for node in self.nodes]

    def cpu(self):
        """CPU of all gateways, and of all NATS servers, in microseconds."""
        servers = [server.proc.pid for server in self.servers]
        return tuple(sum(self.c.cpu(pid) for pid in pids) for pids in (self.pids(), servers))

    def stream(self):
        """What is in the stream."""
        return self.servers[0].stream()["state"]

    def metric(self, name, node=0):
        url = f"http://127.0.0.1:{self.controls[node]}/metrics"
        with urllib.request.urlopen(url) as metrics:
            found = re.search(rf"^{name}\S* ([\d.e+-]+)", metrics.read().decode(), re.M)
        return float(found[1]) if found else 0


# ---- CPU of a delivery ---------------------------------------------------------------------------


def fanout(nodes, clients, burst, rate=None):
    """CPU of a delivery, the NATS servers' of a message, both in microseconds. `clients` says how many
    each node has; one of the first node sends, `burst` at a time."""
    c = nodes.c
    groups = [node.connect(count) for node, count in zip(nodes.nodes, clients)]
    sockets = [s for group in groups for s in group]
    # Without a cluster, each gateway has a sender of its own.
    senders = [group[0] for group in (groups[:1] if nodes.servers else groups)]
    message, length = c.frame(SIZE)
    selector = selectors.EpollSelector()
    for s in sockets:
        selector.register(s, selectors.EVENT_READ)
    buffer = bytearray(1 << 18)

    def one():
        for sender in senders:
            sender.setblocking(True)
            sender.sendall(message * burst)
            sender.setblocking(False)
        missing = length * burst * len(sockets)
        while missing:
            for key, _ in selector.select(10) or sys.exit("nothing comes"):
                missing -= key.fileobj.recv_into(buffer)
    for _ in range(20):
        one()
    done, before, start = 0, nodes.cpu(), time.monotonic()
    while time.monotonic() < start + c.SECONDS:
        one()
        done += 1
        if rate:
            time.sleep(max(0, start + done / rate - time.monotonic()))
    own, its = (b - a for a, b in zip(before, nodes.cpu()))
    return own / (done * burst * len(sockets)), its / (done * burst)


# ---- rates and latencies -------------------------------------------------------------------------


class Failed(Exception):
    """A rate is not held."""


class Load:
    """Publishers at a fixed rate, and a reader at each node that checks what comes: nothing is missing
    or twice, and it is the same order everywhere."""

    def __init__(self, nodes, publishers=PUBLISHERS, ordered=True):
        self.ordered = ordered
        self.readers = [node.connect(1)[0] for node in nodes.nodes]
        count = len(nodes.nodes)
        self.publishers = [nodes.nodes[n % count].connect(1)[0] for n in range(publishers)]
        self.selector = selectors.EpollSelector()
        for s in self.readers + self.publishers:
            self.selector.register(s, selectors.EVENT_READ)
        self.rest = {s: b"" for s in self.readers}
        self.last = {s: [-1] * publishers for s in self.readers}
        self.sums = dict.fromkeys(self.readers, 0)
        self.came = dict.fromkeys(self.readers, 0)
        self.numbers = [0] * publishers
        self.wrong = 0
        self.latencies = []
        self.buffer = bytearray(1 << 20)

    def frame(self, publisher, due):
        text = b"%02d%012d%020d" % (publisher, self.numbers[publisher], due)
        self.numbers[publisher] += 1
        return b"\x81\xfe" + SIZE.to_bytes(2, "big") + b"\0\0\0\0" + text.ljust(SIZE, b".")

    def read(self, patience):
        for key, _ in self.selector.select(patience):
            s = key.fileobj
            try:
                data = s.recv(1 << 20)
            except BlockingIOError:
                continue
            if not data:
                raise Failed("a connection was cut")
            if s in self.rest:
                self.check(s, data)

    def check(self, s, data):
        now, data = time.monotonic_ns(), self.rest[s] + data
        whole = len(data) - len(data) % FRAME
        self.rest[s] = data[whole:]
        self.sums[s] = zlib.crc32(data[:whole], self.sums[s])
        last = self.last[s]
        for at in range(len(HEAD), whole, FRAME):
            if data[at - len(HEAD):at] != HEAD:
                raise Failed("a connection is closed, or pinged")
            publisher, number = int(data[at:at + 2]), int(data[at + 2:at + 14])
            self.wrong += number != last[publisher] + 1
            last[publisher] = number
            due = int(data[at + 14:at + 34])
            self.latencies.append((due, now - due))
        self.came[s] += whole // FRAME

    def run(self, rate, seconds):
        """The latencies in milliseconds, in the order in which they were due. It fails where something did
        not come within a second, or more than once, or in another order at another node."""
        start = time.monotonic_ns()
        sent, total, unsent = 0, int(rate * seconds), {}
        while sent < total or unsent:
            now = time.monotonic_ns()
            due = min(int((now - start) * rate / 1e9) + 1, total)
            for n in range(sent, due):
                s = self.publishers[n % len(self.publishers)]
                frame = self.frame(n % len(self.publishers), start + int(n * 1e9 / rate))
                unsent[s] = unsent.get(s, b"") + frame
            sent = due
            for s in list(unsent):
                try:
                    left = unsent[s][s.send(unsent[s]):]
                except BlockingIOError:
                    continue
                if left:
                    unsent[s] = left
                else:
                    del unsent[s]
            if now > start + (seconds + 5) * 1e9:
                raise Failed("the gateway does not read as fast as that")
            self.read(0)
        end = time.monotonic() + 1
        while time.monotonic() < end and any(came < total for came in self.came.values()):
            self.read(0.01)
        if any(came < total for came in self.came.values()) or self.wrong:
            raise Failed(f"{[total - came for came in self.came.values()]} are missing, {self.wrong} are wrong")
        if self.ordered and len(set(self.sums.values())) > 1:
            raise Failed("the order differs")
        return [late / 1e6 for _, late in sorted(self.latencies)]


def quantile(values, share):
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def held(c, rate, mode="ordered", count=1, seconds=10, **options):
    """The latencies at a rate and the CPU in use, or why it is not held. A delay that is larger at the
    end than at the beginning grows."""
    with Nodes(c, mode, count, **options) as nodes:
        load = Load(nodes, ordered=mode != "core")
        time.sleep(1 if count > 1 else 0.2)
        before, published = nodes.cpu(), nodes.metric("wsgw_cluster_published_total")
        start = time.monotonic()
        try:
            found = load.run(rate, seconds)
        except Failed as why:
            return {"failed": str(why)}
        wall = time.monotonic() - start
        own, its = (b - a for a, b in zip(before, nodes.cpu()))
        published = nodes.metric("wsgw_cluster_published_total") - published
        fifth = len(found) // 5
        first, last = (statistics.median(part) for part in (found[:fifth], found[-fifth:]))
        messages = int(rate * seconds)
        return {
            "failed": "the delay grows" if last > 2 * first + 5 else "",
            "p50": statistics.median(found), "p99": quantile(found, 0.99),
            "first": first, "last": last, "gateway": own / messages, "nats": its / messages,
            "busy": (own + its) / 1e6 / wall, "batch": messages / count / published if published else 0,
        }


def latency(c, mode, rate=1000, connections=10, seconds=5):
    """p50 and p99 in milliseconds, by `wsgw bench`: one connection sends, all receive."""
    with Nodes(c, mode) as nodes, tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [c.BINARY, "bench", f"127.0.0.1:{nodes.nodes[0].port}", "-d", f"{seconds}s", "--json",
             "-c", str(connections), "--rate", str(rate)],
            capture_output=True, text=True, env=dict(os.environ, HOME=home))
    if done.returncode:
        raise SystemExit(f"{done.args}: {done.stderr}{done.stdout}")
    report = json.loads(done.stdout)
    assert report["lost"] == report["duplicates"] == 0, report
    return report["latency_ms"]["p50"], report["latency_ms"]["p99"]


# ---- what nodes cost that do nothing, and memory -------------------------------------------------


def idle(c, count=2, seconds=10):
    """What a node without clients costs: its CPU in a second and the NATS server's for it, both in
    microseconds; its signs of life in a second, and the bytes of one in the stream."""
    with Nodes(c, "ordered", count) as nodes:
        time.sleep(3)
        before, was, start = nodes.cpu(), nodes.stream(), time.monotonic()
        time.sleep(seconds)
        own, its = (b - a for a, b in zip(before, nodes.cpu()))
        state, wall = nodes.stream(), time.monotonic() - start
        beats = state["messages"] - was["messages"]
        return {"node": own / wall / count, "nats": its / wall / count, "beats": beats / wall / count,
                "bytes": (state["bytes"] - was["bytes"]) / beats}


def reading(c, count, burst=1, times=3000, rate=1000):
    """What messages that a client of the first of so many nodes sends, `burst` at a time, cost the NATS
    server, and what they cost a node without clients that reads them; microseconds for each `burst`."""
    with Nodes(c, "ordered", count) as nodes:
        (s,) = nodes.nodes[0].connect(1)
        message, length = c.frame(SIZE)
        s.setblocking(True)
        time.sleep(2)

        def look():
            return [c.cpu(pid) for pid in nodes.pids()[1:]], nodes.cpu()[1]

        def spent(act):
            before, start = look(), time.monotonic()
            act()
            wall, after = time.monotonic() - start, look()
            return sum(after[0]) - sum(before[0]), after[1] - before[1], wall

        def send():
            start = time.monotonic()
            for n in range(times):
                s.sendall(message * burst)
                left = length * burst
                while left:
                    left -= len(s.recv(left))
                time.sleep(max(0, start + n / rate - time.monotonic()))
        # Their signs of life are not what is asked for.
        own, its, wall = spent(lambda: time.sleep(3))
        rest = own / wall, its / wall
        own, its, wall = spent(send)
        own, its = own - rest[0] * wall, its - rest[1] * wall
        return {"nats": its / times, "node": own / times / max(count - 1, 1)}


def stored(c, count=2000):
    """Bytes that a message takes in the stream, more than its own, where it comes alone."""
    with Nodes(c, "ordered") as nodes:
        (s,) = nodes.nodes[0].connect(1)
        message, length = c.frame(SIZE)
        was = nodes.stream()
        s.setblocking(True)
        for _ in range(count):
            s.sendall(message)
            left = length
            while left:
                left -= len(s.recv(left))
        state = nodes.stream()
        return (state["bytes"] - was["bytes"]) / (state["messages"] - was["messages"]) - SIZE


def anonymous(pid):
    """KiB of a process that it shares with no other."""
    rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Anonymous: +(\d+)", rollup, re.M)[1])


def memories(c, others=10, members=10_000):
    """KiB of a node without clients, without a cluster and with, and what it has more for each other node;
    bytes for each client of another node that is in a channel, the microseconds to hear of one, and its bytes
    in the stream when a node comes that wants to know all of them."""
    rooms = 'channels = "query"\nallow-channels = "*"\nroute = "channels"'
    with Nodes(c, "off", keys=rooms) as nodes:
        nodes.nodes[0].connect(1)
        time.sleep(1)
        without = anonymous(nodes.pids()[0])
    with Nodes(c, "ordered", keys=rooms) as nodes:
        nodes.nodes[0].connect(1)
        time.sleep(3)
        alone = anonymous(nodes.pids()[0])
        for _ in range(others):
            nodes.add("", "ordered", rooms)
        time.sleep(3)
        beside = anonymous(nodes.pids()[0])
        before, start = c.cpu(nodes.pids()[0]), time.monotonic()
        time.sleep(2)
        rest = (c.cpu(nodes.pids()[0]) - before) / (time.monotonic() - start)
        before, start = c.cpu(nodes.pids()[0]), time.monotonic()
        for n in range(100):
            nodes.nodes[1].connect(members // 100, f"/?channel=room{n}")
        time.sleep(2)
        used = c.cpu(nodes.pids()[0]) - before - rest * (time.monotonic() - start)
        told = anonymous(nodes.pids()[0])
        # Signs of life go on meanwhile.
        was, start = nodes.stream()["bytes"], time.monotonic()
        time.sleep(2)
        beats = (nodes.stream()["bytes"] - was) / (time.monotonic() - start)
        was, start = nodes.stream()["bytes"], time.monotonic()
        nodes.add("", "ordered", rooms)
        time.sleep(3)
        asked = nodes.stream()["bytes"] - was - beats * (time.monotonic() - start)
    return {"asked": asked / members, "without": without, "alone": alone, "other": (beside - alone) / others,
            "member": (told - beside) * 1024 / members, "join": used / members}


# ---- the tables ----------------------------------------------------------------------------------


def median(values):
    """Nothing where there is nothing."""
    return statistics.median(values) if values else None


def show_rates(c, rounds):
    sides = [("without", "off", 1), ("ordered", "ordered", 1), ("ordered, two nodes", "ordered", 2),
             ("ordered, three NATS servers", "replicated", 1), ("core", "core", 1)]
    print("| messages/s | " + " | ".join(f"{name}: p50, p99 (ms)" for name, *_ in sides) + " |")
    print("|---|" + "---|" * len(sides))
    for rate in RATES:
        found = {name: [] for name, *_ in sides}
        for _ in range(rounds):
            for name, mode, count in sides:
                found[name].append(held(c, rate, mode, count, seconds=5))
        row = []
        for runs in found.values():
            good = [run for run in runs if not run["failed"]]
            p50, p99 = (median([run[key] for run in good]) for key in ("p50", "p99"))
            whole = "" if len(good) == rounds else f", {len(good)} of {rounds}"
            row.append(f"{p50:.2f}, {p99:.1f}{whole}" if good else runs[-1]["failed"])
        print(f"| {rate:,} | " + " | ".join(row) + " |", flush=True)
    print()


def show_latency(c, rounds):
    sides = ["off", "ordered", "replicated", "core", "Bun off", "Bun ordered", "Bun core"]
    found = {side: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            found[side].append(latency(c, side))
    print("| 1,000 messages/s to 10 clients | p50 | p99 | added p50 | added p99 |\n|---|---|---|---|---|")
    for side in sides:
        p50, p99 = (median(values) for values in zip(*found[side]))
        peer = side.rpartition(" ")[0]
        beside = [median(values) for values in zip(*found[f"{peer} off".strip()])]
        print(f"| {side} | {p50:.3f} ms | {p99:.2f} ms | {p50 - beside[0]:.3f} ms | {p99 - beside[1]:.2f} ms |")
    print(flush=True)


def show_cpu(c, rounds):
    one, two = (1000,), (1000, 1000)
    # A side, what it is called, and the side that it is compared with.
    sides = {
        ("off", one): None, ("off", two): None, ("Bun off", one): None,
        ("ordered", one): ("ordered, 1 node", ("off", one)), ("core", one): ("core, 1 node", ("off", one)),
        ("ordered", (1000, 1)): ("ordered, 2 nodes, the clients on the sender's", ("off", one)),
        ("ordered", (1, 1000)): ("ordered, 2 nodes, the clients on the other", ("off", one)),
        ("ordered", two): ("ordered, 2 nodes on one CPU, 1,000 clients each", ("off", two)),
        ("Bun ordered", one): ("Bun, by hand, JetStream", ("Bun off", one)),
        ("Bun core", one): ("Bun, by hand, without a stream", ("Bun off", one)),
    }
    loads = [("one at a time", 1, None), ("16 at a time", 16, None), ("50 a second", 1, 50)]
    print("| 1,000 clients | | µs a delivery | without | ratio | NATS server, µs a message |")
    print("|---|---|---|---|---|---|")
    for title, burst, rate in loads:
        found = {side: [] for side in sides}
        for _ in range(rounds):
            for side in sides:
                mode, clients = side
                with Nodes(c, mode, len(clients), beside_clients=True) as nodes:
                    found[side].append(fanout(nodes, clients, burst, rate))
        for side, about in sides.items():
            if not about:
                continue
            name, other = about
            beside = [run[0] for run in found[other]]
            own, its = (median(values) for values in zip(*found[side]))
            ratio = median([run[0] / base for run, base in zip(found[side], beside)])
            print(f"| {title} | {name} | {own:.3f} | {median(beside):.3f} | {ratio:.2f} | {its:.0f} |",
                  flush=True)
    print()


def show_idle(c, rounds):
    print("| what | figure |\n|---|---|")
    runs = [idle(c) for _ in range(rounds)]
    node, nats, beats, size = (median([run[key] for run in runs]) for key in ("node", "nats", "beats", "bytes"))
    print(f"| an idle node, µs of CPU in a second | {node:.0f} |")
    print(f"| the same, of the NATS server | {nats:.0f} |")
    print(f"| signs of life of a node in a second | {beats:.2f} |")
    print(f"| bytes of one in the stream | {size:.0f} |")
    for count, burst in ((1, 1), (2, 1), (10, 1), (10, 16)):
        runs = [reading(c, count, burst) for _ in range(rounds)]
        nats, node = (median([run[key] for run in runs]) for key in ("nats", "node"))
        what = f"messages: {burst} at once, nodes: {count}; µs of CPU"
        print(f"| {what} of the NATS server | {nats:.0f} |")
        if count > 1:
            print(f"| the same, of each node that reads them | {node:.0f} |")
    print(f"| bytes of a message in the stream besides its own | {median([stored(c) for _ in range(rounds)]):.0f} |")
    runs = [memories(c) for _ in range(rounds)]
    for key, name in (("without", "a node without a cluster, KiB"), ("alone", "a node with one, KiB"),
                      ("other", "each other node, KiB"), ("member", "each member on other nodes, bytes"),
                      ("join", "to hear of one, µs of CPU"),
                      ("asked", "bytes of one in the stream for a new node")):
        print(f"| {name} | {median([run[key] for run in runs]):.2f} |", flush=True)
    print()


def run(c, rounds):
    """`c` is `compare`, whose servers and CPUs are used."""
    print(f"Medians of {rounds} interleaved rounds.\n")
    show_latency(c, rounds)
    show_cpu(c, rounds)
    show_rates(c, rounds)
    show_idle(c, rounds)
