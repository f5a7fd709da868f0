"""The service manager: readiness, and sockets that are handed over."""

import contextlib
import os
import re
import signal
import socket
import threading

import pytest

from harness import PATIENCE, Raw, handed_over, wait_until


@pytest.fixture
def manager(tmp_path):
    """What systemd listens on for messages of its services."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.settimeout(PATIENCE)
        yield sock


@pytest.fixture
def acceptor():
    """A socket of the manager's, which outlives every `serve`."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(128)
        yield sock


def messages(manager):
    return manager.recv(4096).decode().splitlines()


def test_readiness(scripted, manager):
    server = scripted(env={"NOTIFY_SOCKET": manager.getsockname()})
    assert messages(manager) == ["READY=1"]
    server.connect().send("x")
    server.cli("reload")
    reloading = messages(manager)
    assert reloading[0] == "RELOADING=1"
    assert re.fullmatch(r"MONOTONIC_USEC=\d+", reloading[1])
    assert messages(manager) == ["READY=1"]
    server.signal()
    assert messages(manager) == ["STOPPING=1"]
    assert server.wait() == 0


def test_what_cannot_start_is_never_ready(serve, manager):
    server = serve(listener=["/no/such/program"], wait=False,
                   env={"NOTIFY_SOCKET": manager.getsockname()})
    assert server.wait() == 1
    assert messages(manager) == ["STOPPING=1"]


def test_it_is_ready_only_when_it_accepts(serve, manager):
    """A listener that shows no life yet holds readiness up."""
    server = serve(listener=["sleep", "100"], wait=False, env={"NOTIFY_SOCKET": manager.getsockname()})
    assert messages(manager) == ["READY=1"]
    assert "gateway default listening" in server.out()
    assert "control listening" in server.out()


def test_it_runs_though_its_manager_is_gone(serve, tmp_path):
    server = serve(env={"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    server.connect()


@pytest.mark.parametrize("by", ["address", "name"])
def test_a_socket_that_is_handed_over(serve, acceptor, by):
    port = acceptor.getsockname()[1]
    if by == "address":
        args = {"names": "wsgw.socket"}
        flags = ("--host", "127.0.0.1", "--port", port)
    else:
        args = {"names": "Chat"}
        flags = ("--id", "chat", "--port", "0")
    server = serve(*flags, port=False, **handed_over(acceptor, **args))
    gateway = "default" if by == "address" else "chat"
    assert server.port(gateway) == port
    a = server.connect(gateway=gateway)
    a.send("x")
    assert a.recv() == "x"
    # A verb takes it once more.
    assert server.cli("restart", gateway).returncode == 0
    assert a.await_close()[0] == 1001
    b = server.connect(gateway=gateway)
    b.send("again")
    assert b.recv() == "again"


def test_without_names_the_address_counts(serve, acceptor):
    port = acceptor.getsockname()[1]
    server = serve("--port", port, port=False, **handed_over(acceptor))
    server.connect()


def test_a_restart_loses_no_connection_attempt(serve, acceptor):
    port = acceptor.getsockname()[1]
    first = serve("--port", port, port=False, **handed_over(acceptor), name="first")
    stay = first.connect()
    first.signal()
    assert stay.await_close()[0] == 1001
    assert first.wait() == 0
    # Nobody accepts now, and nobody is refused.
    waiting = [Raw(port).request() for _ in range(20)]
    second = serve("--port", port, port=False, **handed_over(acceptor), name="second")
    for link in waiting:
        assert link.response()[0] == 101
        link.close()
    second.stop()


def test_connection_attempts_all_through_a_restart(serve, acceptor):
    """Clients that come all the time, while one `serve` stops and the next one starts."""
    port = acceptor.getsockname()[1]
    first = serve("--port", port, port=False, **handed_over(acceptor), name="first",
                  listener=["cat"])
    over = threading.Event()
    answers = []

    def come():
        while not over.is_set():
            with contextlib.closing(Raw(port)) as link:
                answers.append(link.request().response()[0])

    threads = [threading.Thread(target=come) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(answers) > 20, "clients")
        first.signal()
        assert first.wait() == 0
        second = serve("--port", port, port=False, **handed_over(acceptor), name="second",
                       listener=["cat"])
        before = len(answers)
        wait_until(lambda: len(answers) > before + 20, "clients")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    # One that was in the middle of its handshake at the stop is told to come back; it may do so on
    # a shard that has not heard of the stop yet.
    assert set(answers) <= {101, 503}
    assert answers.count(503) <= len(threads) * len(os.sched_getaffinity(0))
    second.stop()


def test_sockets_of_another_process_are_left_alone(serve, acceptor):
    port = acceptor.getsockname()[1]
    server = serve("--port", port, port=False, wait=False, **handed_over(acceptor, pid="1"))
    assert server.wait() == 1
    assert str(port) in server.err()


def test_what_nobody_uses_is_said(serve, acceptor, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, \
            socket.socket(socket.AF_UNIX) as unix:
        other.bind(str(tmp_path / "other"))
        unix.bind(str(tmp_path / "unix"))
        unix.listen()
        server = serve(**handed_over(acceptor, other, unix, names="spare:other:more"))
    err = server.err()
    assert re.search(rf"WARN .*127\.0\.0\.1:{acceptor.getsockname()[1]}.*spare", err)
    assert re.search(r"WARN .*descriptor 4 .*other", err)
    assert re.search(rf"WARN .*{tmp_path}/unix .*more", err)
    server.connect()


def test_the_listener_gets_none_of_it(scripted, acceptor, manager):
    import json
    port = acceptor.getsockname()[1]
    server = scripted("--port", port, port=False, env={"NOTIFY_SOCKET": manager.getsockname()},
                      **handed_over(acceptor, names="x"))
    client = server.connect()
    client.send("!env")
    assert not [k for k in json.loads(client.recv()) if k.startswith(("LISTEN_", "NOTIFY_"))]
    client.send("!process")
    assert len(json.loads(client.recv())["fds"]) <= 5


def test_tls_and_a_reload_keep_the_socket(serve, acceptor):
    port = acceptor.getsockname()[1]
    server = serve(config=f"[gateways.a]\nport = {port}\n", **handed_over(acceptor))
    a = server.connect(gateway="a")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        other = probe.getsockname()[1]
    server.config.write_text(f"[gateways.a]\nport = {other}\n")
    assert server.cli("reload").returncode == 0
    assert a.await_close()[0] == 1001
    assert server.status("a")["address"].endswith(f":{other}")
    # And back again.
    server.config.write_text(f"[gateways.a]\nport = {port}\n")
    server.signal(signal.SIGHUP)
    wait_until(lambda: (server.status("a")["address"] or "").endswith(f":{port}"), "the old port")
    link = Raw(port).request()
    assert link.response()[0] == 101
    link.close()
