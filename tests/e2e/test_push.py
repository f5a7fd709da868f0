"""Pushes through the control port: one struct, and streams of them."""

import http.client
import json
import os
import signal
import threading

import pytest

from harness import wait_until


def test_a_push_goes_through_the_listener(scripted):
    server = scripted()
    a, b = server.connect(), server.connect()
    server.record.wait("onClientOpen", 2)
    status, answer = server.push(message="backup done")
    assert (status, answer) == (200, {"matched": 2, "delivered": 2, "dropped": 0, "gone": []})
    assert a.recv() == b.recv() == "backup done"
    line = server.record.lines()[-1]
    assert line.startswith('{"id":3,"event":"onMessage","conn":null,')
    assert json.loads(line) == {"id": 3, "event": "onMessage", "conn": None,
                                "message": "backup done", "source": "send"}


def test_its_own_keys_pass_through_and_no_newline_becomes_a_line(scripted):
    server = scripted()
    server.connect()
    struct = '{\n  "message": "x",\r\n  "room" : { "n" : 1.50,\n "big": 12345678901234567890 }\n}'
    assert server.api("POST", "/v1/gateways/default/messages", struct)[0] == 200
    line = [x for x in server.record.lines() if "room" in x][0]
    assert '"n":1.50' in line.replace(" ", "")
    assert "12345678901234567890" in line
    event = json.loads(line)
    assert event["room"] == {"n": 1.5, "big": 12345678901234567890}
    assert event["source"] == "send"


@pytest.mark.parametrize("key", ["id", "event", "conn", "command", "ref", "source", "redelivered",
                                 "resumed", "join", "leave", "since", "channels"])
def test_a_push_cannot_forge(scripted, key):
    server = scripted()
    a = server.connect()
    for value in ("1", "null", '"x"'):
        body = '{"message":"x","%s":%s}' % (key, value)
        status, answer = server.api("POST", "/v1/gateways/default/messages", body)
        assert (status, answer["error"]["code"]) == (400, "bad_request")
        assert key in answer["error"]["message"]
    escaped = '{"message":"x","\\u00%02x%s":1}' % (ord(key[0]), key[1:])
    assert server.api("POST", "/v1/gateways/default/messages", escaped)[0] == 400
    assert server.push(message="after")[0] == 200
    assert a.recv() == "after"


@pytest.mark.parametrize("body", [
    "", "hello", "[]", "7", '"x"', "null", "{}", '{"room":1}', '{"message":"a","message":"b"}',
    '{"message":"x","room":1,"room":2}', '{"message":"x"', '{"message":"x"} {"message":"y"}',
    '{"message":"x","connections":"k1"}', '{"message":"x","connections":[1]}',
    '{"message":"x","except":{}}', '{"base64":"A"}', '{"base64":7}', '{"message":"\\ud800"}',
    '{"message":"x","\\u006dessage":"y"}',
])
def test_a_wrong_struct_is_a_400(scripted, body):
    server = scripted()
    a = server.connect()
    status, answer = server.api("POST", "/v1/gateways/default/messages", body)
    assert (status, answer["error"]["code"]) == (400, "bad_request")
    server.push(message="after")
    assert a.recv() == "after"


def test_bytes_that_are_not_utf8_are_a_400(serve):
    server = serve()
    body = b'{"message":"\xff"}'
    assert server.api("POST", "/v1/gateways/default/messages", body)[0] == 400


def test_binary(scripted):
    server = scripted()
    a = server.connect()
    assert server.push(base64="AAEC/w==")[1]["delivered"] == 1
    assert a.recv() == b"\x00\x01\x02\xff"


def test_a_targeted_push_stays_one(scripted):
    server = scripted()
    (a, na), (b, nb), (c, nc) = (server.named() for _ in range(3))
    assert server.push(message="1", connections=[nb, "gone9"])[1] == {
        "matched": 1, "delivered": 1, "dropped": 0, "gone": ["gone9"]}
    assert server.push({"message": "2", "except": [na]})[1]["delivered"] == 2
    # An answer that gives neither, or gives one.
    assert server.push({"message": '!raw "{\\"id\\":$ID}"', "connections": [nc]})[1]["delivered"] == 1
    assert server.push({"message": '!answer {"message":"4","connections":["%s"]}' % na,
                        "except": [nb]})[1]["delivered"] == 1
    assert server.push({"message": '!answer {"message":"5","except":[]}',
                        "except": [nb]})[1]["delivered"] == 3
    assert a.recv_many(2) == ["4", "5"]
    assert b.recv_many(3) == ["1", "2", "5"]
    assert c.recv_many(3) == ["2", '!raw "{\\"id\\":$ID}"', "5"]


def test_the_listener_chooses_nobody(scripted):
    server = scripted()
    a = server.connect()
    status, answer = server.push(message='!answer {"connections":[]}')
    assert (status, answer) == (200, {"matched": 0, "delivered": 0, "dropped": 0, "gone": []})
    server.push(message="after")
    assert a.recv() == "after"


def test_a_push_enters_behind_the_opens(scripted):
    server = scripted()
    for n in range(20):
        server.connect()
        server.push(message=str(n))
    kinds = [e["event"] for e in server.record.events()]
    assert kinds == ["onClientOpen", "onMessage"] * 20


def test_no_hook_skips_the_listener(scripted):
    server = scripted(script=["--silent"])
    a = server.connect()
    assert server.push(message="x", query="?hook=none")[1]["delivered"] == 1
    assert a.recv() == "x"
    assert server.push(base64="AAEC", query="?hook=none")[1]["delivered"] == 1
    assert a.recv() == b"\0\1\2"
    assert server.record.messages() == []


def test_hook_none_works_while_the_listener_is_down(scripted):
    server = scripted(script=["--first-lines", '["{\\"event\\":\\"onResult\\"}"]',
                              "--crash-on-event", "onClientOpen"])
    a = server.connect()
    server.await_status(listener="restarting")
    assert server.push(message="x", query="?hook=none")[1]["delivered"] == 1
    assert a.recv() == "x"


def test_no_answer_is_a_504(scripted):
    server = scripted("--listener-timeout", "200ms", "--on-timeout", "broadcast")
    server.connect()
    status, answer = server.push(message="!none")
    assert (status, answer["error"]["code"]) == (504, "listener_timeout")


@pytest.mark.parametrize("line", ['{"id":$ID,"connections":7}', '{"id":$ID,"base64":"!"}'])
def test_a_fault_is_a_502(scripted, line):
    server = scripted()
    status, answer = server.push(message="!raw " + json.dumps(line))
    assert (status, answer["error"]["code"]) == (502, "listener_fault")


def test_a_push_not_begun_in_time_is_a_503_and_not_sent(scripted):
    server = scripted("--listener-timeout", "300ms", "--hang-timeout", "60s")
    a = server.connect()
    server.record.wait("onClientOpen")
    (pid,) = server.record.wait_pids(1)
    os.kill(pid, signal.SIGSTOP)
    # More than a pipe holds: this line is begun, and what comes after it is not.
    a.send("x" * 500_000)
    server.await_metric("wsgw_messages_received_total", 1)
    status, answer = server.push(message="refused")
    assert (status, answer["error"]["code"]) == (503, "listener_down")
    os.kill(pid, signal.SIGCONT)
    assert len(a.recv()) == 500_000
    assert server.push(message="after")[0] == 200
    assert a.recv() == "after"
    assert "refused" not in server.record.messages()


def test_a_push_withdrawn_before_it_was_begun(scripted, tmp_path):
    server = scripted("--window", "1")
    a = server.connect()
    go = tmp_path / "go"
    a.send(f"!wait-for {go}")
    server.record.wait("onMessage")
    link = http.client.HTTPConnection("127.0.0.1", server.control_port)
    link.request("POST", "/v1/gateways/default/messages", '{"message":"withdrawn"}',
                 {"Authorization": f"Bearer {server.token}"})
    server.await_metric("wsgw_listener_queue_events", 1)
    link.close()
    wait_until(lambda: server.metric("wsgw_listener_queue_events") == 0, "the withdrawal")
    go.touch()
    assert a.recv().startswith("!wait-for")
    assert server.push(message="after")[1]["delivered"] == 1
    assert "withdrawn" not in server.record.messages()


def test_a_push_that_is_not_running_or_not_known(serve):
    server = serve(config="""
        [gateways.chat]
        port = 0
        [gateways.idle]
        port = 0
        startup = "manual"
    """)
    status, answer = server.push(gateway="nope", message="x")
    assert status == 404
    assert answer["error"]["code"] == "unknown_gateway"
    assert sorted(answer["error"]["known"]) == ["chat", "idle"]
    status, answer = server.push(gateway="idle", message="x")
    assert (status, answer["error"]["code"]) == (409, "not_running")
    assert server.push(gateway="CHAT", message="x")[0] in (200, 404)


def test_too_large(serve):
    server = serve(listener=["cat"])
    body = json.dumps({"message": "x" * (16 * 1024 * 1024)})
    status, answer = server.api("POST", "/v1/gateways/default/messages", body)
    assert (status, answer["error"]["code"]) == (413, "too_large")


def test_too_large_for_the_listener(serve):
    server = serve("--max-message", "1KiB", "--max-line", "80KiB", listener=["cat"])
    server.connect()
    assert server.push(message="x" * 100)[0] == 200
    status, answer = server.push(message="\x01" * 20000)
    assert (status, answer["error"]["code"]) == (413, "too_large")
    assert server.push(message="after")[0] == 200


def test_ndjson(scripted):
    server = scripted()
    a = server.connect()
    server.record.wait("onClientOpen")
    # Empty lines are skipped, and counted.
    lines = ['{"message":"1"}', "", "not json", '{"message":"2"}', '{"message":"3","id":7}',
             '{"message":"!answer {\\"connections\\":7}"}', '{"message":"4"}']
    status, answer = server.api("POST", "/v1/gateways/default/messages", "\n".join(lines) + "\n",
                                headers={"Content-Type": "application/x-ndjson"})
    assert status == 200
    assert answer == {
        "matched": 3, "delivered": 3, "dropped": 0, "gone": [], "failures": 3,
        "failed": [{"line": 3, "code": "bad_request"}, {"line": 5, "code": "bad_request"},
                   {"line": 6, "code": "listener_fault"}]}
    assert a.recv_many(3) == ["1", "2", "4"]


def test_ndjson_with_each_result(scripted):
    server = scripted()
    server.connect()
    server.record.wait("onClientOpen")
    lines = ['{"message":"1"}', "not json", '{"message":"2"}']
    status, _, text = server.http("POST", "/v1/gateways/default/messages?results=each",
                                  "\n".join(lines), {"Content-Type": "application/x-ndjson"})
    assert status == 200
    first, second, third = map(json.loads, text.splitlines())
    assert first["delivered"] == third["delivered"] == 1
    assert "bad_request" in json.dumps(second)


def test_many_failures_are_counted_and_the_first_hundred_named(serve):
    server = serve()
    status, answer = server.api("POST", "/v1/gateways/default/messages", "x\n" * 150,
                                headers={"Content-Type": "application/x-ndjson; charset=utf-8"})
    assert status == 200
    assert answer["failures"] == 150
    assert len(answer["failed"]) == 100


@pytest.mark.parametrize("query", ["", "?results=each"])
def test_a_client_that_writes_all_and_reads_then_does_not_hang(serve, query):
    server = serve(listener=["cat"])
    a = server.connect()
    server.await_connections(1)
    count = 20_000
    body = "".join('{"message":"%d"}\n' % n for n in range(count))
    status, _, text = server.http("POST", f"/v1/gateways/default/messages{query}", body,
                                  headers={"Content-Type": "application/x-ndjson"})
    assert status == 200
    results = [json.loads(line) for line in text.splitlines()]
    assert len(results) == (count if query else 1)
    assert sum(result["delivered"] for result in results) == count
    assert not any(result.get("failures") or result.get("error") for result in results)
    assert a.recv_many(count) == [str(n) for n in range(count)]


def test_a_stream_waits_for_a_recipient_that_reads(serve):
    """One that reads slowly, but reads, is not a slow consumer."""
    server = serve("--max-queue", "256KiB")
    link = server.raw(receive_buffer=16384).upgrade()
    server.await_connections(1)
    body = "".join('{"message":"%s"}\n' % (str(n) + "x" * 20_000) for n in range(500))
    answers = []
    pushing = threading.Thread(target=lambda: answers.append(server.api(
        "POST", "/v1/gateways/default/messages", body,
        headers={"Content-Type": "application/x-ndjson"})))
    pushing.start()
    for n in range(500):
        assert link.read_frame() == (True, 1, str(n).encode() + b"x" * 20_000)
    pushing.join()
    ((status, answer),) = answers
    assert (status, answer["delivered"], answer["dropped"]) == (200, 500, 0)
    assert server.metric("wsgw_slow_consumers_total") == 0


def test_pushes_keep_their_order_on_a_stream(serve):
    server = serve()
    a, b = server.connect(), server.connect()
    server.await_connections(2)
    body = "".join('{"message":"%d"}\n' % n for n in range(2000))
    server.api("POST", "/v1/gateways/default/messages", body,
               headers={"Content-Type": "application/x-ndjson"})
    assert a.recv_many(2000) == b.recv_many(2000) == [str(n) for n in range(2000)]


def test_what_is_refused_is_not_sent(scripted, tmp_path):
    """The listener's stdin is full: the push's line is made, but not begun."""
    go = tmp_path / "go"
    server = scripted("--hooks", "onMessage", "--listener-timeout", "1s", "--hang-timeout", "60s",
                      script=["--never-reads", go])
    link = server.raw().upgrade()
    for _ in range(3):
        link.frame(1, "x" * 40_000)
    server.await_metric("wsgw_messages_received_total", 3)
    status, answer = server.push(message="refused")
    assert (status, answer["error"]["code"]) == (503, "listener_down")
    go.touch()
    assert server.push(message="after")[0] == 200
    assert "refused" not in server.record.messages()
    assert len(server.record.messages()) == 4
