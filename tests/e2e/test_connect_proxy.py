"""`wsgw connect --proxy`, and the variables in its place: through real proxies, and through ours."""

import contextlib
import socket
import ssl
import threading

import pytest

from harness import PATIENCE, PeerServer, certificate, close_and_wait, echo, free_port, run_cli, ws_server
from harness.forward_proxies import HERE_BY_ANOTHER_NAME, Proxy, microsocks, tinyproxy


def connect(directory, *args, env=None):
    return run_cli(directory, "connect", *args, env=env)


def by_another_name(url):
    """A URL of this machine that is not one of the loopback."""
    return url.replace("127.0.0.1", HERE_BY_ANOTHER_NAME)


@contextlib.contextmanager
def secure_server(directory, names):
    """The port of an echoing server with TLS, and its certificate."""
    chain, key = certificate(directory, "server", names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    with ws_server(echo, ssl=context) as url:
        yield int(url.rstrip("/").rpartition(":")[2]), chain


@pytest.mark.parametrize("user, password", [(None, None), ("user", "pass"), ("u%73er", "p%61ss")])
def test_a_real_http_proxy_makes_a_tunnel(tmp_path, user, password):
    lines = ["BasicAuth user pass"] if user else []
    login = f"{user}:{password}@" if user else ""
    with tinyproxy(tmp_path, *lines) as (port, log), ws_server(echo) as url:
        url = by_another_name(url)
        done = connect(tmp_path, "--proxy", f"http://{login}127.0.0.1:{port}", "-x", "hi", "-n", 1, url)
        assert (done.returncode, done.stdout) == (0, "hi\n"), done.stderr
        assert f"CONNECT {HERE_BY_ANOTHER_NAME}:{url.rstrip('/').rpartition(':')[2]}" in log.read_text()


def test_tls_goes_through_a_real_http_proxy(tmp_path):
    with tinyproxy(tmp_path) as (port, log), \
            secure_server(tmp_path, f"IP:{HERE_BY_ANOTHER_NAME}") as (server, chain):
        done = connect(tmp_path, "--proxy", f"127.0.0.1:{port}", "--cacert", chain, "-x", "hi", "-n", 1,
                       f"wss://{HERE_BY_ANOTHER_NAME}:{server}/")
        assert (done.returncode, done.stdout) == (0, "hi\n"), done.stderr
        assert "CONNECT" in log.read_text()


def test_a_real_http_proxy_refuses(tmp_path):
    with tinyproxy(tmp_path, "BasicAuth user pass", "ConnectPort 443") as (port, _), ws_server(echo) as url:
        url = by_another_name(url)
        for login, status, hint in [
            ("", "407", "it wants a user and a password"),
            ("user:wrong@", "40", "does not accept this user and password"),
            ("user:pass@", "403", "it may not allow this host or port"),
        ]:
            done = connect(tmp_path, "--proxy", f"http://{login}127.0.0.1:{port}", url)
            assert done.returncode == 3 and not done.stdout, done.stderr
            said = done.stderr
            assert f"the proxy http://127.0.0.1:{port} (--proxy) refused a tunnel to 0.0.0.0:" in said, said
            assert status in said and (hint in said or "401" in said) and "wrong" not in said, said


@pytest.mark.parametrize("login", ["", "user:pa%40ss@"])
@pytest.mark.parametrize("scheme", ["socks5h", "socks5"])
def test_a_real_socks_server_connects(tmp_path, scheme, login):
    with microsocks(*(["-u", "user", "-P", "pa@ss"] if login else [])) as port, ws_server(echo) as url:
        url = by_another_name(url)
        done = connect(tmp_path, "--proxy", f"{scheme}://{login}127.0.0.1:{port}", "-x", "hi", "-n", 1, url)
        assert (done.returncode, done.stdout) == (0, "hi\n"), done.stderr
        if login:
            for login, hint in [("", "it wants a user and a password"), ("user:no@", "does not accept")]:
                done = connect(tmp_path, "--proxy", f"{scheme}://{login}127.0.0.1:{port}", url)
                assert done.returncode == 3 and hint in done.stderr, done.stderr
        done = connect(tmp_path, "--proxy", f"{scheme}://user:pa%40ss@127.0.0.1:{port}",
                       f"ws://{HERE_BY_ANOTHER_NAME}:{free_port()}/")
        assert done.returncode == 3 and "the connection was refused" in done.stderr, done.stderr


@pytest.mark.parametrize("kind, scheme", [("http", "http"), ("socks", "socks5h")])
@pytest.mark.parametrize("tls", [False, True])
def test_the_proxy_resolves_the_name_and_the_certificate_is_the_servers(tmp_path, kind, scheme, tls):
    with contextlib.ExitStack() as open_:
        if tls:
            port, chain = open_.enter_context(secure_server(tmp_path, "DNS:a.example"))
            url, flags, asked = "wss://a.example/", ["--cacert", chain], 443
        else:
            port = int(open_.enter_context(ws_server(echo)).rstrip("/").rpartition(":")[2])
            url, flags, asked = "ws://a.example/", [], 80
        names = {(name, asked): ("127.0.0.1", port) for name in ("a.example", "b.example")}
        proxy = open_.enter_context(Proxy(kind, names))
        flags += ["--proxy", f"{scheme}://127.0.0.1:{proxy.port}", "-x", "hi", "-n", 1]
        done = connect(tmp_path, *flags, url)
        assert (done.returncode, done.stdout) == (0, "hi\n"), done.stderr
        if kind == "http":
            assert proxy.asks == [f"CONNECT a.example:{asked} HTTP/1.1\r\nHost: a.example:{asked}\r\n\r\n"]
        else:
            assert proxy.asks == [(3, "a.example", asked, None)]
        if tls:
            done = connect(tmp_path, *flags, url.replace("a.", "b."))
            assert done.returncode == 3 and "invalid peer certificate" in done.stderr, done.stderr


def test_a_proxy_with_tls_must_show_a_good_certificate(tmp_path):
    pair = certificate(tmp_path, "proxy")
    with ws_server(echo) as url, Proxy("http", certificate=pair) as proxy:
        flags = ["--proxy", f"https://u:p@localhost:{proxy.port}", "-x", "hi", "-n", 1, by_another_name(url)]
        done = connect(tmp_path, "--cacert", pair[0], *flags)
        assert (done.returncode, done.stdout) == (0, "hi\n"), done.stderr
        assert "Proxy-Authorization: Basic dTpw\r\n" in proxy.asks[0]
        # Not even --insecure, which is for the server, gives the password away.
        done = connect(tmp_path, "--insecure", *flags)
        assert done.returncode == 3 and "cannot be reached by TLS: invalid peer certificate" in done.stderr
        assert len(proxy.asks) == 1


def test_credentials_of_the_proxy_and_of_the_server_are_kept_apart(tmp_path):
    def handler(peer):
        assert peer.header("authorization") == ["Basic czp0"] and not peer.header("proxy-authorization")
        close_and_wait(peer.accept())
    with PeerServer(handler) as server, Proxy("http") as proxy:
        done = connect(tmp_path, "-u", "s:t", "-H", "X: 1", "--proxy", f"u:p@127.0.0.1:{proxy.port}",
                       by_another_name(server.url))
        assert done.returncode == 0, done.stderr
        assert "Basic dTpw" in proxy.asks[0] and "czp0" not in proxy.asks[0] and "X:" not in proxy.asks[0]


def test_v_shows_the_way_through_the_proxy(tmp_path):
    with ws_server(echo) as url, Proxy("http") as proxy:
        done = connect(tmp_path, "-v", "--proxy", f"127.0.0.1:{proxy.port}", "-x", "hi", "-n", 1, by_another_name(url))
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert lines[0] == f"* through the proxy http://127.0.0.1:{proxy.port} (--proxy)"
    assert lines[1].startswith("> CONNECT 0.0.0.0:") and "< HTTP/1.1 200 Connection established" in lines
    assert "> GET / HTTP/1.1" in lines


def test_the_environment_names_proxies_as_it_does_for_curl(tmp_path):
    with ws_server(echo) as url, Proxy("http") as http, Proxy("socks") as socks:
        url = by_another_name(url)
        to_http, to_socks = f"http://127.0.0.1:{http.port}", f"socks5h://127.0.0.1:{socks.port}"

        def used(flags=(), **env):
            before = len(http.asks), len(socks.asks)
            done = connect(tmp_path, *flags, "-x", "hi", "-n", 1, url, env=env)
            assert (done.returncode, done.stdout) == (0, "hi\n"), done.stderr
            return len(http.asks) - before[0], len(socks.asks) - before[1]

        assert used(http_proxy=to_http, ALL_PROXY=to_socks) == (1, 0)
        assert used(https_proxy=to_http, all_proxy=to_socks) == (0, 1)
        # curl does not read it, for a CGI program finds the header Proxy there.
        assert used(HTTP_PROXY=to_http) == (0, 0)
        assert used(http_proxy=to_http, NO_PROXY="10.0.0.0/8, 0.0.0.0/32") == (0, 0)
        assert used(http_proxy=to_http, no_proxy="example.org", NO_PROXY="*") == (1, 0)
        # A flag wins, an empty one too.
        assert used(["--proxy", to_socks], http_proxy=to_http, NO_PROXY="*") == (0, 1)
        assert used(["--proxy", ""], http_proxy=to_http) == (0, 0)


def test_tls_takes_https_proxy_alone(tmp_path):
    with secure_server(tmp_path, f"IP:{HERE_BY_ANOTHER_NAME}") as (port, chain), Proxy("http") as proxy:
        flags = ["--cacert", chain, "-x", "hi", "-n", 1, f"wss://{HERE_BY_ANOTHER_NAME}:{port}/"]
        to = f"http://127.0.0.1:{proxy.port}"
        for env, asks in [({"http_proxy": to}, 0), ({"HTTPS_PROXY": to}, 1), ({"https_proxy": to}, 2)]:
            done = connect(tmp_path, *flags, env=env)
            assert (done.returncode, done.stdout, len(proxy.asks)) == (0, "hi\n", asks), done.stderr


def test_the_loopback_is_never_reached_through_a_proxy(tmp_path):
    dead = f"http://127.0.0.1:{free_port()}"
    with ws_server(echo) as url:
        for target in (url, url.replace("127.0.0.1", "localhost")):
            done = connect(tmp_path, "-x", "hi", "-n", 1, target, env={"http_proxy": dead, "ALL_PROXY": dead})
            assert (done.returncode, done.stdout, done.stderr) == (0, "hi\n", "")
        # Who asked for it is told.
        done = connect(tmp_path, "--proxy", dead, "-x", "hi", "-n", 1, url)
        assert (done.returncode, done.stdout) == (0, "hi\n")
        assert f"the proxy {dead} (--proxy) is not used for 127.0.0.1:" in done.stderr


def test_a_proxy_that_cannot_be_reached_is_named(tmp_path):
    port = free_port()
    done = connect(tmp_path, "ws://a.example/", env={"ALL_PROXY": f"socks5h://u:secret@127.0.0.1:{port}"})
    assert done.returncode == 3 and "secret" not in done.stderr
    assert f"the proxy socks5h://127.0.0.1:{port} (ALL_PROXY) cannot be reached: Connection refused" in done.stderr
    done = connect(tmp_path, "--proxy", "http://nowhere.invalid:1", "ws://a.example/")
    assert done.returncode == 3 and "\"nowhere.invalid\" cannot be resolved" in done.stderr
    assert "of the proxy" in done.stderr


@pytest.mark.parametrize("kind, answer, said", [
    ("http", b"", "closed the connection without an answer"),
    ("http", b"HTTP/1.1 2", "closed the connection after \"HTTP/1.1 2\""),
    ("http", b"SSH-2.0-x\r\n\r\n", "did not answer in HTTP"),
    ("http", b"HTTP/1.1 502 Bad\x1b[2J Gateway\r\nContent-Length: 3\r\n\r\nabc", "502 Bad"),
    ("http", b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 X\r\n\r\n", "sent more than its answer"),
    ("http", b"HTTP/1.1 302 Found\r\nLocation: ws://evil.example/\r\n\r\n", "302 Found"),
    ("http", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000, "a head that does not end"),
    ("socks", b"", "broke the connection"),
    ("socks", b"\5\2\0\1\0\0\0\0\0\0", "its rules do not allow it"),
    ("socks", b"\5\4\0\1\0\0\0\0\0\0", "its name cannot be resolved"),
    ("socks", b"\4\0\0\1\0\0\0\0\0\0", "does not speak SOCKS 5"),
])
def test_what_a_proxy_may_answer_instead(tmp_path, kind, answer, said):
    scheme = {"http": "http", "socks": "socks5h"}[kind]
    with Proxy(kind, answer=answer) as proxy:
        done = connect(tmp_path, "-L", "--proxy", f"{scheme}://127.0.0.1:{proxy.port}", "ws://a.example/")
    assert done.returncode == 3 and said in done.stderr and "\x1b" not in done.stderr, done.stderr
    assert f"the proxy {scheme}://127.0.0.1:{proxy.port} (--proxy) " in done.stderr


def test_the_timeout_covers_the_proxy(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for scheme in ("http", "https", "socks5h"):
            done = connect(tmp_path, "--timeout", "0.3", "--proxy", f"{scheme}://127.0.0.1:{port}", "ws://a.example/")
            assert done.returncode == 6, done.stderr
            said = f"ws://a.example/ (through the proxy {scheme}://127.0.0.1:{port} (--proxy)) did not finish"
            assert said in done.stderr, done.stderr


@pytest.mark.parametrize("proxy", ["socks4://p:1", "ftp://u:secret@p", "http://", "http://p:x", "socks5h://:secret@p"])
def test_a_proxy_that_cannot_be_is_a_usage_error(tmp_path, proxy):
    done = connect(tmp_path, "--proxy", proxy, "ws://127.0.0.1:1/")
    assert done.returncode == 2 and "--proxy: " in done.stderr and "write http://HOST:PORT" in done.stderr
    done = connect(tmp_path, "ws://a.example/", env={"all_proxy": proxy})
    assert done.returncode == 2 and "all_proxy: " in done.stderr and "secret" not in done.stderr
    # Where it is not asked for, it does no harm.
    with ws_server(echo) as url:
        assert connect(tmp_path, "-x", "hi", "-n", 1, url, env={"all_proxy": proxy}).returncode == 0


def test_a_lost_connection_is_made_again_through_the_proxy(tmp_path):
    seen = threading.Semaphore(0)

    def handler(peer):
        peer.accept()
        seen.release()
        if len(server.times) == 1:
            peer.reset()
        else:
            close_and_wait(peer)
    with PeerServer(handler) as server, Proxy("http") as proxy:
        done = connect(tmp_path, "--reconnect", "--proxy", f"127.0.0.1:{proxy.port}", by_another_name(server.url))
        assert done.returncode == 0, done.stderr
        assert seen.acquire(timeout=PATIENCE) and seen.acquire(timeout=PATIENCE) and len(proxy.asks) == 2
