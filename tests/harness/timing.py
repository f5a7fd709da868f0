"""How long a program took for something, without what a busy machine cost it."""

import contextlib
import os
import re
import time
from datetime import datetime
from pathlib import Path

from .process import wait_until


def waiting(pid):
    """Seconds that each thread of a process was ready to run and had no processor, since it began."""
    found = {}
    # The process or a thread may have ended.
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/task/{thread}/schedstat").read_text()
                found[pid, thread] = int(text.split()[1]) / 1e9
    return found


class Stopwatch:
    """The seconds from an event to a line of a node's log, by the time that stands there. What the
    thread of its process that waited longest for a processor waited is taken off, and so for `others`:
    that is the machine's time, and not theirs. `raw` is the time with it. The event is when this is
    made, or when `begin` is called."""

    def __init__(self, node, *others):
        self.node, self.others = node, others
        self.lines = len(node.log().splitlines())
        self.begin()

    def begin(self):
        self.before = {thread: seconds for found in self._waited().values() for thread, seconds in found.items()}
        self.start = time.time()

    def _waited(self):
        # One that does not run yet is looked at afterwards.
        running = [one.proc.pid for one in (self.node, *self.others) if one.proc]
        return {pid: waiting(pid) for pid in running}

    def _without_waiting(self, raw):
        self.raw = raw
        for threads in self._waited().values():
            raw -= max((now - self.before.get(thread, 0) for thread, now in threads.items()), default=0)
        return raw

    def until(self, pattern):
        """The seconds to the first line with this pattern that was not there when this was made."""
        def look():
            return next((line for line in self.node.log().splitlines()[self.lines:]
                         if re.search(pattern, line)), None)
        # It is written in the background.
        line = wait_until(look, lambda: f"{pattern!r} in the log:\n{self.node.log()[-2000:]}")
        at = datetime.fromisoformat(line.split()[0].replace("Z", "+00:00")).timestamp()
        return self._without_waiting(at - self.start)

    def now(self):
        """The seconds until now; what this process waited for a processor is in them."""
        return self._without_waiting(time.time() - self.start)
