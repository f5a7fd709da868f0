"""The listener protocol: events, answers, commands, routes, pushes."""

import base64
import json
import os
import urllib.parse

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from conftest import BINARY, wait_for


def names(serve):
    return [c["conn"] for c in serve.request("GET", "/v1/gateways/default/connections")[1]]


def quiet(ws, seconds=0.15):
    """Nothing comes."""
    with pytest.raises(TimeoutError):
        raise AssertionError(f"got {ws.recv(timeout=seconds)!r}")


def test_cat_broadcasts_text_and_binary_to_all(serve):
    s = serve("--", "cat")
    with connect(s.url()) as a, connect(s.url()) as b:
        a.send("grüß \"dich\"\n\\ \x01")
        assert a.recv(20) == b.recv(20) == "grüß \"dich\"\n\\ \x01"
        b.send(b"\x00\x01\x02\xff")
        assert a.recv(20) == b.recv(20) == b"\x00\x01\x02\xff"
        a.send("")
        assert a.recv(20) == b.recv(20) == ""
        a.send(b"")
        assert a.recv(20) == b.recv(20) == b""


def test_the_lines_are_those_of_the_contract(serve, listener):
    s = serve("--hooks", "onHandshake,onClientOpen,onMessage,onClientClose", *listener("cat"))
    with connect(s.url("/chat?room=1"), subprotocols=["json"], origin="http://localhost:1",
                 additional_headers=[("Cookie", "a=b"), ("Cookie", "c=d"), ("X-A", "1"), ("X-A", "2"), ("Other", "no")]) as ws:
        assert ws.subprotocol == "json"
        port = ws.local_address[1]
        ws.send("hi")
        ws.recv(20)
        ws.send(b"\0\1\2\xff")
        ws.recv(20)
        assert s.push({"message": "backup done", "level": 3})[0] == 200
        ws.recv(20)
        ws.close(1001, "bye")
    events = listener.wait(lambda e: e and e[-1]["event"] == "onClientClose")
    shake, opened, text, binary, push, closed = events
    assert list(shake)[:4] == ["id", "event", "conn", "message"]
    conn = shake["conn"]
    headers = {"origin": "http://localhost:1", "cookie": "a=b; c=d", "x-a": "1, 2"}
    request = {"path": "/chat", "query": "room=1", "remote": f"127.0.0.1:{port}"}
    for event in (shake, opened):
        got = {k: v for k, v in event["headers"].items() if k != "user-agent"}
        assert got == headers
        assert {k: event[k] for k in request} == request
        assert event["message"] == ""
    assert shake["protocols"] == ["json"] and opened["protocol"] == "json"
    ids = [e["id"] for e in events]
    assert ids == sorted(set(ids))
    assert text == {"id": text["id"], "event": "onMessage", "conn": conn, "message": "hi"}
    assert binary == {"id": binary["id"], "event": "onMessage", "conn": conn, "message": "",
                      "base64": base64.b64encode(b"\0\1\2\xff").decode()}
    assert push["conn"] is None and push["source"] == "send" and push["level"] == 3
    assert closed == {"id": closed["id"], "event": "onClientClose", "conn": conn, "message": "",
                      "code": 1001, "reason": "bye", "clean": True}


@pytest.mark.parametrize("answer, sent", [
    ('{"id":ID,"message":"HI"}', "HI"),
    ('{"id":ID,"base64":"AAEC"}', b"\0\1\2"),
    ('{"id":ID,"message":"x","base64":"AAEC"}', b"\0\1\2"),
    ('{"id":ID,"message":{"a": [1, 2]}}', '{"a":[1,2]}'),
    ('{"id":ID,"message":7}', "7"),
    ('{"id":ID,"message":null}', '{"id":ID,"message":null}'),
    ('{"id":ID,"message":""}', ""),
    ('{"id":ID,"unknown":true,"event":"whatever"}', None),
    ('{"message":"late id","id":ID}', "late id"),
])
def test_answers_change_the_body(serve, listener, answer, sent):
    s = serve(*listener("script"))
    with connect(s.url()) as ws:
        ws.send(answer)
        assert ws.recv(20) == (answer if sent is None or "null" in answer else sent)


@pytest.mark.parametrize("answer, fault", [
    ('{"id":ID,"base64":"%%%"}', "answer"),
    ('{"id":ID,"message":"\\ud800"}', "answer"),
    ('{"id":ID,"connections":"k1"}', "answer"),
    ('{"id":ID,"connections":[1]}', "answer"),
    ('{"id":ID,"connections":null}', "answer"),
    ('{"id":ID,"except":{}}', "answer"),
    ('{"id":99999}', "unknown_id"),
    ('[1]', "garbage"),
    ('hello', "garbage"),
    ('{"message":"no id"}', "garbage"),
    ('{"command":"nope"}', "command"),
    ('{"command":"send"}', "command"),
    ('{"command":"close","conn":"k1","code":1005}', "command"),
])
def test_faults_send_nothing(serve, listener, answer, fault):
    s = serve("--listener-timeout", "60", *listener("script"))
    with connect(s.url()) as ws:
        ws.send(answer)
        s.wait_metric("wsgw_listener_faults_total", 1, kind=fault)
        ws.send('{"id":ID,"message":"on it goes"}')
        assert ws.recv(20) == "on it goes"


def test_recipients(serve, listener):
    s = serve(*listener("script"))
    with connect(s.url()) as a, connect(s.url()) as b, connect(s.url()) as c:
        ka, kb, kc = wait_for(lambda: len(names(s)) == 3 and names(s))
        a.send('{"id":ID,"message":"1","connections":["%s","%s","%s","k99999","x"]}' % (kb, kb, kc))
        assert b.recv(20) == c.recv(20) == "1"
        a.send('{"id":ID,"message":"2","connections":[]}')
        a.send('{"id":ID,"message":"3","except":["%s"]}' % kb)
        assert a.recv(20) == c.recv(20) == "3"
        a.send('{"id":ID,"message":"4","connections":["%s","%s"],"except":["%s"]}' % (ka, kb, ka))
        assert b.recv(20) == "4"
        a.send('{"id":ID,"message":"5"}')
        assert a.recv(20) == b.recv(20) == c.recv(20) == "5"
    assert s.metric("wsgw_recipients_gone_total") >= 1


@pytest.mark.parametrize("route, sender, other", [
    ("all", True, True), ("others", False, True), ("sender", True, False), ("none", False, False)])
@pytest.mark.parametrize("command", [[], ["--", "cat"]])
def test_routes(serve, route, sender, other, command):
    s = serve("--route", route, *command)
    with connect(s.url()) as a, connect(s.url()) as b:
        a.send("m")
        s.wait_metric("wsgw_messages_received_total", 1)
        # A push goes to all under each route.
        status, outcome = s.push({"message": "push"})
        assert status == 200 and outcome["delivered"] == 2, outcome
        assert [a.recv(20) for _ in range(1 + sender)] == ["m"] * sender + ["push"]
        assert [b.recv(20) for _ in range(1 + other)] == ["m"] * other + ["push"]


def test_hooks_choose_what_is_sent(serve, listener):
    s = serve("--hooks", "onClientOpen", *listener("cat"))
    with connect(s.url()) as a, connect(s.url()) as b:
        a.send("broadcast at once")
        assert a.recv(20) == b.recv(20) == "broadcast at once"
    events = listener.wait(lambda e: len(e) == 2)
    assert {e["event"] for e in events} == {"onClientOpen"}


def test_a_producer_needs_no_hooks(serve, listener):
    s = serve("--hooks", "none", *listener("producer"))
    with connect(s.url()) as a, connect(s.url()) as b:
        assert a.recv(20).startswith("tick") and b.recv(20).startswith("tick")
        # Clients' messages are broadcast without asking it.
        a.send("hello")
        while b.recv(20) != "hello":
            pass


def test_vmstat_as_a_producer(serve):
    script = """vmstat 1 | while read -r line; do printf '{"command":"send","message":"%s"}\\n' "$line"; done"""
    s = serve("--hooks", "none", "--listener", script)
    with connect(s.url()) as ws:
        assert ws.recv(20)


def test_commands_and_their_results(serve, listener):
    s = serve("--route", "none", *listener("script"))
    with connect(s.url()) as a, connect(s.url()) as b:
        ka, kb = wait_for(lambda: len(names(s)) == 2 and names(s))
        a.send('{"id":ID}\n{"command":"send","message":"tick","ref":7}')
        assert a.recv(20) == b.recv(20) == "tick"
        a.send('{"id":ID}\n{"command":"send","base64":"AAEC","connections":["%s","k999"],"ref":{"x":1}}' % kb)
        assert b.recv(20) == b"\0\1\2"
        a.send('{"id":ID}\n{"command":"close","conn":"%s","code":4001,"reason":"%s","ref":null}' % (kb, "ä" * 100))
        with pytest.raises(ConnectionClosed) as closed:
            b.recv(20)
        assert closed.value.rcvd.code == 4001 and closed.value.rcvd.reason == "ä" * 61
        a.send('{"id":ID}\n{"command":"close","conn":"k999","ref":"gone"}')
        a.send('{"id":ID}\n{"command":"nope","ref":9}')
        results = listener.wait(lambda e: sum(x["event"] == "onResult" for x in e) == 5)
        results = [e for e in results if e["event"] == "onResult"]
        results = {json.dumps(e["ref"]): e for e in results}
        assert results["7"] == {"event": "onResult", "ref": 7, "matched": 2, "delivered": 2, "dropped": 0, "gone": []}
        assert results['{"x": 1}'] == {"event": "onResult", "ref": {"x": 1}, "matched": 1, "delivered": 1, "dropped": 0, "gone": ["k999"]}
        assert results["null"] == {"event": "onResult", "ref": None, "closed": True}
        assert "error" in results['"gone"'] and "error" in results["9"]


def test_on_handshake(serve, listener):
    s = serve("--hooks", "onHandshake", "--listener-timeout", "500ms", *listener("handshake"))

    def shake(answer, **more):
        return connect(s.url("/?" + urllib.parse.quote(answer)), **more)

    with shake('{"id":ID}', subprotocols=["a", "b"]) as ws:
        assert ws.subprotocol == "a"
    with shake('{"id":ID,"protocol":"b"}', subprotocols=["a", "b"]) as ws:
        assert ws.subprotocol == "b"
    for answer, status in [
        ('{"id":ID,"reject":401,"reason":"no token"}', 401),
        ('{"id":ID,"reject":599}', 599),
        ('{"id":ID,"reject":"401"}', 500),
        ('{"id":ID,"reject":200}', 500),
        ('{"id":ID,"reject":600}', 500),
        ('{"id":ID,"protocol":"c"}', 500),
        ("silence", 503),
    ]:
        with pytest.raises(InvalidStatus) as refused:
            shake(answer, subprotocols=["a"])
        assert refused.value.response.status_code == status, answer
        if status == 401:
            assert refused.value.response.body == b"no token"
        if status == 503:
            assert "Retry-After" in refused.value.response.headers


def test_pushes_keep_their_recipients_unless_the_answer_has_others(serve, listener):
    s = serve("--", "cat")
    with connect(s.url()) as a, connect(s.url()) as b:
        ka, kb = wait_for(lambda: len(names(s)) == 2 and names(s))
        assert s.push({"message": "one", "connections": [kb, "k9999"]})[1] == {
            "matched": 1, "delivered": 1, "dropped": 0, "gone": ["k9999"]}
        assert b.recv(20) == "one"
        assert s.push({"message": "two", "except": [kb]})[1]["delivered"] == 1
        assert a.recv(20) == "two"
        assert s.push({"base64": "AAEC"}, query="?hook=none")[1]["delivered"] == 2
        assert a.recv(20) == b.recv(20) == b"\0\1\2"


@pytest.mark.parametrize("struct", [
    {"message": "x", "id": 1}, {"message": "x", "event": "onMessage"}, {"message": "x", "conn": "k1"},
    {"message": "x", "command": "send"}, {"message": "x", "ref": 1}, {"message": "x", "source": "y"},
    {"message": "x", "redelivered": True}, {"message": "x", "resumed": True}, {}, [], "x",
    '{"message":"a","message":"b"}', '{"message":"x"', '{"base64":"%"}', '{"message":"x","connections":"k1"}',
])
def test_a_push_cannot_forge(serve, struct):
    s = serve("--", "cat")
    status, body = s.push(struct)
    assert (status, body["error"]["code"]) == (400, "bad_request")


def test_a_newline_in_a_push_is_not_a_line(serve, listener):
    s = serve(*listener("cat"))
    assert s.push('{\n"message":\n"x",\n"more":{"a":\n1}\n}')[0] == 200
    assert listener.wait(len)[0]["more"] == {"a": 1}


def test_order_with_a_listener_that_shuffles(serve, listener):
    """200 clients, 20,000 messages: none lost, none twice, all recipients in one order."""
    import asyncio
    from websockets.asyncio.client import connect as aconnect
    s = serve("--max-queue", "64MiB", *listener("shuffle"))
    clients, each = 200, 100

    async def run_few():
        # Two of them read everything and compare; the others only write, and are read by the
        # kernel until it is full: they take what comes.
        sockets = [await aconnect(s.url(), max_queue=None, compression=None) for _ in range(clients)]

        async def send(i, ws):
            for n in range(each):
                await ws.send(f"{i} {n}")

        async def receive(ws, keep):
            got = []
            for _ in range(clients * each):
                message = await ws.recv()
                if keep:
                    got.append(message)
            return got

        sends = [send(i, ws) for i, ws in enumerate(sockets)]
        reads = [receive(ws, i < 2) for i, ws in enumerate(sockets[:20])]
        drop = [asyncio.create_task(drain(ws)) for ws in sockets[20:]]
        results = await asyncio.gather(*sends, *reads)
        for task in drop:
            task.cancel()
        await asyncio.gather(*(ws.close() for ws in sockets))
        return results[clients], results[clients + 1]

    async def drain(ws):
        async for _ in ws:
            pass

    first, second = asyncio.run(run_few())
    assert first == second
    assert len(set(first)) == clients * each
    events = listener.wait(lambda e: sum(x["event"] == "onClientClose" for x in e) == clients, 60)
    seen = {}
    for event in events:
        seen.setdefault(event["conn"], []).append(event)
    for conn, mine in seen.items():
        kinds = [e["event"] for e in mine]
        assert kinds == ["onClientOpen"] + ["onMessage"] * each + ["onClientClose"], (conn, kinds[:3])
        assert [int(e["message"].split()[1]) for e in mine[1:-1]] == list(range(each))


def test_the_answer_still_reaches_a_client_that_said_close(serve):
    s = serve("--", "sh", "-c", "while read -r line; do sleep 0.2; printf '%s\\n' \"$line\"; done")
    done = s.run("connect", s.url(), stdin="hi\n")
    assert (done.returncode, done.stdout) == (0, "hi\n"), done.stderr


def test_the_listeners_environment(serve, listener, tmp_path):
    s = serve(*listener("environment"), env={"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "LISTEN_FDS": "1",
                                             "INVOCATION_ID": "y", "JOURNAL_STREAM": "1:2"})
    with connect(s.url()) as ws:
        ws.send("?")
        got = ws.recv(20)
        # One that comes early enough is told so, too.
        env = json.loads(ws.recv(20) if got == "ready" else got)
    assert env["WSGW_PROTOCOL"] == "1" and env["WSGW_GATEWAY"] == "default"
    assert env["WSGW_CONTROL"] == s.control_url and env["PYTHONUNBUFFERED"] == "1"
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "INVOCATION_ID", "JOURNAL_STREAM"} & set(env)
    assert os.path.samefile(env["CWD"], tmp_path)


def test_a_listener_that_sends_to_its_own_gateway_skips_its_hook(serve, listener):
    s = serve(*listener("own-send", BINARY))
    with connect(s.url()) as ws:
        ws.send("go")
        assert ws.recv(10) == "from the listener"
        assert ws.recv(10) == "delivered 1"
