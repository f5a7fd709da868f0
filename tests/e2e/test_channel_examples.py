"""The examples that use channels, with several clients and with what goes wrong."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from harness import ROOT, WSGW, free_port, tool, wait_until

EXAMPLES = ROOT / "examples"


def jq_rooms(serve):
    tool("jq")
    return serve("--route", "channels", "--restart-delay-max", "200ms",
                 listener=["jq", "-c", "--unbuffered", "-f", EXAMPLES / "rooms.jq"])


def join(client, room):
    client.send(f"/join {room}")
    assert client.recv() == f"You are in {room}."


def test_rooms_by_jq(serve):
    listener = (EXAMPLES / "rooms.jq").read_text()
    assert len(listener.splitlines()) == 3
    assert listener in (ROOT / "docs/channels.md").read_text()
    server = jq_rooms(serve)
    ann, bob, eve = (server.connect() for _ in range(3))
    for client in (ann, bob, eve):
        join(client, "garden")
    join(eve, "cellar")
    ann.send("hi")
    assert ann.recv() == bob.recv() == "hi"
    eve.send("alone")
    assert eve.recv() == "alone"
    assert server.push(message="/join all of you")[1]["delivered"] == 3
    for client in (ann, bob, eve):
        assert client.recv() == "/join all of you"
    assert server.metric("wsgw_listener_faults_total") == 0
    # What cannot be a room changes nothing.
    eve.send("/join a b")
    eve.send("still here")
    assert eve.recv() == "still here"


def test_the_rooms_of_jq_outlive_their_listener(serve):
    server = jq_rooms(serve)
    ann, bob = server.connect(), server.connect()
    join(ann, "garden")
    join(bob, "garden")
    old = server.status()["listener_pid"]
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: server.status()["listener_pid"] not in (None, old), "the new listener")
    ann.send("hi")
    assert ann.recv() == bob.recv() == "hi"
    rooms = server.api("GET", "/v1/gateways/default/channels")[1]
    assert rooms == [{"channel": "garden", "members": 2}]


def test_everybody_begins_in_the_lobby(serve):
    server = jq_rooms(serve)
    ann, bob = server.connect(), server.connect()
    # The listener answers an open after the 101.
    wait_until(lambda: server.metric("wsgw_channel_members") == 2, "both in the lobby")
    ann.send("hi")
    assert ann.recv() == bob.recv() == "hi"


def test_the_dashboards_crontab(serve):
    config = (EXAMPLES / "dashboard/wsgw.toml").read_text()
    server = serve(config=re.sub(r"^(\[gateways\.dashboard\])$", r"\1\nport = 0", config, flags=re.M))
    (line,) = [line for line in (EXAMPLES / "dashboard/crontab").read_text().splitlines()
               if line.startswith("*")]
    # As cron runs it: no variables but HOME and PATH, and an empty stdin.
    env = {"HOME": server.env["HOME"], "XDG_STATE_HOME": server.env["XDG_STATE_HOME"],
           "PATH": f"{Path(WSGW).resolve().parent}:/usr/bin:/bin"}
    for _ in range(2):
        done = subprocess.run(["sh", "-c", line.split(None, 5)[5]], env=env, capture_output=True,
                              text=True, stdin=subprocess.DEVNULL)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    client = server.connect("/load", gateway="dashboard")
    assert "load average" in client.recv()
    # It got the newest alone, and what a client says goes nowhere.
    client.send("999")
    assert server.push(gateway="dashboard", message="next", channel="load")[1]["delivered"] == 1
    assert client.recv() == "next"
    assert server.raw("dashboard").request("/secret").response()[0] == 403


@pytest.fixture
def follow(request):
    """Runs examples/follow.sh in a process group of its own."""

    def start(server, path):
        env = {**server.env, "PATH": f"{Path(WSGW).resolve().parent}:{os.environ['PATH']}"}
        child = subprocess.Popen(["bash", EXAMPLES / "follow.sh", server.url(path)], env=env,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                 start_new_session=True)
        request.addfinalizer(lambda: os.killpg(child.pid, signal.SIGKILL) or child.communicate())
        return child

    return start


def test_the_subscriber_in_the_shell_misses_nothing(serve, follow):
    # A restarted gateway must be at the same place.
    server = serve("--port", free_port(), "--channels", "path", "--allow-channels", "news",
                   "--route", "none", "--history", "1000", port=False)
    news = lambda text: server.push(message=text, channel="news")  # noqa: E731
    news("too old")
    news("newest")
    child = follow(server, "/news?since=last")
    line = re.compile(r"\d\d:\d\d:\d\d (.*)\n")
    read = lambda: line.fullmatch(child.stdout.readline())[1]  # noqa: E731
    assert read() == "newest"
    news("live")
    assert read() == "live"
    for n in range(3):
        assert server.cli("restart", "default").returncode == 0
        for m in range(3):
            news(f"missed {n} {m}")
        assert [read() for _ in range(3)] == [f"missed {n} {m}" for m in range(3)]


def test_frames_that_the_guide_shows_are_json(serve):
    shown = re.findall(r"```json\n(.*?)```", (ROOT / "docs/channels.md").read_text(), re.S)
    frames = [json.loads(line) for block in shown for line in block.splitlines()]
    assert {next(iter(frame)) for frame in frames} == {
        "hello", "message", "base64", "joined", "join", "leave"}
    # The keys of real ones, in their order.
    server = serve("--channels", "path", "--allow-channels", "*", "--presence", "*", "--route",
                   "channels", "--history", "9")
    client = server.connect("/room1?since=aaaaaaaa-1", subprotocols=["wsgw.v1"])
    hello = json.loads(client.recv())
    assert list(hello) == list(frames[0])
    client.send("hi")
    client.send(b"\0\1\2")
    # In front of the other's entry, which may be on another shard.
    seen = [json.loads(client.recv()) for _ in range(2)]
    other = server.connect("/room1")
    seen.append(json.loads(client.recv()))
    other.close()
    seen.append(json.loads(client.recv()))
    by_kind = {next(iter(frame)): list(frame) for frame in frames}
    assert [list(frame) for frame in seen] == [
        by_kind[kind] for kind in ("message", "base64", "join", "leave")]


def test_rooms_outlive_serve(serve):
    config = (EXAMPLES / "rooms/wsgw.toml").read_text()
    config = re.sub(r"^(\[gateways\.rooms\])$", r"\1\nport = 0", config, flags=re.M)
    at = None
    for n in range(3):
        # The same directory each time.
        server = serve(config=config, name="rooms")
        path = "/lobby" if at is None else f"/lobby?since={at}"
        client = server.connect(path, gateway="rooms", subprotocols=["wsgw.v1"])
        hello = json.loads(client.recv())
        if at is not None:
            assert (hello["recovered"], hello["at"]) == (True, at)
            assert json.loads(client.recv())["message"] == f"missed {n - 1}"
        client.send(f"seen {n}")
        seen = json.loads(client.recv())
        assert seen["message"] == f"seen {n}"
        at = seen["at"]
        client.close()
        server.push(gateway="rooms", message=f"missed {n}", channel="lobby")
        # The second time it dies.
        server.kill() if n == 1 else server.stop()
