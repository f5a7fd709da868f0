"""The files of the control port while others touch them: its control file, its socket, its
certificates, and the files that hold tokens."""

import json
import os
import signal
import socket
import stat
import subprocess

import pytest

import harness
from harness import wait_until

SOON = 5


def control_file(server):
    return server.state / f"control-{server.control_port}.json"


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def finds(server, *args):
    """`wsgw ARGS` that has to find the serve by its files."""
    return harness.run_cli(server.dir, *args)


# The control file.


def test_a_control_file_that_was_removed_is_written_anew(serve):
    server = serve()
    path = control_file(server)
    before = path.read_text()
    path.unlink()
    wait_until(path.exists, "the control file", SOON)
    assert (path.read_text(), mode(path)) == (before, 0o600)
    assert finds(server, "status").returncode == 0
    server.await_log(r"control-\d+\.json was gone; it was written anew")
    server.stop()
    assert not path.exists()


def test_a_control_file_comes_back_with_its_directory(serve):
    server = serve()
    path = control_file(server)
    path.unlink()
    path.parent.rmdir()
    wait_until(path.exists, "the control file", SOON)
    assert (mode(path.parent), mode(path)) == (0o700, 0o600)
    assert finds(server, "status").returncode == 0


@pytest.mark.parametrize("damage", ["", "{", "[1,2]"])
def test_a_damaged_control_file_is_written_anew(serve, damage):
    server = serve()
    path = control_file(server)
    before = path.read_text()
    path.write_text(damage)
    wait_until(lambda: path.read_text() == before, "the control file", SOON)
    server.await_log(r"control-\d+\.json could not be used any more")


def test_anothers_control_file_is_left_alone(serve):
    server = serve()
    path = control_file(server)
    before = path.read_text()
    other = json.dumps({"url": "http://127.0.0.2:1", "token": "t", "pid": os.getpid()})
    path.with_suffix(".tmp").write_text(other)
    path.with_suffix(".tmp").rename(path)
    server.await_log(rf"is now that of process {os.getpid()} .*--control {server.control_url}")
    assert path.read_text() == other
    # It is ours again once the other has gone.
    path.unlink()
    wait_until(path.exists, "the control file", SOON)
    assert path.read_text() == before
    path.with_suffix(".tmp").write_text(other)
    path.with_suffix(".tmp").rename(path)
    server.stop()
    assert path.read_text() == other


# The control socket.


def request(path):
    """The answer of a control socket to GET /healthz."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(SOON)
        client.connect(str(path))
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        return client.recv(100)


def answers(path):
    try:
        return request(path).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def on_socket(serve, path, **options):
    server = serve("--control", f"unix:{path}", control=False, **options)
    wait_until(lambda: answers(path), server.describe)
    return server


def test_a_control_socket_that_was_removed_is_bound_anew(serve, tmp_path):
    path = tmp_path / "run" / "c.sock"
    config = f"[control]\nlisten = 'unix:{path}'\nmode = '0620'\n[gateways.default]\nport = 0\n"
    server = serve(control=False, config=config)
    wait_until(lambda: answers(path), server.describe)
    path.unlink()
    path.parent.rmdir()
    wait_until(lambda: answers(path), "the control socket", SOON)
    assert mode(path) == 0o620
    assert finds(server, "status").returncode == 0
    server.await_log(r"control socket \S+: its file was gone; it was bound anew")
    server.stop()
    assert not path.exists() and not list(path.parent.iterdir())


def test_the_socket_of_another_serve_is_left_alone(serve, tmp_path):
    path = tmp_path / "c.sock"
    first = on_socket(serve, path)
    os.kill(first.pid, signal.SIGSTOP)
    try:
        path.unlink()
        second = on_socket(serve, path)
    finally:
        os.kill(first.pid, signal.SIGCONT)
    first.await_log(r"control socket \S+ cannot be reached: its file was replaced: another process")
    assert answers(path)
    first.stop()
    assert answers(path), "its end must not take the other's socket along"
    second.stop()
    assert not path.exists()


def test_a_file_in_place_of_the_socket_is_left_alone(serve, tmp_path):
    path = tmp_path / "c.sock"
    server = on_socket(serve, path)
    path.with_suffix(".tmp").write_text("mine")
    path.with_suffix(".tmp").rename(path)
    server.await_log(r"control socket \S+ cannot be reached: .* a file that is not a socket")
    server.stop()
    assert path.read_text() == "mine"


def test_a_file_beside_the_socket_is_left_alone(serve, tmp_path):
    (tmp_path / "c.sock.new").write_text("mine")
    server = serve("--control", f"unix:{tmp_path}/c.sock", control=False, wait=False)
    assert server.wait() == 1
    assert "c.sock.new: there is a file that is not a socket" in server.err()
    assert (tmp_path / "c.sock.new").read_text() == "mine"


# Files that hold tokens, and those that clients look at.


def odd_files(directory):
    """Names behind which no token can be, and what has to be said of them."""
    os.mkfifo(directory / "fifo")
    (directory / "link").symlink_to(directory / "fifo")
    (directory / "loop").symlink_to(directory / "loop")
    (directory / "binary").write_bytes(b"\xff\xfe")
    (directory / "words").write_text("two words")
    return {"fifo": "a named pipe", "link": "a named pipe", "loop": "symbolic link",
            "binary": "not UTF-8", "words": "one word of printable ASCII", ".": "directory",
            "/dev/zero": "larger than", "/dev/null": "one word of printable ASCII",
            "missing": "No such file"}


def test_a_token_file_of_send_that_cannot_be_used_is_named(serve, tmp_path):
    server = serve()
    for name, why in odd_files(tmp_path).items():
        path = tmp_path / name
        done = harness.run_cli(server.dir, "send", "--control", server.control_url,
                               "--token-file", path, "hi", timeout=20)
        assert done.returncode == 2, (name, done.stderr)
        assert f"--token-file {path}" in done.stderr and why in done.stderr, (name, done.stderr)


def test_a_control_token_file_that_cannot_be_used_is_named(serve, tmp_path):
    for number, (name, why) in enumerate(odd_files(tmp_path).items()):
        path = tmp_path / name
        server = serve("--control-token-file", path, name=f"s{number}", wait=False)
        assert server.wait() == 1, name
        assert str(path) in server.err() and why in server.err(), (name, server.err())


def test_a_token_may_come_from_a_command(serve):
    server = serve()
    script = '"$0" status --control "$1" --token-file <(echo "$2")'
    done = subprocess.run(["bash", "-c", script, harness.WSGW, server.control_url, server.token],
                          env=harness.private_env(server.dir / "other"), capture_output=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_token_in_the_environment_never_breaks_a_header(serve):
    server = serve()
    for token, why in [("a\r\nx-y: z", "WSGW_TOKEN: the token must be one word"),
                       ("\udcff", "the variable WSGW_TOKEN is not UTF-8")]:
        done = harness.run_cli(
            server.dir, "status", env={"WSGW_CONTROL": server.control_url, "WSGW_TOKEN": token})
        assert done.returncode == 2 and why in done.stderr, done.stderr


def test_what_lies_among_the_control_files_neither_hangs_nor_is_passed_over(serve):
    server = serve()
    odd = server.state / "control-9.json"
    os.mkfifo(odd)
    done = finds(server, "status")
    assert done.returncode == 2
    assert f"{odd}: it is a pipe, not a regular file" in done.stderr
    assert server.control_url in done.stderr
    done = harness.run_cli(server.dir, "status", "--control", server.control_url)
    assert done.returncode == 0, done.stderr
    odd.unlink()
    assert finds(server, "status").returncode == 0


# Certificates.


def test_a_certificate_that_is_half_written_at_a_reload_changes_nothing(serve, tmp_path):
    cert, key = harness.certificate(tmp_path)
    config = (f"[control]\nlisten = '127.0.0.1:0'\ntls-cert = '{cert}'\ntls-key = '{key}'\n"
              f"[gateways.default]\nport = 0\ntls-cert = '{cert}'\ntls-key = '{key}'\n")
    server = serve(control=False, config=config)
    server.await_out(r"control listening on https://")
    whole = cert.read_bytes()
    other = harness.certificate(tmp_path, "two")[0].read_bytes()
    os.mkfifo(tmp_path / "fifo")
    for damage, why in [(whole[:-30], "tls-cert"), (b"", "no certificate"),
                        (other, "the key is not that of the certificate")]:
        cert.write_bytes(damage)
        done = finds(server, "reload")
        assert done.returncode == 1 and "goes on as it was" in done.stderr, done.stderr
        assert why in done.stderr, done.stderr
        assert finds(server, "status").returncode == 0
    cert.unlink()
    for name, why in [("fifo", "a named pipe"), ("/dev/zero", "larger than"), (".", "directory")]:
        cert.symlink_to(tmp_path / name)
        done = finds(server, "reload")
        assert done.returncode == 1 and why in done.stderr, done.stderr
        cert.unlink()
    cert.write_bytes(whole)
    assert finds(server, "reload").returncode == 0
