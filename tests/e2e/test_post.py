"""Messages that the client of a stream sends in requests of their own."""

import os
import random
import socket
import ssl
import subprocess
import threading

import pytest
from harness import certificate, tool, wait_until
from harness.posts import Http, Lines, http

NDJSON = "application/x-ndjson"
BINARY = "application/octet-stream"
STREAMS = ("--streams",)


def refusals(server, status):
    return server.metric("wsgw_posts_total", status=str(status))


def test_a_body_is_one_message_of_the_stream(scripted):
    server = scripted(*STREAMS)
    stream, client, asks = Lines(server), server.connect(), http(server)
    assert asks.post(stream.token, "hällo\n")[::2] == (204, "")
    assert asks.post(stream.token, b"\x00\xff", BINARY)[0] == 204
    assert asks.post(stream.token, "")[0] == 204
    assert asks.ask("POST", f"/?a=b&post={stream.token}", body="by the URL")[0] == 204
    frames = [stream.frame() for _ in range(4)]
    assert [frame.get("message", frame.get("base64")) for frame in frames] == [
        "hällo\n", "AP8=", "", "by the URL"]
    assert client.recv_many(4) == ["hällo\n", b"\x00\xff", "", "by the URL"]
    events = server.record.wait("onMessage", 4)
    assert {event["conn"] for event in events} == {stream.conn}
    assert server.metric("wsgw_messages_received_total") == 4
    assert server.metric("wsgw_received_bytes_total") == 7 + 2 + 0 + 10
    assert refusals(server, 204) == 4


def test_each_line_is_one_message_as_it_stands(serve):
    server = serve(*STREAMS)
    stream, asks = Lines(server), http(server)
    body = "\n\na\n{\"b\": 1}\r\n\n c \nwithout an end"
    assert asks.post(stream.token, body, NDJSON + "; charset=utf-8")[0] == 204
    assert stream.bodies(4) == ["a", '{"b": 1}\r', " c ", "without an end"]
    assert asks.post(stream.token, "\n\n", NDJSON)[0] == 204
    assert asks.post(stream.token, "", NDJSON)[0] == 204
    assert asks.post(stream.token, "next")[0] == 204
    assert stream.bodies(1) == ["next"]
    assert server.metric("wsgw_messages_received_total") == 5


def test_what_is_refused_and_how_many_lines_were_taken(serve):
    server = serve(*STREAMS, "--max-message", "100", "--max-queue", "2000")
    stream = Lines(server)

    def ask(expected, body, kind=None, token=stream.token, taken=0, **options):
        status, headers, text = http(server).post(token, body, kind, **options)
        assert status == expected, (status, text)
        if taken is not None:
            assert text.endswith(f"Messages taken: {taken}.\n"), text
        return headers, text

    ask(400, "x", token=None, taken=None)
    ask(400, "x", path=f"/?post={stream.token}", taken=None)
    for token in ("x", "A" * 22, stream.token[::-1], stream.token + "A", "=" * 22):
        ask(404, "x", token=token)
    ask(400, b"\xff")
    ask(413, "x" * 101)
    ask(413, None, chunks=[b"x" * 60, b"x" * 41])
    ask(204, "x" * 100, taken=None)
    ask(413, b"x" * 101, BINARY)
    text = ask(413, "a\n\nb\n" + "x" * 101 + "\nc", NDJSON, taken=2)[1]
    assert text.startswith("Line 4: ")
    assert ask(400, b"a\nb\nc\n\xff\nd", NDJSON, taken=3)[1].startswith("Line 4: ")
    ask(413, "x\n" * 1001, NDJSON)
    ask(413, None, NDJSON, chunks=[b"x\n" * 500] * 3)
    ask(204, "x\n" * 3, NDJSON, taken=None)
    ask(415, "x", headers={"Content-Encoding": "gzip"}, taken=None)
    ask(403, "x", headers={"Origin": "https://evil.example"}, taken=None)
    ask(404, "x", path="/", token=Lines(server).token[:-1] + "!")
    expected = ["x" * 100, "a", "b", "a", "b", "c", "x", "x", "x"]
    assert stream.bodies(len(expected)) == expected
    assert refusals(server, 413) >= 5 and refusals(server, 404) >= 5 and refusals(server, 400) == 2


def test_without_streams_there_is_no_post(serve):
    server = serve()
    status, headers, _ = http(server).post("A" * 22, "x")
    assert (status, headers["allow"]) == (405, "GET, HEAD, OPTIONS")


def test_paths_and_tokens_of_other_gateways(serve):
    server = serve(config="""
[defaults]
port = 0
streams = true
[gateways.a]
path = "/a"
[gateways.b]
""")
    stream = Lines(server, "/a", gateway="a")
    assert http(server, "b").post(stream.token, "x", path="/a")[0] == 404
    assert http(server, "a").post(stream.token, "x", path="/b")[0] == 404
    assert http(server, "a").post(stream.token, "x", path="/a")[0] == 204
    assert stream.bodies(1) == ["x"]


def test_browsers_are_told_who_may_read_the_answer(serve):
    server = serve(*STREAMS, "--allow-origin", "https://a.example")
    stream = Lines(server)
    for token, expected in ((stream.token, 204), ("x" * 22, 404), (None, 400)):
        status, headers, _ = http(server).post(token, "x", headers={"Origin": "https://a.example"})
        assert status == expected
        assert headers["access-control-allow-origin"] == "https://a.example"
        assert headers["vary"] == "Origin"
    status, headers, _ = http(server).post(
        stream.token, "x", headers={"Origin": "http://localhost"})
    assert status == 403 and "access-control-allow-origin" not in headers


def test_posts_and_polls_over_tls(serve, tmp_path):
    cert, key = certificate(tmp_path)
    server = serve(*STREAMS, "--history", "50", "--tls-cert", str(cert), "--tls-key", str(key))
    context = ssl.create_default_context(cafile=cert)
    stream = Lines(server, tls=context)
    asks = Http(server.port(), tls=context)
    at = asks.poll()[1]
    # Several requests in one record; the last poll has to wait.
    requests = [asks.bytes_of("POST", f"/?post={stream.token}", body=f"{n}") for n in range(9)]
    asks.write(b"".join([*requests, asks.bytes_of("GET", "/?stream=poll&since=last")]))
    assert [asks.response()[0] for _ in requests] == [204] * 9
    assert asks.response()[0] == 200
    assert stream.bodies(9) == [str(n) for n in range(9)]
    large = "x" * 500_000
    asks.write(asks.bytes_of("GET", f"/?stream=poll&since={at[:9]}9"))
    sender = Http(server.port(), tls=context)
    assert sender.post(stream.token, None, chunks=[large[:70_000].encode(),
                                                   large[70_000:].encode()])[0] == 204
    status, _, body = asks.response()
    assert status == 200 and large in body
    asks.close(), sender.close()


def test_a_stream_that_ended_takes_nothing(serve):
    server = serve(*STREAMS)
    stream = Lines(server)
    assert http(server).post(stream.token, "x")[0] == 204
    assert server.cli("close", "default", stream.conn).returncode == 0
    assert http(server).post(stream.token, "x")[0] == 404
    raw = server.raw().request("/?stream=raw", upgrade=False)
    assert raw.response()[0] == 200
    ended = Lines(server)
    ended.close()
    server.await_connections(1)
    assert http(server).post(ended.token, "x")[0] == 404


def test_curl_sends_chunks_and_waits_for_a_100(serve, tmp_path):
    curl = tool("curl")
    server = serve(*STREAMS, "--max-message", "2500000")
    stream = Lines(server)
    url = f"http://127.0.0.1:{server.port()}/?post={stream.token}"
    large = tmp_path / "large"
    large.write_text("0123456789" * 200_000)

    def run(*args, **options):
        return subprocess.run([curl, "-sv", *args, url], capture_output=True, text=True,
                              timeout=30, **options).stderr

    said = run("--data-binary", f"@{large}")
    assert "< HTTP/1.1 100 Continue" in said and "< HTTP/1.1 204" in said
    assert stream.bodies(1) == [large.read_text()]
    said = run("-T", "-", "-X", "POST", input="from a pipe")
    assert "Transfer-Encoding: chunked" in said and "< HTTP/1.1 204" in said
    assert stream.bodies(1) == ["from a pipe"]
    # What is refused is refused before it is sent.
    huge = tmp_path / "huge"
    huge.write_text("x" * 5_000_000)
    said = run("--data-binary", f"@{huge}")
    assert "100 Continue" not in said and "< HTTP/1.1 413" in said


def test_a_connection_is_kept_for_the_next_request(serve):
    server = serve(*STREAMS, "--history", "10")
    stream = Lines(server)
    asks = http(server)
    for n in range(20):
        assert asks.post(stream.token, f"{n}", chunks=[b"%d" % n] if n % 2 else None)[0] == 204
    # Written at once, and cut anywhere.
    requests = b"".join(
        asks.bytes_of("POST", f"/?post={stream.token}", body=f"{n}") for n in range(20, 220))
    asks.write(requests[:1000])
    asks.write(requests[1000:])
    assert [asks.response()[0] for _ in range(200)] == [204] * 200
    assert stream.bodies(220) == [str(n) for n in range(220)]
    # Anything may follow: a poll, and then a WebSocket.
    assert asks.poll()[0] == 200
    asks.upgrade()
    asks.frame(1, "from a WebSocket")
    assert stream.bodies(1) == ["from a WebSocket"]


@pytest.mark.parametrize("version, headers", [
    ("1.0", {}), ("1.0", {"Connection": "keep-alive"}), ("1.1", {"Connection": "close"}),
    ("1.1", {"Connection": "x, Close"})])
def test_who_wants_no_more_is_closed(serve, version, headers):
    server = serve(*STREAMS)
    stream, asks = Lines(server), http(server)
    status, found, _ = asks.post(stream.token, "x", version=version, headers=headers)
    assert (status, found["connection"]) == (204, "close")
    assert asks.at_eof()


def test_an_idle_connection_is_closed_without_a_word(serve):
    server = serve(*STREAMS, "--handshake-timeout", "500ms")
    stream, asks = Lines(server), http(server)
    assert asks.post(stream.token, "x")[0] == 204
    assert asks.sock.recv(100) == b""
    # A request that begins and does not end is answered.
    asks = http(server)
    assert asks.post(stream.token, "x")[0] == 204
    asks.write("POST / HT")
    assert asks.response()[0] == 408


def test_what_could_be_read_in_two_ways_is_refused(serve):
    server = serve(*STREAMS)
    stream = Lines(server)
    inner = http(server).bytes_of("POST", f"/?post={stream.token}", body="smuggled")
    lines = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked", "Content-Length: 5, 5",
        "Content-Length: 5\r\nContent-Length: 5", "Content-Length: +5", "Content-Length: 5 5",
        "Transfer-Encoding: chunked, identity", "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "Content-Length : 5",
        "Content-Length: 5\r\n Content-Length: 7", "Transfer-Encoding: \x0bchunked"]
    for line in lines:
        asks = http(server)
        asks.write(f"POST /?post={stream.token} HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n"
                   "0\r\n\r\n".encode("latin-1") + inner)
        status, headers, _ = asks.response()
        assert status in (400, 501) and headers["connection"] == "close", (line, status)
        assert asks.at_eof()
    for chunks in ("5\n", "0\n\n", "-5\r\n", "0x5\r\n", "5\r\nhello!\r\n", "g\r\n", "\r\n"):
        asks = http(server)
        asks.write(f"POST /?post={stream.token} HTTP/1.1\r\nHost: x\r\n"
                   f"Transfer-Encoding: chunked\r\n\r\n{chunks}".encode() + inner)
        assert asks.response()[0] == 400
        assert asks.at_eof()
    # A GET has no body, or it is not answered.
    asks = http(server)
    asks.write(asks.bytes_of("GET", "/?stream=poll", body=inner))
    assert asks.response()[0] == 400 and asks.at_eof()
    assert http(server).post(stream.token, "the only one")[0] == 204
    assert stream.bodies(1) == ["the only one"]


def test_max_rate_refuses_and_the_stream_stays(serve):
    server = serve(*STREAMS, "--max-rate", "5")
    stream, asks = Lines(server), http(server)
    status, headers, text = asks.post(stream.token, "x\n" * 20, NDJSON)
    assert status == 429 and "Messages taken: 5." in text and headers["retry-after"] == "1"
    assert len(stream.bodies(5)) == 5
    assert [row["conn"] for row in server.connections()] == [stream.conn]
    wait_until(lambda: http(server).post(stream.token, "later")[0] == 204, "its allowance")
    assert stream.bodies(1) == ["later"]


def test_sixteen_at_a_time(serve):
    server = serve(*STREAMS)
    stream, other = Lines(server), Lines(server)
    begun = []
    for _ in range(16):
        asks = http(server)
        asks.write(asks.bytes_of("POST", f"/?post={stream.token}",
                                 {"Content-Length": "1", "Expect": "100-continue"}))
        assert asks.response()[0] == 100
        begun.append(asks)
    assert http(server).post(stream.token, "one more")[0] == 429
    assert http(server).post(other.token, "x")[0] == 204
    begun[0].reset()
    wait_until(lambda: http(server).post(stream.token, "y")[0] == 204, "a place")
    for asks in begun[1:]:
        asks.write("z")
        assert asks.response()[0] == 204
    assert stream.bodies(17) == ["x", "y"] + ["z"] * 15


def test_a_post_waits_while_its_stream_may_not_be_read(scripted, tmp_path):
    server = scripted(*STREAMS, "--window", "4")
    stream, other = Lines(server), Lines(server)
    gate = tmp_path / "gate"
    asks, behind = http(server), http(server)
    # A quarter of the window is one message: the second one waits for the answer to the first.
    asks.write(asks.bytes_of("POST", f"/?post={stream.token}", {"Content-Type": NDJSON},
                             f"!wait-for {gate}\nsecond\nthird"))
    server.record.wait("onMessage", 1)
    behind.write(behind.bytes_of("POST", f"/?post={stream.token}", body="fourth"))
    assert http(server).post(other.token, "another stream does not wait")[0] == 204
    assert other.bodies(1) == ["another stream does not wait"]
    asks.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        asks.sock.recv(1)
    assert server.record.messages() == [f"!wait-for {gate}", "another stream does not wait"]
    gate.touch()
    asks.sock.settimeout(20)
    assert (asks.response()[0], behind.response()[0]) == (204, 204)
    server.record.wait("onMessage", 5)
    assert server.record.messages()[2:] == ["second", "third", "fourth"]


def test_a_stream_that_ends_meanwhile_says_how_many_were_taken(scripted):
    server = scripted(*STREAMS, "--window", "4", "--listener-timeout", "60")
    stream = Lines(server)
    asks, behind = http(server), http(server)
    asks.write(asks.bytes_of("POST", f"/?post={stream.token}", {"Content-Type": NDJSON},
                             "!none\nsecond"))
    server.record.wait("onMessage", 1)
    behind.write(behind.bytes_of("POST", f"/?post={stream.token}", body="third"))
    # Its end is seen although it is not read.
    stream.close()
    status, _, text = asks.response()
    assert status == 404 and "Messages taken: 1." in text
    status, _, text = behind.response()
    assert status == 404 and "Messages taken: 0." in text
    server.record.wait("onClientClose", 1)
    assert server.record.messages() == ["!none"]


def test_a_listener_that_is_behind_is_a_503(scripted):
    server = scripted(*STREAMS, "--window", "4", "--listener-timeout", "700ms",
                      "--hang-timeout", "60", script=["--silent"])
    stream = Lines(server)
    # Each message times out in the end, so some are taken; what waits for too long is not.
    answers = []

    def post(n):
        answers.append(http(server).post(stream.token, f"{n}\n{n}\n{n}", NDJSON))

    threads = [threading.Thread(target=post, args=(n,)) for n in range(3)]
    [thread.start() for thread in threads]
    [thread.join(30) for thread in threads]
    assert {status for status, _, _ in answers} <= {204, 503}
    assert len(answers) == 3
    # What is called taken is what the listener was told.
    told = wait_until(lambda: m if len(m := server.record.messages()) else None, "a message")
    taken = sum(3 if status == 204 else int(text.rsplit(": ", 1)[1].rstrip(".\n"))
                for status, _, text in answers)
    wait_until(lambda: len(server.record.messages()) == taken,
               lambda: f"{taken} taken, told {server.record.messages()}, first {told}")


def test_idle_streams_that_post_are_not_idle(serve):
    server = serve(*STREAMS, "--idle-timeout", "2", "--route", "none")
    stream, asks = Lines(server), http(server)
    idle = Lines(server)
    posts = 0
    idle.link.sock.settimeout(0.5)
    while True:
        assert asks.post(stream.token, "x")[0] == 204
        posts += 1
        try:
            assert idle.frame() == {"close": 1001, "reason": "idle timeout"} or posts
            break
        except TimeoutError:
            assert posts < 60
    assert asks.post(stream.token, "x")[0] == 204
    assert [row["conn"] for row in server.connections()] == [stream.conn]


def test_a_client_that_leaves_has_sent_what_was_whole(scripted, tmp_path):
    server = scripted(*STREAMS)
    stream = Lines(server)
    gone = http(server)
    gone.write(gone.bytes_of("POST", f"/?post={stream.token}", body="whole"))
    gone.reset()
    half = http(server)
    half.write(half.bytes_of("POST", f"/?post={stream.token}", body="not whole")[:-1])
    half.close()
    server.record.wait("onMessage", 1)
    assert http(server).post(stream.token, "last")[0] == 204
    server.record.wait("onMessage", 2)
    assert server.record.messages() == ["whole", "last"]
    # One that only closed its side is answered.
    asks = http(server)
    asks.write(asks.bytes_of("POST", f"/?post={stream.token}", body="and half-closed"))
    asks.sock.shutdown(socket.SHUT_WR)
    assert asks.response()[0] == 204 and asks.at_eof()


def test_a_stop_answers_what_is_under_way(scripted):
    server = scripted(*STREAMS, "--window", "4", "--drain", "0", "--listener-timeout", "60")
    stream = Lines(server)
    waits, body, idle = http(server), http(server), http(server)
    assert idle.post(stream.token, "!none")[0] == 204
    waits.write(waits.bytes_of("POST", f"/?post={stream.token}", body="waits"))
    body.write(body.bytes_of("POST", f"/?post={stream.token}",
                             {"Content-Length": "5", "Expect": "100-continue",
                              "Host": "localhost", "Origin": "http://localhost"}))
    assert body.response()[0] == 100
    server.signal()
    for asks in (waits, body):
        status, headers, _ = asks.response()
        assert (status, headers["connection"]) == (503, "close")
    assert headers["access-control-allow-origin"] == "http://localhost"
    assert idle.sock.recv(100) == b""
    assert server.wait() == 0


def test_a_slow_body_has_its_time(serve):
    server = serve(*STREAMS, "--handshake-timeout", "700ms")
    stream = Lines(server)
    asks = http(server)
    asks.write(asks.bytes_of("POST", f"/?post={stream.token}", body="slow")[:-1])
    status, _, text = asks.response()
    assert status == 408 and "Messages taken: 0." in text
    # One that trickles gains nothing by that.
    asks = http(server)
    asks.write(asks.bytes_of("POST", f"/?post={stream.token}", {"Content-Length": "100000"}))
    asks.sock.settimeout(0.05)
    sent = 0
    while True:
        asks.write("x")
        sent += 1
        try:
            assert asks.response()[0] == 408
            break
        except TimeoutError:
            assert sent < 200
    assert http(server).post(stream.token, "x")[0] == 204


def test_guessed_tokens_find_nothing_and_fill_no_log(serve):
    server = serve(*STREAMS)
    stream = Lines(server)
    server.await_log(f"{stream.conn} opened")
    rng = random.Random(1)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    before = len(server.log())
    for _ in range(1000):
        token = "".join(rng.choices(alphabet, k=21)) + rng.choice("AQgw")
        assert http(server).post(token, "x")[0] == 404
    assert refusals(server, 404) == 1000
    assert len(server.log()) == before, server.log()[before:]
    assert http(server).post(stream.token, "x")[0] == 204


def test_a_flood_of_bodies_takes_bounded_memory(scripted, tmp_path):
    """Bodies wait for a listener that does not answer: no more of them than a token may have."""
    server = scripted(*STREAMS, "--window", "4", "--listener-timeout", "60",
                      "--hang-timeout", "120")
    stream = Lines(server)
    assert http(server).post(stream.token, "!none")[0] == 204
    server.record.wait("onMessage", 1)
    before = server.rss_kib()
    body, statuses = b"x" * 1_000_000, {}
    held = []
    for _ in range(300):
        asks = http(server)
        try:
            asks.write(asks.bytes_of("POST", f"/?post={stream.token}", body=body))
        except OSError:
            pass
        asks.sock.settimeout(0.02 if len(held) < 16 else 20)
        try:
            status = asks.response()[0]
            statuses[status] = statuses.get(status, 0) + 1
            asks.close()
        except TimeoutError:
            held.append(asks)
        except OSError:
            # Refused while it was still writing.
            asks.close()
    grown = server.rss_kib() - before
    assert 10 <= len(held) <= 16 and set(statuses) <= {429}, (len(held), statuses)
    assert grown < 40_000, grown
    for asks in held:
        asks.reset()


def test_what_is_posted_at_random_comes_once_and_in_order(serve):
    server = serve(*STREAMS)
    rng = random.Random(os.environ.get("SEED", "7"))
    streams = [Lines(server) for _ in range(3)]
    watch = server.connect()
    expected, total = {stream.conn: [] for stream in streams}, 0

    def run(stream, seed):
        rng, asks, n = random.Random(seed), http(server), 0
        for _ in range(120):
            count = rng.choice([1, 1, 1, 3, 40])
            bodies = [f"{stream.conn} {n + i} {'x' * rng.choice([0, 3, 3000])}"
                      for i in range(count)]
            n += count
            kind = NDJSON if count > 1 else rng.choice([None, NDJSON, "text/plain"])
            body = "\n".join(bodies).encode()
            chunks = None
            if rng.random() < 0.5:
                cuts = sorted(rng.randrange(len(body) + 1) for _ in range(rng.randrange(5)))
                parts = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)])]
                chunks = [part for part in parts if part]
            headers = {"X-Wsgw-Post": stream.token}
            if kind:
                headers["Content-Type"] = kind
            wire = asks.bytes_of("POST", "/", headers, body, chunks)
            while wire:
                cut = rng.choice([1, 7, 500, 100_000])
                asks.write(wire[:cut])
                wire = wire[cut:]
                if cut < 500 and rng.random() < 0.9:
                    asks.write(wire[:5000])
                    wire = wire[5000:]
            status = asks.response()[0]
            assert status == 204, status
            expected[stream.conn] += bodies
            if rng.random() < 0.1:
                asks.close()
                asks = http(server)

    threads = [threading.Thread(target=run, args=(s, rng.random())) for s in streams]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]
    total = sum(map(len, expected.values()))
    assert total >= 360
    got = {stream.conn: [] for stream in streams}
    for body in watch.recv_many(total):
        got[body.split()[0]].append(body)
    assert got == expected
    for stream in streams:
        assert len(stream.bodies(total)) == total
