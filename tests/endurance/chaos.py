#!/usr/bin/env python3
"""Chaos: a gateway under load whose listener, clients, disk and descriptors are harmed at random.

    tests/endurance/chaos.py --seed 7 --seconds 60 [--rate 300] [--only kill,stop,…] [--tls] [--keep]

What is done and when follows from the seed. The listener also puts connections into rooms and sends
messages to these, and some clients, of WebSockets and of streams, are cut and resume at their
position. At the end an audit: every message of a client reached each connection it was for exactly
once, or was counted as dropped; all connections saw one order; who was in a room got what was sent to
it, others did not; who resumed missed nothing; opens and closes balance, and so do joins and leaves;
no process, descriptor or thread is left. Exits 1 with what did not hold.
"""

import argparse
import asyncio
import contextlib
import ctypes
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from audit import Audit, Seen, whole  # noqa: E402
from client import Client, Refused  # noqa: E402
from resumer import Resumer  # noqa: E402
from rooms import KEYS, LOBBY, ROOMS, query  # noqa: E402
from server import FILES, Server  # noqa: E402

from harness import children, group_members  # noqa: E402

STABLE, WITNESSES, ABUSED, SIDE, RESUMERS = 6, 2, 8, 3, 6
#: To a room, and joining or leaving one (with a message to all).
IN_ROOMS = ["to", "to", "join", "leave"]
MODES = ["all", "all", "all", "others", "self", "deny", *IN_ROOMS]


def mount(directory):
    """A small disk that can be filled; false where this user may not mount one."""
    libc = ctypes.CDLL(None, use_errno=True)
    directory.mkdir()
    # In a namespace of our own: however this ends, the mount ends with it.
    new_mounts, private = 0x00020000, 0x4000 | 0x40000
    if libc.unshare(new_mounts) != 0 or libc.mount(b"none", b"/", None, private, None) != 0:
        return False
    return libc.mount(b"tmpfs", str(directory).encode(), b"tmpfs", 0, b"size=16m") == 0


class Chaos:
    def __init__(self, options, directory):
        self.options = options
        self.dir = directory
        self.log_dir = directory / "log"
        self.has_disk = mount(self.log_dir)
        if not self.has_disk:
            print("SKIPPED: a full disk (only root may mount a small one)", flush=True)
        self.audit = Audit()
        self.server = Server(directory, self.log_dir, KEYS, tls=options.tls)
        self.sent, self.modes, self.sizes, self.seen = {}, {}, {}, []
        self.pushes = {}
        self.done = {}
        self.over = asyncio.Event()
        self.turn = 0
        self.background = set()

    def rng(self, who):
        return random.Random(f"{self.options.seed}:{who}")

    def count(self, what):
        self.done[what] = self.done.get(what, 0) + 1

    def spawn(self, coroutine):
        task = asyncio.create_task(coroutine)
        self.background.add(task)
        task.add_done_callback(self.background.discard)
        return task

    # Clients.

    async def connect(self, label, narrow=False):
        seen = Seen(label)

        def note(_client, _opcode, payload):
            parts = payload.decode().split(":", 4)
            key = (parts[1], int(parts[2])) if parts[0] == "M" else ("push", int(parts[1]))
            if key not in self.modes or parts[0] == "M" and not whole(parts):
                seen.broken.append(payload[:60])
            seen.keys.append(key)

        rooms = self.rng(f"{label} rooms").sample(ROOMS, 2)
        seen.rooms = ROOMS if label.startswith("witness") else rooms
        path = f"/{label}?{query(seen.rooms)}"
        client = await Client.open(
            self.server.port("chat"), path, label, note, narrow, self.options.tls)
        self.seen.append(seen)
        self.sent[label] = 0
        client.seen = seen
        return client

    async def say(self, client, rng, mode=None, size=None):
        # Two may speak for one client: from here to its write, nobody comes between.
        while not client.may_write.is_set():
            await client.may_write.wait()
        label, number = client.label, self.sent[client.label]
        mode = mode or rng.choice(MODES)
        if mode in IN_ROOMS:
            mode += "-" + rng.choice(ROOMS)
        size = size if size is not None else rng.choice([0, 10, 100, 1000, 4000])
        self.sent[label] += 1
        self.modes[label, number], self.sizes[label, number] = mode, size
        text = f"M:{label}:{number}:{mode}:{size}:{'p' * size}"
        await client.send(text.encode(), binary=rng.random() < 0.2)

    async def stable(self, client):
        rng = self.rng(client.label)
        pause = STABLE / self.options.rate
        while not self.over.is_set():
            await self.say(client, rng)
            await asyncio.sleep(rng.expovariate(1 / pause))

    async def abused(self, number):
        """One client after another, each with its own bad end."""
        rng = self.rng(f"abused{number}")
        turn = 0
        while not self.over.is_set():
            label = f"abused{number}-{turn}"
            turn += 1
            fate = rng.choice(["leave", "reset", "half", "torn", "stall", "stall-leave"])
            count = rng.randrange(0, 25)
            try:
                client = await self.connect(label, narrow=fate.startswith("stall"))
            except (Refused, OSError, asyncio.TimeoutError):
                # Descriptors are out, or the gateway is behind: that is said, not hung.
                self.count("refused")
                await asyncio.sleep(0.2)
                continue
            if fate.startswith("stall"):
                client.stall()
            for _ in range(count):
                await self.say(client, rng)
                await asyncio.sleep(rng.uniform(0, 0.03))
            self.count(fate)
            if fate == "leave":
                with contextlib.suppress(asyncio.TimeoutError):
                    await client.leave()
            elif fate == "reset":
                client.reset()
            elif fate == "half":
                client.half_close()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(asyncio.shield(client.ended), 5)
            elif fate == "torn":
                client.torn()
            else:
                await asyncio.sleep(rng.choice([0.5, 2, 6]))
                if fate == "stall-leave":
                    client.go_on()
                    with contextlib.suppress(asyncio.TimeoutError):
                        await client.leave()
            client.transport.abort()

    async def side(self, number):
        """On the gateway that is restarted: what comes back, comes in order and once."""
        rng = self.rng(f"side{number}")
        while not self.over.is_set():
            expected = [0]

            def note(_client, _opcode, payload, expected=expected):
                self.audit.check(int(payload) == expected[0], "side: got", payload, "instead of",
                                 expected[0])
                expected[0] += 1

            try:
                client = await Client.open(
                    self.server.port("side"), "/", "side", note, tls=self.options.tls)
            except (Refused, OSError, asyncio.TimeoutError):
                await asyncio.sleep(0.1)
                continue
            sent = 0
            while not self.over.is_set() and not client.over:
                await client.send(str(sent).encode())
                sent += 1
                await asyncio.sleep(rng.uniform(0, 0.05))
            with contextlib.suppress(asyncio.TimeoutError):
                await client.leave()

    async def pusher(self):
        rng = self.rng("push")
        waiting, number = set(), 0
        while not self.over.is_set():
            if len(waiting) < 20:
                task = asyncio.create_task(self.push(number, rng.random() < 0.1, rng.random() / 50))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
                number += 1
            await asyncio.sleep(rng.expovariate(20))
        if waiting:
            await asyncio.wait(waiting, timeout=90)

    async def push(self, number, leaves, after):
        self.modes["push", number], self.sizes["push", number] = "all", 10
        body = json.dumps({"message": f"P:{number}", "n": number}).encode()
        self.pushes[number] = None
        request = self.server.http("POST", "/v1/gateways/chat/messages", body)
        try:
            if leaves:
                await asyncio.wait_for(request, after)
            else:
                status, text = await request
                self.pushes[number] = status
                if status == 200:
                    outcome = json.loads(text)
                    self.audit.check(outcome["delivered"] >= STABLE, "push", number, text)
        except (OSError, asyncio.TimeoutError, ValueError, IndexError):
            self.count("push aborted")

    # Faults.

    async def listener(self):
        status = await self.server.status()
        return status["listener_pid"]

    async def harm(self, number):
        pid = await self.listener()
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return pid

    async def fault_kill(self, _rng):
        await self.harm(signal.SIGKILL)

    async def fault_term(self, _rng):
        await self.harm(signal.SIGTERM)

    async def fault_close_stdout(self, _rng):
        await self.harm(signal.SIGUSR1)

    async def fault_half_an_answer(self, _rng):
        await self.harm(signal.SIGUSR2)

    async def fault_stop(self, rng):
        pid = await self.harm(signal.SIGSTOP)
        await asyncio.sleep(rng.uniform(0.1, 1.5))
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    async def fault_slow(self, rng):
        slow = self.dir / "slow"
        slow.write_text(str(rng.choice([0.001, 0.005, 0.02])))
        await asyncio.sleep(rng.uniform(0.2, 1))
        # Another one may have ended before.
        slow.unlink(missing_ok=True)

    async def fault_restart_listener(self, _rng):
        await self.server.http("POST", "/v1/gateways/chat/restart?listener=true")

    async def fault_reload(self, rng):
        self.turn += rng.randrange(2)
        self.server.write_config(window=rng.choice([1, 8, 64, 256]), listener_turn=self.turn)
        await self.server.http("POST", "/v1/reload")

    async def fault_restart_side(self, _rng):
        status, text = await self.server.http("POST", "/v1/gateways/side/restart")
        self.audit.check(status == 200, "restart of side:", status, text)

    async def fault_descriptors(self, rng):
        """No client can come any more; those that are there go on, and so does the control port."""
        port, held = self.server.port("chat"), []
        try:
            for _ in range(FILES):
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
                held.append(one)
            await asyncio.sleep(rng.uniform(0.2, 1))
            started = time.monotonic()
            await self.server.status()
            self.audit.check(time.monotonic() - started < 5, "the control port was held up")
        finally:
            for one in held:
                one.close()

    async def fault_disk(self, rng):
        if not self.has_disk:
            return
        fill = self.log_dir / "fill"
        with contextlib.suppress(OSError), open(fill, "wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 65536)
        await asyncio.sleep(rng.uniform(0.2, 1))
        fill.unlink(missing_ok=True)

    async def fault_burst(self, rng):
        """Enough to fill the queue of one that does not read."""
        for _ in range(40):
            await self.say(self.clients[0], rng, "all", 60_000)

    async def fault_poison(self, rng):
        """A message that no incarnation survives; the others stay."""
        await self.say(self.clients[1], rng, "poison", 10)

    async def faults(self):
        rng = self.rng("faults")
        every = {name[6:]: getattr(self, name) for name in dir(self) if name.startswith("fault_")}
        names = self.options.only.split(",") if self.options.only else sorted(every)
        weights = [{"kill": 10, "poison": 1}.get(name, 4) for name in names]
        deadline = time.monotonic() + self.options.seconds
        while time.monotonic() < deadline:
            await asyncio.sleep(rng.uniform(0.05, 0.6))
            (name,) = rng.choices(names, weights)
            self.count(name)
            # Some come on top of each other.
            task = self.spawn(every[name](random.Random(rng.random())))
            if rng.random() < 0.6:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(asyncio.shield(task), 15)
        while self.background:
            await asyncio.wait(set(self.background), timeout=90)

    # The whole.

    async def until(self, check, what, seconds=60):
        deadline = time.monotonic() + seconds
        while True:
            value = check()
            value = await value if asyncio.iscoroutine(value) else value
            if value:
                return value
            if time.monotonic() > deadline:
                self.audit.check(False, "waited in vain for", what() if callable(what) else what)
                return None
            await asyncio.sleep(0.05)

    async def run(self):
        server = self.server
        await server.ready()
        await self.until(self.listener, "the listener")
        base = await self.at_rest()
        witnesses = [await self.connect(f"witness{n}") for n in range(WITNESSES)]
        self.clients = [await self.connect(f"stable{n}") for n in range(STABLE)]
        self.resumers = [Resumer(self, n) for n in range(RESUMERS)]
        work = [asyncio.create_task(c) for c in (
            *(one.live() for one in self.resumers),
            *(self.stable(client) for client in self.clients),
            *(self.abused(n) for n in range(ABUSED)),
            *(self.side(n) for n in range(SIDE)),
            self.pusher(),
        )]
        faults = asyncio.create_task(self.faults())
        await asyncio.wait([faults, *work], return_when=asyncio.FIRST_COMPLETED)
        self.over.set()
        for task in (faults, *work):
            await task
        await self.settle(witnesses)
        await self.end(base, witnesses)

    def held(self):
        """Descriptors by kind, threads and children of `serve`."""
        held = {**self.server.descriptors(), "threads": self.server.threads()}
        return {**held, "children": len(children(self.server.pid))}

    async def at_rest(self):
        """What it holds while nobody is there."""
        before = None
        while before != (before := self.held()):
            # Long enough for the end of a request to the control port.
            await asyncio.sleep(0.3)
        return before

    async def settle(self, witnesses):
        """All that is owed comes; then the books have to balance."""
        server, labels = self.server, {c.label for c in self.clients}

        async def balance():
            status, metrics = await server.status(), await server.metrics()
            queued = metrics["wsgw_listener_queue_events"] + metrics["wsgw_listener_unanswered_events"]
            return status["listener"] == "up" and not queued
        await self.until(balance, "the end of the queue")
        for client in (*witnesses, *self.clients):
            self.audit.check(not client.over, client.label, "was closed with", client.close_code)
        metrics = await server.metrics()
        dropped = int(metrics.get("wsgw_messages_dropped_total", 0))
        received = int(metrics["wsgw_messages_received_total"])
        witness = witnesses[0].seen
        taken = {}

        def books():
            denied = self.audit_journal_denied()
            seen = sum(1 for key in witness.keys if key[0] != "push")
            taken.update(denied=len(denied), seen=seen)
            return 0 <= received - seen - len(denied) <= dropped
        await self.until(books, lambda: f"{received} received = {taken} + {dropped} dropped", 20)
        for one in self.resumers:
            await self.until(lambda one=one: one.has_all(witness.keys, self.modes),
                             f"{one.label} to have all", 20)
            one.audit(witness.keys, self.modes)
        await self.until(self.all_in_the_lobby, "all clients to be in the lobby", 20)
        missing = self.audit.messages(self.seen, witness, self.sent, labels, self.modes)
        self.audit.check(len(missing) <= dropped, len(missing), "messages are missing,", dropped,
                         "were counted as dropped:", missing[:5])
        poison = sum(1 for key in missing if self.modes[key] == "poison")
        self.audit.check(poison == self.done.get("poison", 0), poison, "poisonous ones were dropped")
        if dropped and not self.has_disk:
            self.audit.check("dropped" in self.log(), "what was dropped was not logged")
        got = {key[1] for key in witness.keys if key[0] == "push"}
        for number, status in self.pushes.items():
            if status == 200:
                self.audit.check(number in got, "push", number, "was answered and not sent")
            elif status is not None:
                self.audit.check(number not in got, "push", number, "was refused with", status,
                                 "and sent")
                self.count(f"push {status}")
        faults = int(metrics.get("wsgw_listener_faults_total", 0))
        restarts = int(metrics["wsgw_listener_restarts_total"])
        print(f"received {received}, seen {taken}, dropped {dropped}, pushes {len(self.pushes)}, "
              f"restarts {restarts}, faults {faults}, "
              f"slow consumers {int(metrics['wsgw_slow_consumers_total'])}, rss {server.rss_kib()} KiB", flush=True)

    async def all_in_the_lobby(self):
        """The listener puts everybody there, whichever incarnation was told of an open."""
        _, text = await self.server.http("GET", f"/v1/gateways/chat/channels/{LOBBY}")
        return json.loads(text).get("count") == (await self.server.status())["connections"]

    def audit_journal_denied(self):
        denied = set()
        for line in self.server.journal.read_text().splitlines():
            for event in json.loads(line)["events"]:
                if ":deny:" in event.get("message", ""):
                    label, number = event["message"].split(":")[1:3]
                    denied.add((label, int(number)))
        return denied

    def log(self):
        return "".join(path.read_text() for path in sorted(self.log_dir.glob("WebSocket*")))

    async def end(self, base, witnesses):
        server = self.server
        for client in (*witnesses, *self.clients, *(one.client for one in self.resumers)):
            await client.leave()

        async def empty():
            return (await server.status())["connections"] == 0
        await self.until(empty, "the end of all connections")

        def told():
            last, open_ = None, set()
            for line in server.journal.read_text().splitlines():
                batch = json.loads(line)
                if batch["pid"] != last:
                    last, open_ = batch["pid"], set()
                for event in batch["events"]:
                    if event["event"] == "onClientOpen":
                        open_.add(event["conn"])
                    elif event["event"] == "onClientClose":
                        open_.discard(event["conn"])
            return not open_
        await self.until(told, "the listener to be told of all ends", 20)
        counts = self.audit.journal(server.journal, self.sent)
        print(f"incarnations {counts[1]}, connections told {counts[2]}, closes told {counts[3]}, "
              f"joins and leaves told {self.audit.told}")

        def as_before():
            now = self.held()
            return all(n <= base.get(kind, 0) for kind, n in now.items())
        await self.until(as_before, lambda: f"{base}, is {self.held()}", 30)
        pids = {json.loads(line)["pid"] for line in server.journal.read_text().splitlines()}
        pids |= set(children(server.pid))
        server.proc.terminate()
        code = await asyncio.to_thread(server.proc.wait, 30)
        self.audit.check(code == 0, "exit", code, server.err()[-4000:])
        self.audit.check("panicked" not in server.err()[-4000:], server.err()[-4000:])
        left = [pid for pid in pids if group_members(pid)]
        self.audit.check(not left, "processes are left:", left)

    def clean(self):
        if self.server.proc.poll() is None:
            self.server.proc.kill()
            self.server.proc.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=300, help="messages a second")
    parser.add_argument("--only", help="faults, by name and with commas")
    parser.add_argument("--tls", action="store_true", help="all clients by wss")
    parser.add_argument("--keep", action="store_true", help="leave the directory")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="wsgw-chaos-"))
    print(f"seed {options.seed}, {options.seconds} s, {directory}", flush=True)

    async def run():
        chaos = Chaos(options, directory)
        try:
            await chaos.run()
        finally:
            print("done:", dict(sorted(chaos.done.items())), flush=True)
            if options.keep:
                (directory / "log.txt").write_text(chaos.log())
            chaos.clean()
        return chaos.audit.problems

    problems = asyncio.run(run())
    for problem in problems:
        print("FAILED:", problem)
    if not options.keep:
        shutil.rmtree(directory, ignore_errors=True)
    print("failed" if problems else "passed", f"(seed {options.seed})")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
