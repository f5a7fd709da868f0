"""`wss`: the gateway's own TLS."""

import signal
import socket
import ssl
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from harness import certificate
from conftest import wait_for

REQUEST = ("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").encode()


def trust(path):
    return ssl.create_default_context(cafile=str(path))


@pytest.fixture
def secure(serve, tmp_path):
    cert, key = certificate(tmp_path, "one")

    def start(*args):
        s = serve("--tls-cert", str(cert), "--tls-key", str(key), *args)
        s.context = trust(cert)
        s.secure = f"wss://127.0.0.1:{s.port()}/"
        return s
    return start


def test_a_client_that_says_nothing_is_cut(secure):
    """The time-out of the handshake runs from the first byte on, TLS included."""
    s = secure("--handshake-timeout", "400ms")
    start = time.monotonic()
    silent = socket.create_connection(("127.0.0.1", s.port()), 5)
    slow = socket.create_connection(("127.0.0.1", s.port()), 5)
    slow.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
    with s.context.wrap_socket(socket.create_connection(("127.0.0.1", s.port()), 5), server_hostname="localhost") as late:
        late.sendall(b"GET / HTTP/1.1\r\n")
        assert late.recv(1000).startswith(b"HTTP/1.1 408 ")
    for sock in (silent, slow):
        with sock:
            assert sock.recv(1000) == b""
    assert 0.3 < time.monotonic() - start < 5


@pytest.mark.parametrize("command", [[], ["--", "cat"]])
def test_wss(secure, tmp_path, command):
    s = secure(*command)
    assert any(line.startswith("gateway default listening on wss://") for line in s.lines)
    with connect(s.secure, ssl=s.context, max_size=None) as a, connect(s.secure, ssl=s.context, max_size=None) as b:
        for message in ("hi", b"\0\1", "x" * 1_000_000):
            a.send(message)
            assert a.recv(10) == b.recv(10) == message
        for i in range(500):
            b.send(str(i))
        for ws in (a, b):
            assert [ws.recv(10) for _ in range(500)] == [str(i) for i in range(500)]
        assert s.status()["address"].startswith("wss://")
        a.close(1000)
    done = s.run("connect", "--cacert", str(tmp_path / "one.pem"), "-x", "hi", "-n", "1", s.secure)
    assert (done.returncode, done.stdout) == (0, "hi\n"), done.stderr
    # Whoever speaks something else is cut, and nobody else notices.
    with socket.create_connection(("127.0.0.1", s.port()), 5) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while plain.recv(1000):
            pass
    with connect(s.secure, ssl=s.context) as a:
        a.send("still")
        assert a.recv(20) == "still"


def test_a_slow_tls_client_is_closed_and_a_silent_one_cut(secure):
    s = secure("--max-queue", "256KiB", "--handshake-timeout", "500ms")
    raw = socket.create_connection(("127.0.0.1", s.port()), 5)
    raw.settimeout(10)
    assert raw.recv(10) == b""
    with connect(s.secure, ssl=s.context, max_queue=1) as slow, connect(s.secure, ssl=s.context, max_queue=None) as good:
        for _ in range(400):
            good.send("x" * 50_000)
            assert good.recv(10)
        s.wait_metric("wsgw_slow_consumers_total", 1)
        wait_for(lambda: s.status()["connections"] == 1)


def test_a_reload_shows_the_new_certificate(secure, tmp_path):
    s = secure()
    with connect(s.secure, ssl=s.context) as old:
        cert, key = certificate(tmp_path, "two")
        (tmp_path / "one.key").write_bytes(key.read_bytes())
        (tmp_path / "one.pem").write_bytes(cert.read_bytes())
        s.process.send_signal(signal.SIGHUP)
        context = trust(cert)

        def new():
            try:
                with connect(s.secure, ssl=context):
                    return True
            except ssl.SSLError:
                return False
        wait_for(new)
        # One that cannot be used changes nothing.
        (tmp_path / "one.pem").write_text("nonsense")
        done = s.run("reload")
        assert done.returncode == 1 and "one.pem" in done.stderr
        assert new()
        old.send("still open")
        assert old.recv(20) == "still open"


def test_a_certificate_that_cannot_be_used(serve, tmp_path):
    (tmp_path / "bad.pem").write_text("nonsense")
    s = serve("--tls-cert", str(tmp_path / "bad.pem"), "--tls-key", str(tmp_path / "bad.pem"), wait=False)
    assert s.process.wait(10) == 1
    s.stop()
    assert "bad.pem" in "\n".join(s.errors)
    (tmp_path / "w.toml").write_text('[gateways.a]\nport = 0\ntls-cert = "bad.pem"\ntls-key = "bad.pem"\n[gateways.b]\nport = 0\n')
    s = serve("--config", str(tmp_path / "w.toml"), port=None)
    assert s.status("a")["state"] == "failed" and "bad.pem" in s.status("a")["error"]
    assert s.status("b")["state"] == "running"


def test_stop_says_going_away_over_tls(secure):
    s = secure("--", "cat")
    with connect(s.secure, ssl=s.context) as ws:
        ws.send("x")
        ws.recv(20)
        s.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(20)
        assert closed.value.rcvd.code == 1001
    assert s.process.wait(10) == 0


def shaken(s, context=None, size=None):
    """A client that has its 101, as a plain TLS socket."""
    sock = socket.socket()
    if size:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    sock.settimeout(10)
    sock.connect(("127.0.0.1", s.port()))
    tls = (context or s.context).wrap_socket(sock, server_hostname="127.0.0.1")
    tls.sendall(REQUEST)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += tls.recv(1)
    assert b" 101 " in head
    return tls


def frame(payload, opcode=1):
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xff" + size.to_bytes(8, "big")
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


def message(tls):
    """The next binary message."""
    first, short = exactly(tls, 2)
    assert first == 0x82
    length = short if short < 126 else int.from_bytes(exactly(tls, 2 if short == 126 else 8), "big")
    return exactly(tls, length)


def exactly(tls, count):
    data = bytearray()
    while len(data) < count:
        more = tls.recv(count - len(data))
        assert more, "closed too early"
        data += more
    return bytes(data)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_both_versions(secure, version):
    s = secure()
    s.context.minimum_version = s.context.maximum_version = ssl.TLSVersion[version]
    with shaken(s) as tls:
        assert tls.version() == version.replace("_", ".")
        tls.sendall(frame(b"hi"))
        assert exactly(tls, 4) == b"\x81\x02hi"


def test_old_versions_are_refused(secure):
    s = secure()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", s.port()), 5) as sock, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(sock)


def test_what_came_with_the_handshake_is_handled(secure):
    """The request and the first messages in one record, and a request byte by byte."""
    s = secure()
    sock = socket.create_connection(("127.0.0.1", s.port()), 5)
    with s.context.wrap_socket(sock, server_hostname="127.0.0.1") as tls:
        tls.sendall(REQUEST + frame(b"a") + frame(b"b"))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += tls.recv(1)
        assert exactly(tls, 6) == b"\x81\x01a\x81\x01b"
    sock = socket.create_connection(("127.0.0.1", s.port()), 5)
    with s.context.wrap_socket(sock, server_hostname="127.0.0.1") as tls:
        for byte in REQUEST:
            tls.sendall(bytes([byte]))
        assert b" 101 " in tls.recv(1000)


@pytest.mark.parametrize("sent", [0, 1, 5, 100])
def test_a_slow_tls_handshake_falls_under_the_time_out(secure, sent):
    s = secure("--handshake-timeout", "400ms")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    half = s.context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        half.do_handshake()
    hello = outgoing.read()
    with socket.create_connection(("127.0.0.1", s.port()), 10) as sock:
        sock.sendall(hello[:sent])
        begun = time.monotonic()
        assert sock.recv(100) == b""
        assert 0.2 < time.monotonic() - begun < 5
    # One that shakes hands and says nothing then is told so.
    with s.context.wrap_socket(socket.create_connection(("127.0.0.1", s.port()), 10),
                               server_hostname="127.0.0.1") as tls:
        assert b" 408 " in tls.recv(1000)


def test_a_message_beyond_the_record_layers_buffer_comes_whole(secure):
    """The record layer takes 64 KiB at a time, however much room the socket has: what it does not
    take must not wait for a socket that was never full."""
    for route in ((), ("--route", "sender"), ("--", "cat")):
        s = secure("--max-message", "2MiB", "--max-line", "16MiB", *route)
        with shaken(s) as tls:
            for size in (65_536, 131_072, 400_000):
                # In one write, so that both are one run: its first frame goes whole, its last in part.
                tls.sendall(frame(b"abc", 2) + frame(bytes(size), 2))
                assert message(tls) == b"abc"
                assert message(tls) == bytes(size)
        s.stop()


def test_big_messages_to_slow_readers_come_whole(secure):
    """Sockets take a record in part again and again; nobody sees a torn frame."""
    s = secure("--max-queue", "64MiB", "--max-message", "2MiB", "--max-line", "16MiB")
    slow = [shaken(s, size=4096) for _ in range(4)]
    sizes = [10, 70_000, 1_000_000, 3, 200_000] * 3
    with shaken(s) as sender:
        for i, size in enumerate(sizes):
            sender.sendall(frame(bytes([i]) * size, 2))
            assert message(sender) == bytes([i]) * size
        for tls in slow:
            for i, size in enumerate(sizes):
                assert message(tls) == bytes([i]) * size
            tls.close()


def test_a_close_is_answered_and_the_record_layer_closed_in_order(secure):
    s = secure()
    # Without this, Python takes an end without close_notify for one in order.
    s.context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    tls = shaken(s)
    tls.suppress_ragged_eofs = False
    tls.sendall(frame(b"\x03\xe8", 8))
    assert exactly(tls, 4) == b"\x88\x02\x03\xe8"
    # SSLEOFError would be an end without close_notify.
    assert tls.recv(10) == b""
    tls.close()
    # A client's own close_notify without a Close is an end, too.
    tls = shaken(s)
    wait_for(lambda: s.status()["connections"] == 1)
    tls.unwrap()
    wait_for(lambda: s.status()["connections"] == 0)


def test_a_key_that_is_another_certificates(serve, tmp_path):
    cert, _ = certificate(tmp_path, "one")
    _, key = certificate(tmp_path, "two")
    for bad, said in ((key, "not that of the certificate"), (cert, "no private key"), ("/nope", "No such file")):
        s = serve("--tls-cert", str(cert), "--tls-key", str(bad), wait=False)
        assert s.process.wait(10) == 1
        s.stop()
        assert said in "\n".join(s.errors)
    assert not s.lines


def test_the_control_ports_certificate_is_reloaded(serve, tmp_path):
    cert, key = certificate(tmp_path, "c")
    config = tmp_path / "w.toml"
    config.write_text('[control]\nlisten = "127.0.0.1:0"\ntls-cert = "c.pem"\ntls-key = "c.key"\n[gateways.a]\nport = 0\n')
    s = serve("--config", str(config), port=None, control=None, wait=False)
    wait_for(lambda: s.control_url)
    port = int(s.control_url.rsplit(":", 1)[1])
    assert s.control_url.startswith("https://")
    assert s.run("status").returncode == 0
    old = ssl.get_server_certificate(("127.0.0.1", port))
    # One that is open while it changes stays.
    open_one = ssl.create_default_context(cafile=str(cert)).wrap_socket(
        socket.create_connection(("127.0.0.1", port), 10), server_hostname="127.0.0.1")
    open_one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 200 " in open_one.recv(1000)
    new_cert, new_key = certificate(tmp_path, "d")
    (tmp_path / "c.key").write_bytes(new_key.read_bytes())
    (tmp_path / "c.pem").write_bytes(new_cert.read_bytes())
    s.process.send_signal(signal.SIGHUP)
    wait_for(lambda: ssl.get_server_certificate(("127.0.0.1", port)) != old)
    open_one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 200 " in open_one.recv(1000)
    open_one.close()
    # Clients of this machine trust the new one.
    wait_for(lambda: s.run("status").returncode == 0)
    (tmp_path / "c.pem").write_text("nonsense")
    done = s.run("reload")
    assert done.returncode == 1 and "c.pem" in done.stderr
    assert s.run("status").returncode == 0
    s.stop()
    assert not list((s.home / "state/wsgw").glob("control-*.json"))
