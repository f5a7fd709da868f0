"""`wsgw connect` in a pipe, against servers that are not ours."""

import contextlib
import re
import signal
import ssl
import subprocess

import pytest

from harness import (
    WSGW,
    PeerServer,
    certificate,
    echo,
    private_env,
    run_connect,
    ws_server,
)


def test_piped_lines_come_back_and_nothing_else_is_on_stdout(tmp_path):
    with ws_server(echo) as url:
        done = run_connect(tmp_path, url, stdin="one\n/quit\n\nlast without newline")
        assert (done.returncode, done.stdout) == (0, "one\n/quit\n\nlast without newline\n"), (
            done.stderr
        )
        assert done.stderr == ""
        many = "".join(f"{i}\n" for i in range(50_000))
        done = run_connect(tmp_path, url, "-n", "50000", stdin=many)
        assert done.returncode == 0 and done.stdout == many


def test_a_line_goes_when_it_comes(tmp_path):
    with ws_server(echo) as url:
        process = subprocess.Popen(
            [WSGW, "connect", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=private_env(tmp_path),
        )
        for word in ("now", "later"):
            process.stdin.write(word + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == word + "\n"
        process.stdin.close()
        assert process.wait(10) == 0


def test_binary(tmp_path):
    with ws_server(echo) as url:
        done = run_connect(tmp_path, "-b", url, stdin=b"\x00\xff\nab\n")
        assert (done.returncode, done.stdout) == (0, b"\x00\xffab")

    def sends(ws):
        ws.send(b"\0\1")
        ws.send("two\nlines")
        ws.close()

    with ws_server(sends) as url:
        assert run_connect(tmp_path, url).stdout == "AAE=\ntwo\nlines\n"


def test_execute_count_wait(tmp_path):
    with ws_server(echo) as url:
        done = run_connect(tmp_path, "-x", "a", "-x", "b", "-n", "2", url)
        assert (done.returncode, done.stdout) == (0, "a\nb\n")
        assert run_connect(tmp_path, "-x", "a", "-w", "0.1", url).stdout == "a\n"
    with ws_server(lambda ws: ws.close()) as url:
        done = run_connect(tmp_path, "-n", "1", url)
        assert done.returncode == 6 and "0 of 1" in done.stderr


@pytest.mark.parametrize("code, exit", [(1000, 0), (1001, 0), (1011, 5), (4001, 5)])
def test_close_codes(tmp_path, code, exit):
    with ws_server(lambda ws: ws.close(code, "be\x1b[2Jcause")) as url:
        done = run_connect(tmp_path, "-w", "-1", url)
        assert done.returncode == exit
        if exit:
            assert str(code) in done.stderr and "\\x1b[2Jcause" in done.stderr.replace("\\\\", "\\")


def test_failures_have_their_exit_codes(tmp_path):
    refusal = b"HTTP/1.1 403 Forbidden\r\nX-Why: policy\r\nContent-Length: 9\r\n\r\nnot today"
    for answer, exit, said in [
        (lambda peer: peer.send(refusal), 4, ["403", "x-why: policy", "not today"]),
        (lambda peer: peer.send(b"SSH-2.0-OpenSSH_9\r\n\r\n"), 4, ["WebSocket"]),
        (lambda peer: peer.accept(), 5, ["lost"]),
        (lambda peer: peer.accept().send(b"\x83\x00").read_close(), 1, ["broke the protocol"]),
        (lambda peer: peer.accept().send(b"\x81\x01\xff").read_close(), 1, ["UTF-8"]),
        (lambda peer: peer.sock.recv(1), 6, []),
    ]:
        with PeerServer(answer) as server:
            done = run_connect(
                tmp_path, "-w", "-1", "--timeout", "0.3" if exit == 6 else "20", server.url
            )
            assert done.returncode == exit, (done.returncode, done.stderr)
            for text in said:
                assert text in done.stderr, done.stderr
    assert run_connect(tmp_path, "127.0.0.1:1").returncode == 3
    assert run_connect(tmp_path, "no-such-host.invalid").returncode == 3
    for args in (
        ["ftp://x"],
        ["-H", "nope", "x"],
        ["-n", "0", "x"],
        ["--cert", "x", "y"],
        ["-w", "x", "y"],
    ):
        assert run_connect(tmp_path, *args).returncode == 2, args


def test_headers_subprotocol_user_origin(tmp_path):
    seen = {}

    def handler(ws):
        seen.update((name.lower(), value) for name, value in ws.request.headers.raw_items())
        ws.close()

    with ws_server(handler, subprotocols=["json"]) as url:
        done = run_connect(
            tmp_path,
            "-v",
            "-H",
            "X-A: 1",
            "-s",
            "xml",
            "-s",
            "json",
            "-o",
            "https://o",
            "-u",
            "me:pw",
            url,
        )
    assert seen["x-a"] == "1" and seen["origin"] == "https://o"
    assert (
        seen["authorization"] == "Basic bWU6cHc=" and seen["sec-websocket-protocol"] == "xml, json"
    )
    assert "< HTTP/1.1 101" in done.stderr and "> x-a: 1" in done.stderr


def test_reconnect(tmp_path):
    visits = []

    def handler(ws):
        visits.append(1)
        ws.send(f"visit {len(visits)}")
        if len(visits) < 3:
            ws.close(1011)
        else:
            ws.close(1000)

    with ws_server(handler) as url:
        done = run_connect(tmp_path, "--reconnect", "-w", "-1", url)
    assert done.returncode == 0 and done.stdout == "visit 1\nvisit 2\nvisit 3\n", done.stderr


def test_echo(tmp_path):
    got = []

    def handler(ws):
        for message in ("text", b"\0binary", "x" * 300_000):
            ws.send(message)
            got.append(ws.recv(20) == message)
        ws.close()

    with ws_server(handler) as url:
        assert run_connect(tmp_path, "--echo", "-w", "-1", url).returncode == 0
    assert got == [True] * 3


@pytest.mark.parametrize("flags", [[], ["--pretty", "--timestamps"], ["--compress"], ["--reconnect"]])
def test_many_messages_come_though_nothing_is_sent(tmp_path, flags):
    """Only with --echo is the server held up until it has taken back what it sent."""
    def sends(connection):
        for n in range(3000):
            connection.send(f"message {n}")
        connection.recv()

    with ws_server(sends) as url:
        done = run_connect(tmp_path, url, "-n", "3000", *flags)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3000 and lines[-1].endswith("message 2999")


def test_ctrl_c_and_a_reader_that_has_gone(tmp_path):
    with ws_server(echo) as url:
        process = subprocess.Popen(
            [WSGW, "connect", "-w", "-1", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=private_env(tmp_path),
            text=True,
        )
        process.stdin.write("x\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130

    def flood(ws):
        with contextlib.suppress(Exception):
            while True:
                ws.send("y" * 1000)

    with ws_server(flood) as url:
        done = subprocess.run(
            f"{WSGW} connect {url} </dev/null | head -1",
            shell=True,
            capture_output=True,
            text=True,
            env=private_env(tmp_path),
            timeout=10,
        )
        assert done.stdout == "y" * 1000 + "\n" and done.stderr == ""


def test_pings_keep_going(tmp_path):
    with ws_server(echo) as url:
        done = run_connect(
            tmp_path, "--ping", "0.1", "-w", "0.5", "--timestamps", "-x", '{"a":1}', "--pretty", url
        )
        assert done.returncode == 0
        assert re.match(r'\d{4}-\d\d-\d\dT\S+Z \{\n  "a": 1\n\}\n', done.stdout)


def test_wss(tmp_path):
    chain, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    with ws_server(echo, ssl=context) as url:
        url = url.replace("ws://", "wss://")
        done = run_connect(tmp_path, "-x", "hi", url)
        assert done.returncode == 3 and "--cacert" in done.stderr, done.stderr
        done = run_connect(tmp_path, "--insecure", "-x", "hi", "-n", "1", url)
        assert (done.returncode, done.stdout) == (0, "hi\n"), done.stderr
        done = run_connect(tmp_path, "--cacert", str(chain), "-x", "hi", "-n", "1", url)
        assert (done.returncode, done.stdout) == (0, "hi\n"), done.stderr
    with ws_server(echo) as url:
        assert run_connect(tmp_path, url.replace("ws://", "wss://")).returncode == 3
