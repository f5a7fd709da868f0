"""Orphans of listeners where they become children of serve, and where they do not."""

import os
import sys

from harness import tool, wait_until
from harness.process import alive, children

# Each line leaves an orphan of its own session behind, which ends at once, and echoes the line.
LISTENER = r"""
import os, sys
for line in iter(sys.stdin.readline, ""):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os._exit(0)
    os.wait()
    sys.stdout.write(line)
    sys.stdout.flush()
"""

# Becomes a subreaper and then the program that it is given.
SUBREAPER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(36, 1, 0, 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])
"""


def zombies(pid):
    """Children of a process that have exited and that nobody has waited for."""
    return [child for child in children(pid) if not alive(child)]


def exercise(server, pid):
    client = server.connect()
    for n in range(50):
        client.send(f"m{n}")
        assert client.recv() == f"m{n}"
    wait_until(lambda: not zombies(pid), lambda: f"the end of zombies: {zombies(pid)}", timeout=5)
    # The listener's own exit is seen as before, and by who waits for it.
    client.send("again")
    assert client.recv() == "again"
    listener = server.status()["listener_pid"]
    # The last orphans may still be on their way out.
    wait_until(lambda: len(children(pid)) == 1, lambda: f"one child alone: {children(pid)}")
    (child,) = children(pid)
    os.kill(child, 9)
    wait_until(lambda: server.status()["listener_pid"] not in (None, listener), "a new listener")
    server.await_log(r"signal: 9 \(SIGKILL\)")
    wait_until(lambda: not zombies(pid), lambda: f"the end of zombies: {zombies(pid)}", timeout=5)


def test_as_a_subreaper_orphans_are_waited_for(serve):
    server = serve(listener=["python3", "-uc", LISTENER],
                   wrap=(sys.executable, "-c", SUBREAPER))
    exercise(server, server.pid)


def test_as_process_1_orphans_are_waited_for(serve):
    server = serve(listener=["python3", "-uc", LISTENER], wrap=(
        tool("unshare"), "--pid", "--fork", "--kill-child=TERM", "--mount-proc", "--"))
    (pid,) = children(server.pid)
    try:
        exercise(server, pid)
    finally:
        # `unshare` passes nothing on.
        os.kill(pid, 15)
        assert server.wait() == 0


def test_a_listener_that_leaves_one_behind_takes_it_along(serve, tmp_path):
    """What is left in the group of a listener that exited is killed."""
    left = tmp_path / "left"
    code = f"sleep 600 & echo $! > {left}.new; mv {left}.new {left}; read line; exit 3"
    server = serve(listener=["sh", "-c", code])
    wait_until(left.exists, "the one left behind")
    first = int(left.read_text())
    client = server.connect()
    client.send("x")
    server.await_log("the listener ended: exit status: 3")
    wait_until(lambda: not alive(first), "its end")
