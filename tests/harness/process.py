"""Starts the program and looks at processes."""

import contextlib
import json
import os
import random
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WSGW = str(Path(os.environ.get("WSGW_BIN") or ROOT / "target/debug/wsgw").resolve())
#: The command of the fake listener.
FAKE = [sys.executable, "-u", str(HERE / "fake_listener.py")]

#: Seconds after which a test gives up waiting; generous, for the machine may be busy.
PATIENCE = 30.0


def wait_until(check, what, timeout=PATIENCE):
    """The first true value of `check`, polled until the deadline."""
    deadline = time.monotonic() + timeout
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            what = what() if callable(what) else what
            raise AssertionError(f"waited {timeout} s in vain for {what}")
        time.sleep(0.005)


def _stat(pid):
    """The fields of /proc/PID/stat from the state on; none if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def group_members(pgid):
    """Processes of a group that still run (a zombie does not)."""
    members = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (stat := _stat(entry)):
            state, _parent, group = stat[:3]
            if int(group) == pgid and state not in "ZX":
                members.append(int(entry))
    return members


def alive(pid):
    """Whether a process runs (a zombie does not)."""
    stat = _stat(pid)
    return bool(stat) and stat[0] not in "ZX"


def children(pid):
    """The processes whose parent this is, zombies too."""
    return [int(entry) for entry in os.listdir("/proc")
            if entry.isdigit() and (stat := _stat(entry)) and int(stat[1]) == pid]


def rss_kib(pid):
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(f"no VmRSS for {pid}")


def tool(name):
    """A program that `tests/run.sh` installs; its absence is a failure, not a pass."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    assert found, f"{name} is missing: tests/run.sh installs it"
    return found


def free_port():
    """A port of 127.0.0.1 that nobody has; for programs that take no port 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fixed_port():
    """A port of 127.0.0.1 that nobody has, and that nobody gets who asks for any port."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def private_env(directory):
    """An environment in which nothing of the user's own is found."""
    directory = Path(directory)
    env = {k: v for k, v in os.environ.items()
           if not k.startswith(("WSGW_", "XDG_", "RUST_LOG")) and not k.lower().endswith("_proxy")}
    for name in ("STATE_DIRECTORY", "NOTIFY_SOCKET", "PYTHONUNBUFFERED", "NO_COLOR"):
        env.pop(name, None)
    env["HOME"] = str(directory / "home")
    env["XDG_STATE_HOME"] = str(directory / "state")
    env["XDG_CONFIG_HOME"] = str(directory / "config")
    for name in ("home", "state", "config"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    return env


def run_cli(directory, *args, input=None, timeout=60, env=None):
    """Runs `wsgw ARGS`; `input=None` is an empty stdin."""
    environment = {**private_env(directory), **(env or {})}
    environment = {k: v for k, v in environment.items() if v is not None}
    return subprocess.run(
        [WSGW, *[str(a) for a in args]], input=input if input is not None else "",
        capture_output=True, text=not isinstance(input, bytes), timeout=timeout, env=environment,
        cwd=directory,
    )


def run_connect(directory, *args, stdin="", timeout=PATIENCE):
    """Runs `wsgw connect ARGS` with this on its stdin."""
    return run_cli(directory, "connect", *args, input=stdin, timeout=timeout)


def handed_over(*sockets, names=None, pid="$$"):
    """Options of a `serve` that inherits these sockets as 3, 4 and so on."""
    moves = " ".join(f"{3 + i}<&{s.fileno()}" for i, s in enumerate(sockets))
    # Numbers that are in the way of each other would need a second step.
    assert all(s.fileno() > 2 + len(sockets) for s in sockets)
    script = f'exec {moves}; export LISTEN_PID={pid} LISTEN_FDS={len(sockets)}'
    if names is not None:
        script += f" LISTEN_FDNAMES={names}"
    return {"wrap": ("bash", "-c", script + '; exec "$@"', "bash"),
            "pass_fds": [s.fileno() for s in sockets]}


class ServeProcess:
    """A `wsgw serve` that was started, with directories of its own: the one way to start it.

    `config` is the text of a config file, `listener` the command behind `--`, `wrap` a command that
    runs all of it, `files` the number of descriptors that it may have. `port`, `control` and
    `log_dir` say whether these flags are given.
    """

    def __init__(self, directory, *args, listener=None, config=None, env=None, control=True,
                 port=True, stdin=subprocess.DEVNULL, cwd=None, wrap=(), log_dir=True, pass_fds=(),
                 files=None):
        self.dir = Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.log_dir = self.dir / "log" if isinstance(log_dir, bool) else Path(log_dir)
        self.state = self.dir / "state" / "wsgw"
        self.env = {**private_env(self.dir), **(env or {})}
        self.env = {k: v for k, v in self.env.items() if v is not None}
        command = [*wrap, WSGW, "serve"]
        if config is not None:
            self.config = self.dir / "wsgw.toml"
            self.config.write_text(config)
            command += ["--config", str(self.config)]
        elif port:
            command += ["--port", "0"]
        if control:
            command += ["--control", "127.0.0.1:0"]
        if log_dir:
            command += ["--log-dir", str(self.log_dir)]
        command += [str(a) for a in args]
        if listener is not None:
            command += ["--", *[str(a) for a in listener]]
        self.command = command
        self.out_path = self.dir / "stdout"
        self.err_path = self.dir / "stderr"
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.proc = subprocess.Popen(
                command, stdin=stdin, stdout=out, stderr=err, env=self.env, cwd=cwd or self.dir,
                pass_fds=pass_fds,
                preexec_fn=files and (
                    lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))),
            )
        self.pid = self.proc.pid
        self.token = None
        self.control_port = None

    def out(self):
        return self.out_path.read_text()

    def err(self):
        return self.err_path.read_text()

    def describe(self):
        return f"{self.command}\nstdout:\n{self.out()}\nstderr:\n{self.err()[-4000:]}"

    def await_out(self, pattern):
        """The last match on stdout, once there is one."""
        def look():
            over = self.proc.poll() is not None
            found = list(re.finditer(pattern, self.out()))
            assert found or not over, f"serve ended with {self.proc.returncode}: {self.describe()}"
            return found

        return wait_until(look, lambda: f"{pattern!r} from {self.describe()}")[-1]

    def await_control(self):
        """Waits for the control port, and reads its token."""
        found = self.await_out(r"control listening on (https?)://(\S+):(\d+)\n")
        self.control_port = int(found[3])
        self.control_url = f"{found[1]}://{found[2]}:{found[3]}"
        path = self.state / f"control-{self.control_port}.json"
        # Written before the port is announced, so it must be there.
        self.token = json.loads(path.read_text())["token"]

    def port(self, gateway="default"):
        """The port that the gateway announced last."""
        return int(self.await_out(rf"gateway {gateway} listening on wss?://\S+:(\d+)\n")[1])

    def descriptors(self):
        """Its open descriptors, counted by what they are."""
        kinds = {}
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(OSError):
                kind = os.readlink(f"/proc/{self.pid}/fd/{fd}").split(":")[0]
                kinds[kind] = kinds.get(kind, 0) + 1
        return kinds

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def rss_kib(self):
        return rss_kib(self.pid)
