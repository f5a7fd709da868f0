"""Gateways that listen on a unix socket: `host = "unix:PATH"`."""

import os
import re
import socket
import ssl
import stat

import pytest

from harness import Raw, certificate, handed_over, ws_client

GATEWAY = '[gateways.default]\nhost = "unix:g.sock"\n'


@pytest.fixture
def path(tmp_path):
    """Where [`GATEWAY`] has its socket: beside the config file of a serve named "s"."""
    return tmp_path / "s" / "g.sock"


@pytest.fixture
def unix(serve, path):
    """A serve whose gateway is [`GATEWAY`] with these keys too."""
    def start(keys="", **options):
        server = serve(config=GATEWAY + keys, name="s", **options)
        server.await_out(rf"gateway default listening on ws\+unix://{path}\n")
        return server

    return start


def client(path, target="/", **options):
    return ws_client(f"ws+unix://{path}", target=target, **options)


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def echoes(link, text="x"):
    link.send(text)
    assert link.recv() == text


def test_clients_come_by_the_socket(serve, path):
    server = serve(config=GATEWAY + 'mode = "0640"\n', name="s")
    server.await_out(rf"gateway default listening on ws\+unix://{path}\n")
    assert server.status()["address"] == f"ws+unix://{path}"
    assert f"ws+unix://{path}" in server.cli("status").stdout
    assert mode(path) == 0o640
    link = client(path, "/room?x=1")
    echoes(link)
    echoes(link, b"\0" * 1_000_000)
    (row,) = server.await_connections(1)
    assert (row["remote"], row["path"]) == ("unix", "/room")
    assert "port has no effect" not in server.err()
    link.close()
    server.await_connections(0)


def test_the_listener_is_told_unix(scripted, path):
    server = scripted(config=GATEWAY, name="s")
    link = client(path)
    (opened,) = server.record.wait("onClientOpen")
    assert opened["remote"] == "unix"
    link.close(4001, "bye")
    (closed,) = server.record.wait("onClientClose")
    assert (closed["code"], closed["clean"]) == (4001, True)


def test_the_socket_is_for_its_owner_alone_unless_told_otherwise(unix, path):
    unix()
    assert mode(path) == 0o600


def test_a_group(unix, path):
    gid = os.getgid()
    unix(f'group = {gid}\nmode = "0660"\n')
    assert (os.stat(path).st_gid, mode(path)) == (gid, 0o660)


def test_a_group_that_does_not_exist(serve):
    server = serve(config=GATEWAY + 'group = "no-such-group"\n', wait=False)
    assert server.wait() == 1
    assert 'there is no group "no-such-group"' in server.err()


def test_many_clients_get_one_order(unix, path):
    """Enough of them for sends that share a system call, and TLS-free ones only."""
    server = unix()
    links = [client(path) for _ in range(24)]
    server.await_connections(len(links))
    for i in range(50):
        links[i % len(links)].send(str(i))
    firsts = links[0].recv_many(50)
    assert sorted(firsts, key=int) == [str(i) for i in range(50)]
    for link in links[1:]:
        assert link.recv_many(50) == firsts
    server.push(message="to all")
    assert {link.recv() for link in links} == {"to all"}


def test_a_slow_client_is_closed_and_the_others_go_on(unix, path):
    server = unix("max-queue = 65536\n")
    slow, quick = Raw(path).upgrade(), client(path)
    server.await_connections(2)
    while len(server.connections()) == 2:
        quick.send("x" * 60_000)
        assert len(quick.recv()) == 60_000
    assert server.metric("wsgw_slow_consumers_total") == 1
    echoes(quick)
    slow.close()


def test_a_client_that_vanishes_is_noticed(scripted, path):
    server = scripted(config=GATEWAY, name="s")
    link = Raw(path).upgrade()
    server.await_connections(1)
    link.close()
    (closed,) = server.record.wait("onClientClose")
    assert (closed["code"], closed["clean"]) == (1006, False)


def test_pings_and_timeouts(unix, path):
    server = unix('ping-interval = "50ms"\nhandshake-timeout = "100ms"\n')
    link = Raw(path).upgrade()
    assert link.read_frame()[1] == 9
    silent = Raw(path)
    assert silent.response()[0] == 408
    silent.close()
    link.close()
    server.await_connections(0)


def test_a_stop_takes_the_socket_away(unix, path):
    server = unix()
    link = client(path)
    assert server.cli("stop", "default").returncode == 0
    assert link.await_close()[0] == 1001
    assert not path.exists()
    assert server.status()["address"] is None
    assert server.cli("start", "default").returncode == 0
    echoes(client(path))
    assert server.cli("restart", "default").returncode == 0
    echoes(client(path))
    server.stop()
    assert not path.exists() and not path.with_name("g.sock.new").exists()


def test_a_socket_that_a_killed_serve_left_is_replaced(unix, path):
    first = unix()
    first.proc.kill()
    first.proc.wait()
    assert path.exists()
    unix()
    echoes(client(path))


def test_a_socket_that_somebody_listens_on_is_left_alone(unix, serve, path):
    unix()
    second = serve(config=GATEWAY.replace("g.sock", str(path)), name="second", wait=False)
    assert second.wait() == 1
    assert re.search(rf"the unix socket {path} \(gateway default\): another process listens on it",
                     second.err())
    echoes(client(path))


def test_a_file_that_is_not_a_socket_is_left_alone(serve, path):
    path.parent.mkdir()
    path.write_text("mine")
    server = serve(config=GATEWAY, name="s", wait=False)
    assert server.wait() == 1
    assert "a file that is not a socket" in server.err()
    assert path.read_text() == "mine"


def test_a_file_of_somebody_else_is_not_removed(unix, path):
    server = unix()
    path.unlink()
    path.write_text("mine")
    server.stop()
    assert path.read_text() == "mine"


def test_its_directory_is_made(serve, tmp_path):
    path = tmp_path / "run" / "deep" / "g.sock"
    serve(config=f'[gateways.default]\nhost = "unix:{path}"\n')
    echoes(client(path))


def test_by_flags(serve, tmp_path):
    serve("--host", "unix:here.sock", "--mode", "0666", port=False, cwd=tmp_path)
    echoes(client(tmp_path / "here.sock"))
    assert mode(tmp_path / "here.sock") == 0o666


def test_a_path_that_is_too_long(serve, tmp_path):
    server = serve("--host", f"unix:{tmp_path}/{'x' * 120}", wait=False)
    assert server.wait() == 1
    assert "cannot be bound" in server.err()


def test_keys_without_effect_are_warned_of(serve, path):
    server = serve(config=GATEWAY + "port = 99\n[gateways.tcp]\nport = 0\nmode = \"0666\"\n", name="s")
    err = server.err()
    assert re.search(r"WARN .*gateway default: port has no effect on a unix socket", err)
    assert re.search(r"WARN .*gateway tcp: mode has no effect but on a unix socket", err)


@pytest.mark.parametrize("other", ["g.sock", "../s/g.sock"])
def test_two_gateways_with_one_path_are_an_error(serve, tmp_path, other):
    server = serve(config=f'{GATEWAY}[gateways.two]\nhost = "unix:{other}"\n', name="s", wait=False)
    assert server.wait() == 1
    assert re.search(r"wsgw\.toml:3: gateways\.two: .*the socket of gateway default", server.err())


def test_a_gateway_does_not_get_the_control_ports_path(serve):
    config = '[control]\nlisten = "unix:g.sock"\n' + GATEWAY
    server = serve(config=config, name="s", wait=False, control=False)
    assert server.wait() == 1
    assert re.search(r"wsgw\.toml:3: .*the socket of the control port", server.err())


# A reload.


def test_a_reload_moves_it_from_tcp_to_a_unix_socket_and_back(serve, path):
    server = serve(config="[gateways.default]\nport = 0\n", name="s")
    first = server.connect()
    server.reload(GATEWAY)
    assert first.await_close()[0] == 1001
    second = client(path)
    echoes(second)
    server.reload(GATEWAY.replace("g.sock", "h.sock"))
    assert second.await_close()[0] == 1001 and not path.exists()
    third = client(path.with_name("h.sock"))
    echoes(third)
    server.reload("[gateways.default]\nport = 0\n")
    assert third.await_close()[0] == 1001 and not path.with_name("h.sock").exists()
    echoes(server.connect())


def test_a_reload_that_cannot_bind_leaves_it_as_it_was(unix, path):
    server = unix()
    link = client(path)
    path.with_name("taken").write_text("")
    server.reload(GATEWAY.replace("g.sock", "taken"), code=1)
    echoes(link)
    echoes(client(path))
    assert server.status()["address"] == f"ws+unix://{path}"


def test_a_reload_changes_mode_and_group_and_keeps_the_clients(unix, path):
    server = unix()
    link = client(path)
    before = os.stat(path).st_ino
    server.reload(GATEWAY + f'mode = "0660"\ngroup = {os.getgid()}\n')
    assert (mode(path), os.stat(path).st_ino) == (0o660, before)
    server.reload(GATEWAY + 'mode = "0600"\ngroup = "no-such-group"\n', code=1)
    assert mode(path) == 0o660
    server.reload(GATEWAY + "port = 77\n")
    assert mode(path) == 0o600
    echoes(link)


def test_another_spelling_of_the_path(unix, path):
    server = unix()
    link = client(path)
    server.reload(GATEWAY.replace("g.sock", f"../{path.parent.name}/g.sock"))
    assert link.await_close()[0] == 1001
    echoes(client(path))
    server.stop()
    assert not path.exists()


def test_gateways_swap_their_sockets(serve, path):
    two = '[gateways.a]\nhost = "unix:{}"\npath = ["/a"]\n[gateways.b]\nhost = "unix:{}"\npath = ["/b"]\n'
    server = serve(config=two.format("one", "two"), name="s")
    one = path.with_name("one")
    echoes(client(one, "/a"))
    server.config.write_text(two.format("three", "one"))
    assert server.cli("reload").returncode == 0
    echoes(client(one, "/b"))
    echoes(client(path.with_name("three"), "/a"))


# TLS.


def test_tls(serve, path, tmp_path):
    cert, key = certificate(tmp_path)
    server = serve(config=f'{GATEWAY}tls-cert = "{cert}"\ntls-key = "{key}"\n', name="s")
    server.await_out(rf"gateway default listening on wss\+unix://{path}\n")
    link = client(path, ssl=ssl.create_default_context(cafile=cert))
    echoes(link)
    # Switched off, which needs another gateway on the same socket.
    server.reload(GATEWAY)
    assert link.await_close()[0] == 1001
    echoes(client(path))
    server.stop()
    assert not path.exists()


# Who the client is.


def test_it_counts_as_127_0_0_1_for_trusted_proxies(unix, path):
    server = unix('trusted-proxies = "127.0.0.1"\nmax-connections-per-ip = 1\n')
    headers = {"X-Forwarded-For": "192.0.2.7"}
    link = client(path, additional_headers=headers)
    (row,) = server.await_connections(1)
    assert row["remote"] == "192.0.2.7"
    second = Raw(path).request(headers=headers)
    assert second.response()[0] == 429
    second.close()
    other = client(path, additional_headers={"X-Forwarded-For": "192.0.2.8"})
    server.await_connections(2)
    other.close()
    link.close()


def test_without_trusted_proxies_the_header_is_only_a_header(unix, path):
    server = unix("max-connections-per-ip = 1\n")
    link = client(path, additional_headers={"X-Forwarded-For": "192.0.2.7"})
    (row,) = server.await_connections(1)
    assert row["remote"] == "unix"
    # All of them are one address.
    second = Raw(path).request()
    assert second.response()[0] == 429
    second.close()
    link.close()


def test_a_reload_that_begins_to_count_counts_those_that_are_open(unix, path):
    server = unix()
    link = client(path)
    server.await_connections(1)
    server.reload(GATEWAY + "max-connections-per-ip = 1\n")
    second = Raw(path).request()
    assert second.response()[0] == 429
    second.close()
    link.close()


@pytest.mark.parametrize("origin, status", [
    ("https://chat.example", 101), ("https://chat.example:8443", 101),
    ("http://localhost", 403), ("https://other.example", 403),
])
def test_without_allow_origin_a_page_of_the_requests_host_may_connect(unix, path, origin, status):
    unix()
    link = Raw(path).request(headers={"Host": "chat.example", "Origin": origin})
    assert link.response()[0] == status
    link.close()


@pytest.mark.parametrize("keys, status", [("", 200), ("console = false\n", 426)])
def test_the_console_is_there_unless_it_is_switched_off(unix, path, keys, status):
    unix(keys)
    link = Raw(path).request("/.wsgw/console.js", upgrade=False)
    assert link.response()[0] == status
    link.close()


def test_static_files_and_streams(serve, path, tmp_path):
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "a.txt").write_text("file")
    server = serve(config=f'{GATEWAY}streams = true\nstatic = "{tmp_path}/www"\n', name="s")
    link = Raw(path).request("/a.txt", upgrade=False)
    assert link.response()[2] == "file"
    # The same connection, which comes back to its shard.
    link.upgrade()
    (row,) = server.await_connections(1)
    assert row["remote"] == "unix"
    link.close()
    server.await_connections(0)
    stream = Raw(path).request("/x?stream=raw", upgrade=False)
    assert stream.response()[0] == 200
    server.push(message="hello")
    assert stream.read_exactly(6) == b"hello\n"
    stream.close()


# The service manager.


def test_a_unix_socket_that_is_handed_over(serve, path):
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as acceptor:
        acceptor.bind(str(path))
        acceptor.listen(16)
        os.chmod(path, 0o604)
        server = serve(config=GATEWAY, name="s", **handed_over(acceptor))
        link = client(path)
        echoes(link)
        assert server.status()["address"] == f"ws+unix://{path}"
        # The file is the manager's: its mode stays, and so does the file.
        assert mode(path) == 0o604
        assert server.cli("restart", "default").returncode == 0
        assert link.await_close()[0] == 1001
        echoes(client(path))
        server.stop()
        assert path.exists()
        # Whoever comes between two serves waits.
        waiting = Raw(path).request()
        serve(config=GATEWAY, name="s", **handed_over(acceptor))
        assert waiting.response()[0] == 101
        waiting.close()


def test_a_unix_socket_that_is_handed_over_by_name(serve, tmp_path):
    path = tmp_path / "any.sock"
    with socket.socket(socket.AF_UNIX) as acceptor:
        acceptor.bind(str(path))
        acceptor.listen(16)
        server = serve("--id", "chat", "--port", "0", port=False,
                       **handed_over(acceptor, names="Chat"))
        assert server.status("chat")["address"] == f"ws+unix://{path}"
        echoes(client(path))
