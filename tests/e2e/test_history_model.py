"""The history of a running `serve` against a plain list: random publishes, limits, restarts and
positions, of which each resume has to give just what the list says."""

import json
import random

import pytest
from harness import ws_client

#: Kept by three patterns; x1 is not kept.
NAMES = ["a1", "a2", "b1", "b2", "c1", "x1"]

CONFIG = """
[gateways.default]
port = 0
channels = "query"
allow-channels = ["*"]
[gateways.default.history]
channels = {{ "a*" = {a}, "b*" = {b}, "c1" = {c} }}
broadcast = {all}
{more}
"""


class Kept:
    """What one channel, or what goes to all, holds: numbers; and the highest that it lost."""

    def __init__(self):
        self.numbers, self.lost = [], 0

    def limit(self, limit):
        while len(self.numbers) > limit:
            self.lost = self.numbers.pop(0)


class Model:
    def __init__(self, serve, seed, file):
        self.serve, self.file = serve, file
        self.rng = random.Random(seed)
        self.fallback = self.rng.choice([None, "last", "2"])
        self.kept = {name: Kept() for name in [*NAMES[:-1], None]}
        #: By number: the body, and the channels as they were named (none: all).
        self.messages, self.newest, self.bodies = {}, 0, 0
        #: The file has been read again since this number.
        self.read_again = 0
        self.change_limits()
        self.server = serve(config=self.config(), name="one")
        self.epoch = self.connect([])[1]["at"].split("-")[0]

    def change_limits(self):
        self.limits = {key: self.rng.randrange(1, 9) for key in "abc"}
        self.limits["all"] = self.rng.randrange(1, 9)

    def config(self):
        more = f'since = "{self.fallback}"\n' if self.fallback else ""
        more += 'file = "history.db"\n' if self.file else ""
        return CONFIG.format(**self.limits, more=more)

    def enforce(self):
        for name, kept in self.kept.items():
            kept.limit(self.limits[name[0] if name else "all"])

    def connect(self, channels, since=None):
        query = "&".join([f"channel={name}" for name in channels] +
                         ([f"since={since}"] if since is not None else []))
        client = ws_client(self.server.url("/?" + query), subprotocols=["wsgw.v1"])
        return client, json.loads(client.recv())

    # What happens.

    def publish(self):
        self.bodies += 1
        struct = {"message": f"body {self.bodies}"}
        channels = self.rng.choice([None, *[self.rng.sample(NAMES, n) for n in (1, 1, 2, 3, 6)]])
        private = self.rng.random() < 0.1
        if private:
            struct["connections"] = ["k0"]
        elif channels is not None:
            struct["channel"] = channels
        assert self.server.push(struct)[0] == 200
        into = [None] if channels is None else [name for name in channels if name in self.kept]
        if into and not private:
            self.newest += 1
            self.messages[self.newest] = (struct["message"], channels)
            for name in into:
                self.kept[name].numbers.append(self.newest)
            self.enforce()

    def reload(self):
        self.change_limits()
        self.server.reload(self.config())
        self.enforce()

    def restart(self):
        if not self.file:
            assert self.server.cli("restart", "default").returncode == 0
            return
        self.rng.choice([self.server.proc.kill, self.server.proc.terminate])()
        self.server.proc.wait(30)
        self.server = self.serve(config=self.config(), name="one")
        self.read_again = self.newest

    def channel(self, n, channels, got):
        """The channel that a frame names: the first of the message's that the client is in. The file
        has no order of channels, and only those that kept the message."""
        mine = [name for name in self.messages[n][1] or () if name in channels]
        if n <= self.read_again and got in mine:
            return {"channel": got}
        return {"channel": mine[0]} if mine else {}

    def resume(self):
        channels = self.rng.sample(NAMES, self.rng.randrange(4))
        parts = [self.kept[name] for name in {*channels, None} if name in self.kept]
        kind = self.rng.choice(["position"] * 6 + ["epoch", "newest", "nothing"])
        since, recovered, found = None, None, set()
        if kind in ("position", "epoch"):
            near = self.rng.random() < 0.7
            number = self.rng.randrange(max(0, self.newest - 12) if near else 0, self.newest + 3)
            since = f"{self.epoch if kind == 'position' else 'aaaaaaaa'}-{number}"
            recovered = (kind == "position" and number <= self.newest
                         and all(part.lost <= number for part in parts))
            if recovered:
                found = {n for part in parts for n in part.numbers if n > number}
        elif kind == "newest":
            since = self.rng.choice(["last", "1", "3", "100"])
        # What asks for nothing, and what cannot be recovered, gets what the config says.
        newest = self.fallback if since is None or recovered is False else since
        if not recovered and newest:
            count = 1 if newest == "last" else int(newest)
            found = {n for part in parts for n in part.numbers[-count:]}
        before = number if recovered else min(found) - 1 if found else self.newest
        client, hello = self.connect(channels, since)
        what = (channels, since, self.limits, self.newest)
        assert hello.pop("conn")
        expected = {"hello": 1, "at": f"{self.epoch}-{before}", "channels": sorted(channels)}
        assert hello == expected | ({} if recovered is None else {"recovered": recovered}), what
        for n in sorted(found):
            frame = json.loads(client.recv())
            expected = {"message": self.messages[n][0], "at": f"{self.epoch}-{n}"}
            assert frame == expected | self.channel(n, channels, frame.get("channel")), what
        client.send("that was all")
        # It goes to all, so it is kept.
        self.newest += 1
        self.messages[self.newest] = ("that was all", None)
        self.kept[None].numbers.append(self.newest)
        self.enforce()
        assert json.loads(client.recv()) == {
            "message": "that was all", "at": f"{self.epoch}-{self.newest}"}, what
        client.close()


@pytest.mark.long
@pytest.mark.parametrize("file", [False, True], ids=["memory", "file"])
@pytest.mark.parametrize("seed", range(3))
def test_a_history_is_what_a_plain_list_would_be(serve, seed, file):
    model = Model(serve, seed, file)
    for _ in range(250):
        step = model.rng.choices(
            [model.publish, model.resume, model.reload, model.restart], [60, 40, 3, 1])[0]
        step()
