"""What happens when the listener does not answer, exits or hangs."""

import os
import signal
import time

import pytest

from harness import alive, group_members, wait_until

#: Restarts come quickly, and nothing is slow to be told.
QUICK = ("--listener-timeout", "5s", "--restart-delay-max", "200ms")


# No answer.


def test_a_message_without_an_answer_is_dropped(scripted):
    server = scripted("--listener-timeout", "200ms")
    a = server.connect()
    a.send("!none")
    server.await_metric("wsgw_messages_dropped_total", 1, reason="timeout")
    server.await_log(r"WARN default k\d+ .*")
    a.send("after")
    assert a.recv() == "after"


@pytest.mark.parametrize("route", ["all", "others", "sender", "none"])
def test_on_timeout_broadcast_goes_by_the_route(scripted, route):
    server = scripted("--listener-timeout", "200ms", "--on-timeout", "broadcast",
                      "--route", route)
    a, b = server.connect(), server.connect()
    server.record.wait("onClientOpen", 2)
    a.send("!none")
    server.record.wait("onMessage")
    # A push is always dropped, and is no broadcast.
    assert server.push(message="!none now")[0] == 504
    server.push(message="mark", query="?hook=none")
    assert a.recv() == ("!none" if route in ("all", "sender") else "mark")
    assert b.recv() == ("!none" if route in ("all", "others") else "mark")


def test_on_timeout_close_closes_the_sender(scripted):
    server = scripted("--listener-timeout", "200ms", "--on-timeout", "close")
    a, b = server.connect(), server.connect()
    a.send("!none")
    assert a.await_close()[0] == 1011
    b.send("x")
    assert b.recv() == "x"
    assert server.push(message="!none")[0] == 504


def test_an_answer_after_the_timeout_is_late(scripted):
    server = scripted("--listener-timeout", "200ms")
    a, _ = server.named()
    late = server.metric("wsgw_listener_late_answers_total")
    a.send("!delay 0.6")
    server.await_metric("wsgw_listener_late_answers_total", late + 1)
    a.send("after")
    assert a.recv() == "after"


def test_the_first_timeout_of_a_listener_that_never_wrote_gives_a_hint(serve):
    # awk keeps its output in a buffer when it is a pipe.
    server = serve("--listener-timeout", "200ms", "--hang-timeout", "60s",
                   listener=["awk", "{print}"])
    a = server.connect()
    a.send("x")
    server.await_log(r"buffer")
    for word in ("stdout buffered", "python3 -u", "jq --unbuffered", "stdbuf -oL", "fflush()"):
        assert word in server.log()
    a.send("y")
    server.await_metric("wsgw_messages_dropped_total", 2)
    assert server.log().count("stdbuf") == 1


def test_no_hint_for_a_listener_that_wrote(scripted):
    server = scripted("--listener-timeout", "200ms")
    a, _ = server.named()
    a.send("!none")
    server.await_metric("wsgw_messages_dropped_total", 1)
    assert "stdbuf" not in server.log()


# Exits and restarts.


def test_clients_stay_and_are_told_again(scripted):
    server = scripted(*QUICK)
    clients = [server.named("/c%d" % n) for n in range(3)]
    (old,) = server.record.wait_pids(1)
    os.kill(old, signal.SIGKILL)
    _, new = server.record.wait_pids(2)
    opens = server.record.wait("onClientOpen", 3, pid=new)
    assert [e["left"] for e in opens] == [2, 1, 0]
    assert all(e["resumed"] is True for e in opens)
    assert {(e["conn"], e["path"]) for e in opens} == {
        (name, "/c%d" % n) for n, (_, name) in enumerate(clients)}
    before = server.record.events(pid=old)
    assert not any("resumed" in e for e in before)
    assert min(e["id"] for e in opens) > max(e["id"] for e in before)
    for client, _ in clients:
        client.send("x")
    for client, _ in clients:
        assert client.recv_many(3) == ["x"] * 3
    server.await_status(restarts=1, listener_pid=new)


def test_unanswered_messages_are_redelivered_with_their_id(scripted):
    server = scripted(*QUICK)
    a, name = server.named()
    a.send("!none")
    server.record.wait("onMessage", 2)
    (old,) = server.record.wait_pids(1)
    first = server.record.events("onMessage", old)[-1]
    os.kill(old, signal.SIGKILL)
    _, new = server.record.wait_pids(2)
    again = server.record.wait("onMessage", 1, pid=new)[0]
    assert again == {**first, "redelivered": True}
    kinds = [(e["event"], e.get("resumed")) for e in server.record.events(pid=new)]
    assert kinds[0] == ("onClientOpen", True)


def test_redelivery_is_oldest_first_and_before_what_waited(scripted):
    server = scripted(*QUICK, "--window", "16", script=["--silent"])
    links = [server.raw().upgrade() for _ in range(2)]
    for m in range(8):
        links[0].frame(1, f"a{m}")
        links[1].frame(1, f"b{m}")
    server.record.wait("onMessage", 8)
    (old,) = server.record.wait_pids(1)
    before = server.record.events("onMessage", old)
    os.kill(old, signal.SIGKILL)
    _, new = server.record.wait_pids(2)
    after = server.record.wait("onMessage", 8, pid=new)
    assert [e["id"] for e in after[:8]] == [e["id"] for e in before]
    assert all(e.get("redelivered") is True for e in after[:8])
    for link in links:
        link.close()


def test_an_answered_message_is_not_redelivered(scripted):
    server = scripted(*QUICK)
    a = server.connect()
    a.send("!echo-exit")
    assert a.recv() == "!echo-exit"
    server.record.wait_pids(2)
    a.send("after")
    assert a.recv() == "after"
    assert server.record.messages().count("!echo-exit") == 1


def test_what_is_left_in_its_stdout_is_handled(serve, tmp_path):
    server = serve(*QUICK, listener=[
        "sh", "-c", 'read -r line; for i in 1 2 3; do echo \'{"command":"send","message":"\'$i\'"}\''
        '; done; printf \'{"command":"send","message":"no newline"}\'; exit 1'],
        log_dir=True)
    # The first incarnations take the open; each says its four lines and goes.
    a = server.connect()
    got = a.recv_many(4)
    assert got == ["1", "2", "3", "no newline"]


@pytest.mark.parametrize("delay", [0, 0.001, 0.005, 0.02])
def test_a_last_line_without_a_newline_counts(serve, tmp_path, delay):
    """The line and the end of stdout arrive together or one after the other."""
    seen = tmp_path / "seen"
    server = serve(*QUICK, "--hooks", "onMessage", listener=[
        "sh", "-c", f'read -r line; echo "$line" >> {seen}; id=${{line#*:}}; id=${{id%%,*}}; '
        f'printf \'{{"id":%s,"message":"last"}}\' "$id"; sleep {delay}'])
    a = server.connect()
    for _ in range(3):
        a.send("x")
        assert a.recv() == "last"
    # Answered, so never redelivered.
    assert seen.read_text().count("\n") == 3


def test_half_a_line_is_a_fault_and_the_message_comes_again(scripted):
    server = scripted(*QUICK)
    a = server.connect()
    a.send("!half")
    server.record.wait_pids(2)
    server.await_metric("wsgw_listener_faults_total", 1)
    server.await_log(r"did you mean to print to stderr")
    server.record.wait_pids(3)


def test_closing_stdout_is_an_exit(scripted):
    server = scripted(*QUICK)
    a = server.connect()
    (old,) = server.record.wait_pids(1)
    a.send("!close-stdout")
    server.record.wait_pids(2)
    wait_until(lambda: not alive(old), "the end of the old listener")


def test_the_rest_of_its_group_is_killed(scripted):
    server = scripted(*QUICK)
    a = server.connect()
    a.send("!grandchild")
    grandchild = int(a.recv())
    (old,) = server.record.wait_pids(1)
    assert alive(grandchild)
    os.kill(old, signal.SIGKILL)
    server.record.wait_pids(2)
    wait_until(lambda: not alive(grandchild), "the end of the grandchild")
    assert group_members(old) == []
    a.send("after")
    assert a.recv() == "after"


def test_restarts_come_later_and_later(scripted):
    # Each incarnation but the first four writes nothing and is gone at once; the gateway runs.
    server = scripted("--restart-delay-max", "30s", script=["--crash-on-event", "onClientOpen",
                      "--first-lines", '["{\\"event\\":\\"onResult\\"}"]'])
    server.connect()
    server.record.wait_pids(5)
    at = [e["at"] for e in server.record.entries() if e.get("start")]
    delays = [b - a for a, b in zip(at, at[1:])]
    # Up to a quarter more each, and a start of Python, which may take long on a busy machine.
    assert all(delay > least for delay, least in zip(delays, (0.1, 0.2, 0.4, 0.8))), delays
    assert server.status()["listener"] in ("restarting", "up")
    assert server.status()["state"] == "running"


def test_the_delay_has_a_maximum(scripted):
    server = scripted("--restart-delay-max", "150ms", script=["--crash-on-event", "onClientOpen",
                      "--first-lines", '["{\\"event\\":\\"onResult\\"}"]'])
    server.connect()
    server.record.wait_pids(10)


def test_closes_while_it_is_down_are_told_once(scripted):
    server = scripted("--restart-delay-max", "10s")
    clients = [server.named("/n%d" % n) for n in range(4)]
    (old,) = server.record.wait_pids(1)
    os.kill(old, signal.SIGSTOP)
    # These are written into the pipe of the old one, which reads nothing any more. They may reach
    # the pipe after the client has gone: what is sent behind them shows that they are there.
    clients[0][0].close(4000, "a")
    late = server.connect("/late")
    server.await_connections(4)
    late.send("x")
    server.await_metric("wsgw_listener_unanswered_events", 1)
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: server.status()["listener_pid"] != old, "the end of the old one")
    clients[1][0].close(4001, "b")
    _, new = server.record.wait_pids(2)
    server.record.wait("onClientClose", 1, pid=new)
    assert late.recv() == "x"
    events = server.record.events(pid=new)
    names = {name: n for n, (_, name) in enumerate(clients)}
    for n in range(4):
        opens = [e for e in events if e["event"] == "onClientOpen" and names.get(e["conn"]) == n]
        # The first one's close was told to the old one, and nothing is told twice.
        assert len(opens) == (1 if n else 0), n
        assert all(e["resumed"] is True for e in opens)
    closes = {names[e["conn"]]: (e["code"], e["reason"]) for e in events
              if e["event"] == "onClientClose"}
    assert closes == {1: (4001, "b")}
    fresh = [e for e in events if e["event"] == "onClientOpen" and e["path"] == "/late"]
    assert len(fresh) == 1


def test_a_close_comes_behind_its_redelivered_message(scripted):
    server = scripted("--restart-delay-max", "500ms")
    a, name = server.named()
    a.send("!none")
    server.record.wait("onMessage", 2)
    (old,) = server.record.wait_pids(1)
    os.kill(old, signal.SIGKILL)
    # One that still lives could be told of the close.
    wait_until(lambda: not alive(old), "the end of the old one")
    a.close()
    _, new = server.record.wait_pids(2)
    server.record.wait("onClientClose", 1, pid=new)
    kinds = [e["event"] for e in server.record.events(pid=new) if e["conn"] == name]
    assert kinds == ["onClientOpen", "onMessage", "onClientClose"]


def test_a_poisonous_message_is_dropped_and_the_innocent_stay(scripted):
    server = scripted("--listener-timeout", "20s", "--restart-delay-max", "100ms",
                      script=["--crash-on", "poison"])
    a, b = server.connect(), server.connect()
    server.record.wait("onClientOpen", 2)
    a.send("poison")
    for n in range(10):
        b.send(f"innocent {n}")
    assert b.recv_many(10) == [f"innocent {n}" for n in range(10)]
    assert a.recv_many(10) == [f"innocent {n}" for n in range(10)]
    server.await_metric("wsgw_messages_dropped_total", 1, reason="poisonous")
    assert server.metric("wsgw_messages_dropped_total") == 1
    assert 3 <= server.record.messages().count("poison") <= 5
    server.await_log(r"(?:WARN|ERROR) default k\d+ .*dropped")
    a.send("after")
    assert a.recv() == b.recv() == "after"


def test_what_was_lost_while_the_listener_is_killed_again_and_again(scripted):
    """An honest listener that is killed all the time: nothing lost, nothing twice, in order."""
    server = scripted("--listener-timeout", "30s", "--restart-delay-max", "100ms")
    a = server.connect()
    b = server.connect()
    count = 400
    sent = 0
    got = []
    kills = 0
    while len(got) < count:
        while sent < count and sent - len(got) < 40:
            a.send(str(sent))
            sent += 1
        got.append(b.recv(30))
        if len(got) % 60 == 30 and kills < 5:
            kills += 1
            pid = server.status()["listener_pid"]
            if pid:
                os.kill(pid, signal.SIGKILL)
    assert kills >= 3
    assert [int(x) for x in got] == list(range(count))


@pytest.mark.long
def test_five_exits_in_a_row_start_it_clean(scripted):
    """It writes no line while an answer is owed: after 30 s the clients are closed with 1011."""
    server = scripted("--listener-timeout", "60s", "--restart-delay-max", "3s",
                      script=["--crash-on-event", "onClientOpen"])
    # An incarnation that lived a second is no failure at the start.
    started = [e["at"] for e in server.record.entries() if e.get("start")][0]
    wait_until(lambda: time.monotonic() - started > 1.2, "the listener to be a second old")
    a = server.connect()
    a.send("owed")
    begun = time.monotonic()
    assert a.await_close(90)[0] == 1011
    assert time.monotonic() - begun > 25
    server.await_connections(0)
    # Clean: the next incarnation is told nothing of what was, and stays up.
    count = len(server.record.pids())
    server.await_status(listener="up", timeout=30)
    assert server.record.events(pid=server.status()["listener_pid"]) == []
    assert count >= 5


# Hanging.


def test_one_that_hangs_is_killed_and_restarted(scripted):
    server = scripted("--listener-timeout", "2s", "--hang-timeout", "4s")
    a, _ = server.named()
    (old,) = server.record.wait_pids(1)
    begun = time.monotonic()
    a.send("!hang")
    _, new = server.record.wait_pids(2)
    assert time.monotonic() - begun > 0.4
    assert not alive(old)
    server.record.wait("onClientOpen", 1, pid=new)
    a.send("after")
    assert a.recv() == "after"
    server.await_log(r"WARN.*default.*hang-timeout")


def test_the_hang_timeout_is_at_least_twice_the_listener_timeout(scripted):
    server = scripted("--listener-timeout", "500ms", "--hang-timeout", "1ms")
    a, _ = server.named()
    begun = time.monotonic()
    a.send("!hang")
    server.record.wait_pids(2)
    assert time.monotonic() - begun > 0.9


def test_a_quiet_listener_that_owes_nothing_does_not_hang(scripted):
    server = scripted("--listener-timeout", "50ms", "--hang-timeout", "100ms",
                      script=["--silent"])
    clients = [server.connect() for _ in range(3)]
    server.record.wait("onClientOpen", 3)
    for client in clients:
        client.close()
    server.record.wait("onClientClose", 3)
    assert len(server.record.pids()) == 1


def test_one_that_takes_no_byte_hangs(scripted, tmp_path):
    go = tmp_path / "go"
    server = scripted("--hooks", "onClientOpen,onClientClose", "--headers", "*",
                      "--listener-timeout", "200ms", "--hang-timeout", "500ms",
                      script=["--never-reads", go])
    links = [server.raw().upgrade("/", {"X-Fill": "f" * 20_000}) for _ in range(20)]
    server.record.wait_pids(2)
    go.touch()
    for link in links:
        link.close()


def test_a_stopped_listener_goes_on(scripted):
    server = scripted("--listener-timeout", "20s")
    a = server.connect()
    (pid,) = server.record.wait_pids(1)
    os.kill(pid, signal.SIGSTOP)
    for n in range(50):
        a.send(str(n))
    server.await_metric("wsgw_messages_received_total", 50)
    os.kill(pid, signal.SIGCONT)
    assert a.recv_many(50) == [str(n) for n in range(50)]
    assert len(server.record.pids()) == 1
