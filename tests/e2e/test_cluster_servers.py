"""Three NATS servers that form a cluster: nodes go on when one of them is lost, in one order."""

import contextlib
import os
import shutil

import pytest

from harness import (
    Framed, NatsCluster, Networks, Nodes, Stopwatch, Talk, await_nodes, check_all_heard, check_held,
    check_never_silent, check_one_order, wait_until,
)

KEPT = 'broadcast = 100000\nbytes = "64MiB"'
HOLD = 'on-engine-loss = "hold"'
#: What choosing a leader takes the servers: up to nine seconds, and again where two stand for it.
ELECTION = 40
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def servers(tmp_path):
    cluster = NatsCluster(tmp_path / "servers")
    yield cluster
    cluster.all("kill")


@pytest.fixture
def three(servers, serve):
    """No nodes yet; `add_nodes` starts them."""
    return Nodes(serve, servers[0])


def add_nodes(nodes, cluster, gateway=HOLD, history=KEPT, urls=None, **keys):
    """Three nodes, each with the list of all servers, if `urls` says nothing else for it."""
    for n in range(len(cluster)):
        nodes.add(url=urls[n] if urls else cluster.urls, gateway=gateway, history=history,
                  cluster=f'replicas = 3\nname = "node{n}"', **keys)
    nodes.await_all()
    if keys.get("mode") != "core":
        cluster.await_copies()


def is_degraded(node):
    status, _, text = node.http("GET", "/healthz", token=False)
    assert status == 200, text
    return "degraded" in text


def await_whole(nodes, seconds=ELECTION):
    wait_until(lambda: not any(map(is_degraded, nodes)), lambda: "good health:\n" + "\n".join(
        f"{node.http('GET', '/healthz', token=False)[2]}{node.log()[-600:]}" for node in nodes), seconds)
    for node in nodes:
        await_nodes(node, len(nodes), ELECTION)


def epochs(heard):
    return {frame["at"].partition("-")[0] for frames in heard for frame in frames}


def test_three_nodes_at_three_servers_share_one_order(three, servers):
    add_nodes(three, servers)
    assert servers.stream()["config"]["num_replicas"] == 3
    talk = Talk(three)
    wait_until(lambda: min(talk.sent) > 100, "some talk")
    heard = talk.end()
    check_all_heard(talk, heard)
    done = three[1].cli("status", "--nodes")
    assert done.returncode == 0 and all(f"node{n}" in done.stdout for n in range(3)), done
    assert len(epochs(heard)) == 1


@pytest.mark.long
@pytest.mark.parametrize("how", ["killed", "stopped", "forgets"])
def test_the_leader_of_the_stream_is_lost_and_nothing_else(three, servers, how):
    """With `hold` nothing is lost, nothing comes twice, and all positions stay good."""
    add_nodes(three, servers)
    talk = Talk(three)
    wait_until(lambda: min(talk.sent) > 50, "some talk")
    before = Framed(three[0])
    leader = servers.leader()
    leader.pause() if how == "stopped" else leader.kill()
    if how == "forgets":
        leader.forget()
    wait_until(lambda: servers.leader() is not leader, "another leader", ELECTION)
    await_whole(three)
    at = max(talk.sent)
    wait_until(lambda: min(talk.sent) > at + 50, "more talk")
    done = three[0].cli("status", "--nodes")
    assert done.returncode == 0 and all(f"node{n}" in done.stdout for n in range(3)), done
    leader.go_on() if how == "stopped" else servers.start()
    servers.await_copies()
    wait_until(lambda: min(talk.sent) > at + 100, "talk behind its return")
    await_whole(three)
    heard = talk.end()
    check_held(talk, heard)
    if len(epochs(heard)) > 1:
        return
    places = [frame["at"] for frame in heard[0]]
    for node in three:
        again = Framed(node, since=before.at)
        assert again.hello["recovered"] is True
        assert again.frames(10) == heard[1][places.index(before.at) + 1:][:10]


@pytest.mark.long
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_the_server_of_a_node_is_lost_and_the_node_takes_another(three, servers, how):
    add_nodes(three, servers)
    talk = Talk(three)
    wait_until(lambda: min(talk.sent) > 50, "some talk")
    server = servers.of_client("node0")
    server.pause() if how == "stopped" else server.kill()
    wait_until(lambda: servers.of_client("node0") is not server, "another server for the node", ELECTION)
    servers.leader()
    await_whole(three)
    server.go_on() if how == "stopped" else servers.start()
    servers.await_copies()
    await_whole(three)
    heard = talk.end()
    check_held(talk, heard)


@pytest.mark.long
def test_servers_restarted_one_after_the_other_cost_nothing(three, servers):
    """A rolling update of the servers, in good order."""
    add_nodes(three, servers)
    talk = Talk(three)
    for server in servers:
        server.stop()
        servers.start()
        servers.await_copies()
    await_whole(three)
    heard = talk.end()
    check_held(talk, heard)


@pytest.mark.long
@pytest.mark.parametrize("loss", ["local", "hold"])
def test_two_of_three_servers_are_lost_and_come_back(three, servers, loss):
    add_nodes(three, servers, gateway=f'on-engine-loss = "{loss}"')
    talk = Talk(three)
    wait_until(lambda: min(talk.sent) > 50, "some talk")
    gone = servers.others(servers.leader())
    watches = [Stopwatch(node) for node in three]
    for server in gone:
        server.kill()
    for watch in watches:
        assert watch.until("the cluster is degraded") < 2
    assert all(map(is_degraded, three))
    for n, node in enumerate(three):
        status, outcome = node.push(message=f"push {n}", query="?hook=none")
        if loss == "hold":
            assert (status, outcome["error"]["code"]) == (503, "engine_lost")
        else:
            assert (status, outcome["delivered"]) == (200, 2), outcome
    servers.start()
    servers.await_copies()
    await_whole(three)
    at = max(talk.sent)
    wait_until(lambda: min(talk.sent) > at + 20, "more talk")
    heard = talk.end()
    if loss == "hold":
        return check_held(talk, heard)
    check_one_order(heard)
    for n, (node, frames) in enumerate(zip(three, heard)):
        own = [f["message"] for f in frames if f["message"].startswith(f"{n}:")]
        assert len(own) + node.metric("wsgw_cluster_lost_total") == talk.sent[n] + 1


@pytest.mark.long
def test_all_servers_are_killed_at_once(three, servers):
    """What had been acknowledged may be lost with them; then there is another epoch."""
    add_nodes(three, servers)
    talk = Talk(three)
    wait_until(lambda: min(talk.sent) > 100, "some talk")
    servers.all("kill")
    servers.start()
    await_whole(three)
    at = max(talk.sent)
    wait_until(lambda: min(talk.sent) > at + 20, "more talk")
    heard = talk.end()
    check_never_silent(talk, heard)
    if len(epochs(heard)) == 1:
        check_all_heard(talk, heard)


def test_core_goes_on_at_other_servers(three, servers):
    """What is lost on the way is counted, by who misses it."""
    add_nodes(three, servers, gateway="", history="", mode="core")
    talk = Talk(three)
    wait_until(lambda: min(talk.sent) > 50, "some talk")
    server = servers.of_client("node0")
    server.kill()
    wait_until(lambda: servers.of_client("node0") is not server, "another server")
    # Its loss may be noticed a moment later.
    wait_until(lambda: all(node.push(message="", query="?hook=none")[1].get("delivered") == 6 for node in three),
               "a way from each to all")
    await_whole(three)
    heard = talk.end()
    heard = [[f for f in frames if f["message"]] for frames in heard]
    check_one_order(heard)
    for n, (node, frames) in enumerate(zip(three, heard)):
        found = [f["message"] for f in frames]
        for m in range(3):
            of_one = [message for message in found if message.startswith(f"{m}:")]
            assert of_one == [k for k in [*talk.said(m), f"{m}:end"] if k in set(of_one)], "each one's order"
        assert [k for k in found if k.startswith(f"{n}:")] == [*talk.said(n), f"{n}:end"], "its own clients' all"
        lacks = sum(talk.sent) + 3 - len(found)
        assert lacks <= node.metric("wsgw_cluster_missed_total") <= lacks + 20, "pushes, too"


# What others have found that NATS does to a stream.


@pytest.mark.long
def test_acknowledged_messages_that_the_servers_lose_are_a_new_epoch(three, servers):
    """One server loses the end of its copy, as it does when a machine fails before the disk has it, while
    another one was away; the two choose a leader, and what the third has alone is gone."""
    add_nodes(three, servers)
    talk = Talk(three)
    wait_until(lambda: min(talk.sent) > 50, "some talk")
    leader = servers.leader()
    loses, away = servers.others(leader)
    loses.pause()
    shutil.copytree(loses.store, loses.dir / "early")
    loses.go_on()
    servers.await_copies()
    away.pause()
    at = max(talk.sent)
    wait_until(lambda: min(talk.sent) > at + 100, "talk that two servers have")
    before = Framed(three[0])
    leader.pause()
    loses.kill()
    loses.forget()
    (loses.dir / "early").rename(loses.store)
    away.go_on()
    loses.launch()
    # Versions before 2.10 choose none: then nothing is lost.
    with contextlib.suppress(AssertionError):
        wait_until(lambda: servers.says_leader(loses) not in (None, leader), "another leader", 12)
        await_whole(three)
    leader.go_on()
    servers.await_copies()
    await_whole(three)
    at = max(talk.sent)
    wait_until(lambda: min(talk.sent) > at + 50, "more talk")
    heard = talk.end()
    check_never_silent(talk, heard)
    for node in three:
        again = Framed(node, since=before.at)
        if again.hello["recovered"]:
            places = [frame["at"] for frame in heard[0]]
            assert again.frames(20) == heard[0][places.index(before.at) + 1:][:20]


# Servers that do not reach each other.


@pytest.fixture
def parted(serve, tmp_path):
    """Three servers in networks of their own, and no nodes yet."""
    if os.geteuid() != 0:
        pytest.skip("only root may make networks")
    with Networks() as networks:
        cluster = NatsCluster(tmp_path / "servers", networks)
        try:
            nodes = Nodes(serve, cluster[0])
            yield cluster, nodes
            # They are stopped in their own network.
            cluster.join()
            for node in nodes:
                node.close_raw()
                node.stop()
        finally:
            cluster.all("kill")


@pytest.mark.long
def test_three_servers_that_all_are_alone_keep_nothing(parted):
    servers, nodes = parted
    add_nodes(nodes, servers)
    talk = Talk(nodes)
    wait_until(lambda: min(talk.sent) > 50, "some talk")
    watches = [Stopwatch(node) for node in nodes]
    servers.part(*servers)
    for watch in watches:
        assert watch.until("the cluster is degraded") < 2
    servers.join()
    await_whole(nodes)
    servers.await_copies()
    heard = talk.end()
    check_held(talk, heard)


@pytest.mark.long
def test_members_are_right_after_the_servers_were_parted(parted):
    """Who came and who left meanwhile, on both sides."""
    servers, nodes = parted
    rooms = f'{HOLD}\nchannels = "query"\nallow-channels = "*"'
    add_nodes(nodes, servers, gateway=rooms, urls=servers.urls)
    stay = [Framed(node, channel="r") for node in nodes]
    leave = [Framed(node, channel="r") for node in nodes]

    def members(node, query=""):
        return sorted(node.api("GET", f"/v1/gateways/default/channels/r{query}")[1].get("members", ()))
    everybody = sorted(one.conn for one in (*stay, *leave))
    for node in nodes:
        wait_until(lambda node=node: members(node) == everybody, "all members")
    alone = servers.leader()
    servers.part(alone)
    wait_until(lambda: is_degraded(nodes[servers.index(alone)]), "the loss")
    for one in leave:
        one.close()
    come = [Framed(node, channel="r") for node in nodes]
    for node, *own in zip(nodes, stay, come):
        wait_until(lambda node=node, own=own: members(node, "?local=true") == sorted(c.conn for c in own), "its own")
    servers.join()
    await_whole(nodes, ELECTION)
    everybody = sorted(one.conn for one in (*stay, *come))
    for node in nodes:
        wait_until(lambda node=node: members(node) == everybody,
                   lambda node=node: f"{everybody}, there are {members(node)}")


@pytest.mark.long
@pytest.mark.parametrize("how", ["truncated", "flipped"])
def test_a_corrupt_copy_of_the_stream_divides_nobody(three, servers, how):
    """The server with it becomes the leader. What is missing is never missing within an epoch."""
    add_nodes(three, servers)
    talk = Talk(three)
    wait_until(lambda: min(talk.sent) > 100, "some talk")
    corrupt = servers.others(servers.leader())[0]
    corrupt.stop()
    (block,) = (corrupt.store / "jetstream/$G/streams/wsgw-default/msgs").glob("*.blk")
    text = bytearray(block.read_bytes())
    if how == "truncated":
        del text[len(text) // 2:]
    else:
        text[len(text) // 2] ^= 1
    block.write_bytes(text)
    # Version 2.9 may not come to itself with it.
    with contextlib.suppress(AssertionError):
        servers.start()
    at = max(talk.sent)
    wait_until(lambda: min(talk.sent) > at + 50, "more talk")

    def leads():
        with contextlib.suppress(OSError, EOFError):
            if servers.leader() is not corrupt:
                servers.leader().ask("STREAM.LEADER.STEPDOWN.wsgw-default", 1)
        return servers.leader() is corrupt
    # Some versions do not let it.
    with contextlib.suppress(AssertionError):
        wait_until(leads, "the corrupt copy to lead", 10)
    await_whole(three, ELECTION)
    at = max(talk.sent)
    wait_until(lambda: min(talk.sent) > at + 50, "talk through it")
    heard = talk.end()
    check_never_silent(talk, heard)


@pytest.mark.long
def test_a_leader_that_is_cut_off_from_the_others_divides_nobody(parted):
    """The others choose another leader, and the nodes at them go on. What the old leader was given
    meanwhile comes once, when it is back."""
    servers, nodes = parted
    add_nodes(nodes, servers, urls=servers.urls)
    talk = Talk(nodes)
    wait_until(lambda: min(talk.sent) > 50, "some talk")
    leader = servers.leader()
    alone = nodes[servers.index(leader)]
    servers.part(leader)
    others = servers.others(leader)
    wait_until(lambda: is_degraded(alone), "the loss of the node at it")
    wait_until(lambda: any(servers.says_leader(one) not in (None, leader) for one in others),
               "another leader", ELECTION)
    wait_until(lambda: [node for node in nodes if is_degraded(node)] == [alone], "the two others to go on",
               ELECTION)
    at = max(talk.sent)
    wait_until(lambda: max(talk.sent) > at + 20, "more talk")
    servers.join()
    servers.await_copies()
    await_whole(nodes)
    at = max(talk.sent)
    wait_until(lambda: min(talk.sent) > at + 20, "more talk")
    heard = talk.end()
    check_held(talk, heard)


def test_servers_and_nodes_that_start_together_find_each_other(tmp_path, serve):
    """As containers do: a node may find servers that do not know each other yet."""
    servers = NatsCluster(tmp_path / "servers", start=False)
    try:
        for server in servers:
            server.launch()
        nodes = Nodes(serve, servers[0])
        for n in range(3):
            nodes.add(url=servers.urls, cluster="replicas = 3", wait=False)
        for node in nodes:
            node.await_control()
        await_whole(nodes)
        clients = [node.connect() for node in nodes]
        clients[0].send("hi")
        assert [client.recv() for client in clients] == ["hi"] * 3
        assert servers.stream()["config"]["num_replicas"] == 3
        for node in nodes:
            node.stop()
    finally:
        servers.all("kill")


@pytest.mark.long
def test_a_node_at_a_server_that_is_cut_off_goes_to_another(parted):
    servers, nodes = parted
    add_nodes(nodes, servers)
    talk = Talk(nodes)
    wait_until(lambda: min(talk.sent) > 50, "some talk")
    server = servers.of_client("node0")
    servers.part(server)
    wait_until(lambda: is_degraded(nodes[0]), "the loss")
    await_whole(nodes, ELECTION)
    assert servers.of_client("node0") is not server
    servers.join()
    servers.await_copies()
    await_whole(nodes)
    heard = talk.end()
    check_all_heard(talk, heard)
