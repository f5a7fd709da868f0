"""`wsgw serve` for the chaos test: its config, its control port, and what the kernel says of it."""

import asyncio
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))

from certificate import certificate  # noqa: E402

WSGW = str(Path(os.environ.get("WSGW_BIN") or HERE.parent.parent / "target/debug/wsgw").resolve())

#: Open files that `serve` may have: few, so that they run out.
FILES = 200


class Server:
    def __init__(self, directory, log_dir, keys="", config=None, files=FILES, tls=False):
        self.dir = directory
        self.tls = 'tls-cert = "one.pem"\ntls-key = "one.key"' if tls else ""
        if tls:
            certificate(directory)
        self.journal = directory / "journal"
        self.config = directory / "wsgw.toml"
        self.log_dir = log_dir
        self.keys = keys
        if config is None:
            self.write_config(window=256)
        else:
            self.config.write_text(config)
        env = {k: v for k, v in os.environ.items() if not k.startswith(("WSGW_", "XDG_", "RUST_"))}
        env |= {"HOME": str(directory), "XDG_STATE_HOME": str(directory / "state")}
        with open(directory / "stdout", "wb") as out, open(directory / "stderr", "wb") as err:
            self.proc = subprocess.Popen(
                [WSGW, "serve", "--config", str(self.config), "--control", "127.0.0.1:0",
                 "--log-dir", str(log_dir)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env, cwd=directory,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)),
            )
        self.pid = self.proc.pid

    def write_config(self, window, listener_turn=0):
        """`listener_turn` changes the command, so that a reload replaces the process."""
        command = [sys.executable, "-u", str(HERE / "listener.py"), str(self.journal),
                   str(listener_turn)]
        self.config.write_text(f"""
[defaults]
restart-delay-max = "100ms"
drain = "500ms"
{self.tls}

[gateways.chat]
port = 0
listener = {json.dumps(command)}
window = {window}
listener-timeout = "60s"
max-queue = "4MiB"
ping-interval = "1s"
{self.keys}

[gateways.side]
port = 0
listener = ["cat"]
route = "sender"
""")

    async def ready(self):
        """Waits until both gateways and the control port are there."""
        for _ in range(1000):
            text = (self.dir / "stdout").read_text()
            control = re.search(r"control listening on http://127.0.0.1:(\d+)\n", text)
            if control and all(self.port(g) for g in ("chat", "side")):
                self.control = int(control[1])
                path = self.dir / f"state/wsgw/control-{self.control}.json"
                self.token = json.loads(path.read_text())["token"]
                return
            assert self.proc.poll() is None, self.stderr()
            await asyncio.sleep(0.02)
        raise AssertionError(f"it does not start: {self.stderr()}")

    def port(self, gateway):
        text = (self.dir / "stdout").read_text()
        found = re.findall(rf"gateway {gateway} listening on wss?://127.0.0.1:(\d+)\n", text)
        return int(found[-1]) if found else None

    def stderr(self):
        return (self.dir / "stderr").read_text()[-4000:]

    async def http(self, method, path, body=b"", timeout=90):
        """Status and body of one request."""
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection("127.0.0.1", self.control), timeout)
        try:
            writer.write(
                f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
                f"Authorization: Bearer {self.token}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body)
            answer = await asyncio.wait_for(reader.read(), timeout)
        finally:
            writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        if b"chunked" in head.lower():
            body = unchunked(body)
        return int(head.split(b" ", 2)[1]), body.decode()

    async def status(self, gateway="chat"):
        status, text = await self.http("GET", f"/v1/gateways/{gateway}")
        assert status == 200, (status, text)
        return json.loads(text)

    async def metrics(self, gateway="chat"):
        """Every counter of the gateway, the labels of one family added up."""
        totals = {}
        for line in (await self.http("GET", "/metrics"))[1].splitlines():
            found = re.fullmatch(rf'(\w+)\{{gateway="{gateway}"(.*)\}} (\S+)', line)
            if found:
                totals[found[1]] = totals.get(found[1], 0) + float(found[3])
                if found[2]:
                    totals[found[1] + found[2]] = float(found[3])
        return totals

    # What the kernel says.

    def fds(self):
        """Descriptors, by what they are."""
        kinds = {}
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                kind = os.readlink(f"/proc/{self.pid}/fd/{fd}").split(":")[0]
            except OSError:
                continue
            kinds[kind] = kinds.get(kind, 0) + 1
        return kinds

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def rss_kib(self):
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text())[1])

    def children(self):
        """Processes whose parent it is, zombies too."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    stat = (entry / "stat").read_text()
                except OSError:
                    continue
                if int(stat.rpartition(")")[2].split()[1]) == self.pid:
                    found.append(int(entry.name))
        return found


def unchunked(body):
    out = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        size = int(size, 16)
        if size == 0:
            break
        out, body = out + body[:size], body[size + 2 :]
    return out
