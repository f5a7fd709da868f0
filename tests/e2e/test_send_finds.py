"""How `wsgw send` finds a `serve` and its token, and what a bad peer can do to it."""

import contextlib
import json
import os
import socket
import subprocess
import threading
import time

import pytest

from harness import WSGW, private_env, run_cli, tool

# Which serve.


def test_the_only_live_one_is_found(serve):
    server = serve()
    done = run_cli(server.dir, "send", "x")
    assert (done.returncode, done.stdout) == (0, "delivered 0\n")


def test_several_are_listed(serve):
    one = serve(env={"XDG_STATE_HOME": None}, wait=False)
    two = serve(env={"XDG_STATE_HOME": None, "HOME": one.env["HOME"]}, wait=False)
    two.state = one.state = one.dir / "home/.local/state/wsgw"
    one.await_control()
    two.await_control()
    env = {"XDG_STATE_HOME": None, "HOME": one.env["HOME"]}
    done = run_cli(one.dir, "send", "x", env=env)
    assert done.returncode == 2
    assert one.control_url in done.stderr and two.control_url in done.stderr
    done = run_cli(one.dir, "send", "--control", one.control_url, "x", env=env)
    assert done.returncode == 0


def test_a_stale_file_is_said_to_be(serve):
    server = serve()
    server.proc.kill()
    server.wait()
    begun = time.monotonic()
    done = run_cli(server.dir, "send", "x")
    assert done.returncode == 3
    assert time.monotonic() - begun < 5
    assert str(server.pid) in done.stderr or "stale" in done.stderr


def test_a_token_goes_to_its_own_url_and_nowhere_else(serve):
    """A server on another port must not see the token of the file."""
    server = serve()
    with socket.socket() as spy:
        spy.bind(("127.0.0.1", 0))
        spy.listen()
        spy.settimeout(10)
        url = f"http://127.0.0.1:{spy.getsockname()[1]}"
        with subprocess.Popen([WSGW, "send", "--control", url, "--timeout", "2", "x"],
                              env=private_env(server.dir), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as sender:
            seen = b""
            try:
                link, _ = spy.accept()
                link.settimeout(1)
                seen = link.recv(65536)
                link.close()
            except TimeoutError:
                pass
            sender.communicate(timeout=20)
    assert server.token.encode() not in seen


def test_a_token_file(serve, tmp_path):
    token = tmp_path / "token"
    token.write_text("a-token-of-my-own-0123456789\n")
    token.chmod(0o600)
    server = serve("--control-token-file", token, wait=False)
    server.await_control()
    assert server.token == "a-token-of-my-own-0123456789"
    done = run_cli(server.dir, "send", "--control", server.control_url, "--token-file", token, "x")
    assert done.returncode == 0


def test_an_unreadable_token_file_is_said_clearly(serve, tmp_path):
    server = serve("--control-token-file", tmp_path / "none", wait=False)
    assert server.wait() == 1
    assert str(tmp_path / "none") in server.err()


def test_home_from_the_user_database(serve):
    """cron may give no HOME; then the home comes from the user database."""
    server = serve()
    done = run_cli(server.dir, "send", "x", env={"HOME": None, "XDG_STATE_HOME": None,
                                                 "XDG_CONFIG_HOME": None})
    assert done.returncode in (2, 3)
    import pwd
    assert pwd.getpwuid(os.getuid()).pw_dir in done.stderr


def test_systemd_state_directory(serve, tmp_path):
    state = tmp_path / "systemd"
    server = serve(env={"STATE_DIRECTORY": str(state)}, wait=False)
    server.state = state
    server.await_control()
    assert run_cli(server.dir, "send", "x", env={"STATE_DIRECTORY": str(state)}).returncode == 0


def test_a_unix_socket(serve, tmp_path):
    path = tmp_path / "c.sock"
    server = serve("--control", f"unix:{path}", control=False)
    server.await_out(f"control listening on http\\+unix://{path}\n")
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    got = subprocess.run([tool("curl"), "-s", "--unix-socket", path, "http://localhost/v1/gateways"],
                         capture_output=True, text=True)
    assert json.loads(got.stdout)[0]["id"] == "default"
    done = run_cli(server.dir, "send", "--control", f"http+unix://{path}", "x")
    assert (done.returncode, done.stdout) == (0, "delivered 0\n")
    # Its file is found without a flag.
    assert run_cli(server.dir, "send", "x").returncode == 0
    assert (server.state / f"control-{server.pid}.json").exists()
    server.stop()
    assert not path.exists()


# What a bad peer can do.


class Peer:
    """A control port that answers what a test wants it to, a piece at a time."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        link, _ = self.listener.accept()
        with link, contextlib.suppress(OSError):
            for delay, status, body in self.answers:
                seen = b""
                while b"\r\n\r\n" not in seen:
                    seen += link.recv(65536)
                time.sleep(delay)
                link.sendall(f"HTTP/1.1 {status} x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
                             + body)
            # Silent from here on, until the other end has had enough.
            link.recv(65536)
            link.recv(65536)

    def send(self, tmp_path, *args):
        return run_cli(tmp_path, "send", "--control", self.url, *args, env={"WSGW_TOKEN": "x"})


def test_the_timeout_is_for_all_of_it(tmp_path):
    """Two answers that each come in time are too late together."""
    one = json.dumps([{"id": "a", "state": "running", "listener": "none", "connections": 0,
                       "messages_in": 0, "messages_out": 0, "restarts": 0}]).encode()
    peer = Peer((0.7, 200, one), (0.7, 200, b'{"delivered":1}'))
    done = peer.send(tmp_path, "--timeout", "1", "x")
    assert (done.returncode, done.stdout) == (3, "")
    assert "--timeout" in done.stderr


@pytest.mark.parametrize("answer", [
    (0, 200, b"<html>"), (0, 302, b""), (0, 500, b"<html>"), (0, 200, b"[]"), (0, 200, b"{}"),
    (0, 200, b""),
])
def test_a_peer_that_is_not_a_control_port_is_an_error(tmp_path, answer):
    done = Peer(answer).send(tmp_path, "-g", "a", "x")
    assert done.returncode == 1
    assert done.stderr.startswith("wsgw: ") and not done.stdout


def test_a_full_backlog_is_a_timeout(tmp_path):
    """On a unix socket a connect waits for a place; not for ever."""
    path = tmp_path / "c.sock"
    with socket.socket(socket.AF_UNIX) as full, contextlib.ExitStack() as links:
        full.bind(str(path))
        full.listen(0)
        while True:
            link = links.enter_context(socket.socket(socket.AF_UNIX))
            link.setblocking(False)
            try:
                link.connect(str(path))
            except BlockingIOError:
                break
        begun = time.monotonic()
        done = run_cli(tmp_path, "send", "--control", f"unix:{path}", "--timeout", "0.3", "x")
        assert done.returncode == 3, done.stderr
        assert time.monotonic() - begun < 5


def test_names_from_a_listener_cannot_drive_the_terminal(scripted):
    server = scripted()
    evil = json.dumps({"connections": ["\x1b[2Jk1\nwsgw: all is well", "\x9b"]})
    done = server.cli("send", f"!answer {evil}")
    assert done.returncode == 0
    assert "\x1b" not in done.stderr and "\x9b" not in done.stderr
    assert "\\x1b[2J" in done.stderr and done.stderr.count("\n") == 1
    done = server.cli("send", "--json", f"!answer {evil}")
    assert "\x1b" not in done.stdout and "\x9b" not in done.stdout
    assert json.loads(done.stdout)["gone"] == ["\x1b[2Jk1\nwsgw: all is well", "\x9b"]
    done = server.cli("send", "--require-one", f"!answer {evil}")
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    done = server.cli("send", "--lines", "--require-one", input=f"!answer {evil}\n")
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert "\x1b" not in done.stderr


def test_the_known_gateways_are_listed_once(serve):
    server = serve(config="[gateways.alpha]\nport = 0\n[gateways.beta]\nport = 0\n")
    for args in (["send", "-g", "nope", "x"], ["status", "nope"], ["start", "nope"],
                 ["close", "nope", "k1"], ["connections", "nope"]):
        done = server.cli(*args)
        assert done.returncode == 4
        assert done.stderr == 'wsgw: no gateway "nope"; known: alpha, beta\n'


def test_a_given_file_that_is_stale_is_said_to_be(serve, tmp_path):
    server = serve()
    server.proc.kill()
    server.wait()
    file = server.state / f"control-{server.control_port}.json"
    for args, env in ((["--token-file", file], {}), ([], {"WSGW_CONTROL": server.control_url})):
        done = run_cli(tmp_path, "send", *args, "x", env={**env, "XDG_STATE_HOME": server.env[
            "XDG_STATE_HOME"]})
        assert done.returncode == 3
        assert "stale" in done.stderr and str(server.pid) in done.stderr


def test_a_socket_may_be_named_from_the_current_directory(serve):
    server = serve("--control", "unix:c.sock", control=False)
    server.await_out("control listening on http\\+unix:///.*/c.sock\n")
    done = run_cli(server.dir, "send", "--control", "unix:c.sock", "x")
    assert (done.returncode, done.stdout) == (0, "delivered 0\n")


def test_a_broken_stderr_changes_nothing(serve):
    server = serve()
    env = {**private_env(server.dir), "WSGW_CONTROL": server.control_url,
           "WSGW_TOKEN": server.token}
    data = '{"message":"x","connections":["nobody"]}'
    for args, stdin, code in ((["--data", data], "", 0), (["--to", "nobody", "x"], "", 4),
                              (["--lines", "--to", "nobody"], "a\nb\n", 4)):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run([WSGW, "send", *args], env=env, input=stdin, text=True,
                              stdout=subprocess.PIPE, stderr=writer, timeout=20)
        os.close(writer)
        assert (done.returncode, done.stdout) == (code, "delivered 0\n"), args
