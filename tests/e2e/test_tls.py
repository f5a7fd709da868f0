"""`wss`: the gateway's own TLS, and that of the control port."""

import signal
import socket
import ssl
import time

import pytest

from harness import (
    PATIENCE,
    Serve,
    certificate,
    encode_frame,
    run_cli,
    run_connect,
    wait_until,
    ws_client,
)


class SecureServe(Serve):
    """A `serve` whose clients speak TLS."""

    context = None

    def url(self, path="/", gateway="default"):
        return f"wss://127.0.0.1:{self.port(gateway)}{path}"

    def connect(self, path="/", gateway="default", **options):
        return super().connect(path, gateway, ssl=self.context, **options)

    def raw(self, gateway="default", **options):
        return super().raw(gateway, tls=self.context, **options)

    def tcp(self):
        """A socket of which nothing is said yet."""
        return socket.create_connection(("127.0.0.1", self.port()), PATIENCE)


def trust(path):
    return ssl.create_default_context(cafile=str(path))


@pytest.fixture
def secure(serve, tmp_path):
    """Starts `serve` with a certificate of its own, which `context` trusts."""
    cert, key = certificate(tmp_path, "one")

    def start(*args, **options):
        server = serve("--tls-cert", cert, "--tls-key", key, *args, kind=SecureServe, **options)
        server.context = trust(cert)
        return server

    return start


def test_a_client_that_says_nothing_is_cut(secure):
    """The time-out of the handshake runs from the first byte on, TLS included."""
    server = secure("--handshake-timeout", "400ms")
    begun = time.monotonic()
    silent, slow = server.tcp(), server.tcp()
    slow.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
    late = server.raw()
    late.write(b"GET / HTTP/1.1\r\n")
    assert late.response()[0] == 408
    for sock in (silent, slow):
        with sock:
            assert sock.recv(1000) == b""
    assert time.monotonic() - begun > 0.3


@pytest.mark.parametrize("listener", [None, ["cat"]], ids=["alone", "cat"])
def test_messages_both_ways(secure, tmp_path, listener):
    server = secure(listener=listener)
    assert server.out().startswith("gateway default listening on wss://")
    assert server.status()["address"].startswith("wss://")
    a, b = server.connect(), server.connect()
    for message in ("hi", b"\0\1", "x" * 1_000_000):
        a.send(message)
        assert a.recv() == b.recv() == message
    for n in range(500):
        b.send(str(n))
    for client in (a, b):
        assert client.recv_many(500) == [str(n) for n in range(500)]
    done = run_connect(tmp_path, "--cacert", tmp_path / "one.pem", "-x", "hi", "-n", "1", server.url())
    assert (done.returncode, done.stdout) == (0, "hi\n"), done.stderr
    # Whoever speaks something else is cut, and nobody else notices.
    with server.tcp() as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while plain.recv(1000):
            pass
    c = server.connect()
    c.send("still")
    assert c.recv() == "still"


def test_a_slow_client_is_closed(secure):
    server = secure("--max-queue", "256KiB")
    server.raw(receive_buffer=4096).upgrade()
    good = server.connect()
    server.await_connections(2)
    sent = 0
    while server.metric("wsgw_slow_consumers_total") < 1:
        assert sent < 2000
        good.send("x" * 50_000)
        assert len(good.recv()) == 50_000
        sent += 1
    server.await_connections(1)


def test_a_reload_shows_the_new_certificate(secure, tmp_path):
    server = secure()
    old = server.connect()
    cert, key = certificate(tmp_path, "two")
    (tmp_path / "one.key").write_bytes(key.read_bytes())
    (tmp_path / "one.pem").write_bytes(cert.read_bytes())
    server.signal(signal.SIGHUP)

    def new():
        try:
            ws_client(server.url(), ssl=trust(cert)).close()
            return True
        except ssl.SSLError:
            return False

    wait_until(new, "the new certificate")
    # One that cannot be used changes nothing.
    (tmp_path / "one.pem").write_text("nonsense")
    done = server.cli("reload")
    assert done.returncode == 1 and "one.pem" in done.stderr
    assert new()
    old.send("still open")
    assert old.recv() == "still open"


def test_a_certificate_that_cannot_be_used(serve, tmp_path):
    bad = tmp_path / "bad.pem"
    bad.write_text("nonsense")
    server = serve("--tls-cert", bad, "--tls-key", bad, wait=False)
    assert server.wait() == 1
    assert "bad.pem" in server.err()
    keys = f"tls-cert = '{bad}'\ntls-key = '{bad}'"
    server = serve(config=f"[gateways.a]\nport = 0\n{keys}\n[gateways.b]\nport = 0\n")
    assert server.status("a")["state"] == "failed" and "bad.pem" in server.status("a")["error"]
    assert server.status("b")["state"] == "running"


@pytest.mark.parametrize(("cert", "key", "said"), [
    ("one.pem", "two.key", "not that of the certificate"),
    ("one.pem", "one.pem", "no private key"),
    ("one.pem", "/nope", "No such file"),
])
def test_a_key_that_does_not_fit(serve, tmp_path, cert, key, said):
    for name in ("one", "two"):
        certificate(tmp_path, name)
    server = serve("--tls-cert", tmp_path / cert, "--tls-key", tmp_path / key, wait=False)
    assert server.wait() == 1
    assert said in server.err()
    assert server.out() == ""


def test_a_stop_says_going_away(secure):
    server = secure(listener=["cat"])
    client = server.connect()
    client.send("x")
    assert client.recv() == "x"
    server.signal()
    assert client.await_close()[0] == 1001
    assert server.wait() == 0


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_both_versions(secure, version):
    server = secure()
    server.context.minimum_version = server.context.maximum_version = ssl.TLSVersion[version]
    link = server.raw().upgrade()
    assert link.sock.version() == version.replace("_", ".")
    link.frame(1, "hi")
    assert link.read_frame() == (True, 1, b"hi")


def test_old_versions_are_refused(secure):
    server = secure()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with server.tcp() as sock, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(sock)


def test_what_came_with_the_handshake_is_handled(secure):
    """The request and the first messages in one record, and a request byte by byte."""
    server = secure()
    link = server.raw()
    link.write(link.head() + encode_frame(1, "a") + encode_frame(1, "b"))
    assert link.response()[0] == 101
    assert [link.read_frame()[2] for _ in range(2)] == [b"a", b"b"]
    link = server.raw()
    for byte in link.head():
        link.write(bytes([byte]))
    assert link.response()[0] == 101


@pytest.mark.parametrize("sent", [0, 1, 5, 100])
def test_a_slow_handshake_falls_under_the_time_out(secure, sent):
    server = secure("--handshake-timeout", "400ms")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    half = server.context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        half.do_handshake()
    hello = outgoing.read()
    with server.tcp() as sock:
        sock.sendall(hello[:sent])
        begun = time.monotonic()
        assert sock.recv(100) == b""
        assert time.monotonic() - begun > 0.2
    # One that shakes hands and says nothing then is told so.
    assert server.raw().response()[0] == 408


@pytest.mark.parametrize(("route", "listener"), [("all", None), ("sender", None), ("all", ["cat"])])
def test_a_message_beyond_the_record_layers_buffer_comes_whole(secure, route, listener):
    """The record layer takes 64 KiB at a time, however much room the socket has: what it does not
    take must not wait for a socket that was never full."""
    server = secure("--max-message", "2MiB", "--max-line", "16MiB", "--route", route,
                    listener=listener)
    link = server.raw().upgrade()
    for size in (65_536, 131_072, 400_000):
        # In one write, so that both are one burst: its first frame goes whole, its last in part.
        link.write(encode_frame(2, b"abc") + encode_frame(2, bytes(size)))
        assert link.read_frame() == (True, 2, b"abc")
        assert link.read_frame() == (True, 2, bytes(size))


def test_big_messages_to_slow_readers_come_whole(secure):
    """Sockets take a record in part again and again; nobody sees a torn frame."""
    server = secure("--max-queue", "64MiB", "--max-message", "2MiB", "--max-line", "16MiB")
    slow = [server.raw(receive_buffer=4096).upgrade() for _ in range(4)]
    frames = [(True, 2, bytes([n]) * size)
              for n, size in enumerate([10, 70_000, 1_000_000, 3, 200_000] * 3)]
    sender = server.raw().upgrade()
    for frame in frames:
        sender.frame(*frame[1:])
        assert sender.read_frame() == frame
    for link in slow:
        for frame in frames:
            assert link.read_frame() == frame


def test_a_close_is_answered_and_the_record_layer_closed_in_order(secure):
    server = secure()
    # Without this, Python takes an end without close_notify for one in order.
    server.context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    link = server.raw().upgrade()
    link.sock.suppress_ragged_eofs = False
    link.frame(8, b"\x03\xe8")
    assert link.read_close() == (1000, "")
    # SSLEOFError would be an end without close_notify.
    assert link.sock.recv(10) == b""
    # A client's own close_notify without a Close is an end, too.
    link = server.raw().upgrade()
    server.await_connections(1)
    link.sock.unwrap()
    server.await_connections(0)


def test_the_control_ports_certificate_is_reloaded(serve, tmp_path):
    cert, key = certificate(tmp_path, "c")
    server = serve(control=False, config=f"""
        [control]
        listen = "127.0.0.1:0"
        tls-cert = "{cert}"
        tls-key = "{key}"
        [gateways.a]
        port = 0
    """)
    server.await_control()
    port = server.control_port
    assert server.control_url.startswith("https://")
    assert run_cli(server.dir, "status").returncode == 0
    old = ssl.get_server_certificate(("127.0.0.1", port))
    # One that is open while it changes stays.
    open_one = trust(cert).wrap_socket(
        socket.create_connection(("127.0.0.1", port), PATIENCE), server_hostname="127.0.0.1")
    open_one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 200 " in open_one.recv(1000)
    new_cert, new_key = certificate(tmp_path, "d")
    key.write_bytes(new_key.read_bytes())
    cert.write_bytes(new_cert.read_bytes())
    server.signal(signal.SIGHUP)
    wait_until(lambda: ssl.get_server_certificate(("127.0.0.1", port)) != old, "the new one")
    open_one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 200 " in open_one.recv(1000)
    open_one.close()
    # Clients of this machine trust the new one.
    wait_until(lambda: run_cli(server.dir, "status").returncode == 0, "trust in the new one")
    cert.write_text("nonsense")
    done = run_cli(server.dir, "reload")
    assert done.returncode == 1 and "c.pem" in done.stderr
    assert run_cli(server.dir, "status").returncode == 0
    server.stop()
    assert not list(server.state.glob("control-*.json"))
