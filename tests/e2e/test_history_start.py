"""Clients that come back the moment that `serve` is there again."""

import json
import socket
import time

from harness import PATIENCE, free_port, ws_client

CONFIG = """
[gateways.default]
port = {}
channels = "query"
allow-channels = ["*"]
[gateways.default.history]
broadcast = 10
file = "history.db"
"""


def first_client(port, since):
    """Knocks until somebody answers, without a pause."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            client = ws_client(f"ws://127.0.0.1:{port}/?since={since}", subprotocols=["wsgw.v1"])
            return client, json.loads(client.recv())
        except (OSError, EOFError, socket.timeout):
            assert time.monotonic() < deadline, "nobody answers"


def test_the_first_client_after_a_start_can_resume(serve):
    port = free_port()
    server = serve(config=CONFIG.format(port), name="one")
    client, hello = first_client(port, "0")
    for _ in range(30):
        client.send("hi")
        before, at = hello["at"], json.loads(client.recv())["at"]
        server.proc.kill()
        server.proc.wait(30)
        server = serve(config=CONFIG.format(port), name="one", wait=False)
        client, hello = first_client(port, before)
        assert hello.get("recovered") is True, (before, hello)
        assert json.loads(client.recv())["at"] == at
        hello["at"] = at
    server.await_control()
