"""`wsgw serve`: flags, the config file, lifecycle, reload, announcements (contract: section 2)."""

import json
import os
import re
import signal
import socket
import stat
import subprocess

import pytest
from websockets.exceptions import InvalidStatus

from harness import FAKE, WSGW, Serve, private_env, run_cli, wait_until, ws_client


def usage(tmp_path, *args):
    return run_cli(tmp_path, "serve", "--port", "0", "--control", "127.0.0.1:0", *args, timeout=20)


# Announcements, ports.


def test_what_is_announced_accepts(serve):
    server = serve()
    lines = server.out().splitlines()
    assert re.fullmatch(r"gateway default listening on ws://127\.0\.0\.1:\d+", lines[0])
    assert re.fullmatch(r"control listening on http://127\.0\.0\.1:\d+", lines[1])
    assert len(lines) == 2
    server.connect()


def test_the_state_file(serve):
    server = serve()
    path = server.state / f"control-{server.control_port}.json"
    found = json.loads(path.read_text())
    assert found["url"] == server.control_url
    assert found["pid"] == server.pid
    assert len(found["token"]) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    server.stop()
    assert not path.exists()


def test_ipv6(serve):
    server = serve("--host", "::1")
    port = server.await_out(r"gateway default listening on ws://\[::1\]:(\d+)\n")[1]
    socket.create_connection(("::1", int(port)), 5).close()


def test_the_default_ports(serve):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for port in (10124, 10125):
            with socket.socket() as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind(("127.0.0.1", port))
    server = serve(port=False, control=False)
    server.await_out(r"gateway default listening on ws://127\.0\.0\.1:10125\n")
    server.await_out(r"control listening on http://127\.0\.0\.1:10124\n")
    sent = run_cli(server.dir, "send", "x")
    assert (sent.returncode, sent.stdout) == (0, "delivered 0\n")


def test_a_taken_port_is_an_error_that_says_what_to_do(serve):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = serve("--port", port, "--id", "chat", port=False, wait=False)
        assert server.wait() == 1
        for word in (str(port), "chat", "--port"):
            assert word in server.err()


def test_a_taken_control_port(serve):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = serve("--control", f"127.0.0.1:{port}", control=False, wait=False)
        assert server.wait() == 1
        assert str(port) in server.err() and "--control" in server.err()


def test_with_several_gateways_a_taken_port_fails_that_one_alone(serve):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = serve(config=f"[gateways.a]\nport = {port}\n[gateways.b]\nport = 0\n")
        server.connect(gateway="b")
        status = server.status("a")
        assert status["state"] == "failed"
        assert str(port) in status["error"] and "taken" in status["error"]
        assert server.status("b")["state"] == "running"
        assert server.http("GET", "/healthz")[0] == 200
    # It can be started once the port is free.
    assert server.cli("start", "a").returncode == 0
    server.connect(gateway="a")


def test_no_automatic_gateway_could_be_started(serve):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = serve(wait=False, config=f"[gateways.a]\nport = {port}\n"
                       "[gateways.b]\nport = 0\nstartup = 'manual'\n")
        assert server.wait() == 1


def test_the_control_port_can_be_off(serve):
    server = serve("--control", "off", control=False)
    server.connect().send("x")
    assert "control listening" not in server.out()


# Flags.


@pytest.mark.parametrize(("args", "code", "said"), [
    (["--prot", "1"], 2, "--prot"),
    (["--route", "some"], 2, "--route"),
    (["--listener", "cat", "--", "cat"], 2, "--listener"),
    (["--config", "none.toml"], 1, "none.toml"),
    (["--config", "bad.toml"], 1,
     'bad.toml:2: gateways.chat: unknown key "prot" (did you mean "port"?)'),
    (["--max-message", "16MiB"], 2, "max-line"),
    (["--log-dir", "/proc/nope"], 1, "/proc/nope"),
    (["--log-level", "loud=["], 2, "log level"),
])
def test_what_is_wrong_is_named(tmp_path, args, code, said):
    (tmp_path / "bad.toml").write_text("[gateways.chat]\nprot = 1\n")
    done = run_cli(tmp_path, "serve", *args, timeout=20)
    assert done.returncode == code, done.stderr
    assert said in done.stderr


@pytest.mark.parametrize("args", [
    ("--no-such-flag",), ("--port", "65536"), ("--port", "x"),
    ("--startup", "later"), ("--hooks", "onclientopen"), ("--hooks", "onMessage,none"),
    ("--on-timeout", "explode"), ("--listener-timeout", "soon"), ("--listener-timeout", "0"),
    ("--max-message", "1 elephant"), ("--window", "0"), ("--id", "Bad Id"), ("--id", ""),
    ("--id", "x" * 65), ("--trusted-proxies", "10.0.0.0/99"), ("--control", "nowhere"),
    ("--log-level", "wsgw=loudest"), ("--tls-cert", "only-one.pem"), ("--max-rate", "-1"),
    ("stray",), ("--config", "/no/such/file.toml"),
])
def test_wrong_flags(tmp_path, args):
    done = usage(tmp_path, *args)
    assert done.returncode in (1, 2), done
    assert done.stdout == ""
    assert "panicked" not in done.stderr and done.stderr.strip()


def test_ids_are_trimmed_and_lower_cased(serve):
    server = serve("--id", " CHAT-1.x_ ")
    assert server.status("chat-1.x_")["id"] == "chat-1.x_"


def test_ids_that_become_equal_are_an_error(serve):
    server = serve(config='[gateways.chat]\nport = 0\n[gateways."Chat "]\nport = 0\n', wait=False)
    assert server.wait() != 0
    assert "chat" in server.err()


def test_help_and_version(tmp_path):
    assert run_cli(tmp_path, "--version").stdout.startswith("wsgw ")
    assert "serve" in run_cli(tmp_path, "--help").stdout
    assert run_cli(tmp_path).returncode == 2


# The config file.


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gateways.a]\nport = 0\nlisteners = ['cat']\n", ("listeners", "3")),
        ("[gateways.a]\nport = 0\n\n\nPort = 1\n", ("Port", "5")),
        ("[defaults]\nroutes = 'all'\n[gateways.a]\nport = 0\n", ("routes", "2")),
        ("[log]\nfile = 'x'\n[gateways.a]\nport = 0\n", ("file", "2")),
        ("[control]\nport = 1\n[gateways.a]\nport = 0\n", ("port", "2")),
        ("[gateway.a]\nport = 0\n", ("gateway", "1")),
        ("[gateways.a\nport = 0\n", ("1",)),
        ("[gateways.a]\nport = 0\nroute = 'some'\n", ("route", "some")),
        ("[gateways.a]\nport = 'x'\n", ("port",)),
        ("[gateways.a]\nport = 0\nlistener-timeout = 'x'\n", ("listener-timeout",)),
        ("[gateways.a]\nport = 0\nmax-message = '1 kilo'\n", ("max-message",)),
        ("[gateways.a]\nport = 0\nlistener = []\n", ("listener",)),
        ("[gateways.a]\nport = 0\nhooks = ['onMassage']\n", ("onMassage",)),
    ],
)
def test_a_wrong_config_names_the_key_and_the_line(serve, text, said):
    server = serve(config=text, wait=False)
    assert server.wait() != 0
    assert "wsgw.toml" in server.err()
    for word in said:
        assert word in server.err()


def test_several_gateways_with_defaults(serve, tmp_path):
    records = {name: tmp_path / f"record-{name}" for name in "ab"}

    def listener(name):
        return json.dumps([*map(str, FAKE), "--record", str(records[name])])

    server = serve(config=f"""
        [defaults]
        port = 0
        route = "sender"
        [gateways.a]
        listener = {listener("a")}
        [gateways.b]
        listener = {listener("b")}
        route = "all"
        [gateways.C]
    """)
    assert [g["id"] for g in server.api("GET", "/v1/gateways")[1]] == ["a", "b", "c"]
    a1, a2 = server.named(gateway="a"), server.named(gateway="a")
    b1, b2 = server.named(gateway="b"), server.named(gateway="b")
    # Names are unique among all gateways.
    assert len({name for _, name in (a1, a2, b1, b2)}) == 4
    a1[0].send("to me")
    b1[0].send("to all")
    assert a1[0].recv() == "to me"
    assert b2[0].recv() == "to all"
    a2[0].send("me too")
    assert a2[0].recv() == "me too"
    server.api("POST", "/v1/gateways/a/stop")
    assert a1[0].await_close()[0] == 1001
    b1[0].send("still")
    assert b2[0].recv() == "still"


def test_a_string_listener_is_for_the_shell(serve):
    server = serve(config="[gateways.a]\nport = 0\nlistener = 'cat | cat'\n")
    a = server.connect(gateway="a")
    a.send("x")
    assert a.recv() == "x"


def test_units(serve):
    server = serve(config="""
        [gateways.a]
        port = 0
        listener-timeout = "250ms"
        hang-timeout = 60
        drain = 0.5
        ping-interval = "5m"
        max-message = "1KiB"
        max-line = "1MiB"
        max-queue = 65536
    """)
    a = server.connect(gateway="a")
    a.send("x" * 1025)
    assert a.await_close()[0] == 1009


def test_a_flag_needs_an_id_with_several_gateways(serve):
    config = "[gateways.a]\nport = 0\n[gateways.b]\nport = 0\n"
    server = serve("--route", "none", config=config, wait=False)
    assert server.wait() == 2
    assert "--id" in server.err()
    server = serve("--route", "none", "--id", "b", config=config)
    a = server.connect(gateway="b")
    a.send("x")
    server.push(gateway="b", message="mark")
    assert a.recv() == "mark"


def test_a_flag_wins_over_the_file_of_one_gateway(serve):
    server = serve("--route", "none", config="[gateways.a]\nport = 0\nroute = 'all'\n")
    a = server.connect(gateway="a")
    a.send("x")
    server.push(gateway="a", message="mark")
    assert a.recv() == "mark"


def test_an_implicit_file_and_how_it_is_set_aside(serve, tmp_path):
    directory = tmp_path / "s"
    (directory / "config/wsgw").mkdir(parents=True)
    (directory / "config/wsgw/wsgw.toml").write_text("[gateways.fromfile]\nport = 0\n")
    server = serve(port=False, name="s")
    server.connect(gateway="fromfile")
    server.stop()
    server = serve("--port", "0", port=False, name="s")
    assert [g["id"] for g in server.api("GET", "/v1/gateways")[1]] == ["default"]
    assert "wsgw.toml" in server.err() and "set aside" in server.err()


def test_the_startup_modes(serve):
    server = serve(config="""
        [defaults]
        port = 0
        [gateways.auto]
        [gateways.hand]
        startup = "manual"
        [gateways.off]
        startup = "disabled"
    """)
    states = {g["id"]: g["state"] for g in server.api("GET", "/v1/gateways")[1]}
    assert states == {"auto": "running", "hand": "stopped", "off": "stopped"}
    assert server.cli("start", "hand").returncode == 0
    assert server.status("hand")["state"] == "running"
    server.connect(gateway="hand")
    done = server.cli("start", "off")
    assert done.returncode == 4 and "disabled" in done.stderr
    assert server.status("off")["state"] == "stopped"


# Lifecycle verbs.


def test_verbs(scripted):
    server = scripted("--id", "chat")
    a = server.connect(gateway="chat")
    server.record.wait("onClientOpen")
    (pid,) = server.record.wait_pids(1)
    port = server.port("chat")
    assert server.cli("stop", "chat").returncode == 0
    assert a.await_close()[0] == 1001
    assert server.status("chat")["state"] == "stopped"
    assert server.record.wait_mark("eof")
    assert server.cli("stop", "chat").returncode == 0
    assert server.http("GET", "/healthz")[0] == 200
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), 5)
    assert server.cli("start", "chat").returncode == 0
    assert server.cli("start", "chat").returncode == 0
    new = server.status("chat")
    assert new["state"] == "running" and new["listener_pid"] != pid
    b = server.connect(gateway="chat") if new["address"].endswith(str(port)) else None
    assert server.cli("restart", "chat").returncode == 0
    if b:
        assert b.await_close()[0] == 1001
    assert server.cli("stop", "nope").returncode == 4


def test_restart_of_the_listener_alone(scripted):
    server = scripted()
    a, name = server.named()
    (old,) = server.record.wait_pids(1)
    assert server.cli("restart", "default", "--listener").returncode == 0
    new = server.status()["listener_pid"]
    assert new != old
    (opened,) = server.record.wait("onClientOpen", 1, pid=new)
    assert opened["resumed"] is True and opened["conn"] == name
    a.send("x")
    assert a.recv() == "x"


def test_status(scripted):
    server = scripted()
    a, _ = server.named()
    a.send("x")
    a.recv()
    # It is counted behind the write: the client may be quicker.
    one = server.await_status(messages_out=2)
    assert {"id", "state", "listener", "address", "connections", "messages_in", "messages_out",
            "restarts", "listener_pid", "error"} <= set(one)
    assert (one["state"], one["listener"], one["connections"]) == ("running", "up", 1)
    assert one["address"] == f"ws://127.0.0.1:{server.port()}"
    assert (one["messages_in"], one["messages_out"], one["restarts"]) == (2, 2, 0)
    assert one["listener_pid"] == server.record.pids()[0]
    assert one["error"] is None
    shown = server.cli("status")
    assert shown.returncode == 0
    for word in ("default", "running", str(one["listener_pid"]), one["address"]):
        assert word in shown.stdout
    assert isinstance(json.loads(server.cli("status", "--json").stdout), list)
    assert json.loads(server.cli("status", "default", "--json").stdout)["id"] == "default"
    assert server.cli("status", "nope").returncode == 4


def test_connections_and_close(scripted):
    server = scripted()
    (a, na), (b, nb) = server.named("/a?x=1"), server.named("/b")
    listed = server.connections()
    assert {c["conn"]: c["path"] for c in listed} == {na: "/a", nb: "/b"}
    for one in listed:
        assert one["remote"].startswith("127.0.0.1:")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", one["opened_at"])
        assert one["queued_bytes"] == 0
    shown = server.cli("connections")
    assert na in shown.stdout and "/b" in shown.stdout
    assert len(json.loads(server.cli("connections", "default", "--json").stdout)) == 2
    path = "/v1/gateways/default/connections/"
    assert server.api("GET", path + na)[1]["conn"] == na
    assert server.cli("close", "default", na).returncode == 0
    assert a.await_close() == (1000, "")
    done = server.cli("close", "default", nb, "--code", "4007", "--reason", "out, please")
    assert done.returncode == 0
    assert b.await_close() == (4007, "out, please")
    server.await_connections(0)
    assert server.api("GET", path + na)[0] == 404
    status, answer = server.api("DELETE", path + na)
    assert (status, answer["error"]["code"]) == (404, "unknown_connection")
    assert server.cli("close", "default", na).returncode == 4


def test_close_over_the_control_port(scripted):
    server = scripted()
    a, na = server.named()
    path = f"/v1/gateways/default/connections/{na}"
    assert server.api("DELETE", path + "?code=1006")[0] == 400
    assert server.http("DELETE", path + "?code=4001&reason=a%20b")[0] in (200, 204)
    assert a.await_close() == (4001, "a b")


# Reload.


def reload_config(server, text, code=0):
    server.config.write_text(text)
    done = server.cli("reload")
    assert done.returncode == code, done
    return done


def fake(tmp_path, name, *more):
    return json.dumps([*map(str, FAKE), "--record", str(tmp_path / name), *more])


def test_reload_adds_and_removes(serve):
    server = serve(config="[gateways.a]\nport = 0\n[gateways.b]\nport = 0\n")
    a, b = server.connect(gateway="a"), server.connect(gateway="b")
    reload_config(server, "[gateways.a]\nport = 0\n[gateways.c]\nport = 0\n")
    assert b.await_close()[0] == 1001
    assert {g["id"] for g in server.api("GET", "/v1/gateways")[1]} == {"a", "c"}
    server.connect(gateway="c")
    a.send("x")
    assert a.recv() == "x"


def test_an_invalid_reload_changes_nothing(serve):
    server = serve(config="[gateways.a]\nport = 0\n")
    a = server.connect(gateway="a")
    done = reload_config(server, "[gateways.a]\nport = 0\nrouet = 'none'\n[gateways.b]\nport=0\n",
                         1)
    assert "rouet" in done.stderr and "wsgw.toml:3:" in done.stderr
    assert [g["id"] for g in server.api("GET", "/v1/gateways")[1]] == ["a"]
    a.send("x")
    assert a.recv() == "x"


def test_reload_of_a_live_key(serve):
    server = serve(config="[gateways.a]\nport = 0\n")
    a = server.connect(gateway="a")
    reload_config(server, "[gateways.a]\nport = 0\nroute = 'none'\n")
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
        reload_config(server, f"[gateways.a]\nport = 0\nlistener = {new}\n")
        record = tmp_path / "new"
    else:
        reload_config(server, f"[gateways.a]\nport = 0\nlistener = {old}\n"
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
    done = reload_config(server, "[gateways.a]\nport = 0\nlistener = ['/no/such/program']\n", 1)
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
    reload_config(server, f"[gateways.a]\nport = {port}\n")
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
        done = reload_config(server, f"[gateways.a]\nport = {port}\n", 1)
    assert str(port) in done.stderr
    a.send("x")
    assert a.recv() == "x"


def test_what_is_stopped_stays_stopped(serve):
    server = serve(config="[gateways.a]\nport = 0\n[gateways.b]\nport = 0\n")
    server.cli("stop", "a")
    reload_config(server, "[gateways.a]\nport = 0\nroute = 'none'\n[gateways.b]\nport = 0\n")
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


# Logs.


def test_the_log(scripted):
    server = scripted("--log-level", "info")
    a, name = server.named("/p")
    a.send("a secret body")
    assert a.recv() == "a secret body"
    a.close()
    server.record.wait("onClientClose")
    server.stop()
    log = server.log()
    assert re.search(rf"INFO default {name} opened", log)
    assert re.search(rf"INFO default {name} .*closed", log)
    assert "secret body" not in log and "secret body" not in server.err()
    daily = list(server.log_dir.glob("WebSocket.*.log"))
    assert len(daily) == 1
    # The end is in it: no line is lost.
    assert "stopped" in log.splitlines()[-1]


def test_trace_shows_bodies(scripted):
    server = scripted("--log-level", "trace")
    a = server.connect()
    a.send("a secret \x1b[31m body\n2026-01-01T00:00:00Z ERROR forged")
    a.recv()
    server.await_log("a secret .*forged")
    assert "\x1b[31m body" not in server.log()
    for line in server.log().splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z +(ERROR|WARN|INFO|DEBUG|TRACE) ", line), line
        assert "ERROR forged" not in line[:60]


def test_rust_log(scripted):
    server = scripted(env={"RUST_LOG": "error"})
    server.connect()
    server.stop()
    assert "INFO" not in server.log() and "INFO" not in server.err()


def test_quiet(serve):
    server = serve("-q", listener=["cat"])
    server.connect()
    server.stop()
    assert server.err() == ""
    assert "INFO" in server.log()


def test_the_default_log_directory(serve):
    server = serve(log_dir=False)
    link = server.state / "logs" / "WebSocket.log"
    wait_until(link.exists, "the log")
    server.stop()
    assert "running" in link.read_text()


def test_a_path_cannot_forge_a_log_line(serve):
    server = serve("--log-level", "debug")
    link = server.raw()
    link.request("/%0a2026-11-24T00:00:00Z%20INFO%20forged\x1b[31m\x85", {"User-Agent": "\x1b[1m"})
    link.response()
    a = server.connect("/x")
    a.close(4000, "bye\n2026 INFO forged \x1b[31m")
    server.await_log(r"k\d+ .*closed")
    server.stop()
    for text in (server.log(), server.err()):
        assert "\x1b[31m" not in text and "\x85" not in text
        assert not any(line.startswith("2026 INFO forged") for line in text.splitlines())


def test_a_given_log_directory_that_cannot_be_written(serve, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    server = serve("--log-dir", blocker / "log", log_dir=False, wait=False)
    assert server.wait() == 1
    assert str(blocker) in server.err()


def test_a_default_log_directory_that_cannot_be_written_is_a_warning(serve, tmp_path):
    directory = tmp_path / "s"
    state = directory / "state/wsgw"
    state.mkdir(parents=True)
    (state / "logs").write_text("in the way")
    server = serve(log_dir=False, name="s")
    server.connect()
    assert "logs" in server.err() and "--log-dir" in server.err()


def test_fourteen_days_are_kept(serve, tmp_path):
    logs = tmp_path / "s/log"
    logs.mkdir(parents=True)
    for day in range(1, 21):
        (logs / f"WebSocket.2020-01-{day:02}.log").write_text("old\n")
        os.utime(logs / f"WebSocket.2020-01-{day:02}.log", (day * 86400, day * 86400))
    server = serve(name="s")
    server.connect()
    server.stop()
    kept = sorted(p.name for p in logs.glob("WebSocket.*-*.log"))
    assert len(kept) == 14
    assert "WebSocket.2020-01-20.log" in kept and "WebSocket.2020-01-01.log" not in kept


def test_stdout_closed(tmp_path):
    """What nobody reads is no reason to end."""
    server = Serve(tmp_path / "s", wrap=("sh", "-c", 'exec "$@" >&-', "sh"), wait=False)
    try:
        found = wait_until(lambda: list(server.state.glob("control-*.json")), "the state file")
        known = json.loads(found[0].read_text())
        env = {**private_env(server.dir), "WSGW_CONTROL": known["url"],
               "WSGW_TOKEN": known["token"]}
        done = subprocess.run([WSGW, "status"], env=env, capture_output=True, text=True)
        assert "running" in done.stdout, done.stderr
    finally:
        server.proc.terminate()
        assert server.wait() == 0
        server.kill()


def test_stdout_that_breaks_and_stderr_that_is_stuck(tmp_path):
    """Neither keeps a gateway from its work."""
    read, write = os.pipe()
    with subprocess.Popen(
        [WSGW, "serve", "--port", "0", "--control", "127.0.0.1:0", "--log-level", "trace"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=write, text=True,
        env=private_env(tmp_path), cwd=tmp_path,
    ) as proc:
        try:
            url = proc.stdout.readline().split()[-1]
            proc.stdout.close()
            client = ws_client(url)
            for _ in range(2000):
                client.send("x" * 200)
                assert client.recv()
            proc.terminate()
            assert proc.wait(30) == 0
        finally:
            proc.kill()
            os.close(read)
            os.close(write)


def test_refused_by_status(serve):
    server = serve("--max-connections", "1")
    server.connect()
    with pytest.raises(InvalidStatus) as info:
        server.connect()
    assert info.value.response.status_code == 503
