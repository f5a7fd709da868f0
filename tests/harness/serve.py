"""Starts `wsgw serve`, watches it, and ends it; nothing here sleeps for a fixed time."""

import base64
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

from websockets.sync.client import connect as ws_connect

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WSGW = os.environ.get("WSGW_BIN") or str(ROOT / "target/debug/wsgw")
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


def group_members(pgid):
    """Processes of a group that still run (a zombie does not)."""
    members = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError):
            stat = Path(f"/proc/{entry}/stat").read_text()
            state, _ppid, group = stat.rpartition(")")[2].split()[:3]
            if int(group) == pgid and state not in "ZX":
                members.append(int(entry))
    return members


def alive(pid):
    """Whether a process runs (a zombie does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def rss_kib(pid):
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(f"no VmRSS for {pid}")


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


class Serve:
    """A running `wsgw serve` with directories of its own."""

    def __init__(self, directory, *args, listener=None, config=None, env=None, control=True,
                 port=True, wait=True, stdin=subprocess.DEVNULL, cwd=None, wrap=(), log_dir=True,
                 pass_fds=()):
        self.dir = Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.log_dir = self.dir / "log"
        self.state = self.dir / "state" / "wsgw"
        self.env = private_env(self.dir)
        self.env.update(env or {})
        self.env = {k: v for k, v in self.env.items() if v is not None}
        self.record = Record(self.dir / "record")
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
                pass_fds=pass_fds
            )
        self.pid = self.proc.pid
        self.token = None
        self.control_port = None
        self.links = []
        if wait and control:
            self.await_control()
            self.await_health()

    # Readiness.

    def await_control(self):
        found = self.await_out(r"control listening on http://(\S+):(\d+)\n")
        self.control_port = int(found[2])
        self.control_url = f"http://{found[1]}:{found[2]}"
        path = self.state / f"control-{self.control_port}.json"
        # Written before the port is announced, so it must be there.
        self.token = json.loads(path.read_text())["token"]

    def await_health(self):
        wait_until(lambda: self.http("GET", "/healthz")[0] == 200, self.describe)

    def out(self):
        return self.out_path.read_text()

    def err(self):
        return self.err_path.read_text()

    def describe(self):
        return f"{self.command}\nstdout:\n{self.out()}\nstderr:\n{self.err()[-4000:]}"

    def await_out(self, pattern):
        def look():
            found = re.search(pattern, self.out())
            if not found and self.proc.poll() is not None:
                found = re.search(pattern, self.out())
                assert found, f"serve ended with {self.proc.returncode}: {self.describe()}"
            return found

        return wait_until(look, lambda: f"{pattern!r} from {self.describe()}")

    def port(self, gateway="default"):
        return int(self.await_out(rf"gateway {gateway} listening on wss?://\S+:(\d+)\n")[1])

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

    def raw(self, gateway="default"):
        # Kept, for what nobody holds is closed.
        self.links.append(Raw(self.port(gateway)))
        return self.links[-1]

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
        for link in self.links:
            if isinstance(link, Raw):
                link.close()
        if self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()
        for pid in self.record.pids():
            for member in group_members(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)


def private_env(directory):
    """An environment in which nothing of the user's own is found."""
    directory = Path(directory)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("WSGW_", "XDG_", "RUST_LOG"))}
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


class Client:
    """A WebSocket client whose waits have an end."""

    def __init__(self, inner):
        self.inner = inner

    def send(self, message):
        self.inner.send(message)

    def recv(self, timeout=PATIENCE):
        return self.inner.recv(timeout=timeout)

    def recv_many(self, count):
        return [self.recv() for _ in range(count)]

    def close(self, code=1000, reason=""):
        self.inner.close(code, reason)

    def await_close(self, timeout=PATIENCE):
        """The code and reason of the server's Close; anything before it is thrown away."""
        deadline = time.monotonic() + timeout
        from websockets.exceptions import ConnectionClosed

        while True:
            try:
                self.inner.recv(timeout=max(0.01, deadline - time.monotonic()))
            except ConnectionClosed as closed:
                received = closed.rcvd
                return (received.code, received.reason) if received else (1006, "")

    @property
    def subprotocol(self):
        return self.inner.subprotocol


def ws_client(url, **options):
    options.setdefault("compression", None)
    options.setdefault("proxy", None)
    options.setdefault("max_size", None)
    options.setdefault("open_timeout", PATIENCE)
    options.setdefault("close_timeout", PATIENCE)
    options.setdefault("ping_interval", None)
    # Unread messages must not keep it from seeing a Close.
    options.setdefault("max_queue", None)
    return Client(ws_connect(url, **options).__enter__())


class Raw:
    """A client that writes bytes as they are."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.port = port
        self.buffer = b""

    def write(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def request(self, path="/", headers=(), method="GET", version="1.1", upgrade=True):
        """Writes a request's head; `headers` replace or add (None: leave out)."""
        lines = {"Host": f"127.0.0.1:{self.port}"}
        if upgrade:
            key = base64.b64encode(os.urandom(16)).decode()
            lines |= {"Upgrade": "websocket", "Connection": "Upgrade",
                      "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key}
        extra = []
        for name, value in headers.items() if isinstance(headers, dict) else headers:
            if name in lines:
                lines[name] = value
            else:
                extra.append((name, value))
        pairs = [(n, v) for n, v in [*lines.items(), *extra] if v is not None]
        text = f"{method} {path} HTTP/{version}\r\n"
        text += "".join(f"{n}: {v}\r\n" for n, v in pairs) + "\r\n"
        self.write(text.encode("latin-1"))
        return self

    def read_exactly(self, count):
        while len(self.buffer) < count:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(f"closed after {self.buffer!r}")
            self.buffer += data
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def response(self):
        """Status, headers (lower case), body of an HTTP answer."""
        while b"\r\n\r\n" not in self.buffer:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(f"closed after {self.buffer!r}")
            self.buffer += data
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in rest:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        status = int(first.split()[1])
        body = b""
        if "content-length" in headers:
            body = self.read_exactly(int(headers["content-length"]))
        return status, headers, body.decode()

    def upgrade(self, path="/", headers=()):
        self.request(path, headers)
        status, found, body = self.response()
        assert status == 101, (status, body)
        return self

    def frame(self, opcode, payload=b"", fin=True, masked=True, rsv=0):
        """Writes one frame."""
        self.write(encode_frame(opcode, payload, fin, masked, rsv))

    def read_frame(self):
        """FIN, opcode and payload of the next frame."""
        first, second = self.read_exactly(2)
        assert not second & 0x80, "a server's frame is not masked"
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", self.read_exactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self.read_exactly(8))
        return bool(first & 0x80), first & 0x0F, self.read_exactly(length)

    def read_close(self):
        """Code and reason of the Close frame; frames before it are thrown away."""
        while True:
            _, opcode, payload = self.read_frame()
            if opcode == 8:
                if not payload:
                    return None, ""
                return struct.unpack(">H", payload[:2])[0], payload[2:].decode()

    def at_eof(self):
        """Reads to the end; true if it ends in order, false if by a reset."""
        try:
            while self.sock.recv(65536):
                pass
            return True
        except ConnectionResetError:
            return False

    def close(self):
        self.sock.close()


def encode_frame(opcode, payload=b"", fin=True, masked=True, rsv=0):
    """The bytes of one frame."""
    if isinstance(payload, str):
        payload = payload.encode()
    head = bytes([(0x80 if fin else 0) | (rsv << 4) | opcode])
    mask_bit = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([mask_bit | len(payload)])
    elif len(payload) < 65536:
        head += bytes([mask_bit | 126]) + struct.pack(">H", len(payload))
    else:
        head += bytes([mask_bit | 127]) + struct.pack(">Q", len(payload))
    if not masked:
        return head + payload
    mask = b"\x12\x34\x56\x78"
    pattern = (mask * (len(payload) // 4 + 1))[: len(payload)]
    scrambled = int.from_bytes(payload, "big") ^ int.from_bytes(pattern, "big")
    return head + mask + scrambled.to_bytes(len(payload), "big")


def close_payload(code, reason=b""):
    return struct.pack(">H", code) + reason
