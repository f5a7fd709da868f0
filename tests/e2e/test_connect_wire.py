"""`wsgw connect` against servers that are odd, wrong, slow or gone: exit codes and what is said."""

import base64
import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from harness import (
    PATIENCE,
    WSGW,
    Peer,
    PeerServer,
    close_and_wait,
    encode_frame,
    private_env,
    run_connect,
)


@pytest.mark.parametrize(
    "how",
    [
        dict(connection="keep-alive, Upgrade"),
        dict(connection="upgrade", upgrade="WebSocket"),
        dict(more="X-A: 1\r\nX-A: 2\r\nServer: caf\xe9\r\n"),
    ],
)
def test_answers_that_are_right_though_unusual(tmp_path, how):
    with PeerServer(lambda peer: close_and_wait(peer.accept(**how))) as server:
        done = run_connect(tmp_path, server.url, "-w", "-1")
        assert done.returncode == 0, done.stderr


def test_a_server_may_choose_no_subprotocol(tmp_path):
    with PeerServer(lambda peer: close_and_wait(peer.accept())) as server:
        done = run_connect(tmp_path, server.url, "-s", "json", "-w", "-1")
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "how",
    [
        dict(connection="close"),
        dict(upgrade="h2c"),
        dict(accept="AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        dict(more="Sec-WebSocket-Protocol: mine\r\n"),
        dict(more="Sec-WebSocket-Extensions: permessage-deflate\r\n"),
    ],
)
def test_a_101_that_is_wrong_is_exit_4(tmp_path, how):
    with PeerServer(lambda peer: peer.accept(**how)) as server:
        done = run_connect(tmp_path, server.url, "-w", "-1")
        assert done.returncode == 4 and done.stdout == "" and "wrong" in done.stderr, done.stderr


def test_a_refusal_shows_status_headers_and_the_bodys_start(tmp_path):
    def answer(text):
        return lambda peer: (peer.send(text), peer.sock.recv(1))

    plain = (
        b"HTTP/1.1 302 Gone \x1b[2JElsewhere\r\nLocation: /x\x9b2J\r\nContent-Length: 5000\r\n\r\n"
        b"<p>\x1b]0;t\x07\r\nsecond line\n" + b"z" * 5000
    )
    with PeerServer(answer(plain.replace(b"\x1b[2JElse", b"else"))) as server:
        done = run_connect(tmp_path, server.url)
        assert done.returncode == 4 and done.stdout == ""
        for text in ("302 Gone elsewhere", "location: /x", "\\x1b]0;t\\x07", "second line", "zzz"):
            assert text in done.stderr, (text, done.stderr)
        assert (
            not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.stderr) and len(done.stderr) < 2000
        )
    chunked = (
        b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nwho a\r\n8\r\nre you?\n\r\n0\r\n\r\n"
    )
    with PeerServer(answer(chunked)) as server:
        start = time.monotonic()
        done = run_connect(tmp_path, server.url)
        assert (
            done.returncode == 4
            and "who are you?" in done.stderr
            and "www-authenticate: Basic" in done.stderr
        )
        assert time.monotonic() - start < 5

    def drips(peer):
        peer.send(b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\n\r\n")
        while True:
            peer.send(b"x")
            time.sleep(0.01)

    with PeerServer(drips) as server:
        done = run_connect(tmp_path, "--timeout", "2", server.url)
        assert done.returncode == 4 and "retry-after: 1" in done.stderr


def test_interim_answers_are_passed_over(tmp_path):
    with PeerServer(
        lambda peer: close_and_wait(
            peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n").accept()
        )
    ) as server:
        assert run_connect(tmp_path, server.url, "-w", "-1").returncode == 0


@pytest.mark.parametrize(
    "data, code, said",
    [
        (b"\x81\x82abcdhi", 1002, "protocol"),  # masked
        (b"\xc1\x02hi", 1002, "protocol"),  # RSV1
        (b"\x83\x00", 1002, "protocol"),  # reserved opcode
        (b"\x80\x02hi", 1002, "protocol"),  # a continuation of nothing
        (b"\x09\x00", 1002, "protocol"),  # a fragmented ping
        (b"\x81\x02\xc3\x28", 1007, "UTF-8"),
        (b"\x88\x01\x03", 1002, "protocol"),  # half a close code
        (b"\x88\x02\x03\xed", 1002, "close code"),  # 1005 on the wire
        (b"\x88\x02\x00\x07", 1002, "close code"),
        (b"\x88\x04\x03\xe8\xff\xff", 1007, "UTF-8"),
    ],
)
def test_a_violation_is_answered_with_its_code_and_is_exit_1(tmp_path, data, code, said):
    codes = []

    def handler(peer):
        peer.accept().send(data)
        codes.append(peer.read_close())

    with PeerServer(handler) as server:
        done = run_connect(tmp_path, server.url, "-w", "-1")
        assert done.returncode == 1 and said in done.stderr, done.stderr
    assert codes == [code]


def test_a_server_that_drops_the_socket_at_our_close_is_not_a_lost_connection(tmp_path):
    def handler(peer):
        peer.accept().read_close()
        peer.reset()

    with PeerServer(handler) as server:
        done = run_connect(tmp_path, "-w", "0", server.url)
        assert (done.returncode, done.stderr) == (0, "")


def test_lost_connections_are_exit_5(tmp_path):
    def reset(peer):
        peer.accept()
        peer.reset()

    for handler in (
        reset,
        lambda peer: peer.accept(),
        lambda peer: peer.accept().send(b"\x81\x05he"),
    ):
        with PeerServer(handler) as server:
            done = run_connect(tmp_path, server.url, "-w", "-1")
            assert done.returncode == 5 and "lost" in done.stderr, done.stderr


def test_n_is_exact_whatever_else_comes(tmp_path):
    def handler(peer):
        peer.accept().send(b"".join(encode_frame(1, str(i), masked=False) for i in range(100)))
        peer.read_close()
        peer.frame(1, b"late").frame(8)

    with PeerServer(handler) as server:
        done = run_connect(tmp_path, "-n", "3", server.url)
        assert (done.returncode, done.stdout) == (0, "0\n1\n2\n"), done.stderr


@pytest.mark.parametrize(
    "end", [lambda peer: peer.bye(1000), lambda peer: peer.bye(4001, b"kicked"), lambda peer: None]
)
def test_n_not_reached_is_exit_6_whatever_the_close(tmp_path, end):
    def handler(peer):
        end(peer.accept().frame(1, b"one"))

    with PeerServer(handler) as server:
        done = run_connect(tmp_path, "-n", "2", server.url)
        assert (done.returncode, done.stdout) == (6, "one\n") and "1 of 2" in done.stderr
        assert end.__code__.co_consts[-1] != b"kicked" or "4001 kicked" in done.stderr


def test_a_close_code_is_shown_with_its_reason(tmp_path):
    with PeerServer(lambda peer: peer.accept().bye(4001, b'say "hi"\n\x1b[2J')) as server:
        done = run_connect(tmp_path, "-w", "-1", server.url)
        assert done.returncode == 5 and '4001 say "hi"\\n\\x1b[2J\n' in done.stderr


def test_delays_grow_even_if_each_connection_opens(tmp_path):
    def handler(peer):
        peer.accept()
        if len(server.times) == 5:
            peer.bye(1000)
        elif len(server.times) % 2:
            peer.bye(1001)

    with PeerServer(handler) as server:
        done = run_connect(tmp_path, "--reconnect", "-w", "-1", server.url, timeout=30)
        assert done.returncode == 0, done.stderr
    pauses = [b - a for a, b in zip(server.times, server.times[1:])]
    assert len(pauses) == 4 and pauses[3] > 3 * pauses[0], pauses
    assert done.stderr.count("trying again") == 4


def test_each_try_has_a_key_of_its_own(tmp_path):
    keys = []

    def handler(peer):
        keys.append(peer.header("sec-websocket-key")[0])
        peer.accept().bye(1000 if len(keys) == 2 else 1012)

    with PeerServer(handler) as server:
        assert run_connect(tmp_path, "--reconnect", "-w", "-1", server.url).returncode == 0
    assert len(set(keys)) == 2 and all(len(base64.b64decode(key)) == 16 for key in keys)


def test_what_is_piped_survives_a_failed_first_try(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    process = subprocess.Popen(
        [WSGW, "connect", "--reconnect", f"127.0.0.1:{port}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=private_env(tmp_path),
    )
    process.stdin.write("early\n")
    process.stdin.close()
    assert "trying again" in process.stderr.readline()
    got = []
    with socket.socket() as acceptor:
        acceptor.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        acceptor.bind(("127.0.0.1", port))
        acceptor.listen()
        sock, _ = acceptor.accept()
        with sock:
            peer = Peer(sock).accept()
            got.append(peer.read())
            close_and_wait(peer)
    assert process.wait(10) == 0 and got == [(1, b"early")]
    process.stdout.close()
    process.stderr.close()


@pytest.mark.parametrize("how, exit", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_says_close(tmp_path, how, exit):
    codes = []

    def handler(peer):
        peer.accept().frame(1, b"hi")
        codes.append(peer.read_close())
        peer.bye()

    with PeerServer(handler) as server:
        process = subprocess.Popen(
            [WSGW, "connect", "-w", "-1", server.url],
            stdin=subprocess.DEVNULL,
            text=True,
            stdout=subprocess.PIPE,
            env=private_env(tmp_path),
        )
        assert process.stdout.readline() == "hi\n"
        process.send_signal(how)
        assert process.wait(20) == exit
        process.stdout.close()
    assert codes == [1000]


def test_a_signal_ends_what_does_not_move(tmp_path):
    """A server that reads nothing, a reader that reads nothing, a handshake that never ends."""
    gate, blocked = threading.Event(), threading.Event()

    def handler(peer):
        peer.accept()
        peer.sock.settimeout(0.2)
        try:
            while True:
                peer.frame(1, b"x" * 100_000)
        except TimeoutError:
            blocked.set()
            gate.wait(PATIENCE)

    with PeerServer(handler) as server:
        process = subprocess.Popen(
            ["sh", "-c", f"yes | exec {WSGW} connect {server.url}"],
            stdout=subprocess.PIPE,
            env=private_env(tmp_path),
            start_new_session=True,
        )
        assert blocked.wait(PATIENCE)
        os.killpg(process.pid, signal.SIGINT)
        process.wait(10)
        process.stdout.close()
        gate.set()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        process = subprocess.Popen(
            [WSGW, "connect", f"127.0.0.1:{silent.getsockname()[1]}"],
            stdin=subprocess.DEVNULL,
            env=private_env(tmp_path),
        )
        sock, _ = silent.accept()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        sock.close()


def test_a_line_that_cannot_be_sent_is_told_and_is_exit_1(tmp_path):
    got = []

    def handler(peer):
        peer.accept()
        got.extend([peer.read(), peer.read()])
        assert peer.read()[0] == 8
        peer.bye()

    with PeerServer(handler) as server:
        done = run_connect(tmp_path, "-w", "0", server.url, stdin=b"one\n\xff\nthree")
        assert done.returncode == 1 and b"line 2 is not UTF-8" in done.stderr
    assert got == [(1, b"one"), (1, b"three")]


def test_headers_of_ones_own_take_the_place_of_ours(tmp_path):
    seen = {}

    def handler(peer):
        for name in (
            "host",
            "origin",
            "user-agent",
            "x-a",
            "authorization",
            "sec-websocket-protocol",
            "connection",
        ):
            seen[name] = peer.header(name)
        seen["line"] = peer.request.split(b"\r\n")[0]
        close_and_wait(peer.accept())

    with PeerServer(handler) as server:
        done = run_connect(
            tmp_path,
            "-H",
            "Host: v.example",
            "-H",
            "X-A: 1",
            "-H",
            "x-a:2",
            "-H",
            "User-Agent: mine",
            "-H",
            "Origin: https://b",
            "-o",
            "https://a",
            "-w",
            "-1",
            server.url.replace("ws://", "ws://me:p%40w%3A@") + "p/%20?q=ü#no",
        )
        assert done.returncode == 0, done.stderr
    assert seen == {
        "host": ["v.example"],
        "origin": ["https://b"],
        "user-agent": ["mine"],
        "x-a": ["1", "2"],
        "authorization": ["Basic " + base64.b64encode(b"me:p@w:").decode()],
        "sec-websocket-protocol": [],
        "connection": ["Upgrade"],
        "line": b"GET /p/%20?q=%C3%BC HTTP/1.1",
    }


def test_ipv6_and_hosts_without_a_scheme(tmp_path):
    seen = []

    def handler(peer):
        seen.append(peer.header("host"))
        close_and_wait(peer.accept())

    with PeerServer(handler) as server:
        assert run_connect(tmp_path, "-w", "-1", f"localhost:{server.port}").returncode == 0
        assert run_connect(tmp_path, "-w", "-1", f"HTTP://127.0.0.1:{server.port}/").returncode == 0
        assert seen == [[f"localhost:{server.port}"], [f"127.0.0.1:{server.port}"]]
    for bad in ("wss//x:y", "ws://[::1", "::1", "mailto://x", "ws://:1/", "http:/x"):
        done = run_connect(tmp_path, bad)
        assert done.returncode in (2, 3), (bad, done.stderr)


def test_closed_standard_streams(tmp_path):
    with PeerServer(
        lambda peer: (peer.accept().frame(1, b"x"), peer.read_close(), peer.bye())
    ) as server:
        for redirect in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
            done = subprocess.run(
                ["sh", "-c", f"{WSGW} connect -w 0.2 {server.url} {redirect}"],
                env=private_env(tmp_path),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=10,
            )
            assert done.returncode == 0 and b"panicked" not in done.stderr, (redirect, done)


def test_a_full_disk_is_exit_1(tmp_path):
    for wait in ("0", "-1"):
        with (
            PeerServer(
                lambda peer: (peer.accept().frame(1, b"x"), peer.read_close(), peer.bye())
            ) as server,
            open("/dev/full", "w") as full,
        ):
            done = subprocess.run(
                [WSGW, "connect", "-w", wait, server.url],
                env=private_env(tmp_path),
                stdin=subprocess.DEVNULL,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=10,
            )
            assert done.returncode == 1 and "stdout cannot be written" in done.stderr, (wait, done)


def test_a_large_message_goes_through_whole(tmp_path):
    size = 20_000_000

    def handler(peer):
        peer.accept()
        peer.sock.settimeout(30)
        peer.frame(1, b"m" * size)
        close_and_wait(peer)

    with PeerServer(handler) as server:
        done = run_connect(tmp_path, "-w", "-1", server.url)
        assert done.returncode == 0 and len(done.stdout) == size + 1


def test_pretty_changes_nothing_but_white_space(tmp_path):
    text = b'{"z":1.0,"a":[],"n":12345678901234567890,"z":1e400}'
    with PeerServer(
        lambda peer: close_and_wait(peer.accept().frame(1, text).frame(1, b"plain"))
    ) as server:
        done = run_connect(tmp_path, "--pretty", "-w", "-1", server.url)
    assert (
        done.stdout
        == '{\n  "z": 1.0,\n  "a": [],\n  "n": 12345678901234567890,\n  "z": 1e400\n}\nplain\n'
    )


def test_flags_are_checked_before_anybody_is_called(tmp_path):
    for args in (
        ["--cacert", "/no/such", "wss://127.0.0.1:1"],
        ["--cert", "a", "x"],
        ["-w", "-2", "x"],
        ["--ping", "0", "x"],
        ["--timeout", "0", "x"],
        ["-n", "-1", "x"],
        ["-H", "a b: c", "x"],
    ):
        done = run_connect(tmp_path, *args)
        assert done.returncode == 2 and done.stderr, (args, done.returncode, done.stderr)
