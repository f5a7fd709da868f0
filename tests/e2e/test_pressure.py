"""Backpressure: which clients are not read for how long, whose clocks stand still, and who is cut."""

import contextlib
import threading
import time

import pytest

from harness import close_payload, encode_frame, wait_until


#: A listener that takes so many seconds for each message.
def sluggish(seconds):
    return ["sh", "-c", f'while read -r line; do sleep {seconds}; printf "%s\\n" "$line"; done']


def fill(link, data, idle=0.5):
    """Writes until nothing is taken for so long, or it is cut; returns the bytes that were taken."""
    link.sock.settimeout(idle)
    sent = 0
    while True:
        try:
            sent += link.sock.send(data[sent % len(data):])
        except (TimeoutError, ConnectionError):
            return sent


def test_clocks_stand_still_while_a_connection_is_not_read(serve):
    server = serve("--window", "1", "--hooks", "onMessage", "--ping-interval", "50ms",
                   "--pong-timeout", "1s", "--idle-timeout", "1200ms", listener=sluggish(0.5))
    client = server.connect()
    for n in range(6):
        client.send(str(n))
    # Its pongs lie behind its messages: for three seconds they cannot be seen.
    assert client.recv_many(6) == [str(n) for n in range(6)]
    # And the clocks run again.
    assert client.await_close()[0] == 1001


def test_a_client_that_is_gone_is_found_after_the_pressure(scripted):
    # Long enough for the other client, which answers, on a busy machine.
    server = scripted("--window", "1", "--ping-interval", "50ms", "--pong-timeout", "2s")
    client = server.connect()
    client.send("x")
    client.recv()
    server.raw().upgrade()
    # It never answers a ping.
    (closed,) = server.record.wait("onClientClose")
    assert (closed["code"], closed["clean"]) == (1006, False)


@pytest.mark.parametrize("listener", [None, ["cat"]], ids=["alone", "cat"])
def test_a_client_that_does_not_read_its_own_echoes_is_found_dead(serve, listener):
    """It is not read because of its own queue: no clock stands still for that."""
    server = serve("--route", "sender", "--max-queue", "64KiB", "--ping-interval", "200ms",
                   "--pong-timeout", "400ms", listener=listener)
    link = server.narrow()
    fill(link, encode_frame(2, b"x" * 10_000))
    server.await_connections(0)
    assert server.metric("wsgw_slow_consumers_total") == 0


def test_a_slow_reader_is_not_dead(serve):
    """The ping waits behind much that it takes little by little."""
    server = serve("--ping-interval", "200ms", "--pong-timeout", "1500ms", "--max-queue", "64MiB")
    link = server.narrow(65_536)
    got = []

    def read():
        with contextlib.suppress(OSError):
            while data := link.sock.recv(100_000):
                got.append(len(data))
                time.sleep(0.015)

    server.await_connections(1)
    reader = threading.Thread(target=read)
    reader.start()
    begun = time.monotonic()
    good = server.connect()
    for _ in range(20):
        good.send(b"x" * 1_000_000)
        assert len(good.recv()) == 1_000_000
    wait_until(lambda: not any(c["queued_bytes"] for c in server.connections()), "its reading")
    assert time.monotonic() - begun > 2, "slow enough to tell"
    # It answers no ping, which counts from now on.
    server.await_connections(1)
    reader.join()
    assert sum(got) > 20_000_000


def test_what_piled_up_is_not_held_against_the_rate(serve):
    server = serve("--window", "1", "--hooks", "onMessage", "--max-rate", "20", "--route", "sender",
                   listener=["sh", "-c", "sleep 1.5; exec cat"])
    client = server.connect()
    for n in range(40):
        client.send(str(n))
        # Twenty a second, as allowed; nothing is answered yet.
        pause = time.monotonic() + 0.05
        wait_until(lambda: time.monotonic() > pause, "a twentieth of a second")
    assert client.recv_many(40) == [str(n) for n in range(40)]
    rude = server.connect()
    with pytest.raises(Exception):
        for n in range(200):
            rude.send(str(n))
        rude.recv_many(200)
    assert rude.await_close()[0] == 1008


def test_a_close_does_not_destroy_what_is_being_read(serve):
    """The client said Close and reads on slowly, for longer than a second: all of it arrives."""
    server = serve("--route", "sender", "--ping-interval", "0")
    link = server.narrow(65_536)
    frame = encode_frame(2, b"x" * 100_000)
    taken = fill(link, frame)
    link.sock.settimeout(20)
    # Half a frame may be under way.
    rest = (frame * 2)[taken % len(frame):] if taken % len(frame) else b""
    whole = -(-taken // len(frame)) + (1 if rest else 0)
    link.sock.setblocking(False)
    to_send = rest + encode_frame(8, close_payload(1000))
    got = b""
    begun = time.monotonic()
    while True:
        if to_send:
            try:
                to_send = to_send[link.sock.send(to_send):]
            except BlockingIOError:
                pass
        try:
            data = link.sock.recv(30_000)
        except BlockingIOError:
            data = None
        if data == b"":
            break
        got += data or b""
        pause = time.monotonic() + 0.004
        wait_until(lambda: time.monotonic() > pause, "a little")
        assert time.monotonic() - begun < 30
    link.buffer = got
    for _ in range(whole):
        assert link.read_frame() == (True, 2, b"x" * 100_000)
    assert link.read_close() == (1000, "")
    assert time.monotonic() - begun > 1.5, "slow enough to tell"


def test_a_slow_consumer_that_reads_again_sees_its_close(serve):
    server = serve("--max-queue", "256KiB", "--ping-interval", "0")
    link = server.raw().upgrade()
    good = server.connect()
    server.await_connections(2)
    while not server.metric("wsgw_slow_consumers_total"):
        good.send("x" * 50_000)
        assert good.recv() == "x" * 50_000
    link.sock.settimeout(5)
    code, reason = link.read_close()
    assert (code, reason) == (1008, "slow consumer")
    link.frame(8, close_payload(1008))
    assert link.at_eof()


def test_a_slow_consumer_that_reads_nothing_is_reset_after_a_second(scripted):
    server = scripted("--max-queue", "256KiB", "--ping-interval", "0", "--hooks", "onClientClose")
    link = server.raw().upgrade()
    good = server.connect()
    server.await_connections(2)
    while not server.metric("wsgw_slow_consumers_total"):
        good.send("x" * 50_000)
        assert good.recv() == "x" * 50_000
    begun = time.monotonic()
    (closed,) = server.record.wait("onClientClose")
    assert 0.3 < time.monotonic() - begun < 4
    assert (closed["code"], closed["clean"]) == (1006, False)
    assert not link.at_eof(), "reset"


def test_max_message_is_seen_in_the_header(serve):
    server = serve("--max-message", "1000")
    for first in (encode_frame(2, b"x" * 1001)[:4], encode_frame(2, b"x" * 70_000)[:10],
                  encode_frame(1, "x" * 600, fin=False) + encode_frame(0, "x" * 401)[:4]):
        link = server.raw().upgrade()
        link.write(first)
        assert link.read_close() == (1009, "message too big")


@pytest.mark.parametrize("size", [9_223_372_036_854_775_808, 2**64 - 1])
def test_a_length_with_its_highest_bit_set_is_a_violation(serve, size):
    link = serve().raw().upgrade()
    link.write(b"\x82\xff" + size.to_bytes(8, "big"))
    assert link.read_close()[0] == 1002


@pytest.mark.parametrize("data", [b"\x81\xfe\x00\x05", b"\x81\xff" + (65_535).to_bytes(8, "big")])
def test_a_length_that_could_be_shorter_is_a_violation(serve, data):
    link = serve().raw().upgrade()
    link.write(data + b"\0\0\0\0hello")
    assert link.read_close()[0] == 1002


def test_a_limit_by_address_that_is_set_later_counts_who_is_there(serve):
    text = '[gateways.chat]\nport = 0\ntrusted-proxies = ["127.0.0.1"]\n'
    server = serve(config=text)
    header = {"X-Forwarded-For": "2001:db8::1"}
    first = server.raw("chat").upgrade("/", header)
    server.config.write_text(text + "max-connections-per-ip = 1\n")
    assert server.cli("reload").returncode == 0
    link = server.raw("chat")
    link.request("/", header)
    assert link.response()[0] == 429
    server.raw("chat").upgrade("/", {"X-Forwarded-For": "2001:db8:0:1::1"})
    first.close()

    def again():
        link = server.raw("chat")
        link.request("/", header)
        return link.response()[0] == 101

    wait_until(again, "its place")


@pytest.mark.parametrize("origin", ["https://*:*", "*://a.example", "https://a.example/", "a.example",
                                    "https://a.example:x", "https://"])
def test_an_origin_that_can_never_match_is_an_error(tmp_path, origin):
    from harness import run_cli

    done = run_cli(tmp_path, "serve", "--port", "0", "--control", "off", "--allow-origin", origin)
    assert done.returncode == 2 and "allow-origin" in done.stderr and origin in done.stderr


def test_a_close_by_us_waits_for_a_client_that_still_reads(serve):
    """What was delivered before it arrives first, however long the client takes over it."""
    server = serve("--ping-interval", "0", "--max-queue", "64MiB")
    link = server.narrow(65_536)
    (row,) = server.await_connections(1)
    for _ in range(8):
        assert server.push(message="x" * 1_000_000)[1]["delivered"] == 1
    begun = time.monotonic()
    assert server.api("DELETE", f"/v1/gateways/default/connections/{row['conn']}?code=4001")[0] == 200
    for _ in range(8):
        _, opcode, payload = link.read_frame()
        assert (opcode, len(payload)) == (1, 1_000_000)
        pause = time.monotonic() + 0.4
        wait_until(lambda: time.monotonic() > pause, "a little")
    assert link.read_close()[0] == 4001
    assert time.monotonic() - begun > 2.5, "slow enough to tell"
    link.frame(8, close_payload(4001))
    assert link.at_eof()
