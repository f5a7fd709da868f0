"""NATS servers, several nodes at one of them, and a wire between them that can be harmed."""

import contextlib
import json
import re
import select
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

from .process import PATIENCE, tool, wait_until

#: Some node that is not there.
NOBODY = "aaab.k1"


class NatsServer:
    """A `nats-server` with JetStream, its store below `directory`. It keeps its port when it is started
    again; `more` are lines of its config file, `jetstream` the keys of that
    table (nothing: it has none). Without `port` it takes a free one. `wrap` is a command that runs it,
    `address` the one that it is reached at."""

    def __init__(self, directory, more="", scheme="nats", port=-1, start=True, host="127.0.0.1",
                 jetstream="store_dir: \"{store}\"", wrap=(), address="127.0.0.1"):
        self.dir = Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.store = self.dir / "store"
        self.jetstream = jetstream and f"jetstream {{ {jetstream.format(store=self.store)} }}"
        self.more, self.scheme, self.host = more, scheme, host
        self.port, self.monitor = port, -1
        self.wrap, self.address = wrap, address
        self.proc = None
        if start:
            self.start()

    @property
    def url(self):
        return f"{self.scheme}://{self.address}:{self.port}"

    def start(self):
        self.launch()
        self.await_health()
        return self

    def launch(self):
        """Starts it, and waits for its ports."""
        config = self.dir / "nats.conf"
        config.write_text(
            f'port: {self.port}\nhost: "{self.host}"\nhttp: "{self.address}:{self.monitor}"\n'
            f'ports_file_dir: "{self.dir}"\n{self.jetstream}\n{self.more}\n')
        with open(self.dir / "log", "ab") as log:
            self.proc = subprocess.Popen([*self.wrap, tool("nats-server"), "-c", config], stdout=log, stderr=log,
                                         stdin=subprocess.DEVNULL)
        path = self.dir / f"nats-server_{self.proc.pid}.ports"

        def ports():
            assert self.proc.poll() is None, (self.dir / "log").read_text()[-2000:]
            with contextlib.suppress(OSError, ValueError):
                return json.loads(path.read_text())

        found = wait_until(ports, "the ports of nats-server")
        self.port, self.monitor = (int(found[kind][0].rpartition(":")[2]) for kind in ("nats", "monitoring"))

    def await_health(self, query=""):
        wait_until(lambda: self.state(f"healthz{query}"), "nats-server to be healthy")

    def runs(self):
        return bool(self.proc) and self.proc.poll() is None

    def is_stopped(self):
        """Whether SIGSTOP stands still on it."""
        return Path(f"/proc/{self.proc.pid}/stat").read_text().rpartition(") ")[2][0] in "tT"

    def state(self, what):
        """What its monitoring port says; None if it says nothing good."""
        with contextlib.suppress(OSError, ValueError):
            with urllib.request.urlopen(f"http://{self.address}:{self.monitor}/{what}", timeout=5) as answer:
                return json.load(answer)

    def stop(self):
        self._end(signal.SIGTERM)

    def kill(self):
        self._end(signal.SIGKILL)

    def _end(self, number):
        if self.runs():
            # A stopped one takes no other signal.
            self.proc.send_signal(signal.SIGCONT)
            self.proc.send_signal(number)
            self.proc.wait(PATIENCE)

    def pause(self):
        self.proc.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.proc.send_signal(signal.SIGCONT)

    def forget(self):
        """Removes the store of a server that does not run."""
        assert self.proc.poll() is not None
        subprocess.run(["rm", "-rf", self.store], check=True)

    def client(self, timeout=PATIENCE):
        return NatsClient(self.port, self.address, timeout)

    def ask(self, api, timeout=PATIENCE, **keys):
        """One request to the API of JetStream."""
        with self.client(timeout) as client:
            return client.api(api, **keys)

    def stream(self, gateway="default", timeout=PATIENCE):
        """The stream of a gateway; None if there is none."""
        found = self.ask(f"STREAM.INFO.wsgw-{gateway}", timeout)
        return None if "error" in found else found

    def delete_stream(self, gateway="default"):
        found = self.ask(f"STREAM.DELETE.wsgw-{gateway}")
        assert found.get("success"), found

    def purge_stream(self, gateway="default"):
        found = self.ask(f"STREAM.PURGE.wsgw-{gateway}")
        assert found.get("success"), found


class NatsClient:
    """A client of a NATS server: just enough to look at streams."""

    def __init__(self, port, host="127.0.0.1", timeout=PATIENCE):
        self.sock = socket.create_connection((host, port), timeout)
        self.buffer = b""
        self.info = json.loads(self._line().partition(b" ")[2])
        self.sids = 0
        self._write('CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\nPING\r\n')
        assert self._line() == b"PONG"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def _write(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def _more(self):
        data = self.sock.recv(1 << 16)
        if not data:
            raise EOFError
        self.buffer += data

    def _line(self):
        while b"\r\n" not in self.buffer:
            self._more()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def publish(self, subject, body=b"", reply=""):
        body = body.encode() if isinstance(body, str) else body
        self._write(f"PUB {subject} {reply} {len(body)}\r\n".encode() + body + b"\r\n")

    def subscribe(self, subject):
        self.sids += 1
        self._write(f"SUB {subject} {self.sids}\r\nPING\r\n")
        assert self._line() == b"PONG"

    def message(self):
        """Subject, headers and body of the next message."""
        while True:
            line = self._line().decode()
            if line == "PING":
                self._write("PONG\r\n")
            elif line.startswith(("MSG ", "HMSG ")):
                break
        kind, *words = line.split(" ")
        size, head = int(words[-1]), int(words[-2]) if kind == "HMSG" else 0
        while len(self.buffer) < size + 2:
            self._more()
        headers = dict(re.findall(r"([\w-]+): *([^\r]*)\r\n", self.buffer[:head].decode()))
        body, self.buffer = self.buffer[head:size], self.buffer[size + 2 :]
        return words[0], headers, body

    def request(self, subject, body=b""):
        inbox = f"_INBOX.test{id(self)}.{self.sids}"
        self.subscribe(inbox)
        self.publish(subject, body, inbox)
        return self.message()[2]

    def api(self, api, **keys):
        return json.loads(self.request(f"$JS.API.{api}", json.dumps(keys) if keys else ""))


class Wire:
    """A TCP proxy to a port of this machine, which can be harmed."""

    def __init__(self, port):
        self.to = port
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.up = True
        #: Which directions stand still: "up" to the server, "down" from it.
        self.still = set()
        #: Which directions go to nowhere.
        self.lost = set()
        #: Seconds that each piece is late.
        self.delay = 0
        self.pairs = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return f"nats://127.0.0.1:{self.port}"

    def _accept(self):
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            if not self.up:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.to), 5)
            except OSError:
                client.close()
                continue
            self.pairs.add((client, server))
            for way in ((client, server, "up"), (server, client, "down")):
                threading.Thread(target=self._carry, args=(client, server, *way), daemon=True).start()

    def _carry(self, client, server, source, target, way):
        late = []
        with contextlib.suppress(OSError, ValueError):
            while True:
                if way not in self.still and select.select([source], [], [], 0.002 if late else 0.05)[0]:
                    data = source.recv(1 << 16)
                    if not data:
                        break
                    late.append((time.monotonic() + self.delay, data))
                elif way in self.still:
                    time.sleep(0.01)
                while late and late[0][0] <= time.monotonic() and way not in self.still:
                    data = late.pop(0)[1]
                    if way not in self.lost:
                        target.sendall(data)
        self._close(client, server)

    def _close(self, *pair):
        self.pairs.discard(pair)
        for one in pair:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def stall(self, *ways):
        """Nothing comes through any more, and nobody is told."""
        self.still = set(ways or ("up", "down"))

    def lose(self, *ways):
        """What goes these ways is thrown away."""
        self.lost = set(ways)

    def go_on(self):
        self.still, self.lost = set(), set()

    def break_all(self):
        """Connections end; new ones are taken."""
        for pair in list(self.pairs):
            self._close(*pair)

    def cut(self):
        """Connections end, and there are no new ones."""
        self.up = False
        self.break_all()

    def mend(self):
        self.up = True

    def close(self):
        self.cut()
        self.server.close()


def config(url, gateway="", cluster="", mode="ordered", history="", more=""):
    """A config file of a node with one gateway, `default`."""
    urls = json.dumps(url if isinstance(url, list) else [url])
    table = f"[gateways.default.history]\n{history}\n" if history else ""
    return (f'[cluster]\nurl = {urls}\n{cluster}\n[gateways.default]\nport = 0\ncluster = "{mode}"\n'
            f"{gateway}\n{table}\n{more}\n")


class Nodes(list):
    """Nodes with one gateway, `default`, at one NATS server; `start` starts a `Serve`."""

    def __init__(self, start, nats):
        super().__init__()
        self.start, self.nats = start, nats

    def add(self, *args, url=None, listener=None, gateway="", name=None, **options):
        """Starts one more; the options are those of `config` and of `Serve`."""
        keys = {key: options.pop(key) for key in ("cluster", "mode", "history", "more") if key in options}
        if listener is not None:
            gateway = f"listener = {json.dumps([str(word) for word in listener])}\n{gateway}"
        text = config(url or self.nats.url, gateway, **keys)
        name = name or f"node{len(self)}"
        self.append(self.start(*args, config=text, name=name, **options))
        return self[-1]

    def many(self, count, **options):
        for _ in range(count):
            self.add(**options)
        self.await_all()
        return self

    def await_all(self, count=None):
        """Waits until each knows all."""
        living = [node for node in self if node.proc.poll() is None]
        for node in living:
            await_nodes(node, count or len(living))


def await_nodes(node, count, timeout=PATIENCE):
    """Waits until a node knows so many, itself among them, and its engine is there."""
    def known():
        status, outcome = ask_nodes(node)
        return status == 200 and outcome.get("nodes") == count
    wait_until(known, lambda: f"{count} nodes: {ask_nodes(node)}", timeout)


def ask_nodes(node):
    """What becomes of a push to nobody: it says how many nodes there are."""
    return node.push(message="", connections=[NOBODY], query="?hook=none")
