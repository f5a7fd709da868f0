"""A running `wsgw serve`, as most tests use it."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess

from .clients import Raw, ws_client
from .events import Events
from .process import PATIENCE, ServeProcess, group_members, run_cli, wait_until
from .record import Record
from .streams import Stream


class Serve(ServeProcess):
    """A running `wsgw serve`, its control port and its clients."""

    def __init__(self, directory, *args, wait=True, control=True, **options):
        super().__init__(directory, *args, control=control, **options)
        self.record = Record(self.dir / "record")
        self.links = []
        if wait and control:
            self.await_control()
            self.await_health()

    def await_health(self):
        wait_until(lambda: self.http("GET", "/healthz")[0] == 200, self.describe)

    # Clients.

    def url(self, path="/", gateway="default"):
        return f"ws://127.0.0.1:{self.port(gateway)}{path}"

    def connect(self, path="/", gateway="default", **options):
        self.links.append(ws_client(self.url(path, gateway), **options))
        return self.links[-1]

    def named(self, path="/", gateway="default", **options):
        """A client and its connection's name, where the fake listener is used."""
        client = self.connect(path, gateway, **options)
        client.send("!whoami")
        return client, client.recv()

    def raw(self, gateway="default", **options):
        # Kept, for what nobody holds is closed.
        self.links.append(Raw(self.port(gateway), **options))
        return self.links[-1]

    def stream(self, path="/?stream=sse", headers=(), gateway="default", **options):
        """Asks for a stream; it may be refused."""
        self.links.append(Stream(self.port(gateway), path, headers, **options))
        return self.links[-1]

    def narrow(self, receive_buffer=4096, gateway="default"):
        """A raw client that has shaken hands, and whose socket takes little in."""
        return self.raw(gateway, receive_buffer=receive_buffer).upgrade()

    def close_raw(self):
        """Closes the sockets of clients that answer nothing by themselves."""
        for link in self.links:
            if isinstance(link, Raw):
                link.close()

    # The control port.

    def http(self, method, path, body=None, headers=None, token=True, timeout=PATIENCE * 2):
        """Status, headers and body of one request."""
        link = http.client.HTTPConnection("127.0.0.1", self.control_port, timeout=timeout)
        headers = dict(headers or {})
        if token:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        try:
            link.request(method, path, body=body, headers=headers)
            answer = link.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()
        finally:
            link.close()

    def events(self, path="/v1/watch", headers=(), token=True, **options):
        """Asks for a stream of events of the control port; it may be refused."""
        headers = dict(headers)
        if token:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        stream = Events(self.control_port, path, headers, **options)
        # Kept, for what nobody holds is closed.
        self.links.append(stream)
        return stream

    def api(self, method, path, body=None, **options):
        """Status and JSON of one request."""
        status, _, text = self.http(method, path, body, **options)
        return status, json.loads(text)

    def push(self, struct=None, gateway="default", query="", **keys):
        path = f"/v1/gateways/{gateway}/messages{query}"
        return self.api("POST", path, struct if struct is not None else keys)

    def status(self, gateway="default"):
        status, found = self.api("GET", f"/v1/gateways/{gateway}")
        assert status == 200, found
        return found

    def await_status(self, gateway="default", timeout=PATIENCE, **keys):
        def look():
            now = self.status(gateway)
            return now if all(now[k] == v for k, v in keys.items()) else None

        return wait_until(look, lambda: f"{keys}: {self.status(gateway)}", timeout)

    def connections(self, gateway="default"):
        return self.api("GET", f"/v1/gateways/{gateway}/connections")[1]

    def await_connections(self, count, gateway="default"):
        return wait_until(
            lambda: c if len(c := self.connections(gateway)) == count else None,
            lambda: f"{count} connections: {self.connections(gateway)}",
        ) if count else wait_until(
            lambda: not self.connections(gateway), "the end of all connections"
        )

    def metric(self, name, gateway="default", **labels):
        """Sum of the samples of a family that have these labels."""
        total = 0.0
        for line in self.http("GET", "/metrics", token=False)[2].splitlines():
            found = re.fullmatch(r"(\w+)\{([^}]*)\} (\S+)", line)
            if not found or found[1] != name:
                continue
            have = dict(re.findall(r'(\w+)="([^"]*)"', found[2]))
            if have.get("gateway") == gateway and all(have.get(k) == v for k, v in labels.items()):
                total += float(found[3])
        return total

    def await_metric(self, name, value, gateway="default", timeout=PATIENCE, **labels):
        return wait_until(
            lambda: self.metric(name, gateway, **labels) >= value,
            lambda: f"{name}{labels} >= {value}, is {self.metric(name, gateway, **labels)}",
            timeout,
        )

    # The log.

    def log(self):
        path = self.log_dir / "WebSocket.log"
        return path.read_text() if path.exists() else ""

    def await_log(self, pattern, count=1, timeout=PATIENCE):
        def look():
            found = re.findall(pattern, self.log())
            return found if len(found) >= count else None

        return wait_until(look, lambda: f"{pattern!r} in the log:\n{self.log()[-4000:]}", timeout)

    # Other programs.

    def cli(self, *args, input=None, timeout=60, env=None):
        """Runs `wsgw ARGS` against this serve and returns what became of it."""
        return run_cli(self.dir, *args, input=input, timeout=timeout,
                       env={**(env or {}), "WSGW_CONTROL": self.control_url,
                            "WSGW_TOKEN": self.token})

    def reload(self, config, code=0):
        """Writes another config file and reloads it; the reload exits with this code."""
        self.config.write_text(config)
        done = self.cli("reload")
        assert done.returncode == code, done
        return done

    # The end.

    def signal(self, number=signal.SIGTERM):
        self.proc.send_signal(number)

    def wait(self, timeout=30):
        return self.proc.wait(timeout)

    def stop(self):
        """Ends it as a user would, and checks that nothing is left."""
        if self.proc.poll() is None:
            self.proc.terminate()
            try:
                code = self.proc.wait(25)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
                raise AssertionError(f"it did not stop: {self.describe()}") from None
            assert code == 0, f"exit {code}: {self.describe()}"
        self.check_end()

    def check_end(self):
        pids = {int(p) for p in re.findall(r"listener started pid=(\d+)", self.log())}
        pids |= set(self.record.pids())
        left = {p: m for p in pids if (m := group_members(p))}
        for members in left.values():
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        assert not left, f"processes of the listener's group are left: {left}"
        assert "panicked" not in self.err(), self.err()

    def kill(self):
        """Whatever happened, it does not outlive the test."""
        self.close_raw()
        if self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()
        for pid in self.record.pids():
            for member in group_members(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)
