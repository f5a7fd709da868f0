"""The listener's commands: `send`, `close`, and their results."""

import json

import pytest

from harness import wait_until


def raw(client, *lines):
    """Has the fake listener write these lines, and then the echo of the directive."""
    lines = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    client.send("!raw " + json.dumps([*lines, '{"id":$ID,"connections":["$CONN"]}']))


def test_commands_work_from_the_start_of_the_process(serve):
    # It speaks before anything is asked, and is not harmed for that.
    server = serve("--hooks", "none", listener=[
        "sh", "-c", 'echo \'{"command":"send","message":"early"}\'; '
        'while sleep 0.05; do echo \'{"command":"send","message":"tick"}\'; done'])
    assert server.connect().recv() == "tick"
    assert server.metric("wsgw_listener_faults_total") == 0


def test_send_in_all_its_forms(scripted):
    server = scripted()
    (a, na), (b, nb) = server.named(), server.named()
    raw(a,
        {"command": "send", "message": "1"},
        {"command": "send", "message": "2", "connections": [nb]},
        {"command": "send", "message": "3", "except": [nb]},
        {"command": "send", "base64": "AAEC"},
        {"command": "send", "base64": "AAEC", "message": "loses"},
        {"command": "send", "message": {"n": 1}},
        {"command": "send", "message": ""},
        {"command": "send", "message": "4", "connections": []},
        {"command": "send", "message": "5", "connections": [na, nb], "except": [na]})
    binary = b"\x00\x01\x02"
    assert a.recv_many(6) == ["1", "3", binary, binary, '{"n":1}', ""]
    assert a.recv().startswith("!raw")
    assert b.recv_many(7) == ["1", "2", binary, binary, '{"n":1}', "", "5"]
    # A command is no answer: nothing of it was counted as a fault.
    assert server.metric("wsgw_listener_faults_total") == 0


def test_a_command_with_an_id_is_a_command(scripted):
    server = scripted()
    a = server.connect()
    raw(a, '{"id":$ID,"command":"send","message":"x"}')
    assert a.recv() == "x"
    assert a.recv().startswith("!raw")


def test_close(scripted):
    server = scripted()
    (a, na), (b, nb), (c, nc) = server.named(), server.named(), server.named()
    raw(a, {"command": "close", "conn": nb, "code": 4001, "reason": "kicked"},
        {"command": "close", "conn": nc})
    assert a.recv().startswith("!raw")
    assert b.await_close() == (4001, "kicked")
    assert c.await_close() == (1000, "")
    closed = {e["conn"]: e for e in server.record.wait("onClientClose", 2)}
    assert (closed[nb]["code"], closed[nb]["reason"]) == (4001, "kicked")
    assert closed[nc]["code"] == 1000
    server.await_connections(1)


def test_a_message_sent_before_a_close_arrives_before_it(scripted):
    server = scripted()
    a, na = server.named()
    raw(a, {"command": "send", "message": "last words", "connections": [na]},
        {"command": "close", "conn": na, "code": 4000})
    assert a.recv() == "last words"
    assert a.await_close()[0] == 4000


def test_a_long_reason_is_cut_at_a_character(scripted):
    server = scripted()
    (a, _), (b, nb) = server.named(), server.named()
    raw(a, {"command": "close", "conn": nb, "code": 4001, "reason": "x" + "ä" * 100})
    code, reason = b.await_close()
    assert code == 4001
    assert reason == "x" + "ä" * 61


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, -1, "x", 1000.5])
def test_a_close_code_that_may_not_be_sent_is_a_fault(scripted, code):
    server = scripted()
    (a, _), (b, nb) = server.named(), server.named()
    raw(a, {"command": "close", "conn": nb, "code": code, "ref": 1})
    assert a.recv().startswith("!raw")
    (result,) = server.record.wait("onResult")
    assert result["ref"] == 1 and result["error"]
    server.await_metric("wsgw_listener_faults_total", 1, kind="command")
    b.send("still here")
    assert b.recv() == "still here"


@pytest.mark.parametrize(
    "command",
    [
        {"command": "dance"},
        {"command": "send"},
        {"command": "close"},
        {"command": "send", "message": "x", "connections": "k1"},
        {"command": "send", "message": "x", "except": None},
        {"command": "send", "base64": "!"},
        {"command": 7},
        {"command": "close", "conn": 5},
    ],
)
def test_a_wrong_command_is_a_fault(scripted, command):
    server = scripted()
    a, _ = server.named()
    raw(a, {**command, "ref": "r"})
    assert a.recv().startswith("!raw")
    (result,) = server.record.wait("onResult")
    assert result["ref"] == "r" and isinstance(result["error"], str)
    server.await_metric("wsgw_listener_faults_total", 1, kind="command")
    # It was meant for the gateway: no word of stderr.
    server.await_log("wrote a line that is skipped: ")
    assert "mean to print" not in server.log()


@pytest.mark.parametrize("ref", [7, "a", None, {"n": [1, 2]}, True, 1.5])
def test_results(scripted, ref):
    server = scripted()
    (a, na), (b, nb) = server.named(), server.named()
    raw(a, {"command": "send", "message": "x", "ref": ref})
    server.record.wait("onResult", 1)
    raw(a, {"command": "send", "message": "x", "ref": ref, "connections": [nb, "gone1"]})
    server.record.wait("onResult", 2)
    raw(a, {"command": "close", "conn": nb, "ref": ref})
    first, second, third = server.record.wait("onResult", 3)
    assert first == {"event": "onResult", "ref": ref, "matched": 2, "delivered": 2, "dropped": 0,
                     "gone": []}
    assert second == {"event": "onResult", "ref": ref, "matched": 1, "delivered": 1, "dropped": 0,
                      "gone": ["gone1"]}
    assert third == {"event": "onResult", "ref": ref, "closed": True}
    assert not any('"id"' in line for line in server.record.lines() if "onResult" in line)


def test_without_a_ref_there_is_no_result(scripted):
    server = scripted()
    a, _ = server.named()
    raw(a, {"command": "send", "message": "x"}, {"command": "send", "message": "y", "ref": 1})
    server.record.wait("onResult")
    assert [e["ref"] for e in server.record.events("onResult")] == [1]


def test_closing_a_connection_that_is_gone(scripted):
    server = scripted()
    a, _ = server.named()
    raw(a, {"command": "close", "conn": "nobody", "ref": 1})
    (result,) = server.record.wait("onResult")
    assert result["ref"] == 1
    assert result["error"] and "closed" not in result


def test_a_result_does_not_wait_for_the_next_event(serve, tmp_path):
    # Nothing else happens meanwhile; the connections of every shard are tried.
    got = tmp_path / "got"
    server = serve("--hooks", "onClientClose", listener=[
        "sh", "-c", 'read -r _; for n in 1 2 3 4; do '
        'echo "{\\"command\\":\\"close\\",\\"conn\\":\\"k$n\\",\\"ref\\":$n}"; '
        f"read -r line; echo \"$line\" >>'{got}'; done; exec cat"])
    server.connect().close()
    wait_until(lambda: got.exists() and got.read_text().count("\n") == 4, "the result lines")
    assert [json.loads(line)["ref"] for line in got.read_text().splitlines()] == [1, 2, 3, 4]


def test_results_are_bounded(scripted):
    server = scripted()
    a, _ = server.named()
    # Each result is longer than 1 KiB; the listener reads none while it writes them.
    ref = "r" * 1024
    command = {"command": "send", "message": "x", "connections": [], "ref": ref}
    a.send("!repeat 3000 " + json.dumps(command))
    server.await_metric("wsgw_listener_results_dropped_total", 1)
    assert a.recv().startswith("!repeat")


def test_a_producer_gets_no_result(serve, tmp_path):
    seen = tmp_path / "stdin"
    server = serve("--hooks", "none", listener=[
        "sh", "-c", f'cat > {seen}; echo end >> {seen}; '
        'while sleep 0.05; do echo \'{"command":"send","message":"tick","ref":1}\'; done'])
    a = server.connect()
    assert a.recv() == "tick"
    assert a.recv() == "tick"
    # Its stdin is /dev/null: it ended at once and nothing was in it.
    assert seen.read_text() == "end\n"
    # Without onMessage messages are broadcast at once.
    b = server.connect()
    b.send("from b")
    while (got := a.recv()) != "from b":
        assert got == "tick"
