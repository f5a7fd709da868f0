"""What the config of a cluster may say, what the servers allow, and what does not fit."""

import json
import os
import sys
import urllib.request

import pytest

from harness import (
    Framed, NatsServer, Nodes, Say, await_nodes, certificate, credentials, run_cli,
    wait_until,
)

KIB = 1024


def check(tmp_path, text):
    path = tmp_path / "wsgw.toml"
    path.write_text(text)
    done = run_cli(tmp_path, "serve", "--check-config", "--config", path)
    return done.returncode, done.stdout + done.stderr


GATEWAY = '[gateways.default]\nport = 0\ncluster = "ordered"\n'
CLUSTER = '[cluster]\nurl = "nats://127.0.0.1:4222"\n'


@pytest.mark.parametrize("text,words", [
    (GATEWAY, ["[cluster]", "url"]),
    ("[cluster]\n" + GATEWAY, ["url"]),
    (CLUSTER + GATEWAY.replace("ordered", "core") + "[gateways.default.history]\nbroadcast = 5\n",
     ["history", "core"]),
    (CLUSTER + GATEWAY + '[gateways.default.history]\nbroadcast = 5\nfile = "h.db"\n', ["file", "stream"]),
    (CLUSTER + GATEWAY.replace("ordered", "other"), ["ordered", "core"]),
    (CLUSTER + GATEWAY + 'on-engine-loss = "drop"\n', ["local", "hold"]),
    (CLUSTER.replace("nats:", "http:") + GATEWAY, ["nats", "tls"]),
    (CLUSTER.replace("nats://127.0.0.1:4222", "rubbish") + GATEWAY, ["rubbish"]),
    ("[cluster]\nurl = []\n" + GATEWAY, ["server"]),
    (CLUSTER + "replicas = 0\n" + GATEWAY, ["replicas"]),
    (CLUSTER + "replicas = 6\n" + GATEWAY, ["replicas"]),
    (CLUSTER + 'stream = "other"\n' + GATEWAY, ["existing"]),
    (CLUSTER + "colour = 1\n" + GATEWAY, ["colour"]),
    (CLUSTER + 'credentials = "/nowhere/x.creds"\n' + GATEWAY, ["/nowhere/x.creds"]),
])
def test_a_config_that_cannot_be_is_an_error_at_start(tmp_path, text, words):
    code, said = check(tmp_path, text)
    assert code == 1 and all(word in said for word in words), (code, said)


@pytest.mark.parametrize("url", [
    '"nats://me:hushhush@127.0.0.1:4222"',
    '"nats://hushhush@127.0.0.1:4222"',
    '["nats://127.0.0.1:4222", "tls://:hushhush@localhost:4222"]',
    '"http://me:hushhush@127.0.0.1:4222"',
    '"nats://me:hush@hushhush@127.0.0.1:port"',
    '"me:hushhush@127.0.0.1"',
])
def test_credentials_in_urls_are_refused_and_shown_to_nobody(tmp_path, url):
    code, said = check(tmp_path, f"[cluster]\nurl = {url}\n{GATEWAY}")
    assert code == 1 and "NATS server" in said and "hushhush" not in said, said


@pytest.mark.parametrize("text", [
    CLUSTER + GATEWAY,
    CLUSTER + GATEWAY.replace("ordered", "core"),
    '[cluster]\nurl = ["nats://a:1", "tls://b.example:4222"]\nname = "x"\nreplicas = 3\n' + GATEWAY,
    CLUSTER + 'stream = "existing"\n' + GATEWAY + 'on-engine-loss = "hold"\n',
    CLUSTER + "[gateways.default]\nport = 0\n",
])
def test_a_config_that_can_be_is_good(tmp_path, text):
    code, said = check(tmp_path, text)
    assert code == 0, said


def test_no_connection_is_made_where_no_gateway_has_a_cluster(serve, nats):
    node = serve(config=f'[cluster]\nurl = "{nats.url}"\n[gateways.default]\nport = 0\n')
    assert node.push(message="x")[0] == 200
    assert nats.state("varz")["total_connections"] == 0
    assert "wsgw_cluster" not in node.http("GET", "/metrics", token=False)[2]


def test_the_name_stands_in_the_servers_list(nodes, nats):
    nodes.add(cluster='name = "front door"')
    await_nodes(nodes[0], 1)
    assert "front door" in {c.get("name") for c in nats.state("connz")["connections"]}


def test_an_old_server_is_warned_about(nodes, nats):
    version = nats.state("varz")["version"]
    nodes.many(1)
    warned = any("2.10.23" in line and version in line for line in nodes[0].log().splitlines())
    assert warned == (tuple(map(int, version.split("."))) < (2, 10, 23))


def test_tls_servers_are_verified(serve, tmp_path):
    certificate(tmp_path)
    pem, key = tmp_path / "one.pem", tmp_path / "one.key"
    nats = NatsServer(tmp_path / "nats", f'tls {{ cert_file: "{pem}", key_file: "{key}" }}', "tls")
    try:
        text = f'[cluster]\nurl = "{nats.url}"\n{GATEWAY}'
        good = [serve(config=text, env={"SSL_CERT_FILE": str(pem)}) for _ in range(2)]
        for node in good:
            await_nodes(node, 2)
        clients = [node.connect() for node in good]
        clients[0].send("hi")
        assert [client.recv() for client in clients] == ["hi"] * 2
        doubtful = serve(config=text, env={"SSL_CERT_FILE": os.devnull})
        assert "degraded" in doubtful.http("GET", "/healthz")[2]
        doubtful.await_log("(?i)certificate")
    finally:
        for node in [*good, doubtful]:
            node.stop()
        nats.kill()


def test_credentials_open_a_server_that_wants_them(serve, tmp_path):
    lines, path = credentials(tmp_path)
    nats = NatsServer(tmp_path / "nats", lines)
    try:
        text = f'[cluster]\nurl = "{nats.url}"\ncredentials = "{path}"\n{GATEWAY}'
        nodes = [serve(config=text) for _ in range(2)]
        for node in nodes:
            await_nodes(node, 2)
        clients = [node.connect() for node in nodes]
        clients[0].send("hi")
        assert [client.recv() for client in clients] == ["hi"] * 2
        nobody = serve(config=text.replace("credentials", "#"))
        assert "degraded" in nobody.http("GET", "/healthz")[2]
        nobody.await_log("(?i)authori[sz]ation")
        nodes.append(nobody)
    finally:
        for node in nodes:
            node.stop()
        nats.kill()


def test_more_replicas_than_servers_is_failed(nodes):
    node = nodes.add(cluster="replicas = 3", wait=False)
    assert node.proc.wait(20) == 1, "the only gateway could not be started"
    assert "replicas" in node.err()
    nodes.clear()


def test_a_server_without_jetstream_is_good_for_core_alone(serve, tmp_path):
    nats = NatsServer(tmp_path / "nats", jetstream="")
    try:
        text = f'[cluster]\nurl = "{nats.url}"\n{GATEWAY}'
        core = [serve(config=text.replace("ordered", "core")) for _ in range(2)]
        for node in core:
            await_nodes(node, 2)
        clients = [node.connect() for node in core]
        clients[0].send("hi")
        assert [client.recv() for client in clients] == ["hi"] * 2
        ordered = serve(config=text, wait=False, name="ordered")
        wait_until(lambda: ordered.proc.poll() is not None or "jetstream" in ordered.log().lower(), "the reason")
        if ordered.proc.poll() is None:
            ordered.await_control()
            assert "jetstream" in ordered.http("GET", "/healthz")[2].lower()
    finally:
        for node in core:
            node.stop()
        nats.kill()


def test_a_stream_that_does_not_fit_into_the_servers_store_says_so(serve, tmp_path):
    keys = 'store_dir: "{store}", max_file_store: 1MB'
    nats = NatsServer(tmp_path / "nats", jetstream=keys)
    try:
        node = serve(config=f'[cluster]\nurl = "{nats.url}"\n{GATEWAY}', wait=False)
        wait_until(lambda: node.proc.poll() is not None or "storage" in node.log(), "the reason")
        assert "storage" in node.log() + node.err()
    finally:
        node.kill()
        nats.kill()


def test_an_existing_stream_without_our_subjects_is_failed(nodes, nats):
    made = nats.ask("STREAM.CREATE.wsgw-default", name="wsgw-default", subjects=["something.else"],
                    storage="file")
    assert "error" not in made, made
    node = nodes.add(cluster='stream = "existing"', wait=False)
    assert node.proc.wait(20) == 1
    assert "wsgw.default" in node.err() and "subject" in node.err(), node.err()
    nodes.clear()


# Sizes.


@pytest.fixture(params=[256 * KIB, 8192 * KIB], ids=["256KiB", "8MiB"])
def sized(request, serve, tmp_path):
    """Nodes at a server with this `max_payload`."""
    nats = NatsServer(tmp_path / "nats", f"max_payload: {request.param}")
    nodes = Nodes(serve, nats)
    nodes.most = request.param
    yield nodes
    for node in nodes:
        node.close_raw()
        node.stop()
    nats.kill()


def test_the_default_of_max_message_is_what_the_servers_take(sized):
    sized.many(2)
    most = min(1024 * KIB, sized.most - 16 * KIB)
    one, other = (node.connect() for node in sized)
    one.send("x" * most)
    assert len(one.recv()) == len(other.recv()) == most
    one.send("x" * (most + 1))
    assert one.await_close()[0] == 1009


def test_a_larger_max_message_is_an_error_at_start(sized):
    if sized.most > 1024 * KIB:
        sized.many(2, gateway='max-message = "4MiB"\nmax-line = "64MiB"')
        one, other = (node.connect() for node in sized)
        one.send("x" * (4096 * KIB))
        assert len(one.recv()) == len(other.recv()) == 4096 * KIB
        return
    node = sized.add(gateway='max-message = "1MiB"', wait=False)
    assert node.proc.wait(20) == 1
    said = node.err()
    assert "max-message" in said and "max_payload" in said, said
    sized.clear()


def test_what_does_not_fit_is_413_for_a_push_and_a_fault_for_others(sized, tmp_path):
    say = Say(tmp_path / "told")
    sized.add(listener=say.command, gateway='max-line = "64MiB"')
    sized.add()
    sized.await_all()
    large = sized.most + 1
    one, other = (Framed(node) for node in sized)
    for node, query in ((sized[0], "?hook=none"), (sized[1], ""), (sized[0], "")):
        status, error = node.push(message="x" * large, query=query)
        assert (status, error["error"]["code"]) == (413, "too_large"), error
    maker = Say(tmp_path / "told2", f"*{large}")
    third = sized.add(listener=maker.command, gateway='max-line = "64MiB"')
    sized.await_all()
    # The listener makes an answer of it that does not fit.
    third.connect().send("short")
    wait_until(lambda: third.metric("wsgw_listener_faults_total") == 1, "the fault")
    third.await_log("(?i)at fault")
    status, error = third.push(message="short")
    assert status in (413, 502), error
    sized[0].push(message="end", query="?hook=none")
    assert one.body() == other.body() == "end"


def test_a_command_that_does_not_fit_is_a_fault(sized):
    """One that does fit is behind it, and comes."""
    large = sized.most + 1
    script = ("import sys\nfor line in sys.stdin:\n"
              f"  for message in ('x' * {large}, 'fits'):\n"
              "    print('{\"command\":\"send\",\"message\":\"%s\"}' % message, flush=True)")
    sized.add(listener=[sys.executable, "-c", script],
              gateway='max-line = "64MiB"\nhooks = ["onClientOpen"]')
    sized.add()
    sized.await_all()
    other = sized[1].connect()
    one = sized[0].connect()
    assert one.recv() == other.recv() == "fits"
    assert sized[0].metric("wsgw_listener_faults_total") == 1
    sized[0].await_log("skipped.*max_payload")


def test_many_large_messages_of_one_turn_all_fit(nodes, tmp_path):
    say = Say(tmp_path / "told")
    nodes.add(listener=say.command, history='broadcast = 100\nbytes = "256MiB"')
    nodes.add(history='broadcast = 100\nbytes = "256MiB"')
    nodes.await_all()
    one, other = (Framed(node) for node in nodes)
    for _ in range(3):
        one.say(*({"command": "send", "message": f"{n}" * 90_000} for n in range(10)),
                {"id": "ID", "connections": []})
    for client in (one, other):
        assert client.bodies(30) == [f"{n}" * 90_000 for n in range(10)] * 3


# Reload.


def test_a_gateway_gets_a_cluster_by_a_reload(serve, nats):
    alone = f'[cluster]\nurl = "{nats.url}"\n[gateways.default]\nport = 0\nprotocols = "*"\n'
    nodes = [serve(config=alone) for _ in range(2)]
    assert "nodes" not in nodes[0].push(message="x")[1]
    for node in nodes:
        node.reload(alone + 'cluster = "ordered"\n')
    for node in nodes:
        await_nodes(node, 2)
    clients = [Framed(node) for node in nodes]
    clients[0].send("hi")
    assert [client.body() for client in clients] == ["hi"] * 2
    nodes[0].reload(alone)
    await_nodes(nodes[1], 1)
    assert "nodes" not in nodes[0].push(message="x")[1]


def test_other_servers_need_a_new_serve_which_reload_says(nodes):
    nodes.many(1)
    config = nodes[0].config.read_text()
    nodes[0].config.write_text(config.replace("nats://", "nats://localhost:1,").replace(
        "localhost:1,", "") .replace("127.0.0.1", "localhost"))
    done = nodes[0].cli("reload")
    said = done.stdout + done.stderr + nodes[0].log()
    assert "[cluster]" in said, said


def test_health_and_metrics_need_no_token_and_nodes_do(nodes):
    nodes.many(1)
    path = "/v1/gateways/default/nodes"
    assert nodes[0].http("GET", path, token=False)[0] == 401
    status, found = nodes[0].api("GET", path)
    assert status == 200 and len(found) == 1 and found[0]["this"] is True, found
    with urllib.request.urlopen(f"{nodes[0].control_url}/healthz") as answer:
        assert answer.read().strip() == b"ok"
    assert json.dumps(found)
