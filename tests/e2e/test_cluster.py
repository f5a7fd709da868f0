"""Several nodes: one order on all of them, exactly once, ids with nodes, closes and counts."""

import json
import re
import signal
import sys
import threading
import time

import pytest

from harness import NOBODY, Framed, NatsServer, Say, Stopwatch, ask_nodes, await_nodes, wait_until

CONN = re.compile(r"[a-z][a-z0-9]{3}\.k[0-9a-z]+")


def publish_all(nodes, publishers, count):
    """Publishers on all nodes at once: clients with numbered messages."""
    def run(node, name):
        client = node.connect()
        for number in range(count):
            client.send(f"{name}:{number}")
        done.wait()
    done = threading.Event()
    threads = [threading.Thread(target=run, args=(node, f"{at}-{n}"))
               for at, node in enumerate(nodes) for n in range(publishers)]
    for thread in threads:
        thread.start()
    return threads, done


def audit(got, publishers, count):
    """Each message once, each publisher's in its order."""
    assert len(set(got)) == len(got) == publishers * count
    last = {}
    for message in got:
        name, _, number = message.partition(":")
        assert int(number) == last.get(name, -1) + 1, (message, last)
        last[name] = int(number)


def test_all_nodes_deliver_in_one_order_and_once(nodes):
    nodes.many(3)
    readers = [node.connect() for node in nodes for _ in range(2)]
    threads, done = publish_all(nodes, 3, 200)
    heard = [reader.recv_many(9 * 200) for reader in readers]
    done.set()
    for thread in threads:
        thread.join()
    audit(heard[0], 9, 200)
    assert all(one == heard[0] for one in heard[1:])


def test_pushes_commands_and_clients_stand_in_one_order(nodes, tmp_path):
    says = [Say(tmp_path / f"told{n}") for n in range(2)]
    for say in says:
        nodes.add(listener=say.command)
    nodes.await_all()
    readers = [Framed(node) for node in nodes]
    speakers = [Framed(node) for node in nodes]
    count = 60

    def push(node, name):
        for number in range(count):
            assert node.push(message=f"{name}:{number}", query="?hook=none")[0] == 200

    def command(one, name):
        for number in range(count):
            one.say({"command": "send", "message": f"{name}:{number}"}, {"id": "ID", "connections": []})

    def speak(one, name):
        for number in range(count):
            one.send(f"{name}:{number}")

    work = [(push, node, f"push{n}") for n, node in enumerate(nodes)]
    work += [(command, one, f"command{n}") for n, one in enumerate(speakers)]
    work += [(speak, one, f"client{n}") for n, one in enumerate(speakers)]
    threads = [threading.Thread(target=one[0], args=one[1:]) for one in work]
    for thread in threads:
        thread.start()
    heard = [one.bodies(len(work) * count) for one in readers]
    for thread in threads:
        thread.join()
    audit(heard[0], len(work), count)
    assert heard[0] == heard[1]


def test_lines_for_own_and_other_clients_keep_their_order(nodes, tmp_path):
    """What concerns the node's own clients alone waits for what it has put into the stream before."""
    say = Say(tmp_path / "told")
    here = nodes.add(listener=say.command)
    there = nodes.add()
    nodes.await_all()
    mine, yours = Framed(here), Framed(there)
    for turn in range(20):
        mine.say(*({"command": "send", "message": f"{turn} {n}", **to} for n, to in enumerate(
            [{}, {"connections": ["CONN"]}, {"connections": [yours.conn]}, {"except": [yours.conn]},
             {"connections": [yours.conn, "CONN"]}, {"except": ["CONN"]}])),
            {"id": "ID", "connections": []})
    for turn in range(20):
        assert mine.bodies(4) == [f"{turn} {n}" for n in (0, 1, 3, 4)]
        assert yours.bodies(4) == [f"{turn} {n}" for n in (0, 2, 4, 5)]


def test_every_node_has_a_listener_that_decides_for_its_own_clients(nodes, tmp_path):
    says = [Say(tmp_path / f"told{n}", f"{n}>") for n in range(2)]
    for say in says:
        nodes.add(listener=say.command)
    nodes.add()
    nodes.await_all()
    clients = [node.connect() for node in nodes]
    for n, client in enumerate(clients):
        client.send("hi")
        expected = f"{n}>hi" if n < 2 else "hi"
        assert [one.recv() for one in clients] == [expected] * 3
    assert nodes[1].push(message="pushed")[1]["delivered"] == 3
    assert [one.recv() for one in clients] == ["1>pushed"] * 3
    assert [len(say.told("onMessage")) for say in says] == [1, 2]
    assert [len(say.told("onClientOpen")) for say in says] == [1, 1]


@pytest.mark.parametrize("route,hears", [("all", [1, 1, 1]), ("others", [0, 1, 1]),
                                         ("sender", [1, 0, 0]), ("none", [0, 0, 0])])
def test_routes_choose_among_the_clients_of_all_nodes(nodes, route, hears):
    nodes.many(2, gateway=f'route = "{route}"')
    clients = [nodes[0].connect(), nodes[0].connect(), nodes[1].connect()]
    clients[0].send("hi")
    # A push is a sender of its own, with no order of the two but this.
    nodes[0].await_metric("wsgw_messages_received_total", 1)
    assert nodes[0].push(message="end")[1]["delivered"] == 3
    for client, count in zip(clients, hears):
        assert client.recv_many(count + 1) == ["hi"] * count + ["end"]


def test_binary_and_empty_messages_reach_other_nodes_as_they_are(nodes):
    nodes.many(2)
    one, other = nodes[0].connect(), nodes[1].connect()
    messages = [b"\x00\xff", "", b"", "grüße\n\u2028", "x" * 100_000, b"y" * 500_000]
    for message in messages:
        one.send(message)
    assert one.recv_many(6) == other.recv_many(6) == messages


def test_an_id_carries_the_node_which_is_another_at_each_start(nodes, nats):
    names = set()
    for _ in range(3):
        node = nodes.add()
        await_nodes(node, 1)
        client = Framed(node)
        assert CONN.fullmatch(client.conn), client.conn
        (row,) = node.connections()
        assert row["conn"] == client.conn
        names.add(client.conn.partition(".")[0])
        client.close()
        node.stop()
    assert len(names) == 3


def test_without_a_cluster_ids_and_positions_are_as_ever(serve):
    server = serve("--history", "5")
    client = Framed(server)
    assert re.fullmatch(r"k[0-9a-z]+", client.conn)
    assert re.fullmatch(r"\w{8}-\d+", client.at)
    outcome = server.push(message="x")[1]
    assert "nodes" not in outcome and "silent" not in outcome


def test_connections_are_reached_from_any_node(nodes):
    nodes.many(2)
    a, b = (Framed(node) for node in nodes)
    for node in nodes:
        for to, kept in ((a, b), (b, a)):
            done = node.cli("send", "--to", to.conn, "--json", f"to {to.conn}")
            assert done.returncode == 0, done
            outcome = json.loads(done.stdout)
            assert outcome == {"matched": 1, "delivered": 1, "dropped": 0, "gone": [], "nodes": 2,
                               "silent": []}
            assert to.body() == f"to {to.conn}"
            done = node.cli("send", "--except", to.conn, "--json", f"not to {to.conn}")
            assert json.loads(done.stdout)["delivered"] == 1
            assert kept.body() == f"not to {to.conn}"
    both = nodes[0].push(message="both", connections=[a.conn, b.conn, b.conn])[1]
    assert (both["delivered"], both["gone"]) == (2, [])
    assert a.body() == b.body() == "both"


def test_who_is_on_no_node_is_gone(nodes):
    nodes.many(2)
    b = Framed(nodes[1])
    closed = Framed(nodes[1])
    closed.close()
    nodes[1].await_connections(1)
    node = b.conn.partition(".")[0]
    ids = [NOBODY, closed.conn, f"{node}.kzzzzz", "k1", "rubbish"]
    outcome = nodes[0].push(message="x", connections=[*ids, b.conn])[1]
    assert outcome["delivered"] == 1 and sorted(outcome["gone"]) == sorted(ids), outcome
    assert b.body() == "x"
    done = nodes[0].cli("send", "--to", closed.conn, "x")
    assert done.returncode == 4, done


def test_a_connection_is_closed_from_any_node(nodes, tmp_path):
    says = [Say(tmp_path / f"told{n}") for n in range(2)]
    for say in says:
        nodes.add(listener=say.command)
    nodes.await_all()
    one = Framed(nodes[0])
    by_command, by_cli, by_http = (Framed(nodes[1]) for _ in range(3))
    one.say({"command": "send", "message": "bye"},
            {"command": "close", "conn": by_command.conn, "code": 4001, "reason": "kicked", "ref": 1},
            {"command": "send", "message": "after"}, {"id": "ID", "connections": []})
    # It gets what was said before.
    assert by_command.body() == "bye"
    assert by_command.await_close() == (4001, "kicked")
    assert by_cli.bodies(2) == ["bye", "after"]
    (result,) = says[0].await_told("onResult")
    assert result == {"event": "onResult", "ref": 1, "closed": True}
    closed = says[1].await_told("onClientClose")[0]
    assert (closed["conn"], closed["code"]) == (by_command.conn, 4001)
    done = nodes[0].cli("close", "default", by_cli.conn, "--code", "4002", "--reason", "by hand")
    assert done.returncode == 0, done
    assert by_cli.await_close() == (4002, "by hand")
    status, _, _ = nodes[0].http(
        "DELETE", f"/v1/gateways/default/connections/{by_http.conn}?code=4003&reason=x")
    assert status in (200, 204)
    assert by_http.await_close() == (4003, "x")


def test_closing_who_is_not_there_says_so(nodes, tmp_path):
    say = Say(tmp_path / "told")
    nodes.add(listener=say.command)
    nodes.add()
    nodes.await_all()
    one, other = (Framed(node) for node in nodes)
    other.close()
    nodes[1].await_connections(1)
    for n, conn in enumerate([other.conn, NOBODY]):
        one.say({"command": "close", "conn": conn, "ref": n}, {"id": "ID", "connections": []})
        result = say.await_told("onResult", n + 1)[n]
        assert result["ref"] == n and "error" in result, result
        assert nodes[0].api("DELETE", f"/v1/gateways/default/connections/{conn}")[0] == 404
        assert nodes[0].cli("close", "default", conn).returncode != 0


def test_one_connection_is_shown_from_any_node(nodes):
    nodes.many(2)
    other = Framed(nodes[1])
    status, row = nodes[0].api("GET", f"/v1/gateways/default/connections/{other.conn}")
    assert status == 200 and row["conn"] == other.conn and "remote" in row, row


def test_lists_of_connections_are_of_all_nodes(nodes):
    nodes.many(2)
    clients = [Framed(node) for node in nodes for _ in range(3)]
    names = sorted(client.conn for client in clients)
    for node in nodes:
        assert sorted(row["conn"] for row in node.connections()) == names
        own = node.api("GET", "/v1/gateways/default/connections?local=true")[1]
        assert len(own) == 3 and {row["conn"] for row in own} < set(names)
        done = node.cli("connections", "default", "--json")
        assert sorted(row["conn"] for row in json.loads(done.stdout)) == names
        done = node.cli("connections", "default", "--json", "--local")
        assert sorted(r["conn"] for r in json.loads(done.stdout)) == sorted(r["conn"] for r in own)


def test_counts_are_of_all_nodes(nodes, tmp_path):
    say = Say(tmp_path / "told")
    nodes.add(listener=say.command)
    nodes.add()
    nodes.add()
    nodes.await_all()
    clients = [Framed(node) for node in nodes for _ in range(2)]
    for node in nodes:
        status, outcome = node.push(message="x", query="?hook=none")
        assert status == 200
        assert outcome == {"matched": 6, "delivered": 6, "dropped": 0, "gone": [], "nodes": 3, "silent": []}
    done = nodes[2].cli("send", "y")
    assert "delivered 6" in done.stdout, done
    clients[0].say({"command": "send", "message": "z", "ref": 5}, {"id": "ID", "connections": []})
    result = say.await_told("onResult")[0]
    assert (result["ref"], result["matched"], result["delivered"]) == (5, 6, 6), result
    assert all(client.bodies(5) == ["x", "x", "x", "y", "z"] for client in clients)


def test_counts_of_a_stream_of_pushes_are_of_all_nodes(nodes):
    nodes.many(2)
    clients = [node.connect() for node in nodes]
    done = nodes[0].cli("send", "--lines", "--json", input="a\nb\nc\n")
    outcome = json.loads(done.stdout)
    assert (outcome["delivered"], outcome["dropped"]) == (6, 0), outcome
    assert [client.recv_many(3) for client in clients] == [["a", "b", "c"]] * 2


def test_a_node_that_says_nothing_is_silent_after_half_a_second(nodes):
    nodes.many(3)
    clients = [Framed(node) for node in nodes]
    silent = clients[2].conn.partition(".")[0]
    nodes[2].signal(signal.SIGSTOP)
    try:
        watch = Stopwatch(nodes[0])
        status, outcome = nodes[0].push(message="x")
        took = watch.now()
        assert status == 200
        assert outcome == {"matched": 2, "delivered": 2, "dropped": 0, "gone": [], "nodes": 3,
                           "silent": [silent]}
        assert watch.raw >= 0.5 and took < 0.7, took
        done = nodes[1].cli("send", "--require-all-nodes", "--json", "y")
        assert done.returncode == 4, done
        assert silent in done.stdout + done.stderr, done
    finally:
        nodes[2].signal(signal.SIGCONT)
    assert [client.bodies(2) for client in clients] == [["x", "y"]] * 3
    nodes.await_all()
    done = nodes[1].cli("send", "--require-all-nodes", "z")
    assert done.returncode == 0, done


def test_a_node_silent_for_three_seconds_is_out_and_comes_back(nodes):
    nodes.many(3)
    clients = [Framed(node) for node in nodes]
    nodes[2].signal(signal.SIGSTOP)
    try:
        watches = [Stopwatch(node) for node in nodes[:2]]
        for watch in watches:
            # It was last heard half a second ago at most.
            assert watch.until("a node of the cluster is silent") < 3.2
            assert watch.raw > 2.5
        await_nodes(nodes[0], 2)
        await_nodes(nodes[1], 2)
        outcome = nodes[0].push(message="away", connections=[clients[0].conn, clients[2].conn])[1]
        assert (outcome["delivered"], outcome["gone"]) == (1, [clients[2].conn])
        assert nodes[0].push(message="x")[1]["silent"] == []
        assert "silent" in nodes[0].log()
    finally:
        nodes[2].signal(signal.SIGCONT)
    nodes.await_all()
    assert clients[2].body() == "x"
    outcome = nodes[0].push(message="back", connections=[clients[2].conn])[1]
    assert (outcome["delivered"], outcome["gone"]) == (1, [])
    assert clients[2].body() == "back"
    # What it says itself counts, too.
    clients[2].send("I am back")
    assert clients[2].body() == clients[1].until("I am back")[-1]["message"] == "I am back"


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_node_that_ends_drops_out(nodes, how):
    nodes.many(3)
    gone = Framed(nodes[2])
    started = time.monotonic()
    if how == "stop":
        nodes[2].stop()
        await_nodes(nodes[0], 2, timeout=5)
        assert time.monotonic() - started < 3 + 2, "an orderly end is told at once"
    else:
        nodes[2].proc.kill()
        nodes[2].proc.wait()
        await_nodes(nodes[0], 2, timeout=8)
    assert nodes[0].push(message="x", connections=[gone.conn])[1]["gone"] == [gone.conn]


def test_an_orderly_end_is_told_at_once(nodes):
    nodes.many(2)
    nodes[1].stop()
    assert ask_nodes(nodes[0])[1]["nodes"] == 1


def test_retries_carry_a_message_id(nodes, nats):
    nodes.many(2)
    with nats.client() as spy:
        spy.subscribe("wsgw.default.>")
        for node in nodes:
            for n in range(3):
                node.push(message=f"m{n}")
        ids = []
        while len(ids) < 6:
            _, headers, body = spy.message()
            if any(f"m{n}".encode() in body for n in range(3)):
                ids.append(headers.get("Nats-Msg-Id"))
    assert None not in ids and len(set(ids)) == 6


def test_what_is_sent_again_has_a_message_id_and_comes_once(nodes, nats, wire):
    """The servers' answers are lost: the node does not know that they have all."""
    nodes.add(url=wire.url, gateway='on-engine-loss = "hold"', history="broadcast = 1000")
    nodes.add(history="broadcast = 1000")
    nodes.await_all()
    here, there = (Framed(node) for node in nodes)
    with nats.client() as spy:
        spy.subscribe("wsgw.default.messages")
        wire.lose("down")
        for n in range(5):
            here.send(f"m{n}")
            assert there.body() == f"m{n}"
        ids = {}
        # Some are sent again.
        while len(ids) < 5 or not any(len(found) > 1 for found in ids.values()):
            found = spy.message()
            for n in range(5):
                if f"m{n}".encode() in found[2]:
                    ids.setdefault(n, []).append(found[1].get("Nats-Msg-Id"))
        wire.go_on()
        wire.break_all()
        here.send("end")
        assert there.body() == "end" and here.bodies(6) == [f"m{n}" for n in range(5)] + ["end"]
    assert all(None not in found for found in ids.values()), ids
    nodes[0].await_metric("wsgw_cluster_retried_total", 1)


@pytest.mark.parametrize("ways", [["down"], ["up"], ["up", "down"]], ids="-".join)
@pytest.mark.parametrize("loss", ["local", "hold"])
def test_nothing_comes_twice_when_the_wire_fails(nodes, wire, ways, loss):
    """Acknowledgements are lost, or messages are: who publishes tries again, and nobody hears it twice."""
    harmed = nodes.add(url=wire.url, gateway=f'on-engine-loss = "{loss}"', history="broadcast = 1000")
    other = nodes.add(history="broadcast = 1000")
    nodes.await_all()
    a, b = Framed(harmed), Framed(other)
    speaker = harmed.connect()
    for n in range(300):
        if n == 100:
            wire.lose(*ways)
        if n == 200:
            wire.go_on()
            wire.break_all()
        speaker.send(f"m{n}")
        time.sleep(0.002)
    # Whether it was a loss is noticed within two seconds; what is said before that may be lost.
    time.sleep(2)
    await_nodes(harmed, 2)
    await_nodes(other, 2)
    assert harmed.push(message="end")[0] == 200
    frames = [one.until("end")[:-1] for one in (a, b)]
    mine, yours = ([int(f["message"][1:]) for f in got] for got in frames)
    assert len(set(mine)) == len(mine) and len(set(yours)) == len(yours), "nothing twice"
    # What went to the node's own clients alone has no position, and may come before what was on its way.
    ordered = [int(f["message"][1:]) for f in frames[0] if "at" in f]
    assert ordered == yours == sorted(yours) and set(range(100)) <= set(yours)
    lost, local = (harmed.metric(f"wsgw_cluster_{what}_total") for what in ("lost", "local"))
    assert (300 - len(mine), len(mine) - len(ordered)) == (lost, local)
    if loss == "hold":
        assert mine == list(range(300))


def test_several_messages_of_one_turn_stand_in_one_message_of_the_stream(nodes, nats, tmp_path):
    say = Say(tmp_path / "told")
    nodes.add(listener=say.command, history="broadcast = 1000")
    nodes.add(history="broadcast = 1000")
    nodes.await_all()
    one, other = (Framed(node) for node in nodes)
    one.say(*({"command": "send", "message": f"m{n}"} for n in range(500)), {"id": "ID", "connections": []})
    frames = other.frames(500)
    assert [f["message"] for f in frames] == [f"m{n}" for n in range(500)]
    positions = [f["at"] for f in frames]
    assert positions == [f["at"] for f in one.frames(500)]
    assert all(re.fullmatch(r"\w{8}-\d+\.\d+", at) for at in positions)
    sequences = {at.partition("-")[2].partition(".")[0] for at in positions}
    assert len(sequences) < 250, "they are batched"


def test_two_gateways_have_an_order_and_a_stream_each(serve, nats):
    more = '[gateways."se.cond"]\nport = 0\ncluster = "ordered"\n'
    text = f'[cluster]\nurl = "{nats.url}"\n[gateways.default]\nport = 0\ncluster = "ordered"\n{more}'
    nodes = [serve(config=text) for _ in range(2)]
    for node in nodes:
        await_nodes(node, 2)
    first = [node.connect() for node in nodes]
    second = [node.connect(gateway="se.cond") for node in nodes]
    first[0].send("one")
    second[1].send("two")
    assert [c.recv() for c in first] == ["one"] * 2
    assert [c.recv() for c in second] == ["two"] * 2
    assert nodes[0].push(message="x", gateway="se.cond")[1]["delivered"] == 2
    # A stream's name has no dots.
    assert sorted(nats.ask("STREAM.NAMES")["streams"]) == ["wsgw-default", "wsgw-se~cond"]


def test_nodes_come_through_a_cluster_of_servers(serve, tmp_path):
    """A list of servers: the next one is taken when the first cannot be reached."""
    nats = NatsServer(tmp_path / "nats")
    try:
        text = (f'[cluster]\nurl = ["nats://127.0.0.1:1", "{nats.url}"]\n[gateways.default]\nport = 0\n'
                'cluster = "ordered"\n')
        nodes = [serve(config=text) for _ in range(2)]
        for node in nodes:
            await_nodes(node, 2)
        clients = [node.connect() for node in nodes]
        clients[0].send("hi")
        assert [c.recv() for c in clients] == ["hi"] * 2
    finally:
        for node in nodes:
            node.stop()
        nats.kill()


def test_a_restarted_gateway_takes_part_again(nodes):
    nodes.many(2, history="broadcast = 100")
    for _ in range(2):
        done = nodes[0].cli("restart", "default")
        assert done.returncode == 0, done
    nodes.await_all()
    one, other = (Framed(node) for node in nodes)
    one.send("hi")
    assert one.body() == other.body() == "hi"
    assert nodes[1].push(message="there")[1]["delivered"] == 2
    assert other.body() == one.body() == "there"


def test_a_restart_of_the_listener_changes_nothing(nodes, tmp_path):
    say = Say(tmp_path / "told")
    nodes.add(listener=say.command, history="broadcast = 100")
    nodes.add(history="broadcast = 100")
    nodes.await_all()
    one, other = (Framed(node) for node in nodes)
    one.send("before")
    before = other.frame()["at"]
    assert nodes[0].cli("restart", "default", "--listener").returncode == 0
    wait_until(lambda: len(say.told("onClientOpen")) == 2, "the resumed open")
    one.send("after")
    assert [one.body(), one.body(), other.body()] == ["before", "after", "after"]
    assert other.at.partition("-")[0] == before.partition("-")[0]


def test_a_full_queue_on_another_node_is_counted_as_dropped(nodes):
    nodes.many(2, gateway='max-queue = "64KiB"')
    narrow = nodes[1].narrow()
    reader = nodes[1].connect()
    dropped, matched, count = 0, 0, 0
    for count in range(1, 200):
        outcome = nodes[0].push(message="x" * 50_000)[1]
        matched += outcome["matched"]
        dropped += outcome["dropped"]
        assert outcome["silent"] == [] and outcome["matched"] == outcome["delivered"] + outcome["dropped"]
        if dropped:
            break
    assert (dropped, matched) == (1, 2 * count)
    narrow.close()
    assert len(reader.recv_many(count)) == count


def test_each_result_of_a_stream_of_pushes_has_its_nodes(nodes):
    nodes.many(2)
    clients = [node.connect() for node in nodes]
    lines = "".join(json.dumps({"message": f"m{n}"}) + "\n" for n in range(3))
    status, _, text = nodes[1].http(
        "POST", "/v1/gateways/default/messages?results=each", lines,
        headers={"Content-Type": "application/x-ndjson"})
    results = [json.loads(line) for line in text.splitlines()]
    assert status == 200
    assert [(r["delivered"], r["nodes"], r["silent"]) for r in results[:3]] == [(2, 2, [])] * 3, results
    assert [client.recv_many(3) for client in clients] == [["m0", "m1", "m2"]] * 2


def test_what_is_asked_of_a_silent_node_ends_soon(nodes):
    """Lists hold what has come; a close says that it is not known."""
    nodes.many(2)
    here, there = (Framed(node) for node in nodes)
    nodes[1].signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        assert here.conn in [row["conn"] for row in nodes[0].connections()]
        assert time.monotonic() - started < 2
        started = time.monotonic()
        status, _, _ = nodes[0].http("DELETE", f"/v1/gateways/default/connections/{there.conn}?code=4001")
        assert status >= 400 and time.monotonic() - started < 4
    finally:
        nodes[1].signal(signal.SIGCONT)
    nodes.await_all()


def test_rubbish_in_the_stream_harms_nobody(nodes, nats):
    nodes.many(2, history="broadcast = 100")
    clients = [Framed(node) for node in nodes]
    name = clients[1].conn.partition(".")[0]
    rubbish = [b"", b"\x01", b"\x01" * 20, b"\xff" * 500, b"abcdefgh", b"{}", b"\x01" + b"\x00" * 40]
    with nats.client() as other:
        for body in rubbish:
            for subject in ("wsgw.default.messages", "wsgw.default.beats", "wsgw.default.epoch",
                            f"wsgw-node.default.{name}"):
                if not (subject.endswith("epoch") and body == b"abcdefgh"):
                    other.publish(subject, body)
        other.request("$JS.API.INFO")
    nodes.await_all()
    assert nodes[0].push(message="hi")[1]["delivered"] == 2
    first, second = (client.frame() for client in clients)
    assert first == second and first["message"] == "hi"
    assert Framed(nodes[1], since=clients[0].hello["at"]).hello["recovered"] is True


def test_a_producer_on_one_node_streams_to_the_clients_of_all(nodes, tmp_path):
    go = tmp_path / "go"
    script = (f"import os,time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
              "for n in range(2000): print('{\"command\":\"send\",\"message\":\"%d\"}' % n, flush=True)\n"
              "time.sleep(600)")
    nodes.add(listener=[sys.executable, "-c", script], gateway='hooks = "none"')
    nodes.add()
    nodes.await_all()
    clients = [node.connect() for node in nodes]
    go.touch()
    for client in clients:
        assert client.recv_many(2000) == [str(n) for n in range(2000)]


def test_plain_lines_of_one_node_go_to_the_clients_of_all(nodes):
    nodes.add(listener=["cat"], gateway='format = "lines"')
    nodes.add()
    nodes.await_all()
    clients = [node.connect() for node in nodes]
    clients[0].send("a line")
    assert [client.recv() for client in clients] == ["a line"] * 2


def test_who_polls_at_one_node_hears_of_another(nodes):
    nodes.many(2, history="broadcast = 10", gateway="streams = true")
    at = Framed(nodes[1]).hello["at"]
    timer = threading.Timer(0.3, lambda: nodes[0].push(message="hi"))
    timer.start()
    stream = nodes[1].stream(f"/?stream=poll&since={at}")
    timer.join()
    assert stream.status == 200 and json.loads(stream.text)["message"] == "hi"


def test_a_server_far_away_is_slow_and_not_lost(nodes, wire):
    """Each piece takes 100 ms each way: all comes, in order, and nobody takes the server for lost."""
    wire.delay = 0.1
    nodes.add(url=wire.url, history="broadcast = 1000")
    nodes.add(history="broadcast = 1000")
    nodes.await_all()
    far, near = (Framed(node) for node in nodes)
    speaker = nodes[0].connect()
    until = time.monotonic() + 4
    sent = []
    while time.monotonic() < until:
        sent.append(f"m{len(sent)}")
        speaker.send(sent[-1])
        time.sleep(0.01)
    assert far.bodies(len(sent)) == near.bodies(len(sent)) == sent
    assert "degraded" not in nodes[0].log()
    outcome = nodes[0].push(message="x")[1]
    assert (outcome["delivered"], outcome["silent"]) == (3, []), outcome
