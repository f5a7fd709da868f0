"""Channels and presence across nodes: members, counts, hooks, and what becomes of a lost node's."""

import json
import signal

import pytest

from harness import Framed, Say, await_nodes, wait_until

ROOMS = 'channels = "query"\nallow-channels = "*"\nroute = "channels"\npresence = ["r*"]'
HOOKS = 'hooks = ["onClientOpen", "onClientClose", "onMessage", "onJoin", "onLeave"]'


def members(node, channel="r", query=""):
    """The members of a channel, by name; none if there is no such channel."""
    status, found = node.api("GET", f"/v1/gateways/default/channels/{channel}{query}")
    if status == 404:
        assert found["error"]["code"] == "unknown_channel"
        return []
    assert status == 200 and found["count"] == len(found["members"]), found
    return sorted(found["members"])


def await_members(node, *clients, channel="r"):
    names = sorted(client.conn for client in clients)
    wait_until(lambda: members(node, channel) == names,
               lambda: f"{names} as members, there are {members(node, channel)}")


def presence(client, count):
    """The next frames about members: who joined or left, and how many there are."""
    return [("join" if "join" in f else "leave", f["conn"], f["members"]) for f in client.frames(count)]


def rooms_with_listeners(nodes, tmp_path, count=2):
    says = [Say(tmp_path / f"told{n}") for n in range(count)]
    for say in says:
        nodes.add(gateway=f'{HOOKS}\npresence = ["*"]', listener=say.command)
    nodes.await_all()
    return says


def joined(node, *names):
    """A client that the listener puts into these channels."""
    one = Framed(node, say=[{"id": "ID", "conn": "CONN", "join": list(names)}])
    assert one.frame()["joined"] == sorted(names)
    return one


def test_a_message_to_a_channel_goes_to_its_members_on_all_nodes(nodes):
    nodes.many(3, gateway=ROOMS.replace("presence", "#"))
    a, b, c = (Framed(node, channel="r") for node in nodes)
    elsewhere = Framed(nodes[1], channel="other")
    for client in (a, b, c):
        client.send(client.conn)
        assert [one.frame() for one in (a, b, c)] == [{"message": client.conn, "channel": "r"}] * 3
    outcome = nodes[0].push(message="pushed", channel="r")[1]
    assert outcome["delivered"] == 3
    done = nodes[2].cli("send", "--channel", "r", "--except", b.conn, "--json", "but b")
    assert json.loads(done.stdout)["delivered"] == 2
    assert [a.bodies(2), b.body(), c.bodies(2)] == [["pushed", "but b"], "pushed", ["pushed", "but b"]]
    assert nodes[0].push(message="x", channel="empty")[1]["matched"] == 0
    elsewhere.send("mine")
    assert elsewhere.body() == "mine"


def test_members_and_counts_are_of_all_nodes(nodes):
    nodes.many(2, gateway=ROOMS)
    a, b = Framed(nodes[0], channel="r"), Framed(nodes[1], channel=["r", "s"])
    for node in nodes:
        await_members(node, a, b)
        await_members(node, b, channel="s")
        found = node.api("GET", "/v1/gateways/default/channels")[1]
        assert found == [{"channel": "r", "members": 2}, {"channel": "s", "members": 1}]
        assert node.api("GET", "/v1/gateways/default/channels?prefix=s")[1] == found[1:]
        done = node.cli("channels", "default", "r", "--json")
        assert sorted(json.loads(done.stdout)["members"]) == sorted([a.conn, b.conn]), done
    b.close()
    for node in nodes:
        await_members(node, a)
        await_members(node, channel="s")


def test_local_lists_are_of_this_node(nodes):
    nodes.many(2, gateway=ROOMS)
    a, b = Framed(nodes[0], channel="r"), Framed(nodes[1], channel=["r", "s"])
    await_members(nodes[0], a, b)
    assert members(nodes[0], query="?local=true") == [a.conn]
    assert members(nodes[1], query="?local=true") == [b.conn]
    listed = nodes[0].api("GET", "/v1/gateways/default/channels?local=true")[1]
    assert listed == [{"channel": "r", "members": 1}]
    done = nodes[0].cli("channels", "default", "--local", "--json")
    assert json.loads(done.stdout) == listed, done
    done = nodes[1].cli("channels", "default", "r", "--local", "--json")
    assert json.loads(done.stdout)["members"] == [b.conn], done


def test_a_listener_asks_for_the_members_of_all_nodes(nodes, tmp_path):
    says = rooms_with_listeners(nodes, tmp_path)
    a, b = joined(nodes[0], "r"), joined(nodes[1], "r")
    await_members(nodes[0], a, b)
    a.say({"command": "members", "channel": "r", "ref": 1}, {"id": "ID", "connections": []})
    result = says[0].await_told("onResult")[0]
    assert (result["count"], sorted(result["members"])) == (2, sorted([a.conn, b.conn]))


def test_presence_is_told_to_members_on_all_nodes(nodes):
    nodes.many(2, gateway=ROOMS)
    a = Framed(nodes[0], channel="r")
    b = Framed(nodes[1], channel="r")
    assert presence(a, 1) == [("join", b.conn, 2)]
    c = Framed(nodes[0], channel="r")
    assert presence(a, 1) == presence(b, 1) == [("join", c.conn, 3)]
    c.close()
    assert presence(a, 1) == presence(b, 1) == [("leave", c.conn, 2)]
    a.close()
    assert presence(b, 1) == [("leave", a.conn, 1)]


def test_hooks_are_told_of_members_of_other_nodes(nodes, tmp_path):
    says = rooms_with_listeners(nodes, tmp_path)
    a, b = joined(nodes[0], "r"), joined(nodes[1], "r")
    for say in says:
        events = say.await_told("onJoin", 2)
        assert {(e["conn"], e["channel"]) for e in events} == {(a.conn, "r"), (b.conn, "r")}
        assert sorted(e["members"] for e in events) == [1, 2]
    b.say({"id": "ID", "leave": "r", "connections": []})
    for say in says:
        (event,) = say.await_told("onLeave")
        assert (event["conn"], event["reason"], event["members"]) == (b.conn, "left", 1)
    a.close()
    for say in says:
        event = say.await_told("onLeave", 2)[1]
        assert (event["conn"], event["reason"], event["members"]) == (a.conn, "closed", 0)


def test_join_and_message_keep_their_order_on_other_nodes(nodes, tmp_path):
    """A message of before a leave reaches no one who joined later, on any node."""
    rooms_with_listeners(nodes, tmp_path)
    a, b = joined(nodes[0], "x"), joined(nodes[1], "x")
    assert presence(a, 1) == [("join", b.conn, 2)]
    for n in range(20):
        a.say({"id": "ID", "join": "r", "channel": "r", "message": f"in {n}"})
        a.say({"command": "send", "channel": ["r", "x"], "message": f"both {n}"},
              {"id": "ID", "leave": "r", "channel": "r", "message": f"out {n}"})
    a.say({"id": "ID", "channel": "x", "message": "end"})
    mine = [f["message"] for f in a.until("end") if "message" in f]
    yours = [f["message"] for f in b.until("end") if "message" in f]
    assert mine == [m for n in range(20) for m in (f"in {n}", f"both {n}")] + ["end"]
    assert yours == [f"both {n}" for n in range(20)] + ["end"]


def test_a_lost_nodes_members_leave_and_come_back(nodes, tmp_path):
    says = rooms_with_listeners(nodes, tmp_path, 3)
    a, b, c = (joined(node, "r") for node in nodes)
    for node in nodes:
        await_members(node, a, b, c)
    for say in says:
        say.await_told("onJoin", 3)
    a.frames(2)
    nodes[2].signal(signal.SIGSTOP)
    try:
        assert presence(a, 1) == [("leave", c.conn, 2)]
        await_members(nodes[0], a, b)
        await_members(nodes[1], a, b)
        for say in says[:2]:
            (event,) = say.await_told("onLeave")
            assert (event["conn"], event["reason"], event["members"]) == (c.conn, "lost", 2)
        assert nodes[0].push(message="x", channel="r", query="?hook=none")[1]["delivered"] == 2
        assert a.body() == "x"
    finally:
        nodes[2].signal(signal.SIGCONT)
    assert presence(a, 1) == [("join", c.conn, 3)]
    for node in nodes:
        await_members(node, a, b, c)
    for say in says[:2]:
        event = say.await_told("onJoin", 4)[3]
        assert (event["conn"], event["members"]) == (c.conn, 3)
    assert nodes[0].push(message="y", channel="r", query="?hook=none")[1]["delivered"] == 3
    got = [f.get("message") for f in c.until("y")]
    assert [m for m in got if m] == ["x", "y"]


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_the_members_of_a_node_that_ended_leave(nodes, tmp_path, how):
    says = rooms_with_listeners(nodes, tmp_path)
    a, b = joined(nodes[0], "r"), joined(nodes[1], "r")
    await_members(nodes[0], a, b)
    says[0].await_told("onJoin", 2)
    if how == "stop":
        nodes[1].signal()
    else:
        nodes[1].proc.kill()
    await_members(nodes[0], a)
    (event,) = says[0].await_told("onLeave")
    assert (event["conn"], event["members"]) == (b.conn, 1)
    assert event["reason"] == ("lost" if how == "kill" else event["reason"])


def test_a_node_that_comes_later_knows_the_members(nodes):
    nodes.many(2, gateway=ROOMS)
    clients = [Framed(node, channel="r") for node in nodes for _ in range(3)]
    late = nodes.add(gateway=ROOMS)
    await_members(late, *clients)
    more = Framed(late, channel="r")
    for node in nodes:
        await_members(node, *clients, more)


def test_members_are_right_again_after_the_engine_was_lost(nodes, nats):
    """Joins and leaves go on meanwhile, and the others learn of them."""
    nodes.many(2, gateway=ROOMS)
    stays, leaves = (Framed(nodes[0], channel="r") for _ in range(2))
    other = Framed(nodes[1], channel="r")
    await_members(nodes[1], stays, leaves, other)
    nats.pause()
    try:
        wait_until(lambda: all("degraded" in n.http("GET", "/healthz")[2] for n in nodes), "the loss")
        leaves.close()
        comes = Framed(nodes[0], channel="r")
        own = sorted([stays.conn, comes.conn])
        wait_until(lambda: members(nodes[0], query="?local=true") == own, f"{own}")
    finally:
        nats.go_on()
    for node in nodes:
        await_members(node, stays, comes, other)


def test_joining_and_leaving_often_leaves_the_right_members(nodes, tmp_path):
    """What is told of each change, and what is told of all members, come to the same."""
    rooms_with_listeners(nodes, tmp_path)
    a, b = joined(nodes[0], "r"), joined(nodes[1], "r")
    for n in range(100):
        for one in (a, b):
            one.say({"id": "ID", "leave": "r", "connections": []}, {"command": "send", "message": f"{n}"})
            one.say({"id": "ID", "join": "r" if n < 99 or one is a else f"r{n}", "connections": []})
    for node in nodes:
        await_members(node, a)
        await_members(node, b, channel="r99")
    late = nodes.add(gateway='presence = ["*"]')
    await_members(late, a)
    await_members(late, b, channel="r99")


def test_members_are_right_after_the_store_was_lost(nodes, nats):
    nodes.many(2, gateway=ROOMS)
    a, b = (Framed(node, channel="r") for node in nodes)
    await_members(nodes[1], a, b)
    nats.kill()
    nats.forget()
    nats.start()
    await_nodes(nodes[0], 2)
    c = Framed(nodes[0], channel="r")
    for node in nodes:
        await_members(node, a, b, c)


def test_a_large_channel_is_known_on_all_nodes(nodes):
    nodes.many(2, gateway=ROOMS.replace("presence", "#"))
    count = 300
    clients = [nodes[0].connect("/?channel=big") for _ in range(count)]

    def look():
        found = nodes[1].api("GET", "/v1/gateways/default/channels/big?limit=5")
        return found[0] == 200 and found[1]["count"] == count and len(found[1]["members"]) == 5
    wait_until(look, "the members")
    late = nodes.add(gateway=ROOMS)
    wait_until(lambda: late.api("GET", "/v1/gateways/default/channels/big?limit=1")[1].get("count") == count,
               "the members at the new node")
    assert nodes[1].push(message="x", channel="big")[1]["delivered"] == count
    assert all(client.recv() == "x" for client in clients)
