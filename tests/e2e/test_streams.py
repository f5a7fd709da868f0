"""Streams over plain HTTP: what a client asks for, and the bytes that it gets."""

import base64
import json
import re
import shutil
import subprocess
import time
from email.utils import parsedate_to_datetime

import pytest
from harness import PATIENCE, wait_until

TYPES = {"sse": "text/event-stream", "lines": "application/x-ndjson",
         "raw": "text/plain; charset=utf-8"}
EVENTS = {"Accept": "text/event-stream"}


@pytest.mark.parametrize("form", TYPES)
def test_the_head_says_what_proxies_and_browsers_have_to_know(serve, form):
    stream = serve("--streams").stream(f"/?stream={form}")
    assert stream.status == 200
    date = parsedate_to_datetime(stream.headers.pop("date"))
    assert abs(date.timestamp() - time.time()) < 60
    assert stream.headers == {
        "content-type": TYPES[form],
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",
        "x-content-type-options": "nosniff",
        "connection": "close",
        "vary": "Origin",
    }


def test_events_begin_with_the_time_to_retry_and_the_hello(serve):
    server = serve("--streams", "--history", "9")
    server.push(message="before")
    stream = server.stream("/?stream=sse")
    at = stream.hello["at"]
    assert re.fullmatch(r"\w{8}-1", at)
    assert [field for field in stream.first.fields if field[0] != "data"] == [
        ("retry", "2000"), ("event", "hello"), ("id", at)]
    (row,) = server.connections()
    assert list(stream.hello) == ["hello", "conn", "at", "channels", "post"]
    assert stream.hello["hello"] == 1 and stream.hello["conn"] == row["conn"]
    assert stream.hello["channels"] == []
    assert re.fullmatch(r"[\w-]{22}", stream.hello["post"])
    server.push(message='a\nb "c"')
    event = stream.event()
    epoch = at.split("-")[0]
    assert event.fields == [
        ("id", f"{epoch}-2"),
        ("data", json.dumps({"message": 'a\nb "c"', "at": f"{epoch}-2"}, separators=(",", ":")))]


def test_without_a_history_events_have_no_id(serve):
    server = serve("--streams")
    stream = server.stream("/", EVENTS)
    assert [name for name, _ in stream.first.fields] == ["retry", "event", "data"]
    assert list(stream.hello) == ["hello", "conn", "channels", "post"]
    server.push(message="x")
    assert stream.event().fields == [("data", '{"message":"x"}')]


def test_lines_are_frames_with_the_hello_first(serve):
    server = serve("--streams", "--history", "9")
    stream = server.stream("/?stream=lines")
    assert list(stream.hello) == ["hello", "conn", "at", "channels", "post"]
    server.push(message="a\nb")
    server.push(base64="AAEC")
    epoch = stream.hello["at"].split("-")[0]
    assert stream.messages(2) == [{"message": "a\nb", "at": f"{epoch}-1"},
                                  {"base64": "AAEC", "at": f"{epoch}-2"}]


@pytest.mark.parametrize(("struct", "line"), [
    ({"message": "plain"}, "plain"),
    ({"message": ""}, ""),
    ({"message": "a\nb\\n\\\n"}, "a\\nb\\\\n\\\\\\n"),
    ({"message": "a\rb\tc\0\u2028"}, "a\rb\tc\0\u2028"),
    ({"message": "\\"}, "\\\\"),
    ({"base64": base64.b64encode(b"\0\n\xff").decode()}, "AAr/"),
    ({"base64": ""}, ""),
])
def test_a_raw_stream_has_a_line_for_each_body(serve, struct, line):
    server = serve("--streams")
    stream = server.stream("/?stream=raw")
    server.push(struct)
    server.push(message="end")
    # No hello in front of it.
    assert stream.messages(2) == [line, "end"]


def test_a_large_message_in_each_form(serve):
    server = serve("--streams")
    streams = [server.stream(f"/?stream={form}") for form in TYPES]
    text = "ä\n" * 300_000
    server.push(message=text)
    assert streams[0].message() == streams[1].message() == {"message": text}
    assert streams[2].message() == text.replace("\n", "\\n")


@pytest.mark.parametrize(("query", "headers", "kind"), [
    ("", {"Accept": "text/event-stream"}, "text/event-stream"),
    ("", {"Accept": "text/html, TEXT/Event-Stream;q=0.9"}, "text/event-stream"),
    ("?x=1", {"Accept": "*/*"}, None),
    ("?stream=lines", {"Accept": "text/event-stream"}, "application/x-ndjson"),
    ("?stream=raw", {"Accept": "text/event-stream"}, "text/plain"),
    ("?str%65am=l%69nes", {}, "application/x-ndjson"),
    ("?a=b&stream=sse", {"Accept": "application/json"}, "text/event-stream"),
])
def test_what_is_asked_for(serve, query, headers, kind):
    stream = serve("--streams").stream("/" + query, headers)
    assert stream.status == 200
    assert stream.kind == kind if kind else stream.kind == "text/html"


@pytest.mark.parametrize("query", ["?stream=", "?stream", "?stream=SSE", "?stream=websocket",
                                   "?stream=sse&stream=sse", "?stream=%ff"])
@pytest.mark.parametrize("headers", [{}, EVENTS])
def test_an_unknown_stream_is_a_400(serve, query, headers):
    answer = serve("--streams").stream("/" + query, headers)
    assert answer.status == 400 and answer.text.endswith("\n")


def test_padding_comes_first(serve):
    server = serve("--streams")
    for pad in (0, 1, 2, 2048, 8192):
        link = server.raw()
        link.request(f"/?stream=sse&pad={pad}", upgrade=False)
        assert link.response()[0] == 200
        got = b""
        while b"retry: 2000\n" not in got:
            got += link.read_exactly(1)
        comment = got.removesuffix(b"retry: 2000\n")
        if pad:
            assert comment.startswith(b":") and len(comment) == pad + 2
            assert comment.endswith(b"\n\n") and b"\n" not in comment[:-2]
        else:
            assert comment == b""
    for pad in ("8193", "-1", "x", "", "1e3", "+5", "99999999999999999999"):
        assert server.stream(f"/?stream=sse&pad={pad}").status == 400, pad
    # It is for events alone.
    assert server.stream("/?stream=lines&pad=9").hello["hello"] == 1


@pytest.mark.parametrize(("form", "keepalive"), [("sse", ":"), ("lines", {}), ("raw", "")])
def test_a_stream_is_kept_alive(serve, form, keepalive):
    server = serve("--streams", "--ping-interval", "200ms", "--pong-timeout", "300ms")
    stream = server.stream(f"/?stream={form}")
    begun = time.monotonic()
    read = {"sse": lambda: stream.event(comments=True),
            "lines": lambda: stream.line(keepalives=True), "raw": stream.text_line}[form]
    for _ in range(5):
        assert read() == keepalive
    # It answers nothing, and pong-timeout does not concern it. Up to a tenth earlier.
    assert time.monotonic() - begun > 5 * 0.17
    server.push(message="x")
    server.await_connections(1)


@pytest.mark.long
@pytest.mark.parametrize("interval", ["0", "60s"])
def test_a_stream_is_kept_alive_every_15_seconds(serve, interval):
    server = serve("--streams", "--ping-interval", interval)
    streams = [server.stream(f"/?stream={form}") for form in TYPES]
    begun = time.monotonic()
    lines = [stream.text_line() for stream in streams]
    assert lines == [":", "{}", ""]
    assert 13 < time.monotonic() - begun < 17


# Where a client goes on.


def positions(server):
    """A gateway with m1 to m5, and the positions before each."""
    epoch = server.stream("/?stream=lines").hello["at"].split("-")[0]
    for n in range(1, 6):
        server.push(message=f"m{n}")
    return [f"{epoch}-{n}" for n in range(6)]


@pytest.mark.parametrize("form", ["sse", "lines"])
def test_a_client_goes_on_at_its_position(serve, form):
    server = serve("--streams", "--history", "4")
    at = positions(server)
    stream = server.stream(f"/?stream={form}&since={at[3]}")
    assert (stream.hello["at"], stream.hello["recovered"]) == (at[3], True)
    server.push(message="m6")
    assert [m["message"] for m in stream.messages(3)] == ["m4", "m5", "m6"]
    # m1 is gone, and what is sent in its place is what the settings say: nothing.
    stream = server.stream(f"/?stream={form}&since={at[0]}")
    assert stream.hello["recovered"] is False and stream.hello["at"].endswith("-6")
    stream = server.stream(f"/?stream={form}&since=2")
    assert "recovered" not in stream.hello
    assert [m["message"] for m in stream.messages(2)] == ["m5", "m6"]
    assert server.stream(f"/?stream={form}&since=x").status == 400


def test_the_id_that_a_browser_sends_again_wins(serve):
    server = serve("--streams", "--history", "9")
    at = positions(server)

    def come(query, event_id):
        stream = server.stream("/?stream=sse" + query, {"Last-Event-ID": event_id})
        assert stream.status == 200, stream.text
        return stream

    stream = come(f"&since={at[1]}", at[4])
    assert (stream.hello["at"], stream.hello["recovered"]) == (at[4], True)
    assert stream.message()["message"] == "m5"
    # Without an Origin and with any other URL, too.
    assert come("", at[5]).hello["recovered"] is True
    # The id of another server, a later one of this, one that is no position at all.
    for event_id in ("zzzzzzzz-1", at[0].replace("-0", "-99"), "7", "last", "5m", "x" * 500, "\xff"):
        stream = come("&since=last", event_id)
        assert stream.hello["recovered"] is False, event_id
        assert stream.hello["at"] == at[5]
    # An empty one is none.
    stream = come("&since=1", "")
    assert "recovered" not in stream.hello and stream.message()["message"] == "m5"
    # It belongs to events alone.
    stream = server.stream("/?stream=lines", {"Last-Event-ID": at[4]})
    assert "recovered" not in stream.hello


def test_without_a_history_a_position_is_not_recovered(serve):
    server = serve("--streams")
    for headers in ({"Last-Event-ID": "q7Zk2pYa-1"}, {"Last-Event-ID": "x"}):
        assert server.stream("/?stream=sse", headers).hello["recovered"] is False
    assert server.stream("/?stream=lines&since=q7Zk2pYa-1").hello["recovered"] is False
    assert "recovered" not in server.stream("/?stream=lines&since=5m").hello
    assert server.stream("/?stream=raw&since=q7Zk2pYa-1").status == 410


def test_what_a_raw_stream_cannot_recover_is_a_410(serve, scripted):
    server = serve("--streams", "--history", "2")
    at = positions(server)
    assert server.stream(f"/?stream=raw&since={at[4]}").messages(1) == ["m5"]
    answer = server.stream(f"/?stream=raw&since={at[1]}")
    assert answer.status == 410 and answer.text.endswith(" with since=last.\n")
    assert server.stream("/?stream=raw&since=zzzzzzzz-1").status == 410
    # It never was a connection.
    assert len(server.connections()) == 2
    assert server.metric("wsgw_connections_refused_total", reason="gone") == 2
    # Nor is the listener told of one.
    server = scripted("--streams", name="told")
    assert server.stream("/?stream=raw&since=zzzzzzzz-1").status == 410
    with server.stream("/?stream=raw").sock:
        opened = server.record.wait("onClientOpen")
    server.record.wait("onClientClose")
    assert len(opened) == 1 and len(server.record.events()) == 2


def test_the_config_says_what_a_client_is_sent_that_asks_for_nothing(serve):
    server = serve(config="""
[gateways.default]
port = 0
streams = true
history = { broadcast = 9, since = "last" }
""")
    positions(server)
    assert server.stream("/?stream=raw").message() == "m5"
    assert server.stream("/?stream=sse", {"Last-Event-ID": "x"}).message()["message"] == "m5"


def test_curl_shows_each_line_as_it_comes(serve):
    curl = shutil.which("curl")
    assert curl, "curl is missing: tests/run.sh installs it"
    server = serve("--streams")
    url = f"http://127.0.0.1:{server.port()}/load?stream=raw"
    with subprocess.Popen([curl, "-sSN", "--fail", url], stdout=subprocess.PIPE, text=True) as run:
        (row,) = server.await_connections(1)
        for n in range(3):
            server.push(message=f"load {n}")
            assert run.stdout.readline() == f"load {n}\n"
        server.cli("close", "default", row["conn"])
        assert run.stdout.read() == "" and run.wait(PATIENCE) == 0


def test_what_comes_before_the_stream_is_thrown_away(serve):
    """A stream's client has nothing to say: what it sends behind its request is not a request, nor a
    frame, and does no harm."""
    server = serve("--streams")
    link = server.raw()
    request = link.head("/?stream=raw", upgrade=False)
    link.write(request + request + b"\x81\x85abcdhello" + b"x" * 100_000)
    assert link.response()[0] == 200
    server.await_connections(1)
    link.write(b"GET / HTTP/1.1\r\n\r\n" * 1000 + b"\x88\x80abcd")
    server.push(message="first")
    assert link.read_exactly(6) == b"first\n"
    (row,) = server.connections()
    assert server.metric("wsgw_messages_received_total") == 0
    server.cli("close", "default", row["conn"])
    assert link.at_eof(), "closed in order, not by a reset"


def test_all_forms_beside_each_other_see_one_order(serve):
    server = serve("--streams", "--route", "all")
    bare, framed = server.connect(), server.connect(subprotocols=["wsgw.v1"])
    assert json.loads(framed.recv())["hello"] == 1
    sse, lines, raw = [server.stream(f"/?stream={form}") for form in TYPES]
    expected = [f"{n}" for n in range(200)]
    for n, text in enumerate(expected):
        (bare, framed)[n % 2].send(text) if n % 3 else server.push(message=text)
    got = bare.recv_many(200)
    assert sorted(got, key=int) == expected
    assert [json.loads(text)["message"] for text in framed.recv_many(200)] == got
    assert [m["message"] for m in sse.messages(200)] == got
    assert [m["message"] for m in lines.messages(200)] == got
    assert raw.messages(200) == got
    wait_until(lambda: server.status()["messages_out"] == 1000, "the counter of messages")
