#!/usr/bin/env python3
"""Resume: clients of `wsgw.v1` are cut in every way, and go on at their positions without a loss.

    tests/endurance/resume.py --seed 7 --seconds 300 --clients 1000 --rate 500 [--file] [--listener]

CLIENTS in one to three channels each are cut at random (--up: seconds between two cuts of one, on
average) while RATE messages a second are published: by the clients to their channels, by pushes to
one or several channels, and now and then to all. The gateway is restarted and reloaded meanwhile.
With --file the history is in a file, and `serve` is killed with SIGKILL and started again. With
--listener all goes through `cat`, which is killed, too. What is published and who is cut how follows
from the seed. At the end an audit: over all its connections
each client received exactly what went to its channels, once and in order; only where a channel's
history was really too small it was told so. Exits 1 with what did not hold.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from follower import Follower  # noqa: E402
from resume_audit import SMALL, Published, audit, in_the_file  # noqa: E402
from server import Server  # noqa: E402

from harness import free_port  # noqa: E402

#: Messages that a channel with a small history keeps, and each other.
LIMITS = (12, 50_000)

CONFIG = """
[gateways.chat]
port = {port}
channels = "query"
allow-channels = ["*"]
max-channels = 65536
route = "channels"
restart-delay-max = "100ms"
{listener}
[gateways.chat.history]
channels = {{ "*" = {large}, "{prefix}*" = {small} }}
broadcast = {large}
bytes = "1GiB"
{file}
"""


class Pushes:
    """One stream of pushes with a result for each."""

    def __init__(self, run, serial):
        self.run = run
        self.author = ("push", serial)
        self.waiting = deque()
        self.writer = None
        self.over = False

    @property
    def is_over(self):
        return self.over or self.writer.is_closing()

    async def open(self):
        server = self.run.server
        reader, self.writer = await asyncio.open_connection("127.0.0.1", server.control_port)
        self.writer.write(
            "POST /v1/gateways/chat/messages?results=each HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {server.token}\r\nContent-Type: application/x-ndjson\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode())
        self.task = asyncio.create_task(self.results(reader))

    async def results(self, reader):
        """Reads the results, in the order of the pushes."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head:
                return
            rest = b""
            while size := int(await reader.readline(), 16):
                *lines, rest = (rest + (await reader.readexactly(size + 2))[:-2]).split(b"\n")
                for line in lines:
                    key, result = self.waiting.popleft(), json.loads(line)
                    self.run.outcomes["error" in result].add(key)
                    if "error" in result:
                        self.run.count("push " + result["error"]["code"])
        except (OSError, EOFError, ValueError):
            pass
        finally:
            self.over = True
            self.run.count("unknown outcome", len(self.waiting))
            self.writer.close()

    def push(self, key, struct):
        line = json.dumps(struct).encode() + b"\n"
        self.waiting.append(key)
        self.writer.write(b"%x\r\n%s\r\n" % (len(line), line))

    async def end(self):
        self.writer.write(b"0\r\n\r\n")
        await asyncio.wait([self.task], timeout=30)


class Run:
    def __init__(self, options, directory):
        self.options = options
        self.dir = directory
        self.port = free_port()
        file = 'file = "history.db"' if options.file else ""
        listener = 'listener = ["cat"]' if options.listener else ""
        self.config = CONFIG.format(port=self.port, prefix=SMALL, small=LIMITS[0], large=LIMITS[1],
                                    file=file, listener=listener)
        self.server = None
        self.published, self.outcomes, self.handled = {}, (set(), set()), set()
        self.done, self.frames, self.events, self.latencies = {}, 0, [], []
        self.late = self.unsent = 0
        #: The number of the last message, once it is known.
        self.final = None
        self.problems = []

    def count(self, what, by=1):
        self.done[what] = self.done.get(what, 0) + by

    def record(self, *what):
        self.events.append((round(time.monotonic() - self.begun, 4), *what))

    def seen(self, key):
        """The witness has it."""
        self.latencies.append(time.monotonic() - self.published[key].sent_at)

    async def start(self):
        self.server = Server(self.dir, self.dir / "log", config=self.config,
                             files=2 * self.options.clients + 500, gateways=("chat",))
        await self.server.ready()

    # What is published.

    def plan(self):
        """What is published, in order: who (None: a push), and the channels of a push (None: all)."""
        rng = random.Random(f"{self.options.seed}:publish")
        while True:
            size = rng.choice([0, 10, 100, 300])
            if rng.random() < 0.6:
                yield rng.choice(self.followers), None, size
            elif rng.random() < 0.005:
                yield None, None, size
            else:
                yield None, rng.sample(self.channels, rng.choice([1, 1, 1, 2, 3])), size

    def publish(self, key, author, targets, size):
        text = f"{key}:{size}:{'p' * size}"
        if author is not None:
            targets = author.channels
            self.published[key] = Published(
                key, targets, (author.label, author.serial), time.monotonic())
            if author.say(text):
                self.count("said")
                return
        # Who is not here is stood in for by a push.
        stream = self.pushes
        if stream is None or stream.is_over:
            self.unsent += 1
            self.published.pop(key, None)
            return
        self.published[key] = Published(key, targets, stream.author, time.monotonic())
        struct = {"message": text}
        if targets is not None:
            struct["channel"] = targets if len(targets) > 1 else targets[0]
        stream.push(key, struct)
        self.count("pushed")

    async def publisher(self):
        plan, key = self.plan(), 0
        while (elapsed := time.monotonic() - self.begun) < self.options.seconds:
            due = int(elapsed * self.options.rate)
            self.late = max(self.late, (due - key) / self.options.rate)
            while key < due:
                self.publish(key, *next(plan))
                key += 1
            await self.open_pushes()
            await asyncio.sleep(0.01)
        return key

    async def open_pushes(self):
        if self.pushes is None or self.pushes.is_over:
            self.streams += 1
            stream = Pushes(self, self.streams)
            with contextlib.suppress(OSError):
                await stream.open()
                self.pushes = stream

    # Harm to the server.

    async def harm(self):
        rng = random.Random(f"{self.options.seed}:harm")
        names = ["restart", "reload", *(["kill"] * 4 if self.options.file else []),
                 *(["listener"] * 8 if self.options.listener else [])]
        every = self.options.every or max(self.options.seconds / 8, 1)
        while True:
            await asyncio.sleep(rng.uniform(0.5, 1.5) * every)
            name = rng.choice(names)
            self.count(name)
            self.record("serve", name)
            if name == "kill":
                self.server.proc.kill()
                await asyncio.to_thread(self.server.proc.wait)
                await asyncio.sleep(rng.choice([0, 0.5, 2]))
                await self.start()
            elif name == "listener":
                if pid := (await self.server.status())["listener_pid"]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            else:
                path = "/v1/gateways/chat/restart" if name == "restart" else "/v1/reload"
                status, text = await self.server.http("POST", path)
                if status != 200:
                    self.problems.append(f"{name}: {status} {text}")

    # The whole.

    async def run(self):
        loop = asyncio.get_running_loop()
        rng = random.Random(f"{self.options.seed}:channels")
        count = self.options.channels or max(self.options.clients // 5, 6)
        self.channels = sorted(f"{SMALL if n % 10 == 0 else 'c'}{n}" for n in range(count))
        self.followers = [
            Follower(self, f"f{n}", sorted(rng.sample(self.channels, rng.choice([1, 2, 3]))))
            for n in range(self.options.clients)]
        self.witness = Follower(self, "witness", self.channels, harmed=False)
        self.over_future = loop.create_future()
        self.begun = time.monotonic()
        await self.start()
        self.pushes, self.streams = None, 0
        await self.open_pushes()
        lives = [asyncio.create_task(self.witness.live())]
        await until(lambda: self.witness.is_here, lives)
        for start in range(0, len(self.followers), 100):
            lives += [asyncio.create_task(one.live()) for one in self.followers[start : start + 100]]
            group = self.followers[start : start + 100]
            await until(lambda group=group: all(one.accounts for one in group), lives)
        self.begun, self.cpu = time.monotonic(), time.process_time()
        harm = asyncio.create_task(self.harm())
        publisher = asyncio.create_task(self.publisher())
        await asyncio.wait([harm, publisher, *lives], return_when=asyncio.FIRST_COMPLETED)
        key = await publisher
        self.took, self.cpu = time.monotonic() - self.begun, time.process_time() - self.cpu
        await self.stop_harm(harm)
        self.over_future.set_result(None)
        await self.end(key, lives)

    async def stop_harm(self, harm):
        """Between two harms: `serve` is up again."""
        while self.server.proc.poll() is not None or self.pushes.is_over:
            await asyncio.sleep(0.05)
            await self.open_pushes()
        harm.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await harm

    async def end(self, key, lives):
        """A last message to all: who has it has all."""
        deadline = time.monotonic() + 60
        accepted, refused = self.outcomes
        while key not in accepted and time.monotonic() < deadline:
            # A restart may still be under way.
            key += 1
            await self.open_pushes()
            self.publish(key, None, None, 0)
            while key not in accepted | refused and not self.pushes.is_over:
                await asyncio.sleep(0.02)
        await self.pushes.end()
        keys = self.witness.accounts[0].keys
        while not (keys and keys[-1] == key) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        self.final = self.witness.number
        await asyncio.wait(lives, timeout=60)
        for one, task in zip((self.witness, *self.followers), lives):
            if not task.done():
                one.wrong("is at", one.number, "and not at", self.final, "although all is over")
                task.cancel()
            elif task.exception():
                raise task.exception()
        self.server.proc.terminate()
        code = await asyncio.to_thread(self.server.proc.wait, 60)
        if code != 0 or "panicked" in self.server.err():
            self.problems.append(f"serve exited with {code}: {self.server.err()[-4000:]}")
        must, must_not = self.outcomes
        said = {key for key, entry in self.published.items() if entry.author in self.handled}
        self.problems += audit(
            self.witness, self.followers, self.published, (must | said, must_not), LIMITS)
        if self.options.file and len(self.witness.accounts) == 1:
            self.problems += in_the_file(
                self.dir / "history.db", self.witness, self.published, LIMITS)

    def summary(self):
        latency = sorted(self.latencies) or [0]
        done = ", ".join(f"{what} {n}" for what, n in sorted(self.done.items()))
        published = len(self.witness.accounts[0].keys) if self.witness.accounts else 0
        return (
            f"{self.options.clients} clients, {self.took:.0f} s: {published} messages published "
            f"({published / self.took:.0f} a second, {self.unsent} could not be sent), "
            f"{self.frames} received ({self.frames / self.took:.0f} a second); {done}; to the witness "
            f"{statistics.median(latency) * 1000:.1f} ms (median), "
            f"{latency[len(latency) * 99 // 100] * 1000:.0f} ms (99 of 100); the clients used "
            f"{self.cpu / self.took * 100:.0f} % of a core, the publisher was late by "
            f"{self.late * 1000:.0f} ms at most")

    def close(self):
        if self.server and self.server.proc.poll() is None:
            self.server.proc.kill()
            self.server.proc.wait()
        with open(self.dir / "record.jsonl", "w") as file:
            for event in self.events:
                file.write(json.dumps(event) + "\n")
            for entry in self.published.values():
                file.write(json.dumps(
                    [round(entry.sent_at - self.begun, 4), entry.author, entry.key, entry.targets])
                    + "\n")


async def until(check, tasks):
    """Waits for it as long as none of the tasks fails."""
    while not check():
        for task in tasks:
            if task.done():
                task.result()
        await asyncio.sleep(0.01)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=500, help="messages a second")
    parser.add_argument("--channels", type=int, help="a fifth of the clients")
    parser.add_argument("--up", type=float, default=8, help="seconds from cut to cut of one client")
    parser.add_argument("--every", type=float, help="seconds from harm to harm of the server")
    parser.add_argument("--file", action="store_true", help="history in a file, and kill serve")
    parser.add_argument("--listener", action="store_true", help="all goes through cat")
    parser.add_argument("--keep", action="store_true", help="leave the directory with the record")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    directory = Path(tempfile.mkdtemp(prefix="wsgw-resume-"))
    run = Run(options, directory)
    try:
        asyncio.run(run.run())
    finally:
        run.close()
    print(run.summary())
    for problem in run.problems[:40]:
        print("FAILED:", problem)
    if run.problems or options.keep:
        print("the record is", directory / "record.jsonl")
    else:
        shutil.rmtree(directory, ignore_errors=True)
    print("failed" if run.problems else "passed", f"(seed {options.seed})")
    return 1 if run.problems else 0


if __name__ == "__main__":
    sys.exit(main())
