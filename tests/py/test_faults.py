"""The contract's table of faults, each made to happen with a real listener."""

import json
import os
import re
import signal
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from conftest import wait_for

FAST = ("--restart-delay-max", "100ms")


def of(events, kind):
    return [e for e in events if e["event"] == kind]


def test_no_answer_drops_and_hints(serve, listener):
    s = serve("--listener-timeout", "200ms", "--hang-timeout", "60", *listener("silent"))
    with connect(s.url()) as ws:
        ws.send("hi")
        s.wait_metric("wsgw_messages_dropped_total", 1, reason="timeout")
        s.wait_log("stdout buffered")
        status, body = s.push({"message": "x"})
        assert (status, body["error"]["code"]) == (504, "listener_timeout")
        assert s.run("send", "x").returncode == 5


def test_a_buffered_listener_is_named(serve, listener):
    s = serve("--listener-timeout", "200ms", "--", "sh", "-c", "exec cat | cat >/dev/null")
    with connect(s.url()) as ws:
        ws.send("hi")
        s.wait_log("python3 -u")
        for name in ("jq --unbuffered", "stdbuf -oL", "fflush()"):
            assert name in s.log


def test_on_timeout_broadcast(serve, listener):
    s = serve("--listener-timeout", "200ms", "--on-timeout", "broadcast", *listener("silent"))
    with connect(s.url()) as a, connect(s.url()) as b:
        a.send("hi")
        assert a.recv(20) == b.recv(20) == "hi"


def test_on_timeout_close(serve, listener):
    s = serve("--listener-timeout", "200ms", "--on-timeout", "close", *listener("silent"))
    with connect(s.url()) as a, connect(s.url()) as b:
        a.send("hi")
        with pytest.raises(ConnectionClosed) as closed:
            a.recv(20)
        assert closed.value.rcvd.code == 1011
        b.ping().wait(20)


def test_a_slow_listener_that_keeps_answering_never_times_out(serve, listener):
    s = serve("--listener-timeout", "400ms", *listener("slow", 0.1))
    with connect(s.url()) as ws:
        for i in range(15):
            ws.send(str(i))
        assert [ws.recv(20) for i in range(15)] == [str(i) for i in range(15)]
    assert s.metric("wsgw_messages_dropped_total", reason="timeout") == 0


@pytest.mark.parametrize("how", ["kill", "close-stdout"])
def test_a_restart_keeps_the_clients(serve, listener, how):
    s = serve(*FAST, *listener("crash" if how == "kill" else "close-stdout", *(["die", "1"] if how == "kill" else [])))
    with connect(s.url("/a")) as a, connect(s.url("/b")) as b:
        a.send("before")
        assert a.recv(20) == b.recv(20) == "before"
        pid = s.listener_pid
        a.send("die" if how == "kill" else "close")
        # What it died of is delivered by the next incarnation.
        got = a.recv(10)
        assert got == b.recv(20) == ("die" if how == "kill" else "close")
        b.send("after")
        assert a.recv(20) == b.recv(20) == "after"
        assert s.wait_listener(other_than=pid)
    first, second = listener.incarnations()[:2]
    opens = of(second, "onClientOpen")
    assert [(e["resumed"], e["left"], e["path"]) for e in opens] == [(True, 1, "/a"), (True, 0, "/b")]
    again = of(second, "onMessage")[0]
    assert again["redelivered"] is True
    assert again["id"] == of(first, "onMessage")[-1]["id"]
    assert s.status()["restarts"] == 1


def test_clients_that_come_and_go_while_the_listener_is_down(serve, listener):
    s = serve("--restart-delay-max", "1s", *listener("crash", "die", 2))
    with connect(s.url("/stays")) as stays, connect(s.url("/leaves")) as leaves:
        stays.send("hello")
        stays.recv(20)
        leaves.recv(20)
        pid = s.listener_pid
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: s.status()["listener"] == "restarting")
        leaves.close(1000)
        with connect(s.url("/new")) as new:
            new.send("from new")
            assert stays.recv(10) == "from new"
            second = listener.incarnations()[1]
            opens = {e["path"]: e for e in of(second, "onClientOpen")}
            assert opens["/stays"]["resumed"] and opens["/leaves"]["resumed"]
            assert {opens["/stays"]["left"], opens["/leaves"]["left"]} == {0, 1}
            assert "resumed" not in opens["/new"]
            closes = of(second, "onClientClose")
            assert [e["conn"] for e in closes] == [opens["/leaves"]["conn"]]


def test_a_poisonous_message_goes_and_the_innocent_stay(serve, listener):
    s = serve(*FAST, *listener("crash", "poison"))
    with connect(s.url()) as a, connect(s.url()) as b:
        a.send("one")
        assert a.recv(20) == b.recv(20) == "one"
        for text in ("two", "poison", "three"):
            a.send(text)
        got = [b.recv(20) for _ in range(2)]
        assert got == ["two", "three"]
        s.wait_metric("wsgw_messages_dropped_total", 1, reason="poisonous")
        b.ping().wait(20)


def test_a_hanging_listener_is_killed(serve, listener):
    s = serve(*FAST, "--listener-timeout", "1s", "--hang-timeout", "2s", *listener("hang"))
    with connect(s.url()) as ws:
        ws.send("fine")
        assert ws.recv(20) == "fine"
        pid = s.listener_pid
        ws.send("hang")
        s.wait_listener(other_than=pid)
        ws.send("again")
        while ws.recv(20) != "again":
            pass
    assert "hang-timeout" in s.log


def test_a_stopped_listener_with_a_full_pipe_is_killed(serve, listener):
    s = serve(*FAST, "--listener-timeout", "1s", "--hang-timeout", "2s", "--window", "10000", *listener("cat"))
    with connect(s.url()) as ws:
        ws.send("fine")
        ws.recv(20)
        pid = s.listener_pid
        os.kill(pid, signal.SIGSTOP)
        stop = threading.Event()

        def flood():
            while not stop.is_set():
                try:
                    ws.send("x" * 1000)
                except ConnectionClosed:
                    return
        thread = threading.Thread(target=flood, daemon=True)
        thread.start()
        s.wait_listener(other_than=pid)
        stop.set()


def test_it_cannot_be_started(serve, listener, tmp_path):
    for command, text in [
        (["--", "no-such-program-at-all"], "there is no program"),
        (["--", "./not-executable.py"], "chmod +x"),
        (["--", "sh", "-c", "echo cannot start: no database >&2; exit 1"], "cannot start: no database"),
    ]:
        (tmp_path / "not-executable.py").write_text("print('hi')\n")
        s = serve(*command, wait=False)
        assert s.process.wait(10) == 1
        s.stop()
        said = "\n".join(s.errors)
        assert text in said, said
        assert not any("gateway default listening" in line for line in s.lines)


def test_it_fails_after_it_counted_as_running(serve, listener):
    s = serve(*FAST, "--listener", "sleep 0.4; echo out of coffee >&2; exit 7")
    with connect(s.url()) as ws:
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(10)
        assert closed.value.rcvd.code == 1011
    wait_for(lambda: s.status()["state"] == "failed")
    status = s.status()
    assert "exit status: 7" in status["error"] and "out of coffee" in status["error"]
    assert status["address"] is None
    assert s.run("send", "hi").returncode == 4


def test_garbage_is_skipped_and_shown(serve, listener):
    s = serve(*listener("script"))
    with connect(s.url()) as ws:
        ws.send("hello \x1b[31m there" + "y" * 500)
        s.wait_log("did you mean to print to stderr?")
        line = next(l for l in s.log.splitlines() if "did you mean" in l)
        assert "\\x1b" in line and "\x1b" not in line and len(line) < 500
        ws.send('{"id":ID,"message":"ok"}')
        assert ws.recv(20) == "ok"


def test_a_long_line_is_thrown_away(serve, listener):
    s = serve("--max-line", "70KiB", "--max-message", "1KiB", "--listener", r"""
        read -r line; head -c 200000 /dev/zero | tr '\0' x; echo; exec cat""")
    with connect(s.url()) as ws:
        s.wait_metric("wsgw_listener_faults_total", 1, kind="over_long")
        ws.send("ok")
        assert ws.recv(20) == "ok"


def test_a_last_line_without_a_newline_counts(serve, listener):
    s = serve(*FAST, *listener("unterminated"))
    with connect(s.url()) as ws:
        ws.send("x")
        assert ws.recv(20) == "last words"
        ws.send("y")
        assert ws.recv(20) == "y"


def test_a_flood_of_stderr_while_stdin_is_full(serve, listener):
    s = serve("--window", "1000", "--max-queue", "64MiB", *listener("flood"))
    with connect(s.url(), max_size=None) as ws:
        for i in range(200):
            ws.send("z" * 2000)
        for i in range(200):
            assert ws.recv(20) == "z" * 2000
    s.wait_log("more lines of stderr were not shown")


def test_stderr_goes_to_the_log_and_to_no_client(serve):
    s = serve("--listener", "echo 'warning: \x1b[2J low' >&2; exec cat")
    s.wait_log("listener: warning: \\x1b[2J low")


def test_the_whole_group_goes(serve, listener, tmp_path):
    s = serve(*FAST, *listener("children"))
    with connect(s.url()) as ws:
        ws.send("x")
        ws.recv(20)
        first = int((tmp_path / "grandchild").read_text())
        pid = s.listener_pid
        os.kill(pid, signal.SIGKILL)
        s.wait_listener(other_than=pid)
        ws.send("y")
        ws.recv(20)
    second = int((tmp_path / "grandchild").read_text())
    start = time.monotonic()
    assert s.stop() == 0
    assert time.monotonic() - start < 8

    def gone(pid):
        try:
            return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] == "Z"
        except FileNotFoundError:
            return True
    wait_for(lambda: gone(first) and gone(second))


def test_stop_is_a_sequence(serve, listener):
    s = serve(*listener("ignore-end"))
    with connect(s.url()) as ws:
        ws.send("x")
        ws.recv(20)
        start = time.monotonic()
        s.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(20)
        assert closed.value.rcvd.code == 1001
    assert s.process.wait(12) == 0
    assert 3.5 < time.monotonic() - start < 9.5
    kinds = [e["event"] for e in listener.events()]
    # It is told of the close, has the end of its stdin, then SIGTERM.
    assert kinds == ["onClientOpen", "onMessage", "onClientClose", "TERM"]


def test_a_second_signal_cuts_the_stop_short(serve, listener):
    s = serve(*listener("ignore-end"))
    start = time.monotonic()
    s.process.send_signal(signal.SIGINT)
    s.wait_log("stopping")
    s.process.send_signal(signal.SIGINT)
    assert s.process.wait(20) == 0
    assert time.monotonic() - start < 7


def test_unanswered_events_are_drained_at_the_stop(serve, listener):
    s = serve("--drain", "5s", *listener("slow", 0.3))
    with connect(s.url()) as ws:
        ws.send("one")
        ws.send("two")
        listener.wait(lambda e: of(e, "onMessage"))
        s.process.send_signal(signal.SIGTERM)
        assert [ws.recv(20), ws.recv(20)] == ["one", "two"]
        with pytest.raises(ConnectionClosed):
            ws.recv(20)


def test_kill_9_of_serve_ends_the_listener(serve, listener):
    s = serve(*listener("ignore-end"))
    pid = s.listener_pid
    port = s.port()
    s.stop(signal.SIGKILL)

    def gone():
        try:
            os.kill(pid, 0)
            return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] == "Z"
        except (ProcessLookupError, FileNotFoundError):
            return True
    wait_for(gone)
    # The port can be bound again at once.
    again = serve(*listener("cat"), port=str(port))
    assert again.port() == port


def test_backpressure_reaches_the_senders(serve, listener):
    """A listener that reads slowly: memory stays bounded, nothing is dropped."""
    s = serve("--listener-timeout", "60", "--route", "none", *listener("slow", 0.002))

    def rss():
        text = open(f"/proc/{s.process.pid}/status").read()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1])
    sockets = [connect(s.url(), compression=None) for _ in range(10)]
    before = rss()
    sent = [0] * len(sockets)
    stop = threading.Event()

    def flood(i):
        try:
            while not stop.is_set():
                sockets[i].send("x" * 10_000)
                sent[i] += 1
        except ConnectionClosed:
            pass
    threads = [threading.Thread(target=flood, args=(i,), daemon=True) for i in range(len(sockets))]
    for thread in threads:
        thread.start()
    listener.wait(lambda e: len(of(e, "onMessage")) > 500, 30)
    # Senders are blocked: far fewer are taken in than could be sent.
    assert s.metric("wsgw_messages_received_total") < len(of(listener.events(), "onMessage")) + 1000
    assert rss() - before < 40_000
    stop.set()
    for ws in sockets:
        ws.socket.close()
    assert s.metric("wsgw_messages_dropped_total") == 0


def test_five_barren_exits_close_the_clients(serve, tmp_path):
    """Without one line, while an answer was owed, at least 30 s from the first to the last."""
    flag = tmp_path / "ok"
    flag.write_text("")
    s = serve("--restart-delay-max", "8s", "--listener-timeout", "100s",
              "--listener", f'if [ -e {flag} ]; then exec cat; fi; read -r x; sleep 1.1; exit 1')
    with connect(s.url(), ping_interval=None) as ws:
        ws.send("first")
        assert ws.recv(20) == "first"
        flag.unlink()
        os.kill(s.listener_pid, signal.SIGKILL)
        wait_for(lambda: s.status()["listener"] == "restarting")
        # Many: each of them is dropped as poisonous after three exits.
        for i in range(20):
            ws.send(str(i))
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                ws.recv(90)
        assert closed.value.rcvd.code == 1011
    flag.write_text("")
    with connect(s.url()) as ws:
        ws.send("clean")
        assert ws.recv(20) == "clean"
