"""`wsgw connect`: URLs as browsers take them, subprotocols, and what is said when a URL leads to the wrong place."""

import socket
import ssl

import pytest

from harness import PeerServer, certificate, close_and_wait, echo, run_connect, ws_server


def request_of(tmp_path, *args):
    """The request line and the headers that a server gets."""
    seen = []

    def handler(peer):
        seen.append(peer)
        close_and_wait(peer.accept())
    with PeerServer(handler) as server:
        done = run_connect(tmp_path, *[str(arg).replace("PORT", str(server.port)) for arg in args])
    assert done.returncode == 0, done.stderr
    return seen[0]


@pytest.mark.parametrize("given, path", [
    ("ws://127.0.0.1:PORT/a b", "/a%20b"),
    ("ws://127.0.0.1:PORT/{x}|\"y\"", "/%7Bx%7D|%22y%22"),
    ("ws://127.0.0.1:PORT/a\\b/../c?q=\"1 2\"^", "/a/c?q=%221%202%22^"),
    ("ws://127.1:PORT/ü#fragment", "/%C3%BC"),
])
def test_a_url_is_taken_as_a_browser_takes_it(tmp_path, given, path):
    peer = request_of(tmp_path, given)
    assert peer.request.split(b"\r\n")[0].decode() == f"GET {path} HTTP/1.1"
    assert peer.header("host")[0].startswith("127.0.0.1:")


def test_the_zone_of_an_address_is_decoded_and_not_sent(tmp_path):
    with socket.socket(socket.AF_INET6) as acceptor:
        acceptor.bind(("::1", 0))
        acceptor.listen()
        port = acceptor.getsockname()[1]
        # The loopback address with its zone: what is asked for is resolved, and reached.
        done = run_connect(tmp_path, "--timeout", "0.5", f"ws://[::1%251]:{port}/")
        assert done.returncode == 6, done.stderr
        peer, _ = acceptor.accept()
        with peer:
            assert f"host: [::1]:{port}\r\n" in peer.recv(4000).decode().lower()


def test_errors_write_ipv6_addresses_with_brackets(tmp_path):
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::1", 0))
        port = taken.getsockname()[1]
        done = run_connect(tmp_path, f"ws://[::1]:{port}/")
        assert done.returncode == 3 and f"[::1]:{port} cannot be reached" in done.stderr, done.stderr


@pytest.mark.parametrize("url", ["ws://a b/", "ws://[::1", "ws://h:99999/", "ftp://h/", "ws://[fe80::1%25a/b]/", "ws://"])
def test_a_url_that_cannot_be_is_a_usage_error(tmp_path, url):
    done = run_connect(tmp_path, url)
    assert done.returncode == 2 and "invalid WebSocket URL" in done.stderr and "write ws://" in done.stderr


@pytest.mark.parametrize("names", [[""], ["a b"], ["a,"], ["a/b"], ["ä"], ["a", "a"]])
def test_a_subprotocol_that_cannot_be_is_a_usage_error(tmp_path, names):
    flags = [flag for name in names for flag in ("-s", name)]
    done = run_connect(tmp_path, *flags, "ws://127.0.0.1:1/")
    assert done.returncode == 2 and "--subprotocol" in done.stderr, done.stderr


def test_hints_when_one_side_speaks_tls_and_the_other_does_not(tmp_path):
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with ws_server(echo, ssl=context) as url:
        done = run_connect(tmp_path, url)
        # Its alert (4), or a reset that overtook it (3).
        assert done.returncode in (3, 4) and "wss://" in done.stderr and "\\u{" not in done.stderr, done.stderr
    with PeerServer(lambda peer: peer.send(b"\x15\x03\x01\x00\x02\x02\x46")) as server:
        done = run_connect(tmp_path, server.url)
        assert done.returncode == 4 and "speaks TLS: write wss://" in done.stderr, done.stderr
    with ws_server(echo) as url:
        done = run_connect(tmp_path, "--insecure", url.replace("ws://", "wss://"))
        assert done.returncode == 3 and "ws://" in done.stderr, done.stderr
