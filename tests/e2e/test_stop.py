"""The end of a gateway and of `serve`, and the listener's process."""

import contextlib
import json
import os
import pty
import signal
import socket
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed

from harness import FAKE, WSGW, Serve, alive, group_members, wait_until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_stop_sequence(scripted, number):
    server = scripted()
    (a, na), (b, nb) = server.named(), server.named()
    server.signal(number)
    assert a.await_close()[0] == 1001
    assert b.await_close()[0] == 1001
    assert server.wait() == 0
    entries = server.record.entries()
    closes = server.record.events("onClientClose")
    assert {e["conn"] for e in closes} == {na, nb}
    # The end of its stdin is the last thing it sees; no signal was needed.
    assert entries[-1].get("eof") is True
    assert not any(e.get("term") for e in entries)
    with pytest.raises(OSError):
        server.raw()


def test_unanswered_events_have_their_time(scripted):
    server = scripted("--drain", "5s")
    a, _ = server.named()
    a.send("!delay 0.5")
    server.record.wait("onMessage", 2)
    begun = time.monotonic()
    server.signal()
    assert a.recv() == "!delay 0.5"
    assert a.await_close()[0] == 1001
    assert server.wait() == 0
    assert time.monotonic() - begun < 4


def test_the_drain_ends(scripted):
    server = scripted("--drain", "300ms")
    a, _ = server.named()
    a.send("!none")
    server.record.wait("onMessage", 2)
    begun = time.monotonic()
    server.signal()
    assert a.await_close()[0] == 1001
    assert server.wait() == 0
    assert 0.25 < time.monotonic() - begun < 5


def test_while_it_stops(scripted):
    """No new connections, pushes get 503, what clients still send is thrown away."""
    server = scripted("--drain", "10s")
    a, _ = server.named()
    a.send("!none")
    server.record.wait("onMessage", 2)
    server.signal()
    wait_until(lambda: server.http("GET", "/healthz")[0] == 503, "the stop")
    status, answer = server.push(message="x")
    assert (status, answer["error"]["code"]) == (503, "stopping")
    assert server.status()["state"] == "stopping"
    sent = server.cli("send", "x")
    assert sent.returncode == 4
    a.send("thrown away")
    with pytest.raises((OSError, EOFError)):
        link = server.raw()
        link.request()
        assert link.response()[0] == 503
        raise EOFError
    # A second signal cuts it short.
    begun = time.monotonic()
    server.signal()
    assert server.wait() == 0
    assert time.monotonic() - begun < 5
    assert "thrown away" not in server.record.messages()


def test_one_that_ignores_its_end_is_killed(scripted):
    server = scripted("--drain", "100ms", script=["--ignore-term", "--ignore-eof"])
    a = server.connect()
    a.send("!grandchild")
    grandchild = int(a.recv())
    (pid,) = server.record.wait_pids(1)
    begun = time.monotonic()
    server.signal()
    assert server.wait() == 0
    took = time.monotonic() - begun
    assert 5.5 < took < 9.1
    assert not alive(pid) and not alive(grandchild)
    marks = [k for e in server.record.entries() for k in ("eof", "term") if e.get(k)]
    assert marks == ["eof", "term"]


def test_one_that_ignores_the_end_of_its_stdin_gets_sigterm(scripted):
    server = scripted(script=["--ignore-eof"])
    a, _ = server.named()
    begun = time.monotonic()
    server.signal()
    assert a.await_close()[0] == 1001
    assert server.wait() == 0
    assert time.monotonic() - begun > 3.5
    marks = [k for e in server.record.entries() for k in ("eof", "term") if e.get(k)]
    assert marks == ["eof", "term"]
    kinds = [e["event"] for e in server.record.events()]
    assert kinds == ["onClientOpen", "onMessage", "onClientClose"]


def test_a_second_signal_does_not_wait_for_a_listener_that_ignores_its_end(scripted):
    server = scripted(script=["--ignore-eof", "--ignore-term"])
    server.signal(signal.SIGINT)
    server.record.wait_mark("eof")
    begun = time.monotonic()
    server.signal(signal.SIGINT)
    assert server.wait() == 0
    # Without the second signal it would be 6 s at least.
    assert time.monotonic() - begun < 5.5


def test_one_that_leaves_a_grandchild_leaves_nothing(scripted):
    server = scripted()
    a = server.connect()
    a.send("!grandchild")
    grandchild = int(a.recv())
    server.signal()
    assert server.wait() == 0
    assert not alive(grandchild)


def test_a_client_that_reads_nothing_does_not_hold_up_the_end(serve):
    server = serve(listener=["cat"])
    stuck = server.raw().upgrade()
    stuck.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    a = server.connect()
    for _ in range(40):
        a.send("x" * 100_000)
    a.recv_many(40)
    begun = time.monotonic()
    server.signal()
    assert server.wait() == 0
    assert time.monotonic() - begun < 9


def test_queued_messages_come_before_the_close(serve):
    server = serve("--max-queue", "64MiB")
    link = server.raw().upgrade()
    a = server.connect()
    for n in range(100):
        a.send("y" * 50_000)
    a.recv_many(100)
    server.signal()
    for _ in range(100):
        assert link.read_frame()[1] == 1
    assert link.read_close()[0] == 1001
    server.wait()


def test_killed_with_9_the_listener_gets_sigterm(scripted):
    # The end of its stdin comes first, and would end it.
    server = scripted(script=["--ignore-eof"])
    server.connect()
    (pid,) = server.record.wait_pids(1)
    server.proc.kill()
    server.wait()
    server.record.wait_mark("term")
    wait_until(lambda: not alive(pid), "the end of the listener")


def test_killed_with_9_the_listeners_stdin_ends(scripted):
    server = scripted(script=["--ignore-term"])
    client = server.connect()
    # It has answered all that it was told: an answer to nobody would end it before its stdin does.
    client.send("x")
    assert client.recv() == "x"
    (pid,) = server.record.wait_pids(1)
    server.proc.kill()
    server.wait()
    server.record.wait_mark("eof")
    wait_until(lambda: not alive(pid), "the end of the listener")


def test_its_port_can_be_bound_at_once(serve):
    server = serve()
    port = server.port()
    clients = [server.connect() for _ in range(5)]
    server.stop()
    assert all(c.await_close()[0] == 1001 for c in clients)
    again = serve("--port", port, port=False)
    assert again.port() == port


def test_sighup_reloads(serve):
    server = serve(config="[gateways.a]\nport = 0\n")
    server.config.write_text("[gateways.a]\nport = 0\n[gateways.b]\nport = 0\n")
    server.signal(signal.SIGHUP)
    server.await_out("gateway b listening on ws://")
    assert server.proc.poll() is None


@pytest.mark.parametrize("wrap", [("sh", "-c", 'trap "" HUP; exec "$@"', "sh"), ("nohup",)],
                         ids=["trap", "nohup"])
def test_sighup_does_nothing_under_nohup(serve, wrap):
    server = serve(config="[gateways.a]\nport = 0\n", wrap=wrap)
    server.config.write_text("[gateways.a]\nport = 0\n[gateways.b]\nport = 0\n")
    server.signal(signal.SIGHUP)
    # It lives, and a later verb proves that it did not reload before.
    assert [g["id"] for g in server.api("GET", "/v1/gateways")[1]] == ["a"]


def test_sighup_stops_it_on_a_terminal(tmp_path):
    main, side = pty.openpty()
    server = Serve(tmp_path / "s", stdin=side, listener=["cat"])
    try:
        client = server.connect()
        server.signal(signal.SIGHUP)
        assert client.await_close()[0] == 1001
        assert server.wait() == 0
        server.check_end()
    finally:
        server.kill()
        os.close(main)
        os.close(side)


# The listener's process.


def ask(server, what):
    client = server.connect()
    client.send("!" + what)
    return json.loads(client.recv())


def test_its_environment(scripted):
    server = scripted(env={"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1",
                           "LISTEN_FDS": "1", "LISTEN_PID": "1", "INVOCATION_ID": "i",
                           "JOURNAL_STREAM": "8:1", "KEPT": "yes"})
    env = ask(server, "env")
    assert env["WSGW_PROTOCOL"] == "1"
    assert env["WSGW_GATEWAY"] == "default"
    assert env["WSGW_CONTROL"] == server.control_url
    assert env["PYTHONUNBUFFERED"] == "1"
    assert env["KEPT"] == "yes"
    for name in env:
        assert not name.startswith(("NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "INVOCATION_ID",
                                    "JOURNAL_STREAM"))


def test_what_is_set_is_kept(scripted):
    server = scripted(env={"PYTHONUNBUFFERED": "x"})
    assert ask(server, "env")["PYTHONUNBUFFERED"] == "x"


def test_its_process(scripted):
    server = scripted()
    here = ask(server, "process")
    assert here["pgid"] == here["pid"]
    # The fourth is that of the directory that it lists.
    assert [fd for fd in here["fds"] if fd < 3] == [0, 1, 2]
    assert len(here["fds"]) <= 5  # its own record, and that directory
    assert here["cwd"] == str(server.dir)


def test_its_signals_are_the_default_ones(serve):
    server = serve(listener=["sh", "-c", 'exec 3<&0; while read -r line <&3; do '
                             's=$(grep SigIgn /proc/self/status | cut -f2); b=$(grep SigBlk '
                             '/proc/self/status | cut -f2); '
                             'echo "{\\"command\\":\\"send\\",\\"message\\":\\"$s $b\\"}"; done'])
    a = server.connect()
    a.send("x")
    assert a.recv() == "0000000000000000 0000000000000000"


def test_it_runs_in_the_directory_of_the_config_file(serve, tmp_path):
    record = tmp_path / "r"
    server = serve(cwd="/", config=f"""
        [gateways.default]
        port = 0
        listener = {json.dumps([*map(str, FAKE), "--record", str(record)])}
    """)
    assert ask(server, "process")["cwd"] == str(server.dir)


def test_its_serve_is_not_held_open(scripted):
    """No descriptor of ours: a grandchild that outlives a restart does not hold the port."""
    server = scripted("--restart-delay-max", "100ms")
    client = server.connect()
    client.send("!process")
    here = json.loads(client.recv())
    assert len(here["fds"]) <= 5
    assert group_members(here["pid"]) == [here["pid"]]


def test_a_listener_may_push_with_send(scripted):
    """`wsgw send` to the own gateway skips the hook, for it could not answer itself."""
    server = scripted()
    a = server.connect()
    a.send(f"!run {WSGW} send 'from the listener'")
    assert a.recv_many(2) == ["from the listener", "delivered 1\n"]
    assert len(server.record.messages()) == 1


def test_two_serves_and_one_log(serve, tmp_path):
    shared = tmp_path / "shared"
    one = serve("--log-dir", shared, "--id", "one", log_dir=False)
    two = serve("--log-dir", shared, "--id", "two", log_dir=False)
    # Both write at the same time, whole lines.
    threads = []
    for server, name in ((one, "one"), (two, "two")):
        def run(server=server, name=name):
            for _ in range(30):
                server.connect(gateway=name).close()
        threads.append(threading.Thread(target=run))
        threads[-1].start()
    for thread in threads:
        thread.join()
    one.stop()
    two.stop()
    import re
    lines = (shared / "WebSocket.log").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\S+Z +(INFO|WARN|ERROR) ", line) for line in lines)
    for name in ("one", "two"):
        assert sum(f" {name} k" in line and "opened" in line for line in lines) == 30


# `close-spread`.


def close_times(clients):
    """When each client was told to go away, in order."""
    times, lock = [], threading.Lock()

    def wait(client):
        assert client.await_close()[0] == 1001
        with lock:
            times.append(time.monotonic())

    threads = [threading.Thread(target=wait, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    return times, threads


def test_closes_are_spread_over_close_spread(scripted):
    server = scripted("--close-spread", "2s")
    clients = [server.connect() for _ in range(30)]
    server.record.wait("onClientOpen", 30)
    times, threads = close_times(clients)
    begun = time.monotonic()
    server.signal()
    # From the first moment on nobody new is let in, and it says so.
    wait_until(lambda: server.http("GET", "/healthz")[0] == 503, "the stop")
    assert server.push(message="x")[1]["error"]["code"] == "stopping"
    with pytest.raises((OSError, EOFError)):
        server.raw().request().response()
    assert server.wait() == 0
    for thread in threads:
        thread.join()
    assert time.monotonic() - begun < 2 + 1 + 9
    # Not at once: a quarter of the time closes by no means most of them.
    gaps = [time_ - begun for time_ in times]
    assert sum(gap < 0.5 for gap in gaps) < 20
    assert gaps[-1] > 1
    assert len(server.record.events("onClientClose")) == 30
    assert all(e["clean"] for e in server.record.events("onClientClose"))


def test_who_is_not_closed_yet_is_served(scripted):
    server = scripted("--close-spread", "40s")
    clients = [server.connect() for _ in range(20)]
    server.record.wait("onClientOpen", 20)
    times, threads = close_times(clients[10:])
    server.signal()
    wait_until(lambda: times, "the first close")
    served = 0
    for client in clients[:10]:
        with contextlib.suppress(ConnectionClosed):
            client.send("!whoami")
            served += client.recv().startswith("k")
    assert served
    # A second signal cuts it short.
    begun = time.monotonic()
    server.signal()
    assert server.wait() == 0
    assert time.monotonic() - begun < 5
    for thread in threads:
        thread.join()


def test_without_clients_there_is_nothing_to_spread(serve):
    server = serve("--close-spread", "1h")
    begun = time.monotonic()
    server.stop()
    assert time.monotonic() - begun < 5
