"""Channels by the listener: answers, commands, hooks, and what its events say of them."""

import json
import sys
import threading
import urllib.parse

import pytest
from harness import wait_until, ws_client

# Says what the clients tell it to say: a message is a list of lines, in which ID and CONN stand for
# the event's; an open or a handshake is answered with what the query holds. Records all it is told.
LISTENER = """
import json, sys, urllib.parse
record = open(sys.argv[1], "a", buffering=1)
for line in sys.stdin:
    record.write(line)
    event = json.loads(line)
    kind = event["event"]
    say = []
    if kind in ("onClientOpen", "onHandshake"):
        query = urllib.parse.parse_qs(event["query"])
        say = json.loads(query.get(kind, ["[{\\"id\\":\\"ID\\"}]"])[0])
    elif kind == "onMessage" and event["conn"] and event["message"].startswith("["):
        say = json.loads(event["message"])
    elif kind == "onMessage":
        say = [event]
    if event.get("message") == '["exit"]':
        sys.exit(1)
    for one in say:
        text = json.dumps(one).replace('"ID"', str(event["id"])).replace("CONN", str(event["conn"]))
        print(text, flush=True)
"""

HOOKS = "onClientOpen,onClientClose,onMessage,onJoin,onLeave"


@pytest.fixture
def rooms(serve, tmp_path):
    def start(*flags, hooks=HOOKS):
        record = tmp_path / "record"
        record.touch()
        listener = [sys.executable, "-u", "-c", LISTENER, record]
        server = serve("--hooks", hooks, *flags, listener=listener)
        server.told = lambda: [json.loads(line) for line in record.read_text().splitlines()]
        return server
    return start


def told(server, kind, count=1):
    """The events of a kind, once there are so many."""
    def look():
        events = [event for event in server.told() if event["event"] == kind]
        return events if len(events) >= count else None
    return wait_until(look, f"{count} {kind}")


def client(server, frames=False, **query):
    text = urllib.parse.urlencode({k: v if isinstance(v, str) else json.dumps(v) for k, v in query.items()})
    one = ws_client(server.url("/?" + text), subprotocols=["wsgw.v1"] if frames else None)
    if frames:
        one.hello = json.loads(one.recv())
    return one


def say(one, *lines):
    one.send(json.dumps(lines))


def joined(server, *names, **options):
    """A client that is in these channels, by the answer to its open."""
    before = len([e for e in server.told() if e["event"] == "onJoin"])
    one = client(server, onClientOpen=[{"id": "ID", "join": list(names)}], **options)
    told(server, "onJoin", before + len(names))
    return one


def name_of(one):
    say(one, {"id": "ID", "message": "CONN", "connections": ["CONN"]})
    return one.recv()


def test_answers_leave_join_and_deliver_in_this_order(rooms):
    server = rooms()
    a, b = joined(server, "a"), joined(server, "b")
    mover = joined(server, "a")
    say(mover, {"id": "ID", "leave": "a", "join": ["b", "c"], "channel": "a", "message": "left"})
    assert a.recv() == "left"
    say(mover, {"id": "ID", "channel": ["c", "b", "c"], "message": "once"})
    assert (mover.recv(), b.recv()) == ("once", "once")
    say(mover, {"id": "ID", "join": "b", "leave": "x", "channel": "b", "message": "no change"})
    assert (mover.recv(), b.recv()) == ("no change", "no change")
    say(a, {"id": "ID", "channel": ["a", "b"], "except": [name_of(b)], "message": "but one"})
    assert (a.recv(), mover.recv()) == ("but one", "but one")
    say(a, {"id": "ID", "channel": [], "message": "nobody"}, {"command": "send", "message": "end"})
    assert [c.recv() for c in (a, b, mover)] == ["end"] * 3
    joins = [(e["channel"], e["members"]) for e in told(server, "onJoin", 5)]
    assert joins == [("a", 1), ("b", 1), ("a", 2), ("b", 2), ("c", 1)]
    (left,) = told(server, "onLeave")
    assert (left["channel"], left["members"], left["reason"]) == ("a", 1, "left")


def test_events_carry_the_channels(rooms):
    server = rooms()
    one = joined(server, "b", "a")
    one.send("hi")
    assert told(server, "onMessage")[0]["channels"] == ["a", "b"]
    say(one, {"id": "ID", "leave": ["a", "b"], "connections": []})
    told(server, "onLeave", 2)
    one.send("again")
    assert "channels" not in told(server, "onMessage", 3)[2]
    say(one, {"id": "ID", "join": "z", "connections": []})
    told(server, "onJoin", 3)
    one.close()
    assert told(server, "onClientClose")[0]["channels"] == ["z"]
    events = [(e["event"], e.get("reason")) for e in server.told()]
    assert events[-2:] == [("onLeave", "closed"), ("onClientClose", "")]


def test_a_restarted_listener_is_told_of_channels_and_not_of_joins_again(rooms):
    server = rooms()
    one = joined(server, "b", "a")
    one.send('["exit"]')
    opens = told(server, "onClientOpen", 2)
    assert opens[1]["resumed"] is True and opens[1]["channels"] == ["a", "b"]
    # It is sent the message that ended it once more, and ends again; then it is told once more.
    say(one, {"command": "send", "channel": "a", "message": "still in"})
    assert one.recv() == "still in"
    assert len(told(server, "onJoin", 2)) == 2


FAULTS = [
    {"channel": "a", "connections": []}, {"channel": None}, {"channel": 7}, {"channel": {}},
    {"channel": [None]}, {"channel": "a b"}, {"channel": ""}, {"channel": ["a", "*"]},
    {"join": None}, {"join": 7}, {"join": "a b"}, {"join": ["ok", ""]}, {"leave": None},
    {"leave": {}}, {"join": "ok", "since": "rubbish"}, {"join": "ok", "channel": None},
    {"join": [f"c{n}" for n in range(65)]},
]


@pytest.mark.parametrize("keys", FAULTS, ids=json.dumps)
def test_a_faulty_answer_goes_to_nobody_and_nobody_joins(rooms, keys):
    server = rooms()
    one = joined(server, "a")
    say(one, {"id": "ID", "message": "at fault", **keys}, {"command": "send", "message": "end"})
    assert one.recv() == "end"
    assert server.metric("wsgw_listener_faults_total", kind="answer") == 1
    assert server.connections()[0]["channels"] == ["a"]


def test_a_push_cannot_join(rooms):
    server = rooms()
    assert server.push(message="x", join="a")[0] == 400
    one = joined(server, "a")
    assert server.push(message="x", channel="a")[1]["delivered"] == 1
    assert one.recv() == "x"


@pytest.mark.parametrize("struct,status", [
    ({"channel": "a"}, 200), ({"channel": ["a", "b"]}, 200), ({"channel": []}, 200),
    ({"channel": "a b"}, 400), ({"channel": None}, 400), ({"channel": 7}, 400),
    ({"channel": "a", "connections": []}, 400),
])
@pytest.mark.parametrize("query", ["", "?hook=none"])
def test_pushes_to_channels(rooms, struct, status, query):
    server = rooms()
    ones = [joined(server, "a"), joined(server, "b")]
    answer = server.push({"message": "hi", **struct}, query=query)
    assert answer[0] == status
    if status == 200:
        names = [struct["channel"]] if isinstance(struct["channel"], str) else struct["channel"]
        assert answer[1]["matched"] == len(names)
        assert [one.recv() for one in ones[:len(names)]] == ["hi"] * len(names)


def test_an_answer_replaces_the_target_of_either_kind(rooms):
    server = rooms()
    a, b = joined(server, "a"), joined(server, "b")
    name = name_of(b)
    # The listener answers a push with the same object, so its target stays.
    assert server.push(message="kept", channel="a")[1]["matched"] == 1
    assert a.recv() == "kept"
    assert server.push(message="kept", connections=[name])[1]["matched"] == 1
    assert b.recv() == "kept"


def test_commands(rooms):
    server = rooms()
    one = client(server)
    name = name_of(one)

    def result(**command):
        count = len([e for e in server.told() if e["event"] == "onResult"])
        say(one, {"id": "ID", "connections": []}, {"ref": count, **command})
        found = told(server, "onResult", count + 1)[count]
        assert found.pop("ref") == count
        del found["event"]
        return found

    assert result(command="join", conn=name, channel=["b", "a"]) == {"joined": ["b", "a"]}
    assert result(command="join", conn=name, channel="a") == {"joined": ["a"]}
    assert result(command="members", channel="a") == {"channel": "a", "count": 1, "members": [name]}
    assert result(command="leave", conn=name, channel="a") == {"left": ["a"]}
    assert result(command="members", channel="a") == {"channel": "a", "count": 0, "members": []}
    assert result(command="join", conn="k999", channel="a") == {"gone": ["k999"]}
    assert result(command="send", channel="b", message="x")["matched"] == 1
    assert one.recv() == "x"
    assert result(command="send", channel="nobody", message="x")["matched"] == 0
    for bad in ({"channel": "a b", "conn": name}, {"conn": name}, {"channel": "a"},
                {"channel": [f"c{n}" for n in range(65)], "conn": name}):
        assert "error" in result(command="join", **bad), bad
    others = sorted((name_of(joined(server, "b")) for _ in range(3)), key=lambda n: int(n[1:]))
    everybody = [name, *others]
    page = result(command="members", channel="b", limit=2, after=everybody[0])
    assert page == {"channel": "b", "count": 4, "members": everybody[1:3]}


def test_handshakes_choose_the_first_channels(rooms):
    server = rooms("--channels", "query", hooks="onHandshake," + HOOKS)
    asked = client(server, channel="url")
    assert told(server, "onHandshake")[0]["join"] == ["url"]
    assert told(server, "onClientOpen")[0]["channels"] == ["url"]
    other = client(server, channel="url", onHandshake=[{"id": "ID", "join": ["b", "a", "b"]},
                                                       {"command": "send", "channel": "a", "message": "first"}])
    # A member before its first byte is sent.
    assert other.recv() == "first"
    assert told(server, "onClientOpen", 2)[1]["channels"] == ["a", "b"]
    client(server, channel="url", onHandshake=[{"id": "ID", "join": []}])
    assert "channels" not in told(server, "onClientOpen", 3)[2]
    for join in (None, 7, "a b", [f"c{n}" for n in range(65)]):
        path = "/?" + urllib.parse.urlencode({"onHandshake": json.dumps([{"id": "ID", "join": join}])})
        assert server.raw().request(path).response()[0] == 500, join
    asked.send("x")


def test_the_hello_is_first_even_if_the_listener_speaks_at_once(rooms):
    server = rooms(hooks="onHandshake," + HOOKS)
    one = client(server, frames=True, onHandshake=[
        {"id": "ID", "join": "a", "protocol": "wsgw.v1"},
        {"command": "send", "connections": ["CONN"], "message": "hi"}])
    assert one.hello["hello"] == 1 and one.hello["channels"] == ["a"]
    assert json.loads(one.recv()) == {"message": "hi"}


def test_only_the_first_answer_to_an_open_counts(rooms):
    server = rooms()
    client(server, onClientOpen=[{"id": "ID", "join": "a", "message": "not sent"}, {"id": "ID", "join": "b"}])
    told(server, "onJoin")
    server.await_metric("wsgw_listener_late_answers_total", 1)
    assert server.connections()[0]["channels"] == ["a"]


def test_route_channels_through_a_listener(rooms):
    server = rooms("--route", "channels")
    a, ab, none = joined(server, "a"), joined(server, "a", "b"), client(server)
    ab.send("both")
    assert (a.recv(), ab.recv()) == ("both", "both")
    none.send("nobody")
    say(a, {"id": "ID", "leave": "a", "join": "b", "message": "moved"})
    assert (a.recv(), ab.recv()) == ("moved", "moved")


def test_clients_with_frames_hear_of_later_joins(rooms):
    server = rooms("--history", "10")
    one = client(server, frames=True)
    other = joined(server, "a", "b")
    for n in range(3):
        say(other, {"id": "ID", "channel": "a", "message": f"a{n}"})
        other.recv()
    say(other, {"id": "ID", "channel": ["b", "a"], "message": "both"})
    other.recv()
    start = one.hello["at"].split("-")
    at = f"{start[0]}-{int(start[1]) + 4}"
    say(one, {"id": "ID", "join": "b", "since": "last", "connections": []})
    assert json.loads(one.recv()) == {"joined": ["b"], "at": at, "recovered": True}
    assert json.loads(one.recv()) == {"message": "both", "channel": "b"}
    # What it got already is left out, and positions never run backwards.
    say(one, {"id": "ID", "join": "a", "since": 10, "connections": []})
    assert json.loads(one.recv()) == {"joined": ["a"], "at": at, "recovered": True}
    assert [json.loads(one.recv()) for _ in range(3)] == [
        {"message": f"a{n}", "channel": "a"} for n in range(3)]
    say(one, {"id": "ID", "join": "c", "connections": []})
    assert json.loads(one.recv()) == {"joined": ["c"], "at": at}
    say(one, {"id": "ID", "leave": "a", "connections": []})
    told(server, "onLeave")
    say(other, {"id": "ID", "channel": "a", "message": "missed"})
    other.recv()
    say(one, {"id": "ID", "join": "a", "since": 10, "connections": []})
    assert json.loads(one.recv())["joined"] == ["a"]
    assert json.loads(one.recv()) == {"message": "missed", "channel": "a"}


def test_a_producer_moves_connections_too(serve):
    """Under --hooks none the listener is told of nobody, but may know names from the control port."""
    script = ("import sys, time\n"
              "for line in open(sys.argv[1]): print(line, end='', flush=True)\n"
              "time.sleep(3600)")
    import os
    import tempfile
    fifo = os.path.join(tempfile.mkdtemp(), "fifo")
    os.mkfifo(fifo)
    server = serve("--hooks", "none", listener=[sys.executable, "-u", "-c", script, fifo])
    with open(fifo, "w", buffering=1) as feed:
        one = server.connect()
        name = server.await_connections(1)[0]["conn"]
        feed.write(json.dumps({"command": "join", "conn": name, "channel": ["a", "b"]}) + "\n")
        feed.write(json.dumps({"command": "send", "channel": "a", "message": "in"}) + "\n")
        assert one.recv() == "in"
        feed.write(json.dumps({"command": "join", "conn": name, "channel": [f"c{n}" for n in range(63)]}) + "\n")
        feed.write(json.dumps({"command": "leave", "conn": name, "channel": "a"}) + "\n")
        feed.write(json.dumps({"command": "send", "channel": ["a", "c0"], "message": "nobody"}) + "\n")
        feed.write(json.dumps({"command": "send", "channel": "b", "message": "end"}) + "\n")
        assert one.recv() == "end"
        assert server.connections()[0]["channels"] == ["b"]


def test_joins_and_leaves_are_told_in_the_order_of_their_counts(rooms):
    """Members on all shards: each count is one from the one before."""
    server = rooms("--channels", "query", "--allow-channels", "*", hooks="onJoin,onLeave")

    def come_and_go():
        for _ in range(15):
            ws_client(server.url("/?channel=r")).close()
    threads = [threading.Thread(target=come_and_go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: len(server.told()) == 240, "all joins and leaves")
    count = 0
    for event in server.told():
        count += 1 if event["event"] == "onJoin" else -1
        assert event["members"] == count
