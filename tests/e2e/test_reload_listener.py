"""Reloads that take a listener away, give one, or ask it less: nothing is lost on the way."""

import json
import os
import signal
import threading

import pytest

from harness import FAKE, Record


class Reloaded:
    """A gateway whose listener comes and goes."""

    def __init__(self, serve, directory, keys=""):
        self.command = [*map(str, FAKE), "--record", str(directory / "record")]
        self.serve = serve(config=self.text(keys))
        self.serve.record = Record(directory / "record")

    @staticmethod
    def text(keys):
        return f"[gateways.default]\nport = 0\n{keys}\n"

    def listener(self, *script):
        return f"listener = {json.dumps([*self.command, *script])}\n"

    def reload(self, keys):
        self.serve.config.write_text(self.text(keys))
        done = self.serve.cli("reload")
        assert done.returncode == 0, done.stderr


@pytest.fixture
def reloaded(serve, tmp_path):
    return Reloaded(serve, tmp_path)


def test_ids_are_never_used_again(reloaded):
    server = reloaded.serve
    reloaded.reload(reloaded.listener())
    a = server.connect()
    for n in range(5):
        a.send(str(n))
        assert a.recv() == str(n)
    last = max(e["id"] for e in server.record.events())
    reloaded.reload("")
    a.send("to nobody's listener")
    assert a.recv() == "to nobody's listener"
    reloaded.reload(reloaded.listener())
    a.send("again")
    assert a.recv() == "again"
    new = server.record.events(pid=server.record.pids()[-1])
    assert [e["event"] for e in new] == ["onClientOpen", "onMessage"]
    assert min(e["id"] for e in new) > last


@pytest.mark.parametrize("hooks", [None, '["onClientClose"]', '["none"]'])
def test_what_waits_for_a_listener_that_goes_is_sent_on(reloaded, hooks):
    server = reloaded.serve
    keys = "window = 4\nlistener-timeout = '60s'\n"
    reloaded.reload(reloaded.listener("--silent") + keys)
    a, b = server.connect(), server.connect()
    for n in range(10):
        a.send(str(n))
    server.record.wait("onMessage", 1)
    less = f"listener = ['sleep', '3600']\nhooks = {hooks}\n" if hooks else ""
    reloaded.reload(less + keys)
    assert b.recv_many(10) == [str(n) for n in range(10)]
    # It is no fuller than before: its share of the window is its own again.
    for n in range(20):
        a.send(f"then {n}")
    assert b.recv_many(20) == [f"then {n}" for n in range(20)]


def test_nothing_is_lost_while_listeners_come_and_go(reloaded):
    server = reloaded.serve
    links = [server.connect() for _ in range(6)]
    stop = threading.Event()
    sent = [0] * len(links)

    def send():
        while not stop.is_set():
            for n, link in enumerate(links):
                link.send(f"{n}:{sent[n]}")
                sent[n] += 1
            stop.wait(0.002)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(3):
            reloaded.reload(reloaded.listener())
            reloaded.reload("")
    finally:
        stop.set()
        sender.join()
    assert server.metric("wsgw_messages_dropped_total") == 0
    for link in links:
        got = link.recv_many(sum(sent))
        assert len(set(got)) == len(got)


def test_a_listener_that_is_replaced_is_not_poisoned(scripted):
    """A message that is alone in flight while we replace the listener is not to blame."""
    server = scripted("--listener-timeout", "60s", script=["--silent"])
    a = server.connect()
    a.send("slow")
    server.record.wait("onMessage")
    for n in range(4):
        done = server.cli("restart", "default", "--listener")
        assert done.returncode == 0, done.stderr
        server.record.wait("onMessage", n + 2)
    assert server.metric("wsgw_messages_dropped_total") == 0
    os.kill(server.status()["listener_pid"], signal.SIGKILL)
    again = server.record.wait("onMessage", 6)
    assert len({e["id"] for e in again}) == 1
