"""Lists that nodes of a cluster make together, and what they say where one of them does not answer."""

import signal
import urllib.parse

import pytest

from harness import Framed, NatsServer, Nodes, Wire, await_nodes, wait_until

KIB = 1024
CONNECTIONS = "/v1/gateways/default/connections"


@pytest.fixture
def narrow(serve, tmp_path):
    """Nodes at a server whose messages are small."""
    nats = NatsServer(tmp_path / "nats", f"max_payload: {64 * KIB}")
    nodes = Nodes(serve, nats)
    yield nodes
    for node in nodes:
        node.close_raw()
        node.stop()
    nats.kill()


def node_of(client):
    return client.conn.partition(".")[0]


@pytest.mark.parametrize("order", ["", "sort=remote", "sort=path&order=desc", "filter=zz"])
def test_connections_whose_rows_do_not_fit_into_one_message_are_all_listed(narrow, order):
    narrow.many(2)
    narrow.await_all()
    for number in range(40):
        narrow[1].connect(f"/zz{number}" + "é" * 2_000)
    _, _, local = narrow[1].http("GET", f"{CONNECTIONS}?local=true&{order}")
    status, headers, rows = narrow[0].http("GET", f"{CONNECTIONS}?{order}")
    assert (status, headers["wsgw-total"]) == (200, "40") and "wsgw-silent" not in headers
    assert rows == local and rows.count('"conn"') == 40
    _, headers, page = narrow[0].http("GET", f"{CONNECTIONS}?{order}&offset=3&limit=30")
    _, _, there = narrow[1].http("GET", f"{CONNECTIONS}?local=true&{order}&offset=3&limit=30")
    assert page == there and page.count('"conn"') == 30 and headers["wsgw-total"] == "40"


def test_many_names_that_are_gone_are_all_told(narrow):
    narrow.many(2)
    narrow.await_all()
    there = Framed(narrow[1])
    names = [f"{node_of(there)}.kzzzz{number}" for number in range(1_000, 6_000)]
    status, outcome = narrow[0].push(message="x", connections=[there.conn, *names], query="?hook=none")
    assert status == 200 and outcome["silent"] == [] and outcome["delivered"] == 1, str(outcome)[:200]
    assert sorted(outcome["gone"]) == sorted(names)


def test_a_list_names_the_nodes_that_did_not_answer(nodes):
    nodes.many(2)
    nodes.await_all()
    here, there = (Framed(node) for node in nodes)
    silent = node_of(there)
    assert len(nodes[0].connections()) == 2
    nodes[1].signal(signal.SIGSTOP)
    try:
        status, headers, _ = nodes[0].http("GET", CONNECTIONS)
        assert (status, headers.get("wsgw-silent")) == (200, silent), headers
        listed = nodes[0].cli("connections", "--json")
        assert listed.returncode == 0 and here.conn in listed.stdout
        assert silent in listed.stderr and "default" in listed.stderr, listed.stderr
        # It is this node's own list that is asked for.
        _, headers, _ = nodes[0].http("GET", f"{CONNECTIONS}?local=true")
        assert "wsgw-silent" not in headers
        for method in "GET", "DELETE":
            status, error = nodes[0].api(method, f"{CONNECTIONS}/{there.conn}?code=4001")
            assert (status, error["error"]["code"]) == (503, "engine_lost") and silent in str(error), error
        assert "may still close it" in str(error), error
    finally:
        nodes[1].signal(signal.SIGCONT)
    nodes.await_all()
    wait_until(lambda: "wsgw-silent" not in nodes[0].http("GET", CONNECTIONS)[1], "the other node to answer")
    assert there.await_close()[0] == 4001
    assert [row["conn"] for row in nodes[0].connections()] == [here.conn]
    assert nodes[0].cli("connections").stderr == ""


def test_channels_have_the_same_members_in_both_lists_in_an_outage(nodes, nats):
    nodes.many(2, gateway='channels = "query"\nallow-channels = ["*"]')
    nodes.await_all()
    clients = [Framed(node, channel="room") for node in nodes]

    def counts(node):
        path = "/v1/gateways/default/channels"
        one = node.api("GET", f"{path}/room")[1]
        [listed] = node.api("GET", path)[1]
        assert len(one["members"]) == one["count"], one
        return one["count"], listed["members"]

    for node in nodes:
        wait_until(lambda: counts(node) == (2, 2), lambda: f"both members: {counts(node)}")
    nats.kill()
    for node in nodes:
        wait_until(lambda: "degraded" in node.http("GET", "/healthz")[2], "the loss")
        assert counts(node) == (2, 2)
    assert len({client.conn for client in clients}) == 2


def test_history_waits_for_a_position_that_another_node_has_given(nodes, nats):
    wire = Wire(nats.port)
    try:
        history = "broadcast = 100"
        nodes.add(history=history)
        nodes.add(history=history, url=wire.url)
        nodes.await_all()
        client = Framed(nodes[0])
        client.send("first")
        client.until("first")
        wire.delay = 0.5
        client.send("second")
        client.until("second")
        path = "/v1/gateways/default/history?since="
        status, _, found = nodes[1].http("GET", path + urllib.parse.quote(client.at))
        assert (status, found) == (200, ""), found
        shown = nodes[1].cli("history", "--since", client.at)
        assert shown.returncode == 0, shown.stderr
        # One that nobody has given is not waited for any longer than that.
        epoch = client.at.partition("-")[0]
        assert nodes[1].http("GET", f"{path}{epoch}-999999.0")[0] == 410
    finally:
        wire.delay = 0
        for node in nodes:
            node.close_raw()
            node.stop()
        wire.close()


def test_nodes_are_known_to_lists_as_soon_as_to_pushes(nodes):
    nodes.many(2)
    client = Framed(nodes[1])
    await_nodes(nodes[0], 2)
    assert [row["conn"] for row in nodes[0].connections()] == [client.conn]
