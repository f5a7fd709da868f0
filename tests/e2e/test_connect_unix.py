"""`wsgw connect ws+unix://SOCKET:/path`."""

import contextlib
import os
import socket
import threading

import pytest

from harness import Peer, close_and_wait, echo, free_port, run_cli, run_connect


@contextlib.contextmanager
def unix_server(path, handler=echo):
    """A server of `websockets` on this socket."""
    from websockets.sync.server import unix_serve

    with unix_serve(handler, str(path)) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield
        running.shutdown()


def seen(requests):
    """A handler that notes the path and the Host, and closes."""
    def handler(connection):
        requests.append((connection.request.path, connection.request.headers["Host"]))
    return handler


def test_messages_go_over_a_unix_socket(tmp_path):
    path = tmp_path / "x.sock"
    with unix_server(path):
        done = run_connect(tmp_path, "-x", "hi", "-n", 1, f"ws+unix://{path}:/chat?a=b")
        assert (done.returncode, done.stdout, done.stderr) == (0, "hi\n", "")
        done = run_connect(tmp_path, "--pretty", "-n", 1, f"ws+unix:{path}", stdin="[1]\n")
        assert (done.returncode, done.stdout) == (0, "[\n  1\n]\n"), done.stderr


@pytest.mark.parametrize("name, written, path", [
    ("x.sock", "x.sock", "/"), ("x.sock", "x.sock:", "/"), ("x.sock", "x.sock:/", "/"),
    ("x.sock", "x.sock:/a/b:/c?d=e#f", "/a/b:/c?d=e"), ("a b?c", "a b?c:/x y", "/x%20y"),
    ("a:b%", "a%3Ab%25:/x", "/x"), ("a:b", "a:b:/x", "/x"), ("ü", "ü", "/"), ("x", "./x:?q", "/?q"),
])
def test_the_path_and_the_host_of_the_request(tmp_path, name, written, path):
    requests = []
    with unix_server(tmp_path / name, seen(requests)):
        # Both from the root and from the working directory on.
        for url in (f"ws+unix://{tmp_path}/{written}", f"ws+unix://{written}"):
            done = run_connect(tmp_path, url)
            assert done.returncode == 0, done.stderr
    assert requests == [(path, "localhost")] * 2


def test_tilde_is_the_home_directory(tmp_path):
    (tmp_path / "home").mkdir()
    with unix_server(tmp_path / "home/x"):
        assert run_connect(tmp_path, "-x", "hi", "-n", 1, "ws+unix://~/x:/").stdout == "hi\n"


def test_no_proxy_is_used(tmp_path):
    path = tmp_path / "x.sock"
    dead = f"http://127.0.0.1:{free_port()}"
    with unix_server(path):
        done = run_cli(tmp_path, "connect", "-x", "hi", "-n", 1, f"ws+unix://{path}:/", env={"http_proxy": dead, "ALL_PROXY": dead})
        assert (done.returncode, done.stdout, done.stderr) == (0, "hi\n", "")
        done = run_connect(tmp_path, "--proxy", dead, "-x", "hi", "-n", 1, f"ws+unix://{path}:/")
        assert (done.returncode, done.stdout) == (0, "hi\n")
        assert f"is not used for the unix socket {path}" in done.stderr


def test_errors_name_the_socket(tmp_path):
    path = tmp_path / "x.sock"
    done = run_connect(tmp_path, f"ws+unix://{path}:/a")
    assert done.returncode == 3 and f"the unix socket {path} cannot be reached: No such file" in done.stderr, done.stderr
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    done = run_connect(tmp_path, f"ws+unix://{path}:/a")
    assert done.returncode == 3 and f"{path} cannot be reached: Connection refused" in done.stderr
    assert "nothing listens there any more" in done.stderr
    (tmp_path / "file").write_text("")
    done = run_connect(tmp_path, f"ws+unix://{tmp_path}/file")
    assert done.returncode == 3 and f"{tmp_path}/file cannot be reached" in done.stderr
    done = run_connect(tmp_path, f"ws+unix:///{'x' * 200}")
    assert done.returncode == 3 and "x" * 200 in done.stderr
    if os.getuid():
        (tmp_path / "closed").mkdir(mode=0)
        done = run_connect(tmp_path, f"ws+unix://{tmp_path}/closed/x")
        assert done.returncode == 3 and "Permission denied" in done.stderr


@pytest.mark.parametrize("url", ["ws+unix:", "ws+unix://", "ws+unix://:/x", "ws+unix:///a%00b", "wss+unix:///x", "ws+unix://~other/x"])
def test_a_url_without_a_socket_is_a_usage_error(tmp_path, url):
    done = run_connect(tmp_path, url)
    assert done.returncode == 2 and "ws+unix://SOCKET:/PATH" in done.stderr, done.stderr


def one_after_another(acceptor, *handlers):
    """Lets each handler have one connection."""
    def serve():
        for handler in handlers:
            sock, _ = acceptor.accept()
            with sock, contextlib.suppress(EOFError, ConnectionError):
                handler(Peer(sock))
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def test_refusals_timeouts_and_redirects(tmp_path):
    path = tmp_path / "x.sock"
    peers = []

    def refuse(peer):
        peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno!")

    def redirect(location):
        def handler(peer):
            peers.append(peer)
            peer.send(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n".encode())
        return handler

    def accept(peer):
        peers.append(peer)
        close_and_wait(peer.accept())
    with socket.socket(socket.AF_UNIX) as acceptor:
        acceptor.bind(str(path))
        acceptor.listen()
        url = f"ws+unix://{path}:/a"
        thread = one_after_another(acceptor, refuse, redirect("/b"), redirect("http://localhost/c"), accept)
        done = run_connect(tmp_path, url)
        assert done.returncode == 4 and f"{url} refused the handshake: HTTP/1.1 403" in done.stderr and "no!" in done.stderr
        # Who knows himself as localhost means the socket.
        done = run_connect(tmp_path, "-v", "-L", "-u", "n:p", url)
        assert done.returncode == 0, done.stderr
        assert f"* redirected to ws+unix://{path}:/c" in done.stderr
        assert [peer.request.split()[1] for peer in peers] == [b"/a", b"/b", b"/c"]
        assert all(peer.header("authorization") and peer.header("host") == ["localhost"] for peer in peers)
        thread.join()
        done = run_connect(tmp_path, "--timeout", "0.3", url)
        assert done.returncode == 6 and f"{url} did not finish" in done.stderr
