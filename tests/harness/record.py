"""What the fake listener wrote down."""

import json
from pathlib import Path

from .process import PATIENCE, wait_until


class Record:
    """What the fake listener wrote down."""

    def __init__(self, path):
        self.path = Path(path)

    def entries(self):
        if not self.path.exists():
            return []
        text = self.path.read_text()
        whole = text[: text.rfind("\n") + 1]
        return [json.loads(line) for line in whole.splitlines()]

    def lines(self, pid=None):
        """Raw lines that it was sent, those of one incarnation if asked."""
        return [e["line"] for e in self.entries() if "line" in e and pid in (None, e["pid"])]

    def events(self, kind=None, pid=None):
        """Events, of one kind or one incarnation if asked."""
        events = [json.loads(line) for line in self.lines(pid)]
        return [e for e in events if kind in (None, e["event"])]

    def messages(self, pid=None):
        return [e["message"] for e in self.events("onMessage", pid)]

    def pids(self):
        """Incarnations in the order of their start."""
        return [e["pid"] for e in self.entries() if e.get("start")]

    def wait(self, kind, count=1, pid=None, timeout=PATIENCE):
        """The events of a kind, once there are that many."""

        def enough():
            events = self.events(kind, pid)
            return events if len(events) >= count else None

        return wait_until(enough, lambda: f"{count} {kind} in {self.lines()[-5:]}", timeout)

    def wait_pids(self, count, timeout=PATIENCE):
        """The incarnations, once there are that many."""
        return wait_until(
            lambda: p if len(p := self.pids()) >= count else None,
            f"{count} starts of the listener",
            timeout,
        )

    def wait_mark(self, mark, timeout=PATIENCE):
        """Waits for the record of an `eof` or a `term`."""
        return wait_until(lambda: [e for e in self.entries() if e.get(mark)], mark, timeout)
