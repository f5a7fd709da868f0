"""`wsgw send`: what it sends, and its exit codes."""

import contextlib
import ctypes
import json
import os
import pty
import re
import select
import socket
import subprocess
import time
from pathlib import Path

import pytest

from harness import PATIENCE, WSGW, private_env, run_cli


def test_it_prints_how_many_got_it(serve):
    server = serve()
    assert server.cli("send", "hi").stdout == "delivered 0\n"
    a, b = server.connect(), server.connect()
    server.await_connections(2)
    done = server.cli("send", "hi")
    assert (done.returncode, done.stdout, done.stderr) == (0, "delivered 2\n", "")
    assert a.recv() == b.recv() == "hi"
    done = server.cli("send", "--json", "hi")
    assert json.loads(done.stdout) == {"matched": 2, "delivered": 2, "dropped": 0, "gone": []}
    assert server.cli("send", "-q", "hi").stdout == ""


def test_targets(scripted):
    server = scripted()
    (a, na), (b, nb), (c, nc) = server.named(), server.named(), server.named()
    assert server.cli("send", "--to", na, "--to", nb, "1").stdout == "delivered 2\n"
    assert server.cli("send", "--except", na, "2").stdout == "delivered 2\n"
    done = server.cli("send", "--to", na, "--to", "nobody", "--json", "3")
    assert done.returncode == 0 and json.loads(done.stdout)["gone"] == ["nobody"]
    done = server.cli("send", "--to", "nobody", "4")
    assert done.returncode == 4 and "nobody" in done.stderr
    assert a.recv_many(2) == ["1", "3"]
    assert b.recv_many(2) == ["1", "2"]
    assert c.recv() == "2"


def test_require_one(scripted):
    server = scripted()
    assert server.cli("send", "--require-one", "x").returncode == 4
    assert server.cli("send", '!answer {"connections":[]}').returncode == 0
    server.connect()
    server.record.wait("onClientOpen")
    assert server.cli("send", "--require-one", "x").returncode == 0


def test_the_forms_of_a_message(scripted):
    server = scripted()
    a = server.connect()
    server.record.wait("onClientOpen")
    assert server.cli("send", "--base64", "AAEC").returncode == 0
    assert a.recv() == b"\x00\x01\x02"
    assert server.cli("send", "--base64", "A").returncode in (1, 2)
    assert server.cli("send", "--binary", input=b"\x00\xff\n").returncode == 0
    assert a.recv() == b"\x00\xff\n"
    assert server.cli("send", "--data", '{"message":"d","room":7}').returncode == 0
    assert a.recv() == "d"
    assert json.loads(server.record.lines()[-1])["room"] == 7
    for bad in ("x", "{}", '{"room":1}', '{"message":"x","id":1}', "[]"):
        assert server.cli("send", "--data", bad).returncode in (1, 2), bad
    assert server.cli("send", "--", "-dash").returncode == 0
    assert a.recv() == "-dash"


@pytest.mark.parametrize(
    ("stdin", "sent"),
    [("one\n", "one"), ("one\n\n", "one\n"), ("one", "one"), ("a\nb\n", "a\nb"), ("ä", "ä")],
)
@pytest.mark.parametrize("dash", [True, False])
def test_stdin_is_one_message(serve, stdin, sent, dash):
    server = serve()
    a = server.connect()
    server.await_connections(1)
    assert server.cli("send", *(["-"] if dash else []), input=stdin).returncode == 0
    assert a.recv() == sent


def test_an_empty_stdin(serve):
    server = serve()
    a = server.connect()
    server.await_connections(1)
    done = server.cli("send", input="")
    assert done.returncode == 2 and done.stderr
    assert server.cli("send", "-", input="").returncode == 0
    assert a.recv() == ""
    env = {**private_env(server.dir), "WSGW_CONTROL": server.control_url,
           "WSGW_TOKEN": server.token}
    cron = subprocess.run([WSGW, "send"], env=env, stdin=subprocess.DEVNULL, timeout=20,
                          capture_output=True)
    assert cron.returncode == 2


def test_a_terminal_is_a_usage_error_and_no_hang(serve):
    server = serve()
    main, side = pty.openpty()
    env = {**private_env(server.dir), "WSGW_CONTROL": server.control_url,
           "WSGW_TOKEN": server.token}
    done = subprocess.run([WSGW, "send"], env=env, stdin=side, capture_output=True, timeout=20)
    os.close(main)
    os.close(side)
    assert done.returncode == 2


def test_with_a_message_stdin_is_not_read(serve):
    server = serve()
    a = server.connect()
    server.await_connections(1)
    env = {**private_env(server.dir), "WSGW_CONTROL": server.control_url,
           "WSGW_TOKEN": server.token}
    loop = f'while read -r x; do {WSGW} send -q "$x"; done'
    done = subprocess.run(["sh", "-c", loop], env=env, input="1\n2\n3\n", text=True, timeout=60)
    assert done.returncode == 0
    assert a.recv_many(3) == ["1", "2", "3"]


# --lines


def test_lines(serve):
    server = serve()
    a = server.connect()
    server.await_connections(1)
    done = server.cli("send", "--lines", input="1\n\n2\r\n3")
    assert (done.returncode, done.stdout) == (0, "delivered 3\n")
    assert a.recv_many(3)[::2] == ["1", "3"]
    done = server.cli("send", "--lines", input="")
    assert done.returncode == 0


def test_lines_are_sent_as_they_come(serve):
    server = serve()
    a = server.connect()
    server.await_connections(1)
    env = {**private_env(server.dir), "WSGW_CONTROL": server.control_url,
           "WSGW_TOKEN": server.token}
    with subprocess.Popen([WSGW, "send", "--lines"], env=env, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as sender:
        for n in range(3):
            sender.stdin.write(f"{n}\n")
            sender.stdin.flush()
            assert a.recv() == str(n)
        sender.stdin.close()
        assert sender.stdout.read() == "delivered 3\n"
        assert sender.wait(20) == 0


def test_lines_go_on_after_a_failed_one(scripted):
    server = scripted()
    a = server.connect()
    server.record.wait("onClientOpen")
    lines = ["1", '!answer {"connections":7}', "3", '!answer {"base64":"!"}', "5"]
    done = server.cli("send", "--lines", input="\n".join(lines) + "\n")
    assert done.returncode == 5
    assert "2" in done.stderr and "4" in done.stderr
    assert done.stdout == "delivered 3\n"
    assert a.recv_many(3) == ["1", "3", "5"]


def test_a_line_that_is_not_base64_is_named_and_the_others_go(serve):
    server = serve()
    a = server.connect()
    server.await_connections(1)
    done = server.cli("send", "--lines", "--base64", input="AAEC\n%%%\nAAED\n")
    assert (done.returncode, done.stdout) == (1, "delivered 2\n")
    assert "line 2" in done.stderr
    assert a.recv_many(2) == [b"\0\1\2", b"\0\1\3"]


def test_many_lines_in_order(serve):
    server = serve(listener=["cat"])
    a = server.connect()
    server.await_connections(1)
    count = 20_000
    done = server.cli("send", "--lines", input="".join(f"{n}\n" for n in range(count)))
    assert (done.returncode, done.stdout) == (0, f"delivered {count}\n")
    assert a.recv_many(count) == [str(n) for n in range(count)]


# Exit codes.


@pytest.mark.parametrize(("args", "stdin"), [
    (["--no-such-flag"], None), (["a", "b"], None), (["--timeout", "x", "m"], None), ([], ""),
    (["--data", "{}"], None), (["--data", "nope"], None), (["--data", "{}", "x"], None),
    (["--binary", "x"], None), (["--lines", "x"], "y\n"), (["--timeout", "0", "x"], None),
    (["--retry", "x", "y"], None), ([], b"\xff\n"),
])
def test_usage(serve, args, stdin):
    done = serve().cli("send", *args, input=stdin)
    assert done.returncode == 2
    assert done.stderr


def test_no_serve_is_found(tmp_path):
    done = run_cli(tmp_path, "send", "x")
    assert done.returncode == 3
    for place in (str(tmp_path / "state/wsgw"), "/run/wsgw"):
        assert place in done.stderr
    assert run_cli(tmp_path, "status").returncode == 3


def test_the_control_port_is_not_reached(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {"WSGW_TOKEN": "x"}
    done = run_cli(tmp_path, "send", "--control", f"http://127.0.0.1:{port}", "x", env=env)
    assert done.returncode == 3
    assert str(port) in done.stderr


def test_retry(serve, tmp_path):
    """It looks again each time, until the serve is there."""
    directory = tmp_path / "serve0"
    env = private_env(directory)
    with subprocess.Popen([WSGW, "send", "--retry", "30", "x"], env=env, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as sender:
        serve()
        out, err = sender.communicate(timeout=40)
        assert (sender.returncode, out) == (0, "delivered 0\n"), err
    begun = time.monotonic()
    done = run_cli(tmp_path, "send", "--retry", "0.5", "x")
    assert done.returncode == 3
    assert 0.4 < time.monotonic() - begun < 10


@contextlib.contextmanager
def watched(directory):
    """A function that waits until somebody has listed the directory once more (inotify(7))."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(0)
    close_nowrite = 0x10
    assert libc.inotify_add_watch(descriptor, os.fsencode(directory), close_nowrite) >= 0

    def await_look():
        assert select.select([descriptor], [], [], PATIENCE)[0]
        # A struct inotify_event without a name, for it is about the directory itself.
        assert len(os.read(descriptor, 16)) == 16

    try:
        yield await_look
    finally:
        os.close(descriptor)


def test_retry_waits_for_the_token_of_the_port_it_found(tmp_path):
    """A serve's port is open before its file is written: in between there is no token yet."""
    env = private_env(tmp_path)
    state = Path(env["XDG_STATE_HOME"]) / "wsgw"
    state.mkdir()
    with socket.socket() as acceptor, watched(state) as await_look:
        acceptor.bind(("127.0.0.1", 0))
        acceptor.settimeout(30)
        port = acceptor.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        command = [WSGW, "send", "-g", "a", "--retry", "60", "--control", url, "x"]
        with subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as sender:
            # The second look comes when the first try has failed, for nobody listened.
            await_look()
            await_look()
            acceptor.listen(8)
            with acceptor.accept()[0] as early:
                (state / f"control-{port}.json").write_text(
                    json.dumps({"url": url, "token": "late", "pid": os.getpid()}))
                with acceptor.accept()[0] as peer:
                    head = peer.recv(65536)
                    answer = b'{"matched":1,"delivered":1,"dropped":0,"gone":[]}'
                    peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(answer), answer))
                    out, err = sender.communicate(timeout=30)
                assert early.recv(1) == b""
    assert (sender.returncode, out) == (0, "delivered 1\n"), err
    assert b"\r\nauthorization: bearer late\r\n" in head.lower()


def test_a_timeout(scripted):
    server = scripted()
    done = server.cli("send", "--timeout", "0.5", "!none")
    assert done.returncode == 3 and "--timeout" in done.stderr
    done = server.cli("send", "--lines", "--timeout", "0.5", input="!none\n!none\n")
    assert done.returncode == 3


def test_unknown_gateway_and_not_running(serve):
    server = serve(config="[gateways.a]\nport = 0\n[gateways.b]\nport=0\nstartup='manual'\n")
    done = server.cli("send", "-g", "nope", "x")
    assert done.returncode == 4
    assert "a" in done.stderr and "b" in done.stderr
    assert server.cli("send", "-g", "nope", "--lines", input="x\n").returncode == 4
    done = server.cli("send", "-g", "b", "x")
    assert done.returncode == 4 and "stopped" in done.stderr
    # One runs, so there is nothing to choose.
    assert server.cli("send", "x").stdout == "delivered 0\n"
    server.cli("start", "b")
    # Several run: they are listed.
    done = server.cli("send", "x")
    assert done.returncode == 2 and re.search(r"\ba, b\b", done.stderr), done.stderr
    assert server.cli("send", "-g", "a", "x").returncode == 0


@pytest.mark.parametrize("directive", ["!none", '!answer {"connections":7}'])
def test_a_listener_that_fails(scripted, directive):
    server = scripted("--listener-timeout", "300ms")
    assert server.cli("send", directive).returncode == 5
    assert server.cli("send", "--no-hook", "x").returncode == 0


def test_unauthorized(serve):
    server = serve()
    done = run_cli(server.dir, "send", "--control", server.control_url, "x",
                   env={"WSGW_TOKEN": "wrong"})
    assert done.returncode == 6
    assert run_cli(server.dir, "status", env={"WSGW_CONTROL": server.control_url,
                                              "WSGW_TOKEN": "wrong"}).returncode == 6


def test_a_token_of_the_environment_needs_no_file(serve, tmp_path):
    server = serve()
    done = run_cli(tmp_path, "send", "x", env={
        "WSGW_TOKEN": server.token, "WSGW_CONTROL": server.control_url, "XDG_STATE_HOME": "/nope"})
    assert (done.returncode, done.stdout) == (0, "delivered 0\n"), done.stderr
