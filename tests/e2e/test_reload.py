"""What a reload does to gateways that run, fail, move or go."""

import json
import os
import signal
import socket
import ssl

import pytest

from harness import FAKE, certificate, wait_until, ws_client


def free_ports(count):
    socks = [socket.socket() for _ in range(count)]
    try:
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in socks]
    finally:
        for sock in socks:
            sock.close()


def works(client):
    client.send("works")
    assert client.recv() == "works"


def test_tls_that_cannot_be_used_leaves_the_clients_alone(serve, tmp_path):
    server = serve(config="[gateways.a]\nport = 0\nlistener = ['cat']\n")
    a, pid = server.connect(gateway="a"), server.status("a")["listener_pid"]
    (tmp_path / "bad.pem").write_text("nonsense")
    bad = f"tls-cert = '{tmp_path}/bad.pem'\ntls-key = '{tmp_path}/bad.pem'\n"
    done = server.reload(f"[gateways.a]\nport = 0\nlistener = ['cat']\n{bad}", 1)
    assert "bad.pem" in done.stderr and "as it was" in done.stderr
    works(a)
    now = server.status("a")
    assert (now["state"], now["listener_pid"], now["error"]) == ("running", pid, None)
    assert now["address"].startswith("ws://")


def test_tls_switched_on_and_off_keeps_the_port(serve, tmp_path):
    cert, key = certificate(tmp_path)
    server = serve(config="[gateways.a]\nport = 0\n")
    a, port = server.connect(gateway="a"), server.port("a")
    server.reload(f"[gateways.a]\nport = 0\ntls-cert = '{cert}'\ntls-key = '{key}'\n")
    assert a.await_close()[0] == 1001
    assert server.status("a")["address"] == f"wss://127.0.0.1:{port}"
    context = ssl.create_default_context(cafile=str(cert))
    b = ws_client(f"wss://127.0.0.1:{port}/", ssl=context)
    works(b)
    server.await_out(rf"gateway a listening on wss://127\.0\.0\.1:{port}\n")
    server.reload("[gateways.a]\nport = 0\n")
    assert b.await_close()[0] == 1001
    works(ws_client(f"ws://127.0.0.1:{port}/"))


def test_a_listener_that_fails_beside_a_new_port_leaves_all_as_it_was(serve):
    server = serve(config="[gateways.a]\nport = 0\nlistener = ['cat']\n")
    a = server.connect(gateway="a")
    (port,) = free_ports(1)
    done = server.reload(f"[gateways.a]\nport = {port}\nlistener = 'echo why >&2; exit 3'\n", 1)
    assert "why" in done.stderr
    works(a)
    # Nothing of the attempt is left.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))


def test_to_every_address_on_the_same_port(serve):
    (port,) = free_ports(1)
    server = serve(config=f"[gateways.a]\nport = {port}\n")
    a = server.connect(gateway="a")
    server.reload(f"[gateways.a]\nport = {port}\nhost = '0.0.0.0'\n")
    assert a.await_close()[0] == 1001
    assert server.status("a")["address"] == f"ws://0.0.0.0:{port}"
    works(ws_client(f"ws://127.0.0.1:{port}/"))


def test_one_gateway_takes_the_port_that_another_leaves(serve):
    one, two, three = free_ports(3)
    server = serve(config=f"[gateways.a]\nport = {one}\n[gateways.b]\nport = {two}\n")
    server.reload(f"[gateways.a]\nport = {two}\n[gateways.b]\nport = {three}\n")
    works(ws_client(f"ws://127.0.0.1:{two}/"))
    assert server.status("a")["address"].endswith(f":{two}")
    assert server.status("b")["address"].endswith(f":{three}")
    # A new one takes that of one that moves, too, whatever the order.
    server.reload(f"[gateways.c]\nport = {three}\n[gateways.b]\nport = {one}\n")
    assert server.status("c")["address"].endswith(f":{three}")


def test_a_failed_gateway_has_another_try(serve, tmp_path):
    (tmp_path / "a.pem").write_text("nonsense")
    text = (f"[gateways.a]\nport = 0\ntls-cert = '{tmp_path}/a.pem'\n"
            f"tls-key = '{tmp_path}/a.key'\n[gateways.b]\nport = 0\n")
    server = serve(config=text)
    assert server.status("a")["state"] == "failed"
    # Still so: that is no failure of the reload.
    server.reload(text)
    assert server.status("a")["state"] == "failed"
    certificate(tmp_path, "a")
    server.reload(text)
    assert server.status("a")["state"] == "running"


def test_what_was_stopped_by_hand_stays_so_whatever_changes(serve):
    server = serve(config="[gateways.a]\nport = 0\n[gateways.b]\nport = 0\n")
    server.cli("stop", "a")
    (port,) = free_ports(1)
    server.reload(f"[gateways.a]\nport = {port}\nlistener = ['cat']\n[gateways.b]\nport = 0\n")
    assert server.status("a")["state"] == "stopped"
    # The settings are there when it is started.
    assert server.cli("start", "a").returncode == 0
    assert server.status("a")["address"].endswith(f":{port}")


def test_one_that_becomes_disabled_stops(serve):
    server = serve(config="[gateways.a]\nport = 0\n[gateways.b]\nport = 0\n")
    a = server.connect(gateway="a")
    server.reload("[gateways.a]\nport = 0\nstartup = 'disabled'\n[gateways.b]\nport = 0\n")
    assert a.await_close()[0] == 1001
    assert server.status("a")["state"] == "stopped"
    done = server.cli("start", "a")
    assert done.returncode != 0 and "disabled" in done.stderr


def test_a_listener_that_cannot_be_started_where_there_was_none(serve):
    server = serve(config="[gateways.a]\nport = 0\n")
    a = server.connect(gateway="a")
    for listener in ("['/no/such/program']", "'exit 3'"):
        server.reload(f"[gateways.a]\nport = 0\nlistener = {listener}\n", 1)
        works(a)
        now = server.status("a")
        assert (now["state"], now["listener"], now["listener_pid"]) == ("running", "none", None)


def test_a_listener_that_comes_where_there_was_none_knows_who_is_there(serve, tmp_path):
    server = serve(config="[gateways.a]\nport = 0\n")
    a = server.connect("/here", gateway="a")
    works(a)
    listener = json.dumps([*map(str, FAKE), "--record", str(tmp_path / "r")])
    server.reload(f"[gateways.a]\nport = 0\nlistener = {listener}\n")
    works(a)
    lines = [json.loads(json.loads(line)["line"])
             for line in (tmp_path / "r").read_text().splitlines() if "line" in json.loads(line)]
    (opened,) = [e for e in lines if e["event"] == "onClientOpen"]
    assert opened["path"] == "/here" and "resumed" not in opened


def test_a_listener_that_crashes_again_and_again_is_replaced(serve, tmp_path):
    """While none is up the new one has to show that it lives, too."""
    crash = """echo '{"event":"onResult"}'; exit 1"""
    head = "[gateways.a]\nport = 0\nrestart-delay-max = '30s'\n"
    server = serve(config=head + f"listener = {json.dumps(crash)}\n")
    wait_until(lambda: server.status("a")["restarts"] >= 5, "crashes")
    done = server.reload(head + "listener = 'echo still bad >&2; exit 2'\n", 1)
    assert "still bad" in done.stderr
    assert server.status("a")["state"] == "running"
    server.reload(head + "listener = ['cat']\n")
    server.await_status("a", listener="up")
    b = server.connect(gateway="a")
    works(b)


def test_removed_gateways_stop_side_by_side(serve, tmp_path):
    """Each needs some seconds for a listener that does not want to end; together they need no more."""
    import time
    stubborn = json.dumps([*map(str, FAKE), "--ignore-eof"])
    text = "".join(f"[gateways.g{n}]\nport = 0\nlistener = {stubborn}\n" for n in range(3))
    server = serve(config=text)
    begun = time.monotonic()
    server.reload("[gateways.new]\nport = 0\n")
    assert time.monotonic() - begun < 9
    assert [g["id"] for g in server.api("GET", "/v1/gateways")[1]] == ["new"]


def test_the_log_level_applies_live(serve):
    server = serve(config="[log]\nlevel = 'error'\n[gateways.a]\nport = 0\n")
    server.connect(gateway="a")
    server.reload("[log]\nlevel = 'debug'\n[gateways.a]\nport = 0\n")
    server.connect("/seen", gateway="a")
    server.await_log("a k2 opened")
    assert "k1 opened" not in server.log()
    done = server.reload("[log]\nlevel = 'loud'\n[gateways.a]\nport = 0\n", 1)
    assert "loud" in done.stderr and ":2:" in done.stderr


def test_the_logs_directory_needs_a_new_serve(serve, tmp_path):
    server = serve(config="[gateways.a]\nport = 0\n", log_dir=False)
    done = server.reload(f"[log]\ndirectory = '{tmp_path}/elsewhere'\n[gateways.a]\nport = 0\n")
    assert "log" in done.stderr and "new" in done.stderr
    assert not (tmp_path / "elsewhere").exists()


def test_an_invalid_reload_by_sighup_changes_nothing(serve):
    server = serve(config="[gateways.a]\nport = 0\n")
    a = server.connect(gateway="a")
    server.config.write_text("[gateways.b]\nport = 0\nrouet = 'all'\n")
    server.signal(signal.SIGHUP)
    server.await_log(r"ERROR reload: nothing was changed: .*wsgw\.toml:3: .*rouet")
    works(a)
    assert [g["id"] for g in server.api("GET", "/v1/gateways")[1]] == ["a"]


def test_a_config_file_that_is_gone_changes_nothing(serve):
    server = serve(config="[gateways.a]\nport = 0\n")
    a = server.connect(gateway="a")
    os.remove(server.config)
    done = server.cli("reload")
    assert done.returncode == 1 and "wsgw.toml" in done.stderr
    works(a)


@pytest.mark.parametrize("what", ["reload", "stop"])
def test_a_signal_cuts_short_what_a_verb_waits_for(serve, what):
    import threading
    import time
    server = serve(config="[gateways.a]\nport = 0\ndrain = '60s'\nhooks = ['onMessage']\n"
                          "listener = 'while read -r x; do echo $x >/dev/null; done'\n"
                          "[gateways.b]\nport = 0\n")
    a = server.connect(gateway="a")
    a.send("never answered")
    server.await_metric("wsgw_listener_unanswered_events", 1, gateway="a")
    if what == "reload":
        server.config.write_text("[gateways.b]\nport = 0\n")
        verb = threading.Thread(target=server.cli, args=("reload",))
    else:
        verb = threading.Thread(target=server.cli, args=("stop", "a"))
    verb.start()
    server.await_log("a gateway stopping")
    begun = time.monotonic()
    server.signal()
    server.await_log("a second signal cuts it short")
    server.signal()
    assert server.wait() == 0
    assert time.monotonic() - begun < 10
    verb.join()


def test_from_a_listener_to_none_and_to_another(serve):
    """The client stays all the while."""
    gateway = "[gateways.a]\nport = 0\n"
    server = serve(config=gateway + 'listener = "sed -u s/cat/dog/"\n')
    client = server.connect(gateway="a")
    for listener, said in [(None, "dog"), ("", "cat"), ('listener = "sed -u s/cat/cow/"\n', "cow")]:
        if listener is not None:
            server.reload(gateway + listener)
        client.send("cat")
        assert client.recv() == said


def test_what_comes_after_a_reload_goes_by_it(serve):
    server = serve(config="[gateways.a]\nport = 0\n")
    a = server.connect(gateway="a")
    for turn in range(40):
        route = ("none", "all")[turn % 2]
        server.config.write_text(f"[gateways.a]\nport = 0\nroute = '{route}'\n")
        assert server.api("POST", "/v1/reload")[0] == 200
        a.send(f"x{turn}")
        if route == "all":
            assert a.recv() == f"x{turn}"
