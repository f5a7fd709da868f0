"""examples/cluster works as it stands there, as far as that can be seen without containers."""

import json
import os
import shlex
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import yaml

from harness import (
    ROOT, WSGW, NatsServer, children, free_port, private_env, run_cli, tool, wait_until, ws_client,
)

CLUSTER = ROOT / "examples/cluster"


def three_ports():
    """Three ports in a row that nobody has; the first one."""
    while True:
        first = free_port()
        try:
            for port in range(first, first + 3):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue


def await_client(port, path):
    def look():
        try:
            return ws_client(f"ws://127.0.0.1:{port}{path}")
        except OSError:
            return None
    return wait_until(look, f"a gateway at {port}")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_script_runs_three_nodes_and_ends_cleanly(tmp_path, end):
    first, control = three_ports(), three_ports()
    env = {**private_env(tmp_path), "NATS_PORT": str(free_port()), "PORT": str(first),
           "CONTROL_PORT": str(control), "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    paths = [str(Path(WSGW).parent), str(Path(tool("nats-server")).parent)]
    env["PATH"] = os.pathsep.join([*paths, os.environ["PATH"]])
    out = open(tmp_path / "out", "w+")
    # Ctrl-C at a terminal goes to all of the script's processes.
    script = subprocess.Popen([CLUSTER / "run.sh"], env=env, stdin=subprocess.DEVNULL, stdout=out,
                              stderr=out, start_new_session=True)
    try:
        clients = [await_client(first + n, "/room1") for n in range(3)]
        elsewhere = await_client(first, "/room2")
        token = json.loads((tmp_path / f"state/wsgw/control-{control}.json").read_text())["token"]
        run = {"WSGW_CONTROL": f"http://127.0.0.1:{control}", "WSGW_TOKEN": token}

        def known():
            return run_cli(tmp_path, "status", "--nodes", "rooms", env=run).stdout.count("node ") >= 3
        wait_until(known, "the three nodes")
        clients[0].send("hi")
        assert [client.recv() for client in clients] == ["hi"] * 3
        elsewhere.send("here")
        assert elsewhere.recv() == "here"
        below = children(script.pid)
        assert len(below) == 4, "a server and three nodes"
        os.killpg(script.pid, end) if end == signal.SIGINT else script.send_signal(end)
        assert script.wait(20) == 0, (tmp_path / "out").read_text()
        assert clients[0].await_close()[0] == 1001
        assert not any(Path(f"/proc/{pid}").exists() for pid in below)
        assert not os.listdir(tmp_path / "tmp"), "it leaves nothing"
    finally:
        if script.poll() is None:
            os.killpg(script.pid, signal.SIGKILL)
        out.close()


@pytest.fixture
def compose():
    return yaml.safe_load((CLUSTER / "compose.yaml").read_text())["services"]


def mounted(service, path):
    """The file of this repository that a container has at this path."""
    for volume in service["volumes"]:
        source, _, target = volume.partition(":")
        if target.removesuffix(":ro") == path:
            return CLUSTER / source
    raise AssertionError(f"nothing is at {path}: {service['volumes']}")


def test_the_containers_commands_are_good(compose, tmp_path):
    """Each is accepted by its program, with the files that the container has."""
    assert sorted(compose) == ["nats1", "nats2", "nats3", "node1", "node2", "node3"]
    published = set()
    for name, service in compose.items():
        words = shlex.split(service["command"])
        path = words[words.index("--config") + 1]
        words[words.index(path)] = str(mounted(service, path))
        if name.startswith("nats"):
            done = subprocess.run([tool("nats-server"), *words, "-t"], capture_output=True, text=True,
                                  env={**os.environ, **service["environment"]})
            assert done.returncode == 0, done
            assert service["environment"] == {"NAME": name} and f"{name}:/data" in service["volumes"]
        else:
            assert service["depends_on"] == ["nats1", "nats2", "nats3"]
            done = run_cli(tmp_path, *words, "--check-config")
            assert done.returncode == 0 and "1 gateway" in done.stdout, done
            (port,) = service["ports"]
            host, _, inner = port.partition(":")
            assert inner == "10125", "the default port of a gateway"
            published.add(host)
    assert len(published) == 3


def test_the_files_of_the_containers_make_a_cluster(compose, serve, tmp_path):
    """The same files, with addresses of this machine in place of the containers' names."""
    routes = {f"nats{n}": free_port() for n in (1, 2, 3)}
    text = mounted(compose["nats1"], "/etc/nats.conf").read_text()
    servers = []
    try:
        for name, port in routes.items():
            lines = text.replace("0.0.0.0:6222", f"127.0.0.1:{port}").replace("$NAME", name)
            lines = lines.replace("/data", str(tmp_path / name / "data"))
            for other, there in routes.items():
                lines = lines.replace(f"{other}:6222", f"127.0.0.1:{there}")
            servers.append(NatsServer(tmp_path / name, lines, start=False, jetstream=""))
            servers[-1].launch()
        for server in servers:
            server.await_health("?js-server-only=true")
        config = mounted(compose["node1"], "/etc/wsgw/wsgw.toml").read_text()
        for n, server in enumerate(servers):
            config = config.replace(f"nats{n + 1}:4222", f"127.0.0.1:{server.port}")
        config = config.replace('host = "0.0.0.0"', "port = 0")
        nodes = [serve(config=config) for _ in range(3)]
        clients = [node.connect("/room1", gateway="rooms") for node in nodes]
        for node in nodes:
            wait_until(lambda node=node: len(node.api("GET", "/v1/gateways/rooms/nodes")[1]) == 3, "the nodes")
        clients[2].send("hi")
        assert [client.recv() for client in clients] == ["hi"] * 3
        assert servers[0].stream("rooms")["config"]["num_replicas"] == 3
        for node in nodes:
            node.stop()
    finally:
        for server in servers:
            server.kill()
