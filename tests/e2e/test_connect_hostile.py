"""What a hostile server can do to `wsgw connect`: little."""

import resource
import subprocess

from harness import WSGW, PeerServer, close_and_wait, encode_frame, private_env, run_connect


def sends(*payloads):
    """A server that sends these texts and closes."""
    return PeerServer(lambda peer: close_and_wait(peer.accept().send(b"".join(encode_frame(1, p, masked=False) for p in payloads))))


def test_deeply_nested_json_is_not_multiplied_by_pretty(tmp_path):
    deep = b"[" * 20_000 + b"]" * 20_000
    objects = b'{"a":' * 20_000 + b"1" + b"}" * 20_000
    usual = b'{"a":[1,{"b":2}]}'
    with sends(deep, objects, usual) as server:
        done = run_connect(tmp_path, "--pretty", "-n", "3", server.url)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")
    assert lines[0] == deep.decode() and lines[1] == objects.decode()
    assert lines[2:5] == ["{", '  "a": [', "    1,"]


def test_deeply_nested_json_takes_no_memory(tmp_path):
    deep = b"[" * 500_000 + b"]" * 500_000

    def limited():
        resource.setrlimit(resource.RLIMIT_DATA, (300 << 20, 300 << 20))
    with sends(deep) as server:
        done = subprocess.run([WSGW, "connect", "--pretty", "-n", "1", server.url], capture_output=True, env=private_env(tmp_path),
                              preexec_fn=limited, timeout=20)
    assert done.returncode == 0 and done.stdout == deep + b"\n", done.stderr[-500:]


def test_a_reader_of_stdout_that_has_gone_ends_it_at_once(tmp_path):
    """It used to end only when the next message came."""
    with PeerServer(lambda peer: peer.accept().frame(1, b"one").read_close()) as server:
        client = subprocess.Popen([WSGW, "connect", "-w", "-1", server.url], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, env=private_env(tmp_path))
        assert client.stdout.readline() == b"one\n"
        client.stdout.close()
        assert client.wait(5) == 0 and client.stderr.read() == b""
        client.stderr.close()


def test_a_reader_that_has_gone_ends_reconnecting_too(tmp_path):
    def handler(peer):
        peer.accept()
        if len(server.times) == 1:
            peer.frame(1, b"one")
    with PeerServer(handler) as server:
        client = subprocess.Popen([WSGW, "connect", "--reconnect", "-w", "-1", server.url], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=private_env(tmp_path))
        assert client.stdout.readline() == b"one\n"
        assert b"trying again" in client.stderr.readline()
        client.stdout.close()
        assert client.wait(5) == 0
        client.stderr.close()


def test_execute_is_sent_at_each_connect(tmp_path):
    got = []

    def handler(peer):
        peer.accept()
        got.append(peer.read())
        if len(got) == 3:
            close_and_wait(peer)
    with PeerServer(handler) as server:
        done = run_connect(tmp_path, "--reconnect", "-x", "SUBSCRIBE", "-w", "-1", server.url)
    assert done.returncode == 0 and got == [(1, b"SUBSCRIBE")] * 3, (got, done.stderr)


def test_a_refusal_is_shown_in_part(tmp_path):
    headers = b"".join(b"X-%d: %s\r\n" % (i, b"\x9b2J" * 100) for i in range(150))
    refusal = b"HTTP/1.1 403 " + b"No" * 2000 + b"\r\n" + headers + b"\r\n" + b"\x1b[2J" * 10_000
    with PeerServer(lambda peer: peer.send(refusal)) as server:
        done = run_connect(tmp_path, server.url)
    assert done.returncode == 4 and "refused the handshake" in done.stderr
    assert len(done.stderr) < 20_000 and "\x1b" not in done.stderr and "\x9b" not in done.stderr


def test_what_a_wrong_answer_says_is_cut(tmp_path):
    long = "p" * 30_000
    for more in (dict(more=f"Sec-WebSocket-Protocol: {long}\r\n"), dict(more=f"Sec-WebSocket-Extensions: {long}\r\n"), dict(accept=long)):
        with PeerServer(lambda peer, more=more: peer.accept(**more)) as server:
            done = run_connect(tmp_path, server.url)
        assert done.returncode == 4 and len(done.stderr) < 500, (more.keys(), len(done.stderr))
