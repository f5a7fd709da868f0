"""A client that is cut again and again, and resumes where it was."""

import asyncio
import contextlib
import json
import random
import sys
from array import array
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from client import Client, Refused  # noqa: E402

from harness import encode_frame  # noqa: E402

#: How a connection ends, or stops for a while (`stall-on`).
FATES = ["close", "reset", "fin", "half", "torn", "stall", "stall-on", "replay", "handshake"]


class Account:
    """What a follower received between two points at which it lost its place."""

    def __init__(self, start):
        #: The number of the position from which on it must have everything.
        self.start = start
        self.numbers = array("Q")
        self.keys = array("Q")
        #: Why and where it ended: the position that was not recovered, and the one it got instead.
        self.lost = None

    @property
    def end(self):
        return self.numbers[-1] if self.numbers else self.start


class Follower:
    """One client over all its connections. `run` has what all share: see `resume.Run`."""

    def __init__(self, run, label, channels, harmed=True):
        self.run = run
        self.label = label
        self.channels = channels
        self.mine = set(channels)
        self.harmed = harmed
        self.rng = random.Random(f"{run.options.seed}:{label}")
        self.accounts = []
        self.epoch = None
        self.number = None
        self.client = None
        self.gave = None
        self.serial = 0
        self.cut_after = None
        self.moved = asyncio.Event()
        self.problems = []

    # What comes.

    def wrong(self, *what):
        if len(self.problems) < 5:
            self.problems.append(" ".join(str(w) for w in (self.label, *what)))

    def note(self, client, opcode, payload):
        if client is not self.client and self.client is not None:
            return
        frame = json.loads(payload)
        if opcode != 1:
            self.wrong("got a binary message")
        elif "hello" in frame:
            self.hello(client, frame)
        elif "message" in frame:
            self.message(frame)
        else:
            self.wrong("got", payload[:100])
        if self.cut_after is not None:
            self.cut_after -= 1
            if self.cut_after < 0:
                client.reset()
                self.cut_after = None

    def hello(self, client, frame):
        if client.greeted:
            self.wrong("was greeted twice:", frame)
        client.greeted = True
        epoch, _, number = frame["at"].partition("-")
        number = int(number)
        if frame["channels"] != self.channels:
            self.wrong("is in", frame["channels"], "instead of", self.channels)
        recovered = frame.get("recovered")
        if self.gave is None:
            if recovered is not None:
                self.wrong("was told recovered", recovered, "without a position")
            self.accounts.append(Account(number))
        elif recovered is True:
            self.run.count("recovered")
            if frame["at"] != self.gave:
                self.wrong("gave", self.gave, "and was told", frame["at"])
        elif recovered is False:
            self.run.count("not recovered")
            self.run.record(self.label, "lost", self.gave, frame["at"])
            self.accounts[-1].lost = (self.number, number)
            self.accounts.append(Account(number))
        else:
            self.wrong("gave", self.gave, "and was told nothing:", frame)
        if self.epoch not in (None, epoch):
            self.wrong("saw another epoch:", epoch, "after", self.epoch)
        self.epoch, self.number = epoch, number
        self.moved.set()

    def message(self, frame):
        at = frame.get("at")
        key, size, padding = frame["message"].split(":", 2)
        if at is None or not at.startswith(self.epoch + "-"):
            self.wrong("got a message with the position", at, "in the epoch", self.epoch)
            return
        number, key = int(at[9:]), int(key)
        if number <= self.number:
            self.wrong("got", at, "after", self.number)
        if int(size) != len(padding):
            self.wrong("got a message of another size:", at)
        entry = self.run.published.get(key)
        if entry is None:
            self.wrong("got", frame["message"][:20], "which nobody published")
        elif frame.get("channel") != entry.first_of(self.mine):
            self.wrong("got", at, "by", frame.get("channel"), "of", entry.targets)
        account = self.accounts[-1]
        account.numbers.append(number)
        account.keys.append(key)
        self.number = number
        self.run.frames += 1
        if not self.harmed:
            self.run.seen(key)
        self.moved.set()

    # What it does.

    @property
    def is_here(self):
        client = self.client
        return client is not None and client.greeted and not client.over and not client.away

    def path(self):
        query = "&".join(f"channel={name}" for name in self.channels)
        self.gave = None if self.number is None else f"{self.epoch}-{self.number}"
        return f"/?{query}" + (f"&since={self.gave}" if self.gave else "")

    async def connect(self):
        """The next connection, with its hello; False if it did not come to that."""
        self.client = None
        path = self.path()
        self.moved.clear()
        try:
            client = await Greeted.open(
                self.run.port, path, self.label, self.note,
                headers="Sec-WebSocket-Protocol: wsgw.v1\r\n")
        except (Refused, OSError, asyncio.TimeoutError):
            self.run.count("refused")
            return False
        self.client = client
        self.serial += 1
        self.run.count("connected")
        while not client.greeted and not client.over:
            await self.moved_or_over(client, 30)
        return client.greeted

    async def moved_or_over(self, client, seconds):
        self.moved.clear()
        waits = [asyncio.ensure_future(self.moved.wait()), client.ended]
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        waits[0].cancel()

    async def live(self):
        """Connects, is cut, waits, connects again, until it has all that was published."""
        while not self.has_all:
            if not self.is_here and not await self.connect():
                await asyncio.sleep(self.rng.uniform(0.05, 0.3))
                continue
            if self.run.over_future.done():
                await self.moved_or_over(self.client, 0.5)
                continue
            if not self.harmed:
                await self.until_over_or_ended(3600)
                continue
            if await self.until_over_or_ended(self.rng.expovariate(1 / self.run.options.up)):
                continue
            fate = self.rng.choice(FATES)
            self.run.count(fate)
            self.run.record(self.label, fate, self.number)
            await getattr(self, "fate_" + fate.replace("-", "_"))(self.client)
            if fate != "stall-on":
                self.client.transport.abort()
                self.client.away = True
                away = self.rng.choice([0, 0.01, 0.2, 1, 3])
                await asyncio.sleep(self.rng.uniform(0, 2 * away))
        if self.is_here:
            # All that it sent was handled before.
            self.run.handled.add((self.label, self.serial))

    @property
    def has_all(self):
        final = self.run.final
        return final is not None and self.number is not None and self.number >= final

    async def until_over_or_ended(self, seconds):
        """True if the connection ended or all is over."""
        ends = [self.run.over_future, self.client.ended]
        done, _ = await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)

    async def fate_close(self, client):
        client.away = True
        with contextlib.suppress(asyncio.TimeoutError):
            await client.leave()
        if client.close_code == 1000:
            # All that it sent was handled before.
            self.run.handled.add((self.label, self.serial))

    async def fate_reset(self, client):
        client.reset()

    async def fate_fin(self, client):
        client.transport.close()

    async def fate_half(self, client):
        client.away = True
        client.half_close()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(client.ended), 5)

    async def fate_torn(self, client):
        client.torn()

    async def fate_stall(self, client):
        """What comes meanwhile is lost in the socket."""
        client.away = True
        client.stall()
        await asyncio.sleep(self.rng.uniform(0.1, 3))
        client.reset()

    async def fate_stall_on(self, client):
        client.away = True
        client.stall()
        await asyncio.sleep(self.rng.uniform(0.1, 3))
        client.go_on()
        client.away = False

    async def fate_replay(self, client):
        """Cut in the middle of what it is sent at the next connection."""
        client.reset()
        await asyncio.sleep(self.rng.uniform(0, 3))
        self.cut_after = self.rng.randrange(6)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.connect(), 10)
            if self.is_here:
                await asyncio.wait_for(asyncio.shield(self.client.ended), 1)
        self.cut_after = None
        if self.client is None:
            self.client = client

    async def fate_handshake(self, client):
        """Cut in the middle of the next handshake, then again."""
        client.reset()
        for _ in range(self.rng.randrange(1, 4)):
            with contextlib.suppress(OSError):
                await self.knock(self.rng.choice([0, 0, 0.001, 0.01]))

    async def knock(self, seconds):
        _, writer = await asyncio.open_connection("127.0.0.1", self.run.port)
        writer.write(
            f"GET {self.path()} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Protocol: wsgw.v1\r\n\r\n".encode())
        await asyncio.sleep(seconds)
        writer.transport.abort()

    def say(self, text):
        """Sends a message, if it is connected and its socket takes it."""
        client = self.client
        if not self.is_here or not client.may_write.is_set():
            return False
        client.write(encode_frame(1, text.encode()))
        return True


class Greeted(Client):
    """A connection of a follower."""

    def __init__(self, label, on_message):
        super().__init__(label, on_message)
        self.greeted = False
        self.away = False
