"""The history in a file: positions and messages stand over restarts of `serve`, whatever ended it."""

import json
import os
import resource
import signal
import sqlite3

import pytest
from harness import free_port, wait_until, ws_client

TABLE = """
[gateways.default]
port = {port}
channels = "query"
allow-channels = ["*"]
route = "channels"
[gateways.default.history]
channels = {{ "*" = {limit} }}
broadcast = {limit}
file = "{file}"
"""


@pytest.fixture
def kept(serve, tmp_path):
    """Starts `serve` with a file; the second one has the same file."""
    def start(limit=100, file=None, port=0, **options):
        file = file or tmp_path / "history.db"
        return serve(config=TABLE.format(limit=limit, file=file, port=port), **options)
    return start


def framed(server, *channels, since=None):
    query = "&".join([f"channel={name}" for name in channels] + ([f"since={since}"] if since else []))
    client = ws_client(server.url("/?" + query), subprotocols=["wsgw.v1"])
    return client, json.loads(client.recv())


def frame(client):
    return json.loads(client.recv())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_positions_and_messages_stand(kept, number):
    server = kept()
    client, hello = framed(server, "a", "b")
    client.send("one")
    first = frame(client)
    server.push(message="two")
    second = frame(client)
    server.push(message="three", channel=["b", "c"])
    third = frame(client)
    server.signal(number)
    server.wait()
    server = kept()
    back, again = framed(server, "a", "b", since=first["at"])
    assert (again["recovered"], again["at"]) == (True, first["at"])
    assert [frame(back), frame(back)] == [second, third]
    back.send("four")
    fourth = frame(back)
    epoch, last = third["at"].split("-")
    assert fourth["at"] == f"{epoch}-{int(last) + 1}"
    assert framed(server, "a", since=hello["at"])[1]["recovered"] is True


def test_the_table_can_be_read_while_it_runs(kept, tmp_path):
    server = kept(limit=2)
    client, hello = framed(server, "a")
    server.push(message="to all")
    server.push(message="a and b", channel=["a", "b"])
    server.push(base64="AAEC", channel="a")
    server.push(message="private", connections=[hello["conn"]])
    for _ in range(4):
        frame(client)
    database = sqlite3.connect(f"file:{tmp_path / 'history.db'}?mode=ro", uri=True)

    def rows():
        return database.execute("SELECT seq, channel, at, binary, body FROM messages ORDER BY seq, channel").fetchall()
    found = rows()
    assert [(seq, channel, binary, body) for seq, channel, _, binary, body in found] == [
        (1, None, 0, "to all"), (2, "a", 0, "a and b"), (2, "b", 0, "a and b"), (3, "a", 1, b"\x00\x01\x02")]
    assert all(1_700_000_000_000 < at < 4_000_000_000_000 for _, _, at, _, _ in found)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    # What the limits evict is deleted, with the next messages at the latest.
    for n in range(4):
        server.push(message=f"more {n}", channel="a")
    wait_until(lambda: server.push(message="b", channel="b") and
               [row[0] for row in rows() if row[1] == "a"] == [6, 7], "the evicted rows to go")


def test_what_was_evicted_before_the_restart_is_not_recovered(kept):
    server = kept(limit=2)
    client, hello = framed(server, "a", "quiet")
    for n in range(5):
        client.send(str(n))
        last = frame(client)
    server.signal(signal.SIGKILL)
    server.wait()
    server = kept(limit=2)
    assert framed(server, "a", since=hello["at"])[1]["recovered"] is False
    assert framed(server, "a", since=last["at"])[1]["recovered"] is True


def test_two_serves_cannot_have_one_file(kept, tmp_path):
    kept()
    second = kept(wait=False)
    assert second.wait() == 1
    assert "history.db" in second.err() and "another" in second.err()
    # The first one goes on; a copy under another name is no conflict.
    assert kept(file=tmp_path / "other.db").status()["state"] == "running"


@pytest.mark.parametrize("damage", ["rubbish", "newer", "directory", "nowhere"])
def test_a_file_that_cannot_be_used_is_an_error_at_the_start(kept, tmp_path, damage):
    path = tmp_path / "bad.db"
    if damage == "rubbish":
        path.write_bytes(b"this is not a database" * 1000)
    elif damage == "directory":
        path.mkdir()
    elif damage == "nowhere":
        path = tmp_path / "no" / "such" / "bad.db"
    else:
        server = kept(file=path)
        server.stop()
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version = 99")
        database.close()
    before = path.read_bytes() if path.is_file() else None
    server = kept(file=path, wait=False)
    assert server.wait() == 1
    assert "bad.db" in server.err()
    if before is not None:
        assert path.read_bytes() == before, "it is left as it was"


def test_a_full_disk_costs_positions_and_no_message(kept, tmp_path):
    # A limit on the size of files stands for the disk.
    server = kept(limit=100_000, wrap=("sh", "-c", 'trap "" XFSZ; exec "$@"', "sh"))
    client, hello = framed(server, "a")
    client.send("kept")
    at = frame(client)["at"]
    size = max(os.path.getsize(path) for path in tmp_path.glob("history.db*")) + 20_000
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    answers = []
    for n in range(40):
        client.send(str(n).ljust(4000))
        answers.append(frame(client))
    assert [int(answer["message"]) for answer in answers] == list(range(40)), "all are sent"
    assert any("at" not in answer for answer in answers)
    assert server.metric("wsgw_history_unwritten_total") >= 1
    server.await_log("history's file cannot be written")
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, unlimited)

    def sent():
        client.send("again")
        return frame(client).get("at")
    again = wait_until(sent, "positions again")
    assert again.split("-")[0] != at.split("-")[0]
    assert framed(server, "a", since=at)[1]["recovered"] is False
    assert framed(server, "a", since=again)[1]["recovered"] is True
    # The old epoch does not come back with the next `serve`.
    server.signal(signal.SIGKILL)
    server.wait()
    server = kept(limit=100_000)
    assert framed(server, "a", since=at)[1]["recovered"] is False
    assert framed(server, "a", since=again)[1]["recovered"] is True


def test_a_reload_changes_the_file(kept, tmp_path):
    port = free_port()
    server = kept(port=port)
    client, hello = framed(server, "a")
    client.send("one")
    frame(client)
    other = TABLE.format(limit=10, file=tmp_path / "other.db", port=port)
    server.reload(other)
    client.send("two")
    two = frame(client)
    assert two["at"].split("-")[0] != hello["at"].split("-")[0]
    assert framed(server, "a", since=hello["at"])[1]["recovered"] is False
    # A file that cannot be used changes nothing.
    server.reload(TABLE.format(limit=10, file=tmp_path, port=port), code=1)
    client.send("three")
    assert frame(client)["at"].split("-")[0] == two["at"].split("-")[0]
    # Back to the first: what stands there is there again.
    server.reload(TABLE.format(limit=10, file=tmp_path / "history.db", port=port))
    back, again = framed(server, "a", since=hello["at"])
    assert again["recovered"] is True and frame(back)["message"] == "one"


def test_order_through_the_file(kept):
    """Messages that are kept and messages that are not keep one order, for whoever comes meanwhile
    too."""
    server = kept(limit=10_000)
    client, hello = framed(server, "a")
    for n in range(300):
        target = {"channel": "a"} if n % 2 else {"connections": [hello["conn"]]}
        server.push(message=str(n), **target)
    assert [int(frame(client)["message"]) for _ in range(300)] == list(range(300))


def test_a_reload_of_port_and_file_at_once_goes_through(kept, tmp_path):
    """The old gateway still hands things to the old file's writer while the new one is there."""
    server = kept()
    client, _ = framed(server, "a")
    client.send("one")
    frame(client)
    server.reload(TABLE.format(limit=10, file=tmp_path / "other.db", port=free_port()))
    assert server.status()["state"] == "running"
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_dropped_messages_do_not_count_as_on_their_way(kept, serve, tmp_path):
    """On one CPU there is one shard. Messages that a listener drops must not hold its output up."""
    table = TABLE.format(limit=10, file=tmp_path / "one.db", port=0)
    listener = ["jq", "-c", "--unbuffered", 'if .message == "end" then . else .connections = [] end']
    config = table.replace("channels = \"query\"", f"channels = \"query\"\nlistener = {json.dumps(listener)}", 1)
    server = serve(config=config, wrap=("taskset", "-c", str(min(os.sched_getaffinity(0)))))
    client, _ = framed(server, "a")
    for n in range(3000):
        client.send(str(n))
    client.send("end")
    assert frame(client)["message"] == "end"
