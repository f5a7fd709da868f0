"""`wss`: the gateway's own TLS."""

import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from conftest import wait_for


def certificate(directory, name):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj", f"/CN={name}",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"],
                   cwd=directory, check=True, capture_output=True)
    return directory / f"{name}.pem", directory / f"{name}.key"


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
        assert a.recv(5) == "still"


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
        assert old.recv(5) == "still open"


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
        ws.recv(5)
        s.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(5)
        assert closed.value.rcvd.code == 1001
    assert s.process.wait(10) == 0
