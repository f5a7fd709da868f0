#!/usr/bin/env python3
"""Three harms at full length, each with an audit; `docs/robustness.md` has what came of them.

    tests/endurance/endurance.py kills      a minute in which each listener is killed 200 ms after its start
    tests/endurance/endurance.py stopped    a listener that is stopped for 60 s
    tests/endurance/endurance.py comeback   serve is killed under load, 9,000 clients come back at once

`kills` and `stopped` take --seconds, --rate (messages a second) and --tls, `comeback` --clients.
"""

import argparse
import asyncio
import contextlib
import os
import resource
import shutil
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from chaos import STABLE, Chaos  # noqa: E402
from client import Client  # noqa: E402
from server import Server  # noqa: E402

from harness import alive  # noqa: E402


class Kills(Chaos):
    """Each incarnation is killed 200 ms after it was first seen; nothing may be dropped."""

    async def faults(self):
        deadline, last = time.monotonic() + self.options.seconds, None
        while time.monotonic() < deadline:
            pid = await self.listener()
            if pid in (None, last):
                await asyncio.sleep(0.01)
                continue
            await asyncio.sleep(0.2)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.count("kill")
            last = pid

    async def settle(self, witnesses):
        await super().settle(witnesses)
        dropped = (await self.server.metrics()).get("wsgw_messages_dropped_total", 0)
        self.audit.check(not dropped, int(dropped), "messages were dropped")


class Stopped(Chaos):
    """The listener stands still. Nobody of those who read may be closed, and memory has a bound."""

    async def say(self, client, rng, mode=None, size=None):
        # All that waited comes at once when it goes on, and must fit into `max-queue` of a client.
        await super().say(client, rng, mode, rng.choice([0, 10, 100]) if size is None else size)

    async def faults(self):
        await asyncio.sleep(2)
        before, most = self.server.rss_kib(), 0
        pid = await self.harm(signal.SIGSTOP)
        deadline = time.monotonic() + self.options.seconds
        while time.monotonic() < deadline:
            most = max(most, self.server.rss_kib())
            await asyncio.sleep(0.1)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        print(f"memory: {before} KiB before, {most} KiB at most while it stood still", flush=True)
        # Eight are abused, each with a queue and messages of its own on top of what is shared.
        self.audit.check(most < before + 64 * 1024, "memory grew to", most, "KiB")
        await asyncio.sleep(2)


async def comeback(options, directory):
    """Exit without a problem: all are back, at the same port, and the old listener is gone."""
    config = """
[gateways.chat]
port = {port}
listener = ["cat"]
[gateways.side]
port = 0
"""
    problems, latencies = [], []
    first = Server(
        directory, directory / "log", config=config.format(port=0), files=options.clients + 500
    )
    await first.ready()
    port, pid = first.port("chat"), (await first.status())["listener_pid"]

    async def join(_number):
        begun = time.monotonic()
        client = await Client.open(port, "/", "crowd", lambda *_: None)
        latencies.append(time.monotonic() - begun)
        return client

    clients = []
    for start in range(0, options.clients, 500):
        clients += await asyncio.gather(
            *(join(n) for n in range(start, min(start + 500, options.clients)))
        )
    load = [asyncio.create_task(say(client)) for client in clients[:20]]
    await asyncio.sleep(2)
    first.proc.kill()
    first.proc.wait()
    killed = time.monotonic()
    for task in load:
        task.cancel()
    again = directory / "again"
    again.mkdir()
    second = Server(
        again, again / "log", config=config.format(port=port), files=options.clients + 500
    )
    await second.ready()
    ready = time.monotonic() - killed
    latencies.clear()
    begun = time.monotonic()
    back = await asyncio.gather(*(join(n) for n in range(options.clients)), return_exceptions=True)
    took = time.monotonic() - begun
    failed = [one for one in back if not isinstance(one, Client)]
    if failed:
        problems.append(f"{len(failed)} did not come back: {failed[0]!r}")
    open_ = (await second.status())["connections"]
    if open_ != options.clients:
        problems.append(f"{open_} are open")
    # It has read the end of its stdin, and may still have been writing when that came.
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    if alive(pid):
        problems.append(f"the old listener {pid} is still there")
    print(
        f"the port was bound again {ready * 1000:.0f} ms after the kill; {open_} clients were back in {took:.2f} s, "
        f"each within {statistics.median(latencies) * 1000:.0f} ms (median), {max(latencies) * 1000:.0f} ms (most)"
    )
    second.proc.terminate()
    if (code := await asyncio.to_thread(second.proc.wait, 60)) != 0:
        problems.append(f"exit {code}: {second.err()[-4000:]}")
    return problems


async def say(client):
    with contextlib.suppress(OSError):
        while not client.over:
            await client.send(b"load" * 10)
            await asyncio.sleep(0.2)


async def audited(kind, options, directory):
    chaos = kind(options, directory)
    try:
        await chaos.run()
    finally:
        print("done:", dict(sorted(chaos.done.items())), f"{STABLE} clients stayed", flush=True)
        chaos.clean()
    return chaos.audit.problems


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["kills", "stopped", "comeback"])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--clients", type=int, default=9000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tls", action="store_true", help="all clients by wss: kills, stopped")
    options = parser.parse_args()
    options.rate = options.rate or {"kills": 1000, "stopped": 200}.get(options.what)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    directory = Path(tempfile.mkdtemp(prefix="wsgw-endurance-"))
    try:
        if options.what == "comeback":
            problems = asyncio.run(comeback(options, directory))
        else:
            kind = {"kills": Kills, "stopped": Stopped}[options.what]
            problems = asyncio.run(audited(kind, options, directory))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    for problem in problems:
        print("FAILED:", problem)
    print("failed" if problems else "passed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
