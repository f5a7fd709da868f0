"""The live tail: events as the listener gets them, with what it answered."""

import json
import re
import socket
import threading
import time

import pytest

from harness import PATIENCE, Events


class Tail(Events):
    """An open tail of a gateway."""

    def next(self):
        """The next entry, or the next count of those that were skipped."""
        event = self.event()
        assert event is not None and event.name == "tail", event
        return event.data

    def find(self, check):
        """The first entry that fits."""
        while not check(entry := self.next()):
            pass
        return entry


def tail(server, gateway="default", headers=None):
    """An open tail that events are shown in from now on."""
    headers = headers or {"Authorization": f"Bearer {server.token}"}
    found = Tail(server.control_port, f"/v1/gateways/{gateway}/tail", headers)
    server.links.append(found)
    assert found.status == 200, found.text
    assert found.headers["content-type"] == "text/event-stream"
    assert found.headers["cache-control"] == "no-store"
    return found


TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def test_events_are_paired_with_their_answers(scripted):
    server = scripted("--hooks", "onHandshake,onClientOpen,onMessage,onClientClose")
    watch = tail(server)
    client = server.connect("/room?x=1")

    handshake = watch.next()
    assert handshake["event"] == "onHandshake" and handshake["outcome"] == "answered"
    assert handshake["conn"] == "k1" and '"query":"x=1"' in handshake["line"]
    opened = watch.next()
    assert (opened["event"], opened["outcome"], opened["conn"]) == ("onClientOpen", "told", "k1")
    assert opened["answer"] is None and opened["ms"] is None
    echoed = watch.next()
    # The fake listener echoes whatever it is told.
    assert (echoed["event"], echoed["outcome"], echoed["id"]) == (
        "onClientOpen", "answered", opened["id"])
    assert echoed["answer"] == echoed["line"] == opened["line"]

    client.send("hällo")
    said = watch.next()
    assert (said["event"], said["outcome"], said["conn"]) == ("onMessage", "answered", "k1")
    assert json.loads(said["line"]) == {
        "id": said["id"], "event": "onMessage", "conn": "k1", "message": "hällo"}
    assert said["answer"] == said["line"] and "\n" not in said["line"]
    assert re.fullmatch(TIME, said["at"]) and 0 <= said["ms"] < 10_000
    assert "why" not in said

    server.push(message="pushed")
    pushed = watch.next()
    assert (pushed["event"], pushed["conn"], pushed["outcome"]) == ("onMessage", None, "answered")
    assert '"message":"pushed"' in pushed["line"]

    client.close()
    closed = watch.next()
    assert (closed["event"], closed["outcome"]) == ("onClientClose", "told")
    # A push without the hook is no event.
    server.push(message="unasked", query="?hook=none")
    server.push(message="asked")
    assert '"message":"asked"' in watch.find(lambda e: e["event"] == "onMessage")["line"]


def test_what_goes_wrong_is_shown(scripted):
    server = scripted("--hooks", "onMessage", "--listener-timeout", "0.3")
    watch = tail(server)
    client = server.connect()

    client.send('!raw ["Traceback: no", "{\\"id\\":$ID}"]')
    stray = watch.next()
    assert (stray["event"], stray["outcome"], stray["answer"]) == ("line", "fault", "Traceback: no")
    assert stray["why"] and stray["id"] is None and stray["line"] == ""
    assert watch.next()["outcome"] == "answered"

    client.send('!answer {"connections": 7}')
    bad = watch.next()
    assert (bad["event"], bad["outcome"], bad["conn"]) == ("onMessage", "fault", "k1")
    assert '"connections": 7' in bad["answer"] and "connections" in bad["why"] and bad["ms"] is not None

    client.send('!raw ["{\\"id\\":4000000}", "{\\"id\\":$ID}"]')
    unknown = watch.next()
    assert (unknown["event"], unknown["outcome"]) == ("answer", "fault")
    assert watch.next()["outcome"] == "answered"

    client.send('!raw ["{\\"command\\":\\"send\\",\\"message\\":\\"a\\"}", "{\\"id\\":$ID}"]')
    command = watch.next()
    assert (command["event"], command["outcome"]) == ("command", "command")
    assert command["answer"] == '{"command":"send","message":"a"}' and command["ms"] is None
    assert watch.next()["outcome"] == "answered"

    client.send('!raw ["{\\"command\\":\\"sing\\"}", "{\\"id\\":$ID}"]')
    command = watch.next()
    assert (command["event"], command["outcome"]) == ("command", "fault")
    assert watch.next()["outcome"] == "answered"

    client.send("!delay 0.6")
    late = watch.next()
    assert (late["outcome"], late["answer"], late["ms"]) == ("timeout", None, None)
    answer = watch.next()
    assert (answer["outcome"], answer["id"], answer["line"]) == ("late", late["id"], late["line"])
    assert answer["ms"] > 300 and answer["answer"] == answer["line"]


def test_the_tail_goes_on_over_restarts(scripted):
    server = scripted("--hooks", "onHandshake,onMessage")
    watch = tail(server)
    client = server.connect()
    assert watch.next()["event"] == "onHandshake"
    client.send("!exit 3")
    # The message is sent to the next process again, three times in all.
    lost = watch.next()
    assert (lost["outcome"], lost["answer"]) == ("lost", None)
    assert '"redelivered":true' in lost["line"]
    client.send("on")
    assert watch.next()["outcome"] == "answered"
    # The gateway stops and starts, and is another one for its shards.
    assert server.cli("restart", "default").returncode == 0
    server.connect()
    assert watch.next()["event"] == "onHandshake"


def test_plain_lines_are_shown(serve):
    server = serve("--plain", listener=["cat"])
    watch = tail(server)
    client = server.connect()
    client.send("hi")
    sent, came = watch.next(), watch.next()
    assert (sent["event"], sent["outcome"], sent["conn"], sent["line"]) == (
        "line", "told", "k1", "hi")
    assert (came["event"], came["outcome"], came["answer"]) == ("line", "command", "hi")


def test_long_lines_are_cut_and_odd_bytes_do_no_harm(scripted):
    server = scripted("--hooks", "onMessage")
    watch = tail(server)
    client = server.connect()
    client.send("ä" * 100_000)
    entry = watch.next()
    for line in (entry["line"], entry["answer"]):
        assert line.endswith(" … (cut at 2 KiB)") and len(line.encode()) < 2100
    client.send("!hex 1b5b324aff0a")
    odd = watch.next()
    assert (odd["outcome"], odd["answer"]) == ("fault", "\x1b[2J\ufffd")


def test_at_most_fifty_a_second_are_shown_and_the_others_counted(scripted):
    server = scripted("--hooks", "onMessage")
    watch = tail(server)
    client = server.connect()
    # The fake listener answers them all; nobody waits for the tail.
    total, start = 2000, time.monotonic()
    for n in range(total):
        client.send(str(n))
    client.recv_many(total)
    seconds = time.monotonic() - start
    shown, skipped = 0, 0
    while shown + skipped < total:
        entry = watch.next()
        if "skipped" in entry:
            assert list(entry) == ["skipped"] and entry["skipped"] > 0
            skipped += entry["skipped"]
        else:
            assert entry["outcome"] == "answered"
            shown += 1
    assert shown + skipped == total
    assert 50 <= shown <= 50 * (seconds + 2) and shown < total


def test_two_look_and_one_goes(scripted):
    server = scripted("--hooks", "onMessage")
    one, two = tail(server), tail(server)
    client = server.connect()
    client.send("a")
    assert one.next()["outcome"] == two.next()["outcome"] == "answered"
    one.close()
    server.await_log(r"a live tail of events ends after")
    client.send("b")
    assert '"message":"b"' in two.next()["line"]


def test_a_reader_that_takes_nothing_holds_nobody_up(scripted):
    server = scripted("--hooks", "onMessage")
    lazy = tail(server)
    client = server.connect()
    text = "x" * 2000
    for _ in range(40):
        for _ in range(100):
            client.send(text)
        client.recv_many(100)
    # Everything else goes on.
    assert server.status()["messages_in"] == 4000
    lazy.close()


def test_who_looked_is_in_the_log(scripted):
    server = scripted("--hooks", "onMessage")
    url = server.api("POST", "/v1/open")[1]["url"]
    status, headers, _ = server.http("GET", url[url.index("/?"):], token=False)
    cookie = headers["set-cookie"].split(";")[0]
    by_token = tail(server)
    server.await_log(r"a live tail of events begins who=token")
    by_session = tail(server, headers={"Cookie": cookie})
    server.await_log(r"a live tail of events begins who=session 1")
    client = server.connect()
    client.send("a")
    by_token.next(), by_session.next()
    by_session.close()
    server.await_log(r"a live tail of events ends after \d+ s who=session 1 "
                     r"shown=1 skipped=0")
    by_token.close()
    server.await_log(r"a live tail of events ends after \d+ s who=token")
    # What clients said is not.
    assert '"message":"a"' not in server.log()


def test_who_may_open_the_unix_socket_may_look(serve, tmp_path):
    path = tmp_path / "control.sock"
    server = serve("--control", f"unix:{path}", control=False, wait=False, listener=["cat"])
    server.await_out(r"control listening on")
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(PATIENCE)
        link.connect(str(path))
        link.sendall(b"GET /v1/gateways/default/tail HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert link.recv(65536).startswith(b"HTTP/1.1 200")
        server.await_log(r"a live tail of events begins who=socket")
    server.await_log(r"a live tail of events ends after \d+ s who=socket")


@pytest.mark.parametrize(("gateway", "status", "code"),
                         [("nope", 404, "unknown_gateway"), ("bare", 400, "bad_request")])
def test_there_is_nothing_to_look_at(serve, gateway, status, code):
    server = serve(config="[gateways.bare]\nport = 0\n")
    got, answer = server.api("GET", f"/v1/gateways/{gateway}/tail")
    assert (got, answer["error"]["code"]) == (status, code)
    got, answer = server.api("POST", f"/v1/gateways/{gateway}/tail")
    assert got == 405


def test_it_needs_the_token_or_a_session(scripted):
    server = scripted()
    assert server.http("GET", "/v1/gateways/default/tail", token=False)[0] == 401
    assert server.http("HEAD", "/v1/gateways/default/tail")[0] == 200
    server.await_metric("wsgw_gateway_running", 1)
    assert "live tail" not in server.log()


def test_it_ends_with_serve_and_with_its_gateway(serve):
    config = "[gateways.a]\nport = 0\nlistener = 'cat'\n"
    server = serve(config=f"{config}[gateways.b]\nport = 0\nlistener = 'cat'\n")
    a, b = tail(server, gateway="a"), tail(server, gateway="b")
    done = []
    reader = threading.Thread(target=lambda: done.append(b.event()))
    reader.start()
    server.reload(config)
    reader.join(30)
    assert done == [None]
    server.signal()
    assert a.event() is None
    assert server.wait() == 0
