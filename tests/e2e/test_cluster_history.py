"""The stream as the history: positions, resuming at any node, epochs, and what the stream is like."""

import base64
import json
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

from harness import PATIENCE, WSGW, Framed, Say, Wire, await_nodes, private_env, wait_until, ws_client

POSITION = re.compile(r"[A-Za-z0-9]{8}-\d+\.\d+")
KEPT = "broadcast = 100"


def history(node, **query):
    """The frames that the control port gives; a status where it gives none."""
    pairs = "&".join(f"{k}={v}" for k, v in query.items())
    status, _, text = node.http("GET", f"/v1/gateways/default/history?{pairs}")
    return [json.loads(line) for line in text.splitlines()] if status == 200 else status


def bodies(frames):
    return [frame["message"] for frame in frames]


def epoch(at):
    return at.partition("-")[0]


def push(node, *messages, **keys):
    for message in messages:
        status, outcome = node.push({"message": message, **keys})
        assert status == 200, outcome


def away(node, seconds=0):
    """Stops a node's process, for so long at least."""
    node.signal(signal.SIGSTOP)
    time.sleep(seconds)


def test_positions_are_those_of_the_stream_on_all_nodes(nodes):
    nodes.many(3, history=KEPT)
    clients = [Framed(node) for node in nodes]
    push(nodes[0], "a", "b")
    push(nodes[1], "c")
    heard = [client.frames(3) for client in clients]
    assert heard[0] == heard[1] == heard[2]
    assert bodies(heard[0]) == ["a", "b", "c"]
    positions = [frame["at"] for frame in heard[0]]
    assert all(POSITION.fullmatch(at) for at in positions), positions
    numbers = [tuple(map(int, at.partition("-")[2].split("."))) for at in positions]
    assert numbers == sorted(set(numbers)) and len({epoch(at) for at in positions}) == 1
    assert all(POSITION.fullmatch(client.hello["at"]) for client in clients)


def test_a_position_is_the_number_in_the_stream_and_the_index_there(nodes, nats, tmp_path):
    say = Say(tmp_path / "told")
    nodes.add(history=KEPT, listener=say.command)
    await_nodes(nodes[0], 1)
    client = Framed(nodes[0])
    client.say({"command": "send", "message": "first"}, {"command": "send", "message": "second"},
               {"id": "ID", "connections": []})
    for frame in client.frames(2):
        sequence, index = map(int, frame["at"].partition("-")[2].split("."))
        found = nats.ask("STREAM.MSG.GET.wsgw-default", seq=sequence)["message"]
        body = base64.b64decode(found["data"])
        assert found["subject"] == "wsgw.default.messages"
        before = [message for message in (b"first", b"second") if message in body]
        assert before[index] == frame["message"].encode()


@pytest.mark.parametrize("by", ["ws", "sse", "lines", "poll"])
def test_a_client_resumes_at_any_node(nodes, by):
    nodes.many(3, history=KEPT, gateway="streams = true")
    client = Framed(nodes[0])
    push(nodes[1], "one", "two", "three")
    at = client.frame()["at"]
    client.close()
    push(nodes[2], "four")
    for node in nodes:
        if by == "ws":
            again = Framed(node, since=at)
            assert again.hello["recovered"] is True and again.hello["at"] == at
            assert again.bodies(3) == ["two", "three", "four"]
            continue
        stream = node.stream(f"/?stream={by}&since={at}")
        if by == "poll":
            assert stream.status == 200
            assert bodies(map(json.loads, stream.text.splitlines())) == ["two", "three", "four"]
        else:
            assert stream.hello["recovered"] is True
            assert bodies(stream.messages(3)) == ["two", "three", "four"]
            stream.close()


def test_coming_back_twice_gives_nothing_twice(nodes):
    """Who got what was missed has a position behind it, though nothing new was said since."""
    nodes.many(2, history=KEPT)
    at = Framed(nodes[0]).hello["at"]
    push(nodes[0], "a", "b")
    again = Framed(nodes[1], since=at)
    assert again.bodies(2) == ["a", "b"]
    for node in nodes:
        once_more = Framed(node, since=again.at)
        assert (once_more.hello["recovered"], once_more.hello["at"]) == (True, again.at)
        push(nodes[1], "next")
        assert once_more.body() == "next"
        again.at = once_more.at
        once_more.close()


def test_a_client_that_moves_at_once_is_recovered(nodes):
    """Under load, where the other node may be some messages behind."""
    nodes.many(2, history="broadcast = 100000")
    speakers = [node.connect() for node in nodes]
    over = threading.Event()

    def speak():
        n = 0
        while not over.is_set():
            for speaker in speakers:
                speaker.send(f"m{n}")
            n += 1
            time.sleep(0.001)
    thread = threading.Thread(target=speak)
    thread.start()
    try:
        mover, got = Framed(nodes[0]), []
        for turn in range(40):
            got += [frame["at"] for frame in mover.frames(10)]
            at = mover.at
            mover.client.inner.socket.close()
            mover = Framed(nodes[(turn + 1) % 2], since=at)
            assert mover.hello["recovered"] is True, (turn, at, mover.hello)
    finally:
        over.set()
        thread.join()
    assert len(set(got)) == len(got)


def test_a_client_without_frames_resumes_at_another_node(nodes):
    nodes.many(2, history=KEPT)
    client = Framed(nodes[0])
    push(nodes[0], "one", "two")
    at = client.frame()["at"]
    bare = nodes[1].connect(f"/?since={at}")
    assert bare.recv() == "two"
    lost = nodes[1].connect(f"/?since={'x' * 8}-1.0")
    assert lost.await_close() == (4010, "not recovered")


def test_the_replay_and_what_is_live_meet_without_gap_or_overlap(nodes):
    nodes.many(2, history="broadcast = 10000")
    first = Framed(nodes[0])
    speaker = nodes[0].connect()
    count, others = 800, []
    for n in range(count):
        speaker.send(f"m{n}")
        if n % 100 == 50:
            others.append((n, Framed(nodes[1], since=first.hello["at"])))
    for _, one in others:
        assert one.hello["recovered"] is True
        assert one.bodies(count) == [f"m{n}" for n in range(count)]


def test_all_nodes_show_the_same_history(nodes):
    nodes.many(2, history=KEPT)
    client = Framed(nodes[0])
    push(nodes[0], *"abc")
    push(nodes[1], "d")
    frames = client.frames(4)
    for node in nodes:
        assert history(node) == frames
        assert history(node, since=frames[1]["at"]) == frames[2:]
        assert history(node, limit=2) == frames[2:]
        assert history(node, since="nowhere0-1.0") == 410
        assert node.cli("history").stdout.split() == ["a", "b", "c", "d"]


def test_a_new_node_has_the_history_of_the_stream(nodes):
    nodes.many(1, history=KEPT)
    client = Framed(nodes[0])
    push(nodes[0], *"abc")
    frames = client.frames(3)
    late = nodes.add(history=KEPT)
    assert history(late) == frames
    again = Framed(late, since=frames[0]["at"])
    assert again.hello["recovered"] is True
    assert again.bodies(2) == ["b", "c"]


def test_all_nodes_may_end_and_the_history_stays(nodes):
    nodes.many(2, history=KEPT)
    client = Framed(nodes[0])
    push(nodes[0], *"abc")
    frames = client.frames(3)
    for node in list(nodes):
        node.stop()
    nodes.many(1, history=KEPT)
    node = nodes[-1]
    assert history(node) == frames
    again = Framed(node, since=frames[0]["at"])
    assert (again.hello["recovered"], again.bodies(2)) == (True, ["b", "c"])
    push(node, "d")
    last = again.frame()
    assert last["message"] == "d" and epoch(last["at"]) == epoch(frames[0]["at"])


def test_a_node_that_was_killed_costs_nothing(nodes):
    nodes.many(2, history=KEPT)
    client = Framed(nodes[0])
    push(nodes[0], *"ab")
    at = client.frames(2)[0]["at"]
    nodes[0].proc.kill()
    nodes[0].proc.wait()
    push(nodes[1], "c")
    again = Framed(nodes[1], since=at)
    assert (again.hello["recovered"], again.bodies(2)) == (True, ["b", "c"])


def test_channels_are_kept_and_resumed_at_another_node(nodes):
    rooms = 'channels = "query"\nallow-channels = "*"\nroute = "channels"'
    nodes.many(2, gateway=rooms, history='channels = { "r*" = 50 }')
    one, other = Framed(nodes[0], channel="r1"), Framed(nodes[1], channel=["r1", "r2"])
    one.send("in r1")
    assert (one.frame(), other.frame()["channel"]) == (
        {"message": "in r1", "channel": "r1", "at": other.at}, "r1")
    at = one.at
    push(nodes[0], "in r2", channel="r2")
    push(nodes[1], "in both", channel=["r2", "r1"])
    push(nodes[1], "not kept", channel="x")
    push(nodes[1], "private", connections=[one.conn])
    again = Framed(nodes[1], channel="r1", since=at)
    assert (again.hello["recovered"], again.body()) == (True, "in both")
    again = Framed(nodes[0], channel=["r1", "r2"], since=at)
    assert (again.hello["recovered"], again.bodies(2)) == (True, ["in r2", "in both"])
    for node in nodes:
        assert bodies(history(node, channel="r1")) == ["in r1", "in both"]
        assert bodies(history(node, channel="r2")) == ["in r2", "in both"]


def test_what_others_keeps_from_a_client_is_replayed_to_it_anywhere(nodes):
    nodes.many(2, history=KEPT, gateway='route = "others"')
    one, other = (Framed(node) for node in nodes)
    one.send("mine")
    assert other.body() == "mine"
    again = Framed(nodes[1], since=one.hello["at"])
    assert (again.hello["recovered"], again.body()) == (True, "mine")


def test_since_last_and_numbers_are_served_by_all_nodes(nodes):
    nodes.many(2, history=KEPT)
    push(nodes[0], *"abcd")
    assert Framed(nodes[1], since="last").body() == "d"
    assert Framed(nodes[1], since="3").bodies(3) == ["b", "c", "d"]
    assert Framed(nodes[1], since="5m").bodies(4) == ["a", "b", "c", "d"]


def test_what_was_evicted_is_not_recovered(nodes):
    nodes.many(2, history="broadcast = 3")
    client = Framed(nodes[0])
    push(nodes[0], *"abcdef")
    frames = client.frames(6)
    for node in nodes:
        kept = Framed(node, since=frames[2]["at"])
        assert (kept.hello["recovered"], kept.bodies(3)) == (True, ["d", "e", "f"])
        assert Framed(node, since=frames[1]["at"]).hello["recovered"] is False


def test_what_the_limit_of_bytes_evicts_is_not_recovered_anywhere(nodes):
    nodes.many(2, history='broadcast = 100000\nbytes = "100KiB"')
    client = Framed(nodes[0])
    first = client.at
    for _ in range(40):
        push(nodes[1], "x" * 10_000)
    frames = client.frames(40)
    late = nodes.add(history='broadcast = 100000\nbytes = "100KiB"')
    for node in nodes:
        assert Framed(node, since=first).hello["recovered"] is False
        again = Framed(node, since=frames[-3]["at"])
        assert again.hello["recovered"] is True and again.frames(2) == frames[-2:]
    assert late is nodes[2]


def test_what_is_too_old_is_not_recovered_anywhere(nodes):
    nodes.many(2, history='broadcast = 100\nage = "1s"')
    client = Framed(nodes[0])
    push(nodes[0], "old")
    at, old = client.hello["at"], client.frame()["at"]
    for node in nodes:
        wait_until(lambda node=node: history(node) == [], "the message to be forgotten", 10)
        assert Framed(node, since=at).hello["recovered"] is False
    push(nodes[1], "new")
    again = Framed(nodes[0], since=old)
    assert (again.hello["recovered"], again.body()) == (True, "new")


def test_a_listener_lets_a_client_have_what_came_at_other_nodes(nodes, tmp_path):
    say = Say(tmp_path / "told")
    nodes.add(listener=say.command, history='channels = { "*" = 50 }')
    nodes.add(history='channels = { "*" = 50 }')
    nodes.await_all()
    push(nodes[1], *"abc", channel="r")
    client = Framed(nodes[0])
    client.say({"id": "ID", "join": "r", "since": 2, "connections": []})
    frames = client.frames(3)
    assert frames[0]["joined"] == ["r"] and bodies(frames[1:]) == ["b", "c"], frames


def test_connect_resumes_at_another_node(nodes, tmp_path):
    """`wsgw connect --resume` is at one node, which is killed; its proxy leads to the other then."""
    nodes.many(2, history=KEPT)
    door = Wire(nodes[0].port())
    with subprocess.Popen([WSGW, "connect", "--resume", "-n", "4", f"ws://127.0.0.1:{door.port}/"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.PIPE, env=private_env(tmp_path)) as client:
        nodes[0].await_connections(1)
        push(nodes[0], "m0")
        assert client.stdout.readline() == "m0\n"
        door.to = nodes[1].port()
        nodes[0].proc.kill()
        nodes[0].proc.wait()
        push(nodes[1], "m1", "m2")
        wait_until(lambda: len(nodes[1].connections()) == 1, "the client at the other node")
        push(nodes[1], "m3")
        got, err = client.communicate(timeout=PATIENCE)
    door.close()
    assert (client.returncode, got.splitlines()) == (0, ["m1", "m2", "m3"]), err


# The stream.


def test_the_stream_is_made_by_the_first_node_with_the_limits_of_the_table(nodes, nats):
    assert nats.stream() is None
    nodes.many(2, history='broadcast = 100\nbytes = "5MiB"\nage = "1h"')
    config = nats.stream()["config"]
    assert config["name"] == "wsgw-default"
    assert (config["storage"], config["num_replicas"], config["discard"]) == ("file", 1, "old")
    assert config["max_bytes"] == 5 << 20
    assert config["max_age"] == 3600 * 10**9
    assert not any("settings" in node.log() for node in nodes)


def test_without_a_history_the_stream_still_has_limits(nodes, nats):
    nodes.many(1)
    config = nats.stream()["config"]
    assert config["max_bytes"] > 0 and config["max_age"] > 0
    client = Framed(nodes[0])
    assert "at" not in client.hello
    push(nodes[0], "x")
    assert client.frame() == {"message": "x"}


def test_a_node_whose_settings_differ_says_so_and_takes_the_streams(nodes, nats):
    nodes.add(history='broadcast = 100\nbytes = "5MiB"\nage = "1h"')
    other = nodes.add(history='broadcast = 100\nbytes = "7MiB"\nage = "2h"')
    nodes.await_all()
    assert nats.stream()["config"]["max_bytes"] == 5 << 20
    line = next(line for line in other.log().splitlines() if "other settings" in line)
    assert "max_bytes" in line and "max_age" in line and str(5 << 20) in line
    assert "other settings" not in nodes[0].log()
    client = Framed(other)
    push(nodes[0], "x")
    assert client.body() == "x"


def test_an_existing_stream_is_taken_and_none_is_made(nodes, nats):
    missing = nodes.add(cluster='stream = "existing"', wait=False)
    assert missing.proc.wait(20) == 1, "the only gateway could not be started"
    assert "wsgw-default" in missing.err() and nats.stream() is None
    made = nats.ask("STREAM.CREATE.wsgw-default", name="wsgw-default", subjects=["wsgw.default.>"],
                    max_bytes=3 << 20, storage="memory")
    assert "error" not in made, made
    del nodes[:]
    nodes.many(2, cluster='stream = "existing"', history=KEPT)
    clients = [Framed(node) for node in nodes]
    push(nodes[0], "x")
    assert [client.body() for client in clients] == ["x", "x"]
    assert nats.stream()["config"]["max_bytes"] == 3 << 20


def test_the_epoch_stands_in_the_stream(nodes, nats):
    nodes.many(2, history=KEPT)
    client = Framed(nodes[0])
    found = nats.ask("STREAM.MSG.GET.wsgw-default", last_by_subj="wsgw.default.epoch")
    assert base64.b64decode(found["message"]["data"]).decode() == epoch(client.hello["at"])


def test_nodes_that_start_at_once_agree_on_the_epoch(nodes):
    for _ in range(4):
        nodes.add(history=KEPT, wait=False)
    for node in nodes:
        node.await_control()
        node.await_health()
    nodes.await_all()
    assert len({epoch(Framed(node).hello["at"]) for node in nodes}) == 1


# Who was away.


def test_a_node_that_was_away_catches_up_from_where_it_was(nodes):
    nodes.many(2, history=KEPT)
    here, there = (Framed(node) for node in nodes)
    push(nodes[0], "a")
    away(nodes[1], 5)
    push(nodes[0], *"bcd")
    nodes[1].signal(signal.SIGCONT)
    await_nodes(nodes[1], 2)
    push(nodes[1], "e")
    mine, yours = (client.frames(5) for client in (here, there))
    assert mine == yours and bodies(mine) == ["a", "b", "c", "d", "e"]
    assert len({epoch(frame["at"]) for frame in mine}) == 1
    again = Framed(nodes[1], since=mine[0]["at"])
    assert (again.hello["recovered"], again.bodies(4)) == (True, ["b", "c", "d", "e"])


def test_a_node_whose_wire_was_broken_for_a_moment_misses_nothing(nodes, wire):
    """The servers are back before the node gives them up for lost, or its clients are told so."""
    nodes.add(url=wire.url, history=KEPT)
    nodes.add(history=KEPT)
    nodes.await_all()
    there, here = (Framed(node) for node in nodes)
    for turn in range(5):
        push(nodes[1], f"before {turn}")
        wire.break_all()
        push(nodes[1], f"after {turn}")
    await_nodes(nodes[0], 2)
    push(nodes[1], "end")
    mine, yours = (client.until("end") for client in (here, there))
    assert bodies(mine) == bodies(yours)


def test_what_the_stream_no_longer_has_is_a_new_epoch(nodes, nats):
    """A node was away, and what it missed is gone from the stream: its clients are told."""
    nodes.many(2, history=KEPT)
    here, there = (Framed(node) for node in nodes)
    push(nodes[0], "a")
    at = there.frame()["at"]
    away(nodes[1], 1)
    # What is said from now on is not in the socket of the node that is stopped.
    nats.kill()
    nats.start()
    await_nodes(nodes[0], 1)
    push(nodes[0], "b")
    nats.purge_stream()
    push(nodes[0], "c")
    nodes[1].signal(signal.SIGCONT)
    for node in nodes:
        await_nodes(node, 2)
    push(nodes[0], "end")
    there.until("end")
    assert epoch(there.at) != epoch(at)
    for node in nodes:
        assert Framed(node, since=at).hello["recovered"] is False
    here.until("end")


def renewed(nodes, harm):
    """What is kept goes away under the nodes; they go on in a new epoch that all share."""
    nodes.many(3, history=KEPT)
    clients = [Framed(node) for node in nodes]
    push(nodes[0], *"abcdefgh")
    before = [client.frames(8) for client in clients][0]
    harm()
    nodes.await_all()

    def shared():
        found = {epoch(Framed(node).hello["at"]) for node in nodes}
        return found if len(found) == 1 and found != {epoch(before[0]["at"])} else None
    wait_until(shared, "an epoch that all nodes share")
    for node in nodes:
        assert Framed(node, since=before[3]["at"]).hello["recovered"] is False
        assert history(node, since=before[3]["at"]) == 410
    push(nodes[0], "after")
    push(nodes[1], "end")
    ends = [client.until("end") for client in clients]
    assert all([f["message"] for f in frames][-2:] == ["after", "end"] for frames in ends)
    assert len({frames[-1]["at"] for frames in ends}) == 1
    again = Framed(nodes[2], since=ends[0][-2]["at"])
    assert (again.hello["recovered"], again.body()) == (True, "end")


def test_a_server_that_lost_its_store_begins_a_new_epoch(nodes, nats):
    def harm():
        nats.kill()
        nats.forget()
        nats.start()
    renewed(nodes, harm)


def test_a_server_with_an_older_state_begins_a_new_epoch(nodes, nats):
    """A backup that was restored: the newest number of the stream is below what the nodes have handled.
    Nobody hears anything again, and no position of an earlier epoch comes."""
    nodes.many(2, history=KEPT)
    push(nodes[0], *(f"old{n}" for n in range(10)))
    for node in nodes:
        node.stop()
    nats.stop()
    shutil.copytree(nats.store, nats.dir / "backup")
    nats.start()
    del nodes[:]
    for name in ("later0", "later1"):
        nodes.add(history=KEPT, name=name)
    nodes.await_all()
    clients = [Framed(node) for node in nodes]
    push(nodes[0], *(f"new{n}" for n in range(10)))
    before = [client.frames(10) for client in clients][0]
    nats.kill()
    nats.forget()
    shutil.copytree(nats.dir / "backup", nats.store)
    nats.start()

    def noticed():
        found = {epoch(Framed(node).hello["at"]) for node in nodes}
        return len(found) == 1 and epoch(before[0]["at"]) not in found
    wait_until(noticed, "an epoch that all nodes share")
    nodes.await_all()
    push(nodes[0], "after")
    push(nodes[1], "end")
    ends = [client.until("end") for client in clients]
    for frames in ends:
        assert [message for message in bodies(frames) if message not in ("after", "end")] == []
        assert epoch(frames[-1]["at"]) != epoch(before[0]["at"])
    assert ends[0][-1]["at"] == ends[1][-1]["at"]
    for node in nodes:
        for frame in before:
            assert Framed(node, since=frame["at"]).hello["recovered"] is False
    again = Framed(nodes[0], since=ends[0][-2]["at"])
    assert (again.hello["recovered"], again.body()) == (True, "end")


def test_a_stream_that_is_deleted_under_the_nodes_is_made_again(nodes, nats):
    def harm():
        nats.delete_stream()
        wait_until(lambda: nats.stream() is not None, "the stream to be made again", 10)
    renewed(nodes, harm)
    assert any("stream" in node.log() for node in nodes)


def test_a_stream_that_is_made_anew_and_overtakes_is_a_new_epoch(nodes, nats):
    """Another stream, whose numbers are already higher than what the nodes have handled."""
    def harm():
        for node in nodes:
            node.signal(signal.SIGSTOP)
        config = nats.stream()["config"]
        nats.delete_stream()
        nats.ask("STREAM.CREATE.wsgw-default", **config)
        with nats.client() as client:
            for _ in range(200):
                client.publish("wsgw.default.beats", b"?")
            client.request("wsgw.default.beats", b"?")
        for node in nodes:
            node.signal(signal.SIGCONT)
    renewed(nodes, harm)


def test_a_server_restarted_with_its_store_keeps_the_epoch_where_nothing_strayed(nodes, nats):
    """With `hold` nobody got a message that is not in the stream: all positions stay good."""
    nodes.many(2, history=KEPT, gateway='on-engine-loss = "hold"')
    client = Framed(nodes[0])
    push(nodes[1], *"abc")
    before = client.frames(3)
    nats.kill()
    nats.start()
    nodes.await_all()
    push(nodes[1], "d")
    assert epoch(client.frame()["at"]) == epoch(before[0]["at"])
    for node in nodes:
        again = Framed(node, since=before[0]["at"])
        assert (again.hello["recovered"], again.bodies(3)) == (True, ["b", "c", "d"])


def test_a_position_of_another_kind_is_not_recovered(nodes):
    nodes.many(1, history=KEPT)
    push(nodes[0], *"ab")
    at = Framed(nodes[0]).hello["at"]
    for since in (f"{epoch(at)}-1", "abcdefgh-1.0", f"{epoch(at)}-999999.0"):
        assert Framed(nodes[0], since=since).hello["recovered"] is False, since
    for bad in (f"{epoch(at)}-1.", f"{epoch(at)}-.1", f"{epoch(at)}-1.x", f"{epoch(at)}-1.2.3"):
        assert nodes[0].raw().request(f"/?since={bad}").response()[0] == 400, bad


def test_a_reload_keeps_the_history(nodes):
    nodes.many(2, history=KEPT)
    client = Framed(nodes[0])
    push(nodes[0], *"ab")
    frames = client.frames(2)
    nodes[0].reload(nodes[0].config.read_text().replace("port = 0", 'port = 0\nidle-timeout = "1h"'))
    assert history(nodes[0]) == frames
    assert nodes[0].cli("restart", "default").returncode == 0
    await_nodes(nodes[0], 2)
    assert history(nodes[0]) == frames
    again = ws_client(nodes[0].url(f"/?since={frames[0]['at']}"))
    assert again.recv() == "b"
    again.close()
