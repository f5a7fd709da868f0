"""Nodes without one order: `cluster = "core"`. Each publisher's order holds; what is lost is counted."""

import itertools
import signal
import threading
import time

import pytest

from harness import Framed, Say, await_nodes, wait_until

MISSED = "wsgw_cluster_missed_total"


def test_messages_reach_all_nodes_once_and_in_their_publishers_order(nodes, nats):
    nodes.many(3, mode="core")
    readers = [node.connect() for node in nodes for _ in range(2)]
    speakers = [node.connect() for node in nodes]

    def speak(n):
        for number in range(200):
            speakers[n].send(f"{n}:{number}")
    threads = [threading.Thread(target=speak, args=[n]) for n in range(3)]
    for thread in threads:
        thread.start()
    for reader in readers:
        got = reader.recv_many(600)
        assert len(set(got)) == 600
        for n in range(3):
            assert [m for m in got if m.startswith(f"{n}:")] == [f"{n}:{k}" for k in range(200)]
    for thread in threads:
        thread.join()
    assert nats.stream() is None, "no stream is made"
    assert not nats.ask("STREAM.NAMES")["streams"]
    assert sum(node.metric(MISSED) for node in nodes) == 0


def test_there_is_no_history(nodes):
    nodes.many(2, mode="core")
    one = Framed(nodes[0])
    assert "at" not in one.hello
    nodes[1].push(message="x")
    assert one.frame() == {"message": "x"}
    assert Framed(nodes[0], since="abcdefgh-1.0").hello["recovered"] is False
    assert nodes[0].http("GET", "/v1/gateways/default/history")[0] == 404


def test_counts_ids_and_closes_are_of_all_nodes(nodes):
    nodes.many(2, mode="core")
    a, b = (Framed(node) for node in nodes)
    assert nodes[0].push(message="all")[1] == {
        "matched": 2, "delivered": 2, "dropped": 0, "gone": [], "nodes": 2, "silent": []}
    done = nodes[0].cli("send", "--to", b.conn, "to b")
    assert done.returncode == 0, done
    assert (a.body(), b.bodies(2)) == ("all", ["all", "to b"])
    done = nodes[0].cli("close", "default", b.conn, "--code", "4001")
    assert done.returncode == 0, done
    assert b.await_close()[0] == 4001
    silent = b.conn.partition(".")[0]
    nodes[1].signal(signal.SIGSTOP)
    try:
        outcome = nodes[0].push(message="x")[1]
        assert (outcome["nodes"], outcome["silent"]) == (2, [silent])
        assert nodes[0].cli("send", "--require-all-nodes", "y").returncode == 4
        await_nodes(nodes[0], 1, timeout=8)
    finally:
        nodes[1].signal(signal.SIGCONT)
    nodes.await_all()


def test_channels_and_presence_are_of_all_nodes(nodes):
    rooms = 'channels = "query"\nallow-channels = "*"\nroute = "channels"\npresence = ["*"]'
    nodes.many(2, mode="core", gateway=rooms)
    a = Framed(nodes[0], channel="r")
    b = Framed(nodes[1], channel="r")
    assert a.frame() == {"join": "r", "conn": b.conn, "members": 2}
    b.send("hi")
    assert a.frame() == b.frame() == {"message": "hi", "channel": "r"}
    for node in nodes:
        wait_until(lambda node=node: node.api("GET", "/v1/gateways/default/channels")[1]
                   == [{"channel": "r", "members": 2}], "both members")
    nodes[1].proc.kill()
    assert a.frame() == {"leave": "r", "conn": b.conn, "members": 1}


def before_end(client):
    """The messages up to the first end, that one with them."""
    found = [client.body()]
    while not found[-1].startswith("end "):
        found.append(client.body())
    return found


@pytest.mark.parametrize("how", ["broken", "thrown away"])
def test_what_is_lost_is_counted_exactly(nodes, wire, how):
    nodes.add(mode="core", url=wire.url)
    nodes.add(mode="core")
    nodes.await_all()
    here, there = (Framed(node) for node in nodes)
    speaker = nodes[1].connect()
    sent = 0
    for turn in range(3):
        for n in range(200):
            if n == 50:
                if how == "broken":
                    wire.cut()
                else:
                    wire.lose("down")
            if n == 150:
                wire.mend()
                wire.go_on()
                wire.break_all()
            speaker.send(f"m{sent}")
            sent += 1
            time.sleep(0.001)
        nodes.await_all()
    # The connection may have been made again without a word: what comes first may be lost as well.
    wait_until(lambda: nodes[1].push(message="probe")[1]["silent"] == [], "a way to the other node")
    over = threading.Event()

    def say_end():
        """Until it is heard: the first ones may be lost as well."""
        for n in itertools.count():
            speaker.send(f"end {n}")
            if over.wait(0.5):
                return
    thread = threading.Thread(target=say_end)
    thread.start()
    try:
        mine, yours = (before_end(one) for one in (here, there))
    finally:
        over.set()
        thread.join()
    ends_lost = int(mine.pop().removeprefix("end "))
    assert yours.pop() == "end 0"
    assert [m for m in yours if m != "probe"] == [f"m{n}" for n in range(sent)]
    numbers = [int(m[1:]) for m in mine if m != "probe"]
    assert numbers == sorted(set(numbers)), "in order, nothing twice"
    assert len(numbers) < sent, "the wire lost some"
    assert nodes[0].metric(MISSED) == len(yours) - len(mine) + ends_lost
    assert nodes[1].metric(MISSED) == 0


def test_a_node_alone_goes_on_with_its_own_clients(nodes, nats):
    nodes.many(2, mode="core")
    here, there = (Framed(node) for node in nodes)
    nats.pause()
    try:
        wait_until(lambda: all("degraded" in n.http("GET", "/healthz")[2] for n in nodes), "the loss", 2.5)
        here.send("local")
        assert here.body() == "local"
    finally:
        nats.go_on()
    nodes.await_all()
    there.send("for all")
    assert there.until("for all") and here.until("for all")


def test_hold_refuses_pushes(nodes, nats):
    nodes.many(2, mode="core", gateway='on-engine-loss = "hold"')
    here, there = (Framed(node) for node in nodes)
    nats.pause()
    try:
        wait_until(lambda: "degraded" in nodes[0].http("GET", "/healthz")[2], "the loss")
        status, error = nodes[0].push(message="x")
        assert (status, error["error"]["code"]) == (503, "engine_lost")
        here.send("held")
    finally:
        nats.go_on()
    nodes.await_all()
    assert here.body() == there.body() == "held"


def test_listeners_decide_for_their_own_clients(nodes, tmp_path):
    says = [Say(tmp_path / f"told{n}", f"{n}>") for n in range(2)]
    for say in says:
        nodes.add(mode="core", listener=say.command)
    nodes.await_all()
    clients = [node.connect() for node in nodes]
    for n, client in enumerate(clients):
        client.send("hi")
        assert [one.recv() for one in clients] == [f"{n}>hi"] * 2
