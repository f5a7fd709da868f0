"""`wsgw connect`: piped, and interactive in a real pseudo-terminal, against servers we did not write."""

import contextlib
import json
import os
import pathlib
import pty
import re
import select
import signal
import socket
import subprocess
import threading
import time

import pytest
from websockets.sync.server import serve as ws_serve

from certificate import certificate
from conftest import BINARY, environment, wait_for


@contextlib.contextmanager
def server(handler, **more):
    with ws_serve(handler, "127.0.0.1", 0, **more) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{running.socket.getsockname()[1]}/"
        running.shutdown()


def echo(ws):
    for message in ws:
        ws.send(message)


def run(tmp_path, *args, stdin="", timeout=20):
    binary = isinstance(stdin, bytes)
    return subprocess.run([BINARY, "connect", *args], input=stdin, capture_output=True, text=not binary,
                          env=environment(tmp_path), cwd=tmp_path, timeout=timeout)


def test_piped_lines_come_back_and_nothing_else_is_on_stdout(tmp_path):
    with server(echo) as url:
        done = run(tmp_path, url, stdin="one\n/quit\n\nlast without newline")
        assert (done.returncode, done.stdout) == (0, "one\n/quit\n\nlast without newline\n"), done.stderr
        assert done.stderr == ""
        many = "".join(f"{i}\n" for i in range(50_000))
        done = run(tmp_path, url, "-n", "50000", stdin=many)
        assert done.returncode == 0 and done.stdout == many


def test_a_line_goes_when_it_comes(tmp_path):
    with server(echo) as url:
        process = subprocess.Popen([BINARY, "connect", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                   env=environment(tmp_path))
        for word in ("now", "later"):
            process.stdin.write(word + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == word + "\n"
        process.stdin.close()
        assert process.wait(10) == 0


def test_binary(tmp_path):
    with server(echo) as url:
        done = run(tmp_path, "-b", url, stdin=b"\x00\xff\nab\n")
        assert (done.returncode, done.stdout) == (0, b"\x00\xffab")

    def sends(ws):
        ws.send(b"\0\1")
        ws.send("two\nlines")
        ws.close()
    with server(sends) as url:
        assert run(tmp_path, url).stdout == "AAE=\ntwo\nlines\n"


def test_execute_count_wait(tmp_path):
    with server(echo) as url:
        done = run(tmp_path, "-x", "a", "-x", "b", "-n", "2", url)
        assert (done.returncode, done.stdout) == (0, "a\nb\n")
        assert run(tmp_path, "-x", "a", "-w", "0.1", url).stdout == "a\n"
    with server(lambda ws: ws.close()) as url:
        done = run(tmp_path, "-n", "1", url)
        assert done.returncode == 6 and "0 of 1" in done.stderr


@pytest.mark.parametrize("code, exit", [(1000, 0), (1001, 0), (1011, 5), (4001, 5)])
def test_close_codes(tmp_path, code, exit):
    with server(lambda ws: ws.close(code, "be\x1b[2Jcause")) as url:
        done = run(tmp_path, "-w", "-1", url)
        assert done.returncode == exit
        if exit:
            assert str(code) in done.stderr and "\\x1b[2Jcause" in done.stderr.replace("\\\\", "\\")


@contextlib.contextmanager
def raw_server(*answers):
    """Accepts once for each answer, reads a request, writes the answer, and closes."""
    with socket.socket() as acceptor:
        acceptor.bind(("127.0.0.1", 0))
        acceptor.listen()

        def serve():
            for answer in answers:
                peer, _ = acceptor.accept()
                with peer:
                    request = b""
                    while b"\r\n\r\n" not in request:
                        request += peer.recv(1000)
                    key = re.search(rb"(?i)sec-websocket-key: (\S+)", request)[1]
                    if answer is None:
                        time.sleep(5)
                        continue
                    import base64
                    import hashlib
                    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
                    head = (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
                    peer.sendall(answer.replace(b"HEAD", head))
                    if b"WAIT" in answer:
                        peer.recv(1000)
                    elif b"HEAD" in answer:
                        # Our side first: no RST.
                        peer.shutdown(socket.SHUT_WR)
                        while peer.recv(1000):
                            pass
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{acceptor.getsockname()[1]}/"


def test_failures_have_their_exit_codes(tmp_path):
    refusal = b"HTTP/1.1 403 Forbidden\r\nX-Why: policy\r\nContent-Length: 9\r\n\r\nnot today"
    for answer, exit, said in [
        (refusal, 4, ["403", "x-why: policy", "not today"]),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", 4, ["WebSocket"]),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n", 4, []),
        (b"HEAD", 5, ["lost"]),
        (b"HEAD\x83\x00", 1, ["broke the protocol"]),
        (b"HEAD\x81\x01\xff", 1, ["UTF-8"]),
    ]:
        with raw_server(answer) as url:
            done = run(tmp_path, "-w", "-1", url)
            assert done.returncode == exit, (answer, done.returncode, done.stderr)
            for text in said:
                assert text in done.stderr, (answer, done.stderr)
    with raw_server(None) as url:
        assert run(tmp_path, "--timeout", "0.3", url).returncode == 6
    assert run(tmp_path, "127.0.0.1:1").returncode == 3
    assert run(tmp_path, "no-such-host.invalid").returncode == 3
    for args in (["ftp://x"], ["-H", "nope", "x"], ["-n", "0", "x"], ["--cert", "x", "y"], ["-w", "x", "y"]):
        assert run(tmp_path, *args).returncode == 2, args


def test_headers_subprotocol_user_origin(tmp_path):
    seen = {}

    def handler(ws):
        seen.update((name.lower(), value) for name, value in ws.request.headers.raw_items())
        ws.close()
    with server(handler, subprotocols=["json"]) as url:
        done = run(tmp_path, "-v", "-H", "X-A: 1", "-s", "xml", "-s", "json", "-o", "https://o", "-u", "me:pw", url)
    assert seen["x-a"] == "1" and seen["origin"] == "https://o"
    assert seen["authorization"] == "Basic bWU6cHc=" and seen["sec-websocket-protocol"] == "xml, json"
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
    with server(handler) as url:
        done = run(tmp_path, "--reconnect", "-w", "-1", url)
    assert done.returncode == 0 and done.stdout == "visit 1\nvisit 2\nvisit 3\n", done.stderr


def test_echo(tmp_path):
    got = []

    def handler(ws):
        for message in ("text", b"\0binary", "x" * 300_000):
            ws.send(message)
            got.append(ws.recv(20) == message)
        ws.close()
    with server(handler) as url:
        assert run(tmp_path, "--echo", "-w", "-1", url).returncode == 0
    assert got == [True] * 3


def test_ctrl_c_and_a_reader_that_has_gone(tmp_path):
    with server(echo) as url:
        process = subprocess.Popen([BINARY, "connect", "-w", "-1", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   env=environment(tmp_path), text=True)
        process.stdin.write("x\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130

    def flood(ws):
        with contextlib.suppress(Exception):
            while True:
                ws.send("y" * 1000)
    with server(flood) as url:
        done = subprocess.run(f"{BINARY} connect {url} </dev/null | head -1", shell=True, capture_output=True, text=True,
                              env=environment(tmp_path), timeout=10)
        assert done.stdout == "y" * 1000 + "\n" and done.stderr == ""


class Terminal:
    """`wsgw connect` at a pseudo-terminal."""

    def __init__(self, home, *args, command=(BINARY, "connect"), **env):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            command = [*command, *args]
            os.execvpe(command[0], command, {**environment(home), "TERM": "xterm", "NO_COLOR": "1", **env})
        self.text = ""
        self.status = None

    def read(self, seconds=0.05):
        if select.select([self.fd], [], [], seconds)[0]:
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                return False
            self.text += data.decode(errors="replace")
        return True

    def wait(self, text, seconds=10):
        deadline = time.monotonic() + seconds
        while text not in self.plain:
            assert self.read() or text in self.plain, f"ended without {text!r}: {self.text!r}"
            assert time.monotonic() < deadline, f"no {text!r} in {self.text!r}"
        return self

    @property
    def plain(self):
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.text)

    def type(self, text):
        os.write(self.fd, text.encode())
        return self

    def exit(self, seconds=10):
        deadline = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                while select.select([self.fd], [], [], 0)[0] and self.read(0):
                    pass
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
            self.read()
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                raise AssertionError(f"still there: {self.text!r}")


@pytest.fixture
def terminal(tmp_path):
    return lambda *args, **more: Terminal(tmp_path, *args, **more)


def test_interactive_commands(terminal, tmp_path):
    (tmp_path / "f").write_text("from a file")
    with server(echo, subprotocols=["json"]) as url:
        t = terminal("-s", "json", url)
        t.wait("* connected to").wait("subprotocol json").wait("> ")
        t.type("hello\r").wait("< hello")
        t.type("//slash\r").wait("< /slash")
        t.type("/nope\r").wait("unknown command /nope")
        t.type("/binary 00 ff\r").wait("< binary, 2 bytes: 00 ff")
        t.type(f"/file {tmp_path}/f\r").wait("< from a file")
        t.type("/ping x\r").wait("* pong x (")
        t.type("/headers\r").wait("sec-websocket-accept")
        t.type("/stats\r").wait("sent 4 messages")
        t.type("/help\r").wait("/reconnect")
        t.type("/pretty\r").wait("JSON is indented")
        t.type('{"a":1}\r').wait('<  {'.replace("  ", " ")).wait('"a": 1')
        t.type("/reconnect\r")
        wait_for(lambda: t.read() and t.plain.count("* connected to") == 2)
        t.type("/close 4001 bye\r")
        assert t.exit() == 0


def test_ctrl_d_and_ctrl_c(terminal):
    with server(echo) as url:
        t = terminal(url)
        t.wait("> ").type("\x04")
        assert t.exit() == 0
        t = terminal(url)
        t.wait("> ").type("half a line\x03")
        t.type("whole\r").wait("< whole")
        assert "< half" not in t.plain
        t.type("\x03")
        assert t.exit() == 130


def test_messages_never_tear_the_line_that_is_typed(terminal):
    peers = []

    def handler(ws):
        peers.append(ws)
        echo(ws)
    with server(handler) as url:
        t = terminal(url)
        t.wait("* connected").wait("> ")
        t.type("my half").wait("my half")
        wait_for(lambda: peers)
        for i in range(5):
            peers[0].send(f"news {i}\n> forged \x1b[2J")
            t.wait(f"< news {i}\\n> forged \\x1b[2J")
        t.type(" line\r").wait("< my half line")
        t.type("\x04")
        assert t.exit() == 0


def test_a_paste_is_one_message(terminal):
    got = []

    def handler(ws):
        for message in ws:
            got.append(message)
            ws.send("ok")
    with server(handler) as url:
        t = terminal(url)
        t.wait("> ").type("\x1b[200~one\ntwo\n/quit\x1b[201~").type("\r").wait("< ok")
        t.type("/quit\r")
        assert t.exit() == 0
    assert got == ["one\ntwo\n/quit"]


def test_lines_that_come_in_one_burst_are_all_sent(terminal):
    with server(echo) as url:
        t = terminal(url)
        t.wait("> ").type("one\rtwo\rthree\r").wait("< one").wait("< two").wait("< three")
        t.type("half\x03four\r").wait("< four")
        t.type("\x04")
        assert t.exit() == 0


def test_ctrl_d_behind_a_line_is_not_swallowed(terminal):
    with server(echo) as url:
        for _ in range(10):
            t = terminal(url)
            # The moment between two lines, in which the terminal is not the editor's.
            t.wait("> ").type("one\r").wait("one\r\n").type("\x04")
            assert t.exit() == 0, t.text


def test_history_across_runs_and_tab(terminal, tmp_path):
    with server(echo) as url:
        t = terminal(url)
        t.wait("> ").type("remember me\r").wait("< remember me")
        t.type(" secret\r").wait("<  secret")
        t.type("\x04")
        assert t.exit() == 0
        file = tmp_path / "state/wsgw/history"
        assert file.stat().st_mode & 0o777 == 0o600
        assert "remember me" in file.read_text() and "secret" not in file.read_text()
        t = terminal(url)
        t.wait("> ").type("\x1b[A\r").wait("< remember me")
        t.type("/sta\t").wait("/stats").type("\r").wait("* open")
        t.type("/quit\r")
        assert t.exit() == 0
        before = file.read_text()
        t = terminal("--no-history", url)
        t.wait("> ").type("not kept\r").wait("< not kept").type("\x04")
        assert t.exit() == 0
        assert file.read_text() == before


def test_the_server_closes_while_one_types(terminal):
    peers = []
    with server(lambda ws: (peers.append(ws), echo(ws))) as url:
        t = terminal(url)
        t.wait("> ").type("half")
        wait_for(lambda: peers)
        peers[0].close(4000, "kicked")
        assert t.exit() == 5
        assert "4000" in t.plain and "kicked" in t.plain


def test_what_is_typed_before_it_is_connected_is_not_lost(terminal):
    with socket.socket() as acceptor:
        acceptor.bind(("127.0.0.1", 0))
        port = acceptor.getsockname()[1]
        acceptor.listen()
        t = terminal(f"ws://127.0.0.1:{port}/")
        t.type("early\r")
        peer, _ = acceptor.accept()
        peer.close()
        assert t.exit() in (3, 4)
    gate = threading.Event()

    def slow(connection, request):
        gate.wait(20)
    with server(echo, process_request=slow) as url:
        t = terminal(url)
        t.type("early\r")
        t.read(0.2)
        gate.set()
        t.wait("< early")
        t.type("\x04")
        assert t.exit() == 0


def test_pings_keep_going(tmp_path):
    with server(echo) as url:
        done = run(tmp_path, "--ping", "0.1", "-w", "0.5", "--timestamps", "-x", '{"a":1}', "--pretty", url)
        assert done.returncode == 0
        assert re.match(r'\d{4}-\d\d-\d\dT\S+Z \{\n  "a": 1\n\}\n', done.stdout)


def test_wss(tmp_path):
    import ssl
    chain, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    with server(echo, ssl=context) as url:
        url = url.replace("ws://", "wss://")
        done = run(tmp_path, "-x", "hi", url)
        assert done.returncode == 3 and "--cacert" in done.stderr, done.stderr
        done = run(tmp_path, "--insecure", "-x", "hi", "-n", "1", url)
        assert (done.returncode, done.stdout) == (0, "hi\n"), done.stderr
        done = run(tmp_path, "--cacert", str(chain), "-x", "hi", "-n", "1", url)
        assert (done.returncode, done.stdout) == (0, "hi\n"), done.stderr
    with server(echo) as url:
        assert run(tmp_path, url.replace("ws://", "wss://")).returncode == 3
