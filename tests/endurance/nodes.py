#!/usr/bin/env python3
"""Chaos with three nodes: NATS and the nodes are harmed at random while clients talk, follow and move.

    tests/endurance/nodes.py --seed 7 --seconds 120 [--loss local|hold|mixed] [--rate 150]
                             [--only server_kill,node_cut,…] [--together 0.3]
                             [--bytes 256MiB] [--keep]

What is done and when follows from the seed. As root it runs in a network namespace of its own, in
which the way between one node and the server can be cut. At the end an audit: all clients saw one
order; nobody got a message twice; who is told `recovered`, or stays connected within one epoch,
missed nothing; what a node could not publish is counted exactly; the nodes agree on members, history
and epoch. Exits 1 with what did not hold.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from client import Client, Refused  # noqa: E402
from nodes_audit import Audit, Follower, split  # noqa: E402
from nodes_faults import HARMS_STREAM, Faults  # noqa: E402
from server import Server  # noqa: E402

from harness import NatsServer, encode_frame  # noqa: E402

NODES, WITNESSES, SPEAKERS, MOVERS = 3, 2, 3, 4
ROOMS = ["r0", "r1", "r2"]
#: What the stream may hold: nothing is evicted in a run.
BYTES = "256MiB"
#: Set in the process that has a network of its own.
INSIDE = "WSGW_TEST_OWN_NETWORK"
ERRORS = (Refused, OSError, asyncio.TimeoutError, ValueError, IndexError, AssertionError)


class Node:
    """One `serve`, which is started again after it was killed."""

    def __init__(self, chaos, number):
        self.chaos, self.number = chaos, number
        self.loss = chaos.loss_of(number)
        self.host = f"10.77.0.{number + 1}" if chaos.own_network else "127.0.0.1"
        #: How often it was killed.
        self.lives = 0
        self.up = asyncio.Event()
        self.stopped = False
        self.server = None

    def start(self):
        directory = self.chaos.dir / f"node{self.number}"
        directory.mkdir(exist_ok=True)
        config = f"""
[cluster]
url = "nats://{self.host}:{self.chaos.nats.port}"
name = "node{self.number}"
[gateways.chat]
port = 0
cluster = "ordered"
on-engine-loss = "{self.loss}"
protocols = "*"
channels = "query"
allow-channels = "*"
max-queue = "64MiB"
[gateways.chat.history]
channels = {{ "*" = 1000000 }}
broadcast = 1000000
bytes = "{self.chaos.options.bytes}"
"""
        self.server = Server(directory, directory / "log", config=config, files=4096, gateways=("chat",))

    async def ready(self):
        await self.server.ready()
        self.up.set()

    async def kill(self):
        self.up.clear()
        self.lives += 1
        self.server.proc.kill()
        await asyncio.to_thread(self.server.proc.wait)

    async def lost(self):
        return int((await self.server.metrics()).get("wsgw_cluster_lost_total", 0))

    def cut(self):
        """Nothing passes between it and the server; both are told nothing."""
        for words in (f"addr del {self.host}/32 dev lo", f"route add blackhole {self.host}/32"):
            subprocess.run(["ip", *words.split()], check=True)

    def heal(self):
        for words in (f"route del blackhole {self.host}/32", f"addr add {self.host}/32 dev lo"):
            subprocess.run(["ip", *words.split()], check=True)


class Chaos(Faults):
    def __init__(self, options, directory):
        self.options, self.dir = options, directory
        self.own_network = INSIDE in os.environ
        self.audit = Audit()
        self.done = {}
        self.over = asyncio.Event()
        self.settled = asyncio.Event()
        self.nats = None
        self.nodes, self.followers = [], []
        self.background = set()
        self.pushed = 0

    def rng(self, who):
        return random.Random(f"{self.options.seed}:{who}")

    def loss_of(self, number):
        if self.options.loss == "mixed":
            return self.rng("loss").choices(["local", "hold"], k=NODES)[number]
        return self.options.loss

    def count(self, what):
        self.done[what] = self.done.get(what, 0) + 1

    def spawn(self, coroutine):
        task = asyncio.create_task(coroutine)
        self.background.add(task)
        task.add_done_callback(self.background.discard)
        return task

    def say(self, what):
        with open(self.dir / "chaos.log", "a") as log:
            at = time.strftime("%H:%M:%S", time.gmtime())
            log.write(f"{at}.{int(time.time() * 1000) % 1000:03} {what}\n")

    # Clients.

    async def open(self, follower, node):
        rooms = "&".join(f"channel={room}" for room in follower.rooms)
        since = f"&since={follower.at}" if follower.at else ""
        follower.opening(node.number, node.lives)
        return await Client.open(
            node.server.port("chat"), f"/{follower.label}?{rooms}{since}", follower.label,
            lambda _client, _opcode, payload: follower.heard(json.loads(payload)),
            headers="Sec-WebSocket-Protocol: wsgw.v1\r\n")

    async def follow(self, follower, choose, stay):
        """Comes back at its position whenever it is cut; leaves by itself after `stay()` seconds."""
        client = None
        while not self.settled.is_set():
            node = choose()
            try:
                await asyncio.wait_for(node.up.wait(), 1)
                client = await asyncio.wait_for(self.open(follower, node), 30)
                await asyncio.wait_for(follower.greeted.wait(), 30)
            except ERRORS:
                self.count("refused")
                if client:
                    client.transport.abort()
                await asyncio.sleep(0.2)
                continue
            follower.client = client
            until = stay()
            waits = [asyncio.ensure_future(asyncio.shield(client.ended)),
                     asyncio.ensure_future((self.settled if until is None else self.over).wait())]
            done, waiting = await asyncio.wait(waits, timeout=until, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            if self.over.is_set() and not client.over:
                # The last one stays to see the end.
                await self.settled.wait()
            if not client.over:
                self.count("moved")
            client.transport.abort()
            follower.away()

    async def speak(self, node, number):
        """Numbered messages; a new label for each connection."""
        rng = self.rng(f"speaker {node.number} {number}")
        pause = NODES * SPEAKERS / self.options.rate
        turn = 0
        while not self.settled.is_set():
            label = f"s{node.number}{number}-{turn}"
            turn += 1
            try:
                await asyncio.wait_for(node.up.wait(), 1)
                lives = node.lives
                client = await Client.open(node.server.port("chat"), f"/{label}", label, lambda *_: None)
            except ERRORS:
                await asyncio.sleep(0.2)
                continue
            said = 0
            while not client.over and not self.over.is_set():
                await client.may_write.wait()
                body = "x" * rng.choice([0, 10, 100, 1000])
                key = self.audit.plan(label, said, node.number, lives)
                client.write(encode_frame(1, f"{key}:{body}"))
                said += 1
                await asyncio.sleep(rng.expovariate(1 / pause))
            if self.over.is_set() and not client.over:
                await client.may_write.wait()
                client.write(encode_frame(1, self.audit.plan(label, "end", node.number, lives) + ":"))
                await self.settled.wait()
            client.transport.abort()

    async def push(self, rng):
        waiting = set()
        while not self.over.is_set():
            if len(waiting) < 30:
                task = asyncio.create_task(self.push_one(rng.choice(self.nodes), random.Random(rng.random())))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
            await asyncio.sleep(rng.expovariate(20))
        if waiting:
            await asyncio.wait(waiting, timeout=90)

    async def push_one(self, node, rng):
        kind = rng.choice(["all", "all", "room", "one"])
        struct = {}
        if kind == "room":
            struct["channel"] = rng.choice(ROOMS)
        target = None
        if kind == "one":
            target = rng.choice(self.followers)
            if not target.conn:
                return
            struct["connections"] = [target.conn]
        self.pushed += 1
        key = self.audit.plan("push", self.pushed, node.number, node.lives, struct.get("channel"),
                              target and (target.label, target.conn))
        struct["message"] = key + ":"
        try:
            status, text = await node.server.http(
                "POST", "/v1/gateways/chat/messages", json.dumps(struct).encode(), timeout=60)
            self.audit.outcome(key, status, json.loads(text))
            self.count(f"push {status}")
        except ERRORS as why:
            self.count(f"push {type(why).__name__}")

    # Faults.

    async def harm(self, name, rng):
        # What harms the server or one node twice at once says little.
        async with self.locks.setdefault(name.split("_")[0].replace("stream", "server"), asyncio.Lock()):
            self.say(f"begin {name}")
            self.count(name)
            with contextlib.suppress(OSError, EOFError):
                try:
                    await getattr(self, f"fault_{name}")(rng)
                except AssertionError as why:
                    # A stream that another fault has just taken away cannot be harmed.
                    self.say(f"{name}: {why}")
            self.say(f"end {name}")

    async def faults(self):
        self.locks = {}
        rng = self.rng("faults")
        every = sorted(name[6:] for name in dir(self) if name.startswith("fault_"))
        names = self.options.only.split(",") if self.options.only else every
        weights = [{"server_forgets": 2, "stream_purged": 2, "followers_move": 6}.get(n, 4) for n in names]
        deadline = time.monotonic() + self.options.seconds
        while time.monotonic() < deadline:
            await asyncio.sleep(rng.choice([0.2, 1, 3]))
            (name,) = rng.choices(names, weights)
            task = self.spawn(self.harm(name, random.Random(rng.random())))
            # Some come on top of each other.
            if rng.random() < 1 - self.options.together:
                await asyncio.wait([task], timeout=30)
        while self.background:
            await asyncio.wait(set(self.background), timeout=90)

    # The whole.

    async def until(self, check, what, seconds=60):
        deadline = time.monotonic() + seconds
        while True:
            try:
                value = check()
                value = await value if asyncio.iscoroutine(value) else value
            except ERRORS as why:
                value, what = None, f"{what} ({why!r})" if isinstance(what, str) else what
            if value:
                return value
            if time.monotonic() > deadline:
                self.audit.check(False, "waited in vain for", what() if callable(what) else what[:500])
                return None
            await asyncio.sleep(0.1)

    async def whole(self):
        """Every node knows all, and none is degraded."""
        for node in self.nodes:
            status, text = await node.server.http("GET", "/healthz", timeout=5)
            if (status, text.strip()) != (200, "ok"):
                return False
            status, text = await node.server.http("GET", "/v1/gateways/chat/nodes", timeout=5)
            if status != 200 or len(json.loads(text)) != NODES:
                return False
        return True

    async def run(self):
        self.nats = await asyncio.to_thread(
            lambda: NatsServer(self.dir / "nats", host="0.0.0.0" if self.own_network else "127.0.0.1"))
        self.nodes = [Node(self, n) for n in range(NODES)]
        print("on-engine-loss:", [node.loss for node in self.nodes], flush=True)
        for node in self.nodes:
            await asyncio.to_thread(node.start)
            await node.ready()
        await self.until(self.whole, "the nodes to know each other", 20)
        work = []
        for node in self.nodes:
            for n in range(WITNESSES):
                one = Follower(self.audit, f"w{node.number}{n}", ROOMS, node.number)
                self.followers.append(one)
                work.append(self.follow(one, lambda node=node: node, lambda: None))
        for n in range(MOVERS):
            rng = self.rng(f"mover {n}")
            one = Follower(self.audit, f"m{n}", sorted(rng.sample(ROOMS, 2)), None)
            self.followers.append(one)
            work.append(self.follow(one, lambda rng=rng: rng.choice(self.nodes),
                                    lambda rng=rng: rng.choice([0.1, 1, 3, 8])))
        tasks = [asyncio.create_task(one) for one in work]
        for one in self.followers:
            # What was said before they came would be missing in the audit.
            await one.greeted.wait()
        work = [self.speak(node, n) for node in self.nodes for n in range(SPEAKERS)]
        tasks += [asyncio.create_task(one) for one in (*work, self.push(self.rng("push")))]
        faults = asyncio.create_task(self.faults())
        await asyncio.wait([faults, *tasks], return_when=asyncio.FIRST_COMPLETED)
        await faults
        healed = time.monotonic()
        self.say("all is healed")
        # A loss is noticed within two seconds; what is said before that may be lost.
        await asyncio.sleep(2)
        await self.until(self.whole, "all nodes to be whole again", 30)
        print(f"whole again after {time.monotonic() - healed:.1f} s", flush=True)
        self.over.set()
        await self.end(tasks)

    async def end(self, tasks):
        witnesses = [one for one in self.followers if one.home is not None]
        ends = [f"s{node.number}{n}" for node in self.nodes for n in range(SPEAKERS)]

        def missing():
            found = {one.label: sorted(set(ends) - one.ends) for one in self.followers}
            return {label: some for label, some in found.items() if some}
        await self.until(lambda: not missing(), lambda: f"the last messages: {missing()}", 40)
        epochs = {one.epoch for one in self.followers}
        self.audit.check(len(epochs) == 1, "the clients are in several epochs:", epochs)
        await self.until(self.members_agree, "the nodes to agree on members", 20)
        await self.histories_agree()
        lost = {}
        for node in self.nodes:
            # What was killed took its count with it.
            lost[node.number] = await node.lost() if not node.lives else None
            print(f"node{node.number}:", {k.removeprefix("wsgw_cluster_"): int(v) for k, v in sorted(
                (await node.server.metrics()).items()) if k.startswith("wsgw_cluster_")}, flush=True)
        self.settled.set()
        for task in tasks:
            await asyncio.wait_for(task, 60)
        harmless = not HARMS_STREAM & set(self.done) and {node.loss for node in self.nodes} == {"hold"}
        harmless &= self.options.bytes == BYTES
        self.audit.run(self.followers, witnesses, lost, harmless)
        if self.audit.problems:
            with open(self.dir / "heard.txt", "w") as heard:
                for one in self.followers:
                    heard.writelines(f"{one.label} {entry}\n" for entry in one.log)
        for node in self.nodes:
            node.server.proc.terminate()
            code = await asyncio.to_thread(node.server.proc.wait, 30)
            self.audit.check(code == 0, "node", node.number, "exit", code)
            self.audit.check("panicked" not in node.server.err(), node.server.err()[-3000:])

    async def members_agree(self):
        for room in ROOMS:
            want = sorted(one.conn for one in self.followers if room in one.rooms)
            for node in self.nodes:
                status, text = await node.server.http("GET", f"/v1/gateways/chat/channels/{room}")
                if status != 200 or sorted(json.loads(text)["members"]) != want:
                    self.members = (room, node.number, text[:400], want)
                    return False
        return True

    async def histories_agree(self):
        found = []
        for node in self.nodes:
            path = "/v1/gateways/chat/history?limit=1000000"
            status, text = await node.server.http("GET", path, timeout=60)
            self.audit.check(status == 200, "node", node.number, "history", status, text[:200])
            found.append({line["at"]: line for line in map(json.loads, text.splitlines())})
        if not all(found):
            return self.audit.check(not any(found), "histories that are empty:", [len(one) for one in found])
        # Some may know more of what is old.
        start = max(min(map(split, one)) for one in found)
        found = [{at: line for at, line in one.items() if split(at) >= start} for one in found]
        for number, one in enumerate(found[1:], 1):
            differ = sorted(at for at in one.keys() | found[0].keys() if one.get(at) != found[0].get(at))
            self.audit.check(not differ, "nodes 0 and", number, "have different histories at", len(differ),
                             "of", len(one), "positions:", differ[:10])

    def clean(self):
        for node in self.nodes:
            if node.server and node.server.proc.poll() is None:
                node.server.proc.send_signal(signal.SIGCONT)
                node.server.proc.kill()
                node.server.proc.wait()
        if self.nats:
            self.nats.kill()


def enter_own_network():
    """Runs this program once more, in a network namespace; as another user than root it stays here."""
    if INSIDE in os.environ:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        for n in range(NODES):
            subprocess.run(["ip", "addr", "add", f"10.77.0.{n + 1}/32", "dev", "lo"], check=True)
    elif os.geteuid() == 0:
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])
    else:
        print("SKIPPED: cutting a node off (only root may make a network namespace)", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=150, help="messages a second")
    parser.add_argument("--loss", choices=["local", "hold", "mixed"], default="mixed")
    parser.add_argument("--only", help="faults, by name and with commas")
    parser.add_argument("--together", type=float, default=0.3,
                        help="how many of the faults do not wait for the one before")
    parser.add_argument("--bytes", default=BYTES, help="what the stream may hold; with 1MiB much is evicted")
    parser.add_argument("--keep", action="store_true", help="leave the directory")
    options = parser.parse_args()
    enter_own_network()
    directory = Path(tempfile.mkdtemp(prefix="wsgw-nodes-"))
    print(f"seed {options.seed}, {options.seconds} s, {directory}", flush=True)

    async def run():
        chaos = Chaos(options, directory)
        try:
            await chaos.run()
        finally:
            print("done:", dict(sorted(chaos.done.items())), flush=True)
            chaos.clean()
        return chaos.audit

    audit = asyncio.run(run())
    for problem in audit.problems:
        print("FAILED:", problem)
    if audit.bad > len(audit.problems):
        print(f"{audit.bad} faults in all")
    print(audit.summary())
    if not options.keep and not audit.problems:
        shutil.rmtree(directory, ignore_errors=True)
    print("failed" if audit.problems else "passed", f"(seed {options.seed})")
    return 1 if audit.problems else 0


if __name__ == "__main__":
    sys.exit(main())
