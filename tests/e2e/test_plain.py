"""Plain lines (`--plain`): a listener that reads and writes bodies, a line each."""

import json
import os
import signal
import sys
import threading
import time

import pytest

from harness import encode_frame, tool, wait_until

# Writes what it reads into a file as Python sees it, and says nothing; lines in the other file are said.
RECORDER = """
import os, sys
with open(sys.argv[1], "a") as record:
    record.write(f"start {os.getpid()}\\n")
    record.flush()
    for line in sys.stdin.buffer:
        record.write(repr(line) + "\\n")
        record.flush()
    record.write("end\\n")
"""

PRINTER = """
import sys, time
sys.stdout.buffer.write(eval(sys.argv[1]))
sys.stdout.buffer.flush()
sys.stdin.read()
"""


@pytest.fixture
def recorded(serve, tmp_path):
    """Starts a gateway whose listener writes down what it reads."""
    path = tmp_path / "said"

    def start(*args, **options):
        server = serve("--plain", *args, listener=[sys.executable, "-c", RECORDER, path], **options)
        wait_until(lambda: path.exists() and path.read_text(), "the listener")
        return server

    start.lines = lambda: path.read_text().splitlines() if path.exists() else []
    start.await_lines = lambda *want: wait_until(
        lambda: [line for line in start.lines() if line.startswith("b")] == [repr(w) for w in want],
        lambda: f"{want}: {start.lines()}")
    return start


def printing(serve, data, *args):
    """A gateway whose listener writes this once a line of a client has come, then reads."""
    program = "import sys; sys.stdin.readline(); sys.argv.pop(0); " + PRINTER.replace("\n", ";").strip(";")
    return serve("--plain", *args, listener=[sys.executable, "-c", program, "", repr(data)])


def go(server, count=1):
    """Clients, the first of which has sent the line that the printer waits for."""
    clients = [server.connect() for _ in range(count)]
    server.await_connections(count)
    clients[0].send("go")
    return clients


# What the listener is sent.


def test_each_text_message_is_a_line_and_no_other_event_is_sent(recorded):
    server = recorded("--hooks", "onMessage")
    a, b = server.connect("/some/path"), server.connect()
    a.send("one")
    recorded.await_lines(b"one\n")
    b.send('{"event":"onMessage"}')
    b.send("")
    b.close()
    server.await_connections(1)
    a.send("last")
    recorded.await_lines(b"one\n", b'{"event":"onMessage"}\n', b"\n", b"last\n")
    assert not [line for line in recorded.lines() if "Client" in line]


def test_line_breaks_in_a_message_become_spaces(recorded):
    server = recorded()
    client = server.connect()
    client.send("a\nb\r\nc\rd\n")
    client.send("Ä\u2028\0x")
    recorded.await_lines(b"a b  c d \n", "Ä\u2028\0x\n".encode())


def test_binary_messages_are_dropped_and_counted(recorded):
    server = recorded()
    client = server.connect()
    client.send(b"\x00\x01")
    client.send("text")
    recorded.await_lines(b"text\n")
    assert server.metric("wsgw_messages_dropped_total", reason="binary") == 1
    server.await_log("a binary message is dropped")


def test_messages_of_one_client_stay_in_order(recorded):
    server = recorded("--window", "4")
    client = server.connect()
    for n in range(2_000):
        client.send(str(n))
    recorded.await_lines(*[b"%d\n" % n for n in range(2_000)])


def test_limits_on_clients_hold(recorded):
    server = recorded("--max-message", "10", "--max-rate", "5")
    raw = server.raw().upgrade()
    raw.sock.sendall(encode_frame(1, b"x" * 11))
    assert raw.read_close()[0] == 1009
    raw = server.raw().upgrade()
    for _ in range(6):
        raw.sock.sendall(encode_frame(1, b"x"))
    assert raw.read_close()[0] == 1008
    recorded.await_lines(*[b"x\n"] * 5)


# What the listener says.


def test_each_line_goes_to_all(serve):
    server = serve("--plain", listener=["cat"])
    clients = [server.connect() for _ in range(3)]
    server.await_connections(3)
    for text in ["hello", "", '{"command":"close","conn":"k1"}', '{"id":1,"reject":401}', "Ä"]:
        clients[0].send(text)
        assert [client.recv() for client in clients] == [text] * 3
    assert server.metric("wsgw_listener_faults_total") == 0


def test_bad_utf8_becomes_replacement_characters(serve):
    server = printing(serve, b"a\xffb\xc3\n\xf0\x9f\x98\n\xf0\x9f\x98\x80\n")
    (client,) = go(server)
    assert [client.recv() for _ in range(3)] == ["a\ufffdb\ufffd", "\ufffd", "\U0001f600"]


def test_empty_lines_are_empty_messages_and_a_last_line_needs_no_newline(serve):
    server = serve("--plain", "--restart-delay-max", "100ms",
                   listener=["bash", "-c", r"read -r line; printf '\n\none\n\nlast'"])
    (client,) = go(server)
    assert [client.recv() for _ in range(5)] == ["", "", "one", "", "last"]
    # What a listener took is lost with it.
    server.await_status(restarts=1, listener="up")
    client.send("again")
    assert [client.recv() for _ in range(5)] == ["", "", "one", "", "last"]


def test_a_line_over_max_line_is_thrown_away(serve):
    server = printing(serve, b"x" * 70_000 + b"\nshort\n", "--max-message", "100", "--max-line", "70000")
    (client,) = go(server)
    assert client.recv() == "x" * 70_000
    assert client.recv() == "short"
    server = printing(serve, b"x" * 70_001 + b"\nshort\n", "--max-message", "100", "--max-line", "70000")
    (client,) = go(server)
    assert client.recv() == "short"
    assert server.metric("wsgw_listener_faults_total", kind="over_long") == 1


@pytest.mark.parametrize("route", ["all", "none"])
def test_the_lines_go_to_all_and_messages_to_the_listener_under_each_route(serve, route):
    server = serve("--plain", "--route", route, listener=["sed", "-u", "s/^/said: /"])
    a, b = server.connect(), server.connect()
    server.await_connections(2)
    a.send("hi")
    assert a.recv() == b.recv() == "said: hi"


@pytest.mark.parametrize("route", ["others", "sender", "channels"])
def test_other_routes_are_errors_at_the_start(serve, route):
    server = serve("--plain", "--route", route, listener=["cat"], wait=False)
    assert server.wait() == 2
    assert f'route "{route}"' in server.err() and "all or none" in server.err()


def test_hooks_that_ask_or_tell_are_errors_at_the_start(serve):
    server = serve("--plain", "--hooks", "onHandshake,onMessage", listener=["cat"], wait=False)
    assert server.wait() == 2
    assert "hooks has onHandshake" in server.err()


def test_both_ways_to_say_it(serve):
    server = serve("--format", "lines", listener=["cat"])
    client = server.connect()
    client.send("hi")
    assert client.recv() == "hi"
    config = '[gateways.default]\nport = 0\nformat = "lines"\nlistener = ["cat"]\n'
    server = serve(config=config)
    client = server.connect()
    client.send("hi")
    assert client.recv() == "hi"


# Without hooks.


@pytest.mark.parametrize(("route", "gets"), [("all", True), ("none", False)])
def test_without_hooks_the_listener_is_not_told(serve, tmp_path, route, gets):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    server = serve("--plain", "--hooks", "none", "--route", route,
                   listener=["sh", "-c", f"readlink /proc/self/fd/0; cat; exec cat {fifo}"])
    a, b = server.connect(), server.connect()
    server.await_connections(2)
    a.send("from a client")
    with open(fifo, "w") as out:
        if gets:
            assert a.recv() == b.recv() == "from a client"
        else:
            # It was read before the pong.
            assert a.inner.ping().wait(10)
        out.write("from the listener\n")
        out.flush()
        assert a.recv() == b.recv() == "from the listener"


# Pushes, channels, history.


def test_a_push_is_broadcast_without_the_listener(recorded):
    server = recorded()
    a, b = server.connect(), server.connect()
    server.await_connections(2)
    assert server.cli("send", "one\ntwo").stdout == "delivered 2\n"
    assert a.recv() == b.recv() == "one\ntwo"
    assert server.push(base64="AAE=")[1]["delivered"] == 2
    assert a.recv() == b.recv() == b"\x00\x01"
    one = server.connections()[0]["conn"]
    assert server.cli("send", "--to", one, "for one").stdout == "delivered 1\n"
    a.send("end")
    recorded.await_lines(b"end\n")


def test_a_push_goes_out_while_the_listener_is_down(serve, tmp_path):
    down = tmp_path / "down"
    server = serve("--plain", listener=["sh", "-c", f"test -e {down} && exit 1; exec cat"])
    client = server.connect()
    down.touch()
    os.kill(server.status()["listener_pid"], signal.SIGKILL)
    server.await_status(listener="restarting")
    assert server.cli("send", "hi").stdout == "delivered 1\n"
    assert client.recv() == "hi"


def test_lines_go_to_members_of_channels_too_and_are_kept(serve):
    server = serve("--plain", "--channels", "path", "--allow-channels", "*", "--history", "10",
                   listener=["cat"])
    a, b = server.connect("/room"), server.connect("/")
    server.await_connections(2)
    a.send("one")
    a.send("two")
    for client in (a, b):
        assert [client.recv(), client.recv()] == ["one", "two"]
    late = server.connect("/?since=2")
    assert [late.recv(), late.recv()] == ["one", "two"]
    assert server.push(message="to the room", channel="room")[1]["delivered"] == 1
    assert a.recv() == "to the room"


# Backpressure.


def test_a_listener_that_reads_slowly_slows_its_clients_and_loses_nothing(serve, tmp_path):
    go, out = tmp_path / "go", tmp_path / "out"
    os.mkfifo(go)
    server = serve("--plain", listener=["sh", "-c", f"read x <{go}; cat >{out}; :"])
    raw = server.raw().upgrade()
    frame = encode_frame(1, b"y" * 9_999)
    total = 3_000
    sent = threading.Thread(target=lambda: [raw.sock.sendall(frame) for _ in range(total)])
    sent.start()
    # The pipe, the window, and what sockets hold: far less than the 30 MB.
    wait_until(lambda: server.metric("wsgw_messages_received_total") >= 64, "a quarter of the window")
    sent.join(1)
    assert sent.is_alive()
    assert server.metric("wsgw_messages_received_total") < 64 + 30
    go.write_text("\n")
    sent.join(60)
    wait_until(lambda: out.stat().st_size == total * 10_000, lambda: out.stat().st_size, 60)
    assert server.metric("wsgw_messages_dropped_total") == 0


def flood(client, seconds=20):
    """Sends until the client's own socket is full, or the time is up."""
    client.sock.settimeout(0.5)
    frame = encode_frame(1, b"z" * 9_999)
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            client.sock.sendall(frame)
    except TimeoutError:
        pass


def test_a_listener_that_never_reads_holds_nobody_up_for_ever(serve, tmp_path):
    """As `tail -f`: after hang-timeout its clients are read again, and the listener is not killed."""
    log = tmp_path / "log"
    log.write_text("")
    server = serve("--plain", "--hang-timeout", "1s", listener=["tail", "-f", log])
    pid = server.status()["listener_pid"]
    client = server.raw().upgrade()
    flood(client, 3)
    server.await_metric("wsgw_messages_dropped_total", 1, reason="unread")
    server.await_log("has not read its stdin for 1 s")
    # Others are read, and hear the listener.
    other = server.connect()
    with log.open("a") as out:
        out.write("news\n")
    assert other.recv() == "news"
    dropped = server.metric("wsgw_messages_dropped_total", reason="unread")
    other.send("to nobody")
    server.await_metric("wsgw_messages_dropped_total", dropped + 1, reason="unread")
    client.close()
    server.await_connections(1)
    assert server.status()["listener_pid"] == pid and server.status()["restarts"] == 0


def test_a_listener_that_begins_to_read_gets_what_follows(serve, tmp_path):
    go, out = tmp_path / "go", tmp_path / "out"
    os.mkfifo(go)
    server = serve("--plain", "--hang-timeout", "500ms",
                   listener=["sh", "-c", f"read x <{go}; cat >{out}; :"])
    client = server.raw().upgrade()
    flood(client, 2)
    server.await_metric("wsgw_messages_dropped_total", 1, reason="unread")
    go.write_text("\n")
    other = server.connect()

    def heard():
        other.send("hello again")
        return "\nhello again\n" in out.read_text()

    wait_until(lambda: out.exists() and heard(), "what follows")
    # No line was torn. What is behind the last newline is still being written.
    whole = out.read_text().rpartition("\n")[0]
    assert {len(line) for line in whole.splitlines()} == {9_999, 11}


def test_a_silent_listener_is_not_killed(serve):
    server = serve("--plain", "--hang-timeout", "200ms", "--listener-timeout", "100ms",
                   listener=["sh", "-c", "cat >/dev/null; :"])
    client = server.connect()
    client.send("no answer")
    server.await_metric("wsgw_messages_received_total", 1)
    time.sleep(1)  # There is no event to wait for: nothing is to happen.
    assert server.status()["restarts"] == 0
    assert server.metric("wsgw_listener_faults_total") == 0


def test_lines_wait_for_clients_that_are_slow_but_read(serve):
    """As those of a producer under `--hooks none`."""
    total, size = 20_000_000, 16_000
    program = (f"import sys; sys.stdin.readline()\n"
               f"for _ in range({total // size}): print('x' * {size})\n"
               f"sys.stdout.flush(); sys.stdin.read()")
    server = serve("--plain", "--max-queue", "256KiB", listener=[sys.executable, "-c", program])
    links = [server.raw().upgrade() for _ in range(2)]
    server.await_connections(2)

    def read(link):
        got = 0
        while got < total:
            data = link.sock.recv(65_536)
            assert data, "closed"
            got += len(data)
            time.sleep(0.002)

    readers = [threading.Thread(target=read, args=(link,)) for link in links]
    for reader in readers:
        reader.start()
    links[0].sock.sendall(encode_frame(1, b"go"))
    for reader in readers:
        reader.join(60)
    server.await_metric("wsgw_deliveries_total", total // size * 2)
    assert server.metric("wsgw_slow_consumers_total") == 0


# Restarts, reloads, the end.


def test_what_a_dead_listener_did_not_take_goes_to_the_next(serve, tmp_path):
    out = tmp_path / "out"
    # Each reads one line.
    server = serve("--plain", "--restart-delay-max", "100ms",
                   listener=["bash", "-c", f"read -r line; echo $line >>{out}; echo said $line; sleep 0.3"])
    client = server.connect()
    client.send("1")
    assert client.recv() == "said 1"
    server.await_status(listener="restarting")
    client.send("2")
    assert client.recv() == "said 2"
    assert out.read_text() == "1\n2\n"
    assert client.inner.ping().wait(10)


def test_messages_wait_bounded_while_the_listener_is_down(serve, tmp_path):
    down, out = tmp_path / "down", tmp_path / "out"
    server = serve("--plain", "--window", "16", "--restart-delay-max", "100ms",
                   listener=["sh", "-c", f"test -e {down} && exit 1; exec tee -a {out}"])
    client = server.raw().upgrade()
    down.touch()
    os.kill(server.status()["listener_pid"], signal.SIGKILL)
    server.await_status(listener="restarting")
    sender = threading.Thread(
        target=lambda: [client.sock.sendall(encode_frame(1, b"%d" % n)) for n in range(100)])
    sender.start()
    server.await_metric("wsgw_messages_received_total", 4)
    assert server.metric("wsgw_messages_received_total") <= 16
    down.unlink()
    wait_until(lambda: out.exists() and out.read_text().splitlines() == [str(n) for n in range(100)],
               "all messages")
    sender.join()


def test_from_json_to_lines_and_back_with_the_clients_staying(serve):
    def config(form, command):
        return (f'[gateways.default]\nport = 0\nformat = "{form}"\n'
                f"listener = {json.dumps(command)}\n")

    tool("jq")
    asks = ["jq", "-c", "--unbuffered", ".message |= ascii_upcase"]
    server = serve(config=config("json", asks))
    a, b = server.connect(), server.connect()
    server.await_connections(2)

    def says(text, answer):
        a.send(text)
        assert a.recv() == b.recv() == answer

    says("hi", "HI")
    for _ in range(2):
        pid = server.status()["listener_pid"]
        server.reload(config("lines", ["sed", "-u", "s/^/said: /"]))
        assert server.status()["listener_pid"] != pid
        says("hi", "said: hi")
        server.reload(config("json", asks))
        says("hi", "HI")
    # The format alone needs a new listener too.
    server.reload(config("json", ["cat"]))
    pid = server.status()["listener_pid"]
    server.reload(config("lines", ["cat"]))
    assert server.status()["listener_pid"] != pid
    says("hi", "hi")


def test_a_reload_while_clients_send_loses_nothing(serve):
    def config(form):
        return f'[gateways.default]\nport = 0\nformat = "{form}"\nlistener = ["cat"]\n'

    server = serve(config=config("lines"))
    client = server.connect()
    total = 3_000
    got = []

    def send():
        for n in range(total):
            client.send(str(n))
            time.sleep(0.0005)

    def read():
        while len(got) < total:
            got.append(int(client.recv()))

    threads = [threading.Thread(target=send), threading.Thread(target=read, daemon=True)]
    for thread in threads:
        thread.start()
    for form in ["json", "lines", "json"]:
        server.reload(config(form))
    for thread in threads:
        thread.join(30)
    assert got == list(range(total))


def test_the_stop_writes_what_waits_and_ends_the_listener_by_its_stdin(recorded):
    server = recorded()
    client = server.connect()
    client.send("last words")
    server.await_metric("wsgw_messages_received_total", 1)
    server.stop()
    assert recorded.lines()[1:] == [repr(b"last words\n"), "end"]


def test_a_producer_that_ignores_its_stdin_gets_sigterm(serve, tmp_path):
    log = tmp_path / "log"
    log.write_text("one\n")
    server = serve("--plain", listener=["tail", "-f", log])
    before = time.monotonic()
    server.stop()
    assert time.monotonic() - before < 10
