"""Channels and history on the control port and in the commands, with a real gateway."""

import json

import pytest

from harness import wait_until

ROOMS = ("--channels", "query", "--allow-channels", "*")


def channels(server, query=""):
    status, found = server.api("GET", f"/v1/gateways/default/channels{query}")
    assert status == 200, found
    return [(row["channel"], row["members"]) for row in found]


def await_channels(server, *want):
    wait_until(lambda: channels(server) == list(want), lambda: channels(server))


def names(server, query=""):
    status, found = server.api("GET", f"/v1/gateways/default/connections{query}")
    assert status == 200, found
    return [row["conn"] for row in found]


@pytest.fixture
def rooms(serve):
    """Three connections in the order of their names: in a, in a and b/c, in none."""
    server = serve(*ROOMS, "--history", "100")
    links = []
    for count, path in enumerate(("/?channel=a", "/?channel=b%2Fc&channel=a", "/"), 1):
        links.append(server.connect(path))
        server.await_connections(count)
    await_channels(server, ("a", 2), ("b/c", 1))
    return server, links


def test_channels_are_listed_by_name_and_in_pages(rooms):
    server, (_, second, _) = rooms
    assert channels(server, "?limit=1") == [("a", 2)]
    assert channels(server, "?limit=1&after=a") == [("b/c", 1)]
    assert channels(server, "?after=b") == [("b/c", 1)], "a name that is no channel"
    assert channels(server, "?prefix=b") == [("b/c", 1)]
    assert channels(server, "?after=b%2Fc") == []
    second.close()
    await_channels(server, ("a", 1))


def test_a_channel_shows_its_members_in_pages(rooms):
    server, (_, second, _) = rooms
    first_name, second_name, _ = names(server)
    path = "/v1/gateways/default/channels"
    found = server.api("GET", f"{path}/a")[1]
    assert (found["channel"], found["count"]) == ("a", 2)
    assert found["members"] == [first_name, second_name]
    found = server.api("GET", f"{path}/a?limit=1&after={first_name}")[1]
    assert (found["count"], found["members"]) == (2, [second_name])
    for name in ("b%2Fc", "b/c"):
        assert server.api("GET", f"{path}/{name}")[1]["members"] == [second_name]
    status, error = server.api("GET", f"{path}/nobody")
    assert (status, error["error"]["code"]) == (404, "unknown_channel")
    second.close()
    server.await_connections(2)
    found = server.api("GET", f"{path}/a?after={second_name}")[1]
    assert (found["count"], found["members"]) == (1, []), "behind a member that has gone"


def test_connections_are_listed_in_pages_and_by_channel(rooms):
    server, (first, _, _) = rooms
    all_names = names(server)
    assert names(server, "?limit=2") == all_names[:2]
    assert names(server, f"?limit=2&after={all_names[1]}") == all_names[2:]
    assert names(server, "?channel=a") == all_names[:2]
    assert names(server, f"?channel=a&after={all_names[0]}&limit=5") == all_names[1:2]
    assert names(server, "?channel=nobody") == []
    assert [row["channels"] for row in server.connections()] == [["a"], ["a", "b/c"], []]
    first.close()
    server.await_connections(2)
    assert names(server, f"?after={all_names[0]}") == all_names[1:], "it has gone meanwhile"


@pytest.mark.parametrize("path", ["channels", "channels/a", "history"])
def test_they_need_the_token_and_are_not_for_web_pages(serve, path):
    server = serve(*ROOMS, "--history", "1")
    path = f"/v1/gateways/default/{path}"
    assert server.http("GET", path, token=False)[0] == 401
    assert server.http("GET", path, headers={"Origin": "http://localhost"})[0] == 403
    assert server.http("POST", path, body="{}")[0] == 405


def test_history_is_read_as_frames(rooms):
    server, _ = rooms
    for struct in ({"message": "to a", "channel": "a"}, {"message": "to all"},
                   {"base64": "AP8=", "channel": ["x", "b/c"]}):
        assert server.push(struct)[0] == 200

    def read(query=""):
        status, _, text = server.http("GET", f"/v1/gateways/default/history{query}")
        return status, [json.loads(line) for line in text.splitlines()]

    status, frames = read()
    assert status == 200
    at = [frame.pop("at") for frame in frames]
    assert frames == [{"message": "to a", "channel": "a"}, {"message": "to all"},
                      {"base64": "AP8=", "channel": "x"}]
    assert len(set(at)) == 3
    (frame,) = read("?channel=b%2Fc")[1]
    assert (frame["channel"], frame["at"]) == ("b/c", at[2])
    assert [f["at"] for f in read("?limit=2")[1]] == at[1:], "the newest"
    assert [f["at"] for f in read(f"?limit=1&since={at[0]}")[1]] == at[1:2], "the oldest after it"
    assert read(f"?since={at[2]}") == (200, [])
    for position in (at[0][:-1] + "99", "aaaaaaaa-1"):
        status, (error,) = read(f"?since={position}")
        assert (status, error["error"]["code"]) == (410, "gone")

    found = server.api("GET", "/v1/gateways/default/channels/a")[1]["history"]
    assert (found["messages"], found["at"]) == (1, at[0])
    assert found["bytes"] > 0 and found["oldest_at"].endswith("Z")
    # It has history alone, and is listed too.
    found = server.api("GET", "/v1/gateways/default/channels/x")[1]
    assert (found["count"], found["members"], found["history"]["messages"]) == (0, [], 1)
    assert ("x", 0) in channels(server)


def test_what_was_evicted_is_gone(serve):
    server = serve(*ROOMS, "--history", "2")
    for number in range(4):
        server.push(message=str(number))
    path = "/v1/gateways/default/history"
    frames = [json.loads(line) for line in server.http("GET", path)[2].splitlines()]
    assert [frame["message"] for frame in frames] == ["2", "3"]
    epoch, number = frames[0]["at"].split("-")
    assert server.http("GET", f"{path}?since={epoch}-{int(number) - 1}")[0] == 200
    assert server.http("GET", f"{path}?since={epoch}-{int(number) - 2}")[0] == 410
    done = server.cli("history", "--since", f"{epoch}-{int(number) - 2}")
    assert (done.returncode, done.stdout) == (1, "")


def test_a_long_history_is_printed_whole(serve):
    server = serve("--history", "100")
    bodies = [f"{number} " + "x" * 100_000 for number in range(40)]
    done = server.cli("send", "--lines", input="\n".join(bodies))
    assert done.returncode == 0, done
    assert server.cli("history").stdout.splitlines() == bodies


def test_all_channels_are_listed_however_many(serve):
    """More than one page of them."""
    server = serve(*ROOMS, "--max-channels", "11000")
    wanted = [f"room.{number:05}" for number in range(10_500)]
    for start in range(0, len(wanted), 1_000):
        query = "&".join(f"channel={name}" for name in wanted[start:start + 1_000])
        server.connect(f"/?{query}")
    wait_until(lambda: len(channels(server, "?limit=20000")) == len(wanted), "the channels")
    found = json.loads(server.cli("channels", "default", "--json").stdout)
    assert [row["channel"] for row in found] == wanted
    assert len(server.cli("channels").stdout.splitlines()) == len(wanted) + 1


def test_a_gateway_without_a_history(serve):
    server = serve(*ROOMS)
    server.connect("/?channel=a")
    await_channels(server, ("a", 1))
    assert "history" not in server.api("GET", "/v1/gateways/default/channels/a")[1]
    status, error = server.api("GET", "/v1/gateways/default/history")
    assert (status, error["error"]["code"]) == (404, "no_history")
    done = server.cli("history")
    assert (done.returncode, done.stdout) == (1, ""), done
    assert "history" in done.stderr


def test_a_history_can_be_read_while_its_gateway_is_stopped(rooms):
    server, _ = rooms
    server.push(message="kept", channel="a")
    assert server.cli("stop", "default").returncode == 0
    assert server.cli("history").stdout == "kept\n"
    assert channels(server) == [("a", 0)]
    found = server.api("GET", "/v1/gateways/default/channels/a")[1]
    assert (found["count"], found["history"]["messages"]) == (0, 1)


def test_the_commands(rooms):
    server, (first, second, third) = rooms
    done = server.cli("send", "--channel", "b/c", "--channel", "a", "two\nlines\\")
    assert (done.returncode, done.stdout) == (0, "delivered 2\n"), "each member once"
    done = server.cli("send", "--no-hook", "--channel", "b/c", "--lines", input="x\ny\n")
    assert (done.returncode, done.stdout) == (0, "delivered 2\n")
    assert [second.recv() for _ in range(3)] == ["two\nlines\\", "x", "y"]
    assert first.recv() == "two\nlines\\"
    done = server.cli("send", "--channel", "nobody", "x")
    assert (done.returncode, done.stdout) == (0, "delivered 0\n")
    assert server.cli("send", "--channel", "nobody", "--require-one", "x").returncode == 4
    assert server.cli("send", "--channel", "a", "--to", "k1", "x").returncode == 2

    (_, joined) = server.cli("connections").stdout.splitlines()[1:3]
    assert joined.endswith("a b/c")
    rows = [line.split() for line in server.cli("channels").stdout.splitlines()]
    assert rows[1:] == [["default", "a", "2"], ["default", "b/c", "1"], ["default", "nobody", "0"]]
    found = json.loads(server.cli("channels", "default", "b/c", "--json").stdout)
    assert (found["count"], found["history"]["messages"]) == (1, 3)
    assert server.cli("channels", "default", "nobody2").returncode == 4
    done = server.cli("channels", "a")
    assert done.returncode == 4 and "known: default" in done.stderr

    assert server.cli("history", "--channel", "b/c").stdout == "two\\nlines\\\\\nx\ny\n"
    done = server.cli("history", "--channel", "a", "--channel", "nobody", "--limit", "2")
    assert done.stdout == "x\nx\n", "the newest"
    frames = server.cli("history", "default", "--json", "--limit", "1").stdout
    assert json.loads(frames)["message"] == "x"
    done = server.cli("connections", "--channel", "b/c", "--json")
    assert [row["conn"] for row in json.loads(done.stdout)] == names(server)[1:2]
    third.close()


def test_a_channel_that_has_messages_and_no_members_is_listed(serve):
    server = serve("--channels", "query", "--allow-channels", "*", "--history", "10")
    client = server.connect("/?channel=m")
    server.push(message="x", channel=["kept", "m"])
    assert client.recv() == "x"
    answer = server.api("GET", "/v1/gateways/default/channels")[1]
    assert answer == [{"channel": "kept", "members": 0}, {"channel": "m", "members": 1}]
    page = server.api("GET", "/v1/gateways/default/channels?limit=1&after=kept")[1]
    assert page == [{"channel": "m", "members": 1}]
