"""A client in the chaos that is cut and resumes at its position."""

import asyncio
import base64
import contextlib
import json

from audit import whole
from client import Client, Refused
from rooms import LOBBY, ROOMS, query, room_of
from streamer import Streamer

#: Bytes (with what a frame has beside the body) that a replay certainly has room for: `max-queue` is
#: 4 MiB.
REPLAY = 1 << 20


class Resumer:
    """It only listens, as a client of wsgw.v1 or by a stream, and comes back at its position."""

    def __init__(self, chaos, number):
        self.chaos = chaos
        self.label = f"resumer{number}"
        self.rng = chaos.rng(self.label)
        self.rooms = sorted(self.rng.sample(ROOMS, 2))
        #: Keys without a gap; a new list where the position could not be served.
        self.accounts = [[]]
        self.at = self.gave = self.client = None
        self.greeted = False

    def note(self, client, _opcode, payload):
        frame = json.loads(payload)
        check = self.chaos.audit.check
        if "hello" in frame:
            self.greeted = True
            recovered = frame.get("recovered")
            check(recovered is (None if self.gave is None else recovered), self.label, frame)
            check(recovered is not None or self.gave is None, self.label, "was told nothing:", frame)
            check(frame["channels"] == self.rooms, self.label, "is in", frame["channels"])
            if recovered is False:
                self.chaos.count("not recovered")
                self.accounts.append([])
            elif recovered:
                self.chaos.count("recovered")
                check(frame["at"] == self.gave, self.label, "gave", self.gave, "got", frame["at"])
            self.move(frame["at"], again=True)
        elif "joined" in frame:
            check(frame["joined"] == [LOBBY], self.label, "got", frame)
        else:
            text = frame.get("message") or base64.b64decode(frame["base64"]).decode()
            parts = text.split(":", 4)
            key = (parts[1], int(parts[2])) if parts[0] == "M" else ("push", int(parts[1]))
            check(parts[0] != "M" or whole(parts), self.label, "got", text[:60])
            self.move(frame["at"])
            self.accounts[-1].append(key)

    def move(self, at, again=False):
        epoch, _, number = at.partition("-")
        if self.at is not None:
            before = self.at.partition("-")
            self.chaos.audit.check(epoch == before[0], self.label, "got", at, "after", self.at)
            self.chaos.audit.check(
                again or int(number) > int(before[2]), self.label, "got", at, "after", self.at)
        self.at = at

    async def connect(self):
        self.gave, self.greeted = self.at, False
        more = f"&since={self.gave}" if self.gave else ""
        headers, chaos, kind = "Sec-WebSocket-Protocol: wsgw.v1\r\n", self.chaos, Client
        form = self.rng.choice([None, "sse", "lines"])
        if form:
            more, headers, kind = f"{more}&stream={form}", "", Streamer
        try:
            self.client = await kind.open(
                chaos.server.port("chat"), f"/{self.label}?{query(self.rooms)}{more}", self.label,
                self.note, tls=chaos.options.tls, headers=headers)
        except (Refused, OSError, asyncio.TimeoutError):
            chaos.count("refused")
            await asyncio.sleep(0.2)
            return False
        return True

    async def live(self):
        """Is cut again and again; when all is over it stays."""
        over = self.chaos.over
        while not (over.is_set() and self.client is not None and not self.client.over):
            if (self.client is None or self.client.over) and not await self.connect():
                continue
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(over.wait(), self.rng.uniform(0, 3))
            if over.is_set():
                continue
            fate = self.rng.choice(["leave", "reset", "fin", "stall"])
            if fate == "leave":
                with contextlib.suppress(asyncio.TimeoutError):
                    await self.client.leave()
            elif fate == "stall":
                self.client.stall()
                await asyncio.sleep(self.rng.uniform(0, 2))
            if fate in ("reset", "stall"):
                self.client.reset()
            self.client.transport.abort()
            await asyncio.sleep(self.rng.choice([0, 0.1, 1]))

    def is_for(self, mode):
        """Whether a message of this mode is kept, and for it."""
        what, room = room_of(mode)
        if what == "to":
            return room in self.rooms
        return what in ("all", "others", "join", "leave")

    def has_all(self, keys, modes):
        last = next((key for key in reversed(keys) if self.is_for(modes[key])), None)
        account = self.accounts[-1]
        # Where its position could not be served, it may have been greeted behind the last message.
        return self.greeted and (last is None or not account or account[-1] == last)

    def audit(self, keys, modes):
        check = self.chaos.audit.check
        place = {key: n for n, key in enumerate(keys)}
        before = None
        for account in self.accounts:
            places = [place.get(key) for key in account]
            if None in places:
                check(False, self.label, "got what the witness did not:",
                      [key for key in account if key not in place][:5])
                continue
            if places:
                expected = [
                    key for key in keys[places[0] : places[-1] + 1] if self.is_for(modes[key])]
                check(account == expected, self.label, "missed",
                      sorted(set(expected) - set(account))[:5], "or got in another order or twice:",
                      [key for key, other in zip(account, expected) if key != other][:3])
            if before is not None:
                after = places[0] if places else len(keys)
                missed = [key for key in keys[before:after] if self.is_for(modes[key])]
                size = sum(self.chaos.sizes[key] + 100 for key in missed)
                check(size > REPLAY or len(missed) > 10_000, self.label, "could not resume over",
                      len(missed), "messages of", size, "bytes")
            before = places[-1] if places else before
