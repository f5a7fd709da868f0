"""Channels of URLs, the frames of wsgw.v1, and the history: who missed something gets exactly that."""

import json
import threading

import pytest
from harness import PATIENCE, free_port, ws_client

ROOMS = ("--channels", "query", "--allow-channels", "*", "--route", "channels")


def url(server, channels=(), since=None):
    pairs = [f"channel={name}" for name in channels]
    if since is not None:
        pairs.append(f"since={since}")
    return server.url("/?" + "&".join(pairs))


def framed(server, *channels, since=None):
    """A client that gets frames, and its hello."""
    client = ws_client(url(server, channels, since), subprotocols=["wsgw.v1"])
    return client, json.loads(client.recv())


def bare(server, *channels, since=None):
    return ws_client(url(server, channels, since))


def frames(client, count):
    return [json.loads(client.recv()) for _ in range(count)]


def bodies(client, count):
    return [frame.get("message") for frame in frames(client, count)]


def number(at):
    return int(at.split("-")[1])


def behind(at, numbers):
    """The position so many numbers later."""
    epoch, _, n = at.partition("-")
    return f"{epoch}-{int(n) + numbers}"


def test_rooms_without_a_listener(serve):
    server = serve(*ROOMS)
    a1, a2, b, both, none = (bare(server, *names) for names in
                             (["a"], ["a"], ["b"], ["a", "b"], []))
    server.await_connections(5)
    a1.send("to a")
    assert [c.recv() for c in (a1, a2, both)] == ["to a"] * 3
    both.send("to both")
    assert [c.recv() for c in (a1, a2, b, both)] == ["to both"] * 4
    none.send("to nobody")
    b.send("to b")
    assert [c.recv() for c in (b, both)] == ["to b"] * 2
    # A push goes to all, under each route.
    assert server.push(message="to all")[1]["delivered"] == 5
    assert [c.recv() for c in (a1, a2, b, both, none)] == ["to all"] * 5


def test_rooms_by_the_path(serve):
    server = serve("--channels", "path", "--allow-channels", "r/*", "--route", "channels")
    one, two = server.connect("/r/1"), server.connect("/r%2F1")
    root = server.connect("/")
    one.send("hi")
    assert one.recv() == two.recv() == "hi"
    root.send("nobody")
    for path, status in [("/x", 403), ("/r/%20", 400), ("/r/%ff", 400)]:
        assert server.raw().request(path).response()[0] == status, path
    assert "allow-channels" in server.raw().request("/x").response()[2]


@pytest.mark.parametrize("query,status", [
    ("channel=", 400), ("channel=a%20b", 400), ("channel=secret", 403),
    ("channel=" + "x" * 201, 400), ("&".join(f"channel=r{n}" for n in range(4)), 403),
])
def test_channels_that_a_url_may_not_have(serve, query, status):
    server = serve("--channels", "query", "--allow-channels", "r*,x*", "--max-channels", "3")
    assert server.raw().request("/?" + query).response()[0] == status


def test_frames_begin_with_a_hello(serve):
    server = serve(*ROOMS)
    client, hello = framed(server, "b", "a", "b")
    assert client.subprotocol == "wsgw.v1"
    assert hello == {"hello": 1, "conn": hello["conn"], "channels": ["a", "b"]}
    client.send('{"message":"keys mean nothing"}')
    assert frames(client, 1) == [{"message": '{"message":"keys mean nothing"}', "channel": "a"}]
    client.send(b"\x00\x01")
    assert frames(client, 1) == [{"base64": "AAE=", "channel": "a"}]
    only_b, _ = framed(server, "b")
    client.send("both")
    assert frames(only_b, 1) == [{"message": "both", "channel": "b"}]
    server.push(message="all")
    assert frames(only_b, 1) == [{"message": "all"}]
    server.push(message="you", connections=[hello["conn"]])
    assert frames(client, 3)[2] == {"message": "you"}


def test_presence(serve):
    server = serve(*ROOMS, "--presence", "r*")
    one, first = framed(server, "room")
    plain = bare(server, "room")
    second = frames(one, 1)[0]
    assert second == {"join": "room", "conn": second["conn"], "members": 2}
    two, hello = framed(server, "room", "quiet")
    assert frames(one, 1) == [{"join": "room", "conn": hello["conn"], "members": 3}]
    plain.close()
    assert frames(one, 1) == frames(two, 1) == [
        {"leave": "room", "conn": second["conn"], "members": 2}]
    one.close()
    assert frames(two, 1) == [{"leave": "room", "conn": first["conn"], "members": 1}]


def test_a_client_that_was_away_gets_exactly_what_it_missed(serve):
    server = serve(*ROOMS, "--history", "100")
    client, hello = framed(server, "a", "b")
    other = bare(server, "a")
    elsewhere = bare(server, "c")
    other.send("one")
    assert other.recv() == "one"
    (one,) = frames(client, 1)
    assert one == {"message": "one", "channel": "a", "at": behind(hello["at"], 1)}
    client.close()
    server.await_connections(2)
    for text in ("two", "three"):
        other.send(text)
        assert other.recv() == text
    elsewhere.send("of another channel")
    assert elsewhere.recv() == "of another channel"
    server.push(message="to all")
    back, again = framed(server, "a", "b", since=one["at"])
    assert again["recovered"] is True and again["at"] == one["at"]
    assert frames(back, 3) == [
        {"message": "two", "channel": "a", "at": behind(one["at"], 1)},
        {"message": "three", "channel": "a", "at": behind(one["at"], 2)},
        {"message": "to all", "at": behind(one["at"], 4)}]
    other.send("live")
    assert frames(back, 1) == [{"message": "live", "channel": "a", "at": behind(one["at"], 5)}]
    assert server.metric("wsgw_resumes_total", result="recovered") == 1


def test_private_messages_have_no_position_and_are_not_kept(serve):
    server = serve(*ROOMS, "--history", "100")
    client, hello = framed(server, "a")
    server.push(message="private", connections=[hello["conn"]])
    assert frames(client, 1) == [{"message": "private"}]
    _, later = framed(server, "a")
    assert later["at"] == hello["at"]


def test_what_cannot_be_recovered_is_said(serve):
    server = serve(*ROOMS, "--history", "3")
    client, hello = framed(server, "a")
    for n in range(5):
        client.send(str(n))
    assert bodies(client, 5) == list("01234")
    for since, recovered in [(hello["at"], False), (behind(hello["at"], 1), False),
                             (behind(hello["at"], 2), True), (behind(hello["at"], 5), True),
                             (behind(hello["at"], 6), False), ("aaaaaaaa-3", False)]:
        back, again = framed(server, "a", since=since)
        assert again["recovered"] is recovered, since
        missed = number(hello["at"]) + 5 - number(since) if recovered else 0
        assert again["at"] == (since if recovered else behind(hello["at"], 5))
        assert bodies(back, missed) == [str(n) for n in range(5 - missed, 5)]
    # A client without frames is closed instead of being left in the dark.
    lost = bare(server, "a", since=hello["at"])
    assert lost.await_close()[:2] == (4010, "not recovered")
    found = bare(server, "a", since=behind(hello["at"], 3))
    assert [found.recv() for _ in range(2)] == ["3", "4"]


def test_without_a_history_since_is_ignored_but_a_position_is_not_recovered(serve):
    server = serve(*ROOMS)
    assert "recovered" not in framed(server, "a", since="last")[1]
    assert "recovered" not in framed(server, "a", since="rubbish")[1]
    client, hello = framed(server, "a", since="q7Zk2pYa-1")
    assert hello["recovered"] is False and "at" not in hello
    assert bare(server, "a", since="q7Zk2pYa-1").await_close()[0] == 4010


def test_since(serve):
    server = serve(*ROOMS, "--history", "100")
    sender, hello = framed(server, "a", "b")
    in_a, _ = framed(server, "a")
    for n in range(3):
        sender.send(f"both {n}")
    bodies(sender, 3)
    for n in range(3):
        in_a.send(f"a {n}")
    bodies(sender, 3)
    for since, expected in [
        ("last", ["both 2", "a 2"]), ("2", ["both 1", "both 2", "a 1", "a 2"]), ("0", []),
        ("1h", ["both 0", "both 1", "both 2", "a 0", "a 1", "a 2"]),
    ]:
        client, first = framed(server, "a", "b", since=since)
        assert "recovered" not in first
        assert bodies(client, len(expected)) == expected, since
        before = {"last": 2, "2": 1, "0": 6, "1h": 0}[since]
        assert first["at"] == behind(hello["at"], before), since
    plain = bare(server, "a", "b", since="last")
    assert [plain.recv(), plain.recv()] == ["both 2", "a 2"]
    for since in ("", "-1", "first", "1.5", "q7Zk2pYa-"):
        assert server.raw().request(f"/?channel=a&since={since}").response()[0] == 400, since
    assert server.raw().request("/?since=1&since=2").response()[0] == 400


def test_others_and_except_shape_the_live_delivery_alone(serve):
    server = serve("--route", "others", "--history", "10")
    client, hello = framed(server)
    other, _ = framed(server)
    client.send("mine")
    assert frames(other, 1)[0]["message"] == "mine"
    server.push(message="not for you", **{"except": [hello["conn"]]})
    assert frames(other, 1)[0]["message"] == "not for you"
    client.close()
    back, again = framed(server, since=hello["at"])
    assert again["recovered"] is True
    assert bodies(back, 2) == ["mine", "not for you"]


def test_a_new_serve_has_a_new_epoch_and_a_restart_has_not(serve):
    server = serve(*ROOMS, "--history", "10")
    client, hello = framed(server, "a")
    client.send("kept")
    at = frames(client, 1)[0]["at"]
    assert server.cli("restart", "default").returncode == 0
    back, again = framed(server, "a", since=hello["at"])
    assert again["recovered"] is True
    assert frames(back, 1) == [{"message": "kept", "channel": "a", "at": at}]
    other = serve(*ROOMS, "--history", "10")
    assert framed(other, "a", since=at)[1]["recovered"] is False


def test_clients_that_come_and_go_miss_nothing_and_get_nothing_twice(serve):
    """Several clients reconnect all the time, on all shards, while messages are published fast: each
    gets every number once and in order."""
    server = serve(*ROOMS, "--history", "100000", "--max-queue", "64MiB", "-q")
    publisher = bare(server, "a")
    total = 2000
    problems = []

    def follow(index):
        got, at = [], hello["at"]
        cut = 5 + index * 7
        while len(got) < total:
            client, first = framed(server, "a", since=at)
            if first["recovered"] is not True or first["at"] != at:
                problems.append((index, at, first))
                return
            for _ in range(min(cut, total - len(got))):
                frame = json.loads(client.recv())
                got.append(int(frame["message"]))
                at = frame["at"]
            client.inner.socket.close() if index % 2 else client.close()
        if got != list(range(total)):
            problems.append((index, "wrong order", [n for n, g in enumerate(got) if n != g][:3]))

    _, hello = framed(server, "a")
    threads = [threading.Thread(target=follow, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for n in range(total):
        publisher.send(str(n))
        if n % 100 == 99:
            while int(publisher.recv()) != n:
                pass
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a client waits for something that does not come"
    assert not problems, problems


def test_reload_changes_what_is_kept(serve):
    table = '[gateways.default.history]\nchannels = {{ "a" = {} }}\n'
    base = '[gateways.default]\nport = 0\nchannels = "query"\nallow-channels = ["*"]\nroute = "channels"\n'
    server = serve(config=base + table.format(10))
    client, hello = framed(server, "a", "b")
    client.send("one")
    frames(client, 1)
    server.reload(base + table.format(1))
    client.send("two")
    frames(client, 1)
    assert framed(server, "a", since=hello["at"])[1]["recovered"] is False
    assert framed(server, "a", since=behind(hello["at"], 1))[1]["recovered"] is True
    # "b" is not kept, so it does not count.
    assert framed(server, "b", since=hello["at"])[1]["recovered"] is True
    server.reload(base)
    assert "at" not in framed(server, "a")[1]
    server.reload(base + table.format(10))
    again = framed(server, "a", since=hello["at"])[1]
    assert again["recovered"] is False and again["at"].split("-")[0] != hello["at"].split("-")[0]


def test_a_reload_that_fails_leaves_the_history(serve):
    base = ('[gateways.default]\nport = {}\nlistener = [{}]\n[gateways.default.history]\n'
            'channels = {{ "*" = {} }}\nbroadcast = {}\n')
    server = serve(config=base.format(0, '"cat"', 10, 10))
    client, hello = framed(server)
    for n in range(5):
        client.send(str(n))
    bodies(client, 5)
    server.reload(base.format(free_port(), '"/bin/false"', 1, 1), code=1)
    back, again = framed(server, since=hello["at"])
    assert again["recovered"] is True
    assert bodies(back, 5) == list("01234")


def test_a_replay_as_frames_stays_within_its_bound(serve):
    """A control character takes six bytes as JSON: what fits as a body does not as a frame."""
    server = serve("--history", "100", "--max-queue", "256KiB")
    sender, hello = framed(server)
    for _ in range(10):
        server.push(message="\x01" * 10_000)
    bodies(sender, 10)
    late = server.raw(receive_buffer=4096)
    late.upgrade(f"/?since={hello['at']}", {"Sec-WebSocket-Protocol": "wsgw.v1"})
    assert json.loads(late.read_frame()[2])["recovered"] is False
    assert all(row["queued_bytes"] < 140_000 for row in server.connections())
    # The bodies alone are served.
    plain = bare(server, since=hello["at"])
    assert [len(plain.recv()) for _ in range(10)] == [10_000] * 10


def test_nobody_hears_of_members_before_their_own_entry(serve):
    """Many come and go on all shards: the counts that a member is shown go on from its own."""
    server = serve(*ROOMS, "--presence", "*", "-q")
    problems = []

    def come_and_go():
        for _ in range(15):
            client, hello = framed(server, "r")
            client.inner.ping().wait(PATIENCE)
            count = None
            while True:
                try:
                    frame = json.loads(client.recv(timeout=0.01))
                except TimeoutError:
                    break
                step = 1 if "join" in frame else -1
                if frame.get("join", frame.get("leave")) != "r" or frame["conn"] == hello["conn"]:
                    problems.append(frame)
                if count is not None and frame["members"] != count + step:
                    problems.append((count, frame))
                count = frame["members"]
                if count < 1:
                    problems.append(("nobody is left", frame))
            client.close()

    threads = [threading.Thread(target=come_and_go) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, problems[:3]
