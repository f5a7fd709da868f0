"""The NATS server is lost, and comes back: what clients, pushes, health, metrics and log say."""

import contextlib
import json
import threading
import time

import pytest

from harness import (
    Framed, NatsServer, Say, Stopwatch, ask_nodes, await_nodes, free_port, wait_until,
)

KEPT = "broadcast = 1000"
#: Seconds in which a loss, and a return, is noticed.
SOON = 2
LOSS, RETURN = "the cluster is degraded", "the cluster's stream is there"
HOLD = 'on-engine-loss = "hold"'


def health(node):
    status, _, text = node.http("GET", "/healthz", token=False)
    return status, text.strip()


def is_lost(node):
    status, text = health(node)
    assert status == 200, text
    return "degraded" in text


def seconds(check, what, most=20):
    started = time.monotonic()
    wait_until(check, what, most)
    return time.monotonic() - started


def await_loss(node):
    return seconds(lambda: is_lost(node), "degraded health")


def await_return(node):
    return seconds(lambda: not is_lost(node), "good health")


HARMS = {"stopped": ("pause", "go_on"), "killed": ("kill", "start")}


@pytest.fixture(params=HARMS)
def harm(request, nats):
    """Two functions: one takes the server away, the other brings it back."""
    away, back = HARMS[request.param]
    yield getattr(nats, away), getattr(nats, back)
    if request.param == "stopped":
        nats.go_on()


def test_a_loss_is_noticed_and_so_is_the_return(nodes, nats, harm):
    nodes.many(2)
    away, back = harm
    assert health(nodes[0]) == (200, "ok")
    for _ in range(2):
        watches = [Stopwatch(node, nats) for node in nodes]
        away()
        for node, watch in zip(nodes, watches):
            assert watch.until(LOSS) < SOON
            assert is_lost(node)
            assert node.metric("wsgw_cluster_up") == 0
        watches = [Stopwatch(node, nats) for node in nodes]
        back()
        for watch in watches:
            watch.begin()
        for node, watch in zip(nodes, watches):
            assert watch.until(RETURN) < SOON
            assert health(node) == (200, "ok")
        wait_until(lambda: all(node.metric("wsgw_cluster_up") == 1 for node in nodes), "the gauge")
    nodes.await_all()


def test_local_own_clients_go_on_without_positions(nodes, harm):
    nodes.many(2, history=KEPT)
    away, back = harm
    here, there = (Framed(node) for node in nodes)
    speaker = nodes[0].connect()
    speaker.send("before")
    at = here.frame()["at"]
    assert there.body() == "before"
    away()
    await_loss(nodes[0])
    await_loss(nodes[1])
    speaker.send("local")
    assert here.frame() == {"message": "local"}
    status, outcome = nodes[0].push(message="pushed")
    assert status == 200 and outcome["delivered"] == 2, outcome
    assert here.frame() == {"message": "pushed"}
    assert nodes[0].metric("wsgw_cluster_local_total") == 2
    # Who comes now, with a position, cannot be sure.
    new = Framed(nodes[0], since=at)
    speaker.send("again")
    assert new.until("again")[-1]["message"] == here.body() == "again"
    back()
    for node in nodes:
        await_return(node)
    nodes.await_all()
    nodes[1].push(message="after")
    assert there.frame()["message"] == "after", "what was said there stayed there"
    assert here.until("after")[-1]["message"] == "after"
    for node in nodes:
        assert Framed(node, since=at).hello["recovered"] is False
    wait_until(lambda: len({Framed(node).hello["at"].partition("-")[0] for node in nodes}) == 1,
               "one epoch")
    nodes[0].push(message="last")
    assert here.until("last")[-1]["at"] == there.until("last")[-1]["at"]
    again = Framed(nodes[0], since=there.at)
    assert again.hello["recovered"] is True


def test_local_where_nothing_strayed_positions_stay_good(nodes, harm):
    nodes.many(2, history=KEPT)
    away, back = harm
    one = Framed(nodes[0])
    nodes[1].push(message="before")
    at = one.frame()["at"]
    away()
    for node in nodes:
        await_loss(node)
    back()
    for node in nodes:
        await_return(node)
    nodes.await_all()
    nodes[0].push(message="after")
    assert one.body() == "after"
    again = Framed(nodes[1], since=at)
    assert (again.hello["recovered"], again.body()) == (True, "after")


@pytest.mark.parametrize("loss", ["local", "hold"])
def test_what_was_published_without_an_answer_comes_from_the_stream_or_is_lost(nodes, harm, loss):
    """In the moments before the loss is noticed nobody knows what comes of a message."""
    nodes.many(2, history=KEPT, gateway=f'on-engine-loss = "{loss}"')
    away, back = harm
    here, there = (Framed(node) for node in nodes)
    speaker = nodes[0].connect()
    speaker.send("before")
    assert here.body() == there.body() == "before"
    away()
    count = 50
    for n in range(count):
        speaker.send(f"m{n}")
        time.sleep(0.002)
    await_loss(nodes[0])
    await_loss(nodes[1])
    back()
    for node in nodes:
        await_return(node)
    nodes.await_all()
    speaker.send("end")
    mine, yours = ([f["message"] for f in client.until("end")] for client in (here, there))
    order = [f"m{n}" for n in range(count)] + ["end"]
    assert mine == yours, "what nobody knew about is the same for all, and nothing is local alone"
    assert [m for m in order if m in mine] == mine
    lost = nodes[0].metric("wsgw_cluster_lost_total")
    assert len(mine) + lost == count + 1
    if loss == "hold":
        assert lost == 0


def test_local_nothing_is_lost_and_nothing_comes_twice(nodes, harm):
    """All the time one speaks; each message reaches its own node's clients once, or is counted."""
    nodes.many(2, history=KEPT)
    away, back = harm
    here, there = (Framed(node) for node in nodes)
    speaker = nodes[0].connect()
    stop, sent = threading.Event(), []

    def speak():
        while not stop.is_set():
            sent.append(f"m{len(sent)}")
            speaker.send(sent[-1])
            time.sleep(0.005)
    thread = threading.Thread(target=speak)
    thread.start()
    try:
        for _ in range(2):
            time.sleep(0.3)
            away()
            await_loss(nodes[0])
            time.sleep(0.3)
            back()
            await_return(nodes[0])
    finally:
        stop.set()
        thread.join()
    nodes.await_all()
    speaker.send("end")
    frames = [client.until("end")[:-1] for client in (here, there)]
    mine, yours = ([f["message"] for f in got] for got in frames)
    assert len(set(mine)) == len(mine) and len(set(yours)) == len(yours), "nothing twice"
    # What went to the node's own clients alone has no position, and may come before what was on its way.
    ordered = [f["message"] for f in frames[0] if "at" in f]
    assert ordered == yours == sorted(yours, key=sent.index)
    lost = nodes[0].metric("wsgw_cluster_lost_total")
    assert len(sent) - len(mine) == lost
    assert set(yours) <= set(mine)
    assert len(mine) - len(yours) == nodes[0].metric("wsgw_cluster_local_total")


def test_hold_holds_clients_back_and_loses_nothing(nodes, harm, tmp_path):
    say = Say(tmp_path / "told")
    nodes.add(gateway=HOLD, history=KEPT, listener=say.command)
    nodes.add(gateway=HOLD, history=KEPT)
    nodes.await_all()
    away, back = harm
    here, there = (Framed(node) for node in nodes)
    speakers = [nodes[0].raw().upgrade() for _ in range(2)]
    sent = [0, 0]
    stop = threading.Event()

    def speak(n):
        while not stop.is_set():
            body = f"{n}:{sent[n]}:".encode() + b"x" * 20_000
            speakers[n].frame(1, body)
            sent[n] += 1

    def read(n):
        with contextlib.suppress(OSError):
            while speakers[n].sock.recv(1 << 16):
                pass
    for n in range(2):
        speakers[n].sock.settimeout(None)
        threading.Thread(target=read, args=[n], daemon=True).start()
    away()
    await_loss(nodes[0])
    threads = [threading.Thread(target=speak, args=[n], daemon=True) for n in range(2)]
    for thread in threads:
        thread.start()

    def standing():
        before = list(sent)
        time.sleep(0.7)
        return before == sent
    wait_until(standing, "the pressure to reach the clients")
    assert sum(sent) < 20_000
    back()
    await_return(nodes[0])
    time.sleep(0.5)
    stop.set()
    for thread in threads:
        thread.join(30)
    assert nodes[0].push(message="end", query="?hook=none")[0] == 200
    total = sum(sent)
    got = [[one.body() for _ in range(total + 1)] for one in (here, there)]
    assert got[0] == got[1]
    for n in range(2):
        mine = [m.split(":")[1] for m in got[0] if m.startswith(f"{n}:")]
        assert mine == [str(k) for k in range(sent[n])]


def test_hold_refuses_pushes_and_lets_the_rest_go_on(nodes, harm, tmp_path):
    say = Say(tmp_path / "told")
    hooks = 'hooks = ["onClientOpen", "onClientClose", "onMessage", "onJoin", "onLeave"]'
    nodes.add(gateway=f"{HOLD}\n{hooks}", history=KEPT, listener=say.command)
    nodes.await_all()
    away, back = harm
    node = nodes[0]
    node.push(message="before", query="?hook=none")
    away()
    await_loss(node)
    for query in ("", "?hook=none"):
        status, error = node.push(message="x", query=query)
        assert (status, error["error"]["code"]) == (503, "engine_lost"), error
    done = node.cli("send", "x")
    assert done.returncode == 5, done
    one = Framed(node, say=[{"id": "ID", "conn": "CONN", "join": "room"}])
    say.await_told("onClientOpen")
    say.await_told("onJoin")
    assert one.frame()["joined"] == ["room"]
    assert node.api("GET", "/v1/gateways/default/channels/room?local=true")[1]["count"] == 1
    status, _, _ = node.http("DELETE", f"/v1/gateways/default/connections/{one.conn}?code=4001")
    assert status in (200, 204)
    assert one.await_close()[0] == 4001
    say.await_told("onLeave")
    say.await_told("onClientClose")
    back()
    await_return(node)
    assert node.push(message="y", query="?hook=none")[0] == 200


def test_hold_positions_stay_good(nodes, harm):
    nodes.many(2, history=KEPT, gateway=HOLD)
    away, back = harm
    here, there = (Framed(node) for node in nodes)
    speaker = nodes[0].connect()
    speaker.send("before")
    at = here.frame()["at"]
    away()
    await_loss(nodes[0])
    speaker.send("held")
    back()
    await_return(nodes[0])
    first = here.frame()
    assert first["message"] == "held" and there.bodies(2) == ["before", "held"]
    assert first["at"].partition("-")[0] == at.partition("-")[0]
    again = Framed(nodes[1], since=at)
    assert (again.hello["recovered"], again.body()) == (True, "held")


@pytest.mark.parametrize("loss", ["local", "hold"])
def test_a_node_without_a_server_stops_in_order(nodes, harm, loss):
    nodes.many(1, gateway=f'on-engine-loss = "{loss}"')
    away, _ = harm
    client = nodes[0].connect()
    away()
    await_loss(nodes[0])
    client.send("x")
    started = time.monotonic()
    nodes[0].stop()
    assert time.monotonic() - started < 10
    assert client.await_close()[0] == 1001


def test_a_wire_that_only_stands_still_is_a_loss_too(nodes, wire):
    cut_off = nodes.add(url=wire.url, history=KEPT)
    other = nodes.add(history=KEPT)
    nodes.await_all()
    here, there = Framed(cut_off), Framed(other)
    for ways in (["up"], ["down"], ["up", "down"]):
        watch = Stopwatch(cut_off)
        wire.stall(*ways)
        assert watch.until(LOSS) < SOON
        assert is_lost(cut_off) and not is_lost(other)
        cut_off.push(message="local")
        assert here.until("local")[-1] == {"message": "local"}
        watch = Stopwatch(cut_off)
        wire.go_on()
        assert watch.until(RETURN) < SOON
        nodes.await_all()
        other.push(message="for all")
        assert here.until("for all")[-1]["message"] == there.until("for all")[-1]["message"] == "for all"


def test_without_a_server_serve_starts_degraded_and_joins_later(serve, tmp_path):
    nats = NatsServer(tmp_path / "nats", port=free_port(), start=False)
    text = (f'[cluster]\nurl = "{nats.url}"\n[gateways.default]\nport = 0\n'
            f'cluster = "ordered"\nprotocols = "*"\n[gateways.default.history]\n{KEPT}\n')
    nodes = []
    for _ in range(2):
        node = serve(config=text, wait=False)
        watch = Stopwatch(node)
        # Two seconds, and what a start takes.
        assert watch.until("gateway running") < 2.5
        assert watch.raw > 1.9
        node.await_control()
        nodes.append(node)
    try:
        clients = [Framed(node) for node in nodes]
        for node, client in zip(nodes, clients):
            assert is_lost(node)
            assert node.status()["state"] == "running"
            node.await_log("NATS")
            client.send("local")
            assert client.body() == "local"
        # It has tried for some time, and the reason is the same.
        assert "timed out" not in nodes[0].log() and nats.url in nodes[0].log()
        watches = [Stopwatch(node, nats) for node in nodes]
        nats.start()
        for watch in watches:
            watch.begin()
        for node, watch in zip(nodes, watches):
            assert watch.until(RETURN) < SOON
            await_nodes(node, 2)
        clients[0].send("for all")
        assert [client.until("for all")[-1]["message"] for client in clients] == ["for all"] * 2
    finally:
        for node in nodes:
            node.stop()
        nats.kill()


def test_several_gateways_do_not_wait_one_after_the_other(serve):
    more = "".join(f'[gateways.g{n}]\nport = 0\ncluster = "ordered"\n' for n in range(4))
    node = serve(config=f'[cluster]\nurl = "nats://127.0.0.1:{free_port()}"\n{more}', wait=False)
    watch = Stopwatch(node)
    node.await_control()
    node.await_log("gateway running", 4)
    assert watch.until("g3 gateway running") < 2.5, node.log()


@pytest.mark.parametrize("what", ["max-message", "existing", "replicas"])
def test_what_does_not_fit_at_the_first_connect_is_failed(serve, tmp_path, what):
    nats = NatsServer(tmp_path / "nats", port=free_port(), start=False)
    gateway = 'max-message = "4MiB"\nmax-line = "64MiB"' if what == "max-message" else ""
    table = {"existing": 'stream = "existing"', "replicas": "replicas = 3"}.get(what, "")
    text = (f'[cluster]\nurl = "{nats.url}"\n{table}\n[gateways.default]\nport = 0\n'
            f'cluster = "ordered"\n{gateway}\n')
    node = serve(config=text)
    assert is_lost(node)
    nats.start()
    try:
        found = node.await_status(state="failed", timeout=10)
        word = {"max-message": "max_payload", "existing": "wsgw-default", "replicas": "replicas"}[what]
        assert word in found["error"], found
    finally:
        node.stop()
        nats.kill()


def test_metrics_say_what_happened(nodes, nats):
    nodes.many(2, history=KEPT)
    node = nodes[0]
    text = node.http("GET", "/metrics", token=False)[2]
    for name in ("up", "nodes", "silent_nodes_total", "published_total", "retried_total", "lost_total",
                 "local_total", "gaps_total", "ignored_total", "lag_milliseconds"):
        assert f"# HELP wsgw_cluster_{name} " in text, name
    wait_until(lambda: node.metric("wsgw_cluster_nodes") == 2, "the gauge of nodes")
    before = node.metric("wsgw_cluster_published_total")
    node.push(message="x")
    assert node.metric("wsgw_cluster_published_total") > before
    nodes[1].proc.kill()
    nodes[1].proc.wait()
    await_nodes(node, 1)
    assert node.metric("wsgw_cluster_silent_nodes_total") == 1
    nats.pause()
    try:
        await_loss(node)
        node.push(message="local")
        assert node.metric("wsgw_cluster_local_total") == 1
        assert node.metric("wsgw_cluster_up") == 0
    finally:
        nats.go_on()


def test_the_status_of_nodes_is_shown(nodes):
    nodes.add(cluster='name = "first"')
    nodes.add(cluster='name = "second"')
    nodes.await_all()
    Framed(nodes[1])

    def known():
        status, found = nodes[0].api("GET", "/v1/gateways/default/nodes")
        assert status == 200
        return sorted((n["name"], n["this"]) for n in found) == [("first", True), ("second", False)]
    wait_until(known, "both nodes by their names")

    def counted():
        found = nodes[0].api("GET", "/v1/gateways/default/nodes")[1]
        return {n["name"]: n["connections"] for n in found} == {"first": 0, "second": 1}
    wait_until(counted, "the connections of the other node")
    done = nodes[0].cli("status", "--nodes", "--json")
    assert done.returncode == 0 and "second" in done.stdout, done
    json.loads(done.stdout)
    done = nodes[0].cli("status", "--nodes")
    assert done.returncode == 0 and "first" in done.stdout and "second" in done.stdout, done


def test_a_gateway_without_a_cluster_is_not_degraded(serve, nats):
    text = (f'[cluster]\nurl = "{nats.url}"\n[gateways.default]\nport = 0\ncluster = "ordered"\n'
            "[gateways.alone]\nport = 0\n")
    node = serve(config=text)
    await_nodes(node, 1)
    nats.pause()
    try:
        await_loss(node)
        assert node.push(message="x", gateway="alone") == (
            200, {"matched": 0, "delivered": 0, "dropped": 0, "gone": []})
    finally:
        nats.go_on()
    assert ask_nodes(node)[0] == 200
