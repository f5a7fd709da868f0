"""Clients of `wsgw.v1`, and a listener that says what they tell it to say."""

import json
import sys
import urllib.parse

from .clients import ws_client
from .process import HERE, PATIENCE, wait_until


class Framed:
    """A client that gets frames; `query` holds the pairs of its URL: `channel` (also a list), `since`,
    and anything else as JSON."""

    def __init__(self, server, path="/", gateway="default", **query):
        plain = {k: v if k in ("channel", "since") else json.dumps(v) for k, v in query.items()}
        text = urllib.parse.urlencode(plain, doseq=True)
        self.client = ws_client(server.url(f"{path}?{text}", gateway), subprotocols=["wsgw.v1"])
        server.links.append(self.client)
        self.hello = self.frame()
        assert self.hello.get("hello") == 1, self.hello
        self.conn = self.hello["conn"]
        #: Where it is.
        self.at = self.hello.get("at")

    def frame(self, timeout=PATIENCE):
        frame = json.loads(self.client.recv(timeout))
        self.at = frame.get("at", getattr(self, "at", None))
        return frame

    def frames(self, count):
        return [self.frame() for _ in range(count)]

    def body(self, timeout=PATIENCE):
        frame = self.frame(timeout)
        assert "message" in frame, frame
        return frame["message"]

    def bodies(self, count):
        return [self.body() for _ in range(count)]

    def until(self, last):
        """The frames up to the one with this body, itself among them."""
        found = [self.frame()]
        while found[-1].get("message") != last:
            found.append(self.frame())
        return found

    def send(self, message):
        self.client.send(message)

    def say(self, *lines):
        """Lets the listener say these lines."""
        self.send(json.dumps(lines))

    def close(self):
        self.client.close()

    def await_close(self):
        return self.client.await_close()


class Say:
    """The command of a listener that says what its clients tell it to say, and what it was told."""

    def __init__(self, record, *prefix):
        self.path = record
        self.path.touch()
        self.command = [sys.executable, "-u", HERE / "say_listener.py", record, *prefix]

    def told(self, kind=None):
        text = self.path.read_text()
        events = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return [e for e in events if kind in (None, e["event"])]

    def await_told(self, kind, count=1, check=lambda event: True):
        """The events of a kind, once there are so many."""
        def look():
            events = [e for e in self.told(kind) if check(e)]
            return events if len(events) >= count else None
        return wait_until(look, lambda: f"{count} {kind} among {self.told()[-5:]}")
