"""The list of connections: sorted, filtered and paged by the server."""

import json
import urllib.parse

import pytest

from harness import wait_until

PEOPLE = [("/b", "203.0.113.9"), ("/A", "9.0.0.1"), ("/c?x", "2001:db8::1"), ("/Room/ä", "10.0.0.2"),
          ("/b", "10.0.0.10")]


def ask(server, **parameters):
    """The names of the connections listed, and the number of all that match."""
    query = urllib.parse.urlencode(parameters)
    status, headers, text = server.http("GET", f"/v1/gateways/default/connections?{query}")
    assert status == 200, text
    return [c["conn"] for c in json.loads(text)], int(headers["wsgw-total"])


@pytest.fixture
def five(serve):
    server = serve("--trusted-proxies", "127.0.0.1", "--channels", "query", "--allow-channels", "*")
    for n, (path, remote) in enumerate(PEOPLE, 1):
        mark = "&" if "?" in path else "?"
        server.connect(urllib.parse.quote(path, safe="/?") + f"{mark}channel=no-{n}",
                       additional_headers={"X-Forwarded-For": remote})
    return server


def test_orders(five):
    assert ask(five) == (["k1", "k2", "k3", "k4", "k5"], 5)
    assert ask(five, sort="opened", order="asc") == ask(five)
    assert ask(five, order="desc")[0] == ["k5", "k4", "k3", "k2", "k1"]
    # By number, not by text; IPv4 first.
    assert ask(five, sort="remote")[0] == ["k2", "k4", "k5", "k1", "k3"]
    assert ask(five, sort="remote", order="desc")[0] == ["k3", "k1", "k5", "k4", "k2"]
    paths = ask(five, sort="path")[0]
    assert paths == ["k2", "k4", "k1", "k5", "k3"]


def test_filters(five):
    assert ask(five, filter="ROOM") == (["k4"], 1)
    assert ask(five, filter="10.0.0.") == (["k4", "k5"], 2)
    assert ask(five, filter="no-3") == (["k3"], 1)
    assert ask(five, filter="NO-") == ask(five)
    assert ask(five, filter="K2") == (["k2"], 1)
    assert ask(five, filter="nothing") == ([], 0)
    assert ask(five, filter="10.0.0.", channel="no-5") == (["k5"], 1)
    assert ask(five, channel="no-5", sort="path") == (["k5"], 1)


def test_pages(five):
    assert ask(five, limit=2) == (["k1", "k2"], 5)
    assert ask(five, limit=2, offset=2) == (["k3", "k4"], 5)
    assert ask(five, limit=2, offset=4) == (["k5"], 5)
    assert ask(five, offset=9) == ([], 5)
    assert ask(five, limit=2, offset=1, sort="remote") == (["k4", "k5"], 5)
    assert ask(five, limit=0) == ([], 5)
    assert ask(five, limit=1, after="k2") == (["k3"], 5)
    assert ask(five, after="k3", order="desc") == (["k5", "k4"], 5)


def test_what_waits_for_a_socket_comes_first(serve):
    server = serve("--max-queue", "8MiB")
    server.connect()
    slow = server.narrow()
    server.connect()
    server.push(message="x" * 4_000_000)
    wait_until(lambda: any(c["queued_bytes"] for c in server.connections()), "a queue")
    assert ask(server, sort="queued", order="desc", limit=1) == (["k2"], 3)
    slow.reset()


@pytest.mark.parametrize("query", ["sort=age", "sort=", "order=up", "offset=-1", "offset=x"])
def test_what_is_not_understood_is_said(serve, query):
    server = serve()
    status, answer = server.api("GET", f"/v1/gateways/default/connections?{query}")
    assert (status, answer["error"]["code"]) == (400, "bad_request")
    assert query.split("=")[0] in answer["error"]["message"]


def test_a_crowd_is_searched_while_clients_are_served(serve):
    server = serve()
    crowd = [server.connect(f"/{n % 10}") for n in range(300)]
    for client in crowd[::2]:
        client.close()
    wait_until(lambda: ask(server)[1] == 150, "the end of half of them")
    odd = [f"/{n}" for n in (1, 3, 5, 7, 9)]
    for path in odd:
        assert ask(server, filter=path, limit=3)[1] == 30
    seen = []
    for offset in range(0, 150, 40):
        names, total = ask(server, sort="path", order="desc", offset=offset, limit=40)
        assert total == 150
        seen += names
    assert len(set(seen)) == len(seen) == 150
    crowd[1].send("still here")
    assert crowd[3].recv() == "still here"
