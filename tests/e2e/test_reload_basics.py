"""A reload: what it adds, changes, replaces and leaves alone."""

import json
import signal
import socket

import pytest

from harness import FAKE


def fake(tmp_path, name, *more):
    return json.dumps([*map(str, FAKE), "--record", str(tmp_path / name), *more])


def test_reload_adds_and_removes(serve):
    server = serve(config="[gateways.a]\nport = 0\n[gateways.b]\nport = 0\n")
    a, b = server.connect(gateway="a"), server.connect(gateway="b")
    server.reload("[gateways.a]\nport = 0\n[gateways.c]\nport = 0\n")
    assert b.await_close()[0] == 1001
    assert {g["id"] for g in server.api("GET", "/v1/gateways")[1]} == {"a", "c"}
    server.connect(gateway="c")
    a.send("x")
    assert a.recv() == "x"


def test_an_invalid_reload_changes_nothing(serve):
    server = serve(config="[gateways.a]\nport = 0\n")
    a = server.connect(gateway="a")
    done = server.reload("[gateways.a]\nport = 0\nrouet = 'none'\n[gateways.b]\nport=0\n",
                         1)
    assert "rouet" in done.stderr and "wsgw.toml:3:" in done.stderr
    assert [g["id"] for g in server.api("GET", "/v1/gateways")[1]] == ["a"]
    a.send("x")
    assert a.recv() == "x"


def test_reload_of_a_live_key(serve):
    server = serve(config="[gateways.a]\nport = 0\n")
    a = server.connect(gateway="a")
    server.reload("[gateways.a]\nport = 0\nroute = 'none'\n")
    a.send("x")
    server.await_metric("wsgw_messages_received_total", 1, gateway="a")
    server.push(gateway="a", message="mark")
    assert a.recv() == "mark"


@pytest.mark.parametrize("change", ["listener", "hooks"])
def test_reload_replaces_the_listener_and_the_clients_stay(serve, tmp_path, change):
    old, new = fake(tmp_path, "old"), fake(tmp_path, "new")
    server = serve(config=f"[gateways.a]\nport = 0\nlistener = {old}\n")
    a, name = server.named(gateway="a")
    before = server.status("a")["listener_pid"]
    if change == "listener":
        server.reload(f"[gateways.a]\nport = 0\nlistener = {new}\n")
        record = tmp_path / "new"
    else:
        server.reload(f"[gateways.a]\nport = 0\nlistener = {old}\n"
                      "hooks = ['onClientOpen', 'onMessage']\n")
        record = tmp_path / "old"
    assert server.status("a")["listener_pid"] != before
    a.send("x")
    assert a.recv() == "x"
    lines = [json.loads(e["line"]) for e in map(json.loads, record.read_text().splitlines())
             if "line" in e]
    assert any(e["event"] == "onClientOpen" and e.get("resumed") for e in lines)


def test_reload_with_a_listener_that_fails_keeps_the_old_one(serve, tmp_path):
    old = fake(tmp_path, "old")
    server = serve(config=f"[gateways.a]\nport = 0\nlistener = {old}\n")
    a, _ = server.named(gateway="a")
    before = server.status("a")["listener_pid"]
    done = server.reload("[gateways.a]\nport = 0\nlistener = ['/no/such/program']\n", 1)
    assert "/no/such/program" in done.stderr
    assert server.status("a")["listener_pid"] == before
    a.send("x")
    assert a.recv() == "x"


def test_reload_to_another_port(serve):
    server = serve(config="[gateways.a]\nport = 0\n")
    a = server.connect(gateway="a")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server.reload(f"[gateways.a]\nport = {port}\n")
    assert a.await_close()[0] == 1001
    assert server.status("a")["address"] == f"ws://127.0.0.1:{port}"
    socket.create_connection(("127.0.0.1", port), 5).close()


def test_reload_to_a_taken_port_keeps_the_old_one(serve):
    server = serve(config="[gateways.a]\nport = 0\n")
    a = server.connect(gateway="a")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = server.reload(f"[gateways.a]\nport = {port}\n", 1)
    assert str(port) in done.stderr
    a.send("x")
    assert a.recv() == "x"


def test_what_is_stopped_stays_stopped(serve):
    server = serve(config="[gateways.a]\nport = 0\n[gateways.b]\nport = 0\n")
    server.cli("stop", "a")
    server.reload("[gateways.a]\nport = 0\nroute = 'none'\n[gateways.b]\nport = 0\n")
    assert server.status("a")["state"] == "stopped"


def test_a_changed_control_port_needs_a_new_serve(serve):
    server = serve(config="[control]\nlisten = '127.0.0.1:0'\n[gateways.a]\nport = 0\n",
                   control=False)
    server.await_control()
    server.config.write_text("[control]\nlisten = '127.0.0.1:1'\n[gateways.a]\nport = 0\n"
                             "[gateways.b]\nport = 0\n")
    done = server.cli("reload")
    assert "[control]" in done.stdout + done.stderr
    # The rest was applied, and the control port is where it was.
    assert server.status("b")["state"] == "running"


def test_reload_over_sighup_and_the_control_port(serve):
    server = serve(config="[gateways.a]\nport = 0\n")
    server.config.write_text("[gateways.a]\nport = 0\n[gateways.b]\nport = 0\n")
    status, answer = server.api("POST", "/v1/reload")
    assert status == 200 and [g["id"] for g in answer] == ["a", "b"]
    server.config.write_text("nonsense")
    assert server.api("POST", "/v1/reload")[0] >= 400
    server.signal(signal.SIGHUP)
    server.await_log(r"(WARN|ERROR).*wsgw\.toml")
