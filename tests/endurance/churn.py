#!/usr/bin/env python3
"""Churn: connections come, speak and go, one crowd after another, and the memory of `serve` is watched.

    tests/endurance/churn.py --seconds 3600 --svg churn.svg [--rate 100] [--crowd 1000]

RATE connections a second come one by one, speak for a few seconds and leave, in every way there is;
once a minute a crowd comes and goes at once; the listener (`cat`) is killed every 20 s, and a push
goes to everybody each second. At the end the level of memory, descriptors and threads must be that
of the first quarter. Exits 1 if it is not, or if a message went without its answer.
"""

import argparse
import asyncio
import contextlib
import os
import random
import resource
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from client import Client, Refused  # noqa: E402
from server import Server  # noqa: E402

CONFIG = """
[defaults]
restart-delay-max = "100ms"
[gateways.chat]
port = 0
listener = ["cat"]
route = "sender"
ping-interval = "2s"
[gateways.side]
port = 0
"""


class Churn:
    def __init__(self, options, directory):
        self.options = options
        self.server = Server(directory, directory / "log", config=CONFIG, files=20_000)
        self.random = random.Random(options.seed)
        self.opened = self.answered = self.unanswered = self.refused = 0
        self.samples = []
        self.tasks = set()

    def spawn(self, coroutine):
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def visitor(self, messages, stay):
        answers = []
        try:
            client = await Client.open(
                self.server.port("chat"),
                "/churn",
                "v",
                lambda _, opcode, payload: answers.append(payload),
            )
        except (Refused, OSError, asyncio.TimeoutError):
            self.refused += 1
            return
        self.opened += 1
        fate = self.random.choice(["leave", "leave", "leave", "reset", "half", "torn", "silent"])
        for number in range(messages):
            size = self.random.choice([10, 100, 1000, 20_000])
            await client.send(b"%d " % number + b"x" * size)
            await asyncio.sleep(self.random.uniform(0, 2 * stay / messages))
        if fate == "leave":
            # Its own messages come back; a push has no number of its own.
            deadline = time.monotonic() + 30
            while (
                got := sum(a[:4] != b"push" for a in answers)
            ) < messages and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
            self.answered += got
            self.unanswered += messages - got
            with contextlib.suppress(asyncio.TimeoutError):
                await client.leave()
        elif fate == "reset":
            client.reset()
        elif fate == "half":
            client.half_close()
            await asyncio.sleep(stay)
            client.reset()
        elif fate == "torn":
            client.torn()
        else:
            client.stall()
            await asyncio.sleep(stay)
            client.transport.abort()

    async def arrivals(self):
        while True:
            self.spawn(self.visitor(self.random.randrange(1, 5), self.random.uniform(0.5, 3)))
            await asyncio.sleep(self.random.expovariate(self.options.rate))

    async def crowds(self):
        while True:
            await asyncio.sleep(min(60, self.options.seconds / 4))
            for _ in range(self.options.crowd):
                self.spawn(self.visitor(1, 2))

    async def harm(self):
        while True:
            await asyncio.sleep(min(20, self.options.seconds / 4))
            pid = (await self.server.status())["listener_pid"]
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    async def pushes(self):
        while True:
            await asyncio.sleep(1)
            status, text = await self.server.http(
                "POST", "/v1/gateways/chat/messages", b'{"message":"push"}'
            )
            assert status == 200, (status, text)

    async def watch(self, begun):
        while True:
            await asyncio.sleep(min(10, self.options.seconds / 20))
            connections = (await self.server.status())["connections"]
            now = (
                round(time.monotonic() - begun),
                connections,
                self.opened,
                self.server.rss_kib(),
                sum(self.server.descriptors().values()) - connections,
                self.server.threads(),
            )
            self.samples.append(now)
            print(
                "{:6} s {:6} open {:8} came {:8} KiB {:4} descriptors {:3} threads".format(*now),
                flush=True,
            )

    async def run(self):
        await self.server.ready()
        begun = time.monotonic()
        parts = [
            asyncio.create_task(part)
            for part in (
                self.arrivals(),
                self.crowds(),
                self.harm(),
                self.pushes(),
                self.watch(begun),
            )
        ]
        done, _ = await asyncio.wait(
            parts, timeout=self.options.seconds, return_when=asyncio.FIRST_COMPLETED
        )
        for part in parts:
            part.cancel()
        for part in done:
            part.result()
        while self.tasks:
            await asyncio.wait(self.tasks, timeout=60)
        metrics = await self.server.metrics()
        return self.verdict(metrics)

    def verdict(self, metrics):
        quarter = len(self.samples) // 4
        early, late = self.samples[quarter : 2 * quarter], self.samples[-quarter:]

        def level(samples, column):
            return statistics.median(sample[column] for sample in samples)

        memory, then = level(late, 3), level(early, 3)
        print(
            f"{self.opened} connections came, {self.refused} were refused; of the polite ones' messages "
            f"{self.answered} were answered, {self.unanswered} not; the listener was started again "
            f"{metrics['wsgw_listener_restarts_total']:.0f} times"
        )
        print(
            f"memory {then:.0f} KiB in the second quarter, {memory:.0f} KiB in the last; "
            f"at most {max(s[3] for s in self.samples)} KiB"
        )
        wrong = []
        if memory > then * 1.05 + 2048:
            wrong.append("memory grew")
        if level(late, 4) > level(early, 4) + 5:
            wrong.append("descriptors grew")
        if level(late, 5) > level(early, 5) + 1:
            wrong.append("threads grew")
        if self.unanswered:
            wrong.append("messages without an answer")
        if self.refused:
            wrong.append("connections were refused")
        if self.options.svg:
            Path(self.options.svg).write_text(self.svg())
        return wrong

    def svg(self):
        """Memory over time, the y axis from zero."""
        width, height, left, bottom = 720, 220, 50, 36
        end, top = self.samples[-1][0], max(s[3] for s in self.samples) / 1024 * 1.15

        def x(seconds):
            return left + seconds / end * (width - left - 20)

        def y(mib):
            return 20 + (1 - mib / top) * (height - 20 - bottom)

        out = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            'font-family="sans-serif" font-size="10" fill="#444"><rect width="100%" height="100%" fill="#fff"/>'
            f'<text x="{left}" y="14" font-weight="bold">MiB resident, while {self.opened} connections '
            "came and went</text>"
        ]
        for step in range(5):
            out.append(
                f'<path d="M{left} {y(top * step / 4):.1f}H{width - 20}" stroke="#ddd"/><text x="{left - 4}" '
                f'y="{y(top * step / 4) + 3:.1f}" text-anchor="end">{top * step / 4:.1f}</text>'
            )
            out.append(
                f'<text x="{x(end * step / 4):.1f}" y="{height - bottom + 14}" text-anchor="middle">'
                f"{end * step / 240:.0f} min</text>"
            )
        points = " ".join(f"{x(s[0]):.1f},{y(s[3] / 1024):.1f}" for s in self.samples)
        out.append(
            f'<polyline points="{points}" fill="none" stroke="#06c" stroke-width="1.5"/></svg>\n'
        )
        return "\n".join(out)

    def close(self):
        self.server.proc.terminate()
        return self.server.proc.wait(30)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--crowd", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--svg", metavar="FILE")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="wsgw-churn-") as directory:
        churn = Churn(options, Path(directory))
        try:
            wrong = asyncio.run(churn.run())
        finally:
            status = churn.close()
        if status != 0:
            wrong.append(f"serve exited with {status}: {churn.server.err()[-4000:]}")
    print("passed" if not wrong else "FAILED: " + "; ".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
