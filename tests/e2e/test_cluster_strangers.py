"""What others may write to the subjects of a cluster: rubbish, another version, a node that says nothing of
its members, a node of the same name."""

import re
import struct
import time

import pytest

from harness import Framed, NatsServer, await_nodes, free_port, wait_until

MESSAGES, BEATS = "wsgw.default.messages", "wsgw.default.beats"
CLOSE, BYE = 2, 7


#: Bytes of the head of a message.
HEADER = 1 + 4 + 8 + 8 + 8


class Beat:
    """A sign of life of a node that asks nobody for members, as it stands on the wire."""

    def __init__(self, nats):
        with nats.client() as client:
            client.subscribe(BEATS)
            self.bytes = bytearray(client.message()[2])
            while self.asks:
                self.bytes = bytearray(client.message()[2])

    def of(self, node=None, since=None):
        """The same of another node, or of one that runs since another time."""
        found = bytearray(self.bytes)
        if node is not None:
            struct.pack_into("<I", found, 1, node)
        if since is not None:
            struct.pack_into("<Q", found, HEADER + 1 + 8, since)
        return bytes(found)

    @property
    def asks(self):
        """How many nodes it asks."""
        epoch = HEADER + 1 + 3 * 8
        return struct.unpack_from("<I", self.bytes, epoch + 4 + struct.unpack_from("<I", self.bytes, epoch)[0])[0]

    @property
    def since(self):
        return struct.unpack_from("<Q", self.bytes, HEADER + 1 + 8)[0]


def header(node=77, number=0, before=0):
    return struct.pack("<BIQQQ", 1, node, number, before, time.time_ns() // 1_000_000)


def node_number(name):
    # The first of its letters and digits is a letter.
    return int(name, 36) - 10 * 36 ** 3


def conn_number(conn):
    node, _, rest = conn.partition(".k")
    return node_number(node) << 44 | int(rest, 36)


def tell(nats, subject, *bodies):
    with nats.client() as client:
        for body in bodies:
            client.publish(subject, body)
        # All of it has come to the server when this is answered.
        client.request("$JS.API.INFO")


def lines(node, pattern):
    return [line for line in node.log().splitlines() if re.search(pattern, line)]


@pytest.mark.parametrize("mode", ["ordered", "core"])
def test_rubbish_is_said_once_a_second_with_a_count(nodes, nats, mode):
    node = nodes.add(mode=mode)
    await_nodes(node, 1)
    client = node.connect()
    subject = MESSAGES if mode == "ordered" else "wsgw-core.default"
    tell(nats, subject, *[b"\xffrubbish"] * 3_000)
    node.push(message="hi")
    assert client.recv() == "hi"
    assert 1 <= len(lines(node, "cannot be read")) < 10


@pytest.mark.parametrize("mode", ["ordered", "core"])
def test_another_version_is_said_once(nodes, nats, mode):
    node = nodes.add(mode=mode)
    await_nodes(node, 1)
    client = node.connect()
    subject = MESSAGES if mode == "ordered" else "wsgw-core.default"
    tell(nats, subject, *[b"\x1e" + header()[1:]] * 100)
    node.push(message="hi")
    assert client.recv() == "hi"
    [line] = lines(node, "another version")
    assert "30" in line
    assert not lines(node, "cannot be read")


@pytest.mark.parametrize("number,before,entries", [
    (2 ** 64 - 1, 0, 1), (2 ** 64 - 1, 2 ** 64 - 1, 1), (2 ** 64 - 2, 0, 3), (2 ** 63 - 1, 2 ** 63 - 1, 3),
])
@pytest.mark.parametrize("mode", ["ordered", "core"])
def test_forged_numbers_harm_nobody(nodes, nats, mode, number, before, entries):
    nodes.many(2, mode=mode)
    nodes.await_all()
    clients = [node.connect() for node in nodes]
    forged = header(number=number, before=before) + bytes([BYE] * entries)
    tell(nats, MESSAGES if mode == "ordered" else "wsgw-core.default", forged, header(number=1) + bytes([BYE]))
    nodes[0].push(message="hi")
    assert [client.recv() for client in clients] == ["hi"] * 2
    for node in nodes:
        assert node.http("GET", "/healthz")[2].strip() == "ok"
        assert not lines(node, "panic"), node.log()


@pytest.mark.parametrize("code", [0, 1005, 1015, 65_535])
def test_a_close_code_that_may_not_be_sent_closes_nobody(nodes, nats, code):
    node = nodes.add()
    await_nodes(node, 1)
    client = Framed(node)
    close = struct.pack("<BBQHI", CLOSE, 0, conn_number(client.conn), code, 0)
    name = client.conn.partition(".")[0]
    tell(nats, MESSAGES, header(number=1) + close)
    tell(nats, f"wsgw-node.default.{name}", b"")
    with nats.client() as asker:
        ask = '{"close":{"conn":"%s","code":%d,"reason":"x"}}' % (client.conn, code)
        answer = asker.request(f"wsgw-node.default.{name}", ask)
    assert b'"total":0' in answer, answer
    node.push(message="hi")
    assert client.body() == "hi"


def test_a_node_that_never_tells_its_members_does_not_make_all_others_tell_theirs(nodes, nats):
    nodes.many(2, gateway='channels = "query"\nallow-channels = ["*"]')
    nodes.await_all()
    node = nodes[0]
    Framed(node, channel=[f"c{n}" for n in range(20)])
    for one in nodes:
        wait_until(lambda: len(one.api("GET", "/v1/gateways/default/channels")[1]) == 20, "the channels")
    stranger = Beat(nats).of(node=77)
    with nats.client() as client:
        client.subscribe(BEATS)
        client.publish(BEATS, stranger)
        await_nodes(node, 3)
        before = node.metric("wsgw_cluster_published_total")
        seen = 0
        while seen < 8:
            # It goes on living.
            if client.message()[2][:5] != stranger[:5]:
                seen += 1
                client.publish(BEATS, stranger)
    assert node.metric("wsgw_cluster_published_total") == before


def test_a_name_that_another_node_has_is_not_taken(nodes, nats):
    taken = []
    with nats.client() as other:
        other.subscribe("wsgw-node.*")
        node = nodes.add(wait=False)
        for _ in range(2):
            subject, reply = question(other)
            taken.append(subject.rpartition(".")[2])
            other.publish(reply, b"")
        node.await_control()
        await_nodes(node, 1)
    name = node.api("GET", "/v1/gateways/default/nodes")[1][0]["node"]
    assert name not in taken and len(set(taken)) == 2
    assert len(lines(node, "drawn again")) == 2
    # It says so to those that come later.
    with nats.client() as later:
        assert later.request(f"wsgw-node.{name}") == b""


def question(client):
    """Subject and reply of the next message."""
    while True:
        line = client._line().decode()
        if line == "PING":
            client._write("PONG\r\n")
        elif line.startswith("MSG "):
            words = line.split(" ")
            client._line()
            return words[1], words[3]


def test_the_later_one_of_two_nodes_with_one_name_has_failed(nodes, nats):
    node = nodes.add()
    await_nodes(node, 1)
    beat = Beat(nats)
    tell(nats, BEATS, beat.of(since=beat.since + 1))
    node.await_log("same name")
    await_nodes(node, 1)
    assert node.status()["state"] == "running"
    late = nodes.add()
    nodes.await_all()
    name = late.api("GET", "/v1/gateways/default/nodes")[1][0]["node"]
    theirs = Beat(nats)
    tell(nats, BEATS, theirs.of(node=node_number(name), since=1))
    found = late.await_status(state="failed")
    assert name in found["error"] and "restart" in found["error"], found
    assert late.http("GET", "/healthz")[0] == 503


def test_a_server_whose_messages_are_too_small_is_an_error_at_start(nodes, tmp_path):
    small = NatsServer(tmp_path / "small", "max_payload: 16384")
    try:
        node = nodes.add(url=small.url, wait=False)
        assert node.proc.wait(20) == 1
        assert "max_payload" in node.err() and "16384" in node.err(), node.err()
        nodes.clear()
    finally:
        small.kill()


def test_a_server_whose_messages_are_too_small_fails_a_gateway_that_waits_for_it(serve, tmp_path):
    small = NatsServer(tmp_path / "small", "max_payload: 16384", port=free_port(), start=False)
    node = serve(config=f'[cluster]\nurl = "{small.url}"\n[gateways.default]\nport = 0\ncluster = "ordered"\n')
    assert "degraded" in node.http("GET", "/healthz")[2]
    small.start()
    try:
        found = node.await_status(state="failed", timeout=10)
        assert "raise max_payload" in found["error"], found
    finally:
        node.stop()
        small.kill()
