"""Clients of all five forms on one gateway, held against a list of what was done: each gets just what
is for it, in the one order that there is, whatever it joins, leaves, or misses for a while."""

import base64
import json
import random

import pytest
from harness import Stream, wait_until, ws_client

FORMS = ["bare", "framed", "sse", "lines", "raw"]
NAMES = ["a", "b", "c", "d"]
FRAMED = ("framed", "sse", "lines")


class Reader:
    """One client, and what it is to get."""

    def __init__(self, model, form, channels, since=None):
        self.model, self.form = model, form
        self.channels = set(channels)
        self.path = f"/c{model.number()}"
        query = [f"channel={name}" for name in channels]
        query += [f"since={since}"] if since else []
        server = model.server
        if form in ("bare", "framed"):
            protocols = ["wsgw.v1"] if form == "framed" else None
            url = server.url(f"{self.path}?{'&'.join(query)}")
            self.client = ws_client(url, subprotocols=protocols)
            hello = json.loads(self.client.recv()) if form == "framed" else None
        else:
            query.append(f"stream={form}")
            self.client = Stream(server.port(), f"{self.path}?{'&'.join(query)}")
            assert self.client.status == 200
            hello = self.client.hello
        if hello:
            assert hello["channels"] == sorted(channels)
            assert hello.get("recovered") is (True if since else None)
            self.at = since or hello["at"]
        self.conn = wait_until(self.find, "the connection in the list")
        self.expected = []

    def find(self):
        rows = [row for row in self.model.server.connections() if row["path"] == self.path]
        return rows[0]["conn"] if rows else None

    def shown(self, body, channels, number):
        """A message as it gets it; `number` is its position where it has one."""
        if self.form == "bare":
            return body
        if self.form == "raw":
            if isinstance(body, bytes):
                return base64.b64encode(body).decode()
            return body.replace("\\", "\\\\").replace("\n", "\\n")
        if isinstance(body, bytes):
            frame = {"base64": base64.b64encode(body).decode()}
        else:
            frame = {"message": body}
        mine = [name for name in channels or () if name in self.channels]
        return frame | ({"channel": mine[0]} if mine else {}) | {"at": f"{self.model.epoch}-{number}"}

    def read(self):
        """Reads all that is for it, and holds it against that."""
        for n, expected in enumerate(self.expected):
            if self.form in ("bare", "framed"):
                got = self.client.recv()
                got = json.loads(got) if self.form == "framed" else got
            else:
                got = self.client.message()
            assert got == expected, (self.form, self.channels, n, self.expected[:n][-3:])
            if self.form in FRAMED:
                self.at = got["at"]
        self.expected = []


class Model:
    def __init__(self, serve, scripted, seed):
        self.rng = random.Random(seed)
        self.server = scripted("--streams", "--channels", "query", "--allow-channels", "*",
                               "--history", "5000", "--hooks", "onMessage")
        self.numbers = 0
        #: Each with its channels (none: all), by position from 1 on.
        self.sent = []
        self.boss = self.server.connect("/boss")
        self.readers = []
        first = self.open("lines", [])
        self.epoch = first.at.split("-")[0]

    def number(self):
        self.numbers += 1
        return self.numbers

    def open(self, form=None, channels=None, since=None):
        if channels is None:
            channels = self.rng.sample(NAMES, self.rng.randrange(3))
        reader = Reader(self, form or self.rng.choice(FORMS), channels, since)
        self.readers.append(reader)
        return reader

    def body(self):
        text = "".join(self.rng.choices(["x", "ä", "\n", "\\", '"', "\r", " "], k=self.rng.randrange(9)))
        if self.rng.random() < 0.01:
            text *= 20_000
        text = f"{len(self.sent)} {text}"
        return text.encode() if self.rng.random() < 0.2 else text

    # Commands: what comes of them is noted, and the line is said with others.

    def send(self):
        channels = self.rng.choice([None, *[self.rng.sample(NAMES, n) for n in (1, 1, 2, 4)]])
        body = self.body()
        self.sent.append((body, channels))
        for reader in self.readers:
            if channels is None or reader.channels & set(channels):
                reader.expected.append(reader.shown(body, channels, len(self.sent)))
        key = {"base64": base64.b64encode(body).decode()} if isinstance(body, bytes) else {"message": body}
        return {"command": "send"} | key | ({} if channels is None else {"channel": channels})

    def join(self):
        reader = self.rng.choice(self.readers)
        names = self.rng.sample(NAMES, self.rng.randrange(1, 3))
        new = [name for name in names if name not in reader.channels]
        reader.channels |= set(new)
        if new and reader.form in FRAMED:
            reader.expected.append({"joined": sorted(new), "at": f"{self.epoch}-{len(self.sent)}"})
        return {"command": "join", "conn": reader.conn, "channel": names}

    def leave(self):
        reader = self.rng.choice(self.readers)
        names = self.rng.sample(NAMES, self.rng.randrange(1, 3))
        reader.channels -= set(names)
        return {"command": "leave", "conn": reader.conn, "channel": names}

    def say(self):
        """Several commands at once, so that bursts are formed of them."""
        acts = self.rng.choices([self.send, self.join, self.leave], [8, 1, 1], k=self.rng.randrange(1, 30))
        self.boss.send("!raw " + json.dumps([json.dumps(act()) for act in acts]))

    # Clients.

    def cut(self):
        """One goes, and most that can come back, where they were."""
        reader = self.rng.choice(self.readers)
        reader.read()
        reader.client.close()
        self.readers.remove(reader)
        wait_until(lambda: reader.find() is None, "its end")
        for _ in range(self.rng.randrange(3)):
            self.say()
        if reader.form in FRAMED and self.rng.random() < 0.8:
            self.settle()
            channels = self.rng.sample(NAMES, self.rng.randrange(3))
            back = self.open(self.rng.choice(FRAMED), channels, reader.at)
            at = int(reader.at.split("-")[1])
            for number, (body, to) in enumerate(self.sent[at:], at + 1):
                if to is None or back.channels & set(to):
                    back.expected.append(back.shown(body, to, number))

    def settle(self):
        """What was said is done: who comes now comes behind it."""
        for reader in self.readers:
            reader.read()
        # The answer to a message of the boss is behind its commands.
        self.boss.send("!whoami")
        while not (isinstance(got := self.boss.recv(), str) and got.startswith("k")):
            pass


@pytest.mark.parametrize("seed", range(3))
def test_each_gets_what_is_for_it_in_one_order(serve, scripted, seed):
    model = Model(serve, scripted, seed)
    for form in FORMS * 6:
        model.open(form)
    for _ in range(80):
        model.rng.choices([model.say, model.cut, lambda: (model.settle(), model.open())], [8, 2, 1])[0]()
    model.settle()
    assert {reader.form for reader in model.readers} == set(FORMS)
    for reader in model.readers:
        reader.client.close()
