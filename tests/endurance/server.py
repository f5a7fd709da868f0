"""`wsgw serve` for the endurance tests: its config and its control port."""

import asyncio
import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from harness import ServeProcess, certificate  # noqa: E402

#: Open files that `serve` may have: few, so that they run out.
FILES = 200


class Server(ServeProcess):
    """A running `serve` whose control port is asked without blocking the loop."""

    def __init__(self, directory, log_dir, keys="", config=None, files=FILES, tls=False,
                 gateways=("chat", "side")):
        self.journal = directory / "journal"
        self.keys = keys
        self.gateways = gateways
        self.tls = 'tls-cert = "one.pem"\ntls-key = "one.key"' if tls else ""
        if tls:
            certificate(directory)
        config = self.config_text(directory, window=256) if config is None else config
        super().__init__(directory, config=config, files=files, log_dir=log_dir)

    def write_config(self, window, listener_turn):
        """Another config, for a reload."""
        self.config.write_text(self.config_text(self.dir, window, listener_turn))

    def config_text(self, directory, window, listener_turn=0):
        """`listener_turn` changes the command, so that a reload replaces the process."""
        command = [
            sys.executable,
            "-u",
            str(HERE / "listener.py"),
            str(directory / "journal"),
            str(listener_turn),
        ]
        return f"""
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
"""

    async def ready(self):
        """Waits until its gateways and the control port are there."""
        await asyncio.to_thread(self.await_control)
        for gateway in self.gateways:
            await asyncio.to_thread(self.port, gateway)

    async def http(self, method, path, body=b"", timeout=90):
        """Status and body of one request."""
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection("127.0.0.1", self.control_port), timeout
        )
        try:
            writer.write(
                f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
                f"Authorization: Bearer {self.token}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
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


def unchunked(body):
    out = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        size = int(size, 16)
        if size == 0:
            break
        out, body = out + body[:size], body[size + 2 :]
    return out
