"""The PROXY protocol in front of a gateway's connections: `proxy-protocol = true`."""

import contextlib
import ipaddress
import re
import socket
import ssl
import struct

import pytest

from harness import Raw, certificate, free_port, haproxy, ws_client

TRUSTS = '[gateways.default]\nport = 0\nproxy-protocol = true\ntrusted-proxies = "127.0.0.1"\n'
V2 = b"\r\n\r\n\0\r\nQUIT\n"


def v1(source="192.0.2.7", port=4711):
    version = ipaddress.ip_address(source).version
    to = "127.0.0.1" if version == 4 else "::1"
    return f"PROXY TCP{version} {source} {to} {port} 80\r\n".encode()


def v2(source="192.0.2.7", port=4711, tlvs=b"", command=0x21):
    ip = ipaddress.ip_address(source)
    family = 0x11 if ip.version == 4 else 0x21
    body = ip.packed + bytes(len(ip.packed)) + struct.pack(">HH", port, 80) + tlvs
    return V2 + bytes([command, family]) + struct.pack(">H", len(body)) + body


LOCAL = V2 + b"\x20\0\0\0"
UNKNOWN = b"PROXY UNKNOWN\r\n"


def opened(server, header, **options):
    """A raw client that has shaken hands behind this header."""
    link = server.raw(**options)
    link.write(header)
    return link.upgrade()


def refused(server, link, why):
    """It is closed without an answer, and the log says why."""
    with contextlib.suppress(ConnectionResetError):
        assert link.sock.recv(100) == b""
    server.await_log(rf"closed: .*{why}.* remote=127\.0\.0\.1:\d+ reason=proxy_protocol")
    assert server.metric("wsgw_connections_refused_total", reason="proxy_protocol") == 1


@pytest.mark.parametrize("header, remote", [
    (v1(), "192.0.2.7:4711"),
    (v2(), "192.0.2.7:4711"),
    (v1("2001:db8::7", 1), "[2001:db8::7]:1"),
    (v2("2001:db8::7", 65535), "[2001:db8::7]:65535"),
    (v2("::ffff:192.0.2.7"), "192.0.2.7:4711"),
    (v2(tlvs=b"\x04\x0f\xa0" + bytes(0xfa0)), "192.0.2.7:4711"),
])
def test_the_client_is_who_the_proxy_says(serve, header, remote):
    server = serve(config=TRUSTS)
    link = opened(server, header)
    (row,) = server.await_connections(1)
    assert row["remote"] == remote
    link.frame(1, b"x")
    assert link.read_frame() == (True, 1, b"x")
    server.await_log(rf"opened remote={re.escape(remote)} ")


def test_the_listener_is_told_it(scripted):
    server = scripted(config=TRUSTS)
    opened(server, v2())
    assert server.record.wait("onClientOpen")[0]["remote"] == "192.0.2.7:4711"


@pytest.mark.parametrize("header", [LOCAL, UNKNOWN, V2 + b"\x21\0\0\0"])
def test_without_a_client_the_connection_is_the_proxys_own(serve, header):
    server = serve(config=TRUSTS)
    opened(server, header)
    (row,) = server.await_connections(1)
    assert row["remote"].startswith("127.0.0.1:")


@pytest.mark.parametrize("header", [v1(), v2(), v2("2001:db8::7", tlvs=b"\x04\0\x01x"), LOCAL])
def test_byte_by_byte(serve, header):
    server = serve(config=TRUSTS)
    link = server.raw()
    link.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in header + link.head():
        link.write(bytes([byte]))
    assert link.response()[0] == 101


def test_header_request_and_messages_at_once(serve):
    server = serve(config=TRUSTS)
    link = server.raw()
    # A frame of a client: masked by zeros.
    link.write(v2() + link.head() + b"\x81\x82\0\0\0\0ok")
    assert link.response()[0] == 101
    assert link.read_frame() == (True, 1, b"ok")


@pytest.mark.parametrize("bytes_, why", [
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "the first bytes are not a header"),
    (b"\x16\x03\x01\x02\0\x01", "the first bytes are not a header"),
    (b"PROXY TCP4 192.0.2.7 127.0.0.1 1\r\n", "no addresses that can be read"),
    (b"PROXY " + b"x" * 101, "no end within 107 bytes"),
    (V2 + b"\x31\x11\0\x0c" + bytes(12), "unknown version or command"),
    (V2 + b"\x21\x11\xff\xff", "longer than 4096 bytes"),
    (V2 + b"\x21\x11\0\x04" + bytes(4), "too short for its addresses"),
])
def test_what_is_not_a_header_is_refused(serve, bytes_, why):
    server = serve(config=TRUSTS)
    link = server.raw()
    link.write(bytes_)
    refused(server, link, why)


def test_a_header_that_ends_halfway(serve):
    server = serve(config=TRUSTS)
    link = server.raw()
    link.write(v2()[:-1])
    link.sock.shutdown(socket.SHUT_WR)
    refused(server, link, "ended within the header")


def test_who_connects_and_leaves_is_not_worth_a_word(serve):
    """As a check does that only wants to know whether the port is open."""
    server = serve(config=TRUSTS)
    server.raw().close()
    opened(server, v1())
    assert "proxy_protocol" not in server.log()
    assert server.metric("wsgw_connections_refused_total", reason="proxy_protocol") == 0


@pytest.mark.parametrize("first", [b"", b"PROXY TCP4 ", V2, v2()[:-1]])
def test_the_header_has_to_come_within_the_handshakes_time(serve, first):
    server = serve(config=TRUSTS + 'handshake-timeout = "100ms"\n')
    link = server.raw()
    link.write(first)
    refused(server, link, "did not arrive within handshake-timeout")


def test_the_time_is_that_of_header_and_request_together(serve):
    server = serve(config=TRUSTS + 'handshake-timeout = "200ms"\n')
    link = server.raw()
    link.write(v1())
    assert link.response()[0] == 408


@pytest.mark.parametrize("header", [v1(), v2(), LOCAL, b""])
def test_a_peer_that_is_not_trusted_is_closed(serve, header):
    server = serve(config=TRUSTS.replace('"127.0.0.1"', '"192.0.2.1"'))
    link = server.raw()
    with contextlib.suppress(ConnectionError):
        link.write(header + link.head())
    refused(server, link, "trusted-proxies")


def test_its_address_counts_for_max_connections_per_ip(serve):
    server = serve(config=TRUSTS + "max-connections-per-ip = 1\n")
    first = opened(server, v1())
    link = server.raw()
    link.write(v2(port=1) + link.head())
    assert link.response()[0] == 429
    opened(server, v1("192.0.2.8"))
    first.close()
    server.await_connections(1)
    opened(server, v1())


def test_x_forwarded_for_counts_if_that_client_is_trusted_in_turn(serve):
    server = serve(config=TRUSTS.replace('"127.0.0.1"', '["127.0.0.1", "10.0.0.0/8"]'))
    for source, remote in [("10.1.1.1", "192.0.2.9"), ("192.0.2.7", "192.0.2.7:4711")]:
        link = server.raw()
        link.write(v2(source) + link.head(headers={"X-Forwarded-For": "192.0.2.9"}))
        assert link.response()[0] == 101
        (row,) = server.await_connections(1)
        assert row["remote"] == remote
        link.close()
        server.await_connections(0)


def test_without_trusted_proxies_it_does_not_start(serve):
    server = serve(config="[gateways.default]\nproxy-protocol = true\n", wait=False)
    assert server.wait() == 1
    assert re.search(r"wsgw\.toml:1: gateways\.default: proxy-protocol .*trusted-proxies", server.err())
    server = serve("--proxy-protocol", wait=False, name="flags")
    assert server.wait() == 2
    assert "trusted-proxies" in server.err()


def test_a_reload_switches_it(serve):
    server = serve(config="[gateways.default]\nport = 0\n")
    before = server.connect()
    server.reload(TRUSTS)
    link = server.raw().request()
    refused(server, link, "first bytes")
    opened(server, v1())
    before.send("still here")
    assert before.recv() == "still here"
    server.reload("[gateways.default]\nport = 0\n")
    server.connect()


def test_on_a_unix_socket(serve, tmp_path):
    config = TRUSTS.replace("port = 0", f'host = "unix:{tmp_path}/g.sock"')
    server = serve(config=config)
    link = Raw(tmp_path / "g.sock")
    for byte in v2():
        link.write(bytes([byte]))
    link.upgrade()
    (row,) = server.await_connections(1)
    assert row["remote"] == "192.0.2.7:4711"
    link.close()


# TLS.


@pytest.mark.parametrize("header", [v1(), v2(tlvs=bytes(300))])
@pytest.mark.parametrize("pause", [False, True])
def test_the_header_comes_before_tls(serve, tmp_path, header, pause):
    cert, key = certificate(tmp_path)
    server = serve(config=f'{TRUSTS}tls-cert = "{cert}"\ntls-key = "{key}"\n')
    context = ssl.create_default_context(cafile=cert)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    with socket.create_connection(("127.0.0.1", server.port()), 10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if pause:
            for byte in header:
                sock.send(bytes([byte]))
            sock.sendall(outgoing.read())
        else:
            # In one segment: what follows the header is the session's.
            sock.sendall(header + outgoing.read())
        request = Raw.head(type("Link", (), {"port": 1})(), "/")
        done = b""
        steps = [session.do_handshake, lambda: session.write(request)]
        while steps or b"\r\n\r\n" not in done:
            try:
                if steps:
                    steps[0]()
                    steps.pop(0)
                else:
                    done += session.read(1000)
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(65536))
        assert done.startswith(b"HTTP/1.1 101 ")
        (row,) = server.await_connections(1)
        assert row["remote"] == "192.0.2.7:4711"


def test_tls_without_a_header_is_refused(serve, tmp_path):
    cert, key = certificate(tmp_path)
    server = serve(config=f'{TRUSTS}tls-cert = "{cert}"\ntls-key = "{key}"\n')
    context = ssl.create_default_context(cafile=cert)
    with pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(socket.create_connection(("127.0.0.1", server.port()), 10),
                            server_hostname="localhost")
    server.await_log("closed: the first bytes are not a header .*reason=proxy_protocol")


# HAProxy.


@pytest.fixture
def behind(tmp_path):
    """Starts HAProxy in front of an address, with these words behind its server line: its port."""
    with contextlib.ExitStack() as stack:
        def start(address, words, **options):
            port = free_port()
            stack.enter_context(haproxy(tmp_path, port, address, words, **options))
            return port

        yield start


@pytest.mark.parametrize("words", ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl"])
def test_behind_haproxy(serve, behind, words):
    server = serve(config=TRUSTS)
    port = behind(f"127.0.0.1:{server.port()}", words)
    client = ws_client(f"ws://127.0.0.1:{port}/x", source_address=("127.0.0.2", 0))
    client.send("through")
    assert client.recv() == "through"
    shown = client.inner.local_address
    (row,) = server.await_connections(1)
    assert row["remote"] == f"127.0.0.2:{shown[1]}"
    client.close()
    server.await_connections(0)
    client = ws_client(f"ws://[::1]:{port}/x")
    (row,) = server.await_connections(1)
    assert row["remote"] == f"[::1]:{client.inner.local_address[1]}"


@pytest.mark.parametrize("words", ["send-proxy", "send-proxy-v2"])
def test_haproxys_checks_are_not_clients(serve, behind, words):
    server = serve(config=TRUSTS)
    address = f"127.0.0.1:{server.port()}"
    port = behind(address, f"{words} check inter 50ms check-send-proxy")
    # HTTP checks, which ask for OPTIONS, of which each has an answer.
    http = behind(address, f"{words} check inter 50ms check-send-proxy", mode="http")
    for each in (port, http):
        client = ws_client(f"ws://127.0.0.1:{each}/")
        client.send("x")
        assert client.recv() == "x"
        client.close()
    assert server.metric("wsgw_connections_refused_total", reason="proxy_protocol") == 0
    assert "reason=proxy_protocol" not in server.log()


def test_behind_haproxy_by_a_unix_socket(serve, behind, tmp_path):
    path = tmp_path / "g.sock"
    server = serve(config=TRUSTS.replace("port = 0", f'host = "unix:{path}"'))
    port = behind(f"unix@{path}", "send-proxy-v2")
    client = ws_client(f"ws://127.0.0.1:{port}/x")
    client.send("through")
    assert client.recv() == "through"
    (row,) = server.await_connections(1)
    assert row["remote"] == f"127.0.0.1:{client.inner.local_address[1]}"
    client.close()


def test_behind_haproxy_with_tls_that_is_ours(serve, behind, tmp_path):
    cert, key = certificate(tmp_path)
    server = serve(config=f'{TRUSTS}tls-cert = "{cert}"\ntls-key = "{key}"\n')
    port = behind(f"127.0.0.1:{server.port()}", "send-proxy-v2")
    client = ws_client(f"wss://localhost:{port}/", ssl=ssl.create_default_context(cafile=cert))
    client.send("through")
    assert client.recv() == "through"
    (row,) = server.await_connections(1)
    assert row["remote"].rsplit(":", 1)[1] == str(client.inner.local_address[1])
    client.close()


def test_haproxy_without_send_proxy_is_refused(serve, behind):
    server = serve(config=TRUSTS)
    port = behind(f"127.0.0.1:{server.port()}", "")
    link = Raw(port).request()
    with contextlib.suppress(ConnectionResetError):
        assert link.sock.recv(100) == b""
    server.await_log("closed: the first bytes are not a header .*reason=proxy_protocol")
    link.close()
