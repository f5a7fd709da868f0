"""The listener's answers to messages: what is sent, to whom, and what counts as a fault."""

import json

import pytest

from harness import PATIENCE, wait_until


def test_without_a_listener_everybody_gets_it_the_sender_too(serve):
    server = serve()
    a, b = server.connect(), server.connect()
    a.send("hi")
    assert (a.recv(), b.recv()) == ("hi", "hi")
    assert server.status()["listener"] == "none"
    assert server.status()["listener_pid"] is None


def test_cat_changes_nothing(serve):
    server = serve(listener=["cat"])
    a, b = server.connect(), server.connect()
    text = 'q"\\ \u2028 \x00\x7f\n\tä \U0001f600'
    a.send(text)
    assert (a.recv(), b.recv()) == (text, text)
    a.send(bytes(range(256)))
    assert (a.recv(), b.recv()) == (bytes(range(256)), bytes(range(256)))
    a.send("")
    assert (a.recv(), b.recv()) == ("", "")
    a.send(b"")
    assert (a.recv(), b.recv()) == (b"", b"")


def test_the_lines_of_the_events(scripted):
    server = scripted()
    a, name = server.named("/chat?room=1", subprotocols=["json"], origin="http://localhost",
                           additional_headers={"Cookie": "a=b"})
    port = a.inner.local_address[1]
    a.send("hi")
    assert a.recv() == "hi"
    a.send(b"\x00\x01\x02\xff")
    assert a.recv() == b"\x00\x01\x02\xff"
    a.close(4001, "bye")
    server.record.wait("onClientClose")
    lines = server.record.lines()
    assert all(line.startswith('{"id":%d,"event":"' % (i + 1)) for i, line in enumerate(lines))
    opened, _whoami, text, binary, closed = map(json.loads, lines)
    remote = opened.pop("remote")
    headers = opened.pop("headers")
    assert opened == {"id": 1, "event": "onClientOpen", "conn": name, "message": "",
                      "path": "/chat", "query": "room=1", "protocol": "json"}
    assert remote == f"127.0.0.1:{port}"
    assert headers["origin"] == "http://localhost" and headers["cookie"] == "a=b"
    assert "user-agent" in headers and "host" not in headers
    assert text == {"id": 3, "event": "onMessage", "conn": name, "message": "hi"}
    assert binary == {"id": 4, "event": "onMessage", "conn": name, "message": "",
                      "base64": "AAEC/w=="}
    assert closed == {"id": 5, "event": "onClientClose", "conn": name, "message": "",
                      "code": 4001, "reason": "bye", "clean": True}


@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        ('{"message":"HI"}', "HI"),
        ('{"message":""}', ""),
        ('{"message":null}', None),
        ('{"message":{"b":[1.50, 2],"a":"x y"}}', '{"b":[1.5,2],"a":"x y"}'),
        ('{"message":7}', "7"),
        ('{"message":false}', "false"),
        ('{"message":["a"]}', '["a"]'),
        ('{"base64":"AAEC"}', b"\x00\x01\x02"),
        ('{"base64":"AAEC","message":"text loses"}', b"\x00\x01\x02"),
        ('{"base64":null,"message":"x"}', "x"),
        ('{"base64":""}', b""),
        ('{"unknown":1,"headers":5,"event":"whatever","message":"kept"}', "kept"),
        ("{}", None),
    ],
)
def test_what_an_answer_makes_of_a_text(scripted, keys, sent):
    server = scripted()
    a, b = server.connect(), server.connect()
    directive = f"!answer {keys}"
    a.send(directive)
    expected = directive if sent is None else sent
    assert a.recv() == expected
    assert b.recv() == expected


@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        ("{}", b"\x01\x02"),
        ('{"message":""}', b"\x01\x02"),
        ('{"message":"text"}', "text"),
        ('{"message":5}', "5"),
        ('{"base64":"AAEC","message":""}', b"\x00\x01\x02"),
    ],
)
def test_what_an_answer_makes_of_a_binary_message(scripted, keys, sent):
    server = scripted(script=["--garble", keys])
    a = server.connect()
    a.send(b"\x01\x02")
    assert a.recv() == sent


def test_the_compact_json_of_a_message_keeps_its_digits(scripted):
    server = scripted()
    a = server.connect()
    a.send('!raw "{\\"id\\":$ID,\\"message\\":{ \\"n\\" : 1.50, \\"big\\": 12345678901234567890 }}"')
    assert a.recv() == '{"n":1.50,"big":12345678901234567890}'


def test_recipients(scripted):
    server = scripted()
    (a, na), (b, nb), (c, nc) = (server.named() for _ in range(3))

    def answer(marker, **keys):
        a.send("!answer " + json.dumps({"message": marker, **keys}))

    answer("1", connections=[nb])
    answer("2", connections=[])
    answer("3", **{"except": [na]})
    answer("4", connections=[nb, nc, nb], **{"except": [nc]})
    answer("5", **{"except": []})
    answer("6", connections=[nb, nb, "nobody", "k999999"])
    answer("7")
    assert a.recv_many(2) == ["5", "7"]
    assert b.recv_many(6) == ["1", "3", "4", "5", "6", "7"]
    assert c.recv_many(3) == ["3", "5", "7"]
    # Each shard counts those that would be its own, in its own time.
    server.await_metric("wsgw_recipients_gone_total", 2)
    assert server.metric("wsgw_recipients_gone_total") == 2


def test_one_that_is_excepted_is_not_gone(scripted):
    server = scripted()
    a, _ = server.named()
    a.send("!answer " + json.dumps(
        {"connections": ["nobody", "k99999"], "except": ["nobody", "k99999"]}))
    a.send("after")
    assert a.recv() == "after"
    assert server.metric("wsgw_recipients_gone_total") == 0


def test_a_recipient_that_left_is_gone(scripted):
    server = scripted()
    a, _ = server.named()
    b, nb = server.named()
    b.close()
    server.record.wait("onClientClose")
    a.send("!answer " + json.dumps({"message": "x", "connections": [nb]}))
    a.send("after")
    assert a.recv() == "after"
    # Counted on the shard where it was, which may be behind that of `a`.
    server.await_metric("wsgw_recipients_gone_total", 1)
    assert server.metric("wsgw_recipients_gone_total") == 1


@pytest.mark.parametrize("key", ["connections", "except"])
@pytest.mark.parametrize("value", ["null", '"$CONN"', "7", "{}", "[3]", "[null]", "true", '[["x"]]'])
def test_a_wrong_list_never_becomes_a_broadcast(scripted, key, value):
    server = scripted()
    a, b = server.connect(), server.connect()
    a.send('!raw "{\\"id\\":$ID,\\"message\\":\\"leak\\",\\"%s\\":%s}"'
           % (key, value.replace('"', '\\"')))
    a.send("after")
    assert a.recv() == "after"
    assert b.recv() == "after"
    server.await_metric("wsgw_listener_faults_total", 1, kind="answer")
    server.await_log(rf"(?i)WARN.*default.*{key}")


@pytest.mark.parametrize(
    "line",
    [
        '{"id":$ID,"base64":"AAE"}',
        '{"id":$ID,"base64":"%%%"}',
        '{"id":$ID,"base64":"AA-_"}',
        '{"id":$ID,"base64":5}',
        '{"id":$ID,"message":"\\ud800"}',
    ],
)
def test_a_body_that_cannot_be_sent_is_a_fault(scripted, line):
    server = scripted()
    a, b = server.connect(), server.connect()
    a.send("!raw " + json.dumps(line))
    a.send("after")
    assert a.recv() == "after"
    assert b.recv() == "after"
    server.await_metric("wsgw_listener_faults_total", 1, kind="answer")
    server.await_metric("wsgw_messages_dropped_total", 1)


def test_late_answers_are_ignored_and_counted(scripted):
    server = scripted()
    a, _ = server.named()
    a.send('!raw ["{\\"id\\":$ID,\\"message\\":\\"once\\"}", "{\\"id\\":$ID,\\"message\\":\\"twice\\"}"]')
    a.send("after")
    assert a.recv_many(2) == ["once", "after"]
    # The echoed onClientOpen and the second answer.
    server.await_metric("wsgw_listener_late_answers_total", 2)
    assert server.metric("wsgw_listener_faults_total") == 0


def test_an_id_never_issued_is_a_fault(scripted):
    server = scripted()
    a, _ = server.named()
    a.send('!raw ["{\\"id\\":99999,\\"message\\":\\"forged\\"}", "{\\"id\\":$ID}"]')
    assert a.recv().startswith("!raw")
    server.await_metric("wsgw_listener_faults_total", 1, kind="unknown_id")
    server.await_log(r"WARN.*99999")


def test_an_echoed_result_is_ignored(scripted):
    server = scripted()
    a, _ = server.named()
    a.send('!raw ["{\\"event\\":\\"onResult\\",\\"ref\\":7,\\"matched\\":3}", "{\\"id\\":$ID}"]')
    assert a.recv().startswith("!raw")
    assert server.metric("wsgw_listener_faults_total") == 0


@pytest.mark.parametrize("line", ["hello", "[1]", "7", "{}", '{"message":"x"}', '{"id":"3"}',
                                  '{"id":null}', "", '{"id":1.5}', '{"id":3', '{"id":0$ID}'])
def test_a_line_that_says_nothing_is_logged_and_skipped(scripted, line):
    server = scripted()
    a = server.connect()
    a.send("!raw " + json.dumps([line, '{"id":$ID,"message":"fine"}']))
    assert a.recv() == "fine"
    server.await_metric("wsgw_listener_faults_total", 1, kind="garbage")
    server.await_log("did you mean to print to stderr")


def test_bad_utf8_is_a_fault_and_the_next_line_counts(scripted):
    server = scripted()
    a = server.connect()
    a.send("!hex fffe7b0a")
    assert a.recv().startswith("!hex")
    server.await_metric("wsgw_listener_faults_total", 1)


@pytest.mark.parametrize("line", [
    '  {"id" : $ID , "message" : "x" } \r',
    '{"message":"x","id":$ID}',
], ids=["white space", "the id comes last"])
def test_how_an_answer_is_laid_out_does_not_matter(scripted, line):
    server = scripted()
    a = server.connect()
    a.send("!raw " + json.dumps(line))
    assert a.recv() == "x"


def test_a_logged_line_is_cut_and_escaped(scripted):
    server = scripted()
    a = server.connect()
    a.send("!raw " + json.dumps(["\x1b[31m" + "z" * 5000, '{"id":$ID,"message":"fine"}']))
    assert a.recv() == "fine"
    server.await_log("did you mean to print to stderr")
    wait_until(lambda: "did you mean" in server.err(), "the line on stderr")
    for text in (server.log(), server.err()):
        assert "\x1b[31mz" not in text
        assert "z" * 201 not in text
        assert "z" * 100 in text
        assert r"\x1b[31m" in text


def test_a_flood_of_faults_is_rate_limited_in_the_log(scripted):
    server = scripted()
    a = server.connect()
    a.send("!raw " + json.dumps(["garbage"] * 3000 + ['{"id":$ID,"message":"fine"}']))
    assert a.recv() == "fine"
    assert server.metric("wsgw_listener_faults_total") == 3000
    assert server.log().count("garbage") < 300


def test_effects_happen_in_the_order_of_the_answers(scripted, tmp_path):
    server = scripted()
    a, b = server.connect(), server.connect()
    server.record.wait("onClientOpen", 2)
    go = tmp_path / "go"
    a.send(f"!wait-for {go}")
    b.send("second in, first out")
    assert a.recv() == b.recv() == "second in, first out"
    go.touch()
    assert a.recv() == b.recv() == f"!wait-for {go}"


@pytest.mark.parametrize(
    ("route", "sender", "other"),
    [("all", True, True), ("others", False, True), ("sender", True, False), ("none", False, False)],
)
@pytest.mark.parametrize("listener", [None, ["cat"]])
def test_route(serve, route, sender, other, listener):
    server = serve("--route", route, listener=listener)
    a, b = server.connect(), server.connect()
    server.await_connections(2)
    a.send("x")
    server.await_metric("wsgw_messages_received_total", 1)
    # It is counted when it is read; once a ping behind it is answered it has its place in the order.
    assert a.inner.ping().wait(PATIENCE)
    # A push goes to all under each of them, and comes behind what was sent before.
    assert server.push(message="mark")[1]["delivered"] == 2
    assert a.recv() == ("x" if sender else "mark")
    assert b.recv() == ("x" if other else "mark")


def test_connections_win_over_the_route_and_a_command_goes_to_all(scripted):
    server = scripted("--route", "none")
    (a, _), (b, nb) = server.named(), server.named()
    a.send("!answer " + json.dumps({"message": "to b", "connections": [nb]}))
    a.send("!raw " + json.dumps('{"command":"send","message":"all"}'))
    assert b.recv_many(2) == ["to b", "all"]
    assert a.recv() == "all"


def test_except_comes_off_the_route(scripted):
    server = scripted("--route", "others")
    (a, _), (b, nb), (c, _) = (server.named() for _ in range(3))
    a.send("!answer " + json.dumps({"message": "1", "except": [nb]}))
    c.send("2")
    assert c.recv() == "1"
    assert a.recv() == "2"
    assert b.recv() == "2"
