"""Starts the real binary with a home of its own and never sleeps for it: readiness is what it says
on stdout, everything else is polled with a deadline."""

import http.client
import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("WSGW_BIN", str(ROOT / "target/debug/wsgw"))
# Under nohup SIGHUP is ignored, and children inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
LISTENER = str(pathlib.Path(__file__).with_name("fake_listener.py"))


def wait_for(what, seconds=20.0, message="it did not happen"):
    """Polls until `what` returns something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        got = what()
        if got:
            return got
        if time.monotonic() > deadline:
            raise AssertionError(f"{message} in {seconds} s")
        time.sleep(0.01)


class Serve:
    """A running `wsgw serve`."""

    def __init__(self, home, args, env=None, wait=True, stdin=subprocess.DEVNULL, control="127.0.0.1:0",
                 limit=None):
        self.home = pathlib.Path(home)
        self.env = environment(home)
        self.env.update(env or {})
        if control:
            args = ["--control", control, *args]
        self.process = subprocess.Popen(
            [BINARY, "serve", *args], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=self.env, cwd=home,
            preexec_fn=limit and (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))))
        self.lines, self.errors = [], []
        self.threads = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.lines), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self.errors), daemon=True),
        ]
        for thread in self.threads:
            thread.start()
        if wait:
            wait_for(lambda: self.control_url or self.process.poll() is not None, 20)
            assert self.process.poll() is None, "\n".join(self.errors)

    @staticmethod
    def _read(pipe, into):
        for line in pipe:
            into.append(line.rstrip("\n"))

    def _said(self, pattern):
        for line in self.lines:
            if found := re.fullmatch(pattern, line):
                return found
        return None

    @property
    def control_url(self):
        found = self._said(r"control listening on (\S+)")
        return found and found[1]

    def port(self, gateway="default"):
        found = None
        for line in self.lines:
            found = re.fullmatch(rf"gateway {gateway} listening on wss?://\S+:(\d+)", line) or found
        return found and int(found[1])

    def url(self, path="/", gateway="default"):
        return f"ws://127.0.0.1:{self.port(gateway)}{path}"

    @property
    def log(self):
        return (self.home / "state/wsgw/logs/WebSocket.log").read_text()

    def wait_log(self, text, seconds=10):
        wait_for(lambda: text in self.log, seconds, f"{text!r} is not in the log:\n{self.log[-2000:]}\nit did not happen")

    @property
    def token(self):
        port = self.control_url.rsplit(":", 1)[1]
        return json.loads((self.home / f"state/wsgw/control-{port}.json").read_text())["token"]

    def request(self, method, path, body=None, headers=None, raw=False):
        connection = http.client.HTTPConnection(self.control_url.removeprefix("http://"), timeout=30)
        given = {"Authorization": f"Bearer {self.token}"}
        given.update(headers or {})
        given = {k: v for k, v in given.items() if v is not None}
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        connection.request(method, path, body, given)
        response = connection.getresponse()
        data = response.read()
        connection.close()
        return response.status, data if raw else json.loads(data or b"null")

    def push(self, struct, gateway="default", query=""):
        return self.request("POST", f"/v1/gateways/{gateway}/messages{query}", struct)

    def status(self, gateway="default"):
        return self.request("GET", f"/v1/gateways/{gateway}")[1]

    def metric(self, name, gateway="default", **labels):
        text = self.request("GET", "/metrics", raw=True)[1].decode()
        for line in text.splitlines():
            if line.startswith(name + "{") and f'gateway="{gateway}"' in line:
                if all(f'{k}="{v}"' in line for k, v in labels.items()):
                    return float(line.rsplit(" ", 1)[1])
        return 0.0

    def wait_metric(self, name, value, seconds=10, **labels):
        wait_for(lambda: self.metric(name, **labels) >= value, seconds,
                 f"{name}{labels} did not reach {value}")

    def run(self, *args, stdin=None, env=None, timeout=60):
        """A client command against this serve."""
        given = dict(self.env)
        given.update(env or {})
        if stdin is None:
            return subprocess.run([BINARY, *args], capture_output=True, text=True, env=given,
                                  stdin=subprocess.DEVNULL, timeout=timeout)
        binary = isinstance(stdin, bytes)
        return subprocess.run([BINARY, *args], capture_output=True, text=not binary, env=given,
                              input=stdin, timeout=timeout)

    @property
    def listener_pid(self):
        return self.status()["listener_pid"]

    def wait_listener(self, other_than=None):
        return wait_for(lambda: self.listener_pid not in (None, other_than) and self.listener_pid)

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
        for thread in self.threads:
            thread.join(5)
        return self.process.returncode


def environment(home):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "WSGW_", "RUST_LOG"))}
    home = pathlib.Path(home)
    env.update(HOME=str(home), XDG_STATE_HOME=str(home / "state"), XDG_CONFIG_HOME=str(home / "config"))
    env.pop("STATE_DIRECTORY", None)
    return env


def members(group):
    """What lives of a process group; a zombie that nobody reaps is dead."""
    alive = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rsplit(")", 1)[1].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(pgrp) == group and state not in "ZX":
            alive.append(stat.parent.name)
    return alive


@pytest.fixture
def serve(tmp_path):
    """Starts serves; at the end each must stop, and leave no process of its listeners behind."""
    started = []

    def start(*args, home=None, port="0", **more):
        if port is not None:
            args = ("--port", port, *args)
        serve = Serve(home or tmp_path, list(args), **more)
        started.append(serve)
        return serve

    yield start
    for one in started:
        one.stop()
        for line in "\n".join(one.errors).splitlines():
            assert "panicked" not in line, line
            if found := re.search(r"listener started pid=(\d+)", line):
                assert not members(int(found[1])), f"left of {line}"


@pytest.fixture
def listener(tmp_path):
    """The command line of the fake listener, and what each incarnation was sent."""
    record = tmp_path / "record"
    record.mkdir()

    class Listener:
        def __call__(self, mode, *args):
            return ["--", sys.executable, LISTENER, str(record), mode, *map(str, args)]

        def incarnations(self):
            """The events of each incarnation, oldest first."""
            files = sorted(record.iterdir(), key=lambda f: int(f.name.split("-")[0]))
            out = []
            for file in files:
                whole = file.read_text().split("\n")[:-1]
                out.append([json.loads(line) for line in whole])
            return out

        def events(self):
            return [event for all in self.incarnations() for event in all]

        def wait(self, what, seconds=10):
            wait_for(lambda: what(self.events()), seconds, f"events: {self.events()[-5:]}; it did not happen")
            return self.events()

    return Listener()
