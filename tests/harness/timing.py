"""How long a program took for something, without what a busy machine cost it."""

import contextlib
import os
import re
import time
from datetime import datetime
from pathlib import Path

from .process import wait_until


def waited(*pids):
    """Seconds that the threads of processes were ready to run and had no processor, since they began."""
    nanoseconds = 0
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                nanoseconds += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[1])
    return nanoseconds / 1e9


class Stopwatch:
    """From now on until a line of a node's log, by the time that stands there. What its process and
    those of `others` waited for a processor is taken off: it is the machine's time, and not theirs."""

    def __init__(self, node, *others):
        self.node = node
        self.pids = [node.pid, *(other.proc.pid for other in others)]
        self.before = waited(*self.pids)
        self.lines = len(node.log().splitlines())
        self.start = time.time()

    def until(self, pattern):
        """The seconds to the first line with this pattern behind those of the beginning."""
        def look():
            return next((line for line in self.node.log().splitlines()[self.lines:]
                         if re.search(pattern, line)), None)
        # It is written in the background.
        line = wait_until(look, lambda: f"{pattern!r} in the log:\n{self.node.log()[-2000:]}", 60)
        at = datetime.fromisoformat(line.split()[0].replace("Z", "+00:00")).timestamp()
        return at - self.start - (waited(*self.pids) - self.before)
