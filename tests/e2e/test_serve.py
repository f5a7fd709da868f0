"""`wsgw serve`: what it announces, its flags, and the verbs for its gateways."""

import json
import os
import re
import socket
import stat
import subprocess

import pytest
from websockets.exceptions import InvalidStatus

from harness import WSGW, Serve, Terminal, private_env, run_cli, wait_until, ws_client

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


def usage(tmp_path, *args):
    return run_cli(tmp_path, "serve", "--port", "0", "--control", "127.0.0.1:0", *args, timeout=20)


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


# What nobody reads.


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


def test_a_terminal_is_told_what_to_do_next(tmp_path):
    terminal = Terminal(tmp_path, "--port", "0", "--control", "127.0.0.1:0", "--", "cat", command=(WSGW, "serve"))
    try:
        terminal.wait("wsgw open")
        assert re.search(r"listening on (ws://[0-9.:]+)[^$]*wsgw connect \1", terminal.plain), terminal.plain
    finally:
        terminal.kill()
