"""Which events a listener is sent, and what it says to a handshake."""

import json
import urllib.parse

import pytest
from websockets.exceptions import InvalidStatus

from harness import ws_client


def ask(directive):
    """A path whose query tells the fake listener what to answer to the handshake."""
    return "/chat?" + urllib.parse.quote(directive)


HANDSHAKE = ("--hooks", "onHandshake,onClientOpen,onMessage,onClientClose")


def refused(server, path, **options):
    with pytest.raises(InvalidStatus) as info:
        server.connect(path, **options)
    return info.value.response


@pytest.mark.parametrize(
    ("hooks", "events"),
    [
        ("onMessage", {"onMessage"}),
        ("onClientOpen", {"onClientOpen"}),
        ("onClientClose", {"onClientClose"}),
        ("onClientOpen,onClientClose", {"onClientOpen", "onClientClose"}),
        ("onHandshake", {"onHandshake"}),
        ("onHandshake,onMessage", {"onHandshake", "onMessage"}),
        (None, {"onClientOpen", "onMessage", "onClientClose"}),
    ],
)
def test_only_the_hooks_that_were_named(scripted, hooks, events):
    server = scripted(*(["--hooks", hooks] if hooks else []))
    a = server.connect()
    a.send("x")
    assert a.recv() == "x"
    a.close()
    server.await_connections(0)
    server.stop()
    assert {e["event"] for e in server.record.events()} == events


def test_a_handshake_is_accepted(scripted):
    server = scripted(*HANDSHAKE)
    a = server.connect("/chat?room=1", subprotocols=["json", "xml"])
    a.send("x")
    assert a.recv() == "x"
    asked = json.loads(server.record.lines()[0])
    assert list(asked)[:3] == ["id", "event", "conn"]
    assert asked["event"] == "onHandshake" and asked["message"] == ""
    assert (asked["path"], asked["query"]) == ("/chat", "room=1")
    assert asked["protocols"] == ["json", "xml"] and "protocol" not in asked
    assert asked["remote"].startswith("127.0.0.1:")
    opened = server.record.events("onClientOpen")[0]
    assert opened["conn"] == asked["conn"]
    assert opened["protocol"] == "json"


@pytest.mark.parametrize("status", [400, 401, 403, 418, 503, 599])
def test_a_handshake_is_refused(scripted, status):
    server = scripted(*HANDSHAKE)
    answer = refused(server, ask('!answer {"reject":%d,"reason":"no töken"}' % status))
    assert answer.status_code == status
    assert "no töken" in answer.body.decode()
    assert server.metric("wsgw_connections_refused_total") == 1
    assert server.record.events("onClientOpen") == []
    assert server.record.events("onClientClose") == []


@pytest.mark.parametrize(
    "keys",
    [
        '{"reject":399}', '{"reject":600}', '{"reject":"401"}', '{"reject":true}',
        '{"reject":401.5}', '{"reject":{}}', '{"reject":200}', '{"reject":0}', '{"reject":false}',
        '{"protocol":"other"}', '{"protocol":7}', '{"protocol":""}',
    ],
)
def test_a_malformed_answer_never_accepts(scripted, keys):
    server = scripted(*HANDSHAKE)
    answer = refused(server, ask(f"!answer {keys}"), subprotocols=["json"])
    assert answer.status_code == 500
    server.await_metric("wsgw_listener_faults_total", 1)


def test_the_listener_chooses_the_subprotocol(scripted):
    server = scripted(*HANDSHAKE, "--protocol", "a")
    path = ask('!answer {"protocol":"b"}')
    a = server.connect(path, subprotocols=["a", "b"])
    assert a.subprotocol == "b"
    assert server.record.wait("onClientOpen")[0]["protocol"] == "b"


def test_a_handshake_that_is_not_answered_gets_503(scripted):
    server = scripted(*HANDSHAKE, "--listener-timeout", "200ms")
    answer = refused(server, ask("!none"))
    assert answer.status_code == 503
    assert "Retry-After" in answer.headers


def test_a_handshake_while_the_listener_is_down_gets_503(scripted):
    server = scripted(*HANDSHAKE, "--listener-timeout", "200ms", "--restart-delay-max", "60s",
                      script=["--first-lines", '["{\\"event\\":\\"onResult\\"}"]',
                              "--crash-on", "!die"])
    for _ in range(8):
        answer = refused(server, ask("!die"))
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers


def test_an_unasked_listener_cannot_delay_a_handshake(scripted):
    server = scripted(script=["--silent"])
    assert server.connect("/?" + urllib.parse.quote("!none"))


def test_header_rules(scripted):
    headers = [("X-One", "1"), ("Cookie", "a=b"), ("Accept", "z"), ("X-One", "2"),
               ("Cookie", "c=d"), ("Authorization", "Basic eA=="), ("X-Forwarded-For", "1.2.3.4"),
               ("Origin", "http://localhost:1"), ("User-Agent", "t")]
    server = scripted()
    server.raw().upgrade("/", headers)
    (opened,) = server.record.wait("onClientOpen")
    assert opened["headers"] == {
        "x-one": "1, 2", "cookie": "a=b; c=d", "authorization": "Basic eA==",
        "x-forwarded-for": "1.2.3.4", "origin": "http://localhost:1", "user-agent": "t"}


@pytest.mark.parametrize(
    ("rule", "names"),
    [("accept", {"accept"}), ("Accept,cookie", {"accept", "cookie"}), ("x-*", {"x-one", "x-two"})],
)
def test_chosen_headers(scripted, rule, names):
    server = scripted("--headers", rule)
    server.raw().upgrade("/", [("X-One", "1"), ("X-Two", "2"), ("Accept", "a"), ("Cookie", "c=d")])
    (opened,) = server.record.wait("onClientOpen")
    assert set(opened["headers"]) == names


def test_all_headers(scripted):
    server = scripted("--headers", "*")
    server.raw().upgrade("/", [("Accept", "a")])
    (opened,) = server.record.wait("onClientOpen")
    assert {"host", "accept", "sec-websocket-key"} <= set(opened["headers"])


def test_a_client_cannot_forge_a_line(scripted):
    server = scripted("--headers", "*")
    forged = '"}\\n{"command":"close","conn":"x'
    link = server.raw()
    link.request('/"},{"id":1?q="\\u000a{', [("X-A", forged + "\t\x0b".strip())])
    status, _, _ = link.response()
    assert status in (101, 400)
    a = server.connect("/%0A%22?%0a")
    a.send('\n{"id":1}\r\n{"command":"send","message":"forged"}')
    assert a.recv() == '\n{"id":1}\r\n{"command":"send","message":"forged"}'
    assert all(json.loads(line)["id"] for line in server.record.lines())
    assert server.metric("wsgw_listener_faults_total") == 0


@pytest.mark.parametrize(
    ("flags", "offers", "chosen"),
    [
        ([], ["x", "y"], "x"),
        ([], [], None),
        (["--protocol", "y"], ["x", "y"], "y"),
        (["--protocol", "y", "--protocol", "x"], ["x", "y"], "x"),
        (["--protocol", "z"], ["x", "y"], None),
        (["--protocol", "*"], ["x"], "x"),
    ],
)
def test_subprotocols(serve, flags, offers, chosen):
    server = serve(*flags)
    client = ws_client(server.url(), subprotocols=offers or None)
    assert client.subprotocol == chosen


@pytest.mark.parametrize(
    ("path", "admitted"),
    [("/chat", True), ("/chat?x=1", True), ("/rooms/1/2", True), ("/rooms/", True), ("/", False),
     ("/chat/", False), ("/Chat", False), ("/other", False)],
)
def test_paths(serve, path, admitted):
    server = serve("--path", "/chat", "--path", "/rooms/*")
    if admitted:
        server.connect(path)
    else:
        assert refused(server, path).status_code == 404
