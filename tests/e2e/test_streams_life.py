"""The life of streams: who may open one, what the listener is told, how they end."""

import json
import signal
import socket
import ssl
import subprocess
import time

import pytest
from harness import PATIENCE, WSGW, certificate, wait_until

FORMS = ["sse", "lines", "raw"]


def stop(server):
    server.signal()
    assert server.wait() == 0


def ended(stream):
    """What a stream says of its end, which is in order."""
    last = None
    while (message := stream.message()) is not None:
        last = message
    return last


def end_of(form, code, reason):
    return None if form == "raw" else {"close": code, "reason": reason}


@pytest.mark.parametrize("form", FORMS)
def test_the_listener_is_told_of_a_stream(scripted, form):
    server = scripted("--streams", "--headers", "x-a",
                      "--hooks", "onHandshake,onClientOpen,onClientClose,onMessage")
    stream = server.stream(f"/chat?stream={form}&b=c", {"X-A": "1", "Sec-WebSocket-Protocol": "p"})
    (asked,) = server.record.wait("onHandshake")
    (opened,) = server.record.wait("onClientOpen")
    common = {"message": "", "path": "/chat", "query": f"stream={form}&b=c", "transport": form,
              "headers": {"x-a": "1"}, "conn": opened["conn"], "remote": opened["remote"]}
    assert asked == {"id": 1, "event": "onHandshake", "protocols": []} | common
    assert opened == {"id": 2, "event": "onClientOpen", "protocol": ""} | common
    (row,) = server.connections()
    assert (row["conn"], row["transport"]) == (opened["conn"], form)
    table = server.cli("connections").stdout.splitlines()
    assert "TRANSPORT" in table[0] and f" {form} " in table[1]
    stream.close()
    (closed,) = server.record.wait("onClientClose")
    assert closed == {"id": 3, "event": "onClientClose", "conn": opened["conn"], "message": "",
                      "code": 1006, "reason": "", "clean": False}


def test_a_websocket_on_a_gateway_with_streams_has_its_transport(scripted):
    server = scripted("--streams", "--hooks", "onHandshake,onClientOpen")
    # A request for an upgrade is one, whatever else it asks for.
    server.raw().upgrade("/?stream=sse", {"Accept": "text/event-stream"})
    assert server.record.wait("onHandshake")[0]["transport"] == "websocket"
    assert server.record.wait("onClientOpen")[0]["transport"] == "websocket"
    assert server.connections()[0]["transport"] == "websocket"


def test_where_there_are_no_streams_events_are_as_they_were(scripted):
    server = scripted("--hooks", "onHandshake,onClientOpen")
    server.raw().upgrade("/?stream=sse")
    assert "transport" not in server.record.wait("onHandshake")[0]
    assert "transport" not in server.record.wait("onClientOpen")[0]
    assert server.connections()[0]["transport"] == "websocket"


def test_a_restart_of_the_listener_tells_of_streams_again(scripted):
    server = scripted("--streams")
    stream = server.stream("/?stream=lines")
    server.record.wait("onClientOpen")
    server.cli("restart", "default", "--listener")
    pids = server.record.wait_pids(2)
    (opened,) = server.record.wait("onClientOpen", pid=pids[1])
    assert opened["resumed"] is True and opened["transport"] == "lines"
    server.push(message="still there")
    assert stream.message() == {"message": "still there"}


@pytest.mark.parametrize("form", FORMS)
def test_the_listener_refuses_a_stream(scripted, form):
    server = scripted("--streams", "--hooks", "onHandshake")

    def ask(keys, **headers):
        directive = "!answer " + json.dumps(keys)
        query = directive.replace("%", "%25").replace(" ", "%20").replace('"', "%22")
        # The fake listener takes the whole query as what it is to do.
        return server.stream(f"/?{query}", {"Accept": "text/event-stream"} | headers)

    answer = ask({"reject": 401, "reason": "no token"}, Origin="http://localhost:3000")
    assert (answer.status, answer.text) == (401, "no token")
    # A page may read why.
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert answer.headers["vary"] == "Origin"
    assert ask({"reject": 99}).status == 500
    assert ask({"protocol": "wsgw.v1"}).status == 500, "none was offered"
    assert server.connections() == []
    joined = ask({"join": ["b", "a"]})
    assert joined.hello["channels"] == ["a", "b"]


def test_the_listener_says_what_a_stream_joins_and_is_sent(serve):
    listener = ["jq", "-c", "--unbuffered", '{id, join: ["room"], since: "last"}']
    server = serve("--streams", "--hooks", "onHandshake", "--history", "5", listener=listener)
    server.push(message="old", channel="room")
    for form in ("sse", "lines"):
        stream = server.stream(f"/?stream={form}")
        assert stream.hello["channels"] == ["room"]
        assert stream.message() == {"message": "old", "channel": "room", "at": stream.hello["at"][:9] + "1"}
    assert server.stream("/?stream=raw").message() == "old"


def test_a_listener_that_is_down_is_a_503(serve):
    server = serve("--streams", "--hooks", "onHandshake", "--listener-timeout", "300ms",
                   listener=["sleep", "1000"])
    answer = server.stream("/?stream=raw")
    assert answer.status == 503 and answer.headers["retry-after"] == "1"


def test_a_client_that_goes_while_the_listener_is_asked(scripted):
    server = scripted("--streams", "--hooks", "onHandshake,onClientOpen", script=["--silent"])
    link = server.raw().request("/?stream=sse", upgrade=False)
    server.record.wait("onHandshake")
    link.close()
    wait_until(lambda: server.descriptors().get("socket:client", 0) == 0
               or server.connections() == [], "its end")
    assert server.connections() == [] and not server.record.events("onClientOpen")


# Channels.


def test_channels_by_the_query_and_by_the_path(serve):
    flags = ["--streams", "--allow-channels", "r*,load", "--route", "channels"]
    server = serve("--channels", "query", *flags)
    stream = server.stream("/?stream=sse&channel=room2&channel=room1")
    assert stream.hello["channels"] == ["room1", "room2"]
    raw = server.stream("/?stream=raw&channel=room1")
    # The first of the message's channels that this client is in.
    server.push(message="x", channel=["other", "room2", "room1"])
    server.push(message="y", channel="load")
    server.push(message="z")
    assert stream.messages(2) == [{"message": "x", "channel": "room2"}, {"message": "z"}]
    assert raw.messages(2) == ["x", "z"]
    assert server.connections()[0]["channels"] == ["room1", "room2"]
    for query, status in (("channel=lobby", 403), ("channel=", 400), ("channel=a%20b", 400)):
        answer = server.stream(f"/?stream=sse&{query}")
        assert answer.status == status
        assert ("allow-channels" in answer.text) == (status == 403)
    server = serve("--channels", "path", *flags)
    assert server.stream("/load?stream=lines").hello["channels"] == ["load"]
    raw = server.stream("/load?stream=raw")
    server.push(message="up", channel="load")
    assert raw.message() == "up"


def say(boss, **command):
    """Has the fake listener say a command, and waits until it has."""
    boss.send("!raw " + json.dumps([json.dumps(command), json.dumps({"command": "send", "message": "",
                                                                    "connections": [boss.conn]})]))
    assert boss.recv() == ""


@pytest.fixture
def bossed(scripted):
    """A gateway whose listener says what a client of it wants, and that client."""
    def start(*args):
        server = scripted("--streams", "--hooks", "onMessage", *args)
        boss, boss.conn = server.named()
        return server, boss

    return start


def test_presence_and_joins_reach_streams(bossed):
    server, boss = bossed("--channels", "query", "--allow-channels", "*", "--presence", "room")
    sse, lines = [server.stream(f"/?stream={form}&channel=room") for form in FORMS[:2]]
    raw = server.stream("/?stream=raw&channel=room")
    conns = [row["conn"] for row in server.connections()[1:]]
    assert sse.message() == {"join": "room", "conn": conns[1], "members": 2}
    for stream in (sse, lines):
        assert stream.message() == {"join": "room", "conn": conns[2], "members": 3}
    say(boss, command="join", conn=conns[0], channel=["b", "room", "a"])
    assert sse.message() == {"joined": ["a", "b"]}
    say(boss, command="leave", conn=conns[1], channel="room")
    assert sse.message() == {"leave": "room", "conn": conns[1], "members": 2}
    say(boss, command="join", conn=conns[2], channel="b")
    say(boss, command="send", channel="b", message="to b")
    assert sse.message() == {"message": "to b", "channel": "b"}
    assert raw.message() == "to b", "neither presence nor joins are shown in bodies"
    raw.close()
    assert sse.message() == {"leave": "room", "conn": conns[2], "members": 1}


def test_a_late_join_replays_without_positions(bossed):
    server, boss = bossed("--history", "5")
    server.push(message="old", channel="a")
    sse = server.stream("/?stream=sse")
    say(boss, command="join", conn=sse.hello["conn"], channel="a", since="last")
    joined, old = sse.event(), sse.event()
    # Such a frame tells where the client is, but it is no message whose id a browser has to note.
    assert joined.fields == [
        ("data", '{"joined":["a"],"at":"%s","recovered":true}' % sse.hello["at"])]
    assert (old.id, old.data) == (None, {"message": "old", "channel": "a"})


# Limits.


def test_streams_count_as_connections(serve):
    server = serve("--streams", "--max-connections", "2")
    first, second = server.stream("/?stream=raw"), server.raw().upgrade()
    answer = server.stream("/?stream=sse", {"Origin": "http://localhost"})
    assert answer.status == 503 and answer.headers["access-control-allow-origin"]
    first.close()
    server.await_connections(1)
    assert server.stream("/?stream=sse").status == 200
    second.close()


def test_streams_count_by_address(serve):
    server = serve("--streams", "--max-connections-per-ip", "1")
    first = server.stream("/?stream=lines")
    answer = server.stream("/?stream=sse")
    assert answer.status == 429 and answer.headers["retry-after"] == "1"
    first.close()
    server.await_connections(0)
    assert server.stream("/?stream=sse").status == 200


def test_the_request_has_its_time(serve):
    server = serve("--streams", "--handshake-timeout", "300ms")
    link = server.raw()
    link.write("GET /?stream=sse HTTP/1.1\r\nHost: x\r\n")
    assert link.response()[0] == 408


@pytest.mark.parametrize("form", FORMS)
def test_a_slow_stream_is_cut_and_the_others_get_all(scripted, form):
    server = scripted("--streams", "--max-queue", "256KiB")
    slow = server.stream(f"/?stream={form}", receive_buffer=4096)
    quick = server.stream("/?stream=raw")
    text = "x" * 100_000
    sent = 0
    while not server.record.events("onClientClose"):
        server.push(message=text)
        assert quick.message() == text
        sent += 1
        assert sent < 500
    (closed,) = server.record.events("onClientClose")
    assert (closed["code"], closed["clean"]) == (1008, False) and "slow" in closed["reason"]
    assert server.metric("wsgw_slow_consumers_total") == 1
    assert server.metric("wsgw_connections_closed_total", code="1008") == 1
    # What it gets of it is whole messages up to somewhere, and it is let go of in any case.
    got = []
    try:
        while (message := slow.message()) is not None:
            got.append(message)
    except (ConnectionResetError, AssertionError):
        pass
    expected = text if form == "raw" else {"message": text}
    assert len(got) < sent and all(m == expected for m in got[:-1])


@pytest.mark.parametrize("form", FORMS)
def test_an_idle_stream_is_closed(scripted, form):
    server = scripted("--streams", "--idle-timeout", "500ms", "--ping-interval", "100ms")
    stream = server.stream(f"/?stream={form}")
    end = ended(stream)
    (closed,) = server.record.wait("onClientClose")
    assert (closed["code"], closed["clean"]) == (1001, True)
    if form != "raw":
        assert end == {"close": 1001, "reason": closed["reason"]}


@pytest.mark.parametrize("form", FORMS)
def test_a_stream_whose_client_takes_nothing_is_lost(scripted, form):
    """There is no pong to wait for. What is sent has to be taken within that time, whatever room
    max-queue has; who reads is not concerned."""
    server = scripted("--streams", "--ping-interval", "300ms", "--pong-timeout", "1s")
    server.stream(f"/?stream={form}", receive_buffer=4096)
    reads = server.stream("/?stream=lines")
    idle = server.stream("/?stream=raw", receive_buffer=4096)
    text = "x" * 3_000_000
    server.push(message=text, **{"except": [server.connections()[2]["conn"]]})
    assert reads.message() == {"message": text}
    (closed,) = server.record.wait("onClientClose")
    assert (closed["code"], closed["clean"]) == (1006, False)
    assert len(server.connections()) == 2
    assert [idle.text_line() for _ in range(3)] == [""] * 3


# Ends.


@pytest.mark.parametrize("form", FORMS)
def test_the_gateway_says_why_it_ends_a_stream(scripted, form):
    server = scripted("--streams")
    stream = server.stream(f"/?stream={form}")
    (row,) = server.connections()
    server.push(message="before")
    done = server.cli("close", "default", row["conn"], "--code", "4001", "--reason", 'kick"ed')
    assert done.returncode == 0
    server.push(message="after")
    message = "before" if form == "raw" else {"message": "before"}
    end = end_of(form, 4001, 'kick"ed')
    assert stream.messages(2 if end else 1) == [message, end][:2 if end else 1]
    assert stream.message() is None and stream.at_eof()
    (closed,) = server.record.wait("onClientClose")
    assert (closed["code"], closed["reason"], closed["clean"]) == (4001, 'kick"ed', True)
    assert server.connections() == []
    assert server.metric("wsgw_connections_closed_total", code="4001") == 1


def test_the_bytes_of_an_end(serve):
    server = serve("--streams")
    links = [server.raw().request(f"/?stream={form}", upgrade=False) for form in FORMS]
    for link, row in zip(links, server.await_connections(3)):
        link.response()
        server.cli("close", "default", row["conn"], "--code", "4001", "--reason", "kicked")
    got = []
    for link in links:
        data = link.buffer
        while more := link.sock.recv(65536):
            data += more
        got.append(data)
    assert got[0].endswith(b'}\n\nevent: close\ndata: {"code":4001,"reason":"kicked"}\n\n')
    assert got[1].endswith(b'}\n{"close":4001,"reason":"kicked"}\n')
    assert got[2] == b""


@pytest.mark.parametrize("form", FORMS)
def test_the_listener_closes_a_stream(serve, form):
    program = ('if .event == "onClientOpen" then {command: "close", conn, code: 4003, '
               'reason: "go"} else empty end')
    server = serve("--streams", "--hooks", "onClientOpen",
                   listener=["jq", "-c", "--unbuffered", program])
    assert ended(server.stream(f"/?stream={form}")) == end_of(form, 4003, "go")


def test_a_stop_ends_streams(scripted):
    server = scripted("--streams")
    streams = [server.stream(f"/?stream={form}") for form in FORMS]
    server.push(message="last words")
    stop(server)
    for stream, form in zip(streams, FORMS):
        assert stream.message() == ("last words" if form == "raw" else {"message": "last words"})
        end = stream.message()
        assert end is None if form == "raw" else end["close"] == 1001
        assert stream.at_eof()
    closed = server.record.events("onClientClose")
    assert [(event["code"], event["clean"]) for event in closed] == [(1001, True)] * 3


@pytest.mark.parametrize("end", ["close", "reset", "half"])
def test_a_client_ends_its_stream(scripted, end):
    server = scripted("--streams")
    stream = server.stream("/?stream=sse")
    if end == "half":
        stream.sock.shutdown(socket.SHUT_WR)
    else:
        getattr(stream, end)()
    (closed,) = server.record.wait("onClientClose")
    assert (closed["code"], closed["clean"]) == (1006, False)
    assert server.connections() == []


def test_open_streams_stay_where_a_reload_switches_them_off(serve):
    config = "[gateways.default]\nport = 0\nstreams = {}\n"
    server = serve(config=config.format("true"))
    stream = server.stream("/?stream=lines")
    port = server.port()
    server.reload(config.format("false"))
    assert server.stream("/?stream=lines").status == 200, "the page, as if nothing was asked for"
    assert server.stream("/?stream=lines").kind == "text/html"
    server.push(message="still here")
    assert stream.message() == {"message": "still here"}
    server.reload(config.format("true"))
    assert server.port() == port
    assert server.stream("/?stream=lines").hello["hello"] == 1
    server.push(message="and again")
    assert stream.message() == {"message": "and again"}


def test_streams_over_tls(serve, tmp_path):
    cert, key = certificate(tmp_path)
    server = serve("--streams", "--tls-cert", cert, "--tls-key", key, "--max-queue", "512KiB")
    trust = ssl.create_default_context(cafile=str(cert))
    streams = [server.stream(f"/?stream={form}", tls=trust) for form in FORMS]
    text = "x" * 200_000
    for _ in range(5):
        server.push(message=text)
        assert [stream.message() for stream in streams] == [{"message": text}] * 2 + [text]
    (first, *_) = server.connections()
    server.cli("close", "default", first["conn"])
    assert streams[0].message() == {"close": 1000, "reason": ""}
    # In order: TLS says that nothing is missing.
    assert streams[0].sock.recv(100) == b""
    curl = subprocess.Popen(["curl", "-sSN", "--cacert", cert,
                             f"https://localhost:{server.port()}/?stream=raw"],
                            stdout=subprocess.PIPE, text=True)
    with curl:
        server.await_connections(3)
        server.push(message="by curl")
        assert curl.stdout.readline() == "by curl\n"
        server.signal()
        assert curl.wait(PATIENCE) == 0
    assert server.wait() == 0


def test_a_stopped_curl_is_a_slow_consumer(scripted):
    server = scripted("--streams", "--max-queue", "128KiB")
    url = f"http://127.0.0.1:{server.port()}/?stream=sse"
    with subprocess.Popen(["curl", "-sSN", "--limit-rate", "10k", url],
                          stdout=subprocess.DEVNULL) as curl:
        server.await_connections(1)
        curl.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        while not server.record.events("onClientClose"):
            server.push(message="x" * 500_000)
            assert time.monotonic() < begun + PATIENCE
        curl.kill()
    (closed,) = server.record.events("onClientClose")
    assert (closed["code"], closed["clean"]) == (1008, False)


def test_streams_are_not_for_who_is_left_out(serve):
    """`connections` and `except` of a push concern streams as they do all connections."""
    server = serve("--streams")
    one, other = server.stream("/?stream=lines"), server.stream("/?stream=sse")
    server.push(message="a", connections=[one.hello["conn"]])
    server.push({"message": "b", "except": [one.hello["conn"]]})
    server.push(message="c")
    assert [m["message"] for m in one.messages(2)] == ["a", "c"]
    assert [m["message"] for m in other.messages(2)] == ["b", "c"]
    assert server.push(message="d")[1] == {"matched": 2, "delivered": 2, "dropped": 0, "gone": []}


def test_wsgw_send_reaches_streams(serve):
    server = serve("--streams")
    stream = server.stream("/?stream=raw")
    done = server.cli("send", "hi")
    assert (done.returncode, done.stdout) == (0, "delivered 1\n")
    assert stream.message() == "hi" and WSGW
